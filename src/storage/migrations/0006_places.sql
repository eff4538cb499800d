-- Where a message stands in its conversation, and since when, if not where and when it was made: one that was
-- scheduled or sent again stands where it was sent.
ALTER TABLE messages ADD COLUMN place {int};
ALTER TABLE messages ADD COLUMN placed_at {int};
CREATE INDEX messages_moved ON messages (conversation_id, place) WHERE place IS NOT NULL;
