//! The mentions that the law requires on an invoice (Code de commerce L441-9, D441-5; CGI annexe II 242 nonies A), in the
//! customer's language.

use jiff::civil::Date;
use octroi_platform::refusal::Refusal;

use super::account::Locale;
use super::bill::{Bill, Charged};
use super::money::{Money, Rate};
use super::seller::{Seller, Sentence};
use super::tax::TaxCategory;

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

/// A seller's conditions of payment. They are part of what makes a seller complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Days from issue to due date.
    pub days: i32,
    late_penalty: Rate,
    recovery_indemnity: Money,
    early_payment_discount: Sentence,
    vat_on_debits: bool,
}

impl Terms {
    /// A seller's terms.
    ///
    /// # Errors
    /// SELLER_INCOMPLETE when it lacks any legal detail, not of its terms alone.
    pub fn of(seller: &Seller) -> Result<Terms, Refusal> {
        seller.check_complete()?;
        match (seller.late_penalty, seller.recovery_indemnity) {
            (Some(late_penalty), Some(indemnity)) => Ok(Terms {
                days: seller.payment_terms_days,
                late_penalty,
                recovery_indemnity: Money::new(indemnity, seller.currency),
                early_payment_discount: seller.early_payment_discount.clone(),
                vat_on_debits: seller.vat_on_debits,
            }),
            _ => Err(seller.incomplete()),
        }
    }
}

/// The mentions of an invoice, one a line. `issued` is its date; `due` is none when it is paid already.
pub fn mentions(bill: &Bill, terms: &Terms, issued: Date, due: Option<Date>) -> Vec<String> {
    let french = bill.locale == Locale::Fr;
    let mut lines = Vec::new();
    if bill.specimen {
        lines.push(match french {
            true => "SPÉCIMEN : ce document n'est pas une facture.".to_owned(),
            false => "SPECIMEN: this document is not an invoice.".to_owned(),
        });
    }
    if let Charged::Order { .. } = bill.charged {
        // What an order's invoice charges is done as soon as it is paid; a month's says its period.
        let day = day(issued, bill.locale);
        lines.push(match french {
            true => format!("Prestation effectuée le {day}."),
            false => format!("Date of supply: {day}."),
        });
    }
    lines.push(match (due, french) {
        (Some(due), true) => format!(
            "À payer au plus tard le {} ({} jours).",
            day(due, Locale::Fr),
            terms.days
        ),
        (Some(due), false) => format!(
            "To be paid by {} ({} days).",
            day(due, Locale::En),
            terms.days
        ),
        (None, true) => "Acquittée.".to_owned(),
        (None, false) => "Paid.".to_owned(),
    });
    // The law asks for the conditions of payment on every invoice, and exempts none that is paid already; but where
    // nothing was ever owed there is nothing to be late with.
    if bill.total > 0 {
        lines.extend(conditions(terms, bill.locale));
    }
    if terms.vat_on_debits {
        lines.push(match french {
            true => "Option pour le paiement de la taxe d'après les débits.".to_owned(),
            false => {
                "VAT is paid on debits (option pour le paiement de la taxe d'après les débits)."
                    .to_owned()
            }
        });
    }
    for line in &bill.taxes {
        lines.extend(untaxed(line.tax.category, french).map(str::to_owned));
    }
    lines
}

/// What being late costs, and what being early saves.
fn conditions(terms: &Terms, locale: Locale) -> [String; 3] {
    let penalty = percent(terms.late_penalty, locale);
    let indemnity = amount(terms.recovery_indemnity, locale);
    let (late, recovery) = match locale {
        Locale::Fr => (
            format!(
                "Pénalités de retard : {penalty} par an, exigibles dès le lendemain de l'échéance, sans rappel."
            ),
            format!(
                "Indemnité forfaitaire pour frais de recouvrement en cas de retard : {indemnity}."
            ),
        ),
        Locale::En => (
            format!(
                "Late payment: {penalty} a year, due from the day after the due date without a reminder."
            ),
            format!("Fixed indemnity for recovery costs in case of late payment: {indemnity}."),
        ),
    };
    let discount = terms.early_payment_discount.in_locale(locale);
    [
        late,
        recovery,
        format!("{}.", discount.trim_end_matches('.')),
    ]
}

/// Why a category bears no tax, where the law requires that mention; a reference to the exemption's article may be any other
/// mention that there is one (242 nonies A, I, 12°).
fn untaxed(category: TaxCategory, french: bool) -> Option<&'static str> {
    match (category, french) {
        (TaxCategory::ReverseCharge, true) => Some("Autoliquidation."),
        (TaxCategory::ReverseCharge, false) => Some("Reverse charge."),
        (TaxCategory::Exempt, true) => Some("Opération exonérée de TVA."),
        (TaxCategory::Exempt, false) => Some("Exempt from VAT."),
        (TaxCategory::Export, true) => {
            Some("Opération exonérée de TVA : exportation hors de l'Union européenne.")
        }
        (TaxCategory::Export, false) => Some("Exempt from VAT: export outside the European Union."),
        (TaxCategory::Standard | TaxCategory::Zero | TaxCategory::Outside, _) => None,
    }
}

