-- What is sold, what is ordered, the groups and licences that orders make, and when seats were active.
-- Every table but `offer` (reference) is led by the account.

-- What is sold. A limit of NULL means without limit.
CREATE TABLE offer (
    offer text COLLATE "C" PRIMARY KEY,
    display_name text NOT NULL,
    applications text[] NOT NULL,
    group_license_limit int CHECK (group_license_limit > 0),
    computer_limit int NOT NULL CHECK (computer_limit >= 0),
    tablet_limit int NOT NULL CHECK (tablet_limit >= 0),
    smartphone_limit int NOT NULL CHECK (smartphone_limit >= 0),
    shared_computer_activation boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'ARCHIVED')),
    created_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1
);

INSERT INTO offer (offer, display_name, applications, group_license_limit, computer_limit, tablet_limit,
                   smartphone_limit, shared_computer_activation, state, created_at)
VALUES
    ('apps-for-business', 'Microsoft 365 Apps for business',
     ARRAY['Excel', 'Word', 'PowerPoint', 'Outlook', 'OneNote', 'Publisher'],
     300, 5, 5, 5, false, 'ACTIVE', '2014-01-01 00:00:00+00'),
    ('apps-for-enterprise', 'Microsoft 365 Apps for enterprise',
     ARRAY['Excel', 'Word', 'PowerPoint', 'Outlook', 'OneNote', 'Publisher', 'Access'],
     NULL, 5, 5, 5, true, 'ACTIVE', '2014-01-01 00:00:00+00');

-- What licensing needs of an account: billing's latest snapshot.
CREATE TABLE account (
    account text COLLATE "C" PRIMARY KEY,
    version bigint NOT NULL CHECK (version > 0),
    locale text NOT NULL,
    currency text NOT NULL,
    -- Every zone that the account has had and since when, oldest first, one array beside the other.
    zone_names text[] NOT NULL,
    zone_times timestamptz[] NOT NULL,
    CHECK (cardinality(zone_names) = cardinality(zone_times) AND cardinality(zone_names) > 0)
);

-- "order" is a keyword of SQL.
CREATE TABLE license_order (
    account text COLLATE "C" NOT NULL REFERENCES account,
    order_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    -- The group that it creates; NULL for an order into an existing one.
    new_display_name text,
    new_renewal_period text CHECK (new_renewal_period IN ('P1M', 'P3M', 'P1Y')),
    new_auto_renew boolean,
    state text NOT NULL CHECK (state IN ('AWAITING_PAYMENT', 'PAYING', 'COMPLETED', 'EXPIRED', 'CANCELLED')),
    -- octroi.billing.v1.Quote, as billing answered it.
    quote bytea NOT NULL,
    due_now_currency text NOT NULL,
    due_now_amount text NOT NULL,
    attempts int NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    decline_reason text NOT NULL DEFAULT '',
    payment text NOT NULL DEFAULT '',
    invoice text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    completed_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (account, order_id),
    CHECK ((new_display_name IS NULL) = (new_renewal_period IS NULL)),
    CHECK ((new_display_name IS NULL) = (new_auto_renew IS NULL)),
    CHECK ((state = 'COMPLETED') = (completed_at IS NOT NULL)),
    CHECK (state NOT IN ('PAYING', 'COMPLETED') OR attempts > 0),
    CHECK (expires_at > created_at)
);
-- An order holds its new group's id for ever, whatever becomes of it: ids are never reused.
CREATE UNIQUE INDEX license_order_holds_group ON license_order (account, group_id)
    WHERE new_display_name IS NOT NULL;
CREATE INDEX license_order_of_group ON license_order (account, group_id)
    WHERE state IN ('AWAITING_PAYMENT', 'PAYING');
CREATE INDEX license_order_unpaid ON license_order (expires_at) WHERE state = 'AWAITING_PAYMENT';

CREATE TABLE order_line (
    account text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    line int NOT NULL CHECK (line BETWEEN 1 AND 20),
    offer text COLLATE "C" NOT NULL REFERENCES offer,
    quantity int NOT NULL CHECK (quantity BETWEEN 1 AND 100000),
    -- Resource name of the recurring price that was quoted.
    price text NOT NULL,
    PRIMARY KEY (account, order_id, line),
    UNIQUE (account, order_id, offer),
    FOREIGN KEY (account, order_id) REFERENCES license_order
);

-- One row per attempt to pay an order. While `outcome` is NULL the attempt is under way, and whoever holds the lease
-- asks billing how it stands; leases and retries are machine time.
CREATE TABLE payment_attempt (
    account text COLLATE "C" NOT NULL,
    order_id text COLLATE "C" NOT NULL,
    attempt int NOT NULL CHECK (attempt > 0),
    outcome text CHECK (outcome IN ('SUCCEEDED', 'DECLINED')),
    decline_reason text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL,
    settled_at timestamptz,
    -- The request that started it; its fingerprint tells a repetition from another request with the same id.
    request_id uuid,
    fingerprint bytea,
    -- The new payment method, kept until the outcome is definite, since every repetition must carry it.
    gateway_token text,
    method_display_name text,
    tries int NOT NULL DEFAULT 0 CHECK (tries >= 0),
    next_try_at timestamptz NOT NULL,
    lease uuid,
    lease_until timestamptz,
    PRIMARY KEY (account, order_id, attempt),
    FOREIGN KEY (account, order_id) REFERENCES license_order,
    CHECK ((outcome IS NULL) = (settled_at IS NULL)),
    CHECK ((request_id IS NULL) = (fingerprint IS NULL)),
    CHECK ((lease IS NULL) = (lease_until IS NULL)),
    CHECK (outcome IS NULL OR (gateway_token IS NULL AND method_display_name IS NULL AND lease IS NULL))
);
-- An order has one attempt under way at most, and a request one that is under way or succeeded.
CREATE UNIQUE INDEX payment_attempt_under_way ON payment_attempt (account, order_id) WHERE outcome IS NULL;
CREATE UNIQUE INDEX payment_attempt_request ON payment_attempt (account, request_id)
    WHERE outcome IS DISTINCT FROM 'DECLINED';
