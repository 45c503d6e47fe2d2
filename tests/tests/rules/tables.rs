//! Every table's kind, declared here and nowhere else, and the catalog of a migrated database held to it. A schema
//! that keeps to this can be distributed by account unchanged.

use std::collections::BTreeSet;

use octroi_tests::harness::Installation;
use tokio_postgres::Client;

use crate::repository::none;

/// What a table's rows belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One account: its id leads every primary, unique and foreign key.
    Account,
    /// The catalogue, the same for every account.
    Reference,
    /// What a caller knows before the account is known.
    Directory,
    /// The installation as a whole.
    Installation,
}

use Kind::{Account, Directory, Installation as Whole, Reference};

/// What every service's schema holds.
const SHARED: [(&str, Kind); 9] = [
    ("audit", Account),
    ("delivery", Account),
    ("event", Account),
    ("event_position", Account),
    ("idempotency", Account),
    ("inbox", Account),
    ("intake_progress", Whole),
    ("platform_migration", Whole),
    ("service_migration", Whole),
];

/// What the services add.
const OWN: [(&str, &str, Kind); 36] = [
    ("billing", "account", Account),
    ("billing", "bill_run", Whole),
    ("billing", "bill_run_failure", Whole),
    ("billing", "bill_run_range", Whole),
    ("billing", "bill_run_total", Whole),
    ("billing", "billed_month", Account),
    ("billing", "group_offer_entry", Account),
    ("billing", "invoice", Account),
    ("billing", "invoice_line", Account),
    ("billing", "invoice_tax", Account),
    ("billing", "late_usage", Account),
    ("billing", "ledger_transfer", Account),
    ("billing", "payment", Account),
    ("billing", "payment_method", Account),
    ("billing", "price", Reference),
    ("billing", "seller", Reference),
    ("billing", "series", Whole),
    ("billing", "settlement", Account),
    ("billing", "settlement_line", Account),
    ("billing", "tax_rate", Reference),
    ("billing", "test_gateway_charge", Directory),
    ("billing", "usage_group", Account),
    ("billing", "usage_interval", Account),
    ("licensing", "account", Account),
    ("licensing", "activation_address", Directory),
    ("licensing", "device", Account),
    ("licensing", "group_offer", Account),
    ("licensing", "license", Account),
    ("licensing", "license_group", Account),
    ("licensing", "license_order", Account),
    ("licensing", "offer", Reference),
    ("licensing", "order_line", Account),
    ("licensing", "payment_attempt", Account),
    ("licensing", "session", Account),
    ("licensing", "sign_in_failure", Whole),
    ("licensing", "usage_interval", Account),
];

/// The rest of [`OWN`]: of notification, and of the test clock.
const REST: [(&str, &str, Kind); 4] = [
    ("notification", "account", Account),
    ("notification", "email", Account),
    ("testing", "barrier", Whole),
    ("testing", "clock", Whole),
];

fn declared() -> Vec<(String, Kind)> {
    let shared = ["billing", "licensing", "notification"]
        .into_iter()
        .flat_map(|schema| SHARED.map(|(table, kind)| (format!("{schema}.{table}"), kind)));
    let own = OWN
        .iter()
        .chain(&REST)
        .map(|(schema, table, kind)| (format!("{schema}.{table}"), *kind));
    shared.chain(own).collect()
}

fn kind(table: &str) -> Kind {
    let found = declared().into_iter().find(|(name, _)| name == table);
    found.unwrap_or_else(|| panic!("{table} is not declared")).1
}

async fn rows(sql: &Client, statement: &str) -> Vec<Vec<Option<String>>> {
    let rows = sql.query(statement, &[]).await.unwrap();
    rows.iter()
        .map(|row| (0..row.len()).map(|at| row.get(at)).collect())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_is_of_its_declared_kind() {
    let installation = Installation::start().await;
    let sql = &installation.sql;
    tables_are_declared(sql).await;
    accounts_lead_unique_keys(sql).await;
    accounts_lead_foreign_keys(sql).await;
    accounts_are_plain_ids(sql).await;
    nothing_is_deferred_or_without_a_key(sql).await;
    installation.finish().await;
}

async fn tables_are_declared(sql: &Client) {
    let there: BTreeSet<String> = rows(
        sql,
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class
         WHERE relkind IN ('r', 'p') AND NOT relispartition
           AND relnamespace::regnamespace::text IN ('billing', 'licensing', 'notification', 'testing', 'public')",
    )
    .await
    .into_iter()
    .map(|mut row| row.remove(0).unwrap())
    .collect();
    let declared: BTreeSet<String> = declared().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        there, declared,
        "the tables of a migrated database, and those declared here"
    );
}

