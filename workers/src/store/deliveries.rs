//! The history of deliveries, read from what is written anyway: the records of payouts by the time at which they were asked for, the lanes of
//! subscriptions, and the lists of what was given up. A delivery that goes well is in no index of its own.

use std::cmp::Ordering;

use domain::delivery::{Delivery, Progress};
use domain::event::EventType;
use domain::id::{DeliveryId, EventId, Mode, PartyId, PayoutId, SubscriptionId};
use domain::subscription::EventTypes;
use jiff::{SignedDuration, Timestamp};

use super::lanes::member;
use super::lists::{CHUNK, Page, Position, Range};
use super::payouts::{StoredEvent, Timeline};
use super::{Store, StoreError, from_value};

/// Subscriptions of a party whose lanes a page is put together from, at most: it reads a part of each. Of more, one has to be named.
pub const MERGED_MAX: usize = 100;

/// Payouts that are read at a time where each may have thousands of deliveries.
const LARGE_AT_A_TIME: usize = 4;

/// Entries of lanes, or of what was given up, that one page looks at, at most, when a filter drops most of them.
const LOOKED_AT_MAX: usize = 1_000;

/// Which deliveries are listed.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub party: PartyId,
    pub mode: Mode,
    pub subscription: Option<SubscriptionId>,
    pub payout: Option<PayoutId>,
    pub progress: Option<Progress>,
    pub types: EventTypes,
    /// By the time of the event; inclusive.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// Payouts that were asked for so long before `from` are looked at too.
    pub looks_back: SignedDuration,
}

/// One event for one subscription, as it stands.
#[derive(Clone, Debug)]
pub struct Told {
    pub transaction_id: String,
    pub event: StoredEvent,
    pub subscription: SubscriptionId,
    /// `None` until it was tried.
    pub delivery: Option<Delivery>,
}

/// A place in a list of deliveries: behind this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Among the payouts, newest first, and within this payout behind that delivery; without one, behind the payout.
    Payout(Position, Option<(u32, SubscriptionId)>),
    /// In a lane, or in what was given up: the entry's time and delivery; and behind which event of those that wait with it.
    Entry { at_ms: i64, id: DeliveryId, within: Option<u32> },
}

/// An entry of a lane, or of what was given up. Ordered as the server orders those of one key.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    at_ms: i64,
    member: String,
    id: DeliveryId,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_ms, &self.member, self.id.subscription()).cmp(&(other.at_ms, &other.member, other.id.subscription()))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Wanted {
    /// Whether the time and the type of an event are wanted.
    #[must_use]
    pub fn wants(&self, event: &StoredEvent) -> bool {
        let kind = EventType::named(&event.kind).is_none_or(|kind| self.types.wants(kind));
        kind && event.at >= self.from && event.at < self.to
    }

    fn keeps(&self, told: &Told) -> bool {
        self.wants(&told.event)
            && self.subscription.is_none_or(|wanted| wanted == told.subscription)
            && self.progress.is_none_or(|wanted| wanted == Progress::of(told.delivery.as_ref()))
    }
}

impl Told {
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        DeliveryId::new(self.event.id, self.subscription)
    }

    fn of(timeline: &Timeline, subscription: SubscriptionId, sequence: u32) -> Option<Self> {
        if subscription.is_fan_out() {
            return None;
        }
        let event = timeline.events.iter().find(|event| event.id.sequence() == sequence)?;
        let delivery = timeline.delivery(DeliveryId::new(event.id, subscription)).and_then(|listed| listed.delivery.clone());
        Some(Self { transaction_id: timeline.payout.transaction_id.clone(), event: event.clone(), subscription, delivery })
    }
}

