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
use super::super::sandbox::balance::{Account, Trouble};
use super::super::sandbox::{self, Payload, Sandbox, Spelling, Stage};
use super::*;
use crate::sandbox::audit::Direction;
use crate::sandbox::mood::{Distribution, Mood};

/// The platform's end of the webhooks: verifies what comes and keeps what it found.
#[derive(Clone)]
struct Platform {
    inbox: Arc<Inbox>,
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
    let read = platform.inbox.read(&parts.method, parts.uri.path(), &parts.headers, &body).await;
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
        Self::with("test_hunter2", change).await
    }

    async fn with(api_key: &str, change: impl FnOnce(&mut sandbox::Settings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let notice_url = format!("http://{}/notices/mollie", listener.local_addr().expect("an address"));
        let inbox = Arc::new(Inbox::new(&settings("http://127.0.0.1:1"), Mode::Test).expect("an inbox"));
        let platform = Platform { inbox, read: Arc::default(), raw: Arc::default(), failures: Arc::default() };
        let router = Router::new().route("/notices/mollie", axum::routing::post(receive)).with_state(platform.clone());
        let receiving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let account = |id: &str, currency: &str| Account { id: id.to_owned(), currency: currency.to_owned(), balance_in_minor: 1_000_000 };
        let mut settings = sandbox::Settings::new(SecretString::from(api_key), vec![account(BALANCE, "EUR"), account("bal_yen", "JPY")]);
        settings.notice_url = Some(notice_url);
        settings.notice_secrets = super::settings("").webhook_secrets;
        settings.notice_wait_ms = 5;
        (settings.initiate_after_ms, settings.process_after_ms, settings.complete_after_ms, settings.behaviour.return_after_ms) = (0, 0, 0, 0);
        settings.one_per_balance = false;
        change(&mut settings);
        let sandbox = Sandbox::new(settings).expect("a sandbox");
        let serving = sandbox.clone().serve(listener, CancellationToken::new());
        let serving = tokio::spawn(async move { serving.await.expect("serves") });
        let client = Client::new(Settings { api_key: SecretString::from(api_key), ..super::settings(&url) }, Mode::Test, NAME).expect("a client");
        let tasks = vec![AbortOnDropHandle::new(receiving), AbortOnDropHandle::new(serving)];
        Self { sandbox, client, platform, url, _tasks: tasks }
    }

    fn request(&self, number: u8, minor: i64, reference: &str) -> Vec<u8> {
        let order = Order { key: key(number), money: eur(minor), beneficiary: &own_account(reference), context_code: "" };
        self.client.prepare(&order).expect("prepares")
    }

    async fn pay(&self, number: u8, minor: i64, reference: &str) -> Answer {
        // The deadline is what some answers are about; for the others it only has to be longer than a busy machine is slow.
        let within = if reference.contains("slow-answer") { 1_500 } else { 15_000 };
        self.client.submit(&self.request(number, minor, reference), soon(), Duration::from_millis(within)).await
    }

    async fn look(&self, number: u8, reference: Option<&ProviderReference>) -> Look {
        let first_sent = clock::now() - SignedDuration::from_mins(1);
        self.client.look(&Inquiry { key: key(number), reference, request: &self.request(number, 1, "any"), first_sent }).await
    }

    async fn cancel(&self, number: u8, reference: Option<&ProviderReference>) -> Canceling {
        let first_sent = clock::now() - SignedDuration::from_mins(1);
        self.client.cancel(&Inquiry { key: key(number), reference, request: &self.request(number, 1, "any"), first_sent }).await
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
fn accepted(answer: Answer) -> ProviderReference {
    match answer {
        Answer::Says(Report { status: Status::Authorised, reference: Some(reference), .. }) => reference,
        other => panic!("not accepted: {other:?}"),
    }
}

fn found(look: Look) -> Report {
    match look {
        Look::Found(report) => report,
        other => panic!("not found: {other:?}"),
    }
}

/// A payout from create to completed: answer, looks, notices, ledger and balance tell the same story.
#[tokio::test]
async fn a_payout_completes() {
    for (payload, spelling) in [(Payload::Snapshot, Spelling::Prefixed), (Payload::Simple, Spelling::Bare), (Payload::Bare, Spelling::Prefixed)] {
        let world = World::start(|settings| (settings.payload, settings.spelling) = (payload, spelling)).await;
        assert_eq!(world.look(1, None).await, Look::NotFound);
        let reference = accepted(world.pay(1, 5_000, "Week 12").await);
        let notices = world.notices(3).await;
        assert_eq!(World::words(&notices), ["payout.initiated", "payout.processing-at-bank", "payout.completed"], "{payload:?}");
        let report = found(world.look(1, Some(&reference)).await);
        assert_eq!((&report.status, report.amount, report.provider_status.as_str()), (&Status::Settled, Some(eur(5_000)), "completed"));
        assert_eq!(found(world.look(1, None).await), report, "by our key as by their id");
        for notice in notices.iter().flatten() {
            match payload {
                Payload::Simple => assert_eq!((notice.told(), notice.hint()), (None, Some(&About::Reference(reference.clone())))),
                Payload::Snapshot | Payload::Bare => assert_eq!(notice.told().map(|told| &told.about), Some(&About::Key(key(1)))),
            }
        }
        if payload == Payload::Snapshot {
            assert_eq!(notices[2].as_ref().expect("verified").told().expect("a payout").report, report, "the notice and the look agree");
        }
        let ledger = world.sandbox.ledger();
        let [movement] = &ledger.movements[..] else { panic!("one movement") };
        assert_eq!((movement.amount_in_minor, movement.direction, movement.reference.as_str()), (5_000, Direction::Out, "Week 12"));
        assert_eq!(movement.payout_and_attempt(), key(1).payout_and_attempt());
        let balances = world.client.balances().await.expect("balances");
        let euros = balances.iter().find(|balance| balance.id == BALANCE).expect("the balance");
        // The side effect that the profile names.
        assert_eq!((euros.available_amount.value.as_str(), euros.transfer_frequency.as_str()), ("9950.00", "never"));
        assert_eq!(balances.iter().find(|balance| balance.id == "bal_yen").expect("the other").transfer_frequency, "daily");
    }
}

/// With the token of an organisation every request names the mode, and test and live do not see each other.
#[tokio::test]
async fn modes_are_apart() {
    let world = World::with("access_hunter2", |_| ()).await;
    let reference = accepted(world.pay(1, 5_000, "Week 12").await);
    assert_eq!(found(world.look(1, Some(&reference)).await).reference, Some(reference.clone()));
    assert_eq!(found(world.look(1, None).await).reference, Some(reference.clone()));
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let get = async |query: &[(&'static str, &str)]| {
        let authorization = HeaderValue::from_static("Bearer access_hunter2");
        let call = Call::new(Method::GET, format!("{PAYOUTS}/{}", reference.0), LONG).header(header::AUTHORIZATION, authorization);
        let call = query.iter().fold(call, |call, (name, value)| call.query(name, *value));
        api.call(call).await.expect("an answer").status.as_u16()
    };
    assert_eq!(get(&[("testmode", "true")]).await, 200);
    assert_eq!(get(&[("testmode", "false")]).await, 404);
    assert_eq!(get(&[]).await, 404, "without a word it is live");
    // An API key must not name the mode.
    let world = World::start(|_| ()).await;
    let talkative = Settings { api_key: SecretString::from("other"), ..settings(&world.url) };
    let mut talkative = Client::new(talkative, Mode::Test, NAME).expect("a client");
    talkative.authorization = HeaderValue::from_static("Bearer test_hunter2");
    assert_eq!(talkative.submit(&prepared(&talkative), soon(), LONG).await, Answer::Refused { reason: Reason::new("unprocessable") });
    assert_eq!(talkative.look(&inquiry(&prepared(&talkative), None)).await, nothing("status_422"));
}

/// Each documented refusal, from the state of the balance that causes it; afterwards the balance pays again.
#[tokio::test]
async fn refusals() {
    let world = World::start(|settings| settings.one_per_balance = true).await;
    let refused = |code: &str| Answer::Refused { reason: Reason::new(code) };
    let none = Trouble::default();
    let mut number = 0;
    for (trouble, code) in [
        (Trouble { inactive: true, ..none }, "balance_inactive"),
        (Trouble { blocked: true, ..none }, "payouts_blocked"),
        (Trouble { queued_refunds: true, ..none }, "queued_refunds"),
        (Trouble { negative_balance: true, ..none }, "negative_balance"),
        (Trouble { no_destination: true, ..none }, "destination_invalid"),
    ] {
        assert!(world.sandbox.set_trouble(BALANCE, trouble));
        number += 1;
        assert_eq!(world.pay(number, 500, "x").await, refused(code));
        assert!(world.sandbox.set_trouble(BALANCE, none));
        assert_eq!(world.pay(number, 500, "x").await, refused(code), "the first answer to a key is its answer");
        assert_eq!(world.look(number, None).await, Look::NotFound);
    }
    assert_eq!(world.pay(20, 1_000_001, "x").await, refused("insufficient_funds"));
    assert_eq!(world.sandbox.movements(), []);
    accepted(world.pay(21, 1_000_000, "x").await);
    world.status_is(21, "completed").await;
    assert_eq!(world.pay(22, 1, "x").await, refused("insufficient_funds"));
    let strange = Settings { balances: [("EUR".to_owned(), "bal_strange".to_owned())].into(), ..settings(&world.url) };
    let strange = Client::new(strange, Mode::Test, NAME).expect("a client");
    let order = Order { key: key(23), money: eur(1), beneficiary: &own_account("x"), context_code: "" };
    assert_eq!(strange.submit(&strange.prepare(&order).expect("prepares"), soon(), LONG).await, refused("unprocessable.balanceId"));

    // One open payout per balance.
    let world = World::start(|settings| (settings.one_per_balance, settings.initiate_after_ms) = (true, 3_600_000)).await;
    let reference = accepted(world.pay(1, 500, "x").await);
    let wait = Some(SignedDuration::from_hours(1));
    assert_eq!(world.pay(2, 500, "x").await, Answer::Unprocessed { why: Reason::new("payout_already_scheduled"), retry_after: wait });
    assert!(matches!(world.cancel(1, Some(&reference)).await, Canceling::Canceled(_)));
    accepted(world.pay(3, 500, "x").await);
}

/// Each mood: what the first send and the second one are told, what a look finds, and that money moves once.
#[tokio::test]
async fn moods_of_answers() {
    let rate_limited = unprocessed("rate_limited", Some(SignedDuration::from_secs(1)));
    for (mood, first) in [
        (Mood::LostAnswer, Some(no_answer("connection_lost"))),
        (Mood::SlowAnswer, Some(no_answer("deadline"))),
        (Mood::ErrorBefore, Some(no_answer("status_500"))),
        (Mood::ErrorAfter, Some(no_answer("status_500"))),
        (Mood::RateLimit, Some(rate_limited)),
        (Mood::Plain, None),
    ] {
        let world = World::start(|settings| settings.behaviour.slow_answer_ms = 3_000).await;
        let reference = format!("MOOD {}", mood.name());
        let answer = world.pay(1, 500, &reference).await;
        let carried_out = !matches!(mood, Mood::ErrorBefore | Mood::RateLimit);
        match first {
            Some(first) => assert_eq!(answer, first, "{mood:?}"),
            None => drop(accepted(answer)),
        }
        assert_eq!(matches!(world.look(1, None).await, Look::Found(_)), carried_out, "{mood:?}");
        if mood == Mood::SlowAnswer {
            // The first request is under way: a repeat is told so, and learns the id by a look.
            assert_eq!(world.pay(1, 500, &reference).await, no_answer("status_409"));
            world.until(|world| (world.answers(1).len() >= 2).then_some(())).await;
        } else {
            let id = accepted(world.pay(1, 500, &reference).await);
            assert_eq!(found(world.look(1, Some(&id)).await).reference, Some(id), "{mood:?}");
        }
        world.status_is(1, "completed").await;
        let view = world.sandbox.payout(key(1).as_uuid()).expect("known");
        assert_eq!((view.mood, view.payouts.len()), (mood, 1));
        assert_eq!((world.sandbox.movements().len(), world.sandbox.ledger().double_movements), (1, 0), "{mood:?}");
    }
    // Never accepted.
    let world = World::start(|_| ()).await;
    for _ in 0..2 {
        assert_eq!(world.pay(1, 500, "MOOD refuse").await, Answer::Refused { reason: Reason::new("payouts_blocked") });
    }
    assert_eq!(world.answers(1), ["422", "422"]);
    assert_eq!((world.look(1, None).await, world.sandbox.movements()), (Look::NotFound, vec![]));
    // By amount as by reference.
    assert_eq!(world.pay(2, Mood::FIRST_AMOUNT + 3, "x").await, no_answer("status_500"));
}

/// An accepted payout that the list and the id do not show yet: not found, and then found.
#[tokio::test]
async fn not_found_and_then_found() {
    let world = World::start(|settings| settings.behaviour.late_appear_ms = 700).await;
    assert_eq!(world.pay(1, 500, "MOOD late-appear").await, no_answer("connection_lost"));
    assert_eq!(world.look(1, None).await, Look::NotFound);
    // The same key finds it already, and makes no other.
    let id = accepted(world.pay(1, 500, "MOOD late-appear").await);
    assert_eq!(world.look(1, Some(&id)).await, nothing("reference_unknown"), "an id that was told is never absent");
    let deadline = Instant::now() + LONG;
    while world.look(1, None).await == Look::NotFound {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found(world.look(1, None).await).reference, Some(id));
    assert_eq!(World::words(&world.notices(3).await).len(), 3);
    assert_eq!(world.sandbox.movements().len(), 1);

    // The list lags behind the id.
    let world = World::start(|settings| settings.list_lag_ms = 60_000).await;
    let id = accepted(world.pay(1, 500, "x").await);
    assert_eq!(world.look(1, None).await, Look::NotFound);
    assert!(matches!(world.look(1, Some(&id)).await, Look::Found(_)));
}

/// The reason for the hour in the profile: once the key is forgotten, the same bytes pay again, and the auditor sees it.
#[tokio::test]
async fn after_an_hour_a_repeat_pays_twice() {
    let world = World::start(|settings| settings.remembered_ms = 1).await;
    let first = accepted(world.pay(1, 500, "x").await);
    world.status_is(1, "completed").await;
    let second = accepted(world.pay(1, 500, "x").await);
    assert_ne!(first, second);
    world.until(|world| (world.sandbox.movements().len() == 2).then_some(())).await;
    assert_eq!(world.sandbox.ledger().double_movements, 1);
    // And nobody says which of them it is.
    assert_eq!(world.look(1, None).await, nothing("several_payouts"));
    assert!(!world.client.profile().may_resend(clock::now() - SignedDuration::from_mins(48), clock::now()));
}

/// A period is read over as many pages as it has, and what is not read is said to be missing.
#[tokio::test]
async fn statements() {
    for undescribed in [false, true] {
        let world = World::start(|settings| settings.list_undescribed = undescribed).await;
        for number in 1..=5 {
            accepted(world.pay(number, 500 + i64::from(number), "x").await);
        }
        let of = |pages_max| Client::new(Settings { page_size: 2, pages_max, ..settings(&world.url) }, Mode::Test, NAME).expect("a client");
        let hour = SignedDuration::from_hours(1);
        let (from, to) = (clock::now() - hour, clock::now() + hour);
        let statement = of(3).statement(from, to, 5).await.expect("a statement");
        let keys: Vec<_> = statement.lines.iter().map(|line| line.key).collect();
        let expected: Vec<_> = (1..=5).rev().map(|number| (!undescribed).then(|| key(number))).collect();
        assert_eq!((keys, statement.whole), (expected, true));
        assert!(statement.lines.iter().all(|line| line.at.is_some() && line.reference().is_some() && line.report.amount.is_some()));
        let cut = of(2).statement(from, to, 5).await.expect("a statement");
        assert_eq!((cut.lines.len(), cut.whole), (4, false), "by pages");
        let cut = of(3).statement(from, to, 4).await.expect("a statement");
        assert_eq!((cut.lines.len(), cut.whole), (4, false), "by lines");
        let later = of(1).statement(to, to + hour, 5).await.expect("a statement");
        assert_eq!((later.lines.len(), later.whole), (0, true), "the first page leads back to before it");
    }
}

/// Our payout is found among many others, on later pages, and in a list that shows no descriptions.
#[tokio::test]
async fn a_long_list() {
    for undescribed in [false, true] {
        let world = World::start(|settings| settings.list_undescribed = undescribed).await;
        for number in 1..=7 {
            accepted(world.pay(number, 500 + i64::from(number), "x").await);
        }
        let settings = Settings { page_size: 2, ..settings(&world.url) };
        let client = Client::new(settings, Mode::Test, NAME).expect("a client");
        let first_sent = clock::now();
        for number in [1, 4, 7] {
            let request = world.request(number, 500 + i64::from(number), "x");
            let report = found(client.look(&Inquiry { key: key(number), reference: None, request: &request, first_sent }).await);
            assert_eq!(report.amount, Some(eur(500 + i64::from(number))));
        }
        let request = world.request(8, 504, "x");
        assert_eq!(
            client.look(&Inquiry { key: key(8), reference: None, request: &request, first_sent }).await,
            Look::NotFound,
            "the same amount is not it"
        );
    }
}

/// The key is recognised, and the first content wins: what came later under it is a contradiction.
#[tokio::test]
async fn the_first_content_wins() {
    let world = World::start(|_| ()).await;
    accepted(world.pay(1, 500, "x").await);
    assert_eq!(world.pay(1, 700, "x").await, Answer::KeyConflict);
    assert_eq!(world.pay(1, 500, "y").await, Answer::KeyConflict);
    world.status_is(1, "completed").await;
    // Also when it has gone on: the cached answer still says requested, the look knows better.
    assert!(matches!(world.pay(1, 500, "x").await, Answer::Says(Report { status: Status::Authorised, .. })));
    assert!(matches!(world.look(1, None).await, Look::Found(Report { status: Status::Settled, .. })));
    assert_eq!(world.sandbox.movements().len(), 1);
}

/// A cancel wins while the payout waits, and loses afterwards; never both.
#[tokio::test]
async fn cancel_and_the_day() {
    let world = World::start(|settings| settings.initiate_after_ms = 3_600_000).await;
    let reference = accepted(world.pay(1, 500, "x").await);
    let Canceling::Canceled(report) = world.cancel(1, None).await else { panic!("cancelled") };
    assert_eq!(report.reference, Some(reference.clone()));
    assert_eq!(world.cancel(1, Some(&reference)).await, Canceling::Canceled(report.clone()), "again");
    assert_eq!(found(world.look(1, Some(&reference)).await), report);
    let notices = world.notices(1).await;
    assert_eq!(World::words(&notices), ["payout.canceled"]);
    assert_eq!(notices[0].as_ref().expect("verified").told().expect("a payout").report.status, Status::Canceled { reason: Reason::new("canceled") });
    assert!(!world.sandbox.advance(key(1).as_uuid(), Stage::Initiated));

    let reference = accepted(world.pay(2, 500, "x").await);
    assert!(world.sandbox.advance(key(2).as_uuid(), Stage::Initiated));
    let Canceling::TooLate(report) = world.cancel(2, Some(&reference)).await else { panic!("too late") };
    assert_eq!(report.provider_status, "initiated");
    assert_eq!(world.sandbox.movements().len(), 1);
    assert_eq!(world.cancel(3, None).await, Canceling::Nothing { why: Reason::new("not_found") });
}

/// What each mood does to the notices of one payout, and what they say.
#[tokio::test]
async fn moods_of_notices() {
    let words = ["payout.initiated", "payout.processing-at-bank", "payout.completed"];
    let twice = words.iter().flat_map(|word| [*word, *word]).collect::<Vec<_>>();
    let forged = words.iter().flat_map(|word| ["refused", *word]).collect::<Vec<_>>();
    let failed = |code: &str| Status::Failed { reason: Reason::new(code) };
    let returned = Status::Returned { reason: Reason::new("returned") };
    for (mood, return_uncompleted, expected, last) in [
        (Mood::DuplicateNotices, false, twice, Status::Settled),
        (Mood::ShuffledNotices, false, words.into_iter().rev().collect(), Status::Authorised),
        (Mood::BadSignature, false, forged, Status::Settled),
        (Mood::Reject, false, vec!["payout.failed"], failed("insufficient_funds")),
        (Mood::Fail, false, vec!["payout.initiated", "payout.processing-at-bank", "payout.failed"], failed("bank_processing_failed")),
        (Mood::Return, false, vec!["payout.initiated", "payout.processing-at-bank", "payout.completed", "payout.failed"], returned.clone()),
        (Mood::Return, true, vec!["payout.initiated", "payout.processing-at-bank", "payout.failed"], returned),
        (Mood::Stuck, false, vec!["payout.initiated", "payout.processing-at-bank"], Status::Submitted),
    ] {
        let world = World::start(|settings| settings.return_uncompleted = return_uncompleted).await;
        world.sandbox.set_mood(1, mood);
        accepted(world.pay(1, 500, "x").await);
        let notices = world.notices(expected.len()).await;
        assert_eq!(World::words(&notices), expected, "{mood:?}");
        let ids: std::collections::HashSet<_> = notices.iter().flatten().map(Notice::dedupe_id).collect();
        let distinct = notices.iter().flatten().count() / if mood == Mood::DuplicateNotices { 2 } else { 1 };
        assert_eq!(ids.len(), distinct, "{mood:?}");
        let told = notices.iter().flatten().last().expect("a notice").told().expect("a payout").clone();
        assert_eq!((told.about, told.report.status), (About::Key(key(1)), last), "{mood:?}");
        let came_back = matches!(mood, Mood::Fail | Mood::Return);
        assert_eq!(world.sandbox.movements().len(), if mood == Mood::Reject { 0 } else { 1 + usize::from(came_back) }, "{mood:?}");
        assert_eq!(world.sandbox.ledger().double_movements, 0);
        // The mood was for one payout.
        accepted(world.pay(2, 500, "x").await);
        world.status_is(2, "completed").await;
    }
    let world = World::start(|_| ()).await;
    accepted(world.pay(1, 500, "MOOD no-notices").await);
    world.status_is(1, "completed").await;
    accepted(world.pay(2, 500, "MOOD reject").await);
    let notices = world.notices(1).await;
    assert_eq!(notices[0].as_ref().expect("verified").told().expect("a payout").about, About::Key(key(2)), "nothing about the first");
}

/// A receiver that fails gets a notice again, under the same id; one of several secrets is enough.
#[tokio::test]
async fn notices_are_sent_again() {
    let world = World::start(|settings| settings.notice_secrets.insert(0, SecretString::from("the next secret"))).await;
    *world.platform.failures.lock().expect("no panic") = 2;
    accepted(world.pay(1, 500, "MOOD reject").await);
    assert_eq!(World::words(&world.notices(1).await), ["payout.failed"]);
    let sent = world.until(|world| Some(world.sandbox.payout(key(1).as_uuid())?.calls.notices).filter(|sent| sent.len() == 3)).await;
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(500), Some(500), Some(204)]);
    assert!(sent.iter().all(|other| other.event_id == sent[0].event_id));
    let (headers, body) = world.platform.raw.lock().expect("no panic")[0].clone();
    assert_eq!(headers.get_all("x-mollie-signature").iter().count(), 2);
    // A changed byte is not the notice.
    let changed = String::from_utf8(body.to_vec()).expect("text").replace("failed", "faxed!").into_bytes().into();
    assert_eq!(world.platform.inbox.read(&Method::POST, "/", &headers, &changed).await, Err(NoticeError::Unverified));
}

/// 401 pauses, and heals without a word from us.
#[tokio::test]
async fn a_credential_that_heals() {
    let world = World::start(|_| ()).await;
    world.sandbox.lock_out(2);
    assert_eq!(world.pay(1, 500, "x").await, unprocessed("unauthorized", None));
    assert_eq!(world.look(1, None).await, nothing("status_401"), "no evidence at all");
    accepted(world.pay(1, 500, "x").await);
    let wrong = Client::new(Settings { api_key: SecretString::from("test_wrong"), ..settings(&world.url) }, Mode::Test, NAME).expect("a client");
    assert_eq!(wrong.submit(&prepared(&wrong), soon(), LONG).await, unprocessed("unauthorized", None));
}

/// The amount on the wire is the amount that moves, to the last digit.
#[tokio::test]
async fn amounts_are_exact() {
    let world = World::start(|settings| settings.balances.iter_mut().for_each(|balance| balance.balance_in_minor = Money::MAX_MINOR)).await;
    for (number, minor) in [(1, 1), (2, 5), (3, 10), (4, 12_345), (5, 999_999_999_987_638)] {
        let reference = accepted(world.pay(number, minor, "x").await);
        world.status_is(number, "completed").await;
        assert_eq!(found(world.look(number, Some(&reference)).await).amount, Some(eur(minor)));
        assert_eq!(world.sandbox.movements().last().map(|movement| movement.amount_in_minor), Some(minor));
    }
}

/// The sandbox is a strict server.
#[tokio::test]
async fn the_sandbox_is_strict() {
    let world = World::start(|_| ()).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let send = async |body: String, key: Option<&'static str>| {
        let mut call = Call::new(Method::POST, PAYOUTS, LONG).header(header::AUTHORIZATION, HeaderValue::from_static("Bearer test_hunter2"));
        if let Some(key) = key {
            call = call.header(IDEMPOTENCY_KEY, HeaderValue::from_static(key));
        }
        let response = api.call(call.body("application/json", body.into())).await.expect("an answer");
        assert!(wire::RateLimit::parse(response.headers["ratelimit"].to_str().expect("text")).is_some());
        (response.status.as_u16(), response.json::<wire::ErrorBody>().and_then(|error| error.field).unwrap_or_default())
    };
    let with = |field: &str, value: Value| {
        let mut body = json!({"balanceId": BALANCE, "amount": {"currency": "EUR", "value": "1.00"}, "description": "x"});
        body[field] = value;
        body.to_string()
    };
    let answer = |status: u16, field: &str| (status, field.to_owned());
    assert_eq!(send("{".to_owned(), None).await, answer(400, ""));
    assert_eq!(send(with("note", json!(1)), None).await, answer(422, ""));
    assert_eq!(send(with("balanceId", json!("bal_none")), None).await, answer(422, "balanceId"));
    assert_eq!(send(with("testmode", json!(true)), None).await, answer(422, "testmode"));
    assert_eq!(send(with("description", json!("x".repeat(256))), None).await, answer(422, "description"));
    assert_eq!(send(with("amount", json!({"currency": "EUR", "value": "1.001"})), None).await, answer(422, "amount"));
    assert_eq!(send(with("amount", json!({"currency": "EUR", "value": "-1.00"})), None).await, answer(422, "amount"));
    assert_eq!(send(with("amount", json!({"currency": "EUR", "value": 1})), None).await, answer(422, ""));
    assert_eq!(send(with("amount", json!({"currency": "JPY", "value": "1"})), None).await, answer(422, "amount.currency"));
    assert_eq!(world.sandbox.movements(), []);
    // Without a key every request is another payout, as careless clients find out; any text is a key.
    for key in [None, None, Some("any text"), Some("any text")] {
        assert_eq!(send(with("description", json!("x")), key).await.0, 201);
    }
    world.until(|world| (world.sandbox.movements().len() == 3).then_some(())).await;
    // Without an amount it is all that is there.
    assert_eq!(send(with("amount", Value::Null), None).await.0, 201);
    world.until(|world| (world.sandbox.movements().iter().map(|movement| movement.amount_in_minor).sum::<i64>() == 1_000_000).then_some(())).await;
}

