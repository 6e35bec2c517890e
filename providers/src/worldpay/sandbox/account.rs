//! The sandbox's account payouts: both generations over one book.

use std::collections::HashMap;
use std::sync::PoisonError;

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::destination::Iban;
use domain::money::Currency;
use http::{HeaderMap, StatusCode};

use super::book::{Api, Asked, Content, Created, Stored};
use super::refusals::{admitted, body_of, error, forbidden, header_problem, invalid, media_types, taken_apart};
use super::{Sandbox, Settings};
use crate::clock;
use crate::sandbox::audit::mask_of;
use crate::sandbox::mood::Mood;
use crate::sandbox::random_uuid;
use crate::worldpay::access::API_VERSION;
use crate::worldpay::account::IDEMPOTENCY_KEY;
use crate::worldpay::account::wire::{
    Accepted, AcceptedItem, CreateBatch, CreatePayout, Instruction, Item, LegacyBatch, LegacyPayout, MAX_BATCH, Page, Pagination,
};
use crate::worldpay::decimal::Decimal;

/// The date of the current generation (H).
const CURRENT: &str = "2025-01-01";
/// The three spellings in which the media type is documented (H).
const SINGLE: [&str; 3] = [
    "application/vnd.worldpay.account-payouts-v2+json",
    "application/vnd.worldpay.account-payouts-v2.hal+json",
    "application/vnd.worldpay.wts.payout-v2+json",
];
const BATCH: [&str; 2] = ["application/vnd.worldpay.account-payouts-v1+json", "application/vnd.worldpay.account-payouts-v2+json"];

pub(super) fn routes(router: Router<Sandbox>) -> Router<Sandbox> {
    router
        .route("/accountPayouts", post(create))
        .route("/accountPayouts/batch", post(create_batch))
        .route("/accountPayouts/events", get(search))
        .route("/accountPayouts/{id}", get(read))
        .route("/payouts/accounts/single", post(create_legacy))
        .route("/payouts/accounts/batch", post(create_legacy_batch))
        .route("/payouts/events", get(search_legacy))
        .route("/payouts/events/{id}", get(read_legacy))
}

/// A payout of either generation, checked.
struct Checked {
    reference: String,
    item: Item,
    amount_in_minor: i64,
}

impl Checked {
    fn asked(&self) -> Asked<'_> {
        let texts = [&self.item.narrative, &self.item.payee_name].map(|text| text.as_deref().unwrap_or_default());
        Asked { amount_in_minor: self.amount_in_minor, texts }
    }
}

type Refusal = Box<Response>;

fn refuse<T>(name: &str, path: &str, message: &str) -> Result<T, Refusal> {
    Err(Box::new(invalid(name, path, message)))
}

fn length<T>(text: &str, least: usize, most: usize, path: &str, good: T) -> Result<T, Refusal> {
    match text.chars().count() {
        count if count < least => refuse("stringIsTooShort", path, "Too short."),
        count if count > most => refuse("stringIsTooLong", path, "Too long."),
        _ => Ok(good),
    }
}

/// What both generations check about an amount: positive, at most two decimals, one of the two (H).
fn amount(source: Option<&Decimal>, target: Option<&Decimal>, currency: &str, path: &str) -> Result<i64, Refusal> {
    let none = |amount: Option<&Decimal>| amount.is_none_or(Decimal::is_zero);
    let Some(amount) = target.filter(|_| none(source)).or(source.filter(|_| none(target))) else {
        return refuse("fieldIsNotAllowed", path, "Give the source amount or the target amount.");
    };
    let Ok(currency) = Currency::parse(currency) else { return refuse("fieldHasInvalidValue", path, "Not a currency.") };
    let decimals = amount.as_str().split_once('.').map_or(0, |(_, decimals)| decimals.len());
    match amount.to_money(currency).filter(|_| decimals <= 2) {
        Some(money) => Ok(money.minor()),
        None => refuse("fieldHasInvalidValue", path, "Must be positive, with at most two decimals."),
    }
}

