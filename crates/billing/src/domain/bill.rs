//! What is charged, before it becomes an invoice: lines, tax per category and rate, and their sums. Each line and each
//! tax is rounded once, half up; Σ lines = net, net + tax = total.

use std::collections::BTreeMap;

use octroi_calendar::{Month, Span};
use octroi_platform::name::AccountId;
use octroi_platform::refusal::Refusal;

use super::account::{Account, Locale};
use super::address::Address;
use super::money::{Currency, Rate, add, ratio, sum};
use super::order::OrderId;
use super::price::{OfferId, PriceId, UsagePolicy};
use super::seller::{Seller, SellerId};
use super::tax::TaxCategory;
use super::usage::DayUse;

/// What a bill charges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charged {
    /// A billing month's consumption.
    Month {
        month: Month,
        /// Its bounds in the account's calendar.
        span: Span,
    },
    /// What was due at once by an order's quote.
    Order { order: OrderId },
}

/// A seller or a buyer, as printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    pub legal_name: String,
    /// Legal form and share capital; empty for a buyer.
    pub legal_form: String,
    pub address: Address,
    /// SIREN; empty for a buyer.
    pub siren: String,
    /// Trade register; empty for a buyer.
    pub rcs: String,
    /// VAT number; may be empty for a buyer.
    pub vat_number: String,
}

impl From<&Seller> for Party {
    fn from(seller: &Seller) -> Party {
        Party {
            legal_name: seller.legal_name.clone(),
            legal_form: seller.legal_form.clone(),
            address: seller.address.clone(),
            siren: seller.siren.clone(),
            rcs: seller.rcs.clone(),
            vat_number: seller.vat_number.clone(),
        }
    }
}

impl From<&Account> for Party {
    fn from(account: &Account) -> Party {
        Party {
            legal_name: account.legal_name.clone(),
            legal_form: String::new(),
            address: account.address.clone(),
            siren: String::new(),
            rcs: String::new(),
            vat_number: account.vat_number.clone(),
        }
    }
}

/// The tax that applies to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    pub category: TaxCategory,
    pub rate: Rate,
}

/// Which consumption a line charges, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumption {
    /// Group id.
    pub group: String,
    /// Name of the group at that time.
    pub group_name: String,
    /// The month: the bill's own, or an earlier one whose usage arrived late.
    pub month: Month,
    /// How it was counted.
    pub policy: UsagePolicy,
    /// The days with activity, oldest first.
    pub days: Vec<DayUse>,
}

/// A line before its amount is computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What is charged, for people, in the account's language.
    pub description: String,
    pub offer: OfferId,
    /// The consumption that it charges; none for a set-up fee.
    pub consumption: Option<Consumption>,
    /// How much, from 1.
    pub quantity: i32,
    /// Minor units for `base_quantity` units, without tax.
    pub unit_price: i64,
    /// How many units the unit price buys: 1, or for DAILY the days that the month had.
    pub base_quantity: i32,
    pub price: PriceId,
    pub tax: Applied,
}

/// A line of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub item: Item,
    /// Quantity × unit price ÷ base quantity in minor units, rounded once, half up.
    pub amount: i64,
}

impl TryFrom<Item> for Line {
    type Error = Refusal;

    fn try_from(item: Item) -> Result<Line, Refusal> {
        let amount = ratio(
            item.unit_price,
            i64::from(item.quantity),
            i64::from(item.base_quantity),
        )?;
        Ok(Line { item, amount })
    }
}

/// The tax of one category and rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxLine {
    /// Category and rate.
    pub tax: Applied,
    /// Sum of the lines that it applies to.
    pub base: i64,
    /// The tax, rounded once, half up.
    pub amount: i64,
}

/// Lines with their tax and sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    pub account: AccountId,
    pub charged: Charged,
    pub seller: SellerId,
    /// The seller as it is printed.
    pub seller_party: Party,
    /// The customer as it is printed.
    pub buyer_party: Party,
    /// The currency of every amount.
    pub currency: Currency,
    /// The language of its texts.
    pub locale: Locale,
    pub lines: Vec<Line>,
    /// Its taxes, by category and rate.
    pub taxes: Vec<TaxLine>,
    /// Sum of the lines.
    pub net: i64,
    /// Sum of the taxes.
    pub tax: i64,
    pub total: i64,
    /// Whether it is no fiscal document: its seller is a specimen, or time is a test's.
    pub specimen: bool,
}

impl Bill {
    /// A bill of an account's lines. `test_clock` makes it a specimen.
    ///
    /// # Errors
    /// AMOUNT_OVERFLOW when a sum leaves what can be computed exactly.
    pub fn new(
        account: &Account,
        seller: &Seller,
        charged: Charged,
        lines: Vec<Line>,
        test_clock: bool,
    ) -> Result<Bill, Refusal> {
        let taxes = taxes(&lines)?;
        let net = sum(lines.iter().map(|line| line.amount))?;
        let tax = sum(taxes.iter().map(|tax| tax.amount))?;
        Ok(Bill {
            account: account.id.clone(),
            charged,
            seller: seller.id.clone(),
            seller_party: seller.into(),
            buyer_party: account.into(),
            currency: account.currency,
            locale: account.locale,
            lines,
            taxes,
            net,
            tax,
            total: add(net, tax)?,
            specimen: test_clock || seller.specimen,
        })
    }
}

