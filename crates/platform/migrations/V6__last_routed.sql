-- The last sequence of the aggregate that went to each subscriber, through this event: what the next event's deliveries
-- follow is found at the aggregate's last event, however long ago it was. Null where an earlier release appended it; then
-- the next one is numbered by the whole history, once.
ALTER TABLE event ADD COLUMN last_routed jsonb;

CREATE AGGREGATE jsonb_merge (jsonb) (sfunc = jsonb_concat, stype = jsonb, initcond = '{}');

-- A delivery is written with its event, which is never deleted; `octroi verify` looks for one without. The constraint's
-- look-up is planned once a connection: planned when there were few events, it scanned all of them for each of many.
ALTER TABLE delivery DROP CONSTRAINT delivery_account_event_id_fkey;
