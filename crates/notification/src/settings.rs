//! The settings of the notification service. Each is documented once, here.

use std::net::IpAddr;
use std::path::PathBuf;

use lettre::message::Mailbox;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use secrecy::SecretString;

use crate::domain::message::Branding;
use crate::mailer::Mailer;
use crate::mailer::directory::Directory;
use crate::mailer::mime::in_ascii;
use crate::mailer::smtp::{Smtp, Tls};

/// Settings of the notification service.
#[derive(Debug, Clone, clap::Args)]
pub struct Settings {
    /// Settings of every service.
    #[command(flatten)]
    pub platform: octroi_server::Settings,
    /// How e-mails look and where they go.
    #[command(flatten)]
    pub mail: MailSettings,
}

/// How e-mails look and where they go: to a mail server (`--smtp-host`) or into files (`--mail-directory`), never both.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct MailSettings {
    /// Address of the portal where users sign in and download, as e-mails show it.
    #[arg(long, env = "OCTROI_PORTAL_URL")]
    pub portal_url: Option<String>,
    /// Who e-mails come from, such as "Octroi <no-reply@example.com>". The name also signs them. A domain in Unicode is
    /// turned into A-labels; before the "@" all is ASCII.
    #[arg(long, env = "OCTROI_MAIL_FROM", value_parser = sender)]
    pub mail_from: Option<Mailbox>,
    /// Domain of the Message-IDs; that of the sender by default.
    #[arg(long, env = "OCTROI_MESSAGE_ID_DOMAIN")]
    pub message_id_domain: Option<String>,
    /// Directory that e-mails are written to, one `.eml` file each (0600, in a directory that is 0700).
    #[arg(long, env = "OCTROI_MAIL_DIRECTORY")]
    pub mail_directory: Option<PathBuf>,
    /// Mail server that e-mails are handed to.
    #[arg(long, env = "OCTROI_SMTP_HOST")]
    pub smtp_host: Option<String>,
    /// Its port; by default 465 with implicit TLS, 587 with STARTTLS, 25 without TLS.
    #[arg(long, env = "OCTROI_SMTP_PORT")]
    pub smtp_port: Option<u16>,
    /// How the connection to it is encrypted; never downgraded.
    #[arg(long, env = "OCTROI_SMTP_TLS", value_enum, default_value_t)]
    pub smtp_tls: SmtpTls,
    /// User to sign in as.
    #[arg(long, env = "OCTROI_SMTP_USER", requires = "smtp_password")]
    pub smtp_user: Option<String>,
    /// Password to sign in with. Give it in the environment: flags can be read by every user of the machine.
    #[arg(
        long,
        env = "OCTROI_SMTP_PASSWORD",
        hide_env_values = true,
        requires = "smtp_user",
        value_parser = secret
    )]
    pub smtp_password: Option<SecretString>,
    /// Certificates (PEM) of authorities to believe beside the public ones, for a server of one's own.
    #[arg(long, env = "OCTROI_SMTP_CA_FILE")]
    pub smtp_ca_file: Option<PathBuf>,
    /// How many e-mails a second each instance of the service sends at most, for a mail server that throttles; by default as
    /// many as it takes.
    #[arg(long, env = "OCTROI_MAIL_RATE", value_parser = clap::value_parser!(u32).range(1..))]
    pub mail_rate: Option<u32>,
    /// Allows `--smtp-tls none` to a server that is not this machine. E-mails carry passwords: think twice.
    #[arg(long, env = "OCTROI_SMTP_ALLOW_PLAINTEXT")]
    pub smtp_allow_plaintext: bool,
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SmtpTls {
    /// TLS from the first byte.
    #[default]
    Implicit,
    /// STARTTLS, required.
    Starttls,
    /// None; to this machine only, unless allowed.
    None,
}

