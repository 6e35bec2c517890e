use std::sync::LazyLock;

use domain::destination::{BeneficiaryName, StatementReference};
use domain::id::{PartyId, PayoutId, Shards};

use super::*;
use crate::http::scripted::{Received, Reply, Scripted, refusing};
use crate::jws::{self, Algorithm};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const CREATE: &str = "POST /v1/payouts";
const TOKEN: &str = "POST /connect/token";
const KID: &str = "6f0f0f5c-8a52-4f0e-9f58-0a4d9a5b7c33";

static PAIR: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = SigningKey::generate(KID, Algorithm::Es512).expect("a key");
    let public = key.verifying_key().expect("a public key").to_pem().expect("encodes");
    (key.to_pem().expect("encodes").expose_secret().to_owned(), public)
});

pub(super) fn private_key() -> SecretString {
    SecretString::from(PAIR.0.as_str())
}

pub(super) fn public_key() -> String {
    PAIR.1.clone()
}

pub(super) fn settings(url: &str) -> Settings {
    let settings = serde_json::json!({
        "base_url": url,
        "auth_url": url,
        "client_id": "acme",
        "client_secret": "hunter2",
        "kid": KID,
        "private_key_pem": private_key().expose_secret(),
        "jku": [format!("{url}/.well-known/jwks")],
        "read_timeout_ms": 10_000,
    });
    serde_json::from_value(settings).expect("settings")
}

pub(super) fn key(number: u8) -> ProviderKey {
    let payout = PayoutId::derive(&PartyId::parse("acme").expect("a party"), Mode::Test, &number.to_string(), Shards::ONE);
    ProviderKey::derive(payout, 1)
}

pub(super) fn beneficiary(reference: &str) -> Beneficiary {
    Beneficiary {
        name: BeneficiaryName::parse("Ada Quill", 140).expect("a name"),
        reference: StatementReference::parse(reference, 140).expect("a reference"),
        destination: Destination::Iban(Iban::parse("GB82WEST12345698765432").expect("an IBAN")),
        description: None,
        instrument: None,
    }
}

pub(super) fn gbp(minor: i64) -> Money {
    Money::new(minor, Currency::GBP).expect("an amount")
}

fn body() -> Vec<u8> {
    Client::prepare(key(1), gbp(12_345), &beneficiary("Invoice 1187"), "withdrawal").expect("prepares")
}

pub(super) fn soon() -> Timestamp {
    clock::now() + SignedDuration::from_secs(60)
}

fn token(number: u32) -> Reply {
    Reply::json(200, &serde_json::json!({"access_token": format!("token-{number}"), "expires_in": 3600, "token_type": "Bearer"}))
}

/// A provider that gives tokens, and answers everything else as told.
async fn provider(mut script: impl FnMut(&Received) -> Reply + Send + 'static) -> (Scripted, Client) {
    let mut tokens = 0;
    let server = Scripted::start(move |request| {
        if request.line == TOKEN {
            tokens += 1;
            return token(tokens);
        }
        script(request)
    })
    .await;
    let client = Client::new(settings(&server.url), Mode::Test).expect("a client");
    (server, client)
}

async fn answer_to(status: u16, body: serde_json::Value) -> Answer {
    let (_server, client) = provider(move |_| Reply::json(status, &body)).await;
    client.submit(&self::body(), soon(), LONG).await
}

fn accepted() -> Answer {
    let report = Report { status: Status::Authorised, provider_status: "new".to_owned(), at: None, reference: None, amount: None };
    Answer::Says(report)
}

