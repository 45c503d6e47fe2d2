//! "Terminate the group": with reasons, at once or at the end of its period.

use octroi_api::licensing::v1::{
    CancelOrderRequest, CancelTerminationRequest, LicenseGroup, TerminateLicenseGroupRequest,
    TerminationReason, UpdateLicenseGroupRequest, license, license_group, order,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, CHOSEN, Customer, Installation, ServiceName, amount, eventually,
    instant, request_id,
};
use prost_types::FieldMask;
use tonic::{Code, Response, Status};

#[tokio::test]
async fn not_without_a_reason() {
    let octroi = Installation::start().await;
    let acme = office(&octroi).await;
    let terminate = |reasons: Vec<i32>, comment: &str| TerminateLicenseGroupRequest {
        reasons,
        comment: comment.to_owned(),
        ..leaving(&acme)
    };
    let mut groups = acme.by.groups();
    let refused = groups
        .terminate_license_group(terminate(vec![], ""))
        .await
        .refused();
    refused.names(&["reasons"]);
    let refused = groups
        .terminate_license_group(terminate(vec![0], ""))
        .await
        .refused();
    refused.names(&["reasons[0]"]);
    let refused = groups
        .terminate_license_group(terminate(vec![99, 14], " "))
        .await
        .refused();
    refused.names(&["reasons[0]", "comment"]);
    let long = TerminateLicenseGroupRequest {
        future_use: "x".repeat(1001),
        ..terminate(vec![1], &"x".repeat(1001))
    };
    let refused = groups.terminate_license_group(long).await.refused();
    refused.names(&["future_use", "comment"]);
    assert_eq!(
        acme.group("office").await.state(),
        license_group::State::Active
    );
    let gone = groups
        .terminate_license_group(terminate(vec![14], "we moved"))
        .await
        .got();
    assert_eq!(gone.state(), license_group::State::Terminated);
    octroi.finish().await;
}

#[tokio::test]
async fn at_once() {
    let octroi = Installation::start().await;
    let acme = office(&octroi).await;
    let address = acme.activates("office", 1, "sales").await.activation_email;
    acme.signs_in(&address, CHOSEN).await.got();
    acme.asks_for_more("unpaid", "office", &[(BUSINESS, 5)])
        .await
        .got();
    octroi.advance_to("2026-02-10T08:00:00Z").await;
    acme.asks_for_more("unpaid2", "office", &[(BUSINESS, 5)])
        .await
        .got();
    let request = TerminateLicenseGroupRequest {
        reasons: vec![
            TerminationReason::TooExpensive.into(),
            TerminationReason::Competitor.into(),
        ],
        future_use: "pen and paper".to_owned(),
        comment: "farewell".to_owned(),
        etag: acme.group("office").await.etag,
        ..leaving(&acme)
    };
    let gone = acme
        .by
        .groups()
        .terminate_license_group(request.clone())
        .await
        .got();
    assert_eq!(gone.state(), license_group::State::Terminated);
    let termination = gone.termination.clone().unwrap();
    assert_eq!(termination.reasons, request.reasons);
    assert_eq!(
        (
            termination.future_use.as_str(),
            termination.comment.as_str()
        ),
        ("pen and paper", "farewell")
    );
    assert_eq!(termination.effective_time, termination.request_time);
    for number in 1..=3 {
        assert_eq!(
            acme.license("office", number).await.state(),
            license::State::Deleted
        );
    }
    assert_eq!(acme.order("unpaid2").await.state(), order::State::Cancelled);
    acme.signs_in(&address, CHOSEN)
        .await
        .refused()
        .is(Code::Unauthenticated, "SIGN_IN_FAILED");
    acme.receives("group-terminated", 1).await;

    // Nothing more can be done with it.
    let again = TerminateLicenseGroupRequest {
        etag: String::new(),
        request_id: String::new(),
        ..request
    };
    let refusals = [
        acme.by
            .groups()
            .terminate_license_group(again)
            .await
            .refused(),
        cancels(&acme).await.refused(),
        acme.asks_for_more("o2", "office", &[(BUSINESS, 1)])
            .await
            .refused(),
        renames(&acme).await.refused(),
    ];
    for refused in refusals {
        refused.is(Code::FailedPrecondition, "GROUP_TERMINATED");
    }
    let activation = acme.activation("office", 2, "night");
    let refused = acme
        .by
        .licenses()
        .activate_license(activation)
        .await
        .refused();
    assert!(
        ["GROUP_TERMINATED", "LICENSE_DELETED"].contains(&refused.reason.as_str()),
        "{refused:?}"
    );

    // The month's consumption is still invoiced at its end.
    octroi.advance_to("2026-03-02T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let invoices = acme.invoices().await;
    assert_eq!(amount(invoices[0].net.as_ref()), "9.99 EUR");
    assert_eq!(invoices[0].lines[0].days.len(), 9, "2 to 10 February");
    octroi.finish().await;
}

#[tokio::test]
async fn at_the_end_of_its_period() {
    let octroi = Installation::start().await;
    let acme = office(&octroi).await;
    acme.activates("office", 1, "sales").await;
    let refused = cancels(&acme).await.refused();
    refused.is(Code::FailedPrecondition, "NO_TERMINATION_SCHEDULED");
    let request = TerminateLicenseGroupRequest {
        at_period_end: true,
        reasons: vec![TerminationReason::NotNeeded.into()],
        ..leaving(&acme)
    };
    let leaving = acme
        .by
        .groups()
        .terminate_license_group(request.clone())
        .await
        .got();
    assert_eq!(leaving.state(), license_group::State::Active);
    let end = leaving.period_end_time;
    assert_eq!(leaving.termination.unwrap().effective_time, end);
    let twice = TerminateLicenseGroupRequest {
        request_id: String::new(),
        ..request.clone()
    };
    let refused = acme
        .by
        .groups()
        .terminate_license_group(twice.clone())
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "TERMINATION_SCHEDULED");
    let stays = cancels(&acme).await.got();
    assert_eq!(stays.termination, None);
    acme.by.groups().terminate_license_group(twice).await.got();
    // Until then everything goes on.
    acme.activates("office", 2, "night").await;
    octroi.advance_to("2026-03-01T22:30:00Z").await;
    assert_eq!(
        acme.license("office", 1).await.state(),
        license::State::Active
    );
    octroi.advance_to("2026-03-03T08:00:00Z").await;
    let gone = acme.group("office").await;
    assert_eq!(gone.state(), license_group::State::Terminated);
    assert_eq!(gone.termination.unwrap().effective_time, end);
    let license = acme.license("office", 1).await;
    assert_eq!(
        (license.state(), license.delete_time),
        (license::State::Deleted, end)
    );
    acme.receives("group-terminated", 1).await;
    assert_eq!(
        instant(end).to_string(),
        "2026-03-01T23:00:00Z",
        "midnight in Paris"
    );
    octroi.finish().await;
}

