//! Client, inbox and sandbox against each other, over real sockets.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use domain::fact::About;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::super::inbox::{Inbox, Notice, NoticeError};
use super::super::sandbox::book::{Direction, Stage};
use super::super::sandbox::notices::NoticeSignature;
use super::super::sandbox::{self, Sandbox};
use super::*;
use crate::jws::Unverified;
use crate::sandbox::mood::{Distribution, Mood};

/// The platform's end of the webhooks: verifies what comes and keeps what it found.
#[derive(Clone, Default)]
struct Platform {
    inbox: Arc<std::sync::OnceLock<Inbox>>,
    read: Arc<Mutex<Vec<Result<Notice, NoticeError>>>>,
    /// As they came, for attempts to change them.
    raw: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    /// Answer 500 this many times first.
    failures: Arc<Mutex<u32>>,
}

async fn receive(State(platform): State<Platform>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 10_000).await.expect("a body");
    {
        let mut failures = platform.failures.lock().expect("no panic");
        if let Some(left) = failures.checked_sub(1) {
            *failures = left;
            return StatusCode::INTERNAL_SERVER_ERROR;
        }
    }
    let inbox = platform.inbox.get().expect("an inbox");
    let read = inbox.read(&parts.method, parts.uri.path(), &parts.headers, &body).await;
    let status = if read.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::UNAUTHORIZED };
    platform.raw.lock().expect("no panic").push((parts.headers, body));
    platform.read.lock().expect("no panic").push(read);
    status
}

