//! Subscriptions and their deliveries.

use std::fmt::Write as _;
use std::sync::atomic::Ordering::Relaxed;

use domain::delivery::{Decision, Delivery};
use domain::id::{EventId, Mode, PartyId, Shard, SubscriptionId};
use domain::subscription::{Payload, Secrets, Status, Subscription};
use jiff::Timestamp;

use super::bulletins::{Notice, Numbered};
use super::lanes::{RelayTicket, leased_delivery, member};
use super::payouts::{answer_of, unknown_answer};
use super::together::Asked;
use super::{COMMAND_PARTS, RECORD_BYTES, Store, StoreError, from_json, from_value, to_json};
use redis::Value;

/// Subscriptions of one party and mode, at most, unless [`Store::subscriptions_at_most`] says otherwise.
pub(super) const MAX: usize = 10_000;
/// Subscriptions of one party and mode that commits match, at most: what one commit can serve by itself. The others stand behind the fan-out.
const MATCHED_MAX: usize = 16;

/// For how long it is known that a subscription was removed: 30 days, in seconds.
const DELETED_KEPT_S: u32 = 30 * 86_400;

/// What is written of a subscription.
#[derive(Clone, Copy)]
enum Write {
    Change,
    Afresh,
    Delete,
}

/// How a write of a subscription went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribed {
    Done,
    /// Somebody else wrote first: load and decide again.
    Stale,
    Missing,
    /// The party has as many as it may.
    Full,
}

/// Whether the record of a try was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relayed {
    /// Written. `more` says that the lane has another delivery due now, `failing_since` since when nothing has got through to the subscriber.
    Done { more: bool, failing_since: Option<Timestamp> },
    /// The lease has gone to somebody else, who will send again with the same id.
    LeaseLost,
}

/// What a failed try means for its subscription as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Failures in a row, after its share has shrunk to one delivery at a time, from which on it is held back.
    pub failures: u32,
    /// How long it is held back the first time; each further failure doubles that.
    pub wait_first_ms: u64,
    pub wait_cap_ms: u64,
    /// Until when the subscriber itself wants to be left alone.
    pub asked: Option<Timestamp>,
}

/// That nothing has got through to a subscriber for a while, only one delivery at a time having been tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    pub since: Timestamp,
    pub failures: u32,
}

/// How a subscription is doing, beside what its record says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub failing: Option<Failing>,
    /// Nothing is sent until then: it has failed too often, or has asked to be left alone.
    pub held_until: Option<Timestamp>,
    /// Deliveries that wait for their time or for their turn, those of which an earlier event of the payout is first not counted.
    pub waiting: u64,
    /// Deliveries under way.
    pub in_flight: u64,
}

/// How asking for a delivery went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivered {
    Due,
    /// It is being tried at this moment.
    UnderWay,
    /// It has not begun: an earlier event of its payout comes first.
    Queued,
    /// The fan-out of the party has not come by this subscription yet: it comes in its turn, if it is wanted.
    Coming,
    /// It is not as it was seen any more: read, decide again.
    Stale,
    /// There is no such event, or no such subscription.
    Missing,
}

