//! What the work on payouts counts. Labels are bounded: states, providers, outcome classes; never an id.

use std::sync::Arc;

use domain::fact::{Answer, Look, Provider, Status};
use domain::id::Mode;
use domain::payout::{Payout, Step};
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};
use providers::condition::Condition;

use crate::batch::{ItemResult, Outcome};
use crate::deposit;
use crate::schedule::{self, Blocked};

/// Counters and histograms of the work on payouts.
pub struct Metrics {
    transitions: Counter<u64>,
    time_to_final: Histogram<f64>,
    provider_calls: Counter<u64>,
    unmapped: Counter<u64>,
    contradictions: Counter<u64>,
    circuits_opened: Counter<u64>,
    batches: Counter<u64>,
    batch_items: Counter<u64>,
    schedule_due_dates: Counter<u64>,
    schedule_blocked: Counter<u64>,
    deposits: Counter<u64>,
}

impl Metrics {
    #[must_use]
    pub fn new(meter: &Meter) -> Arc<Self> {
        let metrics = Self {
            transitions: meter.u64_counter("payrelay_payouts_total").with_description("Payouts that entered a state").build(),
            time_to_final: meter
                .f64_histogram("payrelay_payout_duration_seconds")
                .with_unit("s")
                .with_description("From the request to a final state")
                .build(),
            provider_calls: meter.u64_counter("payrelay_provider_calls_total").with_description("Calls to providers by what came back").build(),
            unmapped: meter
                .u64_counter("payrelay_provider_unmapped_total")
                .with_description("Provider statuses that no word of ours stands for")
                .build(),
            contradictions: meter.u64_counter("payrelay_contradictions_total").with_description("Payouts whose evidence contradicts itself").build(),
            circuits_opened: meter
                .u64_counter("payrelay_provider_circuit_opened_total")
                .with_description("Circuits of providers that opened")
                .build(),
            batches: meter.u64_counter("payrelay_batches_total").with_description("Batches that were accepted").build(),
            batch_items: meter.u64_counter("payrelay_batch_items_total").with_description("Items of batches by what became of them").build(),
            schedule_due_dates: meter
                .u64_counter("payrelay_schedule_due_dates_total")
                .with_description("Due dates of schedules by what became of them")
                .build(),
            schedule_blocked: meter
                .u64_counter("payrelay_schedule_blocked_total")
                .with_description("Looks that found a payout of a schedule due and could not open it")
                .build(),
            deposits: meter.u64_counter("payrelay_deposits_total").with_description("Looks at money that came in by what became of it").build(),
        };
        // What counts faults only is 0 from the start: a counter that has never counted is not shown, and an alert would wait for it in vain.
        metrics.contradictions.add(0, &[]);
        for mode in [Mode::Test, Mode::Live] {
            Blocked::ALL.into_iter().for_each(|why| metrics.schedule_blocked.add(0, &[KeyValue::new("reason", why.as_str()), of(mode)]));
            schedule::Outcome::ALL
                .into_iter()
                .for_each(|outcome| metrics.schedule_due_dates.add(0, &[KeyValue::new("outcome", outcome.as_str()), of(mode)]));
        }
        for provider in Provider::ALL {
            metrics.unmapped.add(0, &[KeyValue::new("provider", provider.name())]);
            for (mode, outcome) in [Mode::Test, Mode::Live].into_iter().flat_map(|mode| deposit::Outcome::ALL.map(|outcome| (mode, outcome))) {
                metrics.deposits.add(0, &deposited(provider, mode, outcome));
            }
            for (mode, why) in [Mode::Test, Mode::Live].into_iter().flat_map(|mode| OPENERS.map(|why| (mode, why))) {
                metrics.circuits_opened.add(0, &opening(provider, mode, why));
            }
        }
        Arc::new(metrics)
    }

    /// A step was committed on `before`.
    pub fn committed(&self, before: &Payout, step: &Step) {
        let state = step.payout.state.name();
        if state == before.state.name() {
            return;
        }
        self.transitions.add(1, &[KeyValue::new("state", state.as_str()), KeyValue::new("mode", step.payout.mode.as_str())]);
        if state.is_final() {
            let requested = step.payout.reached.get(&domain::payout::state::StateName::Requested);
            let seconds = requested.map_or(0.0, |requested| step.observation.at.duration_since(*requested).as_secs_f64());
            self.time_to_final.record(seconds, &[KeyValue::new("state", state.as_str())]);
        }
        if let domain::payout::state::State::InReview { cause: domain::payout::state::Cause::Clash(_) } = step.payout.state {
            self.contradictions.add(1, &[]);
        }
    }