fn account(iban: Option<&str>, number: Option<&str>, path: &str) -> Result<(), Refusal> {
    match (iban, number) {
        (Some(iban), _) if Iban::parse(iban).is_err() => refuse("fieldHasInvalidValue", &format!("{path}.iban"), "Not an IBAN."),
        (None, None) => refuse("fieldIsMissing", &format!("{path}.iban"), "An IBAN or an account number is required."),
        (None, Some(number)) => length(number, 1, 64, &format!("{path}.accountNumber"), ()),
        (Some(_), _) => Ok(()),
    }
}

fn check(reference: &str, instruction: &Instruction, at: &str) -> Result<Checked, Refusal> {
    let Instruction { country_code, value, narrative, beneficiary_bank_details: bank, parties, .. } = instruction;
    length(reference, 6, 50, &format!("{at}.transactionReference"), ())?;
    length(country_code, 2, 2, &format!("{at}.instruction.countryCode"), ())?;
    if let Some(narrative) = narrative {
        length(&narrative.line1, 6, 50, &format!("{at}.instruction.narrative.line1"), ())?;
    }
    let currency = value.target_currency.as_ref().unwrap_or(&value.source_currency);
    let path = format!("{at}.instruction.value.targetAmount");
    let amount_in_minor = amount(value.source_amount.as_ref(), value.target_amount.as_ref(), currency, &path)?;
    account(bank.iban.as_deref(), bank.account_number.as_deref(), &format!("{at}.instruction.beneficiaryBankDetails"))?;
    let beneficiary = parties.iter().find(|party| party.party_type.eq_ignore_ascii_case("beneficiary"));
    let names = beneficiary.map(|party| &party.personal_details);
    let payee = names.and_then(|names| match (&names.company_name, &names.first_name, &names.last_name) {
        (Some(company), ..) => Some(company.clone()),
        (None, Some(first), Some(last)) => Some(format!("{first} {last}")),
        _ => None,
    });
    let Some(payee_name) = payee else {
        return refuse("fieldIsMissing", &format!("{at}.instruction.parties"), "A beneficiary with a name is required.");
    };
    length(&payee_name, 1, 140, &format!("{at}.instruction.parties[0].personalDetails.companyName"), ())?;
    let item = Item {
        payee_name: Some(payee_name),
        target_currency: Some(currency.clone()),
        target_amount: value.target_amount.clone().or(value.source_amount.clone()),
        source_currency: Some(value.source_currency.clone()),
        source_amount: Some(Decimal::zero()),
        iban: bank.iban.clone(),
        account_number: bank.account_number.clone(),
        bank_code: bank.bank_code.clone(),
        narrative: narrative.as_ref().map(|narrative| narrative.line1.clone()),
        country_code: Some(country_code.clone()),
        ..Item::default()
    };
    Ok(Checked { reference: reference.to_owned(), item, amount_in_minor })
}

fn check_legacy(payout: &LegacyPayout, at: &str) -> Result<Checked, Refusal> {
    let bank = &payout.bank_details;
    length(&payout.transaction_reference, 6, 50, &format!("{at}.transactionReference"), ())?;
    length(&payout.country_code, 2, 2, &format!("{at}.countryCode"), ())?;
    length(&payout.narrative, 6, 50, &format!("{at}.narrative"), ())?;
    let path = format!("{at}.targetAmount");
    let amount_in_minor = amount(Some(&payout.source_amount), Some(&payout.target_amount), &payout.target_currency, &path)?;
    account(bank.iban.as_deref(), bank.beneficiary_account_number.as_deref(), &format!("{at}.bankDetails"))?;
    let name = payout.parties.first().map(|party| &party.personal_details);
    let payee = name.and_then(|name| match (&name.company_name, &name.first_name, &name.last_name) {
        (Some(company), ..) => Some(company.clone()),
        (None, Some(first), Some(last)) => Some(format!("{first} {last}")),
        _ => None,
    });
    let Some(payee_name) = payee else { return refuse("fieldIsMissing", &format!("{at}.parties"), "A beneficiary with a name is required.") };
    let item = Item {
        payee_name: Some(payee_name),
        target_currency: Some(payout.target_currency.clone()),
        target_amount: Some(payout.target_amount.clone()),
        iban: bank.iban.clone(),
        account_number: bank.beneficiary_account_number.clone(),
        bank_code: bank.bank_code.clone(),
        narrative: Some(payout.narrative.clone()),
        country_code: Some(payout.country_code.clone()),
        ..Item::default()
    };
    Ok(Checked { reference: payout.transaction_reference.clone(), item, amount_in_minor })
}

