//! Opening payouts: the one way in, for a request of its own and for an item of a batch.

use domain::destination::Beneficiary;
use domain::payout::{Order, Payout};
use serde::{Deserialize, Serialize};

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
    /// The key was used before, for another request.
    Conflict,
    /// Nothing was opened.
    Objected(P),
}

impl Recorder {
    /// Opens a payout, once per key.
    ///
    /// # Errors
    /// As every call of the store. A repeat is safe.
    pub async fn open<P: Clone>(&self, wanted: &Wanted<P>) -> Result<Opening<P>, StoreError> {
        if let Some(objection) = &wanted.objection
            && self.store.load(wanted.order.id).await?.is_none()
        {
            return Ok(Opening::Objected(objection.clone()));
        }
        let step = Payout::open(wanted.order.clone(), self.store.clock().now());
        Ok(match self.store.open_payout(&step, &wanted.beneficiary, &wanted.fingerprint).await? {
            Opened::New => {
                self.metrics.opened(&step);
                Opening::Opened(Box::new(step.payout))
            }
            Opened::Exists(payout) => Opening::Replayed(payout),
            Opened::Archived => Opening::Archived,
            Opened::Conflict => Opening::Conflict,
        })
    }
}
