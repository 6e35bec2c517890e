//! The circuit of each provider and mode: closed while payouts go there, open while they do not, because too many sends failed or because a person
//! said so. One hash per shard, and the payouts that are held at it.
//!
//! The script that commits an intent looks at the circuit, so no worker of any process can slip through; it sets what it does not let pass aside
//! (`held:`), so what waits costs nothing and is in nobody's way. Work in `due:circuit` leads to `release`, which brings it back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::fact::Provider;
use domain::id::{Mode, PayoutId, Shard};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lanes::millis;
use super::{Store, StoreError, from_json, from_value, to_json};
use crate::circuit::{Condition, Passed};

/// Payouts that one look at a closed circuit makes due again, at most.
const PAGE: usize = 500;

/// What a person did to a circuit, and on what grounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The owner of the credential, or who typed the command.
    pub by: String,
    /// For people. Not logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: Timestamp,
}

/// Why sends failed until the circuit opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trip {
    /// The reason code of the last failure: `unauthorized`, `status_503`, `connect`.
    pub why: String,
    /// When the circuit was closed last.
    pub since: Timestamp,
    /// No payout is sent before then; after it one at a time, as a trial.
    pub until: Timestamp,
    /// How often in a row it has opened, failed trials included. The wait grows with it.
    pub trips: u32,
    /// The end of the lease of a trial that is under way.
    pub trial: Option<Timestamp>,
}

/// The circuit of one provider and mode, in one shard or all of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    pub provider: Provider,
    pub mode: Mode,
    pub paused: Option<Order>,
    /// The latest end of a pause.
    pub resumed: Option<Order>,
    pub tripped: Option<Trip>,
    /// Failed sends in a row.
    pub failures: u32,
    /// The end of the last lease that was let through, or that may have been and was forgotten by a store before this one. After it nothing that was
    /// permitted is on its way.
    pub last_lease: Option<Timestamp>,
    /// Payouts that wait for it.
    pub held: u64,
}

/// Whether payouts go to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// They do.
    Closed,
    /// One at a time, to find out.
    HalfOpen,
    /// Not before a time, because sends failed.
    Open,
    /// Not before somebody says so.
    Paused,
}

// === impl CircuitState ===

impl CircuitState {
    pub const ALL: [Self; 4] = [Self::Closed, Self::HalfOpen, Self::Open, Self::Paused];

    /// The word in the API and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
            Self::Paused => "paused",
        }
    }
}

// === impl Circuit ===

impl Circuit {
    #[must_use]
    pub fn state(&self, now: Timestamp) -> CircuitState {
        match (&self.paused, &self.tripped) {
            (Some(_), _) => CircuitState::Paused,
            (None, Some(trip)) if trip.until > now => CircuitState::Open,
            (None, Some(_)) => CircuitState::HalfOpen,
            (None, None) => CircuitState::Closed,
        }
    }

    /// When nothing that was permitted before a pause is on its way any more; `None` when that is so already.
    #[must_use]
    pub fn draining_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.last_lease.filter(|end| *end > now)
    }

    /// Of two shards: paused where both are, so that nobody takes half a pause for a whole one; tripped where either is, and all that wait.
    fn and(self, other: Self) -> Self {
        let later = |a: Option<Order>, b: Option<Order>| [a, b].into_iter().flatten().max_by_key(|order| order.at);
        Self {
            paused: later(self.paused.clone().filter(|_| other.paused.is_some()), other.paused.filter(|_| self.paused.is_some())),
            resumed: later(self.resumed, other.resumed),
            tripped: [self.tripped, other.tripped].into_iter().flatten().max_by_key(|trip| trip.until),
            failures: self.failures.max(other.failures),
            last_lease: self.last_lease.max(other.last_lease),
            held: self.held + other.held,
            ..self
        }
    }

    fn read(provider: Provider, mode: Mode, held: u64, forgotten_until: Timestamp, fields: &[(String, Vec<u8>)]) -> Result<Self, StoreError> {
        let name = name(provider, mode);
        let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_slice());
        let number = |wanted: &str| {
            let text = field(wanted).map(std::str::from_utf8);
            text.map(|text| text.ok().and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| StoreError::Corrupt(format!("{wanted} of {name}"))))
                .transpose()
        };
        let time = |wanted: &str| Ok::<_, StoreError>(number(wanted)?.and_then(|ms| Timestamp::from_millisecond(ms).ok()));
        let order = |wanted: &str| field(wanted).map(|record| from_json("circuit", record)).transpose();
        let count = |wanted: &str| Ok::<_, StoreError>(number(wanted)?.and_then(|count| u32::try_from(count).ok()).unwrap_or(0));
        let tripped = match time("until")? {
            Some(until) => Some(Trip {
                why: field("why").map(|why| String::from_utf8_lossy(why).into_owned()).unwrap_or_default(),
                since: time("since")?.unwrap_or(until),
                until,
                trips: count("trips")?,
                trial: time("trial")?,
            }),
            None => None,
        };
        Ok(Self {
            provider,
            mode,
            paused: order("paused")?,
            resumed: order("resumed")?,
            tripped,
            failures: count("failures")?,
            last_lease: time("last")?.max(Some(forgotten_until)),
            held,
        })
    }
}

