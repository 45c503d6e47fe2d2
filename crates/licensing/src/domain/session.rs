//! Sessions of the portal and their tokens.

use jiff::{SignedDuration, Timestamp};
use octroi_platform::name::Name as _;
use secrecy::SecretString;
use uuid::Uuid;

use crate::domain::license::LicenseId;

/// How long a session lasts, in business time.
pub(crate) const LIFETIME: SignedDuration = SignedDuration::from_hours(12);

pub(crate) const SECRET_BYTES: usize = 32;

/// The value of `octroi-session`: "acme.office.1.{session}.{secret}". It names the account, so that the shard is known
/// before anything is read; the secret alone proves it.
pub(crate) struct Token {
    pub(crate) license: LicenseId,
    pub(crate) session: Uuid,
    pub(crate) secret: [u8; SECRET_BYTES],
}

impl Token {
    /// Reads a token; none when it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let license = [parts.next()?, parts.next()?, parts.next()?];
        let license = license.iter().all(|id| !id.is_empty()).then_some(license)?;
        let license = LicenseId::of(&license)?;
        let session = Uuid::try_parse(parts.next()?).ok()?;
        let secret = from_hex(parts.next()?)?;
        parts.next().is_none().then_some(Self {
            license,
            session,
            secret,
        })
    }

    /// The token as the user's browser keeps it.
    pub(crate) fn to_text(&self) -> SecretString {
        let LicenseId { group, number } = &self.license;
        let (account, group) = (group.account.as_str(), &group.id);
        let session = self.session.simple();
        let secret: String = self
            .secret
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        SecretString::from(format!("{account}.{group}.{number}.{session}.{secret}"))
    }
}

fn from_hex(text: &str) -> Option<[u8; SECRET_BYTES]> {
    if text.len() != 2 * SECRET_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; SECRET_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    pub(crate) created_at: Timestamp,
    /// The first instant at which it is no longer valid.
    pub(crate) expires_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl Session {
    pub(crate) fn begin(id: Uuid, now: Timestamp) -> Self {
        Self {
            id,
            created_at: now,
            expires_at: now.saturating_add(LIFETIME).unwrap_or(Timestamp::MAX),
            revoked_at: None,
        }
    }

    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    proptest! {
        #[test]
        fn a_token_reads_as_it_was_written(
            account in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?", group in "[a-z]([a-z0-9-]{0,20}[a-z0-9])?",
            number in 1..i32::MAX, session: u128, secret: [u8; SECRET_BYTES],
        ) {
            let license = LicenseId::of(&[&account, &group, &number.to_string()]).unwrap();
            let token = Token { license: license.clone(), session: Uuid::from_u128(session), secret };
            let text = token.to_text();
            prop_assert!(text.expose_secret().bytes().all(|byte| byte.is_ascii_graphic()));
            let read = Token::parse(text.expose_secret()).unwrap();
            prop_assert_eq!(read.license, license);
            prop_assert_eq!(read.session, token.session);
            prop_assert_eq!(read.secret, secret);
            let longer = format!("{}0", text.expose_secret());
            prop_assert!(Token::parse(&longer).is_none());
        }

        #[test]
        fn anything_else_is_no_token(text in "\\PC{0,120}|[a-z.0-9]{0,150}") {
            if let Some(token) = Token::parse(&text) {
                prop_assert!(token.license.number > 0);
            }
        }
    }

    #[test]
    fn a_session_opens_for_twelve_hours() {
        let now = Timestamp::UNIX_EPOCH;
        let session = Session::begin(Uuid::nil(), now);
        let end = now + LIFETIME;
        assert!(session.is_open(now));
        assert!(session.is_open(end - SignedDuration::from_micros(1)));
        assert!(!session.is_open(end));
        let ended = Session {
            revoked_at: Some(now),
            ..session
        };
        assert!(!ended.is_open(now));
    }

    #[test]
    fn every_part_of_a_token_is_needed_and_nothing_else() {
        let session = Uuid::nil().simple().to_string();
        let secret = "0f".repeat(SECRET_BYTES);
        let token = |parts: &[&str]| Token::parse(&parts.join("."));
        assert!(token(&["acme", "office", "1", &session, &secret]).is_some());
        let bad_secrets = [
            "0f".repeat(SECRET_BYTES - 1),
            "+f".repeat(SECRET_BYTES),
            "é".repeat(SECRET_BYTES),
        ];
        for bad in [
            &["", "office", "1", &session, &secret][..],
            &["acme", "", "1", &session, &secret],
            &["acme", "office", "0", &session, &secret],
            &["acme", "office", "-1", &session, &secret],
            &["acme", "office", "1", "x", &secret],
            &["acme", "office", "1", &session, &bad_secrets[0]],
            &["acme", "office", "1", &session, &bad_secrets[1]],
            &["acme", "office", "1", &session, &bad_secrets[2]],
            &["acme", "office", "1", &session, &secret, ""],
            &["acme", "office", "1", &session],
        ] {
            assert!(token(bad).is_none(), "{bad:?}");
        }
    }
}