struct World {
    sandbox: Sandbox,
    client: Client,
    platform: Platform,
    url: String,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl World {
    async fn start(change: impl FnOnce(&mut sandbox::Settings)) -> Self {
        let platform = Platform::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let notice_url = format!("http://{}/notices/truelayer?unguessable=1", listener.local_addr().expect("an address"));
        let router = Router::new().route("/notices/truelayer", axum::routing::post(receive)).with_state(platform.clone());
        let receiving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let key = sandbox::ClientKey { kid: KID.to_owned(), public_key_pem: public_key() };
        let mut settings = sandbox::Settings::new("acme", SecretString::from("hunter2"), vec![key]);
        settings.notice_url = Some(notice_url);
        settings.notice_wait_ms = 5;
        (settings.authorise_after_ms, settings.submit_after_ms, settings.settle_after_ms, settings.behaviour.return_after_ms) = (0, 0, 0, 0);
        change(&mut settings);
        let sandbox = Sandbox::new(settings).expect("a sandbox");
        let serving = sandbox.clone().serve(listener, CancellationToken::new());
        let serving = tokio::spawn(async move { serving.await.expect("serves") });

        let client = Client::new(super::settings(&url), Mode::Test).expect("a client");
        let inbox = Inbox::new(&super::settings(&url), Mode::Test).expect("an inbox");
        assert!(platform.inbox.set(inbox).is_ok());
        let tasks = vec![AbortOnDropHandle::new(receiving), AbortOnDropHandle::new(serving)];
        Self { sandbox, client, platform, url, _tasks: tasks }
    }

    async fn pay(&self, number: u8, minor: i64, reference: &str) -> Answer {
        let body = Client::prepare(key(number), gbp(minor), &beneficiary(reference), "withdrawal").expect("prepares");
        // The deadline is what some answers are about; for the others it only has to be longer than a busy machine is slow.
        let within = if reference.contains("slow-answer") || minor == Mood::FIRST_AMOUNT + 2 { 1_500 } else { 15_000 };
        self.client.submit(&body, soon(), Duration::from_millis(within)).await
    }

    /// Waits until what is asked for is there: things happen in the sandbox's own time.
    async fn until<T>(&self, mut ready: impl FnMut(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(found) = ready(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "did not happen");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }

    async fn status_is(&self, number: u8, status: &str) {
        self.until(|world| (world.status(number)? == status).then_some(())).await;
    }

    fn status(&self, number: u8) -> Option<String> {
        Some(self.sandbox.payout(key(number).as_uuid())?.payout?.status)
    }

    async fn notices(&self, count: usize) -> Vec<Result<Notice, NoticeError>> {
        self.until(|world| {
            let read = world.platform.read.lock().expect("no panic");
            (read.len() >= count).then(|| read.clone())
        })
        .await
    }

    fn words(notices: &[Result<Notice, NoticeError>]) -> Vec<String> {
        notices.iter().map(|notice| notice.as_ref().map_or("refused", |notice| notice.event_type()).to_owned()).collect()
    }

    fn answers(&self, number: u8) -> Vec<String> {
        self.sandbox.payout(key(number).as_uuid()).expect("known").calls.answers.into()
    }
}

/// A payout from create to settled: answer, looks, notices of both generations, ledger and balance tell the same story.
#[tokio::test]
async fn a_payout_settles() {
    for signature in [NoticeSignature::Both, NoticeSignature::Request, NoticeSignature::Legacy] {
        let world = World::start(|settings| settings.notice_signature = signature).await;
        assert_eq!(world.client.look(key(1)).await, Look::NotFound);
        assert_eq!(world.pay(1, 5_000, "Invoice 1").await, accepted());
        let notices = world.notices(3).await;
        assert_eq!(World::words(&notices), ["payout_authorised", "payout_submitted", "payout_settled"], "{signature:?}");
        for notice in &notices {
            assert_eq!(notice.as_ref().expect("verified").told().expect("a payout").about, About::Key(key(1)));
        }
        let Look::Found(report) = world.client.look(key(1)).await else { panic!("found") };
        assert_eq!((report.status, report.amount), (Status::Settled, Some(gbp(5_000))));
        let told = notices[2].as_ref().expect("verified").told().expect("a payout").clone();
        assert_eq!(told.report.at, report.at, "the notice and the look agree on the time");

        let ledger = world.sandbox.ledger();
        let [movement] = &ledger.movements[..] else { panic!("one movement") };
        assert_eq!(
            (movement.amount_in_minor, movement.direction, movement.payout_and_attempt().map(|(_, attempt)| attempt)),
            (5_000, Direction::Out, Some(1))
        );
        assert_eq!((ledger.double_movements, ledger.same_to_the_bank), (0, 0));
        let balances = world.client.balances().await.expect("balances");
        assert_eq!(balances[0].current_balance_in_minor, 1_000_000_000_000 - 5_000);
        assert_eq!(balances[0].available_balance_in_minor, 1_000_000_000_000 - 5_000);

        let hour = SignedDuration::from_hours(1);
        let (from, to) = (clock::now() - hour, clock::now() + hour);
        let found = world.client.transactions(from, to, Some(TransactionKind::Payout), Some(Currency::GBP)).await.expect("transactions");
        assert!(matches!(&found[..], [wire::Transaction::Payout(payout)] if payout.transaction_id == key(1).as_uuid()));
        assert_eq!(world.client.transactions(from, to, Some(TransactionKind::TopUp), None).await, Ok(Vec::new()));
        assert_eq!(world.client.transactions(to, to, None, None).await, Ok(Vec::new()));
    }
}

/// A period that is too much for one answer is read in halves, each payout once, and what is not read is said to be missing.
#[tokio::test]
async fn statements() {
    let world = World::start(|_| {}).await;
    for number in 1..=6 {
        world.pay(number, 500 + i64::from(number), "x").await;
    }
    let of = |bytes| Client::new(Settings { response_limit_bytes: bytes, ..super::settings(&world.url) }, Mode::Test).expect("a client");
    let (from, to) = (clock::now() - SignedDuration::from_hours(1), clock::now() + SignedDuration::from_hours(1));
    let whole = of(256 * 1024).statement(from, to, 10).await.expect("a statement");
    assert_eq!((whole.lines.len(), whole.whole), (6, true));
    assert!(whole.lines.iter().all(|line| line.at.is_some() && (1..=6).any(|number| line.key == Some(key(number)))));
    let halves = of(1_800).statement(from, to, 10).await.expect("a statement");
    assert_eq!(halves, whole);
    let cut = of(256 * 1024).statement(from, to, 5).await.expect("a statement");
    assert_eq!((cut.lines.len(), cut.whole), (5, false));
    assert!(of(300).statement(from, to, 10).await.is_err(), "one payout is too much already");
}

/// Every mood, seen from the client: what the first create comes to, what a second under the same key comes to, and where the payout ends.
#[tokio::test]
async fn moods() {
    let refused = Answer::Refused { reason: Reason::new("validation_error.beneficiary_name") };
    let limited = unprocessed("rate_limited", Some(SignedDuration::from_secs(1)));
    let world = World::start(|settings| {
        settings.behaviour.slow_answer_ms = 60_000;
        settings.behaviour.late_appear_ms = 300;
    })
    .await;
    let table = [
        (Mood::Plain, accepted(), accepted(), Some("settled"), "202 202", 1),
        (Mood::LostAnswer, no_answer("connection_lost"), accepted(), Some("settled"), "dropped 202", 1),
        (Mood::SlowAnswer, no_answer("deadline"), accepted(), Some("settled"), "202 202", 1),
        (Mood::ErrorBefore, no_answer("status_500"), accepted(), Some("settled"), "500 202", 1),
        (Mood::ErrorAfter, no_answer("status_500"), accepted(), Some("settled"), "500 202", 1),
        (Mood::LateAppear, no_answer("connection_lost"), accepted(), Some("settled"), "dropped 202", 1),
        (Mood::DuplicateNotices, accepted(), accepted(), Some("settled"), "202 202", 1),
        (Mood::ShuffledNotices, accepted(), accepted(), Some("settled"), "202 202", 1),
        (Mood::BadSignature, accepted(), accepted(), Some("settled"), "202 202", 1),
        (Mood::NoNotices, accepted(), accepted(), Some("settled"), "202 202", 1),
        (Mood::Reject, accepted(), accepted(), Some("rejected"), "202 202", 0),
        (Mood::Refuse, refused.clone(), refused, None, "400 400", 0),
        (Mood::Fail, accepted(), accepted(), Some("failed"), "202 202", 2),
        (Mood::Return, accepted(), accepted(), Some("failed"), "202 202", 2),
        (Mood::RateLimit, limited, accepted(), Some("settled"), "429 202", 1),
        (Mood::Stuck, accepted(), accepted(), Some("submitted"), "202 202", 1),
    ];
    assert_eq!(table.each_ref().map(|(mood, ..)| *mood), Mood::COMMON);
    for (number, (mood, first, second, end, answers, movements)) in (1..).zip(table) {
        let name = mood.name();
        let amount = Mood::FIRST_AMOUNT + i64::from(number) - 1;
        assert_eq!(world.pay(number, amount, "Invoice").await, first, "{name}");
        if mood == Mood::LateAppear {
            assert_eq!(world.client.look(key(number)).await, Look::NotFound, "not yet");
        }
        assert_eq!(world.pay(number, amount, "Invoice").await, second, "{name}");
        match end {
            Some(status) => world.status_is(number, status).await,
            None => assert_eq!(world.status(number), None, "{name}"),
        }
        assert_eq!(world.answers(number).join(" "), answers, "{name}");
        let moved = world.sandbox.movements().iter().filter(|movement| movement.transaction_id == key(number).as_uuid()).count();
        assert_eq!(moved, movements, "{name}");
    }
    assert_eq!((world.sandbox.ledger().double_movements, world.sandbox.ledger().same_to_the_bank), (0, 0));
    world
        .until(|world| {
            (clock::now() > world.sandbox.payout(key(6).as_uuid())?.payout?.settled_at?.0 + SignedDuration::from_millis(300)).then_some(())
        })
        .await;
    assert!(matches!(world.client.look(key(6)).await, Look::Found(_)), "by now");
    let Look::Found(returned) = world.client.look(key(14)).await else { panic!("found") };
    assert_eq!(returned.status, Status::Returned { reason: Reason::new("returned") });
    assert!(world.sandbox.advance(key(16).as_uuid(), Stage::Settled), "what is stuck can be helped");
    assert!(!world.sandbox.advance(key(16).as_uuid(), Stage::Settled), "once");
    assert_eq!(world.status(16).as_deref(), Some("settled"));
}

/// What each mood does to the notices of one payout.
#[tokio::test]
async fn moods_of_notices() {
    let words = ["payout_authorised", "payout_submitted", "payout_settled"];
    let twice = words.iter().flat_map(|word| [*word, *word]).collect::<Vec<_>>();
    let forged = words.iter().flat_map(|word| ["refused", *word]).collect::<Vec<_>>();
    for (mood, expected) in [
        (Mood::DuplicateNotices, twice),
        (Mood::ShuffledNotices, words.into_iter().rev().collect()),
        (Mood::BadSignature, forged),
        (Mood::Reject, vec!["payout_rejected"]),
        (Mood::Fail, vec!["payout_authorised", "payout_submitted", "payout_failed"]),
        (Mood::Return, vec!["payout_authorised", "payout_submitted", "payout_settled", "payout_returned"]),
        (Mood::Stuck, vec!["payout_authorised", "payout_submitted"]),
    ] {
        let world = World::start(|settings| settings.notice_signature = NoticeSignature::Request).await;
        world.sandbox.set_mood(1, mood);
        assert_eq!(world.pay(1, 500, "Invoice").await, accepted());
        let notices = world.notices(expected.len()).await;
        assert_eq!(World::words(&notices), expected, "{}", mood.name());
        let ids: std::collections::HashSet<_> = notices.iter().flatten().map(Notice::dedupe_id).collect();
        let distinct = notices.iter().flatten().count() / if mood == Mood::DuplicateNotices { 2 } else { 1 };
        assert_eq!(ids.len(), distinct, "{}", mood.name());
        // The mood was for one payout.
        assert_eq!(world.pay(2, 500, "Invoice").await, accepted());
        world.status_is(2, "settled").await;
    }
    // A receiver that fails at first gets it again, under the same id.
    let world = World::start(|settings| settings.notice_signature = NoticeSignature::Request).await;
    *world.platform.failures.lock().expect("no panic") = 2;
    assert_eq!(world.pay(1, 500, "MOOD reject").await, accepted());
    assert_eq!(World::words(&world.notices(1).await), ["payout_rejected"]);
    let sent = world.until(|world| Some(world.sandbox.payout(key(1).as_uuid())?.calls.notices).filter(|sent| sent.len() == 3)).await;
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(500), Some(500), Some(204)]);
    assert!(sent.iter().all(|other| other.event_id == sent[0].event_id));
}

