//! "Define the renewal frequency", late: what the end of a period brings holds from that very instant, however late it
//! is worked off.

use octroi_api::licensing::v1::{
    ChangePasswordRequest, DeleteLicenseRequest, License, LicenseGroup, NewLicenseGroup,
    ReleaseLicenseRequest, UpdateLicenseGroupRequest, UpdateLicenseRequest, license, license_group,
    order,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, Installation, Refused, ServiceName, eventually,
    instant, new_group,
};
use prost_types::FieldMask;
use tonic::{Code, Response, Status};

use crate::paying::setup_fee;

/// The end of the period that begins with every test here: midnight in Paris.
const END: &str = "2026-03-01T23:00:00Z";

/// Between the end of a period and its work a licence can neither be marked nor spared, nor used on.
#[tokio::test]
async fn a_mark_is_for_the_next_renewal_alone() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    let stays = acme.activates("office", 1, "sales").await.activation_email;
    let goes = acme.activates("office", 2, "night").await.activation_email;
    marks(&acme, 2, true).await.got();
    let hold = "CREATE FUNCTION licensing.not_now() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN RAISE EXCEPTION ''not now''; END';
                CREATE TRIGGER not_now BEFORE UPDATE OF period ON licensing.license_group
                FOR EACH ROW WHEN (old.period <> new.period) EXECUTE FUNCTION licensing.not_now()";
    octroi.sql.batch_execute(hold).await.unwrap();
    octroi.advance_to("2026-03-02T00:00:00Z").await;
    assert_eq!(end(&acme).await, END, "not worked off");

    let activation = acme.activation("office", 3, "day");
    let refusals = [
        marks(&acme, 1, true).await.refused(),
        marks(&acme, 2, false).await.refused(),
        releases(&acme, 1).await.refused(),
        deletes(&acme, 2).await.refused(),
        changes_password(&acme, 1).await.refused(),
        acme.by
            .licenses()
            .activate_license(activation)
            .await
            .refused(),
        acme.signs_in(&goes, CHOSEN).await.refused(),
    ];
    for refused in refusals {
        refused.is(Code::Aborted, "CONFLICT");
    }
    // Who stays is not kept out.
    acme.signs_in(&stays, CHOSEN).await.got();

    let free = "DROP TRIGGER not_now ON licensing.license_group";
    octroi.sql.batch_execute(free).await.unwrap();
    octroi.advance_to("2026-03-02T01:00:00Z").await;
    let kept = acme.license("office", 1).await;
    assert_eq!(
        (kept.state(), kept.delete_at_renewal),
        (license::State::Active, false)
    );
    let gone = acme.license("office", 2).await;
    assert_eq!(gone.state(), license::State::Deleted);
    assert_eq!(instant(gone.delete_time).to_string(), END);
    marks(&acme, 1, true).await.got();
    octroi.advance_to("2026-04-03T00:00:00Z").await;
    assert_eq!(
        acme.license("office", 1).await.state(),
        license::State::Deleted
    );
    octroi.finish().await;
}

