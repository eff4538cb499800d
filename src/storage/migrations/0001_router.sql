-- {id}, {int} and {bytes} are the dialect's. Times are microseconds since 1970, switches 0 or 1.
CREATE TABLE server_keys (
  name TEXT PRIMARY KEY,
  value {bytes} NOT NULL
);
CREATE TABLE phone_numbers (
  id {id},
  app_id TEXT NOT NULL,
  number TEXT NOT NULL,
  user_id TEXT,
  status TEXT NOT NULL,
  label TEXT,
  is_default {int} NOT NULL,
  messaging_profile_id TEXT,
  created_at {int} NOT NULL,
  updated_at {int} NOT NULL,
  UNIQUE (app_id, number)
);
CREATE INDEX phone_numbers_user ON phone_numbers (app_id, user_id);
CREATE TABLE contacts (
  id {id},
  public_id TEXT,
  app_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  number TEXT NOT NULL,
  name TEXT,
  is_internal {int} NOT NULL,
  created_at {int} NOT NULL,
  updated_at {int} NOT NULL,
  UNIQUE (app_id, user_id, number)
);
CREATE TABLE conversations (
  id {id},
  public_id TEXT UNIQUE,
  portal_id TEXT,
  app_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  contact_id {int} NOT NULL,
  contact_number TEXT NOT NULL,
  own_number TEXT NOT NULL,
  -- The own number where it is part of the conversation's identity, else empty.
  own_key TEXT NOT NULL,
  last_message TEXT,
  last_message_id {int},
  last_message_at {int},
  -- Of the last message, or of the conversation itself: what lists are sorted by.
  active_at {int} NOT NULL,
  unread_count {int} NOT NULL,
  is_internal {int} NOT NULL,
  opted_out {int} NOT NULL,
  thread_id TEXT NOT NULL,
  created_at {int} NOT NULL,
  updated_at {int} NOT NULL,
  UNIQUE (app_id, user_id, contact_number, own_key)
);
CREATE INDEX conversations_list ON conversations (app_id, user_id, active_at, id);
CREATE INDEX conversations_thread ON conversations (app_id, thread_id);
CREATE INDEX conversations_contact ON conversations (app_id, contact_number);
CREATE INDEX conversations_portal ON conversations (app_id, portal_id) WHERE portal_id IS NOT NULL;
CREATE TABLE messages (
  id {id},
  public_id TEXT UNIQUE,
  portal_id TEXT,
  app_id TEXT NOT NULL,
  conversation_id {int} NOT NULL,
  user_id TEXT NOT NULL,
  contact_id {int} NOT NULL,
  -- Of a received internal message: the sender's.
  pair_id {int},
  direction TEXT NOT NULL,
  type TEXT NOT NULL,
  body TEXT,
  subject TEXT,
  media_urls TEXT NOT NULL,
  cc TEXT NOT NULL,
  status TEXT NOT NULL,
  is_unconfirmed {int} NOT NULL,
  is_internal {int} NOT NULL,
  from_number TEXT NOT NULL,
  to_number TEXT NOT NULL,
  telnyx_message_id TEXT,
  parts {int},
  encoding TEXT,
  cost TEXT,
  error TEXT,
  reference TEXT,
  decision TEXT NOT NULL,
  -- The carrier's last word, also one that means nothing here.
  carrier_status TEXT,
  send_at {int},
  status_at {int} NOT NULL,
  sent_at {int},
  delivered_at {int},
  read_at {int},
  edited_at {int},
  deleted_at {int},
  hidden_at {int},
  created_at {int} NOT NULL,
  updated_at {int} NOT NULL
);
CREATE INDEX messages_conversation ON messages (conversation_id, id);
CREATE INDEX messages_unread ON messages (conversation_id) WHERE direction = 'INBOUND' AND read_at IS NULL;
CREATE INDEX messages_pair ON messages (pair_id) WHERE pair_id IS NOT NULL;
CREATE UNIQUE INDEX messages_carrier_inbound ON messages (app_id, telnyx_message_id, to_number)
  WHERE direction = 'INBOUND' AND telnyx_message_id IS NOT NULL;
