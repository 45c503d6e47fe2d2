//! What clients of other makes see of what is hard to say: they take 8 KiB of headers and lose the call, or the whole
//! connection, over more.

use octroi_api::Method;
use octroi_api::billing::v1 as billing;
use octroi_api::licensing::v1 as licensing;
use octroi_tests::harness::{
    BUSINESS, Installation, Refused, ServiceName, StockClient, lines, new_group, server,
};
use prost::Message as _;
use prost_types::FieldMask;
use tonic::codegen::http::HeaderMap;
use tonic::{Code, Status};

/// The most that a refusal may weigh.
const HEAVIEST: usize = 6 * 1024;

/// A wrong request: which method's, its message, and how many bad fields it has.
type Wrong = (&'static str, Vec<u8>, usize);

fn mask(count: usize, path: impl Fn(usize) -> String) -> Option<FieldMask> {
    Some(FieldMask {
        paths: (0..count).map(path).collect(),
    })
}

fn wrong_updates() -> Vec<Wrong> {
    let account = |update_mask, bad| {
        let message = billing::UpdateAccountRequest {
            account: Some(billing::Account {
                name: "accounts/acme".to_owned(),
                ..billing::Account::default()
            }),
            update_mask,
            ..billing::UpdateAccountRequest::default()
        };
        let path = "/octroi.billing.v1.AccountService/UpdateAccount";
        (path, message.encode_to_vec(), bad)
    };
    let license = licensing::UpdateLicenseRequest {
        license: Some(licensing::License {
            name: "accounts/acme/licenseGroups/office/licenses/1".to_owned(),
            ..licensing::License::default()
        }),
        update_mask: mask(3000, |at| format!("no{at}")),
        ..licensing::UpdateLicenseRequest::default()
    };
    let group = licensing::UpdateLicenseGroupRequest {
        license_group: Some(licensing::LicenseGroup {
            name: "accounts/acme/licenseGroups/office".to_owned(),
            ..licensing::LicenseGroup::default()
        }),
        update_mask: mask(60, |_| "\u{7}é\"".repeat(90)),
        ..licensing::UpdateLicenseGroupRequest::default()
    };
    vec![
        account(mask(50, |at| format!("{at:x>190}")), 50),
        account(mask(3000, |at| format!("x{at}")), 3000),
        account(mask(11, |at| format!("{at:x>60}")), 11),
        (
            "/octroi.licensing.v1.LicenseService/UpdateLicense",
            license.encode_to_vec(),
            3000,
        ),
        (
            "/octroi.licensing.v1.LicenseGroupService/UpdateLicenseGroup",
            group.encode_to_vec(),
            60,
        ),
    ]
}

fn other_wrong_requests() -> Vec<Wrong> {
    let end = licensing::TerminateLicenseGroupRequest {
        name: "accounts/acme/licenseGroups/office".to_owned(),
        reasons: (1000..4000).collect(),
        ..licensing::TerminateLicenseGroupRequest::default()
    };
    let offers: Vec<_> = (0..20).map(|at| format!("{at:é>190}")).collect();
    let bad: Vec<_> = offers.iter().map(|offer| (offer.as_str(), -1)).collect();
    let order = licensing::CreateOrderRequest {
        parent: "accounts/acme".to_owned(),
        order: Some(licensing::Order {
            new_group: Some(new_group("another")),
            lines: lines(&bad),
            ..licensing::Order::default()
        }),
        ..licensing::CreateOrderRequest::default()
    };
    vec![
        (
            "/octroi.licensing.v1.LicenseGroupService/TerminateLicenseGroup",
            end.encode_to_vec(),
            3000,
        ),
        (
            "/octroi.licensing.v1.OrderService/CreateOrder",
            order.encode_to_vec(),
            40,
        ),
    ]
}

/// Holds a refusal to name the first bad fields and to count the others.
#[track_caller]
fn readable(who: &str, path: &str, bad: usize, status: &Status) {
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "{who} {path}: {status:?}"
    );
    let refused = Refused::of(status);
    refused.is(Code::InvalidArgument, "INVALID_FIELDS");
    let more = refused.metadata.get("more_violations");
    let more: usize = more.map_or(0, |more| more.parse().unwrap());
    let named = refused.fields.len();
    assert!((1..=20).contains(&named), "{who} {path}: {refused:?}");
    assert_eq!(named + more, bad, "{who} {path}: {refused:?}");
}

#[tokio::test]
async fn every_client_reads_a_refusal() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let mut wrong = wrong_updates();
    wrong.extend(other_wrong_requests());
    let service = |path: &str| server(Method::find(path).unwrap());
    for (path, message, bad) in &wrong {
        let refused = acme.by.call(service(path), path, message.clone()).await;
        let status = refused.unwrap_err();
        readable("tonic", path, *bad, &status);
        let mut headers = HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        let weight: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        assert!(weight <= HEAVIEST, "{path}: {weight} bytes");
    }

    let token = octroi.token("*");
    let good = [
        (
            ServiceName::Billing,
            "/octroi.billing.v1.AccountService/GetAccount",
            billing::GetAccountRequest { name: acme.name() }.encode_to_vec(),
        ),
        (
            ServiceName::Licensing,
            "/octroi.licensing.v1.OfferService/GetOffer",
            licensing::GetOfferRequest {
                name: BUSINESS.to_owned(),
            }
            .encode_to_vec(),
        ),
    ];
    for (of, good_path, good) in good {
        for client in StockClient::all(&octroi.plan().url(of), false).await {
            // All at once on one connection, a good call after each wrong one.
            let calls: Vec<_> = wrong
                .iter()
                .filter(|(path, ..)| service(path) == of)
                .map(|(path, message, bad)| {
                    let refused = client.call(path, message, &token);
                    (path, bad, refused, client.call(good_path, &good, &token))
                })
                .collect();
            for (path, bad, refused, answered) in calls {
                readable(client.name, path, *bad, &refused.await.unwrap_err());
                let answer = answered.await;
                assert!(answer.is_ok(), "{} beside {path}: {answer:?}", client.name);
            }
        }
    }
    octroi.finish().await;
}
