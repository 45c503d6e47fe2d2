//! The services of an installation: their names and default ports.

#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Its name, which is also its schema's.
    pub name: &'static str,
    /// The port that it listens on by default.
    pub port: u16,
    /// The port of its metrics and health by default.
    pub admin_port: u16,
}

/// Offers, orders, groups, and who uses what.
pub const LICENSING: Known = known("licensing", 50051, 9050);
/// Accounts and what they owe.
pub const BILLING: Known = known("billing", 50052, 9051);
/// E-mails.
pub const NOTIFICATION: Known = known("notification", 50053, 9052);
/// Every service.
pub const SERVICES: [Known; 3] = [LICENSING, BILLING, NOTIFICATION];

const fn known(name: &'static str, port: u16, admin_port: u16) -> Known {
    Known {
        name,
        port,
        admin_port,
    }
}

impl Known {
    /// The service with this name.
    pub fn named(name: &str) -> Option<Self> {
        SERVICES.into_iter().find(|known| known.name == name)
    }

    /// Its URL on a machine that runs all of them.
    pub(crate) fn local_url(self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
