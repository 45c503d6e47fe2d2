-- Due work is picked in the order of an index, and what comes after the last one picked is found there as well: many
-- groups' periods end at one instant, and many orders' time may be over at one.
CREATE INDEX license_group_due ON license_group (period_end, account, group_id) WHERE state <> 'TERMINATED';
DROP INDEX license_group_period_end;
CREATE INDEX license_order_overdue ON license_order (expires_at, account, order_id) WHERE state = 'AWAITING_PAYMENT';
DROP INDEX license_order_unpaid;

-- A counter is forgotten once both its window and its lock are over.
CREATE INDEX sign_in_failure_over ON sign_in_failure (greatest(forget_at, blocked_until));
DROP INDEX sign_in_failure_forgotten;
