//! The end of what is kept: nobody who is owed anything loses it, no key pays again, and memory comes back.

use std::collections::BTreeSet;
use std::io::Read as _;

use domain::delivery::Attempt;
use domain::fact::{Report, Status as Word};
use domain::id::DeliveryId;
use domain::subscription::Ordering as Ordered;
use domain::wait::Retry;
use workers::retention::{self, Archive, Trimmed, round};
use workers::store::payouts::Opened;
use workers::store::processes::Process;
use workers::store::subscriptions::Relayed;

use super::*;

const DAY: u64 = 86_400;

fn kept() -> retention::Settings {
    let (abandoned_days, orphans_days, feed_days, replays_days, receipts_days) = (0, 0, 0, 0, 0);
    retention::Settings {
        archive: None,
        payouts_days: 7,
        abandoned_days,
        excerpts_days: 400,
        orphans_days,
        feed_days,
        replays_days,
        receipts_days,
        interval_ms: 1_000,
        page: 3,
        pause_ms: 0,
    }
}

/// Where memory is measured. That does not depend on the disk, so nothing waits for it.
async fn measured() -> Installation {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    installation_on(Fsync::EverySecond, 600_000, RelaySettings::default(), &egress).await
}

impl Installation {
    async fn ended(&self, key: &str) -> Payout {
        let payout = self.open(key).await;
        self.cancel(&payout).await;
        payout
    }

    async fn trim(&self, settings: &retention::Settings, archive: Option<&Archive>) -> u64 {
        round(&self.store, settings, archive, Shard::new(0)).await.unwrap().payouts
    }

    async fn opened_again(&self, payout: &Payout, fingerprint: &str) -> Opened {
        let (step, beneficiary) = self.step(&payout.transaction_id);
        self.store.open_payout(&step, &beneficiary, fingerprint).await.unwrap()
    }

    /// Payouts that settle, with five events each, all delivered. Says how many were. One in twenty goes over its socket; of the others is recorded what the relay would
    /// record, for what is measured is what the store keeps.
    async fn wave(&self, keys: std::ops::Range<u64>) -> u64 {
        let mut delivered = 0;
        for (number, keys) in keys.collect::<Vec<_>>().chunks(100).enumerate() {
            futures_util::future::join_all(keys.iter().map(|key| self.settled(*key))).await;
            if number % 20 == 0 {
                self.crank().await;
                delivered += self.receiver.take().len() as u64;
            } else {
                delivered += self.acknowledged().await;
            }
        }
        delivered
    }

    async fn acknowledged(&self) -> u64 {
        let mut delivered = 0;
        loop {
            let leased = self.lanes.lease(512).await.unwrap().items;
            if leased.is_empty() {
                return delivered;
            }
            let recorded = leased.into_iter().map(async |(work, ticket)| {
                let now = self.store.clock().now();
                let attempt = Attempt { at: now, latency_ms: 3, result: Attempted::Acknowledged { status: 200 }, heard: None };
                let (id, mut delivery) = (DeliveryId::new(work.event.id, work.subscription), Delivery::new(now));
                let decision = delivery.record(id, attempt, &Retry::three_days(), SignedDuration::from_hours(24), now);
                u64::from(self.store.relayed(&ticket, &delivery, decision, None).await.unwrap() != Relayed::LeaseLost)
            });
            delivered += futures_util::future::join_all(recorded).await.iter().sum::<u64>();
        }
    }

    async fn settled(&self, key: u64) {
        let reported = |status| {
            let report = Report { status, provider_status: "word".to_owned(), at: None, reference: None, amount: None };
            What::Reported { attempt: 1, report }
        };
        let send_by = self.store.clock().now() + SignedDuration::from_secs(10);
        let mut payout = self.open(&key.to_string()).await;
        for what in [What::Initiate { send_by, aside_until: None }, reported(Word::Authorised), reported(Word::Submitted), reported(Word::Settled)] {
            payout = self.happens(&payout, what).await;
        }
    }

    /// What the server uses, bytes.
    async fn memory(&self) -> u64 {
        self.store.vitals(Shard::new(0)).await.unwrap().memory_bytes
    }

    /// What all keys take, bytes. Buffers and tables of the server are not in it: they come and go by its own clock.
    async fn memory_of_keys(&self) -> u64 {
        let client = redis::Client::open(self.server.lock().unwrap().url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut usage = redis::pipe();
        for key in keys {
            usage.cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0);
        }
        let bytes: Vec<u64> = usage.query_async(&mut connection).await.unwrap();
        bytes.into_iter().sum()
    }
}

