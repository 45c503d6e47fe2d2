//! "Your invoice": its tax, what it says of the parties, and what the law wants said.

use octroi_api::billing::v1::{Account, invoice};
use octroi_tests::harness::{
    Answer as _, BUSINESS, Customer, Installation, Price, amount, at, new_group,
};

use crate::paying::setup_fee;

async fn with_user(octroi: &Installation) -> Customer {
    let acme = octroi.customer("acme").await;
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    acme
}

/// A month bears the tax of its last day, however it began and whatever is in force when it is invoiced.
#[tokio::test]
async fn the_tax_of_the_months_last_day() {
    let octroi = Installation::start().await;
    octroi.tax_rate("FR", "S", 250_000, "2026-02-28").await;
    octroi.tax_rate("FR", "S", 100_000, "2026-03-01").await;
    let acme = with_user(&octroi).await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let invoices = acme.invoices().await;
    assert_eq!(invoices[0].taxes.len(), 1);
    assert_eq!(invoices[0].taxes[0].rate_ppm, 250_000);
    assert_eq!(amount(invoices[0].tax.as_ref()), "2.50 EUR");
    octroi.finish().await;
}

/// A new country and VAT number are those of later invoices; what was issued stays as it is.
#[tokio::test]
async fn a_move_is_for_later_invoices() {
    let octroi = Installation::start().await;
    octroi.tax_rate("DE", "AE", 0, "2020-01-01").await;
    let acme = with_user(&octroi).await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let february = acme.invoices().await.remove(0);
    acme.moves_to("DE").await;
    let number = Account {
        vat_number: "DE136695976".to_owned(),
        ..Account::default()
    };
    acme.changes(&["vat_number"], number).await.got();
    octroi.advance_to("2026-04-01T08:00:00Z").await;
    octroi.bills("2026-03").await;
    let invoices = acme.invoices().await;
    assert_eq!(invoices[0], february);
    let told: Vec<_> = invoices
        .iter()
        .map(|invoice| {
            let buyer = invoice.buyer.clone().unwrap();
            let reverse = invoice.mentions.iter().any(|it| it == "Reverse charge.");
            (
                buyer.address.unwrap().country_code,
                buyer.vat_number,
                amount(invoice.tax.as_ref()),
                reverse,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("FR".to_owned(), String::new(), "2.00 EUR".to_owned(), false),
            (
                "DE".to_owned(),
                "DE136695976".to_owned(),
                "0.00 EUR".to_owned(),
                true
            ),
        ]
    );
    octroi.finish().await;
}

/// What was used and costs nothing is invoiced all the same, and there is nothing to pay.
#[tokio::test]
async fn nothing_to_pay_is_paid() {
    let octroi = Installation::start().await;
    let free = Price {
        offer: BUSINESS,
        monthly: 0,
        setup: 0,
        policy: "PEAK",
    };
    octroi.price(free, at("2026-01-01T00:00:00Z")).await;
    let acme = with_user(&octroi).await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let invoices = acme.invoices().await;
    let [invoice] = invoices.as_slice() else {
        panic!("one invoice: {invoices:?}");
    };
    assert_eq!(
        (&*invoice.number, invoice.state()),
        ("F-2026-000001", invoice::State::Paid)
    );
    assert_eq!(invoice.lines[0].quantity, 1);
    assert_eq!(amount(invoice.total.as_ref()), "0.00 EUR");
    assert_eq!(invoice.due_date, invoice.issue_date);
    assert!(invoice.mentions.contains(&"Paid.".to_owned()));
    octroi.finish().await;
}

/// What the law wants said, in French.
#[tokio::test]
async fn what_the_law_wants_said() {
    let octroi = Installation::start().await;
    setup_fee(&octroi, 1_00).await;
    octroi.tax_rate("CH", "G", 0, "2020-01-01").await;
    octroi
        .sql
        .execute("UPDATE billing.seller SET vat_on_debits = true", &[])
        .await
        .unwrap();
    let acme = octroi.customer("acme").await;
    let french = Account {
        locale: "fr".to_owned(),
        ..Account::default()
    };
    acme.changes(&["locale"], french).await.got();
    acme.buys("office", &[(BUSINESS, 1)]).await;
    acme.activates("office", 1, "sales").await;
    acme.moves_to("CH").await;
    acme.asks_for("o2", new_group("branch"), &[(BUSINESS, 1)])
        .await
        .got();
    acme.pays("o2").await.got();
    acme.moves_to("FR").await;
    octroi.advance_to("2026-03-01T08:00:00Z").await;
    octroi.bills("2026-02").await;
    let said: Vec<_> = acme
        .invoices()
        .await
        .into_iter()
        .map(|invoice| invoice.mentions)
        .collect();
    let every = [
        "SPÉCIMEN : ce document n'est pas une facture.",
        "Pénalités de retard : 12,15 % par an, exigibles dès le lendemain de l'échéance, sans rappel.",
        "Indemnité forfaitaire pour frais de recouvrement en cas de retard : 40,00 €.",
        "Option pour le paiement de la taxe d'après les débits.",
    ];
    for mentions in &said {
        for line in every {
            assert!(
                mentions.iter().any(|it| it == line),
                "{line} in {mentions:?}"
            );
        }
    }
    let some = [
        (
            "Prestation effectuée le 2 février 2026.",
            [true, true, false],
        ),
        ("Acquittée.", [true, true, false]),
        (
            "Opération exonérée de TVA : exportation hors de l'Union européenne.",
            [false, true, false],
        ),
        (
            "À payer au plus tard le 31 mars 2026 (30 jours).",
            [false, false, true],
        ),
    ];
    for (line, expected) in some {
        let found: Vec<_> = said
            .iter()
            .map(|mentions| mentions.iter().any(|it| it == line))
            .collect();
        assert_eq!(found, expected, "{line} in {said:?}");
    }
    octroi.finish().await;
}
