//! Quotes: what an order costs, frozen when it is made and checked when it is settled.

use jiff::Timestamp;
use octroi_platform::refusal::Refusal;

use super::money::{Currency, Rate, add, sum, times};
use super::price::{OfferId, Price, PriceId, UsagePolicy};
use super::tax::TaxCategory;

/// The most lines that an order has.
pub const MOST_LINES: usize = 20;
/// The most licences of one line.
pub const MOST_LICENSES: i32 = 100_000;

/// A line to quote: licences of one offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub offer: OfferId,
    /// How many licences: 1 to [`MOST_LICENSES`].
    pub quantity: i32,
}

/// What one line of an order costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteLine {
    pub offer: OfferId,
    /// How many licences.
    pub quantity: i32,
    /// Set-up fee of one licence, without tax.
    pub setup_fee: i64,
    /// Set-up fees of the line, without tax.
    pub setup_amount: i64,
    /// Price of one licence and calendar month, without tax.
    pub monthly: i64,
    pub price: PriceId,
    /// How usage is counted for it.
    pub policy: UsagePolicy,
}

/// What an order costs. Every amount is in `currency`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    pub currency: Currency,
    /// One line per line of the order, in its order.
    pub lines: Vec<QuoteLine>,
    /// Set-up fees, without tax.
    pub net: i64,
    /// Tax on them.
    pub tax: i64,
    /// What is due now.
    pub due: i64,
    /// Category of the tax applied.
    pub category: TaxCategory,
    /// Rate of the tax applied.
    pub rate: Rate,
    pub at: Timestamp,
}

/// The quote does not match the prices that it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// A line with the price in force for its offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Priced {
    /// What is asked for.
    pub asked: Asked,
    pub price: Price,
}

impl Quote {
    /// What lines cost. Every price is in `currency`.
    ///
    /// # Errors
    /// AMOUNT_OVERFLOW.
    pub fn make(
        currency: Currency,
        lines: &[Priced],
        (category, rate): (TaxCategory, Rate),
        at: Timestamp,
    ) -> Result<Quote, Refusal> {
        let lines = lines
            .iter()
            .map(|Priced { asked, price }| {
                Ok(QuoteLine {
                    offer: asked.offer.clone(),
                    quantity: asked.quantity,
                    setup_fee: price.setup,
                    setup_amount: times(price.setup, i64::from(asked.quantity))?,
                    monthly: price.monthly,
                    price: price.id,
                    policy: price.policy,
                })
            })
            .collect::<Result<Vec<_>, Refusal>>()?;
        let net = sum(lines.iter().map(|line| line.setup_amount))?;
        let tax = rate.of(net)?;
        Ok(Quote {
            currency,
            lines,
            net,
            tax,
            due: add(net, tax)?,
            category,
            rate,
            at,
        })
    }

    /// What is stored of a mismatched quote with its declined attempt: none of its charges.
    pub fn declined(self, currency: Currency) -> Quote {
        Quote {
            currency,
            lines: Vec::new(),
            net: 0,
            tax: 0,
            due: 0,
            ..self
        }
    }

    /// Checks that the quote's sums follow from its prices and tax, in the account's currency. Prices and tax are those of
    /// its time: later changes, of the account too, do not count.
    ///
    /// # Errors
    /// [`Mismatch`] names the first part that differs.
    pub fn check(&self, currency: Currency, prices: &[Price]) -> Result<(), Mismatch> {
        if self.currency != currency {
            return Err(Mismatch(format!("the account's currency is {currency}")));
        }
        if !self.category.may_have(self.rate) {
            return Err(Mismatch(format!(
                "a tax of category {} has no rate of {} ppm",
                self.category.as_str(),
                self.rate.ppm()
            )));
        }
        let priced = self
            .lines
            .iter()
            .map(|line| line.priced(currency, prices))
            .collect::<Result<Vec<_>, Mismatch>>()?;
        let own = Quote::make(currency, &priced, (self.category, self.rate), self.at)
            .map_err(|overflow| Mismatch(overflow.to_string()))?;
        match own == *self {
            true => Ok(()),
            false => Err(Mismatch("its sums are not those of its lines".into())),
        }
    }
}

