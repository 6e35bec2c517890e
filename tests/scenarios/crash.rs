//! What survives: real worker processes ended, stopped and confused at every point where it could matter, a store that is killed, frozen or forgetful.
//!
//! Each story ends by asking three witnesses: the provider's own ledger, the store, and the subscriber.

mod balances;
mod batches;
mod circuits;
mod schedules;
mod suspects;
mod turns;

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use domain::delivery::Status;
use domain::destination::{Beneficiary, BeneficiaryName, Destination, Iban, StatementReference};
use domain::fact::Provider;
use domain::id::{Mode, PayoutId, SubscriptionId};
use domain::money::{Currency, Money};
use domain::payout::state::StateName;
use domain::payout::{Order, Payout, What};
use domain::signature::Secret;
use domain::subscription::{EventTypes, Pattern, Secrets, Subscription};
use futures_util::{StreamExt as _, stream};
use http::{Method, StatusCode};
use payrelay::chaos::{self, Load, Sent};
use payrelay::child::{Child, Program, Signal};
use payrelay::local::{Local, Plan};
use payrelay::run::Role;
use providers::sandbox::all::Settings;
use providers::sandbox::calls::Calls;
use providers::sandbox::mood::Mood;
use serde_json::json;
use uuid::Uuid;
use workers::store::private_server::{Fsync, PrivateServer};

/// The longest wait for what should take seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const SIGABRT: i32 = 6;
/// A machine that has much else to do takes longer to hear of a payout than a chaos run allows, which wants to see reviews.
const BOUND: (&str, &str) = ("providers.truelayer_test.profile.bound_ms", "60000");
/// And longer to call its provider and to flush its disk: a call that is given up reaches a crash point in another way than the story means.
const PATIENT: [(&str, &str); 9] = [
    ("redis.deadline_ms", "2000"),
    ("execute.send_window_ms", "2500"),
    ("execute.call_ms", "3000"),
    ("providers.truelayer_test.connect_timeout_ms", "2000"),
    ("providers.truelayer_test.token_timeout_ms", "2500"),
    ("providers.truelayer_test.read_timeout_ms", "3000"),
    ("workers.handler_deadline_ms", "9000"),
    ("workers.lease_ms", "12000"),
    ("workers.drain_ms", "6000"),
];

/// The long variants: `PAYRELAY_LONG_TESTS=1`.
fn long() -> bool {
    std::env::var_os("PAYRELAY_LONG_TESTS").is_some_and(|value| value == "1")
}

/// An installation whose workers are processes of their own.
struct Site {
    local: Local,
    program: Program,
    folder: tempfile::TempDir,
}

impl Site {
    async fn open() -> Self {
        Self::with(&[], |_| {}).await
    }

