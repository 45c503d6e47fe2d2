-- Who sells, who buys, at what prices and taxes, and how orders are settled. Account-led tables name the account
-- first in every key; the catalogue (seller, price, tax_rate) is reference data; test_gateway_charge stands for the
-- outside world.

-- Reference. A seller may be incomplete: then it sells, and nothing is invoiced.
CREATE TABLE seller (
    id                        text COLLATE "C" NOT NULL PRIMARY KEY,
    specimen                  boolean NOT NULL,
    legal_name                text NOT NULL,
    legal_form                text NOT NULL,
    address_lines             text[] NOT NULL,
    postal_code               text NOT NULL,
    city                      text NOT NULL,
    country                   text NOT NULL,
    siren                     text NOT NULL,
    rcs                       text NOT NULL,
    vat_number                text NOT NULL,
    vat_on_debits             boolean NOT NULL,
    time_zone                 text NOT NULL,
    currency                  text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    payment_terms_days        integer NOT NULL CHECK (payment_terms_days BETWEEN 0 AND 60),
    late_penalty_ppm          integer CHECK (late_penalty_ppm BETWEEN 0 AND 1000000),
    recovery_indemnity        bigint CHECK (recovery_indemnity >= 0),
    early_payment_discount    text NOT NULL,
    version                   bigint NOT NULL CHECK (version >= 1),
    create_time               timestamptz NOT NULL,
    update_time               timestamptz NOT NULL
);

-- Reference. Effective-dated and never edited: a later row of the same offer and currency takes over.
CREATE TABLE price (
    id              uuid NOT NULL PRIMARY KEY,
    offer           text COLLATE "C" NOT NULL CHECK (offer LIKE 'offers/%'),
    currency        text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    monthly         bigint NOT NULL CHECK (monthly >= 0),
    setup           bigint NOT NULL CHECK (setup >= 0),
    usage_policy    text NOT NULL CHECK (usage_policy IN ('PEAK', 'DISTINCT', 'DAILY')),
    valid_from      timestamptz NOT NULL,
    create_time     timestamptz NOT NULL,
    CONSTRAINT price_once UNIQUE (offer, currency, valid_from)
);

