//! What a call says to PostgreSQL, as the server's log has it, and the same said by pgbench.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use octroi::cluster::find;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, config::Host};

use crate::run::{Run, connect};

/// The number in a sample's names that every repetition replaces by its own.
pub const SAMPLE: &str = "777777";

/// A statement as it was executed.
#[derive(Debug, Clone)]
pub struct Statement {
    pub sql: String,
    /// Its parameters as text; none for NULL.
    params: Vec<Option<String>>,
}

/// What is said together: from BEGIN to COMMIT, or one read that is in no transaction.
pub type Unit = Vec<Statement>;

/// Runs a call and tells what its service said to the database for it, up to the COMMIT if it has one. Whatever else is
/// said meanwhile does not name the sample, and what follows from a command is said after its COMMIT.
pub fn statements(run: &Run, call: impl Future<Output = ()>) -> Vec<Unit> {
    let log = log_of(run);
    let from = fs::metadata(&log).unwrap().len();
    run.sql("ALTER SYSTEM SET log_statement = 'all'");
    run.sql("SELECT pg_reload_conf()");
    // The server passes the signal on to its sessions in its own time.
    std::thread::sleep(Duration::from_millis(300));
    run.waits(call);
    run.sql("ALTER SYSTEM RESET log_statement");
    run.sql("SELECT pg_reload_conf()");
    let text = fs::read(&log).unwrap();
    let text = String::from_utf8_lossy(&text[from as usize..]).into_owned();
    chosen(entries(&text))
}

/// The log of the run's server.
fn log_of(run: &Run) -> PathBuf {
    run.data_directory().with_file_name("postgres.log")
}

/// The log's entries: the process and the message, whose further lines begin with a tab.
fn entries(text: &str) -> Vec<(String, String)> {
    let mut entries: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(more) = line.strip_prefix('\t')
            && let Some((_, message)) = entries.last_mut()
        {
            message.push('\n');
            message.push_str(more);
        } else if let Some((_, rest)) = line.split_once('[')
            && let Some((process, message)) = rest.split_once("] ")
        {
            entries.push((process.to_owned(), message.to_owned()));
        }
    }
    entries
}

/// Those that name the sample, on whatever connection.
fn chosen(entries: Vec<(String, String)>) -> Vec<Unit> {
    let mut statements: Vec<(String, Statement)> = Vec::new();
    for (process, message) in entries {
        if let Some(params) = message.strip_prefix("DETAIL:  ") {
            let params = params.trim_start_matches("Parameters: ");
            let params = params.trim_start_matches("parameters: ");
            if let Some((_, statement)) = statements.iter_mut().rev().find(|it| it.0 == process) {
                statement.params = parse_params(params);
            }
        } else if let Some(message) = message.strip_prefix("LOG:  ")
            && let Some((kind, sql)) = message.split_once(": ")
            && (kind.starts_with("execute") || kind == "statement")
        {
            let sql = sql.to_owned();
            let params = Vec::new();
            statements.push((process, Statement { sql, params }));
        }
    }
    let mut chosen: Vec<Unit> = Vec::new();
    // What each connection has said since its BEGIN.
    let mut open: HashMap<String, Unit> = HashMap::new();
    for (process, statement) in statements {
        let ends = |word| statement.sql.starts_with(word);
        let (begins, committed, over) = (ends("BEGIN"), ends("COMMIT"), ends("ROLLBACK"));
        if begins {
            open.insert(process, vec![statement]);
            continue;
        }
        let unit = match open.remove(&process) {
            Some(mut unit) => {
                unit.push(statement);
                if !committed && !over {
                    open.insert(process, unit);
                    continue;
                }
                unit
            }
            None => vec![statement],
        };
        if !over && unit.iter().any(names_sample) {
            chosen.push(unit);
            if committed {
                break;
            }
        }
    }
    assert!(!chosen.is_empty(), "no statement names the sample");
    chosen
}

fn names_sample(statement: &Statement) -> bool {
    let mut params = statement.params.iter().flatten();
    params.any(|param| param.contains(SAMPLE))
}

/// `$1 = 'it''s', $2 = NULL`.
fn parse_params(text: &str) -> Vec<Option<String>> {
    let mut params = Vec::new();
    let mut rest = text;
    while let Some((_, value)) = rest.split_once(" = ") {
        if let Some(after) = value.strip_prefix("NULL") {
            params.push(None);
            rest = after;
            continue;
        }
        let Some(quoted) = value.strip_prefix('\'') else {
            break;
        };
        let mut param = String::new();
        let mut characters = quoted.char_indices().peekable();
        let mut end = quoted.len();
        while let Some((at, character)) = characters.next() {
            if character != '\'' {
                param.push(character);
            } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
                param.push('\'');
            } else {
                end = at + 1;
                break;
            }
        }
        params.push(Some(param));
        rest = &quoted[end..];
    }
    params
}

