//! Reading what is sold.

use octroi_platform::{Db, Error as Platform, Page};

use crate::domain::offer::{self, Offer};
use crate::error::Error;
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

    /// One offer.
    pub(crate) async fn get(&self, id: &str) -> Result<Offer, Error> {
        store::offer::read(&self.db, id).await?.ok_or_else(|| {
            Platform::NotFound {
                kind: "offer",
                name: offer::name(id),
            }
            .into()
        })
    }

    /// A page of the offers, by id.
    pub(crate) async fn list(&self, page: &Page) -> Result<Vec<Offer>, Error> {
        Ok(store::offer::list(&self.db, page).await?)
    }
}
