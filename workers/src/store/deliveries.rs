//! The history of deliveries, read from what is written anyway: the records of payouts by the time at which they were asked for, the lanes of
//! subscriptions, and the lists of what was given up. A delivery that goes well is in no index of its own. One delivery is read by its own fields, and those of a payout that has
//! very many by pages, along the list of its party's subscriptions.

mod of_bulletins;

use std::cmp::Ordering;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use domain::delivery::{Delivery, Progress};
use domain::id::{DeliveryId, EventId, Mode, PartyId, PayoutId, SubscriptionId};
use domain::subscription::EventTypes;
use jiff::{SignedDuration, Timestamp};

use super::lanes::member;
use super::lists::{CHUNK, Page, Position, Range};
use super::payouts::{ListedDelivery, StoredEvent, Timeline, payout, queue};
use super::{Store, StoreError, from_json, from_value};

/// Subscriptions of a party whose lanes a page is put together from, at most: it reads a part of each. Of more, one has to be named.
pub const MERGED_MAX: usize = 100;

/// Payouts that are read at a time where each may have thousands of deliveries.
const LARGE_AT_A_TIME: usize = 4;

/// Entries of lanes, of what was given up, or deliveries of payouts with many, that one page looks at, at most, when a filter drops most of them.
const LOOKED_AT_MAX: usize = 1_000;

/// Deliveries of a payout with many that are read at a time.
const WALKED_AT_A_TIME: usize = 200;

/// Which deliveries are listed.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub party: PartyId,
    pub mode: Mode,
    pub subscription: Option<SubscriptionId>,
    pub payout: Option<PayoutId>,
    /// Of one event of that payout.
    pub sequence: Option<u32>,
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
    /// Of the event's payout; `None` where the event is no payout's.
    pub transaction_id: Option<String>,
    pub event: StoredEvent,
    pub subscription: SubscriptionId,
    /// `None` until it was tried.
    pub delivery: Option<Delivery>,
}

/// An event for one subscription, and whose it is.
pub struct Found {
    pub party: PartyId,
    pub mode: Mode,
    pub told: Told,
    /// Whether the record has a delivery of it: else it may be in the lane only, or be none.
    pub is_listed: bool,
}

/// A place in a list of deliveries: behind this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Among the payouts, newest first, and behind that within this one; without it, behind the payout.
    Payout(Position, Option<Within>),
    /// In a lane, or in what was given up: the entry's time and delivery; and behind which event of those that wait with it.
    Entry { at_ms: i64, id: DeliveryId, within: Option<u32> },
}

/// A place among the deliveries of one payout, newest event first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// Where all of them are read: of this event, behind the delivery to this subscription.
    Delivery(u32, SubscriptionId),
    /// Where they are many: of this event, behind the subscription with this place in the party's list, or before all of them (0).
    Walk(u32, u64),
}

/// Some of the deliveries of one payout, each with its place.
#[derive(Default)]
struct Rows {
    rows: Vec<(Told, Within)>,
    /// Where to go on, because so many were looked at. Without it, these are all, or one more than were asked for.
    more: Option<Within>,
}

/// What was found at an entry of a lane, and behind it.
#[derive(Default)]
struct Waiting {
    told: Vec<Told>,
    looked_at: usize,
    /// Behind which event there are more to look at.
    stopped: Option<u32>,
}

/// What a walk goes through: the events of a payout, or one of a bulletin, and the subscriptions of the party.
struct Walked<'a> {
    party: &'a PartyId,
    mode: Mode,
    transaction_id: Option<&'a str>,
    events: &'a [StoredEvent],
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
    /// All deliveries of one payout, or of a bulletin.
    #[must_use]
    pub fn of(party: &PartyId, mode: Mode, payout: PayoutId, sequence: Option<u32>) -> Self {
        Self {
            party: party.clone(),
            mode,
            subscription: None,
            payout: Some(payout),
            sequence,
            progress: None,
            types: EventTypes::All,
            from: Timestamp::UNIX_EPOCH,
            to: Timestamp::MAX,
            looks_back: SignedDuration::ZERO,
        }
    }

    /// Whether the time, the type and the number of an event are wanted.
    #[must_use]
    pub fn wants(&self, event: &StoredEvent) -> bool {
        let kind = self.types == EventTypes::All || self.types.asks_for(&event.kind);
        kind && event.at >= self.from && event.at < self.to && self.sequence.is_none_or(|wanted| wanted == event.id.sequence())
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
        Some(Self { transaction_id: Some(timeline.payout.transaction_id.clone()), event: event.clone(), subscription, delivery })
    }
}

