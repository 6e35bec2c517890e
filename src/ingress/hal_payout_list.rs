//! `GET /v2/payouts`: the payouts of a party, newest first, in pages that lead to each other.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::credential::Scope;
use domain::destination::Beneficiary;
use domain::id::{BalanceAccountId, PartyId};
use domain::payout::Payout;
use domain::snapshot::{View, payout_id};
use jiff::Timestamp;
use serde::Serialize;
use workers::store::lists::{Position, Range};

use super::Ingress;
use super::hal::{self, answer, refuse_testmode};
use super::hal_payouts::seen_by;
use super::payouts::named_party;
use super::problem::{Errors, Problem};
use super::query::Parameters;

/// What a list is asked for.
struct Listing {
    party: Option<PartyId>,
    balance: Option<BalanceAccountId>,
    from: Option<String>,
    limit: usize,
}

impl Listing {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut parameters = Parameters::read(query);
        let errs = &mut errors;
        refuse_testmode(&mut parameters, errs);
        let party = parameters.parsed("party_id", "invalid", errs, hal::party);
        let balance = parameters.parsed("balanceId", "invalid", errs, str::parse);
        parameters.parsed("sort", "unknown", errs, |order| if order == "desc" { Ok(()) } else { Err("must be desc: the newest come first") });
        let from = parameters.one("from", errs);
        let limit = hal::limit(&mut parameters, errs);
        parameters.finish(errors)?;
        Ok(Self { party, balance, from, limit })
    }
}

pub(super) async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Payouts<'a> {
        payouts: Vec<View<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let mut listing = Listing::read(query.as_deref())?;
    let party = ingress.party(&caller, listing.party.take())?;
    let (store, mode) = (&ingress.recorder.store, caller.mode());
    let place = |payout: &Payout| Position { at_ms: payout.requested_at().as_millisecond(), id: payout.id };
    let first = match &listing.from {
        None => None,
        Some(id) => {
            let found = ingress.payout_of_id(&caller, Some(party.clone()), id).await.ok();
            let found = found.ok_or_else(|| {
                let mut errors = Errors::default();
                errors.parameter("from", "invalid", "must be the id of a payout of this list");
                errors.into_problem()
            })?;
            Some(place(&found))
        }
    };
    let of_balance = |payout: &Payout| {
        let id = BalanceAccountId::derive(&payout.party, payout.mode, payout.amount.currency(), store.shards());
        listing.balance.is_none_or(|balance| balance == id)
    };
    // The page begins with its first payout, not behind it; and the one behind its last says where the next page begins.
    let end = first.and_then(|first| Timestamp::from_millisecond(first.at_ms.saturating_add(1)).ok()).unwrap_or(Timestamp::MAX);
    let range = Range { party: &party, mode, from: Timestamp::UNIX_EPOCH, to: end, after: None, limit: listing.limit.saturating_add(1) };
    let page = store.list(&range, |payout| first.is_none_or(|first| place(payout) <= first) && of_balance(payout)).await?;
    let next = page.items.get(listing.limit).map(|(place, _)| *place).or(page.next);
    let shown: Vec<&Payout> = page.items.iter().take(listing.limit).map(|(_, payout)| payout).collect();
    let beneficiaries: Vec<Beneficiary> = futures_util::future::try_join_all(shown.iter().map(|payout| store.beneficiary(payout.id))).await?;
    let payouts: Vec<View<'_>> = shown
        .iter()
        .zip(&beneficiaries)
        .map(|(payout, beneficiary)| seen_by(&caller, payout, View::new(payout, beneficiary, store.shards())))
        .collect();
    let previous = match first {
        None => None,
        Some(first) => store.newer(&party, mode, first, listing.limit).await?,
    };
    let mut same = vec![("limit", listing.limit.to_string())];
    same.extend(listing.balance.map(|balance| ("balanceId", balance.to_string())));
    same.extend(named_party(&caller, &party));
    let from = |place: Position| payout_id(place.id);
    let places = (previous.map(from), first.map(from), next.map(from));
    Ok(answer(StatusCode::OK, &hal::Page::new("/v2/payouts", &same, places, payouts.len(), Payouts { payouts })))
}
