//! The end of what is kept: nobody who is owed anything loses it, no key pays again, and memory comes back.

use std::collections::BTreeSet;
use std::io::Read as _;

use domain::subscription::Ordering as Ordered;
use workers::retention::{self, Archive, Trimmed, round};
use workers::store::StoreError;
use workers::store::payouts::Opened;
use workers::store::processes::Process;

use super::*;

const DAY: u64 = 86_400;

fn kept() -> retention::Settings {
    let (abandoned_days, orphans_days, feed_days, replays_days) = (0, 0, 0, 0);
    retention::Settings { archive: None, payouts_days: 7, abandoned_days, orphans_days, feed_days, replays_days, page: 3, pause_ms: 0 }
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

    /// What the server uses, bytes.
    async fn memory(&self) -> u64 {
        self.store.vitals(Shard::new(0)).await.unwrap().memory_bytes
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

/// After a loss of writes a payout may have been sent although it is recorded otherwise.
#[tokio::test]
async fn what_is_suspect_stays() {
    let at = &installation().await;
    at.ended("a").await;
    at.crank().await;
    at.later(8 * DAY).await;
    let shard = Shard::new(0);
    let freeze = workers::store::freeze::Freeze { reason: "restored".to_owned(), at_ms: 0, epoch_seen: 5 };
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

/// `PAYRELAY_LONG_TESTS=1`: a million events.
#[tokio::test]
async fn memory_comes_back_but_for_the_keys() -> Result<(), StoreError> {
    let count: u64 = if std::env::var_os("PAYRELAY_LONG_TESTS").is_some() { 500_000 } else { 500 };
    let at = &installation().await;
    let round = |from: u64, to: u64| async move {
        for key in from..to {
            at.ended(&key.to_string()).await;
            if key % 20 == 19 {
                at.crank().await;
            }
        }
        at.crank().await;
        at.receiver.take();
    };
    let settings = retention::Settings { page: 100, ..kept() };
    // The scripts, and what the server keeps of its own.
    round(0, 40).await;
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&settings, None).await, 40);
    let before = at.memory().await;
    round(40, 40 + count).await;
    let full = at.memory().await;
    at.later(8 * DAY).await;
    assert_eq!(at.trim(&settings, None).await, count);
    let after = at.memory().await;
    let (each, left) = ((full - before) / count, after.saturating_sub(before) / count);
    println!("a payout with two events takes {each} bytes, the memory of its key {left}");
    // A key of 44 bytes and its entry of the server's table, a small hash and sixteen characters; a server that has just doubled its table has more room.
    assert!(left <= 220 && each > 8 * left, "{each} {left}");
    assert!(after - left * count <= before + before / 10);
    Ok(())
}
