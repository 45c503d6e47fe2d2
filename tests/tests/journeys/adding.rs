//! "Add a licence to an existing group": more licences, of any offer, in the group that there is.

use octroi_api::licensing::v1::{
    ListLicenseGroupsRequest, NewLicenseGroup, Order, UpdateLicenseGroupRequest, license,
};
use octroi_tests::harness::{
    Answer as _, BUSINESS, ENTERPRISE, Installation, lines, new_group, request_id,
};
use prost_types::FieldMask;
use tonic::Code;

#[tokio::test]
async fn groups_may_mix_offers() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    acme.buys_more("o2", "office", &[(ENTERPRISE, 1), (BUSINESS, 1)])
        .await;
    let group = acme.group("office").await;
    let seats: Vec<_> = group
        .offers
        .iter()
        .map(|it| (it.offer.as_str(), it.licenses))
        .collect();
    assert_eq!(seats, [(BUSINESS, 3), (ENTERPRISE, 1)]);
    let offers = [BUSINESS, BUSINESS, ENTERPRISE, BUSINESS];
    for (number, offer) in (1..).zip(offers) {
        let license = acme.license("office", number).await;
        assert_eq!(
            (license.offer.as_str(), license.state()),
            (offer, license::State::Unassigned)
        );
    }
    acme.receives("order-completed", 2).await;
    let listed = ListLicenseGroupsRequest {
        parent: acme.name(),
        ..ListLicenseGroupsRequest::default()
    };
    let groups = acme
        .by
        .groups()
        .list_license_groups(listed)
        .await
        .got()
        .license_groups;
    assert_eq!(groups, [acme.group("office").await]);
    octroi.finish().await;
}

#[tokio::test]
async fn only_to_a_group_that_is_open() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 2)]).await;
    let other = octroi.customer("other").await;
    let elsewhere = octroi_api::licensing::v1::CreateOrderRequest {
        parent: other.name(),
        order: Some(Order {
            license_group: acme.group_name("office"),
            lines: lines(&[(BUSINESS, 1)]),
            ..Order::default()
        }),
        ..Default::default()
    };
    let refused = other.by.orders().create_order(elsewhere).await.refused();
    refused.names(&["order.license_group"]);
    acme.asks_for_more("early", "office", &[(BUSINESS, 1)])
        .await
        .got();
    let suspend = "UPDATE licensing.license_group SET state = 'SUSPENDED'";
    octroi.sql.execute(suspend, &[]).await.unwrap();
    let refused = acme
        .asks_for_more("o2", "office", &[(BUSINESS, 1)])
        .await
        .refused();
    refused.is(Code::FailedPrecondition, "GROUP_SUSPENDED");
    let refused = acme.pays("early").await.refused();
    refused.is(Code::FailedPrecondition, "GROUP_SUSPENDED");
    let request = acme.activation("office", 1, "sales");
    let refused = acme.by.licenses().activate_license(request).await.refused();
    refused.is(Code::FailedPrecondition, "GROUP_SUSPENDED");
    let resume = "UPDATE licensing.license_group SET state = 'ACTIVE'";
    octroi.sql.execute(resume, &[]).await.unwrap();
    acme.pays("early").await.got();
    assert_eq!(acme.group("office").await.offers[0].licenses, 3);
    octroi.finish().await;
}

/// The group itself: its name and whether it renews.
#[tokio::test]
async fn a_group_is_changed() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let group = NewLicenseGroup {
        display_name: String::new(),
        ..new_group("office")
    };
    acme.asks_for("o1", group, &[(BUSINESS, 1)]).await.got();
    acme.pays("o1").await.got();
    let mut group = acme.group("office").await;
    assert_eq!(
        (group.display_name.as_str(), group.auto_renew),
        ("office", Some(true))
    );
    group.display_name = "Head office".to_owned();
    group.auto_renew = Some(false);
    let change = |paths: &[&str]| UpdateLicenseGroupRequest {
        license_group: Some(group.clone()),
        update_mask: Some(FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        request_id: request_id(),
    };
    let mut groups = acme.by.groups();
    let changed = groups
        .update_license_group(change(&["display_name"]))
        .await
        .got();
    assert_eq!(
        (changed.display_name.as_str(), changed.auto_renew),
        ("Head office", Some(true))
    );
    let refused = groups
        .update_license_group(change(&["auto_renew"]))
        .await
        .refused();
    refused.is(Code::Aborted, "ETAG_MISMATCH");
    let refused = groups
        .update_license_group(change(&["renewal_period"]))
        .await
        .refused();
    refused.names(&["update_mask"]);
    let refused = groups.update_license_group(change(&[])).await.refused();
    refused.names(&["update_mask"]);
    group.etag = changed.etag;
    let change = UpdateLicenseGroupRequest {
        license_group: Some(group),
        update_mask: Some(FieldMask {
            paths: vec!["auto_renew".to_owned()],
        }),
        ..UpdateLicenseGroupRequest::default()
    };
    assert_eq!(
        groups.update_license_group(change).await.got().auto_renew,
        Some(false)
    );
    octroi.finish().await;
}
