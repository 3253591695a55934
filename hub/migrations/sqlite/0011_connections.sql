CREATE TABLE connections (
    lease TEXT PRIMARY KEY REFERENCES leases (id),
    bridge TEXT NOT NULL REFERENCES bridges (id),
    target TEXT NOT NULL REFERENCES targets (id),
    same TEXT NOT NULL,
    reuse_ms INTEGER NOT NULL,
    idle_since INTEGER
) STRICT;
CREATE INDEX connections_by_bridge ON connections (bridge);

CREATE TABLE lease_uses (
    attempt TEXT PRIMARY KEY REFERENCES attempts (id),
    lease TEXT NOT NULL REFERENCES leases (id),
    ended_at INTEGER
) STRICT;
CREATE INDEX lease_uses_open ON lease_uses (lease) WHERE ended_at IS NULL;
