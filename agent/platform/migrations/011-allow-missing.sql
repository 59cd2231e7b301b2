-- What a run was told to do without (agentctl apply --allow-missing): JSON, a list of subjects. A box that restarts goes
-- on as it was told.
ALTER TABLE runs ADD COLUMN allow_missing TEXT NOT NULL DEFAULT '[]';
