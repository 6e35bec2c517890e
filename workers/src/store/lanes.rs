//! Leasing: where due work leaves the store, and where it is given back.

use std::sync::Arc;
use std::time::Duration;

use domain::delivery::Delivery;
use domain::destination::Beneficiary;
use domain::fact::Provider;
use domain::id::{EventId, Mode, NoticeId, PayoutId, Shard, SubscriptionId};
use domain::payout::Payout;
use jiff::Timestamp;
use redis::Value;

use super::payouts::{self, RECORD, StoredEvent};
use super::slots::{PER_FREE, Slot, Slots};
use super::vault::VaultError;
use super::{Store, StoreError, circuits, from_json, from_value};
use crate::queue::{Batch, Source};

/// The fencing token of a lease: its end, in ms of the store's time. "The entry's score is my token" means "it is still mine".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub i64);

/// One lease of a flat lane.
#[derive(Clone, Debug)]
pub struct Ticket {
    pub id: String,
    pub token: Token,
}

/// A payout that is due for dispatch.
#[derive(Debug)]
pub struct ExecuteWork {
    pub payout: Payout,
    pub beneficiary: Beneficiary,
    /// Nobody was allowed to send it until then, if that ever was so.
    pub aside_until: Option<Timestamp>,
    /// The store may have forgotten what was done for it: its provider is asked first.
    pub is_suspect: bool,
    /// How often it was leased since its last commit: a guard against work that kills its worker.
    pub times_leased: u32,
}

/// A payout that is due for a question to its provider.
#[derive(Debug)]
pub struct PollWork {
    pub payout: Payout,
    pub times_leased: u32,
}

/// A notice that is due to be settled.
#[derive(Debug)]
pub struct SettleWork {
    pub id: NoticeId,
    /// What the verifier accepted, or why this worker cannot open it.
    pub body: Result<Vec<u8>, VaultError>,
    pub at: Timestamp,
    /// How often it had come, if it is a hint.
    pub times_told: u64,
    pub times_leased: u32,
}

/// A circuit that is to be looked at, because payouts wait for it.
#[derive(Clone, Copy, Debug)]
pub struct CircuitWork {
    pub shard: Shard,
    pub provider: Provider,
    pub mode: Mode,
}

/// A delivery that is due.
#[derive(Debug)]
pub struct RelayWork {
    pub subscription: SubscriptionId,
    /// `None` when the subscription is gone.
    pub subscription_version: Option<u64>,
    pub event: StoredEvent,
    /// What was tried so far.
    pub delivery: Option<Delivery>,
    pub times_leased: u32,
    /// The slot of its worker that it has until this is dropped.
    pub slot: Slot,
}

/// One lease of the relay's lanes.
#[derive(Clone, Debug)]
pub struct RelayTicket {
    pub subscription: SubscriptionId,
    pub event: EventId,
    pub token: Token,
    /// Of whose share its slot is.
    pub party: Arc<str>,
}

/// Due dispatches of one shard.
#[derive(Clone, Debug)]
pub struct ExecuteLane(pub Lane);

/// Due polls of one shard.
#[derive(Clone, Debug)]
pub struct PollLane(pub Lane);

/// Notices to settle, of one shard.
#[derive(Clone, Debug)]
pub struct SettleLane(pub Lane);

/// Circuits to look at, of one shard.
#[derive(Clone, Debug)]
pub struct CircuitLane(pub Lane);

/// Due deliveries of one shard, one lane per subscription.
#[derive(Clone, Debug)]
pub struct RelayLanes {
    pub lane: Lane,
    /// Deliveries under way per subscription, at most.
    pub per_subscription: usize,
    /// What is under way of this worker.
    pub(super) slots: Arc<Slots>,
}

/// A shard's work of one kind.
#[derive(Clone, Debug)]
pub struct Lane {
    pub store: Store,
    pub shard: Shard,
    pub lease: Duration,
}

/// An entry as the lease script returns it.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) token: Token,
    pub(super) times_leased: u32,
    pub(super) fields: Vec<Vec<u8>>,
    /// As [`Store::suspect_until`] tells it of a shard that is not frozen.
    pub(super) suspect_until: Timestamp,
}

// === impl Lane ===

