//! Taking in a fact: load, decide, commit, and decide again when somebody else was faster.

use std::sync::Arc;
use std::time::Duration;

use domain::fact::Source;
use domain::payout::attempt::Attempt;
use domain::payout::{Declined, Fact, Payout, Plan, Verdict, What};
use domain::wait::Backoff;
use jiff::SignedDuration;
use providers::Providers;

use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::store::payouts::Committed;
use crate::store::{Store, StoreError};

/// How often a decision is made again on a newer record. Each time somebody else's commit got through, so this is not a wait for a lock.
const DECISIONS_MAX: u32 = 16;

/// Our own rules of dispatch, beside the provider's profile.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The first wait before a send that was not processed goes again.
    pub redispatch_first_ms: u64,
    /// The longest such wait.
    pub redispatch_cap_ms: u64,
    /// How long a payout that cannot be brought to its provider is tried before it is rejected.
    pub dispatch_bound_ms: u64,
    /// The shortest time between two looks at one payout that callers and hints cause. The looks of the plan do not count.
    pub check_every_ms: u64,
    /// How long the ids that providers make are kept: as long as a provider may tell of a payout by its own id only.
    pub references_kept_days: u32,
    /// How long the results of a batch are kept after the last of its items has ended.
    pub batches_kept_days: u32,
    /// Lists of deliveries, and replays, that begin at a time also look at payouts that were asked for so long before.
    pub history_days: u32,
}

/// Applies facts to payouts, the same way for everybody.
#[derive(Clone)]
pub struct Recorder {
    pub store: Store,
    pub providers: Arc<Providers>,
    pub metrics: Arc<Metrics>,
    pub gate: Gate,
    redispatch: Backoff,
    dispatch_bound: SignedDuration,
    /// The shortest time between two looks at one payout that somebody asks for.
    pub check_every: SignedDuration,
    references_kept: Duration,
    /// How long the results of a batch are kept after the last of its items has ended.
    pub batches_kept: Duration,
    /// Payouts that were asked for so long before may have events of a time.
    pub looks_back: SignedDuration,
}

/// What became of a fact.
#[derive(Debug)]
pub enum Recorded {
    /// The record as it is now.
    Done(Box<Payout>),
    /// The command is not possible on the record as it is now.
    Declined(Declined, Box<Payout>),
    /// The payout is gone.
    Missing,
}

impl Recorder {
    #[must_use]
    pub fn new(store: Store, providers: Arc<Providers>, metrics: Arc<Metrics>, gate: Gate, rules: &Rules) -> Self {
        Self {
            store,
            providers,
            metrics,
            gate,
            redispatch: Backoff { first: duration(rules.redispatch_first_ms), factor: 2, cap: duration(rules.redispatch_cap_ms) },
            dispatch_bound: duration(rules.dispatch_bound_ms),
            check_every: duration(rules.check_every_ms),
            references_kept: days(rules.references_kept_days),
            batches_kept: days(rules.batches_kept_days),
            looks_back: SignedDuration::from_hours(i64::from(rules.history_days) * 24),
        }
    }

    /// The rules for a payout, by the provider that has it or will get it.
    #[must_use]
    pub fn plan(&self, payout: &Payout) -> Plan {
        let provider = payout.attempt().map(|attempt| attempt.provider).or_else(|| payout.route.first().copied());
        let (polling, last_words, cancelable, dispatch_bound) = provider.map_or_else(
            || (domain::wait::Polling { waits: Vec::new(), bound: self.dispatch_bound }, &[][..], false, self.dispatch_bound),
            |provider| {
                let profile = self.providers.profile(provider, payout.mode);
                // Payouts of one balance go one after the other there, on business days: it takes longer until one of them cannot be brought there.
                let bound = if profile.one_open_per_balance { self.dispatch_bound.max(profile.polling.bound) } else { self.dispatch_bound };
                (profile.polling, profile.last_words, profile.cancelable, bound)
            },
        );
        Plan { polling, last_words, cancelable, redispatch: self.redispatch.clone(), dispatch_bound }
    }

