CREATE TABLE project_keys (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    version INTEGER NOT NULL,
    kek TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (project, version)
) STRICT;

CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL REFERENCES projects (id),
    name TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    account TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    changed_at INTEGER,
    removed_at INTEGER
) STRICT;

CREATE TABLE credential_values (
    id TEXT PRIMARY KEY,
    credential TEXT NOT NULL REFERENCES credentials (id),
    version INTEGER NOT NULL,
    project_key TEXT NOT NULL REFERENCES project_keys (id),
    data_key BLOB NOT NULL,
    sealed BLOB NOT NULL,
    author TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (credential, version)
) STRICT;
CREATE INDEX credential_values_by_key ON credential_values (project_key);
