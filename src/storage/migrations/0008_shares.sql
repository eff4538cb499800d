-- What waits for the carrier is looked for number by number, and stored webhooks app by app: whatever waits of one
-- hides nothing of another.
CREATE INDEX carrier_jobs_number ON carrier_jobs (app_id, own_number, not_before, id) WHERE state = 'waiting';
CREATE INDEX inbox_app ON inbox (app_id, not_before, id) WHERE state = 'pending';
-- A signature of the carrier is valid for all apps with its key: a webhook counts for the first of them.
CREATE INDEX inbox_event ON inbox (event_id);
