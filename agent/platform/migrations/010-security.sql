-- Until when a token counts; null for ever.
ALTER TABLE tokens ADD COLUMN expires_at TEXT;
