-- What people have agreed to of a run, byte for byte as they have signed it. Signatures: JSON, an array of texts.
CREATE TABLE run_approvals (
    run TEXT PRIMARY KEY REFERENCES runs (id),
    approval TEXT NOT NULL,
    text TEXT NOT NULL,
    signatures TEXT NOT NULL
) STRICT;
