//! Clients of the public API, as any program would use it.

use std::time::Duration;

use octroi_api::billing::v1::account_service_client::AccountServiceClient;
use octroi_api::billing::v1::bill_run_service_client::BillRunServiceClient;
use octroi_api::billing::v1::invoice_service_client::InvoiceServiceClient;
use octroi_api::licensing::v1::license_group_service_client::LicenseGroupServiceClient;
use octroi_api::licensing::v1::license_service_client::LicenseServiceClient;
use octroi_api::licensing::v1::offer_service_client::OfferServiceClient;
use octroi_api::licensing::v1::order_service_client::OrderServiceClient;
use octroi_api::licensing::v1::portal_service_client::PortalServiceClient;
use octroi_api::notification::v1::email_service_client::EmailServiceClient;
use octroi_api::testing::v1::clock_service_client::ClockServiceClient;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::system::{Plan, ServiceName};

/// How long a call may take; moving a test clock by a month is the slowest.
const PATIENCE: Duration = Duration::from_secs(120);

/// A channel that adds a token to every call.
pub type Carrier = InterceptedService<Channel, Bearer>;

/// Adds a token to every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// One client per service that the all-in-one's own commands call.
#[derive(Clone)]
#[expect(
    missing_docs,
    reason = "each field is named after the service that it calls"
)]
pub struct Api {
    pub offers: OfferServiceClient<Carrier>,
    pub orders: OrderServiceClient<Carrier>,
    pub groups: LicenseGroupServiceClient<Carrier>,
    pub licenses: LicenseServiceClient<Carrier>,
    pub portal: PortalServiceClient<Carrier>,
    pub accounts: AccountServiceClient<Carrier>,
    pub invoices: InvoiceServiceClient<Carrier>,
    pub bill_runs: BillRunServiceClient<Carrier>,
    pub emails: EmailServiceClient<Carrier>,
    pub clock: ClockServiceClient<Carrier>,
}

impl Api {
    /// Clients that connect on first use.
    ///
    /// # Errors
    /// When an address is no URL or the token no header.
    pub fn new(plan: &Plan, token: &SecretString) -> anyhow::Result<Self> {
        let mut bearer: MetadataValue<Ascii> =
            format!("Bearer {}", token.expose_secret()).parse()?;
        bearer.set_sensitive(true);
        let carrier = |service| -> anyhow::Result<Carrier> {
            let endpoint = Endpoint::from_shared(plan.url(service))?
                .timeout(PATIENCE)
                .tcp_nodelay(true);
            Ok(InterceptedService::new(
                endpoint.connect_lazy(),
                Bearer(bearer.clone()),
            ))
        };
        let licensing = carrier(ServiceName::Licensing)?;
        let billing = carrier(ServiceName::Billing)?;
        let notification = carrier(ServiceName::Notification)?;
        Ok(Self {
            offers: OfferServiceClient::new(licensing.clone()),
            orders: OrderServiceClient::new(licensing.clone()),
            groups: LicenseGroupServiceClient::new(licensing.clone()),
            licenses: LicenseServiceClient::new(licensing.clone()),
            portal: PortalServiceClient::new(licensing.clone()),
            accounts: AccountServiceClient::new(billing.clone()),
            invoices: InvoiceServiceClient::new(billing.clone()),
            bill_runs: BillRunServiceClient::new(billing),
            emails: EmailServiceClient::new(notification),
            clock: ClockServiceClient::new(licensing),
        })
    }
}
