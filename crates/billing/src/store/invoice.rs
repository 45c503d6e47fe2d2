//! Invoices with their lines, daily evidence and taxes. They are written once and read whole.

use jiff::Timestamp;
use jiff::civil::Date;
use octroi_platform::calendar::Span;
use octroi_platform::{Error, Rows, Tx, params, row_get};
use serde::Deserialize;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::domain::account::Locale;
use crate::domain::address::Address;
use crate::domain::bill::{Applied, Bill, Charged, Consumption, Item, Line, Party, TaxLine};
use crate::domain::invoice::{Invoice, State};
use crate::domain::money::{Currency, Rate};
use crate::domain::price::UsagePolicy;
use crate::domain::tax::TaxCategory;
use crate::domain::usage::DayUse;

/// Reads an account's invoices, newest first: `$1` account, `$2` the only one wanted or none, `$3` id that they come
/// after in this order or none, `$4` how many. Lines, days and taxes come along as JSON, in one statement. An account
/// without any answers one row of nulls, so that it is told from an account that does not exist. No alias may bear the
/// name of a column in sight (`line`, `day`, `tax`): whole rows are meant.
pub const READ: &str = "-- read_invoices
SELECT page.* FROM account LEFT JOIN LATERAL (
    SELECT invoice.*, lines, taxes
    FROM (
        SELECT * FROM invoice
        WHERE invoice.account = account.account AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4
    ) AS invoice, LATERAL (
        SELECT jsonb_agg(to_jsonb(charge) || jsonb_build_object('days', days) ORDER BY charge.line) AS lines
        FROM invoice_line AS charge, LATERAL (
            SELECT coalesce(jsonb_agg(to_jsonb(proof) ORDER BY proof.day), '[]') AS days
            FROM invoice_line_day AS proof
            WHERE proof.account = charge.account AND proof.invoice = charge.invoice AND proof.line = charge.line
        ) AS evidence
        WHERE charge.account = invoice.account AND charge.invoice = invoice.id
    ) AS lines, LATERAL (
        SELECT jsonb_agg(to_jsonb(levy) ORDER BY levy.category, levy.rate_ppm) AS taxes
        FROM invoice_tax AS levy
        WHERE levy.account = invoice.account AND levy.invoice = invoice.id
    ) AS taxes
) AS page ON true
WHERE account.account = $1
ORDER BY page.id DESC";

/// A party as it is kept.
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
    days: Vec<StoredDay>,
}

/// A day as [`READ`] brings it.
#[derive(Deserialize)]
struct StoredDay {
    day: String,
    peak: i32,
    end_of_day: i32,
    seats: i32,
}

/// A tax as [`READ`] brings it.
#[derive(Deserialize)]
struct StoredTax {
    category: String,
    rate_ppm: i32,
    base: i64,
    amount: i64,
}

/// Queues an issued invoice with its lines, evidence and taxes.
pub fn insert(tx: &mut Tx, invoice: &Invoice) {
    insert_invoice(tx, invoice);
    insert_lines(tx, invoice);
    insert_days(tx, invoice);
    insert_taxes(tx, invoice);
}

fn insert_invoice(tx: &mut Tx, invoice: &Invoice) {
    let bill = &invoice.bill;
    let (kind, month, span, order) = match &bill.charged {
        Charged::Month { month, span } => ("BILL_RUN", Some(month.to_string()), Some(*span), None),
        Charged::Order { order } => ("ORDER", None, None, Some(order.clone())),
    };
    tx.write(
        "-- insert_invoice
         INSERT INTO invoice (
             account, id, seller, number, state, pay_time, kind, mode, month, start_time, end_time, order_id,
             currency, issue_date, due_date, locale, seller_party, buyer_party, net, tax, total, mentions,
             specimen, create_time
         ) VALUES (
             $1, $2, $3, $4, $5, $6, $7, 'POSTPAID', $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
             $20, $21, $22, $23
         )",
        params![
            bill.account.clone(),
            invoice.id,
            bill.seller.clone(),
            invoice.number.clone(),
            invoice.state.as_str(),
            invoice.state.paid_at(),
            kind,
            month,
            span.map(|span| span.start),
            span.map(|span| span.end),
            order,
            bill.currency.code(),
            invoice.issue_date,
            invoice.due_date,
            bill.locale.as_str(),
            stored_party(&bill.seller_party),
            stored_party(&bill.buyer_party),
            bill.net,
            bill.tax,
            bill.total,
            invoice.mentions.clone(),
            bill.specimen,
            invoice.created
        ],
        Rows::Exactly(1),
    );
}

