//! Payouts that a schedule opens: once per due date, whatever happens to workers, clocks, accounts and the store.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::account::{BalanceAccount, Planned, TopUp};
use domain::calendar::BankingDays;
use domain::destination::{Beneficiary, BeneficiaryName, Destination, Iban, StatementReference};
use domain::fact::Provider;
use domain::id::{Mode, PartyId, PayoutId, TopUpId};
use domain::ledger::Account;
use domain::money::{Currency, Money};
use domain::payout::state::StateName;
use domain::payout::{Order, Payout};
use domain::schedule::plan::{Plan as Due, Progress};
use domain::schedule::{Day, Recurrence, Schedule};
use futures_util::future::join_all;
use jiff::civil::{Date, date};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use workers::queue::{self, Turn};
use workers::schedule;
use workers::store::accounts::{SetUp, Standing, ToppedUp};
use workers::store::freeze::Freeze;
use workers::store::lanes::Lane;
use workers::store::lists::Range;
use workers::store::payouts::Opened;
use workers::store::schedules::{Advance, Advanced, OpenedDue, ScheduleLane};

use crate::support::{Caller, Installation, Plan, payout, transaction};

/// What a payout of a schedule pays: as much as was there.
fn minor(payout: &Payout) -> i64 {
    payout.amount.exact().unwrap().minor()
}

/// A Friday, before anything opens.
const TODAY: Date = date(2026, 11, 13);

/// An installation at a time of its own, with the party "acme".
struct Site {
    installation: Installation,
    platform: Caller,
    party: PartyId,
}

impl Site {
    async fn open() -> Self {
        Self::with(Plan::default()).await
    }

    async fn with(plan: Plan) -> Self {
        let installation = Installation::with(plan).await;
        let platform = installation.caller_with(|_| {}).await;
        let site = Self { installation, platform, party: PartyId::parse("acme").unwrap() };
        site.at(TODAY, "00:00").await;
        let instrument = |currency: &str| {
            let to = if currency == "GBP" { "GB33BUKB20201555555555" } else { "NL91ABNA0417164300" };
            let destination = json!({ "type": "iban", "iban": to });
            json!({ "payoutInstrumentReference": currency, "currency": currency, "beneficiaryName": "John Smith", "destination": destination })
        };
        let instruments = ["EUR", "GBP", "CHF"].map(instrument);
        let party = json!({ "partyReference": "acme", "displayName": "Acme", "country": "GB", "payoutInstruments": instruments });
        assert_eq!(site.platform.post("/parties", &party).await.status, 201);
        site
    }

    /// Sets the clock of the store, and so that of everybody: UTC.
    async fn at(&self, date: Date, time: &str) {
        self.at_instant(format!("{date}T{time}:00Z").parse().unwrap()).await;
    }

    async fn at_instant(&self, now: Timestamp) {
        let by = now.as_millisecond() - workers::clock::Clock::of_the_machine().as_millisecond();
        for shard in self.installation.store.shards().all() {
            self.installation.redis.say(&["SET", &format!("t:{{{}}}:clock", shard.tag()), &by.to_string()]);
        }
        self.installation.store.refresh_clock().await.unwrap();
    }

    /// An account with a schedule. What is asked for is told as seed 001 does.
    async fn account(&self, currency: &str, schedule: Schedule) -> Value {
        let mut body = serde_json::to_value(schedule).unwrap();
        (body["currency"], body["payoutInstrumentReference"]) = (json!(currency), json!(currency));
        let made = self.platform.post("/parties/acme/balanceAccount", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.json
    }

    async fn read(&self, account: &Value) -> Value {
        self.platform.get(&path(account)).await.json
    }

    async fn next_payout_date(&self, account: &Value) -> String {
        self.read(account).await["nextPayoutDate"].as_str().unwrap().to_owned()
    }

    async fn standing(&self, currency: &str) -> Standing {
        self.installation.store.account(&self.party, Mode::Test, Currency::parse(currency).unwrap()).await.unwrap()
    }

    async fn top_up(&self, currency: &str, minor: i64) {
        let (transaction_id, store) = (transaction(), &self.installation.store);
        let top_up = TopUp {
            id: TopUpId::derive(&self.party, Mode::Test, &transaction_id, store.shards()),
            party: self.party.clone(),
            mode: Mode::Test,
            transaction_id,
            money: Money::new(minor, Currency::parse(currency).unwrap()).unwrap(),
            recorded_at: store.clock().now(),
        };
        assert_eq!(store.top_up(&top_up).await.unwrap(), ToppedUp::New);
    }

    /// Workers look until nothing is due. Says how often they did.
    async fn look(&self) -> usize {
        let mut all = 0;
        loop {
            match self.installation.look_at_schedules().await {
                0 => return all,
                looks => all += looks,
            }
            assert!(all < 200, "a look leads to a look, without end");
        }
    }

    /// Ten workers look at the same accounts at the same time: none of their leases keeps the others away.
    async fn race(&self) {
        let (store, worker) = (&self.installation.store, self.installation.worker());
        let second = Duration::from_secs(1);
        let settings = queue::Settings {
            name: "race",
            concurrency: 4,
            batch: 4,
            tick: second,
            handler_deadline: 10 * second,
            panic_backoff: second,
            drain: second,
        };
        let turn = async || {
            for shard in store.shards().all() {
                let lane = ScheduleLane(Lane { store: store.clone(), shard, lease: Duration::ZERO });
                let turn: Turn = queue::turn(&lane, &settings, &worker, schedule::look).await.unwrap();
                let _ = turn;
            }
        };
        join_all((0..10).map(|_| turn())).await;
    }

    /// What schedules have opened, oldest first.
    async fn payouts(&self) -> Vec<Payout> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let range = Range { party: &self.party, mode: Mode::Test, from: Timestamp::UNIX_EPOCH, to: Timestamp::MAX, after, limit: 200 };
            let page = self.installation.store.list(&range, |payout| payout.due_date.is_some()).await.unwrap();
            found.extend(page.items.into_iter().map(|(_, payout)| payout));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        found.reverse();
        found
    }