/// Lines of all files of an archive.
fn lines(directory: &std::path::Path) -> Vec<serde_json::Value> {
    let mut text = String::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let file = std::fs::File::open(file.unwrap().path()).unwrap();
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    }
    assert!(!text.contains("GB33BUKB") && !text.contains("John Smith"), "what is sealed stays sealed");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_old_payout_is_archived_and_its_key_never_pays_again() {
    let at = &installation().await;
    let mut old = Vec::new();
    for key in ["a", "b", "c", "d"] {
        old.push(at.ended(key).await);
    }
    let open = at.open("open").await;
    at.crank().await;
    assert_eq!(at.trim(&kept(), None).await, 0, "none is old enough");
    at.later(8 * DAY).await;
    let young = at.ended("young").await;
    at.crank().await;
    let directory = tempfile::tempdir().unwrap();
    let archive = Archive::open(&directory.path().join("archive")).unwrap();
    assert_eq!(at.trim(&retention::Settings { payouts_days: 0, ..kept() }, Some(&archive)).await, 0, "for ever");
    assert_eq!(at.trim(&kept(), Some(&archive)).await, 4);
    assert_eq!(at.trim(&kept(), Some(&archive)).await, 0);
    for payout in &old {
        assert!(at.store.timeline(payout.id).await.unwrap().is_none());
        assert!(matches!(at.opened_again(payout, "fingerprint of the request").await, Opened::Archived));
        assert!(matches!(at.opened_again(payout, "another one").await, Opened::Conflict));
        assert_eq!(at.store.was_claimed_by(payout.id, "fingerprint of the request").await.unwrap(), Some(true));
        assert_eq!(at.store.was_claimed_by(payout.id, "another one").await.unwrap(), Some(false));
        assert!(at.store.is_claimed(payout.id).await.unwrap(), "or it would be told that it cannot be taken");
    }
    for payout in [&open, &young] {
        assert!(at.store.timeline(payout.id).await.unwrap().is_some());
    }
    let lines = lines(&directory.path().join("archive"));
    let ids: BTreeSet<_> = lines.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((lines.len(), ids), (4, old.iter().map(|payout| payout.id.to_string()).collect()));
    assert!(lines.iter().all(|line| line["sealed"]["sec"].is_string() && line["fields"]["e:2"].is_string() && line["fields"]["o:2"].is_string()));
    assert!(lines.iter().all(|line| line["fields"][format!("d:{}:2", at.subscription)].is_string()));
}

/// Whoever dies after the archive was written is followed by one who writes it again, and trims.
#[tokio::test]
async fn a_crash_between_archive_and_trim_loses_nothing() {
    let at = &installation().await;
    let payout = at.ended("a").await;
    at.crank().await;
    at.later(8 * DAY).await;
    let directory = tempfile::tempdir().unwrap();
    let archive = Archive::open(directory.path()).unwrap();
    let seven_days = Duration::from_secs(7 * DAY);
    let old = at.store.old_payouts(Shard::new(0), seven_days, None, 10).await.unwrap();
    archive.append("payouts", Shard::new(0), at.store.clock().now(), vec![old.payouts[0].line().unwrap()]).await.unwrap();
    assert!(matches!(at.opened_again(&payout, "fingerprint of the request").await, Opened::Exists(_)), "nothing was trimmed yet");
    assert_eq!(at.trim(&kept(), Some(&Archive::open(directory.path()).unwrap())).await, 1);
    assert_eq!(at.store.trim_payouts(Shard::new(0), seven_days, &old.payouts).await.unwrap(), 0, "a repeat finds nothing");
    assert!(matches!(at.opened_again(&payout, "fingerprint of the request").await, Opened::Archived));
    let lines = lines(directory.path());
    assert!(lines.len() == 2 && lines[0] == lines[1]);
}

/// Nothing is trimmed whose archive cannot be written.
#[tokio::test]
async fn without_its_archive_nothing_is_trimmed() {
    let at = &installation().await;
    let payout = at.ended("a").await;
    at.crank().await;
    at.later(8 * DAY).await;
    let directory = tempfile::tempdir().unwrap();
    let archive = Archive::open(&directory.path().join("archive")).unwrap();
    std::fs::remove_dir(directory.path().join("archive")).unwrap();
    assert!(round(&at.store, &kept(), Some(&archive), Shard::new(0)).await.is_err());
    assert!(at.store.timeline(payout.id).await.unwrap().is_some());
    std::fs::create_dir(directory.path().join("archive")).unwrap();
    assert_eq!(at.trim(&kept(), Some(&archive)).await, 1);
}

