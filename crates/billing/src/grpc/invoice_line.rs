//! Lines of invoices and of previews. They are a list of their own, of which an invoice carries the first page.

use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use jiff::Timestamp;
use octroi_api::billing::v1 as pb;
use octroi_calendar::Month;
use octroi_platform::{Error, Page, Violations};
use prost::Message as _;

use super::{money, quote};
use crate::domain::account;
use crate::domain::bill::{Bill, Line};
use crate::domain::invoice::{Shown, ShownLine};
use crate::domain::money::{Currency, Money};
use crate::domain::price;
use crate::domain::usage::DayUse;

/// The list's method.
const LIST: &str = "octroi.billing.v1.InvoiceService/ListInvoiceLines";
/// How many lines an invoice carries itself, at most. With their days they weigh 250 KB at most.
const CARRIED: i32 = 100;

/// Lines on the wire, and the token of the page that follows them.
pub type Lines = (Vec<pb::InvoiceLine>, String);

/// How many lines are read for an invoice that carries some: one more, to know whether another follows.
pub const READ: i32 = CARRIED + 1;

/// The lines that an invoice carries; a BASIC one has brought none.
pub fn carried(shown: &Shown) -> Lines {
    let bill = &shown.invoice.bill;
    let lines = (1..).zip(&bill.lines).map(|(number, line)| ShownLine {
        number,
        line: line.clone(),
        currency: bill.currency,
    });
    let page = Page::first(LIST, &shown.invoice.name(), CARRIED);
    listed(&page, &bill.account, lines.collect())
}

/// A page of an invoice's lines.
pub fn listed(page: &Page, account: &str, lines: Vec<ShownLine>) -> Lines {
    page.cut(
        lines,
        |line| line.number.to_string(),
        |line| to_wire(account, line.currency, &line.line),
    )
}

/// The lines that a preview carries of a bill that was computed for an instant.
///
/// # Errors
/// None, as it goes on from no other.
pub fn preview_carried(bill: &Bill, month: Month, at: Timestamp) -> Result<Lines, Error> {
    let page = Page::first(LIST, &preview_query(&bill.account, month), CARRIED);
    previewed(&page, bill, at, None)
}

/// What tells the list of a preview's lines from every other.
pub fn preview_query(account: &str, month: Month) -> String {
    format!("{} {month}", account::name(account))
}

/// Where a page of a preview's lines begins: in which state, and after which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The instant of the first page: what took effect later is not shown.
    pub at: Timestamp,
    /// A hash of all lines: what took effect earlier may have been told later.
    state: u64,
    after: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { at, state, after } = self;
        write!(f, "{}-{state:x}-{after}", at.as_microsecond())
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, Self::Err> {
        let place = || {
            let (at, rest) = text.split_once('-')?;
            let (state, after) = rest.split_once('-')?;
            Some(Place {
                at: Timestamp::from_microsecond(at.parse().ok()?).ok()?,
                state: u64::from_str_radix(state, 16).ok()?,
                after: after.parse().ok()?,
            })
        };
        place().ok_or("is no place in a preview")
    }
}

/// A page of the lines of a bill that was computed for an instant, which is the place's if there is one.
///
/// # Errors
/// A bad page token when these are not the lines of which the first page was shown.
pub fn previewed(
    page: &Page,
    bill: &Bill,
    at: Timestamp,
    place: Option<Place>,
) -> Result<Lines, Error> {
    let lines: Vec<pb::InvoiceLine> = bill
        .lines
        .iter()
        .map(|line| to_wire(&bill.account, bill.currency, line))
        .collect();
    let state = hash(&lines);
    if place.is_some_and(|place| place.state != state) {
        let mut violations = Violations::default();
        let rule = "is of a preview that can no longer be shown as it was: begin again";
        violations.add("page_token", rule);
        violations.finish()?;
    }
    let most = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let before = place.map_or(0, |place| place.after);
    let rows = (1..).zip(lines).skip(before).take(most).collect();
    let key = |(after, _): &(usize, _)| {
        let after = *after;
        Place { at, state, after }.to_string()
    };
    Ok(page.cut(rows, key, |(_, line)| line))
}

/// Tells one state of a preview's lines from another. Where two releases hash differently, a preview begun at the one is
/// begun again at the other.
fn hash(lines: &[pb::InvoiceLine]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for line in lines {
        hasher.write(&line.encode_length_delimited_to_vec());
    }
    hasher.finish()
}

fn to_wire(account: &str, currency: Currency, line: &Line) -> pb::InvoiceLine {
    let item = &line.item;
    let amount = |minor| Some(money::to_wire(Money::new(minor, currency)));
    let mut wire = pb::InvoiceLine {
        description: item.description.clone(),
        offer: item.offer.clone(),
        quantity: item.quantity,
        unit_price: amount(item.unit_price),
        price_base_quantity: item.base_quantity,
        amount: amount(line.amount),
        price: price::name(item.price),
        tax_rate_ppm: item.tax.rate.ppm(),
        ..pb::InvoiceLine::default()
    };
    if let Some(consumption) = &item.consumption {
        wire.license_group = format!("accounts/{account}/licenseGroups/{}", consumption.group);
        wire.group_display_name = consumption.group_name.clone();
        wire.usage_policy = quote::usage_policy(consumption.policy).into();
        wire.month = consumption.month.to_string();
        wire.days = consumption.days.iter().map(day).collect();
    }
    wire
}

fn day(day: &DayUse) -> pb::InvoiceLineDay {
    pb::InvoiceLineDay {
        date: day.date.to_string(),
        peak: day.peak,
        end_of_day: day.end_of_day,
        seats: day.seats,
    }
}
