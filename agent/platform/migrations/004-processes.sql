-- What should run and what became of it. The job folders are the truth about a running job; this is what they cannot
-- say: the will (a process stopped on purpose stays stopped), how often it was restarted, which jobs are done for good.

CREATE TABLE processes (
  name            TEXT PRIMARY KEY,
  kind            TEXT NOT NULL CHECK (kind IN ('comfyui', 'cosmos', 'command')),
  -- The specification it was last brought to.
  digest          TEXT NOT NULL,
  desired         TEXT NOT NULL CHECK (desired IN ('run', 'stop')),
  state           TEXT NOT NULL,
  -- The job the columns below speak of; null before the first start.
  job_id          TEXT,
  pid             INTEGER,
  restarts        INTEGER NOT NULL,
  started_at      TEXT,
  exit_code       INTEGER,
  signal          TEXT,
  url             TEXT,
  -- A Problem as JSON.
  problem         TEXT,
  -- The specification whose job ended with 0: it is never run again.
  finished_digest TEXT
) STRICT;
