-- What a job was shown to be when its run was asked for, where it was: it runs as that or not at all. And what each
-- attempt was made as.
ALTER TABLE jobs ADD COLUMN rendered TEXT;
ALTER TABLE attempts ADD COLUMN rendered TEXT;
