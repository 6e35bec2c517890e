//! From a request that was read to a payout that is asked for: the same for a request of its own and for an item of a batch.

use domain::amount::Amount;
use domain::id::{Mode, PartyId, PayoutId};
use domain::payout::Order;
use jiff::Timestamp;
use workers::open::Wanted;
use workers::store::payouts::Irreplaceable;

use super::Ingress;
use super::order::Asked;
use super::problem::{Kind, Problem};

/// What all payouts of a request have in common.
pub(super) struct Circumstances<'a> {
    pub(super) party: &'a PartyId,
    pub(super) mode: Mode,
    /// The owner of the credential that asks.
    pub(super) maker: &'a str,
    /// The caller's key of the batch, if it is one.
    pub(super) batch_id: Option<&'a str>,
    /// W3C `traceparent`.
    pub(super) trace: Option<&'a str>,
    pub(super) now: Timestamp,
}

impl Ingress {
    /// Gives what is asked for its id, its route and its fingerprint, and finds out what stands in its way now. Pure: no store, no provider.
    pub(super) fn wanted(&self, asked: Asked, of: &Circumstances<'_>) -> Wanted<Problem> {
        let Circumstances { party, mode, maker, batch_id, trace, now } = *of;
        let providers = &self.recorder.providers;
        let id = PayoutId::derive(party, mode, &asked.transaction_id, self.recorder.store.shards());
        let route = asked.route(providers, &self.settings.routes, party, mode, id);
        let objection = asked.check_now(providers, &route, mode, id, now).err();
        let fingerprint = asked.fingerprint(&self.pepper);
        let amount = asked.whole.map_or(Amount::Exact(asked.money), |_| Amount::Whole(asked.money.currency()));
        let order = Order {
            id,
            party: party.clone(),
            mode,
            transaction_id: asked.transaction_id,
            batch_id: batch_id.map(str::to_owned),
            replaces: asked.replaces,
            due_date: None,
            amount,
            keeps: asked.whole.unwrap_or(0),
            context_code: asked.context_code.to_owned(),
            metadata: asked.metadata,
            scheduled_for: asked.scheduled_for,
            route,
            maker: maker.to_owned(),
            decided_by: asked.decided_by,
            approve_by: None,
            rule: None,
            trace: trace.map(str::to_owned),
        };
        let order = order.awaiting(self.recorder.gate.approval(party, amount, &asked.beneficiary.destination, now));
        Wanted { order, beneficiary: asked.beneficiary, fingerprint, objection }
    }
}

/// The key is that of another request.
pub(super) fn conflict() -> Problem {
    Problem::new(Kind::KeyConflict, "The transaction_id is that of a payout with other content. Nothing was changed.")
}

/// Payouts of the party are not opened.
pub(super) fn inactive() -> Problem {
    Problem::new(Kind::PartyInactive, "No payouts of it are opened until it is active again. Nothing was done, and the transaction_id is free.")
}

/// An equal payout may have been paid.
pub(super) fn twin(of: Option<&str>) -> Problem {
    let which = of.map_or_else(
        || "An equal payout".to_owned(),
        |key| format!("The payout {key}, to the same account, over the same amount and with the same reference,"),
    );
    let detail =
        format!("{which} is inconclusive or in review: it may arrive. Wait for it, or resolve it. Nothing was done, and the transaction_id is free.");
    Problem::new(Kind::TwinUnresolved, detail)
}

/// The payout that this one is to stand for may arrive itself.
pub(super) fn not_replaceable(why: Option<Irreplaceable>) -> Problem {
    let why = match why {
        None => "It has not ended, was replaced before, or does not exist".to_owned(),
        Some(Irreplaceable::Missing) => "There is no such payout of the party".to_owned(),
        Some(Irreplaceable::Is(state)) => format!("It is `{}`", state.as_str()),
        Some(Irreplaceable::Replaced) => "Another payout stands for it".to_owned(),
    };
    let what = "Only a payout that is failed, rejected, canceled or returned can be replaced, and once.";
    Problem::new(Kind::NotReplaceable, format!("{why}. {what} Nothing was done, and the transaction_id is free."))
}

/// The key is that of a payout that is gone.
pub(super) fn archived() -> Problem {
    Problem::new(Kind::KeyArchived, "It was used for this same request, whose payout has ended and was archived. Nothing was changed.")
}
