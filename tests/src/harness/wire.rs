//! Stands between a service's pool and PostgreSQL's socket and counts how often the service waits for an answer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// What a client sent before it waited: the statements, by the name that their first line gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn(pub Vec<String>);

/// The wire of one service.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<Vec<Turn>>>);

/// What both directions of a connection know.
#[derive(Default)]
struct Talk {
    /// Whether the server has finished an answer since the client last sent.
    answered: bool,
    /// Where in the log the client's current turn is.
    turn: Option<usize>,
}

impl Wire {
    /// Listens in `directory` as PostgreSQL does, and gives the configuration that leads through here.
    pub(crate) fn tap(config: &Config, directory: &Path) -> (Self, Config) {
        let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
        let [Host::Unix(server)] = config.get_hosts() else {
            panic!("a private cluster has one socket");
        };
        let server = server.join(".s.PGSQL.5432");
        let wire = Self::default();
        tokio::spawn(wire.clone().listen(listener, server));
        let mut tapped = Config::new();
        tapped
            .host_path(directory)
            .port(5432)
            .user(config.get_user().unwrap_or_default())
            .password(config.get_password().unwrap_or_default())
            .dbname(config.get_dbname().unwrap_or_default())
            .options(config.get_options().unwrap_or_default());
        (wire, tapped)
    }

    /// The turns since the last time, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<Turn> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    async fn listen(self, listener: UnixListener, server: PathBuf) {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&server).await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let talk = Arc::<Mutex<Talk>>::default();
            tokio::spawn(
                self.clone()
                    .forward(from_client, to_server, Arc::clone(&talk)),
            );
            tokio::spawn(answer(from_server, to_client, talk));
        }
    }

    async fn forward(
        self,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
        talk: Arc<Mutex<Talk>>,
    ) {
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
                        statements.insert(name, name_of(&text(rest).0));
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

    fn note(&self, said: Vec<String>, talk: &Mutex<Talk>) {
        let mut talk = talk.lock().unwrap();
        let mut turns = self.0.lock().unwrap();
        let going_on = talk.turn.take().filter(|_| !talk.answered);
        match going_on.and_then(|at| turns.get_mut(at).map(|turn| (at, turn))) {
            Some((at, turn)) => {
                turn.0.extend(said);
                talk.turn = Some(at);
            }
            None => {
                talk.turn = Some(turns.len());
                turns.push(Turn(said));
            }
        }
        talk.answered = false;
    }
}

async fn answer(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, talk: Arc<Mutex<Talk>>) {
    let mut frames = Frames {
        started: true,
        rest: Vec::new(),
    };
    let mut chunk = vec![0; 1 << 16];
    while let Ok(read @ 1..) = server.read(&mut chunk).await {
        frames.rest.extend_from_slice(&chunk[..read]);
        while let Some((kind, _)) = frames.next() {
            if kind == b'Z' {
                talk.lock().unwrap().answered = true;
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
