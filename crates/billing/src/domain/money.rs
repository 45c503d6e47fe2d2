//! Exact money. Amounts are whole minor units (cents) in an `i64`, computed in `i128`, checked; rates are parts per
//! million; each line is rounded once, half up. There is no floating point here.

use std::fmt;

use octroi_platform::refusal::Refusal;

use crate::refusal::amount_overflow;

/// A currency of ISO 4217 that billing knows, with the digits of its minor unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: &'static str,
    digits: u32,
}

/// Ordered by code. The fund and metal codes are left out: nobody is invoiced in them.
static CURRENCIES: &[Currency] = &[
    currency("AED", 2),
    currency("ARS", 2),
    currency("AUD", 2),
    currency("BAM", 2),
    currency("BDT", 2),
    currency("BGN", 2),
    currency("BHD", 3),
    currency("BIF", 0),
    currency("BOB", 2),
    currency("BRL", 2),
    currency("CAD", 2),
    currency("CHF", 2),
    currency("CLP", 0),
    currency("CNY", 2),
    currency("COP", 2),
    currency("CRC", 2),
    currency("CZK", 2),
    currency("DJF", 0),
    currency("DKK", 2),
    currency("DOP", 2),
    currency("DZD", 2),
    currency("EGP", 2),
    currency("EUR", 2),
    currency("GBP", 2),
    currency("GEL", 2),
    currency("GHS", 2),
    currency("GNF", 0),
    currency("GTQ", 2),
    currency("HKD", 2),
    currency("HUF", 2),
    currency("IDR", 2),
    currency("ILS", 2),
    currency("INR", 2),
    currency("IQD", 3),
    currency("ISK", 0),
    currency("JOD", 3),
    currency("JPY", 0),
    currency("KES", 2),
    currency("KMF", 0),
    currency("KRW", 0),
    currency("KWD", 3),
    currency("KZT", 2),
    currency("LBP", 2),
    currency("LKR", 2),
    currency("LYD", 3),
    currency("MAD", 2),
    currency("MDL", 2),
    currency("MGA", 2),
    currency("MKD", 2),
    currency("MUR", 2),
    currency("MXN", 2),
    currency("MYR", 2),
    currency("NGN", 2),
    currency("NOK", 2),
    currency("NZD", 2),
    currency("OMR", 3),
    currency("PEN", 2),
    currency("PHP", 2),
    currency("PKR", 2),
    currency("PLN", 2),
    currency("PYG", 0),
    currency("QAR", 2),
    currency("RON", 2),
    currency("RSD", 2),
    currency("RWF", 0),
    currency("SAR", 2),
    currency("SEK", 2),
    currency("SGD", 2),
    currency("THB", 2),
    currency("TND", 3),
    currency("TRY", 2),
    currency("TWD", 2),
    currency("TZS", 2),
    currency("UAH", 2),
    currency("UGX", 0),
    currency("USD", 2),
    currency("UYU", 2),
    currency("VND", 0),
    currency("VUV", 0),
    currency("XAF", 0),
    currency("XOF", 0),
    currency("XPF", 0),
    currency("ZAR", 2),
];

const fn currency(code: &'static str, digits: u32) -> Currency {
    Currency { code, digits }
}

impl Currency {
    /// The currency with an ISO 4217 code in capitals, if it is known.
    pub fn find(code: &str) -> Option<Currency> {
        CURRENCIES
            .binary_search_by(|known| known.code.cmp(code))
            .ok()
            .and_then(|at| CURRENCIES.get(at))
            .copied()
    }

    /// ISO 4217 code in capitals.
    pub fn code(self) -> &'static str {
        self.code
    }

    /// So many minor units, written as [`Money::parse`] reads them: "10.99". A sum of many amounts may be more than
    /// any one of them can be.
    pub fn amount(self, minor: i128) -> String {
        let sign = if minor < 0 { "-" } else { "" };
        let units = minor.unsigned_abs();
        match self.digits {
            0 => format!("{sign}{units}"),
            digits => {
                let base = 10_u128.pow(digits);
                let width = digits as usize;
                format!("{sign}{}.{:0width$}", units / base, units % base)
            }
        }
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code)
    }
}

