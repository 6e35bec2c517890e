//! Replays in the store: their records and work, and the pages of what they go through, oldest first.

use std::time::Duration;

use domain::delivery::Delivery;
use domain::id::{DeliveryId, EventId, Mode, PartyId, PayoutId, ReplayId, Shard, SubscriptionId};
use jiff::Timestamp;
use redis::Value;

use super::deliveries::{Found, event_of};
use super::lanes::{Lane, Ticket, field, millis, readable};
use super::payouts::{Timeline, answer_of, unknown_answer};
use super::{Store, StoreError, from_json, from_value, to_json};
use crate::queue::{Batch, Source};
use crate::replay::{Place, Replay, Spec, Walk};

/// Replays of a subscription that are listed, at most.
const LISTED: usize = 100;

/// A replay with work to do.
#[derive(Debug)]
pub struct ReplayWork {
    pub replay: Replay,
    pub version: u64,
}

/// Replays of one shard.
#[derive(Clone, Debug)]
pub struct ReplayLane(pub Lane);

/// How the beginning of a replay went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    Done,
    /// This one of the subscription is under way.
    Busy(ReplayId),
    /// There is no such subscription.
    Missing,
}

/// How a write of a replay went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Somebody else wrote first: load and decide again.
    Stale,
    Missing,
}

/// A delivery to be made once more: how it was seen, if it was ever tried, and how it is to be.
#[derive(Clone, Debug)]
pub struct Again {
    pub sequence: u32,
    pub seen: Option<Delivery>,
    pub next: Delivery,
}