fn insert_lines(tx: &mut Tx, invoice: &Invoice) {
    let lines = &invoice.bill.lines;
    let consumption = |get: fn(&Consumption) -> String| -> Vec<Option<String>> {
        lines
            .iter()
            .map(|line| line.item.consumption.as_ref().map(get))
            .collect()
    };
    let item = |get: fn(&Item) -> String| -> Vec<String> {
        lines.iter().map(|line| get(&line.item)).collect()
    };
    let numbers =
        |get: fn(&Item) -> i32| -> Vec<i32> { lines.iter().map(|line| get(&line.item)).collect() };
    tx.write(
        "-- insert_lines
         INSERT INTO invoice_line (
             account, invoice, line, description, offer, group_id, group_display_name, month, usage_policy,
             quantity, unit_price, price_base_quantity, amount, price, tax_category, tax_rate_ppm
         )
         SELECT $1, $2, line.ordinality, description, offer, group_id, coalesce(group_display_name, ''), month,
             usage_policy, quantity, unit_price, price_base_quantity, amount, price, tax_category, tax_rate_ppm
         FROM unnest(
             $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::integer[],
             $10::bigint[], $11::integer[], $12::bigint[], $13::uuid[], $14::text[], $15::integer[]
         ) WITH ORDINALITY AS line (
             description, offer, group_id, group_display_name, month, usage_policy, quantity, unit_price,
             price_base_quantity, amount, price, tax_category, tax_rate_ppm
         )",
        params![
            invoice.bill.account.clone(),
            invoice.id,
            item(|item| item.description.clone()),
            item(|item| item.offer.clone()),
            consumption(|of| of.group.clone()),
            consumption(|of| of.group_name.clone()),
            consumption(|of| of.month.to_string()),
            consumption(|of| of.policy.as_str().to_owned()),
            numbers(|item| item.quantity),
            lines.iter().map(|line| line.item.unit_price).collect::<Vec<i64>>(),
            numbers(|item| item.base_quantity),
            lines.iter().map(|line| line.amount).collect::<Vec<i64>>(),
            lines.iter().map(|line| line.item.price).collect::<Vec<Uuid>>(),
            item(|item| item.tax.category.as_str().to_owned()),
            numbers(|item| item.tax.rate.ppm())
        ],
        Rows::Exactly(lines.len() as u64),
    );
}

fn insert_days(tx: &mut Tx, invoice: &Invoice) {
    let days: Vec<(i32, DayUse)> = (1..)
        .zip(&invoice.bill.lines)
        .filter_map(|(number, line)| Some((number, line.item.consumption.as_ref()?)))
        .flat_map(|(number, consumption)| consumption.days.iter().map(move |day| (number, *day)))
        .collect();
    if days.is_empty() {
        return;
    }
    let counts =
        |get: fn(&DayUse) -> i32| -> Vec<i32> { days.iter().map(|(_, day)| get(day)).collect() };
    tx.write(
        "-- insert_days
         INSERT INTO invoice_line_day (account, invoice, line, day, peak, end_of_day, seats)
         SELECT $1, $2, *
         FROM unnest($3::integer[], $4::date[], $5::integer[], $6::integer[], $7::integer[])",
        params![
            invoice.bill.account.clone(),
            invoice.id,
            days.iter().map(|(line, _)| *line).collect::<Vec<i32>>(),
            days.iter().map(|(_, day)| day.date).collect::<Vec<Date>>(),
            counts(|day| day.peak),
            counts(|day| day.end_of_day),
            counts(|day| day.seats)
        ],
        Rows::Exactly(days.len() as u64),
    );
}

fn insert_taxes(tx: &mut Tx, invoice: &Invoice) {
    let taxes = &invoice.bill.taxes;
    tx.write(
        "-- insert_taxes
         INSERT INTO invoice_tax (account, invoice, category, rate_ppm, base, amount)
         SELECT $1, $2, * FROM unnest($3::text[], $4::integer[], $5::bigint[], $6::bigint[])",
        params![
            invoice.bill.account.clone(),
            invoice.id,
            taxes
                .iter()
                .map(|line| line.tax.category.as_str())
                .collect::<Vec<_>>(),
            taxes
                .iter()
                .map(|line| line.tax.rate.ppm())
                .collect::<Vec<_>>(),
            taxes.iter().map(|line| line.base).collect::<Vec<_>>(),
            taxes.iter().map(|line| line.amount).collect::<Vec<_>>()
        ],
        Rows::Exactly(taxes.len() as u64),
    );
}

/// Reads a row of [`READ`]; none for the row of nulls.
pub fn from_row(row: &Row) -> Result<Option<Invoice>, Error> {
    match row_get::<Option<Uuid>>(row, "id")? {
        None => Ok(None),
        Some(id) => invoice(row, id).map(Some),
    }
}

fn invoice(row: &Row, id: Uuid) -> Result<Invoice, Error> {
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
        id,
        number: row_get(row, "number")?,
        state: match (row_get::<&str>(row, "state")?, paid) {
            ("OPEN", None) => State::Open,
            ("PAID", Some(at)) => State::Paid { at },
            _ => return Err(corrupt("state")),
        },
        issue_date: row_get(row, "issue_date")?,
        due_date: row_get(row, "due_date")?,
        mentions: row_get(row, "mentions")?,
        created: row_get(row, "create_time")?,
        bill: Bill {
            account: row_get(row, "account")?,
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
    })
}

fn charged(row: &Row) -> Result<Option<Charged>, Error> {
    let month: Option<&str> = row_get(row, "month")?;
    let start: Option<Timestamp> = row_get(row, "start_time")?;
    let end: Option<Timestamp> = row_get(row, "end_time")?;
    let order: Option<String> = row_get(row, "order_id")?;
    Ok(match (month, start, end, order) {
        (Some(month), Some(start), Some(end), None) => {
            month.parse().ok().map(|month| Charged::Month {
                month,
                span: Span { start, end },
            })
        }
        (None, None, None, Some(order)) => Some(Charged::Order { order }),
        _ => None,
    })
}

fn read_line(stored: StoredLine) -> Option<Line> {
    let days: Option<Vec<DayUse>> = stored
        .days
        .into_iter()
        .map(|day| {
            Some(DayUse {
                date: day.day.parse().ok()?,
                peak: day.peak,
                end_of_day: day.end_of_day,
                seats: day.seats,
            })
        })
        .collect();
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
            offer: stored.offer,
            consumption,
            quantity: stored.quantity,
            unit_price: stored.unit_price,
            base_quantity: stored.price_base_quantity,
            price: stored.price.parse().ok()?,
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
