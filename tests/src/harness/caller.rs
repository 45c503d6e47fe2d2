//! A caller of the API: a token, perhaps a user's session, and a client for each service.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use octroi::system::ServiceName;
use octroi_api::DESCRIPTORS;
use octroi_api::billing::v1::account_service_client::AccountServiceClient;
use octroi_api::billing::v1::bill_run_service_client::BillRunServiceClient;
use octroi_api::billing::v1::invoice_service_client::InvoiceServiceClient;
use octroi_api::billing::v1::payment_method_service_client::PaymentMethodServiceClient;
use octroi_api::billing::v1::payment_service_client::PaymentServiceClient;
use octroi_api::billing::v1::settlement_service_client::SettlementServiceClient;
use octroi_api::event::v1::event_intake_service_client::EventIntakeServiceClient;
use octroi_api::event::v1::event_service_client::EventServiceClient;
use octroi_api::licensing::v1::license_group_service_client::LicenseGroupServiceClient;
use octroi_api::licensing::v1::license_service_client::LicenseServiceClient;
use octroi_api::licensing::v1::offer_service_client::OfferServiceClient;
use octroi_api::licensing::v1::order_service_client::OrderServiceClient;
use octroi_api::licensing::v1::portal_service_client::PortalServiceClient;
use octroi_api::notification::v1::email_service_client::EmailServiceClient;
use octroi_api::testing::v1::clock_service_client::ClockServiceClient;
use octroi_api::r#type::v1::ErrorReason;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::transport::{Channel, Endpoint, Error};
use tonic_types::StatusExt as _;

/// The deadline of every call.
const PATIENCE: Duration = Duration::from_secs(120);

/// The methods that were answered without a refusal.
pub(crate) type Called = Arc<Mutex<BTreeSet<String>>>;

#[derive(Clone)]
pub struct Caller {
    channels: [Channel; 3],
    headers: http::HeaderMap,
    called: Called,
}

impl Caller {
    /// A caller without a token, of three services at these URLs.
    pub(crate) fn stranger(urls: [String; 3], called: Called) -> Self {
        let channel = |url| {
            Endpoint::from_shared(url)
                .unwrap()
                .timeout(PATIENCE)
                .tcp_nodelay(true)
                .connect_lazy()
        };
        Self {
            channels: urls.map(channel),
            headers: http::HeaderMap::new(),
            called,
        }
    }

    /// A caller with a token, of licensing, billing and notification outside the harness.
    #[must_use]
    pub fn elsewhere(urls: [String; 3], token: &str) -> Self {
        Self::stranger(urls, Called::default()).with_token(token)
    }

    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        self.with("authorization", &format!("Bearer {token}"))
    }

    #[must_use]
    pub fn with_session(&self, session: &str) -> Self {
        self.with("octroi-session", session)
    }

    #[must_use]
    pub fn with_trace(&self, traceparent: &str) -> Self {
        self.with("traceparent", traceparent)
    }

    fn with(&self, key: &'static str, value: &str) -> Self {
        let mut same = self.clone();
        same.headers.insert(key, value.parse().unwrap());
        same
    }

    /// A service's channel, for any client.
    #[must_use]
    pub fn line(&self, service: ServiceName) -> Line {
        let at = match service {
            ServiceName::Licensing => 0,
            ServiceName::Billing => 1,
            ServiceName::Notification => 2,
        };
        Line {
            channel: self.channels[at].clone(),
            headers: self.headers.clone(),
            called: Arc::clone(&self.called),
        }
    }
}

/// One accessor for each client.
macro_rules! clients {
    ($($name:ident: $client:ident at $service:ident),* $(,)?) => {
        impl Caller {$(
            #[doc = concat!("A [`", stringify!($client), "`].")]
            #[must_use]
            pub fn $name(&self) -> $client<Line> {
                $client::new(self.line(ServiceName::$service))
            }
        )*}
    };
}

clients! {
    offers: OfferServiceClient at Licensing,
    orders: OrderServiceClient at Licensing,
    groups: LicenseGroupServiceClient at Licensing,
    licenses: LicenseServiceClient at Licensing,
    portal: PortalServiceClient at Licensing,
    clock: ClockServiceClient at Licensing,
    accounts: AccountServiceClient at Billing,
    payment_methods: PaymentMethodServiceClient at Billing,
    payments: PaymentServiceClient at Billing,
    settlement: SettlementServiceClient at Billing,
    invoices: InvoiceServiceClient at Billing,
    bill_runs: BillRunServiceClient at Billing,
    emails: EmailServiceClient at Notification,
}

impl Caller {
    #[must_use]
    pub fn events(&self, service: ServiceName) -> EventServiceClient<Line> {
        EventServiceClient::new(self.line(service))
    }

    #[must_use]
    pub fn intake(&self, service: ServiceName) -> EventIntakeServiceClient<Line> {
        EventIntakeServiceClient::new(self.line(service))
    }
}

/// Holds a refusal of a service's own to the manual: the comment of the method, or of its service, names its reason.
///
/// # Panics
/// When it does not.
fn documented(path: &str, status: &Status) {
    let info = status.get_details_error_info();
    let reason = info.map(|info| info.reason).unwrap_or_default();
    let shared = ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}")).is_some();
    if !shared && !reason.is_empty() {
        let manual = MANUAL.get(path).map(String::as_str).unwrap_or_default();
        assert!(
            manual.contains(&reason),
            "the comment of {path} does not name {reason}"
        );
    }
}

/// The comments of each method and its service, by the method's path.
static MANUAL: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let mut manual = BTreeMap::new();
    for file in &set.file {
        let comments = file.source_code_info.iter().flat_map(|it| &it.location);
        let comments: HashMap<_, _> = comments
            .map(|it| (it.path.clone(), it.leading_comments()))
            .collect();
        for (at, service) in (0..).zip(&file.service) {
            for (method_at, method) in (0..).zip(&service.method) {
                let path = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let of = |path: &[i32]| comments.get(path).copied().unwrap_or_default();
                let told = [of(&[6, at]), of(&[6, at, 2, method_at])];
                manual.insert(path, told.concat());
            }
        }
    }
    manual
});

/// A channel that adds the caller's headers and records what was called.
#[derive(Clone)]
pub struct Line {
    channel: Channel,
    headers: http::HeaderMap,
    called: Called,
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let headers = self.headers.clone();
        request.headers_mut().extend(headers);
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let called = Arc::clone(&self.called);
        let answer = self.channel.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // A refusal comes in the headers; of an answer they say nothing yet.
            match Status::from_header_map(response.headers()) {
                Some(status) => documented(&path, &status),
                None => drop(called.lock().unwrap().insert(path)),
            }
            Ok(response)
        })
    }
}
