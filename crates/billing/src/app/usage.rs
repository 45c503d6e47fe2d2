//! Usage: what licensing tells of seats, groups and orders.

use jiff::Timestamp;
use octroi_platform::{AccountId, Tx};

use crate::domain::usage::{Entry, GroupName, Opening, Seat};
use crate::store;

/// A fact about an account's usage. In whatever order facts of different seats, orders and groups come, the state
/// that they lead to is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A seat became active.
    Opened(Opening),
    /// A seat stopped being active.
    Closed {
        seat: Seat,
        /// From when on.
        at: Timestamp,
    },
    /// An order was kept.
    Kept {
        /// Since when.
        at: Timestamp,
    },
    /// An order brought licences.
    Ordered {
        order: String,
        /// The group's name then.
        name: GroupName,
        entries: Vec<Entry>,
    },
    /// A group was given a name.
    Named(GroupName),
}

/// Takes a fact: queues its writes on `tx`, which commits them with the event's receipt. Usage of a month that is closed
/// already marks the month, for the next invoice.
pub fn take(tx: &mut Tx, account: &AccountId, fact: Fact) {
    match fact {
        Fact::Opened(opening) => {
            store::usage::hold_account(tx, account);
            store::usage::mark_late(tx, account, opening.at);
            store::usage::open(tx, opening);
        }
        Fact::Closed { seat, at } => {
            store::usage::hold_account(tx, account);
            store::usage::mark_late(tx, account, at);
            store::usage::close(tx, seat, at);
        }
        Fact::Ordered {
            order,
            name,
            entries,
        } => {
            store::usage::name_group(tx, account, name);
            for entry in entries {
                store::usage::enter(tx, account, &order, entry);
            }
        }
        Fact::Kept { at } => store::account::mark_ordered(tx, account, at),
        Fact::Named(name) => store::usage::name_group(tx, account, name),
    }
}
