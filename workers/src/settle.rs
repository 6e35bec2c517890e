//! Settling notices: what a provider told us, as a fact about the payout it speaks of.

use std::sync::Arc;

use domain::fact::{Provider, Source, Told};
use domain::id::Mode;
use domain::payout::{Fact, Payout, What};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;

use crate::execute::{Payouts, later};
use crate::queue::{Job, Lease};
use crate::store::StoreError;
use crate::store::lanes::{SettleWork, Ticket};
use crate::store::notices::Settled;
use crate::trace;

/// A notice may be faster than our own write. After this time without its payout it is an orphan.
const ORPHAN_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// What a verified notice says, as it is stored between the request that brought it and its settlement.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredNotice {
    /// The version of this form.
    pub v: u8,
    pub provider: Provider,
    /// Whose keys verified it. A notice of the provider's test environment says nothing about a live payout.
    pub mode: Mode,
    pub told: Told,
}

/// Settles one notice.
pub async fn settle(context: Arc<Payouts>, job: Job<SettleWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let id = work.id;
    if work.times_leased > context.settings.leases_max {
        tracing::error!(notice.id = %id, "a notice was leased again and again; it is put aside as an orphan");
        match context.recorder.store.settled(id, lease.ticket(), Settled::Orphan).await {
            Ok(()) => lease.settled(),
            Err(error) => tracing::warn!(notice.id = %id, %error, "a notice could not be put aside; its lease will lead back to it"),
        }
        return;
    }
    let span = tracing::debug_span!("notice.settle", notice.id = %id, payout.id = tracing::field::Empty);
    // Before the span is entered for the first time: from then on it belongs to the trace that it was begun in.
    let addressed = context.addressed(&work).await;
    if let Ok(Addressed { found: Some((payout, _)), .. }) = &addressed {
        span.record("payout.id", tracing::field::display(payout.id));
        trace::continues(&span, payout.trace.as_deref());
    }
    async {
        let settled = match addressed {
            Ok(addressed) => context.settle(&work, &lease, addressed).await,
            Err(error) => Err(error),
        };
        match settled {
            Ok(()) => lease.settled(),
            Err(error) => tracing::warn!(notice.id = %id, %error, "a notice could not be settled; its lease will lead back to it"),
        }
    }
    .instrument(span)
    .await;
}

/// A notice and the payout that it speaks of.
struct Addressed {
    notice: StoredNotice,
    /// Whether its key can be one of ours, on a shard of ours, and is not known to be of an attempt at another provider.
    ours: bool,
    /// With the number of the attempt.
    found: Option<(Payout, u8)>,
}

impl Payouts {
    async fn addressed(&self, work: &SettleWork) -> Result<Addressed, StoreError> {
        let store = &self.recorder.store;
        let notice: StoredNotice = serde_json::from_slice(&work.body).map_err(|error| StoreError::Corrupt(format!("notice {}: {error}", work.id)))?;
        let here = notice.told.key.payout_and_attempt().filter(|(payout, _)| store.shards().contains(payout.shard()));
        let found = match here {
            Some((id, attempt)) => store.load(id).await?.filter(|payout| payout.mode == notice.mode).map(|payout| (payout, attempt)),
            None => None,
        };
        // The signature proves which provider speaks, and it speaks for its own attempts only.
        let of_another = found.as_ref().is_some_and(|(payout, attempt)| payout.provider_of(*attempt) != Some(notice.provider));
        Ok(Addressed { ours: here.is_some() && !of_another, found: found.filter(|_| !of_another), notice })
    }

    async fn settle(&self, work: &SettleWork, lease: &Lease<Ticket>, Addressed { notice, ours, found }: Addressed) -> Result<(), StoreError> {
        let store = &self.recorder.store;
        let outcome = if let Some((payout, attempt)) = found {
            let fact = Fact::new(Source::Notice, What::Reported { attempt, report: notice.told.report });
            self.recorder.record(payout, &fact).await?;
            fail::fail_point!("notice-not-settled");
            Settled::Done
        } else {
            let now = store.clock().now();
            let age = now.duration_since(work.at);
            if !ours || age >= ORPHAN_AFTER {
                tracing::warn!(notice.id = %work.id, "a notice speaks of a payout that is not here");
                Settled::Orphan
            } else {
                // As long again as it has waited already, from a second to an hour.
                Settled::RetryAt(later(now, age.clamp(SignedDuration::from_secs(1), SignedDuration::from_hours(1))))
            }
        };
        store.settled(work.id, lease.ticket(), outcome).await
    }
}
