-- The start of the bridge's runner that was heard of last, and to which commits_seen belongs.
ALTER TABLE bridges ADD COLUMN start TEXT;
