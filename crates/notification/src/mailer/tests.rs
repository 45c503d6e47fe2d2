//! Messages handed to a real mail server on loopback, which answers as it was told, and to a real directory.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use lettre::transport::smtp::client::TlsParameters;
use lettre::transport::smtp::extension::ClientId;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::domain::account::Addressee;
use crate::domain::locale::Locale;
use crate::domain::message::Message as Rendered;
use crate::mailer::mime;
use crate::mailer::smtp::Tls;

/// A mail server that keeps what it hears. A recipient such as "450@…" is answered with that number; "d451@…" with 451
/// after its data.
#[derive(Clone, Default)]
struct Sink {
    heard: Arc<Mutex<Vec<String>>>,
    /// What a sign-in is answered with; none where none is offered.
    auth: Option<&'static str>,
}

impl Sink {
    async fn listen(self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(self.clone().converse(stream));
            }
        });
        port
    }

    async fn converse(self, stream: TcpStream) {
        let (reading, mut writing) = stream.into_split();
        let mut lines = BufReader::new(reading).lines();
        writing.write_all(b"220 sink\r\n").await.unwrap();
        let mut after_data = "250 kept";
        while let Ok(Some(line)) = lines.next_line().await {
            self.heard.lock().unwrap().push(line.clone());
            let answer = match line.split([' ', ':']).next().unwrap_or_default() {
                "EHLO" if self.auth.is_some() => "250-sink\r\n250-8BITMIME\r\n250 AUTH PLAIN",
                "EHLO" => "250-sink\r\n250 8BITMIME",
                "AUTH" => self.auth.unwrap_or("502 what"),
                "RCPT" if line.contains("silent@") => continue,
                "RCPT" if line.contains("421@") => "421 closing",
                "RCPT" if line.contains("450@") => "450 busy",
                "RCPT" if line.contains("550@") => "550 5.1.1 nobody of that name",
                "RCPT" if line.contains("530@") => "530 5.7.0 sign in first",
                "RCPT" => {
                    if line.contains("d451@") {
                        after_data = "451 not now";
                    }
                    "250 fine"
                }
                "DATA" => {
                    writing.write_all(b"354 go on\r\n").await.unwrap();
                    while let Ok(Some(line)) = lines.next_line().await {
                        self.heard.lock().unwrap().push(line.clone());
                        if line == "." {
                            break;
                        }
                    }
                    after_data
                }
                "QUIT" => "221 bye",
                _ => "250 fine",
            };
            let answer = format!("{answer}\r\n");
            if writing.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().join("\n")
    }
}

fn smtp(port: u16) -> Smtp {
    Smtp {
        host: "127.0.0.1".to_owned(),
        port,
        tls: Tls::Plaintext,
        credentials: None,
        hello: ClientId::Domain("octroi.test".to_owned()),
    }
}

fn message_to(recipient: &str) -> Result<Message, String> {
    let rendered = Rendered {
        subject: "Licence activée".to_owned(),
        text: "Mot de passe : S3same\n.\nÀ bientôt\n".to_owned(),
        html: "<p>Mot de passe : S3same</p>\n".to_owned(),
    };
    let to = Addressee {
        email: recipient.to_owned(),
        locale: Locale::Fr,
        customer: "Acme SAS".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
    };
    let from = "Épicerie <no-reply@octroi.test>".parse().unwrap();
    let now = "2026-11-22T17:00:00Z".parse().unwrap();
    mime::build(rendered, &to, &from, "<1@octroi.test>", now)
}

async fn outcome(mailer: &Mailer, recipient: &str) -> Outcome {
    let mut connection = mailer.open().await.unwrap();
    let message = message_to(recipient).unwrap();
    let outcome = connection
        .send(Uuid::from_u128(1), &message, &CancellationToken::new())
        .await;
    connection.close().await;
    outcome
}

