-- Every event went to both other services until now, and is taken to have gone to those that its type names. Where such
-- a service has had more, nothing is lost: it goes on from wherever it is.
UPDATE event SET subscribers = CASE type
    WHEN 'billing.invoice.issued' THEN ARRAY['notification']
    WHEN 'billing.payment.settled' THEN ARRAY[]::text[]
    ELSE ARRAY['licensing', 'notification']
END;

-- What waits for a service that has no use for it goes to it no more, and what waits behind waits for it no more.
DELETE FROM delivery d USING event e
WHERE e.account = d.account AND e.id = d.event_id AND d.subscriber <> ALL (e.subscribers);
UPDATE delivery d SET previous_sequence = coalesce((
    SELECT max(e.sequence) FROM event e
    WHERE e.account = d.account AND e.aggregate = d.aggregate AND e.sequence < d.sequence
      AND d.subscriber = ANY (e.subscribers)), 0);