    /// Of each: its due date, and its amount.
    async fn opened(&self) -> Vec<(String, i64)> {
        self.payouts().await.iter().map(|payout| (payout.due_date.unwrap().to_string(), minor(payout))).collect()
    }

    async fn show(&self, payout: &Payout) -> Value {
        self.platform.get(&format!("/v1/payouts/{}?party_id=acme", payout.transaction_id)).await.json["result"].clone()
    }

    /// What a sweep finds about schedules: the repairs, the looks brought forward, and the age of what is overdue in whole seconds.
    async fn sweep(&self) -> (u64, u64, u64) {
        let (mut repaired, mut forward, mut overdue) = (0, 0, 0);
        for shard in self.installation.store.shards().all() {
            let found = self.installation.store.look_over_schedules(shard, Duration::from_hours(24)).await.unwrap();
            (repaired, forward, overdue) = (repaired + found.repaired, forward + found.brought_forward, overdue.max(found.overdue_ms / 1_000));
        }
        (repaired, forward, overdue)
    }

    async fn freeze(&self) {
        let freeze =
            Freeze { reason: "a try".to_owned(), at_ms: self.installation.store.clock().now().as_millisecond(), epoch_seen: 0, nothing_lost: false };
        for shard in self.installation.store.shards().all() {
            self.installation.store.freeze(shard, &freeze).await.unwrap();
        }
    }

    async fn thaw(&self, look_first: Duration) {
        for shard in self.installation.store.shards().all() {
            self.installation.store.thaw(shard, look_first).await.unwrap();
        }
    }
}

fn path(account: &Value) -> String {
    format!("/parties/acme/balanceAccount/{}", account["balanceAccountId"].as_str().unwrap())
}

fn days(currency: &str) -> BankingDays {
    let calendars = payrelay::config::Config::read(None, []).unwrap().calendars.read().unwrap();
    calendars.of(Currency::parse(currency).unwrap()).clone()
}

/// What `payrelay schedule preview` shows.
fn preview(schedule: Schedule, currency: &str, after: Date, last: Date) -> Vec<Date> {
    schedule.due_dates(days(currency).calendar(), after).map(|due| due.date).take_while(|date| *date <= last).collect()
}

/// A year, day by day: every due date has its payout, of all that has come in since the last one, and no other day has any.
#[tokio::test]
async fn a_year_opens_what_the_preview_shows() {
    let site = Site::open().await;
    let schedules = [("GBP", Schedule::Daily), ("EUR", Schedule::Weekly(Day::Friday)), ("CHF", Schedule::Monthly(Recurrence::First, Day::Monday))];
    for (currency, schedule) in schedules {
        site.account(currency, schedule).await;
    }
    let last = TODAY + 1.year();
    let mut came_in = BTreeMap::new();
    for day in TODAY.series(1.day()).take_while(|day| *day <= last) {
        site.at(day, "01:00").await;
        for (currency, _) in schedules {
            site.top_up(currency, 100).await;
            *came_in.entry(currency).or_insert(0) += 100;
        }
        site.at(day, "12:00").await;
        site.look().await;
    }
    let payouts = site.payouts().await;
    for (currency, schedule) in schedules {
        let of_currency: Vec<_> = payouts.iter().filter(|payout| payout.amount.currency().code() == currency).collect();
        let expected = preview(schedule, currency, TODAY, last);
        assert_eq!(of_currency.iter().map(|payout| payout.due_date.unwrap()).collect::<Vec<_>>(), expected, "{currency}");
        let mut paid_until = TODAY.yesterday().unwrap();
        for (payout, due) in of_currency.iter().zip(expected) {
            assert_eq!(minor(payout), 100 * i64::from((due - paid_until).get_days()), "{currency} {due}");
            assert_eq!(days(currency).date(payout.requested_at()), due);
            paid_until = due;
        }
        let rest = site.standing(currency).await.balances.of(Account::Available);
        assert_eq!(came_in[currency], rest + of_currency.iter().copied().map(minor).sum::<i64>(), "{currency}");
    }
}