/// "novembre 2026".
pub fn month_name(month: octroi_calendar::Month, locale: Locale) -> String {
    format!("{} {}", name_of_month(month.month, locale), month.year)
}

/// "1er décembre 2026", "1 December 2026".
fn day(date: Date, locale: Locale) -> String {
    let first = if date.day() == 1 && locale == Locale::Fr {
        "er"
    } else {
        ""
    };
    let month = name_of_month(date.month(), locale);
    format!("{}{first} {month} {}", date.day(), date.year())
}

fn name_of_month(month: i8, locale: Locale) -> &'static str {
    let at = usize::try_from(month - 1).unwrap_or_default();
    let (french, english) = MONTHS.get(at).copied().unwrap_or_default();
    match locale {
        Locale::Fr => french,
        Locale::En => english,
    }
}

/// "40,00 €", "40.00 EUR".
fn amount(money: Money, locale: Locale) -> String {
    let symbol = match money.currency.code() {
        "EUR" => "€",
        code => code,
    };
    match locale {
        Locale::Fr => format!("{} {symbol}", money.amount().replace('.', ",")),
        Locale::En => money.to_string(),
    }
}

/// "12,15 %", with as many digits as the rate has, at least two.
fn percent(rate: Rate, locale: Locale) -> String {
    let ppm = rate.ppm();
    let mut digits = format!("{:04}", ppm % 10_000);
    while digits.len() > 2 && digits.ends_with('0') {
        digits.pop();
    }
    match locale {
        Locale::Fr => format!("{},{digits} %", ppm / 10_000),
        Locale::En => format!("{}.{digits} %", ppm / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bill::tests::{account, euro, line, order};
    use crate::refusal::seller_incomplete;
    use jiff::civil::date;

    #[test]
    fn the_law_s_mentions_are_there_in_both_languages() {
        let seller = Seller::specimen(euro());
        let terms = Terms::of(&seller).unwrap();

        let mut account = account();
        let bill = Bill::new(
            &account,
            &seller,
            order(),
            vec![line(1, 100, 1, 200_000)],
            false,
        )
        .unwrap();
        let issued = date(2026, 12, 1);
        let said = mentions(&bill, &terms, issued, Some(date(2026, 12, 31)));
        assert_eq!(said.len(), 7);
        assert!(said[0].contains("SPÉCIMEN"));
        assert_eq!(said[1], "Prestation effectuée le 1er décembre 2026.");
        assert!(said[2].contains("31 décembre 2026 (30 jours)"));
        assert!(said[3].contains("12,15 %"));
        assert!(said[4].ends_with("de retard : 40,00 €."), "{}", said[4]);
        assert_eq!(said[5], "Pas d'escompte pour paiement anticipé.");
        account.locale = Locale::En;
        let paid = vec![line(1, 100, 1, 200_000)];
        let bill = Bill::new(&account, &seller, order(), paid, false).unwrap();
        let said = mentions(&bill, &terms, issued, None);
        assert_eq!(said[1], "Date of supply: 1 December 2026.");
        assert_eq!(said[2], "Paid.");
        assert!(said[3].contains("12.15 %"));
        assert!(said[4].ends_with("late payment: 40.00 EUR."), "{}", said[4]);
        assert_eq!(said[5], "No discount for early payment.");
    }

    #[test]
    fn where_nothing_is_owed_nothing_can_be_late() {
        let seller = Seller::specimen(euro());
        let order = order();
        let free = vec![line(1, 0, 1, 200_000)];
        let bill = Bill::new(&account(), &seller, order, free, false).unwrap();
        let terms = Terms::of(&seller).unwrap();
        let said = mentions(&bill, &terms, date(2026, 12, 1), None);
        assert_eq!(said[2], "Acquittée.");
        assert!(said[3].starts_with("Option pour le paiement de la taxe"));
        assert_eq!(said.len(), 4);
    }

    #[test]
    fn what_bears_no_tax_says_why() {
        use TaxCategory::{Exempt, Export, Outside, ReverseCharge, Standard, Zero};
        for french in [true, false] {
            let said = [Exempt, Export, ReverseCharge].map(|it| untaxed(it, french));
            assert!(said.iter().all(Option::is_some));
            assert!(
                [Outside, Standard, Zero]
                    .iter()
                    .all(|it| untaxed(*it, french).is_none())
            );
        }
    }

    #[test]
    fn an_incomplete_seller_has_no_terms() {
        let seller = Seller {
            rcs: String::new(),
            ..Seller::specimen(euro())
        };
        let refused = Terms::of(&seller).unwrap_err();
        assert_eq!(refused, seller_incomplete("sellers/specimen", "rcs"));
    }

    #[test]
    fn rates_are_written_out() {
        let rate = |ppm| percent(Rate::from_ppm(ppm).unwrap(), Locale::Fr);
        assert_eq!(rate(121_500), "12,15 %");
        assert_eq!(rate(100_000), "10,00 %");
        assert_eq!(rate(50_125), "5,0125 %");
    }
}
