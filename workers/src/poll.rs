//! Finding out: ask the provider about an attempt, and where it does not know it and recognises repeats, send the same bytes again.

use std::sync::Arc;
use std::time::Duration;

use domain::fact::{Look, Reason, Source};
use domain::payout::attempt::Attempt;
use domain::payout::state::StateName;
use domain::payout::{Fact, Payout, Verdict, What};
use jiff::SignedDuration;
use providers::Canceling;
use providers::profile::Profile;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::execute::{Done, Payouts, Send, inquiry, later};
use crate::forgotten::Forgotten;
use crate::queue::{Job, Lease};
use crate::store::StoreError;
use crate::store::lanes::{PollWork, Ticket};
use crate::store::payouts::{Permit, Permitted};
use crate::store::turns::Looking;
use crate::trace;

/// Sends of one attempt that may have reached the provider, at most.
pub(crate) const SENDS_MAX: usize = 8;

/// Asks about one payout whose outcome is not known.
pub async fn poll(context: Arc<Payouts>, job: Job<PollWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let span = tracing::debug_span!("payout.poll", payout.id = %work.payout.id, payout.state = work.payout.state.name().as_str());
    trace::continues(&span, work.payout.trace.as_deref());
    let id = work.payout.id;
    async {
        match context.poll(work, &lease).await {
            Ok(Done::Settled) => lease.settled(),
            Ok(Done::Later) => drop(lease),
            Err(error) => tracing::warn!(payout.id = %id, %error, "a poll could not be recorded; its lease will lead back to it"),
        }
    }
    .instrument(span)
    .await;
}

impl Payouts {
    async fn poll(&self, work: PollWork, lease: &Lease<Ticket>) -> Result<Done, StoreError> {
        let payout = work.payout;
        let Some(attempt) = payout.attempt() else {
            return self.record(&payout, Fact::new(Source::Worker, What::Stuck { why: Reason::new("no_attempt") })).await;
        };
        if work.times_leased > self.settings.leases_max {
            return self.record(&payout, Fact::new(Source::Worker, What::Stuck { why: Reason::new("leased_too_often") })).await;
        }
        let request = self.recorder.store.request(payout.id).await?.unwrap_or_default();
        // After a loss of writes the record may misjudge what it would cancel.
        if payout.cancel_asked.is_some()
            && !self.recorder.store.is_suspect(&payout).await?
            && let Some(what) = self.cancel_there(&payout, attempt, &request).await
        {
            return self.record(&payout, Fact::new(Source::Poll, what)).await;
        }
        let profile = self.recorder.providers.profile(attempt.provider, payout.mode);
        let is_suspect = self.recorder.store.is_suspect(&payout).await?;
        let may_resend = self.may_resend(&payout, attempt, &profile);
        let asked = inquiry(attempt, &request);
        let look = self.recorder.providers.look(attempt.provider, payout.mode, &asked);
        let turn = if is_suspect && may_resend { self.turn_of_poll(&payout).await? } else { None };
        // All at once, so that the time of one question is left for what follows it.
        let (look, forgotten) = match turn {
            Some(Duration::ZERO) => {
                let (look, forgotten) = tokio::join!(look, self.forgotten(&payout, attempt));
                (look, forgotten?)
            }
            // It is asked about, and not sent again this time.
            Some(_) => (look.await, Forgotten::Perhaps),
            None if is_suspect && may_resend => (look.await, Forgotten::Perhaps),
            None => (look.await, Forgotten::Nothing),
        };
        self.recorder.metrics.looked(attempt.provider, &look);
        // Without the provider's id there is nothing to ask for, but the same request, which is recognised, brings the id.
        let unaddressed = !profile.looked_up_by_our_key && attempt.reference.is_none();
        let is_unknown = matches!(look, Look::NotFound) || (unaddressed && matches!(look, Look::Nothing { .. }));
        match forgotten {
            // It may have been paid there, whatever this provider says: that is for a person to know.
            Forgotten::Found(what) => return self.record(&payout, Fact::new(Source::Poll, what)).await,
            Forgotten::Nothing if is_unknown && may_resend => return self.resend(&payout, lease).await,
            Forgotten::Nothing | Forgotten::Perhaps => {}
        }
        // Nobody knows it here, so it comes back for its turn; what is known is recorded at once.
        if let Some(wait) = turn.filter(|wait| is_unknown && !wait.is_zero()) {
            self.recorder.store.put_off(Looking::Poll, payout.id, lease.ticket(), wait).await?;
            return Ok(Done::Settled);
        }
        let attempt_no = attempt.number;
        let what = match look {
            Look::Found(report) => What::Reported { attempt: attempt_no, report },
            Look::NotFound if !is_suspect && self.is_final(&payout, attempt, &profile) => {
                What::NeverDone { attempt: attempt_no, send: attempt.sends, reason: Reason::new("payout_not_found") }
            }
            Look::NotFound => What::NotFound { attempt: attempt_no },
            Look::Nothing { why } => What::NoNews { attempt: attempt_no, why },
        };
        self.record(&payout, Fact::new(Source::Poll, what)).await
    }

