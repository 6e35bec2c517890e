//! Dispatch: the intent on disk first, then the call, then its answer as a fact.
//!
//! A worker that dies in between leaves the payout `initiated`, and its lease ends: whoever leases it next presumes that the call was made and
//! goes to look. The permission to send is the lease; the right to record an answer is nobody's, any answer is taken.

use std::sync::Arc;
use std::time::Duration;

use domain::amount::Amount;
use domain::destination::Beneficiary;
use domain::fact::{Answer, Look, Provider, Reason, Source};
use domain::id::Shard;
use domain::ledger::Account;
use domain::payout::attempt::Attempt;
use domain::payout::rule::RuleMet;
use domain::payout::state::{State, StateName};
use domain::payout::{Fact, LIMIT_EXCEEDED, Payout, Verdict, What};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use providers::{Inquiry, Order, Unprepared};
use tracing::Instrument as _;

use crate::circuit::{self, Passed};
use crate::clock::Clock;
use crate::deposit;
use crate::fence::{Fence, Held};
use crate::forgotten::Forgotten;
use crate::queue::{Job, Lease};
use crate::record::Recorder;
use crate::schedule;
use crate::store::StoreError;
use crate::store::accounts::Standing;
use crate::store::lanes::{ExecuteWork, Ticket};
use crate::store::payouts::{Fixed, Permit, Permitted};
use crate::store::turns::Looking;
use crate::trace;

/// The code with which a payout of a whole balance is rejected when nothing of it can be paid out.
const NOTHING_AVAILABLE: &str = "nothing_available";
/// Answers about payouts of one group that are recorded at one time.
const RECORDED_AT_ONCE: usize = 16;
/// How often the amount of a payout is decided again because its balance has moved.
const TRIES: usize = 16;

/// Limits of one dispatch.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// From the intent on, this long a byte may leave. Shorter than `call_ms`.
    pub send_window_ms: u64,
    /// Of that, so long a provider may be asked first whether it has the payout already, where something was forgotten or went with others. Shorter than
    /// `send_window_ms`; without a word by then nothing is sent, and the polls find out.
    pub look_ms: u64,
    /// The longest time for the provider's answer. Shorter than the handler's deadline.
    pub call_ms: u64,
    /// After so many leases without a commit, the payout goes to a person, and a notice is put aside.
    pub leases_max: u32,
    /// The longest time for looking for the payouts of a group whose answer was lost, before they are sent again. With `call_ms` shorter than the handler's
    /// deadline.
    pub group_look_ms: u64,
    /// How long payouts of a batch wait for the others that can go to their provider in the same request. 0: they always go one by one.
    pub group_hold_ms: u64,
    /// Looks at each provider per mode and second for payouts that the store may have forgotten something about, at most.
    pub suspect_looks_per_s: u32,
}

/// What the workers on payouts share.
pub struct Payouts {
    pub recorder: Recorder,
    pub fence: Fence,
    pub settings: Settings,
    pub circuit: circuit::Settings,
    pub schedules: schedule::Rules,
    pub deposits: deposit::Settings,
}

/// Dispatches one payout that is due.
pub async fn execute(context: Arc<Payouts>, job: Job<ExecuteWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let span = tracing::debug_span!("payout.execute", payout.id = %work.payout.id, payout.state = work.payout.state.name().as_str());
    trace::continues(&span, work.payout.trace.as_deref());
    let id = work.payout.id;
    async {
        match context.execute(work, &lease).await {
            Ok(Done::Settled) => lease.settled(),
            Ok(Done::Later) => drop(lease),
            Err(error) => tracing::warn!(payout.id = %id, %error, "a dispatch could not be recorded; its lease will lead back to it"),
        }
    }
    .instrument(span)
    .await;
}

/// What to do with the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    /// The commit has taken care of the work.
    Settled,
    /// Give it back: it is to be done again, soon.
    Later,
}