#[tokio::test]
async fn who_is_owed_something_keeps_it() {
    let at = &installation_with(RelaySettings { waits_s: Some(vec![1]), ..RelaySettings::default() }).await;
    let directory = tempfile::tempdir().unwrap();
    let archive = Archive::open(directory.path()).unwrap();
    // Waits for a resumption, in order and without.
    at.change(|subscription, _| subscription.status = Status::Paused { at: subscription.created_at }).await;
    at.ended("waits").await;
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&kept(), Some(&archive)).await, 0, "it waits for its deliveries");
    at.change(|subscription, _| {
        subscription.ordering = Ordered::None;
    })
    .await;
    at.ended("unordered").await;
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&kept(), Some(&archive)).await, 0, "they are in their lane only");
    at.change(|subscription, _| subscription.status = Status::Enabled).await;
    at.receiver.mood(Mood::Status(500));
    for _ in 0..6 {
        at.crank().await;
        at.later(60).await;
    }
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 4);
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&kept(), Some(&archive)).await, 0, "what was given up is listed, and can be replayed");
    assert!(lines(directory.path()).is_empty(), "nor is anything archived, again and again");
    let forgets = retention::Settings { abandoned_days: 7, ..kept() };
    let trimmed = round(&at.store, &forgets, None, Shard::new(0)).await.unwrap();
    assert_eq!(trimmed, Trimmed { payouts: 2, abandoned: 4, ..Trimmed::default() });
    assert!(at.store.abandoned(10).await.unwrap().is_empty());
}

/// What subscribers said goes by its own time, from records that stay, a replay's later than that of the tries before it.
#[tokio::test]
async fn what_subscribers_answered_goes_before_its_payout() {
    let at = &installation_with(RelaySettings { waits_s: Some(vec![1]), ..RelaySettings::default() }).await;
    let settings = retention::Settings { payouts_days: 0, excerpts_days: 30, page: 2, ..kept() };
    let forget = async || round(&at.store, &settings, None, Shard::new(0)).await.unwrap().excerpts;
    at.receiver.mood(Mood::Status(500));
    let mut payouts = Vec::new();
    for key in ["a", "b", "c"] {
        payouts.push(at.open(key).await);
    }
    assert_eq!(at.crank().await, 3);
    at.later(20 * DAY).await;
    assert_eq!((at.crank().await, forget().await), (3, 0), "none is old enough");
    let excerpts = async |payout: &Payout| -> Vec<Option<String>> {
        let delivery = at.deliveries(payout).await.remove(0).unwrap();
        delivery.attempts.into_iter().map(|attempt| attempt.heard.map(|heard| heard.excerpt)).collect()
    };
    let said = Some("thanks".to_owned());
    assert_eq!(excerpts(&payouts[0]).await, [said.clone(), said.clone()]);
    at.later(11 * DAY).await;
    assert_eq!((forget().await, forget().await), (3, 0), "once");
    for payout in &payouts {
        assert_eq!(excerpts(payout).await, [None, said.clone()], "the later one is younger");
        assert_eq!(
            at.results(payout).await,
            [Attempted::Answered { status: 500, retry_after_ms: None }, Attempted::Answered { status: 500, retry_after_ms: None }]
        );
    }
    at.later(20 * DAY).await;
    assert_eq!((forget().await, forget().await), (3, 0));
    let event = domain::id::EventId::new(payouts[0].id, 1);
    let told = at.deliveries(&payouts[0]).await.remove(0);
    assert_eq!(
        at.store.redeliver((&party(), domain::id::Mode::Test), at.subscription, event, told.as_ref()).await.unwrap(),
        workers::store::subscriptions::Redelivered::Due
    );
    assert_eq!(at.crank().await, 1);
    assert_eq!(excerpts(&payouts[0]).await, [None, None, said]);
    at.later(31 * DAY).await;
    assert_eq!(forget().await, 1);
    assert_eq!(excerpts(&payouts[0]).await, [None, None, None]);
    let client = redis::Client::open(at.server.lock().unwrap().url()).unwrap();
    let left: u64 =
        redis::cmd("EXISTS").arg("t:{s00}:excerpts").query_async(&mut client.get_multiplexed_async_connection().await.unwrap()).await.unwrap();
    assert_eq!(left, 0, "nothing is left of the list");
}

/// After a loss of writes a payout may have been sent although it is recorded otherwise.
#[tokio::test]
async fn what_is_suspect_stays() {
    let at = &installation().await;
    at.ended("a").await;
    at.crank().await;
    at.later(8 * DAY).await;
    let shard = Shard::new(0);
    let freeze = workers::store::freeze::Freeze { reason: "restored".to_owned(), at_ms: 0, epoch_seen: 5, nothing_lost: false };
    at.store.freeze(shard, &freeze).await.unwrap();
    assert_eq!(at.trim(&kept(), None).await, 0);
    at.store.thaw(shard, Duration::from_secs(60)).await.unwrap();
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&kept(), None).await, 0, "it was asked for before");
    at.ended("b").await;
    at.crank().await;
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&kept(), None).await, 1);
}