CREATE INDEX payment_attempt_next ON payment_attempt (next_try_at) WHERE outcome IS NULL;

CREATE TABLE license_group (
    account text COLLATE "C" NOT NULL REFERENCES account,
    group_id text COLLATE "C" NOT NULL,
    display_name text NOT NULL,
    state text NOT NULL CHECK (state IN ('ACTIVE', 'SUSPENDED', 'TERMINATED')),
    billing_mode text NOT NULL CHECK (billing_mode IN ('POSTPAID', 'PREPAID')),
    renewal_period text NOT NULL CHECK (renewal_period IN ('P1M', 'P3M', 'P1Y')),
    auto_renew boolean NOT NULL,
    -- The local date on which its first order completed; every period's end is counted from it.
    first_date date NOT NULL,
    -- How many periods have ended.
    period int NOT NULL CHECK (period >= 0),
    period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL,
    -- The termination that is scheduled or happened. One without reasons is a group that was not to renew.
    termination_reasons text[],
    termination_future_use text,
    termination_comment text,
    termination_requested_at timestamptz,
    termination_at timestamptz,
    next_license_number int NOT NULL CHECK (next_license_number >= 1),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (account, group_id),
    CHECK (period_start < period_end),
    CHECK (state <> 'TERMINATED' OR termination_at IS NOT NULL),
    CHECK ((termination_reasons IS NULL) = (termination_at IS NULL)),
    CHECK ((termination_reasons IS NULL) = (termination_future_use IS NULL)),
    CHECK ((termination_reasons IS NULL) = (termination_comment IS NULL))
);
CREATE INDEX license_group_period_end ON license_group (period_end) WHERE state <> 'TERMINATED';

-- A group's licences of one offer, counted. A row comes with the first reservation, before the group when the order
-- creates it.
CREATE TABLE group_offer (
    account text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    offer text COLLATE "C" NOT NULL REFERENCES offer,
    -- Licences that are not deleted.
    used int NOT NULL DEFAULT 0 CHECK (used >= 0),
    -- Seats of orders being paid.
    reserved int NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    -- Licences with a user.
    active int NOT NULL DEFAULT 0 CHECK (active >= 0),
    -- The most that the group may hold; NULL means without limit.
    cap int CHECK (cap > 0),
    PRIMARY KEY (account, group_id, offer),
    CONSTRAINT group_offer_cap CHECK (used + reserved <= cap),
    CHECK (active <= used)
);

CREATE TABLE license (
    account text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    number int NOT NULL CHECK (number > 0),
    offer text COLLATE "C" NOT NULL REFERENCES offer,
    order_id text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('UNASSIGNED', 'ACTIVE', 'DELETED')),
    -- The user; set while the licence is ACTIVE.
    first_name text,
    last_name text,
    -- The login as it was given, complete.
    activation_email text,
    -- PHC string of Argon2id.
    password_hash text,
    password_change_required boolean,
    activated_at timestamptz,
    delete_at_renewal boolean NOT NULL DEFAULT false,
    -- Active devices of each kind.
    computers int NOT NULL DEFAULT 0 CHECK (computers >= 0),
    tablets int NOT NULL DEFAULT 0 CHECK (tablets >= 0),
    smartphones int NOT NULL DEFAULT 0 CHECK (smartphones >= 0),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (account, group_id, number),
    FOREIGN KEY (account, group_id) REFERENCES license_group,
    FOREIGN KEY (account, group_id, offer) REFERENCES group_offer,
    FOREIGN KEY (account, order_id) REFERENCES license_order,
    CONSTRAINT license_user CHECK (
        CASE WHEN state = 'ACTIVE'
            THEN num_nulls(first_name, last_name, activation_email, password_hash, password_change_required,
                           activated_at) = 0
            ELSE num_nonnulls(first_name, last_name, activation_email, password_hash, password_change_required,
                              activated_at) = 0
                AND computers = 0 AND tablets = 0 AND smartphones = 0
        END),
    CHECK ((state = 'DELETED') = (deleted_at IS NOT NULL))
);

-- When a seat was active: half-open, open while it is. What postpaid billing charges.
CREATE TABLE usage_interval (
    account text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    offer text COLLATE "C" NOT NULL,
    seat int NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz CHECK (ended_at >= started_at),
    PRIMARY KEY (account, group_id, seat, started_at),
    FOREIGN KEY (account, group_id, seat) REFERENCES license (account, group_id, number)
);
-- A seat is active once at a time.
CREATE UNIQUE INDEX usage_interval_open ON usage_interval (account, group_id, seat) WHERE ended_at IS NULL;
