//! Tokens: JWTs that callers present and that services sign for each other.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{self, SHA256, SHA256_OUTPUT_LEN};
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
/// How many tokens are known as verified, and how long each may be: a few MiB at most.
const MOST_VERIFIED: usize = 4096;
const LONGEST_VERIFIED: usize = 1024;

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
pub struct Verifier {
    keys: HashMap<String, (DecodingKey, Algorithm)>,
    issuer: String,
    /// Of these keys alone: other keys are another verifier's, which has verified nothing yet.
    verified: Mutex<Verified>,
}

/// Tokens whose signatures were verified, by the SHA-256 of each, since a signature takes longer than all else that
/// admits a call. Half of them are forgotten when the other half is full.
#[derive(Default)]
struct Verified {
    recent: HashMap<Digest, Arc<Believed>>,
    earlier: HashMap<Digest, Arc<Believed>>,
}

type Digest = [u8; SHA256_OUTPUT_LEN];

/// A caller, and from and until when the token is valid, in seconds since 1970.
struct Believed {
    caller: Caller,
    nbf: Option<i64>,
    exp: i64,
}

impl Verified {
    fn find(&mut self, digest: &Digest) -> Option<Arc<Believed>> {
        if let Some(believed) = self.recent.get(digest) {
            return Some(Arc::clone(believed));
        }
        let believed = self.earlier.remove(digest)?;
        self.keep(*digest, Arc::clone(&believed));
        Some(believed)
    }

    fn keep(&mut self, digest: Digest, believed: Arc<Believed>) {
        if self.recent.len() >= MOST_VERIFIED / 2 {
            self.earlier = std::mem::take(&mut self.recent);
        }
        self.recent.insert(digest, believed);
    }
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
            verified: Mutex::default(),
        })
    }

    /// The caller that a token stands for.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`], with a message that reveals nothing.
    pub fn verify(&self, token: &str) -> Result<Caller, Error> {
        self.verify_at(token, system_seconds()).ok_or_else(|| {
            Error::Unauthenticated("the token is malformed, expired or not trusted".to_owned())
        })
    }

    fn verify_at(&self, token: &str, now: i64) -> Option<Caller> {
        let mut digest = Digest::default();
        digest.copy_from_slice(digest::digest(&SHA256, token.as_bytes()).as_ref());
        let known = self.verified().find(&digest);
        let believed = match known {
            Some(known) => known,
            None => {
                let believed = Arc::new(self.check(token)?);
                if token.len() <= LONGEST_VERIFIED {
                    self.verified().keep(digest, Arc::clone(&believed));
                }
                believed
            }
        };
        let begun = believed.nbf.is_none_or(|nbf| nbf <= now + SKEW);
        (begun && now <= believed.exp).then(|| believed.caller.clone())
    }

    fn verified(&self) -> MutexGuard<'_, Verified> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom a token stands for by its signature and its claims, whatever the time.
    fn check(&self, token: &str) -> Option<Believed> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let (key, algorithm) = self.keys.get(header.kid.as_deref()?)?;
        let mut validation = Validation::new(*algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_exp = false;
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
        let scopes: BTreeSet<String> = claims
            .scope
            .split_ascii_whitespace()
            .map(ToOwned::to_owned)
            .collect();
        Some(Believed {
            caller: Caller {
                subject: claims.sub,
                account: claims.account,
                scopes: Arc::new(scopes),
            },
            nbf: claims.nbf,
            exp: claims.exp,
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

    /// A key, and who believes what it signs.
    fn pair() -> (EncodingKey, Verifier) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let key = EncodingKey::from_ed_der(pair.to_pkcs8v1().unwrap().as_ref());
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x});
        let jwks = json!({"keys": [jwk]}).to_string();
        (key, Verifier::new(jwks.as_bytes(), "us").unwrap())
    }

    #[test]
    fn claims_are_believed_as_the_standard_has_them() {
        let (key, verifier) = pair();
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

    #[test]
    fn what_was_verified_once_is_not_believed_for_ever() {
        let (key, verifier) = pair();
        let now = system_seconds();
        let good = token(&key, json!({"nbf": now, "exp": now + 60}));
        let known = |at| verifier.verify_at(&good, at).is_some();
        for _ in 0..2 {
            assert!(known(now) && known(now + 60) && known(now - SKEW));
            assert!(!known(now + 61) && !known(now - SKEW - 1));
        }
        assert_eq!(verifier.verified().recent.len(), 1);
        // The same claims with other bytes in the signature's place, or the same signature for other claims.
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let another = token(&key, json!({"nbf": now, "exp": now + 61}));
        let (others, _) = another.rsplit_once('.').unwrap();
        let turned: String = signature.chars().rev().collect();
        for bad in [
            format!("{signed}.{turned}"),
            format!("{others}.{signature}"),
        ] {
            assert!(verifier.verify(&bad).is_err(), "{bad}");
        }
        // After its key was taken away.
        let (_, without) = pair();
        assert!(without.verify(&good).is_err());
    }

    #[test]
    fn so_many_tokens_are_known_and_no_more() {
        let (key, verifier) = pair();
        let long = token(&key, json!({"scope": "a".repeat(LONGEST_VERIFIED)}));
        assert!(verifier.verify(&long).is_ok());
        assert!(verifier.verified().recent.is_empty());
        let mut verified = verifier.verified();
        let believed = Arc::new(verifier.check(&long).unwrap());
        let digest = |number: usize| {
            let mut digest = Digest::default();
            digest[..8].copy_from_slice(&number.to_be_bytes());
            digest
        };
        for number in 0..3 * MOST_VERIFIED {
            verified.keep(digest(number), Arc::clone(&believed));
            // One that is used stays, whatever comes.
            assert!(verified.find(&digest(0)).is_some(), "{number}");
            assert!(verified.recent.len() + verified.earlier.len() <= MOST_VERIFIED);
        }
        assert!(verified.find(&digest(1)).is_none());
    }
}
