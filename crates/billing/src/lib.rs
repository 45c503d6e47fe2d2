//! Billing: accounts, prices, tax, payment methods, orders' settlement, usage intervals, bill runs, invoices and the
//! ledger. Read from the top: `grpc` (convert, call, convert), `app` (the use case, which owns the transaction),
//! `domain` (pure) and `store` (SQL beside its row mapping), `event` (what billing publishes).

mod app;
mod domain;
mod error;
mod event;
mod grpc;
mod settings;
mod store;

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use octroi_api::billing::v1::account_service_server::AccountServiceServer;
use octroi_api::billing::v1::bill_run_service_server::BillRunServiceServer;
use octroi_api::billing::v1::invoice_service_server::InvoiceServiceServer;
use octroi_api::billing::v1::payment_method_service_server::PaymentMethodServiceServer;
use octroi_api::billing::v1::payment_service_server::PaymentServiceServer;
use octroi_api::billing::v1::settlement_service_server::SettlementServiceServer;
use octroi_calendar::Zones;
use octroi_platform::{Running, Service, Shell, StartError, services};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::app::App;
use crate::app::bill_run::Slow;
use crate::app::gateway::Gateway;
use crate::domain::seller::SPECIMEN_ZONE;
use crate::error::Error;
use crate::grpc::account::AccountApi;
use crate::grpc::bill_run::BillRunApi;
use crate::grpc::intake::UsageIntake;
use crate::grpc::invoice::InvoiceApi;
use crate::grpc::payment::PaymentApi;
use crate::grpc::payment_method::PaymentMethodApi;
use crate::grpc::settlement::SettlementApi;
pub use crate::settings::Settings;
pub use crate::store::check;

/// The count of usage, for the test that holds its SQL to a naive count.
pub mod usage {
    pub use crate::domain::price::UsagePolicy;
    pub use crate::domain::usage::{DayUse, Usage};
    pub use crate::store::usage::{Asked, count};
}

/// The billing service.
pub static SERVICE: Service = Service {
    name: services::BILLING.name,
    port: services::BILLING.port,
    admin_port: services::BILLING.admin_port,
    migrations: &[
        (
            "V1__accounts_and_payments.sql",
            include_str!("../migrations/V1__accounts_and_payments.sql"),
        ),
        (
            "V2__invoicing.sql",
            include_str!("../migrations/V2__invoicing.sql"),
        ),
        (
            "V3__new_methods.sql",
            include_str!("../migrations/V3__new_methods.sql"),
        ),
        (
            "V4__languages.sql",
            include_str!("../migrations/V4__languages.sql"),
        ),
        (
            "V5__bill_run_totals.sql",
            include_str!("../migrations/V5__bill_run_totals.sql"),
        ),
        (
            "V6__quoted_orders.sql",
            include_str!("../migrations/V6__quoted_orders.sql"),
        ),
        (
            "V7__routed_events.sql",
            include_str!("../migrations/V7__routed_events.sql"),
        ),
    ],
    seals: None,
};

/// How many undecided payments are looked at side by side.
const SETTLE_LANES: usize = 4;

/// How often undecided payments are looked for.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// How often bill runs that another process left are looked for.
const BILL_EVERY: Duration = Duration::from_secs(5);

/// Starts the service and answers when it is serving.
///
/// # Errors
/// Bad settings, each named; a database or a port that is not there.
pub async fn start(settings: Settings, shutdown: CancellationToken) -> Result<Running, StartError> {
    let seller = settings.seller();
    let (shell, seller) = Shell::open(&SERVICE, &settings.platform, seller, shutdown).await?;
    let specimen = settings.specimen_seller.then(|| "specimen".to_owned());
    let zone = seller.as_ref().map_or(SPECIMEN_ZONE, |seller| &seller.zone);
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let app = Arc::new(App {
        db: shell.db.clone(),
        clock: shell.clock.clone(),
        gateway: Gateway::Test(shell.db.clone()),
        seller: seller.as_ref().map(|seller| seller.id.clone()).or(specimen),
        calendar: Zones::fixed(zone),
        slow: Slow::default(),
    });
    if let Some(seller) = &seller {
        app.put_seller(seller).await.map_err(not_loaded)?;
    }
    if settings.specimen_seller {
        app.seed_specimen().await.map_err(not_loaded)?;
    }
    for _ in 0..SETTLE_LANES {
        let settling = Arc::clone(&app);
        shell.spawn_work("undecided payments", SETTLE_EVERY, move |now| {
            let app = Arc::clone(&settling);
            async move { app.settle_undecided(now).await }
        });
    }
    let invoicing = Arc::clone(&app);
    let wake = shell.spawn_work("bill runs", BILL_EVERY, move |now| {
        let app = Arc::clone(&invoicing);
        async move { app.work_on_bill_runs(now).await }
    });
    let db = shell.db.clone();
    let accounts =
        "Accounts that bill runs went through, by what came of them; dry runs do not count";
    shell.gauges("outcome", &[("bill_run_accounts", accounts)], move || {
        let db = db.clone();
        Box::pin(async move { store::bill_run::outcomes(&db).await })
    });
    let routes = Routes::new(AccountServiceServer::new(AccountApi(Arc::clone(&app))))
        .add_service(PaymentMethodServiceServer::new(PaymentMethodApi(
            Arc::clone(&app),
        )))
        .add_service(PaymentServiceServer::new(PaymentApi(Arc::clone(&app))))
        .add_service(SettlementServiceServer::new(SettlementApi(Arc::clone(
            &app,
        ))))
        .add_service(InvoiceServiceServer::new(InvoiceApi(Arc::clone(&app))))
        .add_service(BillRunServiceServer::new(BillRunApi { app, wake }));
    shell.serve(routes, UsageIntake, None).await
}

fn not_loaded(error: Error) -> StartError {
    StartError::Internal(octroi_platform::Error::Internal(error.into()))
}
