//! `/v1/deliveries/{id}/receipt` and `/v1/receipts`: signed proofs of what was sent and answered, and the chain that they stand in.
//!
//! A receipt is made by `POST`, and by those who may write only: what readers ask for makes nothing grow.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use domain::credential::Scope;
use domain::id::{DeliveryId, PartyId};
use serde::Serialize;
use workers::receipt;
use workers::relay::keys::SigningKeys;

use super::Ingress;
use super::payouts::{limit, party_in};
use super::problem::{Errors, Kind, Problem};
use super::query::Parameters;
use super::view::{answer, result};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/deliveries/{delivery_id}/receipt", get(find).post(issue)).route("/v1/receipts", get(chain))
}

/// What was sent and answered, as it stands, signed with the installation's keys. The same state has the same place in the party's chain, as long as that is kept.
async fn issue(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksWrite).await?;
    let (party, mode, told) = ingress.delivery(&caller, party_in(query.as_deref())?, &id).await?;
    let issued = receipt::issue(&ingress.recorder.store, ingress.signing_keys()?, &party, mode, &told).await?;
    let issued = issued.ok_or_else(|| Problem::new(Kind::NotPossibleNow, "The delivery was not tried yet."))?;
    Ok(result(StatusCode::OK, &issued))
}

/// The receipt that was made of the delivery as it stands.
async fn find(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let (party, mode, told) = ingress.delivery(&caller, party_in(query.as_deref())?, &id).await?;
    let found = receipt::find(&ingress.recorder.store, ingress.signing_keys()?, &party, mode, &told).await?;
    let missing = "No receipt was made of the delivery as it stands. `POST` to this address makes one (scope `webhooks.write`).";
    Ok(result(StatusCode::OK, &found.ok_or_else(|| Problem::new(Kind::NotFound, missing))?))
}

/// The links of the party's chain, in their order. Each `previous` is the `hash` of the one before, the first one's that of the anchor or of the page before.
async fn chain(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Anchor {
        place: u64,
        hash: String,
    }
    #[derive(Serialize)]
    struct Of {
        #[serde(flatten)]
        link: receipt::Link,
        delivery_id: DeliveryId,
    }
    #[derive(Serialize)]
    struct List {
        results: Vec<Of>,
        /// The last link that is not kept any more; absent where all are.
        #[serde(skip_serializing_if = "Option::is_none")]
        anchor: Option<Anchor>,
        /// Links that were ever made.
        length: u64,
        /// Absent on the last page.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_cursor: Option<String>,
    }
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let (mut errors, mut parameters) = (Errors::default(), Parameters::read(query.as_deref()));
    let errs = &mut errors;
    let party = parameters.parsed("party_id", "invalid", errs, PartyId::parse);
    let after = parameters.parsed("cursor", "invalid", errs, |text| {
        let place: Option<u64> = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        place.ok_or("must be the place of a link")
    });
    let limit = limit(&mut parameters, errs);
    parameters.finish(errors)?;
    let party = ingress.party(&caller, party)?;
    let part = ingress.recorder.store.links(&party, caller.mode(), after.unwrap_or(0), limit).await?;
    let anchor = (part.anchor.0 > 0).then_some(Anchor { place: part.anchor.0, hash: part.anchor.1 });
    let next_cursor = part.links.last().map(|(link, _)| link.place).filter(|place| *place < part.length).map(|place| place.to_string());
    let results = part.links.into_iter().map(|(link, delivery_id)| Of { link, delivery_id }).collect();
    Ok(answer(StatusCode::OK, &List { results, anchor, length: part.length, next_cursor }))
}

impl Ingress {
    fn signing_keys(&self) -> Result<&SigningKeys, Problem> {
        let keys = &self.settings.signing_keys;
        let none = || Problem::new(Kind::NotPossibleNow, "This installation has no keys to sign receipts with (`relay.signing_keys`).");
        if keys.is_empty() { Err(none()) } else { Ok(keys) }
    }
}
