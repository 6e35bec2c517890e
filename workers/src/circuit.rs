//! The circuit breaker: counts what goes wrong at a provider as a whole, and lets payouts wait that could only go wrong too.
//!
//! A circuit opens after so many failed sends in a row, or at once when the provider does not accept our credentials; while it is open nothing is
//! sent, and what is due is held, can be canceled, and is asked about if it was sent before. After a wait it is half open: one payout goes as a
//! trial. Its outcome closes the circuit or keeps it open for longer. A pause by a person is the same circuit, held open until they resume it
//! ([`crate::store::circuits`]). A refusal of a single payout is an answer of a provider that is well.

use std::sync::Arc;
use std::time::Duration;

use domain::fact::{Provider, Reason, Source};
use domain::payout::state::StateName;
use domain::payout::{Fact, Payout, What};
use domain::wait::Backoff;
use jiff::SignedDuration;
use tracing::Instrument as _;

pub use providers::condition::Condition;

use crate::execute::{Done, Payouts};
use crate::queue::Job;
use crate::store::StoreError;
use crate::store::circuits::{Changed, Heard};
use crate::store::lanes::{CircuitWork, Ticket};

/// A trial that was released and has not begun by then is followed by another.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// When a circuit opens, and for how long.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// So many failed sends in a row open it.
    pub failures: u32,
    /// How long it stays open at first; the wait doubles with each trial that fails. At least half of each wait, the rest is spread.
    pub wait_first_ms: u64,
    /// The longest such wait.
    pub wait_cap_ms: u64,
}

/// How a circuit let a send pass, which says what its outcome can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// Closed, and the last send went well. Another one that does is no news.
    Closed,
    /// Closed after failures, which a success ends.
    Counting,
    /// Half open: this is the one that is tried. It has opened so often in a row.
    Trial { trips: u32 },
}

// === impl Settings ===

impl Settings {
    fn wait(&self, trips: u32) -> Duration {
        let ms = |ms: u64| SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
        let backoff = Backoff { first: ms(self.wait_first_ms), factor: 2, cap: ms(self.wait_cap_ms) };
        backoff.wait(trips, &rand::random::<u64>().to_be_bytes()).unsigned_abs()
    }
}

// === impl Payouts ===

impl Payouts {
    /// The script has set the payout aside. Says so to whoever watches it.
    pub(crate) async fn hold(&self, payout: &Payout, why: &'static str) -> Result<Done, StoreError> {
        if payout.state.name() == StateName::Requested {
            return self.record(payout, Fact::new(Source::Worker, What::Hold { why: Reason::new(why) })).await;
        }
        Ok(Done::Settled)
    }

    /// Takes in what an answer says about its provider. While all is well that costs nothing.
    pub(crate) async fn sense(&self, payout: &Payout, provider: Provider, passed: Passed, condition: Condition, why: &str) {
        let news = match (condition, passed) {
            (_, Passed::Trial { .. }) | (Condition::Failing | Condition::LockedOut, _) => true,
            (Condition::Well, passed) => passed == Passed::Counting,
            (Condition::Unknown, _) => false,
        };
        if !news {
            return;
        }
        let trips = if let Passed::Trial { trips } = passed { trips } else { 0 };
        let (mode, stays) = (payout.mode, self.circuit.wait(trips.saturating_add(1)));
        let heard = Heard { shard: payout.id.shard(), provider, mode, condition, why, passed, opens_after: self.circuit.failures, stays };
        let (name, wait_ms) = (provider.name(), stays.as_millis());
        match self.recorder.store.heard(&heard).await {
            Ok(Changed::Nothing) => {}
            Ok(Changed::Opened) => {
                self.recorder.metrics.circuit_opened(provider, mode, condition);
                tracing::error!(
                    provider.name = name,
                    mode = mode.as_str(),
                    why,
                    wait_ms,
                    "the circuit of a provider has opened; payouts wait for it"
                );
            }
            Ok(Changed::Stays) => {
                tracing::warn!(provider.name = name, mode = mode.as_str(), why, wait_ms, "a trial has failed; the circuit of a provider stays open");
            }
            Ok(Changed::Closed) => {
                tracing::info!(provider.name = name, mode = mode.as_str(), "the circuit of a provider has closed; payouts that waited go on");
            }
            // The trial's lease ends by itself, and who fails next is counted.
            Err(error) => tracing::warn!(provider.name = name, mode = mode.as_str(), %error, "the circuit of a provider could not be told"),
        }
    }
}

/// Looks at a circuit: what it lets through is due again.
pub async fn release(context: Arc<Payouts>, job: Job<CircuitWork, Ticket>) {
    let (CircuitWork { shard, provider, mode }, lease) = job.into_parts();
    let span = tracing::debug_span!("circuit.release", provider.name = provider.name(), mode = mode.as_str());
    async {
        match context.recorder.store.release(shard, provider, mode, LOOK_AGAIN).await {
            Ok(_) => lease.settled(),
            Err(error) => {
                tracing::warn!(provider.name = provider.name(), %error, "held payouts could not be released; the lease will lead back to them")
            }
        }
    }
    .instrument(span)
    .await;
}

/// What the end of a send says about its provider, with the reason code.
pub(crate) fn sensed(what: &What) -> (Condition, String) {
    let why = match what {
        What::NotSent { why, .. } | What::Unprocessed { why, .. } | What::NoAnswer { why, .. } => Some(why.as_str()),
        // Another one answered.
        What::Elsewhere { .. } => return (Condition::Unknown, String::new()),
        _ => None,
    };
    (why.map_or(Condition::Well, Condition::of), why.unwrap_or_default().to_owned())
}
