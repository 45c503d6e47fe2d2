//! Invoices with their lines, the evidence of each, and taxes. They are written once and read whole.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use octroi_calendar::Span;
use octroi_platform::{AccountId, Error, Name as _, Rows, Tx, params, row_get};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::Row;

use super::column;
use crate::domain::account::Locale;
use crate::domain::address::Address;
use crate::domain::bill::{Applied, Bill, Charged, Consumption, Item, Line, Party, TaxLine};
use crate::domain::invoice::{Draft, Invoice, InvoiceId, Shown, ShownLine, State};
use crate::domain::money::{Currency, Rate};
use crate::domain::order::OrderId;
use crate::domain::price::{OfferId, PriceId, UsagePolicy};
use crate::domain::tax::TaxCategory;
use crate::domain::usage::DayUse;

/// Reads an account's invoices, newest first: `$1` account, `$2` the only one wanted or none, `$3` id that they come
/// after in this order or none, `$4` how many, `$5` how many lines of each. Lines, which are numbered from 1, and
/// taxes come along as JSON, in one statement. An account without any answers one row of nulls, unlike
/// an account that does not exist. No alias may bear the name of a column in sight (`line`, `day`, `tax`): whole
/// rows are meant.
pub const READ: &str = "-- read_invoices
SELECT page.* FROM account LEFT JOIN LATERAL (
    SELECT invoice.*, lines, taxes, (
        SELECT max(charge.line) FROM invoice_line AS charge
        WHERE charge.account = invoice.account AND charge.invoice = invoice.id
    ) AS line_count
    FROM (
        SELECT * FROM invoice
        WHERE invoice.account = account.account AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4
    ) AS invoice, LATERAL (
        SELECT coalesce(jsonb_agg(to_jsonb(charge) ORDER BY charge.line), '[]') AS lines
        FROM invoice_line AS charge
        WHERE charge.account = invoice.account AND charge.invoice = invoice.id AND charge.line <= $5
    ) AS lines, LATERAL (
        SELECT jsonb_agg(to_jsonb(levy) ORDER BY levy.category, levy.rate_ppm) AS taxes
        FROM invoice_tax AS levy
        WHERE levy.account = invoice.account AND levy.invoice = invoice.id
    ) AS taxes
) AS page ON true
WHERE account.account = $1
ORDER BY page.id DESC";

/// Reads lines of an invoice: `$1` account, `$2` invoice, `$3` number of the line that they come after, `$4` how many.
/// The first column is null where no line follows; there is no row where there is no such invoice.
pub const READ_LINES: &str = "-- read_invoice_lines
SELECT listed.*, invoice.currency FROM invoice LEFT JOIN LATERAL (
    SELECT charge.account, charge.invoice, charge.line AS number, to_jsonb(charge) AS line
    FROM invoice_line AS charge
    WHERE charge.account = invoice.account AND charge.invoice = invoice.id AND charge.line > $3
    ORDER BY charge.line LIMIT $4
) AS listed ON true
WHERE invoice.account = $1 AND invoice.id = $2
ORDER BY listed.number";

/// A party as it is stored.
#[derive(Deserialize)]
struct StoredParty {
    legal_name: String,
    legal_form: String,
    lines: Vec<String>,
    postal_code: String,
    city: String,
    country: String,
    siren: String,
    rcs: String,
    vat_number: String,
}

/// A line as [`READ`] brings it.
#[derive(Deserialize)]
struct StoredLine {
    description: String,
    offer: String,
    group_id: Option<String>,
    group_display_name: String,
    month: Option<String>,
    usage_policy: Option<String>,
    quantity: i32,
    unit_price: i64,
    price_base_quantity: i32,
    amount: i64,
    price: String,
    tax_category: String,
    tax_rate_ppm: i32,
    first_day: Option<String>,
    peaks: Option<Vec<i32>>,
    ends_of_day: Option<Vec<i32>>,
    seats: Option<Vec<i32>>,
}

