//! Notification is killed while it sends many e-mails.

use std::collections::BTreeSet;

use octroi_tests::harness::{BUSINESS, ServiceName, eventually};
use uuid::Uuid;

use crate::services::Services;
use crate::stored::{converged, end_leases};

use ServiceName::Notification;

/// What waits.
const MANY: usize = 400;
/// How many e-mails are sent at the same time: each may have been taken without that being known.
const AT_ONCE: usize = 12;

/// Each is sent, and twice at most what the mail server may have taken when the process died.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_repeats_no_more_than_was_being_sent() {
    let mut octroi = Services::prepare().await;
    octroi.start_all().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    converged(&octroi.sql).await;
    let before = octroi.mail.letters().len();
    let queue = format!(
        "INSERT INTO notification.email (account, id, event, effective_at, template, parameters, message_id, state,
             license, secret_state)
         SELECT account, md5(g::text)::uuid, md5(g::text)::uuid, effective_at, template, parameters,
                '<' || g || '@octroi.test>', 'QUEUED', '', 'NONE'
         FROM notification.email, generate_series(1, {MANY}) g WHERE template = 'order-completed'"
    );
    octroi.sql.batch_execute(&queue).await.unwrap();
    eventually("some are sent", async || {
        (octroi.mail.letters().len() > before + MANY / 8).then_some(())
    })
    .await;
    octroi.kill(Notification).await;
    let taken = octroi.mail.letters().len() - before;
    assert!(taken < MANY, "it was killed too late to show anything");
    end_leases(&octroi.sql, Uuid::now_v7(), &[Notification]).await;
    octroi.starts(Notification).await;
    converged(&octroi.sql).await;
    let letters = octroi.mail.letters().split_off(before);
    let each: BTreeSet<_> = letters.iter().map(|it| it.header("Message-ID")).collect();
    assert_eq!(each.len(), MANY);
    let twice = letters.len() - each.len();
    assert!(twice <= AT_ONCE, "{twice} were sent twice");
    for service in ServiceName::ALL {
        octroi.stop(service).await;
    }
}
