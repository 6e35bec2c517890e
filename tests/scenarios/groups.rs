//! Payouts of a batch that go to their provider in one request: what becomes of each when the request, or whoever makes it, has trouble.
//!
//! The sandbox recognises the repeat of a request, whole, and would carry out one of its payouts again that came by itself: its ledger tells.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::fact::Provider;
use domain::id::{Mode, PayoutId, ProviderKey};
use domain::payout::state::StateName;
use domain::payout::{Payout, What};
use http::{Method, StatusCode};
use payrelay::chaos;
use payrelay::child::{Child, Program};
use payrelay::local::{Local, Plan};
use payrelay::run::{self, Role};
use providers::sandbox::all::Settings;
use providers::worldpay::sandbox::Sandbox;
use serde_json::{Value, json};
use uuid::Uuid;
use workers::batch::expand;
use workers::execute::{Payouts, execute};
use workers::group;
use workers::lanes::Lanes;
use workers::poll::poll;
use workers::queue::{self, Job, Source, Turn};
use workers::store::batches::ExpandLane;
use workers::store::freeze::Freeze;
use workers::store::groups::GroupLane;
use workers::store::lanes::{ExecuteLane, Lane, PollLane};
use workers::store::private_server::Fsync;

use crate::support::say;

const PATIENCE: Duration = Duration::from_secs(60);
const PLAIN: &str = "Withdrawal 204";

/// An installation with an account at Worldpay, whose workers are processes of their own or cranked.
struct Works {
    local: Local,
    program: Program,
    _folder: tempfile::TempDir,
}

fn quick(settings: &mut Settings) {
    settings.worldpay.stage_ms = 20;
}

impl Works {
    async fn open() -> Self {
        Self::with(3_000, 500, quick).await
    }

    async fn with(hold_ms: u64, most: usize, sandbox: fn(&mut Settings)) -> Self {
        Self::bounded(40_000, hold_ms, most, sandbox).await
    }

    /// With the time after which a person decides.
    async fn bounded(bound_ms: u64, hold_ms: u64, most: usize, sandbox: fn(&mut Settings)) -> Self {
        Self::of(&[("bound_ms = 6000", &format!("bound_ms = {bound_ms}"))], hold_ms, most, sandbox).await
    }

    /// With calls that have time enough on a busy machine: a call that is given up dies in another way than the test means.
    async fn patient() -> Self {
        let changes = [
            ("bound_ms = 6000", "bound_ms = 40000"),
            ("worldpay_account_test.access.connect_timeout_ms = 300", "worldpay_account_test.access.connect_timeout_ms = 2000"),
            ("worldpay_account_test.access.read_timeout_ms = 600", "worldpay_account_test.access.read_timeout_ms = 3000"),
            ("execute.send_window_ms = 400", "execute.send_window_ms = 2500"),
            ("execute.call_ms = 600", "execute.call_ms = 3000"),
            ("workers.handler_deadline_ms = 3000", "workers.handler_deadline_ms = 8000"),
            ("workers.lease_ms = 4800", "workers.lease_ms = 10000"),
            ("workers.drain_ms = 2400", "workers.drain_ms = 5000"),
        ];
        Self::of(&changes, 3_000, 500, quick).await
    }

