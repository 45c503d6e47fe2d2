//! Signing keys: read from PKCS#8 in PEM, published as a JWK.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// The public half of an Ed25519 key (PKCS#8 PEM) as a JWK.
///
/// # Errors
/// What is wrong, without the key.
pub fn public_jwk(pem: &[u8]) -> Result<serde_json::Value, String> {
    let public = public_key(pem)?;
    Ok(serde_json::json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": key_id(pem)?,
        "x": URL_SAFE_NO_PAD.encode(public),
    }))
}

/// The id of a key: a hash of its public half.
///
/// # Errors
/// What is wrong, without the key.
pub fn key_id(pem: &[u8]) -> Result<String, String> {
    let public = public_key(pem)?;
    let hash = digest::digest(&digest::SHA256, &public);
    Ok(URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]))
}

fn public_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let (_, pair) = pkcs8(pem)?;
    Ok(pair.public_key().as_ref().to_vec())
}

/// The PKCS#8 document of an Ed25519 key in PEM, and the key.
///
/// # Errors
/// What is wrong, without the key.
pub(crate) fn pkcs8(pem: &[u8]) -> Result<(Vec<u8>, Ed25519KeyPair), String> {
    let lines = str::from_utf8(pem).unwrap_or_default().lines();
    let body: String = lines
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = STANDARD.decode(body).unwrap_or_default();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
        .map_err(|_| "is not an Ed25519 private key in PKCS#8 PEM")?;
    Ok((der, pair))
}
