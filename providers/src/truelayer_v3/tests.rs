use std::sync::LazyLock;

use domain::destination::{AccountNumber, Beneficiary, BeneficiaryName, Iban, SortCode, StatementReference};
use domain::id::{PartyId, PayoutId, ProviderKey, Shards};
use serde_json::{Value, json};

use super::*;
use crate::http::scripted::{Received, Reply, Scripted, refusing};
use crate::jws;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const CREATE: &str = "POST /v3/payouts";
const TOKEN: &str = "POST /connect/token";
const KID: &str = "6f0f0f5c-8a52-4f0e-9f58-0a4d9a5b7c33";
const ACCOUNT: &str = "822f8dfe-0874-481b-b966-5b14f767792f";
/// The connector does not care under which name it is registered.
const NAME: Provider = Provider::Truelayer;

static PAIR: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = SigningKey::generate(KID, Algorithm::Es512).expect("a key");
    let public = key.verifying_key().expect("a public key").to_pem().expect("encodes");
    (key.to_pem().expect("encodes").expose_secret().to_owned(), public)
});

fn settings(url: &str) -> Settings {
    let settings = json!({
        "base_url": url,
        "auth_url": url,
        "client_id": "acme",
        "client_secret": "hunter2",
        "kid": KID,
        "private_key_pem": PAIR.0,
        "jku": [format!("{url}/.well-known/jwks")],
        "merchant_accounts": {"GBP": ACCOUNT, "EUR": "euros"},
    });
    serde_json::from_value(settings).expect("settings")
}

fn key(number: u8) -> ProviderKey {
    let payout = PayoutId::derive(&PartyId::parse("acme").expect("a party"), Mode::Test, &number.to_string(), Shards::ONE);
    ProviderKey::derive(payout, 1)
}

fn beneficiary(reference: &str) -> Beneficiary {
    Beneficiary {
        name: BeneficiaryName::parse("Ada Quill", 140).expect("a name"),
        reference: StatementReference::parse(reference, 140).expect("a reference"),
        destination: Destination::Iban(Iban::parse("GB82WEST12345698765432").expect("an IBAN")),
        description: None,
        instrument: None,
    }
}

fn gbp(minor: i64) -> Money {
    Money::new(minor, Currency::GBP).expect("an amount")
}

fn order(beneficiary: &Beneficiary) -> Order<'_> {
    Order { key: key(1), money: gbp(12_345), beneficiary, context_code: "withdrawal" }
}

fn body(client: &Client) -> Vec<u8> {
    client.prepare(&order(&beneficiary("Invoice 1187"))).expect("prepares")
}

fn soon() -> Timestamp {
    clock::now() + SignedDuration::from_secs(60)
}

fn reference(id: &str) -> ProviderReference {
    ProviderReference(id.to_owned())
}

fn inquiry(reference: Option<&ProviderReference>) -> Inquiry<'_> {
    Inquiry { key: key(1), reference, request: b"", first_sent: Timestamp::UNIX_EPOCH }
}

/// A provider that gives tokens, and answers everything else as told.
async fn provider(mut script: impl FnMut(&Received) -> Reply + Send + 'static) -> (Scripted, Client) {
    let mut tokens = 0;
    let server = Scripted::start(move |request| {
        if request.line == TOKEN {
            tokens += 1;
            return Reply::json(200, &json!({"access_token": format!("token-{tokens}"), "expires_in": 3600, "token_type": "Bearer"}));
        }
        script(request)
    })
    .await;
    let client = Client::new(settings(&server.url), Mode::Test, NAME).expect("a client");
    (server, client)
}

fn accepted(id: &str) -> Answer {
    let report = Report { status: Status::Authorised, provider_status: "pending".to_owned(), at: None, reference: Some(reference(id)), amount: None };
    Answer::Says(report)
}

fn nothing(why: &str) -> Look {
    Look::Nothing { why: Reason::new(why) }
}

fn titled(title: &str) -> Value {
    json!({"type": "https://docs.truelayer.com/docs/error-types#x", "title": title, "status": 0, "detail": "About Ada", "trace_id": "t"})
}

