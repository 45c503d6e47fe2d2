//! Rows that background work cannot work off: each holds up itself alone.

use octroi_tests::harness::{Answer as _, BUSINESS, Installation, eventually, new_group};

/// Of two customers' overdue orders and old passwords those of one cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_worked_off_holds_up_nothing_else() {
    let octroi = Installation::start().await;
    for id in ["bad", "good"] {
        let customer = octroi.customer(id).await;
        customer.buys("office", &[(BUSINESS, 1)]).await;
        customer.activates_generated("office", 1, "sales").await;
        customer.receives("license-activated", 1).await;
        let unpaid = customer.asks_for("unpaid", new_group("annex"), &[(BUSINESS, 1)]);
        unpaid.await.got();
    }
    let poison = "
        CREATE FUNCTION licensing.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON licensing.license_order
            FOR EACH ROW WHEN (NEW.account = 'bad') EXECUTE FUNCTION licensing.refuse();
        CREATE FUNCTION notification.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON notification.email
            FOR EACH ROW WHEN (NEW.account = 'bad' AND NEW.secret_state = 'ERASED')
            EXECUTE FUNCTION notification.refuse()";
    octroi.sql.batch_execute(poison).await.unwrap();
    octroi.advance_to("2026-02-10T08:00:00Z").await;
    let states = "
        SELECT o.account, o.state, e.secret_state FROM licensing.license_order o
        JOIN notification.email e ON e.account = o.account AND e.secret_state <> 'NONE'
        WHERE o.order_id = 'unpaid' ORDER BY o.account";
    let rows = async || {
        let rows = octroi.sql.query(states, &[]).await.unwrap();
        let row = |row: &tokio_postgres::Row| [0, 1, 2].map(|at| row.get::<_, String>(at));
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let waiting = ["bad", "AWAITING_PAYMENT", "READABLE"].map(str::to_owned);
    let done = ["good", "EXPIRED", "ERASED"].map(str::to_owned);
    eventually("the good ones are worked off", async || {
        (rows().await == [waiting.clone(), done.clone()]).then_some(())
    })
    .await;
    let heal =
        "DROP FUNCTION licensing.refuse() CASCADE; DROP FUNCTION notification.refuse() CASCADE";
    octroi.sql.batch_execute(heal).await.unwrap();
    // What failed is tried again after a while, and at each step of the clock.
    octroi.advance_to("2026-02-10T09:00:00Z").await;
    eventually("the others are worked off as well", async || {
        rows()
            .await
            .iter()
            .all(|row| row[1..] == done[1..])
            .then_some(())
    })
    .await;
    octroi.finish().await;
}

/// An e-mail whose row cannot be read is put back, and others are sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_e_mail_that_cannot_be_read_holds_up_no_other() {
    let octroi = Installation::start().await;
    let bad = octroi.customer("bad").await;
    bad.buys("office", &[(BUSINESS, 1)]).await;
    bad.activates("office", 1, "sales").await;
    let spoil = "
        UPDATE notification.email SET template = 'spoilt', state = 'QUEUED', sent_at = NULL,
            next_attempt_at = now() - interval '1 day'
        WHERE template = 'license-activated' AND state = 'SENT'";
    eventually("what was sent is spoilt and queued again", async || {
        (octroi.sql.execute(spoil, &[]).await.unwrap() == 1).then_some(())
    })
    .await;
    let good = octroi.customer("good").await;
    good.buys("office", &[(BUSINESS, 1)]).await;
    good.activates("office", 1, "sales").await;
    good.receives("license-activated", 1).await;
    let put_back = "
        SELECT last_error FROM notification.email
        WHERE template = 'spoilt' AND next_attempt_at > now()";
    let told = eventually("it is put back", async || {
        let row = octroi.sql.query_opt(put_back, &[]).await.unwrap();
        row.map(|row| row.get::<_, String>(0))
    })
    .await;
    assert!(told.contains("email.parameters"), "{told}");
    let heal = "
        UPDATE notification.email SET template = 'license-activated', next_attempt_at = now()
        WHERE template = 'spoilt'";
    assert_eq!(octroi.sql.execute(heal, &[]).await.unwrap(), 1);
    let sent = "
        SELECT FROM notification.email
        WHERE account = 'bad' AND template = 'license-activated' AND state = 'SENT'";
    eventually("it is sent", async || {
        octroi.sql.query_opt(sent, &[]).await.unwrap()
    })
    .await;
    octroi.finish().await;
}
