//! Sellers.

use jiff::Timestamp;
use octroi_platform::{Error, Rows, Tx, params, row_get};
use tokio_postgres::Row;

use super::currency;
use crate::domain::address::Address;
use crate::domain::money::Rate;
use crate::domain::seller::{Seller, SellerId, Sentence};

/// The columns that [`from_row`] reads, of a seller under the alias `s`.
macro_rules! seller_columns {
    () => {
        "s.id AS seller_id, s.specimen AS seller_specimen, s.legal_name AS seller_legal_name,
         s.legal_form AS seller_legal_form, s.address_lines AS seller_address_lines,
         s.postal_code AS seller_postal_code, s.city AS seller_city, s.country AS seller_country,
         s.siren AS seller_siren, s.rcs AS seller_rcs, s.vat_number AS seller_vat_number,
         s.vat_on_debits AS seller_vat_on_debits, s.time_zone AS seller_time_zone, s.currency AS seller_currency,
         s.payment_terms_days AS seller_payment_terms_days, s.late_penalty_ppm AS seller_late_penalty_ppm,
         s.recovery_indemnity AS seller_recovery_indemnity,
         s.early_payment_discount AS seller_early_payment_discount,
         s.early_payment_discount_en AS seller_early_payment_discount_en"
    };
}
pub(crate) use seller_columns;

/// One seller, and whether there is an account `$2`.
pub const GET_FOR_NEW_ACCOUNT: &str = concat!(
    "-- get_seller_for_new_account
     SELECT ",
    seller_columns!(),
    ", EXISTS (SELECT FROM account WHERE account = $2) AS account_exists
     FROM (SELECT) AS one LEFT JOIN seller s ON s.id = $1"
);

/// One seller, locked.
pub const LOCK: &str = concat!(
    "-- lock_seller
     SELECT ",
    seller_columns!(),
    " FROM seller s WHERE s.id = $1 FOR UPDATE"
);

/// Maps a row that has [`seller_columns`].
pub fn from_row(row: &Row) -> Result<Seller, Error> {
    let id: SellerId = row_get(row, "seller_id")?;
    let late_penalty = match row_get::<Option<i32>>(row, "seller_late_penalty_ppm")? {
        None => None,
        Some(ppm) => Some(Rate::from_ppm(ppm).ok_or_else(|| Error::Corrupt {
            table: "seller",
            column: "late_penalty_ppm",
            id: id.to_string(),
        })?),
    };
    Ok(Seller {
        id,
        specimen: row_get(row, "seller_specimen")?,
        legal_name: row_get(row, "seller_legal_name")?,
        legal_form: row_get(row, "seller_legal_form")?,
        address: Address {
            lines: row_get(row, "seller_address_lines")?,
            postal_code: row_get(row, "seller_postal_code")?,
            city: row_get(row, "seller_city")?,
            country: row_get(row, "seller_country")?,
        },
        siren: row_get(row, "seller_siren")?,
        rcs: row_get(row, "seller_rcs")?,
        vat_number: row_get(row, "seller_vat_number")?,
        vat_on_debits: row_get(row, "seller_vat_on_debits")?,
        zone: row_get(row, "seller_time_zone")?,
        currency: currency(row, "seller", "seller_currency")?,
        payment_terms_days: row_get(row, "seller_payment_terms_days")?,
        late_penalty,
        recovery_indemnity: row_get(row, "seller_recovery_indemnity")?,
        early_payment_discount: Sentence {
            fr: row_get(row, "seller_early_payment_discount")?,
            en: row_get(row, "seller_early_payment_discount_en")?,
        },
    })
}

/// Queues a seller, new or in the place of the one with its id. What it issued before is frozen elsewhere.
pub fn put(tx: &mut Tx, seller: &Seller, now: Timestamp) {
    tx.write(
        "-- put_seller
         INSERT INTO seller (id, specimen, legal_name, legal_form, address_lines, postal_code, city, country, siren,
             rcs, vat_number, vat_on_debits, time_zone, currency, payment_terms_days, late_penalty_ppm,
             recovery_indemnity, early_payment_discount, early_payment_discount_en, version, create_time, update_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, 1, $20, $20)
         ON CONFLICT (id) DO UPDATE SET specimen = excluded.specimen, legal_name = excluded.legal_name,
             legal_form = excluded.legal_form, address_lines = excluded.address_lines,
             postal_code = excluded.postal_code, city = excluded.city, country = excluded.country,
             siren = excluded.siren, rcs = excluded.rcs, vat_number = excluded.vat_number,
             vat_on_debits = excluded.vat_on_debits, time_zone = excluded.time_zone, currency = excluded.currency,
             payment_terms_days = excluded.payment_terms_days, late_penalty_ppm = excluded.late_penalty_ppm,
             recovery_indemnity = excluded.recovery_indemnity,
             early_payment_discount = excluded.early_payment_discount,
             early_payment_discount_en = excluded.early_payment_discount_en,
             version = seller.version + 1, update_time = excluded.update_time",
        params![
            seller.id.clone(),
            seller.specimen,
            seller.legal_name.clone(),
            seller.legal_form.clone(),
            seller.address.lines.clone(),
            seller.address.postal_code.clone(),
            seller.address.city.clone(),
            seller.address.country.clone(),
            seller.siren.clone(),
            seller.rcs.clone(),
            seller.vat_number.clone(),
            seller.vat_on_debits,
            seller.zone.clone(),
            seller.currency.code(),
            seller.payment_terms_days,
            seller.late_penalty.map(Rate::ppm),
            seller.recovery_indemnity,
            seller.early_payment_discount.fr.clone(),
            seller.early_payment_discount.en.clone(),
            now,
        ],
        Rows::Exactly(1),
    );
}
