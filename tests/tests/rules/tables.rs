//! The catalog of a migrated database is held to the declared kind of every table. A schema that keeps to it can be
//! distributed by account unchanged.

use std::collections::BTreeSet;

use octroi::tables::{self, Kind};
use octroi_tests::harness::Installation;
use tokio_postgres::Client;

use crate::repository::{none, sources};

use Kind::{Account, Directory, Installation as Whole, Reference};

fn kind(table: &str) -> Kind {
    let found = tables::all().into_iter().find(|(name, _)| name == table);
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

/// What makes tables on a cluster keeps them apart from what is spread there, until they are spread too.
#[test]
fn migrations_make_tables_that_a_cluster_takes() {
    let known = [
        ("platform", 6),
        ("licensing", 7),
        ("billing", 12),
        ("notification", 3),
    ];
    let mut breaches = Vec::new();
    for (of, last) in known {
        for file in sources(&format!("crates/{of}/migrations"), ".sql") {
            let name = file.path.rsplit('/').next().unwrap();
            let version = name.trim_start_matches('V').split("__").next().unwrap();
            let is_later = version.parse::<i32>().unwrap() > last;
            let apart = "SET LOCAL citus.enable_ddl_propagation = off;";
            if is_later && file.text.contains("CREATE TABLE") && !file.text.contains(apart) {
                breaches.push(file.path);
            }
        }
    }
    none(
        "tables are made with citus.enable_ddl_propagation off",
        breaches,
    );
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
    let declared: BTreeSet<String> = tables::all().into_iter().map(|(name, _)| name).collect();
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
            (Reference | Directory(_) | Whole, _) => true,
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
    let without = tables::all()
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