/// A real notice, changed in every way that a stranger or a broken proxy could.
#[tokio::test]
async fn notices_are_believed_only_whole() {
    let world = World::start(|_| ()).await;
    assert_eq!(world.pay(1, 500, "MOOD reject").await, accepted());
    assert!(world.notices(1).await[0].is_ok());
    let (headers, body) = world.platform.raw.lock().expect("no panic")[0].clone();
    let (post, path) = (Method::POST, "/notices/truelayer");
    let inbox = world.platform.inbox.get().expect("an inbox");
    let without = |name: &str| {
        let mut headers = headers.clone();
        headers.remove(name);
        headers
    };
    let with = |name: &'static str, value: &str| {
        let mut headers = headers.clone();
        headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        headers
    };
    let read = async |headers: &HeaderMap, body: &Bytes| inbox.read(&post, path, headers, body).await;

    // Each generation is enough; none is not.
    let whole = read(&headers, &body).await.expect("verified");
    assert_eq!(read(&without("tl-signature"), &body).await, Ok(whole.clone()));
    assert_eq!(read(&without("x-tl-signature"), &body).await, Ok(whole));
    let mut bare = without("tl-signature");
    bare.remove("x-tl-signature");
    assert_eq!(read(&bare, &body).await, Err(NoticeError::NoSignature));

    // Changed bytes, another path or method, a changed or missing header.
    let mut longer = body.to_vec();
    longer.push(b'\n');
    let mismatch = Err(NoticeError::Unverified(Unverified::Mismatch));
    assert_eq!(read(&headers, &longer.clone().into()).await, mismatch);
    assert_eq!(read(&without("tl-signature"), &longer.into()).await, mismatch);
    assert_eq!(inbox.read(&post, "/notices/other", &headers, &body).await, mismatch);
    assert_eq!(inbox.read(&Method::PUT, path, &headers, &body).await, mismatch);
    assert_eq!(read(&with("x-tl-webhook-timestamp", "2020-05-18T10:17:47Z"), &body).await, mismatch);
    let missing = Unverified::MissingHeader("X-TL-Webhook-Timestamp".to_owned());
    assert_eq!(read(&without("x-tl-webhook-timestamp"), &body).await, Err(missing.into()));

    // One that verifies does not excuse one that fails.
    let ours = headers["tl-signature"].to_str().expect("text").to_owned();
    let theirs = headers["x-tl-signature"].to_str().expect("text").to_owned();
    assert_eq!(read(&with("x-tl-signature", &ours), &body).await, Err(Unverified::WrongAlgorithm.into()));
    assert_eq!(read(&with("tl-signature", &theirs), &body).await, Err(Unverified::WrongAlgorithm.into()));
    let mut twice = headers.clone();
    twice.append("tl-signature", headers["tl-signature"].clone());
    assert_eq!(read(&twice, &body).await, Err(Unverified::RepeatedHeader("tl-signature".to_owned()).into()));

    // Other keys, other sources of keys.
    let forger = SigningKey::generate("nobody", Algorithm::Es512).expect("a key");
    let forge = |jku: Option<&str>| with("tl-signature", &forger.sign_request(&post, path, &[], &body, jku).expect("signs"));
    assert_eq!(read(&forge(None), &body).await, Err(NoticeError::KeySource));
    for jku in ["https://evil.example/jwks", &format!("{}/.well-known/jwks/", world.url), &format!("{}/.well-known/jwks?x", world.url), ""] {
        assert_eq!(read(&forge(Some(jku)), &body).await, Err(NoticeError::KeySource), "{jku}");
    }
    let unknown = Unverified::UnknownKey { kid: "nobody".to_owned() };
    assert_eq!(read(&forge(Some(&world.sandbox.jku())), &body).await, Err(unknown.into()));

    // The older generation can be switched off.
    let strict = Settings { accept_legacy_notices: false, ..super::settings(&world.url) };
    let strict = Inbox::new(&strict, Mode::Test).expect("an inbox");
    assert_eq!(strict.read(&post, path, &without("tl-signature"), &body).await, Err(NoticeError::NoSignature));
    assert!(strict.read(&post, path, &headers, &body).await.is_ok());
}

