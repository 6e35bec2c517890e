//! Detached JWS (RFC 7515 appendix F) in the two generations that TrueLayer uses, for both ends: sign and verify stand side by side.
//!
//! | generation | header | signs | algorithm |
//! |---|---|---|---|
//! | 1 | `X-TL-Signature` | the body | ES512 from clients, RS512 on the provider's webhooks |
//! | 2 | `Tl-Signature` | method, path, listed headers, body | ES512 only |
//!
//! The value is `b64url(JOSE header) ".." b64url(signature)`, without padding. An ES512 signature is raw `r || s`, 132 bytes.
//! Which keys are trusted, and where they come from, is the caller's: a look-up by `kid` is passed in. Signing takes about 0.15 ms of a core
//! and verifying 0.3 ms, so who verifies for strangers does it off the async threads. Nothing here logs, and no error holds a key, a body or a signature.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA512,
    RSA_PKCS1_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, Method};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Bytes of one coordinate of P-521, and of `r` and `s`.
const P521_LEN: usize = 66;
/// Longest header value that is looked at: an RS512 signature of an 8192-bit key and a long list of headers fit.
const MAX_HEADER_LEN: usize = 8 * 1024;
const MAX_KID_LEN: usize = 128;
const MAX_SIGNED_HEADERS: usize = 32;

/// The two algorithms in use. There is no `none`, and which one a signature may have is decided by its verifier, never by the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// RSASSA-PKCS1-v1_5 with SHA-512; 2048 to 8192 bits.
    Rs512,
}

impl Algorithm {
    /// The name in a JOSE header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es512 => "ES512",
            Self::Rs512 => "RS512",
        }
    }
}

/// Why a text is not a key that can be used here. Says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("no PEM block of a known kind")]
    NotPem,
    #[error("not a P-521 or RSA key in a known encoding")]
    Invalid,
    #[error("a JWK of another type, curve or algorithm")]
    OtherKind,
    #[error("the key could not be made or used")]
    Failed,
}

/// Why a signature was not accepted: what to tell a caller, and what to count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// Not `header..signature` in base64url without padding, no JSON inside, a wrong length, or a `crit` extension.
    #[error("the signature header is malformed: {0}")]
    Malformed(&'static str),
    #[error("no trusted key has this kid")]
    UnknownKey { kid: String },
    #[error("the algorithm is not accepted here, or is not the key's")]
    WrongAlgorithm,
    /// A body-only signature where the whole request must be signed, or the other way round.
    #[error("the signature is of another generation")]
    WrongVersion,
    #[error("the signature lists the header {0:?}, which the request does not have")]
    MissingHeader(String),
    /// Two values: what was signed and what is read could differ.
    #[error("the signature lists the header {0:?}, which the request has more than once")]
    RepeatedHeader(String),
    #[error("the header {0:?} must be signed")]
    UnsignedHeader(String),
    #[error("the signature does not match")]
    Mismatch,
}

/// A private key and the id under which the other side knows its public half.
pub struct SigningKey {
    kid: String,
    pair: Pair,
}

enum Pair {
    Ec(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads the first private key of a PEM text: PKCS#8 (`PRIVATE KEY`), SEC1 (`EC PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`), unencrypted.
    /// Other blocks before it, such as `EC PARAMETERS`, are skipped. An elliptic curve other than P-521 is refused.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPem`] or [`KeyError::Invalid`].
    pub fn from_pem(kid: impl Into<String>, pem: &str) -> Result<Self, KeyError> {
        let (label, der) = first_block(pem, &["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"])?;
        let ec = || EcdsaKeyPair::from_private_key_der(&ECDSA_P521_SHA512_FIXED_SIGNING, &der).map(|key| Pair::Ec(Box::new(key)));
        let pair = match label {
            "EC PRIVATE KEY" => ec(),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).map(|key| Pair::Rsa(Box::new(key))),
            _ => ec().or_else(|_| RsaKeyPair::from_pkcs8(&der).map(|key| Pair::Rsa(Box::new(key)))),
        };
        Ok(Self { kid: kid.into(), pair: pair.map_err(|_| KeyError::Invalid)? })
    }

