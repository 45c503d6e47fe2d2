//! The keys of a service, read from its files.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octroi_platform::auth::{ServiceToken, Signer, Verifier};
use octroi_platform::jwk::key_id;
use octroi_platform::seal::SealingKeys;
use secrecy::SecretString;

use crate::settings::Settings;

/// The keys of a service.
pub struct Keys {
    /// Verifies callers' tokens.
    pub(crate) verifier: Arc<Verifier>,
    /// Signs our own tokens.
    pub(crate) token: Arc<ServiceToken>,
    /// For request fingerprints.
    pub(crate) fingerprint: Arc<hmac::Key>,
    /// Seals and opens passwords; given to licensing and notification only.
    pub sealing: Option<Arc<SealingKeys>>,
}

impl Keys {
    /// Reads every key file; the error names each bad one. `seals` says why a service needs sealing keys.
    pub(crate) fn read(
        settings: &Settings,
        service: &str,
        seals: Option<&str>,
    ) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        if let (Some(why), None) = (seals, &settings.sealing_keys_file) {
            wrong.push(format!("--sealing-keys-file is missing: {why}"));
        }
        let issuer = &settings.issuer;
        let verifier = read("--jwks-file", &settings.jwks_file, &mut wrong, |jwks| {
            Verifier::new(jwks, issuer)
        });
        let signing = &settings.signing_key_file;
        let signer = read("--signing-key-file", signing, &mut wrong, |pem| {
            Signer::new(pem, &key_id(pem)?, issuer)
        });
        let fingerprint = &settings.fingerprint_key_file;
        let fingerprint = read("--fingerprint-key-file", fingerprint, &mut wrong, |text| {
            let key = STANDARD.decode(text.trim_ascii()).unwrap_or_default();
            match key.len() {
                32 => Ok(hmac::Key::new(hmac::HMAC_SHA256, &key)),
                _ => Err("is not 32 bytes in base64".to_owned()),
            }
        });
        let sealing = settings.sealing_keys_file.as_ref().and_then(|file| {
            read("--sealing-keys-file", file, &mut wrong, |text| {
                SealingKeys::parse(&SecretString::from(&*String::from_utf8_lossy(text)))
            })
        });
        match (verifier, signer, fingerprint) {
            (Some(verifier), Some(signer), Some(fingerprint)) if wrong.is_empty() => Ok(Self {
                verifier: Arc::new(verifier),
                token: Arc::new(ServiceToken::new(signer, service)),
                fingerprint: Arc::new(fingerprint),
                sealing: sealing.map(Arc::new),
            }),
            _ => Err(wrong),
        }
    }
}

/// Reads a file, and adds what is wrong with it to the list.
fn read<T>(
    flag: &str,
    file: &Path,
    wrong: &mut Vec<String>,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Option<T> {
    let read = std::fs::read(file).map_err(|error| error.to_string());
    let parsed = read.and_then(|text| parse(&text));
    parsed
        .map_err(|why| wrong.push(format!("{flag} {}: {why}", file.display())))
        .ok()
}
