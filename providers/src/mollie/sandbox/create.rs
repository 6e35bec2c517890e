//! `POST /v2/payouts` of the sandbox: what is refused, what a repeat gets, and what a mood does to the answer.

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use uuid::Uuid;

use super::{Sandbox, broken, error, failed, hal, reference, unprocessable};
use crate::clock;
use crate::mollie::IDEMPOTENCY_KEY;
use crate::mollie::wire::{self, CreatePayout, ErrorBody, MAX_DESCRIPTION, Payout};
use crate::sandbox::audit::uuid_of;
use crate::sandbox::book::Admitted;
use crate::sandbox::mood::Mood;
use crate::sandbox::{course, random_uuid, taken_apart};

pub(super) async fn create_payout(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let Some((parts, body)) = taken_apart(request).await else {
        return failed(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", "The body is too large");
    };
    let json: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    let testmode = json.as_ref().and_then(|json| json.get("testmode")?.as_bool());
    let mode = match sandbox.mode(&parts.headers, testmode) {
        Ok(mode) => mode,
        Err(response) => return *response,
    };
    if json.is_none() {
        return failed(StatusCode::BAD_REQUEST, "Bad Request", "The request body is not JSON");
    }
    let create: CreatePayout = match serde_json::from_slice(&body) {
        Ok(create) => create,
        Err(problem) => return unprocessable(&format!("The body is invalid: {problem}"), None),
    };
    let Ok(minor) = create.amount.as_ref().map(|amount| amount.exact().map(|money| money.minor()).ok_or(())).transpose() else {
        return unprocessable("The amount is invalid", Some("amount"));
    };
    let description = create.description.as_deref().unwrap_or_default();
    if description.chars().count() > MAX_DESCRIPTION {
        return unprocessable("The description is too long", Some("description"));
    }
    let (shared, now) = (&sandbox.shared, clock::now());
    let key = parts.headers.get(IDEMPOTENCY_KEY).map_or_else(random_uuid, |value| uuid_of(value.as_bytes()));
    let mood = match shared.book.admit(key, reference(description), minor.unwrap_or_default(), &body, now) {
        Admitted::New(mood) => mood,
        // The first answer, whatever came now (ASSUMED).
        Admitted::Repeat { same: _, answer: Some((status, answer)) } => {
            return answered(&sandbox, key, hal(StatusCode::from_u16(status).unwrap_or(StatusCode::CONFLICT), answer)).await;
        }
        // ASSUMED.
        Admitted::Repeat { same: _, answer: None } => {
            return answered(&sandbox, key, failed(StatusCode::CONFLICT, "Conflict", "A request with this key is being processed")).await;
        }
        Admitted::Faulted(Mood::RateLimit) => {
            let response = failed(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "You have exceeded the rate limit.");
            return answered(&sandbox, key, shared.settings.behaviour.slowed_down(response)).await;
        }
        Admitted::Faulted(Mood::Refuse) => return answered(&sandbox, key, unprocessable("Payouts are blocked for this organization.", None)).await,
        Admitted::Faulted(_) => return answered(&sandbox, key, broken()).await,
        Admitted::Full => return failed(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", "No room"),
    };
    let payout = match carried_out(&sandbox, &create, mode, now) {
        Ok(payout) => payout,
        Err(error) => {
            let body = serde_json::to_value(&*error).unwrap_or_default();
            shared.book.settle(key, error.status, body);
            return answered(&sandbox, key, hal(StatusCode::UNPROCESSABLE_ENTITY, error)).await;
        }
    };
    let id = payout.id.clone();
    let answer = serde_json::to_value(&payout).unwrap_or_default();
    shared.book.keep(key, id.clone(), mood, payout, now);
    if mood != Mood::SlowAnswer {
        shared.book.settle(key, 201, answer.clone());
    }
    course::begin(&sandbox, id, mood, None);
    if mood == Mood::SlowAnswer {
        // By itself, because the caller may be gone by then.
        let (slow, answer) = (sandbox.clone(), answer.clone());
        shared.errands.run(async move {
            slow.shared.settings.behaviour.dawdle().await;
            slow.shared.book.settle(key, 201, answer);
        });
    }
    let accepted = hal(StatusCode::CREATED, answer);
    shared.settings.behaviour.answer(mood, &parts, accepted, broken(), |answer| shared.book.answered(key, answer)).await
}

/// Notes an answer to a create, and takes its time.
async fn answered(sandbox: &Sandbox, key: Uuid, response: Response) -> Response {
    sandbox.shared.settings.behaviour.answered(response, |answer| sandbox.shared.book.answered(key, answer)).await
}

/// The new payout, or the documented reason why there is none. The texts are ASSUMED.
fn carried_out(sandbox: &Sandbox, create: &CreatePayout, mode: &str, now: jiff::Timestamp) -> Result<Payout, Box<ErrorBody>> {
    let refuse = |detail: &str, field| Err(Box::new(error(StatusCode::UNPROCESSABLE_ENTITY, "Unprocessable Entity", detail, field)));
    let shared = &sandbox.shared;
    let Some(balance) = shared.balances.find(&create.balance_id) else {
        return refuse("The 'balanceId' field is invalid.", Some("balanceId"));
    };
    if let Some(sentence) = balance.trouble.sentence() {
        return refuse(sentence, None);
    }
    let waits = |payout: &Payout| payout.balance_id == create.balance_id && payout.status == "requested";
    if shared.settings.one_per_balance && shared.book.all().iter().any(waits) {
        return refuse("A payout is already scheduled for the next business day for this balance.", None);
    }
    let available = balance.available(&shared.book.out());
    let amount = match &create.amount {
        Some(amount) if amount.currency != balance.account.currency => {
            return refuse("The currency is not that of the balance", Some("amount.currency"));
        }
        Some(amount) => amount.exact(),
        None => domain::money::Currency::parse(&balance.account.currency)
            .ok()
            .and_then(|currency| domain::money::Money::new(i64::try_from(available).ok()?, currency).ok()),
    };
    let Some(amount) = amount.filter(|amount| i128::from(amount.minor()) <= available) else {
        return refuse("The balance has insufficient funds.", None);
    };
    shared.balances.pause(&create.balance_id);
    let id = format!("payout_{}", random_uuid().simple());
    let links = serde_json::json!({
        "self": {"href": format!("https://api.mollie.com/v2/payouts/{id}"), "type": "application/hal+json"},
        "documentation": {"href": "https://docs.mollie.com/reference/get-payout", "type": "text/html"},
    });
    Ok(Payout {
        resource: "payout".to_owned(),
        id,
        balance_id: create.balance_id.clone(),
        amount: Some(wire::Amount::of(amount)),
        description: create.description.clone(),
        status: "requested".to_owned(),
        status_reason: wire::StatusReason { code: "requested".to_owned(), message: "The payout has been requested.".to_owned() },
        created_at: wire::Moment(now),
        initiated_at: None,
        completed_at: None,
        canceled_at: None,
        mode: mode.to_owned(),
        links: Some(links),
    })
}