    /// A new key of the system's random numbers; RSA keys have 2048 bits. An RSA key takes up to a second.
    ///
    /// # Errors
    ///
    /// [`KeyError::Failed`] if the cryptographic library could not make one.
    pub fn generate(kid: impl Into<String>, algorithm: Algorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            Algorithm::Es512 => EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).map(|key| Pair::Ec(Box::new(key))),
            Algorithm::Rs512 => RsaKeyPair::generate(rsa::KeySize::Rsa2048).map(|key| Pair::Rsa(Box::new(key))),
        };
        Ok(Self { kid: kid.into(), pair: pair.map_err(|_| KeyError::Failed)? })
    }

    /// The id that goes into every signature.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Ec(_) => Algorithm::Es512,
            Pair::Rsa(_) => Algorithm::Rs512,
        }
    }

    /// The private key as unencrypted PKCS#8 PEM.
    ///
    /// # Errors
    ///
    /// [`KeyError::Failed`] if it could not be encoded.
    pub fn to_pem(&self) -> Result<SecretString, KeyError> {
        let pem = match &self.pair {
            Pair::Ec(key) => key.to_pkcs8v1().map(|der| pem_block("PRIVATE KEY", der.as_ref())),
            Pair::Rsa(key) => AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&**key).map(|der| pem_block("PRIVATE KEY", der.as_ref())),
        };
        Ok(SecretString::from(pem.map_err(|_| KeyError::Failed)?))
    }

    /// The public half.
    ///
    /// # Errors
    ///
    /// [`KeyError::Failed`] if it could not be encoded.
    pub fn verifying_key(&self) -> Result<VerifyingKey, KeyError> {
        match &self.pair {
            Pair::Ec(key) => VerifyingKey::of_point(key.public_key().as_ref()),
            Pair::Rsa(key) => {
                let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(key.public_key()).map_err(|_| KeyError::Failed)?;
                VerifyingKey::of_spki(der.as_ref())
            }
        }
    }

    /// The value of `X-TL-Signature`: signs exactly these bytes. Providers add `jku`, the address of their public keys; clients do not.
    ///
    /// # Errors
    ///
    /// [`KeyError::Failed`] if the cryptographic library refused.
    pub fn sign_body(&self, body: &[u8], jku: Option<&str>) -> Result<String, KeyError> {
        self.seal(&Jose { jku: jku.map(Into::into), ..Jose::of(self) }, body)
    }

    /// The value of `Tl-Signature`, generation 2: signs method, path, headers (in this order, names spelled as here) and body.
    ///
    /// `path` is absolute and without query. Names must not hold a comma, and neither names nor values a line break: [`http`] sees to that when they are sent.
    ///
    /// # Errors
    ///
    /// [`KeyError::OtherKind`] for an RSA key, [`KeyError::Failed`] if the cryptographic library refused.
    pub fn sign_request(&self, method: &Method, path: &str, headers: &[(&str, &str)], body: &[u8], jku: Option<&str>) -> Result<String, KeyError> {
        if self.algorithm() != Algorithm::Es512 {
            return Err(KeyError::OtherKind);
        }
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
        let jose = Jose { tl_version: Some("2".into()), tl_headers: Some(names), jku: jku.map(Into::into), ..Jose::of(self) };
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
        self.seal(&jose, &request_bytes(method, path, headers, body))
    }

    fn seal(&self, jose: &Jose, payload: &[u8]) -> Result<String, KeyError> {
        let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(jose).map_err(|_| KeyError::Failed)?);
        let input = signing_input(&header, payload);
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(key) => key.sign(&random, &input).map_err(|_| KeyError::Failed)?.as_ref().to_vec(),
            Pair::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA512, &random, &input, &mut signature).map_err(|_| KeyError::Failed)?;
                signature
            }
        };
        Ok(format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A public key, parsed once and used for every verification.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: ParsedPublicKey,
    public: Public,
}

#[derive(Clone, PartialEq, Eq)]
enum Public {
    Ec { x: Vec<u8>, y: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.public == other.public
    }
}

impl Eq for VerifyingKey {}

