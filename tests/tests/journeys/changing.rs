//! Changes of some fields: of what a mask names nothing else is read; what a change of an account governs, and from when.

use std::sync::LazyLock;

use octroi_api::billing::v1::{Account, UpdateAccountRequest};
use octroi_api::licensing::v1::{
    License, LicenseGroup, UpdateLicenseGroupRequest, UpdateLicenseRequest,
};
use octroi_platform::{AccountId, Aggregate, Call, Clock, Db, Error, Rows, params};
use octroi_tests::harness::{Answer as _, Installation, eventually, instant, request_id};
use prost_types::FieldMask;
use serde_json::Value;

/// A path that the method does not take is one bad field, and none that was not named is missed.
#[tokio::test]
async fn a_foreign_path_is_the_only_fault() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let update_mask = Some(FieldMask {
        paths: vec!["foo".to_owned()],
    });
    let group = UpdateLicenseGroupRequest {
        license_group: Some(LicenseGroup {
            name: acme.group_name("office"),
            ..LicenseGroup::default()
        }),
        update_mask: update_mask.clone(),
        ..UpdateLicenseGroupRequest::default()
    };
    let license = UpdateLicenseRequest {
        license: Some(License {
            name: acme.license_name("office", 1),
            ..License::default()
        }),
        update_mask,
        ..UpdateLicenseRequest::default()
    };
    let by = &acme.by;
    for refused in [
        by.groups().update_license_group(group).await.refused(),
        by.licenses().update_license(license).await.refused(),
        acme.changes(&["foo"], Account::default()).await.refused(),
    ] {
        refused.names(&["update_mask"]);
    }
    octroi.finish().await;
}

/// Of two changes at once, the one that is kept last is the one that is shown and the one that governs, although it was
/// asked for first.
#[tokio::test]
async fn the_shown_zone_governs() {
    const WAITING: &str = "SELECT FROM pg_locks
        WHERE relation = 'billing.idempotency'::regclass AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let in_zone = |zone: &str| Account {
        name: acme.name(),
        time_zone: zone.to_owned(),
        ..Account::default()
    };
    // Who names a request waits for the table of requests; who names none passes.
    octroi
        .sql
        .batch_execute("BEGIN; LOCK TABLE billing.idempotency IN SHARE MODE")
        .await
        .unwrap();
    let first = UpdateAccountRequest {
        account: Some(in_zone("Asia/Tokyo")),
        update_mask: Some(FieldMask {
            paths: vec!["time_zone".to_owned()],
        }),
        request_id: request_id(),
    };
    let mut accounts = acme.by.accounts();
    let first = tokio::spawn(async move { accounts.update_account(first).await });
    eventually("the first change waits", async || {
        octroi.sql.query_opt(WAITING, &[]).await.unwrap()
    })
    .await;
    let second = in_zone("America/New_York");
    let second = acme.changes(&["time_zone"], second).await.got();
    octroi.sql.batch_execute("COMMIT").await.unwrap();
    let first = first.await.unwrap().got();
    assert_eq!(first.time_zone, "Asia/Tokyo");
    assert!(instant(first.update_time) > instant(second.update_time));
    // Tokyo's midnight, not New York's.
    let end = instant(acme.preview("2026-03").await.period_end_time);
    assert_eq!(end.to_string(), "2026-03-31T15:00:00Z");
    octroi.finish().await;
}

/// A setting that only the tests have.
struct Setting(i64);

impl Aggregate for Setting {
    type Id = AccountId;
    type Wire = Account;

    fn id(&self) -> &AccountId {
        static ID: LazyLock<AccountId> = LazyLock::new(|| AccountId::new("acme"));
        &ID
    }

    fn version(&self) -> i64 {
        self.0
    }

    fn audited(&self) -> Value {
        Value::Null
    }
}

impl From<&Setting> for Account {
    fn from(_: &Setting) -> Self {
        Self::default()
    }
}

/// What is written without a new version would leave no audit row, so it is not kept.
#[tokio::test]
async fn a_change_without_a_new_version_is_a_fault() {
    let octroi = Installation::start().await;
    octroi.customer("acme").await;
    let config = &octroi.plan().databases.billing;
    let db = Db::new(config, "billing", 1, Clock::system()).unwrap();
    let call = Call::background(Clock::system().now(), "test");
    for (version, writes, good) in [(1, false, true), (1, true, false), (2, true, true)] {
        let (mut tx, _) = db.begin_work(&call, "SELECT 1", &[]).await.unwrap();
        if writes {
            let rename = "UPDATE account SET legal_name = $1 WHERE account = 'acme'";
            let name = params![format!("Acme {version}")];
            tx.write(rename, name, Rows::Exactly(1));
        }
        let kept = tx.keep(Some(&Setting(1)), &Setting(version)).await;
        match good {
            true => assert!(kept.is_ok(), "{kept:?}"),
            false => assert!(matches!(kept, Err(Error::Internal(_))), "{kept:?}"),
        }
    }
    let name = "SELECT legal_name FROM billing.account WHERE account = 'acme'";
    let name: String = octroi.sql.query_one(name, &[]).await.unwrap().get(0);
    assert_eq!(name, "Acme 2");
}
