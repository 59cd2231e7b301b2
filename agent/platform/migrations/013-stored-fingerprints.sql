-- The fingerprint of the unit that a stored copy holds: after a restart what is unchanged is known to be stored at once.
-- NULL: not known, so hashes decide.
ALTER TABLE sync_units ADD COLUMN fingerprint TEXT;
