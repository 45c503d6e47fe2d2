//! Stock clients: grpcio and @grpc/grpc-js. A script in `tests/clients` makes the calls it is given by path and bytes,
//! all over one channel.

use std::collections::HashMap;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

/// The deadline of a call, in seconds.
const PATIENCE: u64 = 60;

/// Each client's name, the program that runs it, arguments that fail where it is not installed, and its script.
const MAKES: [(&str, &str, &[&str], &str); 2] = [
    ("grpcio", "python3", &["-c", "import grpc"], "call.py"),
    (
        "@grpc/grpc-js",
        "node",
        &["-e", "require('@grpc/grpc-js')"],
        "call.cjs",
    ),
];

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// A stock client with a channel to one service.
pub struct StockClient {
    /// Its name.
    pub name: &'static str,
    calls: mpsc::UnboundedSender<String>,
    waiting: Waiting,
    _child: Child,
}

impl StockClient {
    /// One of each, connected to a service at this URL, perhaps with gzip for its requests. In CI all must be
    /// installed; elsewhere the skipped tests are named on the process's own standard error, since the test runner
    /// hides what passing tests print.
    pub async fn all(url: &str, gzip: bool) -> Vec<Self> {
        let address = url.trim_start_matches("http://");
        let mut clients = Vec::new();
        for (name, program, probe, script) in MAKES {
            if installed(name, program, probe).await {
                clients.push(Self::start(name, program, script, address, gzip));
            }
        }
        clients
    }

    fn start(name: &'static str, program: &str, script: &str, address: &str, gzip: bool) -> Self {
        let mut child = Command::new(program)
            .arg(path(script))
            .arg(address)
            .args(gzip.then_some("gzip"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let (calls, mut told) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(call) = told.recv().await {
                input.write_all(call.as_bytes()).await.unwrap();
            }
        });
        let waiting = Waiting::default();
        let ended = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let answer: Value = serde_json::from_str(&line).unwrap();
                let id = answer["id"].as_u64().unwrap();
                let waits = ended.lock().unwrap().remove(&id).unwrap();
                // The caller may be gone.
                let _ = waits.send(answer);
            }
            // The script has ended: so have its calls.
            ended.lock().unwrap().clear();
        });
        Self {
            name,
            calls,
            waiting,
            _child: child,
        }
    }

    /// Begins a call of a method with an encoded message, at once; then waits for the encoded answer.
    ///
    /// # Panics
    /// When the script has ended.
    pub fn call(
        &self,
        path: &str,
        message: &[u8],
        token: &str,
    ) -> impl Future<Output = Result<Vec<u8>, Status>> + Send + 'static {
        let (waits, ended) = oneshot::channel();
        let id = {
            let mut waiting = self.waiting.lock().unwrap();
            let id = waiting.keys().max().map_or(0, |last| last + 1);
            waiting.insert(id, waits);
            id
        };
        let call = json!({
            "id": id,
            "path": path,
            "message": to_hex(message),
            "metadata": {"authorization": format!("Bearer {token}")},
            "timeout": PATIENCE,
        });
        self.calls.send(format!("{call}\n")).unwrap();
        let name = self.name;
        async move {
            let answer = ended.await.unwrap_or_else(|_| panic!("{name} ended"));
            let code = i32::try_from(answer["code"].as_i64().unwrap()).unwrap();
            if code == 0 {
                return Ok(of_hex(&answer["answer"]));
            }
            let message = answer["message"].as_str().unwrap();
            let details = of_hex(&answer["details"]);
            Err(Status::with_details(code.into(), message, details.into()))
        }
    }
}

/// How many of `count` calls each client loses, when each is the first call on a connection whose age is between these
/// two.
pub async fn late_calls(url: &str, count: usize, first: f64, last: f64) -> Vec<(String, usize)> {
    let address = url.trim_start_matches("http://");
    let mut running = Vec::new();
    for (name, program, probe, script) in MAKES {
        if installed(name, program, probe).await {
            let child = Command::new(program)
                .arg(path(&script.replace("call", "late")))
                .arg(address)
                .args([count.to_string(), first.to_string(), last.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn();
            running.push((name, child.unwrap()));
        }
    }
    let mut lost = Vec::new();
    for (name, child) in running {
        let told = String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap();
        let ends: Vec<Value> = told
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(ends.len(), count, "{name} ended early");
        let failed = ends.iter().filter(|end| end["code"] != 0);
        let failed: Vec<_> = failed.map(ToString::to_string).collect();
        let first = failed.first().map_or("", String::as_str);
        lost.push((
            format!("{name} {first}").trim_end().to_owned(),
            failed.len(),
        ));
    }
    lost
}

/// Whether a client is installed. In CI it must be; elsewhere the skipped tests are named.
async fn installed(name: &str, program: &str, probe: &[&str]) -> bool {
    let probed = Command::new(program).args(probe).output().await;
    if probed.is_ok_and(|probed| probed.status.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{name} is missing");
    let words = format!("\nNOT RUN: what {name} sees, since it is not installed\n");
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    false
}

/// The path of a script.
fn path(script: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(script)
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