/// What merchants and operators see of one.
#[tokio::test]
async fn a_payout_says_that_a_schedule_opened_it() {
    let site = Site::open().await;
    let account = site.account("EUR", Schedule::Daily).await;
    assert_eq!(site.next_payout_date(&account).await, "2026-11-16");
    site.top_up("EUR", 12_345).await;
    site.at(date(2026, 11, 16), "04:59").await;
    site.look().await;
    assert_eq!(site.opened().await, [], "it is not open yet");
    site.at(date(2026, 11, 16), "05:00").await;
    assert_eq!(site.next_payout_date(&account).await, "2026-11-16");
    site.look().await;
    assert_eq!(site.opened().await, [("2026-11-16".to_owned(), 12_345)]);
    let after = site.read(&account).await;
    assert_eq!((&after["nextPayoutDate"], &after["version"]), (&json!("2026-11-17"), &json!(2)));
    assert_eq!(after["dateTimeUpdated"], account["dateTimeUpdated"], "nobody has changed it");

    let payout = site.payouts().await.remove(0);
    let shown = site.show(&payout).await;
    for (field, value) in [
        ("initiated_by", json!("schedule")),
        ("due_date", json!("2026-11-16")),
        ("status", json!("requested")),
        ("beneficiary_reference", json!("Payout 16 Nov 2026")),
        ("payout_instrument_reference", json!("EUR")),
        ("beneficiary_name", json!("J…")),
        ("beneficiary_masked", json!("NL91…4300")),
        ("beneficiary_iban", Value::Null),
        ("context_code", json!("withdrawal")),
        ("provider", json!("truelayer")),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    let timeline = site.installation.store.timeline(payout.id).await.unwrap().unwrap();
    let event: Value = serde_json::from_str(&timeline.events[0].body).unwrap();
    assert_eq!(
        (&event["type"], &event["data"]["initiated_by"], &event["data"]["due_date"]),
        (&json!("payout.requested"), &json!("schedule"), &json!("2026-11-16"))
    );
    // Where it goes was fixed when it opened.
    let instrument = "/parties/acme/payoutInstruments/EUR";
    let moved = json!({ "version": 1, "destination": { "type": "iban", "iban": "DE89370400440532013000" } });
    assert_eq!(site.platform.put(instrument, &moved).await.status, 200);
    assert_eq!(site.show(&payout).await["beneficiary_masked"], "NL91…4300");
    // Its key is no caller's.
    let mut body = self::payout(&payout.transaction_id);
    body["party_id"] = json!("acme");
    assert_eq!(site.platform.post("/v1/payouts", &body).await.problem(), "key-conflict");
    let shown = site.platform.get("/v1/payouts?party_id=acme").await.json;
    assert_eq!(shown["results"].as_array().unwrap().len(), 1);
    assert!(site.show(&payout).await.get("batch_id").is_none());
}

/// Ten at the same time, day after day, while money comes in and goes out.
#[tokio::test(flavor = "multi_thread")]
async fn of_ten_workers_one_opens_it() {
    let site = Site::open().await;
    for currency in ["GBP", "EUR"] {
        site.account(currency, Schedule::Daily).await;
    }
    let last = date(2026, 12, 11);
    for day in TODAY.series(1.day()).take_while(|day| *day <= last) {
        site.at(day, "09:00").await;
        site.top_up("GBP", 1_000).await;
        site.top_up("EUR", 1_000).await;
        let more = async {
            for _ in 0..3 {
                site.top_up("GBP", 1).await;
            }
        };
        let spent = async {
            for _ in 0..4 {
                let mut body = payout(&transaction());
                (body["party_id"], body["amount_in_minor"]) = (json!("acme"), json!(1));
                site.platform.post("/v1/payouts", &body).await;
            }
        };
        tokio::join!(site.race(), more, spent);
        site.race().await;
    }
    for currency in ["GBP", "EUR"] {
        let payouts: Vec<_> = site.payouts().await.into_iter().filter(|payout| payout.amount.currency().code() == currency).collect();
        assert_eq!(
            payouts.iter().map(|payout| payout.due_date.unwrap()).collect::<Vec<_>>(),
            preview(Schedule::Daily, currency, TODAY, last),
            "{currency}"
        );
        assert!(payouts.iter().all(|payout| payout.state.name() == StateName::Requested), "{payouts:?}");
        let balances = site.standing(currency).await.balances;
        assert!(balances.of(Account::Available) >= 0);
        assert!(balances.of(Account::Reserved) >= payouts.iter().map(minor).sum::<i64>());
        assert_eq!(balances.imbalance(), 0);
    }
}

/// Nobody works on three due dates, and then somebody does, too late for that day: one payout, on the next one, and it bears the first.
#[tokio::test]
async fn what_was_missed_is_one_payout() {
    let site = Site::open().await;
    let account = site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 500).await;
    site.at(date(2026, 11, 18), "17:00").await;
    assert_eq!(site.next_payout_date(&account).await, "2026-11-19", "Wednesday's cut-off has passed");
    site.look().await;
    assert_eq!(site.opened().await, []);
    site.at(date(2026, 11, 19), "05:59").await;
    site.look().await;
    assert_eq!(site.opened().await, []);
    site.at(date(2026, 11, 19), "06:00").await;
    site.look().await;
    assert_eq!(site.opened().await, [("2026-11-16".to_owned(), 500)]);
    assert_eq!(site.next_payout_date(&account).await, "2026-11-20");
    site.top_up("GBP", 7).await;
    site.look().await;
    site.at(date(2026, 11, 20), "16:59").await;
    site.look().await;
    assert_eq!(site.opened().await[1..], [("2026-11-20".to_owned(), 7)]);
}

