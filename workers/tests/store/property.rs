//! Everything at random, one thing after the other and two at once: after each step the money is where the records say, nobody is paid and canceled, nobody
//! approves what they asked for, and nothing is sent that is frozen.

use std::collections::{BTreeMap, BTreeSet};

use domain::amount::Amount;
use domain::fact::{Reason, Report, Source, Status as Word};
use domain::id::{Mode, PayoutId, Shard};
use domain::ledger::Account;
use domain::money::{Currency, Money};
use domain::payout::state::StateName;
use domain::payout::{Fact, Order, Payout, Resolution, Resolved, Verdict, What, Withdrawal};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::time::Duration;
use workers::gate::{Gate, Rules};
use workers::queue::Source as _;
use workers::store::circuits::Order as Stop;
use workers::store::freeze::Freeze;
use workers::store::lanes::{ExecuteLane, Token};
use workers::store::payouts::{Claim, Committed, Opened, Permit, Permitted};
use workers::store::{Store, StoreError};

use super::ledger::{Draw, funded, top_up};
use super::{Installation, beneficiary, installation, lane, party, plan};

const KEYS: i64 = 18;
const STEPS: usize = 180;
/// What may go within a day, in one of the two halves of the seeds.
const LIMIT: i64 = 1_200;

/// What has been done, as far as the store must agree with it.
struct World {
    store: Store,
    random: Draw,
    gate: Gate,
    limited: bool,
    came_in: i64,
    /// Leases that were taken, with when they end by the store's clock: most of them are somebody else's by now.
    leases: BTreeMap<PayoutId, Vec<Token>>,
    to_approve: BTreeSet<PayoutId>,
    /// Payouts that have ended.
    done: BTreeSet<PayoutId>,
    frozen: bool,
    party_frozen: bool,
    /// Intents that were permitted.
    sends: usize,
}

impl World {
    async fn new(store: Store, seed: u64) -> Self {
        funded(&store, 5_000).await;
        let limited = seed.is_multiple_of(2);
        let limits = json!([{ "scope": "party", "currency": "GBP", "hours": 24, "amount_max": LIMIT, "beyond": "reject" }]);
        let limits = if limited { serde_json::from_value(limits).unwrap() } else { Vec::new() };
        let rules = Rules { limits, approval_hours: 1, known_days: 9, known_max: 9, refuse_twins: true, ..Rules::default() };
        let gate = Gate::new(b"pepper", rules);
        let (leases, to_approve, done) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { store, random: Draw(seed), gate, limited, came_in: 5_000, leases, to_approve, done, frozen: false, party_frozen: false, sends: 0 }
    }

    fn id(&self, key: i64) -> PayoutId {
        PayoutId::derive(&party(), Mode::Test, &format!("k{key}"), self.store.shards())
    }

    async fn load(&self, id: PayoutId) -> Option<Payout> {
        self.store.load(id).await.unwrap()
    }

    async fn payouts(&self) -> Vec<Payout> {
        let mut found = Vec::new();
        for key in 0..KEYS {
            found.extend(self.load(self.id(key)).await);
        }
        found
    }

    async fn step(&mut self) {
        let key = self.random.below(KEYS);
        // Mostly one that was due lately.
        let due: Vec<PayoutId> = self.leases.keys().copied().filter(|id| !self.done.contains(id)).collect();
        let place = usize::try_from(self.random.below(64)).unwrap();
        let id = if due.is_empty() || place.is_multiple_of(4) { self.id(key) } else { due[place % due.len()] };
        match self.random.below(24) {
            0..=3 => self.open(key).await,
            4 => {
                let minor = 1 + self.random.below(400);
                self.came_in += minor;
                top_up(&self.store, &format!("t{}", self.came_in), minor).await;
            }
            5 => self.approve("ops").await,
            6 | 7 => self.approve("checker").await,
            8..=11 => self.dispatch(id).await,
            12..=16 => self.hear(id).await,
            17 | 18 => self.race(id).await,
            19 => self.freeze().await,
            20..=22 => self.thaw().await,
            _ => {
                // Leases end, workers are late, days go by.
                let wait = [5, 5, 31, 31, 31, 3_700, 90_000][usize::try_from(self.random.below(7)).unwrap()];
                self.store.move_clock(Duration::from_secs(wait)).await.unwrap();
            }
        }
    }

