//! The events that billing publishes.

use jiff::Timestamp;
use octroi_api::event::v1::event::Payload;
use octroi_api::event::v1::{AccountChanged, InvoiceIssued, PaymentSettled, ZoneChange};
use octroi_platform::NewEvent;
use octroi_platform::time::to_proto;

use crate::domain::account::Account;
use crate::domain::bill::Charged;
use crate::domain::invoice::{Invoice, State};
use crate::domain::money::Money;
use crate::domain::payment::{Payment, PaymentState};

/// The account's snapshot for other services. `previous_email` is the contact before this change, when that changed.
pub(crate) fn account_snapshot(account: &Account, previous_email: Option<&str>) -> AccountChanged {
    AccountChanged {
        version: account.version,
        legal_name: account.legal_name.clone(),
        contact_email: account.contact_email.clone(),
        previous_contact_email: previous_email.unwrap_or_default().to_owned(),
        locale: account.locale.as_str().to_owned(),
        currency_code: account.currency.code().to_owned(),
        zones: account
            .zones
            .iter()
            .map(|change| ZoneChange {
                time_zone: change.zone.clone(),
                time: Some(to_proto(change.at)),
            })
            .collect(),
    }
}

/// An account is new or changed.
pub(crate) fn account_changed(
    account: &Account,
    previous_email: Option<&str>,
    at: Timestamp,
) -> NewEvent {
    let payload = Payload::AccountChanged(account_snapshot(account, previous_email));
    NewEvent::new(account.id.as_str(), account.id.to_string(), at, payload)
}

/// A payment's outcome; none while it is not definite.
pub(crate) fn payment_settled(payment: &Payment) -> Option<NewEvent> {
    let (at, decline_reason) = match &payment.state {
        PaymentState::Processing => return None,
        PaymentState::Succeeded { at, .. } => (*at, None),
        PaymentState::Declined { at, reason } => (*at, Some(reason.clone())),
    };
    let payload = Payload::PaymentSettled(PaymentSettled {
        payment: payment.id.to_string(),
        order: payment.order.to_string(),
        amount: Some(payment.amount.into()),
        succeeded: decline_reason.is_none(),
        decline_reason: decline_reason.unwrap_or_default(),
    });
    Some(NewEvent::new(
        payment.id.account.as_str(),
        payment.id.to_string(),
        at,
        payload,
    ))
}

/// An invoice was numbered and frozen.
pub(crate) fn invoice_issued(invoice: &Invoice) -> NewEvent {
    let bill = &invoice.bill;
    let payload = Payload::InvoiceIssued(InvoiceIssued {
        invoice: invoice.id.to_string(),
        number: invoice.number.clone(),
        total: Some(Money::new(bill.total, bill.currency).into()),
        month: match &bill.charged {
            Charged::Month { month, .. } => month.to_string(),
            Charged::Order { .. } => String::new(),
        },
        due_date: match invoice.state {
            State::Open => invoice.due_date.to_string(),
            State::Paid { .. } => String::new(),
        },
        issue_date: invoice.issue_date.to_string(),
    });
    NewEvent::new(
        bill.account.as_str(),
        invoice.id.to_string(),
        invoice.created_at,
        payload,
    )
}