impl Store {
    /// One delivery, with the party whose it is, if there is one.
    ///
    /// # Errors
    /// As every call.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<(PartyId, Mode, Told)>, StoreError> {
        let Some(timeline) = self.timeline(id.event().payout()).await? else { return Ok(None) };
        let Some(told) = Told::of(&timeline, id.subscription(), id.event().sequence()) else { return Ok(None) };
        let is_listed =
            |listed: &super::payouts::ListedDelivery| (listed.subscription, listed.sequence) == (told.subscription, id.event().sequence());
        // Those of a subscription without order leave no trace in the payout before they were tried.
        let exists = timeline.deliveries.iter().any(is_listed) || self.is_in_lane(id).await?;
        Ok(exists.then_some((timeline.payout.party, timeline.payout.mode, told)))
    }

    async fn is_in_lane(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let shard = self.shared.names.shard(id.event().shard());
        let score = |lane: &str| redis::cmd("ZSCORE").arg([shard, lane, &id.subscription().to_string()].concat()).arg(member(id.event())).to_owned();
        let (waits, flies) = futures_util::try_join!(self.query(score("wait:")), self.query(score("fly:")))?;
        Ok(from_value::<Option<f64>>(waits)?.is_some() || from_value::<Option<f64>>(flies)?.is_some())
    }

    /// A page of deliveries and where the next one begins: of payouts, newest payout and newest event first; what is pending or failing, soonest first; what was
    /// given up, latest first. Of subscriptions that do not exist any more, and of those behind the oldest [`MERGED_MAX`], what is pending, failing or abandoned is listed only
    /// where one is asked for by name.
    /// A record that cannot be read is left out, and an error in the log.
    ///
    /// # Errors
    /// As every call.
    pub async fn deliveries(&self, wanted: &Wanted, after: Option<Place>, limit: usize) -> Result<(Vec<Told>, Option<Place>), StoreError> {
        match wanted.progress {
            _ if wanted.payout.is_some() => self.deliveries_of_payout(wanted, after, limit).await,
            None | Some(Progress::Delivered) => self.deliveries_by_payout(wanted, after, limit).await,
            Some(Progress::Pending | Progress::Failing) => self.deliveries_by_entry(wanted, &["wait:", "fly:"], false, after, limit).await,
            Some(Progress::Abandoned) => self.deliveries_by_entry(wanted, &["abandoned:"], true, after, limit).await,
        }
    }

    async fn deliveries_of_payout(&self, wanted: &Wanted, after: Option<Place>, limit: usize) -> Result<(Vec<Told>, Option<Place>), StoreError> {
        let Some(timeline) = (match wanted.payout {
            Some(id) => self.timeline(id).await?,
            None => None,
        }) else {
            return Ok((Vec::new(), None));
        };
        let position = Position { at_ms: timeline.payout.requested_at().as_millisecond(), id: timeline.payout.id };
        let within = if let Some(Place::Payout(_, within)) = after { within } else { None };
        Ok(cut(vec![(position, told(&timeline, wanted, within, limit))], None, limit))
    }

    async fn deliveries_by_payout(&self, wanted: &Wanted, after: Option<Place>, limit: usize) -> Result<(Vec<Told>, Option<Place>), StoreError> {
        let (position, within) = if let Some(Place::Payout(position, within)) = after { (Some(position), within) } else { (None, None) };
        let mut items = Vec::new();
        if let (Some(position), Some(_)) = (position, within)
            && let Some(timeline) = self.readable_timeline(position.id).await?
            && (timeline.payout.party == wanted.party && timeline.payout.mode == wanted.mode)
        {
            items.push((position, told(&timeline, wanted, within, limit)));
        }
        let from = wanted.from.saturating_sub(wanted.looks_back).unwrap_or(Timestamp::MIN);
        let is_large = self.count_subscriptions(&wanted.party, wanted.mode).await? > MERGED_MAX;
        let (at_a_time, payouts) = if is_large { (LARGE_AT_A_TIME, limit.min(LARGE_AT_A_TIME)) } else { (CHUNK, limit) };
        let range = Range { party: &wanted.party, mode: wanted.mode, from, to: wanted.to, after: position, limit: payouts };
        let load = |id| async move { Ok(self.readable_timeline(id).await?.map(|timeline| told(&timeline, wanted, None, limit))) };
        let Page { items: more, next } = self.page_by(at_a_time, "list", &range, load, |told: &Vec<Told>| !told.is_empty()).await?;
        items.extend(more);
        Ok(cut(items, next, limit))
    }

    async fn deliveries_by_entry(
        &self,
        wanted: &Wanted,
        lists: &[&str],
        newest_first: bool,
        after: Option<Place>,
        limit: usize,
    ) -> Result<(Vec<Told>, Option<Place>), StoreError> {
        let subscriptions = match wanted.subscription {
            Some(one) => vec![one],
            None => self.subscription_ids(&wanted.party, wanted.mode, MERGED_MAX).await?,
        };
        let mut place = if let Some(Place::Entry { at_ms, id, within }) = after { Some((at_ms, id, within)) } else { None };
        let (mut items, mut looked_at) = (Vec::new(), 0);
        // The first one may be where the page before has ended.
        let chunk = (limit + 1).max(200);
        loop {
            let begin = place.map(|(at_ms, id, _)| Entry { at_ms, member: member(id.event()), id });
            let mut entries = Vec::new();
            for subscription in &subscriptions {
                for list in lists {
                    entries.extend(self.entries(*subscription, list, begin.as_ref(), newest_first, chunk).await?);
                }
            }
            entries.sort();
            if newest_first {
                entries.reverse();
            }
            // Beyond these, one of the keys may have what comes earlier than the next of another.
            let is_last = entries.len() < chunk;
            entries.truncate(chunk);
            for entry in &entries {
                let mut within = place.filter(|(at_ms, id, _)| (*at_ms, *id) == (entry.at_ms, entry.id)).and_then(|(_, _, within)| within);
                for told in self.told_with(entry.id, wanted, within).await? {
                    if items.len() == limit {
                        return Ok((items, Some(Place::Entry { at_ms: entry.at_ms, id: entry.id, within })));
                    }
                    within = Some(told.event.id.sequence());
                    items.push(told);
                }
                place = Some((entry.at_ms, entry.id, Some(u32::MAX)));
            }
            looked_at += entries.len();
            if is_last {
                return Ok((items, None));
            }
            if items.len() >= limit || looked_at >= LOOKED_AT_MAX {
                return Ok((items, place.map(|(at_ms, id, within)| Place::Entry { at_ms, id, within })));
            }
        }
    }

    /// The delivery of an entry and those that wait behind it, as far as they are wanted, behind the event `within`; `u32::MAX`: behind all of them.
    async fn told_with(&self, id: DeliveryId, wanted: &Wanted, within: Option<u32>) -> Result<Vec<Told>, StoreError> {
        if within == Some(u32::MAX) {
            return Ok(Vec::new());
        }
        let Some(timeline) = self.readable_timeline(id.event().payout()).await? else { return Ok(Vec::new()) };
        if timeline.payout.party != wanted.party || timeline.payout.mode != wanted.mode {
            return Ok(Vec::new());
        }
        let sequence = id.event().sequence();
        let queue = timeline.queues.iter().find(|(subscription, queue)| *subscription == id.subscription() && queue.first() == Some(&sequence));
        let queue = queue.map_or_else(|| vec![sequence], |(_, queue)| queue.clone());
        let done = within.and_then(|last| queue.iter().position(|sequence| *sequence == last)).map_or(0, |at| at + 1);
        let told = queue.iter().skip(done).filter_map(|sequence| Told::of(&timeline, id.subscription(), *sequence));
        Ok(told.filter(|told| wanted.keeps(told)).collect())
    }

    /// The first entries of one list of a subscription from `begin` on, at most `limit`.
    async fn entries(
        &self,
        subscription: SubscriptionId,
        list: &str,
        begin: Option<&Entry>,
        newest_first: bool,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let key = [self.shared.names.shard(subscription.shard()), list, &subscription.to_string()].concat();
        let (mut found, mut offset) = (Vec::new(), 0);
        while found.len() < limit {
            let (command, (first, last)) = if newest_first { ("ZREVRANGEBYSCORE", ("+inf", "-inf")) } else { ("ZRANGEBYSCORE", ("-inf", "+inf")) };
            let first = begin.map_or_else(|| first.to_owned(), |begin| begin.at_ms.to_string());
            let mut command = redis::cmd(command);
            command.arg(&key).arg(first).arg(last).arg("WITHSCORES").arg("LIMIT").arg(offset).arg(limit);
            let chunk: Vec<(String, f64)> = from_value(self.query(command).await?)?;
            let got = chunk.len();
            offset += got;
            for (member, at) in chunk {
                let Some(event) = event_of(&member) else { continue };
                #[expect(clippy::cast_possible_truncation, reason = "scores are milliseconds, far below 2^53")]
                let entry = Entry { at_ms: at as i64, member, id: DeliveryId::new(event, subscription) };
                let is_due = begin.is_none_or(|begin| if newest_first { entry <= *begin } else { entry >= *begin });
                if is_due && found.len() < limit {
                    found.push(entry);
                }
            }
            if got < limit {
                break;
            }
        }
        Ok(found)
    }

    /// As [`Store::timeline`], among others: what cannot be read is reported, left for a person, and counts as none.
    pub(super) async fn readable_timeline(&self, id: PayoutId) -> Result<Option<Timeline>, StoreError> {
        match self.timeline(id).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                tracing::error!(payout.id = %id, %error, "a payout cannot be read and is left for a person");
                Ok(None)
            }
            read => read,
        }
    }
}

