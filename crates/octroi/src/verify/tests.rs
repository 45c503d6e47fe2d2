//! Breaks every rule once; its check must report it.

mod breaches;
mod crossings;

use std::collections::BTreeSet;
use std::path::Path;

use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_api::licensing::v1::ChangePasswordRequest;
use octroi_api::testing::v1::AdvanceClockRequest;
use prost_types::{Duration, FieldMask};
use tokio_postgres::{Client, Config, NoTls};

use self::breaches::{BREACHES, INBOX_BREACHES, LOG_BREACHES};
use self::crossings::{CROSSINGS, SOUND};
use super::*;
use crate::cluster::{Cluster, ClusterOptions};
use crate::demo;
use crate::demo::stage::Stage;
use crate::system::Listeners;

/// Prices with a set-up fee, so that orders are paid and invoiced too.
const SETUP_FEES: &str = "
    INSERT INTO billing.price (id, offer, currency, monthly, setup, usage_policy, valid_from, create_time)
    SELECT gen_random_uuid(), offer, currency, monthly, 250, usage_policy, valid_from + interval '1 day', create_time
    FROM billing.price";

/// Switches off the constraints, which would refuse what the checks are for.
const DEFENCELESS: &str = "
    DO $$
    DECLARE rule record;
    BEGIN
        FOR rule IN
            SELECT conrelid::regclass AS owner, conname FROM pg_constraint
            WHERE contype IN ('c', 'f') AND conparentid = 0
              AND connamespace::regnamespace::text IN ('licensing', 'billing', 'notification')
        LOOP
            EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', rule.owner, rule.conname);
        END LOOP;
    END $$";

async fn client(admin: &Config) -> Client {
    let (client, connection) = admin.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Every breach with the name of the rule that it breaks.
fn breaches() -> Vec<(String, String)> {
    let mut breaches: Vec<(String, String)> = BREACHES
        .iter()
        .chain(CROSSINGS)
        .map(|(check, sql)| (check.name.to_owned(), (*sql).to_owned()))
        .collect();
    for schema in log::SCHEMAS {
        for (check, sql) in LOG_BREACHES {
            breaches.push((log::of(schema, check).name, sql.replace("{schema}", schema)));
        }
    }
    for (source, subscriber) in log::ROUTES {
        for sql in INBOX_BREACHES {
            let sql = sql
                .replace("{source}", source)
                .replace("{subscriber}", subscriber);
            breaches.push((log::inbox_name(source, subscriber), sql));
        }
    }
    breaches
}

async fn played(dir: &Path) -> (Cluster, Config) {
    let options = ClusterOptions {
        durable: false,
        ..ClusterOptions::new(dir)
    };
    let cluster = Cluster::start(options).await.unwrap();
    let listeners = Listeners::free().unwrap();
    let (system, mut stage) = demo::set_up(&cluster, listeners).await.unwrap();
    let admin = system.plan().databases.admin.clone();
    client(&admin)
        .await
        .batch_execute(SETUP_FEES)
        .await
        .unwrap();
    demo::until_the_first_invoice(&mut stage).await.unwrap();
    more_letters(&mut stage).await;
    system.stop().await;
    (cluster, admin)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_finds_what_it_is_for() {
    let dir = demo::temporary_directory().unwrap();
    let (cluster, admin) = played(dir.path()).await;
    let report = run(&admin).await.unwrap();
    assert!(report.is_clean(), "{report}");
    let mut client = client(&admin).await;
    client.batch_execute(DEFENCELESS).await.unwrap();
    let offset = clock_offset(&client).await.unwrap();
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    for (name, sql) in breaches() {
        let finding = finding_after(&mut client, offset, &name, &sql).await;
        if finding.examples.is_empty() {
            wrong.push(format!("{name:?} does not see: {sql}"));
        }
        found.insert(name);
    }
    for (check, sql) in SOUND {
        let finding = finding_after(&mut client, offset, check.name, sql).await;
        if finding.breaches > 0 {
            wrong.push(format!(
                "{:?} minds {:?}: {sql}",
                check.name, finding.examples
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<String> = rules().into_iter().map(|rule| rule.name).collect();
    let unguarded: Vec<&String> = all.difference(&found).collect();
    assert!(
        unguarded.is_empty(),
        "no breach is planted for {unguarded:?}"
    );
    drop(client);
    cluster.destroy().await.unwrap();
}

/// A contact that moves and a password that is mailed anew; then time goes on, so that everything is delivered.
async fn more_letters(stage: &mut Stage) {
    let account = Account {
        name: "accounts/acme".to_owned(),
        contact_email: "new@acme.example".to_owned(),
        ..Account::default()
    };
    let moved = UpdateAccountRequest {
        account: Some(account),
        update_mask: Some(FieldMask {
            paths: vec!["contact_email".to_owned()],
        }),
        ..UpdateAccountRequest::default()
    };
    stage.api.accounts.update_account(moved).await.unwrap();
    let mailed = ChangePasswordRequest {
        name: "accounts/acme/licenseGroups/office/licenses/17".to_owned(),
        ..ChangePasswordRequest::default()
    };
    stage.api.licenses.change_password(mailed).await.unwrap();
    let minute = AdvanceClockRequest {
        duration: Some(Duration {
            seconds: 60,
            nanos: 0,
        }),
    };
    stage.api.clock.advance_clock(minute).await.unwrap();
}

/// What a check finds once a statement has changed the data; the change is undone.
async fn finding_after(client: &mut Client, offset: i64, name: &str, sql: &str) -> Finding {
    let tx = client.transaction().await.unwrap();
    tx.batch_execute("SET LOCAL session_replication_role = replica")
        .await
        .unwrap();
    let touched = tx
        .execute(sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert!(touched > 0, "nothing to change for {name:?}: {sql}");
    set_parameters(&tx, offset).await.unwrap();
    let rules = rules();
    let rule = rules.iter().find(|rule| rule.name == name);
    let rule = rule.unwrap_or_else(|| panic!("there is no check {name:?}"));
    let finding = check(&tx, rule).await.unwrap();
    tx.rollback().await.unwrap();
    finding
}

#[test]
fn every_check_has_a_name_of_its_own() {
    let names: Vec<String> = rules().into_iter().map(|rule| rule.name).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    assert!(names.iter().all(|name| name.chars().count() <= 80));
}

#[test]
fn a_report_is_a_table_that_names_breaches() {
    let finding = |check: &str, rows, examples: &[&str]| Finding {
        check: check.to_owned(),
        rows,
        breaches: i64::try_from(examples.len()).unwrap(),
        examples: examples.iter().map(|text| (*text).to_owned()).collect(),
    };
    let report = Report {
        findings: vec![
            finding("first", 12, &[]),
            finding("second one", 3, &["acme/x"]),
        ],
    };
    assert!(!report.is_clean());
    assert_eq!(
        report.to_string(),
        "check            rows  breaches\n\
         first              12         0\n\
         second one          3         1\n    acme/x\n\n2 checks, 1 breached\n"
    );
}
