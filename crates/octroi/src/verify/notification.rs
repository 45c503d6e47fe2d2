//! E-mails and the secrets that some carry.

/// Name and query of each check.
pub(super) const CHECKS: &[(&str, &str)] = &[
    (
        "e-mails: no password is kept past its time",
        SECRETS_EXPIRED,
    ),
    (
        "e-mails: one readable password at most per licence",
        SECRETS_ONE,
    ),
];

// Erasure runs twice a minute; ten minutes forgive a service that was down.
const SECRETS_EXPIRED: &str = "
    SELECT concat_ws('/', account, id) AS what,
           secret_expires_at < current_setting('octroi.now')::timestamptz - interval '10 minutes' AS broken
    FROM notification.email WHERE secret_state = 'READABLE'";

const SECRETS_ONE: &str = "
    SELECT concat_ws('/', account, license) AS what, count(*) > 1 AS broken
    FROM notification.email WHERE secret_state = 'READABLE'
    GROUP BY account, license";
