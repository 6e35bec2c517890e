//! The net below: looks over open payouts in pages, puts back work that is missing, and compares what cannot be compared elsewhere.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::execute::Payouts;
use crate::store::StoreError;
use crate::store::accounts::Audited;
use crate::store::books::Walk;
use crate::store::freeze::Freeze;
use crate::store::schedules::LookedOverSchedules;
use crate::store::vitals::{LookedOver, Vitals};

/// What a round found in one shard.
#[derive(Debug)]
pub struct Swept {
    pub shard: domain::id::Shard,
    pub vitals: Vitals,
    pub looked_over: LookedOver,
    pub audited: Audited,
    pub schedules: LookedOverSchedules,
    /// How long the oldest batch has waited to be opened whole; 0 when none does.
    pub batch_age_ms: u64,
    /// Batches that had no work although they are not opened. The work was put back.
    pub batches_repaired: u64,
}

/// One round over one shard, and the next page of a walk over its open payouts.
///
/// # Errors
/// As every call of the store.
pub async fn sweep(context: &Payouts, shard: domain::id::Shard, walk: &mut Walk) -> Result<Swept, StoreError> {
    let store = &context.recorder.store;
    store.refresh_clock().await?;
    let on_file = context.fence.passed(shard);
    let found = store.epoch(shard).await?;
    if found < on_file {
        let reason = crate::fence::RolledBack { found, on_file }.to_string();
        tracing::error!(%reason, "dispatch is frozen");
        store.freeze(shard, &Freeze { reason, at_ms: store.clock().now().as_millisecond(), epoch_seen: on_file, nothing_lost: false }).await?;
    }
    let looked_over = store.look_over(shard, walk).await?;
    for payout in &looked_over.repaired {
        tracing::error!(payout.id = %payout, "a payout had no work although its state needs it; the work was put back");
    }
    let (batch_age_ms, batches_repaired) = store.look_over_batches(shard).await?;
    if batches_repaired > 0 {
        tracing::error!(batches_repaired, "batches had no work although they are not opened; the work was put back");
    }
    let schedules = store.look_over_schedules(shard, Duration::from_millis(context.schedules.settings.look_again_ms)).await?;
    if schedules.repaired > 0 {
        tracing::error!(schedules.repaired, "schedules had nobody who looks at them again; the work was put back");
    }
    if schedules.brought_forward > 0 {
        tracing::warn!(schedules.brought_forward, "schedules were to be looked at too late, because a clock was ahead; they are looked at now");
    }
    match store.trim_batches(shard, context.recorder.batches_kept).await {
        Ok(0) => {}
        Ok(batches_trimmed) => tracing::info!(batches_trimmed, "batches that ended long ago were forgotten but for their keys"),
        // Nobody waits for that. What follows looks for trouble, and must not be ended by it.
        Err(error) => tracing::error!(%error, "batches that ended long ago could not be forgotten"),
    }
    let audited = store.audit_after(shard, &looked_over, walk).await?;
    let held_by_faults = store.release_accounts(shard).await?;
    let vitals = Vitals { held_by_faults, stopped: store.look_over_stopped_parties(shard).await?, ..store.vitals(shard).await? };
    store.look_at_circuits(shard, &vitals.circuits).await?;
    Ok(Swept { shard, vitals, looked_over, audited, schedules, batch_age_ms, batches_repaired })
}

/// Sweeps every `interval` until `stop`, and hands what it found to `observe`.
pub async fn run(context: &Payouts, interval: Duration, stop: CancellationToken, observe: impl Fn(&Swept)) {
    let mut walks = vec![Walk::default(); usize::from(context.recorder.store.shards().count())];
    loop {
        for (shard, walk) in context.recorder.store.shards().all().zip(&mut walks) {
            match sweep(context, shard, walk).await {
                Ok(swept) => observe(&swept),
                Err(error) => tracing::warn!(%error, "a sweep ended early; the next one goes on"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}
