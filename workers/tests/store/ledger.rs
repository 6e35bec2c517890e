//! Money, against a real server that is killed now and then: whatever happens at the same time, every ledger adds up, nothing is paid that is not there,
//! and what is reserved is exactly what open payouts hold.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::account::{BALANCE_MAX, BalanceAccount, Funding, Holder, Status, TopUp};
use domain::amount::Amount;
use domain::fact::{Reason, Report, Source, Status as Word};
use domain::id::{Mode, PartyId, PayoutId, Shard, TopUpId};
use domain::ledger::{Account, Balances};
use domain::money::{Currency, Money};
use domain::payout::state::StateName;
use domain::payout::{Fact, Observation, Order, Payout, Resolution, Resolved, What};
use futures_util::future::join_all;
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use workers::queue::Source as _;
use workers::store::accounts::{Audited, SetUp, ToppedUp};
use workers::store::books::Walk;
use workers::store::freeze::Freeze;
use workers::store::lanes::ExecuteLane;
use workers::store::payouts::{Committed, Drawing, Drawn, Fixed, Opened, Permit, Permitted};
use workers::store::schedules::{Advance, OpenedDue};
use workers::store::{Store, StoreError};

use super::{Installation, beneficiary, installation, lane, party, plan};

fn order(store: &Store, key: &str, minor: i64) -> Order {
    Order { amount: Money::new(minor, Currency::GBP).unwrap().into(), ..super::order_for(store, key) }
}