/// The clock jumps a year ahead, twice is opened there, and it is set right: each day has its payout again, and those that were opened early none.
#[tokio::test]
async fn a_clock_that_jumps_opens_nothing_twice_and_stops_nothing() {
    let site = Site::open().await;
    site.account("GBP", Schedule::Daily).await;
    let open_on = async |day: Date| {
        site.at(day, "12:00").await;
        site.top_up("GBP", 10).await;
        site.look().await;
    };
    open_on(date(2026, 11, 16)).await;
    open_on(date(2027, 11, 16)).await;
    open_on(date(2027, 11, 17)).await;
    // Back again. The next look is planned for the far day: the sweep finds that.
    site.at(date(2026, 11, 17), "12:00").await;
    site.look().await;
    assert_eq!(site.opened().await.len(), 3);
    assert_eq!(site.sweep().await, (0, 1, 0));
    for day in 17..=20 {
        open_on(date(2026, 11, day)).await;
    }
    let due: Vec<_> = site.opened().await.into_iter().map(|(due, _)| due).collect();
    let mut expected = vec!["2026-11-16", "2026-11-17", "2027-11-17", "2026-11-18", "2026-11-19", "2026-11-20"];
    expected.sort_unstable();
    let mut sorted = due.clone();
    sorted.sort();
    assert_eq!(sorted, expected, "the 17th was opened early, by the clock that was ahead");
    // A year later that day comes, and is borne already.
    open_on(date(2027, 11, 16)).await;
    open_on(date(2027, 11, 17)).await;
    open_on(date(2027, 11, 18)).await;
    let due: Vec<_> = site.payouts().await.into_iter().map(|payout| payout.due_date.unwrap()).collect();
    let count = |day| due.iter().filter(|due| **due == day).count();
    assert_eq!((count(date(2026, 11, 23)), count(date(2027, 11, 17)), count(date(2027, 11, 18))), (1, 1, 1), "{due:?}");
    // Back to a day long paid: its keys are claimed.
    let before = due.len();
    site.at(date(2026, 11, 18), "12:00").await;
    site.sweep().await;
    site.look().await;
    assert_eq!(site.payouts().await.len(), before);
}

/// Whoever decides on what was, decides nothing: each of these is what a worker would do that was stopped for a while.
#[tokio::test]
async fn what_was_decided_on_an_older_account_is_refused() {
    let site = Site::open().await;
    site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 40).await;
    site.at(date(2026, 11, 16), "12:00").await;
    let (store, look_again) = (&site.installation.store, Duration::from_hours(1));
    let now = store.clock().now();
    let Standing { account, holder, .. } = site.standing("GBP").await;
    let Some(Due::Open(opening)) = account.plan(&days("GBP"), now) else { panic!("it is due") };
    let open_while = async |account: &BalanceAccount, minor: i64, available: i64| {
        let transaction_id = account.id.scheduled(opening.due).to_string();
        let order = Order {
            id: PayoutId::derive(&site.party, Mode::Test, &transaction_id, store.shards()),
            party: site.party.clone(),
            mode: Mode::Test,
            transaction_id,
            batch_id: None,
            replaces: None,
            due_date: Some(opening.due),
            amount: Money::new(minor, Currency::GBP).unwrap().into(),
            keeps: 0,
            context_code: "withdrawal".to_owned(),
            metadata: domain::metadata::Metadata::default(),
            scheduled_for: None,
            route: vec![Provider::Truelayer],
            maker: domain::payout::SCHEDULE.to_owned(),
            decided_by: std::collections::BTreeSet::new(),
            approve_by: None,
            rule: None,
            trace: None,
        };
        let beneficiary = Beneficiary {
            name: BeneficiaryName::parse("John Smith", 18).unwrap(),
            reference: StatementReference::of_due_date(opening.due),
            destination: Destination::Iban(Iban::parse("GB33BUKB20201555555555").unwrap()),
            description: None,
            instrument: None,
        };
        let advance = Advance { account: account.come_to(opening.progress()), look_again, available };
        store.open_scheduled(&Payout::open(order, now), &beneficiary, "schedule", &advance).await.unwrap()
    };
    let open = async |account: &BalanceAccount, minor: i64| open_while(account, minor, 40).await;
    assert!(matches!(open_while(&account, 30, 41).await, OpenedDue::Opened(Opened::Refused(..))), "a reserve of 11 would have become one of 10");
    assert!(matches!(open(&account, 41).await, OpenedDue::Opened(Opened::Refused(..))), "more than there is");
    site.freeze().await;
    assert!(matches!(open(&account, 40).await, OpenedDue::Frozen));
    let passed = Advance { account: account.come_to(opening.progress()), look_again, available: 40 };
    assert_eq!(store.advance_schedule(&passed, true).await.unwrap(), Advanced::Undecided);
    site.thaw(Duration::ZERO).await;
    let on_nothing = Advance { available: 0, ..passed.clone() };
    assert_eq!(store.advance_schedule(&on_nothing, true).await.unwrap(), Advanced::Moved, "there is something by now");
    let changed = BalanceAccount { version: account.version + 1, ..account.clone() };
    assert_eq!(store.set_up(&changed, &holder).await.unwrap(), SetUp::Done);
    assert!(matches!(open(&account, 40).await, OpenedDue::Stale));
    assert_eq!(store.advance_schedule(&passed, true).await.unwrap(), Advanced::Stale);
    assert_eq!((site.opened().await, site.standing("GBP").await.account.version), (vec![], 2), "nothing of all that was written");
    assert!(matches!(open(&changed, 40).await, OpenedDue::Opened(Opened::New)));
    assert!(matches!(open(&changed, 40).await, OpenedDue::Opened(Opened::Exists(_))));
    assert_eq!(site.standing("GBP").await.account.version, 3);
    // What was set up meanwhile does not take the progress back either.
    assert_eq!(store.set_up(&BalanceAccount { version: 3, ..account }, &holder).await.unwrap(), SetUp::Stale);
}