/// The table of answers, line by line.
#[tokio::test]
async fn every_status_has_its_class() {
    let refused = |code: &str| Answer::Refused { reason: Reason::new(code) };
    let named = |field: &str| {
        let mut problem = titled("Invalid Parameters");
        problem["errors"] = json!({field: ["not valid: Ada"]});
        problem
    };
    let signature = json!({"title": "Unauthenticated", "detail": "Invalid request signature."});
    for (status, body, expected) in [
        (202, json!({"id": "p1"}), accepted("p1")),
        (201, json!({"id": "p1", "status": "authorization_required"}), accepted("p1")),
        (200, json!({"id": "p1"}), accepted("p1")),
        // Accepted, but without an id nobody can ask for it: the same request has to go again.
        (202, json!({}), no_answer("unreadable")),
        (202, json!({"id": 7}), no_answer("unreadable")),
        (202, json!({"id": "../merchant-accounts"}), no_answer("unreadable")),
        (202, json!({"id": ""}), no_answer("unreadable")),
        (400, titled("Invalid Parameters"), refused("invalid_parameters")),
        (422, titled("Invalid Parameters"), refused("invalid_parameters")),
        (400, named("beneficiary.account_identifier.iban"), refused("invalid_parameters.iban")),
        (400, named("$.currency"), refused("invalid_parameters.currency")),
        (400, named("Ada"), refused("invalid_parameters")),
        (422, titled("Idempotency-Key Reuse"), Answer::KeyConflict),
        (401, signature, unprocessed("invalid_signature", None)),
        (401, titled("Unauthenticated"), unprocessed("unauthorized", None)),
        (403, titled("Forbidden"), unprocessed("forbidden", None)),
        (429, titled("Too Many Requests"), unprocessed("rate_limited", None)),
        // Known statuses without the documented content, and statuses that are not listed, prove nothing.
        (400, titled("Invalid State"), no_answer("status_400")),
        (400, titled("Idempotency-Key Reuse"), no_answer("status_400")),
        (400, json!({"error": "validation_error"}), no_answer("status_400")),
        (422, json!([]), no_answer("status_422")),
        (409, titled("Idempotency-Key Concurrency Conflict"), no_answer("status_409")),
        (409, titled("Concurrency Conflict"), no_answer("status_409")),
        (204, json!({}), no_answer("status_204")),
        (302, json!({}), no_answer("status_302")),
        (404, titled("Not Found"), no_answer("status_404")),
        (408, json!({}), no_answer("status_408")),
        (500, titled("Invalid Parameters"), no_answer("status_500")),
        (502, json!({}), no_answer("status_502")),
        (503, json!({}), no_answer("status_503")),
        (504, json!({}), no_answer("status_504")),
    ] {
        let reply = body.clone();
        let (_server, client) = provider(move |_| Reply::json(status, &reply)).await;
        assert_eq!(client.submit(&self::body(&client), soon(), LONG).await, expected, "{status} {body}");
    }
    let (_server, client) = provider(|_| Reply::Answer(429, vec![("retry-after", "17".to_owned())], Vec::new())).await;
    assert_eq!(client.submit(&body(&client), soon(), LONG).await, unprocessed("rate_limited", Some(SignedDuration::from_secs(17))));
    // Which titles refuse is a setting.
    let (server, _) = provider(|_| Reply::json(400, &titled("Invalid State"))).await;
    let refusing = Settings { refusal_titles: vec!["invalid_state".to_owned()], ..settings(&server.url) };
    let client = Client::new(refusing, Mode::Test, NAME).expect("a client");
    assert_eq!(client.submit(&body(&client), soon(), LONG).await, refused("invalid_state"));
}