/// What was trimmed is gone, and another process may have been told to keep it.
#[tokio::test]
async fn nothing_is_trimmed_while_processes_were_told_to_keep_it_for_other_times() {
    let at = &installation().await;
    at.ended("a").await;
    at.crank().await;
    at.later(8 * DAY).await;
    let turn = async || retention::turn(&at.store, "me", &kept(), None).await.payouts;
    let says = async |id: &str, days: &str, limits: &str| {
        let told = [("retention.payouts_days", days), ("ingress.limits", limits)].map(|(section, hash)| (section.to_owned(), hash.to_owned()));
        let process = Process { id: id.to_owned(), name: id.to_owned(), told: told.into(), lease_ms: 0, until: jiff::Timestamp::MIN };
        at.store.say_hello(&process, Duration::from_secs(90)).await.unwrap();
    };
    assert_eq!(turn().await, 0, "nobody knows yet what this process was told");
    says("other", "400", "1").await;
    says("me", "7", "2").await;
    assert_eq!(turn().await, 0);
    says("other", "7", "1").await;
    assert_eq!(turn().await, 1, "that their limits differ is no reason to keep it");
}

/// A turn may take hours: it ends as soon as another process was told otherwise.
#[tokio::test]
async fn a_turn_ends_where_processes_begin_to_differ() {
    let at = &installation().await;
    let payouts = [at.ended("a").await, at.ended("b").await];
    at.crank().await;
    at.later(8 * DAY).await;
    let says = async |id: &str, days: &str| {
        let told = [("retention.payouts_days".to_owned(), days.to_owned())];
        let process = Process { id: id.to_owned(), name: id.to_owned(), told: told.into(), lease_ms: 0, until: jiff::Timestamp::MIN };
        at.store.say_hello(&process, Duration::from_secs(3_600)).await.unwrap();
    };
    says("me", "7").await;
    let settings = retention::Settings { page: 1, pause_ms: 60_000, ..kept() };
    let left = async || {
        let loaded = futures_util::future::try_join_all(payouts.iter().map(|payout| at.store.load(payout.id))).await.unwrap();
        loaded.into_iter().flatten().count()
    };
    let differ = async {
        while left().await == 2 {
            tokio::task::yield_now().await;
        }
        says("other", "400").await;
    };
    let turn = retention::turn(&at.store, "me", &settings, None);
    let turn = tokio::time::timeout(Duration::from_secs(30), turn);
    let (ended, ()) = futures_util::join!(turn, differ);
    assert!(ended.is_ok(), "before the pause between two pages was over");
    assert_eq!(left().await, 1);
}

/// A page that has grown far beyond its size is divided like any other, and loses no key.
#[tokio::test]
async fn a_page_of_any_size_is_divided_whole() {
    const MANY: usize = 5_000;
    let at = &installation().await;
    let payout = at.ended("a").await;
    at.crank().await;
    at.later(8 * DAY).await;
    let client = redis::Client::open(at.server.lock().unwrap().url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    // The 96th key brings a second page.
    let () = redis::cmd("HSET").arg("t:{s00}:tombstones").arg("n").arg(95).arg("salt").arg("s").query_async(&mut connection).await.unwrap();
    let mut page = redis::cmd("HSET");
    page.arg("t:{s00}:tombstones:0");
    for number in 0..MANY {
        page.arg(format!("{number:020x}")).arg("12345678");
    }
    let () = page.query_async(&mut connection).await.unwrap();
    assert_eq!(at.trim(&kept(), None).await, 1);
    let mut pages = [0, 0];
    for (number, count) in pages.iter_mut().enumerate() {
        *count = redis::cmd("HLEN").arg(format!("t:{{s00}}:tombstones:{number}")).query_async(&mut connection).await.unwrap();
    }
    assert!(pages.iter().sum::<usize>() == MANY + 1 && pages.iter().all(|count| *count > MANY / 3), "{pages:?}");
    assert!(at.store.is_claimed(payout.id).await.unwrap());
}

/// Receipts go in their own time.
#[tokio::test]
async fn a_round_trims_receipts() {
    let at = &installation().await;
    let payout = at.open("a").await;
    at.crank().await;
    at.receipt(&payout).await.unwrap();
    at.later(8 * DAY).await;
    assert_eq!(round(&at.store, &kept(), None, Shard::new(0)).await.unwrap().receipts, 0, "for ever");
    let settings = retention::Settings { receipts_days: 7, ..kept() };
    assert_eq!(round(&at.store, &settings, None, Shard::new(0)).await.unwrap(), Trimmed { receipts: 1, ..Trimmed::default() });
}

/// An event that is not kept any more, whatever took it, holds up nobody: the next one of its payout has its turn.
#[tokio::test]
async fn an_event_that_is_gone_holds_up_nobody() {
    let at = installation().await;
    let (gone, whole) = (at.ended("a").await, at.ended("b").await);
    let client = redis::Client::open(at.server.lock().unwrap().url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("HDEL").arg(format!("t:{{s00}}:po:{}", gone.id)).arg("e:1").query_async(&mut connection).await.unwrap();
    at.crank().await;
    let told: BTreeSet<(String, u64)> = at
        .receiver
        .take()
        .iter()
        .map(|message| {
            let body = message.json();
            (body["data"]["payout_id"].as_str().unwrap_or_default().to_owned(), body["data"]["sequence"].as_u64().unwrap_or_default())
        })
        .collect();
    let expected = [(&gone, 2), (&whole, 1), (&whole, 2)].map(|(payout, sequence)| (payout.id.to_string(), sequence));
    assert_eq!(told, expected.into());
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&kept(), None).await, 2, "nothing waits");
}

