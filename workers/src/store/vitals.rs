//! The numbers that say whether the system is well, and the repair of work that was lost.

use domain::id::{PayoutId, Shard};
use domain::payout::state::StateName;
use jiff::Timestamp;

use super::books::{Walk, Walked};
use super::circuits::Circuit;
use super::party_freeze::StoppedParties;
use super::reconciliations::Reconciled;
use super::{Store, StoreError, from_value};

/// Open payouts that one round of [`Store::look_over`] reads, at most.
const LOOKED_OVER: usize = 500;

/// One shard at one moment.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// By the store's clock.
    pub at: Timestamp,
    pub lanes: Vec<LaneVitals>,
    /// Payouts that have not ended.
    pub open: u64,
    /// Deliveries that were given up and not replayed.
    pub abandoned: u64,
    /// Notices whose payout never came.
    pub orphans: u64,
    pub frozen: bool,
    /// Parties for which dispatch is frozen, and what waits for that. A sweep says it.
    pub stopped: StoppedParties,
    /// Due payouts of accounts whose ledgers are at fault. A sweep says it.
    pub held_by_faults: u64,
    /// Every provider's.
    pub circuits: Vec<Circuit>,
    /// The days that were reconciled lately; of all shards.
    pub reconciled: Vec<Reconciled>,
    /// Server memory in use, bytes.
    pub memory_bytes: u64,
}

/// Work of one kind.
#[derive(Clone, Copy, Debug)]
pub struct LaneVitals {
    pub lane: &'static str,
    /// Entries, leased and waiting. For the relay: subscriptions with deliveries.
    pub entries: u64,
    /// How long the oldest due entry has been due. Zero when nothing is due.
    pub oldest_due_ms: u64,
}

/// What a look at open payouts found.
#[derive(Clone, Debug, Default)]
pub struct LookedOver {
    /// Whether the walk has come to its end, and the next page is the first one.
    pub ended: bool,
    /// What the walk has found then.
    pub(super) walked: Option<Walked>,
    /// Open payouts by state, with the age of the oldest in ms.
    pub states: Vec<(StateName, u64, u64)>,
    /// Payouts that had no work although their state needs it. The work was put back.
    pub repaired: Vec<PayoutId>,
}

impl Store {
    /// The state of one shard.
    ///
    /// # Errors
    /// As every call.
    pub async fn vitals(&self, shard: Shard) -> Result<Vitals, StoreError> {
        let names = &self.shared.names;
        let at = self.clock().now();
        let now = at.as_millisecond();
        let mut vitals = Vitals { at, ..Vitals::default() };
        let lanes = [
            ("execute", "due:execute"),
            ("poll", "due:poll"),
            ("settle", "due:settle"),
            ("expand", "due:expand"),
            ("group", "due:group"),
            ("relay", "lanes"),
            ("circuit", "due:circuit"),
            ("schedule", "due:schedule"),
            ("replay", "due:replay"),
        ];
        for (lane, key) in lanes {
            let key = names.of(shard, key);
            let entries = self.cardinality(&key).await?;
            let head: Vec<(String, f64)> = from_value(self.query(redis::cmd("ZRANGE").arg(&key).arg(0).arg(0).arg("WITHSCORES").to_owned()).await?)?;
            #[expect(clippy::cast_possible_truncation, reason = "scores are milliseconds, far below 2^53")]
            let oldest_due_ms = head.first().map_or(0, |(_, due)| u64::try_from(now - *due as i64).unwrap_or(0));
            vitals.lanes.push(LaneVitals { lane, entries, oldest_due_ms });
        }
        vitals.open = self.cardinality(&names.of(shard, "open")).await?;
        vitals.abandoned = self.cardinality(&names.of(shard, "abandoned")).await?;
        vitals.orphans = self.cardinality(&names.of(shard, "orphans")).await?;
        vitals.frozen = self.frozen(shard).await?.is_some();
        vitals.circuits = self.circuits(shard).await?;
        vitals.reconciled = self.reconciled().await?;
        let info: String = from_value(self.query(redis::cmd("INFO").arg("memory").to_owned()).await?)?;
        vitals.memory_bytes =
            info.lines().find_map(|line| line.strip_prefix("used_memory:")).and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
        Ok(vitals)
    }

    async fn cardinality(&self, key: &str) -> Result<u64, StoreError> {
        from_value(self.query(redis::cmd("ZCARD").arg(key).to_owned()).await?)
    }

    /// Reads the next page of a walk over the open payouts, oldest first, and puts back work that is missing. In a sound store it never is: this is the net below.
    ///
    /// # Errors
    /// As every call.
    pub async fn look_over(&self, shard: Shard, walk: &mut Walk) -> Result<LookedOver, StoreError> {
        let names = &self.shared.names;
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(names.of(shard, "open")).arg(walk.since_ms).arg("+inf").arg("WITHSCORES").arg("LIMIT").arg(walk.passed).arg(LOOKED_OVER);
        let page: Vec<(String, f64)> = from_value(self.query(command).await?)?;
        let mut found = LookedOver { ended: page.len() < LOOKED_OVER, ..LookedOver::default() };
        if let Some((_, last)) = page.last() {
            #[expect(clippy::cast_possible_truncation, reason = "scores are whole milliseconds, far below 2^53")]
            let last_ms = *last as i64;
            let of_last = page.iter().rev().take_while(|(_, at)| at == last).count();
            walk.passed = if last_ms == walk.since_ms { walk.passed + of_last } else { of_last };
            walk.since_ms = last_ms;
        }
        let ids = page.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        let now = self.clock().now();
        for id in ids.iter().filter_map(|id| id.parse::<PayoutId>().ok()) {
            // One record of another version must not hide the rest.
            let Some(payout) = self.load_readable(id).await? else {
                walk.unreadable = true;
                continue;
            };
            walk.count(names.ledger(shard, &payout.party, payout.mode, payout.amount.currency()), &payout);
            let state = payout.state.name();
            let age = u64::try_from(now.duration_since(payout.since).as_millis()).unwrap_or(0);
            match found.states.iter_mut().find(|(known, _, _)| *known == state) {
                Some((_, count, oldest)) => (*count, *oldest) = (*count + 1, (*oldest).max(age)),
                None => found.states.push((state, 1, age)),
            }
            let lane = match state {
                StateName::Requested | StateName::AwaitingApproval | StateName::Scheduled | StateName::Initiated => "due:execute",
                StateName::Inconclusive | StateName::Authorised | StateName::Submitted => "due:poll",
                _ => continue,
            };
            let missing = from_value::<Option<f64>>(
                self.query(redis::cmd("ZSCORE").arg(names.of(shard, "due:execute")).arg(id.to_string()).to_owned()).await?,
            )?
            .is_none()
                && from_value::<Option<f64>>(
                    self.query(redis::cmd("ZSCORE").arg(names.of(shard, "due:poll")).arg(id.to_string()).to_owned()).await?,
                )?
                .is_none()
                && !self.is_held(id).await?;
            // A commit may have happened between the reads: only what still stands where it was read is repaired.
            if missing && self.load(id).await?.is_some_and(|again| again.version == payout.version) {
                let due = if let domain::payout::state::State::Scheduled { until } = payout.state { until.max(now) } else { now };
                let command = redis::cmd("ZADD").arg(names.of(shard, lane)).arg("NX").arg(due.as_millisecond()).arg(id.to_string()).to_owned();
                self.query(command).await?;
                found.repaired.push(id);
            }
        }
        if found.ended {
            found.walked = walk.end();
        }
        Ok(found)
    }
}
