//! Opening payouts: the one way in, for a request of its own and for an item of a batch.

use domain::destination::Beneficiary;
use domain::fact::Reason;
use domain::payout::rule::RuleMet;
use domain::payout::{Order, Payout, Step};
use domain::work::Next;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::execute::later;
use crate::gate::Question;
use crate::record::Recorder;
use crate::store::StoreError;
use crate::store::payouts::{Claim, Drawing, Drawn, Irreplaceable, Opened};

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
    /// This equal payout, by its caller's key, is unresolved. Nothing was opened, and the key is free.
    Twin(String),
    /// The payout that it names cannot be replaced. Nothing was opened, and the key is free.
    NotReplaceable(Irreplaceable),
    /// Nothing was opened.
    Objected(P),
}

/// Why no payout was opened that was asked for from a balance. The key is free.
#[derive(Debug)]
pub enum Undrawn {
    /// The account or a limit does not allow it, by this code.
    Refused(Reason, Option<RuleMet>),
    /// There is a payout of that balance for that day already.
    Taken,
    /// The account is not as it was any more: load, decide again.
    Changed,
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
        let question = self.question(wanted);
        let claim = Claim { fingerprint: &wanted.fingerprint, question: Some(&question) };
        let open = |order: Order| {
            let mut step = Payout::open(order, self.store.clock().now());
            if let Next::Execute(at) = step.next {
                step.next = Next::Execute(later(at, hold));
            }
            step
        };
        let mut step = open(wanted.order.clone());
        let mut opened = self.store.open_payout(&step, &wanted.beneficiary, claim).await?;
        if let Opened::NeedsApproval(rule) = opened {
            step = open(self.to_be_approved(&wanted.order, rule));
            opened = self.store.open_payout(&step, &wanted.beneficiary, claim).await?;
        }
        if let Opened::Refused(reason, rule) = opened {
            // Decided then, whatever comes in before this is written.
            step = Payout::open_refused(Order { rule, ..wanted.order.clone() }, reason, self.store.clock().now());
            opened = self.store.open_payout(&step, &wanted.beneficiary, wanted.fingerprint.as_str()).await?;
        }
        self.opening(step, opened)
            .await?
            .map_err(|(reason, _)| StoreError::Corrupt(format!("a payout that reserves nothing was refused: {}", reason.as_str())))
    }

    /// Opens a payout from a balance for a business day, once per key and per day. What the account does not allow is not opened at all.
    ///
    /// # Errors
    /// As every call of the store. A repeat is safe.
    pub async fn draw<P: Clone>(&self, wanted: &Wanted<P>, of: Drawing<'_>) -> Result<Result<Opening<P>, Undrawn>, StoreError> {
        if let Some(objection) = &wanted.objection
            && !self.store.is_claimed(wanted.order.id).await?
        {
            return Ok(Ok(Opening::Objected(objection.clone())));
        }
        let question = self.question(wanted);
        let claim = Claim { fingerprint: &wanted.fingerprint, question: Some(&question) };
        let mut step = Payout::open(wanted.order.clone(), self.store.clock().now());
        let mut drawn = self.store.draw(&step, &wanted.beneficiary, claim, of).await?;
        if let Drawn::Opened(Opened::NeedsApproval(rule)) = drawn {
            step = Payout::open(self.to_be_approved(&wanted.order, rule), self.store.clock().now());
            drawn = self.store.draw(&step, &wanted.beneficiary, claim, of).await?;
        }
        Ok(match drawn {
            Drawn::Opened(opened) => self.opening(step, opened).await?.map_err(|(reason, rule)| Undrawn::Refused(reason, rule)),
            Drawn::Taken => Err(Undrawn::Taken),
            Drawn::Changed => Err(Undrawn::Changed),
        })
    }

    fn question<P>(&self, wanted: &Wanted<P>) -> Question {
        self.gate.question(&wanted.order, &wanted.beneficiary, self.store.shards())
    }

    /// The same, to be approved by a second person: the script has found that one must, by that rule.
    pub(crate) fn to_be_approved(&self, order: &Order, rule: RuleMet) -> Order {
        order.clone().awaiting(Some(self.gate.approval_by(rule, self.store.clock().now())))
    }

    /// What came of an opening, unless its account or a limit has refused it.
    async fn opening<P>(&self, step: Step, opened: Opened) -> Result<Result<Opening<P>, (Reason, Option<RuleMet>)>, StoreError> {
        Ok(Ok(match opened {
            Opened::New => {
                self.metrics.opened(&step);
                Opening::Opened(Box::new(step.payout))
            }
            Opened::Exists(payout) => Opening::Replayed(payout),
            Opened::Archived => Opening::Archived,
            Opened::Unreadable(error) => Opening::Unreadable(error),
            Opened::Conflict => Opening::Conflict,
            Opened::Refused(reason, rule) => return Ok(Err((reason, rule))),
            Opened::Inactive => Opening::Inactive,
            Opened::NotReplaceable(why) => Opening::NotReplaceable(why),
            Opened::Twin(id) => {
                let twin = self.store.load_readable(id).await?;
                Opening::Twin(twin.map_or_else(|| id.to_string(), |twin| twin.transaction_id))
            }
            Opened::NeedsApproval(_) => return Err(StoreError::Corrupt("a payout that waits for an approval needs one".to_owned())),
        }))
    }
}
