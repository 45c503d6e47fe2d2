-- The evidence of a line is kept with it: the local days from the first to the last with activity, 0 where there was none.
-- A row for each day was six million of them for a month of a million seats.
ALTER TABLE invoice_line
    ADD COLUMN first_day date,
    ADD COLUMN peaks integer[],
    ADD COLUMN ends_of_day integer[],
    ADD COLUMN seats integer[],
    ADD CONSTRAINT invoice_line_evidence CHECK (CASE WHEN first_day IS NULL
        THEN num_nonnulls(peaks, ends_of_day, seats) = 0
        ELSE num_nonnulls(month, peaks, ends_of_day, seats) = 4
            AND cardinality(peaks) BETWEEN 1 AND 31
            AND cardinality(ends_of_day) = cardinality(peaks) AND cardinality(seats) = cardinality(peaks)
            AND 0 <= ALL (peaks) AND 0 <= ALL (ends_of_day) AND 0 <= ALL (seats)
    END);

-- The next migration moves what is there, and the one after it freezes lines again.
DROP TRIGGER invoice_line_frozen ON invoice_line;

-- Through which line the evidence has been moved.
CREATE TABLE evidence_moved (
    account    text COLLATE "C" NOT NULL,
    invoice    uuid NOT NULL,
    line       integer NOT NULL
);
INSERT INTO evidence_moved VALUES ('', '00000000-0000-0000-0000-000000000000', 0);
