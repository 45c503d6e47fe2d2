//! The three services, and the sockets that they listen on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use octroi_server::Service;

use super::{Plan, SystemError};

/// One of the three services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceName {
    /// Offers, orders, groups, licences and their users.
    Licensing,
    /// Accounts, settlement, invoices.
    Billing,
    /// E-mails.
    Notification,
}

impl ServiceName {
    /// Every service.
    pub const ALL: [Self; 3] = [Self::Licensing, Self::Billing, Self::Notification];

    /// The name, which is also its schema's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.service().name
    }

    /// The port that it listens on by default.
    #[must_use]
    pub fn port(self) -> u16 {
        self.service().port
    }

    pub(super) fn service(self) -> &'static Service {
        match self {
            Self::Licensing => &octroi_licensing::SERVICE,
            Self::Billing => &octroi_billing::SERVICE,
            Self::Notification => &octroi_notification::SERVICE,
        }
    }

    pub(super) fn index(self) -> usize {
        match self {
            Self::Licensing => 0,
            Self::Billing => 1,
            Self::Notification => 2,
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The services' listening sockets, bound before anything is started.
#[derive(Debug)]
pub struct Listeners(pub(super) [TcpListener; 3]);

/// The last port that two more follow.
pub const LAST_ADMIN_PORT: u16 = u16::MAX - 2;

/// The sockets of the services' metrics and health.
pub type AdminListeners = [Option<Arc<TcpListener>>; 3];

impl Listeners {
    /// Binds the services' ports on a host; port 0 takes any that is free.
    ///
    /// # Errors
    /// [`SystemError::Listen`].
    pub fn bind(host: IpAddr, port: impl Fn(ServiceName) -> u16) -> Result<Self, SystemError> {
        let bind = |service| bind(service, SocketAddr::new(host, port(service)));
        Ok(Self([
            bind(ServiceName::Licensing)?,
            bind(ServiceName::Billing)?,
            bind(ServiceName::Notification)?,
        ]))
    }

    /// Binds free ports of this machine.
    ///
    /// # Errors
    /// [`SystemError::Listen`].
    pub fn free() -> Result<Self, SystemError> {
        Self::bind(Ipv4Addr::LOCALHOST.into(), |_| 0)
    }

    /// Binds three ports of this machine for metrics and health, from this one on, which is [`LAST_ADMIN_PORT`] at most;
    /// none for 0.
    ///
    /// # Errors
    /// [`SystemError::Admin`].
    pub fn admin(first: u16) -> Result<AdminListeners, SystemError> {
        let mut bound = [None, None, None];
        if first > 0 {
            for (port, bound) in (first..=u16::MAX).zip(&mut bound) {
                let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
                let listener = TcpListener::bind(address);
                let listener = listener.map_err(|error| SystemError::Admin(address, error))?;
                *bound = Some(Arc::new(listener));
            }
        }
        Ok(bound)
    }

    pub(super) fn addresses(&self) -> Result<[SocketAddr; 3], SystemError> {
        let mut addresses = Plan::NOWHERE;
        for service in ServiceName::ALL {
            let at = service.index();
            let local = self.0[at].local_addr();
            addresses[at] = local.map_err(|source| SystemError::Listen {
                service,
                address: addresses[at],
                source,
            })?;
        }
        Ok(addresses)
    }
}

pub(super) fn bind(service: ServiceName, address: SocketAddr) -> Result<TcpListener, SystemError> {
    TcpListener::bind(address).map_err(|source| SystemError::Listen {
        service,
        address,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Listeners::bind(Ipv4Addr::LOCALHOST.into(), |service| match service {
            ServiceName::Billing => port,
            ServiceName::Licensing | ServiceName::Notification => 0,
        })
        .unwrap_err();
        assert_eq!(error.exit_code(), 69);
        let message = error.to_string();
        assert!(message.contains(&port.to_string()) && message.contains("--billing-port"));
    }
}
