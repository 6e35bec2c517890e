//! Opening payouts: the one way in, for a request of its own and for an item of a batch.

use domain::destination::Beneficiary;
use domain::payout::{Order, Payout};
use domain::work::Next;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::execute::later;
use crate::record::Recorder;
use crate::store::StoreError;
use crate::store::payouts::Opened;

/// A payout that is asked for: read, checked, and given its route.
///
/// `P` is how an objection is told. `Debug` is not offered: it holds the beneficiary.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted<P> {
    pub order: Order,
    pub beneficiary: Beneficiary,
    /// What tells this request from another one under the same key.
    pub fingerprint: String,
    /// What stood in its way when it was asked for. It does not count against the repeat of a request that was accepted in its time.
    pub objection: Option<P>,
}

/// What became of a payout that was asked for.
#[derive(Debug)]
pub enum Opening<P> {
    Opened(Box<Payout>),
    /// The key was used before, for the same request. The payout as it is now.
    Replayed(Box<Payout>),
    /// The key was used before, for the same request, so long ago that only the memory of the key is left.
    Archived,
    /// The key was used before, for the same request. The record of its payout cannot be read.
    Unreadable(StoreError),
    /// The key was used before, for another request.
    Conflict,
    /// The party is inactive. Nothing was opened, and the key is free.
    Inactive,
    /// Nothing was opened.
    Objected(P),
}

impl Recorder {
    /// Opens a payout, once per key. It is due for dispatch after `hold`, or on its day; one that its account does not allow is opened as rejected.
    ///
    /// # Errors
    /// As every call of the store. A repeat is safe.
    pub async fn open<P: Clone>(&self, wanted: &Wanted<P>, hold: SignedDuration) -> Result<Opening<P>, StoreError> {
        if let Some(objection) = &wanted.objection
            && !self.store.is_claimed(wanted.order.id).await?
        {
            return Ok(Opening::Objected(objection.clone()));
        }
        let mut step = Payout::open(wanted.order.clone(), self.store.clock().now());
        if let Next::Execute(at) = step.next {
            step.next = Next::Execute(later(at, hold));
        }
        let mut opened = self.store.open_payout(&step, &wanted.beneficiary, &wanted.fingerprint).await?;
        if let Opened::Refused(reason) = opened {
            // Decided then, whatever comes in before this is written.
            step = Payout::open_refused(wanted.order.clone(), reason, self.store.clock().now());
            opened = self.store.open_payout(&step, &wanted.beneficiary, &wanted.fingerprint).await?;
        }
        Ok(match opened {
            Opened::New => {
                self.metrics.opened(&step);
                Opening::Opened(Box::new(step.payout))
            }
            Opened::Exists(payout) => Opening::Replayed(payout),
            Opened::Archived => Opening::Archived,
            Opened::Unreadable(error) => Opening::Unreadable(error),
            Opened::Conflict => Opening::Conflict,
            Opened::Refused(reason) => return Err(StoreError::Corrupt(format!("a payout that reserves nothing was refused: {}", reason.as_str()))),
            Opened::Stale | Opened::Frozen => {
                return Err(StoreError::Corrupt("a payout that no schedule opens was refused as one of a schedule".to_owned()));
            }
            Opened::Inactive => Opening::Inactive,
        })
    }
}
