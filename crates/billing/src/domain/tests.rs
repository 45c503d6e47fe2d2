//! How the domain names and spells its nouns: other services and stored rows know them by these words.

use std::fmt::Debug;

use jiff::Timestamp;
use octroi_platform::name::{AccountId, Name};
use uuid::Uuid;

use super::account::Locale;
use super::bill_run::BillRunId;
use super::invoice::{self, InvoiceId};
use super::ledger::{Book, TransferKind};
use super::order::OrderId;
use super::payment::PaymentId;
use super::payment_method::PaymentMethodId;
use super::price::{PriceId, UsagePolicy};
use super::seller::SellerId;
use super::settlement::Attempt;
use super::tax::TaxCategory;

/// A name is written in one form, read from that form alone, and knows its account.
fn named<N: Name + Debug + PartialEq>(name: N, written: &str) {
    assert_eq!(name.to_string(), written);
    let account = written.strip_prefix("accounts/").map(|_| "acme");
    assert_eq!(name.account(), account);
    assert_eq!(N::parse(written), Some(name));
    let (rest, id) = written.rsplit_once('/').unwrap();
    for bad in [
        String::new(),
        id.to_owned(),
        format!("{rest}/"),
        format!("{rest}/X"),
        format!("{rest}s/{id}"),
        format!("{written}/{id}"),
    ] {
        assert_eq!(N::parse(&bad), None, "{bad:?}");
    }
}

#[test]
fn every_noun_has_its_resource_name() {
    const MAX: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    let account = AccountId::new("acme");
    let id = Uuid::max();
    let order = OrderId {
        account: account.clone(),
        id: "o1".into(),
    };
    let attempt = Attempt {
        order: order.clone(),
        number: 2,
    };
    assert_eq!(attempt.charge_key(), "acme/o1/2");
    named(order, "accounts/acme/orders/o1");
    named(SellerId("specimen".into()), "sellers/specimen");
    named(BillRunId("2026-11".into()), "billRuns/2026-11");
    named(PriceId(id), &format!("prices/{MAX}"));
    let invoice = InvoiceId {
        account: account.clone(),
        id,
    };
    named(invoice, &format!("accounts/acme/invoices/{MAX}"));
    let payment = PaymentId {
        account: account.clone(),
        id,
    };
    named(payment, &format!("accounts/acme/payments/{MAX}"));
    let method = PaymentMethodId { account, id };
    named(method, &format!("accounts/acme/paymentMethods/{MAX}"));
}

/// Every value is written as its word, and read from that word and no other.
fn spelt<T: Copy + Debug + PartialEq, const N: usize>(
    words: [(T, &str); N],
    write: fn(T) -> &'static str,
    read: fn(&str) -> Option<T>,
) {
    for (value, word) in words {
        assert_eq!(write(value), word);
        assert_eq!(read(word), Some(value));
        assert_eq!(read(&format!("{word}?")), None);
    }
}

#[test]
fn what_is_stored_as_a_word_is_read_from_it() {
    spelt(
        [(Locale::Fr, "fr"), (Locale::En, "en")],
        Locale::as_str,
        Locale::parse,
    );
    let policies = [
        (UsagePolicy::Peak, "PEAK"),
        (UsagePolicy::Distinct, "DISTINCT"),
        (UsagePolicy::Daily, "DAILY"),
    ];
    spelt(policies, UsagePolicy::as_str, UsagePolicy::parse);
    assert_eq!(
        policies.map(|(policy, _)| policy.to_string()),
        policies.map(|(_, word)| word)
    );
    let categories = [
        (TaxCategory::Standard, "S"),
        (TaxCategory::Zero, "Z"),
        (TaxCategory::Exempt, "E"),
        (TaxCategory::ReverseCharge, "AE"),
        (TaxCategory::Export, "G"),
        (TaxCategory::Outside, "O"),
    ];
    spelt(categories, TaxCategory::as_str, TaxCategory::parse);
}

#[test]
fn what_is_only_written_keeps_its_words() {
    let books = [Book::Receivable, Book::Revenue, Book::Vat, Book::Cash];
    assert_eq!(
        books.map(Book::as_str),
        ["RECEIVABLE", "REVENUE", "VAT", "CASH"]
    );
    let kinds = [
        TransferKind::InvoiceNet,
        TransferKind::InvoiceTax,
        TransferKind::Payment,
    ];
    assert_eq!(
        kinds.map(TransferKind::as_str),
        ["INVOICE_NET", "INVOICE_TAX", "PAYMENT"]
    );
    let states = [
        invoice::State::Open,
        invoice::State::Paid {
            at: Timestamp::UNIX_EPOCH,
        },
    ];
    assert_eq!(states.map(invoice::State::as_str), ["OPEN", "PAID"]);
}