    /// How long a poll that may send again waits for its turn to ask every provider that could have the payout. `None`: beyond the bound of its state, which is not put off.
    async fn turn_of_poll(&self, payout: &Payout) -> Result<Option<Duration>, StoreError> {
        let store = &self.recorder.store;
        let bound = later(payout.since, self.recorder.plan(payout).polling.bound);
        let left = Duration::try_from(bound.duration_since(store.clock().now())).unwrap_or_default();
        self.turn(payout, &store.beneficiary(payout.id).await?, left).await
    }

    /// The provider has it and is asked to cancel it. Whatever it says to that is where the payout is now; if it says nothing, it is asked again with
    /// the next look.
    async fn cancel_there(&self, payout: &Payout, attempt: &Attempt, request: &[u8]) -> Option<What> {
        match self.recorder.providers.cancel(attempt.provider, payout.mode, &inquiry(attempt, request)).await {
            Canceling::Canceled(report) => Some(What::Reported { attempt: attempt.number, report }),
            Canceling::TooLate(report) => Some(What::NotCanceled { attempt: attempt.number, report }),
            Canceling::Nothing { why } => {
                tracing::warn!(payout.id = %payout.id, provider.name = attempt.provider.name(), why = why.as_str(), "a provider could not be asked to cancel a payout");
                None
            }
        }
    }

    /// "Not found" permits the same bytes under the same key, once what was sent could have been seen by now, and only where a repeat is recognised.
    fn may_resend(&self, payout: &Payout, attempt: &Attempt, profile: &Profile) -> bool {
        let now = self.recorder.store.clock().now();
        // What was sent with others is sent again with them or not at all: that is the business of its group.
        attempt.group.is_none()
            && attempt.live.len() < SENDS_MAX
            && profile.may_resend(attempt.first_sent(), now)
            && self.is_overdue(payout, attempt, profile)
    }

    /// "Not found" proves that nothing was done, once what was sent could have been seen by now, and only where the provider's documents say so.
    fn is_final(&self, payout: &Payout, attempt: &Attempt, profile: &Profile) -> bool {
        profile.not_found_is_final && self.is_overdue(payout, attempt, profile)
    }

    /// Whether everything that was sent would be seen by now, if it had been taken.
    fn is_overdue(&self, payout: &Payout, attempt: &Attempt, profile: &Profile) -> bool {
        let last_by = attempt.live.iter().map(|send| send.by).max().unwrap_or(attempt.initiated_at);
        payout.state.name() == StateName::Inconclusive && self.recorder.store.clock().now() >= later(last_by, profile.propagation)
    }

    async fn resend(&self, payout: &Payout, lease: &Lease<Ticket>) -> Result<Done, StoreError> {
        let store = &self.recorder.store;
        let Some(request) = store.request(payout.id).await? else {
            return self.record(payout, Fact::new(Source::Worker, What::Stuck { why: Reason::new("no_stored_request") })).await;
        };
        let window = SignedDuration::from_millis(i64::try_from(self.settings.send_window_ms).unwrap_or(i64::MAX));
        let now = store.clock().now();
        let until = later(Clock::of_the_machine(), window);
        let intent = Fact::new(Source::Worker, What::Resend { send_by: later(now, window) });
        let verdict = payout.apply(&intent, &self.recorder.plan(payout), now);
        let Verdict::Known(step) = &verdict else { return Ok(Done::Later) };
        let Some(attempt) = step.payout.attempt() else { return Ok(Done::Later) };
        let before = self.fence.passed(payout.id.shard());
        match store.commit_intent(step, Permit::Poll(lease.ticket().token), None).await? {
            Permitted::Yes { epoch, passed, .. } => {
                fail::fail_point!("resend-before-socket");
                self.send(&step.payout, Send { attempt, request: &request, until, before, epoch, look_first: false, had_company: false, passed })
                    .await
            }
            // Then it is only known that it was not found; the polls, and their bound, go on.
            Permitted::Frozen | Permitted::Held { .. } => {
                let what = What::NotFound { attempt: attempt.number };
                self.record(payout, Fact::new(Source::Poll, what)).await
            }
            Permitted::Stale | Permitted::Missing | Permitted::LeaseLost => Ok(Done::Settled),
        }
    }
}