-- Reference. Effective-dated by the seller's local day, never edited.
CREATE TABLE tax_rate (
    id             uuid NOT NULL PRIMARY KEY,
    country        text COLLATE "C" NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    category       text NOT NULL CHECK (category IN ('S', 'Z', 'E', 'AE', 'G', 'O')),
    rate_ppm       integer NOT NULL CHECK (rate_ppm BETWEEN 0 AND 1000000),
    valid_from     date NOT NULL,
    create_time    timestamptz NOT NULL,
    CONSTRAINT tax_rate_once UNIQUE (country, valid_from),
    CONSTRAINT tax_rate_category CHECK ((category = 'S') = (rate_ppm > 0))
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME USING ERRCODE = 'OC002';
END
$$;

CREATE TRIGGER price_frozen BEFORE UPDATE OR DELETE ON price FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER tax_rate_frozen BEFORE UPDATE OR DELETE ON tax_rate FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- zone_names and zone_times: every zone that the account has had, oldest first, each from its setting on; the last is
-- the account's own. They stand in the row so that whoever locks it sees them whole.
CREATE TABLE account (
    account             text COLLATE "C" NOT NULL PRIMARY KEY
                            CHECK (account ~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$'),
    legal_name          text NOT NULL CHECK (char_length(legal_name) BETWEEN 1 AND 200),
    contact_email       text NOT NULL CHECK (contact_email LIKE '%_@_%'),
    address_lines       text[] NOT NULL CHECK (cardinality(address_lines) BETWEEN 1 AND 4),
    postal_code         text NOT NULL,
    city                text NOT NULL,
    country             text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    vat_number          text NOT NULL,
    currency            text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    seller              text COLLATE "C" NOT NULL REFERENCES seller (id),
    locale              text NOT NULL CHECK (locale IN ('fr', 'en')),
    zone_names          text[] NOT NULL CHECK (cardinality(zone_names) >= 1),
    zone_times          timestamptz[] NOT NULL CHECK (cardinality(zone_times) = cardinality(zone_names)),
    first_order_time    timestamptz,
    version             bigint NOT NULL CHECK (version >= 1),
    create_time         timestamptz NOT NULL,
    update_time         timestamptz NOT NULL
);

-- What the gateway gave out, never a card's number. (order_id, attempt) name the settlement that brought it.
CREATE TABLE payment_method (
    account          text COLLATE "C" NOT NULL REFERENCES account (account),
    id               uuid NOT NULL,
    display_name     text NOT NULL CHECK (char_length(display_name) BETWEEN 1 AND 100),
    gateway          text NOT NULL CHECK (gateway IN ('test')),
    gateway_token    text NOT NULL,
    is_default       boolean NOT NULL,
    order_id         text COLLATE "C",
    attempt          integer,
    version          bigint NOT NULL CHECK (version >= 1),
    create_time      timestamptz NOT NULL,
    PRIMARY KEY (account, id),
    CONSTRAINT payment_method_once_an_attempt UNIQUE (account, order_id, attempt),
    CHECK ((order_id IS NULL) = (attempt IS NULL))
);

CREATE UNIQUE INDEX payment_method_one_default ON payment_method (account) WHERE is_default;

-- One attempt to settle an order, with the quote that it settles. look_time and lease_token belong to the worker
-- that finds out outcomes; they are machine time.
CREATE TABLE settlement (
    account           text COLLATE "C" NOT NULL REFERENCES account (account),
    order_id          text COLLATE "C" NOT NULL,
    attempt           integer NOT NULL CHECK (attempt >= 1),
    state             text NOT NULL CHECK (state IN ('PROCESSING', 'SUCCEEDED', 'DECLINED')),
    decline_reason    text,
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    seller            text COLLATE "C" NOT NULL REFERENCES seller (id),
    tax_category      text NOT NULL,
    tax_rate_ppm      integer NOT NULL CHECK (tax_rate_ppm BETWEEN 0 AND 1000000),
    net               bigint NOT NULL CHECK (net >= 0),
    tax               bigint NOT NULL CHECK (tax >= 0),
    due               bigint NOT NULL CHECK (due = net + tax),
    payment_method    uuid,
    payment           uuid,
    invoice           uuid,
    create_time       timestamptz NOT NULL,
    settle_time       timestamptz,
    looks             integer NOT NULL DEFAULT 0 CHECK (looks >= 0),
    look_time         timestamptz NOT NULL,
    lease_token       uuid,
    PRIMARY KEY (account, order_id, attempt),
    FOREIGN KEY (account, payment_method) REFERENCES payment_method (account, id),
    CONSTRAINT settlement_decline CHECK ((state = 'DECLINED') = (decline_reason IS NOT NULL)),
    CONSTRAINT settlement_settled CHECK ((state = 'PROCESSING') = (settle_time IS NULL)),
    CONSTRAINT settlement_method CHECK (payment_method IS NOT NULL OR state = 'DECLINED'),
    CONSTRAINT settlement_payment CHECK ((payment IS NOT NULL) = (due > 0 AND payment_method IS NOT NULL)),
    CONSTRAINT settlement_invoice CHECK ((invoice IS NOT NULL) = (state = 'SUCCEEDED' AND due > 0))
);

-- An order is charged once: while an attempt is under way or has succeeded there is no other.
CREATE UNIQUE INDEX settlement_one_an_order ON settlement (account, order_id)
    WHERE state IN ('PROCESSING', 'SUCCEEDED');
CREATE INDEX settlement_undecided ON settlement (look_time) WHERE state = 'PROCESSING';

CREATE TABLE settlement_line (
    account         text COLLATE "C" NOT NULL,
    order_id        text COLLATE "C" NOT NULL,
    attempt         integer NOT NULL,
    line            integer NOT NULL CHECK (line >= 1),
    offer           text COLLATE "C" NOT NULL,
    quantity        integer NOT NULL CHECK (quantity >= 1),
    setup_fee       bigint NOT NULL CHECK (setup_fee >= 0),
    setup_amount    bigint NOT NULL CHECK (setup_amount = setup_fee * quantity),
    price           uuid NOT NULL REFERENCES price (id),
    PRIMARY KEY (account, order_id, attempt, line),
    FOREIGN KEY (account, order_id, attempt) REFERENCES settlement (account, order_id, attempt)
);

CREATE TABLE payment (
    account           text COLLATE "C" NOT NULL REFERENCES account (account),
    id                uuid NOT NULL,
    state             text NOT NULL CHECK (state IN ('PROCESSING', 'SUCCEEDED', 'DECLINED')),
    amount            bigint NOT NULL CHECK (amount > 0),
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    decline_reason    text,
    order_id          text COLLATE "C" NOT NULL,
    attempt           integer NOT NULL,
    invoice           uuid,
    payment_method    uuid NOT NULL,
    create_time       timestamptz NOT NULL,
    settle_time       timestamptz,
    PRIMARY KEY (account, id),
    CONSTRAINT payment_once_an_attempt UNIQUE (account, order_id, attempt),
    FOREIGN KEY (account, order_id, attempt) REFERENCES settlement (account, order_id, attempt),
    FOREIGN KEY (account, payment_method) REFERENCES payment_method (account, id),
    CONSTRAINT payment_decline CHECK ((state = 'DECLINED') = (decline_reason IS NOT NULL)),
    CONSTRAINT payment_settled CHECK ((state = 'PROCESSING') = (settle_time IS NULL)),
    CONSTRAINT payment_invoice CHECK ((invoice IS NOT NULL) = (state = 'SUCCEEDED'))
);

-- Append-only. A row is one transfer: balanced by its shape.
CREATE TABLE ledger_transfer (
    account           text COLLATE "C" NOT NULL REFERENCES account (account),
    id                uuid NOT NULL,
    seller            text COLLATE "C" NOT NULL REFERENCES seller (id),
    debit_account     text NOT NULL CHECK (debit_account IN ('RECEIVABLE', 'REVENUE', 'VAT', 'CASH')),
    credit_account    text NOT NULL CHECK (credit_account IN ('RECEIVABLE', 'REVENUE', 'VAT', 'CASH')),
    amount            bigint NOT NULL CHECK (amount > 0),
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    kind              text NOT NULL CHECK (kind IN ('INVOICE_NET', 'INVOICE_TAX', 'PAYMENT')),
    source            text COLLATE "C" NOT NULL,
    time              timestamptz NOT NULL,
    PRIMARY KEY (account, id),
    CONSTRAINT ledger_transfer_once UNIQUE (account, source, kind),
    CONSTRAINT ledger_transfer_two_sides CHECK (debit_account <> credit_account)
);

CREATE TRIGGER ledger_transfer_frozen BEFORE UPDATE OR DELETE ON ledger_transfer
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- Not billing's: what the test gateway's provider remembers, keyed as providers key charges. An amount of zero is a
-- check of the method alone. What happened
-- shows once looks reaches visible_at.
CREATE TABLE test_gateway_charge (
    key               text COLLATE "C" NOT NULL PRIMARY KEY,
    token             text NOT NULL,
    amount            bigint NOT NULL CHECK (amount >= 0),
    currency          text NOT NULL,
    decline_reason    text,
    looks             integer NOT NULL DEFAULT 0,
    visible_at        integer NOT NULL
);
