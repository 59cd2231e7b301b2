-- What reading a verified file again found wrong with it; NULL while nothing is. Such a row proves nothing any more.
ALTER TABLE files ADD COLUMN damage TEXT;

-- Repositories that were fetched whole, by what was asked for. While the hub cannot be asked, a plan falls back on the
-- newest of them whose files are all still proven.
CREATE TABLE snapshots (
  -- JSON: the manifest's words for the repository, include, exclude, HF_HOME.
  asked      TEXT PRIMARY KEY,
  hf_home    TEXT NOT NULL,
  -- JSON of a Snapshot (shared/sources/plan-snapshot.ts).
  snapshot   TEXT NOT NULL,
  proven_at  TEXT NOT NULL
) STRICT;