impl Payouts {
    async fn execute(&self, work: ExecuteWork, lease: &Lease<Ticket>) -> Result<Done, StoreError> {
        let payout = work.payout;
        if work.times_leased > self.settings.leases_max {
            return self.record(&payout, Fact::new(Source::Worker, What::Stuck { why: Reason::new("leased_too_often") })).await;
        }
        match payout.state.name() {
            StateName::Requested | StateName::Scheduled => match self.fixed(payout, &work.beneficiary, lease.ticket()).await? {
                Ok(payout) => {
                    if work.is_suspect
                        && let Some(wait) = self.turn(&payout, &work.beneficiary, Duration::MAX).await?.filter(|wait| !wait.is_zero())
                    {
                        self.recorder.store.put_off(Looking::Execute, payout.id, lease.ticket(), wait).await?;
                        return Ok(Done::Settled);
                    }
                    self.dispatch(payout, &work.beneficiary, work.aside_until, lease).await
                }
                Err(done) => Ok(done),
            },
            StateName::Initiated => self.presume_sent(&payout).await,
            StateName::AwaitingApproval => {
                let expired = What::Cancel { reason: Reason::new("approval_expired") };
                self.end_unsent(&payout, lease.ticket(), Source::Clock, expired).await
            }
            StateName::Inconclusive
            | StateName::Authorised
            | StateName::Submitted
            | StateName::Settled
            | StateName::Returned
            | StateName::Failed
            | StateName::Rejected
            | StateName::Canceled
            | StateName::InReview => {
                tracing::error!(payout.id = %payout.id, "a payout is due for dispatch in a state that has none");
                self.record(&payout, Fact::new(Source::Worker, What::Stuck { why: Reason::new("not_dispatchable") })).await
            }
        }
    }

    /// Before a suspect payout is sent, or sent again, every provider that could have it is asked for it. After a loss of writes all are suspect, and they take turns. Says how long
    /// this one has to wait for its turn: not at all if that is now. `None`: longer than `longest`, and it was given none.
    pub(crate) async fn turn(&self, payout: &Payout, beneficiary: &Beneficiary, longest: Duration) -> Result<Option<Duration>, StoreError> {
        let store = &self.recorder.store;
        if let Some(wait) = store.use_turn(payout.id).await? {
            return Ok(Some(wait));
        }
        let looks = self.looks(payout, beneficiary);
        store.turn_to_look(payout.mode, &looks, self.settings.suspect_looks_per_s, longest).await
    }

    /// The lease of whoever sent it has ended: no answer was recorded, and none may ever be.
    async fn presume_sent(&self, payout: &Payout) -> Result<Done, StoreError> {
        let Some(attempt) = payout.attempt() else {
            return self.record(payout, Fact::new(Source::Worker, What::Stuck { why: Reason::new("no_attempt") })).await;
        };
        let what = What::NoAnswer { attempt: attempt.number, send: attempt.sends, why: Reason::new("worker_lost") };
        self.record(payout, Fact::new(Source::Worker, what)).await
    }

    /// The payout with an exact amount. That of a whole balance is fixed here, to what is there now; what the payout has then is reserved, so whoever comes
    /// to it again, after a crash or a freeze, sends that and nothing else.
    async fn fixed(&self, payout: Payout, beneficiary: &Beneficiary, lease: &Ticket) -> Result<Result<Payout, Done>, StoreError> {
        let Amount::Whole(currency) = payout.amount else { return Ok(Ok(payout)) };
        let store = &self.recorder.store;
        let Standing { mut account, mut balances, .. } = store.account(&payout.party, payout.mode, currency).await?;
        for _ in 0..TRIES {
            let Some(money) = account.whole(&balances, payout.keeps) else {
                return self.decline(&payout, lease, NOTHING_AVAILABLE, None).await.map(Err);
            };
            let verdict = payout.apply(&Fact::new(Source::Worker, What::Fix { money }), &self.recorder.plan(&payout), store.clock().now());
            let Verdict::Known(step) = verdict else { break };
            let question = self.recorder.gate.question_of_amount((&payout.party, payout.mode), beneficiary, money);
            match store.fix(&step, &account, balances.of(Account::Available), question.as_ref()).await? {
                Fixed::Done => {
                    fail::fail_point!("fixed-before-intent");
                    return Ok(Ok(step.payout));
                }
                Fixed::Moved { available } => balances.set(Account::Available, available),
                Fixed::Changed => Standing { account, balances, .. } = store.account(&payout.party, payout.mode, currency).await?,
                Fixed::Stale => return Ok(Err(Done::Settled)),
                Fixed::Frozen => return self.set_aside(&payout, lease).await.map(Err),
                Fixed::LimitExceeded(rule) => return self.decline(&payout, lease, LIMIT_EXCEEDED, rule).await.map(Err),
            }
        }
        // The clock of this machine is behind, or the balance moves all the time. Neither is the payout's fault.
        store.excuse(payout.id).await?;
        Ok(Err(Done::Later))
    }

