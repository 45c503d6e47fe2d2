//! `octroi serve`: everything in one process until it is told to stop.

mod greeting;

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use octroi_notification::MailSettings;
use octroi_server::process;
use tokio_util::sync::CancellationToken;

use self::greeting::Greeting;
use crate::bootstrap::{BootstrapOptions, bootstrap};
use crate::clock::TestClock;
use crate::failure::Failure;
use crate::interrupt::{unless_interrupted, until_interrupted};
use crate::keys::{Keys, Tokens};
use crate::output;
use crate::place::{Place, PlaceArgs};
use crate::system::{AdminListeners, LAST_ADMIN_PORT, Listeners, POOL, Plan, ServiceName, System};

/// The portal and the sender of e-mails, where none are configured.
const PORTAL_URL: &str = "https://portal.octroi.example/";
const MAIL_FROM: &str = "Octroi <no-reply@octroi.example>";

/// What is served, and where.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Address that the services listen on. There is no TLS yet: leave it on this machine.
    #[arg(
        long,
        env = "OCTROI_LISTEN_HOST",
        value_name = "ADDRESS",
        default_value = "127.0.0.1"
    )]
    listen_host: IpAddr,
    /// Port of licensing; 0 takes any that is free.
    #[arg(long, env = "OCTROI_LICENSING_PORT", value_name = "PORT", default_value_t = ServiceName::Licensing.port())]
    licensing_port: u16,
    /// Port of billing.
    #[arg(long, env = "OCTROI_BILLING_PORT", value_name = "PORT", default_value_t = ServiceName::Billing.port())]
    billing_port: u16,
    /// Port of notification.
    #[arg(long, env = "OCTROI_NOTIFICATION_PORT", value_name = "PORT", default_value_t = ServiceName::Notification.port())]
    notification_port: u16,
    /// First of three ports of this machine on which licensing, billing and notification serve their metrics and health
    /// in plain HTTP, at most 65533; 0 for none.
    #[arg(
        long,
        env = "OCTROI_ADMIN_PORT",
        value_name = "PORT",
        default_value_t = 9050,
        value_parser = clap::value_parser!(u16).range(..=i64::from(LAST_ADMIN_PORT))
    )]
    admin_port: u16,
    /// Runs on a clock that ClockService moves; invoices are then specimens. A database is born with a test clock or
    /// without and stays so; the start counts at its birth only.
    #[arg(
        long,
        env = "OCTROI_TEST_CLOCK",
        value_name = "START",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    test_clock: Option<TestClock>,
    #[command(flatten, next_help_heading = "Mail")]
    mail: MailSettings,
}

impl ServeArgs {
    fn port(&self, service: ServiceName) -> u16 {
        match service {
            ServiceName::Licensing => self.licensing_port,
            ServiceName::Billing => self.billing_port,
            ServiceName::Notification => self.notification_port,
        }
    }
}

/// Serves until SIGINT or SIGTERM, then drains the services and stops the database.
///
/// # Errors
/// Why it could not start, or what ended by itself.
pub async fn serve(args: ServeArgs) -> Result<ExitCode, Failure> {
    process::log();
    let shutdown = until_interrupted();
    // A taken port is reported at once, before the database starts.
    let listeners = Listeners::bind(args.listen_host, |service| args.port(service))?;
    let admin = Listeners::admin(args.admin_port)?;
    let Some(place) = unless_interrupted(&shutdown, Place::open(&args.place)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let served = run(&args, &place, (listeners, admin), &shutdown).await;
    let closed = place.close().await;
    served?;
    closed?;
    Ok(ExitCode::SUCCESS)
}

async fn run(
    args: &ServeArgs,
    place: &Place,
    listeners: (Listeners, AdminListeners),
    shutdown: &CancellationToken,
) -> Result<(), Failure> {
    if shutdown.is_cancelled() {
        return Ok(());
    }
    let started = tokio::select! {
        error = place.ended() => return Err(error.into()),
        started = unless_interrupted(shutdown, start(args, place, listeners)) => started?,
    };
    let Some((mut system, tokens, time)) = started else {
        return Ok(());
    };
    let greeting = Greeting {
        system: system.plan(),
        place,
        tokens: &tokens,
        time,
    };
    if let Err(error) = output::print(&greeting) {
        let error = format!("{error:#}");
        tracing::warn!(
            error,
            "the greeting was not printed; Octroi serves all the same"
        );
    }
    let served = async {
        let failed = tokio::select! {
            () = shutdown.cancelled() => None,
            error = system.ended() => Some(Failure::from(error)),
        };
        system.stop().await;
        failed.map_or(Ok(()), Err)
    };
    // Without its database nothing can be answered, so nothing is drained.
    tokio::select! {
        error = place.ended() => Err(error.into()),
        served = served => served,
    }
}

/// Prepares the database and the keys and starts the services; also returns the time of the test clock.
async fn start(
    args: &ServeArgs,
    place: &Place,
    (listeners, admin): (Listeners, AdminListeners),
) -> Result<(System, Tokens, Option<Timestamp>), Failure> {
    let keys = Keys::open(place.data_dir())?;
    let tokens = Tokens::renew(&keys, place.data_dir())?;
    let options = BootstrapOptions {
        database: None,
        passwords: keys.passwords().clone(),
        test_clock: args.test_clock.is_some(),
    };
    let databases = bootstrap(&place.admin(), &options).await?;
    place.write_connection(&databases.admin)?;
    let time = match args.test_clock {
        Some(clock) => Some(clock.begin(&databases.admin).await?),
        None => None,
    };
    let plan = Plan {
        databases,
        keys,
        addresses: Plan::NOWHERE,
        test_clock: args.test_clock.is_some(),
        mail: complete_mail(args.mail.clone(), place.data_dir()),
        pool_size: POOL,
        admin,
    };
    let system = System::start(plan, listeners).await?;
    Ok((system, tokens, time))
}

/// Completes the mail settings: without a server, e-mails go to files in the data directory; addresses have defaults.
#[must_use]
pub fn complete_mail(mut mail: MailSettings, data_dir: &Path) -> MailSettings {
    if mail.mail_directory.is_none() && mail.smtp_host.is_none() {
        mail.mail_directory = Some(data_dir.join("mail"));
    }
    mail.portal_url.get_or_insert_with(|| PORTAL_URL.to_owned());
    if mail.mail_from.is_none() {
        mail.mail_from = MAIL_FROM.parse().ok();
    }
    mail
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;

    /// Each service has an admin port, or none has.
    #[test]
    fn three_admin_ports_are_there() {
        let parse = |port: &str| {
            let command = ServeArgs::augment_args(clap::Command::new("serve"));
            let given = command.try_get_matches_from(["serve", "--admin-port", port])?;
            ServeArgs::from_arg_matches(&given)
        };
        assert_eq!(parse("65533").unwrap().admin_port, 65_533);
        for beyond in ["65534", "65535"] {
            let refused = parse(beyond).unwrap_err();
            assert!(refused.to_string().contains("--admin-port"), "{refused}");
        }
    }
}
