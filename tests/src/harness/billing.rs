//! Bill runs, invoices and prices, for journeys that need their results.

use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;
use octroi_api::billing::v1::{
    BillRun, CreateBillRunRequest, GetBillRunRequest, Invoice, InvoiceView,
    ListInvoiceLinesRequest, ListInvoiceLinesResponse, ListInvoicesRequest, PreviewInvoiceRequest,
    bill_run,
};
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{Event, InvoiceIssued};
use octroi_api::r#type::v1::Money;
use octroi_platform::time::to_proto;
use prost::Message as _;
use tokio_postgres::types::ToSql;
use tonic::{Response, Status};
use uuid::Uuid;

use super::customer::Customer;
use super::installation::Installation;
use super::refusal::{Answer as _, Refused};
use super::time::{eventually, within};

/// A price in euros, in cents and without tax.
#[derive(Debug, Clone, Copy)]
pub struct Price {
    /// Resource name of the offer.
    pub offer: &'static str,
    /// One licence and month.
    pub monthly: i64,
    /// One licence, once.
    pub setup: i64,
    /// "PEAK", "DISTINCT" or "DAILY".
    pub policy: &'static str,
}

impl Installation {
    /// Puts a price into the catalogue, as an operator does by SQL until there is a service for it.
    pub async fn price(&self, price: Price, valid_from: Timestamp) {
        self.sql
            .execute(
                "INSERT INTO billing.price (id, offer, currency, monthly, setup, usage_policy, valid_from, create_time)
                 VALUES ($1, $2, 'EUR', $3, $4, $5, $6, $6)",
                &[
                    &Uuid::new_v4(),
                    &price.offer,
                    &price.monthly,
                    &price.setup,
                    &price.policy,
                    &valid_from,
                ],
            )
            .await
            .unwrap();
    }

    /// Puts a tax rate into the catalogue, from this date on.
    pub async fn tax_rate(&self, country: &str, category: &str, ppm: i32, valid_from: &str) {
        self.sql
            .execute(
                "INSERT INTO billing.tax_rate (id, country, category, rate_ppm, valid_from, create_time)
                 VALUES ($1, $2, $3, $4, $5::text::date, now())",
                &[&Uuid::new_v4(), &country, &category, &ppm, &valid_from],
            )
            .await
            .unwrap();
    }

    /// Adds a seller that is like the first one.
    pub async fn another_seller(&self, id: &str) {
        self.sql
            .execute(
                "INSERT INTO billing.seller
                 SELECT (jsonb_populate_record(seller, jsonb_build_object('id', $1::text))).* FROM billing.seller",
                &[&id],
            )
            .await
            .unwrap();
    }

    /// Invoices a month and waits for the run's end. Usage that is still on its way is waited for.
    pub async fn bills(&self, month: &str) -> BillRun {
        self.runs(month, false).await
    }

    /// The same without keeping anything.
    pub async fn tries_to_bill(&self, month: &str) -> BillRun {
        self.runs(month, true).await
    }

    /// Begins to invoice a month, once usage is complete.
    pub async fn begins_to_bill(&self, month: &str, dry_run: bool) -> BillRun {
        eventually("licensing's events are complete", async || {
            match self.asks_to_bill(month, dry_run).await {
                Err(status) if Refused::of(&status).reason == "USAGE_BEHIND" => None,
                answer => Some(answer.got()),
            }
        })
        .await
    }

    async fn runs(&self, month: &str, dry_run: bool) -> BillRun {
        let run = self.begins_to_bill(month, dry_run).await;
        // A large invoice is as much work as it is, however loaded the machine.
        within(Duration::from_secs(300), "the bill run ends", async || {
            let name = run.name.clone();
            let mut runs = self.operator().bill_runs();
            let run = runs.get_bill_run(GetBillRunRequest { name }).await.got();
            (run.state() == bill_run::State::Completed).then_some(run)
        })
        .await
    }