/// Strangers with invented key ids cannot make us fetch keys again and again, and keys that were fetched outlive their source.
#[tokio::test]
async fn keys_are_fetched_rarely() {
    let signing = SigningKey::generate("k1", Algorithm::Es512).expect("a key");
    let jwk = signing.verifying_key().expect("a public key").to_jwk("k1");
    let odd = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "kid": "k0", "x": "AA"});
    let set = serde_json::json!({"keys": [odd, jwk]});
    let server = Scripted::start(move |_| Reply::json(200, &set)).await;
    let inbox = Inbox::new(&settings(&server.url), Mode::Test).expect("an inbox");
    let jku = format!("{}/.well-known/jwks", server.url);
    let body = Bytes::from_static(br#"{"event_type":"x","event_id":"1","event_schema_version":1,"event_body":{}}"#);
    let signed = |key: &SigningKey| {
        let value = key.sign_request(&Method::POST, "/n", &[], &body, Some(&jku)).expect("signs");
        HeaderMap::from_iter([(REQUEST_SIGNATURE, HeaderValue::try_from(value).expect("a value"))])
    };
    let good = signed(&signing);
    let reads = (0..4).map(|_| inbox.read(&Method::POST, "/n", &good, &body));
    assert!(join_all(reads).await.iter().all(Result::is_ok));
    assert_eq!(server.received().len(), 1, "once for all");
    for number in 0..20 {
        let stranger = SigningKey::generate(format!("s{number}"), Algorithm::Es512).expect("a key");
        let read = inbox.read(&Method::POST, "/n", &signed(&stranger), &body).await;
        assert_eq!(read, Err(Unverified::UnknownKey { kid: format!("s{number}") }.into()));
    }
    assert_eq!(server.received().len(), 1, "a fetch is not due yet");

    let eager = Settings { jwks_refetch_ms: 0, ..settings(&server.url) };
    let inbox = Inbox::new(&eager, Mode::Test).expect("an inbox");
    assert!(inbox.read(&Method::POST, "/n", &good, &body).await.is_ok());
    let stranger = SigningKey::generate("s", Algorithm::Es512).expect("a key");
    assert!(inbox.read(&Method::POST, "/n", &signed(&stranger), &body).await.is_err());
    assert_eq!(server.received().len(), 3, "an unknown id is worth a fetch when one is due");
    drop(server);
    assert!(inbox.read(&Method::POST, "/n", &good, &body).await.is_ok(), "known keys do without their source");

    let empty = Scripted::start(|_| Reply::status(500)).await;
    let inbox = Inbox::new(&settings(&empty.url), Mode::Test).expect("an inbox");
    let jku = format!("{}/.well-known/jwks", empty.url);
    let value = signing.sign_request(&Method::POST, "/n", &[], &body, Some(&jku)).expect("signs");
    let headers = HeaderMap::from_iter([(REQUEST_SIGNATURE, HeaderValue::try_from(value).expect("a value"))]);
    assert_eq!(inbox.read(&Method::POST, "/n", &headers, &body).await, Err(NoticeError::KeysUnavailable));
    let tried = empty.received().len();
    assert!(tried > 1, "a passing failure is worth a second try");
    assert_eq!(inbox.read(&Method::POST, "/n", &headers, &body).await, Err(NoticeError::KeysUnavailable));
    assert_eq!(empty.received().len(), tried, "but not at once for everybody");
}

