//! How the domain names and spells its nouns: other services and stored rows know them by these words.

use super::device::{Kind, Platform};
use super::license::{LicenseId, State};
use super::order::{self, Receipt};
use super::portal::Throttle;
use super::{account, group, offer};

#[test]
fn every_noun_has_its_resource_name() {
    let license = LicenseId {
        account: "acme".to_owned(),
        group: "office".to_owned(),
        number: 7,
    };
    for (name, expected) in [
        (account::name("acme"), "accounts/acme"),
        (
            group::name("acme", "office"),
            "accounts/acme/licenseGroups/office",
        ),
        (license.group_name(), "accounts/acme/licenseGroups/office"),
        (
            license.to_string(),
            "accounts/acme/licenseGroups/office/licenses/7",
        ),
        (offer::name("apps"), "offers/apps"),
        (order::name("acme", "o1"), "accounts/acme/orders/o1"),
    ] {
        assert_eq!(name, expected);
    }
}

#[test]
fn every_value_has_its_word() {
    let words = [
        "WINDOWS",
        "MACOS",
        "IPADOS",
        "ANDROID_TABLET",
        "IOS",
        "ANDROID_PHONE",
    ];
    assert_eq!(Platform::ALL.map(Platform::name), words);
    assert_eq!(words.map(Platform::named), Platform::ALL.map(Some));
    assert_eq!(Platform::named("BEOS"), None);
    let kinds = [Kind::Computer, Kind::Tablet, Kind::Smartphone];
    assert_eq!(
        kinds.map(Kind::name),
        ["computers", "tablets", "smartphones"]
    );
    let throttles = [Throttle::Login, Throttle::Client, Throttle::Overall];
    assert_eq!(
        throttles.map(Throttle::name),
        ["LOGIN", "CLIENT", "OVERALL"]
    );
    let at = jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(State::Unassigned.name(), "UNASSIGNED");
    assert_eq!(State::Deleted { at }.name(), "DELETED");
    let receipt = Receipt::default();
    let states = [
        order::State::AwaitingPayment,
        order::State::Paying,
        order::State::Completed { at, receipt },
        order::State::Expired,
        order::State::Cancelled,
    ];
    let words = [
        "AWAITING_PAYMENT",
        "PAYING",
        "COMPLETED",
        "EXPIRED",
        "CANCELLED",
    ];
    assert_eq!(states.each_ref().map(order::State::text), words);
}