impl VerifyingKey {
    /// Reads the first `PUBLIC KEY` block (SPKI) of a PEM text: P-521 or RSA.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPem`] or [`KeyError::Invalid`].
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (_, der) = first_block(pem, &["PUBLIC KEY"])?;
        Self::of_spki(&der)
    }

    /// Reads a key of a JWK set. Coordinates shorter than 66 bytes are padded on the left: writers of big integers drop leading zeros.
    ///
    /// # Errors
    ///
    /// [`KeyError::OtherKind`] for another type, curve or `alg`; [`KeyError::Invalid`] for a point off the curve or unreadable numbers.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        let bytes = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| text.len() <= 2048).ok_or(KeyError::Invalid)?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Invalid)
        };
        let is = |alg: Algorithm| jwk.alg.as_deref().is_none_or(|name| name == alg.name());
        match jwk.kty.as_str() {
            "EC" if jwk.crv.as_deref() == Some("P-521") && is(Algorithm::Es512) => {
                let mut point = vec![4];
                for coordinate in [bytes(&jwk.x)?, bytes(&jwk.y)?] {
                    let missing = P521_LEN.checked_sub(coordinate.len()).ok_or(KeyError::Invalid)?;
                    point.extend(std::iter::repeat_n(0, missing));
                    point.extend(coordinate);
                }
                Self::of_point(&point)
            }
            "RSA" if is(Algorithm::Rs512) => {
                let strip = |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
                Self::of_rsa(strip(bytes(&jwk.n)?), strip(bytes(&jwk.e)?))
            }
            _ => Err(KeyError::OtherKind),
        }
    }

    /// The key as SPKI PEM.
    ///
    /// # Errors
    ///
    /// [`KeyError::Failed`] if it could not be encoded.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(&self.key).map_err(|_| KeyError::Failed)?;
        Ok(pem_block("PUBLIC KEY", der.as_ref()))
    }

    /// The key as an entry of a JWK set, with coordinates of full length.
    #[must_use]
    pub fn to_jwk(&self, kid: &str) -> Jwk {
        let text = |bytes: &[u8]| Some(URL_SAFE_NO_PAD.encode(bytes));
        let jwk = Jwk { kid: kid.to_owned(), alg: Some(self.algorithm.name().to_owned()), ..Jwk::default() };
        match &self.public {
            Public::Ec { x, y } => Jwk { kty: "EC".to_owned(), crv: Some("P-521".to_owned()), x: text(x), y: text(y), ..jwk },
            Public::Rsa { n, e } => Jwk { kty: "RSA".to_owned(), n: text(n), e: text(e), ..jwk },
        }
    }

    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    fn of_spki(der: &[u8]) -> Result<Self, KeyError> {
        if let Ok(key) = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, der) {
            // The uncompressed point is the last thing in the document.
            let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(&key).map_err(|_| KeyError::Failed)?;
            let der: &[u8] = der.as_ref();
            let start = der.len().checked_sub(2 * P521_LEN + 1).ok_or(KeyError::Invalid)?;
            return Self::of_point(der.get(start..).ok_or(KeyError::Invalid)?);
        }
        let key = rsa::PublicKey::from_der(der).map_err(|_| KeyError::Invalid)?;
        let number = |positive: aws_lc_rs::io::Positive<'_>| positive.big_endian_without_leading_zero().to_vec();
        Self::of_rsa(number(key.modulus()), number(key.exponent()))
    }

    fn of_point(point: &[u8]) -> Result<Self, KeyError> {
        let [4, coordinates @ ..] = point else { return Err(KeyError::Invalid) };
        if coordinates.len() != 2 * P521_LEN {
            return Err(KeyError::Invalid);
        }
        let (x, y) = coordinates.split_at(P521_LEN);
        let key = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point).map_err(|_| KeyError::Invalid)?;
        Ok(Self { algorithm: Algorithm::Es512, key, public: Public::Ec { x: x.to_vec(), y: y.to_vec() } })
    }

    fn of_rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Self, KeyError> {
        if !(256..=1024).contains(&n.len()) || e.len() > 8 {
            return Err(KeyError::Invalid);
        }
        let components = rsa::PublicKeyComponents { n: &n, e: &e };
        let key = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA512).map_err(|_| KeyError::Invalid)?;
        Ok(Self { algorithm: Algorithm::Rs512, key, public: Public::Rsa { n, e } })
    }
}

