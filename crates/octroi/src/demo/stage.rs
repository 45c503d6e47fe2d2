//! What the chapters share: the clients, the clock, and the format of the timeline.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use octroi_api::testing::v1::SetClockRequest;
use octroi_api::r#type::v1::Money;
use octroi_platform::time::{from_proto, to_proto};
use tokio::time::sleep;
use tonic::{Response, Status};
use tonic_types::StatusExt as _;

use crate::api::Api;
use crate::output;

/// The customer's time zone.
pub(super) const ZONE: &str = "Europe/Paris";
/// When the story begins, in that zone.
pub(super) const START: &str = "2026-11-25T09:00";
pub(super) const ACCOUNT: &str = "accounts/acme";
pub(super) const GROUP: &str = "accounts/acme/licenseGroups/office";
pub(super) const BUSINESS: &str = "offers/apps-for-business";
pub(super) const ENTERPRISE: &str = "offers/apps-for-enterprise";

/// How long to wait for what follows from an event.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// The clients, and the time that the story has reached.
pub(crate) struct Stage {
    pub(crate) api: Api,
    zone: TimeZone,
    now: Timestamp,
}

impl Stage {
    pub(super) fn new(api: Api) -> anyhow::Result<Self> {
        Ok(Self {
            api,
            zone: TimeZone::get(ZONE)?,
            now: instant(START)?,
        })
    }

    /// Begins a chapter.
    pub(super) fn chapter(&self, title: &str) -> anyhow::Result<()> {
        output::line(format_args!("\n{title}"))
    }

    /// Prints a line of the timeline: the time, the method, its outcome.
    pub(super) fn report(&self, method: &str, what: impl Display) -> anyhow::Result<()> {
        let now = self.show(self.now);
        output::line(format_args!("  {now}  {method:<22} {what}"))
    }

    /// Prints a line that continues the one above.
    pub(super) fn report_more(&self, what: impl Display) -> anyhow::Result<()> {
        output::line(format_args!("  {:<16}  {:<22} {what}", "", ""))
    }

    /// An instant of the story, to the minute.
    pub(super) fn show(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone())
            .strftime("%Y-%m-%d %H:%M")
            .to_string()
    }

    /// Moves the clock to a local time such as "2026-11-24T10:00".
    pub(super) async fn at(&mut self, local: &str) -> anyhow::Result<()> {
        let request = SetClockRequest {
            time: Some(to_proto(instant(local)?)),
        };
        let clock = self.api.clock.set_clock(request).await;
        let clock = clock.context("SetClock")?.into_inner();
        self.now = clock
            .time
            .as_ref()
            .and_then(from_proto)
            .context("the clock has no time")?;
        Ok(())
    }
}

/// The instant of a local time such as "2026-11-24T10:00" in the customer's zone.
pub(super) fn instant(local: &str) -> anyhow::Result<Timestamp> {
    let local: DateTime = local.parse()?;
    Ok(local.in_tz(ZONE)?.timestamp())
}

/// The answer of a step that must succeed.
pub(super) fn done<T>(method: &str, answer: Result<Response<T>, Status>) -> anyhow::Result<T> {
    match answer {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) => bail!("{method} was refused: {}", refusal(&status)),
    }
}

/// The refusal of a step that must be refused for this reason.
pub(super) fn refused<T>(
    method: &str,
    reason: &str,
    answer: Result<Response<T>, Status>,
) -> anyhow::Result<String> {
    match answer {
        Ok(_) => bail!("{method} was to be refused with {reason}, and was not"),
        Err(status) => {
            let refusal = refusal(&status);
            if !refusal.starts_with(reason) {
                bail!("{method} was to be refused with {reason}, and was with {refusal}");
            }
            Ok(format!("refused: {refusal}"))
        }
    }
}

/// A refusal's reason and message.
fn refusal(status: &Status) -> String {
    let info = status.get_details_error_info();
    let reason = info.map_or_else(|| format!("{:?}", status.code()), |info| info.reason);
    format!("{reason} ({})", status.message())
}

/// Polls until there is a result.
pub(super) async fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<Option<T>>>,
{
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        sleep(LOOK).await;
    }
    bail!("{what} did not come within {} s", PATIENCE.as_secs())
}

pub(super) fn amount(money: Option<&Money>) -> String {
    money.map_or_else(String::new, |money| {
        format!("{} {}", money.amount, money.currency_code)
    })
}

/// A state's name without its prefix: "STATE_ACTIVE" is ACTIVE.
pub(super) fn state(name: &str) -> &str {
    name.trim_start_matches("STATE_")
}
