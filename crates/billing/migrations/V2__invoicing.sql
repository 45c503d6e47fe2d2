-- What licensing told of usage, the invoices made of it, their numbers, and the runs that make them. Account-led,
-- but for series, bill_run, bill_run_total and bill_run_failure, which belong to the installation.

-- A license group as invoices name it: the highest version wins, then the latest fact, whatever came first. Orders
-- carry no version and count as 0.
CREATE TABLE usage_group (
    account         text COLLATE "C" NOT NULL REFERENCES account (account),
    group_id        text COLLATE "C" NOT NULL,
    display_name    text NOT NULL,
    version         bigint NOT NULL CHECK (version >= 0),
    named_time      timestamptz NOT NULL,
    PRIMARY KEY (account, group_id)
);

-- An offer's entry into a group: its first order, by effective time, with the price that this order quoted and the
-- name that the offer then had.
CREATE TABLE group_offer_entry (
    account         text COLLATE "C" NOT NULL REFERENCES account (account),
    group_id        text COLLATE "C" NOT NULL,
    offer           text COLLATE "C" NOT NULL,
    display_name    text NOT NULL,
    enter_time      timestamptz NOT NULL,
    order_id        text COLLATE "C" NOT NULL,
    price           uuid NOT NULL REFERENCES price (id),
    PRIMARY KEY (account, group_id, offer)
);

-- When a seat was active, half-open. `opened_by` is the event that opened it: instants may coincide, events do not.
CREATE TABLE usage_interval (
    account       text COLLATE "C" NOT NULL REFERENCES account (account),
    group_id      text COLLATE "C" NOT NULL,
    seat          integer NOT NULL CHECK (seat >= 1),
    opened_by     uuid NOT NULL,
    offer         text COLLATE "C" NOT NULL,
    start_time    timestamptz NOT NULL,
    end_time      timestamptz CHECK (end_time >= start_time),
    PRIMARY KEY (account, group_id, seat, opened_by)
);

CREATE UNIQUE INDEX usage_interval_one_open ON usage_interval (account, group_id, seat) WHERE end_time IS NULL;
-- A month reads what is open or ended in or after it, not the account's whole past.
CREATE INDEX usage_interval_end ON usage_interval (account, (coalesce(end_time, 'infinity')));

-- Numbers without gaps: one row per seller, year and kind of document, locked by whoever takes the next.
CREATE TABLE series (
    seller       text COLLATE "C" NOT NULL REFERENCES seller (id),
    year         smallint NOT NULL CHECK (year BETWEEN 1970 AND 9999),
    kind         text NOT NULL CHECK (kind IN ('INVOICE', 'CREDIT_NOTE')),
    last         bigint NOT NULL CHECK (last >= 0),
    last_date    date NOT NULL,
    PRIMARY KEY (seller, year, kind)
);

CREATE TABLE bill_run (
    id               text COLLATE "C" NOT NULL PRIMARY KEY,
    month            text COLLATE "C" NOT NULL CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    dry_run          boolean NOT NULL,
    state            text NOT NULL CHECK (state IN ('RUNNING', 'COMPLETED')),
    -- Every account up to this one, by id, is done.
    done_through     text COLLATE "C" NOT NULL,
    accounts         integer NOT NULL DEFAULT 0,
    invoices         integer NOT NULL DEFAULT 0,
    skipped          integer NOT NULL DEFAULT 0,
    not_due          integer NOT NULL DEFAULT 0,
    failed           integer NOT NULL DEFAULT 0,
    create_time      timestamptz NOT NULL,
    complete_time    timestamptz,
    CONSTRAINT bill_run_counts CHECK (
        least(invoices, skipped, not_due, failed) >= 0 AND accounts = invoices + skipped + not_due + failed
    ),
    CONSTRAINT bill_run_completed CHECK ((state = 'COMPLETED') = (complete_time IS NOT NULL))
);

CREATE INDEX bill_run_running ON bill_run (create_time, id) WHERE state = 'RUNNING';
CREATE INDEX bill_run_newest ON bill_run (create_time DESC, id DESC);

CREATE TABLE bill_run_total (
    bill_run    text COLLATE "C" NOT NULL REFERENCES bill_run (id),
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    total       bigint NOT NULL CHECK (total >= 0),
    PRIMARY KEY (bill_run, currency)
);

