//! The sandbox's card payouts, versions 1 to 4.

use std::collections::HashMap;

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::destination::{CardNumber, DestinationError};
use domain::money::{Currency, Money};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

use super::book::{Api, Asked, Content, Created, Stored};
use super::refusals::{admitted, body_of, broken, error, invalid, media_types, taken_apart};
use super::{Sandbox, Settings};
use crate::clock;
use crate::sandbox::audit::mask_of;
use crate::sandbox::mood::Mood;
use crate::worldpay::card::wire::{
    CreatePayout, ExpiryDate, Instruction, Instrument, Link, Links, MAX_NARRATIVE, Merchant, Narrative, Payout, Scheme, Value,
};
use crate::worldpay::error::{CHECK_OUTCOME, ErrorBody};

/// In the order of the versions (H).
const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.worldpay.payouts-v1+json",
    "application/vnd.worldpay.payouts-v2+json",
    "application/vnd.worldpay.payouts-v3+json",
    "application/vnd.worldpay.payouts-v4+json",
];
/// What a narrative may hold beside letters, digits and spaces; taken over from another API of the platform (ASSUMED).
const SYMBOLS: &str = "_!@#$%()*=.:;?[]{}~/+-,`^&";
/// Both texts of the provider (H).
const NOT_FOUND: [&str; 2] =
    ["Your payout request was unsuccessful. Please retry.", "The payout does not exist, money has not been moved. Please try the payout again."];
const REFERENCE: &str = "-_!@#$%()*=.:;?[]{}~`/+";

pub(super) fn routes(router: Router<Sandbox>) -> Router<Sandbox> {
    router
        .route("/payouts", get(root))
        .route("/payouts/basicDisbursement", post(basic))
        .route("/payouts/fastAccess", post(fast))
        .route("/payouts/query", get(query))
        .route("/payouts/{resource}", get(read))
}

type Refusal = Box<Response>;

fn refuse<T>(name: &str, path: &str) -> Result<T, Refusal> {
    Err(Box::new(invalid(name, path, "The field is not what this resource needs.")))
}

/// The request of version 1: a narrative of one text, a name that is required, and unknown fields that are ignored (H).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstCreate {
    transaction_reference: String,
    merchant: FirstMerchant,
    instruction: FirstInstruction,
}

#[derive(Deserialize)]
struct FirstMerchant {
    entity: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstInstruction {
    narrative: String,
    value: FirstValue,
    payout_instrument: FirstInstrument,
}

#[derive(Deserialize)]
struct FirstValue {
    currency: String,
    amount: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstInstrument {
    card_number: String,
    card_expiry_date: ExpiryDate,
    card_holder_name: String,
}

impl From<FirstCreate> for CreatePayout {
    fn from(first: FirstCreate) -> Self {
        let FirstCreate { transaction_reference, merchant, instruction: FirstInstruction { narrative, value, payout_instrument } } = first;
        Self {
            transaction_reference,
            merchant: Merchant { entity: merchant.entity },
            instruction: Instruction {
                narrative: Narrative { line1: narrative, line2: None },
                value: Value { currency: value.currency, amount: value.amount },
                payout_instrument: Instrument::Plain {
                    card_number: payout_instrument.card_number,
                    card_expiry_date: payout_instrument.card_expiry_date,
                    card_holder_name: Some(payout_instrument.card_holder_name),
                    billing_address: None,
                },
                routing: None,
            },
        }
    }
}

/// What matters about an instrument.
struct Card<'a> {
    /// The number, or the address of a token.
    number: &'a str,
    holder: Option<&'a str>,
    scheme: &'static str,
}

fn card<'a>(instrument: &'a Instrument, version: u8, fast: bool, now: Timestamp) -> Result<Card<'a>, Refusal> {
    let at = |field: &str| format!("$.instruction.payoutInstrument.{field}");
    let (number, field, expiry, expiry_field, holder) = match instrument {
        Instrument::Plain { card_number, card_expiry_date, card_holder_name, .. } => {
            (card_number, "cardNumber", card_expiry_date, "cardExpiryDate", card_holder_name.as_deref())
        }
        Instrument::ApplePay { dpan, card_expiry_date, card_holder_name, .. } => {
            (dpan, "dpan", card_expiry_date, "cardExpiryDate", card_holder_name.as_deref())
        }
        Instrument::NetworkToken { token_number, expiry_date } => (token_number, "tokenNumber", expiry_date, "expiryDate", None),
        Instrument::Tokenized { href } if href.starts_with("https://") => return Ok(Card { number: href, holder: None, scheme: "visa" }),
        Instrument::Tokenized { .. } => return refuse("fieldHasInvalidValue", &at("href")),
    };
    match CardNumber::parse(number) {
        Ok(_) => {}
        Err(DestinationError::CardCheckDigit) => return refuse("panFailedLuhnCheck", &at(field)),
        Err(_) => return refuse("stringFailedRegexCheck", &at(field)),
    }
    let scheme = match number.as_bytes() {
        [b'4', ..] => "visa",
        [b'5' | b'2', ..] => "mastercard",
        [b'6', ..] => "maestro",
        _ => return refuse("unrecognizedCardBrand", &at(field)),
    };
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let past = (expiry.year, expiry.month) < (today.year(), today.month());
    // An unreferenced refund goes to an expired card too, since version 3 (H).
    if !(1..=12).contains(&expiry.month) || (past && (fast || version < 3)) {
        return refuse("fieldHasInvalidValue", &at(expiry_field));
    }
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b' '));
    if holder.is_some_and(|name| !plain(name) || !name.bytes().any(|byte| byte.is_ascii_alphabetic())) {
        return refuse("stringFailedRegexCheck", &at("cardHolderName"));
    }
    Ok(Card { number, holder, scheme })
}