/// Tax per category and rate, on the sum of its lines.
fn taxes(lines: &[Line]) -> Result<Vec<TaxLine>, Refusal> {
    let mut bases: BTreeMap<Applied, i64> = BTreeMap::new();
    for line in lines {
        let base = bases.entry(line.item.tax).or_default();
        *base = add(*base, line.amount)?;
    }
    bases
        .into_iter()
        .map(|(tax, base)| {
            let amount = tax.rate.of(base)?;
            Ok(TaxLine { tax, base, amount })
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::address::Address;
    use crate::refusal::amount_overflow;
    use jiff::Timestamp;
    use octroi_platform::name::Name as _;
    use proptest::prelude::*;
    use uuid::Uuid;

    pub(crate) fn account() -> Account {
        Account {
            id: AccountId::new("acme"),
            legal_name: "Acme".into(),
            contact_email: "office@acme.example".into(),
            address: Address {
                lines: vec!["1 rue du Test".into()],
                postal_code: "59000".into(),
                city: "Lille".into(),
                country: "FR".into(),
            },
            vat_number: String::new(),
            currency: euro(),
            seller: SellerId("specimen".into()),
            locale: Locale::Fr,
            zones: Vec::new(),
            first_order_at: None,
            quoted_at: None,
            version: 1,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    pub(crate) fn order() -> Charged {
        let order = OrderId::parse("accounts/acme/orders/o1").unwrap();
        Charged::Order { order }
    }

    pub(crate) fn euro() -> Currency {
        Currency::find("EUR").unwrap()
    }

    pub(crate) fn line(quantity: i32, unit_price: i64, base_quantity: i32, ppm: i32) -> Line {
        let category = if ppm == 0 {
            TaxCategory::Zero
        } else {
            TaxCategory::Standard
        };
        Line::try_from(Item {
            description: String::new(),
            offer: OfferId::of(&["a"]).unwrap(),
            consumption: None,
            quantity,
            unit_price,
            base_quantity,
            price: PriceId(Uuid::nil()),
            tax: Applied {
                category,
                rate: Rate::from_ppm(ppm).unwrap(),
            },
        })
        .unwrap()
    }

    fn bill(lines: Vec<Line>) -> Bill {
        let order = order();
        Bill::new(&account(), &Seller::specimen(euro()), order, lines, false).unwrap()
    }

    #[test]
    fn a_daily_line_is_rounded_once() {
        // 10.99 € a month of 30 days: 7 seat-days are 2.5643… €, and 15 are 5.495 €, a half that goes up.
        assert_eq!(line(7, 1_099, 30, 0).amount, 256);
        assert_eq!(line(15, 1_099, 30, 0).amount, 550);
        assert_eq!(line(30, 1_099, 30, 0).amount, 1_099);
    }

    #[test]
    fn tax_is_rounded_once_per_rate_and_not_per_line() {
        // Three lines of 0.03 € at 20 %: 0.018 € together are 0.02 €; per line it would be 0.03 €.
        let bill = bill(vec![line(1, 3, 1, 200_000); 3]);
        assert_eq!((bill.net, bill.tax, bill.total), (9, 2, 11));
    }

    #[test]
    fn amounts_beyond_exactness_are_refused() {
        let huge = line(1, i64::MAX, 1, 0);
        let order = order();
        let bill = Bill::new(
            &account(),
            &Seller::specimen(euro()),
            order,
            vec![huge; 2],
            false,
        );
        assert_eq!(bill, Err(amount_overflow()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn sums_hold(parts in prop::collection::vec(
            (1..100_000_i32, 0..10_000_000_i64, 1..=31_i32, prop::sample::select(vec![0, 21_000, 55_000, 100_000, 200_000])),
            0..40,
        )) {
            let lines: Vec<Line> = parts.iter().map(|(quantity, unit, base, ppm)| line(*quantity, *unit, *base, *ppm)).collect();
            let bill = bill(lines.clone());
            prop_assert_eq!(bill.net, lines.iter().map(|line| line.amount).sum::<i64>());
            prop_assert_eq!(bill.net, bill.taxes.iter().map(|tax| tax.base).sum::<i64>());
            prop_assert_eq!(bill.total, bill.net + bill.tax);
            for tax in &bill.taxes {
                let base = lines.iter().filter(|line| line.item.tax == tax.tax).map(|line| line.amount).sum::<i64>();
                prop_assert_eq!(tax.base, base);
                // Off by at most half a unit, and a half goes up.
                let exact = i128::from(base) * i128::from(tax.tax.rate.ppm());
                let off = exact - i128::from(tax.amount) * 1_000_000;
                prop_assert!((-500_000..500_000).contains(&off));
            }
            let mut reversed = lines;
            reversed.reverse();
            let Bill { net, tax, total, .. } = bill;
            let again = super::tests::bill(reversed);
            prop_assert_eq!((net, tax, total), (again.net, again.tax, again.total));
        }
    }
}