/// What goes over the wire is the prepared bytes, with a token for payments, our key, and a signature over both.
#[tokio::test]
async fn a_create_is_signed_with_its_key() {
    let public = std::sync::Arc::new(jws::VerifyingKey::from_pem(&PAIR.1).expect("a key"));
    let (server, _) = provider(|_| Reply::json(202, &json!({"id": "p1"}))).await;
    let base_url = format!("{}/edge", server.url);
    let client = Client::new(Settings { base_url, ..settings(&server.url) }, Mode::Test, NAME).expect("a client");
    assert_eq!(body(&client), body(&client), "the same order makes the same bytes");
    assert_eq!(client.submit(&body(&client), soon(), LONG).await, accepted("p1"));
    let [token, create] = &server.received()[..] else { panic!("two requests") };
    assert!(String::from_utf8_lossy(&token.body).contains("scope=payments"));
    assert_eq!((create.line.as_str(), &create.body[..]), ("POST /edge/v3/payouts", &body(&client)[..]));
    assert_eq!(create.headers["authorization"], "Bearer token-1");
    assert_eq!(create.headers["idempotency-key"], key(1).to_string().as_str());
    let value = create.headers["tl-signature"].to_str().expect("text");
    let lookup = |kid: &str| (kid == KID).then(|| std::sync::Arc::clone(&public));
    let request = jws::Request { method: &Method::POST, path: "/edge/v3/payouts", headers: &create.headers, body: &create.body };
    assert_eq!(jws::verify_request(lookup, value, &request, &["Idempotency-Key"]), Ok(KID.to_owned()));
    assert!(!create.headers.contains_key("x-tl-signature"));
}

/// One fresh token after a 401, and no more; a bad signature is not healed by one.
#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let fresh = |request: &Received| {
        if request.headers["authorization"] == "Bearer token-1" { Reply::status(401) } else { Reply::json(202, &json!({"id": "p1"})) }
    };
    let (server, client) = provider(fresh).await;
    assert_eq!(client.submit(&body(&client), soon(), LONG).await, accepted("p1"));
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (2, 2));
    let (server, client) = provider(|_| Reply::status(401)).await;
    assert_eq!(client.submit(&body(&client), soon(), LONG).await, unprocessed("unauthorized", None));
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (2, 2));
    assert_eq!(client.look(&inquiry(Some(&reference("p1")))).await, nothing("unauthorized"));
    let (server, client) = provider(|_| Reply::json(401, &json!({"title": "Unauthenticated", "detail": "Invalid request signature."}))).await;
    assert_eq!(client.submit(&body(&client), soon(), LONG).await, unprocessed("invalid_signature", None));
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (1, 1));
}

/// No token, no connection, no time: the payout did not leave.
#[tokio::test]
async fn what_never_left() {
    let (closed, _socket) = refusing();
    let client = Client::new(settings(&closed), Mode::Test, NAME).expect("a client");
    let request = body(&client);
    assert_eq!(client.submit(&request, soon(), LONG).await, not_sent("token_unreachable"));
    let (server, _) = provider(|_| Reply::status(500)).await;
    let client = Client::new(Settings { base_url: closed, ..settings(&server.url) }, Mode::Test, NAME).expect("a client");
    assert_eq!(client.submit(&request, soon(), LONG).await, not_sent("connect"));
    let (server, client) = provider(|_| Reply::status(500)).await;
    assert_eq!(client.submit(&request, clock::now() - SignedDuration::from_secs(1), LONG).await, not_sent("send_by_passed"));
    let keyless = String::from_utf8(request.clone()).expect("text").replace("payrelay_key", "other");
    for unreadable in [b"{}", keyless.as_bytes()] {
        assert_eq!(client.submit(unreadable, soon(), LONG).await, not_sent("unreadable_request"));
    }
    assert_eq!(server.received().len(), 0, "not even for a token");
    let slow = Scripted::start(|_| Reply::Hang).await;
    let client = Client::new(settings(&slow.url), Mode::Test, NAME).expect("a client");
    assert_eq!(client.submit(&request, soon(), SHORT).await, not_sent("token_deadline"));
}

/// The time to send may pass while a token is fetched: then the body stays here.
#[tokio::test]
async fn send_by_is_checked_again_at_the_socket() {
    let passes = std::sync::Arc::new(std::sync::OnceLock::new());
    let until = std::sync::Arc::clone(&passes);
    let server = Scripted::start(move |_| {
        while until.get().is_some_and(|until| clock::now() <= *until) {
            std::thread::yield_now();
        }
        Reply::json(200, &json!({"access_token": "token", "expires_in": 3600}))
    })
    .await;
    let client = Client::new(settings(&server.url), Mode::Test, NAME).expect("a client");
    let request = body(&client);
    let send_by = *passes.get_or_init(|| clock::now() + SignedDuration::from_millis(300));
    assert_eq!(client.submit(&request, send_by, LONG).await, not_sent("send_by_passed"));
    assert_eq!((server.count(TOKEN), server.count(CREATE)), (1, 0));
}