fn check<'a>(sandbox: &Sandbox, create: &'a CreatePayout, version: u8, fast: bool, now: Timestamp) -> Result<Card<'a>, Refusal> {
    let CreatePayout { transaction_reference, merchant, instruction } = create;
    let reference = |c: char| c.is_ascii_alphanumeric() || REFERENCE.contains(c);
    if !(1..=64).contains(&transaction_reference.len()) || !transaction_reference.chars().all(reference) {
        return refuse("stringFailedRegexCheck", "$.transactionReference");
    }
    if merchant.entity != sandbox.shared.settings.entity {
        let message =
            "Your merchant boarding process has not enabled payouts for this merchant entity. Please contact support, or use a valid entity.";
        let body = ErrorBody { json_path: Some("$.merchant.entity".to_owned()), ..ErrorBody::named("fieldHasInvalidValue", message) };
        return Err(Box::new((StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()));
    }
    let longest = if version == 1 { 25 } else { MAX_NARRATIVE };
    let Narrative { line1, line2 } = &instruction.narrative;
    for (line, path) in [(Some(line1), "$.instruction.narrative.line1"), (line2.as_ref(), "$.instruction.narrative.line2")] {
        let Some(line) = line else { continue };
        if line.chars().count() > longest {
            return refuse("stringIsTooLong", path);
        }
        if line.is_empty() || !line.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ' || SYMBOLS.contains(c)) {
            return refuse("stringFailedRegexCheck", path);
        }
    }
    let money = Currency::parse(&instruction.value.currency).ok().and_then(|currency| Money::new(instruction.value.amount, currency).ok());
    if money.is_none() {
        return refuse("fieldHasInvalidValue", "$.instruction.value");
    }
    if instruction.routing.is_some() && !fast {
        return refuse("fieldIsNotAllowed", "$.instruction.routing");
    }
    card(&instruction.payout_instrument, version, fast, now)
}

async fn basic(state: State<Sandbox>, request: Request) -> Response {
    create(state, request, false).await
}

async fn fast(state: State<Sandbox>, request: Request) -> Response {
    create(state, request, true).await
}

/// The first outcome, with the code of a refusal.
fn outcome(create: &CreatePayout, card: &Card<'_>, version: u8, fast: bool, mood: Mood) -> (&'static str, Option<String>) {
    let refused = |code: &str| ("refused", Some(code.to_owned()));
    // The provider's own magic values (H).
    if let Some(code) = card.holder.and_then(|name| name.strip_prefix("REFUSED")).filter(|_| fast) {
        return refused(code);
    }
    match create.instruction.value.amount {
        310 if !fast && card.scheme != "visa" => return refused("05"),
        320 if !fast && card.scheme != "visa" => return ("error", None),
        _ => {}
    }
    let eligible = fast && (card.scheme == "visa" || (card.scheme == "mastercard" && version >= 4));
    let falls_back = create.instruction.routing.as_ref().is_none_or(|routing| routing.fallback_to_basic.as_deref() != Some("disabled"));
    match mood {
        Mood::Reject => refused("05"),
        Mood::Vanished => ("payoutNotFound", None),
        // What becomes of a card that is not eligible and may not fall back is ASSUMED.
        _ if fast && !eligible && !falls_back => refused("57"),
        _ if !eligible => ("requestReceived", None),
        Mood::Interim => ("inReview", None),
        Mood::Silent => ("requested", None),
        Mood::Fail | Mood::Stuck => ("pending", None),
        _ => ("approved", None),
    }
}