/// A journal carries keys, payouts and movements over a restart, and unfinished ones go on.
#[tokio::test]
async fn a_restart_keeps_the_books() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("sandbox.jsonl");
    let (first, before) = {
        let world = World::start(|settings| settings.behaviour.journal = Some(journal.clone())).await;
        let first = accepted(world.pay(1, 500, "x").await);
        world.status_is(1, "completed").await;
        accepted(world.pay(2, 600, "MOOD stuck").await);
        world.status_is(2, "processing-at-bank").await;
        (first, world.sandbox.ledger())
    };
    // The process died in the middle of a line.
    let mut file = std::fs::OpenOptions::new().append(true).open(&journal).expect("a journal");
    std::io::Write::write_all(&mut file, br#"{"movement":{"transaction_id":"#).expect("writes");
    let world = World::start(|settings| settings.behaviour.journal = Some(journal.clone())).await;
    assert_eq!((world.sandbox.ledger(), before.movements.len()), (before.clone(), 2));
    assert_eq!(accepted(world.pay(1, 500, "x").await), first, "known");
    assert_eq!(found(world.look(1, None).await).status, Status::Settled);
    assert!(world.sandbox.advance(key(2).as_uuid(), Stage::Completed));
    assert_eq!(world.sandbox.ledger(), before, "nothing moved twice");
}

