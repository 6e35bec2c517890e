//! The end of batches: some time after all of a batch has ended, its results are dropped. The memory of its key stays.

use std::time::Duration;

use domain::id::{BatchId, Shard};
use redis::Value;

use super::batches::Kept;
use super::lanes::millis;
use super::{Store, StoreError, from_value};
use crate::batch::Batch;

/// Batches that one call looks at, at most: each may have ten thousand payouts.
const BATCHES: usize = 4;
/// Payouts that one script looks at.
const PAYOUTS: usize = 500;
/// When a batch is looked at again of which not all has ended.
const AGAIN: Duration = Duration::from_hours(24);

impl Store {
    /// Drops what is kept of batches whose last item ended, or was refused, `kept` ago: a few of them, the oldest first. Says how many. A payout in review
    /// has not ended, and a batch that cannot be read is left for a person. **The keys stay claimed**: that of the batch and those of its payouts.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_batches(&self, shard: Shard, kept: Duration) -> Result<u64, StoreError> {
        let opened = self.shared.names.of(shard, "batches-opened");
        let now = self.clock().now().as_millisecond();
        let due = now.saturating_sub_unsigned(millis(kept));
        let command = redis::cmd("ZRANGEBYSCORE").arg(&opened).arg("-inf").arg(due).arg("LIMIT").arg(0).arg(BATCHES).to_owned();
        let ids: Vec<String> = from_value(self.query(command).await?)?;
        let mut trimmed = 0;
        for id in ids {
            let later = |at: i64| self.query(redis::cmd("ZADD").arg(&opened).arg("XX").arg(at).arg(&id).to_owned());
            let again = due.saturating_add_unsigned(millis(AGAIN));
            let (id, batch) = match self.opened_batch(&id).await {
                Ok(Some(found)) => found,
                Ok(None) => {
                    self.query(redis::cmd("ZREM").arg(&opened).arg(&id).to_owned()).await?;
                    continue;
                }
                // It is in nobody's way: the others have their turn.
                Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                    tracing::error!(batch.id = %id, %error, "the record of a batch cannot be read and is left for a person");
                    later(again).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.batch_ended(&batch).await? {
                Some(at) if at <= due => {
                    self.trim_batch(id, &batch, &opened).await?;
                    trimmed += 1;
                }
                Some(at) => _ = later(at).await?,
                None => _ = later(again).await?,
            }
        }
        Ok(trimmed)
    }

    /// `None` for one of which nothing is left to drop.
    async fn opened_batch(&self, id: &str) -> Result<Option<(BatchId, Batch)>, StoreError> {
        let Ok(id) = id.parse::<BatchId>() else { return Ok(None) };
        Ok(match self.batch(id).await? {
            Some(Kept::Whole(progress)) => Some((id, progress.batch)),
            Some(Kept::Key { .. }) | None => None,
        })
    }

    /// When the last of its payouts ended, in ms; 0 if it has none. `None` while one of them has not.
    async fn batch_ended(&self, batch: &Batch) -> Result<Option<i64>, StoreError> {
        let names = &self.shared.names;
        let shard = batch.id.shard();
        let (payouts, ended, records) = (self.payouts_key(batch), names.of(shard, "ended"), names.of(shard, "po:"));
        let mut latest = 0;
        for first in (0..batch.items).step_by(PAYOUTS) {
            let answer = self
                .run(&self.shared.scripts.batch_ended, &[&payouts, &ended], |command| {
                    command.arg(&records).arg(first).arg(first + PAYOUTS - 1);
                })
                .await?;
            let (looked_at, open, at): (usize, usize, i64) = from_value(answer)?;
            if open > 0 {
                return Ok(None);
            }
            latest = latest.max(at);
            if looked_at < PAYOUTS {
                break;
            }
        }
        Ok(Some(latest))
    }

    async fn trim_batch(&self, id: BatchId, batch: &Batch, opened: &str) -> Result<Value, StoreError> {
        let mut keys = vec![self.batch_key(id), opened.to_owned(), self.payouts_key(batch)];
        keys.extend((0..batch.pages()).map(|page| self.results_key(batch, page)));
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.run(&self.shared.scripts.batch_trim, &keys, |command| _ = command.arg(id.to_string())).await
    }
}