/// As the workers do: again while the store does not answer.
async fn insist<T, F: Future<Output = Result<T, StoreError>>>(call: impl Fn() -> F) -> T {
    for _ in 0..100 {
        match call().await {
            Ok(answer) => return answer,
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the store does not come back");
}

pub(super) async fn funded(store: &Store, minor: i64) {
    assert_eq!(set_up(store, |_| {}).await, SetUp::Done);
    if minor > 0 {
        assert_eq!(top_up(store, "first", minor).await, ToppedUp::New);
    }
}

/// An account that has money of its own, and differs in what `change` changes.
async fn set_up(store: &Store, change: impl Fn(&mut BalanceAccount)) -> SetUp {
    let mut account = store.account(&party(), Mode::Test, Currency::GBP).await.unwrap().account;
    account.version += 1;
    account.funding = Funding::Balance;
    change(&mut account);
    store.set_up(&account, &Holder::default()).await.unwrap()
}

pub(super) async fn top_up(store: &Store, key: &str, minor: i64) -> ToppedUp {
    let top_up = TopUp {
        id: TopUpId::derive(&party(), Mode::Test, key, store.shards()),
        party: party(),
        mode: Mode::Test,
        transaction_id: key.to_owned(),
        money: Money::new(minor, Currency::GBP).unwrap(),
        recorded_at: store.clock().now(),
    };
    insist(|| store.top_up(&top_up)).await
}

/// Fixes the amount of a payout of the whole balance, if it is one and there is something.
async fn fix(store: &Store, id: PayoutId) {
    let Some(payout) = insist(|| store.load(id)).await else { return };
    let party = party();
    let standing = insist(|| store.account(&party, Mode::Test, Currency::GBP)).await;
    let Some(money) = standing.account.whole(&standing.balances, 0) else { return };
    let verdict = payout.apply(&Fact::new(Source::Worker, What::Fix { money }), &plan(), store.clock().now());
    let Some(step) = verdict.step() else { return };
    insist(|| store.fix(step, &standing.account, standing.balances.of(Account::Available), None)).await;
}

/// How often the amount of a payout was fixed, and to what.
async fn fixed(store: &Store, id: PayoutId) -> Vec<Money> {
    let observations = store.timeline(id).await.unwrap().unwrap().observations;
    let money = |seen: &Observation| if let Some(What::Fix { money }) = seen.fact.as_ref().map(|fact| &fact.what) { Some(*money) } else { None };
    observations.iter().filter_map(money).collect()
}

/// Asks for a payout of the whole balance.
async fn ask_for_all(store: &Store, key: &str) {
    let order = Order { amount: Amount::Whole(Currency::GBP), ..super::order_for(store, key) };
    let (step, beneficiary) = (Payout::open(order, store.clock().now()), beneficiary());
    insist(|| store.open_payout(&step, &beneficiary, "f")).await;
}

/// Asks for a payout: what its account says.
async fn ask(store: &Store, key: &str, minor: i64) -> Result<(), Reason> {
    let (step, beneficiary) = (Payout::open(order(store, key, minor), store.clock().now()), beneficiary());
    match insist(|| store.open_payout(&step, &beneficiary, "f")).await {
        Opened::New | Opened::Exists(_) => Ok(()),
        Opened::Refused(reason, _) => Err(reason),
        other => panic!("{other:?}"),
    }
}

/// Steps that are committed together see what those before them have taken, and what they move adds up to the last digit, beyond what a script's numbers hold.
#[tokio::test]
async fn what_steps_of_one_call_move_adds_up() {
    let Installation { store, server, .. } = &installation().await;
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut ledger =
        async || -> BTreeMap<String, i64> { redis::cmd("HGETALL").arg("t:{s00}:acct:acme:test:GBP").query_async(&mut raw).await.unwrap() };
    let keys: Vec<String> = (0..40).map(|n| format!("large{n}")).collect();
    let opened = join_all(keys.iter().map(|key| ask(store, key, Money::MAX_MINOR))).await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    let all = 40 * Money::MAX_MINOR;
    assert_eq!(ledger().await, BTreeMap::from([("clearing".to_owned(), -all), ("reserved".to_owned(), all)]));

    let Installation { store, .. } = &installation().await;
    funded(store, 75).await;
    let keys: Vec<String> = (0..30).map(|n| format!("small{n}")).collect();
    let opened = join_all(keys.iter().map(|key| ask(store, key, 10))).await;
    assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 7, "{opened:?}");
    let balances = balances(store).await;
    assert_eq!((balances.of(Account::Available), balances.of(Account::Reserved)), (5, 70));
}

/// Whatever one step of a call meets, the ledgers have what the payouts hold that were opened, of its party and of others: an account that is nearly too large, an
/// index that is none.
#[tokio::test]
async fn what_goes_wrong_with_one_step_is_in_nobodys_ledger() {
    let Installation { store, server, .. } = &installation().await;
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let order_of = |party: &str, key: &str| {
        let party = PartyId::parse(party).unwrap();
        Order { id: PayoutId::derive(&party, Mode::Test, key, store.shards()), party, ..order(store, key, 100) }
    };
    let large = i64::MIN + 350;
    let () = redis::cmd("HSET").arg("t:{s00}:acct:large:test:GBP").arg("clearing").arg(large).query_async(&mut raw).await.unwrap();
    let () = redis::cmd("SET").arg("t:{s00}:list:broken:test").arg("no list").query_async(&mut raw).await.unwrap();
    for with in ["large", "broken"] {
        let open = |party: &str| (0..8).map(|n| Payout::open(order_of(party, &format!("{with} {n}")), store.clock().now())).collect::<Vec<_>>();
        let steps: Vec<_> = open("other").into_iter().zip(open(with)).flat_map(|(one, two)| [one, two]).collect();
        let beneficiary = beneficiary();
        let opened = join_all(steps.iter().map(|step| store.open_payout(step, &beneficiary, "f"))).await;
        assert!(opened.iter().any(Result::is_err), "{opened:?}");
        // Whoever was told nothing asks again.
        join_all(steps.iter().filter(|step| step.payout.party.as_str() == "other").map(|step| store.open_payout(step, &beneficiary, "f"))).await;
    }
    for (party, clearing) in [("other", 0), ("large", large), ("broken", 0)] {
        let key = format!("t:{{s00}}:acct:{party}:test:GBP");
        let ledger: BTreeMap<String, i64> = redis::cmd("HGETALL").arg(key).query_async(&mut raw).await.unwrap();
        let mut there = 0;
        for (with, n) in ["large", "broken"].into_iter().flat_map(|with| (0..8).map(move |n| (with, n))) {
            there += i64::from(store.load(order_of(party, &format!("{with} {n}")).id).await.unwrap().is_some());
        }
        let expected = match party {
            "other" => 16,
            "large" => 3,
            _ => there,
        };
        assert_eq!((there, ledger["reserved"], ledger["clearing"]), (expected, 100 * there, clearing - 100 * there), "{party}");
    }
}

/// A schedule whose index is none opens nothing, and whoever asks again is not told that it was opened.
#[tokio::test]
async fn what_a_broken_schedule_would_have_opened_is_not_there() {
    let Installation { store, server, .. } = &installation().await;
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    funded(store, 1_000).await;
    let step = Payout::open(order(store, "due", 100), store.clock().now());
    let mut account = store.account(&step.payout.party, Mode::Test, Currency::GBP).await.unwrap().account;
    account.version += 1;
    let advance = Advance { account, look_again: Duration::from_hours(1), available: 100 };
    let open = async || store.open_scheduled(&step, &beneficiary(), "f", &advance).await;
    let () = redis::cmd("SET").arg("t:{s00}:due:schedule").arg("no index").query_async(&mut raw).await.unwrap();
    for _ in 0..2 {
        assert!(open().await.is_err());
        assert!(store.load(step.payout.id).await.unwrap().is_none());
    }
    let () = redis::cmd("DEL").arg("t:{s00}:due:schedule").query_async(&mut raw).await.unwrap();
    assert!(matches!(open().await.unwrap(), OpenedDue::Opened(Opened::New)));
    assert_eq!(ExecuteLane(lane(store)).lease(2).await.unwrap().items.len(), 1, "and it has its work");
}

/// A server without memory refuses what takes some, until something in the same call has written that takes none.
#[tokio::test]
async fn what_a_full_store_refuses_is_in_no_ledger() {
    let Installation { store, server, .. } = &installation().await;
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut memory = async |max: &str| -> () { redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(max).query_async(&mut raw).await.unwrap() };
    funded(store, 1_000).await;
    ask_for_all(store, "whole").await;
    let whole = store.load(super::order_for(store, "whole").id).await.unwrap().unwrap();
    let verdict = whole.apply(&Fact::new(Source::Caller, What::Cancel { reason: Reason::new("asked") }), &plan(), store.clock().now());
    let cancel = verdict.step().unwrap();
    memory("1").await;
    let (steps, beneficiary) =
        ((0..5).map(|n| Payout::open(order(store, &format!("{n}"), 100), store.clock().now())).collect::<Vec<_>>(), beneficiary());
    let opening = join_all(steps.iter().map(|step| store.open_payout(step, &beneficiary, "f")));
    // The cancel takes none.
    let (opened, canceled) = futures_util::join!(opening, store.commit(cancel));
    assert!(opened.iter().all(Result::is_err) && matches!(canceled, Ok(Committed::Done)), "{opened:?} {canceled:?}");
    memory("0").await;
    assert_eq!(balances(store).await.of(Account::Available), 1_000);
}

/// Something happens to a payout, as often as it takes.
async fn happens(store: &Store, id: PayoutId, what: &What) {
    loop {
        let Some(payout) = insist(|| store.load(id)).await else { return };
        let verdict = payout.apply(&Fact::new(Source::Worker, what.clone()), &plan(), store.clock().now());
        let Some(step) = verdict.step() else { return };
        match insist(|| store.commit(step)).await {
            Committed::Done => return,
            Committed::Stale => {}
            Committed::Missing => panic!("a payout is gone"),
        }
    }
}

pub(super) async fn balances(store: &Store) -> Balances {
    store.account(&party(), Mode::Test, Currency::GBP).await.unwrap().balances
}

async fn state(store: &Store, key: &str) -> Payout {
    store.load(PayoutId::derive(&party(), Mode::Test, key, store.shards())).await.unwrap().unwrap()
}

fn reported(status: Word) -> What {
    What::Reported { attempt: 1, report: Report { status, provider_status: "word".to_owned(), at: None, reference: None, amount: None } }
}

/// Numbers that are the same for the same seed.
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn below(&mut self, limit: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// What a provider can say in the course of an ordinary life, and what a caller can do.
fn anything(random: &mut Draw, now: Timestamp) -> What {
    let reason = || Reason::new("why");
    match random.below(12) {
        0 => What::Cancel { reason: reason() },
        1..=4 => What::Initiate { send_by: now.saturating_add(SignedDuration::from_secs(10)).unwrap(), aside_until: None },
        5 => What::NotSent { attempt: 1, send: 1, why: reason() },
        6 => What::NoAnswer { attempt: 1, send: 1, why: reason() },
        7 => reported(Word::Submitted),
        8 => reported(Word::Settled),
        9 => reported(Word::Failed { reason: reason() }),
        10 => reported(Word::Rejected { reason: reason() }),
        _ => reported(Word::Returned { reason: reason() }),
    }
}

/// Tasks at the same time top up, ask for payouts and for all that is there, and let anything happen to them, while the server is killed. Afterwards each account of the ledger is
/// exactly what the payouts and the top-ups say, and no payout was accepted that the money did not cover.
#[tokio::test]
async fn whatever_happens_the_ledger_tells_where_the_money_is() {
    const WHOLE: i64 = 10;
    const ALL: i64 = 70;
    let key = |number: i64| format!("k{number}");
    let mut taken = 0;
    for seed in 0..6 {
        let Installation { store, mut server, _folder } = installation().await;
        funded(&store, 5_000).await;
        let (topped_up, done) = (AtomicUsize::new(5_000), AtomicUsize::new(0));
        let tasks = (0..8_u64).map(|task| {
            let (store, topped_up, done) = (&store, &topped_up, &done);
            async move {
                let mut random = Draw(seed * 100 + task);
                for n in 0..40 {
                    // The first few are asked for whole, and only those.
                    let (whole, exact) = (key(random.below(WHOLE)), key(WHOLE + random.below(ALL - WHOLE)));
                    let any = key(random.below(ALL));
                    let id = |key: &str| PayoutId::derive(&party(), Mode::Test, key, store.shards());
                    match random.below(13) {
                        10 => ask_for_all(store, &whole).await,
                        11 | 12 => fix(store, id(&whole)).await,
                        0 => {
                            let minor = 1 + random.below(899);
                            assert_eq!(top_up(store, &format!("t{task}-{n}"), minor).await, ToppedUp::New);
                            topped_up.fetch_add(usize::try_from(minor).unwrap(), Ordering::Relaxed);
                        }
                        1..=4 => drop(ask(store, &exact, 1 + random.below(699)).await),
                        _ => happens(store, id(&any), &anything(&mut random, store.clock().now())).await,
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let killer = async {
            for at in [60, 150, 240] {
                while done.load(Ordering::Relaxed) < at {
                    tokio::task::yield_now().await;
                }
                server.kill();
                server.resume().unwrap();
            }
        };
        tokio::join!(join_all(tasks), killer);

        let mut held: BTreeMap<Account, i64> = BTreeMap::new();
        let (mut accepted, mut contradicted) = (0, false);
        for n in 0..ALL {
            let Some(payout) = store.load(PayoutId::derive(&party(), Mode::Test, &key(n), store.shards())).await.unwrap() else { continue };
            accepted += 1;
            let fixed = fixed(&store, payout.id).await;
            assert!(fixed.len() <= 1, "seed {seed}: an amount is fixed once: {fixed:?}");
            assert!(fixed.first().is_none_or(|money| payout.amount == Amount::Exact(*money)), "seed {seed}: {fixed:?} of {payout:?}");
            taken += fixed.len();
            contradicted |= payout.state.name() == StateName::InReview;
            *held.entry(payout.holds_funds_in()).or_default() += payout.amount.exact().map_or(0, Money::minor);
        }
        let balances = balances(&store).await;
        let of = |account| held.get(&account).copied().unwrap_or(0);
        let came_in = i64::try_from(topped_up.into_inner()).unwrap();
        assert!(accepted > 10, "seed {seed}: {accepted} payouts");
        assert_eq!(balances.imbalance(), 0, "seed {seed}");
        assert_eq!(balances.of(Account::TopUps), -came_in, "seed {seed}");
        assert_eq!(balances.of(Account::Reserved), of(Account::Reserved), "seed {seed}");
        assert_eq!(balances.of(Account::Settled), of(Account::Settled), "seed {seed}");
        assert_eq!(balances.of(Account::Available) + balances.of(Account::Reserved), came_in - of(Account::Settled), "seed {seed}");
        let overdrawn = store.audit(Shard::new(0)).await.unwrap().overdrawn;
        assert!(balances.of(Account::Available) >= 0 || contradicted, "seed {seed}: {balances:?}");
        assert_eq!(overdrawn, u64::from(balances.of(Account::Available) < 0), "seed {seed}");
    }
    assert!(taken > 5, "only {taken} whole balances were taken");
}

/// What a provider pays for while it funds the account is its own: it is not the account's debt, nor its money when it comes back, however often that changes.
#[tokio::test]
async fn what_the_provider_has_paid_for_comes_back_to_it() {
    let Installation { store, server: _server, .. } = &installation().await;
    let send = What::Initiate { send_by: Timestamp::MAX, aside_until: None };
    let reason = || Reason::new("why");
    let paid = async |key: &str, minor: i64| {
        ask(store, key, minor).await.unwrap();
        for what in [&send, &reported(Word::Settled)] {
            happens(store, state(store, key).await.id, what).await;
        }
    };
    let returned = async |key: &str| happens(store, state(store, key).await.id, &reported(Word::Returned { reason: reason() })).await;
    let funded_by = async |funding| assert_eq!(set_up(store, |account| account.funding = funding).await, SetUp::Done);
    let there = async || {
        let is = balances(store).await;
        assert_eq!(is.imbalance(), 0);
        [Account::Available, Account::Settled, Account::Clearing].map(|account| is.of(account))
    };
    paid("before", 100).await;
    assert_eq!(there().await, [0, 100, -100]);
    funded_by(Funding::Balance).await;
    top_up(store, "first", 50).await;
    returned("before").await;
    assert_eq!(there().await, [50, 0, 0]);
    assert_eq!(ask(store, "more than there is", 51).await.unwrap_err().as_str(), "insufficient_funds");
    // What it has paid itself comes back to it, whoever funds it by then.
    paid("own", 30).await;
    funded_by(Funding::Provider).await;
    returned("own").await;
    assert_eq!(there().await, [50, 0, 0]);
    // What it has stays, whatever the provider pays meanwhile, and says of that afterwards.
    paid("beyond", 60).await;
    assert_eq!(there().await, [50, 60, -60]);
    funded_by(Funding::Balance).await;
    returned("beyond").await;
    assert_eq!(there().await, [50, 0, 0]);
    happens(store, state(store, "beyond").await.id, &reported(Word::Failed { reason: reason() })).await;
    assert_eq!(state(store, "beyond").await.state.name(), StateName::InReview);
    let resolution =
        Resolution { outcome: Resolved::Settled, reason: reason(), evidence: "e".to_owned(), by: "op".to_owned(), at: store.clock().now() };
    happens(store, state(store, "beyond").await.id, &What::Resolve(resolution)).await;
    assert_eq!(there().await, [50, 60, -60]);
    // A debt of its own stays its own.
    ask(store, "late", 50).await.unwrap();
    let late = state(store, "late").await.id;
    for what in [&send, &reported(Word::Failed { reason: reason() })] {
        happens(store, late, what).await;
    }
    paid("in between", 50).await;
    happens(store, late, &reported(Word::Settled)).await;
    let resolution =
        Resolution { outcome: Resolved::Settled, reason: reason(), evidence: "e".to_owned(), by: "op".to_owned(), at: store.clock().now() };
    happens(store, late, &What::Resolve(resolution)).await;
    assert_eq!(there().await, [-50, 160, -60]);
    funded_by(Funding::Provider).await;
    funded_by(Funding::Balance).await;
    assert_eq!(there().await, [-50, 160, -60]);
}

/// Whoever funds an account in turn, and whatever becomes of its payouts: it has what came in, less what it has paid itself.
#[tokio::test]
async fn no_account_gains_or_loses_by_a_change_of_who_funds_it() {
    let Installation { store, server: _server, .. } = &installation().await;
    let (mut random, mut own, mut came_in, mut changes) = (Draw(11), BTreeMap::<String, bool>::new(), 0, 0);
    let mut funding = Funding::Provider;
    for n in 0..400 {
        match random.below(12) {
            0 | 1 => {
                // Not while anything is reserved.
                for key in own.keys() {
                    let payout = state(store, key).await;
                    if payout.holds_funds_in() == Account::Reserved {
                        happens(store, payout.id, &What::Stuck { why: Reason::new("why") }).await;
                        let outcome = if random.below(2) == 0 { Resolved::Settled } else { Resolved::Failed };
                        let (reason, evidence, by, at) = (Reason::new("why"), "e".to_owned(), "op".to_owned(), store.clock().now());
                        happens(store, payout.id, &What::Resolve(Resolution { outcome, reason, evidence, by, at })).await;
                    }
                }
                let other = if funding == Funding::Provider { Funding::Balance } else { Funding::Provider };
                if set_up(store, |account| account.funding = other).await == SetUp::Done {
                    (funding, changes) = (other, changes + 1);
                }
            }
            2 if funding == Funding::Balance => {
                let minor = 1 + random.below(99);
                assert_eq!(top_up(store, &format!("t{n}"), minor).await, ToppedUp::New);
                came_in += minor;
            }
            3..=5 => {
                let key = format!("k{n}");
                if ask(store, &key, 1 + random.below(79)).await.is_ok() {
                    own.insert(key, funding == Funding::Balance);
                }
            }
            _ if !own.is_empty() => {
                let at = usize::try_from(random.below(i64::try_from(own.len()).unwrap())).unwrap();
                let id = state(store, own.keys().nth(at).unwrap()).await.id;
                happens(store, id, &anything(&mut random, store.clock().now())).await;
            }
            _ => {}
        }
        let [mut paid_itself, mut paid_by_provider] = [0; 2];
        for (key, own) in &own {
            let payout = state(store, key).await;
            if payout.holds_funds_in() != Account::Available {
                *(if *own { &mut paid_itself } else { &mut paid_by_provider }) += payout.amount.exact().map_or(0, Money::minor);
            }
        }
        let is = balances(store).await;
        assert_eq!((is.of(Account::Available), is.of(Account::Clearing)), (came_in - paid_itself, -paid_by_provider), "{n}: {is:?}");
        assert_eq!(is.imbalance(), 0, "{n}");
    }
    assert!(changes > 10 && came_in > 0, "{changes} changes");
}

/// Ten workers that fix the amount of one payout, while others take from its balance and add to it: one of them does, and it is what was there then.
#[tokio::test]
async fn the_amount_of_a_whole_balance_is_fixed_once_to_what_is_there() {
    for round in 0..10 {
        let Installation { store, server: _server, .. } = &installation().await;
        funded(store, 10_000).await;
        set_up(store, |account| account.reserve = 100).await;
        ask_for_all(store, "whole").await;
        let id = state(store, "whole").await.id;
        let takes = join_all((0..20).map(|n| async move { ask(store, &format!("k{n}"), 50).await.map_or(0, |()| 50) }));
        let gives = join_all((0..10).map(|n| async move { top_up(store, &format!("t{n}"), 7).await }));
        let fixes = join_all((0..10).map(|_| fix(store, id)));
        let (took, ..) = tokio::join!(takes, gives, fixes);
        // Whoever came too late for the balance that it had seen decides again.
        while fixed(store, id).await.is_empty() {
            fix(store, id).await;
        }
        let fixed = fixed(store, id).await;
        assert_eq!(fixed.len(), 1, "round {round}");
        let balances = balances(store).await;
        assert_eq!(balances.of(Account::Reserved), fixed[0].minor() + took.iter().sum::<i64>(), "round {round}");
        assert_eq!(balances.of(Account::Available) + balances.of(Account::Reserved), 10_070);
        assert!(balances.of(Account::Available) >= 0 && balances.imbalance() == 0, "{balances:?}");
        // Decided on a version that is gone, on a balance that is gone, on an account that is gone.
        ask_for_all(store, "again").await;
        top_up(store, "more", 1_000).await;
        let standing = store.account(&party(), Mode::Test, Currency::GBP).await.unwrap();
        let money = standing.account.whole(&standing.balances, 0).unwrap();
        let payout = state(store, "again").await;
        let verdict = payout.apply(&Fact::new(Source::Worker, What::Fix { money }), &plan(), store.clock().now());
        let step = verdict.step().unwrap();
        let available = standing.balances.of(Account::Available);
        top_up(store, "yet more", 5).await;
        assert_eq!(store.fix(step, &standing.account, available, None).await.unwrap(), Fixed::Moved { available: available + 5 });
        set_up(store, |account| account.reserve = 101).await;
        assert_eq!(store.fix(step, &standing.account, available + 5, None).await.unwrap(), Fixed::Changed);
        happens(store, payout.id, &What::Cancel { reason: Reason::new("why") }).await;
        assert_eq!(store.fix(step, &standing.account, available + 5, None).await.unwrap(), Fixed::Stale);
        assert_eq!(state(store, "again").await.amount, Amount::Whole(Currency::GBP));
    }
}

/// What the platform has said of an account holds to the instant in which a payout of its balance is opened, and one of a day is enough.
#[tokio::test]
async fn a_payout_of_a_balance_is_opened_on_the_account_that_was_seen() {
    let Installation { store, server: _server, .. } = &installation().await;
    funded(store, 1_000).await;
    let seen = async || store.account(&party(), Mode::Test, Currency::GBP).await.unwrap().account;
    let draw = async |key: &str, account: &BalanceAccount, next: Option<&BalanceAccount>, day: Date| {
        let of = Drawing { account, next, day, needed: 100 };
        store.draw(&Payout::open(order(store, key, 100), store.clock().now()), &beneficiary(), "f", of).await.unwrap()
    };
    let before = seen().await;
    set_up(store, |account| account.queued_refunds = 5).await;
    assert!(matches!(draw("k1", &before, None, date(2026, 11, 23)).await, Drawn::Changed));
    assert!(!store.is_claimed(PayoutId::derive(&party(), Mode::Test, "k1", store.shards())).await.unwrap(), "nothing was written");
    assert_eq!(balances(store).await.of(Account::Reserved), 0);

    let account = seen().await;
    let next = BalanceAccount { version: account.version + 1, reserve: 7, ..account.clone() };
    assert!(matches!(draw("k1", &account, Some(&next), date(2026, 11, 23)).await, Drawn::Opened(Opened::New)));
    assert_eq!(seen().await, next, "with its payout, and not after it");
    assert!(
        matches!(draw("k1", &account, Some(&next), date(2026, 11, 23)).await, Drawn::Opened(Opened::Exists(_))),
        "whatever has become of the account"
    );
    assert!(matches!(draw("k2", &next, None, date(2026, 11, 23)).await, Drawn::Taken));
    assert!(matches!(draw("k2", &next, None, date(2026, 11, 24)).await, Drawn::Opened(Opened::New)), "another day");
    assert!(matches!(draw("k3", &next, None, date(2026, 11, 24)).await, Drawn::Taken));
    happens(store, state(store, "k2").await.id, &What::Cancel { reason: Reason::new("why") }).await;
    assert!(matches!(draw("k3", &next, None, date(2026, 11, 24)).await, Drawn::Opened(Opened::New)), "it was taken back");
    assert!(matches!(draw("k5", &next, None, date(2026, 11, 23)).await, Drawn::Taken), "by a clock that is behind");
    assert_eq!(balances(store).await.of(Account::Reserved), 200);
    top_up(store, "t1", 1).await;
    let of = Drawing { account: &next, next: None, day: date(2026, 11, 25), needed: 802 };
    let step = Payout::open(order(store, "k4", 802), store.clock().now());
    let refused = store.draw(&step, &beneficiary(), "f", of).await.unwrap();
    assert!(matches!(refused, Drawn::Opened(Opened::Refused(reason, _)) if reason.as_str() == "insufficient_funds"));
}

#[tokio::test]
async fn a_hundred_at_once_get_no_more_than_there_is() {
    let Installation { store, server: _server, .. } = &installation().await;
    funded(store, 60 * 250 + 249).await;
    let asked = join_all((0..100).map(|n| async move { ask(store, &format!("k{n}"), 250).await })).await;
    let refused: Vec<Reason> = asked.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused, vec![Reason::new("insufficient_funds"); 40]);
    assert_eq!((balances(store).await.of(Account::Available), balances(store).await.of(Account::Reserved)), (249, 15_000));
}

#[tokio::test]
async fn an_end_without_a_movement_gives_the_money_back_and_a_return_too() {
    let Installation { store, server: _server, .. } = &installation().await;
    funded(store, 1_000).await;
    let now = store.clock().now();
    let send_by = now.saturating_add(SignedDuration::from_secs(10)).unwrap();
    let reason = || Reason::new("why");
    for (key, facts, available, settled) in [
        ("canceled", vec![What::Cancel { reason: reason() }], 1_000, 0),
        ("failed", vec![What::Initiate { send_by, aside_until: None }, reported(Word::Failed { reason: reason() })], 1_000, 0),
        ("open", vec![What::Initiate { send_by, aside_until: None }, What::NoAnswer { attempt: 1, send: 1, why: reason() }], 900, 0),
        ("settled", vec![What::Initiate { send_by, aside_until: None }, reported(Word::Settled)], 800, 100),
        (
            "returned",
            vec![What::Initiate { send_by, aside_until: None }, reported(Word::Settled), reported(Word::Returned { reason: reason() })],
            800,
            100,
        ),
    ] {
        ask(store, key, 100).await.unwrap();
        let id = state(store, key).await.id;
        for what in &facts {
            happens(store, id, what).await;
        }
        let balances = balances(store).await;
        assert_eq!((balances.of(Account::Available), balances.of(Account::Settled)), (available, settled), "{key}");
    }
}

#[tokio::test]
async fn a_disabled_account_refuses_what_is_asked_for_and_keeps_what_it_has() {
    let Installation { store, server: _server, .. } = &installation().await;
    funded(store, 1_000).await;
    ask(store, "before", 400).await.unwrap();
    set_up(store, |account| account.status = Status::Disabled).await;
    assert_eq!(ask(store, "after", 400).await, Err(Reason::new("account_disabled")));
    assert_eq!(ask(store, "before", 400).await, Ok(()), "a repeat of what was accepted is a replay");
    happens(store, state(store, "before").await.id, &What::Cancel { reason: Reason::new("why") }).await;
    assert_eq!(balances(store).await.of(Account::Available), 1_000);
}

/// What the provider has paid for is not the account's debt; and nobody else begins to pay for what is under way.
#[tokio::test]
async fn an_account_gets_money_of_its_own_when_nothing_is_under_way() {
    let Installation { store, server: _server, .. } = &installation().await;
    ask(store, "k1", 400).await.unwrap();
    assert_eq!(balances(store).await.of(Account::Clearing), -400, "the provider funds it");
    assert_eq!(top_up(store, "t1", 100).await, ToppedUp::ProviderFunded);
    assert_eq!(set_up(store, |_| {}).await, SetUp::Busy);
    let id = state(store, "k1").await.id;
    let send_by = store.clock().now().saturating_add(SignedDuration::from_secs(10)).unwrap();
    happens(store, id, &What::Initiate { send_by, aside_until: None }).await;
    happens(store, id, &reported(Word::Settled)).await;
    assert_eq!(set_up(store, |_| {}).await, SetUp::Done);
    let balances = balances(store).await;
    assert_eq!([Account::Available, Account::Settled, Account::Clearing].map(|account| balances.of(account)), [0, 400, -400]);
    assert_eq!(ask(store, "k2", 1).await, Err(Reason::new("insufficient_funds")));
    assert_eq!(store.audit(Shard::new(0)).await.unwrap(), Audited::default());
}

#[tokio::test]
async fn a_top_up_counts_once_and_has_its_limit() {
    let Installation { store, server: _server, .. } = &installation().await;
    funded(store, 0).await;
    let calls = join_all((0..20).map(|_| top_up(store, "t1", 500))).await;
    assert_eq!(calls.iter().filter(|answer| **answer == ToppedUp::New).count(), 1);
    assert_eq!(balances(store).await.of(Account::Available), 500);
    let ToppedUp::Exists(held) = top_up(store, "t1", 700).await else { panic!() };
    assert_eq!(held.money.minor(), 500);
    for n in 0..9 {
        assert_eq!(top_up(store, &format!("most {n}"), Money::MAX_MINOR).await, ToppedUp::New);
    }
    let rest = BALANCE_MAX - 9 * Money::MAX_MINOR - 500;
    assert_eq!(top_up(store, "too much", rest + 1).await, ToppedUp::Full);
    assert_eq!(top_up(store, "the rest", rest).await, ToppedUp::New);
    assert_eq!(balances(store).await.of(Account::Available), BALANCE_MAX);
    for n in 0..9 {
        assert_eq!(ask(store, &format!("most {n}"), Money::MAX_MINOR).await, Ok(()));
    }
    assert_eq!(ask(store, "too much", rest + 501).await, Err(Reason::new("insufficient_funds")), "to the last minor unit");
    assert_eq!(ask(store, "the rest", rest + 500).await, Ok(()));
    assert_eq!(balances(store).await.of(Account::Available), 0);
}

#[tokio::test]
async fn what_was_set_up_meanwhile_is_not_overwritten() {
    let Installation { store, server: _server, .. } = &installation().await;
    let mut account = store.account(&party(), Mode::Test, Currency::GBP).await.unwrap().account;
    account.version = 1;
    assert_eq!(store.set_up(&account, &Holder::default()).await.unwrap(), SetUp::Done);
    assert_eq!(store.set_up(&account, &Holder::default()).await.unwrap(), SetUp::Stale);
}

/// After a restore money may be missing that had come in, and a payout that is asked for may have been sent before: nobody says that it was not.
#[tokio::test]
async fn after_a_restore_nothing_is_refused_for_lack_of_funds() {
    let Installation { store, server: _server, .. } = &installation().await;
    funded(store, 100).await;
    let freeze = Freeze { reason: "restored".to_owned(), at_ms: store.clock().now().as_millisecond(), epoch_seen: 7, nothing_lost: false };
    store.freeze(Shard::new(0), &freeze).await.unwrap();
    let step = Payout::open(order(store, "k1", 500), store.clock().now());
    assert!(matches!(store.open_payout(&step, &beneficiary(), "f").await, Err(StoreError::Restored)));
    assert!(store.load(step.payout.id).await.unwrap().is_none(), "nothing was written");
    assert_eq!(ask(store, "k2", 100).await, Ok(()), "what is covered is accepted");
    store.thaw(Shard::new(0), Duration::from_hours(1)).await.unwrap();
    assert!(matches!(store.open_payout(&step, &beneficiary(), "f").await, Err(StoreError::Restored)), "as long as it is suspect");
    store.move_clock(Duration::from_secs(3_601)).await.unwrap();
    assert_eq!(ask(store, "k1", 500).await, Err(Reason::new("insufficient_funds")));
}

/// A ledger that does not add up stops the dispatch of its account, and of no other, until it does again.
#[tokio::test]
async fn a_ledger_that_is_off_stops_its_account() {
    let Installation { store, server, .. } = &installation().await;
    funded(store, 1_000).await;
    ask(store, "k1", 100).await.unwrap();
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut off_by = async |minor: i64| {
        let ledger = "t:{s00}:acct:acme:test:GBP";
        let _: i64 = redis::cmd("HINCRBY").arg(ledger).arg("settled").arg(minor).query_async(&mut raw).await.unwrap();
    };
    off_by(3).await;
    assert_eq!(store.audit(Shard::new(0)).await.unwrap().imbalance, 3);
    let initiated = || async {
        store.move_clock(Duration::from_secs(60)).await.unwrap();
        let leased = ExecuteLane(lane(store)).lease(10).await.unwrap().items;
        let (_, ticket) = leased.into_iter().next().unwrap();
        let now = store.clock().now();
        let send_by = now.saturating_add(SignedDuration::from_secs(10)).unwrap();
        let what = What::Initiate { send_by, aside_until: None };
        let verdict = state(store, "k1").await.apply(&Fact::new(Source::Worker, what), &plan(), now);
        store.commit_intent(verdict.step().unwrap(), Permit::Execute(ticket.token), Some(b"request")).await.unwrap()
    };
    assert_eq!(initiated().await, Permitted::Frozen);
    ask_for_all(store, "whole").await;
    fix(store, state(store, "whole").await.id).await;
    assert_eq!(state(store, "whole").await.amount, Amount::Whole(Currency::GBP), "nobody knows what is there");
    off_by(-3).await;
    assert_eq!(store.audit(Shard::new(0)).await.unwrap(), Audited::default());
    assert!(matches!(initiated().await, Permitted::Yes { .. }));
}

/// More ledgers than are read at a time: each is looked at, and counts once.
#[tokio::test]
async fn every_ledger_is_audited_however_many_there_are() {
    let Installation { store, server, .. } = &installation().await;
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut pipe = redis::pipe();
    for party in 0..1_000 {
        let ledger = format!("t:{{s00}}:acct:party-{party}:test:GBP");
        pipe.hset(&ledger, "settled", 2).ignore().sadd("t:{s00}:accounts", &ledger).ignore();
    }
    let _: () = pipe.query_async(&mut raw).await.unwrap();
    assert_eq!(store.audit(Shard::new(0)).await.unwrap().imbalance, 2_000);
}

/// What is reserved and held by no payout is found by the second walk over a store at rest, however many payouts there are, stops the account, and is taken back
/// once it is mended. What moves in between is nobody's fault.
#[tokio::test]
async fn a_reserve_that_no_payout_holds_stops_its_account() {
    let Installation { store, server, .. } = &installation().await;
    funded(store, 100_000).await;
    for n in 0..1_200 {
        ask(store, &format!("k{n}"), 10).await.unwrap();
    }
    let mut raw = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let mut walk = Walk::default();
    for n in 0..3 {
        assert_eq!(walked(store, &mut walk, Some(n)).await, 0, "what ends behind a walk or begins before it");
    }
    lose(&mut raw, 7).await;
    assert_eq!(store.audit(Shard::new(0)).await.unwrap().imbalance, 0, "it adds up all the same");
    assert_eq!((walked(store, &mut walk, None).await, walked(store, &mut walk, None).await), (0, 7), "the second walk is sure");
    let fault: Option<String> = redis::cmd("HGET").arg("t:{s00}:account:acme:test:GBP").arg("fault").query_async(&mut raw).await.unwrap();
    assert_eq!(fault.as_deref(), Some("open 7"), "by which the commit of an intent goes");
    lose(&mut raw, -7).await;
    assert_eq!(store.audit(Shard::new(0)).await.unwrap().unmatched, 7, "until a walk finds that it is no more");
    assert_eq!(walked(store, &mut walk, None).await, 0);
}

/// One walk to its end; after its first page, one of the first payouts ends and another one is opened.
async fn walked(store: &Store, walk: &mut Walk, moves: Option<u32>) -> u64 {
    for page in 0..10 {
        let found = store.look_over(Shard::new(0), walk).await.unwrap();
        assert!(found.repaired.is_empty());
        let audited = store.audit_after(Shard::new(0), &found, walk).await.unwrap();
        if let (0, Some(n)) = (page, moves) {
            let payout = state(store, &format!("k{n}")).await;
            let cancel = Fact::new(Source::Worker, What::Cancel { reason: Reason::new("why") });
            store.commit(payout.apply(&cancel, &plan(), store.clock().now()).step().unwrap()).await.unwrap();
            ask(store, &format!("later{n}"), 10).await.unwrap();
        }
        if found.ended {
            return audited.unmatched;
        }
    }
    panic!("a walk without end");
}

/// What no store handle does.
async fn lose(raw: &mut redis::aio::MultiplexedConnection, minor: i64) {
    let ledger = "t:{s00}:acct:acme:test:GBP";
    let _: i64 = redis::cmd("HINCRBY").arg(ledger).arg("reserved").arg(minor).query_async(raw).await.unwrap();
    let _: i64 = redis::cmd("HINCRBY").arg(ledger).arg("available").arg(-minor).query_async(raw).await.unwrap();
}
