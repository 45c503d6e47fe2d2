//! Reading what is sold.

use octroi_platform::{Call, Db, Error, Page};

use crate::domain::offer::{Offer, OfferId};
use crate::store;

/// The catalogue.
#[derive(Clone)]
pub(crate) struct Offers {
    db: Db,
}

impl Offers {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    pub(crate) async fn get(&self, call: &Call, id: &OfferId) -> Result<Offer, Error> {
        let offer = store::offer::read(&self.db, id).await?;
        offer.ok_or_else(|| call.not_found(id))
    }

    /// A page of the offers, by id.
    pub(crate) async fn list(&self, page: &Page<String>) -> Result<Vec<Offer>, Error> {
        store::offer::list(&self.db, page).await
    }
}
