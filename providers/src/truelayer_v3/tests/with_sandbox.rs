//! Client, inbox and sandbox against each other, over real sockets.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use domain::fact::About;

use super::super::inbox::{Inbox, Notice, NoticeError};
use super::super::sandbox::{self, Account, ListFault, Sandbox, Stage};
use super::*;
use crate::jws::Unverified;
use crate::sandbox::audit::Direction;
use crate::sandbox::mood::{Distribution, Mood};
use crate::truelayer::sandbox::ClientKey;

/// The platform's end of the webhooks: verifies what comes and keeps what it found.
#[derive(Clone, Default)]
struct Platform {
    inbox: Arc<std::sync::OnceLock<Inbox>>,
    read: Arc<Mutex<Vec<Result<Notice, NoticeError>>>>,
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

fn client_key() -> ClientKey {
    ClientKey { kid: KID.to_owned(), public_key_pem: PAIR.1.clone() }
}

fn accounts() -> Vec<Account> {
    let account = |id: &str, currency: &str| Account { id: id.to_owned(), currency: currency.to_owned(), balance_in_minor: 1_000_000 };
    vec![account(ACCOUNT, "GBP"), account("euros", "EUR")]
}

impl World {
    async fn start(change: impl FnOnce(&mut sandbox::Settings)) -> Self {
        let platform = Platform::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let notice_url = format!("http://{}/notices/truelayer-v3?unguessable=1", listener.local_addr().expect("an address"));
        let router = Router::new().route("/notices/truelayer-v3", axum::routing::post(receive)).with_state(platform.clone());
        let receiving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut settings = sandbox::Settings::new("acme", SecretString::from("hunter2"), vec![client_key()], accounts());
        settings.notice_url = Some(notice_url);
        settings.notice_wait_ms = 5;
        (settings.authorize_after_ms, settings.execute_after_ms, settings.behaviour.return_after_ms) = (0, 0, 0);
        change(&mut settings);
        let sandbox = Sandbox::new(settings).expect("a sandbox");
        let serving = sandbox.clone().serve(listener, CancellationToken::new());
        let serving = tokio::spawn(async move { serving.await.expect("serves") });
        let client = Client::new(super::settings(&url), Mode::Test, NAME).expect("a client");
        assert!(platform.inbox.set(Inbox::new(&super::settings(&url), Mode::Test).expect("an inbox")).is_ok());
        let tasks = vec![AbortOnDropHandle::new(receiving), AbortOnDropHandle::new(serving)];
        Self { sandbox, client, platform, url, _tasks: tasks }
    }

    async fn pay(&self, number: u8, minor: i64, reference: &str) -> Answer {
        let beneficiary = beneficiary(reference);
        let order = Order { key: key(number), money: gbp(minor), beneficiary: &beneficiary, context_code: "" };
        // The deadline is what some answers are about; for the others it only has to be longer than a busy machine is slow.
        let within = if reference.contains("slow-answer") { 1_500 } else { 15_000 };
        self.client.submit(&self.client.prepare(&order).expect("prepares"), soon(), Duration::from_millis(within)).await
    }