async fn create(State(sandbox): State<Sandbox>, request: Request, fast: bool) -> Response {
    let (parts, body) = match taken_apart(request).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    let now = clock::now();
    let read = || {
        admitted(&sandbox, Api::Card, &parts.headers)?;
        let version = version_of(&parts.headers, true)?;
        let create: CreatePayout = if version == 1 { body_of::<FirstCreate>(&body)?.into() } else { body_of(&body)? };
        Ok::<_, Refusal>((version, create))
    };
    let (version, create) = match read() {
        Ok(read) => read,
        Err(response) => return *response,
    };
    let card = match check(&sandbox, &create, version, fast, now) {
        Ok(card) => card,
        Err(response) => return *response,
    };
    let key = create.transaction_reference.as_str();
    let Instruction { narrative, value, .. } = &create.instruction;
    let asked = Asked { amount_in_minor: value.amount, texts: [&narrative.line1, card.holder.unwrap_or_default()] };
    let created = sandbox.shared.book.create(Api::Card, key, key, &asked, now, |mood, _| {
        let (status, refusal_code) = outcome(&create, &card, version, fast, mood);
        Stored {
            id: mask_of(&["resource", key]),
            transaction_reference: key.to_owned(),
            status: status.to_owned(),
            query_required: version < 4 && matches!(mood, Mood::Inconclusive | Mood::Vanished),
            visible_at: now,
            created_at: now,
            amount_in_minor: value.amount,
            currency: value.currency.clone(),
            beneficiary: mask_of(&[card.number]),
            reference: narrative.line1.clone(),
            out: false,
            content: Content::Card { version, scheme: card.scheme.to_owned(), refusal_code },
        }
    });
    let Some(created) = created else { return error(StatusCode::SERVICE_UNAVAILABLE, "serviceUnavailable", "The sandbox is full.") };
    if let Created::New(mood, stored) = &created {
        sandbox.begin(Api::Card, key, *mood, stored);
    }
    sandbox.answer(Api::Card, key, &parts, &created, || sandbox.create_answer(&created)).await
}

/// The outcomes and events that follow on a state.
pub(super) fn plan(settings: &Settings, mood: Mood, status: &str) -> Vec<(u64, &'static str)> {
    let stage = |status: &'static str| (settings.stage_ms, status);
    let silence = (settings.silent_after_ms, "error");
    let refund = match mood {
        Mood::Stuck | Mood::Silent => Vec::new(),
        Mood::Fail => vec![stage("sentForRefund"), stage("refundFailed")],
        Mood::Return => vec![stage("sentForRefund"), stage("refunded"), (settings.behaviour.return_after_ms, "refundFailed")],
        _ => vec![stage("sentForRefund"), stage("refunded")],
    };
    match (status, mood) {
        ("approved", _) => vec![stage("disbursed")],
        ("inReview", _) => vec![stage("approved"), stage("disbursed")],
        ("requested", _) => vec![stage("pending"), silence],
        ("pending", Mood::Silent) => vec![silence],
        ("pending", Mood::Fail) => vec![stage("refused")],
        // What has been passed already is skipped.
        ("requestReceived" | "sentForRefund" | "refunded", _) => refund,
        _ => Vec::new(),
    }
}

fn version_of(headers: &HeaderMap, with_body: bool) -> Result<u8, Refusal> {
    media_types(headers, &MEDIA_TYPES, with_body).map(|index| u8::try_from(index).unwrap_or_default().saturating_add(1))
}

