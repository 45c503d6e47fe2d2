//! Instants on the wire.

use jiff::Timestamp;

/// An instant on the wire.
pub fn to_proto(at: Timestamp) -> prost_types::Timestamp {
    let seconds = at.as_second();
    let nanos = at.subsec_nanosecond();
    if nanos < 0 {
        prost_types::Timestamp {
            seconds: seconds - 1,
            nanos: nanos + 1_000_000_000,
        }
    } else {
        prost_types::Timestamp { seconds, nanos }
    }
}

/// An instant from the wire, truncated to the microsecond; none when out of range, as nanos are that are no part of a
/// second.
pub fn from_proto(at: &prost_types::Timestamp) -> Option<Timestamp> {
    if !(0..1_000_000_000).contains(&at.nanos) {
        return None;
    }
    let at = Timestamp::new(at.seconds, at.nanos).ok()?;
    Timestamp::from_microsecond(at.as_microsecond()).ok()
}
