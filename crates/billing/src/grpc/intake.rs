//! Licensing's events as facts about usage.

use anyhow::{Context as _, anyhow};
use jiff::Timestamp;
use octroi_api::event::v1 as wire;
use octroi_api::event::v1::event::Payload;
use octroi_platform::name::parse;
use octroi_platform::time::from_proto;
use octroi_platform::{AccountId, Applied, Error, Intake, Name as _, Tx};

use crate::app::usage::{Fact, take};
use crate::domain::order::OrderId;
use crate::domain::price::PriceId;
use crate::domain::usage::{Entry, GroupName, Opening, Seat};

/// What billing does with licensing's events.
pub struct UsageIntake;

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
        take(tx, &account, fact).await?;
        Ok(Applied::Done)
    }
}

/// The account and the fact that an event tells of; none when it is not for billing.
fn fact(event: &wire::Event, payload: &Payload) -> anyhow::Result<Option<(AccountId, Fact)>> {
    let at = event.effective_time.as_ref().and_then(from_proto);
    let at = at.context("no effective time")?;
    let found = match payload {
        Payload::LicenseActivated(activated) => {
            let seat = seat(&activated.license_group, activated.seat)?;
            let opening = Opening {
                offer: offer(&activated.offer)?,
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
            let order = order(&created.order)?;
            (order.account, Fact::Kept { at })
        }
        Payload::OrderCompleted(completed) => ordered(completed, at)?,
        Payload::LicenseGroupChanged(changed) => {
            let (account, group) = group(&event.aggregate)?;
            let name = GroupName {
                group,
                display_name: changed.display_name.clone(),
                version: changed.version,
                at,
            };
            (account, Fact::Named(name))
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
    let (account, group) = group(&completed.license_group)?;
    let entry = |line: &wire::OrderedLine| -> anyhow::Result<Entry> {
        Ok(Entry {
            group: group.clone(),
            offer: offer(&line.offer)?,
            offer_name: line.offer_display_name.clone(),
            at,
            price: PriceId::parse(&line.price)
                .with_context(|| format!("{:?} is no price", line.price))?,
        })
    };
    let fact = Fact::Ordered {
        order: order(&completed.order)?.id,
        entries: completed
            .lines
            .iter()
            .map(entry)
            .collect::<Result<_, _>>()?,
        name: GroupName {
            group: group.clone(),
            display_name: completed.group_display_name.clone(),
            version: 0,
            at,
        },
    };
    Ok((account, fact))
}

fn seat(name: &str, number: i32) -> anyhow::Result<Seat> {
    let (account, group) = group(name)?;
    Ok(Seat {
        account,
        group,
        number,
    })
}

/// Account and id of a group's resource name.
fn group(name: &str) -> anyhow::Result<(AccountId, String)> {
    parse(name, ["accounts", "licenseGroups"])
        .map(|[account, group]| (AccountId::new(account), group.to_owned()))
        .with_context(|| format!("{name:?} is no license group"))
}

fn order(name: &str) -> anyhow::Result<OrderId> {
    OrderId::parse(name).with_context(|| format!("{name:?} is no order"))
}

fn offer(name: &str) -> anyhow::Result<String> {
    match parse(name, ["offers"]) {
        Some(_) => Ok(name.to_owned()),
        None => Err(anyhow!("{name:?} is no offer")),
    }
}
