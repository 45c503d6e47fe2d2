//! Bounds that several parts keep to.

/// The largest message that a call may bring, in bytes, before it was compressed.
pub const MESSAGE: usize = 4 << 20;
/// How many calls a service works on at once; more are refused with OVERLOADED.
pub const CALLS_AT_ONCE: usize = 512;
