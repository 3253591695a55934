-- Where the bytes of artifacts are: one content may be an artifact of several projects.
CREATE TABLE contents (
    sha256 TEXT PRIMARY KEY,
    object TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE artifacts (
    project TEXT NOT NULL REFERENCES projects (id),
    sha256 TEXT NOT NULL REFERENCES contents (sha256),
    name TEXT NOT NULL,
    author TEXT NOT NULL,
    run TEXT REFERENCES runs (id),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (project, sha256)
) STRICT;
CREATE INDEX artifacts_by_content ON artifacts (sha256);

CREATE TABLE run_artifacts (
    run TEXT NOT NULL REFERENCES runs (id),
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (run, sha256)
) STRICT;
CREATE INDEX run_artifacts_by_content ON run_artifacts (sha256);

-- What bridges have brought and no exit record has named yet.
CREATE TABLE fetched (
    attempt TEXT NOT NULL REFERENCES attempts (id),
    step INTEGER NOT NULL,
    object TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (attempt, step)
) STRICT;

-- Objects that nothing needs any more.
CREATE TABLE discarded (
    object TEXT PRIMARY KEY
) STRICT;
