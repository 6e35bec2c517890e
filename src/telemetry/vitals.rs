//! The numbers that are read rather than counted: what a sweep found in the store, what the lanes do, how large the process is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use domain::payout::state::StateName;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Meter};
use workers::agreement::Disagreements;
use workers::lanes::LaneHealth;
use workers::reconcile::Kind;
use workers::store::accounts::Audited;
use workers::store::circuits::{Circuit, CircuitState};
use workers::store::reconciliations::Reconciled;
use workers::sweep::Swept;

use super::metrics;

/// Takes what sweeps find and what lanes say of themselves, for as long as the process lives.
pub struct Vitals {
    state: Arc<Mutex<State>>,
    repaired: Counter<u64>,
}

#[derive(Default)]
struct State {
    shards: BTreeMap<u8, Seen>,
    /// Sections of the configuration that not all processes were told alike, once that was compared.
    disagreements: Option<u64>,
    lanes: LaneHealth,
}

/// The last word about a shard.
struct Seen {
    at: Instant,
    vitals: workers::store::vitals::Vitals,
    audited: Audited,
    batch_age_ms: u64,
    schedule_overdue_ms: u64,
    /// Open payouts by state, with the age of the oldest: complete, and the pages of the round that is under way.
    open: Vec<(StateName, u64, u64)>,
    pages: Vec<(StateName, u64, u64)>,
}

type Values = Vec<(f64, Vec<KeyValue>)>;

impl Vitals {
    pub(super) fn new(meter: &Meter) -> Arc<Self> {
        let state = Arc::new(Mutex::new(State::default()));
        let about = |name: &str| metrics::named(name).map_or("", |metric| metric.about);
        // Each name is written out beside its builder, for the eye and for the test that compares the table with the code.
        macro_rules! observe {
            ($builder:ident($name:literal), $read:expr) => {{
                let state = state.clone();
                let read: fn(&State) -> Values = $read;
                let unit = metrics::named($name).map_or("", |metric| metric.unit);
                let callback = move |observer: &dyn AsyncInstrument<f64>| {
                    let values = read(&state.lock().unwrap_or_else(PoisonError::into_inner));
                    values.iter().for_each(|(value, labels)| observer.observe(*value, labels));
                };
                meter.$builder($name).with_unit(unit).with_description(about($name)).with_callback(callback).build();
            }};
        }
        observe!(f64_observable_gauge("payrelay_lane_entries"), |state| per_lane(state, |lane| lane.entries, |a, b| a + b));
        observe!(f64_observable_gauge("payrelay_lane_oldest_due_seconds"), |state| {
            in_seconds(per_lane(state, |lane| lane.oldest_due_ms, u64::max))
        });
        observe!(f64_observable_gauge("payrelay_open_payouts"), |state| per_state(state, |(_, count, _)| *count, |a, b| a + b));
        observe!(f64_observable_gauge("payrelay_open_payout_age_seconds"), |state| {
            in_seconds(per_state(state, |(_, _, oldest_ms)| *oldest_ms, u64::max))
        });
        observe!(f64_observable_gauge("payrelay_abandoned_deliveries"), |state| sum(state, |seen| seen.vitals.abandoned));
        observe!(f64_observable_gauge("payrelay_orphan_notices"), |state| sum(state, |seen| seen.vitals.orphans));
        observe!(f64_observable_gauge("payrelay_ledger_imbalance"), |state| sum(state, |seen| seen.audited.imbalance.unsigned_abs()));
        observe!(f64_observable_gauge("payrelay_ledger_unmatched"), |state| sum(state, |seen| seen.audited.unmatched));
        observe!(f64_observable_gauge("payrelay_ledger_overdrawn_accounts"), |state| sum(state, |seen| seen.audited.overdrawn));
        observe!(f64_observable_gauge("payrelay_batch_age_seconds"), |state| longest(state, |seen| seen.batch_age_ms));
        observe!(f64_observable_gauge("payrelay_schedule_overdue_seconds"), |state| longest(state, |seen| seen.schedule_overdue_ms));
        observe!(f64_observable_gauge("payrelay_frozen_shards"), |state| sum(state, |seen| u64::from(seen.vitals.frozen)));
        observe!(f64_observable_gauge("payrelay_frozen_parties"), |state| sum(state, |seen| seen.vitals.stopped.parties));
        observe!(f64_observable_gauge("payrelay_frozen_parties_payouts"), |state| sum(state, |seen| seen.vitals.stopped.held));
        observe!(f64_observable_gauge("payrelay_ledger_held_payouts"), |state| sum(state, |seen| seen.vitals.held_by_faults));
        observe!(f64_observable_gauge("payrelay_provider_circuit"), circuits);
        observe!(f64_observable_gauge("payrelay_held_payouts"), held);
        observe!(f64_observable_gauge("payrelay_reconciliation_breaks"), breaks);
        observe!(f64_observable_gauge("payrelay_reconciliation_age_seconds"), reconciled_ages);
        // One server, asked once per shard.
        observe!(f64_observable_gauge("payrelay_store_memory_bytes"), |state| {
            state.shards.values().next_back().map(|seen| (number(seen.vitals.memory_bytes), Vec::new())).into_iter().collect()
        });
        observe!(f64_observable_gauge("payrelay_sweep_age_seconds"), |state| {
            state.shards.values().map(|seen| seen.at.elapsed().as_secs_f64()).reduce(f64::max).map(|age| (age, Vec::new())).into_iter().collect()
        });
        observe!(f64_observable_gauge("payrelay_config_disagreements"), |state| {
            state.disagreements.map(|sections| (number(sections), Vec::new())).into_iter().collect()
        });
        observe!(f64_observable_gauge("payrelay_lane_in_flight"), |state| per_running_lane(state, |health| health.in_flight() as u64));
        observe!(f64_observable_counter("payrelay_lane_store_errors_total"), |state| per_running_lane(state, |health| health.source_errors()));
        observe!(f64_observable_counter("payrelay_lane_unsettled_total"), |state| per_running_lane(state, |health| health.unsettled()));
        observe!(f64_observable_gauge("payrelay_process_memory_bytes"), |_| {
            resident_bytes().map(|bytes| (number(bytes), Vec::new())).into_iter().collect()
        });
        observe!(f64_observable_gauge("payrelay_build_info"), |_| vec![(1.0, vec![KeyValue::new("version", env!("CARGO_PKG_VERSION"))])]);
        let repaired = meter.u64_counter("payrelay_work_repaired_total").with_description(about("payrelay_work_repaired_total")).build();
        // A counter that has never counted is not shown, and "no data" is what alerts fear.
        repaired.add(0, &[]);
        Arc::new(Self { state, repaired })
    }

