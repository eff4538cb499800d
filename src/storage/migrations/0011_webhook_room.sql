-- Requests to webhooks that wait, and whose events they hold: each channel, user and connection has a share of the room.
CREATE TABLE webhook_waiting (
  app_id TEXT NOT NULL,
  -- The outbox's kind: `webhook:name`.
  target TEXT NOT NULL,
  outbox_id {int} NOT NULL,
  is_public {int} NOT NULL,
  -- `share*events`, with spaces between.
  shares TEXT NOT NULL,
  PRIMARY KEY (app_id, target, outbox_id)
);
-- Comings and goings that a webhook's receiver does not know of, so that it is not told the opposite either.
CREATE TABLE webhook_gaps (
  app_id TEXT NOT NULL,
  target TEXT NOT NULL,
  -- 0: there was no room when it was to be written; 1: it was given up.
  is_given_up {int} NOT NULL,
  -- As in webhook_presence.
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  user_id TEXT NOT NULL,
  is_there {int} NOT NULL,
  -- Whose share of the room it takes beside its channel's; '' if that is not known.
  share TEXT NOT NULL,
  since {int} NOT NULL,
  PRIMARY KEY (app_id, target, is_given_up, kind, name, user_id)
);
-- How many events found no room.
CREATE TABLE webhook_dropped (
  app_id TEXT NOT NULL,
  target TEXT NOT NULL,
  events {int} NOT NULL,
  PRIMARY KEY (app_id, target)
);
