-- Attempts to pay: a request id begins one, and that one answers it for ever, however it ended.

-- A decline used to let its request begin another attempt. Of those that a request began, the one that is under way or
-- succeeded answers it, or else the last; the audit still says which request began the others.
UPDATE payment_attempt a SET request_id = NULL, fingerprint = NULL
FROM (
    SELECT account, order_id, attempt, row_number() OVER (
               PARTITION BY account, request_id
               ORDER BY (outcome = 'DECLINED') IS TRUE, started_at DESC, order_id, attempt DESC
           ) AS place
    FROM payment_attempt WHERE request_id IS NOT NULL
) known
WHERE a.account = known.account AND a.order_id = known.order_id AND a.attempt = known.attempt AND known.place > 1;

DROP INDEX payment_attempt_request;
CREATE UNIQUE INDEX payment_attempt_request ON payment_attempt (account, request_id);
