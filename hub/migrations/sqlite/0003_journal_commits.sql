-- The most commits that the bridge's journal is known to have had.
ALTER TABLE bridges ADD COLUMN commits_seen INTEGER NOT NULL DEFAULT 0;