    /// A payout was opened.
    pub fn opened(&self, step: &Step) {
        let state = step.payout.state.name().as_str();
        self.transitions.add(1, &[KeyValue::new("state", state), KeyValue::new("mode", step.payout.mode.as_str())]);
    }

    /// A batch was accepted.
    pub fn accepted(&self, mode: Mode) {
        self.batches.add(1, &[KeyValue::new("mode", mode.as_str())]);
    }

    /// A page of a batch was opened.
    pub fn expanded(&self, mode: Mode, results: &[ItemResult]) {
        for outcome in Outcome::ALL {
            let count = results.iter().filter(|result| result.outcome == outcome).count();
            if count > 0 {
                self.batch_items.add(count as u64, &[KeyValue::new("result", outcome.as_str()), KeyValue::new("mode", mode.as_str())]);
            }
        }
    }

    /// A due date of a schedule has had its turn.
    pub fn schedule_came_to(&self, mode: Mode, outcome: schedule::Outcome) {
        self.schedule_due_dates.add(1, &[KeyValue::new("outcome", outcome.as_str()), of(mode)]);
    }

    /// A payout of a schedule is due and was not opened.
    pub fn schedule_blocked(&self, mode: Mode, why: Blocked) {
        self.schedule_blocked.add(1, &[KeyValue::new("reason", why.as_str()), of(mode)]);
    }

    /// Money that a provider told of was looked at.
    pub fn deposited(&self, provider: Provider, mode: Mode, outcome: deposit::Outcome) {
        self.deposits.add(1, &deposited(provider, mode, outcome));
    }

    /// A send ended.
    pub fn answered(&self, provider: Provider, answer: &Answer) {
        let class = match answer {
            Answer::NotSent { .. } => "not_sent",
            Answer::Unprocessed { .. } => "unprocessed",
            Answer::NoAnswer { .. } => "no_answer",
            Answer::Refused { .. } => "refused",
            Answer::KeyConflict => "key_conflict",
            Answer::Says(_) => "says",
        };
        self.called(provider, "submit", class);
        if let Answer::Says(report) = answer {
            self.reported(provider, &report.status);
        }
    }

    /// The circuit of a provider opened.
    pub fn circuit_opened(&self, provider: Provider, mode: Mode, why: Condition) {
        self.circuits_opened.add(1, &opening(provider, mode, why));
    }

    /// A question ended.
    pub fn looked(&self, provider: Provider, look: &Look) {
        let class = match look {
            Look::Found(_) => "says",
            Look::NotFound => "not_found",
            Look::Nothing { .. } => "no_answer",
        };
        self.called(provider, "look", class);
        if let Look::Found(report) = look {
            self.reported(provider, &report.status);
        }
    }

    fn called(&self, provider: Provider, call: &'static str, class: &'static str) {
        self.provider_calls.add(1, &[KeyValue::new("provider", provider.name()), KeyValue::new("call", call), KeyValue::new("outcome", class)]);
    }

    fn reported(&self, provider: Provider, status: &Status) {
        if *status == Status::Unmapped {
            self.unmapped.add(1, &[KeyValue::new("provider", provider.name())]);
        }
    }
}

fn of(mode: Mode) -> KeyValue {
    KeyValue::new("mode", mode.as_str())
}

fn deposited(provider: Provider, mode: Mode, outcome: deposit::Outcome) -> [KeyValue; 3] {
    [KeyValue::new("provider", provider.name()), of(mode), KeyValue::new("outcome", outcome.as_str())]
}

/// What opens a circuit.
const OPENERS: [Condition; 2] = [Condition::Failing, Condition::LockedOut];

fn opening(provider: Provider, mode: Mode, why: Condition) -> [KeyValue; 3] {
    [KeyValue::new("provider", provider.name()), KeyValue::new("mode", mode.as_str()), KeyValue::new("why", why.name())]
}
