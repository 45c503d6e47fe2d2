//! How the domain names and spells its nouns: other services and stored rows know them by these words.

use std::fmt::Debug;

use octroi_platform::name::Name;

use super::device::{DeviceId, Kind, Platform};
use super::group::GroupId;
use super::license::{LicenseId, State};
use super::offer::OfferId;
use super::order::{self, OrderId, Receipt};
use super::portal::Throttle;

/// A name is written as it is read, and nothing else reads as it.
fn named<N: Name + PartialEq + Debug>(ids: &[&str], written: &str, account: Option<&str>) {
    let name = N::of(ids).unwrap();
    assert_eq!(name.to_string(), written);
    assert_eq!(N::parse(written).as_ref(), Some(&name));
    assert_eq!(name.account(), account);
    for bad in [
        &written[1..],
        &format!("{written}/x"),
        "",
        "accounts/acme/things/1",
    ] {
        assert_eq!(N::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn every_noun_has_its_resource_name() {
    const NIL: &str = "00000000-0000-0000-0000-000000000000";
    let (group, license) = (
        "accounts/acme/licenseGroups/office",
        ["acme", "office", "7"],
    );
    let acme = Some("acme");
    named::<OfferId>(&["apps"], "offers/apps", None);
    named::<OrderId>(&["acme", "o1"], "accounts/acme/orders/o1", acme);
    named::<GroupId>(&["acme", "office"], group, acme);
    named::<LicenseId>(&license, &format!("{group}/licenses/7"), acme);
    let device = [&license[..], &[NIL]].concat();
    named::<DeviceId>(&device, &format!("{group}/licenses/7/devices/{NIL}"), acme);
    for number in ["0", "-1", "07", "x", "2147483648"] {
        assert_eq!(LicenseId::of(&["acme", "office", number]), None, "{number}");
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
    assert_eq!(Platform::ALL.map(Platform::as_str), words);
    assert_eq!(words.map(Platform::parse), Platform::ALL.map(Some));
    assert_eq!(Platform::parse("BEOS"), None);
    let kinds = [Kind::Computer, Kind::Tablet, Kind::Smartphone];
    assert_eq!(
        kinds.map(Kind::as_str),
        ["computers", "tablets", "smartphones"]
    );
    let throttles = [Throttle::Login, Throttle::Client, Throttle::Overall];
    assert_eq!(
        throttles.map(Throttle::as_str),
        ["LOGIN", "CLIENT", "OVERALL"]
    );
    let at = jiff::Timestamp::UNIX_EPOCH;
    assert_eq!(State::Unassigned.as_str(), "UNASSIGNED");
    assert_eq!(State::Deleted { at }.as_str(), "DELETED");
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
    assert_eq!(states.each_ref().map(order::State::as_str), words);
}