    /// Applies a fact to a payout and commits what follows. On a newer record the decision is made again. Repeating a fact is harmless.
    ///
    /// # Errors
    /// As every call of the store. Whether the fact was written is then unknown; repeat it.
    pub async fn record(&self, payout: Payout, fact: &Fact) -> Result<Recorded, StoreError> {
        self.record_while(payout, fact, |_| true).await
    }

    /// As [`Recorder::record`], only while it is so of the payout: on a newer record of which it is not, the fact comes too late.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub async fn record_while(&self, mut payout: Payout, fact: &Fact, is_so: impl Fn(&Payout) -> bool) -> Result<Recorded, StoreError> {
        for _ in 0..DECISIONS_MAX {
            if !is_so(&payout) {
                return Ok(Recorded::Declined(Declined::TooLate, Box::new(payout)));
            }
            let verdict = payout.apply(fact, &self.plan(&payout), self.store.clock().now());
            let step = match &verdict {
                Verdict::Moved(step) | Verdict::Known(step) => step,
                Verdict::Refused(clash, step) => {
                    tracing::error!(payout.id = %payout.id, ?clash, "statements about a payout contradict each other; it is in review");
                    step
                }
                Verdict::Declined(declined) => return Ok(Recorded::Declined(*declined, Box::new(payout))),
            };
            self.note_references(&payout, &step.payout).await?;
            match self.store.commit(step).await? {
                Committed::Done => {
                    self.metrics.committed(&payout, step);
                    return Ok(Recorded::Done(Box::new(step.payout.clone())));
                }
                Committed::Missing => return Ok(Recorded::Missing),
                Committed::Stale => match self.store.load(payout.id).await? {
                    Some(newer) => payout = newer,
                    None => return Ok(Recorded::Missing),
                },
            }
        }
        Err(StoreError::Unavailable(None))
    }

    /// Brings the next look at the provider forward to now, because somebody asks for it. Asked again within [`Rules::check_every_ms`], nothing more is done.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub async fn check(&self, payout: Payout, by: Source) -> Result<Recorded, StoreError> {
        if payout.is_checkable() && self.store.claim_look(payout.id, self.check_every).await?.is_some() {
            return Ok(Recorded::Done(Box::new(payout)));
        }
        self.record(payout, &Fact::new(by, What::Check)).await
    }

    /// Enters the ids that a step has learnt into the directory, where their provider may name a payout by nothing else. Without a new one it asks nobody.
    async fn note_references(&self, before: &Payout, after: &Payout) -> Result<(), StoreError> {
        for attempt in &after.attempts {
            let known = |made: &&Attempt| made.number == attempt.number && made.reference.is_some();
            let Some(reference) = attempt.reference.as_ref().filter(|_| !before.attempts.iter().any(|made| known(&made))) else { continue };
            if self.providers.profile(attempt.provider, after.mode).told_by_reference {
                self.store.refer((attempt.provider, after.mode), reference, (after.id, attempt.number), self.references_kept).await?;
            }
        }
        Ok(())
    }

    /// As [`Recorder::record`], and goes on trying while the store does not answer, as long as the caller lets it. For what a provider said:
    /// a late answer may hold the only proof there will ever be.
    ///
    /// # Errors
    /// Only errors that a repeat cannot mend.
    pub async fn record_surely(&self, payout: &Payout, fact: &Fact) -> Result<Recorded, StoreError> {
        self.record_surely_while(payout, fact, |_| true).await
    }

    /// As [`Recorder::record_surely`], only while it is so of the payout, as in [`Recorder::record_while`].
    ///
    /// # Errors
    /// As [`Recorder::record_surely`].
    pub async fn record_surely_while(&self, payout: &Payout, fact: &Fact, is_so: impl Fn(&Payout) -> bool) -> Result<Recorded, StoreError> {
        let mut waits = crate::waits::reconnect();
        loop {
            match self.record_while(payout.clone(), fact, &is_so).await {
                Err(StoreError::Unavailable(_) | StoreError::Full) => crate::waits::pause(&mut waits).await,
                done => return done,
            }
        }
    }
}

fn duration(ms: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))
}

fn days(days: u32) -> Duration {
    Duration::from_hours(u64::from(days) * 24)
}
