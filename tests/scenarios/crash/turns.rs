//! The same witnesses, with workers in this process that are cranked turn by turn: time is moved, not waited for.

use domain::fact::{About, ProviderReference, Reason, Report, Status};
use domain::id::{NoticeId, ProviderKey};
use payrelay::config::Config;
use payrelay::run;
use workers::lanes::Lanes;
use workers::queue::Turn;
use workers::settle::StoredNotice;
use workers::store::freeze::Freeze;
use workers::store::notices::{Remembered, Worth};
use workers::store::vitals::Vitals;

use super::*;

/// Time is moved here, so that real time may be as long as usual. More than two leases of one piece of work, without a commit, are too many.
pub(super) const CRANKED: [(&str, &str); 10] = [
    ("execute.leases_max", "2"),
    ("execute.send_window_ms", "5000"),
    ("execute.call_ms", "12000"),
    ("providers.truelayer_test.connect_timeout_ms", "5000"),
    ("providers.truelayer_test.token_timeout_ms", "10000"),
    ("providers.truelayer_test.read_timeout_ms", "10000"),
    ("providers.truelayer_test.profile.bound_ms", "3600000"),
    ("workers.handler_deadline_ms", "25000"),
    ("workers.drain_ms", "25000"),
    ("workers.lease_ms", "30000"),
];
/// Enough to lease too often, and a little more.
const TURNS: u32 = 6;
/// Longer than a failure is waited for, and than the first waits of polls.
const STEP: Duration = Duration::from_secs(1);

/// A provider that only answers: what it thinks is found out by asking.
pub(super) fn silent(settings: &mut Settings) {
    settings.notices = None;
}

impl Site {
    /// Workers with this configuration that wait to be cranked.
    pub(super) async fn cranked(&self, config: &Config) -> Lanes {
        let parts = run::open(config, &opentelemetry::global::meter("scenarios")).await.unwrap();
        run::lanes(config, &parts).unwrap()
    }

    pub(super) async fn vitals(&self) -> Vitals {
        let store = &self.local.store;
        store.vitals(store.shards().all().next().unwrap()).await.unwrap()
    }

    /// Notices that are to be settled, and those that were given up.
    async fn notices(&self) -> (u64, u64) {
        let vitals = self.vitals().await;
        let waiting = vitals.lanes.iter().find(|lane| lane.lane == "settle").unwrap().entries;
        (waiting, vitals.orphans)
    }
}

/// Moves the time of these workers and their store, and does what is due then.
pub(super) async fn after(by: Duration, lanes: &Lanes) -> Turn {
    lanes.payouts.recorder.store.move_clock(by).await.unwrap();
    lanes.turn().await.unwrap()
}

/// A worker that lacks the account cannot know that the payout is impossible: it gives it back, as often as it gets it, and nothing is held against it.
#[tokio::test]
async fn a_worker_without_the_account_leaves_the_payout_to_one_that_has_it() {
    let site = Site::with(&CRANKED, silent).await;
    let sent = site.post().await;
    let mut config = site.local.config.clone();
    config.providers.truelayer_test = None;
    let without = site.cranked(&config).await;
    for _ in 0..TURNS {
        assert_ne!(after(STEP, &without).await, Turn::Idle, "it is leased again");
    }
    let payout = site.payout(&sent).await;
    assert_eq!((payout.state.name(), payout.version, payout.attempts.len()), (StateName::Requested, 1, 0));

    let with = site.cranked(&site.local.config).await;
    after(STEP, &with).await;
    assert_eq!((site.state(&sent).await, site.calls(&sent).creates), (StateName::Authorised, 1));
}

/// By the store's clock the payout is due, by that of the process it is not. That may last, and is not the payout's fault.
#[tokio::test]
async fn a_process_whose_clock_is_behind_gives_back_what_is_not_due_yet() {
    let site = Site::with(&CRANKED, |settings| {
        silent(settings);
        settings.truelayer.behaviour.retry_after_s = 3_600;
    })
    .await;
    let sent = site.post_in(Mood::RateLimit).await;
    let behind = site.cranked(&site.local.config).await;
    behind.turn().await.unwrap();
    let put_off = site.payout(&sent).await;
    assert_eq!((put_off.state.name(), site.calls(&sent).creates), (StateName::Scheduled, 1));

    // Somebody else moves the time; these workers go by their own.
    let ahead = &site.local.store;
    ahead.move_clock(Duration::from_hours(2)).await.unwrap();
    for _ in 0..TURNS {
        assert_ne!(behind.turn().await.unwrap(), Turn::Idle, "by the store's clock it is due");
        ahead.move_clock(STEP).await.unwrap();
    }
    assert_eq!(site.payout(&sent).await, put_off);
    assert_eq!(site.calls(&sent).creates, 1);

    after(STEP, &behind).await;
    assert_eq!((site.state(&sent).await, site.calls(&sent).creates), (StateName::Authorised, 2));
}