impl Sandbox {
    /// Carries a payout out under a key, and moves it on. `under` is the key of the request that it came in.
    fn carry_out(&self, key: &str, under: &str, checked: &Checked) -> Option<Created> {
        let Checked { reference, item, amount_in_minor } = checked;
        let now = clock::now();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (payee, narrative) = (text(&item.payee_name), text(&item.narrative));
        let created = self.shared.book.create(Api::Account, key, under, &checked.asked(), now, |_, number| {
            // Two letters and six characters (H).
            let id = format!("PZ{number:06X}");
            let item = Item {
                payment_id: Some(random_uuid().to_string()),
                payment_datetime: Some(format!("{now:.3}")),
                payout_request_id: Some(id.clone()),
                transaction_reference: Some(reference.clone()),
                entity: Some(self.shared.settings.entity.clone()),
                ..item.clone()
            };
            let account = item.iban.as_deref().or(item.account_number.as_deref()).unwrap_or_default();
            Stored {
                id,
                transaction_reference: reference.clone(),
                status: "NEW".to_owned(),
                query_required: false,
                visible_at: now,
                created_at: now,
                amount_in_minor: *amount_in_minor,
                currency: text(&item.target_currency),
                beneficiary: mask_of(&[account, &payee]),
                reference: narrative.clone(),
                out: false,
                content: Content::Account(Box::new(item)),
            }
        })?;
        if let Created::New(mood, stored) = &created {
            self.begin(Api::Account, key, *mood, stored);
        }
        Some(created)
    }
}

/// The states that a payout passes through, in order; those that it has passed already are skipped.
pub(super) fn plan(settings: &Settings, mood: Mood, reference: &str) -> Vec<(u64, &'static str)> {
    let stage = |status: &'static str| (settings.stage_ms, status);
    let mut plan = vec![stage("VALID"), stage("AWAITING_EXECUTION"), stage("EXECUTED")];
    match mood {
        // The provider's own magic value for a payout that is turned back (H).
        _ if reference.ends_with("-invalidBankDetails") => plan.push(stage("REVERSED")),
        Mood::Reject => plan = vec![stage("INVALID")],
        Mood::Fail => plan.push(stage("FAILED")),
        Mood::Stuck | Mood::Silent => {}
        Mood::Return => plan.extend([stage("COMPLETED"), (settings.behaviour.return_after_ms, "REVERSED")]),
        Mood::Interim => {
            let interim = ["VALID", "IN_REVIEW", "RFI_IN_PROGRESS", "AWAITING_LIQUIDITY", "REJECTED", "AWAITING_EXECUTION", "EXECUTED", "COMPLETED"];
            plan = interim.map(stage).to_vec();
        }
        _ => plan.push(stage("COMPLETED")),
    }
    plan
}

fn id_of(created: &Created) -> String {
    match created {
        Created::New(_, stored) | Created::Known(stored) => stored.id.clone(),
        Created::Refused(_) => String::new(),
    }
}

fn full() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "serviceUnavailable", "The sandbox is full.")
}

