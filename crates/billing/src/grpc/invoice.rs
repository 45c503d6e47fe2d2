//! octroi.billing.v1.InvoiceService.

use std::sync::Arc;

use jiff::civil::Date;
use octroi_api::billing::v1 as pb;
use octroi_api::billing::v1::InvoiceView;
use octroi_api::billing::v1::invoice::{Kind, State as WireState};
use octroi_api::billing::v1::invoice_service_server::InvoiceService;
use octroi_calendar::Month;
use octroi_platform::event::to_proto;
use octroi_platform::name::parse;
use octroi_platform::{Call, Page, Violations};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::account::{account_id, address};
use super::invoice_line::{self, Lines, Place};
use super::payment_method::child;
use super::{checked, money};
use crate::app::App;
use crate::domain::bill::{Bill, Charged, Party, TaxLine};
use crate::domain::invoice::{self, Shown, State};
use crate::domain::money::Money;

/// The most invoices with lines on a page: more would be read and not shown, as a page's weight ends it before.
const LARGEST_FULL_PAGE: i32 = 50;

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
        let lines = invoice_line::READ;
        let invoice = self.0.get_invoice(&call, &account, id, lines).await?;
        Ok(Response::new(to_wire(&invoice)))
    }

    async fn list_invoices(
        &self,
        request: Request<pb::ListInvoicesRequest>,
    ) -> Result<Response<pb::ListInvoicesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let account = account_id("parent", &request.parent, &mut violations);
        if InvoiceView::try_from(request.view).is_err() {
            violations.add("view", "must be a value of InvoiceView");
        }
        let (size, lines) = match request.view() {
            InvoiceView::Unspecified | InvoiceView::Basic => (request.page_size, 0),
            InvoiceView::Full => (request.page_size.min(LARGEST_FULL_PAGE), invoice_line::READ),
        };
        let page = Page::parse(
            &call,
            size,
            &request.page_token,
            &request.parent,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let before = page.key(&mut violations);
        violations.finish()?;
        let invoices = self
            .0
            .list_invoices(&call, &account, before, &page, lines)
            .await?;
        let (invoices, next_page_token) =
            page.cut(invoices, |it| it.invoice.id.to_string(), |it| to_wire(&it));
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
        let at = call.now;
        let preview = self.0.preview_invoice(&call, &account, month, at).await?;
        let lines = invoice_line::preview_carried(&preview, month, at)?;
        let count = i32::try_from(preview.lines.len()).unwrap_or(i32::MAX);
        Ok(Response::new(bill(&preview, lines, count)))
    }

    async fn list_invoice_lines(
        &self,
        request: Request<pb::ListInvoiceLinesRequest>,
    ) -> Result<Response<pb::ListInvoiceLinesResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let of = LinesOf::asked(&request, &mut violations);
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            &of.query(),
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        let (lines, next_page_token) = match of {
            LinesOf::Invoice { account, id } => {
                let after: Option<i32> = page.key(&mut violations);
                violations.finish()?;
                let after = after.unwrap_or_default();
                let lines = self
                    .0
                    .list_invoice_lines(&call, &account, id, after, &page)
                    .await?;
                invoice_line::listed(&page, &account, lines)
            }
            LinesOf::Preview { account, month } => {
                let place: Option<Place> = page.key(&mut violations);
                let month = checked(month, violations)?;
                // Whoever made the token up sees no further than now.
                let at = place.map_or(call.now, |place| place.at.min(call.now));
                let bill = self.0.preview_invoice(&call, &account, month, at).await?;
                invoice_line::previewed(&page, &bill, at, place)?
            }
        };
        Ok(Response::new(pb::ListInvoiceLinesResponse {
            lines,
            next_page_token,
        }))
    }
}

/// Whose lines are listed.
enum LinesOf {
    Invoice {
        account: String,
        id: Uuid,
    },
    Preview {
        account: String,
        /// None where it is a bad field.
        month: Option<Month>,
    },
}

impl LinesOf {
    fn asked(request: &pb::ListInvoiceLinesRequest, violations: &mut Violations) -> LinesOf {
        if let Some([account]) = parse(&request.parent, ["accounts"]) {
            return LinesOf::Preview {
                account: account.to_owned(),
                month: violations.check("month", request.month.parse()),
            };
        }
        if !request.month.is_empty() {
            violations.add("month", "must be empty unless parent is an account");
        }
        let (account, id) = child("parent", &request.parent, "invoices", violations);
        LinesOf::Invoice { account, id }
    }

    /// What tells the list from every other.
    fn query(&self) -> String {
        match self {
            LinesOf::Invoice { account, id } => invoice::name(account, *id),
            LinesOf::Preview { account, month } => month.map_or_else(String::new, |month| {
                invoice_line::preview_query(account, month)
            }),
        }
    }
}

/// A bill as an invoice that is not issued: without name, number, dates and mentions.
fn bill(bill: &Bill, (lines, next_lines_page_token): Lines, line_count: i32) -> pb::Invoice {
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
        lines,
        taxes: bill.taxes.iter().map(|of| tax(bill, of)).collect(),
        net: amount(bill.net),
        tax: amount(bill.tax),
        total: amount(bill.total),
        specimen: bill.specimen,
        period_start_time: span.map(|span| to_proto(span.start)),
        period_end_time: span.map(|span| to_proto(span.end)),
        line_count,
        next_lines_page_token,
        ..pb::Invoice::default()
    }
}

fn to_wire(shown: &Shown) -> pb::Invoice {
    let invoice = &shown.invoice;
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
        ..bill(
            &invoice.bill,
            invoice_line::carried(shown),
            shown.line_count,
        )
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

fn tax(bill: &Bill, line: &TaxLine) -> pb::InvoiceTax {
    let amount = |minor| Some(money::to_wire(Money::new(minor, bill.currency)));
    pb::InvoiceTax {
        category: line.tax.category.as_str().to_owned(),
        rate_ppm: line.tax.rate.ppm(),
        base: amount(line.base),
        amount: amount(line.amount),
    }
}
