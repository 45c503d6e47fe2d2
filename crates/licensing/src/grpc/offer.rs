//! OfferService.

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::offer_service_server::OfferService;
use octroi_platform::time::to_proto;
use octroi_platform::{Answer, Page, open};
use tonic::{Request, Response};

use crate::app::offer::Offers;
use crate::domain::offer::{Offer, OfferId};

pub(crate) struct OfferApi {
    pub(crate) offers: Offers,
}

#[tonic::async_trait]
impl OfferService for OfferApi {
    async fn get_offer(&self, request: Request<wire::GetOfferRequest>) -> Answer<wire::Offer> {
        let (call, id) = open(request, |it, fields| {
            fields.name::<OfferId>("name", &it.name)
        })?;
        let offer = self.offers.get(&call, &id).await?;
        Ok(Response::new((&offer).into()))
    }

    async fn list_offers(
        &self,
        request: Request<wire::ListOffersRequest>,
    ) -> Answer<wire::ListOffersResponse> {
        let (_, (), page) = Page::open(request, |_, _| Some(()))?;
        let offers = self.offers.list(&page).await?;
        let (offers, next_page_token) =
            page.cut(offers, |it| it.id.as_str().to_owned(), |it| (&it).into());
        Ok(Response::new(wire::ListOffersResponse {
            offers,
            next_page_token,
        }))
    }
}

impl From<&Offer> for wire::Offer {
    fn from(offer: &Offer) -> Self {
        let state = match offer.archived {
            false => wire::offer::State::Active,
            true => wire::offer::State::Archived,
        };
        Self {
            name: offer.id.to_string(),
            display_name: offer.display_name.clone(),
            applications: offer.applications.clone(),
            group_license_limit: offer.group_license_limit.unwrap_or_default(),
            computer_limit: offer.computer_limit,
            tablet_limit: offer.tablet_limit,
            smartphone_limit: offer.smartphone_limit,
            shared_computer_activation: offer.shared_computer_activation,
            state: state.into(),
            create_time: Some(to_proto(offer.created_at)),
            etag: offer.version.to_string(),
        }
    }
}
