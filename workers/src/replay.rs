//! Replays: what a subscription was told in a time is told once more, or what it never got. A record and a piece of work, page by page: a worker that dies is followed by
//! one that goes on where the last page had ended, and what was made due already is not made due again. Each delivery keeps its `webhook-id` and says in `payrelay-replay`
//! that it is one; those of one payout keep their order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use domain::delivery::{Delivery, Status as DeliveryStatus};
use domain::id::{DeliveryId, Mode, PartyId, ReplayId, SubscriptionId};
use domain::subscription::{EventTypes, Ordering, Status, Subscription};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::queue::Job;
use crate::relay::RelayContext;
use crate::store::lanes::Ticket;
use crate::store::payouts::{StoredEvent, Timeline};
use crate::store::replays::{Again, ReplayWork, Written};
use crate::store::{Store, StoreError};

/// Payouts that one turn of a replay looks at, at most.
const PAGE: usize = 100;

/// What is replayed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub subscription: SubscriptionId,
    pub party: PartyId,
    pub mode: Mode,
    /// By the time of the event; inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// Payouts that were asked for so long before `from` are looked at too.
    pub looks_back_s: i64,
    pub types: EventTypes,
    /// Only events of payouts whose metadata has each of these entries. Empty: of all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    pub what: What,
    /// Deliveries that are made due in a second, at most.
    pub rate_per_s: u16,
    /// When it was asked for. What ended later is not replayed, so nothing is twice.
    pub asked_at: Timestamp,
}

/// Which deliveries are made once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Those that were delivered or given up.
    Ended,
    Delivered,
    Abandoned,
    /// Events that made no delivery for the subscription, because it was not there, was disabled or wanted others: told for the first time.
    Missing,
}

/// A replay, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    pub id: ReplayId,
    pub spec: Spec,
    pub standing: Standing,
    pub place: Option<Place>,
    pub payouts_looked_at: u64,
    pub deliveries: u64,
}

/// How a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Standing {
    Running,
    /// All that was wanted is due or delivered.
    Done {
        at: Timestamp,
    },
    Canceled {
        at: Timestamp,
    },
    /// Its subscription is gone or disabled.
    Stopped {
        at: Timestamp,
    },
}

/// Behind what a replay goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub at_ms: i64,
    pub member: String,
}

/// What a replay goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Payouts by the time at which they were asked for, in ms; both inclusive.
    Payouts { from: i64, to: i64 },
    /// What the subscription did not get.
    Abandoned,
}

/// What a replay would come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub deliveries: u64,
    pub payouts_looked_at: u64,
    /// Whether that is all; else there are more than were looked at.
    pub complete: bool,
}

// === impl What ===

impl What {
    pub const ALL: [Self; 4] = [Self::Ended, Self::Delivered, Self::Abandoned, Self::Missing];

    /// The word in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Delivered => "delivered",
            Self::Abandoned => "abandoned",
            Self::Missing => "missing",
        }
    }

    /// The types and the metadata by which events are chosen. `named` are types that whoever asks has named. Without that, what never came is what would have: nobody gets by a
    /// replay what the subscription does not ask for.
    #[must_use]
    pub fn filter(self, subscription: &Subscription, named: Option<EventTypes>) -> (EventTypes, BTreeMap<String, String>) {
        match self {
            Self::Missing => (named.unwrap_or_else(|| subscription.event_types.clone()), subscription.metadata.clone()),
            Self::Ended | Self::Delivered | Self::Abandoned => (named.unwrap_or(EventTypes::All), BTreeMap::new()),
        }
    }

    /// # Errors
    /// There is no such word.
    pub fn named(name: &str) -> Result<Self, &'static str> {
        Self::ALL.into_iter().find(|what| what.name() == name).ok_or("must be ended, delivered, abandoned or missing")
    }
}

// === impl Standing ===

impl Standing {
    /// The word in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done { .. } => "done",
            Self::Canceled { .. } => "canceled",
            Self::Stopped { .. } => "stopped",
        }
    }

    #[must_use]
    pub const fn ended_at(self) -> Option<Timestamp> {
        match self {
            Self::Running => None,
            Self::Done { at } | Self::Canceled { at } | Self::Stopped { at } => Some(at),
        }
    }
}

// === impl Spec ===

impl Spec {
    #[must_use]
    pub fn walk(&self) -> Walk {
        if self.what == What::Abandoned {
            return Walk::Abandoned;
        }
        let from = self.from.saturating_sub(SignedDuration::from_secs(self.looks_back_s)).unwrap_or(Timestamp::MIN);
        Walk::Payouts { from: from.as_millisecond(), to: self.to.as_millisecond() }
    }

    /// The deliveries of a payout that are to be made once more, in their order.
    #[must_use]
    pub fn picks(&self, timeline: &Timeline, now: Timestamp) -> Vec<Again> {
        if !self.metadata.is_empty() && !timeline.payout.metadata.has(&self.metadata) {
            return Vec::new();
        }
        let picked = timeline.events.iter().filter_map(|event| {
            let listed = timeline.delivery(DeliveryId::new(event.id, self.subscription));
            self.pick(event, listed.is_some(), listed.and_then(|listed| listed.delivery.as_ref()), now)
        });
        picked.collect()
    }