    async fn dispatch(
        &self,
        payout: Payout,
        beneficiary: &Beneficiary,
        aside_until: Option<Timestamp>,
        lease: &Lease<Ticket>,
    ) -> Result<Done, StoreError> {
        let store = &self.recorder.store;
        let window = SignedDuration::from_millis(i64::try_from(self.settings.send_window_ms).unwrap_or(i64::MAX));
        let now = store.clock().now();
        let send_until = later(Clock::of_the_machine(), window);
        let intent = Fact::new(Source::Worker, What::Initiate { send_by: later(now, window), aside_until });
        let verdict = payout.apply(&intent, &self.recorder.plan(&payout), now);
        let Verdict::Moved(step) = &verdict else {
            // This machine's clock runs behind the store's. That is not the payout's fault, and may last.
            store.excuse(payout.id).await?;
            return Ok(Done::Later);
        };
        let Some(attempt) = step.payout.attempt() else { return Ok(Done::Later) };

        let Some(money) = payout.amount.exact() else { return Ok(Done::Later) };
        let order = Order { key: attempt.key, money, beneficiary, context_code: &payout.context_code };
        let prepared = self.recorder.providers.prepare(attempt.provider, payout.mode, &order);
        let request = match prepared {
            Ok(request) => request,
            Err(Unprepared::NotConfigured) => {
                let since = waits_since(&payout).max(aside_until.unwrap_or(Timestamp::MIN));
                return self.without_account(&payout, lease.ticket(), attempt.provider, since).await;
            }
            Err(Unprepared::Field(problem)) => {
                tracing::warn!(payout.id = %payout.id, %problem, "the provider cannot take this payout");
                return self.decline(&payout, lease.ticket(), "invalid_request", None).await;
            }
        };

        let had_company = payout.attempt().is_some_and(|attempt| attempt.group.is_some());
        fail::fail_point!("before-intent");
        let before = self.fence.passed(payout.id.shard());
        match store.commit_intent(step, Permit::Execute(lease.ticket().token), Some(&request)).await? {
            Permitted::Yes { epoch, look_first, passed } => {
                self.recorder.metrics.committed(&payout, step);
                fail::fail_point!("intent-before-socket");
                let send = Send { attempt, request: &request, until: send_until, before, epoch, look_first, had_company, passed };
                self.send(&step.payout, send).await
            }
            Permitted::Frozen => self.set_aside(&payout, lease.ticket()).await,
            Permitted::Held { why } => self.hold(&payout, why).await,
            // Somebody else decided about this payout (a cancel, another worker), and their commit took care of the work.
            Permitted::Stale | Permitted::Missing | Permitted::LeaseLost => Ok(Done::Settled),
        }
    }

    /// It is nobody's turn at present, and that is not the payout's fault. It comes back by itself: when its party or its account may go on, else soon.
    async fn set_aside(&self, payout: &Payout, lease: &Ticket) -> Result<Done, StoreError> {
        match self.recorder.store.set_aside(payout, lease).await? {
            Some(why) => self.hold(payout, why.code()).await,
            None => Ok(Done::Later),
        }
    }

    /// This worker has no account at the provider whose turn it is, and another one may. If none had it for as long as a payout is tried at all, that
    /// turn is over.
    async fn without_account(&self, payout: &Payout, lease: &Ticket, provider: Provider, since: Timestamp) -> Result<Done, StoreError> {
        let store = &self.recorder.store;
        let (id, mode) = (payout.id, payout.mode);
        if store.is_stopped(id.shard(), provider, mode).await? || store.is_frozen_for(payout).await? {
            return self.set_aside(payout, lease).await;
        }
        if store.clock().now().duration_since(since) >= self.recorder.plan(payout).dispatch_bound {
            tracing::error!(payout.id = %id, provider.name = provider.name(), mode = mode.as_str(), "no worker has an account there; its turn is over");
            return self.decline(payout, lease, "provider_not_configured", None).await;
        }
        tracing::error!(payout.id = %id, provider.name = provider.name(), mode = mode.as_str(), "this worker has no account there; another one may");
        store.excuse(id).await?;
        Ok(Done::Later)
    }

    /// Passes over the provider whose turn it is, or ends the payout, without asking anybody. After a loss of writes that is a person's to decide: this
    /// very provider may have it.
    async fn decline(&self, payout: &Payout, lease: &Ticket, reason: &str, rule: Option<RuleMet>) -> Result<Done, StoreError> {
        self.end_unsent(payout, lease, Source::Worker, What::Decline { reason: Reason::new(reason), rule }).await
    }

