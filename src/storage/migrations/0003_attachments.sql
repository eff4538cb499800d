-- Files of conversations, from browsers or copied from the carrier.
CREATE TABLE attachments (
  id {id},
  -- What clients know it by; can't be guessed.
  public_id TEXT NOT NULL UNIQUE,
  app_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  conversation_id {int} NOT NULL,
  -- Of a copy: the message it came with, and where it was.
  message_id {int},
  source_url TEXT,
  name TEXT NOT NULL,
  content_type TEXT NOT NULL,
  size {int},
  -- 'awaited' from a browser or 'fetching' from the carrier, then 'ready' or 'failed'.
  state TEXT NOT NULL,
  attempts {int} NOT NULL,
  -- Until when it is awaited, or from when on it is fetched again.
  not_before {int} NOT NULL,
  -- The connection that must not be told.
  except_socket TEXT,
  created_at {int} NOT NULL,
  -- End of the link, after which the row is deleted.
  expires_at {int} NOT NULL,
  -- Last: the other columns are read without it.
  content {bytes}
);
CREATE INDEX attachments_due ON attachments (state, not_before) WHERE state <> 'ready';
CREATE INDEX attachments_expired ON attachments (expires_at);
