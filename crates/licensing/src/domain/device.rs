//! Devices: the installations of a licence, and the places that they take.

use std::fmt::{self, Display};

use jiff::Timestamp;
use octroi_platform::name::{Name, parse_uuid};
use octroi_platform::text::{is_blank, is_unseen};
use uuid::Uuid;

use crate::domain::license::LicenseId;
use crate::domain::offer::OfferId;
use crate::refusal::{self, Refusal};

const MAX_NAME: usize = 100;

/// What a device runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    Windows,
    Macos,
    Ipados,
    AndroidTablet,
    Ios,
    AndroidPhone,
}

/// Which counter a device takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Computer,
    Tablet,
    Smartphone,
}

impl Platform {
    /// Every one, in the order in which they are shown.
    pub(crate) const ALL: [Self; 6] = [
        Self::Windows,
        Self::Macos,
        Self::Ipados,
        Self::AndroidTablet,
        Self::Ios,
        Self::AndroidPhone,
    ];

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Windows | Self::Macos => Kind::Computer,
            Self::Ipados | Self::AndroidTablet => Kind::Tablet,
            Self::Ios | Self::AndroidPhone => Kind::Smartphone,
        }
    }

    /// Its name in the database.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Windows => "WINDOWS",
            Self::Macos => "MACOS",
            Self::Ipados => "IPADOS",
            Self::AndroidTablet => "ANDROID_TABLET",
            Self::Ios => "IOS",
            Self::AndroidPhone => "ANDROID_PHONE",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|platform| platform.as_str() == name)
    }
}

impl Kind {
    /// The counter's name, as QuotaFailure gives it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Computer => "computers",
            Self::Tablet => "tablets",
            Self::Smartphone => "smartphones",
        }
    }
}

/// How many devices of each kind a licence has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) computers: i32,
    pub(crate) tablets: i32,
    pub(crate) smartphones: i32,
}

/// How many of each kind it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) computers: i32,
    pub(crate) tablets: i32,
    pub(crate) smartphones: i32,
}

impl Limits {
    pub(crate) fn of(self, kind: Kind) -> i32 {
        match kind {
            Kind::Computer => self.computers,
            Kind::Tablet => self.tablets,
            Kind::Smartphone => self.smartphones,
        }
    }
}

impl Counters {
    pub(crate) fn of(self, kind: Kind) -> i32 {
        match kind {
            Kind::Computer => self.computers,
            Kind::Tablet => self.tablets,
            Kind::Smartphone => self.smartphones,
        }
    }

    /// The counters with one more device.
    ///
    /// # Errors
    /// DEVICE_LIMIT_REACHED.
    pub(crate) fn take(mut self, kind: Kind, limits: Limits) -> Result<Self, Refusal> {
        let limit = limits.of(kind);
        if self.of(kind) >= limit {
            return Err(refusal::device_limit_reached(kind, limit));
        }
        *self.of_mut(kind) += 1;
        Ok(self)
    }

    /// The counters with one device less.
    pub(crate) fn free(mut self, kind: Kind) -> Self {
        let counter = self.of_mut(kind);
        *counter = (*counter - 1).max(0);
        self
    }

    fn of_mut(&mut self, kind: Kind) -> &mut i32 {
        match kind {
            Kind::Computer => &mut self.computers,
            Kind::Tablet => &mut self.tablets,
            Kind::Smartphone => &mut self.smartphones,
        }
    }
}

/// A device to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDevice {
    pub(crate) platform: Platform,
    /// 1 to 100 characters.
    pub(crate) display_name: String,
    /// Whether many people share it: it is not counted then.
    pub(crate) shared_computer: bool,
}

impl NewDevice {
    /// The counters once it is registered.
    ///
    /// # Errors
    /// DEVICE_LIMIT_REACHED; SHARED_COMPUTER_NOT_ALLOWED where the offer does not allow them (`shared_computers`).
    pub(crate) fn place(
        &self,
        counters: Counters,
        limits: Limits,
        offer: &OfferId,
        shared_computers: bool,
    ) -> Result<Counters, Refusal> {
        match self.shared_computer {
            true if shared_computers => Ok(counters),
            true => Err(refusal::shared_computer_not_allowed(offer)),
            false => counters.take(self.platform.kind(), limits),
        }
    }
}

/// Which device of a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceId {
    pub(crate) license: LicenseId,
    pub(crate) id: Uuid,
}

impl Name for DeviceId {
    const KIND: &'static str = "device";
    const COLLECTIONS: &'static [&'static str] =
        &["accounts", "licenseGroups", "licenses", "devices"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [license @ .., id] = ids else {
            return None;
        };
        Some(Self {
            license: LicenseId::of(license)?,
            id: parse_uuid(id)?,
        })
    }

    fn account(&self) -> Option<&str> {
        self.license.account()
    }
}

impl Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/devices/{}", self.license, self.id)
    }
}

/// An installation of a licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) device: NewDevice,
    pub(crate) registered_at: Timestamp,
    /// None while it is active.
    pub(crate) deactivated_at: Option<Timestamp>,
}