    async fn of(changes: &[(&str, &str)], hold_ms: u64, most: usize, sandbox: fn(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let short = changes.iter().fold(chaos::SHORT.to_owned(), |short, (was, is)| {
            assert!(short.contains(was), "{was}");
            short.replace(was, is)
        });
        let batch = format!("execute.group_hold_ms = {hold_ms}\nproviders.worldpay_account_test.profile.batch_max = {most}\n");
        let more = ["ingress.refuse_twins = false\n", &short, &batch].concat();
        let plan = Plan {
            folder: folder.path(),
            redis_url: None,
            fsync: Fsync::Always,
            listen: "127.0.0.1:0",
            more: &more,
            providers: &Provider::ALL,
            sandbox,
            role: Some(Role::Serve),
        };
        let local = Local::start(plan).await.unwrap();
        let program = Program::worker(PathBuf::from(env!("CARGO_BIN_EXE_payrelay")), &local.config_file, folder.path());
        Self { local, program, _folder: folder }
    }

    fn worldpay(&self) -> &Sandbox {
        &self.local.sandboxes.worldpay
    }

    fn worker(&self, name: &str, armed: &str) -> Child {
        self.program.start(name, armed).unwrap()
    }

    async fn cranked(&self) -> Lanes {
        let parts = run::open(&self.local.config, &opentelemetry::global::meter("scenarios")).await.unwrap();
        run::lanes(&self.local.config, &parts).unwrap()
    }

    /// Asks for a batch with these references, which choose the provider's moods.
    async fn post(&self, references: &[&str]) -> (Uuid, Vec<Uuid>) {
        let transactions: Vec<Uuid> = references.iter().map(|_| Uuid::new_v4()).collect();
        let item = |(transaction, reference): (&Uuid, &&str)| {
            json!({
                "transaction_id": transaction, "beneficiary_name": "Ada Quill", "beneficiary_reference": reference, "currency": "GBP",
                "amount_in_minor": 12_345, "context_code": "withdrawal", "provider": "worldpay-account", "beneficiary_iban": "GB33BUKB20201555555555",
            })
        };
        let id = Uuid::new_v4();
        let body = json!({ "batch_id": id, "items": transactions.iter().zip(references).map(item).collect::<Vec<_>>() });
        let answer = self.local.caller.call(Method::POST, "/v1/payouts/batches", Some(&body)).await.unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        (id, transactions)
    }

    fn id(&self, transaction: Uuid) -> PayoutId {
        PayoutId::derive(&self.local.config.ingress.default_party, Mode::Test, &transaction.to_string(), self.local.store.shards())
    }

    async fn payout(&self, transaction: Uuid) -> Payout {
        self.local.store.load(self.id(transaction)).await.unwrap().unwrap()
    }

    async fn read(&self, batch: Uuid) -> Value {
        self.local.caller.expect(Method::GET, &format!("/v1/payouts/batches/{batch}"), None).await.unwrap()["result"].clone()
    }

    /// Waits until the payouts of the batch stand like this.
    async fn stands(&self, batch: Uuid, expected: &Value) {
        let began = Instant::now();
        loop {
            let read = self.read(batch).await;
            if read["payouts"] == *expected {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{read:#} is not {expected}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn logs(&self) -> String {
        ["first", "second"].map(|name| std::fs::read_to_string(self.program.log(name)).unwrap_or_default()).concat()
    }

    /// How often money left for each.
    fn movements(&self, transactions: &[Uuid]) -> Vec<usize> {
        transactions.iter().map(|transaction| self.local.sandboxes.times_paid(self.id(*transaction))).collect()
    }

    /// How often the provider was asked to make each, in whatever request.
    fn creates(&self, transactions: &[Uuid]) -> Vec<u64> {
        let creates = |transaction: &Uuid| {
            let view = self.worldpay().payout(ProviderKey::derive(self.id(*transaction), 1));
            view.map_or(0, |view| view.calls.creates)
        };
        transactions.iter().map(creates).collect()
    }

    /// Whether each was last sent with the others.
    async fn together(&self, transactions: &[Uuid]) -> Vec<bool> {
        let mut together = Vec::new();
        for transaction in transactions {
            together.push(self.payout(*transaction).await.attempt().is_some_and(|attempt| attempt.group.is_some()));
        }
        together
    }

    async fn observed(&self, transaction: Uuid, is_it: impl Fn(&What) -> bool) -> bool {
        let timeline = self.local.store.timeline(self.id(transaction)).await.unwrap().unwrap();
        timeline.observations.iter().any(|seen| seen.fact.as_ref().is_some_and(|fact| is_it(&fact.what)))
    }
}

/// Does what is due in one lane, and nothing else.
async fn crank<S, H, Fut>(lanes: &Lanes, lane: fn(Lane) -> S, handler: H)
where
    S: Source,
    H: Fn(Arc<Payouts>, Job<S::Item, S::Ticket>) -> Fut + Copy,
    Fut: Future<Output = ()>,
{
    let store = &lanes.payouts.recorder.store;
    let second = Duration::from_secs(1);
    let (handler_deadline, drain) = (second * 3, second);
    let settings = queue::Settings { name: "one", concurrency: 1, batch: 10, tick: second, handler_deadline, panic_backoff: second, drain };
    for shard in store.shards().all() {
        let source = lane(Lane { store: store.clone(), shard, lease: second * 5 });
        while queue::turn(&source, &settings, &lanes.payouts, handler).await.unwrap() != Turn::Idle {}
    }
}

async fn aborted(mut child: Child) {
    child.ended(PATIENCE).await.unwrap().expect("the failpoint is reached");
}

#[tokio::test]
async fn payouts_of_a_batch_go_in_one_request() {
    let works = Works::open().await;
    let (batch, paid) = works.post(&[PLAIN; 7]).await;
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 7 })).await;
    assert_eq!((works.movements(&paid), works.creates(&paid)), (vec![1; 7], vec![1; 7]));
    assert_eq!(works.together(&paid).await, [true; 7]);
    // The sandbox notes an answer with the first payout of a request.
    let answers = |transaction: Uuid| works.worldpay().payout(ProviderKey::derive(works.id(transaction), 1)).unwrap().calls.answers.len();
    assert_eq!(paid.iter().map(|transaction| answers(*transaction)).sum::<usize>(), 1);
    assert!(works.payout(paid[3]).await.attempt().unwrap().reference.is_some());
}

/// The request was carried out and its answer lost: each is found by a look, and nothing is sent again.
#[tokio::test]
async fn a_lost_answer_makes_each_inconclusive_until_it_is_found() {
    let works = Works::open().await;
    let (batch, paid) = works.post(&[PLAIN, "MOOD lost-answer", PLAIN, PLAIN]).await;
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 4 })).await;
    assert_eq!((works.movements(&paid), works.creates(&paid)), (vec![1; 4], vec![1; 4]));
    for transaction in &paid {
        assert!(works.observed(*transaction, |what| matches!(what, What::NoAnswer { .. })).await);
    }
}