impl Source for ReplayLane {
    type Item = ReplayWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:replay", "rp:", &["rec", "v"], max).await?;
        let items = readable(entries, |entry| {
            let version = std::str::from_utf8(field(&entry.fields, 1)).ok().and_then(|version| version.parse().ok());
            let version = version.ok_or_else(|| StoreError::Corrupt("the version of a replay".to_owned()))?;
            let replay = from_json("replay", field(&entry.fields, 0))?;
            Ok((ReplayWork { replay, version }, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:replay", &tickets, wait).await
    }
}

impl Store {
    /// Begins a replay, if no other one of its subscription is under way.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn begin_replay(&self, replay: &Replay) -> Result<Begun, StoreError> {
        let (names, shard, subscription) = (&self.shared.names, replay.id.shard(), replay.spec.subscription);
        let keys = [
            self.replay_key(replay.id),
            names.of(shard, "due:replay"),
            names.subscription(subscription),
            names.of(shard, &format!("replays:{subscription}")),
            names.of(shard, "clock"),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.replay_begin, &keys, |command| {
                command.arg(replay.id.to_string()).arg(to_json(replay)).arg(names.of(shard, "wake"));
            })
            .await?;
        match answer_of(&answer)? {
            "done" => Ok(Begun::Done),
            "missing" => Ok(Begun::Missing),
            "busy" => {
                let (_, other): (String, String) = from_value(answer)?;
                Ok(Begun::Busy(other.parse().map_err(|_| unknown_answer("busy"))?))
            }
            other => Err(unknown_answer(other)),
        }
    }

    /// Writes how far a replay has come, decided on `version`: it goes on after a wait, or has ended.
    ///
    /// # Errors
    /// As every call. A repeat of one that was applied answers [`Written::Stale`].
    pub async fn write_replay(&self, replay: &Replay, version: u64, goes_on_in: Option<Duration>) -> Result<Written, StoreError> {
        let (names, shard) = (&self.shared.names, replay.id.shard());
        let keys = [
            self.replay_key(replay.id),
            names.of(shard, "due:replay"),
            names.subscription(replay.spec.subscription),
            names.of(shard, "replays-ended"),
            names.of(shard, "clock"),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.replay_write, &keys, |command| {
                command.arg(replay.id.to_string()).arg(version).arg(to_json(replay));
                command.arg(goes_on_in.map_or_else(String::new, |wait| millis(wait).to_string()));
            })
            .await?;
        match answer_of(&answer)? {
            "committed" => Ok(Written::Done),
            "stale" => Ok(Written::Stale),
            "missing" => Ok(Written::Missing),
            other => Err(unknown_answer(other)),
        }
    }

    /// A replay and its version, if there is one.
    ///
    /// # Errors
    /// As every call.
    pub async fn replay(&self, id: ReplayId) -> Result<Option<(Replay, u64)>, StoreError> {
        let (record, version): (Option<Vec<u8>>, Option<u64>) =
            from_value(self.query(redis::cmd("HMGET").arg(self.replay_key(id)).arg("rec").arg("v").to_owned()).await?)?;
        let (Some(record), Some(version)) = (record, version) else { return Ok(None) };
        Ok(Some((from_json("replay", &record)?, version)))
    }

    /// The latest replays of a subscription, newest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn replays(&self, subscription: SubscriptionId) -> Result<Vec<Replay>, StoreError> {
        let key = self.shared.names.of(subscription.shard(), &format!("replays:{subscription}"));
        let ids: Vec<String> = from_value(self.query(redis::cmd("ZREVRANGE").arg(key).arg(0).arg(LISTED - 1).to_owned()).await?)?;
        let found = futures_util::future::try_join_all(ids.iter().filter_map(|id| id.parse().ok()).map(|id| self.replay(id))).await?;
        Ok(found.into_iter().flatten().map(|(replay, _)| replay).collect())
    }

    /// The next payouts that a replay goes through, oldest first, each with the place behind it. Fewer than `page`: there are no more.
    ///
    /// # Errors
    /// As every call.
    pub async fn replay_page(&self, spec: &Spec, after: Option<&Place>, page: usize) -> Result<Vec<(Place, PayoutId)>, StoreError> {
        let (key, first, last) = self.walk_of(spec);
        let first = after.map_or(first, |place| place.at_ms);
        let (mut found, mut offset) = (Vec::new(), 0);
        while found.len() < page {
            let mut command = redis::cmd("ZRANGEBYSCORE");
            command.arg(&key).arg(bound(first)).arg(bound(last)).arg("WITHSCORES").arg("LIMIT").arg(offset).arg(page);
            let chunk: Vec<(String, f64)> = from_value(self.query(command).await?)?;
            let got = chunk.len();
            offset += got;
            for (member, at) in chunk {
                #[expect(clippy::cast_possible_truncation, reason = "scores are whole milliseconds, far below 2^53")]
                let place = Place { at_ms: at as i64, member };
                let payout = event_of(&place.member).map(EventId::payout).or_else(|| place.member.parse().ok());
                if let Some(payout) = payout
                    && after.is_none_or(|after| place > *after)
                    && found.len() < page
                {
                    found.push((place, payout));
                }
            }
            if got < page {
                break;
            }
        }
        Ok(found)
    }

    /// How much there is behind a place for a replay to go through: payouts, or deliveries that were given up. What stands in the same millisecond as the place is not counted.
    ///
    /// # Errors
    /// As every call.
    pub async fn replay_left(&self, spec: &Spec, after: Option<&Place>) -> Result<u64, StoreError> {
        let (key, first, last) = self.walk_of(spec);
        let first = after.map_or_else(|| bound(first), |place| format!("({}", place.at_ms));
        from_value(self.query(redis::cmd("ZCOUNT").arg(key).arg(first).arg(bound(last)).to_owned()).await?)
    }

    /// What a replay goes through, and between which times.
    fn walk_of(&self, spec: &Spec) -> (String, i64, i64) {
        let shard = spec.subscription.shard();
        match spec.walk() {
            Walk::Payouts { from, to } => (self.shared.names.party(shard, "list", &spec.party, spec.mode), from, to),
            Walk::Abandoned => (self.shared.names.of(shard, &format!("abandoned:{}", spec.subscription)), i64::MIN, i64::MAX),
        }
    }

    /// The deliveries that a replay makes once more at a place of its walk, in their order: those of a payout, or one of a bulletin. A payout that cannot be read is reported, and
    /// has none.
    ///
    /// # Errors
    /// As every call.
    pub async fn replay_picks(&self, spec: &Spec, place: &Place, id: PayoutId, now: Timestamp) -> Result<Vec<Again>, StoreError> {
        if id == PayoutId::of_bulletin(&spec.party, spec.mode, self.shared.shards) {
            let Some(event) = event_of(&place.member) else { return Ok(Vec::new()) };
            let found = self.event_for(DeliveryId::new(event, spec.subscription)).await?;
            let again = found.and_then(|Found { told, is_listed, .. }| spec.pick(&told.event, is_listed, told.delivery.as_ref(), now));
            return Ok(again.into_iter().collect());
        }
        let found = self.readable_timeline(id, Some(spec.subscription)).await?;
        let own = found.filter(|timeline| timeline.payout.party == spec.party && timeline.payout.mode == spec.mode);
        Ok(own.map(|timeline| spec.picks(&timeline, now)).unwrap_or_default())
    }

    /// Makes deliveries of one payout, or of one bulletin, due once more, in their order. Says of how many that is so; what is under way, has changed, or is still to come by the fan-out of the
    /// party (`party` and `mode` are the subscription's) is passed over.
    ///
    /// # Errors
    /// As every call. A repeat makes nothing twice.
    pub async fn deliver_again(
        &self,
        (party, mode): (&PartyId, Mode),
        subscription: SubscriptionId,
        payout: PayoutId,
        ordered: bool,
        again: &[Again],
    ) -> Result<u64, StoreError> {
        let keys = self.redelivery_keys((party, mode), payout, subscription);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer: Value = self
            .run(&self.shared.scripts.replay_payout, &keys, |command| {
                command.arg(payout.to_string()).arg(subscription.to_string()).arg(self.shared.names.of(payout.shard(), "wake"));
                command.arg(u8::from(!ordered));
                for Again { sequence, seen, next } in again {
                    command.arg(*sequence).arg(seen.as_ref().map(to_json).unwrap_or_default()).arg(to_json(next));
                }
            })
            .await?;
        from_value(answer)
    }

    /// Forgets replays that ended longer ago than `kept`, a page of them. Says how many.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_replays(&self, shard: Shard, kept: Duration, page: usize) -> Result<u64, StoreError> {
        let names = &self.shared.names;
        let ended = names.of(shard, "replays-ended");
        let before = self.clock().now().as_millisecond().saturating_sub_unsigned(millis(kept));
        let command = redis::cmd("ZRANGEBYSCORE").arg(&ended).arg("-inf").arg(before).arg("LIMIT").arg(0).arg(page).to_owned();
        let ids: Vec<String> = from_value(self.query(command).await?)?;
        for text in &ids {
            if let Ok(id) = text.parse::<ReplayId>() {
                if let Some((replay, _)) = self.replay(id).await? {
                    let listed = names.of(shard, &format!("replays:{}", replay.spec.subscription));
                    self.query(redis::cmd("ZREM").arg(listed).arg(text).to_owned()).await?;
                }
                self.query(redis::cmd("DEL").arg(self.replay_key(id)).to_owned()).await?;
            }
            // Last, so that whoever dies before is followed by somebody who finds it again.
            self.query(redis::cmd("ZREM").arg(&ended).arg(text).to_owned()).await?;
        }
        Ok(ids.len() as u64)
    }