#[tokio::test]
async fn an_empty_account_passes_its_due_date() {
    let site = Site::open().await;
    let account = site.account("EUR", Schedule::Weekly(Day::Friday)).await;
    site.at(date(2026, 11, 20), "10:00").await;
    assert_eq!(site.next_payout_date(&account).await, "2026-11-20");
    site.look().await;
    assert_eq!((site.opened().await, site.next_payout_date(&account).await), (vec![], "2026-11-27".to_owned()));
    // What comes in afterwards goes with the next one.
    site.top_up("EUR", 30).await;
    site.look().await;
    assert_eq!(site.opened().await, []);
    site.at(date(2026, 11, 27), "10:00").await;
    site.look().await;
    assert_eq!(site.opened().await, [("2026-11-27".to_owned(), 30)]);
    // Money of the provider is nobody's to pay out.
    let provider = json!({ "party_id": "acme", "funding": "provider" });
    let busy = site.platform.patch("/v1/balances/EUR", &provider).await;
    assert_eq!(busy.problem(), "account-busy");
    site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 5).await;
    assert_eq!(site.platform.patch("/v1/balances/GBP", &provider).await.status, 200);
    site.at(date(2026, 11, 30), "10:00").await;
    site.look().await;
    assert_eq!(site.opened().await.len(), 1);
}

/// A schedule that is changed begins after that day; one that is taken away opens nothing, and begins anew when it is given back.
#[tokio::test]
async fn a_changed_and_a_paused_schedule() {
    let site = Site::open().await;
    let account = site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 1).await;
    site.at(date(2026, 11, 16), "12:00").await;
    let mut change = site.read(&account).await;
    (change["frequency"], change["scheduledPayoutDay"]) = (json!("weekly"), json!("wednesday"));
    let stale = site.platform.put(&path(&account), &change).await;
    assert_eq!((stale.status, &stale.json["nextPayoutDate"]), (200, &json!("2026-11-18")), "{stale:?}");
    site.look().await;
    assert_eq!(site.opened().await, [], "what was due until today is not made up for");
    // Read before the payout is opened, written afterwards.
    let mut seen = site.read(&account).await;
    seen["scheduledPayoutDay"] = json!("thursday");
    site.at(date(2026, 11, 18), "12:00").await;
    site.look().await;
    assert_eq!(site.opened().await, [("2026-11-18".to_owned(), 1)]);
    let stale = site.platform.put(&path(&account), &seen).await;
    assert_eq!((stale.status, stale.problem()), (409, "version-stale"));

    let wrong = site.platform.patch("/v1/balances/GBP", &json!({ "party_id": "acme", "schedule": "never" })).await;
    assert_eq!((wrong.status, &wrong.json["errors"][0]["pointer"]), (400, &json!("/schedule")), "{wrong:?}");
    let ended = site.platform.patch("/v1/balances/GBP", &json!({ "party_id": "acme", "schedule": null })).await;
    assert_eq!(ended.status, 200, "{ended:?}");
    assert!(site.read(&account).await.get("nextPayoutDate").is_none());
    site.top_up("GBP", 2).await;
    for day in [19, 25] {
        site.at(date(2026, 11, day), "12:00").await;
        assert_eq!((site.installation.look_at_schedules().await, site.sweep().await), (0, (0, 0, 0)));
    }
    assert_eq!(site.opened().await.len(), 1);
    // Given back by a clock that is behind: what was borne is not borne again.
    site.at(date(2026, 11, 16), "12:00").await;
    let Standing { account, holder, .. } = site.standing("GBP").await;
    let progress = Progress::set_on(days("GBP").date(site.installation.store.clock().now()));
    let account = BalanceAccount { planned: Some(Planned { schedule: Schedule::Daily, progress }), version: account.version + 1, ..account };
    assert_eq!(site.installation.store.set_up(&account, &holder).await.unwrap(), SetUp::Done);
    for day in [17, 18, 19] {
        site.at(date(2026, 11, day), "12:00").await;
        site.look().await;
        site.top_up("GBP", 1).await;
    }
    let due: Vec<_> = site.payouts().await.into_iter().map(|payout| (payout.due_date.unwrap().day(), minor(&payout))).collect();
    assert_eq!(due.iter().copied().collect::<BTreeMap<_, _>>(), BTreeMap::from([(17, 2), (18, 1), (19, 2)]), "{due:?}");
}