/// An order that is being paid must come to its end first.
#[tokio::test]
async fn not_while_an_order_is_being_paid() {
    let mut octroi = Installation::start().await;
    let acme = office(&octroi).await;
    acme.asks_for_more("o2", "office", &[(BUSINESS, 1)])
        .await
        .got();
    octroi.stop(ServiceName::Billing).await;
    let refused = acme.pays("o2").await.refused();
    refused.is(Code::Unavailable, "PAYMENT_PROCESSING");
    assert_eq!(acme.order("o2").await.state(), order::State::Paying);
    assert_eq!(acme.group("office").await.offers[0].reserved, 1);
    let request = TerminateLicenseGroupRequest {
        reasons: vec![TerminationReason::NoAnswer.into()],
        ..leaving(&acme)
    };
    let refused = acme
        .by
        .groups()
        .terminate_license_group(request.clone())
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "ORDER_IN_PROGRESS");
    let cancel = CancelOrderRequest {
        name: acme.order_name("o2"),
        ..CancelOrderRequest::default()
    };
    let refused = acme.by.orders().cancel_order(cancel).await.refused();
    refused.is(Code::FailedPrecondition, "ORDER_STATE");
    assert_eq!(refused.metadata["state"], "PAYING");
    octroi.restart(ServiceName::Billing).await;
    eventually("the order completes by itself", async || {
        (acme.order("o2").await.state() == order::State::Completed).then_some(())
    })
    .await;
    acme.by
        .groups()
        .terminate_license_group(request)
        .await
        .got();
    octroi.finish().await;
}

/// A customer with three licences in a group "office".
async fn office(octroi: &Installation) -> Customer {
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 3)]).await;
    acme
}

fn leaving(acme: &Customer) -> TerminateLicenseGroupRequest {
    TerminateLicenseGroupRequest {
        name: acme.group_name("office"),
        request_id: request_id(),
        ..TerminateLicenseGroupRequest::default()
    }
}

async fn cancels(acme: &Customer) -> Result<Response<LicenseGroup>, Status> {
    let request = CancelTerminationRequest {
        name: acme.group_name("office"),
        ..CancelTerminationRequest::default()
    };
    acme.by.groups().cancel_termination(request).await
}

async fn renames(acme: &Customer) -> Result<Response<LicenseGroup>, Status> {
    let request = UpdateLicenseGroupRequest {
        license_group: Some(LicenseGroup {
            name: acme.group_name("office"),
            display_name: "Elsewhere".to_owned(),
            ..LicenseGroup::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["display_name".to_owned()],
        }),
        ..UpdateLicenseGroupRequest::default()
    };
    acme.by.groups().update_license_group(request).await
}
