//! Tokens: JWTs that callers present and that services sign for each other.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::call::{Caller, SERVICE_SCOPE, SYSTEM};
use crate::clock::system_seconds;
use crate::error::Error;
use crate::jwk::pkcs8;
use crate::name::is_id;
use crate::text::is_unseen;

/// The audience of every token.
pub const AUDIENCE: &str = "octroi";
/// How long a service's own token is valid.
const SERVICE_TOKEN: i64 = 600;
/// The longest subject that a token may have, in bytes.
const MOST_SUBJECT: usize = 256;
/// How far, in seconds, an issuer's clock may be ahead of ours.
const SKEW: i64 = 30;
/// A token's claims beside issuer and audience.
#[derive(Serialize, Deserialize)]
struct Claims {
    /// Who it is about: "operator", "service:licensing", and so on.
    sub: String,
    /// Until when, in seconds since 1970.
    exp: i64,
    /// From when, in seconds since 1970; absent for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    /// Scopes, separated by spaces.
    #[serde(default)]
    scope: String,
    /// Id of the only account that it may touch; absent for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<String>,
}

/// A token of our own making.
#[derive(Serialize)]
struct Token<'a> {
    iss: &'a str,
    aud: &'a str,
    #[serde(flatten)]
    claims: Claims,
}

/// Signs tokens with an Ed25519 key.
pub struct Signer {
    key: EncodingKey,
    kid: String,
    issuer: String,
}

impl Signer {
    /// From an Ed25519 key, as a PKCS#8 document in PEM.
    ///
    /// # Errors
    /// What is wrong, without the key.
    pub fn new(pem: &[u8], kid: &str, issuer: &str) -> Result<Self, String> {
        Ok(Self {
            key: EncodingKey::from_ed_der(&pkcs8(pem)?.0),
            kid: kid.to_owned(),
            issuer: issuer.to_owned(),
        })
    }

    /// Signs a token for a subject with scopes, perhaps bound to an account, that ends at an instant in seconds since
    /// 1970.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails.
    pub fn sign(
        &self,
        subject: &str,
        scope: &str,
        account: Option<&str>,
        until: i64,
    ) -> Result<String, Error> {
        let token = Token {
            iss: &self.issuer,
            aud: AUDIENCE,
            claims: Claims {
                sub: subject.to_owned(),
                exp: until,
                nbf: None,
                scope: scope.to_owned(),
                account: account.map(ToOwned::to_owned),
            },
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, &token, &self.key)
            .map_err(|error| Error::Internal(error.into()))
    }
}

/// A service's own token, signed anew before it ends.
pub struct ServiceToken {
    signer: Signer,
    subject: String,
    current: Mutex<(String, i64)>,
}

impl ServiceToken {
    /// The tokens of a service.
    pub fn new(signer: Signer, service: &str) -> Self {
        Self {
            signer,
            subject: format!("service:{service}"),
            current: Mutex::new((String::new(), 0)),
        }
    }

    /// A token that is valid for a few minutes at least.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails.
    pub fn get(&self) -> Result<String, Error> {
        let now = system_seconds();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1 <= now {
            let until = now + SERVICE_TOKEN;
            let token = self
                .signer
                .sign(&self.subject, SERVICE_SCOPE, None, until)?;
            *current = (token, now + SERVICE_TOKEN / 2);
        }
        Ok(current.0.clone())
    }
}

/// Believes tokens signed by the keys of a JWKS.
#[derive(Clone)]
pub struct Verifier {
    keys: HashMap<String, (DecodingKey, Algorithm)>,
    issuer: String,
}

impl Verifier {
    /// From a JWKS document. Keys of other kinds than EdDSA, ES256 and RS256 are left out.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub fn new(jwks: &[u8], issuer: &str) -> Result<Self, String> {
        let set: JwkSet =
            serde_json::from_slice(jwks).map_err(|error| format!("is not a JWKS: {error}"))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let algorithm = match &jwk.algorithm {
                AlgorithmParameters::OctetKeyPair(_) => Algorithm::EdDSA,
                AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                    Algorithm::ES256
                }
                AlgorithmParameters::RSA(_) => Algorithm::RS256,
                _ => continue,
            };
            let Some(kid) = &jwk.common.key_id else {
                continue;
            };
            let key = DecodingKey::from_jwk(jwk)
                .map_err(|error| format!("holds a key that cannot be used: {error}"))?;
            keys.insert(kid.clone(), (key, algorithm));
        }
        if keys.is_empty() {
            return Err("holds no usable key with a kid".to_owned());
        }
        Ok(Self {
            keys,
            issuer: issuer.to_owned(),
        })
    }

    /// The caller that a token stands for.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], with a message that reveals nothing.
    pub fn verify(&self, token: &str) -> Result<Caller, Error> {
        self.check(token).ok_or_else(|| {
            Error::Unauthenticated("the token is malformed, expired or not trusted".to_owned())
        })
    }

    fn check(&self, token: &str) -> Option<Caller> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let (key, algorithm) = self.keys.get(header.kid.as_deref()?)?;
        let mut validation = Validation::new(*algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation)
            .ok()?
            .claims;
        // Bound to something that is no account, it would find nothing anywhere.
        if claims.account.as_deref().is_some_and(|id| !is_id(id)) {
            return None;
        }
        // What the services do by themselves goes by this name. The audit and every line of the log show it to people.
        if claims.sub == SYSTEM || claims.sub.len() > MOST_SUBJECT || claims.sub.contains(is_unseen)
        {
            return None;
        }
        if claims
            .nbf
            .is_some_and(|from| from > system_seconds() + SKEW)
        {
            return None;
        }
        let scopes: BTreeSet<String> = claims
            .scope
            .split_ascii_whitespace()
            .map(ToOwned::to_owned)
            .collect();
        Some(Caller {
            subject: claims.sub,
            account: claims.account,
            scopes: Arc::new(scopes),
        })
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    /// Signs claims over those of a good token, where null takes one away.
    fn token(key: &EncodingKey, claims: Value) -> String {
        let mut all = json!({
            "iss": "us", "aud": "octroi", "sub": "someone", "exp": 4_000_000_000_i64, "scope": "a b",
        });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        all.as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some("k".to_owned());
        jsonwebtoken::encode(&header, &all, key).unwrap()
    }

    #[test]
    fn claims_are_believed_as_the_standard_has_them() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x});
        let verifier = Verifier::new(json!({"keys": [jwk]}).to_string().as_bytes(), "us").unwrap();
        let caller = |claims| verifier.verify(&token(&key, claims));

        let plain = caller(json!({"account": "acme", "nbf": 0})).unwrap();
        assert!(plain.has_scope("a") && plain.has_scope("b") && !plain.has_scope("c"));
        assert_eq!(plain.account.as_deref(), Some("acme"));
        assert!(caller(json!({"aud": ["others", "octroi"]})).is_ok());
        assert!(!caller(json!({"scope": null})).unwrap().has_scope("a"));
        for wrong in [
            json!({"nbf": 4_000_000_000_i64}),
            json!({"exp": 1}),
            json!({"exp": null}),
            json!({"sub": null}),
            json!({"sub": "some\none"}),
            json!({"sub": "a".repeat(MOST_SUBJECT + 1)}),
            json!({"aud": "others"}),
            json!({"iss": "others"}),
            json!({"account": "accounts/acme"}),
        ] {
            assert!(caller(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
