//! What a reconciliation needs of the store: our payouts by the time of their request, and a place for its result.

use domain::fact::Provider;
use domain::id::{Mode, PayoutId, Shard};
use domain::payout::Payout;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, from_json, from_value, to_json};
use crate::reconcile::Kind;

/// The result of a day, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciled {
    pub provider: Provider,
    pub mode: Mode,
    /// In UTC.
    pub day: Date,
    /// When it was compared.
    pub at: Timestamp,
    pub matched: u64,
    /// How many there are of each kind that there are any of.
    pub breaks: Vec<(Kind, u64)>,
}

impl Reconciled {
    /// Whether the day was over when it was compared.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.day < self.at.to_zoned(TimeZone::UTC).date()
    }
}

/// Places that are read at a time.
const CHUNK: usize = 200;

impl Store {
    /// Hands every payout of a shard that was requested from `from` to `to` to `take`, `most` at most, and answers how many there were. A payout that moves or
    /// ends in the meantime may be handed over twice, and is not left out.
    ///
    /// # Errors
    /// As every call.
    pub async fn requested_between(
        &self,
        shard: Shard,
        (from, to): (Timestamp, Timestamp),
        most: usize,
        mut take: impl FnMut(Payout),
    ) -> Result<usize, StoreError> {
        let mut read = 0;
        // In this order: what ends in the meantime goes from the first list to the second.
        for list in ["open", "ended"] {
            // A place is a time and how many of that time were read: what leaves the list before it moves nothing behind it.
            let (mut since, mut passed) = (from.as_millisecond(), 0);
            loop {
                let mut command = redis::cmd("ZRANGEBYSCORE");
                command.arg(self.shared.names.of(shard, list)).arg(since).arg(format!("({}", to.as_millisecond()));
                command.arg("WITHSCORES").arg("LIMIT").arg(passed).arg(CHUNK.min(most.saturating_sub(read)));
                let chunk: Vec<(String, f64)> = from_value(self.query(command).await?)?;
                let Some((_, last)) = chunk.last() else { break };
                #[expect(clippy::cast_possible_truncation, reason = "scores are whole milliseconds, far below 2^53")]
                let last_ms = *last as i64;
                let of_last = chunk.iter().rev().take_while(|(_, at)| at == last).count();
                passed = if last_ms == since { passed + of_last } else { of_last };
                since = last_ms;
                read += chunk.len();
                let ids: Vec<PayoutId> = chunk.iter().filter_map(|(id, _)| id.parse().ok()).collect();
                let found = futures_util::future::try_join_all(ids.iter().map(|id| self.load_readable(*id))).await?;
                found.into_iter().flatten().for_each(&mut take);
            }
        }
        Ok(read)
    }

    /// Keeps the result of a day in the place of an earlier one, and drops those of days before `oldest`.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn keep_reconciled(&self, reconciled: &Reconciled, oldest: Date) -> Result<(), StoreError> {
        let field = field(reconciled);
        self.query(redis::cmd("HSET").arg(self.reconciled_key()).arg(field).arg(to_json(reconciled)).to_owned()).await?;
        for old in self.reconciled().await?.iter().filter(|kept| kept.day < oldest) {
            self.query(redis::cmd("HDEL").arg(self.reconciled_key()).arg(self::field(old)).to_owned()).await?;
        }
        Ok(())
    }

    /// The results that are kept.
    ///
    /// # Errors
    /// As every call.
    pub async fn reconciled(&self) -> Result<Vec<Reconciled>, StoreError> {
        let kept: Vec<Vec<u8>> = from_value(self.query(redis::cmd("HVALS").arg(self.reconciled_key()).to_owned()).await?)?;
        kept.iter().map(|record| from_json("reconciliation", record)).collect()
    }

    fn reconciled_key(&self) -> String {
        format!("{}{{reconciled}}:days", self.shared.names.prefix)
    }
}

fn field(of: &Reconciled) -> String {
    format!("{} {} {}", of.provider.name(), of.mode, of.day)
}
