//! Amounts on the wire.

use octroi_api::r#type::v1::Money as Wire;
use octroi_platform::Violations;
use octroi_platform::refusal::MISSING;

use crate::domain::money::{Currency, Money};

impl From<Money> for Wire {
    fn from(amount: Money) -> Self {
        Self {
            currency_code: amount.currency.code().to_owned(),
            amount: amount.amount(),
        }
    }
}

/// An amount that a request must give, in any known currency.
pub(crate) fn read(
    field: &str,
    money: Option<&Wire>,
    violations: &mut Violations,
) -> Option<Money> {
    let Some(money) = money else {
        violations.add(field, MISSING);
        return None;
    };
    let Some(currency) = Currency::find(&money.currency_code) else {
        violations.add(
            format!("{field}.currency_code"),
            "must be a known ISO 4217 currency",
        );
        return None;
    };
    violations.check(
        &format!("{field}.amount"),
        Money::parse(&money.amount, currency),
    )
}
