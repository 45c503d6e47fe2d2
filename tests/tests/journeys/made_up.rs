//! What nobody has ever been given: tokens taken apart and put together again, numbers that no enum has, characters that
//! no address has. All of it is refused by name.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use octroi_api::event::v1::ListEventsRequest;
use octroi_api::licensing::v1::{
    Device, ListLicensesRequest, ListOwnDevicesRequest, NewLicenseGroup, RegisterDeviceRequest,
    SignInRequest, TerminateLicenseGroupRequest,
};
use octroi_tests::harness::{Answer as _, BUSINESS, CHOSEN, Installation, ServiceName, new_group};
use tonic::Code;

use crate::methods::with_everything;

/// A page token of the right query whose key is an id, but none that the list's rows have.
#[tokio::test]
async fn page_tokens() {
    let octroi = Installation::start().await;
    let (acme, known) = with_everything(&octroi, "acme").await;
    let mut list = ListLicensesRequest {
        parent: acme.group_name("office"),
        page_size: 1,
        ..ListLicensesRequest::default()
    };
    let page = acme.by.licenses().list_licenses(list.clone()).await.got();
    let token = page.next_page_token;
    list.page_token = with_key(&token, "1");
    assert_eq!(list.page_token, token, "this is how it is made");
    for key in ["abc", "99999999999", "-1", "0", "1-1", "a\0"] {
        list.page_token = with_key(&token, key);
        let refused = acme
            .by
            .licenses()
            .list_licenses(list.clone())
            .await
            .refused();
        refused.names(&["page_token"]);
    }
    let user = acme.by.with_session(&known.session);
    let register = RegisterDeviceRequest {
        device: Some(Device {
            platform: 1,
            display_name: "A machine".to_owned(),
            ..Device::default()
        }),
        ..RegisterDeviceRequest::default()
    };
    user.portal().register_device(register).await.got();
    let mut list = ListOwnDevicesRequest {
        page_size: 1,
        ..ListOwnDevicesRequest::default()
    };
    let page = user.portal().list_own_devices(list.clone()).await.got();
    let token = page.next_page_token;
    for key in ["abc", "1", "01890000-0000-7000-8000-00000000000"] {
        list.page_token = with_key(&token, key);
        let refused = user.portal().list_own_devices(list.clone()).await.refused();
        refused.names(&["page_token"]);
    }
    let mut list = ListEventsRequest {
        parent: acme.name(),
        page_size: 1,
        ..ListEventsRequest::default()
    };
    let mut events = acme.by.events(ServiceName::Licensing);
    let page = events.list_events(list.clone()).await.got();
    // An earlier release's tokens held ids; and a position that no event has was made up.
    for key in ["01890000-0000-7000-8000-000000000000", "-1", "1000"] {
        list.page_token = with_key(&page.next_page_token, key);
        let refused = events.list_events(list.clone()).await.refused();
        refused.names(&["page_token"]);
    }
    octroi.finish().await;
}

/// A token of the same version and query with another key: three fields, the last of which is the key.
fn with_key(token: &str, key: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
    let (version, query, field) = (2, 2 + 8, 1);
    bytes.truncate(version + query + field);
    bytes.push(u8::try_from(key.len()).unwrap());
    bytes.extend(key.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Numbers that a later release may give a meaning.
#[tokio::test]
async fn numbers_of_enums() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    for number in [99, -1] {
        let group = NewLicenseGroup {
            billing_mode: number,
            ..new_group("office")
        };
        let refused = acme.asks_for("o1", group, &[(BUSINESS, 1)]).await.refused();
        refused.names(&["order.new_group.billing_mode"]);
    }
    acme.buys("office", &[(BUSINESS, 1)]).await;
    let address = acme.activates("office", 1, "sales").await.activation_email;
    let user = acme.user(&address, CHOSEN).await;
    for number in [99, -1] {
        let register = RegisterDeviceRequest {
            device: Some(Device {
                platform: number,
                display_name: "A machine".to_owned(),
                ..Device::default()
            }),
            ..RegisterDeviceRequest::default()
        };
        let refused = user.portal().register_device(register).await.refused();
        refused.names(&["device.platform"]);
        let terminate = TerminateLicenseGroupRequest {
            name: acme.group_name("office"),
            reasons: vec![1, number],
            ..TerminateLicenseGroupRequest::default()
        };
        let mut groups = acme.by.groups();
        let refused = groups.terminate_license_group(terminate).await.refused();
        refused.names(&["reasons[1]"]);
    }
    octroi.finish().await;
}

/// An address that could not be stored is none that anybody has.
#[tokio::test]
async fn characters_of_addresses() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    for address in ["a\0b@office.acme.test", "a\nb", "\u{7f}", "a\u{85}b"] {
        let request = SignInRequest {
            activation_email: address.to_owned(),
            password: CHOSEN.to_owned(),
            client_address: String::new(),
        };
        let refused = acme.by.portal().sign_in(request).await.refused();
        refused.names(&["activation_email"]);
    }
    // Anything else is as unknown as any other.
    let refused = acme.signs_in("é \u{1f512} ' --", CHOSEN).await.refused();
    refused.is(Code::Unauthenticated, "SIGN_IN_FAILED");
    octroi.finish().await;
}
