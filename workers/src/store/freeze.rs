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
    #[serde(default)]
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
    /// The first freeze stays until [`Store::thaw`], unless it says that nothing was lost and this one does not.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn freeze(&self, shard: Shard, freeze: &Freeze) -> Result<(), StoreError> {
        let key = self.shared.names.of(shard, "frozen");
        self.run(&self.shared.scripts.freeze, &[&key], |command| _ = command.arg(to_json(freeze)).arg(u8::from(freeze.nothing_lost))).await.map(drop)
    }

    /// The freeze of a shard, if it is frozen.
    ///
    /// # Errors
    /// As every call.
    pub async fn frozen(&self, shard: Shard) -> Result<Option<Freeze>, StoreError> {
        let record: Option<Vec<u8>> = from_value(self.query(redis::cmd("GET").arg(self.shared.names.of(shard, "frozen")).to_owned()).await?)?;
        record.map(|record| from_json("freeze", &record)).transpose()
    }

    /// Ends the freeze that is there now. For as long as `look_first` no payout is sent before its provider was asked whether it knows it, and none can be canceled:
    /// the store may have forgotten that it was sent. A payout that was asked for before the end of that time stays suspect for ever. Zero: nothing was lost.
    ///
    /// # Errors
    /// As every call. Repeatable: a freeze that came later stays.
    pub async fn thaw(&self, shard: Shard, look_first: Duration) -> Result<(), StoreError> {
        let names = &self.shared.names;
        let keys = ["frozen", "look-first", "epoch"].map(|name| names.of(shard, name));
        let read: Option<Vec<u8>> = from_value(self.query(redis::cmd("GET").arg(&keys[0]).to_owned()).await?)?;
        let Some(read) = read else { return Ok(()) };
        let freeze: Freeze = from_json("freeze", &read)?;
        let until = self.clock().now().as_millisecond().saturating_add_unsigned(millis(look_first));
        let until = if look_first > Duration::ZERO { until.to_string() } else { String::new() };
        let keys = keys.each_ref().map(String::as_str);
        self.run(&self.shared.scripts.thaw, &keys, |command| _ = command.arg(&read).arg(until).arg(freeze.epoch_seen)).await.map(drop)
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