/// Nobody's key is lost among those of many others, however their pages are divided.
#[tokio::test]
async fn every_key_is_remembered_among_many() {
    let at = &installation().await;
    // Six pages at the end; one for the first 96.
    let keys: Vec<String> = (0..300).map(|key| key.to_string()).collect();
    let payouts = futures_util::future::join_all(keys.iter().map(|key| at.ended(key))).await;
    assert_eq!(at.acknowledged().await, 600);
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&retention::Settings { page: 100, ..kept() }, None).await, 300);
    for payout in &payouts {
        assert!(matches!(at.opened_again(payout, "fingerprint of the request").await, Opened::Archived));
        assert!(matches!(at.opened_again(payout, "another one").await, Opened::Conflict));
    }
    for key in 300..400 {
        let (step, beneficiary) = at.step(&key.to_string());
        assert_eq!(at.store.was_claimed_by(step.payout.id, "fingerprint of the request").await.unwrap(), None);
        assert!(matches!(at.store.open_payout(&step, &beneficiary, "fingerprint of the request").await.unwrap(), Opened::New));
    }
}

#[tokio::test]
async fn memory_comes_back_but_for_the_keys() {
    let at = &measured().await;
    let settings = retention::Settings { page: 100, ..kept() };
    at.wave(0..300).await;
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&settings, None).await, 300);
    let before = at.memory_of_keys().await;
    at.wave(300..800).await;
    let full = at.memory_of_keys().await;
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&settings, None).await, 500);
    let (each, left) = ((full - before) / 500, (at.memory_of_keys().await - before) / 500);
    println!("a payout with five events takes {each} bytes, the memory of its key {left}");
    // Twenty characters of the id and eight of the fingerprint, and what a page takes.
    assert!(left <= 45 && each > 100 * left, "{each} {left}");
}

/// `PAYRELAY_LONG_TESTS=1`: a million delivered events later, memory is that of the start and a tenth, by retention alone. The start is a store at work: what ended in the
/// latest week is in it, then as later.
#[tokio::test(flavor = "multi_thread")]
async fn memory_is_back_after_a_million_events() {
    let (waves, payouts): (u64, u64) = if std::env::var_os("PAYRELAY_LONG_TESTS").is_some() { (10, 20_000) } else { (2, 200) };
    let at = &measured().await;
    let settings = retention::Settings { page: 100, ..kept() };
    let (mut delivered, mut start) = (0, 0);
    for wave in 0..=waves + 1 {
        delivered += at.wave(wave * payouts..(wave + 1) * payouts).await;
        at.later(4 * DAY).await;
        let trimmed = at.trim(&settings, None).await;
        assert_eq!(trimmed, if wave == 0 { 0 } else { payouts }, "all but the wave of the latest week");
        let memory = at.memory().await;
        println!("wave {wave}: {delivered} events delivered, {} payouts of them trimmed, {} kB in use", wave * payouts, memory / 1_024);
        // The first wave that is trimmed warms the server up.
        if wave == 1 {
            (start, delivered) = (memory, 0);
        }
        assert!(start == 0 || memory <= start + start / 10, "{memory} bytes; {start} at the start");
    }
    assert_eq!(delivered, waves * payouts * 5);
}