CREATE INDEX messages_scheduled ON messages (send_at) WHERE status = 'scheduled';
CREATE INDEX messages_carrier ON messages (app_id, telnyx_message_id) WHERE telnyx_message_id IS NOT NULL;
CREATE INDEX messages_portal ON messages (app_id, portal_id) WHERE portal_id IS NOT NULL;
CREATE TABLE message_versions (
  id {id},
  message_id {int} NOT NULL,
  body TEXT,
  replaced_at {int} NOT NULL
);
CREATE INDEX message_versions_message ON message_versions (message_id);
CREATE TABLE idempotency (
  app_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  key TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  message_id {int} NOT NULL,
  created_at {int} NOT NULL,
  PRIMARY KEY (app_id, user_id, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);
CREATE TABLE outbox (
  id {id},
  app_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  lane TEXT NOT NULL,
  payload TEXT NOT NULL,
  -- 'pending', 'queued' behind another of its lane, 'failed': given up, 'done': taken and kept for a while.
  state TEXT NOT NULL,
  attempts {int} NOT NULL,
  -- Of a failed one, when it was given up.
  not_before {int} NOT NULL,
  locked_by TEXT,
  locked_until {int} NOT NULL,
  last_error TEXT,
  created_at {int} NOT NULL,
  -- When it was written, or a person had it sent again. Broadcasts: 0.
  queued_at {int} NOT NULL DEFAULT 0
);
-- A broadcast lives for milliseconds and is in one small index only.
CREATE INDEX outbox_broadcasts ON outbox (locked_until, id) WHERE kind = 'broadcast';
CREATE INDEX outbox_due ON outbox (app_id, kind, not_before, id) WHERE kind <> 'broadcast' AND state = 'pending';
CREATE INDEX outbox_lane ON outbox (app_id, kind, lane, id) WHERE kind <> 'broadcast' AND state <> 'failed';
CREATE INDEX outbox_age ON outbox (app_id, kind, state, id) WHERE kind <> 'broadcast';
-- Tries of events: all of them where the endpoint keeps a log, else of those that were not taken at once.
CREATE TABLE outbox_attempts (
  id {id},
  outbox_id {int} NOT NULL,
  app_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  started_at {int} NOT NULL,
  latency_ms {int} NOT NULL,
  status {int},
  answer TEXT NOT NULL,
  error TEXT
);
CREATE INDEX outbox_attempts_event ON outbox_attempts (outbox_id, id);
CREATE INDEX outbox_attempts_age ON outbox_attempts (started_at);
CREATE TABLE carrier_jobs (
  id {id},
  app_id TEXT NOT NULL,
  message_id {int} NOT NULL UNIQUE,
  lane TEXT NOT NULL,
  own_number TEXT NOT NULL,
  body {bytes} NOT NULL,
  idempotency_key TEXT NOT NULL,
  token TEXT NOT NULL UNIQUE,
  -- 'waiting' for a call, 'held' for news of one whose outcome is unclear, 'done'.
  state TEXT NOT NULL,
  attempts {int} NOT NULL,
  not_before {int} NOT NULL,
  valid_until {int} NOT NULL,
  first_attempt_at {int},
  locked_by TEXT,
  locked_until {int} NOT NULL,
  created_at {int} NOT NULL
);
CREATE INDEX carrier_jobs_lane ON carrier_jobs (app_id, lane, id) WHERE state = 'waiting';
CREATE INDEX carrier_jobs_due ON carrier_jobs (app_id, not_before, id) WHERE state = 'waiting';
CREATE INDEX carrier_jobs_locked ON carrier_jobs (locked_until) WHERE state = 'waiting' AND locked_by IS NOT NULL;
CREATE TABLE carrier_attempts (
  id {id},
  job_id {int} NOT NULL,
  number {int} NOT NULL,
  -- Of its request; the job's own change when a person asks for another send.
  token TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  body {bytes} NOT NULL,
  started_at {int} NOT NULL,
  finished_at {int},
  outcome TEXT,
  detail TEXT,
  carrier_id TEXT
);
CREATE INDEX carrier_attempts_token ON carrier_attempts (token);
CREATE INDEX carrier_attempts_job ON carrier_attempts (job_id, number);
CREATE TABLE inbox (
  id {id},
  app_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  body {bytes} NOT NULL,
  state TEXT NOT NULL,
  attempts {int} NOT NULL,
  not_before {int} NOT NULL,
  locked_by TEXT,
  locked_until {int} NOT NULL,
  received_at {int} NOT NULL,
  UNIQUE (app_id, event_id)
);
CREATE INDEX inbox_due ON inbox (state, not_before, id);
CREATE TABLE unrouted_inbound (
  id {id},
  app_id TEXT NOT NULL,
  carrier_id TEXT NOT NULL,
  own_number TEXT NOT NULL,
  contact_number TEXT NOT NULL,
  body TEXT,
  media_urls TEXT NOT NULL,
  created_at {int} NOT NULL,
  UNIQUE (app_id, carrier_id, own_number)
);
CREATE TABLE opt_outs (
  app_id TEXT NOT NULL,
  profile_id TEXT NOT NULL,
  number TEXT NOT NULL,
  source TEXT NOT NULL,
  created_at {int} NOT NULL,
  PRIMARY KEY (app_id, profile_id, number)
);
CREATE TABLE users_seen (
  app_id TEXT NOT NULL,
  user_id TEXT NOT NULL,
  last_seen_at {int} NOT NULL,
  PRIMARY KEY (app_id, user_id)
);
