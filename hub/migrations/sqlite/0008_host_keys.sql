-- The host keys that a target has shown to a bridge and that nobody has confirmed.
CREATE TABLE learned_host_keys (
    target TEXT NOT NULL REFERENCES targets (id),
    key TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER NOT NULL,
    attempt TEXT NOT NULL REFERENCES attempts (id),
    learned_at INTEGER NOT NULL,
    PRIMARY KEY (target, key)
) STRICT, WITHOUT ROWID;