/// Transactions a second of pgbench with the same statements, each with a number of its own in the sample's place; and
/// the milliseconds that one took.
pub fn pgbench(
    run: &Run,
    database: &Config,
    schema: &str,
    units: &[Unit],
    (clients, time, from): (u64, Duration, u64),
) -> f64 {
    let config = searching(database, schema);
    let client = run.waits(connect(&config));
    let mut script = format!("\\set i :i + 1\n\\set n :client_id * 1000000 + :i + {from}\n");
    for unit in units {
        let pipelined = unit.len() > 1;
        // As the services say them: BEGIN with what is read, then all that is written with COMMIT.
        let reads = unit.iter().rposition(|it| is_read(&it.sql));
        for (at, statement) in unit.iter().enumerate() {
            if pipelined && (at == 0 || reads.is_some_and(|last| at == last + 1)) {
                script.push_str("\\startpipeline\n");
            }
            let sql = run.waits(repeated(&client, statement));
            writeln!(script, "{sql};").unwrap();
            if pipelined && (Some(at) == reads || at + 1 == unit.len()) {
                script.push_str("\\endpipeline\n");
            }
        }
    }
    let directory = std::env::temp_dir().join(format!("octroi-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("script.sql");
    fs::write(&file, script).unwrap();
    let told = run_pgbench(&config, &file, clients, time);
    let _ = fs::remove_dir_all(&directory);
    let tps = told.lines().find_map(|line| line.strip_prefix("tps = "));
    let tps = tps.and_then(|rest| rest.split(' ').next());
    tps.unwrap_or_else(|| panic!("{told}")).parse().unwrap()
}

fn run_pgbench(config: &Config, script: &std::path::Path, clients: u64, time: Duration) -> String {
    let binaries = find(
        std::env::var_os("OCTROI_PG_BIN")
            .map(PathBuf::from)
            .as_deref(),
    );
    // What is found may be a link to where all of PostgreSQL's programs are.
    let postgres = binaries.expect("PostgreSQL's programs").program("postgres");
    let program = fs::canonicalize(postgres)
        .unwrap()
        .with_file_name("pgbench");
    assert!(
        program.exists(),
        "{} is missing: it comes with PostgreSQL's server, or with its contrib package",
        program.display()
    );
    let [Host::Unix(socket)] = config.get_hosts() else {
        panic!("a private cluster has one socket");
    };
    let password = String::from_utf8_lossy(config.get_password().unwrap()).into_owned();
    let output = Command::new(program)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", time.as_secs().max(1)))
        .args(["--define=i=0", "--file"])
        .arg(script)
        .arg("--host")
        .arg(socket)
        .arg(format!("--username={}", config.get_user().unwrap()))
        .arg(config.get_dbname().unwrap())
        .env("PGPASSWORD", password)
        .env("PGOPTIONS", config.get_options().unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !complaints.contains("aborted"),
        "{told}{complaints}"
    );
    told
}

fn searching(database: &Config, schema: &str) -> Config {
    let mut config = database.clone();
    config.options(format!("-c search_path={schema} -c timezone=UTC"));
    config
}

/// Whether a statement belongs before the decision.
fn is_read(sql: &str) -> bool {
    let mut words = sql.split_whitespace().skip_while(|word| *word == "--");
    let name = words.next().unwrap_or_default();
    sql.contains("FOR NO KEY UPDATE")
        || sql.contains("FOR SHARE")
        || sql.contains("FOR UPDATE")
        || matches!(name, "claim" | "replay" | "seller_for_new_account")
}

/// The statement with its parameters in place, cast as they were sent, and the sample's number and every UUID replaced
/// by what depends on `:n`.
async fn repeated(client: &Client, statement: &Statement) -> String {
    if statement.params.is_empty() {
        return statement.sql.trim_end_matches(';').to_owned();
    }
    let prepared = client.prepare(&statement.sql).await.unwrap();
    // A comment would swallow what follows it on pgbench's one line.
    let lines = statement
        .sql
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"));
    let sql = lines.collect::<Vec<_>>().join("\n");
    let values: Vec<String> = statement
        .params
        .iter()
        .zip(prepared.params())
        .map(|(param, kind)| match param {
            None => format!("NULL::{}", name(kind)),
            Some(text) => format!("({})::{}", template(text, kind), name(kind)),
        })
        .collect();
    // In one pass: a value may have a dollar and a digit of its own, such as a password's hash.
    let mut pieces = sql.split('$');
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.find(|it: char| !it.is_ascii_digit());
        let (number, rest) = piece.split_at(digits.unwrap_or(piece.len()));
        match number.parse::<usize>() {
            Ok(number) => filled.push_str(&values[number - 1]),
            Err(_) => filled.push('$'),
        }
        filled.push_str(rest);
    }
    filled
}

fn name(kind: &Type) -> String {
    match kind.name().strip_prefix('_') {
        Some(element) => format!("{element}[]"),
        None => kind.name().to_owned(),
    }
}

/// A text as an expression of SQL.
fn template(text: &str, kind: &Type) -> String {
    if *kind == Type::BYTEA || *kind == Type::BYTEA_ARRAY {
        return literal(text);
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let sample = rest.find(SAMPLE);
        let uuid = (0..rest.len()).find(|at| is_uuid(&rest[*at..]));
        match (sample, uuid) {
            (Some(at), uuid) if uuid.is_none_or(|uuid| at < uuid) => {
                pieces.push(literal(&rest[..at]));
                pieces.push(":n::text".to_owned());
                rest = &rest[at + SAMPLE.len()..];
            }
            (_, Some(at)) => {
                pieces.push(literal(&rest[..at]));
                // The same one in another statement stays the same.
                let kept = literal(&rest[at..at + 24]);
                pieces.push(format!("{kept} || lpad(:n::text, 12, '0')"));
                rest = &rest[at + 36..];
            }
            _ => {
                pieces.push(literal(rest));
                rest = "";
            }
        }
    }
    match pieces.is_empty() {
        true => "''".to_owned(),
        false => pieces.join(" || "),
    }
}

/// Whether a canonical UUID stands at the beginning.
fn is_uuid(text: &str) -> bool {
    let Some(head) = text.as_bytes().get(..36) else {
        return false;
    };
    head.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// A literal in which pgbench finds no variable of its own.
fn literal(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("E'{}'", text.replace(':', "\\x3a").replace('\n', "\\n"))
}