    /// **The place where what a sweep found becomes metrics.** One page of the open payouts after the other; their numbers change when a round ends.
    pub fn observe(&self, swept: &Swept) {
        self.repaired.add(swept.looked_over.repaired.len() as u64 + swept.batches_repaired + swept.schedules.repaired, &[]);
        let mut state = self.lock();
        let before = state.shards.remove(&swept.shard.index());
        let (open, mut pages) = before.map_or_else(Default::default, |before| (before.open, before.pages));
        for (name, count, oldest_ms) in &swept.looked_over.states {
            match pages.iter_mut().find(|(known, _, _)| known == name) {
                Some((_, counted, oldest)) => (*counted, *oldest) = (*counted + count, (*oldest).max(*oldest_ms)),
                None => pages.push((*name, *count, *oldest_ms)),
            }
        }
        let (open, pages) = if swept.looked_over.ended { (pages, Vec::new()) } else { (open, pages) };
        let seen = Seen {
            at: Instant::now(),
            vitals: swept.vitals.clone(),
            audited: swept.audited,
            batch_age_ms: swept.batch_age_ms,
            schedule_overdue_ms: swept.schedules.overdue_ms,
            open,
            pages,
        };
        state.shards.insert(swept.shard.index(), seen);
    }

    /// What not all processes were told alike.
    pub fn compared(&self, found: &Disagreements) {
        self.lock().disagreements = Some(found.len() as u64);
    }

    /// The running lanes, once they run.
    pub fn lanes(&self, lanes: LaneHealth) {
        self.lock().lanes = lanes;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Vitals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vitals").finish_non_exhaustive()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of more than 2^53 is large enough without its last digits")]
fn number(value: u64) -> f64 {
    value as f64
}

fn in_seconds(values: Values) -> Values {
    values.into_iter().map(|(ms, labels)| (ms / 1_000.0, labels)).collect()
}

/// Folds pairs of a label's value and a number into one number per label.
fn labelled(label: &'static str, pairs: impl Iterator<Item = (&'static str, u64)>, fold: fn(u64, u64) -> u64) -> Values {
    let mut folded = BTreeMap::new();
    for (name, value) in pairs {
        folded.entry(name).and_modify(|so_far| *so_far = fold(*so_far, value)).or_insert(value);
    }
    folded.into_iter().map(|(name, value)| (number(value), vec![KeyValue::new(label, name)])).collect()
}

fn per_lane(state: &State, read: fn(&workers::store::vitals::LaneVitals) -> u64, fold: fn(u64, u64) -> u64) -> Values {
    labelled("lane", state.shards.values().flat_map(|seen| &seen.vitals.lanes).map(|lane| (lane.lane, read(lane))), fold)
}