/// The table of answers, line by line.
#[tokio::test]
async fn every_status_has_its_class() {
    use serde_json::json;
    let refused = |code: &str| Answer::Refused { reason: Reason::new(code) };
    let validation = json!({"error": "validation_error", "error_details": {"parameters": {"beneficiary_name": ["too long: Ada"]}}});
    for (status, body, expected) in [
        (202, json!({}), accepted()),
        (200, json!({}), accepted()),
        (400, validation.clone(), refused("validation_error.beneficiary_name")),
        (422, validation, refused("validation_error.beneficiary_name")),
        (400, json!({"error": "invalid_request"}), refused("invalid_request")),
        (400, json!({"error": "invalid_signature"}), unprocessed("invalid_signature", None)),
        (401, json!({"error": "invalid_signature"}), unprocessed("invalid_signature", None)),
        (401, json!({"error": "unauthorized"}), unprocessed("unauthorized", None)),
        (403, json!({"error": "forbidden"}), unprocessed("forbidden", None)),
        (429, json!({"error": "rate_limited"}), unprocessed("rate_limited", None)),
        // Known statuses without the documented content, and statuses that are not listed, prove nothing.
        (400, json!({"error": "something_new"}), no_answer("status_400")),
        (400, json!({"message": "no"}), no_answer("status_400")),
        (422, json!([]), no_answer("status_422")),
        (409, json!({"error": "conflict"}), no_answer("status_409")),
        (201, json!({}), no_answer("status_201")),
        (204, json!({}), no_answer("status_204")),
        (302, json!({}), no_answer("status_302")),
        (404, json!({"error": "not_found"}), no_answer("status_404")),
        (408, json!({}), no_answer("status_408")),
        (500, json!({"error": "validation_error"}), no_answer("status_500")),
        (502, json!({}), no_answer("status_502")),
        (503, json!({}), no_answer("status_503")),
        (504, json!({}), no_answer("status_504")),
    ] {
        assert_eq!(answer_to(status, body.clone()).await, expected, "{status} {body}");
    }
}

/// The accepting status is the answer; whatever its body is, was or was meant to be.
#[tokio::test]
async fn the_body_of_an_acceptance_is_ignored() {
    let huge = b"HTTP/1.1 202 X\r\ncontent-length: 99999999\r\n\r\n{".to_vec();
    for reply in [Reply::Answer(202, Vec::new(), b"<html>garbage".to_vec()), Reply::Raw(huge.clone())] {
        let mut reply = Some(reply);
        let (_server, client) = provider(move |_| reply.take().unwrap_or(Reply::Drop)).await;
        assert_eq!(client.submit(&body(), soon(), LONG).await, accepted());
    }
    // An error with a body that cannot be read within the bounds is not a refusal.
    let oversized = format!("{{\"error\":\"validation_error\",\"error_description\":\"{}\"}}", "x".repeat(300_000)).into_bytes();
    let (_server, client) = provider(move |_| Reply::Answer(400, Vec::new(), oversized.clone())).await;
    assert_eq!(client.submit(&body(), soon(), LONG).await, no_answer("status_400"));
}

#[tokio::test]
async fn retry_after_is_told() {
    let (_server, client) = provider(|_| Reply::Answer(429, vec![("retry-after", "17".to_owned())], Vec::new())).await;
    let expected = unprocessed("rate_limited", Some(SignedDuration::from_secs(17)));
    assert_eq!(client.submit(&body(), soon(), LONG).await, expected);
}

/// What goes over the wire is the prepared bytes, with a token and a signature over exactly them.
#[tokio::test]
async fn a_create_is_signed_over_its_exact_bytes() {
    let public = std::sync::Arc::new(jws::VerifyingKey::from_pem(&public_key()).expect("a key"));
    let lookup = |kid: &str| (kid == KID).then(|| std::sync::Arc::clone(&public));
    let (server, client) = provider(|_| Reply::status(202)).await;
    assert_eq!(client.submit(&body(), soon(), LONG).await, accepted());
    let received = server.received().into_iter().find(|received| received.line == CREATE).expect("a create");
    assert_eq!(received.body, body());
    assert_eq!(received.headers["authorization"], "Bearer token-1");
    assert_eq!(received.headers["content-type"], "application/json");
    assert!(!received.headers.contains_key("tl-signature"));
    let value = received.headers["x-tl-signature"].to_str().expect("text");
    assert_eq!(jws::verify_body(lookup, Algorithm::Es512, value, &received.body), Ok(KID.to_owned()));

    let (server, _) = provider(|_| Reply::status(202)).await;
    let base_url = format!("{}/edge", server.url);
    let client = Client::new(Settings { signature: Generation::Request, base_url, ..settings(&server.url) }, Mode::Test).expect("a client");
    assert_eq!(client.submit(&body(), soon(), LONG).await, accepted());
    let received = server.received().into_iter().find(|received| received.line == "POST /edge/v1/payouts").expect("a create");
    assert_eq!(received.headers["idempotency-key"], key(1).to_string().as_str());
    let value = received.headers["tl-signature"].to_str().expect("text");
    let request = jws::Request { method: &Method::POST, path: "/edge/v1/payouts", headers: &received.headers, body: &received.body };
    assert_eq!(jws::verify_request(lookup, value, &request, &["Idempotency-Key"]), Ok(KID.to_owned()));
    assert!(!received.headers.contains_key("x-tl-signature"));
}

