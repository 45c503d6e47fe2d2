//! Tax rates: effective-dated, never edited.

use jiff::civil::Date;
use uuid::Uuid;

use super::money::Rate;

/// EN 16931's category of a tax.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaxCategory {
    /// "S": standard rate.
    Standard,
    /// "Z": zero rated.
    Zero,
    /// "E": exempt.
    Exempt,
    /// "AE": reverse charge.
    ReverseCharge,
    /// "G": export outside the Union.
    Export,
    /// "O": outside the scope of VAT.
    Outside,
}

impl TaxCategory {
    /// As EN 16931 and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            TaxCategory::Standard => "S",
            TaxCategory::Zero => "Z",
            TaxCategory::Exempt => "E",
            TaxCategory::ReverseCharge => "AE",
            TaxCategory::Export => "G",
            TaxCategory::Outside => "O",
        }
    }

    /// Whether a rate is valid for this category: above zero for the standard one, zero for all others.
    pub fn may_have(self, rate: Rate) -> bool {
        (self == TaxCategory::Standard) == (rate.ppm() > 0)
    }

    /// The category that EN 16931 spells so.
    pub fn parse(text: &str) -> Option<TaxCategory> {
        match text {
            "S" => Some(TaxCategory::Standard),
            "Z" => Some(TaxCategory::Zero),
            "E" => Some(TaxCategory::Exempt),
            "AE" => Some(TaxCategory::ReverseCharge),
            "G" => Some(TaxCategory::Export),
            "O" => Some(TaxCategory::Outside),
            _ => None,
        }
    }
}

/// The tax of a customer's country from a date on, until a later one of the same country.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaxRate {
    pub id: Uuid,
    /// ISO 3166-1 alpha-2 code of the customer's country.
    pub country: String,
    pub category: TaxCategory,
    pub rate: Rate,
    /// The first local day of the seller on which it is in force.
    pub valid_from: Date,
}

/// The rate in force for a country on a day. None must not be treated as zero.
pub fn in_force<'a>(rates: &'a [TaxRate], country: &str, day: Date) -> Option<&'a TaxRate> {
    rates
        .iter()
        .filter(|rate| rate.country == country && rate.valid_from <= day)
        .max_by_key(|rate| rate.valid_from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn rate(country: &str, ppm: i32, valid_from: Date) -> TaxRate {
        TaxRate {
            id: Uuid::nil(),
            country: country.into(),
            category: TaxCategory::Standard,
            rate: Rate::from_ppm(ppm).unwrap(),
            valid_from,
        }
    }

    #[test]
    fn the_latest_that_has_begun_is_in_force() {
        let rates = [
            rate("FR", 200_000, date(2014, 1, 1)),
            rate("FR", 196_000, date(2000, 4, 1)),
            rate("DE", 190_000, date(2007, 1, 1)),
        ];
        let ppm = |country, day| in_force(&rates, country, day).map(|found| found.rate.ppm());
        assert_eq!(ppm("FR", date(2013, 12, 31)), Some(196_000));
        assert_eq!(ppm("FR", date(2014, 1, 1)), Some(200_000));
        assert_eq!(ppm("FR", date(2000, 3, 31)), None);
        assert_eq!(ppm("IT", date(2020, 1, 1)), None);
    }

    #[test]
    fn the_standard_category_alone_has_a_rate() {
        use TaxCategory::{Exempt, Export, Outside, ReverseCharge, Standard, Zero};
        for category in [Standard, Zero, Exempt, ReverseCharge, Export, Outside] {
            for ppm in [0, 1, 200_000] {
                let rate = Rate::from_ppm(ppm).unwrap();
                let may = (category == Standard) == (ppm != 0);
                assert_eq!(category.may_have(rate), may, "{category:?} {ppm}");
            }
        }
    }
}
