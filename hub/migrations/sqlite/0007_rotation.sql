-- What people have written of a credential, YAML: where its account is, and how its value is changed.
ALTER TABLE credentials ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE credentials ADD COLUMN rotate_every_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN parent TEXT REFERENCES credentials (id);
CREATE INDEX credentials_by_parent ON credentials (parent) WHERE parent IS NOT NULL;

-- The credentials that a run's jobs use besides its login, and which version of a value where it is not the one in
-- force; the name of the login's is empty.
CREATE TABLE run_credentials (
    run TEXT NOT NULL REFERENCES runs (id),
    name TEXT NOT NULL,
    credential TEXT NOT NULL REFERENCES credentials (id),
    version INTEGER NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- An attempt has a lease for each of its credentials.
CREATE TABLE leases_of_names (
    id TEXT PRIMARY KEY,
    attempt TEXT NOT NULL REFERENCES attempts (id),
    name TEXT NOT NULL,
    credential TEXT NOT NULL REFERENCES credentials (id),
    version INTEGER NOT NULL,
    keys TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at INTEGER,
    why TEXT NOT NULL,
    UNIQUE (attempt, name)
) STRICT;
INSERT INTO leases_of_names
    SELECT id, attempt, '', credential, version, keys, opened_at, expires_at, ended_at, why FROM leases;
DROP TABLE leases;
ALTER TABLE leases_of_names RENAME TO leases;
CREATE INDEX leases_by_credential ON leases (credential, id);
CREATE INDEX leases_open ON leases (expires_at) WHERE ended_at IS NULL;

-- The version of a credential's value that a target is known to take, where that need not be the newest.
CREATE TABLE credential_places (
    credential TEXT NOT NULL REFERENCES credentials (id),
    target TEXT NOT NULL REFERENCES targets (id),
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    checked_at INTEGER NOT NULL,
    PRIMARY KEY (credential, target)
) STRICT, WITHOUT ROWID;

CREATE TABLE rotations (
    id TEXT PRIMARY KEY,
    credential TEXT NOT NULL REFERENCES credentials (id),
    purpose TEXT NOT NULL,
    cause TEXT NOT NULL,
    cause_detail TEXT NOT NULL,
    requester TEXT NOT NULL,
    state TEXT NOT NULL,
    version INTEGER NOT NULL,
    why TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    begun_at INTEGER,
    ended_at INTEGER
) STRICT;
CREATE INDEX rotations_by_credential ON rotations (credential, id);
CREATE INDEX rotations_open ON rotations (id) WHERE ended_at IS NULL;

CREATE TABLE rotation_places (
    rotation TEXT NOT NULL REFERENCES rotations (id),
    target TEXT NOT NULL REFERENCES targets (id),
    phase TEXT NOT NULL,
    run TEXT REFERENCES runs (id),
    tries INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    why TEXT NOT NULL,
    ended_at INTEGER,
    PRIMARY KEY (rotation, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX rotation_places_open ON rotation_places (target) WHERE ended_at IS NULL;
ALTER TABLE runs ADD COLUMN rotation TEXT REFERENCES rotations (id);
