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
    (
        "e-mails: those of passwords alone carry one, and end with it if not sent yet",
        SECRETS_WITHDRAWN,
    ),
    (
        "e-mails: none waits because the mail server refuses us",
        TURNED_AWAY,
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

// What is being handed over when its password ends takes its course, and is withdrawn at once if it comes back.
const SECRETS_WITHDRAWN: &str = "
    SELECT concat_ws('/', account, id) AS what,
           (secret_state <> 'NONE') <> (template IN ('license-activated', 'password-changed'))
           OR (secret_state = 'ERASED' AND state = 'QUEUED'
               AND greatest(next_attempt_at, lease_expires_at) < clock_timestamp() - interval '10 minutes') AS broken
    FROM notification.email";

// A setting to mend: sender, sign-in or relaying. What the server said is told with it.
const TURNED_AWAY: &str = "
    SELECT format('%s/%s (%s)', account, id, left(last_error, 120)) AS what, turned_away AS broken
    FROM notification.email WHERE state = 'QUEUED'";
