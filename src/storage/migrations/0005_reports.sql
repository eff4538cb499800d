-- When the last thing that the carrier reported of a message happened, by the carrier's clock.
ALTER TABLE messages ADD COLUMN reported_at {int};
-- Whether the carrier said its last word.
ALTER TABLE messages ADD COLUMN is_settled {int} NOT NULL DEFAULT 0;
-- When the carrier is asked what became of the message; how often it was.
ALTER TABLE messages ADD COLUMN ask_at {int};
ALTER TABLE messages ADD COLUMN asks {int} NOT NULL DEFAULT 0;
-- Only of those whose last word is awaited, however many others there are.
CREATE INDEX messages_asked ON messages (app_id, ask_at, id) WHERE ask_at IS NOT NULL;
-- Messages that wait already, a quarter of an hour after they were made: those that may be with the carrier and that
-- it may still know (their calls are kept for 30 days), and whatever else would be on its way for ever.
UPDATE messages SET ask_at = created_at + 900000000
  WHERE direction = 'OUTBOUND' AND is_internal = 0 AND is_unconfirmed = 0 AND (
    (status = 'sending' AND NOT EXISTS (
      SELECT 1 FROM carrier_jobs j WHERE j.message_id = messages.id AND j.state = 'waiting'))
    OR (status IN ('sent', 'unconfirmed') AND telnyx_message_id IS NOT NULL AND EXISTS (
      SELECT 1 FROM carrier_jobs j WHERE j.message_id = messages.id AND j.state <> 'waiting')));