/// The sandbox is a strict server: no token, no signature, no unknown fields.
#[tokio::test]
async fn the_sandbox_is_strict() {
    let world = World::start(|_| ()).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let signing = SigningKey::from_pem(KID, private_key().expose_secret()).expect("a key");
    let send = async |body: String, token: &str, signature: Option<String>| {
        let mut call = Call::new(Method::POST, "/v1/payouts", LONG)
            .header(header::AUTHORIZATION, HeaderValue::try_from(format!("Bearer {token}")).expect("a value"))
            .body("application/json", body.into());
        if let Some(signature) = signature {
            call = call.header(BODY_SIGNATURE, HeaderValue::try_from(signature).expect("a value"));
        }
        let response = api.call(call).await.expect("an answer");
        (response.status.as_u16(), response.json::<wire::ErrorBody>().map(|error| error.code()).unwrap_or_default())
    };
    let form = |secret: &str| format!("grant_type=client_credentials&client_id=acme&client_secret={secret}&scope=payouts");
    let ask =
        async |form: String| api.call(Call::new(Method::POST, "/connect/token", LONG).body("application/x-www-form-urlencoded", form.into())).await;
    let wrong = ask(form("hunter3")).await.expect("an answer");
    assert_eq!(
        (wrong.status, wrong.json::<wire::ErrorBody>().map(|error| error.error)),
        (StatusCode::BAD_REQUEST, Some("invalid_client".to_owned()))
    );
    let token = ask(form("hunter2")).await.expect("an answer").json::<wire::Token>().expect("a token").access_token;

    let good = String::from_utf8(body()).expect("text");
    let sign = |body: &str| Some(signing.sign_body(body.as_bytes(), None).expect("signs"));
    let error = |status, code: &str| (status, code.to_owned());
    assert_eq!(send(good.clone(), "guessed", sign(&good)).await, error(401, "unauthorized"));
    assert_eq!(send(good.clone(), &token, None).await, error(401, "invalid_signature"));
    assert_eq!(send(good.clone(), &token, sign("{}")).await, error(401, "invalid_signature"));
    let stranger = SigningKey::generate(KID, Algorithm::Es512).expect("a key");
    assert_eq!(send(good.clone(), &token, stranger.sign_body(good.as_bytes(), None).ok()).await, error(401, "invalid_signature"));
    for (from, to, code) in [
        ("\"withdrawal\"", "\"withdrawal\",\"note\":1", "invalid_request"),
        ("12345,", "12345.0,", "invalid_request"),
        ("12345,", "\"12345\",", "invalid_request"),
        ("12345,", "0,", "validation_error.amount_in_minor"),
        (",\"context_code\":\"withdrawal\"", "", "invalid_request"),
        ("withdrawal", "holiday", "validation_error.context_code"),
        ("Ada Quill", "Ada Quill of the Hills", "validation_error.beneficiary_name"),
        ("Invoice 1187", "", "validation_error.beneficiary_reference"),
        ("GB82WEST12345698765432", "GB83WEST12345698765432", "validation_error.beneficiary_iban"),
        ("GBP", "USD", "validation_error.currency"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert_eq!(send(changed.clone(), &token, sign(&changed)).await, error(400, code), "{to}");
    }
    assert_eq!(world.sandbox.movements(), []);
    assert_eq!(send(good.clone(), &token, sign(&good)).await, error(202, ""));
    world.sandbox.revoke_tokens();
    assert_eq!(send(good.clone(), &token, sign(&good)).await, error(401, "unauthorized"));
    // A client notices, and gets another.
    assert_eq!(world.pay(2, 500, "Invoice").await, accepted());
    world.sandbox.revoke_tokens();
    assert_eq!(world.pay(3, 500, "Invoice").await, accepted());
}

/// The first content of a key wins, whatever comes later under it; by setting a second create is a conflict, which the client looks into.
#[tokio::test]
async fn the_first_content_wins() {
    let world = World::start(|_| ()).await;
    assert_eq!(world.pay(1, 500, "Invoice").await, accepted());
    assert_eq!(world.pay(1, 700, "Invoice").await, accepted());
    world.status_is(1, "settled").await;
    let Look::Found(report) = world.client.look(key(1)).await else { panic!("found") };
    assert_eq!(report.amount, Some(gbp(500)), "the look tells, the answer did not");
    assert_eq!(world.sandbox.movements().len(), 1);

    let world = World::start(|settings| settings.duplicates_conflict = true).await;
    assert_eq!(world.pay(1, 500, "Invoice").await, accepted());
    world.status_is(1, "settled").await;
    let Answer::Says(report) = world.pay(1, 500, "Invoice").await else { panic!("adopted") };
    assert_eq!((report.status, report.amount), (Status::Settled, Some(gbp(500))));
    assert_eq!(world.pay(1, 700, "Invoice").await, Answer::KeyConflict);

    // A provider that does not recognise repeats pays them: the ledger tells what the API does not.
    let world = World::start(|settings| settings.pays_repeats = true).await;
    assert_eq!(world.pay(1, 500, "Invoice").await, accepted());
    assert_eq!(world.pay(1, 500, "Invoice").await, accepted());
    world.status_is(1, "settled").await;
    assert_eq!((world.sandbox.movements().len(), world.sandbox.ledger().double_movements), (2, 1));
}

/// An account that is too small rejects; a top-up helps the next payout.
#[tokio::test]
async fn money_is_finite() {
    let world = World::start(|settings| settings.accounts[0].balance_in_minor = 1000).await;
    assert_eq!(world.pay(1, 700, "Invoice").await, accepted());
    world.status_is(1, "settled").await;
    assert_eq!(world.pay(2, 700, "Invoice").await, accepted());
    world.status_is(2, "rejected").await;
    let Look::Found(report) = world.client.look(key(2)).await else { panic!("found") };
    assert_eq!(report.status, Status::Rejected { reason: Reason::new("insufficient_funds") });
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let call = Call::new(Method::POST, "/sandbox/topups", LONG);
    let response = api.call(call.body("application/json", r#"{"currency":"GBP","amount_in_minor":500}"#.into())).await.expect("an answer");
    assert_eq!(response.status, StatusCode::CREATED);
    let topped_up = world
        .until(|world| world.platform.read.lock().expect("no panic").iter().flatten().find(|notice| notice.event_type() == "topup_received").cloned())
        .await;
    assert_eq!(topped_up.told(), None);
    assert_eq!(world.pay(3, 700, "Invoice").await, accepted());
    world.status_is(3, "settled").await;
    assert_eq!(world.client.balances().await.expect("balances")[0].available_balance_in_minor, 1000 + 500 - 1400);
}

/// The admin routes: what operators and tests in other languages see.
#[tokio::test]
async fn admin_routes() {
    let world = World::start(|_| ()).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let get = async |path: &str| api.call(Call::new(Method::GET, path, LONG)).await.expect("an answer").json::<serde_json::Value>().expect("JSON");
    let send = async |path: &str, body: &'static str| {
        api.call(Call::new(Method::POST, path, LONG).body("application/json", body.into())).await.expect("an answer").status.as_u16()
    };
    let moods = get("/sandbox/moods").await;
    assert_eq!(moods["moods"].as_array().map(Vec::len), Some(16));
    assert_eq!(moods["moods"][1]["amount_in_minor"], 10_001);
    assert_eq!(moods["moods"][6]["beneficiary_reference"], "MOOD duplicate-not");
    assert_eq!(send("/sandbox/moods", r#"{"next": 1, "mood": "stuck"}"#).await, 204);
    assert_eq!(send("/sandbox/moods", r#"{"next": 1, "mood": "merry"}"#).await, 400);
    assert_eq!(world.pay(1, 500, "Invoice").await, accepted());
    world.status_is(1, "submitted").await;
    let path = format!("/sandbox/payouts/{}", key(1));
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "rejected"}"#).await, 409);
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "failed"}"#).await, 204);
    let view = get(&path).await;
    assert_eq!((&view["mood"], &view["calls"]["creates"], &view["payout"]["status"]), (&"stuck".into(), &1.into(), &"failed".into()));
    let ledger = get("/sandbox/ledger").await;
    assert_eq!((&ledger["double_movements"], ledger["movements"].as_array().map(Vec::len)), (&0.into(), Some(2)));
    assert!(!ledger.to_string().contains("Quill") && !ledger.to_string().contains("WEST"), "{ledger}");
    assert_eq!(send("/sandbox/moods", r#"{"fault_percent": 100, "seed": 7, "moods": ["reject"]}"#).await, 204);
    assert_eq!(world.pay(2, 500, "Invoice").await, accepted());
    world.status_is(2, "rejected").await;
    assert_eq!(send("/sandbox/tokens/revoke", "{}").await, 204);
    assert_eq!(get("/nowhere").await["error"], "not_found");
    let distribution = Distribution { fault_percent: 100, seed: 7, moods: vec![Mood::Refuse] };
    world.sandbox.set_random(Some(distribution));
    assert!(matches!(world.pay(3, 500, "Invoice").await, Answer::Refused { .. }));
    let signing = SigningKey::from_pem(KID, private_key().expose_secret()).expect("a key");
    let nonce = format!(r#"{{"nonce":"{}"}}"#, Uuid::nil());
    let (token, _) = world.client.tokens.get(Instant::now() + LONG).await.expect("a token");
    let signature = HeaderValue::try_from(signing.sign_body(nonce.as_bytes(), None).expect("signs")).expect("a value");
    let call = Call::new(Method::POST, "/v1/test", LONG).header(header::AUTHORIZATION, token).header(BODY_SIGNATURE, signature);
    assert_eq!(api.call(call.body("application/json", nonce.into())).await.expect("an answer").status, StatusCode::NO_CONTENT);
}

/// A journal carries payouts and movements over a restart, and unfinished ones go on.
#[tokio::test]
async fn a_restart_keeps_the_books() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("sandbox.jsonl");
    let before = {
        let world = World::start(|settings| settings.behaviour.journal = Some(journal.clone())).await;
        assert_eq!(world.pay(1, 500, "Invoice").await, accepted());
        world.status_is(1, "settled").await;
        assert_eq!(world.pay(2, 600, "MOOD stuck").await, accepted());
        world.status_is(2, "submitted").await;
        world.sandbox.ledger()
    };
    // The process died in the middle of a line.
    let mut file = std::fs::OpenOptions::new().append(true).open(&journal).expect("a journal");
    std::io::Write::write_all(&mut file, br#"{"movement":{"transaction_id":"#).expect("writes");
    let world = World::start(|settings| settings.behaviour.journal = Some(journal.clone())).await;
    assert_eq!(world.sandbox.ledger(), before);
    assert!(matches!(world.client.look(key(1)).await, Look::Found(Report { status: Status::Settled, .. })));
    assert_eq!(world.pay(1, 500, "Invoice").await, accepted(), "known");
    assert_eq!(world.pay(2, 600, "MOOD stuck").await, accepted(), "known");
    assert!(world.sandbox.advance(key(2).as_uuid(), Stage::Settled));
    assert_eq!(world.sandbox.ledger(), before, "nothing moved twice");
}

/// Shutting down ends connections that wait for an answer: to the caller, the provider is gone.
#[tokio::test]
async fn a_shutdown_cuts_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let key = sandbox::ClientKey { kid: KID.to_owned(), public_key_pem: public_key() };
    let sandbox = Sandbox::new(sandbox::Settings::new("acme", SecretString::from("hunter2"), vec![key])).expect("a sandbox");
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(sandbox.clone().serve(listener, shutdown.clone()));
    let client = Client::new(settings(&url), Mode::Test).expect("a client");
    let body = Client::prepare(super::key(1), gbp(500), &beneficiary("MOOD slow-answer"), "withdrawal").expect("prepares");
    let stop = async {
        while sandbox.payout(super::key(1).as_uuid()).is_none() {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(client.submit(&body, soon(), LONG), stop);
    assert_eq!(answer, no_answer("connection_lost"));
    assert!(serving.await.expect("no panic").is_ok());
    assert_eq!(client.submit(&body, soon(), LONG).await, not_sent("connect"));
}

/// The whole package through its front door.
#[tokio::test]
async fn providers_lead_to_the_connector() {
    let world = World::start(|_| ()).await;
    let settings = crate::Settings { truelayer_test: Some(super::settings(&world.url)), ..crate::Settings::default() };
    let providers = crate::Providers::new(&settings).expect("providers");
    assert_eq!(providers.configured(Mode::Test).collect::<Vec<_>>(), [Provider::Truelayer]);
    assert_eq!(providers.configured(Mode::Live).count(), 0);
    let beneficiary = beneficiary("x");
    let order = crate::Order { key: key(1), money: gbp(500), beneficiary: &beneficiary, context_code: "internal" };
    let bytes = providers.prepare(Provider::Truelayer, Mode::Test, &order).expect("prepares");
    let inquiry = crate::Inquiry { key: key(1), reference: None, request: &bytes, first_sent: soon() };
    assert_eq!(providers.submit(Provider::Truelayer, Mode::Test, &bytes, soon(), LONG).await, accepted());
    assert!(matches!(providers.look(Provider::Truelayer, Mode::Test, &inquiry).await, Look::Found(_)));
    world.notices(1).await;
    let (headers, body) = world.platform.raw.lock().expect("no panic")[0].clone();
    let read = providers.read_notice(Provider::Truelayer, Mode::Test, &Method::POST, "/notices/truelayer", &headers, &body).await;
    assert!(read.is_ok());

    let live = providers.prepare(Provider::Truelayer, Mode::Live, &order);
    assert_eq!(live, Err(crate::Unprepared::NotConfigured));
    assert_eq!(providers.submit(Provider::Truelayer, Mode::Live, &bytes, soon(), LONG).await, not_sent("provider_not_configured"));
    assert!(matches!(providers.look(Provider::Truelayer, Mode::Live, &inquiry).await, Look::Nothing { .. }));
    let read = providers.read_notice(Provider::Truelayer, Mode::Live, &Method::POST, "/", &headers, &body).await;
    assert_eq!(read, Err(crate::NoticeError::NotConfigured));
    let over_http = crate::Settings { truelayer_live: Some(super::settings(&world.url)), ..settings };
    let error = crate::Providers::new(&over_http).expect_err("live money over http");
    assert_eq!(error.to_string(), "truelayer, live");
}
