//! What deploy/ holds fits what the programs want.

use std::collections::BTreeSet;
use std::path::Path;

use octroi::bootstrap::{BootstrapOptions, bootstrap};
use octroi_platform::auth::Verifier;
use octroi_platform::jwk::public_jwk;
use octroi_platform::seal::SealingKeys;
use octroi_tests::harness::{
    Answer as _, BUSINESS, ENTERPRISE, Installation, documented_catalogue, new_group,
    openssl_signs, script,
};
use tokio_postgres::{Client, Config, NoTls};

use crate::documents::every_setting;
use crate::repository::{none, read, sources};

#[test]
fn manifests_name_settings_that_exist_and_hold_no_secret() {
    let known: BTreeSet<String> = every_setting()
        .into_iter()
        .map(|(_, variable)| variable)
        .collect();
    let mut breaches = Vec::new();
    for file in sources("deploy", ".yaml") {
        let words = file
            .text
            .split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        let unknown = words.filter(|word| word.starts_with("OCTROI_") && !known.contains(*word));
        breaches.extend(unknown.map(|word| format!("{}: {word}", file.path)));
        if file.text.contains("kind: Secret\n") || file.text.contains("secretGenerator") {
            breaches.push(format!("{}: a secret", file.path));
        }
    }
    none("manifests fit the programs' settings", breaches);
}

#[test]
fn the_image_is_built_with_the_workspaces_rust() {
    let manifest = read("Cargo.toml");
    let (_, version) = manifest.split_once("rust-version = \"").unwrap();
    let version = version.split('"').next().unwrap();
    assert!(read("deploy/Dockerfile").contains(&format!("FROM rust:{version}.")));
}

/// Who owns and may use what in a database, without the names of databases.
async fn rights(sql: &Client) -> Vec<String> {
    let rows = sql
        .query(
            "SELECT 'schema ' || nspname || ' of ' || nspowner::regrole || ': '
                    || coalesce((SELECT string_agg(item::text, ' ' ORDER BY item::text) FROM unnest(nspacl) item), '')
             FROM pg_namespace WHERE nspname IN ('licensing', 'billing', 'notification', 'testing', 'public')
             UNION ALL
             SELECT 'database: ' || (SELECT string_agg(item::text, ' ' ORDER BY item::text) FROM unnest(datacl) item)
             FROM pg_database WHERE datname = current_database()
             UNION ALL
             SELECT 'role ' || setrole::regrole || ': ' || array_to_string(setconfig, ' ') FROM pg_db_role_setting
             WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
             ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn connect(admin: &Config, database: &str) -> Client {
    let mut config = admin.clone();
    config.dbname(database);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bootstrap_script_gives_the_rights_that_the_program_gives() {
    let installation = Installation::start().await;
    let admin = installation.plan().databases.admin.clone();
    for database in ["by_program", "by_script"] {
        let create = format!("CREATE DATABASE {database}");
        installation.sql.batch_execute(&create).await.unwrap();
    }
    let options = BootstrapOptions {
        database: Some("by_program".to_owned()),
        passwords: installation.plan().keys.passwords().clone(),
        test_clock: false,
    };
    bootstrap(&admin, &options).await.unwrap();
    let script = connect(&admin, "by_script").await;
    for _ in 0..2 {
        script
            .batch_execute(&read("deploy/bootstrap.sql"))
            .await
            .unwrap();
    }
    let program = connect(&admin, "by_program").await;
    assert_eq!(rights(&script).await, rights(&program).await);
    drop((script, program));
    for database in ["by_program", "by_script"] {
        let drop = format!("DROP DATABASE {database} WITH (FORCE)");
        installation.sql.batch_execute(&drop).await.unwrap();
    }
    installation.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_of_the_documentation_lets_customers_order() {
    let installation = Installation::start().await;
    installation
        .sql
        // Triggers refuse to let go of the specimen's.
        .batch_execute(
            "SET session_replication_role = replica; DELETE FROM billing.price; DELETE FROM billing.tax_rate;
             RESET session_replication_role",
        )
        .await
        .unwrap();
    let statements = documented_catalogue();
    installation.sql.batch_execute(&statements).await.unwrap();
    let customer = installation.customer("acme").await;
    let wanted = [(BUSINESS, 2), (ENTERPRISE, 1)];
    customer
        .asks_for("o1", new_group("office"), &wanted)
        .await
        .got();
    installation.finish().await;
}

#[test]
fn the_keys_and_tokens_of_the_scripts_are_believed() {
    if !openssl_signs() {
        eprintln!("NOT RUN: deploy/keys and deploy/token need OpenSSL 3, which is not here");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("the keys");
    assert_eq!(script("keys", &[keys.to_str().unwrap()]), "");
    let bytes = |name: &str| std::fs::read(keys.join(name)).unwrap();

    let jwks: serde_json::Value = serde_json::from_slice(&bytes("jwks.json")).unwrap();
    for (at, name) in ["operator", "portal", "licensing", "billing", "notification"]
        .into_iter()
        .enumerate()
    {
        assert_eq!(
            jwks["keys"][at],
            public_jwk(&bytes(&format!("{name}.pem"))).unwrap()
        );
    }
    let sealing = String::from_utf8(bytes("sealing.keys")).unwrap();
    SealingKeys::parse(&sealing.into()).unwrap();
    assert_eq!(bytes("fingerprint.key").trim_ascii().len(), 44);

    let verifier = Verifier::new(&bytes("jwks.json"), "octroi").unwrap();
    let operator = keys.join("operator.pem");
    let token = |arguments: &[&str]| {
        let arguments = [&[operator.to_str().unwrap()], arguments].concat();
        verifier.verify(script("token", &arguments).trim_end())
    };
    let caller = token(&["operator", "*", "60"]).unwrap();
    assert!(caller.has_scope("billing.accounts.write") && caller.account.is_none());
    let caller = token(&[
        "shop",
        "licensing.orders.read licensing.events.read",
        "60",
        "acme",
    ])
    .unwrap();
    assert!(
        caller.has_scope("licensing.events.read") && !caller.has_scope("billing.accounts.read")
    );
    assert_eq!(caller.account.as_deref(), Some("acme"));
    assert!(token(&["operator", "*", "-1"]).is_err());
    assert!(Path::new(&keys.join("jwks.json")).exists());
}