/// Bytes left and no usable answer came.
#[tokio::test]
async fn no_answer_after_the_request_left() {
    for (reply, within, why) in [
        (Reply::Drop, LONG, "connection_lost"),
        (Reply::Hang, SHORT, "deadline"),
        (Reply::Raw(b"HTTP/1.1 2".to_vec()), LONG, "connection_lost"),
        (Reply::Raw(b"HTTP/1.1 202 X\r\ncontent-length: 99\r\n\r\n{\"id\":\"p".to_vec()), LONG, "unreadable"),
        (Reply::Answer(202, Vec::new(), vec![b' '; 300_000]), LONG, "unreadable"),
    ] {
        let mut reply = Some(reply);
        let (server, client) = provider(move |_| reply.take().unwrap_or(Reply::status(500))).await;
        assert_eq!(client.submit(&body(&client), soon(), within).await, no_answer(why));
        assert_eq!(server.count(CREATE), 1);
    }
}

/// A look needs the provider's id, and a failure of it is never a "not found".
#[tokio::test]
async fn looks() {
    let payout = |change: Value| {
        let mut payout = json!({
            "id": "p1", "merchant_account_id": ACCOUNT, "amount_in_minor": 12_345, "currency": "GBP", "beneficiary": {"type": "new_kind"},
            "metadata": {"payrelay_key": key(1).to_string()}, "status": "executed", "executed_at": "2026-03-02T09:15:42.500000Z",
        });
        payout.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        Reply::json(200, &payout)
    };
    let settled = Look::Found(Report {
        status: Status::Settled,
        provider_status: "executed".to_owned(),
        at: Some("2026-03-02T09:15:42.5Z".parse().expect("a timestamp")),
        reference: Some(reference("p1")),
        amount: Some(gbp(12_345)),
    });
    for (reply, expected) in [
        (payout(json!({})), settled.clone()),
        (payout(json!({"metadata": null})), settled.clone()),
        (payout(json!({"metadata": {"payrelay_key": "x"}})), settled),
        (payout(json!({"id": "p2"})), nothing("other_payout")),
        (payout(json!({"metadata": {"payrelay_key": key(2).to_string()}})), nothing("other_payout")),
        (Reply::json(404, &titled("Not Found")), nothing("reference_unknown")),
        (Reply::status(403), nothing("status_403")),
        (Reply::status(500), nothing("status_500")),
        (Reply::json(200, &json!({"id": "p1"})), nothing("unreadable")),
        (Reply::Drop, nothing("connection_lost")),
    ] {
        let mut reply = Some(reply);
        let (_server, client) = provider(move |_| reply.take().unwrap_or(Reply::Drop)).await;
        assert_eq!(client.look(&inquiry(Some(&reference("p1")))).await, expected);
    }
    let (server, client) = provider(|_| Reply::status(500)).await;
    assert_eq!(client.look(&inquiry(None)).await, nothing(NO_REFERENCE));
    assert_eq!(client.look(&inquiry(Some(&reference("../x")))).await, nothing("unreadable_reference"));
    assert_eq!(server.received().len(), 0);
}

