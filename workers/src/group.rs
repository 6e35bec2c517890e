//! Requests for many payouts: where a provider takes them, the payouts of a page of a batch go to it together, under one key.
//!
//! A group is a short cut, and any trouble before its call dissolves it: its payouts go one by one then, as all others do. The order makes that safe. Each
//! payout joins by an intent of its own, as before any call; then the group's record takes the exact bytes and says `sent`, which only the holder of the
//! lease can do and only once; then the call is made. So a group that is not `sent` proves for all its payouts that nothing left.
//!
//! After the call an ambiguous answer makes each payout ambiguous. The provider recognises a repeat of the whole request and of no payout by itself, so
//! each is only looked at; if nobody knows any of them, the group is sent again whole, same key and same bytes, or not at all. A worker that dies leaves
//! the execute work of each payout, due at the end of the group's lease, which presumes that it was sent.

use std::sync::Arc;
use std::time::Duration;

use domain::destination::Beneficiary;
use domain::fact::{Answer, Look, Provider, ProviderReference, Reason, Source};
use domain::id::{BatchId, Mode, PayoutId, ProviderKey};
use domain::payout::attempt::Attempt;
use domain::payout::state::StateName;
use domain::payout::{Fact, Payout, Verdict, What};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use providers::profile::Profile;
use providers::{BatchAnswer, Order};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;

use crate::circuit::{self, Passed};
use crate::clock::Clock;
use crate::execute::{Payouts, inquiry, later, said};
use crate::poll::SENDS_MAX;
use crate::queue::{Job, Lease};
use crate::store::StoreError;
use crate::store::groups::{Begun, GroupId, GroupWork, Phase};
use crate::store::lanes::Ticket;
use crate::store::payouts::{Permit, Permitted};
use crate::trace;

/// Payouts of a group that are worked on at one time.
const AT_ONCE: usize = 16;
/// How often the intent of a payout is decided again because its record had moved on.
const TRIES: usize = 3;
/// When a group is looked at again whose payouts are not ready for it.
const SOON: Duration = Duration::from_secs(5);

/// Payouts of one batch that go to their provider in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub batch: BatchId,
    /// Within the batch: the place of the first of its items.
    pub number: u32,
    pub provider: Provider,
    pub mode: Mode,
    /// Once it is sent: those that are in the request.
    pub members: Vec<PayoutId>,
    /// W3C `traceparent` of the request that asked for the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

impl Group {
    #[must_use]
    pub const fn id(&self) -> GroupId {
        GroupId { batch: self.batch, number: self.number }
    }

    /// The key of the request.
    #[must_use]
    pub fn key(&self) -> ProviderKey {
        ProviderKey::of_group(self.batch, self.number)
    }
}

/// A payout whose intent to go with the group is committed.
struct Joined {
    payout: Payout,
    beneficiary: Beneficiary,
    epoch: u64,
    look_first: bool,
    passed: Passed,
}

impl Joined {
    fn order(&self) -> Option<Order<'_>> {
        let Self { payout, beneficiary, .. } = self;
        Some(Order { key: payout.attempt()?.key, money: payout.amount.exact()?, beneficiary, context_code: &payout.context_code })
    }
}

/// What permits payouts to join.
#[derive(Clone, Copy)]
struct Joining {
    permit: Permit,
    key: ProviderKey,
    provider: Provider,
    /// Whether the request went out before.
    again: bool,
    send_by: Timestamp,
}

/// Sends a group, or looks after one that was sent.
pub async fn dispatch(context: Arc<Payouts>, job: Job<GroupWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let id = work.group.id();
    let span = tracing::debug_span!("group.dispatch", group.id = %id, group.phase = ?work.phase);
    trace::continues(&span, work.group.trace.as_deref());
    async {
        match context.group(work, &lease).await {
            Ok(()) => lease.settled(),
            Err(error) => tracing::warn!(group.id = %id, %error, "a group was not brought on; its lease will lead back to it"),
        }
    }
    .instrument(span)
    .await;
}

