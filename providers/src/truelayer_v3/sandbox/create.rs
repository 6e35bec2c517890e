//! `POST /v3/payouts` of the sandbox: what is refused, what a repeat gets, and what a mood does to the answer.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use domain::destination::{AccountNumber, Iban, SortCode};
use http::StatusCode;
use uuid::Uuid;

use super::{Sandbox, problem, problem_with, unauthenticated};
use crate::clock;
use crate::sandbox::book::Admitted;
use crate::sandbox::mood::Mood;
use crate::sandbox::{course, random_uuid, taken_apart};
use crate::truelayer_v3::IDEMPOTENCY_KEY;
use crate::truelayer_v3::wire::{AccountIdentifier, Beneficiary, CreatePayout, Created, Moment, Payout};

pub(super) async fn create_payout(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let Some((parts, body)) = taken_apart(request).await else {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large", "The body is too large.");
    };
    let shared = &sandbox.shared;
    if !shared.door.admits(&parts.headers) {
        return unauthenticated("The access token is missing or invalid.");
    }
    let key = parts.headers.get(IDEMPOTENCY_KEY).and_then(|key| Uuid::try_parse_ascii(key.as_bytes()).ok());
    // That the key has to be a UUID is the sandbox's own rule.
    let Some(key) = key else { return invalid(&[("Idempotency-Key", "is required")]) };
    if !shared.door.signed_with("Idempotency-Key", &parts, &body) {
        return unauthenticated("Invalid request signature.");
    }
    let create = match valid(&sandbox, &body) {
        Ok(create) => create,
        Err(response) => return *response,
    };
    let now = clock::now();
    let Beneficiary::ExternalAccount { reference, .. } = &create.beneficiary;
    let mood = match shared.book.admit(key, reference, create.amount_in_minor, &body, now) {
        Admitted::New(mood) => mood,
        Admitted::Repeat { same: false, .. } => {
            let detail = "The Idempotency-Key value has already been used for a different request.";
            return answered(&sandbox, key, problem(StatusCode::UNPROCESSABLE_ENTITY, "Idempotency-Key Reuse", detail)).await;
        }
        Admitted::Repeat { same: true, answer: Some((_, answer)) } => {
            return answered(&sandbox, key, (StatusCode::ACCEPTED, Json(answer)).into_response()).await;
        }
        Admitted::Repeat { same: true, answer: None } => {
            let detail = "A request with this Idempotency-Key is being processed.";
            return answered(&sandbox, key, problem(StatusCode::CONFLICT, "Idempotency-Key Concurrency Conflict", detail)).await;
        }
        Admitted::Faulted(Mood::RateLimit) => {
            let response = problem(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests", "Slow down.");
            return answered(&sandbox, key, shared.settings.behaviour.slowed_down(response)).await;
        }
        Admitted::Faulted(Mood::Refuse) => {
            return answered(&sandbox, key, invalid(&[("beneficiary.account_holder_name", "does not match the account")])).await;
        }
        Admitted::Faulted(_) => return answered(&sandbox, key, broken()).await,
        Admitted::Full => return problem(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable", "No room."),
    };
    let id = random_uuid().to_string();
    let answer = serde_json::to_value(Created { id: id.clone() }).unwrap_or_default();
    shared.book.keep(key, id.clone(), mood, new_payout(&id, &create, now), now);
    if mood != Mood::SlowAnswer {
        shared.book.settle(key, 202, answer.clone());
    }
    course::begin(&sandbox, id, mood, None);
    if mood == Mood::SlowAnswer {
        // By itself, because the caller may be gone by then.
        let (slow, answer) = (sandbox.clone(), answer.clone());
        shared.errands.run(async move {
            slow.shared.settings.behaviour.dawdle().await;
            slow.shared.book.settle(key, 202, answer);
        });
    }
    let accepted = (StatusCode::ACCEPTED, Json(answer)).into_response();
    shared.settings.behaviour.answer(mood, &parts, accepted, broken(), |answer| shared.book.answered(key, answer)).await
}

/// Notes an answer to a create, and takes its time.
async fn answered(sandbox: &Sandbox, key: Uuid, response: Response) -> Response {
    sandbox.shared.settings.behaviour.answered(response, |answer| sandbox.shared.book.answered(key, answer)).await
}

pub(super) fn invalid(errors: &[(&str, &str)]) -> Response {
    problem_with(StatusCode::BAD_REQUEST, "Invalid Parameters", "One or more parameters are not valid.", errors)
}

/// A 5xx without a body, as the provider's edge would give it.
pub(super) fn broken() -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// Reads a create request as strictly as the provider documents it.
fn valid(sandbox: &Sandbox, body: &[u8]) -> Result<CreatePayout, Box<Response>> {
    let refuse = |field: &str, message: &str| Err(Box::new(invalid(&[(field, message)])));
    let create: CreatePayout = serde_json::from_slice(body).map_err(|error| Box::new(invalid(&[("$", &error.to_string())])))?;
    let Some(account) = sandbox.shared.settings.accounts.iter().find(|account| account.id == create.merchant_account_id) else {
        return refuse("merchant_account_id", "is not one of yours");
    };
    if account.currency != create.currency {
        return refuse("currency", "is not that of the account");
    }
    if create.amount_in_minor < 1 {
        return refuse("amount_in_minor", "must be positive");
    }
    let Beneficiary::ExternalAccount { account_holder_name, account_identifier, reference } = &create.beneficiary;
    for (field, text) in [("beneficiary.account_holder_name", account_holder_name), ("beneficiary.reference", reference)] {
        if text.is_empty() || text.chars().any(char::is_control) {
            return refuse(field, "must not be empty");
        }
    }
    match account_identifier {
        AccountIdentifier::Iban { iban } if Iban::parse(iban).is_err() => return refuse("beneficiary.account_identifier.iban", "is not an IBAN"),
        AccountIdentifier::SortCodeAccountNumber { sort_code, .. } if SortCode::parse(sort_code).is_err() => {
            return refuse("beneficiary.account_identifier.sort_code", "is not a sort code");
        }
        AccountIdentifier::SortCodeAccountNumber { account_number, .. } if AccountNumber::parse(account_number).is_err() => {
            return refuse("beneficiary.account_identifier.account_number", "is not an account number");
        }
        AccountIdentifier::Iban { .. } | AccountIdentifier::SortCodeAccountNumber { .. } => {}
    }
    let long = |(name, value): (&String, &String)| name.chars().count() > 40 || value.chars().count() > 500;
    if create.metadata.len() > 10 || create.metadata.iter().any(long) {
        return refuse("metadata", "has at most ten pairs, of 40 and 500 characters");
    }
    Ok(create)
}

fn new_payout(id: &str, create: &CreatePayout, now: jiff::Timestamp) -> Payout {
    Payout {
        id: id.to_owned(),
        merchant_account_id: create.merchant_account_id.clone(),
        amount_in_minor: create.amount_in_minor,
        currency: create.currency.clone(),
        beneficiary: serde_json::to_value(&create.beneficiary).unwrap_or_default(),
        metadata: Some(create.metadata.clone()),
        scheme_id: None,
        status: "pending".to_owned(),
        created_at: Some(Moment(now)),
        executed_at: None,
        failed_at: None,
        failure_reason: None,
    }
}
