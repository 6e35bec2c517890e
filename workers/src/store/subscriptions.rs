//! Subscriptions and their deliveries.

use domain::delivery::{Decision, Delivery};
use domain::id::{EventId, Mode, PartyId, SubscriptionId};
use domain::subscription::{Secrets, Status, Subscription};

use super::handover::Room;
use super::lanes::{RelayTicket, leased_delivery, member};
use super::payouts::{answer_of, unknown_answer};
use super::{Store, StoreError, from_json, from_value, to_json};
use redis::Value;

/// Subscriptions of one party and mode, at most: what one commit can serve by itself.
pub const SUBSCRIPTIONS_MAX: usize = 16;

/// How a write of a subscription went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Done,
    /// Somebody else wrote first: load and decide again.
    Stale,
    Missing,
    /// The party has [`SUBSCRIPTIONS_MAX`] already.
    Full,
}

/// Whether the record of a try was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// Written. `more` says that the lane has another delivery due now.
    Done { more: bool },
    /// The lease has gone to somebody else, who will send again with the same id.
    LeaseLost,
}

/// A delivery that was given up.
#[derive(Clone, Copy, Debug)]
pub struct Abandoned {
    pub subscription: SubscriptionId,
    pub event: EventId,
    pub at_ms: i64,
}

impl Store {
    /// Writes a subscription, decided on the version before `subscription.version`; with `secrets`, those too.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn subscribe(&self, subscription: &Subscription, secrets: Option<&Secrets>) -> Result<Subscribed, StoreError> {
        let sealed = secrets.map(|secrets| self.shared.vault.seal(&owner(subscription.id), to_json(secrets).as_bytes()));
        self.write_subscription(subscription, sealed.as_deref().unwrap_or_default(), false).await
    }

    /// Removes a subscription. Its open deliveries are abandoned when their turn comes.
    ///
    /// # Errors
    /// As every call. A repeat answers [`Subscribed::Missing`].
    pub async fn unsubscribe(&self, subscription: &Subscription) -> Result<Subscribed, StoreError> {
        let mut next = subscription.clone();
        next.version = next.version.saturating_add(1);
        self.write_subscription(&next, &[], true).await
    }

    async fn write_subscription(&self, subscription: &Subscription, sealed: &[u8], delete: bool) -> Result<Subscribed, StoreError> {
        let names = &self.shared.names;
        let shard = subscription.id.shard();
        let keys = [
            names.subscription(subscription.id),
            names.party(shard, "subs", &subscription.party, subscription.mode),
            names.party(shard, "sublist", &subscription.party, subscription.mode),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let filter = match subscription.status {
            Status::Enabled => subscription.event_types.to_filter(),
            Status::Disabled { .. } => String::new(),
        };
        let answer = self
            .run(&self.shared.scripts.subscribe, &keys, |command| {
                command.arg(subscription.version.saturating_sub(1)).arg(subscription.version).arg(to_json(subscription)).arg(sealed).arg(filter);
                command.arg(subscription.id.to_string()).arg(SUBSCRIPTIONS_MAX).arg(if delete { "1" } else { "0" });
                command.arg(super::payouts::random_token());
            })
            .await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(Subscribed::Done),
            "stale" => Ok(Subscribed::Stale),
            "missing" => Ok(Subscribed::Missing),
            "full" => Ok(Subscribed::Full),
            other => Err(unknown_answer(other)),
        }
    }

    /// A subscription with its secrets, if there is one.
    ///
    /// # Errors
    /// As every call.
    pub async fn subscription(&self, id: SubscriptionId) -> Result<Option<(Subscription, Secrets)>, StoreError> {
        let command = redis::cmd("HMGET").arg(self.shared.names.subscription(id)).arg("rec").arg("sec").to_owned();
        let (record, sealed): (Option<Vec<u8>>, Option<Vec<u8>>) = from_value(self.query(command).await?)?;
        let (Some(record), Some(sealed)) = (record, sealed) else { return Ok(None) };
        let secrets = self.shared.vault.open(&owner(id), &sealed)?;
        Ok(Some((from_json("subscription", &record)?, from_json("secrets", &secrets)?)))
    }

    /// All subscriptions of a party and mode, oldest first. At most [`SUBSCRIPTIONS_MAX`].
    ///
    /// # Errors
    /// As every call.
    pub async fn subscriptions(&self, party: &PartyId, mode: Mode) -> Result<Vec<Subscription>, StoreError> {
        let key = self.shared.names.party(self.shared.shards.of(party, mode), "sublist", party, mode);
        let ids: Vec<String> = from_value(self.query(redis::cmd("SMEMBERS").arg(key).to_owned()).await?)?;
        let ids = ids.iter().filter_map(|id| id.parse().ok());
        let found = futures_util::future::try_join_all(ids.map(|id| self.subscription(id))).await?;
        let mut found: Vec<Subscription> = found.into_iter().flatten().map(|(subscription, _)| subscription).collect();
        found.sort_by_key(|subscription| (subscription.created_at, subscription.id));
        Ok(found)
    }

    /// Records a try of a delivery, acknowledges its work, and lets the payout's next event into the lane if this one has ended.
    ///
    /// # Errors
    /// As every call. A repeat answers [`Relayed::LeaseLost`] and changes nothing.
    pub async fn relayed(&self, ticket: &RelayTicket, delivery: &Delivery, decision: Decision) -> Result<Relayed, StoreError> {
        let names = &self.shared.names;
        let payout = ticket.event.payout();
        let shard = payout.shard();
        let subscription = ticket.subscription.to_string();
        let keys = [
            names.of(shard, "lanes"),
            names.payout(payout),
            names.of(shard, &format!("wait:{subscription}")),
            names.of(shard, &format!("fly:{subscription}")),
            names.of(shard, "abandoned"),
            names.of(shard, "clock"),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (word, due) = match decision {
            Decision::Delivered => ("d", 0),
            Decision::RetryAt(at) => ("r", at.as_millisecond()),
            Decision::Abandon => ("a", 0),
        };
        let taker = self.taker(shard);
        let room = taker.as_ref().and_then(|taker| taker.room_for_one());
        let answer = self
            .run(&self.shared.scripts.relayed, &keys, |command| {
                command.arg(&subscription).arg(member(ticket.event)).arg(ticket.token.0).arg(ticket.event.sequence());
                command.arg(to_json(delivery)).arg(word).arg(due).arg(payout.to_string());
                command.arg(room.as_ref().map_or(0, Room::size)).arg(taker.as_ref().map_or(0, |taker| taker.lease_ms)).arg(names.shard(shard));
                command.arg(taker.as_ref().map_or(0, |taker| taker.per_subscription));
            })
            .await?;
        match answer_of(&answer)? {
            "committed" => {
                let Value::Array(parts) = answer else { return Err(unknown_answer("committed")) };
                let mut parts = parts.into_iter().skip(1);
                let more: u8 = from_value(parts.next().unwrap_or(Value::Nil))?;
                if let Some(room) = room {
                    room.fill(parts.filter_map(leased_delivery).collect());
                }
                Ok(Relayed::Done { more: more == 1 })
            }
            "lost" => Ok(Relayed::LeaseLost),
            other => Err(unknown_answer(other)),
        }
    }

    /// The deliveries that were given up, newest first, at most `limit`.
    ///
    /// # Errors
    /// As every call.
    pub async fn abandoned(&self, limit: usize) -> Result<Vec<Abandoned>, StoreError> {
        let mut found = Vec::new();
        for shard in self.shared.shards.all() {
            let key = self.shared.names.of(shard, "abandoned");
            let command = redis::cmd("ZREVRANGE").arg(key).arg(0).arg(limit.saturating_sub(1)).arg("WITHSCORES").to_owned();
            let entries: Vec<(String, f64)> = from_value(self.query(command).await?)?;
            for (entry, at) in entries {
                let mut parts = entry.splitn(3, '/');
                let (Some(subscription), Some(payout), Some(sequence)) = (parts.next(), parts.next(), parts.next()) else { continue };
                let (Ok(subscription), Ok(payout), Ok(sequence)) = (subscription.parse(), payout.parse(), sequence.parse()) else { continue };
                #[expect(clippy::cast_possible_truncation, reason = "scores are whole milliseconds, far below 2^53")]
                found.push(Abandoned { subscription, event: EventId::new(payout, sequence), at_ms: at as i64 });
            }
        }
        found.sort_by_key(|abandoned| std::cmp::Reverse(abandoned.at_ms));
        found.truncate(limit);
        Ok(found)
    }
}

fn owner(id: SubscriptionId) -> String {
    format!("{id}/secrets")
}