/// What would be sent again is not, while dispatch is frozen. It is looked for all the same, and the bound holds.
#[tokio::test]
async fn polls_go_on_to_their_bound_while_dispatch_is_frozen() {
    let site = Site::with(&CRANKED, silent).await;
    let sent = site.post_in(Mood::ErrorBefore).await;
    let lanes = site.cranked(&site.local.config).await;
    lanes.turn().await.unwrap();
    assert_eq!((site.state(&sent).await, site.calls(&sent).creates), (StateName::Inconclusive, 1));
    let freeze = Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false };
    site.local.store.freeze(sent.id.shard(), &freeze).await.unwrap();

    // The bound is an hour after the call.
    for _ in 0..5 {
        assert_ne!(after(Duration::from_mins(10), &lanes).await, Turn::Idle, "it is looked for");
        assert_eq!(site.state(&sent).await, StateName::Inconclusive);
    }
    after(Duration::from_mins(10), &lanes).await;
    assert_eq!((site.state(&sent).await, site.calls(&sent).creates), (StateName::InReview, 1));
    assert!(!site.observed(&sent, |what| matches!(what, What::Stuck { .. })).await, "it is the bound that leads to a person");
}

/// The provider has carried it out and hides it, and would carry it out again. The store has forgotten that it was sent.
#[tokio::test]
async fn what_may_have_been_forgotten_is_not_sent_where_repeats_are_not_recognised() {
    what_may_have_been_forgotten_is_not_sent(("providers.truelayer_test.profile.recognises_duplicates", "false")).await;
}

/// What was forgotten may be older than the provider's memory of keys.
#[tokio::test]
async fn what_may_have_been_forgotten_is_not_sent_where_repeats_are_recognised_for_a_time() {
    what_may_have_been_forgotten_is_not_sent(("providers.truelayer_test.profile.retention_ms", "3600000")).await;
}

async fn what_may_have_been_forgotten_is_not_sent(profile: (&str, &str)) {
    let mut site = Site::with(&[&CRANKED[..], &[profile]].concat(), |settings| {
        silent(settings);
        settings.truelayer.pays_repeats = true;
        settings.truelayer.behaviour.late_appear_ms = 3_600_000;
    })
    .await;
    let sent = site.post_in(Mood::LateAppear).await;
    let bytes = site.server().log_bytes().unwrap();
    let lanes = site.cranked(&site.local.config).await;
    lanes.turn().await.unwrap();
    assert_eq!((site.state(&sent).await, site.calls(&sent).creates), (StateName::Inconclusive, 1));
    eventually("the provider pays", PATIENCE, async || site.movements(&sent) == 1).await;
    site.server().forget_since(bytes).unwrap();
    let store = &lanes.payouts.recorder.store;
    eventually("the store answers", PATIENCE, async || store.ping().await.is_ok() && site.local.store.ping().await.is_ok()).await;
    assert_eq!(site.state(&sent).await, StateName::Requested);

    lanes.turn().await.unwrap();
    let shard = sent.id.shard();
    assert!(store.frozen(shard).await.unwrap().is_some());
    store.thaw(shard, Duration::from_hours(1)).await.unwrap();
    for _ in 0..8 {
        after(Duration::from_mins(10), &lanes).await;
    }
    assert_eq!((site.state(&sent).await, site.calls(&sent).creates, site.movements(&sent)), (StateName::InReview, 1, 1));
    assert!(site.observed(&sent, |what| matches!(what, What::NoAnswer { why, .. } if why.as_str() == "may_be_forgotten")).await);
}

#[tokio::test]
async fn a_notice_that_cannot_be_read_waits_a_day_before_it_is_put_aside() {
    let site = Site::with(&CRANKED, silent).await;
    let lanes = site.cranked(&site.local.config).await;
    let store = &lanes.payouts.recorder.store;
    let id = NoticeId::derive("truelayer", "poison", store.shards().all().next().unwrap());
    assert_eq!(store.remember(id, Worth::Evidence, b"written by a later version").await.unwrap(), Remembered::New);
    for _ in 0..23 {
        assert_ne!(after(Duration::from_hours(1), &lanes).await, Turn::Idle);
        assert_eq!(site.notices().await, (1, 0), "another worker may read it");
    }
    after(Duration::from_hours(2), &lanes).await;
    assert_eq!(site.notices().await, (0, 1));
    assert_eq!(
        store.remember(id, Worth::Evidence, b"written by a later version").await.unwrap(),
        Remembered::Known,
        "the provider's repeats do not bring it back"
    );
    assert_eq!(after(STEP, &lanes).await, Turn::Idle);
}

