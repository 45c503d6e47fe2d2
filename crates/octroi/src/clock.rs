//! The start of a test clock.

use std::str::FromStr;

use jiff::Timestamp;
use octroi_platform::clock::system_micros;
use tokio_postgres::{Config, NoTls};

/// A test clock, and when it starts; without an instant it starts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TestClock(pub Option<Timestamp>);

impl FromStr for TestClock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let start = text
            .parse()
            .map_err(|_| "must be an instant such as 2026-11-01T09:00:00Z".to_owned())?;
        Ok(Self(Some(start)))
    }
}

impl TestClock {
    /// Starts the clock of a new database; one that runs already keeps its time. Returns the clock's time.
    pub async fn begin(self, admin: &Config) -> anyhow::Result<Timestamp> {
        let (client, connection) = admin.connect(NoTls).await?;
        tokio::spawn(connection);
        let offset = self
            .0
            .map_or(0, |start| start.as_microsecond() - system_micros());
        client
            .execute(
                "INSERT INTO testing.clock (offset_micros) VALUES ($1) ON CONFLICT DO NOTHING",
                &[&offset],
            )
            .await?;
        let row = client
            .query_one("SELECT offset_micros FROM testing.clock", &[])
            .await?;
        let offset: i64 = row.try_get(0)?;
        Ok(Timestamp::from_microsecond(system_micros() + offset)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_starts_at_an_instant_or_now() {
        assert_eq!("".parse(), Ok(TestClock(None)));
        let start = "2026-11-01T10:00:00+01:00".parse::<TestClock>().unwrap();
        assert_eq!(start.0, Some("2026-11-01T09:00:00Z".parse().unwrap()));
        assert!("tomorrow".parse::<TestClock>().is_err());
    }
}
