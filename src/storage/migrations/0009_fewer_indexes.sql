-- A webhook of another app is looked for by that app's name, in the index that knows repeats.
DROP INDEX inbox_event;
-- A report is of a message that was sent; those that came are found by messages_carrier_inbound.
DROP INDEX messages_carrier;
CREATE INDEX messages_carrier ON messages (app_id, telnyx_message_id)
  WHERE telnyx_message_id IS NOT NULL AND direction = 'OUTBOUND';