/// The headers of the current generation: the date always, an idempotency key with a create.
fn current(sandbox: &Sandbox, headers: &HeaderMap) -> Result<(), Refusal> {
    admitted(sandbox, Api::Account, headers)?;
    let problem = |name| Err(Box::new(header_problem(StatusCode::BAD_REQUEST, name, "WP-Api-Version")));
    match headers.get(API_VERSION).map(|value| value.to_str().unwrap_or_default()) {
        Some(CURRENT) => Ok(()),
        Some(_) => problem("headerHasInvalidValue"),
        None => problem("headerIsMissing"),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, Refusal> {
    let problem = |name| Err(Box::new(header_problem(StatusCode::BAD_REQUEST, name, "Idempotency-Key")));
    match headers.get(IDEMPOTENCY_KEY).map(|value| value.to_str().unwrap_or_default()) {
        Some(key) if (1..=35).contains(&key.len()) => Ok(key.to_owned()),
        Some(_) => problem("headerHasInvalidValue"),
        None => problem("headerIsMissing"),
    }
}

async fn create(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = match taken_apart(request).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    let checked = || {
        current(&sandbox, &parts.headers)?;
        let key = idempotency_key(&parts.headers)?;
        let CreatePayout { merchant, transaction_reference, instruction } = body_of(&body)?;
        if merchant.entity != sandbox.shared.settings.entity {
            return Err(Box::new(forbidden()));
        }
        Ok((key, check(&transaction_reference, &instruction, "$")?))
    };
    let (key, checked) = match checked() {
        Ok(checked) => checked,
        Err(response) => return *response,
    };
    let Some(created) = sandbox.carry_out(&key, &key, &checked) else { return full() };
    let accepted = Accepted {
        payout_request_id: Some(id_of(&created)),
        idempotency_key: Some(key.clone()),
        entity: Some(sandbox.shared.settings.entity.clone()),
        ..Accepted::default()
    };
    sandbox.answer(Api::Account, &key, &parts, &created, || (taken_status(&created), Json(&accepted)).into_response()).await
}

async fn create_legacy(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = match taken_apart(request).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    let checked = || {
        admitted(&sandbox, Api::Account, &parts.headers)?;
        media_types(&parts.headers, &SINGLE, true)?;
        let payout: LegacyPayout = body_of(&body)?;
        let Some(requester) = &payout.requester else { return refuse("fieldIsMissing", "$.requester", "Required.") };
        length(&requester.instructing_treasury_id, 6, 6, "$.requester.instructingTreasuryId", ())?;
        if requester.entity != sandbox.shared.settings.entity {
            return Err(Box::new(forbidden()));
        }
        Ok((requester.clone(), check_legacy(&payout, "$")?))
    };
    let (requester, checked) = match checked() {
        Ok(checked) => checked,
        Err(response) => return *response,
    };
    let key = requester.api_request_reference;
    let Some(created) = sandbox.carry_out(&key, &key, &checked) else { return full() };
    let accepted =
        Accepted { ubr: Some(id_of(&created)), api_request_reference: Some(key.clone()), entity: Some(requester.entity), ..Accepted::default() };
    sandbox.answer(Api::Account, &key, &parts, &created, || (taken_status(&created), Json(&accepted)).into_response()).await
}

/// 202 for a new payout, 200 for a repeated one (H).
fn taken_status(created: &Created) -> StatusCode {
    if matches!(created, Created::Known(_)) { StatusCode::OK } else { StatusCode::ACCEPTED }
}

async fn create_batch(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = match taken_apart(request).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    let checked = || {
        current(&sandbox, &parts.headers)?;
        let key = idempotency_key(&parts.headers)?;
        let CreateBatch { merchant, payouts } = body_of(&body)?;
        let entities = payouts.iter().filter_map(|payout| payout.merchant.as_ref()).chain([&merchant]);
        if entities.into_iter().any(|merchant| merchant.entity != sandbox.shared.settings.entity) {
            return Err(Box::new(forbidden()));
        }
        let items = payouts.iter().enumerate();
        let items = items.map(|(index, payout)| check(&payout.transaction_reference, &payout.instruction, &format!("$.payouts[{index}]")));
        Ok((key, items.collect::<Result<Vec<_>, _>>()?))
    };
    match checked() {
        Ok((key, items)) => {
            let repeat = serde_json::json!({"entity": sandbox.shared.settings.entity, "idempotencyKey": key});
            batch(&sandbox, &parts, key, items, repeat, |item, id| AcceptedItem { payout_request_id: Some(id), ..item }).await
        }
        Err(response) => *response,
    }
}

async fn create_legacy_batch(State(sandbox): State<Sandbox>, request: Request) -> Response {
    let (parts, body) = match taken_apart(request).await {
        Ok(taken) => taken,
        Err(response) => return response,
    };
    let checked = || {
        admitted(&sandbox, Api::Account, &parts.headers)?;
        media_types(&parts.headers, &BATCH, true)?;
        let LegacyBatch { requester, payouts } = body_of(&body)?;
        if requester.entity != sandbox.shared.settings.entity {
            return Err(Box::new(forbidden()));
        }
        let items = payouts.iter().enumerate().map(|(index, payout)| check_legacy(payout, &format!("$.payouts[{index}]")));
        Ok((requester.api_request_reference, items.collect::<Result<Vec<_>, _>>()?))
    };
    match checked() {
        Ok((key, items)) => {
            let repeat = serde_json::json!({"entity": sandbox.shared.settings.entity, "apiRequestReference": key});
            batch(&sandbox, &parts, key, items, repeat, |item, id| AcceptedItem { ubr: Some(id), ..item }).await
        }
        Err(response) => *response,
    }
}

/// A batch is taken whole or not at all (ASSUMED): it is refused with the first of its payouts that would be, and its answer is as the first of the
/// troubled payouts would have it. A repeat is answered without ids (H).
async fn batch(
    sandbox: &Sandbox,
    parts: &http::request::Parts,
    key: String,
    items: Vec<Checked>,
    repeat: serde_json::Value,
    with_id: impl Fn(AcceptedItem, String) -> AcceptedItem,
) -> Response {
    if items.is_empty() || items.len() > MAX_BATCH {
        return invalid("fieldHasInvalidValue", "$.payouts", "1 to 500 payouts.");
    }
    let references: std::collections::HashSet<_> = items.iter().map(|item| &item.reference).collect();
    if references.len() != items.len() {
        return invalid("fieldHasInvalidValue", "$.payouts", "References must be unique in the batch.");
    }
    if !sandbox.shared.batches.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
        return (StatusCode::OK, Json(repeat)).into_response();
    }
    for item in &items {
        if sandbox.shared.book.refuses(Api::Account, &item.reference, &item.asked()).is_some() {
            sandbox.shared.batches.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            let is_paid = |item: &&Checked| sandbox.shared.book.refuses(Api::Account, &item.reference, &item.asked()).is_none();
            for paid in items.iter().filter(|_| sandbox.shared.settings.pays_refused_batches).filter(is_paid) {
                sandbox.carry_out(&paid.reference, &key, paid);
            }
            let Some(created) = sandbox.carry_out(&item.reference, &key, item) else { return full() };
            return sandbox.answer(Api::Account, &item.reference, parts, &created, || (StatusCode::ACCEPTED, Json(&repeat)).into_response()).await;
        }
    }
    let (mut lines, mut first) = (Vec::new(), None);
    for item in &items {
        let Some(created) = sandbox.carry_out(&item.reference, &key, item) else { return full() };
        let line = AcceptedItem { transaction_reference: item.reference.clone(), ..AcceptedItem::default() };
        lines.push(with_id(line, id_of(&created)));
        let troubled = matches!(&created, Created::New(mood, _) if *mood != Mood::Plain);
        if first.is_none() || (troubled && !matches!(&first, Some((_, Created::New(mood, _))) if *mood != Mood::Plain)) {
            first = Some((item.reference.as_str(), created));
        }
    }
    let Some((reference, created)) = first else { return full() };
    sandbox.answer(Api::Account, reference, parts, &created, || (StatusCode::ACCEPTED, Json(&lines)).into_response()).await
}

/// A payout as it is shown now; `None` while it is not visible.
fn shown(stored: Stored, legacy: bool) -> Option<Item> {
    let Content::Account(item) = stored.content else { return None };
    let mut item = Item { payment_state: stored.status, ..*item };
    if legacy {
        item.ubr = item.payout_request_id.take();
    }
    (stored.visible_at <= clock::now()).then_some(item)
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "notFound", "Payment not found")
}