/// An entry of a JWK set: the fields of a public P-521 or RSA key. Other fields are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    pub kty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alg: Option<String>,
    #[serde(default)]
    pub kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crv: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub y: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub e: Option<String>,
}

/// A JWK set, as at `/.well-known/jwks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    pub keys: Vec<Jwk>,
}

/// What a generation 2 signature is over.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a Method,
    /// As the signer called it, without query. Mind prefixes that a reverse proxy adds or removes.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// A signature header taken apart, **not yet verified**: what it claims serves to find the key, and for nothing else.
#[derive(Debug)]
pub struct Detached<'a> {
    encoded_header: &'a str,
    jose: Jose,
    signature: Vec<u8>,
}

impl<'a> Detached<'a> {
    /// # Errors
    ///
    /// [`Unverified::Malformed`].
    pub fn parse(header: &'a str) -> Result<Self, Unverified> {
        use Unverified::Malformed;
        if header.len() > MAX_HEADER_LEN {
            return Err(Malformed("too long"));
        }
        let (encoded_header, signature) = header.split_once("..").ok_or(Malformed("not header..signature"))?;
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text);
        let jose = decode(encoded_header).map_err(|_| Malformed("the header is not base64url without padding"))?;
        let signature = decode(signature).map_err(|_| Malformed("the signature is not base64url without padding"))?;
        let jose: Jose = serde_json::from_slice(&jose).map_err(|_| Malformed("the header is not a JOSE header"))?;
        if jose.crit.is_some() {
            return Err(Malformed("critical extensions are not supported"));
        }
        if jose.kid.is_empty() || jose.kid.len() > MAX_KID_LEN {
            return Err(Malformed("kid"));
        }
        Ok(Self { encoded_header, jose, signature })
    }

    /// The key that it claims to be signed with.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.jose.kid
    }

    /// The address that it claims its key is published at. Fetch only from a list of your own.
    #[must_use]
    pub fn jku(&self) -> Option<&str> {
        self.jose.jku.as_deref()
    }

    /// Verifies a generation 1 signature. `accepted` is the only algorithm that may have been used, whatever the header says.
    ///
    /// # Errors
    ///
    /// [`Unverified`] says why not.
    pub fn verify_body(&self, key: &VerifyingKey, accepted: Algorithm, body: &[u8]) -> Result<(), Unverified> {
        self.check_algorithm(key, accepted)?;
        if self.jose.tl_version.is_some() {
            return Err(Unverified::WrongVersion);
        }
        self.check(key, body)
    }

    /// Verifies a generation 2 signature, which must cover at least the headers in `required`. A trailing slash of the path may be there or not.
    ///
    /// # Errors
    ///
    /// [`Unverified`] says why not.
    pub fn verify_request(&self, key: &VerifyingKey, request: &Request<'_>, required: &[&str]) -> Result<(), Unverified> {
        self.check_algorithm(key, Algorithm::Es512)?;
        if self.jose.tl_version.as_deref() != Some("2") {
            return Err(Unverified::WrongVersion);
        }
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        for name in self.jose.tl_headers.as_deref().unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
            // Like the provider's own library: names are compared without case, signed as spelled, and only the first of two counts.
            if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                continue;
            }
            if headers.len() == MAX_SIGNED_HEADERS {
                return Err(Unverified::Malformed("too many signed headers"));
            }
            let mut values = request.headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => headers.push((name, value.as_bytes())),
                (Some(_), Some(_)) => return Err(Unverified::RepeatedHeader(name.to_owned())),
                (None, _) => return Err(Unverified::MissingHeader(name.to_owned())),
            }
        }
        if let Some(name) = required.iter().find(|name| !headers.iter().any(|(signed, _)| signed.eq_ignore_ascii_case(name))) {
            return Err(Unverified::UnsignedHeader((*name).to_owned()));
        }
        let bytes = |path: &str| request_bytes(request.method, path, headers.iter().copied(), request.body);
        self.check(key, &bytes(request.path)).or_else(|error| {
            let toggled = request.path.strip_suffix('/').map_or_else(|| format!("{}/", request.path), ToOwned::to_owned);
            self.check(key, &bytes(&toggled)).map_err(|_| error)
        })
    }

    fn check_algorithm(&self, key: &VerifyingKey, accepted: Algorithm) -> Result<(), Unverified> {
        if self.jose.alg != accepted.name() || key.algorithm != accepted {
            return Err(Unverified::WrongAlgorithm);
        }
        if accepted == Algorithm::Es512 && self.signature.len() != 2 * P521_LEN {
            return Err(Unverified::Malformed("an ES512 signature has 132 bytes"));
        }
        Ok(())
    }

    fn check(&self, key: &VerifyingKey, payload: &[u8]) -> Result<(), Unverified> {
        key.key.verify_sig(&signing_input(self.encoded_header, payload), &self.signature).map_err(|_| Unverified::Mismatch)
    }
}