/// An order being paid delays the end of a group that does not renew, but does not make it last longer: nothing is used
/// after it that nobody pays for.
#[tokio::test]
async fn an_order_being_paid_over_the_end() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 2_50).await;
    let acme = octroi.customer("acme").await;
    let group = NewLicenseGroup {
        auto_renew: Some(false),
        ..new_group("office")
    };
    acme.asks_for("o1", group, &[(BUSINESS, 2)]).await.got();
    acme.pays("o1").await.got();
    let address = acme.activates("office", 1, "sales").await.activation_email;
    octroi.advance_to("2026-03-01T12:00:00Z").await;
    acme.asks_for_more("o2", "office", &[(BUSINESS, 1)])
        .await
        .got();
    acme.asks_for_more("o3", "office", &[(BUSINESS, 1)])
        .await
        .got();
    let refused = acme.pays_by("o2", "test-processing").await.refused();
    refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    let next_try = async |at: &str| {
        let sql = format!(
            "UPDATE licensing.payment_attempt SET next_try_at = {at} WHERE outcome IS NULL"
        );
        octroi.sql.execute(&sql, &[]).await.unwrap();
    };
    next_try("now() + interval '1 hour'").await;
    octroi.advance_to("2026-03-02T00:00:00Z").await;
    assert_eq!(acme.order("o2").await.state(), order::State::Paying);
    assert_eq!(
        acme.group("office").await.state(),
        license_group::State::Active
    );

    let activation = acme.activation("office", 2, "night");
    let refusals = [
        acme.by
            .licenses()
            .activate_license(activation)
            .await
            .refused(),
        marks(&acme, 1, true).await.refused(),
        releases(&acme, 1).await.refused(),
        deletes(&acme, 1).await.refused(),
        acme.signs_in(&address, CHOSEN).await.refused(),
        acme.pays("o3").await.refused(),
        acme.asks_for_more("o4", "office", &[(BUSINESS, 1)])
            .await
            .refused(),
        renews(&acme).await,
    ];
    for refused in refusals {
        refused.is(Code::FailedPrecondition, "GROUP_TERMINATED");
    }

    next_try("now()").await;
    eventually("the order completes and the group ends", async || {
        let ended = acme.group("office").await.state() == license_group::State::Terminated;
        ended.then_some(())
    })
    .await;
    assert_eq!(acme.order("o2").await.state(), order::State::Completed);
    assert_eq!(acme.order("o3").await.state(), order::State::Cancelled);
    let termination = acme.group("office").await.termination.unwrap();
    assert_eq!(instant(termination.effective_time).to_string(), END);
    for number in 1..=3 {
        let gone = acme.license("office", number).await;
        assert_eq!(gone.state(), license::State::Deleted, "{number}");
    }
    let used = acme.license("office", 1).await;
    assert_eq!(instant(used.delete_time).to_string(), END);
    octroi.advance_to("2026-04-02T08:00:00Z").await;
    octroi.bills("2026-02").await;
    // The second month has one day, the first of March.
    octroi.bills("2026-03").await;
    let quantities: Vec<_> = acme
        .invoices()
        .await
        .iter()
        .filter(|invoice| !invoice.month.is_empty())
        .map(|invoice| {
            (
                invoice.month.clone(),
                invoice.lines[0].quantity,
                invoice.lines[0].days.len(),
            )
        })
        .collect();
    assert_eq!(
        quantities,
        [("2026-02".to_owned(), 1, 27), ("2026-03".to_owned(), 1, 1)]
    );
    octroi.finish().await;
}

/// Licensing is down over the ends of two periods: when it is back, each is worked off as of its own instant.
#[tokio::test]
async fn licensing_is_down_over_the_end() {
    let mut octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let group = NewLicenseGroup {
        auto_renew: Some(false),
        ..new_group("branch")
    };
    acme.asks_for("o1", group, &[(BUSINESS, 1)]).await.got();
    acme.pays("o1").await.got();
    for (group, number, login) in [
        ("office", 1, "sales"),
        ("office", 2, "night"),
        ("branch", 1, "day"),
    ] {
        acme.activates(group, number, login).await;
    }
    marks(&acme, 2, true).await.got();
    octroi.drained().await;

    octroi.stop(ServiceName::Licensing).await;
    // A step of the clock waits for every service, so it is moved by hand: by seventy days.
    let move_on =
        "UPDATE testing.clock SET offset_micros = offset_micros + 70 * 86400000000::bigint";
    octroi.sql.execute(move_on, &[]).await.unwrap();
    octroi.restart(ServiceName::Licensing).await;
    eventually("both periods are worked off", async || {
        let next = "2026-05-01T22:00:00Z";
        (end(&acme).await == next).then_some(())
    })
    .await;
    let gone = acme.license("office", 2).await;
    assert_eq!(gone.state(), license::State::Deleted);
    assert_eq!(instant(gone.delete_time).to_string(), END);
    assert_eq!(
        acme.license("office", 1).await.state(),
        license::State::Active
    );
    let branch = eventually("the other group ends", async || {
        let branch = acme.group("branch").await;
        (branch.state() == license_group::State::Terminated).then_some(branch)
    })
    .await;
    let effective = instant(branch.termination.unwrap().effective_time);
    assert_eq!(effective.to_string(), END);
    octroi.advance_to("2026-04-14T00:00:00Z").await;
    octroi.bills("2026-02").await;
    octroi.bills("2026-03").await;
    let told: Vec<Vec<_>> = acme
        .invoices()
        .await
        .iter()
        .map(|invoice| {
            let lines = invoice.lines.iter();
            lines.map(|line| (line.quantity, line.days.len())).collect()
        })
        .collect();
    // In March the marked licence and the other group have one day each, the first.
    assert_eq!(told, [[(1, 27), (2, 27)], [(1, 1), (2, 31)]]);
    octroi.finish().await;
}