impl Store {
    /// One delivery, with the party whose it is, if there is one.
    ///
    /// # Errors
    /// As every call.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<(PartyId, Mode, Told)>, StoreError> {
        let Some(Found { party, mode, told, is_listed }) = self.event_for(id).await? else { return Ok(None) };
        // Those of a subscription without order leave no trace in the record before they were tried.
        let exists = is_listed || self.is_in_lane(id).await?;
        Ok(exists.then_some((party, mode, told)))
    }

    /// An event of a payout or of a bulletin for one subscription, if there is such an event.
    ///
    /// # Errors
    /// As every call.
    pub async fn event_for(&self, id: DeliveryId) -> Result<Option<Found>, StoreError> {
        let (event, subscription) = (id.event(), id.subscription());
        if subscription.is_fan_out() {
            return Ok(None);
        }
        let sequence = event.sequence();
        let mut command = redis::cmd("HMGET");
        command.arg(self.shared.names.payout(event.payout())).arg(&["rec", "meta"]).arg(format!("e:{sequence}"));
        command.arg(format!("d:{subscription}:{sequence}")).arg(format!("q:{subscription}"));
        let fields: Vec<Option<Vec<u8>>> = from_value(self.query(command).await?)?;
        let [record, metadata, Some(stored), tried, queued] = &fields[..] else { return Ok(None) };
        let metadata = metadata.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let event = StoredEvent::read(event, stored, &metadata)?;
        let (party, mode, transaction_id) = match record {
            Some(record) => {
                let payout = payout(record, metadata)?;
                (payout.party, payout.mode, Some(payout.transaction_id))
            }
            None => match self.owner_of(&event) {
                Some((party, mode)) => (party, mode, None),
                None => return Ok(None),
            },
        };
        let listed = listed(subscription, sequence, tried.as_deref(), queued.as_deref())?;
        let is_listed = listed.is_some();
        let delivery = listed.and_then(|listed| listed.delivery);
        Ok(Some(Found { party, mode, told: Told { transaction_id, event, subscription, delivery }, is_listed }))
    }

    async fn is_in_lane(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let shard = self.shared.names.shard(id.event().shard());
        let score = |lane: &str| redis::cmd("ZSCORE").arg([shard, lane, &id.subscription().to_string()].concat()).arg(member(id.event())).to_owned();
        let (waits, flies) = futures_util::try_join!(self.query(score("wait:")), self.query(score("fly:")))?;
        Ok(from_value::<Option<f64>>(waits)?.is_some() || from_value::<Option<f64>>(flies)?.is_some())
    }

    /// A page of deliveries and where the next one begins: of payouts, newest payout and newest event first, and behind them of the events that are no payout's; what is pending
    /// or failing, soonest first; what was given up, latest first. Of subscriptions that do not exist any more, and of those behind the oldest [`MERGED_MAX`], what is pending, failing or abandoned is listed only
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
        let Some(id) = wanted.payout else { return Ok((Vec::new(), None)) };
        let within = if let Some(Place::Payout(_, within)) = after { within } else { None };
        if let Some(sequence) = wanted.sequence
            && id == PayoutId::of_bulletin(&wanted.party, wanted.mode, self.shared.shards)
        {
            let Some(event) = self.stored_event(EventId::new(id, sequence)).await? else { return Ok((Vec::new(), None)) };
            let walked = Walked { party: &wanted.party, mode: wanted.mode, transaction_id: None, events: &[event] };
            let rows = self.walk(&walked, wanted, within, limit, &AtomicUsize::new(LOOKED_AT_MAX)).await?;
            return Ok(cut(vec![(Position { at_ms: 0, id }, rows)], None, limit));
        }
        let found = match wanted.subscription {
            Some(one) => self.timeline_of(id, one).await?,
            None => self.timeline(id).await?,
        };
        match found.filter(|timeline| timeline.payout.party == wanted.party && timeline.payout.mode == wanted.mode) {
            Some(timeline) => self.deliveries_of(&timeline, wanted, within, limit).await,
            None => Ok((Vec::new(), None)),
        }
    }

    /// A page of the deliveries of one payout that are wanted, newest event first, and where the next one begins. Of one that has many, they are those to the subscriptions that
    /// the party has, oldest first; one to a subscription that is gone is found by its name.
    ///
    /// # Errors
    /// As every call.
    pub async fn deliveries_of(
        &self,
        timeline: &Timeline,
        wanted: &Wanted,
        within: Option<Within>,
        limit: usize,
    ) -> Result<(Vec<Told>, Option<Place>), StoreError> {
        let position = Position { at_ms: timeline.payout.requested_at().as_millisecond(), id: timeline.payout.id };
        let rows = self.rows(timeline, wanted, within, limit, &AtomicUsize::new(LOOKED_AT_MAX)).await?;
        Ok(cut(vec![(position, rows)], None, limit))
    }

    async fn deliveries_by_payout(&self, wanted: &Wanted, after: Option<Place>, limit: usize) -> Result<(Vec<Told>, Option<Place>), StoreError> {
        let (position, within) = if let Some(Place::Payout(position, within)) = after { (Some(position), within) } else { (None, None) };
        let budget = AtomicUsize::new(LOOKED_AT_MAX);
        // Behind all payouts.
        let bulletin = Position { at_ms: 0, id: PayoutId::of_bulletin(&wanted.party, wanted.mode, self.shared.shards) };
        let has_come_to_it = position.is_some_and(|position| position.id == bulletin.id);
        if has_come_to_it || !wanted.types.wants_payouts() {
            let rows = self.rows_of_bulletin(bulletin.id, wanted, within, limit, &budget).await?;
            return Ok(cut(vec![(bulletin, rows)], None, limit));
        }
        let mut items = Vec::new();
        if let (Some(position), Some(_)) = (position, within)
            && let Some(timeline) = self.readable_timeline(position.id, wanted.subscription).await?
            && (timeline.payout.party == wanted.party && timeline.payout.mode == wanted.mode)
        {
            items.push((position, self.rows(&timeline, wanted, within, limit, &budget).await?));
        }
        let from = wanted.from.saturating_sub(wanted.looks_back).unwrap_or(Timestamp::MIN);
        let is_large = self.count_subscriptions(&wanted.party, wanted.mode).await? > MERGED_MAX;
        let (at_a_time, payouts) = if is_large { (LARGE_AT_A_TIME, limit.min(LARGE_AT_A_TIME)) } else { (CHUNK, limit) };
        let range = Range { party: &wanted.party, mode: wanted.mode, from, to: wanted.to, after: position, limit: payouts };
        let budget = &budget;
        let load = |id| async move {
            let Some(timeline) = self.readable_timeline(id, wanted.subscription).await? else { return Ok(None) };
            self.rows(&timeline, wanted, None, limit, budget).await.map(Some)
        };
        let has_some = |rows: &Rows| !rows.rows.is_empty() || rows.more.is_some();
        let Page { items: more, next } = self.page_by(at_a_time, "list", &range, load, has_some).await?;
        items.extend(more);
        if next.is_none() {
            items.push((bulletin, self.rows_of_bulletin(bulletin.id, wanted, None, limit, budget).await?));
        }
        Ok(cut(items, next, limit))
    }

    /// The deliveries of a payout that are wanted, behind `within`: one more than `limit`, at most, so that it is seen that there are more. `budget`: deliveries that may still be
    /// looked at where they are many.
    async fn rows(
        &self,
        timeline: &Timeline,
        wanted: &Wanted,
        within: Option<Within>,
        limit: usize,
        budget: &AtomicUsize,
    ) -> Result<Rows, StoreError> {
        let is_walk = matches!(within, Some(Within::Walk(..))) && wanted.subscription.is_none();
        if !timeline.many && !is_walk {
            let is_behind = |listed: &&ListedDelivery| match within {
                None => true,
                Some(Within::Delivery(sequence, subscription)) => (listed.sequence, listed.subscription) < (sequence, subscription),
                Some(Within::Walk(sequence, _)) => listed.sequence < sequence,
            };
            let behind = timeline.deliveries.iter().rev().filter(is_behind);
            let of_one = behind.filter(|listed| wanted.subscription.is_none_or(|wanted| wanted == listed.subscription));
            let all = of_one.filter_map(|listed| Told::of(timeline, listed.subscription, listed.sequence)).filter(|told| wanted.keeps(told));
            let mut found = Rows::default();
            for told in all.take(limit.saturating_add(1)) {
                let place = Within::Delivery(told.event.id.sequence(), told.subscription);
                found.rows.push((told, place));
            }
            return Ok(found);
        }
        let Timeline { payout, events, .. } = timeline;
        let walked = Walked { party: &payout.party, mode: payout.mode, transaction_id: Some(&payout.transaction_id), events };
        self.walk(&walked, wanted, within, limit, budget).await
    }

    /// The same, along the list of the party's subscriptions.
    async fn walk(&self, of: &Walked<'_>, wanted: &Wanted, within: Option<Within>, limit: usize, budget: &AtomicUsize) -> Result<Rows, StoreError> {
        let begin = match within {
            None => None,
            Some(Within::Walk(sequence, place)) => Some((sequence, place)),
            // It was read whole when the page before was made. Who is gone by now has no place: then the event begins anew.
            Some(Within::Delivery(sequence, subscription)) => Some((sequence, self.place_of(of.party, of.mode, subscription).await?.unwrap_or(0))),
        };
        let mut found = Rows::default();
        for event in of.events.iter().rev().filter(|event| wanted.wants(event)) {
            let sequence = event.id.sequence();
            let mut behind = match begin {
                Some((first, _)) if sequence > first => continue,
                Some((first, place)) if sequence == first => place,
                _ => 0,
            };
            loop {
                let left = budget.load(Relaxed).min(WALKED_AT_A_TIME);
                if left == 0 {
                    found.more = Some(Within::Walk(sequence, behind));
                    return Ok(found);
                }
                let subscribers = self.subscribers(of.party, of.mode, behind, left).await?;
                budget.fetch_sub(subscribers.len().min(left), Relaxed);
                let ids: Vec<SubscriptionId> = subscribers.iter().map(|(id, _)| *id).collect();
                for (listed, (_, place)) in self.listed(event.id, &ids).await?.into_iter().zip(&subscribers) {
                    let Some(ListedDelivery { subscription, delivery, .. }) = listed else { continue };
                    let told = Told { transaction_id: of.transaction_id.map(str::to_owned), event: event.clone(), subscription, delivery };
                    if wanted.keeps(&told) {
                        found.rows.push((told, Within::Walk(sequence, *place)));
                    }
                }
                if found.rows.len() > limit {
                    return Ok(found);
                }
                let Some((_, last)) = subscribers.last().filter(|_| subscribers.len() == left) else { break };
                behind = *last;
            }
        }
        Ok(found)
    }

    /// The deliveries of one event to these subscriptions, for each of them.
    ///
    /// # Errors
    /// As every call.
    pub async fn listed(&self, event: EventId, subscriptions: &[SubscriptionId]) -> Result<Vec<Option<ListedDelivery>>, StoreError> {
        if subscriptions.is_empty() {
            return Ok(Vec::new());
        }
        let sequence = event.sequence();
        let mut command = redis::cmd("HMGET");
        command.arg(self.shared.names.payout(event.payout()));
        for subscription in subscriptions {
            command.arg(format!("d:{subscription}:{sequence}")).arg(format!("q:{subscription}"));
        }
        let fields: Vec<Option<Vec<u8>>> = from_value(self.query(command).await?)?;
        let each = subscriptions.iter().zip(fields.chunks(2));
        each.map(|(subscription, fields)| match fields {
            [tried, queued] => listed(*subscription, sequence, tried.as_deref(), queued.as_deref()),
            _ => Ok(None),
        })
        .collect()
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
                let Waiting { told, looked_at: now, stopped } = self.told_with(entry.id, wanted, within, LOOKED_AT_MAX - looked_at).await?;
                for told in told {
                    if items.len() == limit {
                        return Ok((items, Some(Place::Entry { at_ms: entry.at_ms, id: entry.id, within })));
                    }
                    within = Some(told.event.id.sequence());
                    items.push(told);
                }
                looked_at += now;
                place = Some((entry.at_ms, entry.id, stopped.or(Some(u32::MAX))));
                if stopped.is_some() || looked_at >= LOOKED_AT_MAX {
                    return Ok((items, place.map(|(at_ms, id, within)| Place::Entry { at_ms, id, within })));
                }
            }
            if is_last {
                return Ok((items, None));
            }
            if items.len() >= limit {
                return Ok((items, place.map(|(at_ms, id, within)| Place::Entry { at_ms, id, within })));
            }
        }
    }

    /// The delivery of an entry and those that wait behind it, as far as they are wanted, behind the event `within`; `u32::MAX`: behind all of them.
    async fn told_with(&self, id: DeliveryId, wanted: &Wanted, within: Option<u32>, most: usize) -> Result<Waiting, StoreError> {
        if within == Some(u32::MAX) {
            return Ok(Waiting { looked_at: 1, ..Waiting::default() });
        }
        if id.event().payout() == PayoutId::of_bulletin(&wanted.party, wanted.mode, self.shared.shards) {
            return self.told_of_bulletin(id, wanted, within, most).await;
        }
        let mut found = Waiting { looked_at: 1, ..Waiting::default() };
        let Some(timeline) = self.readable_timeline(id.event().payout(), Some(id.subscription())).await? else { return Ok(found) };
        if timeline.payout.party != wanted.party || timeline.payout.mode != wanted.mode {
            return Ok(found);
        }
        let queue = timeline.queues.iter().find(|(subscription, _)| *subscription == id.subscription()).map(|(_, queue)| queue.clone());
        let told = waiting_with(id, queue, within).filter_map(|sequence| Told::of(&timeline, id.subscription(), sequence));
        found.told.extend(told.filter(|told| wanted.keeps(told)));
        Ok(found)
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

    /// As [`Store::timeline`], or [`Store::timeline_of`] a subscription, among others: what cannot be read is reported, left for a person, and counts as none.
    pub(super) async fn readable_timeline(&self, id: PayoutId, of: Option<SubscriptionId>) -> Result<Option<Timeline>, StoreError> {
        let read = match of {
            Some(subscription) => self.timeline_of(id, subscription).await,
            None => self.timeline(id).await,
        };
        match read {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                tracing::error!(payout.id = %id, %error, "a payout cannot be read and is left for a person");
                Ok(None)
            }
            read => read,
        }
    }
}

