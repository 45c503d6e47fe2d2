//! "Your account": what a change of it governs, and from when.

use octroi_api::billing::v1::Account;
use octroi_tests::harness::{Answer as _, Installation, instant};
use tokio::task::JoinSet;

fn in_zone(zone: &str) -> Account {
    Account {
        time_zone: zone.to_owned(),
        ..Account::default()
    }
}

/// However many set the time zone at once, the one that is shown is the one that governs.
#[tokio::test(flavor = "multi_thread")]
async fn the_shown_zone_governs() {
    let octroi = Installation::start().await;
    let acme = octroi.customer("acme").await;
    let ends: &'static [(&str, &str)] = &[
        ("Asia/Tokyo", "2026-03-31T15:00:00Z"),
        ("Europe/Paris", "2026-03-31T22:00:00Z"),
        ("America/New_York", "2026-04-01T04:00:00Z"),
    ];
    for round in 0..4 {
        let mut changes = JoinSet::new();
        for (zone, _) in ends.iter().cycle().take(24) {
            let (acme, zone) = (acme.clone(), *zone);
            changes.spawn(async move { acme.changes(&["time_zone"], in_zone(zone)).await });
        }
        let mut last = None;
        while let Some(changed) = changes.join_next().await {
            let changed = changed.unwrap().got();
            let version: i64 = changed.etag.parse().unwrap();
            last = last.max(Some((version, changed.time_zone)));
        }
        let (_, shown) = last.unwrap();
        let (_, end) = ends.iter().find(|(zone, _)| *zone == shown).unwrap();
        let preview = acme.preview("2026-03").await;
        assert_eq!(
            instant(preview.period_end_time).to_string(),
            *end,
            "{shown} is shown in round {round}"
        );
    }
    octroi.finish().await;
}
