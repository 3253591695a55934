-- The most bytes that an attempt's log may have; for attempts made before, the most of any job.
ALTER TABLE attempts ADD COLUMN log_bytes_max INTEGER NOT NULL DEFAULT 27487790694400;