// === impl Store ===

impl Store {
    /// The circuit of a provider, over all shards.
    ///
    /// # Errors
    /// As every call.
    pub async fn circuit(&self, provider: Provider, mode: Mode) -> Result<Circuit, StoreError> {
        let mut whole: Option<Circuit> = None;
        for shard in self.shared.shards.all() {
            let part = self.circuit_in(shard, provider, mode, self.forgotten_until(shard).await?).await?;
            whole = Some(match whole {
                Some(whole) => whole.and(part),
                None => part,
            });
        }
        whole.ok_or_else(|| StoreError::Corrupt("a store without shards".to_owned()))
    }

    /// Every circuit of a shard.
    ///
    /// # Errors
    /// As every call.
    pub async fn circuits(&self, shard: Shard) -> Result<Vec<Circuit>, StoreError> {
        let forgotten = self.forgotten_until(shard).await?;
        let all =
            Provider::ALL.into_iter().flat_map(|provider| [Mode::Test, Mode::Live].map(|mode| self.circuit_in(shard, provider, mode, forgotten)));
        futures_util::future::try_join_all(all).await
    }

    async fn circuit_in(&self, shard: Shard, provider: Provider, mode: Mode, forgotten_until: Timestamp) -> Result<Circuit, StoreError> {
        let name = name(provider, mode);
        let fields = from_value(self.query(redis::cmd("HGETALL").arg(self.circuit_key(shard, &name)).to_owned()).await?);
        let fields: Vec<(String, Vec<u8>)> = fields?;
        let held: u64 = from_value(self.query(redis::cmd("ZCARD").arg(self.held_key(shard, &name)).to_owned()).await?)?;
        Circuit::read(provider, mode, held, forgotten_until, &fields)
    }

    /// When the last lease has ended that an earlier state of the store may have let through, of which this one need not know: it was restored, or another
    /// server took over. Found out by the name that a server gives itself when it starts.
    pub(super) async fn forgotten_until(&self, shard: Shard) -> Result<Timestamp, StoreError> {
        let keys = [self.shared.names.of(shard, "server"), self.shared.names.of(shard, "clock")];
        let since: i64 = from_value(self.run(&self.shared.scripts.server, &keys.each_ref().map(String::as_str), |_| {}).await?)?;
        // Of whichever process it was: another one may have been told a longer one.
        let told = self.processes().await?.iter().map(|process| process.lease_ms).max().unwrap_or(0);
        let lease = told.max(self.shared.longest_lease_ms.load(Ordering::Relaxed));
        Ok(Timestamp::from_millisecond(since.saturating_add_unsigned(lease)).unwrap_or(Timestamp::MAX))
    }