    async fn open(&mut self, key: i64) {
        let now = self.store.clock().now();
        let amount = match self.random.below(6) {
            0 => Amount::Whole(Currency::GBP),
            _ => Money::new(1 + self.random.below(300), Currency::GBP).unwrap().into(),
        };
        let needs_approval = self.random.below(3) == 0;
        let approve_by = needs_approval.then(|| self.gate.time_to_approve(now));
        let order = Order { amount, approve_by, ..super::order_for(&self.store, &format!("k{key}")) };
        let question = self.gate.question(&order, &beneficiary(), self.store.shards());
        let claim = Claim { fingerprint: "f", question: Some(&question) };
        match self.store.open_payout(&Payout::open(order.clone(), now), &beneficiary(), claim).await {
            Ok(Opened::New) if needs_approval => _ = self.to_approve.insert(order.id),
            Ok(_) => {}
            // Nobody says that something is missing while it may only be forgotten.
            Err(StoreError::Restored) => assert!(self.frozen),
            Err(error) => panic!("{error}"),
        }
    }

    /// Somebody approves what waits the longest for it.
    async fn approve(&self, by: &str) {
        let waiting = |payout: &Payout| payout.state.name() == StateName::AwaitingApproval;
        let Some(payout) = self.payouts().await.into_iter().find(waiting) else { return };
        let fact = Fact::new(Source::Operator, What::Approve { by: by.to_owned() });
        if let Some(step) = payout.apply(&fact, &plan(), self.store.clock().now()).step() {
            assert_eq!(self.store.commit(step).await.unwrap(), Committed::Done);
        }
    }

    /// As a worker does, with the lease that it has, had, or never had. What it decided on may be gone meanwhile.
    async fn dispatch(&mut self, id: PayoutId) {
        for (work, ticket) in ExecuteLane(lane(&self.store)).lease(100).await.unwrap().items {
            self.leases.entry(work.payout.id).or_default().push(ticket.token);
        }
        let Some(payout) = self.load(id).await else { return };
        if let Amount::Whole(_) = payout.amount {
            return self.fix(&payout).await;
        }
        let Some(held) = self.leases.get(&id) else { return };
        // Mostly the latest one.
        let place = if self.random.below(4) == 0 { 0 } else { held.len() - 1 };
        let token = held[place];
        let now = self.store.clock().now();
        let send_by = now.saturating_add(SignedDuration::from_secs(10)).unwrap();
        let verdict = payout.apply(&Fact::new(Source::Worker, What::Initiate { send_by, aside_until: None }), &plan(), now);
        let Some(step) = verdict.step() else { return };
        // Somebody may be faster than the commit.
        match self.random.below(6) {
            0 => self.hear(id).await,
            1 => self.freeze().await,
            _ => {}
        }
        let permitted = self.store.commit_intent(step, Permit::Execute(token), Some(b"request")).await.unwrap();
        if let Permitted::Yes { .. } = permitted {
            self.sends += 1;
            assert!(!self.frozen && !self.party_frozen, "I12: an intent was committed while dispatch was frozen");
        }
        // The same commit again, as after an answer that was lost, is nobody's second send.
        let again = self.store.commit_intent(step, Permit::Execute(token), Some(b"request")).await.unwrap();
        assert!(!matches!(again, Permitted::Yes { .. }), "one decision has sent twice: {permitted:?} {again:?}");
    }

    async fn fix(&self, payout: &Payout) {
        let standing = self.store.account(&party(), Mode::Test, Currency::GBP).await.unwrap();
        let Some(money) = standing.account.whole(&standing.balances, 0) else { return };
        let verdict = payout.apply(&Fact::new(Source::Worker, What::Fix { money }), &plan(), self.store.clock().now());
        let Some(step) = verdict.step() else { return };
        let question = self.gate.question_of_amount((&party(), Mode::Test), &beneficiary(), money);
        self.store.fix(step, &standing.account, standing.balances.of(Account::Available), question.as_ref()).await.unwrap();
    }