impl Sandbox {
    /// The answer to a create that was carried out, or was known.
    fn create_answer(&self, created: &Created) -> Response {
        let stored = match created {
            Created::Known(_) if self.shared.settings.rejects_card_repeats => {
                return error(StatusCode::CONFLICT, "transactionReferenceIsADuplicate", "The transaction reference has been used.");
            }
            Created::New(Mood::Inconclusive | Mood::Vanished, stored) => {
                let Content::Card { version, .. } = &stored.content else { return broken(Api::Card) };
                if *version >= 4 {
                    let status = StatusCode::from_u16(self.shared.settings.check_outcome_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    let message = "We cannot guarantee that a resource was created. Please use the query endpoint to retrieve the outcome of this \
                                   request. Resources may take several minutes to propagate.";
                    return error(status, CHECK_OUTCOME, message);
                }
                return (StatusCode::CREATED, Json(self.shown(stored, "queryRequired"))).into_response();
            }
            Created::New(_, stored) | Created::Known(stored) => stored,
            Created::Refused(_) => return broken(Api::Card),
        };
        (StatusCode::CREATED, Json(self.shown(stored, &stored.status))).into_response()
    }

    /// A payout as the API shows it: with the outcome of a basic disbursement, which never changes, and links as its version writes them.
    fn shown(&self, stored: &Stored, status: &str) -> Payout {
        let Content::Card { version, scheme, refusal_code } = &stored.content else { return Payout::default() };
        let (version, url) = (*version, self.url());
        let outcome = if matches!(status, "sentForRefund" | "refunded" | "refundFailed") { "requestReceived" } else { status };
        let link = || Link { href: format!("{url}/payouts/{}", stored.id) };
        let curies = || serde_json::json!([{"name": "payouts", "href": format!("{url}/rels/payouts/{{rel}}"), "templated": true}]);
        let answered = matches!(outcome, "approved" | "disbursed" | "refused") && scheme != "maestro";
        Payout {
            outcome: outcome.to_owned(),
            received_at: Some(format!("{:.6}", stored.created_at)),
            refusal_code: if outcome == "refused" { refusal_code.clone().or_else(|| Some("91".to_owned())) } else { None },
            message: None,
            scheme: answered.then(|| Scheme { name: scheme.clone(), reference: "400200004000001".to_owned() }),
            links: Some(Links {
                payout: Some(link()),
                update: matches!(outcome, "requested" | "pending" | "approved" | "queryRequired").then(link),
                curies: (version >= 2).then(curies),
            }),
            curies: (version <= 2).then(curies),
        }
    }

    /// The answer to a look at something that may be there.
    fn look_answer(&self, stored: Option<Stored>) -> Response {
        let missing = || error(StatusCode::NOT_FOUND, "resourceNotFound", "The resource you are trying to access does not exist.");
        let Some(stored) = stored else { return missing() };
        let Content::Card { version, .. } = &stored.content else { return missing() };
        if clock::now() < stored.visible_at {
            return if stored.query_required { Json(self.shown(&stored, "queryRequired")).into_response() } else { missing() };
        }
        match stored.status.as_str() {
            "payoutNotFound" if *version >= 4 => missing(),
            "payoutNotFound" => {
                let message = NOT_FOUND[usize::from(self.shared.settings.older_not_found_text)];
                Json(serde_json::json!({"outcome": "payoutNotFound", "message": message})).into_response()
            }
            status => Json(self.shown(&stored, status)).into_response(),
        }
    }
}

async fn read(State(sandbox): State<Sandbox>, Path(resource): Path<String>, headers: HeaderMap) -> Response {
    if let Err(response) = admitted(&sandbox, Api::Card, &headers).and_then(|()| version_of(&headers, false)) {
        return *response;
    }
    sandbox.look_answer(sandbox.shared.book.find(Api::Card, |stored| stored.id == resource).into_iter().next())
}

async fn query(State(sandbox): State<Sandbox>, Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    if let Err(response) = admitted(&sandbox, Api::Card, &headers).and_then(|()| version_of(&headers, false)) {
        return *response;
    }
    for parameter in ["transactionReference", "entity"] {
        if !query.contains_key(parameter) {
            let detail =
                ErrorBody { query_parameter: Some(parameter.to_owned()), ..ErrorBody::named("fieldIsMissing", "A query parameter is missing.") };
            let body = ErrorBody {
                validation_errors: vec![detail],
                ..ErrorBody::named("urlContainsInvalidValue", "The URL contains a value or values that are invalid.")
            };
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
    }
    let wanted = query.get("transactionReference").map(String::as_str).unwrap_or_default();
    let entity = query.get("entity").is_some_and(|entity| *entity == sandbox.shared.settings.entity);
    let found = sandbox.shared.book.find(Api::Card, |stored| entity && stored.transaction_reference == wanted);
    sandbox.look_answer(found.into_iter().next())
}

/// The card payouts' own root (ASSUMED in its details).
async fn root(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    let version = match admitted(&sandbox, Api::Card, &headers).and_then(|()| version_of(&headers, false)) {
        Ok(version) => version,
        Err(response) => return *response,
    };
    let url = sandbox.url();
    let mut links = serde_json::json!({
        "payouts:basicDisbursement": {"href": format!("{url}/payouts/basicDisbursement")},
        "payouts:fastAccess": {"href": format!("{url}/payouts/fastAccess")},
        "curies": [{"name": "payouts", "href": format!("{url}/rels/payouts/{{rel}}"), "templated": true}],
    });
    if version >= 2 {
        links["payouts:query"] = serde_json::json!({"href": format!("{url}/payouts/query{{?transactionReference,entity}}"), "templated": true});
    }
    Json(serde_json::json!({"_links": links})).into_response()
}