#[tokio::test]
async fn a_server_takes_one_message_after_another() {
    let sink = Sink::default();
    let mailer = Mailer::Smtp(smtp(sink.clone().listen().await));
    let mut connection = mailer.open().await.unwrap();
    for _ in 0..3 {
        let message = message_to("it@acme.example").unwrap();
        let outcome = connection
            .send(Uuid::from_u128(1), &message, &CancellationToken::new())
            .await;
        assert_eq!(outcome, Outcome::Delivered);
    }
    connection.close().await;
    let heard = sink.heard();
    assert_eq!(heard.matches("EHLO octroi.test").count(), 1);
    assert_eq!(heard.matches("RCPT TO:<it@acme.example>").count(), 3);
    for header in [
        "Message-ID: <1@octroi.test>",
        "Date: Sun, 22 Nov 2026 17:00:00 +0000",
        "To: it@acme.example",
        "Auto-Submitted: auto-generated",
        "Content-Language: fr",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Type: text/html; charset=utf-8",
        "=C3=80 bient=C3=B4t",
    ] {
        assert_eq!(heard.matches(header).count(), 3, "{header} in {heard}");
    }
    assert!(heard.contains("\nQUIT"));
    assert!(heard.is_ascii(), "{heard}");
}

/// The content and the dot that ends it leave together, and a line that begins with a dot has another one.
#[tokio::test]
async fn a_message_leaves_in_one_piece() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sink = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 1 << 16];
        let mut length = 0;
        // The connection, EHLO, MAIL, RCPT, DATA.
        for answer in ["220 sink", "250 fine", "250 fine", "250 fine", "354 go on"] {
            let answer = format!("{answer}\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            length = stream.read(&mut heard).await.unwrap();
        }
        stream.write_all(b"250 kept\r\n").await.unwrap();
        String::from_utf8(heard[..length].to_vec()).unwrap()
    });
    let mailer = Mailer::Smtp(smtp(port));
    let mut connection = mailer.open().await.unwrap();
    let message = message_to("it@acme.example").unwrap();
    let outcome = connection
        .send(Uuid::from_u128(1), &message, &CancellationToken::new())
        .await;
    assert_eq!(outcome, Outcome::Delivered);
    let content = sink.await.unwrap();
    assert!(content.starts_with("Message-ID: ") || content.contains("\r\nMessage-ID: "));
    assert!(content.contains("\r\n..\r\n"), "{content}");
    assert!(content.ends_with("\r\n.\r\n"), "{content}");
    assert_eq!(content.matches("\r\n.\r\n").count(), 1);
}

/// A refused recipient leaves the connection to the next message; anything else ends it.
#[tokio::test]
async fn a_connection_outlives_a_refused_recipient() {
    let sink = Sink::default();
    let mailer = Mailer::Smtp(smtp(sink.clone().listen().await));
    for (recipient, stays) in [
        ("450@acme.example", true),
        ("550@acme.example", true),
        ("530@acme.example", false),
        ("421@acme.example", false),
        ("d451@acme.example", false),
    ] {
        let mut connection = mailer.open().await.unwrap();
        let message = message_to(recipient).unwrap();
        let outcome = connection
            .send(Uuid::from_u128(1), &message, &CancellationToken::new())
            .await;
        assert_ne!(outcome, Outcome::Delivered);
        assert_eq!(connection.is_open(), stays, "{recipient}");
        if stays {
            let message = message_to("it@acme.example").unwrap();
            let outcome = connection
                .send(Uuid::from_u128(1), &message, &CancellationToken::new())
                .await;
            assert_eq!(outcome, Outcome::Delivered);
        }
    }
    assert_eq!(sink.heard().matches("RSET").count(), 2);
}