async fn read(State(sandbox): State<Sandbox>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Err(response) = current(&sandbox, &headers) {
        return *response;
    }
    let found = sandbox.shared.book.find(Api::Account, |stored| stored.id == id).into_iter().find_map(|stored| shown(stored, false));
    found.map_or_else(not_found, |item| Json(item).into_response())
}

async fn read_legacy(State(sandbox): State<Sandbox>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Err(response) = admitted(&sandbox, Api::Account, &headers).and_then(|()| media_types(&headers, &SINGLE, false)) {
        return *response;
    }
    let items: Vec<_> =
        sandbox.shared.book.find(Api::Account, |stored| stored.id == id).into_iter().filter_map(|stored| shown(stored, true)).collect();
    if items.is_empty() { not_found() } else { page(items, 1, 1) }
}

async fn search(State(sandbox): State<Sandbox>, Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    match current(&sandbox, &headers) {
        Ok(()) => found(&sandbox, &query, false),
        Err(response) => *response,
    }
}

async fn search_legacy(State(sandbox): State<Sandbox>, Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    match admitted(&sandbox, Api::Account, &headers).and_then(|()| media_types(&headers, &SINGLE, false)) {
        Ok(_) => found(&sandbox, &query, true),
        Err(response) => *response,
    }
}

fn found(sandbox: &Sandbox, query: &HashMap<String, String>, legacy: bool) -> Response {
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<usize>().ok());
    let (Some(size @ 1..=499), Some(number @ 1..)) = (number("pageSize"), number("pageNumber")) else {
        return invalid("fieldIsMissing", "$.pageSize", "A page size of 1 to 499 and a page number from 1 are required.");
    };
    let is = |name: &str, value: Option<&String>| query.get(name).is_none_or(|wanted| value == Some(wanted));
    let fits = |item: &Item| {
        let day = item.payment_datetime.as_ref().and_then(|time| time.split('T').next()).unwrap_or_default();
        is("transactionReference", item.transaction_reference.as_ref())
            && is("paymentState", Some(&item.payment_state))
            && is("targetCurrency", item.target_currency.as_ref())
            && is("entity", item.entity.as_ref())
            && is("accountNumber", item.account_number.as_ref())
            && is("payeeName", item.payee_name.as_ref())
            && is("narrative", item.narrative.as_ref())
            && query.get("startDate").is_none_or(|from| from.as_str() <= day)
            && query.get("endDate").is_none_or(|to| day <= to.as_str())
    };
    // Looked at one by one: a search is not a question about each of them.
    let wanted = query.get("transactionReference");
    let stored = sandbox.shared.book.find(Api::Account, |stored| wanted.is_none_or(|wanted| *wanted == stored.transaction_reference));
    let items: Vec<_> = stored.into_iter().filter_map(|stored| shown(stored, legacy)).filter(fits).collect();
    page(items, size, number)
}

fn page(items: Vec<Item>, size: usize, number: usize) -> Response {
    let whole = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let pagination = Pagination {
        page_number: whole(number),
        page_size: whole(size),
        page_count: whole(items.len().div_ceil(size)),
        total_number_of_records: whole(items.len()),
    };
    let items = items.into_iter().skip(size.saturating_mul(number.saturating_sub(1))).take(size).collect();
    Json(Page { items, pagination }).into_response()
}
