CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency (
    user_name TEXT NOT NULL,
    key TEXT NOT NULL,
    request TEXT NOT NULL,
    object TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (user_name, key)
) STRICT;
CREATE INDEX idempotency_by_age ON idempotency (created_at);

CREATE TABLE sites (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE bridges (
    id TEXT PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    receipt_key TEXT NOT NULL,
    key_pin TEXT NOT NULL,
    key_pin_next TEXT,
    certificate_expires_at INTEGER NOT NULL,
    renewal_request TEXT,
    renewal_certificate BLOB,
    journal TEXT,
    seq INTEGER NOT NULL,
    seq_seen INTEGER NOT NULL,
    last_contact INTEGER,
    version TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX bridges_by_name ON bridges (name) WHERE status <> 'revoked';

CREATE TABLE enrolments (
    id TEXT PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER,
    bridge TEXT
) STRICT;

CREATE TABLE targets (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    site TEXT NOT NULL REFERENCES sites (id),
    name TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    platform TEXT NOT NULL,
    labels TEXT NOT NULL,
    removed_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE templates (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    source TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (name, version)
) STRICT;

CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL UNIQUE,
    template TEXT NOT NULL REFERENCES templates (id),
    source TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    code TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL REFERENCES projects (id),
    task TEXT NOT NULL REFERENCES tasks (id),
    template TEXT NOT NULL REFERENCES templates (id),
    state TEXT NOT NULL,
    requester TEXT NOT NULL,
    reason TEXT NOT NULL,
    ticket TEXT NOT NULL,
    inputs TEXT NOT NULL,
    at_once INTEGER NOT NULL,
    stop_after INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    finished_at INTEGER,
    total INTEGER NOT NULL,
    queued INTEGER NOT NULL,
    active INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    timed_out INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    unknown INTEGER NOT NULL
) STRICT;
CREATE INDEX runs_open ON runs (expires_at) WHERE state = 'running';

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES runs (id),
    position INTEGER NOT NULL,
    target TEXT NOT NULL REFERENCES targets (id),
    site TEXT NOT NULL REFERENCES sites (id),
    state TEXT NOT NULL,
    why TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    UNIQUE (run, position)
) STRICT;
CREATE INDEX jobs_queued ON jobs (site, run, position) WHERE state = 'queued';
CREATE INDEX jobs_by_state ON jobs (run, state);

CREATE TABLE attempts (
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL REFERENCES jobs (id),
    run TEXT NOT NULL REFERENCES runs (id),
    number INTEGER NOT NULL,
    fence INTEGER NOT NULL UNIQUE,
    bridge TEXT NOT NULL REFERENCES bridges (id),
    journal TEXT NOT NULL,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    unreachable INTEGER NOT NULL,
    envelope BLOB,
    nonce TEXT,
    runtime_ms INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    offered_at INTEGER NOT NULL,
    accepted_at INTEGER,
    permitted_at INTEGER,
    started_at INTEGER,
    ended_at INTEGER,
    settled INTEGER NOT NULL,
    exit TEXT,
    refusal TEXT,
    resolution TEXT,
    log_bytes INTEGER NOT NULL,
    log_tail BLOB NOT NULL,
    output_complete INTEGER NOT NULL,
    UNIQUE (job, number)
) STRICT;
CREATE INDEX attempts_open ON attempts (bridge, seq) WHERE settled = 0;

CREATE TABLE segments (
    attempt TEXT NOT NULL REFERENCES attempts (id),
    position INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    PRIMARY KEY (attempt, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object TEXT NOT NULL,
    run TEXT,
    owner TEXT,
    fence INTEGER,
    bridge_at INTEGER,
    bridge_boot_ms INTEGER,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_object ON events (object, seq);
CREATE INDEX events_by_run ON events (run, seq) WHERE run IS NOT NULL;
