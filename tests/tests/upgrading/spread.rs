//! A filled installation is spread over a cluster of Citus and upgraded there, and goes on.

use std::io;

use octroi::tables::{self, Kind};
use octroi_platform::migrate::migrate;
use octroi_tests::harness::{Citus, Earlier};

use crate::{goes_on, kept};

/// What the last run says.
const DONE: &str = "everything is spread as this release needs it";
/// The foreign keys of these tables.
const KEYS: &str = "
    SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
    WHERE contype = 'f' AND conrelid = ANY ($1::text[]::regclass[]) ORDER BY 1";
/// Tables that still have rows on the coordinator alone, beside their shards.
const COPIES: &str = "
    SELECT logicalrelid::text FROM pg_dist_partition WHERE pg_relation_size(logicalrelid) > 0";
/// What a later release does to tables that are there.
const CHANGES: &str = "
    ALTER TABLE payment_method ADD COLUMN brand text COLLATE \"C\" NOT NULL DEFAULT '', ADD COLUMN expires date;
    ALTER TABLE payment_method ADD CONSTRAINT payment_method_brand CHECK (char_length(brand) <= 100);
    ALTER TABLE payment_method RENAME COLUMN expires TO expiry;
    ALTER TABLE payment_method ALTER COLUMN brand DROP DEFAULT;
    CREATE INDEX payment_method_expiry ON payment_method (account, expiry) WHERE expiry IS NOT NULL;
    ALTER TABLE price ADD COLUMN note text;
    CREATE FUNCTION branded() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        new.brand = coalesce(new.brand, 'none');
        RETURN new;
    END
    $$;
    CREATE TRIGGER payment_method_branded BEFORE INSERT ON payment_method FOR EACH ROW EXECUTE FUNCTION branded();
    CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT count(*) FROM added) > 100 THEN
            RAISE EXCEPTION 'too many';
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER payment_method_counted AFTER INSERT ON payment_method REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION counted();
    DROP INDEX settlement_undecided;
    CREATE INDEX settlement_undecided ON settlement (look_time, account) WHERE state = 'PROCESSING'";
/// What it does to many rows.
const BATCHES: &str = "-- In batches
    UPDATE payment_method SET brand = 'visa'
    WHERE (account, id) IN (SELECT account, id FROM payment_method WHERE brand = '' LIMIT 2)";
/// Tables that it makes.
const TABLES: &str = "
    SET LOCAL citus.enable_ddl_propagation = off;
    CREATE TABLE rebate (
        account  text COLLATE \"C\" NOT NULL REFERENCES account (account),
        price    uuid NOT NULL REFERENCES price (id),
        amount   bigint NOT NULL CHECK (amount > 0),
        PRIMARY KEY (account, price)
    );
    CREATE INDEX rebate_amount ON rebate (account, amount);
    CREATE TABLE rate (
        seller  text COLLATE \"C\" NOT NULL REFERENCES seller (id),
        day     date NOT NULL,
        PRIMARY KEY (seller, day)
    );
    CREATE TRIGGER rate_frozen BEFORE UPDATE OR DELETE ON rate FOR EACH ROW EXECUTE FUNCTION refuse_change();
    SET LOCAL citus.enable_ddl_propagation = on;
    ALTER TABLE payment_method DROP COLUMN expiry";

/// A run of `octroi distribute` is cut short after each of its steps, and the next one goes on: in the end every row is where
/// it belongs and nowhere else, and the foreign keys are those of before. A later release's migrations run there, and the
/// tables that they make are spread by one more run. Then the customers go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filled_installation_is_spread_and_upgraded() {
    let Some(citus) = Citus::there().await else {
        return;
    };
    let (_, script) = kept().pop_last().unwrap();
    let earlier = Earlier::read_on(Some(&citus), &script).await;
    earlier.migrate().await;
    let before = earlier.contents(&[], None).await;
    let keys = column(&earlier, KEYS, &before.keys().collect::<Vec<_>>()).await;
    let runs = spread(&earlier, &tables::all()).await;
    assert!(runs > 50, "{runs} runs");
    assert_eq!(earlier.contents(&[], Some(&before)).await, before);
    let all = before.keys().collect::<Vec<_>>();
    assert_eq!(column(&earlier, KEYS, &all).await, keys);
    assert_eq!(column(&earlier, COPIES, &[]).await, [""; 0]);

    upgrade(&earlier).await;
    goes_on::play(earlier.start().await).await;
}

/// Runs until a run gets to its end, each cut short at its first step. Tells how many there were.
async fn spread(earlier: &Earlier, declared: &[(String, Kind)]) -> usize {
    for runs in 1.. {
        let mut told = None;
        let admin = &earlier.databases().admin;
        let ended = octroi::distribute::run(admin, declared.to_vec(), |line| {
            if line == DONE {
                return Ok(());
            }
            told = Some(line.clone());
            Err(io::Error::other(line).into())
        });
        let ended = ended.await;
        assert_eq!(ended.is_err(), told.is_some(), "{told:?} {ended:?}");
        if ended.is_ok() {
            return runs;
        }
        assert!(runs < 200, "no end: {told:?}");
    }
    0
}

/// Runs the migrations of a release that is yet to be, spreads what they made, and takes their names back, as the services of
/// this release refuse them.
async fn upgrade(earlier: &Earlier) {
    let mut files = octroi_billing::SERVICE.migrations.to_vec();
    let last = files.len();
    let names: Vec<String> = (1..=3).map(|at| format!("V{}__later", last + at)).collect();
    files.extend(
        names
            .iter()
            .map(String::as_str)
            .zip([CHANGES, BATCHES, TABLES]),
    );
    migrate(&earlier.databases().billing, "billing", &files)
        .await
        .unwrap();
    let mut declared = tables::all();
    for (table, kind) in [("rebate", Kind::Account), ("rate", Kind::Reference)] {
        declared.push((format!("billing.{table}"), kind));
    }
    let runs = spread(earlier, &declared).await;
    assert_eq!(
        runs, 5,
        "keys dropped, two tables spread, keys back, the end"
    );
    let brands = "SELECT DISTINCT brand FROM billing.payment_method";
    assert_eq!(column(earlier, brands, &[]).await, ["visa"]);
    let insert = "INSERT INTO billing.rebate SELECT $1, id, 1 FROM billing.price LIMIT 1";
    let refused = earlier.sql.execute(insert, &[&"nobody"]).await;
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("db error"), "{refused:?}");
    assert_eq!(earlier.sql.execute(insert, &[&"acme"]).await.unwrap(), 1);
    let back = "DELETE FROM billing.service_migration WHERE version > $1";
    earlier
        .sql
        .execute(back, &[&i32::try_from(last).unwrap()])
        .await
        .unwrap();
}

async fn column(earlier: &Earlier, select: &str, tables: &[&String]) -> Vec<String> {
    let rows = match tables {
        [] => earlier.sql.query(select, &[]).await,
        tables => earlier.sql.query(select, &[&tables]).await,
    };
    rows.unwrap().iter().map(|row| row.get(0)).collect()
}