/// Verifies `X-TL-Signature` over the raw body and returns the `kid` that signed it.
///
/// `key` finds a trusted key by its id; `accepted` is the only algorithm that may have been used.
///
/// # Errors
///
/// [`Unverified`] says why not.
pub fn verify_body(key: impl Fn(&str) -> Option<Arc<VerifyingKey>>, accepted: Algorithm, header: &str, body: &[u8]) -> Result<String, Unverified> {
    let detached = Detached::parse(header)?;
    let found = key(detached.kid()).ok_or_else(|| Unverified::UnknownKey { kid: detached.kid().to_owned() })?;
    detached.verify_body(&found, accepted, body)?;
    Ok(detached.jose.kid)
}

/// Verifies `Tl-Signature`, generation 2, over the whole request and returns the `kid` that signed it. `required` headers must be among the signed ones.
///
/// # Errors
///
/// [`Unverified`] says why not.
pub fn verify_request(
    key: impl Fn(&str) -> Option<Arc<VerifyingKey>>,
    header: &str,
    request: &Request<'_>,
    required: &[&str],
) -> Result<String, Unverified> {
    let detached = Detached::parse(header)?;
    let found = key(detached.kid()).ok_or_else(|| Unverified::UnknownKey { kid: detached.kid().to_owned() })?;
    detached.verify_request(&found, request, required)?;
    Ok(detached.jose.kid)
}

/// The JOSE header. The order of the fields is that of the official library's output.
#[derive(Debug, Serialize, Deserialize)]
struct Jose {
    alg: String,
    kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tl_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tl_headers: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jku: Option<String>,
    #[serde(default, skip_serializing)]
    crit: Option<serde::de::IgnoredAny>,
}

impl Jose {
    fn of(key: &SigningKey) -> Self {
        Self { alg: key.algorithm().name().to_owned(), kid: key.kid.clone(), tl_version: None, tl_headers: None, jku: None, crit: None }
    }
}

fn signing_input(encoded_header: &str, payload: &[u8]) -> Vec<u8> {
    let mut input = String::with_capacity(encoded_header.len().saturating_add(payload.len().saturating_mul(2)));
    input.push_str(encoded_header);
    input.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut input);
    input.into_bytes()
}

fn request_bytes<'a>(method: &Method, path: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path}\n").into_bytes();
    for (name, value) in headers {
        bytes.extend(name.as_bytes());
        bytes.extend(b": ");
        bytes.extend(value);
        bytes.push(b'\n');
    }
    bytes.extend(body);
    bytes
}

/// The first block with one of the labels, decoded.
fn first_block<'a>(pem: &str, labels: &[&'a str]) -> Result<(&'a str, Vec<u8>), KeyError> {
    let found = labels.iter().filter_map(|label| {
        let begin = format!("-----BEGIN {label}-----");
        let start = pem.find(&begin)?;
        Some((start, start.saturating_add(begin.len()), *label))
    });
    let (_, start, label) = found.min().ok_or(KeyError::NotPem)?;
    let rest = pem.get(start..).ok_or(KeyError::NotPem)?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or(KeyError::NotPem)?;
    let text: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    Ok((label, STANDARD.decode(text).map_err(|_| KeyError::NotPem)?))
}

fn pem_block(label: &str, der: &[u8]) -> String {
    let mut pem = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

#[cfg(test)]
mod tests;