async fn accounts_lead_unique_keys(sql: &Client) {
    let keys = rows(
        sql,
        "SELECT t.relnamespace::regnamespace || '.' || t.relname, i.relname::text, a.attname::text
         FROM pg_index x
         JOIN pg_class t ON t.oid = x.indrelid
         JOIN pg_class i ON i.oid = x.indexrelid
         LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.indkey[0]
         WHERE x.indisunique AND NOT t.relispartition
           AND t.relnamespace::regnamespace::text IN ('billing', 'licensing', 'notification')",
    )
    .await;
    let breaches = keys
        .into_iter()
        .filter_map(|key| {
            let table = key[0].clone().unwrap();
            let leads = key[2].as_deref() == Some("account");
            (kind(&table) == Account && !leads)
                .then(|| format!("{table}: {}", key[1].as_deref().unwrap()))
        })
        .collect();
    none(
        "account leads the unique keys of an account-led table",
        breaches,
    );
}

async fn accounts_lead_foreign_keys(sql: &Client) {
    let keys = rows(
        sql,
        "SELECT s.relnamespace::regnamespace || '.' || s.relname, d.relnamespace::regnamespace || '.' || d.relname,
                sa.attname::text, da.attname::text
         FROM pg_constraint c
         JOIN pg_class s ON s.oid = c.conrelid
         JOIN pg_class d ON d.oid = c.confrelid
         JOIN pg_attribute sa ON sa.attrelid = s.oid AND sa.attnum = c.conkey[1]
         JOIN pg_attribute da ON da.attrelid = d.oid AND da.attnum = c.confkey[1]
         WHERE c.contype = 'f'",
    )
    .await;
    let mut breaches = Vec::new();
    for key in keys {
        let [from, to, column, target] = <[Option<String>; 4]>::try_from(key)
            .unwrap()
            .map(Option::unwrap);
        let fits = match (kind(&from), kind(&to)) {
            (Account, Account) => column == "account" && target == "account",
            (_, Reference) => true,
            // What is distributed and what is not do not refer to each other.
            (_, Account) | (Account, _) => false,
            (Reference | Directory | Whole, _) => true,
        };
        if !fits {
            breaches.push(format!("{from} -> {to}"));
        }
    }
    none(
        "account leads the foreign keys between account-led tables",
        breaches,
    );
}

async fn accounts_are_plain_ids(sql: &Client) {
    let columns = rows(
        sql,
        "SELECT t.relnamespace::regnamespace || '.' || t.relname, format_type(a.atttypid, a.atttypmod),
                l.collname::text, a.attnotnull::text
         FROM pg_class t
         JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = 'account'
         LEFT JOIN pg_collation l ON l.oid = a.attcollation
         WHERE t.relkind IN ('r', 'p')
           AND t.relnamespace::regnamespace::text IN ('billing', 'licensing', 'notification')",
    )
    .await;
    let mut tables = BTreeSet::new();
    let mut breaches = Vec::new();
    for column in columns {
        let table = column[0].clone().unwrap();
        if column[1..] != ["text", "C", "true"].map(|want| Some(want.to_owned())) {
            breaches.push(format!("{table}: {:?}", &column[1..]));
        }
        tables.insert(table);
    }
    let without = declared()
        .into_iter()
        .filter(|(table, kind)| *kind == Account && !tables.contains(table))
        .map(|(table, _)| format!("{table} has none"));
    breaches.extend(without);
    none("account is text COLLATE \"C\" NOT NULL", breaches);
}

async fn nothing_is_deferred_or_without_a_key(sql: &Client) {
    let deferred = rows(
        sql,
        "SELECT conname::text FROM pg_constraint WHERE condeferrable",
    )
    .await;
    assert!(deferred.is_empty(), "deferrable: {deferred:?}");
    let bare = rows(
        sql,
        "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class t
         WHERE relkind IN ('r', 'p')
           AND relnamespace::regnamespace::text IN ('billing', 'licensing', 'notification', 'testing')
           AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = t.oid AND indisprimary)",
    )
    .await;
    assert!(bare.is_empty(), "without a primary key: {bare:?}");
    let floats = rows(
        sql,
        "SELECT t.relnamespace::regnamespace || '.' || t.relname || '.' || a.attname
         FROM pg_attribute a JOIN pg_class t ON t.oid = a.attrelid
         WHERE a.attnum > 0 AND t.relkind IN ('r', 'p')
           AND t.relnamespace::regnamespace::text IN ('billing', 'licensing', 'notification')
           AND a.atttypid IN ('float4'::regtype, 'float8'::regtype, 'timestamp'::regtype, 'money'::regtype)",
    )
    .await;
    assert!(
        floats.is_empty(),
        "neither floats nor times without a zone: {floats:?}"
    );
}
