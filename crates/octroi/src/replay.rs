//! `octroi replay`: delivers dead letters again, once their cause is repaired.

use std::process::ExitCode;

use octroi_server::process;
use tokio_postgres::Config;

use crate::connect::connect;
use crate::failure::Failure;
use crate::interrupt::unless_interrupted;
use crate::place::{PlaceArgs, find_admin};
use crate::system::ServiceName;

/// Makes the dead letters due again and prints them.
///
/// # Errors
/// When there is no installation or its database cannot be reached.
pub async fn replay(args: &PlaceArgs) -> Result<ExitCode, Failure> {
    let interrupt = process::until_signal();
    let Some((admin, place)) = unless_interrupted(&interrupt, find_admin(args)).await? else {
        return Err(anyhow::anyhow!("interrupted before anything was done").into());
    };
    let replayed = run(&admin).await;
    if let Some(place) = place {
        place.close().await?;
    }
    let replayed = replayed?;
    for event in &replayed {
        println!("{event}");
    }
    println!("{} dead letters are delivered again", replayed.len());
    Ok(ExitCode::SUCCESS)
}

/// Makes all dead letters due again: the services, now or when they next start, deliver them and what waits behind
/// them. Returns each one's source, subscriber, resource, sequence and last error.
pub async fn run(admin: &Config) -> anyhow::Result<Vec<String>> {
    let client = connect(admin).await?;
    let mut replayed = Vec::new();
    for source in ServiceName::ALL {
        let again = format!(
            "WITH dead AS (
                 UPDATE {source}.delivery
                 SET parked = false, refusals = 0, attempts = 0, due_at = now()
                 WHERE parked RETURNING *
             ), behind AS (
                 UPDATE {source}.delivery d SET due_at = to_timestamp(extract(epoch FROM now()) + (d.sequence - dead.sequence) / 1e6)
                 FROM dead
                 WHERE d.account = dead.account AND d.subscriber = dead.subscriber AND d.aggregate = dead.aggregate
                   AND NOT d.parked AND d.sequence > dead.sequence
             )
             SELECT concat_ws(' ', '{source}', subscriber, aggregate, sequence, last_error) FROM dead"
        );
        for row in client.query(&again, &[]).await? {
            replayed.push(row.try_get(0)?);
        }
    }
    Ok(replayed)
}
