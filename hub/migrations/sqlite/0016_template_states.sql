-- Versions that were saved before are published. A retired one says why.
ALTER TABLE templates ADD COLUMN state TEXT NOT NULL DEFAULT 'published';
ALTER TABLE templates ADD COLUMN comment TEXT NOT NULL DEFAULT '';
ALTER TABLE templates ADD COLUMN retired_because TEXT;
