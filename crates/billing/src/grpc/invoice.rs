//! octroi.billing.v1.InvoiceService.

use std::sync::Arc;

use jiff::civil::Date;
use octroi_api::billing::v1 as pb;
use octroi_api::billing::v1::invoice::{Kind, State as WireState};
use octroi_api::billing::v1::invoice_service_server::InvoiceService;
use octroi_platform::calendar::Month;
use octroi_platform::event::to_proto;
use octroi_platform::{Call, Page, Violations};
use tonic::{Request, Response, Status};

use super::account::{account_id, address};
use super::payment_method::child;
use super::{checked, money, quote};
use crate::app::App;
use crate::domain::bill::{Bill, Charged, Line, Party, TaxLine};
use crate::domain::invoice::{Invoice, State};
use crate::domain::money::Money;
use crate::domain::price;
use crate::domain::usage::DayUse;

/// Invoices.
pub struct InvoiceApi(pub Arc<App>);

#[tonic::async_trait]
impl InvoiceService for InvoiceApi {
    async fn get_invoice(
        &self,
        request: Request<pb::GetInvoiceRequest>,
    ) -> Result<Response<pb::Invoice>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let (account, id) = child("name", &request.name, "invoices", &mut violations);
        violations.finish()?;
        Ok(Response::new(to_wire(
            &self.0.get_invoice(&call, &account, id).await?,
        )))
    }

    async fn list_invoices(
        &self,
        request: Request<pb::ListInvoicesRequest>,
    ) -> Result<Response<pb::ListInvoicesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let account = account_id("parent", &request.parent, &mut violations);
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &request.parent,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let before = page.key(&mut violations);
        violations.finish()?;
        let invoices = self.0.list_invoices(&call, &account, before, &page).await?;
        let (invoices, next_page_token) = page.cut(
            invoices,
            |invoice| invoice.id.to_string(),
            |it| to_wire(&it),
        );
        Ok(Response::new(pb::ListInvoicesResponse {
            invoices,
            next_page_token,
        }))
    }

    async fn preview_invoice(
        &self,
        request: Request<pb::PreviewInvoiceRequest>,
    ) -> Result<Response<pb::Invoice>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let account = account_id("parent", &request.parent, &mut violations);
        let month = violations.check("month", request.month.parse::<Month>());
        let month = checked(month, violations)?;
        Ok(Response::new(bill(
            &self.0.preview_invoice(&call, &account, month).await?,
        )))
    }
}

/// A bill as an invoice that is not issued: without name, number, dates and mentions.
fn bill(bill: &Bill) -> pb::Invoice {
    let amount = |minor| Some(money::to_wire(Money::new(minor, bill.currency)));
    let (kind, month, order, span) = match &bill.charged {
        Charged::Month { month, span } => {
            (Kind::BillRun, month.to_string(), String::new(), Some(span))
        }
        Charged::Order { order } => {
            let order = format!("accounts/{}/orders/{order}", bill.account);
            (Kind::Order, String::new(), order, None)
        }
    };
    pb::Invoice {
        kind: kind.into(),
        month,
        order,
        seller: Some(party(&bill.seller_party)),
        buyer: Some(party(&bill.buyer_party)),
        lines: bill.lines.iter().map(|of| line(bill, of)).collect(),
        taxes: bill.taxes.iter().map(|of| tax(bill, of)).collect(),
        net: amount(bill.net),
        tax: amount(bill.tax),
        total: amount(bill.total),
        specimen: bill.specimen,
        period_start_time: span.map(|span| to_proto(span.start)),
        period_end_time: span.map(|span| to_proto(span.end)),
        ..pb::Invoice::default()
    }
}

fn to_wire(invoice: &Invoice) -> pb::Invoice {
    let state = match invoice.state {
        State::Open => WireState::Open,
        State::Paid { .. } => WireState::Paid,
    };
    let date = |date: Date| date.to_string();
    pb::Invoice {
        name: invoice.name(),
        number: invoice.number.clone(),
        state: state.into(),
        issue_date: date(invoice.issue_date),
        due_date: date(invoice.due_date),
        mentions: invoice.mentions.clone(),
        create_time: Some(to_proto(invoice.created)),
        ..bill(&invoice.bill)
    }
}

fn party(party: &Party) -> pb::InvoiceParty {
    pb::InvoiceParty {
        legal_name: party.legal_name.clone(),
        legal_form: party.legal_form.clone(),
        address: Some(address(&party.address)),
        siren: party.siren.clone(),
        rcs: party.rcs.clone(),
        vat_number: party.vat_number.clone(),
    }
}

fn line(bill: &Bill, line: &Line) -> pb::InvoiceLine {
    let item = &line.item;
    let amount = |minor| Some(money::to_wire(Money::new(minor, bill.currency)));
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
        wire.license_group = format!(
            "accounts/{}/licenseGroups/{}",
            bill.account, consumption.group
        );
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

fn tax(bill: &Bill, line: &TaxLine) -> pb::InvoiceTax {
    let amount = |minor| Some(money::to_wire(Money::new(minor, bill.currency)));
    pb::InvoiceTax {
        category: line.tax.category.as_str().to_owned(),
        rate_ppm: line.tax.rate.ppm(),
        base: amount(line.base),
        amount: amount(line.amount),
    }
}