/// One fresh token after a 401, and no more; the next call begins with the good one.
#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let fresh = |request: &Received| if request.headers["authorization"] == "Bearer token-1" { Reply::status(401) } else { Reply::status(202) };
    let (server, client) = provider(fresh).await;
    assert_eq!(client.submit(&body(), soon(), LONG).await, accepted());
    assert_eq!(client.submit(&body(), soon(), LONG).await, accepted());
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (2, 3));

    let (server, client) = provider(|_| Reply::status(401)).await;
    assert_eq!(client.submit(&body(), soon(), LONG).await, unprocessed("unauthorized", None));
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (2, 2));
    let look = client.look(key(1)).await;
    assert_eq!(look, Look::Nothing { why: Reason::new("unauthorized") });
}

/// Callers that come together share one token request, and one failure of it.
#[tokio::test]
async fn tokens_are_fetched_once() {
    let (server, client) = provider(|_| Reply::status(202)).await;
    let body = body();
    let calls = (0..8).map(|_| client.submit(&body, soon(), LONG));
    let answers = join_all(calls).await;
    assert!(answers.iter().all(|answer| *answer == accepted()));
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (1, 8));

    for (reply, why) in [
        (serde_json::json!({"error": "invalid_client"}), "token_invalid_client"),
        (serde_json::json!({"error": "slow_down"}), "token_refused"),
        (serde_json::json!("?"), "token_refused"),
    ] {
        let server = Scripted::start(move |_| Reply::json(400, &reply)).await;
        let client = Client::new(settings(&server.url), Mode::Test).expect("a client");
        for _ in 0..3 {
            assert_eq!(client.submit(&body, soon(), LONG).await, not_sent(why));
        }
        assert_eq!((server.count(TOKEN), server.received().len()), (1, 1));
    }
    let server = Scripted::start(|_| Reply::json(200, &serde_json::json!({"access_token": "a\nb", "expires_in": 1}))).await;
    let client = Client::new(settings(&server.url), Mode::Test).expect("a client");
    assert_eq!(client.submit(&body, soon(), LONG).await, not_sent("token_unreadable"));
    assert_eq!(client.look(key(1)).await, Look::Nothing { why: Reason::new("token_unreadable") });
}

/// No token, no connection, no time: the payout did not leave.
#[tokio::test]
async fn what_never_left() {
    let (closed, _socket) = refusing();
    let client = Client::new(settings(&closed), Mode::Test).expect("a client");
    assert_eq!(client.submit(&body(), soon(), LONG).await, not_sent("token_unreachable"));

    let (server, _) = provider(|_| Reply::status(202)).await;
    let client = Client::new(Settings { base_url: closed, ..settings(&server.url) }, Mode::Test).expect("a client");
    assert_eq!(client.submit(&body(), soon(), LONG).await, not_sent("connect"));

    let (server, client) = provider(|_| Reply::status(202)).await;
    let past = clock::now() - SignedDuration::from_secs(1);
    assert_eq!(client.submit(&body(), past, LONG).await, not_sent("send_by_passed"));
    assert_eq!(client.submit(b"{}", soon(), LONG).await, not_sent("unreadable_request"));
    assert_eq!(server.received().len(), 0, "not even for a token");

    // A token that takes so long that the time to send passes meanwhile.
    let slow = Scripted::start(|_| Reply::Hang).await;
    let client = Client::new(settings(&slow.url), Mode::Test).expect("a client");
    assert_eq!(client.submit(&body(), soon(), SHORT).await, not_sent("token_deadline"));
}

/// The time to send may pass between the check at the door and the connection: then the body stays here.
#[tokio::test]
async fn send_by_is_checked_again_at_the_socket() {
    let passes = std::sync::Arc::new(std::sync::OnceLock::new());
    let until = std::sync::Arc::clone(&passes);
    let server = Scripted::start(move |request| {
        // The token is slow: when it is there, the time has passed.
        while until.get().is_some_and(|until| clock::now() <= *until) {
            std::thread::yield_now();
        }
        if request.line == TOKEN { token(1) } else { Reply::status(202) }
    })
    .await;
    let client = Client::new(settings(&server.url), Mode::Test).expect("a client");
    let body = body();
    let send_by = *passes.get_or_init(|| clock::now() + SignedDuration::from_millis(300));
    assert_eq!(client.submit(&body, send_by, LONG).await, not_sent("send_by_passed"));
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (1, 0));
}