/// A tax as [`READ`] brings it.
#[derive(Deserialize)]
struct StoredTax {
    category: String,
    rate_ppm: i32,
    base: i64,
    amount: i64,
}

/// Queues issued invoices, whose lines and taxes are queued already: a statement, however many.
pub fn insert(tx: &mut Tx, invoices: &[Invoice]) {
    let bills = column(invoices, |invoice| &invoice.bill);
    let charged = column(&bills, |bill| match &bill.charged {
        Charged::Month { month, span } => ("BILL_RUN", Some((month.to_string(), *span)), None),
        Charged::Order { order } => ("ORDER", None, Some(order.id.clone())),
    });
    tx.write(
        "-- insert_invoices
         INSERT INTO invoice (
             account, id, seller, number, state, pay_time, kind, mode, month, start_time, end_time, order_id,
             currency, issue_date, due_date, locale, seller_party, buyer_party, net, tax, total, mentions,
             specimen, create_time
         )
         SELECT account, id, seller, number, state, pay_time, kind, 'POSTPAID', month, start_time, end_time, order_id,
             currency, issue_date, due_date, locale, seller_party, buyer_party, net, tax, total,
             ARRAY(SELECT jsonb_array_elements_text(mentions)), specimen, create_time
         FROM unnest(
             $1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[], $8::text[],
             $9::timestamptz[], $10::timestamptz[], $11::text[], $12::text[], $13::date[], $14::date[], $15::text[],
             $16::jsonb[], $17::jsonb[], $18::bigint[], $19::bigint[], $20::bigint[], $21::jsonb[], $22::boolean[],
             $23::timestamptz[]
         ) AS invoice (
             account, id, seller, number, state, pay_time, kind, month, start_time, end_time, order_id, currency,
             issue_date, due_date, locale, seller_party, buyer_party, net, tax, total, mentions, specimen, create_time
         )",
        params![
            column(&bills, |bill| bill.account.clone()),
            column(invoices, |invoice| invoice.id.id),
            column(&bills, |bill| bill.seller.clone()),
            column(invoices, |invoice| invoice.number.clone()),
            column(invoices, |invoice| invoice.state.as_str()),
            column(invoices, |invoice| invoice.state.paid_at()),
            column(&charged, |(kind, ..)| *kind),
            column(&charged, |(_, month, _)| month.as_ref().map(|(month, _)| month.clone())),
            column(&charged, |(_, month, _)| month.as_ref().map(|(_, span)| span.start)),
            column(&charged, |(_, month, _)| month.as_ref().map(|(_, span)| span.end)),
            column(&charged, |(.., order)| order.clone()),
            column(&bills, |bill| bill.currency.code()),
            column(invoices, |invoice| invoice.issue_date),
            column(invoices, |invoice| invoice.due_date),
            column(&bills, |bill| bill.locale.as_str()),
            column(&bills, |bill| stored_party(&bill.seller_party)),
            column(&bills, |bill| stored_party(&bill.buyer_party)),
            column(&bills, |bill| bill.net),
            column(&bills, |bill| bill.tax),
            column(&bills, |bill| bill.total),
            column(invoices, |invoice| Value::from(invoice.mentions.clone())),
            column(&bills, |bill| bill.specimen),
            column(invoices, |invoice| invoice.created_at)
        ],
        Rows::Exactly(invoices.len() as u64),
    );
}

