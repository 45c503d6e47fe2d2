-- The order in which an account's events are listed. An event's position is given after its commit, under the lock of
-- its account's row below, and never changes; those of an account are 1, 2, 3 and so on, without a gap.
--
-- What was recorded before has none yet and gets it in the same way, with the first lists, by id as it was listed
-- until now.
ALTER TABLE event
    -- Nothing ever read it, and it means nothing on another node.
    DROP COLUMN transaction,
    ADD COLUMN position bigint CHECK (position > 0);
-- Partial, and so no key of the row: giving a position locks out nobody who refers to it.
CREATE UNIQUE INDEX event_placed ON event (account, position) WHERE position IS NOT NULL;
CREATE INDEX event_unplaced ON event (account, id) WHERE position IS NULL;

CREATE TABLE event_position (
    account text COLLATE "C" PRIMARY KEY,
    -- The last one given.
    last    bigint  NOT NULL CHECK (last >= 0),
    -- Whether this very transaction gives positions: true is never committed.
    giving  boolean NOT NULL
);
