//! Sellers, and the prices and tax rates that are loaded at the start.

use jiff::civil::{Date, date};
use jiff::{Timestamp, tz::TimeZone};
use octroi_calendar::day_start;
use octroi_platform::{Call, Clock, Db, Error, Name as _};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::money::{Currency, Rate};
use crate::domain::price::{OfferId, Price, PriceId, UsagePolicy};
use crate::domain::seller::Seller;
use crate::domain::tax::{TaxCategory, TaxRate};
use crate::store;

/// The specimen's prices in euro cents a month, without tax. There is no set-up fee.
const SPECIMEN_PRICES: [(&str, i64); 2] =
    [("apps-for-business", 9_99), ("apps-for-enterprise", 13_99)];
/// From when the specimen's prices and tax are in force.
const SINCE: Date = date(2014, 1, 1);
/// France's standard rate of VAT since 2014.
const FRENCH_VAT_PPM: i32 = 200_000;

#[derive(Clone)]
pub(crate) struct Sellers {
    pub(crate) db: Db,
    pub(crate) clock: Clock,
}

impl Sellers {
    /// Puts a seller in the place of the one with its id. What stays the same is not written again.
    pub(crate) async fn put(&self, seller: &Seller) -> Result<(), Error> {
        let call = Call::background(self.clock.now(), "billing/start").patient();
        let (mut tx, rows) = self
            .db
            .begin_work(&call, store::seller::LOCK, &[&seller.id])
            .await?;
        let before = rows.first().map(store::seller::from_row).transpose()?;
        if before.as_ref() == Some(seller) {
            tx.rollback().await;
            return Ok(());
        }
        store::seller::put(&mut tx, seller, call.now);
        tx.audit(
            &seller.id.to_string(),
            before.as_ref().map(Seller::audited),
            Some(seller.audited()),
        );
        tx.commit_work().await
    }

    /// Loads the specimen seller, its prices of the two offers in euros, and French VAT, all valid from 2014. What is
    /// there already stays.
    pub(crate) async fn seed_specimen(&self) -> Result<(), Error> {
        let (Some(euro), Some(rate)) = (Currency::find("EUR"), Rate::from_ppm(FRENCH_VAT_PPM))
        else {
            return Ok(());
        };
        let seller = Seller::specimen(euro);
        self.put(&seller).await?;
        let call = Call::background(self.clock.now(), "billing/start").patient();
        let (mut tx, _) = self
            .db
            .begin_work(&call, store::seller::LOCK, &[&seller.id])
            .await?;
        let zone = TimeZone::get(&seller.zone).unwrap_or(TimeZone::UTC);
        let valid_from = day_start(SINCE, &zone);
        let (sold, taxed) = tokio::try_join!(
            store::price::offers_from(&tx, euro, valid_from),
            store::tax::countries_from(&tx, SINCE),
        )?;
        let specimens = SPECIMEN_PRICES.into_iter();
        for (offer, monthly) in specimens.filter_map(|(id, it)| Some((OfferId::of(&[id])?, it))) {
            if !sold.contains(&offer) {
                let after = offer.to_string();
                let price = specimen_price(offer, euro, monthly, valid_from);
                store::price::insert(&mut tx, &price, call.now);
                let after = json!({ "offer": after, "currency": euro.code(), "monthly": monthly });
                tx.audit(&price.id.to_string(), None, Some(after));
            }
        }
        if !taxed.contains(&seller.address.country) {
            let vat = TaxRate {
                id: Uuid::now_v7(),
                country: seller.address.country,
                category: TaxCategory::Standard,
                rate,
                valid_from: SINCE,
            };
            store::tax::insert(&mut tx, &vat, call.now);
            let after = json!({ "country": vat.country, "rate_ppm": rate.ppm() });
            tx.audit(&format!("taxRates/{}", vat.id), None, Some(after));
        }
        tx.commit_work().await
    }
}

fn specimen_price(
    offer: OfferId,
    currency: Currency,
    monthly: i64,
    valid_from: Timestamp,
) -> Price {
    Price {
        id: PriceId(Uuid::now_v7()),
        offer,
        currency,
        monthly,
        setup: 0,
        policy: UsagePolicy::Peak,
        valid_from,
    }
}

impl Seller {
    /// What the audit keeps of it.
    fn audited(&self) -> Value {
        json!({
            "specimen": self.specimen,
            "legal_name": self.legal_name,
            "legal_form": self.legal_form,
            "address": {
                "lines": self.address.lines,
                "postal_code": self.address.postal_code,
                "city": self.address.city,
                "country": self.address.country,
            },
            "siren": self.siren,
            "rcs": self.rcs,
            "vat_number": self.vat_number,
            "vat_on_debits": self.vat_on_debits,
            "time_zone": self.zone,
            "currency": self.currency.code(),
            "payment_terms_days": self.payment_terms_days,
            "late_penalty_ppm": self.late_penalty.map(Rate::ppm),
            "recovery_indemnity": self.recovery_indemnity,
            "early_payment_discount": {
                "fr": self.early_payment_discount.fr,
                "en": self.early_payment_discount.en,
            },
        })
    }
}