/// Checked mail settings.
pub(crate) struct Mail {
    pub(crate) branding: Branding,
    pub(crate) from: Mailbox,
    pub(crate) message_id_domain: String,
    pub(crate) mailer: Mailer,
    pub(crate) rate: Option<u32>,
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "clap's value parsers answer with a Result"
)]
fn secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text))
}

fn sender(text: &str) -> Result<Mailbox, &'static str> {
    text.parse()
        .map_err(|_| "must be an address such as \"Octroi <no-reply@example.com>\"")
}

impl MailSettings {
    /// Checks the settings and opens what they name.
    ///
    /// # Errors
    /// Every bad setting, each by its name.
    pub(crate) fn open(&self) -> Result<Mail, Vec<String>> {
        let mut errors = Vec::new();
        let portal = self.portal_url.as_deref().unwrap_or_default();
        if !["https://", "http://"].iter().any(|scheme| {
            portal
                .strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
        }) {
            errors.push("--portal-url must be an http or https address".to_owned());
        }
        let from = match &self.mail_from {
            None => {
                errors.push("--mail-from is missing".to_owned());
                None
            }
            Some(given) => in_ascii(&given.email)
                .map(|email| Mailbox::new(given.name.clone(), email))
                .map_err(|error| errors.push(format!("--mail-from: {error}")))
                .ok(),
        };
        let domain = match (&self.message_id_domain, &from) {
            (Some(domain), _) => domain.as_str(),
            (None, Some(from)) => from.email.domain(),
            (None, None) => "-",
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        if domain.is_empty() || !domain.bytes().all(plain) {
            errors.push("--message-id-domain must be a domain in ASCII".to_owned());
        }
        let mailer = self.mailer(&mut errors);
        let domain = domain.to_owned();
        match (mailer, from) {
            (Some(mailer), Some(from)) if errors.is_empty() => Ok(Mail {
                branding: Branding {
                    sender: from.name.clone().unwrap_or_else(|| from.email.to_string()),
                    portal_url: portal.to_owned(),
                },
                from,
                message_id_domain: domain,
                mailer,
                rate: self.mail_rate,
            }),
            _ => Err(errors),
        }
    }

    fn mailer(&self, errors: &mut Vec<String>) -> Option<Mailer> {
        match (&self.mail_directory, &self.smtp_host) {
            (Some(path), None) => Directory::open(path)
                .map_err(|error| {
                    errors.push(format!("--mail-directory {}: {error}", path.display()));
                })
                .ok()
                .map(Mailer::Directory),
            (None, Some(host)) => self.smtp(host, errors).map(Mailer::Smtp),
            _ => {
                errors.push("exactly one of --smtp-host and --mail-directory is needed".to_owned());
                None
            }
        }
    }

    fn smtp(&self, host: &str, errors: &mut Vec<String>) -> Option<Smtp> {
        let tls = match self.smtp_tls {
            SmtpTls::Implicit => self.tls(host, errors).map(Tls::Implicit),
            SmtpTls::Starttls => self.tls(host, errors).map(Tls::Starttls),
            SmtpTls::None if is_loopback(host) || self.smtp_allow_plaintext => Some(Tls::Plaintext),
            SmtpTls::None => {
                errors.push(format!(
                    "--smtp-tls none: {host} is not this machine, and e-mails carry passwords \
                     (--smtp-allow-plaintext permits it)"
                ));
                None
            }
        };
        let default_port = match self.smtp_tls {
            SmtpTls::Implicit => 465,
            SmtpTls::Starttls => 587,
            SmtpTls::None => 25,
        };
        Some(Smtp {
            host: host.to_owned(),
            port: self.smtp_port.unwrap_or(default_port),
            tls: tls?,
            credentials: self.smtp_user.clone().zip(self.smtp_password.clone()),
            hello: ClientId::default(),
        })
    }

    fn tls(&self, host: &str, errors: &mut Vec<String>) -> Option<TlsParameters> {
        let mut builder = TlsParameters::builder(host.to_owned());
        if let Some(path) = &self.smtp_ca_file {
            let certificates = std::fs::read(path)
                .map_err(|error| error.to_string())
                .and_then(|pem| Certificate::from_pem(&pem).map_err(|error| error.to_string()));
            match certificates {
                Ok(certificates) => builder = builder.add_root_certificate(certificates),
                Err(error) => {
                    errors.push(format!("--smtp-ca-file {}: {error}", path.display()));
                    return None;
                }
            }
        }
        builder
            .build()
            .map_err(|error| errors.push(format!("--smtp-host {host}: {error}")))
            .ok()
    }
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> MailSettings {
        MailSettings {
            portal_url: Some("https://portal.example".to_owned()),
            mail_from: Some("Octroi <no-reply@octroi.example>".parse().unwrap()),
            smtp_host: Some("127.0.0.1".to_owned()),
            smtp_tls: SmtpTls::None,
            ..MailSettings::default()
        }
    }

    fn errors(settings: &MailSettings) -> Vec<String> {
        settings.open().err().unwrap_or_default()
    }

    #[test]
    fn good_settings_open() {
        let mail = good().open().ok().unwrap();
        assert_eq!(mail.branding.sender, "Octroi");
        assert_eq!(mail.message_id_domain, "octroi.example");
        assert!(matches!(mail.mailer, Mailer::Smtp(Smtp { port: 25, .. })));
    }

    #[test]
    fn a_sender_is_written_in_ascii_or_refused() {
        let from = |from: &str| MailSettings {
            mail_from: Some(from.parse().unwrap()),
            ..good()
        };
        let mail = from("Épicerie <bonjour@épicerie.example>").open();
        let mail = mail.ok().unwrap();
        assert_eq!(
            mail.from.email.to_string(),
            "bonjour@xn--picerie-9xa.example"
        );
        assert_eq!(mail.from.name.as_deref(), Some("Épicerie"));
        assert_eq!(mail.message_id_domain, "xn--picerie-9xa.example");
        for bad in ["no-reply", "", "no reply@octroi.example"] {
            assert!(sender(bad).is_err(), "{bad:?}");
        }
        let refused = errors(&from("Épicerie <été@epicerie.example>"));
        assert!(refused[0].starts_with("--mail-from: "), "{refused:?}");
        assert_eq!(refused.len(), 1);
    }

    #[test]
    fn every_bad_setting_is_named() {
        let bad = MailSettings {
            portal_url: Some("portal".to_owned()),
            mail_from: None,
            message_id_domain: Some("a b".to_owned()),
            smtp_host: None,
            ..good()
        };
        let errors = errors(&bad);
        for (line, name) in errors.iter().zip([
            "--portal-url",
            "--mail-from",
            "--message-id-domain",
            "--mail-directory",
        ]) {
            assert!(line.contains(name), "{line}");
        }
        assert_eq!(errors.len(), 4);
    }

    #[test]
    fn nothing_travels_in_clear_unless_that_was_asked_for() {
        let mut remote = MailSettings {
            smtp_host: Some("mail.example".to_owned()),
            ..good()
        };
        assert!(errors(&remote)[0].contains("--smtp-tls none"));
        remote.smtp_allow_plaintext = true;
        assert_eq!(errors(&remote), Vec::<String>::new());
        for host in ["localhost", "127.0.0.9", "::1"] {
            assert!(is_loopback(host));
        }
        for host in ["localhost.example", "10.0.0.1", "0.0.0.0", ""] {
            assert!(!is_loopback(host));
        }
    }

    #[test]
    fn a_directory_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mail");
        let settings = MailSettings {
            smtp_host: None,
            mail_directory: Some(path.clone()),
            ..good()
        };
        assert_eq!(errors(&settings), Vec::<String>::new());
        let mode = |path: &PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(errors(&settings)[0].contains("chmod 700"));
    }
}
