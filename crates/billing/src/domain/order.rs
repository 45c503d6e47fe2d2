//! Orders, which are licensing's: billing knows their names.

use std::fmt;

use octroi_platform::name::{AccountId, Name};

/// The name of an order: "accounts/acme/orders/o1".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderId {
    pub account: AccountId,
    pub id: String,
}

impl Name for OrderId {
    const KIND: &'static str = "order";
    const COLLECTIONS: &'static [&'static str] = &["accounts", "orders"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [account, id] = ids else { return None };
        Some(Self {
            account: AccountId::new(*account),
            id: (*id).to_owned(),
        })
    }

    fn account(&self) -> Option<&str> {
        Some(self.account.as_str())
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/orders/{}", self.account, self.id)
    }
}