    /// What providers, callers, clocks and operators say in the course of an ordinary life.
    fn anything(&mut self, now: Timestamp) -> What {
        let reason = || Reason::new("why");
        let report = |status| What::Reported {
            attempt: 1,
            report: Report { status, provider_status: "w".to_owned(), at: None, reference: None, amount: None },
        };
        match self.random.below(14) {
            0 | 13 => What::Cancel { reason: reason() },
            2 => What::NotSent { attempt: 1, send: 1, why: reason() },
            3 | 10 | 11 | 12 => What::NoAnswer { attempt: 1, send: 1, why: reason() },
            4 => report(Word::Submitted),
            5 => report(Word::Settled),
            6 => report(Word::Failed { reason: reason() }),
            7 => What::Refused { attempt: 1, send: 1, reason: reason() },
            8 => What::Decline { reason: reason(), rule: None },
            9 => What::Resolve(Resolution { outcome: Resolved::Failed, reason: reason(), evidence: "e".to_owned(), by: "op".to_owned(), at: now }),
            _ => What::Stuck { why: reason() },
        }
    }

    async fn hear(&mut self, id: PayoutId) {
        let now = self.store.clock().now();
        let what = self.anything(now);
        let Some(payout) = self.load(id).await else { return };
        if is_of_nobody(&payout, &what) {
            return;
        }
        if let Some(step) = payout.apply(&Fact::new(Source::Worker, what), &plan(), now).step() {
            assert_eq!(self.store.commit(step).await.unwrap(), Committed::Done);
            assert_eq!(self.store.commit(step).await.unwrap(), Committed::Stale, "a decision counts once");
        }
    }

    /// Two decide on the same record, and commit at the same time: one of them wins.
    async fn race(&mut self, id: PayoutId) {
        let now = self.store.clock().now();
        let both = [self.anything(now), self.anything(now)];
        let Some(payout) = self.load(id).await else { return };
        let verdicts: Vec<Verdict> = both
            .into_iter()
            .filter(|what| !is_of_nobody(&payout, what))
            .map(|what| payout.apply(&Fact::new(Source::Worker, what), &plan(), now))
            .collect();
        let [Some(one), Some(other)] = verdicts.iter().map(Verdict::step).collect::<Vec<_>>()[..] else { return };
        let (one, other) = tokio::join!(self.store.commit(one), self.store.commit(other));
        let done = [one.unwrap(), other.unwrap()].into_iter().filter(|committed| *committed == Committed::Done).count();
        assert_eq!(done, 1, "two decisions on one record were written");
    }

    async fn freeze(&mut self) {
        if self.random.below(2) == 0 {
            let freeze = Freeze { reason: "x".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false };
            self.store.freeze(Shard::new(0), &freeze).await.unwrap();
            self.frozen = true;
        } else {
            self.store.freeze_party(&party(), Mode::Test, &self.stop()).await.unwrap();
            self.party_frozen = true;
        }
    }

    async fn thaw(&mut self) {
        self.store.thaw(Shard::new(0), Duration::ZERO).await.unwrap();
        self.store.thaw_party(&party(), Mode::Test, &self.stop(), None).await.unwrap();
        (self.frozen, self.party_frozen) = (false, false);
    }

    fn stop(&self) -> Stop {
        Stop { by: "ann".to_owned(), reason: Some("a drill".to_owned()), at: self.store.clock().now() }
    }