    async fn look(&self, number: u8, reference: &ProviderReference) -> Look {
        self.client.look(&Inquiry { key: key(number), ..inquiry(Some(reference)) }).await
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
        self.until(|world| (world.sandbox.payout(key(number).as_uuid())?.payouts.last()?.status == status).then_some(())).await;
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

/// The provider's id in an accepting answer.
fn id_in(answer: Answer) -> ProviderReference {
    match answer {
        Answer::Says(Report { status: Status::Authorised, reference: Some(reference), .. }) => reference,
        other => panic!("not accepted: {other:?}"),
    }
}

/// A payout from create to executed: answer, looks, notice, ledger and balance tell the same story.
#[tokio::test]
async fn a_payout_is_executed() {
    let world = World::start(|_| ()).await;
    let reference = id_in(world.pay(1, 5_000, "Invoice 1").await);
    let notices = world.notices(1).await;
    assert_eq!(World::words(&notices), ["payout_executed"]);
    let told = notices[0].as_ref().expect("verified").told().expect("a payout").clone();
    assert_eq!((&told.about, &told.report.status, told.report.reference.as_ref()), (&About::Key(key(1)), &Status::Settled, Some(&reference)));
    let Look::Found(report) = world.look(1, &reference).await else { panic!("found") };
    assert_eq!((report.status, report.amount, report.at), (Status::Settled, Some(gbp(5_000)), told.report.at));
    let [movement] = &world.sandbox.movements()[..] else { panic!("one movement") };
    assert_eq!((movement.amount_in_minor, movement.direction, movement.reference.as_str()), (5_000, Direction::Out, "Invoice 1"));
    assert_eq!(movement.payout_and_attempt(), key(1).payout_and_attempt());
    let accounts = world.client.merchant_accounts().await.expect("accounts");
    assert_eq!(accounts[0].available_balance_in_minor, 1_000_000 - 5_000);
    assert_eq!(world.look(2, &ProviderReference("nobody".to_owned())).await, nothing("reference_unknown"));
    // Somebody else's id does not answer for our key.
    assert_eq!(world.look(2, &reference).await, nothing("other_payout"));
}

/// The lost answer: no id, so nothing to look by; the same bytes under the same key tell the id, and money moves once.
#[tokio::test]
async fn a_repeat_tells_the_id_that_was_lost() {
    let rate_limited = unprocessed("rate_limited", Some(SignedDuration::from_secs(1)));
    for (mood, first) in [
        (Mood::LostAnswer, no_answer("connection_lost")),
        (Mood::LateAppear, no_answer("connection_lost")),
        (Mood::SlowAnswer, no_answer("deadline")),
        (Mood::ErrorBefore, no_answer("status_500")),
        (Mood::ErrorAfter, no_answer("status_500")),
        (Mood::RateLimit, rate_limited),
    ] {
        let world = World::start(|settings| (settings.behaviour.slow_answer_ms, settings.behaviour.late_appear_ms) = (2_500, 500)).await;
        let text: String = format!("MOOD {}", mood.name()).chars().take(18).collect();
        assert_eq!(world.pay(1, 500, &text).await, first, "{mood:?}");
        assert_eq!(world.client.look(&inquiry(None)).await, nothing(NO_REFERENCE));
        if mood == Mood::SlowAnswer {
            assert_eq!(world.pay(1, 500, &text).await, no_answer("status_409"), "the first is under way");
        }
        let deadline = Instant::now() + LONG;
        let reference = loop {
            match world.pay(1, 500, &text).await {
                Answer::NoAnswer { .. } if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
                answer => break id_in(answer),
            }
        };
        assert_eq!(id_in(world.pay(1, 500, &text).await), reference, "the same id, however often");
        while world.look(1, &reference).await == nothing("reference_unknown") {
            assert!(mood == Mood::LateAppear && Instant::now() < deadline, "{mood:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.status_is(1, "executed").await;
        assert!(matches!(world.look(1, &reference).await, Look::Found(Report { status: Status::Settled, .. })));
        assert_eq!((world.sandbox.movements().len(), world.sandbox.ledger().double_movements), (1, 0), "{mood:?}");
    }
    // Beyond the provider's memory a repeat pays again, and the auditor sees it: the profile's retention is there for that.
    let world = World::start(|settings| settings.remembered_ms = 1).await;
    let first = id_in(world.pay(1, 500, "Invoice").await);
    world.status_is(1, "executed").await;
    assert_ne!(id_in(world.pay(1, 500, "Invoice").await), first);
    world.until(|world| (world.sandbox.ledger().double_movements == 1).then_some(())).await;
    let now = clock::now();
    assert!(!world.client.profile().may_resend(now - SignedDuration::from_hours(20), now));
    assert!(world.client.profile().may_resend(now - SignedDuration::from_hours(19), now));
}

/// A key that was used for something else is a contradiction, and pays nothing.
#[tokio::test]
async fn a_key_stands_for_one_content() {
    let world = World::start(|_| ()).await;
    id_in(world.pay(1, 500, "Invoice").await);
    assert_eq!(world.pay(1, 700, "Invoice").await, Answer::KeyConflict);
    assert_eq!(world.pay(1, 500, "Other").await, Answer::KeyConflict);
    world.status_is(1, "executed").await;
    assert_eq!(world.sandbox.movements().len(), 1);
    for _ in 0..2 {
        let refused = Answer::Refused { reason: Reason::new("invalid_parameters.account_holder_name") };
        assert_eq!(world.pay(2, 500, "MOOD refuse").await, refused);
    }
    assert_eq!(world.answers(2), ["400", "400"]);
    assert_eq!(world.sandbox.movements().len(), 1);
}

/// What each mood does to the notices of one payout, and what they say.
#[tokio::test]
async fn moods_of_notices() {
    let failed = |code: &str| Status::Failed { reason: Reason::new(code) };
    let returned = Status::Returned { reason: Reason::new("returned") };
    for (mood, expected, last, movements) in [
        (Mood::DuplicateNotices, vec!["payout_executed", "payout_executed"], Status::Settled, 1),
        (Mood::ShuffledNotices, vec!["payout_executed"], Status::Settled, 1),
        (Mood::BadSignature, vec!["refused", "payout_executed"], Status::Settled, 1),
        (Mood::Reject, vec!["payout_failed"], failed("insufficient_funds"), 0),
        (Mood::Fail, vec!["payout_failed"], failed("scheme_error"), 2),
        (Mood::Return, vec!["payout_executed", "payout_failed"], returned, 2),
    ] {
        let world = World::start(|_| ()).await;
        world.sandbox.set_mood(1, mood);
        let reference = id_in(world.pay(1, 500, "Invoice").await);
        let notices = world.notices(expected.len()).await;
        assert_eq!(World::words(&notices), expected, "{mood:?}");
        let ids: std::collections::HashSet<_> = notices.iter().flatten().map(Notice::dedupe_id).collect();
        let distinct = notices.iter().flatten().count() / if mood == Mood::DuplicateNotices { 2 } else { 1 };
        assert_eq!(ids.len(), distinct, "{mood:?}");
        let told = notices.iter().flatten().last().expect("a notice").told().expect("a payout").clone();
        assert_eq!((&told.about, &told.report.status), (&About::Key(key(1)), &last), "{mood:?}");
        let Look::Found(report) = world.look(1, &reference).await else { panic!("found") };
        assert_eq!(report.status, last, "{mood:?}");
        assert_eq!((world.sandbox.movements().len(), world.sandbox.ledger().double_movements), (movements, 0), "{mood:?}");
        // The mood was for one payout.
        id_in(world.pay(2, 500, "Invoice").await);
        world.status_is(2, "executed").await;
    }
    // The return last first: the fold does not mind, and the failure came first.
    let world = World::start(|_| ()).await;
    id_in(world.pay(1, 500, "MOOD stuck").await);
    world.status_is(1, "authorized").await;
    assert!(!world.sandbox.advance(key(1).as_uuid(), Stage::Returned));
    assert!(world.sandbox.advance(key(1).as_uuid(), Stage::Executed));
    assert!(world.sandbox.advance(key(1).as_uuid(), Stage::Returned));
    let mut words = World::words(&world.notices(2).await);
    words.sort();
    assert_eq!(words, ["payout_executed", "payout_failed"]);
    // No notice at all: only a look tells.
    let world = World::start(|_| ()).await;
    id_in(world.pay(1, 500, "MOOD no-notices").await);
    world.status_is(1, "executed").await;
    id_in(world.pay(2, 500, "MOOD reject").await);
    assert_eq!(world.notices(1).await[0].as_ref().expect("verified").told().expect("a payout").about, About::Key(key(2)));
}

/// A return that a look never shows: the notice is all there is.
#[tokio::test]
async fn a_return_that_only_the_notice_tells() {
    let world = World::start(|settings| settings.returns_shown = false).await;
    let reference = id_in(world.pay(1, 500, "MOOD return").await);
    let notices = world.notices(2).await;
    let told = notices[1].as_ref().expect("verified").told().expect("a payout");
    assert_eq!(told.report.status, Status::Returned { reason: Reason::new("returned") });
    assert!(matches!(world.look(1, &reference).await, Look::Found(Report { status: Status::Settled, .. })));
    assert_eq!(world.sandbox.movements().iter().map(|movement| movement.direction).collect::<Vec<_>>(), [Direction::Out, Direction::Back]);
}

/// A real notice, changed in the ways that matter; the whole list is in v1's tests, where the same proof is used.
#[tokio::test]
async fn notices_are_believed_only_whole() {
    let world = World::start(|_| ()).await;
    *world.platform.failures.lock().expect("no panic") = 2;
    id_in(world.pay(1, 500, "Invoice").await);
    let whole = world.notices(1).await[0].clone().expect("verified");
    let sent = world.until(|world| Some(world.sandbox.payout(key(1).as_uuid())?.calls.notices).filter(|sent| sent.len() == 3)).await;
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(500), Some(500), Some(204)]);
    assert!(sent.iter().all(|other| other.event_id == whole.dedupe_id()));
    let (headers, body) = world.platform.raw.lock().expect("no panic")[0].clone();
    let (post, path, inbox) = (Method::POST, "/notices/truelayer-v3", world.platform.inbox.get().expect("an inbox"));
    assert_eq!(inbox.read(&post, path, &headers, &body).await, Ok(whole));
    let changed: Bytes = String::from_utf8(body.to_vec()).expect("text").replace("executed", "exceeded").into_bytes().into();
    let mismatch = Err(NoticeError::Unverified(Unverified::Mismatch));
    assert_eq!(inbox.read(&post, path, &headers, &changed).await, mismatch);
    assert_eq!(inbox.read(&post, "/elsewhere", &headers, &body).await, mismatch);
    // The older generation proves nothing here, whoever signed it.
    let rsa = SigningKey::generate("r", Algorithm::Rs512).expect("a key");
    let old = rsa.sign_body(&body, Some(&world.sandbox.jku())).expect("signs");
    let old = HeaderMap::from_iter([(crate::truelayer::BODY_SIGNATURE, HeaderValue::try_from(old).expect("a value"))]);
    assert_eq!(inbox.read(&post, path, &old, &body).await, Err(NoticeError::NoSignature));
    let forger = SigningKey::generate(KID, Algorithm::Es512).expect("a key");
    let value = forger.sign_request(&post, path, &[], &body, Some("https://evil.example/jwks")).expect("signs");
    let forged = HeaderMap::from_iter([(REQUEST_SIGNATURE, HeaderValue::try_from(value).expect("a value"))]);
    assert_eq!(inbox.read(&post, path, &forged, &body).await, Err(NoticeError::KeySource));
}

/// A payout that somebody else made names no key of ours: the notice is a hint, by the provider's id.
#[tokio::test]
async fn a_notice_without_our_key_names_theirs() {
    let world = World::start(|_| ()).await;
    let beneficiary = beneficiary("Invoice");
    let order = Order { key: key(1), money: gbp(500), beneficiary: &beneficiary, context_code: "" };
    let foreign = String::from_utf8(world.client.prepare(&order).expect("prepares")).expect("text").replace("payrelay_key", "their_key");
    let (token, _) = world.client.tokens.get(Instant::now() + LONG).await.expect("a token");
    let call = world.client.signed(&key(1).to_string(), foreign.into(), LONG).expect("signs").header(header::AUTHORIZATION, token);
    let created = world.client.api.call(call).await.expect("an answer").json::<wire::Created>().expect("an id");
    let notices = world.notices(1).await;
    let notice = notices[0].as_ref().expect("verified");
    assert_eq!(notice.told().map(|told| &told.about), Some(&About::Reference(ProviderReference(created.id))));
}

/// The sandbox is a strict server: no token, no key, no signature, no unknown fields.
#[tokio::test]
async fn the_sandbox_is_strict() {
    let world = World::start(|_| ()).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let good = String::from_utf8(body(&world.client)).expect("text");
    let (token, _) = world.client.tokens.get(Instant::now() + LONG).await.expect("a token");
    let answer_to = async |call: Call| {
        let response = api.call(call).await.expect("an answer");
        (response.status.as_u16(), response.json::<wire::Problem>().map(|problem| problem.reason()).unwrap_or_default())
    };
    let signed = |key: &str, body: &str| world.client.signed(key, body.to_owned().into(), LONG).expect("signs");
    let ours = key(1).to_string();
    let with_token = |call: Call| call.header(header::AUTHORIZATION, token.clone());
    let is = |status, reason: &str| (status, reason.to_owned());
    assert_eq!(answer_to(signed(&ours, &good)).await, is(401, "unauthenticated"));
    assert_eq!(answer_to(with_token(signed("no-uuid", &good))).await, is(400, "invalid_parameters"));
    // The key belongs to what is signed.
    let other = HeaderValue::try_from(key(2).to_string()).expect("a value");
    assert_eq!(answer_to(with_token(signed(&ours, &good).header(IDEMPOTENCY_KEY, other))).await, is(401, "unauthenticated"));
    let unsigned = Call::new(Method::POST, PAYOUTS, LONG).header(IDEMPOTENCY_KEY, HeaderValue::try_from(&ours).expect("a value"));
    assert_eq!(answer_to(with_token(unsigned.body("application/json", good.clone().into()))).await, is(401, "unauthenticated"));
    for (from, to, reason) in [
        ("12345,", "12345.0,", "invalid_parameters"),
        ("12345,", "0,", "invalid_parameters.amount_in_minor"),
        ("\"metadata\"", "\"note\":1,\"metadata\"", "invalid_parameters"),
        (ACCOUNT, "nobody", "invalid_parameters.merchant_account_id"),
        ("\"GBP\"", "\"EUR\"", "invalid_parameters.currency"),
        ("Ada Quill", "", "invalid_parameters.account_holder_name"),
        ("Invoice 1187", "", "invalid_parameters.reference"),
        ("GB82WEST", "GB83WEST", "invalid_parameters.iban"),
        ("\"payrelay_key\":", "\"a key of more than forty characters, which is too many\":", "invalid_parameters.metadata"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert_eq!(answer_to(with_token(signed(&ours, &changed))).await, is(400, reason), "{to}");
    }
    assert_eq!(world.sandbox.movements(), []);
    assert_eq!(answer_to(with_token(signed(&ours, &good))).await.0, 202);
    // A token for v1 opens nothing here, and a refused one is replaced by the client.
    let v1 = Client::new(Settings { scope: "payouts".to_owned(), ..settings(&world.url) }, Mode::Test, NAME).expect("a client");
    assert_eq!(v1.submit(&body(&v1), soon(), LONG).await, not_sent("token_refused"));
    world.sandbox.revoke_tokens();
    id_in(world.pay(2, 500, "Invoice").await);
}

/// An account that is too small fails the payout before anything moves; amounts are exact to the last unit.
#[tokio::test]
async fn money_is_finite_and_exact() {
    let world = World::start(|settings| settings.accounts[0].balance_in_minor = Money::MAX_MINOR).await;
    let reference = id_in(world.pay(1, Money::MAX_MINOR, "Invoice").await);
    world.status_is(1, "executed").await;
    assert!(matches!(world.look(1, &reference).await, Look::Found(Report { amount, .. }) if amount == Some(gbp(Money::MAX_MINOR))));
    let reference = id_in(world.pay(2, 1, "Invoice").await);
    world.status_is(2, "failed").await;
    let Look::Found(report) = world.look(2, &reference).await else { panic!("found") };
    assert_eq!(report.status, Status::Failed { reason: Reason::new("insufficient_funds") });
    assert_eq!(world.sandbox.movements().len(), 1);
}

/// A journal carries keys, payouts and movements over a restart, and unfinished ones go on.
#[tokio::test]
async fn a_restart_keeps_the_books() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("sandbox.jsonl");
    let (first, waiting) = {
        let world = World::start(|settings| settings.behaviour.journal = Some(journal.clone())).await;
        let first = id_in(world.pay(1, 500, "Invoice").await);
        world.status_is(1, "executed").await;
        (first, world.sandbox.ledger())
    };
    let world = World::start(|settings| (settings.behaviour.journal, settings.authorize_after_ms) = (Some(journal.clone()), 3_600_000)).await;
    assert_eq!((world.sandbox.ledger(), waiting.movements.len()), (waiting, 1));
    assert_eq!(id_in(world.pay(1, 500, "Invoice").await), first, "known");
    id_in(world.pay(2, 600, "Invoice").await);
    drop(world);
    let world = World::start(|settings| settings.behaviour.journal = Some(journal.clone())).await;
    world.status_is(2, "executed").await;
    assert_eq!((world.sandbox.movements().len(), world.sandbox.ledger().double_movements), (2, 0));
}

/// The admin routes, and random moods.
#[tokio::test]
async fn admin_routes() {
    let world = World::start(|_| ()).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let get = async |path: &str| api.call(Call::new(Method::GET, path, LONG)).await.expect("an answer").json::<Value>().expect("JSON");
    let send = async |path: &str, body: &'static str| {
        api.call(Call::new(Method::POST, path, LONG).body("application/json", body.into())).await.expect("an answer").status.as_u16()
    };
    assert_eq!(get("/sandbox/moods").await["moods"].as_array().map(Vec::len), Some(16));
    assert_eq!(send("/sandbox/moods", r#"{"next": 1, "mood": "stuck"}"#).await, 204);
    id_in(world.pay(1, 500, "Invoice").await);
    world.status_is(1, "authorized").await;
    let path = format!("/sandbox/payouts/{}", key(1));
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "returned"}"#).await, 409);
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "failed"}"#).await, 204);
    let view = get(&path).await;
    assert_eq!((&view["mood"], &view["calls"]["creates"], &view["payouts"][0]["status"]), (&"stuck".into(), &1.into(), &"failed".into()));
    let ledger = get("/sandbox/ledger").await;
    assert_eq!((&ledger["double_movements"], ledger["movements"].as_array().map(Vec::len)), (&0.into(), Some(2)));
    assert!(!ledger.to_string().contains("Quill") && !ledger.to_string().contains("WEST"), "{ledger}");
    assert_eq!(send("/sandbox/tokens/revoke", "{}").await, 204);
    world.sandbox.set_random(Some(Distribution { fault_percent: 100, seed: 7, moods: vec![Mood::Refuse] }));
    assert!(matches!(world.pay(3, 500, "Invoice").await, Answer::Refused { .. }));
    assert_eq!(get("/nowhere").await["title"], "Not Found");
}

/// A period is read over as many pages as it has, whatever else the list holds; and what is not read is said to be missing.
#[tokio::test]
async fn statements() {
    let hour = SignedDuration::from_hours(1);
    // Faults, and whether the list is whole in spite of them.
    for (faults, whole) in [
        (vec![], true),
        (vec![ListFault::EmptyPage, ListFault::Strangers], true),
        (vec![ListFault::SameCursor], false),
        (vec![ListFault::Unpaginated], false),
    ] {
        let world = World::start(|settings| (settings.page_size, settings.list_faults) = (2, faults.clone())).await;
        for number in 1..=4 {
            assert!(matches!(world.pay(number, 500 + i64::from(number), "x").await, Answer::Says(_)));
            world.status_is(number, "executed").await;
        }
        assert!(matches!(world.pay(5, 505, "MOOD return").await, Answer::Says(_)));
        world.status_is(5, "failed").await;
        assert!(matches!(world.pay(6, 506, "MOOD fail").await, Answer::Says(_)));
        world.status_is(6, "failed").await;
        assert!(matches!(world.pay(7, 507, "MOOD stuck").await, Answer::Says(_)));
        world.status_is(7, "authorized").await;
        let (from, to) = (clock::now() - hour, clock::now() + hour);
        let statement = world.client.statement(from, to, 10).await.expect("a statement");
        assert_eq!(statement.whole, whole, "{faults:?}");
        if !whole {
            continue;
        }
        let mut told: Vec<_> = statement.lines.iter().map(|line| (line.report.amount, line.report.provider_status.as_str())).collect();
        told.sort_by_key(|(amount, _)| amount.map(Money::minor));
        let expected = [(501, "executed"), (502, "executed"), (503, "executed"), (504, "executed"), (505, "returned"), (507, "pending")];
        assert_eq!(told, expected.map(|(minor, word)| (Some(gbp(minor)), word)), "{faults:?}");
        for line in &statement.lines {
            assert!(line.at.is_some() && line.reference().is_some() && (1..=7).any(|number| line.key == Some(key(number))), "{line:?}");
        }
        let cut = world.client.statement(from, to, 3).await.expect("a statement");
        assert_eq!((cut.lines.len(), cut.whole), (3, false), "by lines");
        let later = world.client.statement(to, to + hour, 5).await.expect("a statement");
        assert_eq!((later.lines.len(), later.whole), (0, true));
        let long = world.client.statement(from - hour * 24 * 40, to, 10).await.expect("a period that one question cannot be about");
        assert_eq!((long.lines.len(), long.whole), (6, true));
        let narrow = Settings { response_limit_bytes: 1_300, ..super::settings(&world.url) };
        let halves = Client::new(narrow, Mode::Test, NAME).expect("a client").statement(from, to, 10).await;
        if faults.is_empty() {
            assert_eq!(halves, Ok(statement), "a page that is too large is asked for in halves");
        }
    }
    let world = World::start(|settings| settings.list_faults = vec![ListFault::OtherAmounts]).await;
    assert!(matches!(world.pay(1, 501, "x").await, Answer::Says(_)));
    let listed = world.client.statement(clock::now() - hour, clock::now() + hour, 10).await.expect("a statement");
    assert_eq!(listed.lines[0].report.amount, Some(gbp(502)));
    let world = World::start(|settings| (settings.page_size, settings.list_faults) = (1, vec![ListFault::Error])).await;
    for number in 1..=2 {
        assert!(matches!(world.pay(number, 501, "x").await, Answer::Says(_)));
        world.status_is(number, "executed").await;
    }
    let (from, to) = (clock::now() - hour, clock::now() + hour);
    assert_eq!(world.client.statement(from, to, 10).await, Err(ReadError::new("status_500")), "half a list is none");
}

/// What was made in the period and moved after it belongs to it; what moved in it and was made before does not.
#[tokio::test]
async fn statements_are_about_when_payouts_were_made() {
    let world = World::start(|settings| settings.execute_after_ms = 1_000).await;
    assert!(matches!(world.pay(1, 501, "x").await, Answer::Says(_)));
    let made = clock::now();
    world.status_is(1, "executed").await;
    assert!(clock::now() > made + SignedDuration::from_millis(500));
    let before = world.client.statement(made - SignedDuration::from_hours(1), made, 10).await.expect("a statement");
    assert_eq!((before.lines.len(), before.whole), (1, true));
    let after = world.client.statement(made, made + SignedDuration::from_hours(1), 10).await.expect("a statement");
    assert_eq!((after.lines.len(), after.whole), (0, true));
}
