-- The users of licences: how they sign in, their sessions and their devices.

-- Directory: which licence an activation e-mail opens. Keyed by what a user knows before the account is known, so it
-- refers to the licence by value. A row lives as long as the licence has its user, which makes the address unique in
-- the installation among assigned licences.
CREATE TABLE activation_address (
    -- In lower case.
    address text COLLATE "C" CONSTRAINT activation_address_taken PRIMARY KEY CHECK (address = lower(address)),
    account text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    number int NOT NULL
);

-- Lives on business time, as its licence does.
CREATE TABLE session (
    account text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    number int NOT NULL,
    id uuid NOT NULL,
    -- SHA-256 of the token's secret; the token itself is kept nowhere.
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (account, group_id, number, id),
    FOREIGN KEY (account, group_id, number) REFERENCES license,
    CHECK (expires_at > created_at)
);
CREATE INDEX session_expired ON session (expires_at);

CREATE TABLE device (
    account text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    number int NOT NULL,
    -- UUIDv7: in the order of registration.
    id uuid NOT NULL,
    platform text NOT NULL
        CHECK (platform IN ('WINDOWS', 'MACOS', 'IPADOS', 'ANDROID_TABLET', 'IOS', 'ANDROID_PHONE')),
    display_name text NOT NULL,
    -- Takes no place in the licence's counters.
    shared_computer boolean NOT NULL CHECK (NOT shared_computer OR platform IN ('WINDOWS', 'MACOS')),
    state text NOT NULL CHECK (state IN ('ACTIVE', 'DEACTIVATED')),
    registered_at timestamptz NOT NULL,
    deactivated_at timestamptz,
    PRIMARY KEY (account, group_id, number, id),
    FOREIGN KEY (account, group_id, number) REFERENCES license,
    CHECK ((state = 'DEACTIVATED') = (deactivated_at IS NOT NULL)),
    CHECK (deactivated_at >= registered_at)
);

-- Installation: failed sign-ins, on machine time, shared by every instance. Rows end by themselves at `forget_at`.
CREATE TABLE sign_in_failure (
    -- LOGIN: per activation e-mail; CLIENT: per client address; OVERALL: a share of the whole installation.
    kind text COLLATE "C" NOT NULL CHECK (kind IN ('LOGIN', 'CLIENT', 'OVERALL')),
    -- SHA-256 of the subject: known or not, and however long, it takes the same room.
    subject bytea NOT NULL CHECK (octet_length(subject) = 32),
    failures int NOT NULL CHECK (failures >= 0),
    blocked_until timestamptz NOT NULL,
    forget_at timestamptz NOT NULL,
    PRIMARY KEY (kind, subject)
);
CREATE INDEX sign_in_failure_forgotten ON sign_in_failure (forget_at);
