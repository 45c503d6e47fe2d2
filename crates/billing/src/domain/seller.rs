//! Sellers: the issuers of invoices, with the details that the law requires on them (Code de commerce L441-9, R123-237).

use std::fmt;

use octroi_platform::name::Name;
use octroi_platform::refusal::Refusal;
use postgres_types::{FromSql, ToSql};

use super::account::{Locale, SellerDefaults};
use super::address::Address;
use super::money::{Currency, Rate};
use crate::refusal::seller_incomplete;

/// The name of a seller: "sellers/specimen".
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, FromSql, ToSql)]
#[postgres(transparent)]
pub struct SellerId(pub String);

impl Name for SellerId {
    const KIND: &'static str = "seller";
    const COLLECTIONS: &'static [&'static str] = &["sellers"];

    fn of(ids: &[&str]) -> Option<Self> {
        let [id] = ids else { return None };
        Some(Self((*id).to_owned()))
    }

    fn account(&self) -> Option<&str> {
        None
    }
}

impl fmt::Display for SellerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sellers/{}", self.0)
    }
}

/// The time zone of the specimen seller.
pub const SPECIMEN_ZONE: &str = "Europe/Paris";

/// A seller. Texts may be empty: orders are then possible, but no invoices until its details are complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seller {
    pub id: SellerId,
    /// Whether its documents are specimens and no fiscal ones.
    pub specimen: bool,
    pub legal_name: String,
    /// Legal form and share capital: "SAS au capital de 10 000 €".
    pub legal_form: String,
    pub address: Address,
    /// SIREN: nine digits.
    pub siren: String,
    /// Trade register: "RCS Paris".
    pub rcs: String,
    /// VAT number.
    pub vat_number: String,
    /// Whether it pays VAT on debits ("TVA acquittée sur les débits").
    pub vat_on_debits: bool,
    /// IANA time zone: its local dates are the dates of issue.
    pub zone: String,
    /// The default currency of its accounts.
    pub currency: Currency,
    /// Days from issue to due date: 0 to 60.
    pub payment_terms_days: i32,
    /// Yearly rate of the late-payment penalty.
    pub late_penalty: Option<Rate>,
    /// Indemnity for recovery costs, in minor units of its currency: 40 €.
    pub recovery_indemnity: Option<i64>,
    /// Discount for early payment, in words: "Pas d'escompte pour paiement anticipé".
    pub early_payment_discount: Sentence,
}

/// A text in the languages of documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sentence {
    pub fr: String,
    pub en: String,
}

impl Sentence {
    /// In a document's language.
    pub fn in_locale(&self, locale: Locale) -> &str {
        match locale {
            Locale::Fr => &self.fr,
            Locale::En => &self.en,
        }
    }
}

impl Seller {
    /// Defaults for its accounts.
    pub fn defaults(&self) -> SellerDefaults {
        SellerDefaults {
            id: self.id.clone(),
            currency: self.currency,
            zone: self.zone.clone(),
        }
    }

    /// Names of the legal details that it lacks; without one of them nothing can be invoiced.
    pub fn missing(&self) -> Vec<&'static str> {
        let address = &self.address;
        let discount = &self.early_payment_discount;
        let no_address =
            address.lines.is_empty() || address.city.is_empty() || address.country.is_empty();
        [
            ("legal_name", self.legal_name.is_empty()),
            ("legal_form", self.legal_form.is_empty()),
            ("address", no_address),
            ("siren", self.siren.is_empty()),
            ("rcs", self.rcs.is_empty()),
            ("vat_number", self.vat_number.is_empty()),
            ("late_penalty_ppm", self.late_penalty.is_none()),
            ("recovery_indemnity", self.recovery_indemnity.is_none()),
            (
                "early_payment_discount",
                discount.fr.is_empty() || discount.en.is_empty(),
            ),
        ]
        .into_iter()
        .filter_map(|(field, missing)| missing.then_some(field))
        .collect()
    }

    /// Whether it may invoice.
    ///
    /// # Errors
    /// SELLER_INCOMPLETE names the legal details that it lacks.
    pub fn check_complete(&self) -> Result<(), Refusal> {
        match self.missing().is_empty() {
            true => Ok(()),
            false => Err(self.incomplete()),
        }
    }

    /// SELLER_INCOMPLETE, for an invoice that it cannot issue.
    pub fn incomplete(&self) -> Refusal {
        seller_incomplete(&self.id.to_string(), &self.missing().join(", "))
    }

    /// The specimen that a first start loads: its own texts say that it is no real seller.
    pub fn specimen(euro: Currency) -> Seller {
        Seller {
            id: SellerId("specimen".into()),
            specimen: true,
            legal_name: "SPECIMEN Octroi Distribution".into(),
            legal_form: "SAS au capital de 10 000 €".into(),
            address: Address {
                lines: vec!["1 rue du Spécimen".into()],
                postal_code: "75000".into(),
                city: "Paris".into(),
                country: "FR".into(),
            },
            siren: "000000000".into(),
            rcs: "RCS Paris".into(),
            vat_number: "FR12000000000".into(),
            vat_on_debits: true,
            zone: SPECIMEN_ZONE.into(),
            currency: euro,
            payment_terms_days: 30,
            late_penalty: Rate::from_ppm(121_500),
            recovery_indemnity: Some(4_000),
            early_payment_discount: Sentence {
                fr: "Pas d'escompte pour paiement anticipé".into(),
                en: "No discount for early payment".into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::vat;

    #[test]
    fn the_specimen_is_complete_and_says_what_it_is() {
        let seller = Seller::specimen(Currency::find("EUR").unwrap());
        assert!(seller.missing().is_empty());
        assert!(seller.specimen && seller.legal_name.contains("SPECIMEN"));
        assert!(vat::check_vat_number(&seller.vat_number).is_ok());
        assert!(vat::is_siren(&seller.siren));
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut seller = Seller::specimen(Currency::find("EUR").unwrap());
        seller.siren.clear();
        seller.late_penalty = None;
        seller.early_payment_discount.en.clear();
        assert_eq!(
            seller.missing(),
            ["siren", "late_penalty_ppm", "early_payment_discount"]
        );
    }

    #[test]
    fn each_legal_detail_is_needed() {
        let without = [
            (
                (|it| it.legal_name.clear()) as fn(&mut Seller),
                "legal_name",
            ),
            (|it| it.legal_form.clear(), "legal_form"),
            (|it| it.address.lines.clear(), "address"),
            (|it| it.address.city.clear(), "address"),
            (|it| it.address.country.clear(), "address"),
            (|it| it.siren.clear(), "siren"),
            (|it| it.rcs.clear(), "rcs"),
            (|it| it.vat_number.clear(), "vat_number"),
            (|it| it.late_penalty = None, "late_penalty_ppm"),
            (|it| it.recovery_indemnity = None, "recovery_indemnity"),
            (
                |it| it.early_payment_discount.fr.clear(),
                "early_payment_discount",
            ),
            (
                |it| it.early_payment_discount.en.clear(),
                "early_payment_discount",
            ),
        ];
        for (take, field) in without {
            let mut seller = Seller::specimen(Currency::find("EUR").unwrap());
            take(&mut seller);
            let refused = seller.check_complete().unwrap_err();
            assert_eq!(refused, seller_incomplete("sellers/specimen", field));
        }
    }
}
