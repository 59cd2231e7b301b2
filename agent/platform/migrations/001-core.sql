-- What the agent knows of itself, of runs and of who may talk to it.

CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;

-- Tokens are stored as the SHA-256 of their secret half; the token itself is shown once, when it is made.
CREATE TABLE tokens (
  id           TEXT PRIMARY KEY,
  name         TEXT NOT NULL,
  scope        TEXT NOT NULL CHECK (scope IN ('read', 'operate', 'admin')),
  secret_hash  BLOB NOT NULL,
  created_at   TEXT NOT NULL,
  last_used_at TEXT
) STRICT;

-- The journal: append only. Its id is the id of server-sent events, so a client resumes where it was.
CREATE TABLE events (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  at      TEXT NOT NULL,
  type    TEXT NOT NULL,
  subject TEXT NOT NULL,
  data    TEXT NOT NULL
) STRICT;

-- Manifests as they were given, by the SHA-256 of their text.
CREATE TABLE manifests (
  digest     TEXT PRIMARY KEY,
  name       TEXT NOT NULL,
  text       TEXT NOT NULL,
  file       TEXT NOT NULL,
  applied_at TEXT NOT NULL
) STRICT;

CREATE TABLE runs (
  id         TEXT PRIMARY KEY,
  digest     TEXT NOT NULL REFERENCES manifests (digest),
  state      TEXT NOT NULL,
  started_at TEXT NOT NULL,
  ended_at   TEXT,
  problems   TEXT NOT NULL DEFAULT '[]',
  progress   TEXT NOT NULL,
  -- 1 when the plan had errors: nothing was changed, and the box still stands for the run before.
  refused    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX runs_by_start ON runs (started_at DESC);
