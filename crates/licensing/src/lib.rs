//! Licensing: offers, orders, groups of licences, licences, their users' portal, and what was used. Read from the top:
//! `grpc` (convert, call, convert), `app` (the use case, which owns the transaction), `domain` (pure) and `store` (SQL
//! beside its row mapping); `billing` is the one service that it calls.

mod app;
mod billing;
mod domain;
mod grpc;
mod refusal;
mod settings;
mod store;

use std::sync::Arc;
use std::time::Duration;

use octroi_api::licensing::v1::license_group_service_server::LicenseGroupServiceServer;
use octroi_api::licensing::v1::license_service_server::LicenseServiceServer;
use octroi_api::licensing::v1::offer_service_server::OfferServiceServer;
use octroi_api::licensing::v1::order_service_server::OrderServiceServer;
use octroi_api::licensing::v1::portal_service_server::PortalServiceServer;
use octroi_platform::Horizon;
use octroi_server::{Running, Service, Shell, StartError, services};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::app::group::Groups;
use crate::app::license::Licenses;
use crate::app::offer::Offers;
use crate::app::order::Orders;
use crate::app::password::Hasher;
use crate::app::payment::Payments;
use crate::app::period::Periods;
use crate::app::portal::Portal;
use crate::app::usage::Usages;
use crate::billing::Billing;
use crate::grpc::group::GroupApi;
use crate::grpc::intake::LicensingIntake;
use crate::grpc::license::LicenseApi;
use crate::grpc::offer::OfferApi;
use crate::grpc::order::OrderApi;
use crate::grpc::portal::PortalApi;
pub use crate::settings::Settings;
pub use crate::store::check;

/// The licensing service.
pub static SERVICE: Service = Service {
    name: services::LICENSING.name,
    port: services::LICENSING.port,
    admin_port: services::LICENSING.admin_port,
    migrations: &[
        (
            "V1__catalogue_orders_groups.sql",
            include_str!("../migrations/V1__catalogue_orders_groups.sql"),
        ),
        (
            "V2__portal.sql",
            include_str!("../migrations/V2__portal.sql"),
        ),
        (
            "V3__counted_request.sql",
            include_str!("../migrations/V3__counted_request.sql"),
        ),
        (
            "V4__attempts.sql",
            include_str!("../migrations/V4__attempts.sql"),
        ),
        (
            "V5__attempt_age.sql",
            include_str!("../migrations/V5__attempt_age.sql"),
        ),
        (
            "V6__routed_events.sql",
            include_str!("../migrations/V6__routed_events.sql"),
        ),
        (
            "V7__due_work.sql",
            include_str!("../migrations/V7__due_work.sql"),
        ),
    ],
    seals: Some("licensing seals the passwords that are mailed"),
};

/// How often payments without an outcome are taken up again.
const PAYMENTS_EVERY: Duration = Duration::from_millis(250);
/// How often ended periods and overdue orders are looked for.
const CALENDAR_EVERY: Duration = Duration::from_secs(1);
/// How often ended sessions and forgotten failures are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Starts the service and answers when it is serving.
///
/// # Errors
/// Bad settings, each named; a database or a port that is not there.
pub async fn start(settings: Settings, shutdown: CancellationToken) -> Result<Running, StartError> {
    let (shell, ()) = Shell::open(&SERVICE, &settings.platform, Ok(()), shutdown).await?;
    let sealing = shell.sealing()?;
    let hasher = Arc::new(Hasher::new().map_err(StartError::Internal)?);
    let hashing = Arc::clone(&hasher);
    let hashers = "Calls with a password: those whose hash is being made, and those that wait or are about to ask";
    shell.gauges("state", &[("password_hashing", hashers)], move || {
        let load = hashing.load();
        Box::pin(async move { Ok(load) })
    });
    let db = shell.db.clone();
    let billing = Billing::new(shell.peer("billing")?);
    let orders = Orders {
        db: db.clone(),
        billing: billing.clone(),
    };
    let payments = Payments {
        db: db.clone(),
        clock: shell.clock.clone(),
        billing,
        settled: Arc::default(),
    };
    let periods = Periods { db: db.clone() };
    let portal = Portal {
        db: db.clone(),
        hasher: Arc::clone(&hasher),
    };
    let licenses = Licenses {
        db: db.clone(),
        hasher,
        sealing,
    };
    let offers = Offers { db: db.clone() };
    let groups = Groups { db: db.clone() };
    let usages = Usages { db };
    spawn_work(&shell, &orders, &payments, &periods, &portal);
    let routes = Routes::new(OfferServiceServer::new(OfferApi { offers }))
        .add_service(OrderServiceServer::new(OrderApi { orders, payments }))
        .add_service(LicenseGroupServiceServer::new(GroupApi { groups, usages }))
        .add_service(LicenseServiceServer::new(LicenseApi {
            licenses,
            activation_domain: settings.activation_domain,
        }))
        .add_service(PortalServiceServer::new(PortalApi {
            portal,
            download_url: settings.download_url,
        }));
    let horizon: Horizon = Arc::new(move || {
        let periods = periods.clone();
        Box::pin(async move { periods.earliest().await })
    });
    shell.serve(routes, LicensingIntake, Some(horizon)).await
}

fn spawn_work(
    shell: &Shell,
    orders: &Orders,
    payments: &Payments,
    periods: &Periods,
    portal: &Portal,
) {
    let work = payments.clone();
    shell.spawn_work("payments", PAYMENTS_EVERY, move |_| {
        let work = work.clone();
        async move { Ok(work.work().await?) }
    });
    let work = periods.clone();
    shell.spawn_work("ends of periods", CALENDAR_EVERY, move |now| {
        let work = work.clone();
        async move { Ok(work.work(now).await?) }
    });
    let work = orders.clone();
    shell.spawn_work("overdue orders", CALENDAR_EVERY, move |now| {
        let work = work.clone();
        async move { Ok(work.expire(now).await?) }
    });
    let (work, shutdown) = (portal.clone(), shell.shutdown.clone());
    shell.spawn_work("portal sweep", SWEEP_EVERY, move |now| {
        let (work, shutdown) = (work.clone(), shutdown.clone());
        async move { Ok(work.sweep(now, &shutdown).await?) }
    });
}