    /// Records that accounts were invoiced whom nobody knows, one each, and perhaps holds the deliveries.
    pub async fn records_invoices(&self, numbers: Range<usize>, parked: bool) {
        let (mut accounts, mut ids, mut aggregates, mut bodies) = (vec![], vec![], vec![], vec![]);
        for number in numbers {
            let (id, account) = (Uuid::now_v7(), format!("a{number}"));
            let aggregate = format!("accounts/{account}/invoices/i{number}");
            let issued = Payload::InvoiceIssued(InvoiceIssued {
                invoice: aggregate.clone(),
                number: format!("X-{number}"),
                month: "2026-01".to_owned(),
                issue_date: "2026-02-01".to_owned(),
                due_date: "2026-03-03".to_owned(),
                ..InvoiceIssued::default()
            });
            let event = Event {
                id: id.to_string(),
                r#type: issued.event_type().name.to_owned(),
                account: format!("accounts/{account}"),
                aggregate: aggregate.clone(),
                effective_time: Some(to_proto(Timestamp::UNIX_EPOCH)),
                payload: Some(issued),
                ..Event::default()
            };
            accounts.push(account);
            ids.push(id);
            aggregates.push(aggregate);
            bodies.push(event.encode_to_vec());
        }
        let record = "
            WITH given AS (
                SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bytea[]) AS g (account, id, aggregate, body)
            ), recorded AS (
                INSERT INTO billing.event (account, id, type, aggregate, sequence, effective_at, recorded_at, body,
                    subscribers, last_routed)
                SELECT account, id, 'invoice-issued', aggregate, 1, now(), now(), body, '{notification}',
                    '{\"notification\": 1}' FROM given
            )
            INSERT INTO billing.delivery (account, subscriber, aggregate, sequence, event_id, effective_at, parked)
            SELECT account, 'notification', aggregate, 1, id, now(), $5 FROM given";
        let of: [&(dyn ToSql + Sync); 5] = [&accounts, &ids, &aggregates, &bodies, &parked];
        self.sql.execute(record, &of).await.unwrap();
    }

    /// Asks for a bill run and does not judge the answer.
    pub async fn asks_to_bill(
        &self,
        month: &str,
        dry_run: bool,
    ) -> Result<Response<BillRun>, Status> {
        let request = CreateBillRunRequest {
            bill_run: Some(BillRun {
                month: month.to_owned(),
                dry_run,
                ..BillRun::default()
            }),
            ..CreateBillRunRequest::default()
        };
        self.operator().bill_runs().create_bill_run(request).await
    }
}

impl Customer {
    /// The account's invoices with their lines, oldest first.
    pub async fn invoices(&self) -> Vec<Invoice> {
        let mut request = ListInvoicesRequest {
            parent: self.name(),
            view: InvoiceView::Full.into(),
            ..ListInvoicesRequest::default()
        };
        let mut invoices = Vec::new();
        loop {
            let page = self.by.invoices().list_invoices(request.clone()).await;
            let page = page.got();
            invoices.extend(page.invoices);
            if page.next_page_token.is_empty() {
                invoices.reverse();
                return invoices;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// A page of the lines of an invoice, or of a month's preview.
    pub async fn lines(
        &self,
        request: &ListInvoiceLinesRequest,
    ) -> Result<Response<ListInvoiceLinesResponse>, Status> {
        let mut invoices = self.by.invoices();
        invoices.list_invoice_lines(request.clone()).await
    }

    /// The invoice that a month would make.
    pub async fn preview(&self, month: &str) -> Invoice {
        let request = PreviewInvoiceRequest {
            parent: self.name(),
            month: month.to_owned(),
        };
        self.by.invoices().preview_invoice(request).await.got()
    }
}

/// The amount of money that must be there, such as "11.99 EUR".
#[must_use]
#[track_caller]
pub fn amount(money: Option<&Money>) -> String {
    let money = money.expect("an amount that is set");
    format!("{} {}", money.amount, money.currency_code)
}
