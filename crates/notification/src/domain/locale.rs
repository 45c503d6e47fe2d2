//! How a customer's language writes amounts, dates and counts. Amounts stay the decimal strings that they came as.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A language that e-mails are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locale {
    /// French.
    Fr,
    /// English.
    En,
}

/// An exact amount, as the contracts carry it: "1234.50" of "EUR".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// ISO 4217 code.
    pub currency: String,
    /// Decimal digits with a point; never computed with here.
    pub decimal: String,
}

impl Amount {
    /// Whether it is nothing.
    pub fn is_zero(&self) -> bool {
        !self
            .decimal
            .contains(|digit: char| ('1'..='9').contains(&digit))
    }
}

const MONTHS: [(&str, &str); 12] = [
    ("janvier", "January"),
    ("février", "February"),
    ("mars", "March"),
    ("avril", "April"),
    ("mai", "May"),
    ("juin", "June"),
    ("juillet", "July"),
    ("août", "August"),
    ("septembre", "September"),
    ("octobre", "October"),
    ("novembre", "November"),
    ("décembre", "December"),
];

impl Locale {
    /// The language of a BCP 47 tag: French for "fr" and its regions, English for all others.
    pub fn of(tag: &str) -> Self {
        let language = tag.split(['-', '_']).next().unwrap_or_default();
        if language.eq_ignore_ascii_case("fr") {
            Locale::Fr
        } else {
            Locale::En
        }
    }

    /// Its tag: "fr" or "en".
    pub fn tag(self) -> &'static str {
        match self {
            Locale::Fr => "fr",
            Locale::En => "en",
        }
    }

    /// "1 234,50 €" (with no-break spaces) or "€1,234.50"; what is not a decimal number is shown as it came.
    pub fn amount(self, amount: &Amount) -> String {
        let currency = &amount.currency;
        let (sign, digits) = match amount.decimal.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", amount.decimal.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let decimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !decimal(whole) || !decimal(fraction) {
            return format!("{} {currency}", amount.decimal);
        }
        let (group, point) = match self {
            Locale::Fr => ('\u{202f}', ','),
            Locale::En => (',', '.'),
        };
        let mut number = String::with_capacity(digits.len() * 2);
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at) % 3 == 0 {
                number.push(group);
            }
            number.push(digit);
        }
        if !fraction.is_empty() {
            number.push(point);
            number.push_str(fraction);
        }
        let symbol = match currency.as_str() {
            "EUR" => Some("€"),
            "GBP" => Some("£"),
            _ => None,
        };
        match (self, symbol) {
            (Locale::Fr, symbol) => {
                format!("{sign}{number}\u{a0}{}", symbol.unwrap_or(currency))
            }
            (Locale::En, Some(symbol)) => format!("{sign}{symbol}{number}"),
            (Locale::En, None) => format!("{sign}{currency}\u{a0}{number}"),
        }
    }

    /// "1er décembre 2026" or "1 December 2026".
    pub fn date(self, date: Date) -> String {
        let day = match (self, date.day()) {
            (Locale::Fr, 1) => "1er".to_owned(),
            (_, day) => day.to_string(),
        };
        format!("{day} {}", self.month(date))
    }

    /// "décembre 2026" or "December 2026".
    pub fn month(self, date: Date) -> String {
        let (french, english) = usize::try_from(date.month() - 1)
            .ok()
            .and_then(|at| MONTHS.get(at))
            .copied()
            .unwrap_or_default();
        match self {
            Locale::Fr => format!("{french} {}", date.year()),
            Locale::En => format!("{english} {}", date.year()),
        }
    }

    /// "1er décembre 2026 à 9 h 05" or "1 December 2026 at 9:05", as the zone's clocks show it.
    pub fn instant(self, at: Timestamp, zone: &TimeZone) -> String {
        let local = at.to_zoned(zone.clone());
        let date = self.date(local.date());
        let (hour, minute) = (local.hour(), local.minute());
        match self {
            Locale::Fr => format!("{date} à {hour}\u{a0}h\u{a0}{minute:02}"),
            Locale::En => format!("{date} at {hour}:{minute:02}"),
        }
    }

    /// "1 licence", "2 licences"; in French nothing is singular too.
    pub fn licenses(self, count: i32) -> String {
        let plural = match self {
            Locale::Fr => count > 1,
            Locale::En => count != 1,
        };
        format!("{count} licence{}", if plural { "s" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn written(locale: Locale, decimal: &str, currency: &str) -> String {
        locale.amount(&Amount {
            currency: currency.to_owned(),
            decimal: decimal.to_owned(),
        })
    }

    #[test]
    fn amounts_follow_the_language() {
        assert_eq!(written(Locale::Fr, "10.99", "EUR"), "10,99\u{a0}€");
        assert_eq!(
            written(Locale::Fr, "1234567.00", "USD"),
            "1\u{202f}234\u{202f}567,00\u{a0}USD"
        );
        assert_eq!(written(Locale::En, "1234.50", "EUR"), "€1,234.50");
        assert_eq!(written(Locale::En, "123.00", "EUR"), "€123.00");
        assert_eq!(written(Locale::En, "123456.00", "EUR"), "€123,456.00");
        assert_eq!(written(Locale::En, "-3.00", "GBP"), "-£3.00");
        assert_eq!(written(Locale::En, "5000", "JPY"), "JPY\u{a0}5,000");
        assert_eq!(written(Locale::Fr, "?", "EUR"), "? EUR");
    }

    #[test]
    fn dates_follow_the_language() {
        assert_eq!(Locale::Fr.date(date(2026, 8, 1)), "1er août 2026");
        assert_eq!(Locale::En.date(date(2026, 12, 31)), "31 December 2026");
        assert_eq!(Locale::Fr.month(date(2026, 2, 1)), "février 2026");
        let at: Timestamp = "2026-11-30T23:05:00Z".parse().unwrap();
        let paris = TimeZone::get("Europe/Paris").unwrap();
        assert_eq!(
            Locale::Fr.instant(at, &paris),
            "1er décembre 2026 à 0\u{a0}h\u{a0}05"
        );
        assert_eq!(Locale::En.instant(at, &paris), "1 December 2026 at 0:05");
    }

    #[test]
    fn counts_follow_the_language() {
        let all = |locale: Locale| [0, 1, 2].map(|count| locale.licenses(count));
        assert_eq!(all(Locale::Fr), ["0 licence", "1 licence", "2 licences"]);
        assert_eq!(all(Locale::En), ["0 licences", "1 licence", "2 licences"]);
    }

    #[test]
    fn regions_speak_their_language() {
        for tag in ["fr", "fr-CA", "FR", "fr_BE"] {
            assert_eq!(Locale::of(tag), Locale::Fr);
        }
        for tag in ["en", "en-GB", "de", "fra", ""] {
            assert_eq!(Locale::of(tag), Locale::En);
        }
    }

    proptest! {
        #[test]
        fn an_amount_keeps_its_digits(minor in any::<i64>()) {
            let decimal = format!("{}.{:02}", minor / 100, (minor % 100).abs());
            let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            for locale in [Locale::Fr, Locale::En] {
                prop_assert_eq!(digits(&written(locale, &decimal, "EUR")), digits(&decimal));
            }
        }
    }
}
