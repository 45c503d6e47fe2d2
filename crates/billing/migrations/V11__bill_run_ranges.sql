-- Several workers share a run. Each leases a range of accounts, from the first that no other has.
ALTER TABLE bill_run RENAME COLUMN done_through TO leased_through;

-- Accounts of a run, up to `through` by id, of which those up to `done_through` are done. It goes when all are.
CREATE TABLE bill_run_range (
    bill_run        text COLLATE "C" NOT NULL REFERENCES bill_run (id),
    through         text COLLATE "C" NOT NULL,
    done_through    text COLLATE "C" NOT NULL CHECK (done_through < through),
    lease_token     uuid NOT NULL,
    lease_until     timestamptz NOT NULL,
    PRIMARY KEY (bill_run, through)
);

CREATE INDEX bill_run_range_due ON bill_run_range (lease_until, bill_run, through);
