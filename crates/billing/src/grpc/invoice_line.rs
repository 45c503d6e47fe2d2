//! Lines of invoices and of previews. They are a list of their own, of which an invoice carries the first page.

use std::hash::Hasher as _;

use jiff::Timestamp;
use octroi_api::billing::v1 as wire;
use octroi_calendar::Month;
use octroi_platform::{Error, Page};
use prost::Message as _;

use crate::domain::bill::Bill;
use crate::domain::invoice::{Place, PreviewState, Shown, ShownLine};
use crate::domain::money::Money;
use crate::domain::order::GroupId;
use crate::domain::usage::DayUse;

/// The list's method.
const LIST: &str = "octroi.billing.v1.InvoiceService/ListInvoiceLines";
/// How many lines an invoice carries itself, at most. With their days they weigh 250 KB at most.
const CARRIED: i32 = 100;

/// Lines on the wire, and the token of the page that follows them.
pub(crate) type Lines = (Vec<wire::InvoiceLine>, String);

/// How many lines are read for an invoice that carries some: one more, to know whether another follows.
pub(crate) const READ: i32 = CARRIED + 1;

/// The lines that an invoice carries; a BASIC one has brought none.
pub(crate) fn carried(shown: &Shown) -> Lines {
    let list = wire::ListInvoiceLinesRequest {
        parent: shown.invoice.id.to_string(),
        ..wire::ListInvoiceLinesRequest::default()
    };
    let page = Page::first(LIST, list, CARRIED);
    listed(&page, shown_lines(&shown.invoice.bill))
}

/// A page of an invoice's lines.
pub(crate) fn listed(page: &Page<Place>, lines: Vec<ShownLine>) -> Lines {
    page.cut(lines, |it| it.number.to_string(), |it| (&it).into())
}

fn shown_lines(bill: &Bill) -> Vec<ShownLine> {
    let lines = (1..).zip(&bill.lines).map(|(number, line)| ShownLine {
        account: bill.account.clone(),
        number,
        line: line.clone(),
        currency: bill.currency,
    });
    lines.collect()
}

/// The lines that a preview carries of a bill that was computed for an instant.
///
/// # Errors
/// None, as it goes on from no other.
pub(crate) fn preview_carried(bill: &Bill, month: Month, at: Timestamp) -> Result<Lines, Error> {
    let list = wire::ListInvoiceLinesRequest {
        parent: bill.account.to_string(),
        month: month.to_string(),
        ..wire::ListInvoiceLinesRequest::default()
    };
    previewed(&Page::first(LIST, list, CARRIED), bill, at)
}

/// A page of the lines of a bill that was computed for an instant, which is the page's if it goes on from another.
///
/// # Errors
/// A bad page token when these are not the lines of which the first page was shown.
pub(crate) fn previewed(page: &Page<Place>, bill: &Bill, at: Timestamp) -> Result<Lines, Error> {
    let lines: Vec<wire::InvoiceLine> = shown_lines(bill).iter().map(Into::into).collect();
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

/// Identifies the state of a preview's lines. Releases may hash differently: a preview begun before an upgrade must then
/// begin again.
fn hash(lines: &[wire::InvoiceLine]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for line in lines {
        hasher.write(&line.encode_length_delimited_to_vec());
    }
    hasher.finish()
}

impl From<&ShownLine> for wire::InvoiceLine {
    fn from(shown: &ShownLine) -> Self {
        let item = &shown.line.item;
        let amount = |minor| Some(Money::new(minor, shown.currency).into());
        let mut line = Self {
            description: item.description.clone(),
            offer: item.offer.to_string(),
            quantity: item.quantity,
            unit_price: amount(item.unit_price),
            price_base_quantity: item.base_quantity,
            amount: amount(shown.line.amount),
            price: item.price.to_string(),
            tax_rate_ppm: item.tax.rate.ppm(),
            ..Self::default()
        };
        if let Some(consumption) = &item.consumption {
            let group = GroupId {
                account: shown.account.clone(),
                id: consumption.group.clone(),
            };
            line.license_group = group.to_string();
            line.group_display_name = consumption.group_name.clone();
            line.usage_policy = wire::UsagePolicy::from(consumption.policy).into();
            line.month = consumption.month.to_string();
            line.days = consumption.days.iter().map(day).collect();
        }
        line
    }
}

fn day(day: &DayUse) -> wire::InvoiceLineDay {
    wire::InvoiceLineDay {
        date: day.date.to_string(),
        peak: day.peak,
        end_of_day: day.end_of_day,
        seats: day.seats,
    }
}
