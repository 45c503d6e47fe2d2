//! "Define the renewal frequency": periods that roll at their end, or end with it.

use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_api::licensing::v1::{NewLicenseGroup, license, license_group};
use octroi_tests::harness::{Answer as _, BUSINESS, Customer, Installation, instant, new_group};
use prost_types::FieldMask;

/// Ends are counted from the first date: clamped to a month's end, and never drifting.
#[tokio::test]
async fn periods_roll() {
    let octroi = Installation::start_at("2026-01-31T08:00:00Z").await;
    let acme = octroi.customer("acme").await;
    for (id, renewal_period) in [("month", "P1M"), ("quarter", "P3M"), ("year", "P1Y")] {
        let group = NewLicenseGroup {
            renewal_period: renewal_period.to_owned(),
            ..new_group(id)
        };
        acme.asks_for(id, group, &[(BUSINESS, 1)]).await.got();
        acme.pays(id).await.got();
    }
    let first = ("2026-01-30T23:00:00Z", "2026-02-27T23:00:00Z");
    assert_eq!(period(&acme, "month").await, owned(first));
    let quarter = ("2026-01-30T23:00:00Z", "2026-04-29T22:00:00Z");
    assert_eq!(period(&acme, "quarter").await, owned(quarter));
    let year = ("2026-01-30T23:00:00Z", "2027-01-30T23:00:00Z");
    assert_eq!(period(&acme, "year").await, owned(year));
    let etag = acme.group("month").await.etag;
    octroi.advance_to("2026-02-28T00:00:00Z").await;
    let second = ("2026-02-27T23:00:00Z", "2026-03-30T22:00:00Z");
    assert_eq!(period(&acme, "month").await, owned(second));
    assert_ne!(acme.group("month").await.etag, etag);
    // In April the clocks have changed, and the month has thirty days.
    octroi.advance_to("2026-03-31T08:00:00Z").await;
    let third = ("2026-03-30T22:00:00Z", "2026-04-29T22:00:00Z");
    assert_eq!(period(&acme, "month").await, owned(third));
    octroi.advance_to("2026-05-02T08:00:00Z").await;
    let fourth = ("2026-04-29T22:00:00Z", "2026-05-30T22:00:00Z");
    assert_eq!(period(&acme, "month").await, owned(fourth));
    let quarter = ("2026-04-29T22:00:00Z", "2026-07-30T22:00:00Z");
    assert_eq!(period(&acme, "quarter").await, owned(quarter));
    octroi.finish().await;
}

/// A group that is not to renew ends at the end of its period, and nobody is asked why.
#[tokio::test]
async fn or_end() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let group = NewLicenseGroup {
        auto_renew: Some(false),
        ..new_group("office")
    };
    acme.asks_for("o1", group, &[(BUSINESS, 2)]).await.got();
    acme.pays("o1").await.got();
    acme.activates("office", 1, "sales").await;
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    let gone = acme.group("office").await;
    assert_eq!(gone.state(), license_group::State::Terminated);
    let termination = gone.termination.unwrap();
    assert_eq!(termination.reasons, [] as [i32; 0]);
    assert_eq!(termination.effective_time, gone.period_end_time);
    assert_eq!(
        acme.license("office", 1).await.state(),
        license::State::Deleted
    );
    octroi.bills("2026-02").await;
    assert_eq!(acme.invoices().await[0].lines[0].quantity, 1);
    octroi.finish().await;
}

/// A new time zone changes no period that runs: it governs from the end of the month on, and every later end is at
/// midnight there.
#[tokio::test]
async fn an_account_moves_to_another_zone() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    octroi.advance_to("2026-02-10T08:00:00Z").await;
    let moved = UpdateAccountRequest {
        account: Some(Account {
            name: acme.name(),
            time_zone: "America/New_York".to_owned(),
            ..Account::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["time_zone".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    acme.by.accounts().update_account(moved).await.got();
    octroi.drained().await;
    let first = ("2026-02-01T23:00:00Z", "2026-03-01T23:00:00Z");
    assert_eq!(period(&acme, "office").await, owned(first));
    // In February days are still those of Paris, where it is the 20th.
    octroi.advance_to("2026-02-20T02:00:00Z").await;
    acme.buys("branch", &[(BUSINESS, 1)]).await;
    let first = ("2026-02-19T23:00:00Z", "2026-03-20T04:00:00Z");
    assert_eq!(period(&acme, "branch").await, owned(first));
    octroi.advance_to("2026-03-03T00:00:00Z").await;
    let second = ("2026-03-01T23:00:00Z", "2026-04-02T04:00:00Z");
    assert_eq!(period(&acme, "office").await, owned(second));
    octroi.advance_to("2026-04-02T03:00:00Z").await;
    assert_eq!(period(&acme, "office").await, owned(second));
    octroi.advance_to("2026-04-02T05:00:00Z").await;
    let third = ("2026-04-02T04:00:00Z", "2026-05-02T04:00:00Z");
    assert_eq!(period(&acme, "office").await, owned(third));
    let second = ("2026-03-20T04:00:00Z", "2026-04-20T04:00:00Z");
    assert_eq!(period(&acme, "branch").await, owned(second));
    octroi.finish().await;
}

async fn period(acme: &Customer, group: &str) -> (String, String) {
    let group = acme.group(group).await;
    (
        instant(group.period_start_time).to_string(),
        instant(group.period_end_time).to_string(),
    )
}

fn owned((start, end): (&str, &str)) -> (String, String) {
    (start.to_owned(), end.to_owned())
}
