//! Fills an installation with what a large one has.

use octroi_tests::harness::{Customer, ENTERPRISE};

use crate::run::Run;
use crate::statement::SAMPLE;

/// The group of every customer here.
pub const GROUP: &str = "office";

/// A customer with a group of so many licences without users, and one whose number is the sample's.
pub fn licensed(run: &Run, id: &str, licenses: u64) -> Customer {
    let customer = run.customer(id);
    run.waits(customer.buys(GROUP, &[(ENTERPRISE, 1)]));
    more(run, id, licenses);
    customer
}

/// Gives an account's group so many licences, and one whose number is the sample's.
fn more(run: &Run, id: &str, licenses: u64) {
    run.sql(&format!(
        "UPDATE licensing.group_offer SET used = used + {licenses} WHERE account = '{id}';
         INSERT INTO licensing.license (account, group_id, number, offer, order_id, state, created_at, updated_at)
         SELECT account, group_id, n, offer, order_id, state, created_at, updated_at
         FROM licensing.license, (SELECT * FROM generate_series(2, {licenses}) UNION ALL SELECT {SAMPLE}) AS s (n)
         WHERE account = '{id}' AND number = 1;
         ANALYZE licensing.license;"
    ));
}

/// Adds so many accounts, each with a group of this many licences.
pub fn others(run: &Run, id: &str, accounts: u64, licenses: u64) {
    let table = |name: &str| {
        format!(
            "INSERT INTO licensing.{name}
             SELECT r.* FROM licensing.{name} t, generate_series(1, {accounts}) a,
                 jsonb_populate_record(t, jsonb_build_object('account', 'other-' || a)) r
             WHERE t.account = '{id}';"
        )
    };
    for name in ["account", "license_order", "license_group", "group_offer"] {
        run.sql(&table(name));
    }
    run.sql(&format!(
        "INSERT INTO licensing.license (account, group_id, number, offer, order_id, state, created_at, updated_at)
         SELECT 'other-' || a, group_id, n, offer, order_id, state, created_at, updated_at
         FROM licensing.license, generate_series(1, {accounts}) a, generate_series(1, {licenses}) n
         WHERE account = '{id}' AND number = 1;
         ANALYZE licensing.license;"
    ));
}
