//! Numbers of invoices: without gaps, per seller and year.

use jiff::civil::Date;

/// Consecutive numbers of a seller's invoices, taken under the series' lock, and the date that they bear: the seller's
/// local date then, and never before the series' last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The first number.
    pub first: i64,
    /// How many.
    pub count: i64,
    /// The date of issue; its year is the series'.
    pub date: Date,
}

impl Taken {
    /// The numbers as invoices show them, in order: "F-2026-000001".
    pub fn numbers(self) -> impl Iterator<Item = String> {
        (self.first..self.first + self.count)
            .map(move |number| format!("F-{:04}-{number:06}", self.date.year()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn numbers_rise_and_outgrow_their_six_digits() {
        let taken = Taken {
            first: 999_999,
            count: 2,
            date: date(2026, 12, 31),
        };
        assert_eq!(
            taken.numbers().collect::<Vec<_>>(),
            ["F-2026-999999", "F-2026-1000000"]
        );
    }
}