/// An inactive party's payouts wait until it is active; a disabled account's are opened as rejected, as those of callers.
#[tokio::test]
async fn an_inactive_party_waits_and_a_disabled_account_is_told() {
    let site = Site::open().await;
    let account = site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 40).await;
    assert_eq!(site.platform.delete("/parties/acme").await.status, 204);
    for day in [16, 17] {
        site.at(date(2026, 11, day), "12:00").await;
        site.look().await;
    }
    assert_eq!(site.opened().await, []);
    site.at(date(2026, 11, 17), "12:05").await;
    assert_eq!(site.sweep().await.2, 0, "nothing is overdue: it is somebody's wish");
    let mut party = site.platform.get("/parties/acme").await.json;
    party["status"] = json!("active");
    let active = site.platform.put("/parties/acme", &party).await;
    assert_eq!(active.status, 200, "{active:?}");
    site.at(date(2026, 11, 17), "12:11").await;
    site.look().await;
    assert_eq!(site.opened().await, [("2026-11-16".to_owned(), 40)]);

    site.top_up("GBP", 50).await;
    assert_eq!(site.platform.patch("/v1/balances/GBP", &json!({ "party_id": "acme", "status": "disabled" })).await.status, 200);
    site.at(date(2026, 11, 18), "12:00").await;
    site.look().await;
    let rejected = site.payouts().await.pop().unwrap();
    let shown = site.show(&rejected).await;
    assert_eq!((&shown["status"], &shown["reason"], &shown["due_date"]), (&json!("rejected"), &json!("account_disabled"), &json!("2026-11-18")));
    assert_eq!(site.next_payout_date(&account).await, "2026-11-19");
    // Its money is still there.
    site.platform.patch("/v1/balances/GBP", &json!({ "party_id": "acme", "status": "enabled" })).await;
    site.at(date(2026, 11, 19), "12:00").await;
    site.look().await;
    assert_eq!(site.opened().await.pop().unwrap(), ("2026-11-19".to_owned(), 50));
}

/// What no provider can take is told as a rejected payout; what nobody here can decide stays due, and is overdue.
#[tokio::test]
async fn what_nobody_can_pay_is_seen() {
    let site = Site::open().await;
    site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 40).await;
    // Longer than this provider takes.
    let renamed = json!({ "version": 1, "beneficiaryName": "The Right Honourable John Smith" });
    assert_eq!(site.platform.put("/parties/acme/payoutInstruments/GBP", &renamed).await.status, 200);
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    let shown = site.show(&site.payouts().await[0]).await;
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("rejected"), &json!("invalid_request")));
    assert_eq!(site.standing("GBP").await.balances.of(Account::Available), 40);

    let site = Site::with(Plan { providers: providers::Settings::default(), ..Plan::default() }).await;
    let account = site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 40).await;
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    assert_eq!((site.opened().await, site.next_payout_date(&account).await), (vec![], "2026-11-16".to_owned()));
    site.at(date(2026, 11, 16), "12:09").await;
    assert_eq!(site.installation.look_at_schedules().await, 0, "not before its time");
    site.at(date(2026, 11, 16), "12:30").await;
    assert_eq!(site.installation.look_at_schedules().await, 1);
    let (_, _, overdue) = site.sweep().await;
    assert!((1_795..1_830).contains(&overdue), "{overdue}");
    // Whoever takes the schedule away, or changes it, ends that.
    let Standing { account, holder, .. } = site.standing("GBP").await;
    let account = BalanceAccount { planned: None, version: account.version + 1, ..account };
    assert_eq!(site.installation.store.set_up(&account, &holder).await.unwrap(), SetUp::Done);
    assert_eq!(site.sweep().await, (0, 0, 0));
}

