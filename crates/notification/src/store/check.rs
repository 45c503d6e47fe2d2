//! What must hold of the rows of notification: e-mails and the passwords that some carry.

#![expect(missing_docs, reason = "each names its rule")]

use octroi_platform::check::Check;

/// Every rule, in the order of the report.
pub const CHECKS: &[Check] = &[SECRETS_EXPIRED, SECRETS_ONE, SECRETS_WITHDRAWN, TURNED_AWAY];

// Erasure runs twice a minute; ten minutes forgive a service that was down.
pub const SECRETS_EXPIRED: Check = Check {
    name: "e-mails: no password is kept past its time",
    sql: "
        SELECT concat_ws('/', account, id) AS what,
               secret_expires_at < current_setting('octroi.now')::timestamptz - interval '10 minutes' AS broken
        FROM notification.email WHERE secret_state = 'READABLE'",
};

pub const SECRETS_ONE: Check = Check {
    name: "e-mails: one readable password at most per licence",
    sql: "
        SELECT concat_ws('/', account, license) AS what, count(*) > 1 AS broken
        FROM notification.email WHERE secret_state = 'READABLE'
        GROUP BY account, license",
};

// An e-mail that is being sent when its password ends is withdrawn once its attempt has failed.
pub const SECRETS_WITHDRAWN: Check = Check {
    name: "e-mails: those of passwords alone carry one, and end with it if not sent yet",
    sql: "
        SELECT concat_ws('/', account, id) AS what,
               (secret_state <> 'NONE') <> (template IN ('license-activated', 'password-changed'))
               OR (secret_state = 'ERASED' AND state = 'QUEUED'
                   AND greatest(next_attempt_at, lease_expires_at) < clock_timestamp() - interval '10 minutes') AS broken
        FROM notification.email",
};

// The settings must be changed: sender, authentication or relaying. The server's reply is printed with it.
pub const TURNED_AWAY: Check = Check {
    name: "e-mails: none waits because the mail server refuses us",
    sql: "
        SELECT format('%s/%s (%s)', account, id, left(last_error, 120)) AS what, turned_away AS broken
        FROM notification.email WHERE state = 'QUEUED'",
};
