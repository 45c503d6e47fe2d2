//! An SMTP server for a test, which keeps the messages and refuses what it is configured to.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::mime;

/// A message that arrived.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The message as it was sent.
    pub message: String,
    /// When it had arrived.
    pub at: Instant,
}

impl Letter {
    /// A header's value, unfolded; empty when it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        mime::header(&self.message, name)
    }

    /// The text part, decoded.
    #[must_use]
    pub fn text(&self) -> String {
        mime::part(&self.message, "text/plain")
    }

    /// The HTML part, decoded.
    #[must_use]
    pub fn html(&self) -> String {
        mime::part(&self.message, "text/html")
    }
}

#[derive(Default)]
struct Kept {
    letters: Vec<Letter>,
    /// How many arrived.
    count: u64,
    /// Whether they are only counted.
    forgets: bool,
    answers: VecDeque<String>,
    /// The answer of each step that is not to be accepted.
    refusals: HashMap<&'static str, &'static str>,
    silent: watch::Sender<Silence>,
    /// How many recipients wait for an answer.
    waiting: usize,
}

/// Who gets no answer.
#[derive(Default)]
struct Silence {
    all: bool,
    domains: HashSet<String>,
}

impl Silence {
    fn is_kept(&self, recipient: &str) -> bool {
        let domain = recipient.rsplit('@').next().unwrap_or_default();
        self.all || self.domains.contains(domain)
    }
}

/// A mail server.
pub struct MailServer {
    port: u16,
    kept: Arc<Mutex<Kept>>,
}

impl MailServer {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let kept = Arc::<Mutex<Kept>>::default();
        let server = Arc::clone(&kept);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client may disconnect at any time.
                tokio::spawn(converse(stream, Arc::clone(&server)));
            }
        });
        Self { port, kept }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the answers to the next recipients, one each, such as "451 4.3.0 try again"; later ones are accepted.
    pub fn answer_next(&self, answers: &[&str]) {
        let mut kept = self.kept.lock().unwrap();
        kept.answers
            .extend(answers.iter().map(|answer| (*answer).to_owned()));
    }

    /// Sets the answer to a step from now on: "220" the connection, "EHLO", "MAIL", "RCPT", "DATA", "." the message.
    pub fn refuse(&self, step: &'static str, answer: &'static str) {
        self.kept.lock().unwrap().refusals.insert(step, answer);
    }

    /// From now on nothing is refused.
    pub fn relent(&self) {
        self.kept.lock().unwrap().refusals.clear();
    }

    /// Holds back the answers to recipients while this is set.
    pub fn be_silent(&self, silent: bool) {
        let kept = self.kept.lock().unwrap();
        kept.silent.send_modify(|it| it.all = silent);
    }

    /// Recipients at these domains get no answer from now on, and those at others do.
    pub fn be_silent_to(&self, domains: impl IntoIterator<Item = String>) {
        let domains = domains.into_iter().collect();
        let kept = self.kept.lock().unwrap();
        kept.silent.send_modify(|it| it.domains = domains);
    }

    /// How many recipients wait for their answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.kept.lock().unwrap().waiting
    }

    /// From now on messages are counted and not kept.
    pub fn forget(&self) {
        self.kept.lock().unwrap().forgets = true;
    }

    /// How many messages arrived.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.kept.lock().unwrap().count
    }

    /// The messages that arrived, in order.
    #[must_use]
    pub fn letters(&self) -> Vec<Letter> {
        self.kept.lock().unwrap().letters.clone()
    }
}

async fn converse(stream: TcpStream, kept: Arc<Mutex<Kept>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut from, mut to) = (String::new(), Vec::new());
    let refusal = |step: &str| kept.lock().unwrap().refusals.get(step).copied();
    say(&mut stream, refusal("220").unwrap_or("220 mail.test ESMTP")).await?;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let verb = verb.to_ascii_uppercase();
        if let Some(refusal) = refusal(&verb) {
            say(&mut stream, refusal).await?;
            continue;
        }
        let answer = match verb.as_str() {
            "EHLO" | "HELO" => "250-mail.test\r\n250-8BITMIME\r\n250 SMTPUTF8".to_owned(),
            "MAIL" => {
                from = address(line);
                to.clear();
                "250 2.1.0 ok".to_owned()
            }
            "RCPT" => {
                let mut silent = kept.lock().unwrap().silent.subscribe();
                kept.lock().unwrap().waiting += 1;
                let recipient = address(line);
                let spoken = silent.wait_for(|silent| !silent.is_kept(&recipient));
                let spoken = spoken.await.map(drop);
                kept.lock().unwrap().waiting -= 1;
                spoken.map_err(std::io::Error::other)?;
                let answer = kept.lock().unwrap().answers.pop_front();
                if answer.is_none() {
                    to.push(address(line));
                }
                answer.unwrap_or_else(|| "250 2.1.5 ok".to_owned())
            }
            "DATA" => {
                say(&mut stream, "354 go on").await?;
                let letter = Letter {
                    from: from.clone(),
                    to: std::mem::take(&mut to),
                    message: message(&mut stream).await?,
                    at: Instant::now(),
                };
                match refusal(".") {
                    Some(refusal) => refusal.to_owned(),
                    None => {
                        let mut kept = kept.lock().unwrap();
                        kept.count += 1;
                        if !kept.forgets {
                            kept.letters.push(letter);
                        }
                        "250 2.0.0 taken".to_owned()
                    }
                }
            }
            "RSET" | "NOOP" => "250 2.0.0 ok".to_owned(),
            "QUIT" => return say(&mut stream, "221 2.0.0 bye").await,
            _ => "502 5.5.1 not here".to_owned(),
        };
        say(&mut stream, &answer).await?;
    }
}

async fn say(stream: &mut BufReader<TcpStream>, answer: &str) -> std::io::Result<()> {
    stream.write_all(format!("{answer}\r\n").as_bytes()).await
}

/// Reads the message up to the line with a dot alone.
async fn message(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut message = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.strip_prefix('.') {
            Some("\r\n") => return Ok(message),
            Some(rest) => message.push_str(rest),
            None => message.push_str(&line),
        }
    }
}

fn address(line: &str) -> String {
    let start = line.find('<').map_or(0, |at| at + 1);
    let end = line.find('>').unwrap_or(line.len());
    line[start..end].to_owned()
}
