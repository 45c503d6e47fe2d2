//! The harness of Octroi's journeys and faults: a private PostgreSQL for each run of a test program, a database for
//! each test, the three services on real sockets and a test clock, a mail server, and clients that remember what they
//! called.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness that cannot go on stops its test"
)]

pub mod harness;