impl Device {
    /// The device deactivated, and the counters without it. None when it was deactivated before.
    pub(crate) fn deactivate(&self, counters: Counters, at: Timestamp) -> Option<(Self, Counters)> {
        if self.deactivated_at.is_some() {
            return None;
        }
        let device = Self {
            deactivated_at: Some(at.max(self.registered_at)),
            ..self.clone()
        };
        let counters = match self.device.shared_computer {
            true => counters,
            false => counters.free(self.device.platform.kind()),
        };
        Some((device, counters))
    }
}

/// Checks a device's name; the error is the rule that it breaks.
pub(crate) fn display_name(name: &str) -> Result<String, &'static str> {
    if !(1..=MAX_NAME).contains(&name.chars().count())
        || is_blank(name)
        || name.chars().any(is_unseen)
    {
        return Err(
            "must have 1 to 100 characters, not all of them spaces, and no control or format character",
        );
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        computers: 5,
        tablets: 5,
        smartphones: 5,
    };

    fn offer() -> OfferId {
        OfferId::new("apps-for-business")
    }

    fn id() -> DeviceId {
        DeviceId {
            license: LicenseId::of(&["acme", "office", "1"]).unwrap(),
            id: Uuid::nil(),
        }
    }

    fn device(platform: usize, shared_computer: bool) -> NewDevice {
        NewDevice {
            platform: Platform::ALL[platform],
            display_name: "device".to_owned(),
            shared_computer,
        }
    }

    proptest! {
        /// Compared with a plain list of the active devices.
        #[test]
        fn counters_count_the_active_devices(
            steps in prop::collection::vec((any::<bool>(), 0..6_usize, any::<bool>(), any::<prop::sample::Index>()), 0..80),
        ) {
            let mut counters = Counters::default();
            let mut active: Vec<Device> = Vec::new();
            for (register, platform, shared, index) in steps {
                if register {
                    let new = device(platform, shared);
                    let kind = new.platform.kind();
                    let places = active.iter()
                        .filter(|other| !other.device.shared_computer && other.device.platform.kind() == kind)
                        .count();
                    match new.place(counters, LIMITS, &offer(), true) {
                        Ok(next) => {
                            counters = next;
                            active.push(Device {
                                id: id(), device: new, registered_at: Timestamp::UNIX_EPOCH, deactivated_at: None,
                            });
                        }
                        Err(refusal) => {
                            prop_assert_eq!(refusal, refusal::device_limit_reached(kind, 5));
                            prop_assert_eq!(places, 5);
                        }
                    }
                } else if !active.is_empty() {
                    let device = active.swap_remove(index.index(active.len()));
                    let (gone, next) = device.deactivate(counters, Timestamp::UNIX_EPOCH).unwrap();
                    counters = next;
                    prop_assert!(gone.deactivate(counters, Timestamp::UNIX_EPOCH).is_none());
                }
                for kind in [Kind::Computer, Kind::Tablet, Kind::Smartphone] {
                    let places = active.iter()
                        .filter(|other| !other.device.shared_computer && other.device.platform.kind() == kind)
                        .count();
                    prop_assert_eq!(counters.of(kind), i32::try_from(places).unwrap());
                    prop_assert!(counters.of(kind) <= 5);
                }
            }
        }
    }

    #[test]
    fn a_shared_computer_needs_the_entitlement() {
        let shared = device(0, true);
        assert_eq!(
            shared.place(Counters::default(), LIMITS, &offer(), false),
            Err(refusal::shared_computer_not_allowed(&offer()))
        );
        let full = Counters {
            computers: 5,
            ..Counters::default()
        };
        assert_eq!(shared.place(full, LIMITS, &offer(), true), Ok(full));
    }

    #[test]
    fn windows_and_macos_share_a_counter() {
        let mut counters = Counters::default();
        for platform in [0, 1, 0, 1, 0] {
            counters = device(platform, false)
                .place(counters, LIMITS, &offer(), false)
                .unwrap();
        }
        assert_eq!(
            device(1, false).place(counters, LIMITS, &offer(), false),
            Err(refusal::device_limit_reached(Kind::Computer, 5))
        );
        assert!(
            device(2, false)
                .place(counters, LIMITS, &offer(), false)
                .is_ok()
        );
    }

    #[test]
    fn a_name_has_1_to_100_characters() {
        for good in ["x", " x ", &"é".repeat(100)] {
            assert_eq!(display_name(good).as_deref(), Ok(good));
        }
        for bad in ["", "  ", "\u{3164}", "a\nb", &"é".repeat(101)] {
            assert!(display_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_place_that_nothing_takes_cannot_be_freed() {
        for kind in [Kind::Computer, Kind::Tablet, Kind::Smartphone] {
            assert_eq!(Counters::default().free(kind), Counters::default());
        }
    }

    #[test]
    fn a_device_stops_no_earlier_than_it_began() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let working = Device {
            id: DeviceId::of(&["acme", "office", "1", &Uuid::nil().to_string()]).unwrap(),
            device: device(0, false),
            registered_at: at(5),
            deactivated_at: None,
        };
        for (asked, stopped) in [(4, 5), (6, 6)] {
            let (gone, _) = working.deactivate(Counters::default(), at(asked)).unwrap();
            assert_eq!(gone.deactivated_at, Some(at(stopped)));
            assert_eq!(
                (gone.device, gone.registered_at),
                (working.device.clone(), at(5))
            );
        }
    }
}