impl Payouts {
    async fn group(&self, work: GroupWork, lease: &Lease<Ticket>) -> Result<(), StoreError> {
        let GroupWork { group, phase, times_leased } = work;
        match phase {
            // Whoever had it before did not come to the call. It is not worth a second try.
            Phase::Open if times_leased > 1 => self.dissolve(&group, lease).await,
            Phase::Open => self.send_group(group, lease).await,
            Phase::Closed => self.dissolve(&group, lease).await,
            Phase::Sent => self.look_after(group, lease).await,
        }
    }

    async fn send_group(&self, group: Group, lease: &Lease<Ticket>) -> Result<(), StoreError> {
        let (until, joined) = self.all_join(&group, lease, false).await?;
        fail::fail_point!("group-joined");
        let Some(until) = until else { return self.dissolve(&group, lease).await };
        let orders: Option<Vec<Order<'_>>> = joined.iter().map(Joined::order).collect();
        let prepared = self.recorder.providers.prepare_batch(group.provider, group.mode, group.key(), &orders.unwrap_or_default());
        let Ok(request) = prepared else { return self.dissolve(&group, lease).await };
        let sent = Group { members: joined.iter().map(|joined| joined.payout.id).collect(), ..group };
        match self.recorder.store.begin_group(&sent, lease.ticket(), &request).await? {
            Begun::Yes => {}
            Begun::Frozen => return self.dissolve(&sent, lease).await,
            // The group is somebody else's now, and nothing of it was sent.
            Begun::Lost => return Ok(()),
        }
        fail::fail_point!("group-before-socket");
        self.call(&sent, joined, &request, until, lease).await
    }

    /// Has every payout of the group commit its intent. Says until when the request may leave, if it may: all that must join have, no write was lost,
    /// and the fence has noted it.
    async fn all_join(&self, group: &Group, lease: &Lease<Ticket>, again: bool) -> Result<(Option<Timestamp>, Vec<Joined>), StoreError> {
        let store = &self.recorder.store;
        let shard = group.batch.shard();
        let window = SignedDuration::from_millis(i64::try_from(self.settings.send_window_ms).unwrap_or(i64::MAX));
        let send_by = later(store.clock().now(), window);
        let until = later(Clock::of_the_machine(), window);
        let before = self.fence.passed(shard);
        let permit = Permit::Group { token: lease.ticket().token, group: group.id(), again };
        let how = Joining { permit, key: group.key(), provider: group.provider, again, send_by };
        let joining = group.members.clone().into_iter().map(|id| async move { self.join(id, how).await });
        let joined: Vec<Option<Joined>> = stream::iter(joining).buffered(AT_ONCE).try_collect().await?;
        let complete = !again || joined.iter().all(Option::is_some);
        let joined: Vec<Joined> = joined.into_iter().flatten().collect();
        let epochs = || joined.iter().map(|joined| joined.epoch);
        let (Some(least), Some(most)) = (epochs().min(), epochs().max()) else { return Ok((None, joined)) };
        let trusted = complete && joined.iter().all(|joined| !joined.look_first);
        let may = trusted && self.passes(shard, before, least).await? && self.passes(shard, before, most).await?;
        Ok((may.then_some(until), joined))
    }

