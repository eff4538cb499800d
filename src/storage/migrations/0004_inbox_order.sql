-- Webhooks of one thread (own number and contact) are processed in the order in which they came.
ALTER TABLE inbox ADD COLUMN kind TEXT;
-- Why it was set aside, or waits.
ALTER TABLE inbox ADD COLUMN reason TEXT;
-- 'pending', 'queued' behind another of its thread, 'done', 'set_aside', 'noted': of a kind that does nothing.
DROP INDEX inbox_due;
CREATE INDEX inbox_waiting ON inbox (state, not_before, id) WHERE state IN ('pending', 'queued');
CREATE INDEX inbox_kept ON inbox (state, not_before, id) WHERE state IN ('set_aside', 'noted');
CREATE INDEX inbox_listed ON inbox (app_id, id) WHERE state IN ('set_aside', 'noted');
-- The threads of what waits: an entry is due when it is the first of each of its threads.
CREATE TABLE inbox_threads (
  app_id TEXT NOT NULL,
  thread TEXT NOT NULL,
  inbox_id {int} NOT NULL,
  PRIMARY KEY (app_id, thread, inbox_id)
);
CREATE INDEX inbox_threads_entry ON inbox_threads (inbox_id);
ALTER TABLE unrouted_inbound ADD COLUMN type TEXT;
ALTER TABLE unrouted_inbound ADD COLUMN subject TEXT;
ALTER TABLE unrouted_inbound ADD COLUMN sent_at {int};
-- The webhook, from which the message is made once somebody has the number.
ALTER TABLE unrouted_inbound ADD COLUMN event {bytes};
-- When it was given to the number's owner, and as which message.
ALTER TABLE unrouted_inbound ADD COLUMN delivered_at {int};
ALTER TABLE unrouted_inbound ADD COLUMN message_id {int};
CREATE INDEX unrouted_waiting ON unrouted_inbound (app_id, own_number, contact_number, id)
  WHERE delivered_at IS NULL;
-- Numbers whose unrouted messages are to be looked through.
CREATE TABLE unrouted_due (
  app_id TEXT NOT NULL,
  number TEXT NOT NULL,
  noted_at {int} NOT NULL,
  PRIMARY KEY (app_id, number)
);