CREATE TABLE bill_run_failure (
    bill_run    text COLLATE "C" NOT NULL REFERENCES bill_run (id),
    account     text COLLATE "C" NOT NULL,
    reason      text NOT NULL,
    message     text NOT NULL,
    PRIMARY KEY (bill_run, account)
);

CREATE TABLE invoice (
    account           text COLLATE "C" NOT NULL REFERENCES account (account),
    id                uuid NOT NULL,
    seller            text COLLATE "C" NOT NULL REFERENCES seller (id),
    number            text COLLATE "C" NOT NULL CHECK (number ~ '^F-[0-9]{4}-[0-9]{6,}$'),
    state             text NOT NULL CHECK (state IN ('OPEN', 'PAID')),
    pay_time          timestamptz,
    kind              text NOT NULL CHECK (kind IN ('BILL_RUN', 'ORDER')),
    mode              text NOT NULL CHECK (mode IN ('POSTPAID')),
    month             text COLLATE "C" CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    start_time        timestamptz,
    end_time          timestamptz,
    order_id          text COLLATE "C",
    currency          text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    issue_date        date NOT NULL,
    due_date          date NOT NULL CHECK (due_date >= issue_date),
    locale            text NOT NULL CHECK (locale IN ('fr', 'en')),
    -- Both parties as they were at issue.
    seller_party      jsonb NOT NULL,
    buyer_party       jsonb NOT NULL,
    net               bigint NOT NULL CHECK (net >= 0),
    tax               bigint NOT NULL CHECK (tax >= 0),
    total             bigint NOT NULL CHECK (total = net + tax),
    mentions          text[] NOT NULL,
    specimen          boolean NOT NULL,
    create_time       timestamptz NOT NULL,
    issued_by         xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (account, id),
    CONSTRAINT invoice_number_once UNIQUE (account, seller, number),
    CONSTRAINT invoice_number_year CHECK (substr(number, 3, 4)::integer = extract(year FROM issue_date)),
    CONSTRAINT invoice_paid CHECK ((state = 'PAID') = (pay_time IS NOT NULL)),
    CONSTRAINT invoice_nothing_due CHECK (total > 0 OR state = 'PAID'),
    CONSTRAINT invoice_of_month_or_order CHECK (CASE kind
        WHEN 'BILL_RUN' THEN num_nonnulls(month, start_time, end_time) = 3 AND order_id IS NULL AND start_time < end_time
        ELSE num_nonnulls(month, start_time, end_time) = 0 AND order_id IS NOT NULL
    END)
);

CREATE UNIQUE INDEX invoice_once_a_month ON invoice (account, currency, month, mode) WHERE kind = 'BILL_RUN';
CREATE UNIQUE INDEX invoice_once_an_order ON invoice (account, order_id) WHERE kind = 'ORDER';

CREATE TABLE invoice_line (
    account               text COLLATE "C" NOT NULL,
    invoice               uuid NOT NULL,
    line                  integer NOT NULL CHECK (line >= 1),
    description           text NOT NULL,
    offer                 text COLLATE "C" NOT NULL,
    group_id              text COLLATE "C",
    group_display_name    text NOT NULL,
    -- The month whose consumption it charges: another than the invoice's for usage that was told late.
    month                 text COLLATE "C" CHECK (month ~ '^[0-9]{4}-(0[1-9]|1[0-2])$'),
    usage_policy          text CHECK (usage_policy IN ('PEAK', 'DISTINCT', 'DAILY')),
    quantity              integer NOT NULL CHECK (quantity >= 1),
    unit_price            bigint NOT NULL CHECK (unit_price >= 0),
    price_base_quantity   integer NOT NULL CHECK (price_base_quantity BETWEEN 1 AND 31),
    amount                bigint NOT NULL CHECK (amount >= 0),
    price                 uuid NOT NULL REFERENCES price (id),
    tax_category          text NOT NULL CHECK (tax_category IN ('S', 'Z', 'E', 'AE', 'G', 'O')),
    tax_rate_ppm          integer NOT NULL CHECK (tax_rate_ppm BETWEEN 0 AND 1000000),
    PRIMARY KEY (account, invoice, line),
    FOREIGN KEY (account, invoice) REFERENCES invoice (account, id),
    CONSTRAINT invoice_line_usage CHECK (num_nonnulls(group_id, month, usage_policy) IN (0, 3)),
    -- Rounded once, half up.
    CONSTRAINT invoice_line_amount CHECK (
        amount = div(2 * quantity::numeric * unit_price + price_base_quantity, 2 * price_base_quantity)
    )
);

