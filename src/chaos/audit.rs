//! The witnesses: what the providers' ledgers, the store and the subscriber say about each payout, and where they do not agree.

use std::collections::BTreeMap;

use anyhow::Context as _;
use domain::delivery::Status;
use domain::fact::Provider;
use domain::id::{Mode, PayoutId};
use domain::ledger::Account;
use domain::money::Money;
use domain::payout::What;
use domain::payout::state::StateName;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use providers::sandbox::all::Moved;
use providers::sandbox::mood::Mood;
use serde::Serialize;
use workers::store::accounts::Standing;
use workers::store::payouts::Timeline;

use super::load::{Load, Sent};
use crate::child::Program;
use crate::local::Local;

/// Work that has been due for longer is overdue.
const OVERDUE_MS: u64 = 2_000;
/// Payouts that are read at one time.
const AT_ONCE: usize = 32;

/// What was found. The numbers up to `panics` must be 0.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Movements out while another one of the same payout had not come back, by the ledgers of all providers together.
    pub double_movements: u64,
    /// Accepted, and not in the store.
    pub lost: u64,
    /// Neither final nor in review.
    pub stuck: u64,
    /// The state is not what the ledger says.
    pub disagreeing: u64,
    /// Said to be canceled and not so, or the other way round.
    pub cancels_broken: u64,
    /// Events that the subscriber did not get and that are not listed as abandoned.
    pub undelivered: u64,
    /// Payouts whose events have gaps, or arrived for the first time in another order.
    pub sequence_gaps: u64,
    /// Work past its due time.
    pub overdue: u64,
    /// The ledger of the store does not balance.
    pub imbalance: u64,
    /// Accounts whose ledger is not what their payouts and top-ups make it.
    pub accounts_unlike_payouts: u64,
    /// Webhooks that did not verify.
    pub webhooks_refused: u64,
    /// Shards whose dispatch is frozen, although no acknowledged write was lost.
    pub frozen: u64,
    /// Payouts that a sweep found without the work that they need.
    pub repaired: u64,
    /// Panics of workers.
    pub panics: u64,
    pub by_state: BTreeMap<&'static str, u64>,
    pub providers: BTreeMap<&'static str, AtProvider>,
    /// What had become of the sends of those in review.
    pub in_review_after: BTreeMap<String, u64>,
    pub abandoned: u64,
    /// Payouts at the last word of a provider that tells no more of them. They are still asked after, now and then.
    pub at_last_word: u64,
    /// Entries of lanes, due or not, but for those.
    #[serde(skip)]
    pub left: u64,
    /// What is wrong, payout by payout.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
}

/// What was found at one provider.
#[derive(Debug, Default, Serialize)]
pub struct AtProvider {
    pub payouts: u64,
    /// Payouts that it took in a mood.
    pub faults: u64,
    /// By its own ledger alone.
    pub double_movements: u64,
    pub lost: u64,
    pub stuck: u64,
    pub inconclusive_at_end: u64,
    pub in_review: u64,
}

impl Findings {
    /// What must be 0, by its name.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, u64); 14] {
        [
            ("double movements", self.double_movements),
            ("payouts lost", self.lost),
            ("payouts stuck", self.stuck),
            ("payouts unlike the ledger", self.disagreeing),
            ("cancels broken", self.cancels_broken),
            ("events undelivered", self.undelivered),
            ("sequences with gaps", self.sequence_gaps),
            ("work overdue", self.overdue),
            ("ledger imbalance", self.imbalance),
            ("accounts unlike their payouts", self.accounts_unlike_payouts),
            ("webhooks refused", self.webhooks_refused),
            ("shards frozen", self.frozen),
            ("work put back by sweeps", self.repaired),
            ("panics", self.panics),
        ]
    }

    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.figures().iter().all(|(_, figure)| *figure == 0)
    }

    /// Adds what only the logs of the workers know.
    pub(super) fn with_logs(mut self, program: &Program, names: &[&str]) -> anyhow::Result<Self> {
        for name in names {
            let log = std::fs::read_to_string(program.log(name)).context("the log of a worker")?;
            let count = |what: &str| log.lines().filter(|line| line.contains(what)).count() as u64;
            self.repaired += count("the work was put back");
            self.panics += count("panicked at");
        }
        Ok(self)
    }

    fn name(&mut self, sent: &Sent, what: impl std::fmt::Display) {
        self.named.push(format!("{} ({}, {}): {what}", sent.id, sent.transaction, sent.provider.name()));
    }

    fn at(&mut self, provider: Provider) -> &mut AtProvider {
        self.providers.entry(provider.name()).or_default()
    }

    /// Payouts that a provider took in a mood.
    #[must_use]
    pub fn provider_faults(&self) -> u64 {
        self.providers.values().map(|at| at.faults).sum()
    }
}

