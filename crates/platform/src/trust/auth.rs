//! Tokens: JWTs that callers present and that services sign for each other.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::call::{Caller, SYSTEM};
use crate::clock::system_micros;
use crate::error::Error;
use crate::jwk::pkcs8;
use crate::name::is_id;
use crate::text::is_unseen;

/// The audience of every token.
pub const AUDIENCE: &str = "octroi";
/// How long a service's own token is valid.
const SERVICE_TOKEN: Duration = Duration::from_secs(600);
/// How far, in seconds, an issuer's clock may be ahead of ours.
const SKEW: i64 = 30;
/// How many verified tokens are remembered. When they are that many, whoever has the most of them loses theirs, so that
/// nobody makes the service forget another's.
const REMEMBERED: usize = 1024;

/// What a token says beside its issuer and its audience.
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

    /// Signs a token for a subject with scopes, perhaps bound to an account.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails.
    pub fn sign(
        &self,
        subject: &str,
        scope: &str,
        account: Option<&str>,
        valid: Duration,
    ) -> Result<String, Error> {
        let valid = i64::try_from(valid.as_secs()).unwrap_or(i64::MAX);
        let until = (system_micros() / 1_000_000).saturating_add(valid);
        self.sign_until(subject, scope, account, until)
    }

    /// [`Self::sign`] for a token that ends at an instant, in seconds since 1970.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails.
    pub fn sign_until(
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
        let now = system_micros() / 1_000_000;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1 <= now {
            let token = self
                .signer
                .sign(&self.subject, "service", None, SERVICE_TOKEN)?;
            let half = i64::try_from(SERVICE_TOKEN.as_secs() / 2).unwrap_or_default();
            *current = (token, now + half);
        }
        Ok(current.0.clone())
    }
}

/// Believes tokens signed by the keys of a JWKS.
pub struct Verifier {
    keys: HashMap<String, (DecodingKey, Algorithm)>,
    issuer: String,
    remembered: Mutex<HashMap<String, (Caller, i64)>>,
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
            remembered: Mutex::default(),
        })
    }

    /// The caller that a token stands for.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], with words that a stranger learns nothing from.
    pub fn verify(&self, token: &str) -> Result<Caller, Error> {
        let now = system_micros() / 1_000_000;
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .filter(|(_, until)| *until > now)
            .map(|(caller, _)| caller.clone());
        if let Some(caller) = remembered {
            return Ok(caller);
        }
        let (caller, until) = self.check(token).ok_or_else(|| {
            Error::Unauthenticated("the token is malformed, expired or not trusted".to_owned())
        })?;
        let mut memory = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if memory.len() >= REMEMBERED {
            let mut owners: HashMap<_, usize> = HashMap::new();
            for (caller, _) in memory.values() {
                *owners.entry(owner(caller)).or_default() += 1;
            }
            let most = owners.into_iter().max_by_key(|(_, tokens)| *tokens);
            if let Some(most) = most.map(|((bound, name), _)| (bound, name.to_owned())) {
                memory.retain(|_, (caller, _)| owner(caller) != (most.0, most.1.as_str()));
            }
        }
        memory.insert(token.to_owned(), (caller.clone(), until));
        Ok(caller)
    }

    fn check(&self, token: &str) -> Option<(Caller, i64)> {
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
        // What the services do by themselves goes by this name. The audit shows it to people.
        if claims.sub == SYSTEM || claims.sub.contains(is_unseen) {
            return None;
        }
        let now = system_micros() / 1_000_000;
        if claims.nbf.is_some_and(|from| from > now + SKEW) {
            return None;
        }
        let scopes: BTreeSet<String> = claims
            .scope
            .split_ascii_whitespace()
            .map(ToOwned::to_owned)
            .collect();
        let caller = Caller {
            subject: claims.sub,
            account: claims.account,
            scopes: Arc::new(scopes),
        };
        Some((caller, claims.exp))
    }
}

/// Whose tokens are counted together: an account's, or those of a subject that is bound to none.
fn owner(caller: &Caller) -> (bool, &str) {
    match &caller.account {
        Some(account) => (true, account),
        None => (false, &caller.subject),
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
            json!({"aud": "others"}),
            json!({"iss": "others"}),
            json!({"account": "accounts/acme"}),
        ] {
            assert!(caller(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nobody_makes_the_memory_forget_anothers_tokens() {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x});
        let verifier = Verifier::new(json!({"keys": [jwk]}).to_string().as_bytes(), "us").unwrap();
        let remembered = |token: &str| verifier.remembered.lock().unwrap().contains_key(token);
        let others: Vec<_> = [json!({"sub": "ops"}), json!({"account": "acme"})]
            .into_iter()
            .map(|claims| token(&key, claims))
            .collect();
        for other in &others {
            verifier.verify(other).unwrap();
        }
        // Each is another token, whatever the subject says.
        for at in 0..2 * REMEMBERED {
            let sub = format!("robot-{at}");
            let one = token(&key, json!({"account": "other", "sub": sub}));
            verifier.verify(&one).unwrap();
            assert!(remembered(&one));
        }
        assert!(others.iter().all(|other| remembered(other)));
        assert!(verifier.remembered.lock().unwrap().len() <= REMEMBERED);
    }
}
