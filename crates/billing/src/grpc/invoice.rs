//! octroi.billing.v1.InvoiceService.

use jiff::civil::Date;
use octroi_api::billing::v1 as wire;
use octroi_api::billing::v1::InvoiceView;
use octroi_api::billing::v1::invoice::{Kind, State as WireState};
use octroi_api::billing::v1::invoice_service_server::InvoiceService;
use octroi_calendar::Month;
use octroi_platform::time::to_proto;
use octroi_platform::{AccountId, Answer, Fields, Page, open};
use tonic::{Request, Response};

use super::invoice_line::{self, Lines};
use crate::app::invoice::Invoices;
use crate::domain::bill::{Bill, Charged, Party, TaxLine};
use crate::domain::invoice::{InvoiceId, Shown, State};
use crate::domain::money::Money;

/// The most invoices with lines on a page: more would be read and not shown, as a page's weight ends it before.
const LARGEST_FULL_PAGE: i64 = 50;

pub(crate) struct InvoiceApi {
    pub(crate) invoices: Invoices,
}

#[tonic::async_trait]
impl InvoiceService for InvoiceApi {
    async fn get_invoice(
        &self,
        request: Request<wire::GetInvoiceRequest>,
    ) -> Answer<wire::Invoice> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<InvoiceId>("name", &it.name)
        })?;
        let invoice = self.invoices.get(&call, &id, invoice_line::READ).await?;
        Ok(Response::new((&invoice).into()))
    }

    async fn list_invoices(
        &self,
        request: Request<wire::ListInvoicesRequest>,
    ) -> Answer<wire::ListInvoicesResponse> {
        let (call, (parent, full), mut page) = Page::open(request, |it, fields| {
            let view = InvoiceView::try_from(it.view);
            let view = fields.check("view", view.map_err(|_| "must be a value of InvoiceView"));
            let parent = fields.name::<AccountId>("parent", &it.parent);
            Some((parent?, view? == InvoiceView::Full))
        })?;
        let mut lines = 0;
        if full {
            page.limit = page.limit.min(LARGEST_FULL_PAGE + 1);
            lines = invoice_line::READ;
        }
        let invoices = self.invoices.list(&call, &parent, &page, lines).await?;
        let (invoices, next_page_token) = page.cut(
            invoices,
            |it| it.invoice.id.id.to_string(),
            |it| (&it).into(),
        );
        Ok(Response::new(wire::ListInvoicesResponse {
            invoices,
            next_page_token,
        }))
    }

    async fn preview_invoice(
        &self,
        request: Request<wire::PreviewInvoiceRequest>,
    ) -> Answer<wire::Invoice> {
        let (call, (account, month)) = open(request, |it, fields| {
            let account = fields.name::<AccountId>("parent", &it.parent);
            let month = fields.check("month", it.month.parse());
            account.zip(month)
        })?;
        let preview = self
            .invoices
            .preview(&call, &account, month, call.now)
            .await?;
        let lines = invoice_line::preview_carried(&preview, month, call.now)?;
        let count = i32::try_from(preview.lines.len()).unwrap_or(i32::MAX);
        Ok(Response::new(bill(&preview, lines, count)))
    }

    async fn list_invoice_lines(
        &self,
        request: Request<wire::ListInvoiceLinesRequest>,
    ) -> Answer<wire::ListInvoiceLinesResponse> {
        let (call, of, page) = Page::open(request, LinesOf::read)?;
        let (lines, next_page_token) = match of {
            LinesOf::Invoice(id) => {
                let lines = self.invoices.list_lines(&call, &id, &page).await?;
                invoice_line::listed(&page, lines)
            }
            LinesOf::Preview(account, month) => {
                // Tokens are not signed: a forged one must not show what lies after now.
                let at = page.after.and_then(|place| place.preview);
                let at = at.map_or(call.now, |preview| preview.at.min(call.now));
                let bill = self.invoices.preview(&call, &account, month, at).await?;
                invoice_line::previewed(&page, &bill, at)?
            }
        };
        Ok(Response::new(wire::ListInvoiceLinesResponse {
            lines,
            next_page_token,
        }))
    }
}

/// Whose lines are listed.
enum LinesOf {
    Invoice(InvoiceId),
    Preview(AccountId, Month),
}

impl LinesOf {
    fn read(it: wire::ListInvoiceLinesRequest, fields: &mut Fields<'_>) -> Option<Self> {
        let parent: Vec<&str> = it.parent.split('/').collect();
        if matches!(parent[..], ["accounts", _]) {
            let account = fields.name::<AccountId>("parent", &it.parent);
            let month = fields.check("month", it.month.parse());
            return Some(Self::Preview(account?, month?));
        }
        if !it.month.is_empty() {
            fields.add("month", "must be empty unless parent is an account");
        }
        fields.name("parent", &it.parent).map(Self::Invoice)
    }
}

/// A bill as an invoice that is not issued: without name, number, dates and mentions.
fn bill(bill: &Bill, (lines, next_lines_page_token): Lines, line_count: i32) -> wire::Invoice {
    let amount = |minor| Some(Money::new(minor, bill.currency).into());
    let (kind, month, order, span) = match &bill.charged {
        Charged::Month { month, span } => {
            (Kind::BillRun, month.to_string(), String::new(), Some(span))
        }
        Charged::Order { order } => (Kind::Order, String::new(), order.to_string(), None),
    };
    wire::Invoice {
        kind: kind.into(),
        month,
        order,
        seller: Some((&bill.seller_party).into()),
        buyer: Some((&bill.buyer_party).into()),
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
        ..wire::Invoice::default()
    }
}

impl From<&Shown> for wire::Invoice {
    fn from(shown: &Shown) -> Self {
        let invoice = &shown.invoice;
        let state = match invoice.state {
            State::Open => WireState::Open,
            State::Paid { .. } => WireState::Paid,
        };
        let date = |date: Date| date.to_string();
        let lines = invoice_line::carried(shown);
        Self {
            name: invoice.id.to_string(),
            number: invoice.number.clone(),
            state: state.into(),
            issue_date: date(invoice.issue_date),
            due_date: date(invoice.due_date),
            mentions: invoice.mentions.clone(),
            create_time: Some(to_proto(invoice.created_at)),
            ..bill(&invoice.bill, lines, shown.line_count)
        }
    }
}

impl From<&Party> for wire::InvoiceParty {
    fn from(party: &Party) -> Self {
        Self {
            legal_name: party.legal_name.clone(),
            legal_form: party.legal_form.clone(),
            address: Some((&party.address).into()),
            siren: party.siren.clone(),
            rcs: party.rcs.clone(),
            vat_number: party.vat_number.clone(),
        }
    }
}

fn tax(bill: &Bill, line: &TaxLine) -> wire::InvoiceTax {
    let amount = |minor| Some(Money::new(minor, bill.currency).into());
    wire::InvoiceTax {
        category: line.tax.category.as_str().to_owned(),
        rate_ppm: line.tax.rate.ppm(),
        base: amount(line.base),
        amount: amount(line.amount),
    }
}
