//! OfferService.

use octroi_api::licensing::v1 as wire;
use octroi_api::licensing::v1::offer_service_server::OfferService;
use octroi_platform::event::to_proto;
use octroi_platform::{Call, Page, Violations};
use tonic::{Request, Response, Status};

use crate::app::offer::Offers;
use crate::domain::offer::{Offer, name};
use crate::grpc::ids;

/// Page tokens of the one list of offers.
const LIST: &str = "offers";

pub(crate) struct OfferApi(pub(crate) Offers);

#[tonic::async_trait]
impl OfferService for OfferApi {
    async fn get_offer(
        &self,
        request: Request<wire::GetOfferRequest>,
    ) -> Result<Response<wire::Offer>, Status> {
        let (_, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let name = ids("name", &request.name, ["offers"], &mut violations);
        violations.finish()?;
        let [id] = name.unwrap_or_default();
        Ok(Response::new(to_wire(&self.0.get(id).await?)))
    }

    async fn list_offers(
        &self,
        request: Request<wire::ListOffersRequest>,
    ) -> Result<Response<wire::ListOffersResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let mut violations = Violations::default();
        let page = Page::parse(
            &call,
            request.page_size,
            &request.page_token,
            LIST,
            &request.filter,
            &request.order_by,
            &mut violations,
        );
        violations.finish()?;
        let offers = self.0.list(&page).await?;
        let (offers, next_page_token) =
            page.cut(offers, |offer| offer.id.clone(), |it| to_wire(&it));
        Ok(Response::new(wire::ListOffersResponse {
            offers,
            next_page_token,
        }))
    }
}

fn to_wire(offer: &Offer) -> wire::Offer {
    let state = match offer.archived {
        false => wire::offer::State::Active,
        true => wire::offer::State::Archived,
    };
    wire::Offer {
        name: name(&offer.id),
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
