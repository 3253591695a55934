-- The hub's own keys, without their private halves, which are files.
CREATE TABLE hub_keys (
    id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    file TEXT NOT NULL,
    certificate BLOB,
    vouched BLOB,
    since INTEGER NOT NULL,
    overlap_ms INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    used_at INTEGER,
    ended_at INTEGER,
    UNIQUE (purpose, number)
) STRICT;
CREATE UNIQUE INDEX hub_keys_in_use ON hub_keys (purpose) WHERE state = 'current';
CREATE UNIQUE INDEX hub_keys_to_come ON hub_keys (purpose) WHERE state = 'next';

CREATE TABLE trust_documents (
    version INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL,
    signed BLOB NOT NULL,
    signer TEXT NOT NULL,
    issued_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- The authority that issued the certificate in use, and the one that was issued last.
ALTER TABLE bridges ADD COLUMN issuer TEXT;
ALTER TABLE bridges ADD COLUMN issuer_next TEXT;
