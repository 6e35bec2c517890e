//! The deliveries of events that are no payout's, page by page: a bulletin has no end, so no more of it is read than a page needs.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use domain::id::{DeliveryId, EventId, PayoutId, SubscriptionId};

use super::super::payouts::{StoredEvent, queue};
use super::super::{Store, StoreError, from_json, from_value};
use super::{Rows, Told, WALKED_AT_A_TIME, Waiting, Walked, Wanted, Within, listed, waiting_with};

/// Events that are read at a time.
const EVENTS_AT_A_TIME: u32 = 100;

impl Store {
    /// The deliveries of events of a bulletin, newest first, as [`Store::rows`] gives those of a payout.
    pub(super) async fn rows_of_bulletin(
        &self,
        id: PayoutId,
        wanted: &Wanted,
        within: Option<Within>,
        limit: usize,
        budget: &AtomicUsize,
    ) -> Result<Rows, StoreError> {
        let mut found = Rows::default();
        let Some((first, mut last)) = self.kept_of_bulletin(id).await? else { return Ok(found) };
        if let Some(Within::Delivery(sequence, _) | Within::Walk(sequence, _)) = within {
            last = last.min(sequence);
        }
        while last >= first && found.rows.len() <= limit {
            let left = u32::try_from(budget.load(Relaxed)).unwrap_or(u32::MAX).min(EVENTS_AT_A_TIME);
            if left == 0 {
                found.more = Some(Within::Walk(last, 0));
                break;
            }
            let begin = first.max(last.saturating_sub(left - 1));
            budget.fetch_sub((last - begin + 1) as usize, Relaxed);
            let events = self.events_of_bulletin(id, begin..=last).await?;
            let rows = match wanted.subscription {
                Some(subscription) => self.rows_to(&events, subscription, wanted, within).await?,
                None => {
                    let walked = Walked { party: &wanted.party, mode: wanted.mode, transaction_id: None, events: &events };
                    self.walk(&walked, wanted, within, limit, budget).await?
                }
            };
            found.rows.extend(rows.rows);
            found.more = rows.more;
            if found.more.is_some() {
                break;
            }
            last = begin.saturating_sub(1);
        }
        Ok(found)
    }

    /// The deliveries of these events, of one record, to one subscription, latest first, behind a place among them.
    async fn rows_to(
        &self,
        events: &[StoredEvent],
        subscription: SubscriptionId,
        wanted: &Wanted,
        within: Option<Within>,
    ) -> Result<Rows, StoreError> {
        let mut found = Rows::default();
        let Some(last) = events.last() else { return Ok(found) };
        let mut command = redis::cmd("HMGET");
        command.arg(self.shared.names.payout(last.id.payout())).arg(format!("q:{subscription}"));
        events.iter().for_each(|event| _ = command.arg(format!("d:{subscription}:{}", event.id.sequence())));
        let fields: Vec<Option<Vec<u8>>> = from_value(self.query(command).await?)?;
        let Some((queued, tried)) = fields.split_first() else { return Ok(found) };
        for (event, tried) in events.iter().zip(tried).rev() {
            let sequence = event.id.sequence();
            let is_behind = match within {
                None => true,
                Some(Within::Walk(last, 0)) => sequence <= last,
                Some(Within::Delivery(last, _) | Within::Walk(last, _)) => sequence < last,
            };
            let listed = listed(subscription, sequence, tried.as_deref(), queued.as_deref())?.filter(|_| is_behind);
            let told = listed.map(|listed| Told { transaction_id: None, event: event.clone(), subscription, delivery: listed.delivery });
            found.rows.extend(told.filter(|told| wanted.keeps(told)).map(|told| (told, Within::Delivery(sequence, subscription))));
        }
        Ok(found)
    }

    /// As [`Store::told_with`] of a payout: many may wait in a bulletin, and `most` of them are looked at.
    pub(super) async fn told_of_bulletin(&self, id: DeliveryId, wanted: &Wanted, within: Option<u32>, most: usize) -> Result<Waiting, StoreError> {
        let (bulletin, subscription) = (id.event().payout(), id.subscription());
        let waiting: Option<Vec<u8>> = self.field(bulletin, &format!("q:{subscription}")).await?;
        let mut sequences: Vec<u32> = waiting_with(id, waiting.as_deref().map(queue).transpose()?, within).take(most.saturating_add(1)).collect();
        let mut found = Waiting::default();
        if sequences.len() > most {
            sequences.truncate(most);
            found.stopped = sequences.last().copied();
        }
        found.looked_at = sequences.len().max(1);
        for sequences in sequences.chunks(WALKED_AT_A_TIME) {
            let mut command = redis::cmd("HMGET");
            command.arg(self.shared.names.payout(bulletin));
            for sequence in sequences {
                command.arg(format!("e:{sequence}")).arg(format!("d:{subscription}:{sequence}"));
            }
            let fields: Vec<Option<Vec<u8>>> = from_value(self.query(command).await?)?;
            for (sequence, fields) in sequences.iter().zip(fields.chunks(2)) {
                let [Some(stored), tried] = fields else { continue };
                let event = StoredEvent::read(EventId::new(bulletin, *sequence), stored, "")?;
                let delivery = tried.as_deref().map(|tried| from_json("delivery", tried)).transpose()?;
                found.told.extend(Some(Told { transaction_id: None, event, subscription, delivery }).filter(|told| wanted.keeps(told)));
            }
        }
        Ok(found)
    }
}
