-- Contents of files in parts of 131,072 bytes, so that each is written and read without the others.
CREATE TABLE attachment_parts (
  file TEXT NOT NULL,
  number {int} NOT NULL,
  content {bytes} NOT NULL,
  PRIMARY KEY (file, number)
);
-- Files on their way in: what a broken upload left is found here and deleted.
CREATE TABLE unfinished_files (
  file TEXT PRIMARY KEY,
  begun_at {int} NOT NULL
);
CREATE INDEX unfinished_files_age ON unfinished_files (begun_at);
-- The parts that are an attachment's contents.
ALTER TABLE attachments ADD COLUMN file TEXT;
UPDATE attachments SET file = public_id WHERE state = 'ready';
INSERT INTO attachment_parts (file, number, content)
  WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
  SELECT a.file, n.i, substr(a.content, n.i * 131072 + 1, 131072)
  FROM attachments a JOIN n ON n.i * 131072 < length(a.content) WHERE a.state = 'ready';
ALTER TABLE attachments DROP COLUMN content;
-- Copies that are due are looked for app by app: what waits of one keeps back nothing of another.
CREATE INDEX attachments_copies ON attachments (app_id, not_before) WHERE state = 'fetching';
