//! Lines of invoices and of previews. They are a list of their own, of which an invoice carries the first page.

use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use jiff::Timestamp;
use octroi_api::billing::v1 as wire;
use octroi_calendar::Month;
use octroi_platform::{AccountId, Error, Page};
use prost::Message as _;

use crate::domain::bill::{Bill, Line};
use crate::domain::invoice::{Shown, ShownLine};
use crate::domain::money::{Currency, Money};
use crate::domain::order::GroupId;
use crate::domain::usage::DayUse;

/// The list's method.
const LIST: &str = "octroi.billing.v1.InvoiceService/ListInvoiceLines";
/// How many lines an invoice carries itself, at most. With their days they weigh 250 KB at most.
const CARRIED: i32 = 100;

/// Lines on the wire, and the token of the page that follows them.
pub type Lines = (Vec<wire::InvoiceLine>, String);

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
    let list = wire::ListInvoiceLinesRequest {
        parent: shown.invoice.id.to_string(),
        ..wire::ListInvoiceLinesRequest::default()
    };
    let page = Page::first(LIST, list, CARRIED);
    listed(&page, &bill.account, lines.collect())
}

/// A page of an invoice's lines.
pub fn listed(page: &Page<Place>, account: &AccountId, lines: Vec<ShownLine>) -> Lines {
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
    let list = wire::ListInvoiceLinesRequest {
        parent: bill.account.to_string(),
        month: month.to_string(),
        ..wire::ListInvoiceLinesRequest::default()
    };
    previewed(&Page::first(LIST, list, CARRIED), bill, at)
}

/// Where a page of lines begins: after which line, and of which state of a preview.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub preview: Option<PreviewState>,
    pub after: i32,
}

/// What a preview showed at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewState {
    /// The instant of the first page: what took effect later is not shown.
    pub at: Timestamp,
    /// A hash of all lines: what took effect earlier may have been told later.
    hash: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(PreviewState { at, hash }) = self.preview {
            write!(f, "{}-{hash:x}-", at.as_microsecond())?;
        }
        write!(f, "{}", self.after)
    }
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, Self::Err> {
        let place = || {
            let Some((state, after)) = text.rsplit_once('-') else {
                return Some(Place {
                    preview: None,
                    after: text.parse().ok()?,
                });
            };
            let (at, hash) = state.rsplit_once('-')?;
            let preview = PreviewState {
                at: Timestamp::from_microsecond(at.parse().ok()?).ok()?,
                hash: u64::from_str_radix(hash, 16).ok()?,
            };
            Some(Place {
                preview: Some(preview),
                after: after.parse().ok()?,
            })
        };
        place().ok_or("is no place among lines")
    }
}

/// A page of the lines of a bill that was computed for an instant, which is the page's if it goes on from another.
///
/// # Errors
/// A bad page token when these are not the lines of which the first page was shown.
pub fn previewed(page: &Page<Place>, bill: &Bill, at: Timestamp) -> Result<Lines, Error> {
    let lines: Vec<wire::InvoiceLine> = bill
        .lines
        .iter()
        .map(|line| to_wire(&bill.account, bill.currency, line))
        .collect();
    let state = PreviewState {
        at,
        hash: hash(&lines),
    };
    if page.after.is_some_and(|place| place.preview != Some(state)) {
        let rule = "is of a preview that can no longer be shown as it was: begin again";
        return Err(Error::invalid("page_token", rule));
    }
    let most = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let before = page.after.map_or(0, |place| place.after);
    let rows = (1..).zip(lines).filter(|(number, _)| *number > before);
    let key = |(after, _): &(i32, _)| {
        Place {
            preview: Some(state),
            after: *after,
        }
        .to_string()
    };
    Ok(page.cut(rows.take(most).collect(), key, |(_, line)| line))
}

/// Tells one state of a preview's lines from another. Where two releases hash differently, a preview begun at the one is
/// begun again at the other.
fn hash(lines: &[wire::InvoiceLine]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for line in lines {
        hasher.write(&line.encode_length_delimited_to_vec());
    }
    hasher.finish()
}

fn to_wire(account: &AccountId, currency: Currency, line: &Line) -> wire::InvoiceLine {
    let item = &line.item;
    let amount = |minor| Some(Money::new(minor, currency).into());
    let mut shown = wire::InvoiceLine {
        description: item.description.clone(),
        offer: item.offer.to_string(),
        quantity: item.quantity,
        unit_price: amount(item.unit_price),
        price_base_quantity: item.base_quantity,
        amount: amount(line.amount),
        price: item.price.to_string(),
        tax_rate_ppm: item.tax.rate.ppm(),
        ..wire::InvoiceLine::default()
    };
    if let Some(consumption) = &item.consumption {
        shown.license_group = GroupId {
            account: account.clone(),
            id: consumption.group.clone(),
        }
        .to_string();
        shown.group_display_name = consumption.group_name.clone();
        shown.usage_policy = wire::UsagePolicy::from(consumption.policy).into();
        shown.month = consumption.month.to_string();
        shown.days = consumption.days.iter().map(day).collect();
    }
    shown
}

fn day(day: &DayUse) -> wire::InvoiceLineDay {
    wire::InvoiceLineDay {
        date: day.date.to_string(),
        peak: day.peak,
        end_of_day: day.end_of_day,
        seats: day.seats,
    }
}
