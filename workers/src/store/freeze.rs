//! The freeze of dispatch, and the epoch that notices when a store has forgotten writes.

use std::time::Duration;

use domain::id::Shard;
use domain::payout::Payout;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lanes::millis;
use super::{Store, StoreError, from_json, from_value, to_json};

/// Why nothing is dispatched from a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// For people.
    pub reason: String,
    pub at_ms: i64,
    /// The highest epoch that a worker has on file; the store's must go on from there.
    pub epoch_seen: u64,
    /// That the store has forgotten nothing, by the word of whoever froze it: then what looks unsent is, and can be canceled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nothing_lost: bool,
}

impl Store {
    /// The number of dispatches that were permitted from a shard.
    ///
    /// # Errors
    /// As every call.
    pub async fn epoch(&self, shard: Shard) -> Result<u64, StoreError> {
        let epoch: Option<u64> = from_value(self.query(redis::cmd("GET").arg(self.shared.names.of(shard, "epoch")).to_owned()).await?)?;
        Ok(epoch.unwrap_or(0))
    }

    /// Freezes dispatch of a shard: from now on no intent is committed. What was permitted before may still be under way until its lease ends.
    /// The first freeze stays until [`Store::thaw`], unless it says that nothing was lost and this one does not. Says whether this one stands now.
    ///
    /// # Errors
    /// As every call. A repeat of one that was applied may say that it was not.
    pub async fn freeze(&self, shard: Shard, freeze: &Freeze) -> Result<bool, StoreError> {
        let key = self.shared.names.of(shard, "frozen");
        let script = &self.shared.scripts.freeze;
        from_value(self.run(script, &[&key], |command| _ = command.arg(to_json(freeze)).arg(u8::from(freeze.nothing_lost))).await?)
    }

    /// The freeze of a shard, if it is frozen.
    ///
    /// # Errors
    /// As every call.
    pub async fn frozen(&self, shard: Shard) -> Result<Option<Freeze>, StoreError> {
        let record: Option<Vec<u8>> = from_value(self.query(redis::cmd("GET").arg(self.shared.names.of(shard, "frozen")).to_owned()).await?)?;
        record.map(|record| from_json("freeze", &record)).transpose()
    }

    /// Ends this freeze, and no other that has taken its place since it was read. For as long as `look_first` no payout is sent before its provider was asked whether it knows it,
    /// and none can be canceled: the store may have forgotten that it was sent. A payout that was asked for before the end of that time stays suspect for ever. Zero: nothing was
    /// lost. Says whether it was there.
    ///
    /// # Errors
    /// As every call. A repeat of one that was applied says that it was not.
    pub async fn end_freeze(&self, shard: Shard, freeze: &Freeze, look_first: Duration) -> Result<bool, StoreError> {
        let keys = ["frozen", "look-first", "epoch"].map(|name| self.shared.names.of(shard, name));
        let until = self.clock().now().as_millisecond().saturating_add_unsigned(millis(look_first));
        let until = if look_first > Duration::ZERO { until.to_string() } else { String::new() };
        let keys = keys.each_ref().map(String::as_str);
        from_value(self.run(&self.shared.scripts.thaw, &keys, |command| _ = command.arg(to_json(freeze)).arg(until).arg(freeze.epoch_seen)).await?)
    }

    /// As [`Store::end_freeze`], whichever freeze there is.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn thaw(&self, shard: Shard, look_first: Duration) -> Result<(), StoreError> {
        match self.frozen(shard).await? {
            Some(freeze) => self.end_freeze(shard, &freeze, look_first).await.map(drop),
            None => Ok(()),
        }
    }

    /// Whether the store may have forgotten what was done for a payout: its shard is frozen, and nobody has said that nothing was lost, or was after the payout was asked for.
    ///
    /// # Errors
    /// As every call.
    pub async fn is_suspect(&self, payout: &Payout) -> Result<bool, StoreError> {
        Ok(self.suspect_until(payout.id.shard()).await? > payout.requested_at())
    }

    /// Of payouts that were asked for before this time more may have been done than is recorded: the store has forgotten writes, or may have.
    /// [`Timestamp::MIN`]: it never has.
    ///
    /// # Errors
    /// As every call.
    pub async fn suspect_until(&self, shard: Shard) -> Result<Timestamp, StoreError> {
        let names = &self.shared.names;
        let command = redis::cmd("MGET").arg(names.of(shard, "frozen")).arg(names.of(shard, "look-first")).to_owned();
        let (frozen, until): (Option<Vec<u8>>, Option<i64>) = from_value(self.query(command).await?)?;
        let frozen = frozen.map(|record| from_json::<Freeze>("freeze", &record)).transpose()?;
        Ok(match (frozen, until) {
            (Some(Freeze { nothing_lost: false, .. }), _) => Timestamp::MAX,
            (_, Some(until)) => Timestamp::from_millisecond(until).unwrap_or(Timestamp::MAX),
            (_, None) => Timestamp::MIN,
        })
    }
}