/// Bytes left and no usable answer came.
#[tokio::test]
async fn no_answer_after_the_request_left() {
    for (reply, within, why) in
        [(Reply::Drop, LONG, "connection_lost"), (Reply::Hang, SHORT, "deadline"), (Reply::Raw(b"HTTP/1.1 2".to_vec()), LONG, "connection_lost")]
    {
        let mut reply = Some(reply);
        let (server, client) = provider(move |_| reply.take().unwrap_or(Reply::status(202))).await;
        assert_eq!(client.submit(&body(), soon(), within).await, no_answer(why));
        assert_eq!(server.count(CREATE), 1);
    }
}

/// A duplicate is adopted if it is ours, and a contradiction if it is not.
#[tokio::test]
async fn duplicates_are_looked_at() {
    type Change = fn(&mut serde_json::Value);
    let stored = |change: Change| {
        let mut one = serde_json::json!({"result": serde_json::from_slice::<serde_json::Value>(&body()).expect("JSON")});
        one["result"]["status"] = "submitted".into();
        one["result"]["submitted_at"] = "2026-03-02T09:15:31.0000000Z".into();
        change(&mut one["result"]);
        Reply::json(200, &one)
    };
    let adopted = Answer::Says(Report {
        status: Status::Submitted,
        provider_status: "submitted".to_owned(),
        at: Some("2026-03-02T09:15:31Z".parse().expect("a timestamp")),
        reference: None,
        amount: Some(gbp(12_345)),
    });
    let same: Change = |_| ();
    let cases: [(u16, Change, Answer); 7] = [
        (409, same, adopted.clone()),
        (422, same, adopted.clone()),
        (400, |result| result["beneficiary_name"] = "A QUILL".into(), adopted),
        (409, |result| result["amount_in_minor"] = 12_346.into(), Answer::KeyConflict),
        (409, |result| result["currency"] = "EUR".into(), Answer::KeyConflict),
        (409, |result| result["beneficiary_iban"] = "GB29NWBK60161331926819".into(), Answer::KeyConflict),
        (409, |result| result["transaction_id"] = "00000000-0000-4000-8000-000000000000".into(), no_answer("duplicate_transaction_id")),
    ];
    for (status, change, expected) in cases {
        let duplicate = serde_json::json!({"error": "duplicate_transaction_id"});
        let (_server, client) = provider(move |request| if request.line == CREATE { Reply::json(status, &duplicate) } else { stored(change) }).await;
        assert_eq!(client.submit(&body(), soon(), LONG).await, expected);
    }
    let duplicate = serde_json::json!({"error": "duplicate_transaction_id"});
    let (_server, client) = provider(move |request| if request.line == CREATE { Reply::json(409, &duplicate) } else { Reply::status(404) }).await;
    assert_eq!(client.submit(&body(), soon(), LONG).await, no_answer("duplicate_transaction_id"));
}

/// A look finds, does not find, or fails; a failure is never a "not found".
#[tokio::test]
async fn looks() {
    let (_server, client) = provider(|_| Reply::json(404, &serde_json::json!({"error": "not_found"}))).await;
    assert_eq!(client.look(key(1)).await, Look::NotFound);
    for (reply, why) in [
        (Reply::status(403), "status_403"),
        (Reply::status(500), "status_500"),
        (Reply::status(204), "status_204"),
        (Reply::status(429), "status_429"),
        (Reply::json(200, &serde_json::json!({"result": {"status": "settled"}})), "unreadable"),
        (Reply::Answer(200, Vec::new(), vec![b' '; 300_000]), "unreadable"),
        (Reply::Drop, "connection_lost"),
    ] {
        let mut reply = Some(reply);
        let (_server, client) = provider(move |_| reply.take().unwrap_or(Reply::Drop)).await;
        assert_eq!(client.look(key(1)).await, Look::Nothing { why: Reason::new(why) });
    }
    let (server, _) = provider(|_| Reply::Hang).await;
    let client = Client::new(Settings { read_timeout_ms: 150, ..settings(&server.url) }, Mode::Test).expect("a client");
    assert_eq!(client.look(key(1)).await, Look::Nothing { why: Reason::new("deadline") });
}

