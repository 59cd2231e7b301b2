-- What was copied where. The record on the remote is the truth; these rows save asking for it.
-- `started`: a copy began and was not committed, so what lies there may be a part of it.
CREATE TABLE sync_units (
  sync        TEXT NOT NULL,
  destination TEXT NOT NULL,
  unit        TEXT NOT NULL,
  digest      TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('started', 'stored')),
  -- How the copy was proven: by the hash of every file, or by sizes alone where the remote has no hashes.
  verified_by TEXT CHECK (verified_by IN ('hash', 'size')),
  -- JSON: [{"path", "sizeBytes", "sha256"}], the paths relative to the sync's path.
  files       TEXT NOT NULL,
  stored_at   TEXT,
  PRIMARY KEY (sync, destination, unit)
) STRICT;

CREATE TABLE sync_state (
  sync                 TEXT PRIMARY KEY,
  last_success_at      TEXT,
  consecutive_failures INTEGER NOT NULL DEFAULT 0,
  -- JSON of the problem, or null.
  problem              TEXT
) STRICT;

-- Hashes of local files by fingerprint dev:ino:size:mtimeNs:ctimeNs, so that a restart reads nothing twice.
CREATE TABLE sync_hashes (
  fingerprint TEXT NOT NULL,
  algorithm   TEXT NOT NULL,
  value       TEXT NOT NULL,
  hashed_at   TEXT NOT NULL,
  PRIMARY KEY (fingerprint, algorithm)
) STRICT;