/// Queues the lines of drafts that are about to be issued: a statement, however many.
pub fn insert_lines(tx: &mut Tx, drafts: &[Draft]) {
    let lines: Vec<(&Draft, i32, &Line)> = drafts
        .iter()
        .flat_map(|draft| {
            let lines = (1..).zip(&draft.bill.lines);
            lines.map(move |(number, line)| (draft, number, line))
        })
        .collect();
    let items = column(&lines, |(.., line)| &line.item);
    let mut evidence = Evidence::default();
    for item in &items {
        let consumption = item.consumption.as_ref();
        evidence.push(consumption.map_or(&[][..], |it| &it.days));
    }
    let consumption = |get: fn(&Consumption) -> String| -> Vec<Option<String>> {
        column(&items, |item| item.consumption.as_ref().map(get))
    };
    tx.write(
        "-- insert_lines
         INSERT INTO invoice_line (
             account, invoice, line, description, offer, group_id, group_display_name, month, usage_policy,
             quantity, unit_price, price_base_quantity, amount, price, tax_category, tax_rate_ppm,
             first_day, peaks, ends_of_day, seats
         )
         SELECT account, invoice, line, description, offer, group_id, coalesce(group_display_name, ''), month,
             usage_policy, quantity, unit_price, price_base_quantity, amount, price, tax_category, tax_rate_ppm,
             first_day, ($20::integer[])[first_place:last_place], ($21::integer[])[first_place:last_place],
             ($22::integer[])[first_place:last_place]
         FROM unnest(
             $1::text[], $2::uuid[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
             $9::text[], $10::integer[], $11::bigint[], $12::integer[], $13::bigint[], $14::uuid[], $15::text[],
             $16::integer[], $17::date[], $18::integer[], $19::integer[]
         ) AS charge (
             account, invoice, line, description, offer, group_id, group_display_name, month, usage_policy, quantity,
             unit_price, price_base_quantity, amount, price, tax_category, tax_rate_ppm, first_day, first_place, last_place
         )",
        params![
            column(&lines, |(draft, ..)| draft.bill.account.clone()),
            column(&lines, |(draft, ..)| draft.id.id),
            column(&lines, |(_, number, _)| *number),
            column(&items, |item| item.description.clone()),
            column(&items, |item| item.offer.to_string()),
            consumption(|of| of.group.clone()),
            consumption(|of| of.group_name.clone()),
            consumption(|of| of.month.to_string()),
            consumption(|of| of.policy.as_str().to_owned()),
            column(&items, |item| item.quantity),
            column(&items, |item| item.unit_price),
            column(&items, |item| item.base_quantity),
            column(&lines, |(.., line)| line.amount),
            column(&items, |item| item.price),
            column(&items, |item| item.tax.category.as_str()),
            column(&items, |item| item.tax.rate.ppm()),
            evidence.first_days,
            evidence.first_places,
            evidence.last_places,
            evidence.peaks,
            evidence.ends_of_day,
            evidence.seats
        ],
        Rows::Exactly(lines.len() as u64),
    );
}

/// The days of lines as they are kept: the first of each, and from there on each day's peak, its end and its seats, 0
/// where nothing was active. No list of lists can be unnested, so all lines' days stand in one list, and each line says
/// from where to where its own are.
#[derive(Default)]
struct Evidence {
    first_days: Vec<Option<Date>>,
    first_places: Vec<Option<i32>>,
    last_places: Vec<Option<i32>>,
    peaks: Vec<i32>,
    ends_of_day: Vec<i32>,
    seats: Vec<i32>,
}

impl Evidence {
    /// Adds a line's days.
    fn push(&mut self, days: &[DayUse]) {
        let before = self.peaks.len();
        let mut next = days.first().map(|day| day.date);
        self.first_days.push(next);
        for day in days {
            while next.is_some_and(|next| next < day.date) {
                self.add(0, 0, 0);
                next = next.map(|next| next.saturating_add(1.day()));
            }
            self.add(day.peak, day.end_of_day, day.seats);
            next = next.map(|next| next.saturating_add(1.day()));
        }
        let place = |place: usize| next.and(i32::try_from(place).ok());
        self.first_places.push(place(before + 1));
        self.last_places.push(place(self.peaks.len()));
    }

    fn add(&mut self, peak: i32, end_of_day: i32, seats: i32) {
        self.peaks.push(peak);
        self.ends_of_day.push(end_of_day);
        self.seats.push(seats);
    }
}

/// The days of a line as it is kept: those with activity.
fn read_days(line: &StoredLine) -> Option<Vec<DayUse>> {
    let Some(first_day) = &line.first_day else {
        return Some(Vec::new());
    };
    let first_day: Date = first_day.parse().ok()?;
    let (peaks, ends, seats) = (
        line.peaks.as_ref()?,
        line.ends_of_day.as_ref()?,
        line.seats.as_ref()?,
    );
    let days = first_day.series(1.day()).zip(peaks).zip(ends).zip(seats);
    let days = days.map(|(((date, peak), end_of_day), seats)| DayUse {
        date,
        peak: *peak,
        end_of_day: *end_of_day,
        seats: *seats,
    });
    Some(days.filter(|day| day.seats > 0).collect())
}

/// Queues the taxes of drafts that are about to be issued: a statement, however many.
pub fn insert_taxes(tx: &mut Tx, drafts: &[Draft]) {
    let taxes: Vec<(&Draft, &TaxLine)> = drafts
        .iter()
        .flat_map(|draft| draft.bill.taxes.iter().map(move |tax| (draft, tax)))
        .collect();
    tx.write(
        "-- insert_taxes
         INSERT INTO invoice_tax (account, invoice, category, rate_ppm, base, amount)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::integer[], $5::bigint[], $6::bigint[])",
        params![
            column(&taxes, |(draft, _)| draft.bill.account.clone()),
            column(&taxes, |(draft, _)| draft.id.id),
            column(&taxes, |(_, line)| line.tax.category.as_str()),
            column(&taxes, |(_, line)| line.tax.rate.ppm()),
            column(&taxes, |(_, line)| line.base),
            column(&taxes, |(_, line)| line.amount)
        ],
        Rows::Exactly(taxes.len() as u64),
    );
}