    /// Ends a payout, or a provider's turn, of which nothing was sent; unless that is not certain, because the store may have forgotten it.
    async fn end_unsent(&self, payout: &Payout, lease: &Ticket, source: Source, what: What) -> Result<Done, StoreError> {
        // Nobody's turn comes to an end while dispatch is frozen.
        if self.recorder.store.is_frozen_for(payout).await? {
            return self.set_aside(payout, lease).await;
        }
        if self.recorder.store.is_suspect(payout).await? {
            return self.record(payout, Fact::new(Source::Worker, What::Stuck { why: Reason::new("may_be_forgotten") })).await;
        }
        // Who has decided otherwise meanwhile has taken care of the work.
        let recorded = self.recorder.record_surely_while(payout, &Fact::new(source, what), |now| now.version == payout.version).await;
        recorded.map(|_| Done::Settled)
    }

    /// Makes the call that the committed intent speaks of, and records how it ended.
    pub(crate) async fn send(&self, payout: &Payout, send: Send<'_>) -> Result<Done, StoreError> {
        let Send { attempt, request, until, before, epoch, look_first, had_company, passed } = send;
        let provider = attempt.provider;
        let what = if !self.passes(payout.id.shard(), before, epoch).await? {
            self.heard(payout, attempt, Answer::NotSent { why: Reason::new("fenced") })
        } else if look_first || had_company {
            match self.look_before(payout, attempt, request, look_first, self.time_to_look(until)).await? {
                Some(what) => what,
                None => self.submit(payout, attempt, request, until).await,
            }
        } else {
            self.submit(payout, attempt, request, until).await
        };
        let (condition, why) = circuit::sensed(&what);
        fail::fail_point!("answer-not-recorded");
        let done = self.record_answer(payout.clone(), Fact::new(Source::Answer, what)).await?;
        fail::fail_point!("recorded-not-acknowledged");
        self.sense(payout, provider, passed, condition, &why).await;
        Ok(done)
    }

    /// How long a provider may be asked before a send that may leave `until` then: the rest of the window is the send's.
    fn time_to_look(&self, until: Timestamp) -> Duration {
        let rest = Duration::from_millis(self.settings.send_window_ms.saturating_sub(self.settings.look_ms));
        let window = Duration::try_from(until.duration_since(Clock::of_the_machine())).unwrap_or_default();
        window.saturating_sub(rest)
    }

    /// Asks whether the provider has what is about to be sent, and with `look_first` whether anybody has anything that the store may have forgotten. `None`:
    /// no, so it may be sent. What takes longer than `within` leaves no time to send: then the polls, which have more, look for it, and may send it. What the
    /// one question has found counts, however long the other takes.
    async fn look_before(
        &self,
        payout: &Payout,
        attempt: &Attempt,
        request: &[u8],
        look_first: bool,
        within: Duration,
    ) -> Result<Option<What>, StoreError> {
        let asked = inquiry(attempt, request);
        let look = async {
            let look = self.recorder.providers.look(attempt.provider, payout.mode, &asked);
            tokio::time::timeout(within, look).await.unwrap_or_else(|_| Look::Nothing { why: Reason::new("look_timeout") })
        };
        let (look, forgotten) = if look_first {
            let forgotten = async { tokio::time::timeout(within, self.forgotten(payout, attempt)).await.unwrap_or(Ok(Forgotten::Perhaps)) };
            let (look, forgotten) = tokio::join!(look, forgotten);
            (look, forgotten?)
        } else {
            // That a request for many is refused whole is ASSUMED of its provider, which would not recognise this one as a part of that.
            (look.await, Forgotten::Nothing)
        };
        let answer = match (look, forgotten) {
            // It may have been paid there, whatever this provider says: that is for a person to know.
            (_, Forgotten::Found(what)) => return Ok(Some(what)),
            (Look::Found(report), _) => Answer::Says(report),
            (Look::NotFound, Forgotten::Nothing) => return Ok(None),
            (Look::Nothing { why }, Forgotten::Nothing) if !look_first => Answer::NoAnswer { why },
            // Nothing was sent now, but what the store has forgotten may have been.
            (Look::NotFound | Look::Nothing { .. }, Forgotten::Nothing | Forgotten::Perhaps) => {
                Answer::NoAnswer { why: Reason::new("may_be_forgotten") }
            }
        };
        Ok(Some(self.heard(payout, attempt, answer)))
    }

    /// Notes a dispatch in the fence, and says whether it may be made. A store that has forgotten writes is frozen.
    pub(crate) async fn passes(&self, shard: Shard, before: u64, epoch: u64) -> Result<bool, StoreError> {
        let Err(held) = self.fence.pass(shard, before, epoch).await else { return Ok(true) };
        tracing::error!(%held, "a dispatch is not made");
        if let Held::RolledBack(rolled_back) = held {
            let freeze = crate::store::freeze::Freeze {
                reason: rolled_back.to_string(),
                at_ms: self.recorder.store.clock().now().as_millisecond(),
                epoch_seen: rolled_back.on_file,
                nothing_lost: false,
            };
            self.recorder.store.freeze(shard, &freeze).await?;
        }
        Ok(false)
    }

