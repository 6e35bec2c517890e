//! `GET /v3/merchant-accounts/{id}/transactions` of the sandbox: what moved in an account, newest first, in pages, and the ways in which a list can be wrong.
//!
//! Executed payouts and deposits are listed by the time at which they moved (H), pending payouts by that at which they were made, and those that failed before they moved not at
//! all (ASSUMED).

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::create::{broken, invalid};
use super::{Account, Sandbox, problem, unauthenticated};
use crate::clock;
use crate::truelayer_v3::wire::{Moment, Pagination, Payout, PayoutTransaction, Transaction};

/// How a list can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListFault {
    /// A 5xx in place of every page but the first.
    Error,
    /// The first page has nothing but a cursor.
    EmptyPage,
    /// Every page names the second one as the next.
    SameCursor,
    /// No page says whether there is another one.
    Unpaginated,
    /// Every page has a top-up, a refund and a type that nobody knows, whatever was asked for.
    Strangers,
    /// Amounts are not those of the payouts.
    OtherAmounts,
}

/// The cursor of a page that begins at the first item.
const FIRST: &str = "first";

pub(super) async fn transactions(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let settings = &sandbox.shared.settings;
    if !sandbox.shared.door.admits(&headers) {
        return unauthenticated("The access token is missing or invalid.");
    }
    let Some(account) = settings.accounts.iter().find(|account| account.id == id) else {
        return problem(StatusCode::NOT_FOUND, "Not Found", "Merchant account could not be found.");
    };
    let time = |name| query.get(name).and_then(|value| value.parse::<Timestamp>().ok());
    let (Some(from), Some(to)) = (time("from"), time("to")) else { return invalid(&[("from", "and to are required timestamps")]) };
    if to.duration_since(from) > SignedDuration::from_hours(31 * 24) {
        return invalid(&[("to", "is more than 31 days after from")]);
    }
    let kind = query.get("type").map(String::as_str);
    if kind.is_some_and(|kind| kind != "payout" && kind != "payment") {
        return invalid(&[("type", "is payment or payout")]);
    }
    let mut listed = sandbox.listed(account);
    listed.retain(|(at, is_payout, _)| (from..=to).contains(at) && kind.is_none_or(|kind| (kind == "payout") == *is_payout));
    listed.sort_by_key(|(at, _, _)| std::cmp::Reverse(*at));
    let mut items: Vec<Value> = listed.into_iter().map(|(_, _, item)| item).collect();

    let has = |fault| settings.list_faults.contains(&fault);
    let asked = match query.get("cursor").map(|cursor| decoded(cursor)) {
        None => None,
        Some(Some(after)) => Some(after),
        Some(None) => return invalid(&[("cursor", "Invalid cursor")]),
    };
    if has(ListFault::Error) && asked.is_some() {
        return broken();
    }
    let empty = has(ListFault::EmptyPage) && asked.is_none();
    match asked.as_deref() {
        None | Some(FIRST) => {}
        Some(after) => match items.iter().position(|item| item["id"] == after) {
            Some(place) => drop(items.drain(..=place)),
            None => return invalid(&[("cursor", "Invalid cursor")]),
        },
    }
    let paged = headers.get("tl-enable-pagination").is_some_and(|value| value == "true") && !has(ListFault::Unpaginated);
    let mut next = None;
    if empty {
        items.clear();
        next = Some(FIRST.to_owned());
    } else if paged && items.len() > settings.page_size {
        items.truncate(settings.page_size);
        next = items.last().and_then(|item| item["id"].as_str()).map(str::to_owned);
    }
    if has(ListFault::SameCursor) {
        next = Some(FIRST.to_owned());
    }
    if has(ListFault::Strangers) {
        items.extend(strangers(account));
    }
    let mut page = json!({ "items": items });
    if paged {
        page["pagination"] = json!(Pagination { next_cursor: next.map(|after| BASE64_STANDARD.encode(format!("?{after}>"))) });
    }
    Json(page).into_response()
}

/// What a cursor of ours says; its alphabet has characters that a query must encode.
fn decoded(cursor: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(cursor).ok()?).ok()?;
    Some(text.strip_prefix('?')?.strip_suffix('>')?.to_owned())
}

impl Sandbox {
    /// What moved in an account, with the time by which it is listed and whether it is a payout.
    fn listed(&self, account: &Account) -> Vec<(Timestamp, bool, Value)> {
        let more = i64::from(self.shared.settings.list_faults.contains(&ListFault::OtherAmounts));
        let payouts = self.shared.book.visible(clock::now()).into_iter().filter(|payout| payout.merchant_account_id == account.id);
        let payouts = payouts.filter_map(|payout| {
            let at = payout.executed_at.or(payout.created_at.filter(|_| payout.status != "failed"))?;
            Some((at.0, true, json!(Transaction::Payout(Box::new(transaction(payout, more))))))
        });
        let deposits = self.shared.deposits.of(account).into_iter().map(|deposit| {
            let item = json!({ "type": "external_payment", "id": deposit.transaction_id, "currency": account.currency,
                "amount_in_minor": deposit.amount_in_minor, "status": "settled", "settled_at": Moment(deposit.at) });
            (deposit.at, false, item)
        });
        payouts.chain(deposits).collect()
    }
}

/// A payout as the list shows it: one that came back stays `executed`, and names what brought it back (H).
fn transaction(payout: Payout, more: i64) -> PayoutTransaction {
    let returned = payout.failure_reason.as_deref() == Some("returned");
    PayoutTransaction {
        payout_id: Some(payout.id.clone()),
        amount_in_minor: payout.amount_in_minor.saturating_add(more),
        currency: payout.currency,
        status: if payout.executed_at.is_some() { "executed" } else { "pending" }.to_owned(),
        created_at: payout.created_at,
        executed_at: payout.executed_at,
        returned_by: returned.then(|| format!("return-of-{}", payout.id)),
        scheme_id: payout.scheme_id,
        context_code: Some("withdrawal".to_owned()),
        metadata: payout.metadata,
        beneficiary: payout.beneficiary,
        id: payout.id,
    }
}

fn strangers(account: &Account) -> [Value; 3] {
    let item = |kind: &str, id: &str| json!({ "type": kind, "id": id, "currency": account.currency, "amount_in_minor": 1, "status": "executed" });
    [item("external_payment", "stranger-1"), item("refund", "stranger-2"), item("something_new", "stranger-3")]
}
