//! Orders and groups, which are licensing's: billing knows their names.

use octroi_platform::name::{Kind, Owned};

/// The name of an order: "accounts/acme/orders/o1".
pub type OrderId = Owned<OrderKind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderKind {}

impl Kind for OrderKind {
    type Id = String;
    const KIND: &'static str = "order";
    const COLLECTION: &'static str = "orders";
}

/// The name of a license group: "accounts/acme/licenseGroups/office".
pub type GroupId = Owned<GroupKind>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKind {}

impl Kind for GroupKind {
    type Id = String;
    const KIND: &'static str = "license group";
    const COLLECTION: &'static str = "licenseGroups";
}