/// Each fixture of a payout in, our word for it out.
#[test]
fn statuses_are_mapped() {
    let read = |name: &str| -> wire::Payout {
        let path = format!("{}/fixtures/truelayer_v3/payout-{name}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(name)
    };
    let reason = Reason::new;
    for (name, word, expected, at) in [
        ("pending", "pending", Status::Authorised, Some("2026-03-02T09:15:30.123456Z")),
        ("authorized", "authorized", Status::Authorised, None),
        ("executed", "executed", Status::Settled, Some("2026-03-02T09:15:42.5Z")),
        ("failed", "failed", Status::Failed { reason: reason("scheme_error") }, Some("2026-03-02T09:16:01Z")),
        ("returned", "failed", Status::Returned { reason: reason("returned") }, Some("2026-03-04T11:00:00Z")),
    ] {
        let report = report(&read(name));
        assert_eq!((&report.status, report.provider_status.as_str()), (&expected, word), "{name}");
        assert_eq!(report.at, at.map(|at| at.parse().expect("a timestamp")), "{name}");
        assert_eq!(report.amount, Money::new(12_345, Currency::EUR).ok());
    }
    for word in ["authorised", "submitted", "authorizing", "Executed"] {
        assert_eq!(status(word, None), Status::Unmapped, "{word}");
    }
}

#[test]
fn preparing_refuses_what_the_provider_would() {
    let client = Client::new(settings("http://127.0.0.1:1"), Mode::Test, NAME).expect("a client");
    let problem = |beneficiary: &Beneficiary| client.prepare(&order(beneficiary)).expect_err("a problem");
    assert_eq!(problem(&beneficiary("nineteen characters")).field, "reference");
    assert!(client.prepare(&order(&beneficiary("eighteen äöü chars"))).is_ok(), "characters, not bytes");
    let own = Beneficiary::own_account(StatementReference::parse("x", 18).expect("a reference"));
    assert_eq!(problem(&own).field, "destination");
    let destination = Destination::UkAccount {
        sort_code: SortCode::parse("11-22-33").expect("a sort code"),
        account_number: AccountNumber::parse("12345678").expect("an account number"),
    };
    let uk = Beneficiary { destination, ..beneficiary("x") };
    let text = String::from_utf8(client.prepare(&order(&uk)).expect("prepares")).expect("text");
    assert!(text.contains(r#""account_identifier":{"type":"sort_code_account_number","sort_code":"112233","account_number":"12345678"}"#), "{text}");
    assert!(!text.contains("scheme_selection"), "the provider's default is the provider's");
    let yen = Money::new(1, Currency::parse("JPY").expect("a currency")).expect("an amount");
    let error = client.prepare(&Order { money: yen, ..order(&uk) }).expect_err("no account");
    assert_eq!(error.field, "merchant_account_id");
    let instant = Settings { scheme_selection: Some(wire::SchemeSelection::InstantOnly {}), reference_max: 140, ..settings("http://127.0.0.1:1") };
    let client = Client::new(instant, Mode::Test, NAME).expect("a client");
    let text = String::from_utf8(client.prepare(&order(&beneficiary("nineteen characters"))).expect("prepares")).expect("text");
    assert!(text.contains(r#""scheme_selection":{"type":"instant_only"}"#), "{text}");
    assert_eq!(client.profile().limits.reference, 140);
}

#[test]
fn settings_are_checked_and_show_no_secret() {
    let good = settings("http://127.0.0.1:1");
    let new = |settings: Settings, mode| Client::new(settings, mode, NAME);
    let text = format!("{good:?} {:?}", new(good.clone(), Mode::Test).expect("a client"));
    assert!(!text.contains("hunter2") && !text.contains("PRIVATE"), "{text}");
    assert!(matches!(new(good.clone(), Mode::Live), Err(SetupError::AuthUrl(net::ClientError::Insecure))));
    let account = |currency: &str, id: &str| Settings { merchant_accounts: [(currency.to_owned(), id.to_owned())].into(), ..good.clone() };
    assert!(matches!(new(account("pounds", "a"), Mode::Test), Err(SetupError::MerchantAccount { .. })));
    assert!(matches!(new(account("GBP", "a/b"), Mode::Test), Err(SetupError::MerchantAccount { .. })));
    assert!(matches!(new(Settings { merchant_accounts: BTreeMap::new(), ..good.clone() }, Mode::Test), Err(SetupError::NoMerchantAccounts)));
    let no_key = Settings { private_key_pem: SecretString::from("hunter2"), ..good.clone() };
    let error = new(no_key, Mode::Test).expect_err("no key");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let profile = new(good, Mode::Test).expect("a client").profile().clone();
    assert!(profile.recognises_duplicates && !profile.looked_up_by_our_key && !profile.cancelable);
    let shown = format!("{:?} {:?}", order(&beneficiary("Invoice 1187")), inquiry(None));
    assert!(!shown.contains("Ada") && !shown.contains("Invoice") && !shown.contains("GB82"), "{shown}");
}

mod with_sandbox;