/// Reads a row of [`READ`].
pub fn from_row(row: &Row) -> Result<Shown, Error> {
    Ok(Shown {
        invoice: invoice(row)?,
        line_count: row_get(row, "line_count")?,
    })
}

/// Reads a row of [`READ_LINES`].
pub fn line_from_row(row: &Row) -> Result<ShownLine, Error> {
    let number = row_get(row, "number")?;
    let invoice: InvoiceId = id(row, "invoice")?;
    let corrupt = |column| Error::Corrupt {
        table: "invoice_line",
        column,
        id: format!("{invoice}/{number}"),
    };
    let line: StoredLine = stored(row, "line").map_err(|_| corrupt("line"))?;
    let line = read_line(line).ok_or_else(|| corrupt("line"))?;
    Ok(ShownLine {
        account: invoice.account,
        number,
        line,
        currency: super::currency(row, "invoice", "currency")?,
    })
}

fn id(row: &Row, column: &str) -> Result<InvoiceId, Error> {
    Ok(InvoiceId {
        account: row_get(row, "account")?,
        id: row_get(row, column)?,
    })
}

fn invoice(row: &Row) -> Result<Invoice, Error> {
    let id = id(row, "id")?;
    let corrupt = |column| Error::Corrupt {
        table: "invoice",
        column,
        id: id.to_string(),
    };
    let paid: Option<Timestamp> = row_get(row, "pay_time")?;
    let lines: Vec<StoredLine> = stored(row, "lines").map_err(|_| corrupt("lines"))?;
    let taxes: Vec<StoredTax> = stored(row, "taxes").map_err(|_| corrupt("taxes"))?;
    let lines: Option<Vec<Line>> = lines.into_iter().map(read_line).collect();
    let taxes: Option<Vec<TaxLine>> = taxes.into_iter().map(read_tax).collect();
    let seller: StoredParty = stored(row, "seller_party").map_err(|_| corrupt("seller_party"))?;
    let buyer: StoredParty = stored(row, "buyer_party").map_err(|_| corrupt("buyer_party"))?;
    Ok(Invoice {
        number: row_get(row, "number")?,
        state: match (row_get::<&str>(row, "state")?, paid) {
            ("OPEN", None) => State::Open,
            ("PAID", Some(at)) => State::Paid { at },
            _ => return Err(corrupt("state")),
        },
        issue_date: row_get(row, "issue_date")?,
        due_date: row_get(row, "due_date")?,
        mentions: row_get(row, "mentions")?,
        created_at: row_get(row, "create_time")?,
        bill: Bill {
            account: id.account.clone(),
            charged: charged(row)?.ok_or_else(|| corrupt("kind"))?,
            seller: row_get(row, "seller")?,
            seller_party: read_party(seller),
            buyer_party: read_party(buyer),
            currency: Currency::find(row_get(row, "currency")?)
                .ok_or_else(|| corrupt("currency"))?,
            locale: Locale::parse(row_get(row, "locale")?).ok_or_else(|| corrupt("locale"))?,
            lines: lines.ok_or_else(|| corrupt("lines"))?,
            taxes: taxes.ok_or_else(|| corrupt("taxes"))?,
            net: row_get(row, "net")?,
            tax: row_get(row, "tax")?,
            total: row_get(row, "total")?,
            specimen: row_get(row, "specimen")?,
        },
        id,
    })
}

