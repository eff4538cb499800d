-- What is done may be kept ('done'), so what waits is told by name.
DROP INDEX outbox_lane;
CREATE INDEX outbox_lane ON outbox (app_id, kind, lane, id)
  WHERE kind <> 'broadcast' AND state IN ('pending', 'queued');
-- What webhooks said is there and did not say is gone: channels, members of presence channels, users,
-- connections. What a process that died left here is gone unless it comes back in time.
CREATE TABLE webhook_presence (
  app_id TEXT NOT NULL,
  -- 'channel', 'member', 'user' or 'connection'.
  kind TEXT NOT NULL,
  -- The channel's, or the connection's socket id; '' for a user.
  name TEXT NOT NULL,
  -- '' for channels and connections.
  user_id TEXT NOT NULL,
  -- The process that it is connected to.
  node TEXT NOT NULL,
  since {int} NOT NULL,
  PRIMARY KEY (app_id, kind, name, user_id, node)
);
CREATE INDEX webhook_presence_node ON webhook_presence (node);
-- Processes that write webhooks, and the signs of life that each gave. The one without a name is a lock: who
-- compares what several processes wrote holds it.
CREATE TABLE webhook_nodes (
  node TEXT PRIMARY KEY,
  beats {int} NOT NULL
);
INSERT INTO webhook_nodes (node, beats) VALUES ('', 0);
