//! Reconciliation: our payouts of a day against the provider's own list.
//!
//! It reads both sides, changes no payout, and keeps the counts for the metrics. What came out of a list that was cut is told, and not kept.

mod compare;

pub use compare::{Break, Compared, Kind, Scope, Told, compare};

use std::collections::BTreeMap;

use domain::bulletin::News;
use domain::fact::{Provider, Source};
use domain::id::{Mode, PartyId, PayoutId};
use domain::payout::Payout;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use providers::{NoStatement, Providers, Statement};
use serde::Deserialize;

use crate::record::{Recorded, Recorder};
use crate::store::reconciliations::Reconciled;
use crate::store::{Store, StoreError};

/// The bounds of a reconciliation.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Both sides are read so long before and after the day.
    pub margin_ms: u64,
    /// A payout that was requested so many days before the day may have been sent on it.
    pub requested_days: u16,
    /// Payouts of ours that are looked at, at most.
    pub payouts_max: usize,
    /// Lines of the provider that are read, at most.
    pub lines_max: usize,
    /// So many days of results are kept, and told as metrics.
    pub kept_days: u16,
    /// The party whose subscriptions are told of days that differ, where they ask for `reconciliation.break`.
    pub party: PartyId,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub compared: Compared,
    /// Whether both sides were read whole. If not, nothing is called missing there, and the result is not kept.
    pub whole: bool,
    /// Whether the day was over. If not, there may be more on both sides.
    pub finished: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Unreconciled {
    /// Or it has no list.
    #[error("the provider could not be asked")]
    NotAsked(#[from] NoStatement),
    #[error("the store does not answer")]
    Store(#[from] StoreError),
    #[error("that is not a day that has begun")]
    Day,
}

/// Compares one day (in UTC) of one account. Each break is a line of the log.
///
/// # Errors
/// [`Unreconciled`]. Repeatable: a later result of the same day takes the place of the earlier one.
pub async fn reconcile(
    store: &Store,
    providers: &Providers,
    settings: &Settings,
    (provider, mode): (Provider, Mode),
    day: Date,
) -> Result<Outcome, Unreconciled> {
    if !providers.profile(provider, mode).lists_payouts {
        return Err(NoStatement::NotListed.into());
    }
    let start = |day: Date| day.to_zoned(TimeZone::UTC).map(|start| start.timestamp()).map_err(|_| Unreconciled::Day);
    let scope = Scope { provider, mode, from: start(day)?, to: start(day.tomorrow().map_err(|_| Unreconciled::Day)?)? };
    if scope.from > store.clock().now() {
        return Err(Unreconciled::Day);
    }
    let margin = SignedDuration::from_millis(i64::try_from(settings.margin_ms).unwrap_or(i64::MAX));
    let reach = Scope { from: sub(scope.from, margin), to: add(scope.to, margin), ..scope };

    let mut ours: BTreeMap<PayoutId, Payout> = BTreeMap::new();
    let requested = (sub(scope.from, SignedDuration::from_hours(24 * i64::from(settings.requested_days))), reach.to);
    let mut left = settings.payouts_max;
    for shard in store.shards().all() {
        let take = |payout: Payout| {
            if reach.attempts(&payout).any(|attempt| (reach.from..reach.to).contains(&attempt.first_sent())) {
                ours.insert(payout.id, payout);
            }
        };
        left = left.saturating_sub(store.requested_between(shard, requested, left, take).await?);
    }

    // What was sent again on a later day may have been made there only then.
    let attempts = ours.values().flat_map(|payout| scope.attempts(payout));
    let of_the_day = attempts.filter(|attempt| (scope.from..scope.to).contains(&attempt.first_sent()));
    let latest = of_the_day.flat_map(|attempt| attempt.live.iter().map(|send| send.by)).max().unwrap_or(scope.to).max(scope.to);
    let mut statement = providers.statement(provider, mode, reach.from, add(latest, margin), settings.lines_max).await?;
    // Without all of ours, too, what is missing is not known.
    statement.whole &= left > 0;
    let whole = statement.whole;

    load_listed(store, &statement, &mut ours).await?;
    let ours: Vec<Payout> = ours.into_values().collect();
    let compared = compare(&scope, &ours, &statement);
    tell(&scope, day, &compared, whole);
    if whole {
        let at = store.clock().now();
        let today = at.to_zoned(TimeZone::UTC).date();
        let oldest = today.checked_sub(jiff::Span::new().days(i64::from(settings.kept_days))).unwrap_or(Date::MIN);
        let kept = kept(&scope, day, at, &compared);
        store.keep_reconciled(&kept, oldest).await?;
        if kept.is_finished() && !kept.breaks.is_empty() {
            let breaks: BTreeMap<_, _> = kept.breaks.iter().map(|(kind, count)| (kind.name(), *count)).collect();
            let once = format!("break {} {day} {breaks:?}", provider.name());
            store.announce(&settings.party, mode, &News::Break { provider, day, matched: kept.matched, breaks }, &once).await?;
        }
    }
    Ok(Outcome { compared, whole, finished: store.clock().now() >= scope.to })
}

/// Has the provider asked soon about each payout of ours that is missing there, or stands differently there: a notice may have been lost. Says about how many,
/// [`CHECKED_MAX`] at most.
///
/// # Errors
/// As every call of the store. Repeatable.
pub async fn check(recorder: &Recorder, compared: &Compared) -> Result<usize, StoreError> {
    let asked_about = compared.breaks.iter().filter(|found| matches!(found.kind, Kind::MissingThere | Kind::DifferentStatus));
    let mut checked = 0;
    for told in asked_about.filter_map(|found| found.payout).take(CHECKED_MAX) {
        let Some(payout) = recorder.store.load(told.id).await? else { continue };
        let recorded = recorder.check(payout, Source::Operator).await?;
        checked += usize::from(matches!(recorded, Recorded::Done(_)));
    }
    Ok(checked)
}

/// Reads the payouts of ours that lines name and that were not found by the time of their request.
async fn load_listed(store: &Store, statement: &Statement, ours: &mut BTreeMap<PayoutId, Payout>) -> Result<(), StoreError> {
    let named = statement.lines.iter().filter_map(|line| line.key?.payout_and_attempt()).map(|(id, _)| id);
    let missing: Vec<PayoutId> = named.filter(|id| store.shards().contains(id.shard()) && !ours.contains_key(id)).collect();
    for ids in missing.chunks(LOADED_AT_ONCE) {
        let found = futures_util::future::try_join_all(ids.iter().map(|id| store.load_readable(*id))).await?;
        ours.extend(found.into_iter().flatten().map(|payout| (payout.id, payout)));
    }
    Ok(())
}

const LOADED_AT_ONCE: usize = 200;

/// Payouts that one run has its provider asked about, at most: all those looks are due at once.
pub const CHECKED_MAX: usize = 1_000;

/// Breaks of one run that are logged one by one.
const LOGGED_MAX: usize = 1_000;

fn tell(scope: &Scope, day: Date, compared: &Compared, whole: bool) {
    let (provider, mode) = (scope.provider.name(), scope.mode.as_str());
    for found in compared.breaks.iter().take(LOGGED_MAX) {
        let payout = found.payout.map(|told| told.id.to_string()).unwrap_or_default();
        let key = found.key.map(|key| key.to_string()).unwrap_or_default();
        let provider_status = found.provider_status.as_deref().unwrap_or_default();
        tracing::warn!(provider, mode, %day, kind = found.kind.name(), payout.id = payout, key, provider_status, "our record and the provider's differ");
    }
    let (matched, breaks) = (compared.matched.len(), compared.breaks.len());
    tracing::info!(provider, mode, %day, matched, breaks, whole, "a day was reconciled");
}

fn kept(scope: &Scope, day: Date, at: Timestamp, compared: &Compared) -> Reconciled {
    let count = |kind: Kind| compared.breaks.iter().filter(|found| found.kind == kind).count() as u64;
    let breaks = Kind::ALL.map(|kind| (kind, count(kind))).into_iter().filter(|(_, count)| *count > 0).collect();
    Reconciled { provider: scope.provider, mode: scope.mode, day, at, matched: compared.matched.len() as u64, breaks }
}

fn add(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

fn sub(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_sub(by).unwrap_or(at)
}