fn charged(row: &Row) -> Result<Option<Charged>, Error> {
    let month: Option<&str> = row_get(row, "month")?;
    let start: Option<Timestamp> = row_get(row, "start_time")?;
    let end: Option<Timestamp> = row_get(row, "end_time")?;
    let order: Option<String> = row_get(row, "order_id")?;
    let account: AccountId = row_get(row, "account")?;
    Ok(match (month, start, end, order) {
        (Some(month), Some(start), Some(end), None) => {
            month.parse().ok().map(|month| Charged::Month {
                month,
                span: Span { start, end },
            })
        }
        (None, None, None, Some(id)) => {
            let order = OrderId { account, id };
            Some(Charged::Order { order })
        }
        _ => None,
    })
}

fn read_line(stored: StoredLine) -> Option<Line> {
    let days = read_days(&stored);
    let consumption = match (stored.group_id, stored.month, stored.usage_policy) {
        (Some(group), Some(month), Some(policy)) => Some(Consumption {
            group,
            group_name: stored.group_display_name,
            month: month.parse().ok()?,
            policy: UsagePolicy::parse(&policy)?,
            days: days?,
        }),
        _ => None,
    };
    Some(Line {
        item: Item {
            description: stored.description,
            offer: OfferId::parse(&stored.offer)?,
            consumption,
            quantity: stored.quantity,
            unit_price: stored.unit_price,
            base_quantity: stored.price_base_quantity,
            price: PriceId(stored.price.parse().ok()?),
            tax: Applied {
                category: TaxCategory::parse(&stored.tax_category)?,
                rate: Rate::from_ppm(stored.tax_rate_ppm)?,
            },
        },
        amount: stored.amount,
    })
}

fn read_tax(stored: StoredTax) -> Option<TaxLine> {
    Some(TaxLine {
        tax: Applied {
            category: TaxCategory::parse(&stored.category)?,
            rate: Rate::from_ppm(stored.rate_ppm)?,
        },
        base: stored.base,
        amount: stored.amount,
    })
}

fn stored<T: for<'a> Deserialize<'a>>(row: &Row, column: &str) -> Result<T, anyhow::Error> {
    let value: Value = row_get(row, column)?;
    Ok(serde_json::from_value(value)?)
}

fn stored_party(party: &Party) -> Value {
    let address = &party.address;
    serde_json::json!({
        "legal_name": party.legal_name,
        "legal_form": party.legal_form,
        "lines": address.lines,
        "postal_code": address.postal_code,
        "city": address.city,
        "country": address.country,
        "siren": party.siren,
        "rcs": party.rcs,
        "vat_number": party.vat_number,
    })
}

fn read_party(stored: StoredParty) -> Party {
    Party {
        legal_name: stored.legal_name,
        legal_form: stored.legal_form,
        address: Address {
            lines: stored.lines,
            postal_code: stored.postal_code,
            city: stored.city,
            country: stored.country,
        },
        siren: stored.siren,
        rcs: stored.rcs,
        vat_number: stored.vat_number,
    }
}