    async fn join(&self, id: PayoutId, how: Joining) -> Result<Option<Joined>, StoreError> {
        let store = &self.recorder.store;
        for _ in 0..TRIES {
            let Some(payout) = store.load_readable(id).await? else { return Ok(None) };
            // What was begun in any other way goes on in that way.
            let untouched = payout.state.name() == StateName::Requested && payout.attempts.is_empty() && payout.route.first() == Some(&how.provider);
            if !how.again && !untouched {
                return Ok(None);
            }
            let intent = Fact::new(Source::Worker, What::Join { group: how.key, send_by: how.send_by });
            let verdict = payout.apply(&intent, &self.recorder.plan(&payout), store.clock().now());
            let (Verdict::Moved(step) | Verdict::Known(step)) = verdict else { return Ok(None) };
            let Some(attempt) = step.payout.attempt() else { return Ok(None) };
            let Some(money) = step.payout.amount.exact() else { return Ok(None) };
            let beneficiary = store.beneficiary(id).await?;
            let order = Order { key: attempt.key, money, beneficiary: &beneficiary, context_code: &payout.context_code };
            // What the provider cannot take is declined on its own way.
            let Ok(request) = self.recorder.providers.prepare(attempt.provider, payout.mode, &order) else { return Ok(None) };
            match store.commit_intent(&step, how.permit, (!how.again).then_some(request.as_slice())).await? {
                Permitted::Yes { epoch, look_first, passed } => {
                    self.recorder.metrics.committed(&payout, &step);
                    return Ok(Some(Joined { payout: step.payout, beneficiary, epoch, look_first, passed }));
                }
                // Somebody has learnt something about it, or taken it back: the next look at it says which.
                Permitted::Stale => {}
                // At a circuit that is not closed it waits like any other, on its own way.
                Permitted::Missing | Permitted::LeaseLost | Permitted::Frozen | Permitted::Held { .. } => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Makes the call that all have joined for, and records of each how it ended.
    async fn call(&self, group: &Group, joined: Vec<Joined>, request: &[u8], until: Timestamp, lease: &Lease<Ticket>) -> Result<(), StoreError> {
        let within = Duration::from_millis(self.settings.call_ms);
        let span = tracing::debug_span!("provider.submit", provider.name = group.provider.name(), group.members = joined.len());
        let BatchAnswer { answer, references } =
            self.recorder.providers.submit_batch(group.provider, group.mode, request, until, within).instrument(span).await;
        self.recorder.metrics.answered(group.provider, &answer);
        if !matches!(answer, Answer::Says(_)) {
            let how = match &answer {
                Answer::NotSent { .. } => "nothing of a group was sent to its provider",
                Answer::NoAnswer { .. } => "whether a provider took a group is not known",
                _ => "a provider was called and did not take a group",
            };
            tracing::warn!(group.id = %group.id(), provider.name = group.provider.name(), ?answer, "{how}");
        }
        fail::fail_point!("group-not-recorded");
        let propagation = self.recorder.providers.profile(group.provider, group.mode).propagation;
        // Of a half open circuit this one request is the trial, whoever of it joined first.
        let passed = joined.iter().map(|joined| joined.passed).find(|passed| *passed != Passed::Closed).unwrap_or(Passed::Closed);
        let of = joined.first().map(|first| first.payout.clone());
        let sensed = of.as_ref().and_then(Payout::attempt).map(|attempt| circuit::sensed(&said(attempt, answer.clone())));
        let mut facts = Vec::with_capacity(joined.len());
        let mut all_known = true;
        for Joined { payout, .. } in joined {
            let Some(attempt) = payout.attempt() else { continue };
            let what = said(attempt, of_one(attempt, &answer, &references, propagation));
            // What became of a second send says nothing about the first, unless the provider has it.
            all_known &= matches!(what, What::Reported { .. }) || (attempt.sends == 1 && !matches!(what, What::NoAnswer { .. }));
            facts.push((payout, Fact::new(Source::Answer, what)));
        }
        self.record_answers(facts).await?;
        if let (Some(of), Some((condition, why))) = (of, sensed) {
            self.sense(&of, group.provider, passed, condition, &why).await;
        }
        if all_known {
            return self.recorder.store.end_group(group.id(), lease.ticket()).await;
        }
        self.recorder.store.put_off_group(group.id(), lease.ticket(), Duration::try_from(propagation).unwrap_or(SOON)).await
    }

    /// Gives up a group of which nothing was sent: its payouts go one by one. Repeatable.
    async fn dissolve(&self, group: &Group, lease: &Lease<Ticket>) -> Result<(), StoreError> {
        let store = &self.recorder.store;
        // From here on nobody can begin it any more, so "not sent" is the truth and stays it.
        if store.close_group(group.id(), lease.ticket()).await? != Some(Phase::Closed) {
            return Ok(());
        }
        let mut facts = Vec::new();
        for payout in self.members(group).await? {
            // Of a payout that was never sent before: the first send of its first attempt.
            let what = What::NotSent { attempt: 1, send: 1, why: Reason::new("group_dissolved") };
            if payout.attempts.first().is_some_and(|attempt| attempt.group == Some(group.key())) {
                facts.push((payout, Fact::new(Source::Worker, what)));
            }
        }
        self.record_answers(facts).await?;
        store.end_group(group.id(), lease.ticket()).await
    }

    async fn members(&self, group: &Group) -> Result<Vec<Payout>, StoreError> {
        let loading = group.members.clone().into_iter().map(|id| async move { self.recorder.store.load_readable(id).await });
        let found: Vec<Option<Payout>> = stream::iter(loading).buffered(AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// A group was sent and somebody could not say what became of it. If it is certain that the provider knows none of its payouts, it is sent again.
    async fn look_after(&self, group: Group, lease: &Lease<Ticket>) -> Result<(), StoreError> {
        let (store, ticket, key) = (&self.recorder.store, lease.ticket(), group.key());
        let members = self.members(&group).await?;
        let silent = |payout: &&Payout| {
            matches!(payout.state.name(), StateName::Initiated | StateName::Inconclusive)
                && payout.attempt().is_some_and(|attempt| attempt.group == Some(key))
        };
        // A definite word about one of them came from a provider that has read the request. The others hear of themselves by being looked for.
        if members.iter().any(|payout| !silent(&payout)) {
            return store.end_group(group.id(), ticket).await;
        }
        if members.iter().any(|payout| payout.state.name() == StateName::Initiated) {
            return store.put_off_group(group.id(), ticket, SOON).await;
        }
        let attempts: Vec<&Attempt> = members.iter().filter_map(Payout::attempt).collect();
        let profile = self.recorder.providers.profile(group.provider, group.mode);
        let now = store.clock().now();
        let first_sent = attempts.iter().map(|attempt| attempt.first_sent()).min().unwrap_or(now);
        let last_by = attempts.iter().flat_map(|attempt| &attempt.live).map(|send| send.by).max().unwrap_or(now);
        // Nobody can say of one that cannot be read that it is not known. A worker of another version may read it.
        if members.len() < group.members.len() {
            return store.put_off_group(group.id(), ticket, waited(now, first_sent, &profile)).await;
        }
        let suspect_until = store.suspect_until(group.batch.shard()).await?;
        let trusted = members.iter().all(|payout| payout.requested_at() >= suspect_until);
        if !trusted || !profile.may_resend(first_sent, now) || attempts.iter().any(|attempt| attempt.live.len() >= SENDS_MAX) {
            return store.end_group(group.id(), ticket).await;
        }
        let visible = later(last_by, profile.propagation);
        if now < visible {
            return store.put_off_group(group.id(), ticket, Duration::try_from(visible.duration_since(now)).unwrap_or(SOON)).await;
        }
        let looking = members.clone().into_iter().map(|payout| async move { self.look_for(payout).await });
        let looking = stream::iter(looking).buffered(AT_ONCE).try_collect::<Vec<(Payout, Look)>>();
        // A provider so slow that not all can be looked for in time is asked more rarely, instead of from the beginning each time.
        let Ok(looks) = tokio::time::timeout(Duration::from_millis(self.settings.group_look_ms), looking).await else {
            return store.put_off_group(group.id(), ticket, waited(now, first_sent, &profile)).await;
        };
        let looks = looks?;
        let found: Vec<(Payout, Fact)> = looks
            .iter()
            .filter_map(|(payout, look)| match look {
                Look::Found(report) => {
                    let what = What::Reported { attempt: payout.attempt()?.number, report: report.clone() };
                    Some((payout.clone(), Fact::new(Source::Poll, what)))
                }
                Look::NotFound | Look::Nothing { .. } => None,
            })
            .collect();
        if !found.is_empty() {
            self.record_answers(found).await?;
            return store.end_group(group.id(), ticket).await;
        }
        let Some(request) = store.group_request(group.id()).await?.filter(|_| looks.iter().all(|(_, look)| matches!(look, Look::NotFound))) else {
            return store.put_off_group(group.id(), ticket, waited(now, first_sent, &profile)).await;
        };
        let (until, joined) = self.all_join(&group, lease, true).await?;
        fail::fail_point!("group-rejoined");
        if let Some(until) = until {
            return self.call(&group, joined, &request, until, lease).await;
        }
        // Not all of them are still open, or it is not trusted: nothing was sent this time.
        let fact = |payout: &Payout| {
            let attempt = payout.attempt()?;
            Some(Fact::new(Source::Worker, What::NotSent { attempt: attempt.number, send: attempt.sends, why: Reason::new("group_incomplete") }))
        };
        let facts = joined.into_iter().filter_map(|joined| fact(&joined.payout).map(|fact| (joined.payout, fact))).collect();
        self.record_answers(facts).await?;
        store.put_off_group(group.id(), ticket, SOON).await
    }

    async fn look_for(&self, payout: Payout) -> Result<(Payout, Look), StoreError> {
        let request = self.recorder.store.request(payout.id).await?.unwrap_or_default();
        let look = match payout.attempt() {
            Some(attempt) => {
                let look = self.recorder.providers.look(attempt.provider, payout.mode, &inquiry(attempt, &request)).await;
                self.recorder.metrics.looked(attempt.provider, &look);
                look
            }
            None => Look::Nothing { why: Reason::new("no_attempt") },
        };
        Ok((payout, look))
    }
}

/// As long again as it has waited already, up to an hour: the payouts have polls of their own.
fn waited(now: Timestamp, first_sent: Timestamp, profile: &Profile) -> Duration {
    let waited = now.duration_since(first_sent).clamp(profile.propagation, SignedDuration::from_hours(1).max(profile.propagation));
    Duration::try_from(waited).unwrap_or(SOON)
}

/// What the answer to the whole request says about one payout.
fn of_one(attempt: &Attempt, answer: &Answer, references: &[(ProviderKey, ProviderReference)], propagation: SignedDuration) -> Answer {
    match answer {
        // Only what is named was taken for certain; a repeat names nobody. The others are looked for.
        Answer::Says(report) => match references.iter().find(|(key, _)| *key == attempt.key) {
            Some((_, reference)) => Answer::Says(domain::fact::Report { reference: Some(reference.clone()), ..report.clone() }),
            None => Answer::NoAnswer { why: Reason::new("not_named") },
        },
        // One payout of them is at fault, and nobody says which: each goes by itself, once it could be seen if it had been taken after all.
        Answer::Refused { reason } => Answer::Unprocessed { why: reason.clone(), retry_after: Some(propagation) },
        Answer::KeyConflict => Answer::NoAnswer { why: Reason::new("key_conflict") },
        Answer::NotSent { .. } | Answer::Unprocessed { .. } | Answer::NoAnswer { .. } => answer.clone(),
    }
}

#[cfg(test)]
mod tests {
    use domain::fact::{Report, Status};
    use domain::id::{PartyId, Shards};

    use super::*;

    /// The answer to a whole request is not that to a payout of its own: what is not named may not have been taken, and who is refused is not said.
    #[test]
    fn an_answer_to_all_says_no_more_about_one_than_it_does() {
        let batch = BatchId::derive(&PartyId::parse("shop").unwrap(), Mode::Test, "x", Shards::ONE);
        let key = |number| ProviderKey::of_group(batch, number);
        let attempt: Attempt = serde_json::from_value(serde_json::json!({
            "number": 1, "provider": "worldpay-account", "key": key(1), "group": key(9), "initiated_at": "2026-01-31T09:00:00Z",
            "sends": 1, "live": [], "evidence": {},
        }))
        .unwrap();
        let why = || Reason::new("why");
        let report = Report { status: Status::Authorised, provider_status: "NEW".to_owned(), at: None, reference: None, amount: None };
        let named = |number| vec![(key(number), ProviderReference("PZ1".to_owned()))];
        let Answer::Says(said) = of_one(&attempt, &Answer::Says(report.clone()), &named(1), SignedDuration::ZERO) else { panic!("it is named") };
        assert_eq!(said.reference, Some(ProviderReference("PZ1".to_owned())));
        for others in [named(2), Vec::new()] {
            assert!(matches!(of_one(&attempt, &Answer::Says(report.clone()), &others, SignedDuration::ZERO), Answer::NoAnswer { .. }));
        }
        let minute = SignedDuration::from_mins(1);
        assert_eq!(of_one(&attempt, &Answer::Refused { reason: why() }, &[], minute), Answer::Unprocessed { why: why(), retry_after: Some(minute) });
        assert!(matches!(of_one(&attempt, &Answer::KeyConflict, &[], minute), Answer::NoAnswer { .. }));
        for same in [Answer::NotSent { why: why() }, Answer::NoAnswer { why: why() }, Answer::Unprocessed { why: why(), retry_after: None }] {
            assert_eq!(of_one(&attempt, &same, &[], minute), same);
        }
    }
}
