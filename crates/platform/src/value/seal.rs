//! Secrets sealed at rest and on their way: AES-256-GCM as {key id, nonce, ciphertext}, bound to account, event and
//! purpose.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::error::Error;

/// The keys that seal and open: the first seals, all open.
pub struct SealingKeys(Vec<(u8, RandomizedNonceKey)>);

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKeys")
    }
}

impl SealingKeys {
    /// Reads lines of "id:base64", id from 0 to 255 and 32 bytes of key. A new key is put first and the old ones stay
    /// as long as anything sealed with them lives.
    ///
    /// # Errors
    /// What is wrong, without the key.
    pub fn parse(text: &SecretString) -> Result<Self, String> {
        let mut keys = Vec::new();
        for line in text.expose_secret().lines().filter(|line| !line.is_empty()) {
            let (id, key) = line.split_once(':').ok_or("a line is not \"id:base64\"")?;
            let id: u8 = id.parse().map_err(|_| "a key's id is not 0 to 255")?;
            let key = STANDARD
                .decode(key.trim())
                .map_err(|_| "a key is not base64")?;
            let key = RandomizedNonceKey::new(&AES_256_GCM, &key)
                .map_err(|_| "a key is not 32 bytes long")?;
            keys.push((id, key));
        }
        if keys.is_empty() {
            return Err("there is no key".to_owned());
        }
        Ok(Self(keys))
    }

    /// Seals a secret for an event and a purpose.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system has no randomness.
    pub fn seal(
        &self,
        plain: &SecretString,
        account: &str,
        event: Uuid,
        purpose: &str,
    ) -> Result<Vec<u8>, Error> {
        let failed = || Error::Internal(anyhow::anyhow!("sealing failed"));
        let (id, key) = self.0.first().ok_or_else(failed)?;
        let mut text = plain.expose_secret().as_bytes().to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(bound(account, event, purpose)), &mut text)
            .map_err(|_| failed())?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + text.len());
        sealed.push(*id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what [`SealingKeys::seal`] made for the same account, event and purpose.
    ///
    /// # Errors
    /// [`Error::Internal`] when the key is gone or anything differs.
    pub fn open(
        &self,
        sealed: &[u8],
        account: &str,
        event: Uuid,
        purpose: &str,
    ) -> Result<SecretString, Error> {
        let failed = || Error::Internal(anyhow::anyhow!("a sealed secret does not open"));
        let (id, rest) = sealed.split_first().ok_or_else(failed)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or_else(failed)?;
        let (_, key) = self
            .0
            .iter()
            .find(|(own, _)| own == id)
            .ok_or_else(failed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed())?;
        let mut text = text.to_vec();
        let plain = key
            .open_in_place(nonce, Aad::from(bound(account, event, purpose)), &mut text)
            .map_err(|_| failed())?;
        let plain = std::str::from_utf8(plain).map_err(|_| failed())?;
        Ok(SecretString::from(plain))
    }
}

fn bound(account: &str, event: Uuid, purpose: &str) -> Vec<u8> {
    let mut bound = Vec::with_capacity(account.len() + purpose.len() + 18);
    for part in [account.as_bytes(), event.as_bytes(), purpose.as_bytes()] {
        bound.extend_from_slice(part);
        bound.push(0);
    }
    bound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_for_its_own_account_event_and_purpose_alone() {
        let line = format!("1:{}", STANDARD.encode([7; 32]));
        let keys = SealingKeys::parse(&line.into()).unwrap();
        let event = Uuid::from_u128(5);
        let sealed = keys.seal(&"geheim".into(), "a", event, "p").unwrap();
        let plain = keys.open(&sealed, "a", event, "p").unwrap();
        assert_eq!(plain.expose_secret(), "geheim");
        for (account, event, purpose) in [
            ("b", event, "p"),
            ("a", Uuid::nil(), "p"),
            ("a", event, "q"),
        ] {
            assert!(keys.open(&sealed, account, event, purpose).is_err());
        }
    }
}
