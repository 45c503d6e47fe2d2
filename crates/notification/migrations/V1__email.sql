-- What this service keeps of an account: one row for each of its changes, so that an e-mail is addressed by the
-- contact that was in force when its fact took effect, in whatever order the facts arrive before its first try. A change
-- that arrives later comes too late for it. Rows are never changed.
CREATE TABLE account (
    account       text COLLATE "C" NOT NULL,
    version       bigint           NOT NULL CHECK (version > 0),
    effective_at  timestamptz      NOT NULL,
    contact_email text             NOT NULL CHECK (contact_email <> ''),
    locale        text             NOT NULL CHECK (locale IN ('fr', 'en')),
    legal_name    text             NOT NULL,
    -- [{"time_zone": "Europe/Paris", "time": "2026-11-22T17:00:00Z"}], every zone that the account has had.
    zones         jsonb            NOT NULL CHECK (jsonb_typeof(zones) = 'array'),
    PRIMARY KEY (account, version)
);

-- The history of an account's e-mails. Bodies are made from template and parameters whenever one is read or sent, so
-- that no row holds a password: that lies sealed beside them until it is erased.
-- Business time: effective_at, sent_at, secret_expires_at. Machine time, which a test clock never moves: the rest.
CREATE TABLE email (
    account           text COLLATE "C" NOT NULL,
    id                uuid             NOT NULL,
    -- The fact that it tells of; a sealed secret is bound to it.
    event             uuid             NOT NULL,
    effective_at      timestamptz      NOT NULL,
    template          text             NOT NULL,
    parameters        jsonb            NOT NULL CHECK (jsonb_typeof(parameters) = 'object'),
    message_id        text             NOT NULL,
    -- To whom: set together, at the first try at the latest, and fixed from then on.
    recipient         text,
    locale            text CHECK (locale IN ('fr', 'en')),
    customer          text,
    time_zone         text,
    state             text             NOT NULL CHECK (state IN ('QUEUED', 'SENT', 'FAILED', 'WITHDRAWN')),
    attempts          integer          NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at   timestamptz      NOT NULL DEFAULT now(),
    -- Set by the first try: an e-mail that waits for its account, or for a stopped service, loses no time.
    give_up_at        timestamptz,
    lease_token       uuid,
    lease_expires_at  timestamptz,
    last_error        text             NOT NULL DEFAULT '',
    sent_at           timestamptz,
    -- Resource name of the licence whose password it carries; empty where it carries none.
    license           text COLLATE "C" NOT NULL,
    secret_state      text             NOT NULL CHECK (secret_state IN ('NONE', 'READABLE', 'ERASED')),
    sealed_secret     bytea CHECK (octet_length(sealed_secret) <= 4096),
    secret_expires_at timestamptz,
    PRIMARY KEY (account, id),
    CHECK (num_nulls(recipient, locale, customer, time_zone) IN (0, 4)),
    CHECK (attempts = 0 OR (recipient IS NOT NULL AND give_up_at IS NOT NULL)),
    CHECK (num_nulls(lease_token, lease_expires_at) IN (0, 2)),
    CHECK (lease_token IS NULL OR state = 'QUEUED'),
    CHECK ((state = 'SENT') = (sent_at IS NOT NULL)),
    CHECK (state <> 'WITHDRAWN' OR secret_state = 'ERASED'),
    CHECK ((secret_state = 'READABLE') = (sealed_secret IS NOT NULL)),
    CHECK ((secret_state = 'NONE') = (secret_expires_at IS NULL)),
    CHECK ((secret_state = 'NONE') = (license = ''))
);

CREATE INDEX email_due ON email (next_attempt_at) WHERE state = 'QUEUED';
CREATE INDEX email_secret_due ON email (secret_expires_at) WHERE secret_state = 'READABLE';
CREATE INDEX email_secret_of ON email (account, license) WHERE secret_state = 'READABLE';
