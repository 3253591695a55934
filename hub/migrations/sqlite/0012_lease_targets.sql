-- The target on which a credential is used as an account; none where commands read it.
ALTER TABLE leases ADD COLUMN target TEXT REFERENCES targets (id);
UPDATE leases SET target =
    (SELECT j.target FROM attempts a JOIN jobs j ON j.id = a.job WHERE a.id = leases.attempt)
    WHERE name = '';
