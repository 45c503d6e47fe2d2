//! The end: the invoices as tables with their evidence, and the files of the e-mails.

use std::path::Path;

use octroi_api::billing::v1::{
    Invoice, InvoiceLine, InvoiceParty, InvoiceView, ListInvoicesRequest,
};
use octroi_api::notification::v1::{Email, ListEmailsRequest, email};

use super::stage::{ACCOUNT, Stage, amount, done, eventually, state};
use crate::output;

pub(super) async fn play(stage: &mut Stage, mail: &Path) -> anyhow::Result<()> {
    stage.chapter("The invoices")?;
    let request = ListInvoicesRequest {
        parent: ACCOUNT.to_owned(),
        view: InvoiceView::Full.into(),
        ..ListInvoicesRequest::default()
    };
    let mut invoices = done(
        "ListInvoices",
        stage.api.invoices.list_invoices(request).await,
    )?
    .invoices;
    invoices.reverse();
    anyhow::ensure!(
        invoices.len() == 2,
        "there are {} invoices, not 2",
        invoices.len()
    );
    for invoice in &invoices {
        output::print(table(invoice))?;
    }
    stage.chapter("The e-mails")?;
    for email in sent(stage).await? {
        let id = email.name.rsplit('/').next().unwrap_or_default();
        let file = mail.join(format!("{id}.eml"));
        output::line(format_args!(
            "  {}\n      {}",
            email.subject,
            file.display()
        ))?;
    }
    Ok(())
}

/// Every e-mail, oldest first, once all are sent.
async fn sent(stage: &Stage) -> anyhow::Result<Vec<Email>> {
    eventually("the last e-mail", || {
        let mut emails = stage.api.emails.clone();
        async move {
            let request = ListEmailsRequest {
                parent: ACCOUNT.to_owned(),
                ..ListEmailsRequest::default()
            };
            let mut list = done("ListEmails", emails.list_emails(request).await)?.emails;
            list.reverse();
            let queued = list
                .iter()
                .any(|email| email.state() == email::State::Queued);
            let invoices = list
                .iter()
                .filter(|email| email.template == "invoice-issued")
                .count();
            Ok((!queued && invoices == 2).then_some(list))
        }
    })
    .await
}

fn table(invoice: &Invoice) -> String {
    let specimen = if invoice.specimen { ", SPECIMEN" } else { "" };
    let mut text = format!(
        "\n  {} of {}, due {}, {}{specimen}\n  {}\n  for {}\n\n",
        invoice.number,
        invoice.issue_date,
        invoice.due_date,
        state(invoice.state().as_str_name()),
        party(invoice.seller.as_ref()),
        party(invoice.buyer.as_ref()),
    );
    let descriptions = invoice
        .lines
        .iter()
        .map(|line| line.description.chars().count());
    let width = descriptions.max().unwrap_or_default();
    text += &format!(
        "  {:<width$}{:>10}{:>14}{:>14}\n",
        "line", "quantity", "unit price", "amount"
    );
    for line in &invoice.lines {
        text += &rows(line, width);
    }
    let total = |name: &str, amount: &str| format!("  {name:>0$}{amount:>14}\n", width + 24);
    text += &total("net", &amount(invoice.net.as_ref()));
    for tax in &invoice.taxes {
        text += &total(
            &format!("VAT {}", percent(tax.rate_ppm)),
            &amount(tax.amount.as_ref()),
        );
    }
    text += &total("total", &amount(invoice.total.as_ref()));
    for mention in &invoice.mentions {
        text += &format!("  {mention}\n");
    }
    text
}

/// A line, and its evidence day by day.
fn rows(line: &InvoiceLine, width: usize) -> String {
    let mut text = format!(
        "  {:<width$}{:>10}{:>14}{:>14}\n",
        line.description,
        line.quantity,
        amount(line.unit_price.as_ref()),
        amount(line.amount.as_ref())
    );
    text += &format!(
        "      {:<12}{:>6}{:>12}{:>8}\n",
        "day", "peak", "end of day", "seats"
    );
    for day in &line.days {
        text += &format!(
            "      {:<12}{:>6}{:>12}{:>8}\n",
            day.date, day.peak, day.end_of_day, day.seats
        );
    }
    text
}

fn party(party: Option<&InvoiceParty>) -> String {
    party.map_or_else(String::new, |party| {
        let address = party.address.as_ref().map_or_else(String::new, |address| {
            format!(
                ", {}, {} {}",
                address.lines.join(", "),
                address.postal_code,
                address.city
            )
        });
        format!("{}{address}", party.legal_name)
    })
}

/// Parts per million as a percentage, without needless zeros.
fn percent(ppm: i32) -> String {
    let text = format!("{}.{:04}", ppm / 10_000, ppm % 10_000);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_as_percentages() {
        for (ppm, shown) in [
            (200_000, "20 %"),
            (55_000, "5.5 %"),
            (0, "0 %"),
            (85_125, "8.5125 %"),
        ] {
            assert_eq!(percent(ppm), shown);
        }
    }
}
