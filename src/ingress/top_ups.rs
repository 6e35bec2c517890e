//! `/v1/top-ups`: the platform says that money came into a balance account.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use domain::account::{BALANCE_MAX, TopUp};
use domain::credential::Scope;
use domain::id::{Mode, PartyId, TopUpId};
use domain::money::{Currency, Money};
use serde::Serialize;
use workers::store::accounts::ToppedUp;

use super::balances::platform;
use super::intake::Duty;
use super::order::{canonical_uuid, checked};
use super::payouts::REPLAYED;
use super::problem::{Errors, Kind, Problem};
use super::view::{Moment, result, set};
use super::{Ingress, json, order};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/top-ups", post(create))
}

/// A top-up as JSON, here and among the transactions.
#[derive(Serialize)]
pub(super) struct View<'a> {
    transaction_id: &'a str,
    top_up_id: TopUpId,
    party_id: &'a PartyId,
    mode: Mode,
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    settled_at: Moment,
    amount_in_minor: i64,
    currency: &'static str,
}

impl<'a> View<'a> {
    pub(super) fn new(top_up: &'a TopUp) -> Self {
        Self {
            transaction_id: &top_up.transaction_id,
            top_up_id: top_up.id,
            party_id: &top_up.party,
            mode: top_up.mode,
            kind: "topup",
            status: "settled",
            settled_at: Moment(top_up.recorded_at),
            amount_in_minor: top_up.money.minor(),
            currency: top_up.money.currency().code(),
        }
    }
}

async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::BalancesWrite, Duty::Body).await?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let errs = &mut errors;
    let transaction_id = fields.text("transaction_id", errs).and_then(|text| checked(errs, "/transaction_id", canonical_uuid(&text)));
    let currency = fields.text("currency", errs).and_then(|text| checked(errs, "/currency", Currency::parse(&text)));
    let minor = fields.integer("amount_in_minor", errs);
    // The amount's own rules hold in every currency, so a wrong currency does not hide a wrong amount.
    let money = minor.and_then(|minor| checked(errs, "/amount_in_minor", Money::new(minor, currency.unwrap_or(Currency::GBP))));
    let party = order::party_id(&mut fields, errs);
    fields.finish(errs);
    let (Some(transaction_id), Some(_), Some(money), true) = (transaction_id, currency, money, errors.is_empty()) else {
        return Err(errors.into_problem());
    };
    let party = ingress.party(&caller, party)?;
    let store = &ingress.recorder.store;
    let id = TopUpId::derive(&party, caller.mode(), &transaction_id, store.shards());
    let mut top_up = TopUp { id, party, mode: caller.mode(), transaction_id, money, recorded_at: store.clock().now() };
    let mut replayed = false;
    match store.top_up(&top_up).await? {
        ToppedUp::New => {}
        ToppedUp::Exists(held) if held.money == money => (top_up, replayed) = (*held, true),
        ToppedUp::Exists(_) => return Err(Problem::new(Kind::TopUpConflict, "It was another amount or currency then. Nothing was changed.")),
        ToppedUp::ProviderFunded => {
            let why = "Nothing was written. Set `funding` of the account to `balance` first, by `PATCH /v1/balances/{currency}`.";
            return Err(Problem::new(Kind::ProviderFunded, why));
        }
        ToppedUp::Full => {
            return Err(Problem::new(Kind::AccountFull, format!("An account can hold {BALANCE_MAX} minor units. Nothing was written.")));
        }
    }
    let mut response = result(StatusCode::CREATED, &View::new(&top_up));
    if replayed {
        set(&mut response, REPLAYED, "true");
    }
    Ok(response)
}
