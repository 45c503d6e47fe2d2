//! Notification: sends customers e-mails about what happened, and keeps their history.
//!
//! Events of billing and licensing arrive (`grpc::intake`), become e-mails in the inbox's transaction (`app::fact`), and
//! are sent in rounds (`app::delivery`, `mailer`). Bodies are never stored: they are rendered from template and
//! parameters when an e-mail is sent or read. The password that some carry is stored sealed, for seven days at most
//! (`app::erasure`).

mod app;
mod domain;
mod grpc;
mod mailer;
mod settings;
mod store;

use std::sync::Arc;
use std::time::Duration;

use octroi_api::notification::v1::email_service_server::EmailServiceServer;
use octroi_server::{Running, Service, Shell, StartError, services};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::app::attempt::Transport;
use crate::app::delivery::{Domains, EmailSender};
use crate::app::email::Emails;
use crate::app::outcome::{Outcomes, Pending};
use crate::grpc::email::EmailApi;
use crate::grpc::intake::FactIntake;
use crate::mailer::pool::Pool;
pub use crate::settings::{MailSettings, Settings, SmtpTls};
pub use crate::store::check;

/// The notification service.
pub static SERVICE: Service = Service {
    name: services::NOTIFICATION.name,
    port: services::NOTIFICATION.port,
    admin_port: services::NOTIFICATION.admin_port,
    migrations: &[
        ("V1__email.sql", include_str!("../migrations/V1__email.sql")),
        (
            "V2__turned_away.sql",
            include_str!("../migrations/V2__turned_away.sql"),
        ),
        ("V3__line.sql", include_str!("../migrations/V3__line.sql")),
    ],
    seals: Some("passwords come sealed from licensing"),
};

/// How often the queue is polled for retries; new e-mails are sent at once.
const DELIVER_EVERY: Duration = Duration::from_secs(1);

/// How often expired passwords are erased.
const ERASE_EVERY: Duration = Duration::from_secs(30);

/// Starts the service and answers when it is serving.
///
/// # Errors
/// Bad settings, each named; a database or a port that is not there.
pub async fn start(settings: Settings, shutdown: CancellationToken) -> Result<Running, StartError> {
    let mail = settings.mail.open();
    let (shell, mail) = Shell::open(&SERVICE, &settings.platform, mail, shutdown).await?;
    let keys = shell.sealing()?;
    let transport = Transport {
        db: shell.db.clone(),
        clock: shell.clock.clone(),
        keys: Arc::clone(&keys),
        connections: Pool::new(mail.mailer),
        branding: mail.branding.clone(),
        from: mail.from,
    };
    let wake = Arc::new(Notify::new());
    let sender = Arc::new(EmailSender {
        outcomes: Outcomes {
            db: shell.db.clone(),
            clock: shell.clock.clone(),
            pending: Pending::default(),
        },
        transport,
        rate: mail.rate,
        wake: Arc::clone(&wake),
        shutdown: shell.shutdown.clone(),
        domains: Domains::default(),
    });
    let idle = shell.spawn_work("e-mail delivery", DELIVER_EVERY, move |_| {
        Arc::clone(&sender).deliver()
    });
    let (db, shutdown) = (shell.db.clone(), shell.shutdown.clone());
    shell.spawn_work("password erasure", ERASE_EVERY, move |now| {
        let (db, shutdown) = (db.clone(), shutdown.clone());
        async move { app::erasure::erase(&db, now, &shutdown).await }
    });
    let db = shell.db.clone();
    let gauges = [
        ("emails_queued", "E-mails that are not sent yet"),
        (
            "email_overdue_seconds",
            "How long ago the first of them was to be sent",
        ),
    ];
    shell.gauges("state", &gauges, move || {
        let db = db.clone();
        Box::pin(async move { store::delivery::queue(&db).await })
    });
    let emails = Emails {
        db: shell.db.clone(),
        keys,
        branding: mail.branding,
    };
    let routes = Routes::new(EmailServiceServer::new(EmailApi { emails }));
    let intake = FactIntake {
        message_id_domain: mail.message_id_domain,
        idle,
        busy: wake,
    };
    shell.serve(routes, intake, None).await
}
