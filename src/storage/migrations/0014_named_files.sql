-- Whether a message has the file. Those that are there already may be in one.
ALTER TABLE attachments ADD COLUMN is_named {int} NOT NULL DEFAULT 1;
CREATE INDEX attachments_unnamed ON attachments (not_before) WHERE is_named = 0;
