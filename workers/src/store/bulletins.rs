//! Bulletins: events of a party that are no payout's. A record of its own, `po:` and an id that follows from party and mode, with the fields that the relay reads: so
//! what reads, orders, signs and retries events of payouts does all of it for these too. `n` is the number of the latest event.

use std::ops::RangeInclusive;

use domain::bulletin::News;
use domain::id::{EventId, Mode, PartyId, PayoutId};
use domain::subscription::{Secrets, Subscription};
use serde::Deserialize;

use super::payouts::{StoredEvent, unknown_answer};
use super::{Store, StoreError, from_value};

/// Events of one bulletin that are kept, about; what somebody still waits for is kept in any case.
const KEPT: u32 = 1_000;
/// How often an event is numbered again because another one came first.
const TRIES: usize = 32;

/// What is told with a write of a subscription, in the same step.
#[derive(Clone, Copy)]
pub struct Notice<'a> {
    pub news: &'a News,
    /// Whom it is told as well, once: the subscription as it was before it led elsewhere, under an id of its own, with its secrets.
    pub farewell: Option<(&'a Subscription, &'a Secrets)>,
}

/// An event on its way into a bulletin.
pub(super) struct Numbered {
    pub(super) bulletin: PayoutId,
    pub(super) sequence: u32,
    pub(super) text: String,
}

impl Numbered {
    pub(super) const KEPT: u32 = KEPT;
    pub(super) const TRIES: usize = TRIES;
}

impl Store {
    /// Tells the subscriptions of a party that ask for it. What was told under the same `once` is not told again.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn announce(&self, party: &PartyId, mode: Mode, news: &News, once: &str) -> Result<(), StoreError> {
        let names = &self.shared.names;
        let shard = self.shared.shards.of(party, mode);
        for _ in 0..TRIES {
            let Numbered { bulletin, sequence, text } = self.numbered(party, mode, news).await?;
            let keys = [names.payout(bulletin), names.party(shard, "subs", party, mode), names.of(shard, "lanes"), names.of(shard, "clock")];
            let keys = keys.each_ref().map(String::as_str);
            let answer = self.run(&self.shared.scripts.announce, &keys, |command| {
                command.arg(names.shard(shard)).arg(bulletin.to_string()).arg(sequence).arg(news.kind()).arg(text).arg(KEPT).arg(once);
            });
            match from_value::<String>(answer.await?)?.as_str() {
                "committed" | "done" => return Ok(()),
                "moved" => {}
                other => return Err(unknown_answer(other)),
            }
        }
        Err(StoreError::Unavailable(None))
    }

    /// An event of a party's bulletin, if it is kept.
    ///
    /// # Errors
    /// As every call.
    pub async fn bulletin_event(&self, party: &PartyId, mode: Mode, sequence: u32) -> Result<Option<StoredEvent>, StoreError> {
        self.stored_event(EventId::new(PayoutId::of_bulletin(party, mode, self.shared.shards), sequence)).await
    }

    /// The latest events of a party's bulletin, in their order, at most `limit`.
    ///
    /// # Errors
    /// As every call.
    pub async fn latest_of_bulletin(&self, party: &PartyId, mode: Mode, limit: u32) -> Result<Vec<StoredEvent>, StoreError> {
        let id = PayoutId::of_bulletin(party, mode, self.shared.shards);
        let Some((first, latest)) = self.kept_of_bulletin(id).await? else { return Ok(Vec::new()) };
        self.events_of_bulletin(id, first.max(latest.saturating_sub(limit.saturating_sub(1)))..=latest).await
    }

    /// Whose bulletin an event stands in, by what it says; `None` if it is not in that.
    pub(super) fn owner_of(&self, event: &StoredEvent) -> Option<(PartyId, Mode)> {
        #[derive(Deserialize)]
        struct Body {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            party_id: PartyId,
            mode: Mode,
        }
        let Body { data: Data { party_id, mode } } = serde_json::from_str(&event.body).ok()?;
        (event.id.payout() == PayoutId::of_bulletin(&party_id, mode, self.shared.shards)).then_some((party_id, mode))
    }

    /// The first and the last event of a bulletin that may be kept, if anything was ever told.
    pub(super) async fn kept_of_bulletin(&self, id: PayoutId) -> Result<Option<(u32, u32)>, StoreError> {
        let command = redis::cmd("HMGET").arg(self.shared.names.payout(id)).arg("first").arg("n").to_owned();
        let (first, latest): (Option<u32>, Option<u32>) = from_value(self.query(command).await?)?;
        Ok(latest.map(|latest| (first.unwrap_or(1).max(1), latest)))
    }

    /// The events of a bulletin with these numbers that are kept, in their order.
    pub(super) async fn events_of_bulletin(&self, id: PayoutId, sequences: RangeInclusive<u32>) -> Result<Vec<StoredEvent>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.shared.names.payout(id));
        sequences.clone().for_each(|sequence| _ = command.arg(format!("e:{sequence}")));
        let texts: Vec<Option<Vec<u8>>> = from_value(self.query(command).await?)?;
        let kept = sequences.zip(texts).filter_map(|(sequence, text)| Some((EventId::new(id, sequence), text?)));
        kept.map(|(id, text)| StoredEvent::read(id, &text, "")).collect()
    }

    /// An event as the next one of its bulletin; whether it still is, the script says that writes it.
    pub(super) async fn numbered(&self, party: &PartyId, mode: Mode, news: &News) -> Result<Numbered, StoreError> {
        let bulletin = PayoutId::of_bulletin(party, mode, self.shared.shards);
        let latest: Option<u32> = self.field(bulletin, "n").await?;
        let (sequence, at) = (latest.unwrap_or(0).saturating_add(1), self.clock().now());
        let text = format!("{} {}\n{}", news.kind(), at.as_millisecond(), news.body(party, mode, sequence, at));
        Ok(Numbered { bulletin, sequence, text })
    }
}
