//! The witnesses: what the provider's ledger, the store and the subscriber say about each payout, and where they do not agree.

use std::collections::BTreeMap;

use anyhow::Context as _;
use domain::delivery::Status;
use domain::id::PayoutId;
use domain::payout::What;
use domain::payout::state::StateName;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use providers::truelayer::sandbox::book::Direction;
use providers::truelayer::sandbox::mood::Mood;
use serde::Serialize;
use workers::store::payouts::Timeline;

use super::load::Sent;
use crate::child::Program;
use crate::local::Local;

/// Work that has been due for longer is overdue.
const OVERDUE_MS: u64 = 2_000;
/// Payouts that are read at one time.
const AT_ONCE: usize = 32;

/// What was found. The numbers up to `panics` must be 0.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// Movements out while another one of the same payout had not come back, by the provider's ledger.
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
    /// Webhooks that did not verify.
    pub webhooks_refused: u64,
    /// Shards whose dispatch is frozen, although no acknowledged write was lost.
    pub frozen: u64,
    /// Payouts that a sweep found without the work that they need.
    pub repaired: u64,
    /// Panics of workers.
    pub panics: u64,
    pub by_state: BTreeMap<&'static str, u64>,
    /// What had become of the sends of those in review.
    pub in_review_after: BTreeMap<String, u64>,
    pub abandoned: u64,
    /// Entries of lanes, due or not.
    #[serde(skip)]
    pub left: u64,
    /// What is wrong, payout by payout.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<String>,
}

/// What moved for one payout.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    out: u32,
    back: u32,
}

impl Findings {
    /// What must be 0, by its name.
    #[must_use]
    pub fn figures(&self) -> [(&'static str, u64); 13] {
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
        self.named.push(format!("{} ({}): {what}", sent.id, sent.transaction));
    }
}

/// Hears the witnesses.
///
/// # Errors
/// The store does not answer.
pub async fn audit(local: &Local, sent: &[Sent]) -> anyhow::Result<Findings> {
    let store = &local.store;
    let timelines = stream::iter(sent).map(|sent| store.timeline(sent.id)).buffered(AT_ONCE).try_collect::<Vec<_>>().await?;
    let ledger = local.sandbox.ledger();
    let mut moved: BTreeMap<PayoutId, Moved> = BTreeMap::new();
    let mut found = Findings { double_movements: ledger.double_movements, webhooks_refused: local.subscriber.refused(), ..Findings::default() };
    for movement in &ledger.movements {
        let Some((payout, _)) = movement.payout_and_attempt() else { continue };
        let moved = moved.entry(payout).or_default();
        match movement.direction {
            Direction::Out => moved.out += 1,
            Direction::Back => moved.back += 1,
        }
    }
    for (sent, timeline) in sent.iter().zip(&timelines) {
        let moved = moved.get(&sent.id).copied().unwrap_or_default();
        if moved.out > 1 {
            found.name(sent, format_args!("money left {} times", moved.out));
        }
        match timeline {
            Some(timeline) => {
                found.state(sent, timeline, moved);
                found.events(local, sent, timeline);
            }
            None if sent.accepted || moved.out > 0 => {
                found.lost += 1;
                found.name(sent, "was accepted and is not in the store");
            }
            None => {}
        }
    }
    for shard in store.shards().all() {
        let vitals = store.vitals(shard).await?;
        for lane in &vitals.lanes {
            found.left += lane.entries;
            if lane.oldest_due_ms > OVERDUE_MS {
                found.overdue += lane.entries;
                found.named.push(format!("lane {}: {} entries, the oldest due for {} ms", lane.lane, lane.entries, lane.oldest_due_ms));
            }
        }
        found.abandoned += vitals.abandoned;
        found.frozen += u64::from(vitals.frozen);
        found.imbalance += store.imbalance(shard).await?.unsigned_abs();
    }
    Ok(found)
}

/// Whether the provider will tell nothing more by itself.
pub(super) fn provider_is_done(local: &Local, sent: &[Sent]) -> bool {
    let ended = |sent: &Sent| {
        let Some(view) = local.sandbox.payout(sent.provider_id()) else { return true };
        view.payout.is_none_or(|payout| match payout.status.as_str() {
            "failed" | "rejected" => true,
            "settled" => view.mood != Mood::Return,
            _ => false,
        })
    };
    sent.iter().all(ended)
}

impl Findings {
    fn state(&mut self, sent: &Sent, timeline: &Timeline, moved: Moved) {
        let state = timeline.payout.state.name();
        *self.by_state.entry(state.as_str()).or_default() += 1;
        if state == StateName::InReview {
            let facts = timeline.observations.iter().rev().filter_map(|seen| seen.fact.as_ref());
            let why = facts.filter_map(|fact| if let What::NoAnswer { why, .. } = &fact.what { Some(why.as_str()) } else { None }).next();
            *self.in_review_after.entry(why.unwrap_or("other").to_owned()).or_default() += 1;
        }
        let left = i64::from(moved.out) - i64::from(moved.back);
        let agrees = match state {
            StateName::Settled => left == 1,
            StateName::Returned => moved.out > 0 && left == 0,
            StateName::Failed | StateName::Rejected | StateName::Canceled => left == 0,
            StateName::InReview => true,
            StateName::Requested
            | StateName::AwaitingApproval
            | StateName::Scheduled
            | StateName::Initiated
            | StateName::Inconclusive
            | StateName::Authorised
            | StateName::Submitted => {
                self.stuck += 1;
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
