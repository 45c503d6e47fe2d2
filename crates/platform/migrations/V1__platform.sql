-- What every service's schema holds beside the service's own tables.

-- Raises when a guarded write did not touch as many rows as it must. Writes travel in one pipeline with their
-- COMMIT, so the database itself has to stop them.
CREATE FUNCTION expect_rows(actual bigint, expected bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'expected % rows, touched %', expected, actual USING ERRCODE = 'OC001';
    END IF;
END
$$;

-- Facts, appended in the transaction that made them true, and kept.
CREATE TABLE event (
    account      text COLLATE "C" NOT NULL,
    id           uuid NOT NULL,
    type         text COLLATE "C" NOT NULL,
    aggregate    text COLLATE "C" NOT NULL,
    sequence     bigint NOT NULL CHECK (sequence > 0),
    effective_at timestamptz NOT NULL,
    recorded_at  timestamptz NOT NULL,
    body         bytea NOT NULL,
    transaction  xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (account, id),
    UNIQUE (account, aggregate, sequence)
);

-- One row per event and subscriber until it is acknowledged.
CREATE TABLE delivery (
    account      text COLLATE "C" NOT NULL,
    subscriber   text COLLATE "C" NOT NULL,
    aggregate    text COLLATE "C" NOT NULL,
    sequence     bigint NOT NULL,
    event_id     uuid NOT NULL,
    effective_at timestamptz NOT NULL,
    secret       bytea,
    due_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts     int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    refusals     int NOT NULL DEFAULT 0 CHECK (refusals >= 0),
    parked       boolean NOT NULL DEFAULT false,
    last_error   text,
    lease_token  uuid,
    lease_until  timestamptz,
    PRIMARY KEY (account, subscriber, aggregate, sequence),
    FOREIGN KEY (account, event_id) REFERENCES event (account, id)
)
-- It is a queue: rows come and go all the time, and what is dead must not be walked through.
WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
CREATE INDEX delivery_due ON delivery (subscriber, due_at) WHERE NOT parked;
CREATE INDEX delivery_effective ON delivery (subscriber, effective_at);

-- How far each aggregate of each other service has been applied here.
CREATE TABLE inbox (
    account   text COLLATE "C" NOT NULL,
    source    text COLLATE "C" NOT NULL,
    aggregate text COLLATE "C" NOT NULL,
    sequence  bigint NOT NULL CHECK (sequence > 0),
    PRIMARY KEY (account, source, aggregate)
);

-- Up to which instant each other service has told everything.
CREATE TABLE intake_progress (
    source           text COLLATE "C" PRIMARY KEY,
    complete_through timestamptz NOT NULL
);

-- The first answer to each request id.
CREATE TABLE idempotency (
    account     text COLLATE "C" NOT NULL,
    method      text COLLATE "C" NOT NULL,
    request_id  uuid NOT NULL,
    fingerprint bytea NOT NULL,
    answer      bytea,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account, method, request_id)
);

-- Who changed what, from where, and what it was before and after.
CREATE TABLE audit (
    account    text COLLATE "C" NOT NULL,
    id         uuid NOT NULL,
    at         timestamptz NOT NULL,
    actor      text NOT NULL,
    method     text NOT NULL,
    resource   text NOT NULL,
    remote     text NOT NULL,
    request_id uuid,
    before     jsonb,
    after      jsonb,
    PRIMARY KEY (account, id)
);