/// The event of an entry, and those that wait behind it in the queue of its subscription, behind the event `within`.
fn waiting_with(id: DeliveryId, queue: Option<Vec<u32>>, within: Option<u32>) -> impl Iterator<Item = u32> {
    let sequence = id.event().sequence();
    let queue = queue.filter(|queue| queue.first() == Some(&sequence)).unwrap_or_else(|| vec![sequence]);
    let done = within.and_then(|last| queue.iter().position(|sequence| *sequence == last)).map_or(0, |at| at + 1);
    queue.into_iter().skip(done)
}

/// The event of an entry of a lane.
pub(super) fn event_of(member: &str) -> Option<EventId> {
    let (payout, sequence) = member.split_once('/')?;
    Some(EventId::new(payout.parse().ok()?, sequence.parse().ok()?))
}

/// The delivery of an event to a subscription, by its fields: its record, which it has once it was tried, and what the subscription waits for.
fn listed(subscription: SubscriptionId, sequence: u32, tried: Option<&[u8]>, queued: Option<&[u8]>) -> Result<Option<ListedDelivery>, StoreError> {
    let delivery = tried.map(|tried| from_json("delivery", tried)).transpose()?;
    let is_queued = delivery.is_none() && queued.map(queue).transpose()?.is_some_and(|queue| queue.contains(&sequence));
    Ok((delivery.is_some() || is_queued).then_some(ListedDelivery { subscription, sequence, delivery }))
}

/// The first `limit` of these, and where the rest begins.
fn cut(items: Vec<(Position, Rows)>, next: Option<Position>, limit: usize) -> (Vec<Told>, Option<Place>) {
    let (mut kept, mut last) = (Vec::new(), None);
    for (position, Rows { rows, more }) in items {
        for (told, within) in rows {
            if kept.len() == limit {
                return (kept, last);
            }
            last = Some(Place::Payout(position, Some(within)));
            kept.push(told);
        }
        if let Some(more) = more {
            return (kept, Some(Place::Payout(position, Some(more))));
        }
    }
    (kept, next.map(|position| Place::Payout(position, None)))
}
