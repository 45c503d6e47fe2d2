//! How the domain names and spells its nouns: other services and stored rows know them by these words.

use std::fmt::Debug;

use jiff::Timestamp;
use uuid::Uuid;

use super::account::Locale;
use super::bill::tests::{account, euro};
use super::bill_run::BillRun;
use super::ledger::{Book, TransferKind};
use super::money::Rate;
use super::payment_method::{NewMethod, PaymentMethod, TestToken};
use super::price::{self, UsagePolicy};
use super::quote::Quote;
use super::seller::Seller;
use super::settlement::{Attempt, Charge, Means, Settlement};
use super::tax::TaxCategory;
use super::{invoice, payment, payment_method};

fn settlement() -> Settlement {
    let attempt = Attempt {
        account: "acme".into(),
        order: "o1".into(),
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
        Means::OnFile(Uuid::nil()),
        Uuid::nil(),
        quote.at,
    )
}

#[test]
fn every_noun_has_its_resource_name() {
    const NIL: &str = "00000000-0000-0000-0000-000000000000";
    let id = Uuid::nil();
    let now = Timestamp::UNIX_EPOCH;
    let new = NewMethod {
        token: TestToken::Success,
        display_name: "Visa".into(),
    };
    let settlement = settlement();
    let paid = settlement.payment().unwrap();
    let run = BillRun::new("2026-11".into(), "2026-11".parse().unwrap(), false, now);
    for (name, expected) in [
        (account().name(), "accounts/acme".to_owned()),
        (Seller::specimen(euro()).name(), "sellers/specimen".into()),
        (run.name(), "billRuns/2026-11".into()),
        (price::name(id), format!("prices/{NIL}")),
        (
            invoice::name("acme", id),
            format!("accounts/acme/invoices/{NIL}"),
        ),
        (
            payment::name("acme", id),
            format!("accounts/acme/payments/{NIL}"),
        ),
        (paid.name(), format!("accounts/acme/payments/{NIL}")),
        (paid.order_name(), "accounts/acme/orders/o1".into()),
        (
            settlement.attempt.order_name(),
            "accounts/acme/orders/o1".into(),
        ),
        (settlement.attempt.charge_key(), "acme/o1/2".into()),
        (
            payment_method::name("acme", id),
            format!("accounts/acme/paymentMethods/{NIL}"),
        ),
        (
            PaymentMethod::put_on_file("acme", id, new, true, now).name(),
            format!("accounts/acme/paymentMethods/{NIL}"),
        ),
    ] {
        assert_eq!(name, expected);
    }
    assert_eq!(
        price::parse_name(&price::name(Uuid::max())),
        Some(Uuid::max())
    );
    for bad in [
        "",
        "prices/",
        "prices/x",
        NIL,
        "offers/00000000-0000-0000-0000-000000000000",
    ] {
        assert_eq!(price::parse_name(bad), None);
    }
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