/// An amount in a currency's minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    /// Minor units: cents of a euro.
    pub minor: i64,
    pub currency: Currency,
}

/// Why a text is not an amount of a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// It is no decimal number with exactly the currency's digits.
    #[error("must be a decimal number with exactly {digits} digits after the point")]
    Malformed {
        /// The digits of the currency.
        digits: u32,
    },
    /// It is outside the range of `i64` minor units.
    #[error("is too large")]
    TooLarge,
}

impl Money {
    /// An amount of minor units.
    pub fn new(minor: i64, currency: Currency) -> Money {
        Money { minor, currency }
    }

    /// Reads "10.99" (exactly the currency's digits, no sign but a leading minus, no leading zeros, no "-0.00").
    pub fn parse(text: &str, currency: Currency) -> Result<Money, AmountError> {
        let malformed = AmountError::Malformed {
            digits: currency.digits,
        };
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match currency.digits {
            0 => (unsigned, ""),
            _ => unsigned.split_once('.').ok_or(malformed)?,
        };
        let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
        let leading_zero = whole.len() > 1 && whole.starts_with('0');
        if whole.is_empty()
            || leading_zero
            || !is_number(whole)
            || !is_number(fraction)
            || fraction.len() != currency.digits as usize
        {
            return Err(malformed);
        }
        let mut minor: i128 = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            minor = minor
                .checked_mul(10)
                .and_then(|minor| minor.checked_add(i128::from(digit - b'0')))
                .ok_or(AmountError::TooLarge)?;
        }
        if negative && minor == 0 {
            return Err(malformed);
        }
        let signed = if negative { -minor } else { minor };
        match i64::try_from(signed) {
            Ok(minor) => Ok(Money { minor, currency }),
            Err(_) => Err(AmountError::TooLarge),
        }
    }

    /// The amount as `parse` reads it: "10.99".
    pub fn amount(self) -> String {
        self.currency.amount(i128::from(self.minor))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}

/// A rate in parts per million, from 0 to 1 000 000 (100 %).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(i32);

impl Rate {
    /// The whole: 100 %.
    pub const WHOLE: i32 = 1_000_000;

    /// A rate, if it is between 0 and 100 %.
    pub fn from_ppm(ppm: i32) -> Option<Rate> {
        (0..=Rate::WHOLE).contains(&ppm).then_some(Rate(ppm))
    }

    /// Parts per million.
    pub fn ppm(self) -> i32 {
        self.0
    }

    /// This share of an amount, rounded once, half up.
    pub fn of(self, amount: i64) -> Result<i64, Refusal> {
        ratio(amount, i64::from(self.0), i64::from(Rate::WHOLE))
    }
}

/// Sum of two amounts of one currency.
pub fn add(a: i64, b: i64) -> Result<i64, Refusal> {
    a.checked_add(b).ok_or_else(amount_overflow)
}

/// Sum of amounts of one currency.
pub fn sum(amounts: impl IntoIterator<Item = i64>) -> Result<i64, Refusal> {
    let mut total: i128 = 0;
    for amount in amounts {
        total = total
            .checked_add(i128::from(amount))
            .ok_or_else(amount_overflow)?;
    }
    i64::try_from(total).map_err(|_| amount_overflow())
}

/// A quantity of a unit price.
pub fn times(unit: i64, quantity: i64) -> Result<i64, Refusal> {
    unit.checked_mul(quantity).ok_or_else(amount_overflow)
}

