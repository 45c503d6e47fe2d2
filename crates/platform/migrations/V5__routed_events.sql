-- Each event goes to the services that its type names, in the order of their names. What went to whom is kept, so that
-- a type may name others later. The services' own migrations say it of what was recorded before.
ALTER TABLE event ADD COLUMN subscribers text[] COLLATE "C" NOT NULL DEFAULT '{}';

ALTER TABLE delivery
    -- The aggregate's last earlier event that went to the same subscriber; 0 where there is none.
    ADD COLUMN previous_sequence bigint NOT NULL DEFAULT 0,
    -- Whether the instant through which the subscriber is complete stays before it: whatever belongs to an account holds
    -- it, or that account, back; what belongs to none where its type says so.
    ADD COLUMN holds boolean NOT NULL DEFAULT true,
    ADD CHECK (previous_sequence >= 0 AND previous_sequence < sequence);
DROP INDEX delivery_effective;
CREATE INDEX delivery_holding ON delivery (subscriber, effective_at) WHERE holds;
-- Dead letters.
CREATE INDEX delivery_parked ON delivery (subscriber, account) WHERE parked;

-- The accounts of which it has not told everything, though it has of all others.
ALTER TABLE intake_progress ADD COLUMN held_accounts text[] COLLATE "C" NOT NULL DEFAULT '{}';
