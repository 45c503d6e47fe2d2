//! A proxy between a service's pool and PostgreSQL's socket. It counts round trips and can be cut.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// A round trip: what a client sent before it waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The number of the service's connection.
    pub connection: usize,
    /// The statements' names, from the comment in their first line, or else their first words.
    pub statements: Vec<String>,
}

/// A statement's text as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// With its leading comment.
    pub sql: String,
    /// Whether it is planned anew for its values each time.
    pub planned: bool,
}

/// The wire of one service.
#[derive(Clone, Default)]
pub struct Wire {
    turns: Arc<Mutex<Vec<Said>>>,
    texts: Arc<Mutex<BTreeMap<String, Text>>>,
    cut: watch::Sender<bool>,
}

/// A turn that may go on.
type Said = Arc<Mutex<Turn>>;

/// The state that both directions of a connection share.
struct Talk {
    connection: usize,
    /// The client's current round trip; none once the server has finished its answer.
    turn: Mutex<Option<Said>>,
}

impl Wire {
    /// Listens in `directory` as PostgreSQL does, and returns the connection settings that lead here.
    pub(crate) fn tap(&self, config: &Config, directory: &Path) -> Config {
        let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
        let [Host::Unix(server)] = config.get_hosts() else {
            panic!("a private cluster has one socket");
        };
        let server = server.join(".s.PGSQL.5432");
        tokio::spawn(self.clone().listen(listener, server));
        let mut tapped = Config::new();
        tapped
            .host_path(directory)
            .port(5432)
            .user(config.get_user().unwrap_or_default())
            .password(config.get_password().unwrap_or_default())
            .dbname(config.get_dbname().unwrap_or_default())
            .options(config.get_options().unwrap_or_default());
        tapped
    }

    /// The round trips since the last call, oldest first.
    pub fn take(&self) -> Vec<Turn> {
        let turns = std::mem::take(&mut *self.turns.lock().unwrap());
        let turns = turns.iter();
        turns.map(|turn| turn.lock().unwrap().clone()).collect()
    }

    /// Every statement that was ever sent with parameters or prepared, by name.
    pub fn texts(&self) -> BTreeMap<String, Text> {
        self.texts.lock().unwrap().clone()
    }

    /// Breaks every connection and refuses new ones, as a database that is away, until it is mended.
    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    async fn listen(self, listener: UnixListener, server: PathBuf) {
        let mut connection = 0;
        while let Ok((client, _)) = listener.accept().await {
            connection += 1;
            if *self.cut.borrow() {
                continue;
            }
            let server = UnixStream::connect(&server).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let talk = Arc::new(Talk {
                connection,
                turn: Mutex::default(),
            });
            let mut cut = self.cut.subscribe();
            let there = self
                .clone()
                .forward(from_client, to_server, Arc::clone(&talk));
            let back = answer(from_server, to_client, talk);
            tokio::spawn(async move {
                tokio::select! {
                    _ = cut.wait_for(|cut| *cut) => {}
                    _ = async { tokio::join!(there, back) } => {}
                }
            });
        }
    }

    async fn forward(self, mut client: OwnedReadHalf, mut server: OwnedWriteHalf, talk: Arc<Talk>) {
        let mut frames = Frames {
            started: false,
            rest: Vec::new(),
        };
        let mut statements = HashMap::new();
        let mut chunk = vec![0; 1 << 16];
        while let Ok(read @ 1..) = client.read(&mut chunk).await {
            frames.rest.extend_from_slice(&chunk[..read]);
            let mut said = Vec::new();
            while let Some((kind, body)) = frames.next() {
                match kind {
                    b'P' => {
                        let (name, rest) = text(&body);
                        let (sql, planned) = (text(rest).0, name.is_empty());
                        statements.insert(name, name_of(&sql));
                        let mut texts = self.texts.lock().unwrap();
                        texts.insert(name_of(&sql), Text { sql, planned });
                    }
                    b'B' => {
                        let (_, rest) = text(&body);
                        said.push(statements.get(&text(rest).0).cloned().unwrap_or_default());
                    }
                    b'Q' => said.push(name_of(&text(&body).0)),
                    _ => {}
                }
            }
            self.note(said, &talk);
            if server.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    }

    /// Adds to the connection's round trip, or begins the next one.
    fn note(&self, said: Vec<String>, talk: &Talk) {
        let mut turn = talk.turn.lock().unwrap();
        if let Some(turn) = &*turn {
            turn.lock().unwrap().statements.extend(said);
            return;
        }
        let begun = Arc::new(Mutex::new(Turn {
            connection: talk.connection,
            statements: said,
        }));
        *turn = Some(Arc::clone(&begun));
        self.turns.lock().unwrap().push(begun);
    }
}

async fn answer(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, talk: Arc<Talk>) {
    let mut frames = Frames {
        started: true,
        rest: Vec::new(),
    };
    let mut chunk = vec![0; 1 << 16];
    while let Ok(read @ 1..) = server.read(&mut chunk).await {
        frames.rest.extend_from_slice(&chunk[..read]);
        while let Some((kind, _)) = frames.next() {
            if kind == b'Z' {
                *talk.turn.lock().unwrap() = None;
            }
        }
        if client.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

/// The protocol's messages: a kind, a length that counts itself, a body. The client's first one has no kind.
struct Frames {
    started: bool,
    rest: Vec<u8>,
}

impl Frames {
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = usize::from(self.started);
        let length = self.rest.get(head..head + 4)?;
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if self.rest.len() < head + length {
            return None;
        }
        let message: Vec<u8> = self.rest.drain(..head + length).collect();
        let kind = if self.started { message[0] } else { 0 };
        self.started = true;
        Some((kind, message[head + 4..].to_vec()))
    }
}

/// A zero-terminated text and what follows it.
fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    (text, bytes.get(end + 1..).unwrap_or_default())
}

/// The name in a statement's leading comment, or else its first word.
fn name_of(sql: &str) -> String {
    let named = sql.split_once("-- ").map_or(sql, |(_, named)| named);
    named
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_end_matches(';')
        .to_owned()
}