    fn replay_key(&self, id: ReplayId) -> String {
        self.shared.names.of(id.shard(), &format!("rp:{id}"))
    }

    /// What the scripts that deliver once more look at.
    pub(super) fn redelivery_keys(&self, (party, mode): (&PartyId, Mode), payout: PayoutId, subscription: SubscriptionId) -> [String; 9] {
        let names = &self.shared.names;
        let fan_out = SubscriptionId::of_fan_out(party, mode, self.shared.shards);
        let shard = payout.shard();
        let prefix = names.shard(shard);
        [
            names.payout(payout),
            format!("{prefix}wait:{subscription}"),
            format!("{prefix}fly:{subscription}"),
            names.of(shard, "lanes"),
            names.of(shard, "clock"),
            names.subscription(subscription),
            names.of(shard, "abandoned"),
            format!("{prefix}abandoned:{subscription}"),
            format!("{prefix}more:{fan_out}"),
        ]
    }
}

impl Timeline {
    /// The delivery of an event to a subscription, once it was tried.
    #[must_use]
    pub fn delivery(&self, id: DeliveryId) -> Option<&super::payouts::ListedDelivery> {
        let wanted = (id.event().sequence(), id.subscription());
        let at = self.deliveries.binary_search_by_key(&wanted, |listed| (listed.sequence, listed.subscription)).ok()?;
        self.deliveries.get(at)
    }
}

/// A time as the bound of a range, in ms.
fn bound(ms: i64) -> String {
    match ms {
        i64::MIN => "-inf".to_owned(),
        i64::MAX => "+inf".to_owned(),
        ms => ms.to_string(),
    }
}
