use std::sync::LazyLock;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair as Ecdsa};
use http::HeaderValue;
use secrecy::ExposeSecret as _;

use super::*;

const KID: &str = "1f1a6d1e-6f3a-4c56-9a36-0f0a4c2a7f11";
const BODY: &[u8] = br#"{"currency":"GBP","max_amount_in_minor":5000000,"name":"Foo\u00f6"}"#;
const PATH: &str = "/merchant_accounts/a61acaef-ee05-4077-92f3-25543a11bd8d/sweeping";

static EC: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(KID, Algorithm::Es512).expect("an EC key"));
static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(KID, Algorithm::Rs512).expect("an RSA key"));

fn lookup(key: &SigningKey) -> impl Fn(&str) -> Option<Arc<VerifyingKey>> {
    let public = Arc::new(key.verifying_key().expect("a public key"));
    move |kid| (kid == KID).then(|| Arc::clone(&public))
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

fn jose(value: &str) -> String {
    let (header, _) = value.split_once("..").expect("detached");
    String::from_utf8(URL_SAFE_NO_PAD.decode(header).expect("base64url")).expect("text")
}

/// Replaces the JOSE header and keeps the signature.
fn with_jose(value: &str, jose: &str) -> String {
    let (_, signature) = value.split_once("..").expect("detached");
    format!("{}..{signature}", URL_SAFE_NO_PAD.encode(jose))
}

/// A body-only signature verifies over exactly its bytes, with exactly its algorithm and key.
#[test]
fn body_signatures() {
    for (key, algorithm) in [(&*EC, Algorithm::Es512), (&*RSA, Algorithm::Rs512)] {
        let value = key.sign_body(BODY, None).expect("signs");
        assert_eq!(jose(&value), format!(r#"{{"alg":"{}","kid":"{KID}"}}"#, algorithm.name()));
        assert!(!value.contains('='));
        assert_eq!(verify_body(lookup(key), algorithm, &value, BODY), Ok(KID.to_owned()));

        let mut longer = BODY.to_vec();
        longer.push(b'\n');
        assert_eq!(verify_body(lookup(key), algorithm, &value, &longer), Err(Unverified::Mismatch));
        assert_eq!(verify_body(|_| None, algorithm, &value, BODY), Err(Unverified::UnknownKey { kid: KID.to_owned() }));
    }
    let value = EC.sign_body(BODY, Some("https://keys.test/jwks")).expect("signs");
    assert_eq!(Detached::parse(&value).expect("parses").jku(), Some("https://keys.test/jwks"));
    let (_, signature) = value.split_once("..").expect("detached");
    assert_eq!(URL_SAFE_NO_PAD.decode(signature).expect("base64url").len(), 132);
}

/// The algorithm is the verifier's choice: neither a header that lies nor a key of the other kind gets through.
#[test]
fn algorithms_are_not_confused() {
    let ec = EC.sign_body(BODY, None).expect("signs");
    let rsa = RSA.sign_body(BODY, None).expect("signs");
    assert_eq!(verify_body(lookup(&EC), Algorithm::Rs512, &ec, BODY), Err(Unverified::WrongAlgorithm));
    assert_eq!(verify_body(lookup(&RSA), Algorithm::Es512, &rsa, BODY), Err(Unverified::WrongAlgorithm));
    assert_eq!(verify_body(lookup(&RSA), Algorithm::Es512, &ec, BODY), Err(Unverified::WrongAlgorithm));
    for alg in ["none", "HS512", "RS512", "es512", ""] {
        let forged = with_jose(&ec, &format!(r#"{{"alg":"{alg}","kid":"{KID}"}}"#));
        assert_eq!(verify_body(lookup(&EC), Algorithm::Es512, &forged, BODY), Err(Unverified::WrongAlgorithm), "{alg}");
    }
    // An RS512 signature of generation 2 does not exist.
    assert_eq!(RSA.sign_request(&Method::POST, "/", &[], BODY, None), Err(KeyError::OtherKind));
    let forged = with_jose(&rsa, &format!(r#"{{"alg":"RS512","kid":"{KID}","tl_version":"2","tl_headers":""}}"#));
    let map = HeaderMap::new();
    let request = Request { method: &Method::POST, path: "/", headers: &map, body: BODY };
    assert_eq!(verify_request(lookup(&RSA), &forged, &request, &[]), Err(Unverified::WrongAlgorithm));
}

/// A request signature covers method, path, listed headers and body, byte by byte.
#[test]
fn request_signatures() {
    let signed = [("Idempotency-Key", "idemp-2076717c"), ("X-Custom", "123")];
    let value = EC.sign_request(&Method::POST, PATH, &signed, BODY, None).expect("signs");
    assert_eq!(jose(&value), format!(r#"{{"alg":"ES512","kid":"{KID}","tl_version":"2","tl_headers":"Idempotency-Key,X-Custom"}}"#));
    let map = headers(&[("x-custom", "123"), ("idempotency-key", "idemp-2076717c"), ("x-other", "unsigned")]);
    let good = Request { method: &Method::POST, path: PATH, headers: &map, body: BODY };
    let verify = |request: &Request<'_>, required: &[&str]| verify_request(lookup(&EC), &value, request, required);

    assert_eq!(verify(&good, &["idempotency-key"]), Ok(KID.to_owned()));
    let slash = format!("{PATH}/");
    assert_eq!(verify(&Request { path: &slash, ..good }, &[]), Ok(KID.to_owned()));

    assert_eq!(verify(&Request { method: &Method::PUT, ..good }, &[]), Err(Unverified::Mismatch));
    assert_eq!(verify(&Request { path: "/elsewhere", ..good }, &[]), Err(Unverified::Mismatch));
    assert_eq!(verify(&Request { body: b"{}", ..good }, &[]), Err(Unverified::Mismatch));
    let other = headers(&[("x-custom", "124"), ("idempotency-key", "idemp-2076717c")]);
    assert_eq!(verify(&Request { headers: &other, ..good }, &[]), Err(Unverified::Mismatch));
    let missing = headers(&[("x-custom", "123")]);
    assert_eq!(verify(&Request { headers: &missing, ..good }, &[]), Err(Unverified::MissingHeader("Idempotency-Key".to_owned())));
    let twice = headers(&[("x-custom", "123"), ("x-custom", "124"), ("idempotency-key", "idemp-2076717c")]);
    assert_eq!(verify(&Request { headers: &twice, ..good }, &[]), Err(Unverified::RepeatedHeader("X-Custom".to_owned())));
    assert_eq!(verify(&good, &["X-Other"]), Err(Unverified::UnsignedHeader("X-Other".to_owned())));

    // The bytes signed have the spelling of the list, whatever the spelling on the wire.
    let respelt = jose(&value).replace("Idempotency-Key", "idempotency-key");
    assert_eq!(verify_request(lookup(&EC), &with_jose(&value, &respelt), &good, &[]), Err(Unverified::Mismatch));
}

/// The exact bytes that generation 2 signs, written down by hand.
#[test]
fn the_signed_bytes_are_fixed() {
    let headers = [("Idempotency-Key", "619410b3"), ("X-Tl-Webhook-Timestamp", "2021-11-29T11:42:55Z")];
    let bytes = request_bytes(&Method::POST, "/test-signature", headers.iter().map(|(name, value)| (*name, value.as_bytes())), br#"{"bar":123}"#);
    let expected = "POST /test-signature\nIdempotency-Key: 619410b3\nX-Tl-Webhook-Timestamp: 2021-11-29T11:42:55Z\n{\"bar\":123}";
    assert_eq!(String::from_utf8(bytes).expect("text"), expected);
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES512"}"#);
    assert_eq!(signing_input(&header, b"{}"), format!("{header}.e30").into_bytes());
}

/// No listed header at all is a valid list; a repeated name counts once; generations are not interchangeable.
#[test]
fn lists_and_generations() {
    let map = headers(&[("a", "1")]);
    let request = Request { method: &Method::POST, path: "/x", headers: &map, body: BODY };
    let none = EC.sign_request(&Method::POST, "/x", &[], BODY, None).expect("signs");
    assert!(jose(&none).contains(r#""tl_headers":"""#));
    assert_eq!(verify_request(lookup(&EC), &none, &request, &[]), Ok(KID.to_owned()));

    // A signer that lists a name twice, but signs one line, as the official library reads it.
    let jose = Jose { tl_version: Some("2".into()), tl_headers: Some("A,a,".into()), ..Jose::of(&EC) };
    let value = EC.seal(&jose, &request_bytes(&Method::POST, "/x", [("A", b"1".as_slice())].into_iter(), BODY)).expect("signs");
    assert_eq!(verify_request(lookup(&EC), &value, &request, &[]), Ok(KID.to_owned()));

    assert_eq!(verify_body(lookup(&EC), Algorithm::Es512, &none, BODY), Err(Unverified::WrongVersion));
    let body_only = EC.sign_body(BODY, None).expect("signs");
    assert_eq!(verify_request(lookup(&EC), &body_only, &request, &[]), Err(Unverified::WrongVersion));
}

#[test]
fn malformed_headers_say_why() {
    let good = EC.sign_body(BODY, None).expect("signs");
    let (header, signature) = good.split_once("..").expect("detached");
    let short = URL_SAFE_NO_PAD.encode([7_u8; 131]);
    let crit = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES512","kid":"{KID}","crit":["b64"],"b64":false}}"#));
    let twice = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","alg":"ES512","kid":"{KID}"}}"#));
    let no_kid = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES512","kid":""}"#);
    for value in [
        String::new(),
        "..".to_owned(),
        header.to_owned(),
        format!("{header}.{signature}"),
        format!("{header}...{signature}"),
        format!("{header}..{signature}="),
        format!("{header}=..{signature}"),
        format!("{header}..{short}"),
        format!("{header}.e30.{signature}"),
        format!("{crit}..{signature}"),
        format!("{twice}..{signature}"),
        format!("{no_kid}..{signature}"),
        format!("bm90IGpzb24..{signature}"),
        format!("{header}..{}", "A".repeat(MAX_HEADER_LEN)),
    ] {
        let result = verify_body(lookup(&EC), Algorithm::Es512, &value, BODY);
        assert!(matches!(result, Err(Unverified::Malformed(_))), "{value}: {result:?}");
    }
    // r and s swapped, and one bit flipped: right length, wrong content.
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).expect("base64url");
    bytes.rotate_left(66);
    let swapped = format!("{header}..{}", URL_SAFE_NO_PAD.encode(&bytes));
    assert_eq!(verify_body(lookup(&EC), Algorithm::Es512, &swapped, BODY), Err(Unverified::Mismatch));
    bytes.rotate_left(66);
    bytes[131] ^= 1;
    let flipped = format!("{header}..{}", URL_SAFE_NO_PAD.encode(&bytes));
    assert_eq!(verify_body(lookup(&EC), Algorithm::Es512, &flipped, BODY), Err(Unverified::Mismatch));
}

#[test]
fn keys_survive_pem_and_jwk() {
    for key in [&*EC, &*RSA] {
        let public = key.verifying_key().expect("a public key");
        let again = SigningKey::from_pem(KID, key.to_pem().expect("encodes").expose_secret()).expect("reads");
        assert_eq!(again.verifying_key().expect("a public key"), public);
        assert_eq!(VerifyingKey::from_pem(&public.to_pem().expect("encodes")).expect("reads"), public);
        let jwk = public.to_jwk(KID);
        let text = serde_json::to_string(&jwk).expect("serialises");
        assert_eq!(VerifyingKey::from_jwk(&serde_json::from_str(&text).expect("reads")).expect("reads"), public);
        let value = key.sign_body(BODY, None).expect("signs");
        assert_eq!(verify_body(lookup(&again), key.algorithm(), &value, BODY), Ok(KID.to_owned()));
    }
    // SEC1, as `openssl ecparam -genkey` writes it: parameters first.
    let Pair::Ec(pair) = &EC.pair else { panic!("an EC key") };
    let sec1 = AsDer::<aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_>>::as_der(&pair.private_key()).expect("encodes");
    let pem = format!("{}{}", pem_block("EC PARAMETERS", &[6, 5, 43, 129, 4, 0, 35]), pem_block("EC PRIVATE KEY", sec1.as_ref()));
    let read = SigningKey::from_pem(KID, &pem).expect("reads SEC1");
    assert_eq!(read.verifying_key().expect("a public key"), EC.verifying_key().expect("a public key"));
}

/// Writers of big integers drop leading zeros: a coordinate of 65 bytes is as good as one of 66.
#[test]
fn short_coordinates_are_padded() {
    let short = (0..4096)
        .filter_map(|_| SigningKey::generate(KID, Algorithm::Es512).expect("an EC key").verifying_key().ok())
        .find(|key| matches!(&key.public, Public::Ec { x, .. } if x[0] == 0))
        .expect("half of all P-521 coordinates begin with a zero byte");
    let mut jwk = short.to_jwk(KID);
    let x = URL_SAFE_NO_PAD.decode(jwk.x.expect("x")).expect("base64url");
    jwk.x = Some(URL_SAFE_NO_PAD.encode(&x[1..]));
    assert_eq!(VerifyingKey::from_jwk(&jwk).expect("reads"), short);

    jwk.x = Some(URL_SAFE_NO_PAD.encode([&[0], x.as_slice()].concat()));
    assert_eq!(VerifyingKey::from_jwk(&jwk), Err(KeyError::Invalid));
    jwk.x = Some(URL_SAFE_NO_PAD.encode([1; 66]));
    assert_eq!(VerifyingKey::from_jwk(&jwk), Err(KeyError::Invalid), "not on the curve");
    jwk.crv = Some("P-256".to_owned());
    assert_eq!(VerifyingKey::from_jwk(&jwk), Err(KeyError::OtherKind));
}

#[test]
fn other_keys_are_refused() {
    let p256 = Ecdsa::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let private = pem_block("PRIVATE KEY", p256.to_pkcs8v1().expect("encodes").as_ref());
    assert_eq!(SigningKey::from_pem(KID, &private).map(|_| ()), Err(KeyError::Invalid));
    let spki = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(p256.public_key()).expect("encodes");
    assert_eq!(VerifyingKey::from_pem(&pem_block("PUBLIC KEY", spki.as_ref())), Err(KeyError::Invalid));
    for text in ["", "PRIVATE KEY", "-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----"] {
        assert_eq!(SigningKey::from_pem(KID, text).map(|_| ()), Err(KeyError::NotPem), "{text}");
    }
    let text = format!("{:?} {:?}", *EC, EC.verifying_key().expect("a public key"));
    assert!(text.contains(KID) && text.len() < 160, "{text}");
}
