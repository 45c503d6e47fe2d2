//! What Octroi costs. Every figure stands beside its floor, which is measured in the same run on the same machine: the
//! ratio between the two is what a change may not make worse; the figures alone say only how fast the machine is.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot go on stops the bench"
)]

mod bill_run;
mod calls;
mod fair;
mod fill;
mod growth;
mod load;
mod mail;
mod naive;
mod relay;
mod report;
mod run;
mod statement;

use std::env;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use clap::{Parser, Subcommand, ValueEnum};
use octroi_server::process::log_to;

use crate::report::Report;
use crate::run::Run;

/// Measures Octroi against its floors: the same SQL by pgbench, a bare tonic server, the naive server.
#[derive(Parser)]
#[command(name = "octroi-bench")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
    /// How much to measure.
    #[arg(long, value_enum, default_value_t = Size::Full, global = true)]
    size: Size,
    /// Directory for the report as JSON, one file a bench.
    #[arg(long, value_name = "DIR", global = true)]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Subcommand)]
enum Bench {
    /// All of them, one after the other.
    All,
    /// A month's bill run beside COPY of what it writes.
    BillRun {
        /// How many accounts, where it is not the size's.
        #[arg(long)]
        accounts: Option<u64>,
    },
    /// Calls one by one: a read beside the naive server and a bare echo, writes beside pgbench.
    Calls,
    /// What a call costs among many licences, beside the same among few.
    Growth,
    /// E-mails on their way to the mail server, while few and while many wait.
    Mail,
    /// One caller's reads beside another's writes.
    Fair,
    /// Facts on their way to the other services, at rest and under load.
    Relay,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Size {
    /// Enough to see that the bench works; its figures say nothing.
    Small,
    /// Enough for figures that say something; it takes a machine of its own.
    Full,
}

impl Size {
    fn pick<T>(self, small: T, full: T) -> T {
        match self {
            Self::Small => small,
            Self::Full => full,
        }
    }
}

fn main() {
    let cli = Cli::parse();
    let name = match cli.bench {
        Bench::All => return all(),
        Bench::BillRun { .. } => "bill-run",
        Bench::Calls => "calls",
        Bench::Fair => "fair",
        Bench::Growth => "growth",
        Bench::Mail => "mail",
        Bench::Relay => "relay",
    };
    // As a service logs, each call its line. With RUST_LOG the harness does.
    let log = env::temp_dir().join(format!("octroi-bench-{}.log", std::process::id()));
    if env::var_os("RUST_LOG").is_none() {
        log_to("info", File::create(&log).unwrap(), false);
    }
    // Whose e-mails only get in the way sends one a second.
    let mail_rate = matches!(cli.bench, Bench::BillRun { .. }).then_some(1);
    let mut run = Run::start(cli.size, mail_rate);
    let mut report = Report::new(name, &run);
    match cli.bench {
        Bench::All => {}
        Bench::BillRun { accounts } => {
            let accounts = accounts.unwrap_or(cli.size.pick(1_200, 100_000));
            bill_run::measure(&mut run, &mut report, accounts);
        }
        Bench::Calls => calls::measure(&mut run, &mut report),
        Bench::Fair => fair::measure(&run, &mut report),
        Bench::Growth => growth::measure(&run, &mut report),
        Bench::Mail => mail::measure(&run, &mut report),
        Bench::Relay => relay::measure(&run, &mut report),
    }
    run.stop();
    let _ = std::fs::remove_file(&log);
    print!("{report}");
    if let Some(directory) = cli.out {
        report.write(&directory);
    }
}

/// Each in a process of its own, with a server of its own.
fn all() {
    for name in ["bill-run", "calls", "fair", "growth", "mail", "relay"] {
        let given = env::args_os().skip(1);
        let args = given.map(|it| if it == "all" { name.into() } else { it });
        let bench = env::current_exe().unwrap();
        let ended = Command::new(bench).args(args).status().unwrap();
        assert!(ended.success(), "{name}: {ended}");
        println!();
    }
}