/// Nobody knows any of them: the whole request goes again, under its key, and none of them by itself.
#[tokio::test]
async fn a_request_that_came_to_nothing_goes_again_whole() {
    let works = Works::open().await;
    let (batch, paid) = works.post(&[PLAIN, "MOOD error-before", PLAIN]).await;
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 3 })).await;
    assert_eq!((works.movements(&paid), works.creates(&paid)), (vec![1; 3], vec![1, 2, 1]));
    assert_eq!(works.together(&paid).await, [true; 3]);
    for transaction in &paid {
        assert!(!works.observed(*transaction, |what| matches!(what, What::Resend { .. } | What::Initiate { .. })).await);
        assert_eq!(works.payout(*transaction).await.attempt().unwrap().sends, 2);
    }
}

/// One of them cannot be read for a while, by this worker at least. That is no word about the others: the group waits, and goes again whole.
#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_end_its_group() {
    let works = Works::open().await;
    let (batch, paid) = works.post(&[PLAIN, "MOOD error-before", PLAIN]).await;
    let lanes = works.cranked().await;
    crank(&lanes, ExpandLane, expand).await;
    crank(&lanes, GroupLane, group::dispatch).await;
    let server = works.local.server.as_ref().unwrap().url();
    let socket = Path::new(server.strip_prefix("redis+unix://").unwrap());
    let id = works.id(paid[2]);
    let record = format!("payrelay:{{{}}}:po:{id}", id.shard().tag());
    let answer = say(socket, &["HGET", &record, "rec"]);
    let sound = answer.trim_end().split_once("\r\n").unwrap().1;
    for rec in ["{", sound] {
        say(socket, &["HSET", &record, "rec", rec]);
        for _ in 0..2 {
            lanes.payouts.recorder.store.move_clock(Duration::from_secs(5)).await.unwrap();
            crank(&lanes, GroupLane, group::dispatch).await;
        }
        assert_eq!(works.creates(&paid), if rec == sound { [1, 2, 1] } else { [0, 1, 0] });
    }
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 3 })).await;
    assert_eq!((works.movements(&paid), works.together(&paid).await), (vec![1; 3], vec![true; 3]));
}

/// The second request is not processed, which says nothing about the first one: the third finds out.
#[tokio::test]
async fn a_second_request_that_is_turned_away_is_not_the_end() {
    let works = Works::open().await;
    let (batch, paid) = works.post(&["MOOD error-before", PLAIN, "MOOD rate-limit"]).await;
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 3 })).await;
    assert_eq!((works.movements(&paid), works.together(&paid).await), (vec![1; 3], vec![true; 3]));
    assert_eq!(works.payout(paid[1]).await.attempt().unwrap().sends, 3);
}