/// However many groups cannot be worked off, the others are.
#[tokio::test]
async fn what_fails_does_not_hold_up_the_rest() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let stuck = "INSERT INTO licensing.license_group
                 SELECT (jsonb_populate_record(g, jsonb_build_object(
                     'group_id', 'stuck' || n, 'period_end', g.period_end - interval '1 hour'))).*
                 FROM licensing.license_group g, generate_series(1, 120) n;
                 CREATE FUNCTION licensing.never() RETURNS trigger LANGUAGE plpgsql
                 AS 'BEGIN RAISE EXCEPTION ''never''; END';
                 CREATE TRIGGER never BEFORE UPDATE ON licensing.license_group
                 FOR EACH ROW WHEN (old.group_id LIKE 'stuck%') EXECUTE FUNCTION licensing.never()";
    octroi.sql.batch_execute(stuck).await.unwrap();
    octroi.advance_to("2026-03-02T00:00:00Z").await;
    assert_eq!(end(&acme).await, "2026-04-01T22:00:00Z");
    let gone = "DELETE FROM licensing.license_group WHERE group_id LIKE 'stuck%'";
    octroi.sql.execute(gone, &[]).await.unwrap();
    octroi.finish().await;
}

async fn end(acme: &Customer) -> String {
    instant(acme.group("office").await.period_end_time).to_string()
}

async fn marks(
    acme: &Customer,
    number: i32,
    delete_at_renewal: bool,
) -> Result<Response<License>, Status> {
    let request = UpdateLicenseRequest {
        license: Some(License {
            name: acme.license_name("office", number),
            delete_at_renewal,
            ..License::default()
        }),
        update_mask: mask("delete_at_renewal"),
        ..UpdateLicenseRequest::default()
    };
    acme.by.licenses().update_license(request).await
}

async fn releases(acme: &Customer, number: i32) -> Result<Response<License>, Status> {
    let request = ReleaseLicenseRequest {
        name: acme.license_name("office", number),
        ..ReleaseLicenseRequest::default()
    };
    acme.by.licenses().release_license(request).await
}

async fn deletes(acme: &Customer, number: i32) -> Result<Response<License>, Status> {
    let request = DeleteLicenseRequest {
        name: acme.license_name("office", number),
        ..DeleteLicenseRequest::default()
    };
    acme.by.licenses().delete_license(request).await
}

async fn changes_password(acme: &Customer, number: i32) -> Result<Response<License>, Status> {
    let request = ChangePasswordRequest {
        name: acme.license_name("office", number),
        ..ChangePasswordRequest::default()
    };
    acme.by.licenses().change_password(request).await
}

async fn renews(acme: &Customer) -> Refused {
    let request = UpdateLicenseGroupRequest {
        license_group: Some(LicenseGroup {
            name: acme.group_name("office"),
            auto_renew: Some(true),
            ..LicenseGroup::default()
        }),
        update_mask: mask("auto_renew"),
        ..UpdateLicenseGroupRequest::default()
    };
    let mut groups = acme.by.groups();
    groups.update_license_group(request).await.refused()
}

fn mask(path: &str) -> Option<FieldMask> {
    Some(FieldMask {
        paths: vec![path.to_owned()],
    })
}