/// The ingress seals with a key that these workers were not given yet. The notice waits for one that has it, for as long as that takes.
#[tokio::test]
async fn a_notice_that_is_sealed_with_a_newer_key_waits_for_a_worker_that_has_it() {
    let site = Site::with(&CRANKED, silent).await;
    let behind = site.cranked(&site.local.config).await;
    let sent = site.post().await;
    behind.turn().await.unwrap();
    let mut config = site.local.config.clone();
    config.vault.keys.insert(2, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".into());
    config.vault.current = 2;
    let ahead = site.cranked(&config).await;
    let report = Report {
        status: Status::Returned { reason: Reason::new("account_closed") },
        provider_status: "returned".to_owned(),
        at: None,
        reference: None,
        amount: None,
    };
    let notice = StoredNotice::new(Provider::Truelayer, Mode::Test, About::Key(sent.provider_key()), Some(report));
    let id = NoticeId::derive("truelayer", "sealed", sent.id.shard());
    ahead.payouts.recorder.store.remember(id, Worth::Evidence, &serde_json::to_vec(&notice).unwrap()).await.unwrap();
    for _ in 0..10 {
        assert_ne!(after(Duration::from_hours(6), &behind).await, Turn::Idle, "it is tried again");
        assert_eq!(site.notices().await, (1, 0));
    }
    after(Duration::from_hours(1), &ahead).await;
    assert_eq!((site.notices().await, site.state(&sent).await), ((0, 0), StateName::Returned));
}

/// A notice may be faster than our own write. It is asked after again and again, which does not make it one that cannot be settled.
#[tokio::test]
async fn a_notice_waits_a_day_for_its_payout_however_often_it_is_tried() {
    let site = Site::with(&CRANKED, silent).await;
    let lanes = site.cranked(&site.local.config).await;
    let store = &lanes.payouts.recorder.store;
    let party = &site.local.config.ingress.default_party;
    let payout = PayoutId::derive(party, Mode::Test, "not here yet", store.shards());
    let report = Report { status: Status::Settled, provider_status: "settled".to_owned(), at: None, reference: None, amount: None };
    let by_their_id = About::Reference(ProviderReference("not told yet".to_owned()));
    for (name, about, report, worth) in
        [("early", About::Key(ProviderKey::derive(payout, 1)), Some(report), Worth::Evidence), ("theirs", by_their_id.clone(), None, Worth::Hint)]
    {
        let notice = StoredNotice::new(Provider::Truelayer, Mode::Test, about, report);
        store.remember(NoticeId::derive("truelayer", name, payout.shard()), worth, &serde_json::to_vec(&notice).unwrap()).await.unwrap();
    }
    for _ in 0..23 {
        assert_ne!(after(Duration::from_hours(1), &lanes).await, Turn::Idle);
        assert_eq!(site.notices().await, (2, 0));
    }
    after(Duration::from_hours(2), &lanes).await;
    assert_eq!(site.notices().await, (0, 2));
    // A hint that was put aside is no memory that keeps the next one away.
    let notice = StoredNotice::new(Provider::Truelayer, Mode::Test, by_their_id, None);
    let id = NoticeId::derive("truelayer", "theirs", payout.shard());
    assert_eq!(store.remember(id, Worth::Hint, &serde_json::to_vec(&notice).unwrap()).await.unwrap(), Remembered::New);
}

/// An earlier version has stored it, in a form that nobody reads any more: it is put aside where it is seen.
#[tokio::test]
async fn a_notice_of_an_older_form_is_put_aside() {
    let site = Site::with(&CRANKED, silent).await;
    let lanes = site.cranked(&site.local.config).await;
    let store = &lanes.payouts.recorder.store;
    let id = NoticeId::derive("truelayer", "old", store.shards().all().next().unwrap());
    store.remember(id, Worth::Evidence, br#"{"v":1,"provider":"truelayer","key":"x"}"#).await.unwrap();
    assert_eq!(site.notices().await, (1, 0));
    after(STEP, &lanes).await;
    assert_eq!(site.notices().await, (0, 1));
}