/// The provider has carried it out and hides it: the whole request goes again, and is recognised. A payout by itself would not be.
#[tokio::test]
async fn what_the_provider_hides_is_not_paid_again() {
    let works = Works::with(3_000, 500, |settings| {
        quick(settings);
        settings.worldpay.behaviour.late_appear_ms = 4_000;
    })
    .await;
    let (batch, paid) = works.post(&["MOOD late-appear"; 3]).await;
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 3 })).await;
    assert_eq!(works.movements(&paid), [1; 3]);
    assert_eq!(works.worldpay().ledger().double_movements, 0);
    assert!(works.payout(paid[0]).await.attempt().unwrap().sends > 1, "the whole request went again");
}

/// Its own polls only look, whatever they find, for as long as nothing is found.
#[tokio::test]
async fn a_payout_that_was_sent_with_others_is_never_sent_by_itself() {
    let works = Works::with(3_000, 500, |settings| {
        quick(settings);
        settings.worldpay.behaviour.late_appear_ms = 600_000;
    })
    .await;
    let (_, asked) = works.post(&["MOOD late-appear"; 2]).await;
    let lanes = works.cranked().await;
    crank(&lanes, ExpandLane, expand).await;
    crank(&lanes, GroupLane, group::dispatch).await;
    assert_eq!(works.creates(&asked), [1; 2]);
    for _ in 0..8 {
        lanes.payouts.recorder.store.move_clock(Duration::from_secs(3)).await.unwrap();
        crank(&lanes, PollLane, poll).await;
    }
    assert_eq!(works.creates(&asked), [1; 2]);
    for transaction in &asked {
        let payout = works.payout(*transaction).await;
        assert_eq!((payout.state.name(), payout.attempt().unwrap().sends), (StateName::Inconclusive, 1));
        assert!(works.observed(*transaction, |what| matches!(what, What::NotFound { .. })).await, "it was looked for");
    }
}

/// One bad payout refuses the whole request: each goes by itself then, and only the bad one ends.
#[tokio::test]
async fn a_refused_request_leads_to_one_for_each() {
    let works = Works::open().await;
    let (batch, asked) = works.post(&[PLAIN, "MOOD refuse", PLAIN, PLAIN]).await;
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 3, "rejected": 1 })).await;
    assert_eq!(works.movements(&asked), [1, 0, 1, 1]);
    assert_eq!(works.together(&asked).await, [false; 4]);
    assert_eq!(works.payout(asked[0]).await.attempts.len(), 1, "it is the same attempt, sent another way");
}

/// That a refused request did nothing is no more than assumed: before a payout of it goes by itself, the provider is asked whether it has it.
#[tokio::test]
async fn what_a_refused_request_paid_all_the_same_is_not_paid_again() {
    let works = Works::with(3_000, 500, |settings| {
        quick(settings);
        settings.worldpay.pays_refused_batches = true;
    })
    .await;
    let (batch, asked) = works.post(&[PLAIN, "MOOD refuse", PLAIN]).await;
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 2, "rejected": 1 })).await;
    assert_eq!((works.movements(&asked), works.worldpay().ledger().double_movements), (vec![1, 0, 1], 0));
}

/// Where the provider is not asked for more than one at a time, nothing waits for others.
#[tokio::test]
async fn payouts_go_one_by_one_where_that_is_wanted() {
    for (hold_ms, most) in [(0, 500), (3_000, 1)] {
        let works = Works::with(hold_ms, most, quick).await;
        let (batch, paid) = works.post(&[PLAIN; 3]).await;
        let _worker = works.worker("first", "");
        works.stands(batch, &json!({ "settled": 3 })).await;
        assert_eq!((works.movements(&paid), works.together(&paid).await), (vec![1; 3], vec![false; 3]));
    }
}

