-- A queued job is not offered before this, in milliseconds.
ALTER TABLE jobs ADD COLUMN ready_at INTEGER;

-- What an attempt before has made of a job that is tried once more: its verdict where no later one runs.
ALTER TABLE jobs ADD COLUMN before TEXT;

-- Whether the run does what its template's dry run does.
ALTER TABLE runs ADD COLUMN probe INTEGER NOT NULL DEFAULT 0;
