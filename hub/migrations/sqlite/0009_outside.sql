ALTER TABLE credentials ADD COLUMN kept_at TEXT REFERENCES credentials (id);
ALTER TABLE credentials ADD COLUMN outside TEXT NOT NULL DEFAULT '';

CREATE TABLE debts (
    id TEXT PRIMARY KEY,
    attempt TEXT NOT NULL REFERENCES attempts (id),
    credential TEXT NOT NULL REFERENCES credentials (id),
    thing TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    ends_at INTEGER,
    tries INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    paid_at INTEGER,
    why TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX debts_open ON debts (id) WHERE paid_at IS NULL;
CREATE INDEX debts_by_credential ON debts (credential) WHERE paid_at IS NULL;
CREATE INDEX debts_by_attempt ON debts (attempt) WHERE paid_at IS NULL;