/// A worker dies with the group at some point; another one finishes. Whatever the point, each is paid once.
async fn survives(armed: &str, references: &[&str], then: impl AsyncFnOnce(&Works, &[Uuid])) {
    let works = Works::patient().await;
    let (batch, paid) = works.post(references).await;
    aborted(works.worker("first", armed)).await;
    then(&works, &paid).await;
    // Whoever is dead has lost its leases: nobody has to wait for that.
    works.local.store.move_clock(Duration::from_millis(works.local.config.workers.lease_ms)).await.unwrap();
    let _second = works.worker("second", "");
    works.stands(batch, &json!({ "settled": references.len() })).await;
    assert_eq!(works.movements(&paid), vec![1; references.len()]);
    assert_eq!(works.worldpay().ledger().double_movements, 0);
}

/// The intents are on disk, and the group is not sent: that proves that nothing left, and each goes by itself.
#[tokio::test]
async fn a_crash_between_the_intents_and_the_group() {
    survives("group-joined=abort", &[PLAIN; 5], async |works, paid| {
        assert_eq!((works.creates(paid), works.together(paid).await), (vec![0; 5], vec![true; 5]));
    })
    .await;
}

/// The group is sent, as far as anybody knows, and was not: each is looked for, and then the whole request goes again.
#[tokio::test]
async fn a_crash_between_the_group_and_the_socket() {
    survives("group-before-socket=abort", &[PLAIN; 5], async |works, paid| assert_eq!(works.creates(paid), [0; 5])).await;
}

#[tokio::test]
async fn a_crash_between_the_answer_to_a_group_and_its_record() {
    survives("group-not-recorded=abort", &[PLAIN; 5], async |works, paid| assert_eq!(works.creates(paid), [1; 5])).await;
}

/// The whole request is about to go again.
#[tokio::test]
async fn a_crash_between_the_second_intents_and_the_socket() {
    survives("group-rejoined=abort", &[PLAIN, "MOOD error-before", PLAIN], async |works, paid| assert_eq!(works.creates(paid), [0, 1, 0])).await;
}

