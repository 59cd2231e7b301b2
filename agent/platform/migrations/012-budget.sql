-- What the box has cost so far, and the intent to stop it (agent/budget/memory.ts): one JSON value, written whole.
CREATE TABLE budget (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  memory TEXT NOT NULL
) STRICT;

-- The newest event whose message reached the webhook or was given up: a restarted agent goes on behind it.
CREATE TABLE notified (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  event_id INTEGER NOT NULL
) STRICT;