    /// What must hold after each step.
    async fn holds(&mut self, told: &str) {
        let (payouts, balances) = (self.payouts().await, super::ledger::balances(&self.store).await);
        self.done = payouts.iter().filter(|payout| payout.state.name().is_final()).map(|payout| payout.id).collect();
        assert_eq!(balances.imbalance(), 0, "I6: {told}: {balances:?}");
        let held = |account| -> i64 {
            payouts
                .iter()
                .filter(|payout| belongs_in(payout.state.name()) == account)
                .filter_map(|payout| payout.amount.exact())
                .map(Money::minor)
                .sum()
        };
        assert_eq!(balances.of(Account::Reserved), held(Account::Reserved), "I5: {told}: what is reserved is what open payouts hold");
        assert_eq!(balances.of(Account::Settled), held(Account::Settled), "I5: {told}");
        let contradicted = payouts.iter().any(|payout| payout.state.name() == StateName::InReview);
        assert!(balances.of(Account::Available) >= 0 || contradicted, "{told}: {balances:?} is overdrawn");
        let mut walk = workers::store::books::Walk::default();
        for _ in 0..2 {
            let found = self.store.look_over(Shard::new(0), &mut walk).await.unwrap();
            let audited = self.store.audit_after(Shard::new(0), &found, &mut walk).await.unwrap();
            assert_eq!((audited.imbalance, audited.unmatched), (0, 0), "I6: {told}");
        }
        let mut sends = 0;
        for payout in &payouts {
            let sent = payout.attempts.iter().map(|attempt| attempt.sends).sum::<u32>();
            sends += usize::try_from(sent).unwrap();
            let live = payout.attempts.iter().any(|attempt| !attempt.live.is_empty());
            if let Some(Withdrawal::Canceled { .. }) = payout.withdrawn {
                assert!(!live, "I10: {told}: {} is canceled and on its way", payout.transaction_id);
            }
            assert_ne!(payout.approved_by.as_ref(), Some(&payout.maker), "I11: {told}");
            if self.to_approve.contains(&payout.id) {
                assert!(sent == 0 || payout.approved_by.is_some(), "I11: {told}: sent, and nobody has approved it");
            }
        }
        assert_eq!(sends, self.sends, "{told}: every send was permitted once");
        let resolved = payouts.iter().any(|payout| payout.resolution.is_some());
        if self.limited && !contradicted && !resolved {
            let day = self.store.clock().now().saturating_sub(SignedDuration::from_hours(24)).unwrap();
            let gone = payouts.iter().filter(|payout| payout.requested_at() > day && belongs_in(payout.state.name()) != Account::Available);
            let gone: i64 = gone.filter_map(|payout| payout.amount.exact()).map(Money::minor).sum();
            assert!(gone <= LIMIT, "{told}: {gone} within a day");
        }
    }
}

/// Where the money of a payout must be, said in other words than the domain's.
fn belongs_in(state: StateName) -> Account {
    match state.as_str() {
        "settled" => Account::Settled,
        "returned" | "failed" | "rejected" | "canceled" => Account::Available,
        _ => Account::Reserved,
    }
}

/// Providers say nothing about what was never sent.
fn is_of_nobody(payout: &Payout, what: &What) -> bool {
    let about_an_attempt = matches!(what, What::NotSent { .. } | What::NoAnswer { .. } | What::Refused { .. } | What::Reported { .. });
    about_an_attempt && payout.attempts.is_empty()
}

#[tokio::test]
async fn whatever_happens_the_invariants_hold() {
    let mut seen = [0; 5];
    for seed in 0..4 {
        let Installation { store, server: _server, .. } = installation().await;
        let mut world = World::new(store, seed).await;
        for step in 0..STEPS {
            world.step().await;
            world.holds(&format!("seed {seed}, step {step}")).await;
        }
        let payouts = world.payouts().await;
        seen[0] += world.sends;
        seen[1] += payouts.iter().filter(|payout| matches!(payout.withdrawn, Some(Withdrawal::Canceled { .. }))).count();
        seen[2] += payouts.iter().filter(|payout| payout.approved_by.is_some()).count();
        seen[4] += payouts.iter().filter(|payout| payout.reached.contains_key(&StateName::Inconclusive)).count();
        seen[3] += payouts.iter().filter(|payout| payout.reached.contains_key(&StateName::Settled)).count();
    }
    assert!(seen.iter().all(|count| *count > 0), "sends, cancels, approvals, settled, inconclusive: {seen:?}");
}