/// Somebody has worked out the key of a due date and used it: that one passes, and nothing loops.
#[tokio::test]
async fn a_key_that_a_caller_has_taken_passes_its_due_date() {
    let site = Site::open().await;
    let account = site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 40).await;
    let id: domain::id::BalanceAccountId = account["balanceAccountId"].as_str().unwrap().parse().unwrap();
    let mut body = payout(&id.scheduled(date(2026, 11, 16)).to_string());
    (body["party_id"], body["amount_in_minor"]) = (json!("acme"), json!(1));
    assert_eq!(site.platform.post("/v1/payouts", &body).await.status, 202);
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    assert_eq!((site.opened().await, site.next_payout_date(&account).await), (vec![], "2026-11-17".to_owned()));
    site.at(date(2026, 11, 17), "12:00").await;
    site.look().await;
    assert_eq!(site.opened().await, [("2026-11-17".to_owned(), 39)]);
}

/// A person has to agree as to a payout that a caller asks for.
#[tokio::test]
async fn a_rule_of_approvals_fits_it_too() {
    let approvals = json!([{ "currencies": ["GBP"], "amount_from": 10_000 }]);
    let site = Site::with(Plan { ingress: json!({ "approvals": approvals, "approval_hours": 24 }), ..Plan::default() }).await;
    site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 9_999).await;
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    site.top_up("GBP", 10_000).await;
    site.at(date(2026, 11, 17), "12:00").await;
    site.look().await;
    let payouts = site.payouts().await;
    let status = async |payout: &Payout| site.show(payout).await["status"].clone();
    assert_eq!((status(&payouts[0]).await, status(&payouts[1]).await), (json!("requested"), json!("awaiting_approval")));
    let approve = format!("/v1/payouts/{}/approve", payouts[1].transaction_id);
    let checker = site.installation.caller_with(|key| "bob".clone_into(&mut key.owner)).await;
    let approved = checker.post(&approve, &json!({ "party_id": "acme" })).await;
    assert_eq!((approved.status, &approved.json["result"]["status"]), (200, &json!("requested")), "{approved:?}");
}

/// A limit holds for it too: what goes beyond is opened as rejected, and its money stays for the next due date.
#[tokio::test]
async fn a_limit_holds_for_it_too() {
    let limits = json!([
        { "scope": "party", "currency": "GBP", "hours": 1, "amount_max": 10_000, "beyond": "reject" },
        { "scope": "beneficiary", "currency": "GBP", "hours": 1, "amount_max": 5_000, "beyond": "approve" },
    ]);
    let site = Site::with(Plan { ingress: json!({ "limits": limits }), ..Plan::default() }).await;
    site.account("GBP", Schedule::Daily).await;
    site.top_up("GBP", 5_001).await;
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    site.top_up("GBP", 10_001).await;
    site.at(date(2026, 11, 17), "12:00").await;
    site.look().await;
    let payouts = site.payouts().await;
    let mut shown = Vec::new();
    for payout in &payouts {
        let view = site.show(payout).await;
        shown.push((view["status"].clone(), view["reason"].clone()));
    }
    assert_eq!(shown, [(json!("awaiting_approval"), json!(null)), (json!("rejected"), json!("limit_exceeded"))]);
}

/// While dispatch is frozen nothing is opened, and nothing passes over. After a restore the same payout is opened, once the money is there again.
#[tokio::test]
async fn a_store_that_forgot_opens_the_same_payout() {
    let mut site = Site::open().await;
    let account = site.account("GBP", Schedule::Daily).await;
    let backup = site.installation.redis.back_up();
    site.top_up("GBP", 40).await;
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    let opened = site.payouts().await.remove(0);
    // The payout, its progress and the top-up are lost.
    site.installation.redis.restore(&backup);
    site.installation.store.ping().await.unwrap();
    site.at(date(2026, 11, 17), "12:00").await;
    assert_eq!((site.opened().await, site.next_payout_date(&account).await), (vec![], "2026-11-17".to_owned()));
    site.freeze().await;
    assert_eq!(site.look().await, 1);
    assert_eq!(site.read(&account).await["version"], 1, "an empty account says nothing now");
    site.thaw(Duration::from_hours(4)).await;
    site.at(date(2026, 11, 17), "12:11").await;
    assert_eq!(site.look().await, 1);
    assert_eq!(site.read(&account).await["version"], 1, "nor for as long as it is looked first");
    site.top_up("GBP", 40).await;
    site.freeze().await;
    site.at(date(2026, 11, 17), "12:22").await;
    assert_eq!(site.look().await, 1);
    assert_eq!(site.opened().await, []);
    site.thaw(Duration::from_hours(4)).await;
    site.at(date(2026, 11, 17), "12:33").await;
    assert_eq!(site.look().await, 1);
    let again = site.payouts().await;
    assert_eq!((again.len(), again[0].id, again[0].due_date, again[0].amount), (1, opened.id, opened.due_date, opened.amount));
    assert!(site.installation.store.is_suspect(&again[0]).await.unwrap(), "whoever has it already is asked first");
    assert_eq!(site.sweep().await.2, 0);
}