/// Before the message's content is sent an attempt gives way to others; the connection has replies to come.
#[tokio::test]
async fn an_attempt_gives_way() {
    let sink = Sink::default();
    let mailer = Mailer::Smtp(smtp(sink.clone().listen().await));
    let mut connection = mailer.open().await.unwrap();
    let message = message_to("silent@acme.example").unwrap();
    let give_way = CancellationToken::new();
    give_way.cancel();
    let outcome = connection
        .send(Uuid::from_u128(1), &message, &give_way)
        .await;
    assert!(matches!(outcome, Outcome::Later(_)), "{outcome:?}");
    assert!(!connection.is_open());
    assert!(!sink.heard().contains("DATA"));
}

#[tokio::test]
async fn answers_lead_to_the_right_outcomes() {
    let mailer = Mailer::Smtp(smtp(Sink::default().listen().await));
    for later in ["450@acme.example", "d451@acme.example"] {
        let outcome = outcome(&mailer, later).await;
        assert!(matches!(outcome, Outcome::Later(_)), "{later}: {outcome:?}");
    }
    let turned_away = outcome(&mailer, "530@acme.example").await;
    assert_eq!(
        turned_away,
        Outcome::TurnedAway("530 at RCPT TO: 5.7.0 sign in first".to_owned())
    );
    let refused = outcome(&mailer, "550@acme.example").await;
    assert_eq!(
        refused,
        Outcome::Refused("550 at RCPT TO: 5.1.1 nobody of that name".to_owned())
    );
    assert!(message_to("not an address").is_err());
    assert!(message_to("é@acme.example").is_err());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert!(Mailer::Smtp(smtp(port)).open().await.is_err());
}

#[tokio::test]
async fn nothing_is_said_to_a_server_that_offers_no_tls() {
    let parameters = || TlsParameters::new("127.0.0.1".to_owned()).unwrap();
    for tls in [Tls::Starttls(parameters()), Tls::Implicit(parameters())] {
        let sink = Sink {
            auth: Some("235 welcome"),
            ..Sink::default()
        };
        let mut smtp = smtp(sink.clone().listen().await);
        smtp.tls = tls;
        smtp.credentials = Some(("octroi".to_owned(), "geheim".into()));
        assert!(Mailer::Smtp(smtp).open().await.is_err());
        let heard = sink.heard();
        assert!(
            !heard.contains("AUTH") && !heard.contains("MAIL"),
            "{heard}"
        );
    }
}

#[tokio::test]
async fn a_sign_in_is_made_and_its_refusal_says_no_password() {
    for (answer, welcome) in [("235 welcome", true), ("535 5.7.8 who are you", false)] {
        let sink = Sink {
            auth: Some(answer),
            ..Sink::default()
        };
        let mut smtp = smtp(sink.clone().listen().await);
        smtp.credentials = Some(("octroi".to_owned(), "geheim".into()));
        match Mailer::Smtp(smtp).open().await {
            Ok(_) => assert!(welcome),
            Err(Outcome::TurnedAway(error)) => {
                assert!(!welcome && !error.contains("geheim"), "{error}");
            }
            Err(other) => panic!("{other:?}"),
        }
        // "\0octroi\0geheim" in base64.
        assert!(sink.heard().contains("AUTH PLAIN AG9jdHJvaQBnZWhlaW0="));
    }
}

#[tokio::test]
async fn a_directory_holds_one_private_file_an_email() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state/mail");
    let mailer = Mailer::Directory(Directory::open(&path).unwrap());
    for _ in 0..2 {
        assert_eq!(
            outcome(&mailer, "it@acme.example").await,
            Outcome::Delivered
        );
    }
    let files: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files, [path.join(format!("{}.eml", Uuid::from_u128(1)))]);
    let mode = files[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&files[0]).unwrap();
    assert!(text.contains("Subject: ") && !text.replace("\r\n", "").contains('\n'));
    std::fs::remove_dir_all(&path).unwrap();
    let gone = outcome(&mailer, "it@acme.example").await;
    assert!(matches!(gone, Outcome::Later(_)), "{gone:?}");
}