/// Hears the witnesses.
///
/// # Errors
/// The store does not answer.
pub async fn audit(local: &Local, load: &Load) -> anyhow::Result<Findings> {
    let store = &local.store;
    let sent = &load.sent;
    let timelines = stream::iter(sent).map(|sent| store.timeline(sent.id)).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let sandboxes = &local.sandboxes;
    let mut found =
        Findings { double_movements: sandboxes.ledger().double_movements, webhooks_refused: local.subscriber.refused(), ..Findings::default() };
    // Wherever it moved: nobody but the provider that was asked may have paid.
    let mut moved: BTreeMap<PayoutId, Moved> = BTreeMap::new();
    for ((payout, _), at_one) in sandboxes.moved() {
        let moved = moved.entry(payout).or_default();
        moved.out += at_one.out;
        moved.back += at_one.back;
    }
    for (sent, timeline) in sent.iter().zip(&timelines) {
        let moved = moved.get(&sent.id).copied().unwrap_or_default();
        let faulty = sandboxes.mood(sent.provider, sent.provider_key()).is_some_and(|mood| mood != Mood::Plain);
        let at = found.at(sent.provider);
        at.payouts += 1;
        at.faults += u64::from(faulty);
        if moved.out > 1 {
            found.name(sent, format_args!("money left {} times", moved.out));
        }
        match timeline {
            Some(timeline) => {
                found.state(local, sent, timeline, moved);
                found.events(local, sent, timeline);
            }
            None if sent.accepted || moved.out > 0 => {
                found.lost += 1;
                found.at(sent.provider).lost += 1;
                found.name(sent, "was accepted and is not in the store");
            }
            None => {}
        }
    }
    for provider in Provider::ALL {
        let double_movements = sandboxes.ledger_of(provider).double_movements;
        if let Some(at) = found.providers.get_mut(provider.name()) {
            at.double_movements = double_movements;
        }
    }
    for shard in store.shards().all() {
        let vitals = store.vitals(shard).await?;
        for lane in &vitals.lanes {
            // A schedule always has a next look.
            found.left += if lane.lane == "schedule" { 0 } else { lane.entries };
            if lane.oldest_due_ms > OVERDUE_MS {
                found.overdue += lane.entries;
                found.named.push(format!("lane {}: {} entries, the oldest due for {} ms", lane.lane, lane.entries, lane.oldest_due_ms));
            }
        }
        found.abandoned += vitals.abandoned;
        found.frozen += u64::from(vitals.frozen);
        found.imbalance += store.audit(shard).await?.imbalance.unsigned_abs();
    }
    found.accounts(&store.accounts(&local.config.ingress.default_party, Mode::Test).await?, load, timelines.iter().flatten());
    found.left = found.left.saturating_sub(found.at_last_word);
    Ok(found)
}