/// Every state that a payout can be open in, so that a state which is empty again says 0.
fn per_state(state: &State, read: fn(&(StateName, u64, u64)) -> u64, fold: fn(u64, u64) -> u64) -> Values {
    if state.shards.is_empty() {
        return Values::new();
    }
    let none = StateName::ALL.into_iter().filter(|state| !state.is_final()).map(|state| (state.as_str(), 0));
    let some = state.shards.values().flat_map(|seen| &seen.open).map(|entry| (entry.0.as_str(), read(entry)));
    labelled("state", none.chain(some), fold)
}

fn per_running_lane(state: &State, read: fn(&workers::queue::Health) -> u64) -> Values {
    labelled("lane", state.lanes.iter().map(|(lane, health)| (*lane, read(health))), |a, b| a + b)
}

/// The worst state of a circuit in any shard, as 1, and 0 for the others.
fn circuits(state: &State) -> Values {
    let mut worst = BTreeMap::new();
    for (circuit, found) in seen_circuits(state).map(|(seen, circuit)| (circuit, circuit.state(seen.vitals.at))) {
        let names = (circuit.provider.name(), circuit.mode.as_str());
        worst.entry(names).and_modify(|worst: &mut CircuitState| *worst = found.max(*worst)).or_insert(found);
    }
    let each = worst.into_iter().flat_map(|(names, found)| CircuitState::ALL.map(|state| (names, state, u64::from(state == found))));
    each.map(|((provider, mode), state, is)| (number(is), of_circuit(provider, mode).chain([KeyValue::new("state", state.name())]).collect()))
        .collect()
}

fn held(state: &State) -> Values {
    let mut held = BTreeMap::new();
    for (_, circuit) in seen_circuits(state) {
        *held.entry((circuit.provider.name(), circuit.mode.as_str())).or_insert(0) += circuit.held;
    }
    held.into_iter().map(|((provider, mode), held)| (number(held), of_circuit(provider, mode).collect())).collect()
}

/// The breaks of all days that are kept, by kind; 0 where an account was reconciled without any.
fn breaks(state: &State) -> Values {
    let mut sums = BTreeMap::new();
    for (_, day) in reconciled(state) {
        let account = (day.provider.name(), day.mode.as_str());
        for kind in Kind::ALL {
            let found = day.breaks.iter().filter(|(of, _)| *of == kind).map(|(_, count)| count).sum::<u64>();
            *sums.entry((account, kind.name())).or_insert(0) += found;
        }
    }
    let labels = |((provider, mode), kind)| of_circuit(provider, mode).chain([KeyValue::new("kind", kind)]).collect();
    sums.into_iter().map(|(of, count)| (number(count), labels(of))).collect()
}

fn reconciled_ages(state: &State) -> Values {
    let mut ages = BTreeMap::new();
    for (seen, day) in reconciled(state) {
        let age_ms = u64::try_from(seen.vitals.at.duration_since(day.at).as_millis()).unwrap_or(0);
        ages.entry((day.provider.name(), day.mode.as_str())).and_modify(|least: &mut u64| *least = age_ms.min(*least)).or_insert(age_ms);
    }
    in_seconds(ages.into_iter().map(|((provider, mode), age_ms)| (number(age_ms), of_circuit(provider, mode).collect())).collect())
}

/// Every shard tells the same days: what was read last counts.
fn reconciled(state: &State) -> impl Iterator<Item = (&Seen, &Reconciled)> {
    let newest = state.shards.values().max_by_key(|seen| seen.at);
    newest.into_iter().flat_map(|seen| seen.vitals.reconciled.iter().map(move |day| (seen, day)))
}

fn seen_circuits(state: &State) -> impl Iterator<Item = (&Seen, &Circuit)> {
    state.shards.values().flat_map(|seen| seen.vitals.circuits.iter().map(move |circuit| (seen, circuit)))
}

fn of_circuit(provider: &'static str, mode: &'static str) -> impl Iterator<Item = KeyValue> {
    [KeyValue::new("provider", provider), KeyValue::new("mode", mode)].into_iter()
}

fn sum(state: &State, read: fn(&Seen) -> u64) -> Values {
    if state.shards.is_empty() { Values::new() } else { vec![(number(state.shards.values().map(read).sum()), Vec::new())] }
}

fn longest(state: &State, read_ms: fn(&Seen) -> u64) -> Values {
    let longest = state.shards.values().map(read_ms).max();
    in_seconds(longest.map(|ms| (number(ms), Vec::new())).into_iter().collect())
}

/// Where the system tells it, which is Linux.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kilobytes * 1024)
}