-- The evidence: each local day of the line's month that had activity.
CREATE TABLE invoice_line_day (
    account       text COLLATE "C" NOT NULL,
    invoice       uuid NOT NULL,
    line          integer NOT NULL,
    day           date NOT NULL,
    peak          integer NOT NULL CHECK (peak >= 1),
    end_of_day    integer NOT NULL CHECK (end_of_day BETWEEN 0 AND peak),
    seats         integer NOT NULL CHECK (seats >= peak),
    PRIMARY KEY (account, invoice, line, day),
    FOREIGN KEY (account, invoice, line) REFERENCES invoice_line (account, invoice, line)
);

CREATE TABLE invoice_tax (
    account     text COLLATE "C" NOT NULL,
    invoice     uuid NOT NULL,
    category    text NOT NULL CHECK (category IN ('S', 'Z', 'E', 'AE', 'G', 'O')),
    rate_ppm    integer NOT NULL CHECK (rate_ppm BETWEEN 0 AND 1000000),
    base        bigint NOT NULL CHECK (base >= 0),
    amount      bigint NOT NULL CHECK (amount = div(base::numeric * rate_ppm + 500000, 1000000)),
    PRIMARY KEY (account, invoice, category, rate_ppm),
    FOREIGN KEY (account, invoice) REFERENCES invoice (account, id)
);

-- An issued invoice changes in one way: it is paid.
CREATE FUNCTION invoice_is_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND OLD.state = 'OPEN' AND NEW.state = 'PAID' THEN
        OLD.state := NEW.state;
        OLD.pay_time := NEW.pay_time;
        IF OLD IS NOT DISTINCT FROM NEW THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'an issued invoice is never changed' USING ERRCODE = 'OC002';
END
$$;

-- Lines, days and taxes join an invoice in the transaction that issues it, and no later, whoever's search path it is.
-- Looked at once a statement, and planned for the rows that it brings: one invoice's or a whole bill run's.
CREATE FUNCTION invoice_is_being_issued() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    late boolean;
BEGIN
    EXECUTE 'SELECT EXISTS (
        SELECT FROM added JOIN invoice ON invoice.account = added.account AND invoice.id = added.invoice
        WHERE invoice.issued_by <> pg_current_xact_id()
    )' INTO late;
    IF late THEN
        RAISE EXCEPTION 'an issued invoice is never changed' USING ERRCODE = 'OC002';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER invoice_frozen BEFORE UPDATE OR DELETE ON invoice
    FOR EACH ROW EXECUTE FUNCTION invoice_is_frozen();
CREATE TRIGGER invoice_line_frozen BEFORE UPDATE OR DELETE ON invoice_line
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_line_issued AFTER INSERT ON invoice_line REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION invoice_is_being_issued();
CREATE TRIGGER invoice_line_day_frozen BEFORE UPDATE OR DELETE ON invoice_line_day
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_line_day_issued AFTER INSERT ON invoice_line_day REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION invoice_is_being_issued();
CREATE TRIGGER invoice_tax_frozen BEFORE UPDATE OR DELETE ON invoice_tax
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER invoice_tax_issued AFTER INSERT ON invoice_tax REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION invoice_is_being_issued();

-- A month that a bill run has closed for an account, with or without an invoice: later runs leave it alone, and what
-- is told of it afterwards goes to the next invoice. The run is the installation's: its id stands here as text.
CREATE TABLE billed_month (
    account       text COLLATE "C" NOT NULL REFERENCES account (account),
    month         text COLLATE "C" NOT NULL,
    bill_run      text COLLATE "C" NOT NULL,
    start_time    timestamptz NOT NULL,
    end_time      timestamptz NOT NULL CHECK (end_time > start_time),
    invoice       uuid,
    PRIMARY KEY (account, month),
    FOREIGN KEY (account, invoice) REFERENCES invoice (account, id)
);

CREATE INDEX billed_month_end ON billed_month (account, end_time);

-- Closed months whose usage changed after they were closed.
CREATE TABLE late_usage (
    account    text COLLATE "C" NOT NULL,
    month      text COLLATE "C" NOT NULL,
    PRIMARY KEY (account, month),
    FOREIGN KEY (account, month) REFERENCES billed_month (account, month)
);
