-- What the carrier said of each recipient of a message to a group, JSON.
ALTER TABLE messages ADD COLUMN recipients TEXT;
-- The other members of the group that it was sent to, JSON.
ALTER TABLE unrouted_inbound ADD COLUMN cc TEXT;
