//! How the domain names and spells its nouns: other services and stored rows know them by these words.

use std::fmt::Debug;

use jiff::Timestamp;
use octroi_platform::name::Name;
use uuid::Uuid;

use super::account::Locale;
use super::bill::tests::{account, euro};
use super::bill_run::BillRunId;
use super::invoice::{self, InvoiceId};
use super::ledger::{Book, TransferKind};
use super::money::Rate;
use super::order::OrderId;
use super::payment::PaymentId;
use super::payment_method::PaymentMethodId;
use super::price::UsagePolicy;
use super::quote::Quote;
use super::settlement::{Attempt, Charge, Means, Settlement};
use super::tax::TaxCategory;

fn settlement() -> Settlement {
    let attempt = Attempt {
        order: OrderId {
            account: account().id,
            id: "o1".into(),
        },
        number: 2,
    };
    let quote = Quote {
        currency: euro(),
        lines: Vec::new(),
        net: 1_000,
        tax: 200,
        due: 1_200,
        category: TaxCategory::Standard,
        rate: Rate::from_ppm(200_000).unwrap(),
        at: Timestamp::UNIX_EPOCH,
    };
    let charge = Charge::of(&quote, "specimen");
    Settlement::begin(
        attempt,
        charge,
        Means::OnFile(PaymentMethodId {
            account: account().id,
            id: Uuid::nil(),
        }),
        Uuid::nil(),
        quote.at,
    )
}

/// A name is written as it is read, and nothing else reads as it.
fn named<N: Name + PartialEq + Debug>(name: N, written: &str, account: Option<&str>) {
    assert_eq!(name.to_string(), written);
    assert_eq!(N::parse(written).as_ref(), Some(&name));
    assert_eq!(name.account(), account);
    for bad in [
        &written[1..],
        &format!("{written}/x"),
        "",
        "accounts/acme/things/1",
    ] {
        assert_eq!(N::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn every_noun_has_its_resource_name() {
    const NIL: &str = "00000000-0000-0000-0000-000000000000";
    let (account, id) = (account().id, Uuid::nil());
    let acme = Some("acme");
    let under = |collection: &str| format!("accounts/acme/{collection}/{NIL}");
    named(BillRunId("november".into()), "billRuns/november", None);
    let order = settlement().attempt.order;
    named(order, "accounts/acme/orders/o1", acme);
    let payment = PaymentId {
        account: account.clone(),
        id,
    };
    named(payment, &under("payments"), acme);
    let method = PaymentMethodId {
        account: account.clone(),
        id,
    };
    named(method, &under("paymentMethods"), acme);
    named(InvoiceId { account, id }, &under("invoices"), acme);
    assert_eq!(settlement().attempt.charge_key(), "acme/o1/2");
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