impl QuoteLine {
    fn priced(&self, currency: Currency, prices: &[Price]) -> Result<Priced, Mismatch> {
        let price = prices
            .iter()
            .find(|price| price.id == self.price)
            .ok_or_else(|| Mismatch(format!("there is no {}", self.price)))?;
        if price.offer != self.offer || price.currency != currency {
            return Err(Mismatch(format!(
                "{} is not a price of {} in {currency}",
                self.price, self.offer
            )));
        }
        Ok(Priced {
            asked: Asked {
                offer: self.offer.clone(),
                quantity: self.quantity,
            },
            price: price.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use octroi_platform::name::Name as _;
    use proptest::prelude::*;

    use super::*;
    use uuid::Uuid;

    fn priced(quantity: i32, setup: i64) -> Priced {
        let offer = OfferId::of(&["apps-for-business"]).unwrap();
        Priced {
            asked: Asked {
                offer: offer.clone(),
                quantity,
            },
            price: Price {
                id: PriceId(Uuid::from_u128(u128::from(setup.unsigned_abs()))),
                offer,
                currency: Currency::find("EUR").unwrap(),
                monthly: 999,
                setup,
                policy: UsagePolicy::Peak,
                valid_from: Timestamp::UNIX_EPOCH,
            },
        }
    }

    fn make(lines: &[Priced], ppm: i32) -> Quote {
        let rate = Rate::from_ppm(ppm).unwrap();
        let category = match ppm {
            0 => TaxCategory::Zero,
            _ => TaxCategory::Standard,
        };
        let currency = lines[0].price.currency;
        Quote::make(currency, lines, (category, rate), Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn a_changed_quote_is_refused() {
        let lines = [priced(10, 250)];
        let quote = make(&lines, 200_000);
        assert_eq!((quote.net, quote.tax, quote.due), (2_500, 500, 3_000));
        let prices = [lines[0].price.clone()];
        let check = |quote: &Quote| quote.check(lines[0].price.currency, &prices);
        assert_eq!(check(&quote), Ok(()));
        let changes: [fn(&mut Quote); 9] = [
            |quote| quote.due = 1,
            |quote| quote.tax = 0,
            |quote| quote.rate = Rate::from_ppm(0).unwrap(),
            |quote| quote.rate = Rate::from_ppm(190_000).unwrap(),
            |quote| quote.category = TaxCategory::ReverseCharge,
            |quote| quote.currency = Currency::find("USD").unwrap(),
            |quote| quote.lines[0].setup_fee = 1,
            |quote| quote.lines[0].price = PriceId(Uuid::nil()),
            |quote| quote.lines[0].offer = OfferId::of(&["other"]).unwrap(),
        ];
        for change in changes {
            let mut changed = quote.clone();
            change(&mut changed);
            assert!(check(&changed).is_err(), "{changed:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Σ lines = net, net + VAT = total, and VAT is within half a cent of exact.
        #[test]
        fn totals_add_up(asked in prop::collection::vec((1_i32..100_000, 0_i64..10_000_000), 1..20), ppm in 0_i32..=1_000_000) {
            let lines: Vec<Priced> = asked.iter().map(|(quantity, setup)| priced(*quantity, *setup)).collect();
            let quote = make(&lines, ppm);
            let net: i64 = quote.lines.iter().map(|line| line.setup_amount).sum();
            prop_assert_eq!(quote.net, net);
            prop_assert_eq!(quote.net + quote.tax, quote.due);
            let off = i128::from(quote.tax) * 1_000_000 - i128::from(net) * i128::from(ppm);
            prop_assert!(2 * off.abs() <= 1_000_000);
            let prices: Vec<Price> = lines.iter().map(|line| line.price.clone()).collect();
            prop_assert_eq!(quote.check(quote.currency, &prices), Ok(()));
        }
    }

    #[test]
    fn a_declined_quote_charges_nothing_in_the_account_s_currency() {
        let quote = make(&[priced(10, 250)], 200_000);
        let dollar = Currency::find("USD").unwrap();
        let declined = quote.clone().declined(dollar);
        assert_eq!((declined.net, declined.tax, declined.due), (0, 0, 0));
        assert_eq!((declined.currency, declined.lines.len()), (dollar, 0));
        assert_eq!((declined.rate, declined.at), (quote.rate, quote.at));
    }
}
