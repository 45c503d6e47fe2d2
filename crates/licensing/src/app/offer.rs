//! The catalogue of offers.

use octroi_platform::{Call, Db, Error, Page, ToSql};

use crate::domain::offer::{Offer, OfferId};
use crate::store;

#[derive(Clone)]
pub(crate) struct Offers {
    pub(crate) db: Db,
}

impl Offers {
    pub(crate) async fn get(&self, call: &Call, id: &OfferId) -> Result<Offer, Error> {
        let offer = store::offer::read(&self.db, id).await?;
        offer.ok_or_else(|| call.not_found(id))
    }

    /// A page of the offers, by id.
    pub(crate) async fn list(&self, page: &Page<String>) -> Result<Vec<Offer>, Error> {
        let params: [&(dyn ToSql + Sync); 2] = [&page.after, &page.limit];
        let rows = self.db.query(store::offer::LIST, &params).await?;
        rows.iter().map(store::offer::from_row).collect()
    }
}
