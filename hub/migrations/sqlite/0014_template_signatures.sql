-- The canonical form, as it was when the version was saved: it is what people sign, and must not change when the
-- program does. Versions that were saved before have none.
ALTER TABLE templates ADD COLUMN manifest TEXT;

CREATE TABLE template_signatures (
    template TEXT NOT NULL REFERENCES templates (id),
    key TEXT NOT NULL,
    signature TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (template, key)
) STRICT;
