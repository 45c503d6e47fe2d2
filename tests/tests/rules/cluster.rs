//! Every statement of the sources is one that a cluster of Citus takes.

use octroi_tests::harness::{Citus, Installation, ServiceName};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::repository::none;
use crate::sql::statements;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_takes_every_statement() {
    let Some(citus) = Citus::there().await else {
        return;
    };
    let octroi = Installation::distributed(&citus, "2026-02-02T08:00:00Z").await;
    let (mut tried, mut breaches) = (0, Vec::new());
    for service in ServiceName::ALL {
        let schema = format!("SET search_path = {service}");
        octroi.sql.batch_execute(&schema).await.unwrap();
        for of in [service.as_str(), "platform"] {
            for statement in statements(of) {
                // It stands in no transaction and touches no table.
                if statement.text.contains("DISCARD") {
                    continue;
                }
                tried += 1;
                if let Err(error) = tries(&octroi.sql, &statement.text).await {
                    let first = statement.text.trim().lines().next();
                    let first = first.unwrap_or_default();
                    breaches.push(format!("{service}: {} {first}: {error}", statement.path));
                }
            }
        }
    }
    none("a cluster takes it", breaches);
    assert!(tried > 200, "{tried} statements");
    octroi.finish().await;
}

/// Runs a statement with some values and takes back what it did. Whatever it meets but that it is not supported is right.
async fn tries(sql: &Client, text: &str) -> Result<(), String> {
    let told = |error: tokio_postgres::Error| format!("{:?}", error.as_db_error());
    let prepare = format!("PREPARE tried AS {text}");
    sql.batch_execute(&prepare).await.map_err(told)?;
    let types =
        "SELECT unnest(parameter_types)::text FROM pg_prepared_statements WHERE name = 'tried'";
    let types = sql.query(types, &[]).await.map_err(told)?;
    let values: Vec<String> = types.iter().map(|row| value(row.get(0))).collect();
    let values = match values.is_empty() {
        true => String::new(),
        false => format!("({})", values.join(", ")),
    };
    let execute = format!("EXECUTE tried{values}");
    sql.batch_execute("BEGIN").await.map_err(told)?;
    let executed = sql.batch_execute(&execute).await;
    sql.batch_execute("ROLLBACK; DEALLOCATE tried")
        .await
        .map_err(told)?;
    match executed {
        Err(error) if error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => Err(told(error)),
        _ => Ok(()),
    }
}

/// A value of a type.
fn value(of: &str) -> String {
    let element = of.trim_end_matches("[]");
    let value = match element {
        "uuid" => "00000000-0000-0000-0000-000000000000",
        "bigint" | "integer" | "smallint" | "numeric" | "double precision" => "1",
        "boolean" => "true",
        "timestamp with time zone" | "date" => "2026-02-02",
        "jsonb" => "{}",
        "interval" => "1 s",
        "bytea" => "",
        _ => "acme",
    };
    match element == of {
        true => format!("'{value}'::{of}"),
        false => format!("ARRAY['{value}']::{of}"),
    }
}