/// Each fixture of a payout in, our word for it out.
#[test]
fn statuses_are_mapped() {
    let read = |name: &str| -> wire::Payout {
        let path = format!("{}/fixtures/truelayer/payout-{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str::<wire::One<wire::Payout>>(&std::fs::read_to_string(&path).expect(&path)).expect(name).result
    };
    let reason = Reason::new;
    for (name, word, expected, at) in [
        ("new", "new", Status::Authorised, None),
        ("authorised", "authorised", Status::Authorised, Some("2026-03-02T09:15:30.1234567Z")),
        ("submitted", "submitted", Status::Submitted, Some("2026-03-02T09:15:31Z")),
        ("settled", "settled", Status::Settled, Some("2026-03-02T09:15:42.5Z")),
        ("failed", "failed", Status::Failed { reason: reason("scheme_error") }, Some("2026-03-02T09:16:01Z")),
        ("failed-before-submission", "failed", Status::Failed { reason: reason("unspecified") }, Some("2026-03-02T09:16:01Z")),
        ("rejected", "rejected", Status::Rejected { reason: reason("insufficient_funds") }, Some("2026-03-02T09:16:01Z")),
        ("returned", "failed", Status::Returned { reason: reason("returned") }, Some("2026-03-04T11:00:00Z")),
    ] {
        let report = report(&read(name));
        assert_eq!((&report.status, report.provider_status.as_str()), (&expected, word), "{name}");
        assert_eq!(report.at, at.map(|at| at.parse().expect("a timestamp")), "{name}");
        assert_eq!(report.amount, Some(gbp(12_345)));
    }
    let mut strange = read("settled");
    strange.status = format!("Almost\n<settled> {}", "x".repeat(100));
    strange.currency = "gbp".to_owned();
    let report = report(&strange);
    assert_eq!((report.status, report.amount, report.at), (Status::Unmapped, None, None));
    assert_eq!(report.provider_status.len(), 64);
    assert!(report.provider_status.starts_with("Almost__settled__x"));
}

#[test]
fn preparing_refuses_what_the_provider_would() {
    assert_eq!(Client::prepare(key(1), gbp(1), &beneficiary("x"), "internal"), Client::prepare(key(1), gbp(1), &beneficiary("x"), "internal"));
    let problem = |beneficiary: &Beneficiary, code| Client::prepare(key(1), gbp(1), beneficiary, code).expect_err("a problem").field;
    assert_eq!(problem(&beneficiary("x"), "holiday"), "context_code");
    assert_eq!(problem(&beneficiary("nineteen characters"), "internal"), "beneficiary_reference");
    assert!(Client::prepare(key(1), gbp(1), &beneficiary("eighteen äöü chars"), "internal").is_ok(), "characters, not bytes");
    let name = BeneficiaryName::parse("The Very Long Name Company", 140).expect("a name");
    assert_eq!(problem(&Beneficiary { name, ..beneficiary("x") }, "internal"), "beneficiary_name");
    let destination = Destination::UkAccount {
        sort_code: domain::destination::SortCode::parse("112233").expect("a sort code"),
        account_number: domain::destination::AccountNumber::parse("12345678").expect("an account number"),
    };
    let uk = Beneficiary { destination, ..beneficiary("x") };
    let problem = Client::prepare(key(1), gbp(1), &uk, "internal").expect_err("a problem");
    assert_eq!(problem.to_string(), "beneficiary_iban is required: this provider pays to an IBAN only");
}

#[test]
fn settings_are_checked_and_show_no_secret() {
    let good = settings("http://127.0.0.1:1");
    let text = format!("{good:?} {:?}", Client::new(good.clone(), Mode::Test).expect("a client"));
    assert!(!text.contains("hunter2") && !text.contains("PRIVATE"), "{text}");
    assert!(matches!(Client::new(good.clone(), Mode::Live), Err(SetupError::BaseUrl(net::ClientError::Insecure))));
    let rsa = SigningKey::generate(KID, Algorithm::Rs512).expect("a key").to_pem().expect("encodes");
    let other_key = Settings { private_key_pem: rsa, ..good.clone() };
    assert!(matches!(Client::new(other_key, Mode::Test), Err(SetupError::PrivateKey(KeyError::OtherKind))));
    let no_key = Settings { private_key_pem: SecretString::from("hunter2"), ..good.clone() };
    let error = Client::new(no_key, Mode::Test).expect_err("no key");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert!(matches!(Client::new(Settings { kid: String::new(), ..good }, Mode::Test), Err(SetupError::Empty)));
    let mut unknown =
        serde_json::json!({"base_url": "", "auth_url": "", "client_id": "", "client_secret": "", "kid": "", "private_key_pem": "", "jku": []});
    assert!(serde_json::from_value::<Settings>(unknown.clone()).is_ok());
    unknown["base_uri"] = "".into();
    assert!(serde_json::from_value::<Settings>(unknown).is_err());
}

/// Without a crate for it: runs futures side by side in one task.
pub(super) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut futures {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if futures.iter().all(|(_, output)| output.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

mod with_sandbox;
