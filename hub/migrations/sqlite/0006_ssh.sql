ALTER TABLE targets ADD COLUMN ssh TEXT NOT NULL DEFAULT '{"port":22,"host_keys":[]}';
ALTER TABLE credentials ADD COLUMN authority TEXT REFERENCES credentials (id);
ALTER TABLE runs ADD COLUMN credential TEXT REFERENCES credentials (id);

CREATE TABLE leases (
    id TEXT PRIMARY KEY,
    attempt TEXT NOT NULL UNIQUE REFERENCES attempts (id),
    credential TEXT NOT NULL REFERENCES credentials (id),
    version INTEGER NOT NULL,
    keys TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ended_at INTEGER,
    why TEXT NOT NULL
) STRICT;
CREATE INDEX leases_by_credential ON leases (credential, id);
CREATE INDEX leases_open ON leases (expires_at) WHERE ended_at IS NULL;
