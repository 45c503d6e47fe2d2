//! Settings of the billing service. Each is documented once, here.

use std::path::{Path, PathBuf};

use octroi_platform::name::{ID_RULE, is_id};
use serde::Deserialize;

use crate::domain::account::check_zone;
use crate::domain::address::{Address, check_country};
use crate::domain::money::{Currency, Money, Rate};
use crate::domain::seller::{Seller, SellerId, Sentence};
use crate::domain::vat::{check_vat_number, is_siren};

/// Settings of the billing service.
#[derive(Debug, Clone, clap::Args)]
// A group's id is its struct's name, and the platform's has the same.
#[group(id = "BillingSettings")]
pub struct Settings {
    /// The settings of every service.
    #[command(flatten)]
    pub platform: octroi_server::Settings,
    /// The seller's legal details as a JSON document; accounts that name no seller are its customers.
    #[arg(long, env = "OCTROI_SELLER_FILE", conflicts_with = "specimen_seller")]
    pub seller_file: Option<PathBuf>,
    /// Load a specimen seller with prices of the two offers and French VAT, all marked as what they are. For trying
    /// Octroi out: its invoices are no fiscal documents.
    #[arg(long, env = "OCTROI_SPECIMEN_SELLER")]
    pub specimen_seller: bool,
}

/// The seller's file. What may be left out delays the first invoice until it is given.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SellerFile {
    id: String,
    #[serde(default)]
    specimen: bool,
    #[serde(default)]
    legal_name: String,
    #[serde(default)]
    legal_form: String,
    #[serde(default)]
    address: AddressFile,
    #[serde(default)]
    siren: String,
    #[serde(default)]
    rcs: String,
    #[serde(default)]
    vat_number: String,
    #[serde(default)]
    vat_on_debits: bool,
    time_zone: String,
    currency: String,
    #[serde(default = "thirty")]
    payment_terms_days: i32,
    late_penalty_ppm: Option<i32>,
    recovery_indemnity: Option<String>,
    #[serde(default)]
    early_payment_discount: SentenceFile,
}

