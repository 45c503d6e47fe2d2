//! `octroi verify`: the invariants of the stored data, across the three schemas.
//!
//! Each check is one query, whose rows say whether they break the rule; usage is counted again by the function that
//! counts it everywhere. All run in one snapshot, also while Octroi serves; a check that compares services allows for events that are not delivered yet, and for nothing else.

mod crossing;
mod log;
mod mailed;
#[cfg(test)]
mod tests;
mod usage;

use std::fmt;
use std::process::ExitCode;

use anyhow::Context as _;
use octroi_platform::check::Check;
use octroi_platform::clock::system_micros;
use tokio_postgres::{Client, Config, IsolationLevel, Transaction};

use crate::connect::connect;
use crate::failure::Failure;
use crate::interrupt::{unless_interrupted, until_interrupted};
use crate::output::{self, Unread};
use crate::place::{PlaceArgs, find_admin};

/// How many breaches of one rule are printed.
const EXAMPLES: usize = 5;

/// A check to run: one of the platform's tables runs once for each schema.
struct Rule {
    name: String,
    sql: String,
}

impl From<&Check> for Rule {
    fn from(check: &Check) -> Self {
        Self {
            name: check.name.to_owned(),
            sql: check.sql.to_owned(),
        }
    }
}

/// What the checks found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every rule, in the order of the checks.
    pub findings: Vec<Finding>,
}

/// What one check found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule.
    pub check: String,
    /// How many rows were looked at.
    pub rows: i64,
    /// How many of them break the rule.
    pub breaches: i64,
    /// The first of these, by name.
    pub examples: Vec<String>,
}

impl Report {
    /// Whether every rule holds.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.breaches == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self
            .findings
            .iter()
            .map(|finding| finding.check.chars().count());
        let width = names.max().unwrap_or_default();
        writeln!(f, "{:<width$}  {:>9}  {:>8}", "check", "rows", "breaches")?;
        for finding in &self.findings {
            writeln!(
                f,
                "{:<width$}  {:>9}  {:>8}",
                finding.check, finding.rows, finding.breaches
            )?;
            for example in &finding.examples {
                writeln!(f, "    {example}")?;
            }
        }
        let breached = self.findings.iter().filter(|finding| finding.breaches > 0);
        match breached.count() {
            0 => writeln!(f, "\n{} checks, no breach", self.findings.len()),
            breached => writeln!(f, "\n{} checks, {breached} breached", self.findings.len()),
        }
    }
}

/// Prints the table; the exit code is 1 when a rule is broken.
///
/// # Errors
/// When there is no installation or its database cannot be read.
pub async fn verify(args: &PlaceArgs) -> Result<ExitCode, Failure> {
    let interrupt = until_interrupted();
    let found = unless_interrupted(&interrupt, find_admin(args)).await?;
    let (admin, place) = found.ok_or_else(interrupted)?;
    let report = tokio::select! {
        report = run(&admin) => report.map_err(Failure::from),
        () = interrupt.cancelled() => Err(interrupted()),
    };
    if let Some(place) = place {
        place.close().await?;
    }
    let report = report?;
    match output::print(&report) {
        // The exit code says what was found, even when the output was not read to its end.
        Err(error) if !error.is::<Unread>() => Err(error.into()),
        _ => Ok(ExitCode::from(u8::from(!report.is_clean()))),
    }
}

fn interrupted() -> Failure {
    Failure::from(anyhow::anyhow!("interrupted before the checks were done"))
}

/// Checks every rule on the database that the administrator's connection names.
pub async fn run(admin: &Config) -> anyhow::Result<Report> {
    let mut client = connect(admin).await?;
    let offset = clock_offset(&client).await?;
    let snapshot = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    set_parameters(&snapshot, offset).await?;
    let mut findings = Vec::new();
    for rule in rules() {
        let finding = check(&snapshot, &rule).await;
        findings.push(finding.with_context(|| format!("cannot check {:?}", rule.name))?);
    }
    Ok(Report { findings })
}

/// Sets what the checks cannot read from rows: business time, and which events are mailed. By SET, which Citus tells every
/// node where its own setting says so.
async fn set_parameters(snapshot: &Transaction<'_>, offset: i64) -> anyhow::Result<()> {
    let now = jiff::Timestamp::from_microsecond(system_micros().saturating_add(offset))?;
    let set =
        format!("SET LOCAL citus.propagate_set_commands = 'local'; SET LOCAL octroi.now = '{now}'");
    snapshot.batch_execute(&set).await?;
    let mailed = mailed::read(snapshot).await?.join(",");
    let set = format!("SET LOCAL octroi.mailed = '{{{mailed}}}'");
    snapshot.batch_execute(&set).await?;
    Ok(())
}

/// Business time minus machine time, in microseconds.
async fn clock_offset(client: &Client) -> anyhow::Result<i64> {
    let row = client
        .query_one("SELECT to_regclass('testing.clock') IS NOT NULL", &[])
        .await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let row = client
        .query_opt("SELECT offset_micros FROM testing.clock", &[])
        .await?;
    Ok(row.map_or(Ok(0), |row| row.try_get(0))?)
}

async fn check(snapshot: &Transaction<'_>, rule: &Rule) -> anyhow::Result<Finding> {
    // SQL counts no usage: it knows no time zone.
    if rule.name == usage::CHARGED_USAGE.name {
        return usage::recount(snapshot).await;
    }
    // Sorted, so that two runs on the same data print the same.
    let sql = format!(
        "WITH checked AS MATERIALIZED ({})
         SELECT count(*) AS rows, count(*) FILTER (WHERE broken) AS breaches,
                coalesce((SELECT array_agg(what)
                          FROM (SELECT what FROM checked WHERE broken ORDER BY what LIMIT {EXAMPLES}) AS first),
                         ARRAY[]::text[]) AS examples
         FROM checked",
        rule.sql
    );
    let row = snapshot.query_one(&sql, &[]).await?;
    Ok(Finding {
        check: rule.name.clone(),
        rows: row.try_get("rows")?,
        breaches: row.try_get("breaches")?,
        examples: row.try_get("examples")?,
    })
}

/// Every check: each service's own, those across schemas, and those of the event logs.
fn rules() -> Vec<Rule> {
    let mut rules: Vec<Rule> = octroi_licensing::check::CHECKS
        .iter()
        .chain(octroi_billing::check::CHECKS)
        .chain(octroi_notification::check::CHECKS)
        .chain(usage::CHECKS)
        .chain(crossing::CHECKS)
        .map(Rule::from)
        .collect();
    rules.extend(log::rules());
    rules
}