/// `amount × numerator ÷ denominator`, rounded once, half up (halves away from zero, so that a credit mirrors its
/// charge). The denominator is positive; otherwise it is an overflow.
pub fn ratio(amount: i64, numerator: i64, denominator: i64) -> Result<i64, Refusal> {
    if denominator <= 0 {
        return Err(amount_overflow());
    }
    // |i64 × i64| < 2^126, so neither the product nor the half that is added leaves i128.
    let product = i128::from(amount) * i128::from(numerator);
    let denominator = i128::from(denominator);
    let half = denominator / 2;
    let odd = denominator % 2;
    let magnitude = product.abs();
    let quotient = magnitude / denominator;
    let rest = magnitude % denominator;
    let rounded = if rest >= half + odd {
        quotient + 1
    } else {
        quotient
    };
    i64::try_from(rounded * product.signum()).map_err(|_| amount_overflow())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_currency() -> impl Strategy<Value = Currency> {
        prop::sample::select(CURRENCIES)
    }

    #[test]
    fn currencies_are_ordered_and_found() {
        assert!(
            CURRENCIES
                .windows(2)
                .all(|pair| pair[0].code < pair[1].code)
        );
        for known in CURRENCIES {
            assert_eq!(Currency::find(known.code), Some(*known));
        }
        assert_eq!(Currency::find("eur"), None);
        assert_eq!(Currency::find("XXX"), None);
    }

    #[test]
    fn halves_go_up() {
        assert_eq!(ratio(1, 1, 2), Ok(1));
        assert_eq!(ratio(-1, 1, 2), Ok(-1));
        assert_eq!(ratio(1, 1, 3), Ok(0));
        assert_eq!(ratio(2, 1, 3), Ok(1));
        assert_eq!(ratio(10, 1, 4), Ok(3));
        assert_eq!(ratio(1, 1, 0), Err(amount_overflow()));
        assert_eq!(ratio(i64::MAX, 2, 1), Err(amount_overflow()));
    }

    #[test]
    fn amounts_around_nothing_are_written_and_read() {
        for (minor, euros, dinars) in [
            (0, "0.00", "0.000"),
            (1, "0.01", "0.001"),
            (-1, "-0.01", "-0.001"),
            (-100, "-1.00", "-0.100"),
            (1_050, "10.50", "1.050"),
        ] {
            for (code, text) in [("EUR", euros), ("KWD", dinars)] {
                let money = Money::new(minor, Currency::find(code).unwrap());
                assert_eq!(Money::parse(text, money.currency), Ok(money));
                assert_eq!(money.to_string(), format!("{text} {code}"));
                assert_eq!(format!("{:?}", money.currency), code);
            }
        }
    }

    #[test]
    fn malformed_amounts_are_refused() {
        let eur = Currency::find("EUR").unwrap();
        for text in [
            "", "-", "1", "1.", "1.0", "1.000", ".50", "01.00", "+1.00", "1,00", "-0.00", " 1.00",
            "1.0a", "--1.00",
        ] {
            assert!(Money::parse(text, eur).is_err(), "{text:?}");
        }
        let yen = Currency::find("JPY").unwrap();
        assert!(Money::parse("1.00", yen).is_err());
        assert_eq!(Money::parse("120", yen), Ok(Money::new(120, yen)));
        assert_eq!(
            Money::parse("92233720368547758.08", eur),
            Err(AmountError::TooLarge)
        );
        assert_eq!(
            Money::parse("-92233720368547758.08", eur),
            Ok(Money::new(i64::MIN, eur))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn what_is_written_is_read(minor: i64, currency in any_currency()) {
            let money = Money::new(minor, currency);
            prop_assert_eq!(Money::parse(&money.amount(), currency), Ok(money));
        }

        #[test]
        fn what_is_read_is_written(text in "-?[0-9]{1,20}(\\.[0-9]{0,4})?", currency in any_currency()) {
            if let Ok(money) = Money::parse(&text, currency) {
                prop_assert_eq!(money.amount(), text);
            }
        }

        /// 2·|exact − rounded| ≤ 1, and a half is never rounded towards zero.
        #[test]
        fn a_ratio_is_the_nearest_whole(amount in -1_000_000_000_000_i64..1_000_000_000_000, top in 0_i64..2_000_000, bottom in 1_i64..2_000_000) {
            let rounded = i128::from(ratio(amount, top, bottom).unwrap());
            let exact = i128::from(amount) * i128::from(top);
            let bottom = i128::from(bottom);
            let off = 2 * (exact - rounded * bottom);
            prop_assert!(off.abs() <= bottom);
            if off.abs() == bottom {
                prop_assert!(rounded.abs() * bottom > exact.abs());
            }
        }

        #[test]
        fn a_sum_is_independent_of_its_order(mut amounts in prop::collection::vec(any::<i64>(), 0..20)) {
            let forwards = sum(amounts.iter().copied());
            amounts.reverse();
            prop_assert_eq!(forwards, sum(amounts));
        }
    }
}