/// A schedule that nobody would look at again is put back by the sweep.
#[tokio::test]
async fn lost_work_of_a_schedule_is_put_back() {
    let site = Site::open().await;
    site.account("GBP", Schedule::Daily).await;
    site.account("EUR", Schedule::Daily).await;
    site.top_up("GBP", 40).await;
    site.look().await;
    assert_eq!(site.sweep().await, (0, 0, 0));
    let shard = site.installation.store.shards().of(&site.party, Mode::Test).tag();
    let due = format!("t:{{{shard}}}:due:schedule");
    assert_eq!(site.installation.redis.say(&["ZREM", &due, "acme:test:GBP"]), ":1\r\n");
    assert_eq!(site.sweep().await.0, 1);
    assert_eq!(site.sweep().await.0, 0);
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    assert_eq!(site.opened().await, [("2026-11-16".to_owned(), 40)]);
    // A record that cannot be read is not passed over, and is overdue.
    site.top_up("EUR", 40).await;
    let account = format!("t:{{{shard}}}:account:acme:test:EUR");
    site.installation.redis.say(&["HSET", &account, "rec", "{}"]);
    site.at(date(2026, 11, 17), "12:00").await;
    site.look().await;
    site.at(date(2026, 11, 17), "12:05").await;
    let (repaired, _, overdue) = site.sweep().await;
    assert!(repaired == 0 && overdue >= 290, "{repaired} {overdue}");
    assert_eq!(site.opened().await.len(), 1);
}

/// Whoever has decided where a schedule pays to, when, or how much stays, is no second person. What nobody is on record for, nobody approves, until somebody has
/// stood for it.
#[tokio::test]
async fn whoever_has_set_up_a_schedule_does_not_approve_its_payouts() {
    let approvals = json!([{ "currencies": ["GBP"], "name": "pounds" }]);
    let site = Site::with(Plan { ingress: json!({ "approvals": approvals }), ..Plan::default() }).await;
    let held = async |owner: &str| site.installation.caller_with(|key| owner.clone_into(&mut key.owner)).await;
    let [ann, bob, cid, dan] = [held("ann").await, held("bob").await, held("cid").await, held("dan").await];
    let body = json!({ "currency": "GBP", "payoutInstrumentReference": "GBP", "frequency": "daily" });
    let account = ann.post("/parties/acme/balanceAccount", &body).await;
    assert_eq!(account.status, 201, "{account:?}");
    let instrument = json!({ "version": 1, "beneficiaryName": "Jane Smith" });
    assert_eq!(bob.put("/parties/acme/payoutInstruments/GBP", &instrument).await.status, 200);
    assert_eq!(cid.patch("/v1/balances/GBP", &json!({ "party_id": "acme", "reserve_in_minor": 5 })).await.status, 200);
    // A change that is no decision about it.
    assert_eq!(dan.patch("/v1/balances/GBP", &json!({ "party_id": "acme", "reserve_in_minor": 5, "status": "enabled" })).await.status, 200);
    site.top_up("GBP", 100).await;
    site.at(date(2026, 11, 16), "12:00").await;
    site.look().await;
    let [payout] = site.payouts().await.try_into().unwrap();
    assert_eq!((payout.state.name(), minor(&payout)), (StateName::AwaitingApproval, 95));
    assert_eq!(site.show(&payout).await["rule"], json!({ "name": "pounds", "kind": "approval" }));
    let approve = |payout: &Payout| format!("/v1/payouts/{}/approve", payout.transaction_id);
    let by = json!({ "party_id": "acme" });
    for own in [&site.platform, &ann, &bob, &cid] {
        let reply = own.post(&approve(&payout), &by).await;
        assert_eq!((reply.status, reply.problem()), (403, "second-person"), "{}", own.key.owner);
    }
    assert_eq!(dan.post(&approve(&payout), &by).await.json["result"]["status"], "requested");

    let Standing { account: set_up, holder, .. } = site.standing("GBP").await;
    let old = BalanceAccount { instrument_by: None, version: set_up.version + 1, ..set_up };
    assert_eq!(site.installation.store.set_up(&old, &holder).await.unwrap(), SetUp::Done);
    site.top_up("GBP", 100).await;
    site.at(date(2026, 11, 17), "12:00").await;
    site.look().await;
    let payout = site.payouts().await.pop().unwrap();
    let reply = dan.post(&approve(&payout), &by).await;
    assert_eq!((reply.status, reply.problem()), (403, "second-person"));
    assert!(reply.json["detail"].as_str().unwrap().contains("not on record"), "{reply:?}");
    let is = site.read(&account.json).await;
    let same = json!({ "version": is["version"], "nextPayoutDate": is["nextPayoutDate"] });
    let again = bob.put(&path(&account.json), &same).await;
    assert_eq!(
        (again.status, again.json["version"].as_u64()),
        (200, is["version"].as_u64().map(|version| version + 1)),
        "he stands for it: {again:?}"
    );
    site.top_up("GBP", 100).await;
    site.at(date(2026, 11, 18), "12:00").await;
    site.look().await;
    let payout = site.payouts().await.pop().unwrap();
    assert_eq!(bob.post(&approve(&payout), &by).await.status, 403);
    assert_eq!(dan.post(&approve(&payout), &by).await.status, 200);
}
