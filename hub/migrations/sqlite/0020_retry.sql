-- A queued job is not offered before this, in milliseconds.
ALTER TABLE jobs ADD COLUMN ready_at INTEGER;

-- Whether the run does what its template's dry run does.
ALTER TABLE runs ADD COLUMN probe INTEGER NOT NULL DEFAULT 0;
