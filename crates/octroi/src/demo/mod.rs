//! `octroi demo`: a customer's whole life, played on a test clock through the public API and printed as a timeline.
//!
//! Each chapter is a file and follows one heading of the customer guide; [`stage`] is what they share.

mod activation;
mod finale;
mod installation;
mod month;
mod order;
mod removal;
pub(crate) mod stage;
mod termination;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use octroi_notification::MailSettings;
use octroi_server::process;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use self::stage::Stage;
use crate::api::Api;
use crate::bootstrap::{BootstrapOptions, bootstrap};
use crate::clock::TestClock;
use crate::cluster::{Cluster, ClusterOptions};
use crate::failure::Failure;
use crate::interrupt::{unless_interrupted, until_interrupted};
use crate::keys::{Keys, Tokens};
use crate::output;
use crate::serve::complete_mail;
use crate::system::{Listeners, POOL, Plan, System};
use crate::verify;

#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Directory of PostgreSQL's programs (initdb, postgres), where they are not found by themselves.
    #[arg(long, env = "OCTROI_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
}

/// Plays the guide in a fresh temporary directory, of which only the mail is kept.
///
/// # Errors
/// When something could not be started, or a step did not go as in the guide.
pub async fn demo(args: DemoArgs) -> Result<ExitCode, Failure> {
    process::log_from("error");
    let shutdown = until_interrupted();
    let listeners = Listeners::free()?;
    let dir = temporary_directory().map_err(anyhow::Error::new)?;
    let options = ClusterOptions {
        pg_bin: args.pg_bin,
        // It is deleted with the demo.
        durable: false,
        ..ClusterOptions::new(dir.path())
    };
    let Some(cluster) = unless_interrupted(&shutdown, Cluster::start(options)).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let played = tokio::select! {
        error = cluster.ended() => Err(error.into()),
        played = play(&cluster, listeners, &shutdown) => played,
    };
    cluster.destroy().await?;
    match played? {
        Some(mail) => keep(dir, &mail)?,
        None => output::line("\nInterrupted.")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A directory for the demo. Root's has mode 0711, so that PostgreSQL's user may traverse it.
pub(crate) fn temporary_directory() -> io::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("octroi-demo-").tempdir()?;
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
    }
    Ok(dir)
}

/// Plays every chapter and verifies the stored data; returns the mail's directory, or none when interrupted.
async fn play(
    cluster: &Cluster,
    listeners: Listeners,
    shutdown: &CancellationToken,
) -> Result<Option<PathBuf>, Failure> {
    let set_up = unless_interrupted(shutdown, set_up(cluster, listeners)).await?;
    let Some((system, mut stage)) = set_up else {
        return Ok(None);
    };
    let mail = cluster.data_dir().join("mail");
    let admin = system.plan().databases.admin.clone();
    let played = tokio::select! {
        () = shutdown.cancelled() => Ok(None),
        played = async {
            chapters(&mut stage, &mail).await?;
            verify::run(&admin).await.map(Some)
        } => played,
    };
    system.stop().await;
    let Some(report) = played? else {
        return Ok(None);
    };
    if !report.is_clean() {
        return Err(anyhow::anyhow!("the stored data breaks its own rules:\n{report}").into());
    }
    let rules = report.findings.len();
    output::line(format_args!(
        "\n{rules} rules of the stored data were checked; none is broken."
    ))?;
    Ok(Some(mail))
}

/// Starts the services on a new database with a test clock.
pub(crate) async fn set_up(
    cluster: &Cluster,
    listeners: Listeners,
) -> Result<(System, Stage), Failure> {
    let keys = Keys::open(cluster.data_dir())?;
    let tokens = Tokens::renew(&keys, cluster.data_dir())?;
    let options = BootstrapOptions {
        database: None,
        passwords: keys.passwords().clone(),
        test_clock: true,
    };
    let databases = bootstrap(&cluster.admin(), &options).await?;
    let start = stage::instant(stage::START)?;
    TestClock(Some(start)).begin(&databases.admin).await?;
    let plan = Plan {
        databases,
        keys,
        addresses: Plan::NOWHERE,
        test_clock: true,
        mail: complete_mail(MailSettings::default(), cluster.data_dir()),
        pool_size: POOL,
        admin: [None, None, None],
    };
    let system = System::start(plan, listeners).await?;
    let api = Api::new(system.plan(), &tokens.operator)?;
    Ok((system, Stage::new(api)?))
}

async fn chapters(stage: &mut Stage, mail: &Path) -> anyhow::Result<()> {
    output::line(format_args!(
        "The customer guide, played through the public API on a test clock. Times are those of {}.",
        stage::ZONE
    ))?;
    until_the_first_invoice(stage).await?;
    termination::play(stage).await?;
    month::close(stage, "2026-12", "2027-01-01T08:00").await?;
    finale::play(stage, mail).await
}

/// The first half of the story: it leaves users, devices, orders and an invoice behind.
pub(crate) async fn until_the_first_invoice(stage: &mut Stage) -> anyhow::Result<()> {
    order::first(stage).await?;
    let password = activation::first(stage).await?;
    installation::play(stage, &password).await?;
    order::more(stage).await?;
    activation::more(stage).await?;
    removal::play(stage).await?;
    month::close(stage, "2026-11", "2026-12-01T08:00").await
}

/// Keeps the directory, and in it nothing but the mail.
fn keep(dir: TempDir, mail: &Path) -> Result<(), Failure> {
    let path = dir.keep();
    let clear = || {
        for entry in fs::read_dir(&path)? {
            let entry = entry?.path();
            if entry == mail {
                continue;
            }
            if entry.is_dir() {
                fs::remove_dir_all(&entry)?;
            } else {
                fs::remove_file(&entry)?;
            }
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
    };
    clear().map_err(|error| Failure::new(73, error))?;
    output::line(format_args!(
        "The mail stays in {}; everything else is removed.",
        mail.display()
    ))?;
    Ok(())
}
