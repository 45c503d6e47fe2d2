//! "Delete a licence in a group": it goes at once, and what was consumed is invoiced at the month's end.

use octroi_api::licensing::v1::{
    DeleteLicenseRequest, License, ListLicensesRequest, UpdateLicenseRequest, license,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, Installation, amount, request_id,
};
use prost_types::FieldMask;
use tonic::{Code, Response, Status};

#[tokio::test]
async fn it_goes_at_once_and_for_good() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 300)]).await;
    let address = acme.activates("office", 7, "sales").await.activation_email;
    let session = acme.signs_in(&address, CHOSEN).await.got();
    let gone = deletes(&acme, 7, "").await.got();
    assert_eq!(gone.state(), license::State::Deleted);
    assert!(gone.delete_time.is_some() && gone.user.is_none() && gone.activation_email.is_empty());
    assert_eq!(acme.license("office", 7).await, gone);
    let user = acme.by.with_session(&session.session_token);
    let refused = user
        .portal()
        .list_installers(octroi_api::licensing::v1::ListInstallersRequest {})
        .await
        .refused();
    refused.is(Code::Unauthenticated, "SESSION_INVALID");
    acme.signs_in(&address, CHOSEN)
        .await
        .refused()
        .is(Code::Unauthenticated, "SIGN_IN_FAILED");

    let refused = deletes(&acme, 7, "").await.refused();
    refused.is(Code::FailedPrecondition, "LICENSE_DELETED");
    let again = acme.activation("office", 7, "sales");
    let refused = acme.by.licenses().activate_license(again).await.refused();
    refused.is(Code::FailedPrecondition, "LICENSE_DELETED");
    let refused = deletes(&acme, 8, "12345").await.refused();
    refused.is(Code::Aborted, "ETAG_MISMATCH");
    // Its address is free, and its place; its number is not.
    acme.activates("office", 8, "sales").await;
    let refused = acme
        .asks_for_more("two", "office", &[(BUSINESS, 2)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "LICENSE_LIMIT_REACHED");
    acme.buys_more("one", "office", &[(BUSINESS, 1)]).await;
    assert_eq!(
        acme.license("office", 301).await.state(),
        license::State::Unassigned
    );
    assert_eq!(acme.group("office").await.offers[0].licenses, 300);

    assert_eq!(listed(&acme, false).await.len(), 300);
    let all = listed(&acme, true).await;
    assert_eq!(all.len(), 301);
    assert_eq!(all[6], gone);
    octroi.finish().await;
}

#[tokio::test]
async fn what_was_consumed_is_invoiced() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    acme.activates("office", 1, "sales").await;
    acme.activates("office", 2, "night").await;
    octroi.advance_to("2026-02-10T08:00:00Z").await;
    deletes(&acme, 1, "").await.got();
    deletes(&acme, 2, "").await.got();
    // A licence that nobody used costs nothing, deleted or not.
    deletes(&acme, 3, "").await.got();
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let invoices = acme.invoices().await;
    assert_eq!(invoices[0].lines[0].quantity, 2);
    assert_eq!(amount(invoices[0].net.as_ref()), "19.98 EUR");
    octroi.advance_to("2026-04-02T08:00:00Z").await;
    let run = octroi.bills("2026-03").await;
    assert_eq!((run.invoices, run.skipped), (0, 1));
    assert_eq!(acme.invoices().await.len(), 1);
    octroi.finish().await;
}

/// A licence can be marked to go when its group renews, and the mark taken back.
#[tokio::test]
async fn at_renewal() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    acme.activates("office", 1, "sales").await;
    for number in 1..=3 {
        assert!(marks(&acme, number, true).await.delete_at_renewal);
    }
    assert!(!marks(&acme, 3, false).await.delete_at_renewal);
    // Other changes do not discard what is scheduled.
    acme.buys_more("more", "office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 2, "night").await;
    octroi.advance_to("2026-03-01T22:00:00Z").await;
    assert_eq!(
        acme.license("office", 1).await.state(),
        license::State::Active
    );
    octroi.advance_to("2026-03-02T00:00:00Z").await;
    for number in 1..=4 {
        let state = acme.license("office", number).await.state();
        let expected = match number {
            1 | 2 => license::State::Deleted,
            _ => license::State::Unassigned,
        };
        assert_eq!(state, expected, "licence {number}");
    }
    assert_eq!(acme.group("office").await.offers[0].licenses, 2);
    octroi.finish().await;
}

async fn deletes(acme: &Customer, number: i32, etag: &str) -> Result<Response<License>, Status> {
    let request = DeleteLicenseRequest {
        name: acme.license_name("office", number),
        etag: etag.to_owned(),
        request_id: request_id(),
    };
    acme.by.licenses().delete_license(request).await
}

async fn marks(acme: &Customer, number: i32, delete_at_renewal: bool) -> License {
    let request = UpdateLicenseRequest {
        license: Some(License {
            name: acme.license_name("office", number),
            delete_at_renewal,
            ..License::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["delete_at_renewal".to_owned()],
        }),
        ..UpdateLicenseRequest::default()
    };
    acme.by.licenses().update_license(request).await.got()
}

async fn listed(acme: &Customer, show_deleted: bool) -> Vec<License> {
    let request = ListLicensesRequest {
        parent: acme.group_name("office"),
        page_size: 1000,
        show_deleted,
        ..ListLicensesRequest::default()
    };
    acme.by
        .licenses()
        .list_licenses(request)
        .await
        .got()
        .licenses
}