    /// When nothing that was permitted in a shard until now is on its way any more; `None` when that is so already. For a freeze.
    ///
    /// # Errors
    /// As every call.
    pub async fn draining_until(&self, shard: Shard) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock().now();
        Ok(self.circuits(shard).await?.iter().filter_map(|circuit| circuit.draining_until(now)).max())
    }

    /// Pauses dispatch to a provider, in every shard: from now on no intent for it is committed. What was permitted before may be under way until
    /// [`Circuit::draining_until`]. The first pause stays until [`Store::resume`].
    ///
    /// # Errors
    /// As every call. Some shards may be paused then; repeat it.
    pub async fn pause(&self, provider: Provider, mode: Mode, order: &Order) -> Result<(), StoreError> {
        for shard in self.shared.shards.all() {
            let key = self.circuit_key(shard, &name(provider, mode));
            self.query(redis::cmd("HSETNX").arg(key).arg("paused").arg(to_json(order)).to_owned()).await?;
        }
        Ok(())
    }

    /// Ends a pause. What waited is due again within moments; where sends had failed, one at a time until one succeeds. Answers whether anything was
    /// kept back.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn resume(&self, provider: Provider, mode: Mode, order: &Order) -> Result<bool, StoreError> {
        let (name, order, mut changed) = (name(provider, mode), to_json(order), false);
        for shard in self.shared.shards.all() {
            let keys = [self.circuit_key(shard, &name), self.shared.names.of(shard, "due:circuit"), self.shared.names.of(shard, "clock")];
            let keys = keys.each_ref().map(String::as_str);
            let prefix = self.shared.names.shard(shard);
            let answer = self.run(&self.shared.scripts.resume, &keys, |command| _ = command.arg(&name).arg(&order).arg(prefix)).await?;
            changed |= from_value::<u8>(answer)? == 1;
        }
        Ok(changed)
    }

    /// Takes in what a send said about its provider, where that changes anything. `opens_after` failures in a row open the circuit, `stays` is how long
    /// it then stays open.
    ///
    /// # Errors
    /// As every call. A repeat may count a failure twice.
    pub(crate) async fn heard(&self, heard: &Heard<'_>) -> Result<Changed, StoreError> {
        let Heard { shard, provider, mode, condition, why, passed, opens_after, stays } = *heard;
        let name = name(provider, mode);
        let keys = [self.circuit_key(shard, &name), self.shared.names.of(shard, "due:circuit"), self.shared.names.of(shard, "clock")];
        let keys = keys.each_ref().map(String::as_str);
        let answer = self.run(&self.shared.scripts.heard, &keys, |command| {
            command.arg(condition.name()).arg(u8::from(matches!(passed, Passed::Trial { .. }))).arg(opens_after).arg(millis(stays)).arg(why);
            command.arg(&name).arg(self.shared.names.shard(shard));
        });
        Ok(match from_value::<String>(answer.await?)?.as_str() {
            "opened" => Changed::Opened,
            "stays" => Changed::Stays,
            "closed" => Changed::Closed,
            _ => Changed::Nothing,
        })
    }

    /// Makes held payouts due again, as far as the circuit lets them, and plans the next look at it. Answers how many.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub(crate) async fn release(&self, shard: Shard, provider: Provider, mode: Mode, look_again: Duration) -> Result<u64, StoreError> {
        let (name, names) = (name(provider, mode), &self.shared.names);
        let [execute, circuit, clock] = ["due:execute", "due:circuit", "clock"].map(|what| names.of(shard, what));
        let (of, held) = (self.circuit_key(shard, &name), self.held_key(shard, &name));
        let keys = [&of, &held, &execute, &circuit, &clock].map(String::as_str);
        let released = self.run(&self.shared.scripts.release, &keys, |command| {
            command.arg(&name).arg(PAGE).arg(names.shard(shard)).arg(millis(look_again));
        });
        from_value(released.await?)
    }

    /// Whether nobody is allowed to send to a provider at present: dispatch is frozen, or its circuit is open.
    ///
    /// # Errors
    /// As every call.
    pub async fn is_stopped(&self, shard: Shard, provider: Provider, mode: Mode) -> Result<bool, StoreError> {
        if self.frozen(shard).await?.is_some() {
            return Ok(true);
        }
        let state = self.circuit_in(shard, provider, mode, Timestamp::MIN).await?.state(self.clock().now());
        Ok(matches!(state, CircuitState::Open | CircuitState::Paused))
    }

    /// Whether a payout waits for a circuit.
    pub(super) async fn is_held(&self, id: PayoutId) -> Result<bool, StoreError> {
        let Some(name) = self.field::<Option<String>>(id, "held").await? else { return Ok(false) };
        let place = redis::cmd("ZSCORE").arg(self.held_key(id.shard(), &name)).arg(id.to_string()).to_owned();
        Ok(from_value::<Option<f64>>(self.query(place).await?)?.is_some())
    }

    /// The net below: plans a look at circuits where payouts wait and none is planned. In a sound store there are none.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub(crate) async fn look_at_circuits(&self, shard: Shard, circuits: &[Circuit]) -> Result<(), StoreError> {
        let now = self.clock().now().as_millisecond();
        for circuit in circuits.iter().filter(|circuit| circuit.held > 0 && circuit.paused.is_none()) {
            let name = name(circuit.provider, circuit.mode);
            self.query(redis::cmd("ZADD").arg(self.shared.names.of(shard, "due:circuit")).arg("NX").arg(now).arg(name).to_owned()).await?;
        }
        Ok(())
    }

    pub(super) fn circuit_of(&self, shard: Shard, provider: Provider, mode: Mode) -> String {
        self.circuit_key(shard, &name(provider, mode))
    }

    fn circuit_key(&self, shard: Shard, name: &str) -> String {
        self.shared.names.of(shard, &format!("circuit:{name}"))
    }

    fn held_key(&self, shard: Shard, name: &str) -> String {
        self.shared.names.of(shard, &format!("held:{name}"))
    }
}

/// What a send said about its provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    pub(crate) shard: Shard,
    pub(crate) provider: Provider,
    pub(crate) mode: Mode,
    pub(crate) condition: Condition,
    pub(crate) why: &'a str,
    pub(crate) passed: Passed,
    pub(crate) opens_after: u32,
    pub(crate) stays: Duration,
}

/// What became of a circuit by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    Nothing,
    Opened,
    /// The trial failed.
    Stays,
    Closed,
}

/// The name of a circuit in the store, `truelayer:test`.
pub(super) fn name(provider: Provider, mode: Mode) -> String {
    format!("{}:{mode}", provider.name())
}

/// The provider and mode of a circuit's name.
pub(super) fn named(name: &str) -> Option<(Provider, Mode)> {
    let (provider, mode) = name.split_once(':')?;
    let mode = [Mode::Test, Mode::Live].into_iter().find(|known| known.as_str() == mode)?;
    Some((Provider::named(provider)?, mode))
}