/// The admin routes: what operators and tests in other languages see.
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
    assert_eq!(send("/sandbox/moods", r#"{"next": 1, "mood": "merry"}"#).await, 400);
    accepted(world.pay(1, 500, "x").await);
    world.status_is(1, "processing-at-bank").await;
    let path = format!("/sandbox/payouts/{}", key(1));
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "canceled"}"#).await, 409);
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "returned"}"#).await, 204);
    let view = get(&path).await;
    assert_eq!((&view["mood"], &view["calls"]["creates"], &view["payouts"][0]["status"]), (&"stuck".into(), &1.into(), &"failed".into()));
    let ledger = get("/sandbox/ledger").await;
    assert_eq!((&ledger["double_movements"], ledger["movements"].as_array().map(Vec::len)), (&0.into(), Some(2)));
    assert_eq!(send(&format!("/sandbox/balances/{BALANCE}"), r#"{"blocked": true}"#).await, 204);
    assert_eq!(send("/sandbox/balances/bal_none", "{}").await, 404);
    assert!(matches!(world.pay(2, 500, "x").await, Answer::Refused { .. }));
    assert_eq!(send("/sandbox/lockout", r#"{"next": 1}"#).await, 204);
    assert_eq!(world.pay(3, 500, "x").await, unprocessed("unauthorized", None));
    assert_eq!(send(&format!("/sandbox/balances/{BALANCE}"), "{}").await, 204);
    world.sandbox.set_random(Some(Distribution { fault_percent: 100, seed: 7, moods: vec![Mood::Refuse] }));
    assert!(matches!(world.pay(4, 500, "x").await, Answer::Refused { .. }));
    assert_eq!(get("/nowhere").await["status"], 404);
}

/// Shutting down ends connections that wait for an answer: to the caller, the provider is gone.
#[tokio::test]
async fn a_shutdown_cuts_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let account = Account { id: BALANCE.to_owned(), currency: "EUR".to_owned(), balance_in_minor: 10_000 };
    let sandbox = Sandbox::new(sandbox::Settings::new(SecretString::from("test_hunter2"), vec![account])).expect("a sandbox");
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(sandbox.clone().serve(listener, shutdown.clone()));
    let client = Client::new(settings(&url), Mode::Test, NAME).expect("a client");
    let order = Order { key: key(1), money: eur(500), beneficiary: &own_account("MOOD slow-answer"), context_code: "" };
    let request = client.prepare(&order).expect("prepares");
    let stop = async {
        while sandbox.payout(key(1).as_uuid()).is_none_or(|view| view.payouts.is_empty()) {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        shutdown.cancel();
    };
    let (answer, ()) = tokio::join!(client.submit(&request, soon(), LONG), stop);
    assert_eq!(answer, no_answer("connection_lost"));
    assert!(serving.await.expect("no panic").is_ok());
    assert_eq!(client.submit(&request, soon(), LONG).await, not_sent("connect"));
}
