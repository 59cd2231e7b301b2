-- Files that were verified, by destination. A row is trusted only while the file on disk still has the size, the time
-- and the inode it had then; anything else and the file is hashed or fetched again.
CREATE TABLE files (
  path        TEXT PRIMARY KEY,
  -- Canonical spelling of the source the bytes came from, without secrets; NULL for a file that was there already.
  source      TEXT,
  size_bytes  INTEGER NOT NULL,
  sha256      TEXT NOT NULL,
  mtime_ns    TEXT NOT NULL,
  inode       TEXT NOT NULL,
  verified_at TEXT NOT NULL
) STRICT;