/// A half open circuit lets one request through, and that of a group is one, however many payouts are in it; what comes meanwhile waits for its outcome.
#[tokio::test]
async fn a_group_is_one_trial_of_a_half_open_circuit() {
    let works = Works::open().await;
    let (store, config) = (&works.local.store, &works.local.config);
    let with = async |base_url: Option<&str>| {
        let mut config = config.clone();
        (config.circuit.failures, config.circuit.wait_first_ms, config.circuit.wait_cap_ms) = (1, 10_000, 10_000);
        if let Some(base_url) = base_url {
            config.providers.worldpay_account_test.as_mut().unwrap().access.base_url = base_url.to_owned();
        }
        let parts = run::open(&config, &opentelemetry::global::meter("scenarios")).await.unwrap();
        run::lanes(&config, &parts).unwrap()
    };
    let circuit = async || store.circuit(Provider::WorldpayAccount, Mode::Test).await.unwrap();
    let down = with(Some("http://127.0.0.1:9")).await;
    let (_, first) = works.post(&[PLAIN]).await;
    crank(&down, ExpandLane, expand).await;
    crank(&down, ExecuteLane, execute).await;
    assert!(circuit().await.tripped.is_some());

    let lanes = with(None).await;
    let (_, asked) = works.post(&[PLAIN; 3]).await;
    crank(&lanes, ExpandLane, expand).await;
    lanes.payouts.recorder.store.move_clock(Duration::from_secs(11)).await.unwrap();
    crank(&lanes, GroupLane, group::dispatch).await;
    assert_eq!((works.creates(&asked), works.together(&asked).await), (vec![1; 3], vec![true; 3]));
    assert_eq!(circuit().await.tripped, None, "it went well");
    let _worker = works.worker("first", "");
    let all: Vec<Uuid> = first.into_iter().chain(asked).collect();
    let began = Instant::now();
    while works.movements(&all) != [1; 4] {
        assert!(began.elapsed() < PATIENCE, "{}", works.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A payout that is taken back before its group goes is not in the request.
#[tokio::test]
async fn a_payout_that_was_canceled_does_not_go_with_its_group() {
    let works = Works::open().await;
    let (batch, asked) = works.post(&[PLAIN; 4]).await;
    let lanes = works.cranked().await;
    crank(&lanes, ExpandLane, expand).await;
    let path = format!("/v1/payouts/{}/cancel", asked[2]);
    works.local.caller.expect(Method::POST, &path, None).await.unwrap();
    lanes.turn().await.unwrap();
    assert_eq!(works.creates(&asked), [1, 1, 0, 1]);
    assert_eq!(works.together(&asked).await, [true, true, false, true]);
    let _worker = works.worker("first", "");
    works.stands(batch, &json!({ "settled": 3, "canceled": 1 })).await;
    assert_eq!(works.movements(&asked), [1, 1, 0, 1]);
    // And what has gone with it can no longer be taken back.
    let late = works.local.caller.call(Method::POST, &format!("/v1/payouts/{}/cancel", asked[0]), None).await.unwrap();
    assert_eq!(late.status, StatusCode::CONFLICT);
}

/// While dispatch is frozen no group goes, and afterwards none does while the store may have forgotten something.
#[tokio::test]
async fn no_group_goes_while_dispatch_is_frozen_or_the_store_is_not_trusted() {
    let works = Works::open().await;
    let (_, asked) = works.post(&[PLAIN; 3]).await;
    let lanes = works.cranked().await;
    let shard = works.id(asked[0]).shard();
    let store = &works.local.store;
    crank(&lanes, ExpandLane, expand).await;
    store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
    lanes.turn().await.unwrap();
    assert_eq!(works.creates(&asked), [0; 3]);
    store.thaw(shard, Duration::from_hours(1)).await.unwrap();

    let (_, later) = works.post(&[PLAIN; 3]).await;
    crank(&lanes, ExpandLane, expand).await;
    lanes.turn().await.unwrap();
    assert_eq!((works.creates(&later), works.together(&later).await), (vec![0; 3], vec![true; 3]), "they joined, and the group was dissolved");
    for transaction in &later {
        assert!(works.observed(*transaction, |what| matches!(what, What::NotSent { .. })).await);
    }
}

/// Whatever happens to requests and to workers, money leaves at most once for each payout, and each comes to an end or to a person.
#[tokio::test]
async fn any_trouble_with_groups_pays_at_most_once() {
    const MOODS: [&str; 8] =
        [PLAIN, "MOOD lost-answer", "MOOD error-before", "MOOD error-after", "MOOD late-appear", "MOOD refuse", "MOOD rate-limit", "MOOD fail"];
    const POINTS: [&str; 6] =
        ["group-joined", "group-before-socket", "group-not-recorded", "group-rejoined", "batch-page-not-recorded", "answer-not-recorded"];
    let works = Works::bounded(15_000, 3_000, 500, |settings| {
        quick(settings);
        settings.worldpay.behaviour.late_appear_ms = 1_500;
    })
    .await;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |sides: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice % sides as u64).unwrap()
    };
    let mut asked = BTreeMap::new();
    for round in 0..6 {
        for _ in 0..3 {
            // Mostly plain, so that not every request is refused.
            let references: Vec<&str> = (0..4).map(|_| if roll(3) > 0 { PLAIN } else { MOODS[roll(MOODS.len())] }).collect();
            let (batch, transactions) = works.post(&references).await;
            asked.insert(batch, transactions);
        }
        let armed = format!("{}=abort", POINTS[round % POINTS.len()]);
        let mut worker = works.worker("first", &armed);
        // Not every point is reached in every round.
        let _ = worker.ended(Duration::from_secs(3)).await;
        let _ = worker.kill().await;
    }
    let _last = works.worker("second", "");
    let began = Instant::now();
    for (batch, transactions) in &asked {
        loop {
            let payouts = works.read(*batch).await["payouts"].clone();
            let ended: u64 = ["settled", "rejected", "failed", "in_review"].iter().filter_map(|state| payouts[state].as_u64()).sum();
            if ended == transactions.len() as u64 {
                break;
            }
            assert!(began.elapsed() < 2 * PATIENCE, "{payouts}\n{}", works.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let all: Vec<Uuid> = asked.into_values().flatten().collect();
    assert_eq!(works.worldpay().ledger().double_movements, 0);
    for (transaction, moved) in all.iter().zip(works.movements(&all)) {
        let state = works.payout(*transaction).await.state.name().as_str();
        assert!(moved <= 1, "{transaction} {state} {moved}");
        assert!(state != "settled" || moved == 1, "{transaction} is settled and nothing moved");
        assert!(!matches!(state, "rejected") || moved == 0, "{transaction} is rejected and money moved");
    }
}