    async fn record_answer(&self, payout: Payout, fact: Fact) -> Result<Done, StoreError> {
        self.record_answers(vec![(payout, fact)]).await.map(|()| Done::Settled)
    }

    /// In a task of its own: what a provider has said is recorded although the handler may be dropped at its deadline meanwhile, because the process
    /// was paused or the store is away.
    pub(crate) async fn record_answers(&self, facts: Vec<(Payout, Fact)>) -> Result<(), StoreError> {
        let recorder = self.recorder.clone();
        let recording = async move {
            let recorder = &recorder;
            let each = facts.into_iter().map(|(payout, fact)| async move { recorder.record_surely(&payout, &fact).await.map(drop) });
            stream::iter(each).buffer_unordered(RECORDED_AT_ONCE).try_collect::<()>().await
        };
        match tokio::spawn(recording.in_current_span()).await {
            Ok(recorded) => recorded,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is ending.
                Err(_) => Err(StoreError::Unavailable(None)),
            },
        }
    }

    async fn submit(&self, payout: &Payout, attempt: &Attempt, request: &[u8], until: Timestamp) -> What {
        let within = Duration::from_millis(self.settings.call_ms);
        let span = tracing::debug_span!("provider.submit", provider.name = attempt.provider.name(), attempt = attempt.number, send = attempt.sends);
        let answer = self.recorder.providers.submit(attempt.provider, payout.mode, request, until, within).instrument(span).await;
        self.heard(payout, attempt, answer)
    }

    /// A connector's answer to the latest send of an attempt, counted, and as a fact about it.
    fn heard(&self, payout: &Payout, attempt: &Attempt, answer: Answer) -> What {
        let provider = attempt.provider;
        self.recorder.metrics.answered(provider, &answer);
        let how = match &answer {
            Answer::NotSent { why } => Some((why, "nothing of a payout was sent to its provider")),
            Answer::Unprocessed { why, .. } => Some((why, "a provider was called and did not take a payout")),
            Answer::NoAnswer { why } => Some((why, "whether a provider took a payout is not known")),
            Answer::Refused { .. } | Answer::KeyConflict | Answer::Says(_) => None,
        };
        if let Some((why, how)) = how {
            tracing::warn!(payout.id = %payout.id, provider.name = provider.name(), why = why.as_str(), "{how}");
        }
        said(attempt, answer)
    }

    pub(crate) async fn record(&self, payout: &Payout, fact: Fact) -> Result<Done, StoreError> {
        self.recorder.record_surely(payout, &fact).await.map(|_| Done::Settled)
    }
}

/// A send whose intent is committed.
pub(crate) struct Send<'a> {
    pub(crate) attempt: &'a Attempt,
    pub(crate) request: &'a [u8],
    /// By the machine's clock: after this no byte leaves.
    pub(crate) until: Timestamp,
    /// The fence before the permission was asked for.
    pub(crate) before: u64,
    pub(crate) epoch: u64,
    pub(crate) look_first: bool,
    /// It was sent with others before, in a request that was not processed.
    pub(crate) had_company: bool,
    pub(crate) passed: Passed,
}

/// A question about an attempt, whose bytes are `request`.
pub(crate) fn inquiry<'a>(attempt: &'a Attempt, request: &'a [u8]) -> Inquiry<'a> {
    Inquiry { key: attempt.key, reference: attempt.reference.as_ref(), request, first_sent: attempt.initiated_at }
}

/// Since when a payout is due for dispatch.
fn waits_since(payout: &Payout) -> Timestamp {
    if let State::Scheduled { until } = payout.state { until } else { payout.since }
}

pub(crate) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// A connector's answer to the latest send of an attempt, as a fact about it.
pub(crate) fn said(attempt: &Attempt, answer: Answer) -> What {
    let (number, send) = (attempt.number, attempt.sends);
    match answer {
        Answer::NotSent { why } => What::NotSent { attempt: number, send, why },
        Answer::Unprocessed { why, retry_after } => {
            let retry_after_ms = retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(0));
            What::Unprocessed { attempt: number, send, why, retry_after_ms }
        }
        Answer::NoAnswer { why } => What::NoAnswer { attempt: number, send, why },
        Answer::Refused { reason } => What::Refused { attempt: number, send, reason },
        Answer::KeyConflict => What::KeyConflict { attempt: number },
        Answer::Says(report) => What::Reported { attempt: number, report },
    }
}