impl Lane {
    pub(super) async fn lease_flat(
        &self,
        due: &str,
        record: &str,
        fields: &[&str],
        max: usize,
    ) -> Result<(Vec<Entry>, Option<Duration>), StoreError> {
        let names = &self.store.shared.names;
        let keys = [due, "clock", "look-first"].map(|what| names.of(self.shard, what));
        let answer = self
            .store
            .run(&self.store.shared.scripts.lease, &keys.each_ref().map(String::as_str), |command| {
                command.arg(max).arg(millis(self.lease)).arg(names.of(self.shard, record)).arg(fields);
            })
            .await?;
        let mut answer = items(answer)?.into_iter();
        let next_due_in = self.next_due(&mut answer)?;
        let suspect_until: String = from_value(answer.next().unwrap_or(Value::Nil))?;
        let suspect_until = suspect_until.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MIN);
        let entries = answer
            .map(|entry| {
                let (id, token, times_leased, fields) = match items(entry)?.as_slice() {
                    [id, token, times, fields @ ..] => (id.clone(), token.clone(), times.clone(), fields.to_vec()),
                    _ => return Err(StoreError::Corrupt("a lease without a token".to_owned())),
                };
                let fields = fields.into_iter().map(from_value).collect::<Result<_, _>>()?;
                Ok(Entry { id: from_value(id)?, token: Token(from_value(token)?), times_leased: from_value(times_leased)?, fields, suspect_until })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok((entries, next_due_in))
    }

    /// Reads `now` and the head of the index; takes over the store's time on the way.
    fn next_due(&self, answer: &mut impl Iterator<Item = Value>) -> Result<Option<Duration>, StoreError> {
        let now: i64 = from_value(answer.next().unwrap_or(Value::Nil))?;
        let head = answer.next().unwrap_or(Value::Nil);
        if matches!(&head, Value::BulkString(bytes) if bytes.is_empty()) {
            return Ok(None);
        }
        let head: i64 = from_value(head)?;
        Ok(Some(Duration::from_millis(u64::try_from(head.saturating_sub(now)).unwrap_or(0))))
    }

    pub(super) async fn give_back_flat(&self, due: &str, tickets: &[Ticket], wait: Duration) -> Result<(), StoreError> {
        let names = &self.store.shared.names;
        let (due, clock) = (names.of(self.shard, due), names.of(self.shard, "clock"));
        for tickets in tickets.chunks(500) {
            self.store
                .run(&self.store.shared.scripts.give_back, &[&due, &clock], |command| {
                    command.arg(millis(wait));
                    for ticket in tickets {
                        command.arg(&ticket.id).arg(ticket.token.0);
                    }
                })
                .await?;
        }
        Ok(())
    }
}

/// Keeps what can be read. An unreadable record is reported and stays leased, so that it cannot hold up the rest of its lane.
pub(super) fn readable<T, K>(entries: Vec<Entry>, read: impl Fn(Entry) -> Result<(T, K), StoreError>) -> Vec<(T, K)> {
    let read_or_report = |entry: Entry| {
        let id = entry.id.clone();
        read(entry).inspect_err(|error| tracing::error!(work.id = %id, %error, "work cannot be read and is left for a person")).ok()
    };
    entries.into_iter().filter_map(read_or_report).collect()
}

/// The payout of an entry whose fields begin with those of the record.
fn payout(fields: &[Vec<u8>]) -> Result<Payout, StoreError> {
    payouts::payout(field(fields, 0), String::from_utf8_lossy(field(fields, 1)).into_owned())
}

pub(super) fn field(fields: &[Vec<u8>], index: usize) -> &[u8] {
    fields.get(index).map_or(&[], Vec::as_slice)
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Source for ExecuteLane {
    type Item = ExecuteWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:execute", "po:", &["rec", "meta", "sec", "aside"], max).await?;
        let items = readable(entries, |entry| {
            let payout = payout(&entry.fields)?;
            let beneficiary = self.0.store.open_beneficiary(payout.id, field(&entry.fields, RECORD.len()))?;
            let aside_until = number(field(&entry.fields, RECORD.len() + 1)).and_then(|ms| Timestamp::from_millisecond(ms).ok());
            let is_suspect = entry.suspect_until > payout.requested_at();
            let work = ExecuteWork { payout, beneficiary, aside_until, is_suspect, times_leased: entry.times_leased };
            Ok((work, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:execute", &tickets, wait).await
    }
}

impl Source for PollLane {
    type Item = PollWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:poll", "po:", &RECORD, max).await?;
        let items = readable(entries, |entry| {
            let work = PollWork { payout: payout(&entry.fields)?, times_leased: entry.times_leased };
            Ok((work, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:poll", &tickets, wait).await
    }
}

impl Source for SettleLane {
    type Item = SettleWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:settle", "nt:", &["body", "at", "n"], max).await?;
        let items = readable(entries, |entry| {
            let id: NoticeId = entry.id.parse().map_err(|_| StoreError::Corrupt("a notice id".to_owned()))?;
            // One that cannot be opened is handed out all the same, so that it is put off, or aside in the end.
            let at = number(field(&entry.fields, 1)).and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
            let body = self.0.store.open_notice(id, field(&entry.fields, 0));
            let times_told = number(field(&entry.fields, 2)).unwrap_or(1);
            Ok((SettleWork { id, body, at, times_told, times_leased: entry.times_leased }, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:settle", &tickets, wait).await
    }
}

impl Source for CircuitLane {
    type Item = CircuitWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:circuit", "circuit:", &["l"], max).await?;
        let items = readable(entries, |entry| {
            let (provider, mode) = circuits::named(&entry.id).ok_or_else(|| StoreError::Corrupt("the name of a circuit".to_owned()))?;
            Ok((CircuitWork { shard: self.0.shard, provider, mode }, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:circuit", &tickets, wait).await
    }
}

impl RelayLanes {
    /// Of `concurrency`, the slots of the worker, a quarter is for subscriptions to which nothing gets through, or has yet. Half may be taken by what is handed over, which no
    /// failing one is; so there are always some for those that are well. Of both a party has no more than its share (`slots.rs`).
    #[must_use]
    pub fn new(lane: Lane, per_subscription: usize, concurrency: usize) -> Self {
        let wake = lane.store.wakes().relay.clone();
        Self { lane, per_subscription, slots: Slots::new(concurrency, (concurrency / 4).max(1), wake) }
    }
}

impl Source for RelayLanes {
    type Item = RelayWork;
    type Ticket = RelayTicket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let lane = &self.lane;
        let names = &lane.store.shared.names;
        let (lanes, clock) = (names.of(lane.shard, "lanes"), names.of(lane.shard, "clock"));
        let max = max.min(RELAY_BATCH_MAX);
        let free = self.slots.free().max(max);
        let (again, near) = (self.slots.with_room_again(max), self.slots.near_their_share(max, free));
        let answer = lane
            .store
            .run(&lane.store.shared.scripts.lease_relay, &[&lanes, &clock], |command| {
                command.arg(max).arg(millis(lane.lease)).arg(names.shard(lane.shard)).arg(self.per_subscription);
                command.arg(self.slots.tries_left()).arg(free).arg(PER_FREE).arg(again.len()).arg(&again);
                for (party, held) in &near {
                    command.arg(&**party).arg(held.slots).arg(held.tries);
                }
            })
            .await?;
        let mut answer = items(answer)?.into_iter();
        let next_due_in = lane.next_due(&mut answer)?;
        let passed_over: Vec<String> = from_value(answer.next().unwrap_or(Value::Nil))?;
        let items = answer.filter_map(|entry| leased_delivery(entry, &self.slots)).collect();
        self.slots.passed_over(passed_over);
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        let lane = &self.lane;
        let names = &lane.store.shared.names;
        let (lanes, clock) = (names.of(lane.shard, "lanes"), names.of(lane.shard, "clock"));
        for tickets in tickets.chunks(500) {
            lane.store
                .run(&lane.store.shared.scripts.give_back_relay, &[&lanes, &clock], |command| {
                    command.arg(millis(wait)).arg(names.shard(lane.shard));
                    for ticket in tickets {
                        command.arg(ticket.subscription.to_string()).arg(member(ticket.event)).arg(ticket.token.0);
                    }
                })
                .await?;
        }
        Ok(())
    }
}

/// Deliveries of one lease call, at most: a script can pass some thousand values to a command.
const RELAY_BATCH_MAX: usize = 1_000;

/// The name of a delivery within its subscription's lane.
pub(super) fn member(event: EventId) -> String {
    format!("{}/{}", event.payout(), event.sequence())
}

/// A delivery as a script returns it that has leased it. One that cannot be read is reported, and stays leased.
pub(super) fn leased_delivery(entry: Value, slots: &Arc<Slots>) -> Option<(RelayWork, RelayTicket)> {
    let read = || {
        type Leased = (String, String, String, i64, u32, Vec<u8>, Vec<u8>, String, u8, String);
        let (subscription, version, member, token, times_leased, event, delivery, metadata, is_try, party): Leased = from_value(entry)?;
        let corrupt = || StoreError::Corrupt(format!("delivery {member}"));
        let subscription: SubscriptionId = subscription.parse().map_err(|_| corrupt())?;
        let (payout, sequence) = member.split_once('/').ok_or_else(corrupt)?;
        let payout: PayoutId = payout.parse().map_err(|_| corrupt())?;
        let id = EventId::new(payout, sequence.parse().map_err(|_| corrupt())?);
        let party: Arc<str> = party.into();
        let work = RelayWork {
            subscription,
            subscription_version: version.parse().ok(),
            event: StoredEvent::read(id, &event, &metadata)?,
            delivery: if delivery.is_empty() { None } else { Some(from_json("delivery", &delivery)?) },
            times_leased,
            slot: slots.take(&party, is_try == 1),
        };
        Ok((work, RelayTicket { subscription, event: id, token: Token(token), party }))
    };
    read().inspect_err(|error: &StoreError| tracing::error!(%error, "a delivery cannot be read and is left for a person")).ok()
}

fn items(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(StoreError::Corrupt("an answer that is no list".to_owned())),
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