    /// With other values for some keys, and another kind of sandbox.
    async fn with(keys: &[(&str, &str)], sandbox: fn(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<_> = [BOUND].into_iter().filter(|(key, _)| !keys.iter().any(|(given, _)| given == key)).chain(keys.iter().copied()).collect();
        let other = |line: &str| keys.iter().any(|(key, _)| line.starts_with(&format!("{key} = ")));
        let mut more: Vec<String> = chaos::SHORT.lines().filter(|line| !other(line)).map(str::to_owned).collect();
        more.extend(keys.iter().map(|(key, value)| format!("{key} = {value}")));
        let plan = Plan {
            folder: folder.path(),
            redis_url: None,
            fsync: Fsync::Always,
            listen: "127.0.0.1:0",
            more: &more.join("\n"),
            providers: &Provider::ALL,
            sandbox,
            role: Some(Role::Serve),
        };
        let local = Local::start(plan).await.unwrap();
        local.subscribe(&["*"]).await.unwrap();
        let program = Program::worker(PathBuf::from(env!("CARGO_BIN_EXE_payrelay")), &local.config_file, folder.path());
        Self { local, program, folder }
    }

    fn worker(&self, name: &str, armed: &str) -> Child {
        self.program.start(name, armed).unwrap()
    }

    async fn post(&self) -> Sent {
        self.post_in(Mood::Plain).await
    }

    /// Asks for a payout that the provider treats in a mood.
    async fn post_in(&self, mood: Mood) -> Sent {
        let transaction = Uuid::new_v4();
        self.post_again(transaction, mood).await
    }

    async fn post_again(&self, transaction: Uuid, mood: Mood) -> Sent {
        self.post_to(Provider::Truelayer, transaction, mood).await
    }

    async fn post_to(&self, provider: Provider, transaction: Uuid, mood: Mood) -> Sent {
        let body = json!({
            "provider": provider.name(),
            "transaction_id": transaction,
            "beneficiary_name": "John Smith",
            "beneficiary_iban": "GB33BUKB20201555555555",
            "beneficiary_reference": format!("Withdrawal {:.7}", transaction.simple().to_string()),
            "currency": "GBP",
            "amount_in_minor": mood.amount(),
            "context_code": "withdrawal",
        });
        let answer = self.local.caller.call(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        let id = PayoutId::derive(&self.local.config.ingress.default_party, Mode::Test, &transaction.to_string(), self.local.store.shards());
        Sent { transaction, id, provider, accepted: true, canceled: None }
    }

    /// A worker at work, with twenty payouts just asked for.
    async fn busy(&self) -> (Child, Vec<Sent>) {
        let worker = self.worker("worker", "");
        self.is_well(&[self.post().await]).await;
        (worker, stream::iter(0..20).map(|_| self.post()).buffer_unordered(4).collect().await)
    }

    /// Puts many payouts into the store, not by way of the ingress.
    async fn stock(&self, count: usize, scheduled_for: Option<jiff::Timestamp>) -> Vec<PayoutId> {
        let store = &self.local.store;
        let beneficiary = beneficiary();
        let party = &self.local.config.ingress.default_party;
        let now = store.clock().now();
        let open = async |number: usize| {
            let transaction_id = format!("backlog-{number}");
            let id = PayoutId::derive(party, Mode::Test, &transaction_id, store.shards());
            let order = Order {
                id,
                party: party.clone(),
                mode: Mode::Test,
                transaction_id,
                amount: Money::new(10_000, Currency::GBP).unwrap().into(),
                keeps: 0,
                context_code: "withdrawal".to_owned(),
                metadata: domain::metadata::Metadata::default(),
                scheduled_for,
                route: vec![Provider::Truelayer],
                maker: "backlog".to_owned(),
                batch_id: None,
                replaces: None,
                due_date: None,
                decided_by: std::collections::BTreeSet::new(),
                approve_by: None,
                rule: None,
                trace: None,
            };
            store.open_payout(&Payout::open(order, now), &beneficiary, "fingerprint").await.unwrap();
            id
        };
        stream::iter(0..count).map(open).buffer_unordered(64).collect().await
    }

    async fn payout(&self, sent: &Sent) -> Payout {
        self.local.store.load(sent.id).await.unwrap().unwrap()
    }

    async fn state(&self, sent: &Sent) -> StateName {
        self.payout(sent).await.state.name()
    }

    /// What the provider was asked about it.
    fn calls(&self, sent: &Sent) -> Calls {
        self.local.sandboxes.truelayer.payout(sent.provider_key().as_uuid()).map(|view| view.calls).unwrap_or_default()
    }

    /// How often money left for it.
    fn movements(&self, sent: &Sent) -> usize {
        self.local.sandboxes.times_paid(sent.id)
    }

    async fn observed(&self, sent: &Sent, is_it: impl Fn(&What) -> bool) -> bool {
        let timeline = self.local.store.timeline(sent.id).await.unwrap().unwrap();
        timeline.observations.iter().any(|seen| seen.fact.as_ref().is_some_and(|fact| is_it(&fact.what)))
    }

    /// Waits until all work is done and the witnesses agree, and then that money left once for each of these payouts.
    async fn is_well(&self, paid: &[Sent]) {
        let began = Instant::now();
        let load = Load { sent: paid.to_vec(), ..Load::default() };
        loop {
            let found = chaos::audit(&self.local, &load).await;
            let done = found.as_ref().is_ok_and(|found| found.is_clean() && found.left == 0);
            let settled = found.as_ref().is_ok_and(|found| found.by_state.get("settled") == Some(&(paid.len() as u64)));
            if done && settled {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{found:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for sent in paid {
            assert_eq!(self.movements(sent), 1, "{}", sent.id);
        }
    }

    /// Whoever is dead has lost its leases: nobody has to wait for that.
    async fn leases_end(&self) {
        let lease = Duration::from_millis(self.local.config.workers.lease_ms);
        self.local.store.move_clock(lease).await.unwrap();
    }

    fn server(&mut self) -> &mut PrivateServer {
        self.local.server.as_mut().unwrap()
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.program.log(name)).unwrap()
    }

    /// What all workers wrote, for the one who has to find out why a story ended badly.
    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        let logs = files.filter(|file| file.extension().is_some_and(|extension| extension == "log"));
        logs.map(|file| format!("--- {}\n{}", file.display(), std::fs::read_to_string(&file).unwrap())).collect()
    }
}

fn beneficiary() -> Beneficiary {
    Beneficiary {
        name: BeneficiaryName::parse("John Smith", 18).unwrap(),
        reference: StatementReference::parse("Withdrawal 204", 18).unwrap(),
        destination: Destination::Iban(Iban::parse("GB33BUKB20201555555555").unwrap()),
        description: None,
        instrument: None,
    }
}

/// Asks again and again, without a pause to speak of, until it is so.
async fn eventually(what: &str, within: Duration, is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn aborted(mut child: Child) {
    let status: ExitStatus = child.ended(PATIENCE).await.unwrap().expect("the failpoint is reached");
    assert_eq!(status.signal(), Some(SIGABRT), "{status}");
}

async fn stopped(child: &Child) {
    eventually("the worker stands still", PATIENCE, async || child.is_stopped()).await;
}

/// A worker is aborted at `armed`, with one payout under way; `then` looks at what it left; another worker finishes the job.
async fn survives(armed: &str, mood: Mood, then: impl AsyncFnOnce(&Site, &Sent)) {
    let site = Site::with(&PATIENT, |_| {}).await;
    let sent = site.post_in(mood).await;
    aborted(site.worker("first", armed)).await;
    then(&site, &sent).await;
    site.leases_end().await;
    let _second = site.worker("second", "");
    site.is_well(&[sent]).await;
}

#[tokio::test]
async fn a_crash_before_the_intent() {
    survives("before-intent=abort", Mood::Plain, async |site, sent| {
        assert_eq!(site.state(sent).await, StateName::Requested);
        assert_eq!(site.calls(sent).creates, 0);
    })
    .await;
}

#[tokio::test]
async fn a_crash_between_the_intent_and_the_socket() {
    survives("intent-before-socket=abort", Mood::Plain, async |site, sent| {
        assert_eq!(site.state(sent).await, StateName::Initiated);
        assert_eq!(site.calls(sent).creates, 0);
    })
    .await;
}

#[tokio::test]
async fn a_crash_with_the_request_half_written() {
    survives("half-written=abort", Mood::Plain, async |site, sent| {
        assert_eq!(site.state(sent).await, StateName::Initiated);
        assert_eq!(site.calls(sent).creates, 0);
    })
    .await;
}

/// The provider has carried it out and is about to answer when the worker is killed.
#[tokio::test]
async fn a_crash_between_the_request_and_its_answer() {
    let slow = [("execute.call_ms", "3000"), ("workers.drain_ms", "5000"), ("workers.handler_deadline_ms", "5500"), ("workers.lease_ms", "7500")];
    let site = Site::with(&slow, |settings| settings.truelayer.behaviour.slow_answer_ms = 2_500).await;
    let sent = site.post_in(Mood::SlowAnswer).await;
    let mut first = site.worker("first", "");
    eventually("the request arrives", PATIENCE, async || site.calls(&sent).creates == 1).await;
    first.kill().await.unwrap();
    assert_eq!(site.state(&sent).await, StateName::Initiated);
    let _second = site.worker("second", "");
    site.is_well(std::slice::from_ref(&sent)).await;
    assert_eq!(site.calls(&sent).creates, 1, "what the provider knows is not sent again");
}

#[tokio::test]
async fn a_crash_between_the_answer_and_its_record() {
    let site = Site::with(&PATIENT, |_| {}).await;
    let sent = site.post().await;
    aborted(site.worker("first", "answer-not-recorded=abort")).await;
    assert_eq!(site.calls(&sent).creates, 1, "{}", site.logs());
    assert!(!site.observed(&sent, |what| matches!(what, What::NotSent { .. } | What::NoAnswer { .. })).await);
    site.leases_end().await;
    let _second = site.worker("second", "");
    site.is_well(std::slice::from_ref(&sent)).await;
    assert_eq!(site.calls(&sent).creates, 1, "what the provider knows is not sent again");
}

/// The record is the acknowledgement: there is no moment between the two.
#[tokio::test]
async fn a_crash_after_the_record() {
    survives("recorded-not-acknowledged=abort", Mood::Plain, async |site, sent| {
        assert!(site.observed(sent, |what| matches!(what, What::Reported { .. })).await);
        assert_eq!(site.calls(sent).creates, 1);
    })
    .await;
}

#[tokio::test]
async fn a_crash_before_a_second_send() {
    survives("resend-before-socket=abort", Mood::ErrorBefore, async |site, sent| {
        assert_eq!(site.state(sent).await, StateName::Inconclusive);
        assert_eq!(site.calls(sent).creates, 1);
        assert_eq!(site.movements(sent), 0);
    })
    .await;
}

#[tokio::test]
async fn a_crash_between_a_notice_and_its_acknowledgement() {
    survives("notice-not-settled=abort", Mood::Plain, async |_, _| {}).await;
}

#[tokio::test]
async fn a_crash_before_a_webhook() {
    survives("relay-before-post=abort", Mood::Plain, async |site, _| assert_eq!(site.local.subscriber.verified(), 0)).await;
}

/// The subscriber has it, and the store does not know: it comes again, under the same id.
#[tokio::test]
async fn a_crash_between_a_delivery_and_its_mark() {
    let site = Site::open().await;
    let sent = site.post().await;
    let mut told = site.local.subscriber.tell();
    aborted(site.worker("first", "delivered-not-marked=abort")).await;
    let first = told.recv().await.unwrap();
    assert_eq!((first.sequence, site.local.subscriber.verified()), (1, 1));
    site.leases_end().await;
    let _second = site.worker("second", "");
    let again = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!((again.sequence, again.id), (1, first.id));
    site.is_well(&[sent]).await;
}

/// A worker dies between two pages of subscriptions: whoever comes next goes on behind the first page, and each is told.
#[tokio::test]
async fn a_crash_in_the_midst_of_a_fan_out() {
    const SUBSCRIPTIONS: u16 = 260;
    let site = Site::with(&PATIENT, |_| {}).await;
    let (store, secret) = (&site.local.store, Secret::from_bytes(&[7; 32]).unwrap());
    let party = &site.local.config.ingress.default_party;
    let mut trusted = site.local.subscriber.trust(Vec::new());
    trusted.push(secret.clone());
    site.local.subscriber.trust(trusted);
    for number in 0..SUBSCRIPTIONS {
        let [a, b] = number.to_be_bytes();
        let id = SubscriptionId::new(store.shards().of(party, Mode::Test), [1, a, b, 0, 0, 0, 0, 0, 0, 0, 0]);
        let wanted = EventTypes::These([Pattern::parse("payout.requested").unwrap()].into());
        let url = site.local.subscriber_url.clone();
        let subscription = Subscription::new(id, party.clone(), Mode::Test, url, wanted, store.clock().now());
        store.subscribe(&subscription, Some(&Secrets::new(secret.clone()))).await.unwrap();
    }
    let sent = site.post().await;
    aborted(site.worker("first", "fanned-out-page=abort")).await;
    let made = store.timeline(sent.id).await.unwrap().unwrap().deliveries.len();
    assert!((200..usize::from(SUBSCRIPTIONS)).contains(&made), "{made} of the deliveries were made");
    site.leases_end().await;
    let _second = site.worker("second", "");
    eventually("all are told", PATIENCE, async || {
        let timeline = store.timeline(sent.id).await.unwrap().unwrap();
        let told = timeline.deliveries.iter().filter(|listed| {
            listed.sequence == 1 && listed.delivery.as_ref().is_some_and(|delivery| matches!(delivery.status, Status::Delivered { .. }))
        });
        told.count() == usize::from(SUBSCRIPTIONS) + 1
    })
    .await;
    site.is_well(&[sent]).await;
}

/// The store loses the tail of its log: an intent whose request was carried out, and a payout that was accepted. The fence outside the store notices,
/// nothing is sent or taken back until a person lets it go on, and then the provider is asked first.
#[tokio::test]
async fn a_store_that_forgot_is_noticed_and_nothing_is_paid_twice() {
    let mut site = Site::open().await;
    let known = site.post_in(Mood::NoNotices).await;
    let bytes = site.server().log_bytes().unwrap();
    let forgotten = site.post_in(Mood::NoNotices).await;
    let mut worker = site.worker("worker", "");
    for sent in [&known, &forgotten] {
        eventually("the provider pays", PATIENCE, async || site.movements(sent) == 1).await;
    }
    worker.kill().await.unwrap();
    site.server().forget_since(bytes).unwrap();
    let store = site.local.store.clone();
    eventually("the store answers", PATIENCE, async || store.ping().await.is_ok()).await;
    assert_eq!(site.state(&known).await, StateName::Requested);
    assert!(store.load(forgotten.id).await.unwrap().is_none());
    site.post_again(forgotten.transaction, Mood::NoNotices).await;

    // The same worker, that is: the same fence.
    let _worker = site.worker("worker", "");
    let shard = known.id.shard();
    eventually("dispatch freezes", PATIENCE, async || store.frozen(shard).await.is_ok_and(|freeze| freeze.is_some())).await;
    let asked = |sent: &Sent| (site.calls(sent).creates, site.movements(sent));
    assert_eq!((asked(&known), asked(&forgotten)), ((1, 1), (1, 1)));
    let taken_back = site.local.caller.call(Method::POST, &format!("/v1/payouts/{}/cancel", known.transaction), None).await.unwrap();
    assert_eq!(taken_back.status, StatusCode::CONFLICT, "{}", taken_back.body);

    let thawed = tokio::process::Command::new(&site.program.path)
        .arg("--config")
        .arg(&site.program.config)
        .args(["thaw", "--look-first-hours", "1"])
        .output()
        .await
        .unwrap();
    assert!(thawed.status.success(), "{thawed:?}");
    let paid = [known, forgotten];
    site.is_well(&paid).await;
    for sent in &paid {
        assert_eq!(site.calls(sent).creates, 1, "the provider is asked before anything is sent");
    }
}

/// After a freeze by hand nothing is thawed before somebody has said whether the store has lost anything: for a day every payout would wait for its provider to be asked.
#[tokio::test]
async fn a_thaw_of_a_freeze_by_hand_needs_a_word() {
    let site = Site::open().await;
    let run = async |arguments: &[&str]| {
        tokio::process::Command::new(&site.program.path).arg("--config").arg(&site.program.config).args(arguments).output().await.unwrap()
    };
    let shard = domain::id::Shard::new(0);
    assert!(run(&["freeze", "--reason", "drill"]).await.status.success());
    let refused = run(&["thaw"]).await;
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("--look-first-hours 0") && said.contains("drill"), "{said}");
    assert!(site.local.store.frozen(shard).await.unwrap().is_some());
    assert!(run(&["thaw", "--look-first-hours", "0"]).await.status.success());
    assert!(site.local.store.frozen(shard).await.unwrap().is_none());
    assert_eq!(site.local.store.suspect_until(shard).await.unwrap(), jiff::Timestamp::MIN);
    let refused = run(&["freeze", "--reason", " "]).await;
    assert!(!refused.status.success() && site.local.store.frozen(shard).await.unwrap().is_none(), "{refused:?}");
}

/// Whoever freezes to stop payouts, and not because of the store, says so, and takes them back meanwhile. A worker that has found a loss knows better.
#[tokio::test]
async fn what_was_not_sent_is_canceled_in_a_freeze_that_lost_nothing() {
    let site = Site::open().await;
    let run = async |arguments: &[&str]| {
        tokio::process::Command::new(&site.program.path).arg("--config").arg(&site.program.config).args(arguments).output().await.unwrap()
    };
    let (store, shard) = (&site.local.store, domain::id::Shard::new(0));
    let (first, second) = (site.post().await, site.post().await);
    let cancel = async |sent: &Sent| site.local.caller.call(Method::POST, &format!("/v1/payouts/{}/cancel", sent.transaction), None).await.unwrap();
    assert!(run(&["freeze", "--reason", "wrong file"]).await.status.success());
    assert_eq!(cancel(&first).await.status, StatusCode::CONFLICT);
    assert!(run(&["thaw", "--look-first-hours", "0"]).await.status.success());
    assert!(run(&["freeze", "--reason", "wrong file", "--nothing-lost"]).await.status.success());
    assert_eq!(cancel(&first).await.status, StatusCode::OK);
    assert_eq!(site.state(&first).await, StateName::Canceled);

    let found = workers::store::freeze::Freeze { reason: "it counts from less".to_owned(), at_ms: 1, epoch_seen: 9, nothing_lost: false };
    store.freeze(shard, &found).await.unwrap();
    assert_eq!(store.frozen(shard).await.unwrap(), Some(found.clone()));
    let again = run(&["freeze", "--reason", "again", "--nothing-lost"]).await;
    assert!(String::from_utf8_lossy(&again.stdout).contains("frozen already, and that stands (it counts from less)"), "{again:?}");
    // Whoever has decided on the one before ends nothing.
    let before = workers::store::freeze::Freeze { nothing_lost: true, ..found.clone() };
    assert!(!store.end_freeze(shard, &before, Duration::ZERO).await.unwrap());
    assert_eq!(store.frozen(shard).await.unwrap(), Some(found), "the first one stays");
    assert_eq!(cancel(&second).await.status, StatusCode::CONFLICT);
    assert!(run(&["thaw", "--look-first-hours", "0"]).await.status.success());

    assert!(run(&["freeze", "--reason", "again", "--nothing-lost"]).await.status.success());
    let thawed = run(&["thaw"]).await;
    assert!(thawed.status.success(), "no question is left: {thawed:?}");
    assert_eq!((store.frozen(shard).await.unwrap(), store.suspect_until(shard).await.unwrap()), (None, jiff::Timestamp::MIN));
}

/// Its disk is full, so that it cannot note how far it has come. That says nothing about the store: it sends nothing, and freezes nobody.
#[tokio::test]
async fn a_worker_whose_disk_is_full_sends_nothing_and_freezes_nobody() {
    let site = Site::open().await;
    let sent = site.post().await;
    // No file may grow, and an attempt is an error instead of a signal.
    let full = site.folder.path().join("full");
    std::fs::write(&full, format!("#!/bin/sh\ntrap '' XFSZ\nulimit -f 0\nexec '{}' \"$@\"\n", site.program.path.display())).unwrap();
    std::fs::set_permissions(&full, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut worker = Program { path: full, ..site.program.clone() }.start("full", "").unwrap();
    let held = async || site.observed(&sent, |what| matches!(what, What::NotSent { why, .. } if why.as_str() == "fenced")).await;
    eventually("a dispatch is held", PATIENCE, held).await;
    assert_eq!(worker.ended(Duration::ZERO).await.unwrap(), None, "the worker lives");
    worker.kill().await.unwrap();
    assert_eq!(site.local.store.frozen(sent.id.shard()).await.unwrap(), None);
    assert_eq!(site.calls(&sent).creates, 0);
    let _other = site.worker("other", "");
    site.is_well(&[sent]).await;
}

/// A worker stands still between the intent and the socket, past its lease and past the time by which it may send. Another one takes over. When the
/// first goes on, it does not send any more.
#[tokio::test]
async fn a_worker_that_was_paused_does_not_send_too_late() {
    let site = Site::open().await;
    let sent = site.post().await;
    let mut paused = site.worker("paused", "intent-before-socket=stop");
    stopped(&paused).await;
    assert_eq!(site.state(&sent).await, StateName::Initiated);
    let mut other = site.worker("other", "");
    site.is_well(std::slice::from_ref(&sent)).await;
    other.kill().await.unwrap();
    paused.signal(Signal::CONT).unwrap();
    // It has come past its old intent once it does the next work.
    let next = site.post().await;
    site.is_well(&[sent.clone(), next]).await;
    assert_eq!(site.calls(&sent).creates, 1);
}

/// A worker stands still between the answer and its record. What it has heard counts although its lease has gone.
#[tokio::test]
async fn a_late_answer_is_recorded_although_the_lease_is_gone() {
    let site = Site::open().await;
    let sent = site.post_in(Mood::NoNotices).await;
    let mut paused = site.worker("paused", "answer-not-recorded=stop");
    stopped(&paused).await;
    let _other = site.worker("other", "");
    site.is_well(std::slice::from_ref(&sent)).await;
    let version = site.payout(&sent).await.version;
    paused.signal(Signal::CONT).unwrap();
    eventually("the late answer is recorded", PATIENCE, async || site.payout(&sent).await.version > version).await;
    site.is_well(std::slice::from_ref(&sent)).await;
}

/// A worker holds a lease and stands still; the work goes to another one; then both have it.
#[tokio::test]
async fn one_work_item_in_two_workers_is_dispatched_once() {
    let site = Site::open().await;
    let sent = site.post().await;
    let mut paused = site.worker("paused", "before-intent=stop");
    stopped(&paused).await;
    assert_eq!(site.state(&sent).await, StateName::Requested);
    let mut other = site.worker("other", "");
    site.is_well(std::slice::from_ref(&sent)).await;
    other.kill().await.unwrap();
    paused.signal(Signal::CONT).unwrap();
    // It has come past its stale lease once it does the next work.
    let next = site.post().await;
    site.is_well(&[sent.clone(), next]).await;
    assert_eq!(site.calls(&sent).creates, 1);
}

#[tokio::test]
async fn two_workers_share_one_queue() {
    let site = Site::open().await;
    let workers = [site.worker("first", ""), site.worker("second", "")];
    let has_dispatched =
        |name: &str| std::fs::read_to_string(site.folder.path().join(format!("{name}.fence"))).is_ok_and(|passed| !passed.is_empty());
    let (mut paid, began) = (Vec::new(), Instant::now());
    // One of them may be up long before the other.
    while paid.len() < 100 || !(has_dispatched("first") && has_dispatched("second")) {
        assert!(began.elapsed() < PATIENCE, "one of them dispatches nothing");
        paid.extend(stream::iter(0..20).map(|_| site.post()).buffer_unordered(8).collect::<Vec<Sent>>().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    site.is_well(&paid).await;
    for sent in &paid {
        assert_eq!(site.calls(sent).creates, 1);
    }
    drop(workers);
}

#[tokio::test]
async fn a_handler_that_panics_costs_one_turn_and_nothing_else() {
    let site = Site::open().await;
    let armed =
        "before-intent=panic@2; answer-not-recorded=panic@3; notice-not-settled=panic@4; relay-before-post=panic@5; delivered-not-marked=panic@6";
    let mut worker = site.worker("worker", armed);
    let paid: Vec<Sent> = stream::iter(0..10).map(|_| site.post()).buffer_unordered(4).collect().await;
    site.is_well(&paid).await;
    assert_eq!(worker.ended(Duration::ZERO).await.unwrap(), None, "the worker lives");
    assert_eq!(site.log("worker").matches("panicked at").count(), 5);
}

/// Payouts under way, the store killed, and back after a while: nobody has to restart anything.
#[tokio::test]
async fn a_store_that_is_away_for_a_while_loses_nothing() {
    let mut site = Site::open().await;
    let (mut worker, paid) = site.busy().await;
    site.server().kill();
    tokio::time::sleep(Duration::from_secs(if long() { 20 } else { 3 })).await;
    site.server().resume().unwrap();
    site.is_well(&paid).await;
    assert_eq!(worker.ended(Duration::ZERO).await.unwrap(), None, "the worker lives");
}

#[tokio::test]
async fn a_store_that_is_frozen_for_a_while_loses_nothing() {
    let mut site = Site::open().await;
    let (mut worker, paid) = site.busy().await;
    site.server().signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(4)).await;
    site.server().signal(Signal::CONT);
    site.is_well(&paid).await;
    assert_eq!(worker.ended(Duration::ZERO).await.unwrap(), None, "the worker lives");
}

/// A freeze takes as long as it takes: what waits behind it is not held against the payout.
#[tokio::test]
async fn a_long_freeze_sends_nobody_to_review() {
    let site = Site::with(&[("execute.leases_max", "2"), ("workers.failure_wait_ms", "20")], |_| {}).await;
    let shard = site.local.store.shards().all().next().unwrap();
    let freeze = workers::store::freeze::Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false };
    site.local.store.freeze(shard, &freeze).await.unwrap();
    let sent = site.post().await;
    let _worker = site.worker("worker", "");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.state(&sent).await, StateName::Requested);
    site.local.store.thaw(shard, Duration::ZERO).await.unwrap();
    site.is_well(&[sent]).await;
}

/// Cancel and dispatch race: exactly one wins, always.
#[tokio::test]
async fn cancel_against_dispatch() {
    let site = Site::open().await;
    let _worker = site.worker("worker", "");
    let race = async |number: u64| {
        let mut sent = site.post().await;
        tokio::time::sleep(Duration::from_micros(number * 137 % 20_000)).await;
        let answer = site.local.caller.call(Method::POST, &format!("/v1/payouts/{}/cancel", sent.transaction), None).await.unwrap();
        sent.canceled = match answer.status {
            StatusCode::OK => Some(true),
            StatusCode::CONFLICT => Some(false),
            status => panic!("{status}: {}", answer.body),
        };
        sent
    };
    let raced: Vec<Sent> = stream::iter(0..100).map(race).buffer_unordered(2).collect().await;
    let (canceled, paid): (Vec<Sent>, Vec<Sent>) = raced.into_iter().partition(|sent| sent.canceled == Some(true));
    site.is_well(&paid).await;
    for sent in &canceled {
        assert_eq!((site.state(sent).await, site.calls(sent).creates), (StateName::Canceled, 0));
    }
    assert!(!canceled.is_empty() && !paid.is_empty(), "{} canceled, {} paid: no race", canceled.len(), paid.len());
}

/// On SIGTERM a worker finishes what it has begun, gives back what it has not, and ends in time: nobody waits for a lease to end.
#[tokio::test]
async fn a_worker_that_is_asked_to_end_gives_back_its_leases() {
    let long_lease = [
        ("workers.lease_ms", "60000"),
        ("workers.execute", "{ concurrency = 4, batch = 4 }"),
        ("execute.call_ms", "3000"),
        ("workers.handler_deadline_ms", "5500"),
        ("workers.drain_ms", "5500"),
    ];
    let site = Site::with(&long_lease, |settings| settings.truelayer.behaviour.slow_answer_ms = 1_000).await;
    let paid: Vec<Sent> = stream::iter(0..12).map(|_| site.post_in(Mood::SlowAnswer)).buffer_unordered(4).collect().await;
    let mut first = site.worker("first", "");
    let begun = || paid.iter().filter(|sent| site.calls(sent).creates > 0).count();
    eventually("the first payouts are with the provider", PATIENCE, async || begun() >= 4).await;
    let asked = Instant::now();
    first.signal(Signal::TERM).unwrap();
    let status = first.ended(PATIENCE).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
    assert!(begun() < paid.len(), "something was left to do");
    let began = Instant::now();
    let _second = site.worker("second", "");
    site.is_well(&paid).await;
    assert!(began.elapsed() < Duration::from_secs(40), "a lease had to end first");
    for sent in &paid {
        assert_eq!(site.calls(sent).creates, 1);
    }
}

/// A backlog of deliveries that are due: 20,000, or 200,000 in the long variant. Two workers drain it, one of which is killed half way.
#[tokio::test]
async fn a_backlog_drains_without_loss() {
    let due = if long() { 200_000 } else { 10_000 };
    let site = Site::open().await;
    let store = &site.local.store;
    let ids = site.stock(due / 2, Some(store.clock().now() + jiff::SignedDuration::from_hours(24))).await;

    let mut first = site.worker("first", "");
    let _second = site.worker("second", "");
    let verified = || usize::try_from(site.local.subscriber.verified()).unwrap();
    let patience = Duration::from_secs(if long() { 1_200 } else { 240 });
    eventually("half of it is delivered", patience, async || verified() >= due / 2).await;
    first.kill().await.unwrap();
    let shard = store.shards().all().next().unwrap();
    let relay_is_empty =
        async || store.vitals(shard).await.is_ok_and(|vitals| vitals.lanes.iter().all(|lane| lane.lane != "relay" || lane.entries == 0));
    eventually("nothing is left", patience, relay_is_empty).await;
    for id in ids {
        // Requested, and scheduled.
        assert_eq!(site.local.subscriber.arrivals(&id.to_string()), [1, 2], "{id}");
    }
}
