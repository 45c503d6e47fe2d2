//! The inbox consumer for licensing's events, read as facts about usage.

use anyhow::Context as _;
use jiff::Timestamp;
use octroi_api::event::v1 as wire;
use octroi_api::event::v1::event::Payload;
use octroi_platform::time::from_proto;
use octroi_platform::{AccountId, Applied, Error, Intake, Name, Tx};

use crate::app::usage::{Fact, take};
use crate::domain::order::{GroupId, OrderId};
use crate::domain::usage::{Entry, GroupName, Opening, Seat};

pub(crate) struct UsageIntake;

impl Intake for UsageIntake {
    async fn apply(
        &self,
        tx: &mut Tx,
        event: &wire::Event,
        payload: &Payload,
        _secret: Option<&[u8]>,
    ) -> Result<Applied, Error> {
        let read = fact(event, payload)
            .with_context(|| format!("event {} of type {}", event.id, event.r#type));
        let Some((account, fact)) = read.map_err(Error::Internal)? else {
            return Ok(Applied::NotForUs);
        };
        take(tx, &account, fact);
        Ok(Applied::Done)
    }
}

/// The account and the fact of an event; none when it is not for billing.
fn fact(event: &wire::Event, payload: &Payload) -> anyhow::Result<Option<(AccountId, Fact)>> {
    let at = event.effective_time.as_ref().and_then(from_proto);
    let at = at.context("no effective time")?;
    let found = match payload {
        Payload::LicenseActivated(activated) => {
            let seat = seat(&activated.license_group, activated.seat)?;
            let opening = Opening {
                offer: name(&activated.offer)?,
                event: event.id.parse().context("its id")?,
                seat,
                at,
            };
            (opening.seat.account.clone(), Fact::Opened(opening))
        }
        Payload::LicenseDeactivated(deactivated) => {
            let seat = seat(&deactivated.license_group, deactivated.seat)?;
            (seat.account.clone(), Fact::Closed { seat, at })
        }
        Payload::OrderCreated(created) => {
            let order = name::<OrderId>(&created.order)?;
            (order.account, Fact::Kept { at })
        }
        Payload::OrderCompleted(completed) => ordered(completed, at)?,
        Payload::LicenseGroupChanged(changed) => {
            let group = name::<GroupId>(&event.aggregate)?;
            let name = GroupName {
                group: group.id,
                display_name: changed.display_name.clone(),
                version: changed.version,
                at,
            };
            (group.account, Fact::Named(name))
        }
        Payload::AccountChanged(_)
        | Payload::InvoiceIssued(_)
        | Payload::PaymentSettled(_)
        | Payload::PasswordChanged(_)
        | Payload::LicenseGroupTerminated(_) => return Ok(None),
    };
    Ok(Some(found))
}

fn ordered(completed: &wire::OrderCompleted, at: Timestamp) -> anyhow::Result<(AccountId, Fact)> {
    let group = name::<GroupId>(&completed.license_group)?;
    let entry = |line: &wire::OrderedLine| -> anyhow::Result<Entry> {
        Ok(Entry {
            group: group.id.clone(),
            offer: name(&line.offer)?,
            offer_name: line.offer_display_name.clone(),
            at,
            price: name(&line.price)?,
        })
    };
    let fact = Fact::Ordered {
        order: name::<OrderId>(&completed.order)?.id,
        entries: completed
            .lines
            .iter()
            .map(entry)
            .collect::<Result<_, _>>()?,
        name: GroupName {
            group: group.id.clone(),
            display_name: completed.group_display_name.clone(),
            version: 0,
            at,
        },
    };
    Ok((group.account, fact))
}

fn seat(group: &str, number: i32) -> anyhow::Result<Seat> {
    let group = name::<GroupId>(group)?;
    Ok(Seat {
        account: group.account,
        group: group.id,
        number,
    })
}

fn name<N: Name>(given: &str) -> anyhow::Result<N> {
    N::parse(given).with_context(|| format!("{given:?} is no {}", N::KIND))
}