/// The try of a delivery, on its way to the store.
pub(super) struct Try {
    ticket: RelayTicket,
    delivery: String,
    outcome: &'static str,
    trouble: String,
    takes: bool,
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
        self.write_subscription(subscription, sealed.as_deref().unwrap_or_default(), Write::Change, None).await
    }

    /// As [`Store::subscribe`], and whatever went wrong before is forgotten: it is not held back any more, and begins with a new one's share.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn begin_afresh(&self, subscription: &Subscription, secrets: Option<&Secrets>) -> Result<Subscribed, StoreError> {
        let sealed = secrets.map(|secrets| self.shared.vault.seal(&owner(subscription.id), to_json(secrets).as_bytes()));
        self.write_subscription(subscription, sealed.as_deref().unwrap_or_default(), Write::Afresh, None).await
    }

    /// As [`Store::begin_afresh`], and the party's other subscriptions that ask for it are told, in the same step.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn begin_afresh_telling(
        &self,
        subscription: &Subscription,
        secrets: Option<&Secrets>,
        notice: Notice<'_>,
    ) -> Result<Subscribed, StoreError> {
        let sealed = secrets.map(|secrets| self.shared.vault.seal(&owner(subscription.id), to_json(secrets).as_bytes()));
        self.write_subscription(subscription, sealed.as_deref().unwrap_or_default(), Write::Afresh, Some(notice)).await
    }

    /// Removes a subscription. Its open deliveries are abandoned when their turn comes. Whether one with snapshots was there is known for 30 days.
    ///
    /// # Errors
    /// As every call. A repeat answers [`Subscribed::Missing`].
    pub async fn unsubscribe(&self, subscription: &Subscription) -> Result<Subscribed, StoreError> {
        if subscription.payload == Payload::Snapshot {
            // Before it goes, so that no crash in between loses it: nobody asks while it is there.
            let owner = to_json(&(&subscription.party, subscription.mode));
            self.query(redis::cmd("SET").arg(self.deleted_key(subscription.id)).arg(owner).arg("EX").arg(DELETED_KEPT_S).to_owned()).await?;
        }
        let mut next = subscription.clone();
        next.version = next.version.saturating_add(1);
        self.write_subscription(&next, &[], Write::Delete, None).await
    }

    /// Whose subscription with snapshots that was, if it was removed in the last 30 days. Says nothing of one that is there.
    ///
    /// # Errors
    /// As every call.
    pub async fn deleted_subscription(&self, id: SubscriptionId) -> Result<Option<(PartyId, Mode)>, StoreError> {
        let owner: Option<Vec<u8>> = from_value(self.query(redis::cmd("GET").arg(self.deleted_key(id)).to_owned()).await?)?;
        owner.map(|owner| from_json("deleted subscription", &owner)).transpose()
    }

    fn deleted_key(&self, id: SubscriptionId) -> String {
        self.shared.names.of(id.shard(), &format!("deleted:{id}"))
    }

    async fn write_subscription(
        &self,
        subscription: &Subscription,
        sealed: &[u8],
        write: Write,
        notice: Option<Notice<'_>>,
    ) -> Result<Subscribed, StoreError> {
        for _ in 0..Numbered::TRIES {
            let told = match notice {
                Some(notice) => Some((notice, self.numbered(&subscription.party, subscription.mode, notice.news).await?)),
                None => None,
            };
            if let Some(written) = self.write_subscription_once(subscription, sealed, write, told).await? {
                return Ok(written);
            }
        }
        Err(StoreError::Unavailable(None))
    }

    /// `None`: another event of the bulletin came first.
    async fn write_subscription_once(
        &self,
        subscription: &Subscription,
        sealed: &[u8],
        write: Write,
        told: Option<(Notice<'_>, Numbered)>,
    ) -> Result<Option<Subscribed>, StoreError> {
        let names = &self.shared.names;
        let shard = subscription.id.shard();
        let fan_out = SubscriptionId::of_fan_out(&subscription.party, subscription.mode, self.shared.shards);
        let keys = [
            names.subscription(subscription.id),
            names.party(shard, "subs", &subscription.party, subscription.mode),
            names.party(shard, "sublist", &subscription.party, subscription.mode),
            names.of(shard, "lanes"),
            [names.shard(shard), "wait:", &subscription.id.to_string()].concat(),
            names.of(shard, "clock"),
            names.of(shard, &format!("more:{fan_out}")),
            names.party(shard, "made", &subscription.party, subscription.mode),
            names.subscription(fan_out),
        ];
        let bulletin = told.as_ref().map(|(_, numbered)| names.payout(numbered.bulletin));
        let keys: Vec<&str> = keys.iter().chain(&bulletin).map(String::as_str).collect();
        let disabled = matches!(subscription.status, Status::Disabled { .. });
        // What is left of one that is disabled is given up without delay.
        let limit = |limit: Option<u16>| limit.filter(|_| !disabled).map(|limit| limit.to_string()).unwrap_or_default();
        let answer = self
            .run(&self.shared.scripts.subscribe, &keys, |command| {
                command.arg(subscription.version.saturating_sub(1)).arg(subscription.version).arg(to_json(subscription)).arg(sealed);
                command.arg(subscription.filter()).arg(subscription.id.to_string()).arg(self.shared.subscriptions_max.load(Relaxed));
                command.arg(u8::from(matches!(write, Write::Delete))).arg(super::payouts::random_token());
                command.arg(u8::from(matches!(subscription.status, Status::Paused { .. } | Status::Pending { .. })));
                command.arg(limit(subscription.max_in_flight)).arg(limit(subscription.rate_per_s));
                command.arg(u8::from(disabled || matches!(write, Write::Afresh))).arg(names.of(shard, "wake"));
                command.arg(MATCHED_MAX).arg(fan_out.to_string());
                let Some((notice, Numbered { bulletin, sequence, text })) = &told else { return };
                command.arg(names.shard(shard)).arg(bulletin.to_string()).arg(sequence).arg(notice.news.kind()).arg(text).arg(Numbered::KEPT);
                match notice.farewell {
                    Some((left, secrets)) => {
                        let sealed = self.shared.vault.seal(&owner(left.id), to_json(secrets).as_bytes());
                        command.arg(left.id.to_string()).arg(to_json(left)).arg(sealed);
                    }
                    None => _ = command.arg("").arg("").arg(""),
                }
            })
            .await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(Some(Subscribed::Done)),
            "stale" => Ok(Some(Subscribed::Stale)),
            "missing" => Ok(Some(Subscribed::Missing)),
            "full" => Ok(Some(Subscribed::Full)),
            "moved" => Ok(None),
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

    /// How a subscription is doing. For one that is not there: as if it were new.
    ///
    /// # Errors
    /// As every call.
    pub async fn standing(&self, id: SubscriptionId) -> Result<Standing, StoreError> {
        let shard = self.shared.names.shard(id.shard());
        let (wait, fly) = (format!("{shard}wait:{id}"), format!("{shard}fly:{id}"));
        let fields = redis::cmd("HMGET").arg(self.shared.names.subscription(id)).arg(&["since", "fails", "until"]).to_owned();
        let count = |key| self.query(redis::cmd("ZCARD").arg(key).to_owned());
        let (fields, waiting, in_flight) = futures_util::try_join!(self.query(fields), count(wait), count(fly))?;
        let (since, failures, until): (Option<i64>, Option<u32>, Option<f64>) = from_value(fields)?;
        let at = |ms| Timestamp::from_millisecond(ms).ok();
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds, far below 2^53")]
        let held_until = until.and_then(|ms| at(ms as i64)).filter(|until| *until > self.clock().now());
        let failing = since.and_then(at).map(|since| Failing { since, failures: failures.unwrap_or(0) });
        Ok(Standing { failing, held_until, waiting: from_value(waiting)?, in_flight: from_value(in_flight)? })
    }

    /// Notes that somebody was warned that a subscription has been failing for so many hours; `false` if that was noted before. Forgotten once it recovers.
    ///
    /// # Errors
    /// As every call. After one, somebody may be warned twice.
    pub async fn note_warning(&self, id: SubscriptionId, hours: u32) -> Result<bool, StoreError> {
        let key = self.shared.names.subscription(id);
        let (version, warned): (Option<u64>, Option<u32>) =
            from_value(self.query(redis::cmd("HMGET").arg(&key).arg("v").arg("warned").to_owned()).await?)?;
        if version.is_none() || warned.is_some_and(|warned| warned >= hours) {
            return Ok(false);
        }
        self.query(redis::cmd("HSET").arg(&key).arg("warned").arg(hours).to_owned()).await?;
        Ok(true)
    }

    /// A page of a party's subscriptions with their secrets, oldest first, behind the place `after`, and the place of the last one where there are more.
    ///
    /// # Errors
    /// As every call.
    pub async fn subscriptions(
        &self,
        party: &PartyId,
        mode: Mode,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<(Subscription, Secrets)>, Option<u64>), StoreError> {
        self.page_of_subscriptions(self.subscribers(party, mode, after.unwrap_or(0), limit.saturating_add(1)).await?, limit).await
    }

    /// The same, newest first, before the place `before`.
    ///
    /// # Errors
    /// As every call.
    pub async fn subscriptions_before(
        &self,
        party: &PartyId,
        mode: Mode,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<(Subscription, Secrets)>, Option<u64>), StoreError> {
        let first = before.map_or_else(|| "+inf".to_owned(), |before| format!("({before}"));
        self.page_of_subscriptions(self.places("ZREVRANGEBYSCORE", party, mode, (&first, "-inf"), limit.saturating_add(1)).await?, limit).await
    }

    /// The first `limit` of these, and the place of the last one where there are more.
    async fn page_of_subscriptions(
        &self,
        mut places: Vec<(SubscriptionId, u64)>,
        limit: usize,
    ) -> Result<(Vec<(Subscription, Secrets)>, Option<u64>), StoreError> {
        let is_last = places.len() <= limit;
        places.truncate(limit);
        let next = if is_last { None } else { places.last().map(|(_, place)| *place) };
        let found = futures_util::future::try_join_all(places.into_iter().map(|(id, _)| self.subscription(id))).await?;
        Ok((found.into_iter().flatten().collect(), next))
    }

    /// The subscriptions of a party behind a place in its list, oldest first, at most `limit`, each with its own place.
    pub(super) async fn subscribers(&self, party: &PartyId, mode: Mode, behind: u64, limit: usize) -> Result<Vec<(SubscriptionId, u64)>, StoreError> {
        self.places("ZRANGEBYSCORE", party, mode, (&format!("({behind}"), "+inf"), limit).await
    }

    async fn places(
        &self,
        command: &str,
        party: &PartyId,
        mode: Mode,
        (first, last): (&str, &str),
        limit: usize,
    ) -> Result<Vec<(SubscriptionId, u64)>, StoreError> {
        let mut command = redis::cmd(command);
        command.arg(self.subscription_list(party, mode)).arg(first).arg(last).arg("WITHSCORES").arg("LIMIT").arg(0).arg(limit);
        let places: Vec<(String, u64)> = from_value(self.query(command).await?)?;
        places.into_iter().map(|(id, place)| Ok((id.parse().map_err(|_| unknown_answer(&id))?, place))).collect()
    }

    /// The place of a subscription in its party's list, if it stands there.
    ///
    /// # Errors
    /// As every call.
    pub async fn place_of(&self, party: &PartyId, mode: Mode, id: SubscriptionId) -> Result<Option<u64>, StoreError> {
        from_value(self.query(redis::cmd("ZSCORE").arg(self.subscription_list(party, mode)).arg(id.to_string()).to_owned()).await?)
    }

    /// How many subscriptions a party has.
    ///
    /// # Errors
    /// As every call.
    pub async fn count_subscriptions(&self, party: &PartyId, mode: Mode) -> Result<usize, StoreError> {
        from_value(self.query(redis::cmd("ZCARD").arg(self.subscription_list(party, mode)).to_owned()).await?)
    }

    /// The oldest ones, at most `limit`.
    ///
    /// # Errors
    /// As every call.
    pub async fn subscription_ids(&self, party: &PartyId, mode: Mode, limit: usize) -> Result<Vec<SubscriptionId>, StoreError> {
        let command = redis::cmd("ZRANGE").arg(self.subscription_list(party, mode)).arg(0).arg(limit.saturating_sub(1)).to_owned();
        let ids: Vec<String> = from_value(self.query(command).await?)?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    fn subscription_list(&self, party: &PartyId, mode: Mode) -> String {
        self.shared.names.party(self.shared.shards.of(party, mode), "sublist", party, mode)
    }

    /// Records a try of a delivery, acknowledges its work, and lets the payout's next event into the lane if this one has ended. `trouble`: what it means for
    /// the subscription that the try failed, if it did and the subscriber was at fault.
    ///
    /// # Errors
    /// As every call. A repeat answers [`Relayed::LeaseLost`] and changes nothing.
    pub async fn relayed(
        &self,
        ticket: &RelayTicket,
        delivery: &Delivery,
        decision: Decision,
        trouble: Option<Trouble>,
    ) -> Result<Relayed, StoreError> {
        let shard = ticket.event.shard();
        let (outcome, retry_at) = match decision {
            Decision::Delivered => ("d", 0),
            Decision::RetryAt(at) => ("r", at.as_millisecond()),
            Decision::Abandon => ("a", 0),
        };
        let taker = self.taker(shard);
        let room = taker.as_ref().and_then(|taker| taker.room_for_one(&ticket.party));
        let mut told = retry_at.to_string();
        match trouble {
            Some(Trouble { failures, wait_first_ms, wait_cap_ms, asked }) => {
                let asked = asked.map_or(0, |asked| asked.as_millisecond());
                let _ = write!(told, " {failures} {wait_first_ms} {wait_cap_ms} {asked}");
            }
            None if retry_at == 0 => told.clear(),
            None => {}
        }
        let one = Try { ticket: ticket.clone(), delivery: to_json(delivery), outcome, trouble: told, takes: room.is_some() };
        let answer = self.ask(shard, Asked::Try(one)).await?;
        match answer_of(&answer)? {
            "committed" => {
                let Value::Array(parts) = answer else { return Err(unknown_answer("committed")) };
                let mut parts = parts.into_iter().skip(1);
                let more: u8 = from_value(parts.next().unwrap_or(Value::Nil))?;
                let since: i64 = from_value(parts.next().unwrap_or(Value::Nil))?;
                if let (Some(room), Some(taker)) = (room, &taker) {
                    room.fill(parts.filter_map(|entry| leased_delivery(entry, &taker.slots)).collect());
                }
                let failing_since = if since == 0 { None } else { Timestamp::from_millisecond(since).ok() };
                Ok(Relayed::Done { more: more == 1, failing_since })
            }
            "lost" => Ok(Relayed::LeaseLost),
            "failed" => {
                let (_, why): (String, String) = from_value(answer)?;
                // No try can be recorded now, and each of them can be once the server takes writes again.
                if ["OOM", "READONLY", "MISCONF", "NOREPLICAS"].iter().any(|word| why.contains(word)) {
                    return Err(StoreError::Unavailable(None));
                }
                Err(StoreError::Corrupt(format!("delivery of {}: {why}", ticket.event)))
            }
            other => Err(unknown_answer(other)),
        }
    }

    /// The call of the script for these tries.
    pub(super) fn record_call(&self, shard: Shard, tries: &[Try]) -> redis::Cmd {
        let names = &self.shared.names;
        let keys = [names.of(shard, "lanes"), names.of(shard, "abandoned"), names.of(shard, "clock")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let taker = self.taker(shard);
        let mut command = self.shared.scripts.relayed.call(&keys, (COMMAND_PARTS + 7 * tries.len(), RECORD_BYTES * tries.len()));
        command.arg(names.shard(shard)).arg(taker.as_ref().map_or(0, |taker| taker.lease_ms));
        command.arg(taker.as_ref().map_or(0, |taker| taker.per_subscription));
        for Try { ticket, delivery, outcome, trouble, takes } in tries {
            command.arg(ticket.subscription.to_string()).arg(member(ticket.event)).arg(ticket.token.0);
            command.arg(delivery).arg(outcome).arg(trouble).arg(u8::from(*takes));
        }
        command
    }

    /// Makes the delivery of an event to a subscription due now: sooner, if it waits for its time, or once more, if it has ended as `seen`, or there was none. `party`
    /// and `mode` are the subscription's.
    ///
    /// # Errors
    /// As every call. A repeat makes nothing due that is already.
    pub async fn redeliver(
        &self,
        (party, mode): (&PartyId, Mode),
        subscription: SubscriptionId,
        event: EventId,
        seen: Option<&Delivery>,
    ) -> Result<Redelivered, StoreError> {
        let names = &self.shared.names;
        let shard = event.shard();
        let keys = self.redelivery_keys((party, mode), event.payout(), subscription);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let now = self.clock().now();
        let delivery = seen.cloned().unwrap_or_else(|| Delivery::new(now)).replayed(now);
        let answer = self
            .run(&self.shared.scripts.redeliver, &keys, |command| {
                command.arg(member(event)).arg(subscription.to_string()).arg(event.sequence());
                command.arg(seen.map(to_json).unwrap_or_default()).arg(to_json(&delivery)).arg(names.of(shard, "wake"));
            })
            .await?;
        match answer_of(&answer)? {
            "committed" => Ok(Redelivered::Due),
            "flying" => Ok(Redelivered::UnderWay),
            "queued" => Ok(Redelivered::Queued),
            "coming" => Ok(Redelivered::Coming),
            "stale" => Ok(Redelivered::Stale),
            "missing" => Ok(Redelivered::Missing),
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
