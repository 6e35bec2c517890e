//! The freeze of dispatch for one party: what is asked for is accepted and waits, and nothing of it is sent.
//!
//! The script that commits an intent looks at it, after the freeze of everything and before the circuit of the provider. What is due then is set aside, as at
//! a circuit, so that it is in nobody's way; the end of the freeze makes it due again, page by page, and the sweep goes on where that was cut short.
//! Unlike a party that is inactive (`off`), of which nothing is opened while what is open goes on.

use domain::fact::Provider;
use domain::id::{Mode, PartyId, Shard};
use domain::payout::Payout;
use jiff::Timestamp;

use super::circuits::Order;
use super::{Store, StoreError, from_json, from_value, to_json};

/// Payouts that one script makes due again, at most.
const PAGE: usize = 500;

/// Whether payouts of a party are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartyFreeze {
    pub frozen: Option<Order>,
    /// The latest end of a freeze.
    pub thawed: Option<Order>,
    /// When nothing that was permitted before the freeze is on its way any more; `None` when that is so already.
    pub draining_until: Option<Timestamp>,
    /// Payouts that wait for its end.
    pub held: u64,
}

/// The parties of a shard that are frozen, or whose payouts are still being made due again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoppedParties {
    pub parties: u64,
    pub held: u64,
}

impl Store {
    /// Freezes dispatch for a party: from now on no intent of it is committed. What was permitted before may be under way until
    /// [`PartyFreeze::draining_until`]. The first freeze stays until [`Store::thaw_party`].
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn freeze_party(&self, party: &PartyId, mode: Mode, order: &Order) -> Result<(), StoreError> {
        let (shard, name) = (self.shared.shards.of(party, mode), name(party, mode));
        let forgotten = self.forgotten_until(shard).await?;
        let circuits = Provider::ALL.into_iter().flat_map(|provider| [Mode::Test, Mode::Live].map(|mode| self.circuit_of(shard, provider, mode)));
        let keys = [self.stop_key(shard, &name), self.stopped(shard), self.shared.names.of(shard, "clock")];
        let keys: Vec<String> = keys.into_iter().chain(circuits).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let frozen = self.run(&self.shared.scripts.party_freeze, &keys, |command| {
            command.arg(&name).arg(to_json(order)).arg(forgotten.as_millisecond());
        });
        frozen.await.map(drop)
    }

    /// Ends the freeze of a party: that which was ordered at `of`, or else the one that is there now. What waited is due again, and has its whole time to be
    /// dispatched. Answers whether there was that freeze.
    ///
    /// # Errors
    /// As every call. Repeatable: what an error has left waiting is made due by that, or by a sweep, and no later freeze is ended.
    pub async fn thaw_party(&self, party: &PartyId, mode: Mode, order: &Order, of: Option<Timestamp>) -> Result<bool, StoreError> {
        let (shard, name) = (self.shared.shards.of(party, mode), name(party, mode));
        let of = match of {
            Some(of) => Some(of),
            None => self.party_freeze(party, mode).await?.frozen.map(|frozen| frozen.at),
        };
        let (ended, _, mut left) = self.thaw_page(shard, &name, &to_json(order), of).await?;
        while left > 0 {
            (.., left) = self.thaw_page(shard, &name, "", None).await?;
        }
        Ok(ended)
    }

    async fn thaw_page(&self, shard: Shard, name: &str, order: &str, of: Option<Timestamp>) -> Result<(bool, bool, u64), StoreError> {
        let names = &self.shared.names;
        let [stop, held, stopped] = [self.stop_key(shard, name), self.held_of_party(shard, name), self.stopped(shard)];
        let [execute, clock] = ["due:execute", "clock"].map(|what| names.of(shard, what));
        let keys = [&stop, &held, &execute, &stopped, &clock].map(String::as_str);
        let answer = self.run(&self.shared.scripts.party_thaw, &keys, |command| {
            command.arg(name).arg(PAGE).arg(names.shard(shard)).arg(order).arg(of.map_or_else(String::new, |of| of.to_string()));
        });
        let (ended, frozen, left): (u8, u8, u64) = from_value(answer.await?)?;
        Ok((ended == 1, frozen == 1, left))
    }

    /// How dispatch for a party stands.
    ///
    /// # Errors
    /// As every call.
    pub async fn party_freeze(&self, party: &PartyId, mode: Mode) -> Result<PartyFreeze, StoreError> {
        let (shard, name) = (self.shared.shards.of(party, mode), name(party, mode));
        let fields = redis::cmd("HMGET").arg(self.stop_key(shard, &name)).arg(&["frozen", "thawed", "drained"]).to_owned();
        let (frozen, thawed, drained): (Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>) = from_value(self.query(fields).await?)?;
        let order = |record: Option<Vec<u8>>| record.map(|record| from_json::<Order>("freeze of a party", &record)).transpose();
        let (frozen, thawed, now) = (order(frozen)?, order(thawed)?, self.clock().now());
        let draining_until = match (&frozen, drained) {
            (None, _) => None,
            (Some(_), None) => self.draining_until(shard).await?,
            (Some(_), Some(drained)) => {
                // A store that was restored may have forgotten that the freeze had ended, and what was sent then.
                let forgotten = self.forgotten_until(shard).await?;
                Timestamp::from_millisecond(drained).ok().max(Some(forgotten)).filter(|until| *until > now)
            }
        };
        let held = self.query(redis::cmd("ZCARD").arg(self.held_of_party(shard, &name)).to_owned()).await?;
        Ok(PartyFreeze { frozen, thawed, draining_until, held: from_value(held)? })
    }

    /// Whether dispatch is frozen for the party of a payout, or for everybody.
    ///
    /// # Errors
    /// As every call.
    pub async fn is_frozen_for(&self, payout: &Payout) -> Result<bool, StoreError> {
        let shard = payout.id.shard();
        let stop = redis::cmd("HEXISTS").arg(self.stop_key(shard, &name(&payout.party, payout.mode))).arg("frozen").to_owned();
        Ok(self.frozen(shard).await?.is_some() || from_value(self.query(stop).await?)?)
    }

    /// The net below: goes on with thaws that were cut short. Answers which parties are still stopped, and how many payouts wait for that.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub(crate) async fn look_over_stopped_parties(&self, shard: Shard) -> Result<StoppedParties, StoreError> {
        let names: Vec<String> = from_value(self.query(redis::cmd("ZRANGE").arg(self.stopped(shard)).arg(0).arg(-1).to_owned()).await?)?;
        let mut found = StoppedParties::default();
        for name in names {
            let (_, frozen, left) = self.thaw_page(shard, &name, "", None).await?;
            let held: u64 = from_value(self.query(redis::cmd("ZCARD").arg(self.held_of_party(shard, &name)).to_owned()).await?)?;
            found.parties += u64::from(frozen || left > 0);
            found.held += held;
        }
        Ok(found)
    }

    pub(super) fn stop_key(&self, shard: Shard, name: &str) -> String {
        self.shared.names.of(shard, &format!("stop:{name}"))
    }

    fn held_of_party(&self, shard: Shard, name: &str) -> String {
        self.shared.names.of(shard, &format!("held:party:{name}"))
    }

    fn stopped(&self, shard: Shard) -> String {
        self.shared.names.of(shard, "stopped")
    }
}

/// As the script that commits an intent derives it.
pub(super) fn name(party: &PartyId, mode: Mode) -> String {
    format!("{party}:{mode}")
}
