-- Whether an event is of something that everybody may do who knows the app's key: use a public channel, connect.
-- Such events go out beside the others, and have a part of the room.
ALTER TABLE outbox ADD COLUMN is_public {int} NOT NULL DEFAULT 0;
-- What can be claimed is found without passing what can't: each group in the order of its times.
DROP INDEX outbox_due;
CREATE INDEX outbox_due ON outbox (app_id, kind, is_public, (CASE WHEN last_error IS NULL THEN 0 ELSE 1 END), not_before, id)
  WHERE kind <> 'broadcast' AND state = 'pending';