impl Findings {
    /// Compares each account that money came into with that and with the payouts that take from it.
    fn accounts<'a>(&mut self, accounts: &[Standing], load: &Load, timelines: impl Iterator<Item = &'a Timeline>) {
        let mut expected: BTreeMap<String, BTreeMap<Account, i64>> = BTreeMap::new();
        for (currency, minor) in &load.topped_up {
            expected.insert(currency.clone(), BTreeMap::from([(Account::TopUps, -minor), (Account::Available, *minor)]));
        }
        for Timeline { payout, .. } in timelines {
            let Some(account) = expected.get_mut(payout.amount.currency().code()) else { continue };
            let minor = payout.amount.exact().map_or(0, Money::minor);
            *account.entry(Account::Available).or_default() -= minor;
            *account.entry(payout.holds_funds_in()).or_default() += minor;
        }
        for (currency, expected) in expected {
            let standing = accounts.iter().find(|standing| standing.account.currency.code() == currency);
            let found = |account| standing.map_or(0, |standing| standing.balances.of(account));
            for account in Account::ALL {
                let expected = expected.get(&account).copied().unwrap_or(0);
                if found(account) != expected {
                    self.accounts_unlike_payouts += 1;
                    self.named.push(format!("{currency}, {}: {} and not {expected}", account.name(), found(account)));
                }
            }
        }
    }

    fn state(&mut self, local: &Local, sent: &Sent, timeline: &Timeline, moved: Moved) {
        let payout = &timeline.payout;
        let state = payout.state.name();
        let told = payout.attempts.last().and_then(|attempt| attempt.provider_status.as_deref());
        let has_the_last_word = told.is_some_and(|told| local.providers.profile(sent.provider, Mode::Test).last_words.contains(&told));
        *self.by_state.entry(state.as_str()).or_default() += 1;
        if state == StateName::InReview {
            let facts = timeline.observations.iter().rev().filter_map(|seen| seen.fact.as_ref());
            self.at(sent.provider).in_review += 1;
            let why = facts.filter_map(|fact| if let What::NoAnswer { why, .. } = &fact.what { Some(why.as_str()) } else { None }).next();
            *self.in_review_after.entry(why.unwrap_or("other").to_owned()).or_default() += 1;
        }
        let left = i64::from(moved.out) - i64::from(moved.back);
        let agrees = match state {
            StateName::Settled => left == 1,
            StateName::Returned => moved.out > 0 && left == 0,
            StateName::Failed | StateName::Rejected | StateName::Canceled => left == 0,
            StateName::InReview => true,
            // Nothing more will be said, whatever becomes of the money.
            StateName::Authorised if has_the_last_word => {
                self.at_last_word += 1;
                moved.out == 1
            }
            StateName::Requested
            | StateName::AwaitingApproval
            | StateName::Scheduled
            | StateName::Initiated
            | StateName::Inconclusive
            | StateName::Authorised
            | StateName::Submitted => {
                self.stuck += 1;
                let at = self.at(sent.provider);
                at.stuck += 1;
                at.inconclusive_at_end += u64::from(state == StateName::Inconclusive);
                self.name(sent, format_args!("is still {}", state.as_str()));
                true
            }
        };
        if !agrees {
            self.disagreeing += 1;
            self.name(sent, format_args!("is {}, and money left {} times and came back {} times", state.as_str(), moved.out, moved.back));
        }
        if sent.canceled.is_some_and(|canceled| canceled != (state == StateName::Canceled)) {
            self.cancels_broken += 1;
            self.name(
                sent,
                format_args!(
                    "is {}, and the platform was told {}",
                    state.as_str(),
                    if sent.canceled == Some(true) { "canceled" } else { "too late" }
                ),
            );
        }
    }

    fn events(&mut self, local: &Local, sent: &Sent, timeline: &Timeline) {
        let last = timeline.payout.sequence;
        let told: Vec<u32> = timeline.events.iter().map(|event| event.id.sequence()).collect();
        let arrived = local.subscriber.arrivals(&sent.id.to_string());
        let abandoned = |sequence: u32| {
            let is_abandoned = |status: Status| matches!(status, Status::Abandoned { .. });
            timeline
                .deliveries
                .iter()
                .any(|listed| listed.sequence == sequence && listed.delivery.as_ref().is_some_and(|delivery| is_abandoned(delivery.status)))
        };
        let missing: Vec<u32> = (1..=last).filter(|sequence| !arrived.contains(sequence) && !abandoned(*sequence)).collect();
        if !missing.is_empty() {
            self.undelivered += missing.len() as u64;
            self.name(sent, format_args!("the subscriber did not get the events {missing:?} of {last}"));
        }
        if !told.iter().copied().eq(1..=last) || !arrived.is_sorted() {
            self.sequence_gaps += 1;
            self.name(sent, format_args!("has the events {told:?} of {last}, which arrived in the order {arrived:?}"));
        }
    }
}
