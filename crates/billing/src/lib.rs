//! Billing: accounts, prices, tax, payment methods, orders' settlement, usage intervals, bill runs, invoices and the
//! ledger. Read from the top: `grpc` (convert, call, convert), `app` (the use case, which owns the transaction),
//! `domain` (pure) and `store` (SQL beside its row mapping), `event` (what billing publishes).

mod app;
mod domain;
mod event;
mod grpc;
mod refusal;
mod settings;
mod store;

use std::time::Duration;

use jiff::tz::TimeZone;
use octroi_api::billing::v1::account_service_server::AccountServiceServer;
use octroi_api::billing::v1::bill_run_service_server::BillRunServiceServer;
use octroi_api::billing::v1::invoice_service_server::InvoiceServiceServer;
use octroi_api::billing::v1::payment_method_service_server::PaymentMethodServiceServer;
use octroi_api::billing::v1::payment_service_server::PaymentServiceServer;
use octroi_api::billing::v1::settlement_service_server::SettlementServiceServer;
use octroi_calendar::Zones;
use octroi_server::{Running, Service, Shell, StartError, services};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::app::account::Accounts;
use crate::app::bill_run::{BillRuns, HeldUp};
use crate::app::gateway::Gateway;
use crate::app::invoice::Invoices;
use crate::app::payment::Payments;
use crate::app::payment_method::PaymentMethods;
use crate::app::quote::Quotes;
use crate::app::seller::Sellers;
use crate::app::settlement::Settlements;
use crate::domain::seller::{SPECIMEN_ZONE, SellerId};
use crate::grpc::account::AccountApi;
use crate::grpc::bill_run::BillRunApi;
use crate::grpc::intake::UsageIntake;
use crate::grpc::invoice::InvoiceApi;
use crate::grpc::payment::PaymentApi;
use crate::grpc::payment_method::PaymentMethodApi;
use crate::grpc::settlement::SettlementApi;
pub use crate::settings::Settings;
pub use crate::store::check;

/// The count of stored usage, for the test that holds it to a naive count.
pub mod usage {
    pub use crate::domain::price::{OfferId, UsagePolicy};
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
        (
            "V8__evidence_beside_lines.sql",
            include_str!("../migrations/V8__evidence_beside_lines.sql"),
        ),
        (
            "V9__evidence_moves.sql",
            include_str!("../migrations/V9__evidence_moves.sql"),
        ),
        (
            "V10__evidence_moved.sql",
            include_str!("../migrations/V10__evidence_moved.sql"),
        ),
        (
            "V11__bill_run_ranges.sql",
            include_str!("../migrations/V11__bill_run_ranges.sql"),
        ),
        (
            "V12__written_once.sql",
            include_str!("../migrations/V12__written_once.sql"),
        ),
        (
            "V13__numbers_last.sql",
            include_str!("../migrations/V13__numbers_last.sql"),
        ),
    ],
    seals: None,
};

/// How many undecided payments are looked at side by side.
const SETTLE_LANES: usize = 4;

/// How often undecided payments are looked for.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// How many ranges of a bill run are worked on side by side: while the database writes one, another is counted.
const BILL_LANES: usize = 2;

/// How often bill runs that another process left are looked for.
const BILL_EVERY: Duration = Duration::from_secs(5);

/// Starts the service and answers when it is serving.
///
/// # Errors
/// Bad settings, each named; a database or a port that is not there.
pub async fn start(settings: Settings, shutdown: CancellationToken) -> Result<Running, StartError> {
    let seller = settings.seller();
    let (shell, seller) = Shell::open(&SERVICE, &settings.platform, seller, shutdown).await?;
    let specimen = settings
        .specimen_seller
        .then(|| SellerId("specimen".to_owned()));
    let zone = seller.as_ref().map_or(SPECIMEN_ZONE, |seller| &seller.zone);
    let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
    let (db, clock) = (&shell.db, &shell.clock);
    let sellers = Sellers {
        db: db.clone(),
        clock: clock.clone(),
    };
    if let Some(seller) = &seller {
        sellers.put(seller).await.map_err(StartError::Internal)?;
    }
    if settings.specimen_seller {
        sellers
            .seed_specimen()
            .await
            .map_err(StartError::Internal)?;
    }
    let settlements = Settlements {
        db: db.clone(),
        clock: clock.clone(),
        gateway: Gateway::Test(db.clone()),
    };
    for _ in 0..SETTLE_LANES {
        let settlements = settlements.clone();
        shell.spawn_work("undecided payments", SETTLE_EVERY, move |now| {
            let settlements = settlements.clone();
            async move { settlements.settle_undecided(now).await }
        });
    }
    let bill_runs = BillRuns {
        db: db.clone(),
        clock: clock.clone(),
        held_up: HeldUp::default(),
    };
    let lanes = (0..BILL_LANES).map(|_| {
        let worker = bill_runs.clone();
        shell.spawn_work("bill runs", BILL_EVERY, move |now| {
            let bill_runs = worker.clone();
            async move { bill_runs.work(now).await }
        })
    });
    let wake = lanes.collect();
    let measured = db.clone();
    let outcomes =
        "Accounts that the last bill run went through, by what came of them; dry runs do not count";
    shell.gauges("outcome", &[("bill_run_accounts", outcomes)], move || {
        let db = measured.clone();
        Box::pin(async move { store::bill_run::outcomes(&db).await })
    });
    let accounts = Accounts {
        db: db.clone(),
        seller: seller.map(|seller| seller.id).or(specimen),
    };
    let payment_methods = PaymentMethods { db: db.clone() };
    let payments = Payments { db: db.clone() };
    let quotes = Quotes { db: db.clone() };
    let invoices = Invoices {
        db: db.clone(),
        clock: clock.clone(),
        calendar: Zones::fixed(zone),
    };
    let routes = Routes::new(AccountServiceServer::new(AccountApi { accounts }))
        .add_service(PaymentMethodServiceServer::new(PaymentMethodApi {
            payment_methods,
        }))
        .add_service(PaymentServiceServer::new(PaymentApi { payments }))
        .add_service(SettlementServiceServer::new(SettlementApi {
            quotes,
            settlements,
        }))
        .add_service(InvoiceServiceServer::new(InvoiceApi { invoices }))
        .add_service(BillRunServiceServer::new(BillRunApi { bill_runs, wake }));
    shell.serve(routes, UsageIntake, None).await
}
