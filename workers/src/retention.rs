//! Retention: what has ended long ago is archived, if there is an archive, and trimmed, page by page. **Archived first**: whoever dies in between leaves a line that will be
//! written again, and a record that is still there. The memory of a payout's key stays for ever.

mod archive;

use std::path::PathBuf;
use std::time::Duration;

use domain::id::Shard;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use self::archive::{Archive, ArchiveError};
use crate::agreement;
use crate::store::processes::Process;
use crate::store::{Store, StoreError};

/// How long what has ended is kept. 0: for ever, but for excerpts, which always go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where payouts are written before they are trimmed. Without it they are not.
    pub archive: Option<PathBuf>,
    /// Payouts, with their events, deliveries and attempts, after they have ended.
    pub payouts_days: u32,
    /// What was given up stays listed, and its payouts with it.
    pub abandoned_days: u32,
    /// What subscribers answered, beside the status, since they did.
    pub excerpts_days: u32,
    /// Notices that were put aside.
    pub orphans_days: u32,
    /// Events in feeds. At most as long as payouts.
    pub feed_days: u32,
    /// Replays that have ended.
    pub replays_days: u32,
    /// Links of receipts. Whoever has a receipt can go on proving what it says.
    pub receipts_days: u32,
    /// Between two turns, ms.
    pub interval_ms: u64,
    /// Records of one page, at most.
    pub page: usize,
    /// Between two pages, ms.
    pub pause_ms: u64,
}

/// What a round has trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    pub payouts: u64,
    pub abandoned: u64,
    pub excerpts: u64,
    pub orphans: u64,
    pub feed: u64,
    pub replays: u64,
    pub receipts: u64,
}

impl std::ops::AddAssign for Trimmed {
    fn add_assign(&mut self, more: Self) {
        self.payouts += more.payouts;
        self.abandoned += more.abandoned;
        self.excerpts += more.excerpts;
        self.orphans += more.orphans;
        self.feed += more.feed;
        self.replays += more.replays;
        self.receipts += more.receipts;
    }
}

/// Why a round has ended early.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Trims all that is due in a shard.
///
/// # Errors
/// As every call of the store, or the archive cannot be written; the next round goes on.
pub async fn round(store: &Store, settings: &Settings, archive: Option<&Archive>, shard: Shard) -> Result<Trimmed, RoundError> {
    let mut trimmed = Trimmed::default();
    let pause = || tokio::time::sleep(Duration::from_millis(settings.pause_ms));
    let page = settings.page;
    // Before the payouts, which stay as long as something of theirs is listed.
    if let Some(kept) = days(settings.abandoned_days) {
        while let more @ 1.. = store.trim_abandoned(shard, kept, page).await? {
            trimmed.abandoned += more;
            pause().await;
        }
    }
    if let Some(kept) = days(settings.excerpts_days) {
        while let more @ 1.. = store.trim_excerpts(shard, kept, page).await? {
            trimmed.excerpts += more;
            pause().await;
        }
    }
    if let Some(kept) = days(settings.orphans_days) {
        while let more @ 1.. = store.trim_orphans(shard, kept, page).await? {
            trimmed.orphans += more;
            pause().await;
        }
    }
    if let Some(kept) = days(settings.feed_days) {
        while let more @ 1.. = store.trim_feeds(shard, kept, page).await? {
            trimmed.feed += more;
            pause().await;
        }
    }
    if let Some(kept) = days(settings.replays_days) {
        while let more @ 1.. = store.trim_replays(shard, kept, page).await? {
            trimmed.replays += more;
            pause().await;
        }
    }
    if let Some(kept) = days(settings.receipts_days) {
        while let more @ 1.. = store.trim_receipts(shard, kept, page).await? {
            trimmed.receipts += more;
            pause().await;
        }
    }
    if let Some(kept) = days(settings.payouts_days) {
        let mut place = None;
        loop {
            let mut old = store.old_payouts(shard, kept, place, page).await?;
            if archive.is_some() && !old.payouts.is_empty() {
                old.payouts = store.can_go(shard, kept, old.payouts).await?;
            }
            if !old.payouts.is_empty() {
                if let Some(archive) = archive {
                    let lines = old.payouts.iter().map(crate::store::retention::OldPayout::line).collect::<Result<Vec<_>, _>>()?;
                    archive.append("payouts", shard, store.clock().now(), lines).await?;
                }
                trimmed.payouts += store.trim_payouts(shard, kept, &old.payouts).await?;
            }
            place = old.next;
            if place.is_none() {
                break;
            }
            pause().await;
        }
    }
    Ok(trimmed)
}

/// One round over all shards, if this process has said what it was told and all that run were told to keep things for the same time: what was trimmed is gone, and another
/// process may have been told to keep it. `me` is the id of this one.
pub async fn turn(store: &Store, me: &str, settings: &Settings, archive: Option<&Archive>) -> Trimmed {
    let mut all = Trimmed::default();
    match store.processes().await {
        Ok(processes) if may_trim(&processes, me) => {}
        Ok(_) => return all,
        Err(error) => {
            tracing::warn!(%error, "nothing is trimmed: what other processes were told is not known");
            return all;
        }
    }
    for shard in store.shards().all() {
        let done = tokio::select! {
            done = round(store, settings, archive, shard) => done,
            () = disagreement(store, me) => return all,
        };
        match done {
            Ok(trimmed) if trimmed == Trimmed::default() => {}
            Ok(trimmed) => {
                let Trimmed { payouts, abandoned, excerpts, orphans, feed, replays, receipts } = trimmed;
                tracing::info!(payouts, abandoned, excerpts, orphans, feed, replays, receipts, "what ended long ago was trimmed");
                all += trimmed;
            }
            Err(error) => tracing::error!(%error, "what ended long ago could not be trimmed; the next round goes on"),
        }
    }
    all
}

/// Ends when this process may not trim any more: a turn may take hours.
async fn disagreement(store: &Store, me: &str) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !store.processes().await.is_ok_and(|processes| may_trim(&processes, me)) {
            return;
        }
    }
}

/// Takes a turn every `interval_ms` until `stop`.
pub async fn run(store: &Store, me: &str, settings: &Settings, archive: Option<&Archive>, stop: CancellationToken) {
    loop {
        if stop.run_until_cancelled(turn(store, me, settings, archive)).await.is_none() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(settings.interval_ms)) => {}
        }
    }
}

fn may_trim(processes: &[Process], me: &str) -> bool {
    let differs = agreement::disagreements(processes).into_keys().any(|section| section.starts_with("retention."));
    processes.iter().any(|process| process.id == me) && !differs
}

fn days(days: u32) -> Option<Duration> {
    (days > 0).then(|| Duration::from_hours(u64::from(days) * 24))
}