#[derive(Default, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with the sentence in each language, \"fr\" and \"en\""
)]
struct SentenceFile {
    fr: String,
    en: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressFile {
    lines: Vec<String>,
    postal_code: String,
    city: String,
    country_code: String,
}

fn thirty() -> i32 {
    30
}

impl Settings {
    /// Reads the seller's file, where there is one.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with the setting's name.
    pub(crate) fn seller(&self) -> Result<Option<Seller>, Vec<String>> {
        let Some(path) = &self.seller_file else {
            return Ok(None);
        };
        let named = |wrong: String| format!("--seller-file {}: {wrong}", path.display());
        let read = read(path).map_err(|error| vec![named(error)])?;
        read.seller()
            .map(Some)
            .map_err(|wrong| wrong.into_iter().map(named).collect())
    }
}

fn read(path: &Path) -> Result<SellerFile, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

impl SellerFile {
    fn seller(self) -> Result<Seller, Vec<String>> {
        let mut wrong = Vec::new();
        let mut check = |good: bool, rule: &str| {
            if !good {
                wrong.push(rule.to_owned());
            }
        };
        let country = &self.address.country_code;
        check(is_id(&self.id), &format!("id {ID_RULE}"));
        check(
            (0..=60).contains(&self.payment_terms_days),
            "payment_terms_days must be 0 to 60",
        );
        check(
            self.siren.is_empty() || is_siren(&self.siren),
            "siren must be nine digits with a fitting last one",
        );
        check(
            country.is_empty() || check_country(country).is_ok(),
            "address.country_code must be an ISO 3166-1 alpha-2 country in capitals",
        );
        if let Err(rule) = check_vat_number(&self.vat_number) {
            check(false, &format!("vat_number {rule}"));
        }
        let zone = check_zone(&self.time_zone);
        if let Err(rule) = zone {
            check(false, &format!("time_zone {rule}"));
        }
        let currency = Currency::find(&self.currency);
        check(
            currency.is_some(),
            "currency must be a known ISO 4217 currency",
        );
        let late_penalty = self.late_penalty_ppm.map(Rate::from_ppm);
        check(
            late_penalty != Some(None),
            "late_penalty_ppm must be 0 to 1000000",
        );
        let indemnity = self
            .recovery_indemnity
            .zip(currency)
            .map(|(amount, currency)| Money::parse(&amount, currency));
        match indemnity {
            Some(Err(error)) => check(false, &format!("recovery_indemnity {error}")),
            Some(Ok(amount)) => check(
                amount.minor >= 0,
                "recovery_indemnity must not be below zero",
            ),
            None => {}
        }
        match (zone, currency) {
            (Ok(zone), Some(currency)) if wrong.is_empty() => Ok(Seller {
                id: SellerId(self.id),
                specimen: self.specimen,
                legal_name: self.legal_name,
                legal_form: self.legal_form,
                address: Address {
                    lines: self.address.lines,
                    postal_code: self.address.postal_code,
                    city: self.address.city,
                    country: self.address.country_code,
                },
                siren: self.siren,
                rcs: self.rcs,
                vat_number: self.vat_number,
                vat_on_debits: self.vat_on_debits,
                zone,
                currency,
                payment_terms_days: self.payment_terms_days,
                late_penalty: late_penalty.flatten(),
                recovery_indemnity: indemnity.and_then(Result::ok).map(|money| money.minor),
                early_payment_discount: Sentence {
                    fr: self.early_payment_discount.fr,
                    en: self.early_payment_discount.en,
                },
            }),
            _ => Err(wrong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_say_little() {
        let text = r#"{"id": "shop", "time_zone": "Europe/Paris", "currency": "EUR"}"#;
        let file: SellerFile = serde_json::from_str(text).unwrap();
        let seller = file.seller().unwrap();
        assert_eq!(seller.payment_terms_days, 30);
        assert!(seller.missing().contains(&"siren"));
    }

    #[test]
    fn an_indemnity_is_an_amount_not_below_zero() {
        for (amount, good) in [
            ("40.00", true),
            ("0.00", true),
            ("-40.00", false),
            ("x", false),
        ] {
            let text = r#"{"id": "shop", "time_zone": "Europe/Paris", "currency": "EUR",
                "recovery_indemnity": "AMOUNT"}"#;
            let file: SellerFile = serde_json::from_str(&text.replace("AMOUNT", amount)).unwrap();
            match file.seller() {
                Ok(_) => assert!(good, "{amount}"),
                Err(wrong) => {
                    assert!(!good && wrong.len() == 1, "{amount}: {wrong:?}");
                    assert!(wrong[0].starts_with("recovery_indemnity "), "{wrong:?}");
                }
            }
        }
    }

    #[test]
    fn a_sentence_is_given_in_each_language() {
        let with = |sentence: &str| {
            let text = r#"{"id": "shop", "time_zone": "Europe/Paris", "currency": "EUR",
                "early_payment_discount": SENTENCE}"#;
            serde_json::from_str::<SellerFile>(&text.replace("SENTENCE", sentence))
        };
        let read = with(r#"{"fr": "Sans escompte", "en": "No discount"}"#).unwrap();
        let seller = read.seller().unwrap();
        assert!(!seller.missing().contains(&"early_payment_discount"));
        assert!(with(r#"{"fr": "Sans escompte"}"#).is_err());
        let wrong = with(r#""Sans escompte""#).err().unwrap().to_string();
        assert!(
            wrong.contains("in each language, \"fr\" and \"en\""),
            "{wrong}"
        );
    }

    #[test]
    fn every_mistake_is_named() {
        let text = r#"{"id": "Shop", "time_zone": "Paris", "currency": "EURO", "siren": "123456789",
            "vat_number": "FR1", "late_penalty_ppm": -1, "payment_terms_days": 90,
            "address": {"lines": [], "postal_code": "", "city": "", "country_code": "FRA"}}"#;
        let file: SellerFile = serde_json::from_str(text).unwrap();
        assert_eq!(file.seller().unwrap_err().len(), 8);
        assert!(serde_json::from_str::<SellerFile>(r#"{"id": "shop", "sirene": "x"}"#).is_err());
    }
}