/// The event of an entry of a lane.
pub(super) fn event_of(member: &str) -> Option<EventId> {
    let (payout, sequence) = member.split_once('/')?;
    Some(EventId::new(payout.parse().ok()?, sequence.parse().ok()?))
}

/// The deliveries of a payout that are wanted, newest event first, behind `within`: one more than `limit`, at most, so that it is seen that there are more.
fn told(timeline: &Timeline, wanted: &Wanted, within: Option<(u32, SubscriptionId)>, limit: usize) -> Vec<Told> {
    let behind = timeline.deliveries.iter().rev().filter(|listed| within.is_none_or(|within| (listed.sequence, listed.subscription) < within));
    let of_one = behind.filter(|listed| wanted.subscription.is_none_or(|wanted| wanted == listed.subscription));
    let all = of_one.filter_map(|listed| Told::of(timeline, listed.subscription, listed.sequence));
    all.filter(|told| wanted.keeps(told)).take(limit.saturating_add(1)).collect()
}

/// The first `limit` of these, and where the rest begins.
fn cut(items: Vec<(Position, Vec<Told>)>, next: Option<Position>, limit: usize) -> (Vec<Told>, Option<Place>) {
    let (mut kept, mut last) = (Vec::new(), None);
    for (position, told) in items {
        for told in told {
            if kept.len() == limit {
                return (kept, last);
            }
            last = Some(Place::Payout(position, Some((told.event.id.sequence(), told.subscription))));
            kept.push(told);
        }
    }
    (kept, next.map(|position| Place::Payout(position, None)))
}