    /// The delivery of an event once more, if it is to be made. `is_listed`: the subscription has one, as it was `seen` once it was tried.
    #[must_use]
    pub fn pick(&self, event: &StoredEvent, is_listed: bool, seen: Option<&Delivery>, now: Timestamp) -> Option<Again> {
        let is_wanted = self.types == EventTypes::All || self.types.asks_for(&event.kind);
        if !is_wanted || event.at < self.from || event.at >= self.to {
            return None;
        }
        let next = match (seen, seen.map(|delivery| delivery.status), self.what) {
            (Some(seen), Some(DeliveryStatus::Delivered { at }), What::Ended | What::Delivered) if at < self.asked_at => seen.clone(),
            (Some(seen), Some(DeliveryStatus::Abandoned { at }), What::Ended | What::Abandoned) if at < self.asked_at => seen.clone(),
            (None, _, What::Missing) if !is_listed && event.at < self.asked_at => Delivery::new(now),
            _ => return None,
        };
        Some(Again { sequence: event.id.sequence(), seen: seen.cloned(), next: next.replayed(now) })
    }
}

// === impl Replay ===

impl Replay {
    #[must_use]
    pub const fn new(id: ReplayId, spec: Spec) -> Self {
        Self { id, spec, standing: Standing::Running, place: None, payouts_looked_at: 0, deliveries: 0 }
    }
}

/// Counts what a replay would make due, looking at no more than so many payouts.
///
/// # Errors
/// As every call of the store.
pub async fn count(store: &Store, spec: &Spec, payouts_max: u64) -> Result<Counted, StoreError> {
    let (mut counted, mut place, mut seen) = (Counted::default(), None, HashSet::new());
    while counted.payouts_looked_at < payouts_max {
        let page = store.replay_page(spec, place.as_ref(), PAGE).await?;
        let picks = futures_util::future::try_join_all(page.iter().map(|(place, id)| store.replay_picks(spec, place, *id, spec.asked_at))).await?;
        for (picks, (_, id)) in picks.into_iter().zip(&page) {
            // What was given up is listed by event, and found with the others of its payout.
            let new = picks.into_iter().filter(|again| spec.what != What::Abandoned || seen.insert((*id, again.sequence)));
            counted.deliveries += new.count() as u64;
        }
        counted.payouts_looked_at += page.len() as u64;
        counted.complete = page.len() < PAGE;
        match page.into_iter().next_back() {
            Some((behind, _)) if !counted.complete => place = Some(behind),
            _ => break,
        }
    }
    Ok(counted)
}

/// One turn of a replay: as many deliveries as its rate allows in a second, or a page of payouts.
pub async fn replay(context: Arc<RelayContext>, job: Job<ReplayWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let id = work.replay.id;
    match turn(context.store(), work).await {
        Ok(()) => lease.settled(),
        Err(error) => tracing::warn!(replay.id = %id, %error, "a page of a replay could not be done; it will be repeated"),
    }
}

async fn turn(store: &Store, ReplayWork { mut replay, version }: ReplayWork) -> Result<(), StoreError> {
    let spec = replay.spec.clone();
    let now = store.clock().now();
    let subscription = match store.subscription(spec.subscription).await? {
        Some((subscription, _)) if !matches!(subscription.status, Status::Disabled { .. }) => subscription,
        _ => {
            replay.standing = Standing::Stopped { at: now };
            return write(store, &replay, version, None).await;
        }
    };
    let page = store.replay_page(&spec, replay.place.as_ref(), PAGE).await?;
    let (rate, mut made, mut is_last) = (u64::from(spec.rate_per_s.max(1)), 0, page.len() < PAGE);
    for (behind, payout) in page {
        if made >= rate {
            is_last = false;
            break;
        }
        let picks = store.replay_picks(&spec, &behind, payout, now).await?;
        if !picks.is_empty() {
            let is_ordered = subscription.ordering == Ordering::Strict;
            made += store.deliver_again((&spec.party, spec.mode), spec.subscription, payout, is_ordered, &picks).await?;
        }
        replay.place = Some(behind);
        replay.payouts_looked_at += 1;
    }
    replay.deliveries += made;
    if is_last {
        replay.standing = Standing::Done { at: now };
    }
    let goes_on_in = (!is_last).then(|| Duration::from_millis(made.saturating_mul(1_000) / rate));
    write(store, &replay, version, goes_on_in).await
}

/// Somebody else's write is that of a cancellation, or of this very turn: both have said how it goes on.
async fn write(store: &Store, replay: &Replay, version: u64, goes_on_in: Option<Duration>) -> Result<(), StoreError> {
    if store.write_replay(replay, version, goes_on_in).await? == Written::Done && replay.standing != Standing::Running {
        tracing::info!(replay.id = %replay.id, subscription.id = %replay.spec.subscription, replay.deliveries, "a replay has ended");
    }
    Ok(())
}

/// Ends a replay that is under way. What it has made due is delivered all the same. `None` if there is no such replay.
///
/// # Errors
/// As every call of the store.
pub async fn cancel(store: &Store, id: ReplayId) -> Result<Option<Replay>, StoreError> {
    loop {
        let Some((mut replay, version)) = store.replay(id).await? else { return Ok(None) };
        if replay.standing != Standing::Running {
            return Ok(Some(replay));
        }
        replay.standing = Standing::Canceled { at: store.clock().now() };
        match store.write_replay(&replay, version, None).await? {
            Written::Done => return Ok(Some(replay)),
            Written::Stale => {}
            Written::Missing => return Ok(None),
        }
    }
}
