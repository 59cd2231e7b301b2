-- Every install into an overlay, and how it ended. What is in an overlay now is read from the overlay itself.

CREATE TABLE python_installs (
  id       TEXT PRIMARY KEY,
  overlay  TEXT NOT NULL,
  digest   TEXT NOT NULL,
  -- [{name, from, to}]
  changes  TEXT NOT NULL,
  state    TEXT NOT NULL CHECK (state IN ('installing', 'committed', 'rolled-back')),
  -- Why it was rolled back.
  reason   TEXT,
  began_at TEXT NOT NULL,
  ended_at TEXT
) STRICT;
CREATE INDEX python_installs_by_time ON python_installs (overlay, began_at DESC);
