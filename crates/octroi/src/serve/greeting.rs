//! What `serve` prints once everything runs.

use std::fmt;

use jiff::Timestamp;

use crate::keys::Tokens;
use crate::place::Place;
use crate::system::{Plan, ServiceName};

/// What runs, where its files are, and what to type next.
pub(super) struct Greeting<'a> {
    pub(super) system: &'a Plan,
    pub(super) place: &'a Place,
    pub(super) tokens: &'a Tokens,
    /// The time of the test clock, if there is one.
    pub(super) time: Option<Timestamp>,
}

impl fmt::Display for Greeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Octroi is serving. Ctrl-C stops it.\n")?;
        for service in ServiceName::ALL {
            let address = self.system.address(service).to_string();
            row(f, service.as_str(), &address)?;
        }
        let metrics = self.system.admin.iter().flatten();
        let metrics = metrics.filter_map(|listener| listener.local_addr().ok());
        let metrics: Vec<_> = metrics.map(|address| address.to_string()).collect();
        let metrics = match metrics.is_empty() {
            true => "none".to_owned(),
            false => metrics.join(" "),
        };
        row(f, "metrics", &metrics)?;
        row(f, "database", &self.place.location())?;
        let data_dir = self.place.data_dir();
        row(f, "data directory", &data_dir.display().to_string())?;
        let token = self.tokens.operator_file.display().to_string();
        row(f, "operator token", &token)?;
        match (
            &self.system.mail.mail_directory,
            &self.system.mail.smtp_host,
        ) {
            (Some(directory), _) => row(f, "mail", &directory.display().to_string())?,
            (None, Some(host)) => row(f, "mail", &format!("by SMTP to {host}"))?,
            (None, None) => {}
        }
        if let Some(time) = self.time {
            row(f, "test clock", &format!("{time:.0}"))?;
        }
        let function = shell_function(&token, &ServiceName::ALL.map(|s| self.system.address(s)));
        write!(
            f,
            "\nNext, in another shell:\n\n{function}\n{}\n",
            FIRST_LINES
        )
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {name:<16}{value}")
}

/// The first lines of the guide, on the shell function.
const FIRST_LINES: &str = r#"o billing.v1.AccountService/CreateAccount '{"account_id":"acme","account":{"legal_name":"Acme SAS","contact_email":"it@acme.example","address":{"lines":["1 rue de la Paix"],"postal_code":"75002","city":"Paris","country_code":"FR"}}}'
o licensing.v1.OrderService/CreateOrder '{"parent":"accounts/acme","order_id":"o1","order":{"new_group":{"id":"office","renewal_period":"P1M"},"lines":[{"offer":"offers/apps-for-business","quantity":10}]}}'
o licensing.v1.OrderService/PayOrder '{"name":"accounts/acme/orders/o1","new_payment_method":{"gateway_token":"test-success"}}'
"#;

/// A function for sh, bash and zsh that calls a method by its short name with grpcurl: `o <method> [<json>]`.
fn shell_function(token_file: &str, addresses: &[std::net::SocketAddr; 3]) -> String {
    let host = match addresses[0].ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("'[{ip}]'"),
    };
    let [licensing, billing, notification] = addresses.map(|address| address.port());
    let token_file = quoted(token_file);
    // The patterns' opening parentheses are for macOS's bash, which otherwise takes a closing one for the end of $(…).
    format!(
        "o() {{ grpcurl -plaintext -H \"authorization: Bearer $(cat {token_file})\" -d \"${{2:-{{\\}}}}\" \
         {host}:$(case $1 in (licensing*) echo {licensing};; (billing*) echo {billing};; (*) echo \
         {notification};; esac) octroi.$1; }}"
    )
}

/// Quotes a word for the shell if it needs to be.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    /// The arguments that a shell passes to grpcurl, here a script that prints them.
    fn called(line: &str) -> Vec<String> {
        let dir = tempfile::Builder::new().prefix("a 'b").tempdir().unwrap();
        let token = dir.path().join("operator.token");
        fs::write(&token, "secret\n").unwrap();
        let grpcurl = dir.path().join("grpcurl");
        fs::write(&grpcurl, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n").unwrap();
        fs::set_permissions(&grpcurl, fs::Permissions::from_mode(0o755)).unwrap();
        let addresses = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(|a| a.parse().unwrap());
        let function = shell_function(token.to_str().unwrap(), &addresses);
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("/bin/sh")
            .args(["-c", &format!("{function}\n{line}")])
            .env("PATH", format!("{}:{path}", dir.path().display()))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn the_shell_function_calls_the_right_port_with_the_token() {
        assert_eq!(
            called(r#"o billing.v1.AccountService/GetAccount '{"name":"accounts/a b"}'"#),
            [
                "-plaintext",
                "-H",
                "authorization: Bearer secret",
                "-d",
                r#"{"name":"accounts/a b"}"#,
                "127.0.0.1:2",
                "octroi.billing.v1.AccountService/GetAccount",
            ]
        );
        let clock = called("o licensing.v1.OfferService/ListOffers");
        assert_eq!(clock[4], "{}");
        assert_eq!(clock[5], "127.0.0.1:1");
        assert_eq!(
            called("o notification.v1.EmailService/GetEmail")[5],
            "127.0.0.1:3"
        );
    }

    #[test]
    fn the_first_lines_are_json() {
        for line in FIRST_LINES.lines() {
            let json = line.split('\'').nth(1).unwrap();
            serde_json::from_str::<serde_json::Value>(json).unwrap();
        }
        assert_eq!(FIRST_LINES.lines().count(), 3);
    }
}
