//! Answers and notices that are not quite as documented are survived, and never worth more than what they say.
//!
//! Good ones are damaged, by [`mutation`](super::mutation), and given to the connectors. Whatever comes of that has to be what the good one meant, or less:
//! a word that nobody knows is kept as such, and what cannot be read leaves things open.

use std::mem::discriminant;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use bytes::Bytes;
use domain::fact::{About, Answer, Look, Provider, ProviderReference, Report, Status};
use domain::id::Mode;
use http::{HeaderMap, HeaderValue, Method};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::{Value, json};

use super::mutation::{Change, Transport, change, changed, transport};
use super::orders::Draft;
use super::requests::{WITHIN, private_key, soon, with_tokens};
use super::tables::{self, Api};
use super::{connectors, property, runtime};
use crate::http::scripted::{Reply, Scripted};
use crate::jws::{Jwks, SigningKey};
use crate::reading::sanitised;
use crate::{Inquiry, Notice, NoticeError, Providers};

/// Damaged forms of each good answer.
const CASES: u32 = 64;
/// What every connector would send for [`draft`], had it sent it before then.
const FIRST_SENT: &str = "2026-05-20T09:13:30Z";
const NOTICES: &str = "/notices";
const SECRET: &str = "a shared secret";

/// A good answer.
struct Good {
    api: Api,
    ask: Ask,
    status: u16,
    body: Value,
    /// What it comes to as it is.
    means: &'static str,
    /// The words that say so: without all of them it must not come to that.
    words: &'static [&'static str],
    /// What the next question gets: the next page of a list, or the payout that an answer to a create sends one to.
    then: Option<Value>,
}

#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Create,
    /// By the provider's id.
    Look(&'static str),
    /// By our key.
    Find,
}

#[derive(Clone, Debug)]
enum Outcome {
    Answer(Answer),
    Look(Look),
}

impl Outcome {
    fn class(&self) -> String {
        let of = |report: &Report| format!("{:?}", report.status).split_once(' ').map_or(format!("{:?}", report.status), |(word, _)| word.to_owned());
        match self {
            Self::Answer(Answer::Says(report)) => format!("says {}", of(report)),
            Self::Answer(Answer::Refused { .. }) => "refused".to_owned(),
            Self::Answer(Answer::Unprocessed { .. }) => "unprocessed".to_owned(),
            Self::Answer(Answer::NoAnswer { .. }) => "no answer".to_owned(),
            Self::Answer(Answer::NotSent { .. }) => "not sent".to_owned(),
            Self::Answer(Answer::KeyConflict) => "conflict".to_owned(),
            Self::Look(Look::Found(report)) => format!("found {}", of(report)),
            Self::Look(Look::NotFound) => "not found".to_owned(),
            Self::Look(Look::Nothing { .. }) => "nothing".to_owned(),
        }
    }

    fn report(&self) -> Option<&Report> {
        match self {
            Self::Answer(Answer::Says(report)) | Self::Look(Look::Found(report)) => Some(report),
            _ => None,
        }
    }
}

fn draft(api: &Api) -> Draft {
    let (destination, currency) = match api.provider {
        Provider::WorldpayCard => (json!({"type": "card", "number": "4444333322221111", "expiry": "2045-05"}), "GBP"),
        Provider::Mollie => (json!({"type": "own_account"}), "EUR"),
        _ => (json!({"type": "iban", "iban": "GB82WEST12345698765432"}), "GBP"),
    };
    Draft {
        number: 3,
        minor: 12_345,
        currency: (currency, 2),
        name: "Ada Quill".to_owned(),
        reference: "Invoice 1187".to_owned(),
        context: "withdrawal".to_owned(),
        destination,
    }
}

fn key() -> String {
    draft(&tables::MOLLIE).key().to_string()
}

fn hex_key() -> String {
    key().replace('-', "")
}

fn fixture(name: &str) -> Value {
    let path = format!("{}/fixtures/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).expect(&path)).expect(name)
}

/// A document with values in place of others.
fn with<const N: usize>(mut document: Value, values: [(&str, Value); N]) -> Value {
    for (at, value) in values {
        *document.pointer_mut(at).expect(at) = value;
    }
    document
}

fn good(api: Api, ask: Ask, status: u16, body: Value, means: &'static str, words: &'static [&'static str]) -> Good {
    Good { api, ask, status, body, means, words, then: None }
}

// The good answers.

fn truelayer() -> Vec<Good> {
    let api = || tables::TRUELAYER;
    let mut goods = vec![
        // The status is the answer.
        good(api(), Ask::Create, 202, json!({}), "says Authorised", &[]),
        good(api(), Ask::Create, 400, fixture("truelayer/error-validation"), "refused", &["/error"]),
        good(api(), Ask::Create, 422, fixture("truelayer/error-validation-flat"), "refused", &["/error"]),
        good(api(), Ask::Create, 401, json!({"error": "invalid_signature", "error_description": "x"}), "unprocessed", &[]),
        good(api(), Ask::Find, 404, fixture("truelayer/error-not-found"), "not found", &[]),
    ];
    for (name, means) in [
        ("new", "found Authorised"),
        ("authorised", "found Authorised"),
        ("submitted", "found Submitted"),
        ("settled", "found Settled"),
        ("rejected", "found Rejected"),
        ("failed", "found Failed"),
        ("returned", "found Returned"),
    ] {
        let payout = with(fixture(&format!("truelayer/payout-{name}")), [("/result/transaction_id", key().into())]);
        goods.push(good(api(), Ask::Find, 200, payout, means, &["/result/status"]));
    }
    let payout = with(fixture("truelayer/payout-settled"), [("/result/transaction_id", key().into())]);
    let duplicate = json!({"error": "duplicate_transaction_id", "error_description": "x"});
    goods.push(Good { then: Some(payout), ..good(api(), Ask::Create, 409, duplicate, "says Settled", &["/error"]) });
    goods
}

fn truelayer_v3() -> Vec<Good> {
    let api = || tables::TRUELAYER_V3;
    let mut goods = vec![
        good(api(), Ask::Create, 202, fixture("truelayer_v3/created"), "says Authorised", &[]),
        good(api(), Ask::Create, 400, fixture("truelayer_v3/error-parameters"), "refused", &["/title"]),
        good(api(), Ask::Create, 422, fixture("truelayer_v3/error-reuse"), "conflict", &["/title"]),
    ];
    for (name, means) in [
        ("pending", "found Authorised"),
        ("authorized", "found Authorised"),
        ("executed", "found Settled"),
        ("failed", "found Failed"),
        ("returned", "found Returned"),
    ] {
        let payout = with(fixture(&format!("truelayer_v3/payout-{name}")), [("/id", "p1".into()), ("/metadata/payrelay_key", key().into())]);
        goods.push(good(api(), Ask::Look("p1"), 200, payout, means, &["/status"]));
    }
    goods
}

fn worldpay_account() -> Vec<Good> {
    let api = || tables::WORLDPAY_ACCOUNT;
    let refusal = json!({"errorName": "bodyDoesNotMatchSchema", "message": "There was an error in the request", "validationErrors":
        [{"errorName": "stringIsTooLong", "message": "x", "jsonPath": "$.instruction.narrative.line1"}]});
    let about_header = json!({"errorName": "headerHasInvalidValue", "message": "x", "headerName": "Accept"});
    let page = |state: &str| {
        let ours = [
            ("/items/0/transactionReference", hex_key().into()),
            ("/items/0/paymentState", state.into()),
            ("/items/0/iban", "GB82WEST12345698765432".into()),
            ("/items/0/targetCurrency", "GBP".into()),
            ("/items/0/targetAmount", json!(123.45)),
            ("/pagination", json!({"pageNumber": 1, "pageSize": 10, "pageCount": 1, "totalNumberOfRecords": 1})),
        ];
        with(fixture("worldpay/account-page"), ours)
    };
    let empty = with(page("NEW"), [("/items", json!([])), ("/pagination/totalNumberOfRecords", 0.into()), ("/pagination/pageCount", 0.into())]);
    let mut goods = vec![
        // The status is the answer.
        good(api(), Ask::Create, 202, fixture("worldpay/account-accepted"), "says Authorised", &[]),
        good(tables::WORLDPAY_LEGACY, Ask::Create, 200, json!({"ubr": "PZ000EC4"}), "says Authorised", &[]),
        good(api(), Ask::Create, 400, refusal, "refused", &["/errorName"]),
        good(api(), Ask::Create, 415, about_header, "unprocessed", &["/errorName"]),
        good(api(), Ask::Find, 200, empty.clone(), "not found", &[]),
        good(tables::WORLDPAY_LEGACY, Ask::Find, 200, empty, "not found", &[]),
        Good { then: Some(page("COMPLETED")), ..good(api(), Ask::Create, 409, json!({"errorName": "conflict"}), "says Settled", &[]) },
    ];
    for (state, means) in [
        ("NEW", "found Authorised"),
        ("REJECTED", "found Authorised"),
        ("EXECUTED", "found Submitted"),
        ("COMPLETED", "found Settled"),
        ("REVERSED", "found Returned"),
        ("FAILED", "found Failed"),
        ("INVALID", "found Rejected"),
    ] {
        goods.push(good(api(), Ask::Find, 200, page(state), means, &["/items/0/paymentState"]));
        goods.push(good(tables::WORLDPAY_LEGACY, Ask::Look("PO000N65"), 200, page(state), means, &["/items/0/paymentState"]));
        goods.push(good(api(), Ask::Look("PO000N65"), 200, page(state)["items"][0].clone(), means, &["/paymentState"]));
    }
    goods
}

fn worldpay_card() -> Vec<Good> {
    const OUTCOME: &[&str] = &["/outcome"];
    let link = || ("/_links/payouts:payout/href", Value::from("https://access.worldpay.com/payouts/abc"));
    let payout = |outcome: &str| with(fixture("worldpay/card-v4-fast-after"), [link(), ("/outcome", outcome.into())]);
    let refused = json!({"outcome": "refused", "refusalCode": "9G", "receivedAt": "2025-08-01T10:37:36.923Z"});
    let luhn =
        json!({"errorName": "bodyDoesNotMatchSchema", "message": "x", "validationErrors": [{"errorName": "panFailedLuhnCheck", "message": "x"}]});
    let boarding = json!({"errorName": "fieldHasInvalidValue", "message": "Your merchant boarding process …", "jsonPath": "$.merchant.entity"});
    let mut goods = vec![
        good(tables::CARD_V4, Ask::Create, 500, fixture("worldpay/card-check-outcome"), "no answer", &[]),
        good(tables::CARD_V4, Ask::Create, 400, luhn, "refused", &["/errorName"]),
        good(tables::CARD_V4, Ask::Create, 422, boarding, "refused", &["/errorName"]),
        good(tables::CARD_V4, Ask::Create, 201, refused.clone(), "refused", OUTCOME),
        good(tables::CARD_V4, Ask::Find, 404, json!({"errorName": "resourceNotFound", "message": "x"}), "not found", &[]),
        good(tables::CARD_V3, Ask::Find, 404, json!({"errorName": "resourceNotFound", "message": "x"}), "nothing", &[]),
        good(tables::CARD_V3, Ask::Find, 200, fixture("worldpay/card-not-found"), "not found", OUTCOME),
        good(tables::CARD_V2, Ask::Look("abc"), 200, fixture("worldpay/card-not-found-older"), "not found", OUTCOME),
        good(tables::CARD_V4, Ask::Look("abc"), 200, refused, "found Failed", OUTCOME),
        good(tables::CARD_V3, Ask::Look("abc"), 200, payout("queryRequired"), "nothing", &[]),
        Good { then: Some(payout("approved")), ..good(tables::CARD_V3, Ask::Create, 201, payout("queryRequired"), "says Settled", OUTCOME) },
        Good { then: Some(fixture("worldpay/card-not-found")), ..good(tables::CARD_V3, Ask::Create, 201, payout("queryRequired"), "no answer", &[]) },
    ];
    for (outcome, says, found) in [
        ("requestReceived", "says Authorised", "found Authorised"),
        ("inReview", "says Authorised", "found Authorised"),
        ("pending", "says Submitted", "found Submitted"),
        ("approved", "says Settled", "found Settled"),
        ("disbursed", "says Settled", "found Settled"),
    ] {
        goods.push(good(tables::CARD_V2, Ask::Create, 201, payout(outcome), says, OUTCOME));
        goods.push(good(tables::CARD_FAST, Ask::Create, 201, payout(outcome), says, OUTCOME));
        goods.push(good(tables::CARD_V3, Ask::Look("abc"), 200, payout(outcome), found, OUTCOME));
        goods.push(good(tables::CARD_V4, Ask::Find, 200, payout(outcome), found, OUTCOME));
    }
    goods
}

/// A payout of Mollie's that is ours.
fn mollie_payout(name: &str) -> Value {
    let description = format!("Invoice 1187 {}", key());
    let ours = [
        ("/id", "payout_1".into()),
        ("/amount/value", "123.45".into()),
        ("/description", description.into()),
        ("/mode", "test".into()),
        ("/createdAt", "2026-05-20T09:13:37+00:00".into()),
    ];
    with(fixture(&format!("mollie/payout-{name}")), ours)
}

fn mollie() -> Vec<Good> {
    let api = || tables::MOLLIE;
    let error = |detail: &str| json!({"status": 422, "title": "Unprocessable Entity", "detail": detail, "field": "amount", "_links": {}});
    let page = |payouts: Vec<Value>, next: Value| json!({"count": payouts.len(), "_embedded": {"payouts": payouts}, "_links": {"self": {"href": "/v2/payouts"}, "next": next, "previous": null}});
    let next = json!({"href": "https://api.mollie.com/v2/payouts?from=payout_1&limit=250", "type": "application/hal+json"});
    let others = |id: &str, at: &str| {
        let description = "Week 12 7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20";
        with(mollie_payout("completed"), [("/id", id.into()), ("/description", description.into()), ("/createdAt", at.into())])
    };
    let later = || others("payout_9", "2026-05-20T10:00:00+00:00");
    let ours = || mollie_payout("completed");
    let mut goods = vec![
        good(api(), Ask::Create, 201, mollie_payout("requested"), "says Authorised", &["/status"]),
        good(tables::MOLLIE_TOKEN, Ask::Create, 201, mollie_payout("processing-at-bank"), "says Submitted", &["/status"]),
        good(api(), Ask::Create, 422, error("The balance has insufficient funds."), "refused", &[]),
        good(api(), Ask::Create, 422, error("The Idempotency-Key was used before."), "conflict", &[]),
        good(api(), Ask::Find, 200, page(vec![later()], Value::Null), "not found", &[]),
        good(api(), Ask::Find, 200, page(vec![later(), others("payout_8", "2026-05-19T10:00:00+00:00")], next.clone()), "not found", &[]),
        good(api(), Ask::Find, 200, page(vec![later(), ours()], Value::Null), "found Settled", &["/_embedded/payouts/1/status"]),
        // Ours is on the next page: while that has not been read, nobody knows that there is none.
        Good { then: Some(page(vec![ours()], Value::Null)), ..good(api(), Ask::Find, 200, page(vec![later()], next), "found Settled", &[]) },
    ];
    for (name, means) in [
        ("requested", "found Authorised"),
        ("initiated", "found Authorised"),
        ("processing-at-bank", "found Submitted"),
        ("completed", "found Settled"),
        ("canceled", "found Canceled"),
        ("failed", "found Failed"),
        ("returned", "found Returned"),
    ] {
        goods.push(good(api(), Ask::Look("payout_1"), 200, mollie_payout(name), means, &["/status"]));
    }
    goods
}

/// Asks, with the server giving these answers.
fn ask(providers: &Providers, good: &Good, runtime: &tokio::runtime::Runtime) -> Outcome {
    let (provider, draft) = (good.api.provider, draft(&good.api));
    let beneficiary = draft.beneficiary().expect("a beneficiary");
    let request = providers.prepare(provider, Mode::Test, &draft.order(&beneficiary)).expect("prepares");
    let reference = match good.ask {
        Ask::Look(id) => Some(ProviderReference(id.to_owned())),
        Ask::Create | Ask::Find => None,
    };
    let first_sent = FIRST_SENT.parse().expect("a time");
    let inquiry = Inquiry { key: draft.key(), reference: reference.as_ref(), request: &request, first_sent };
    runtime.block_on(async {
        match good.ask {
            Ask::Create => Outcome::Answer(providers.submit(provider, Mode::Test, &request, soon(), WITHIN).await),
            Ask::Look(_) | Ask::Find => Outcome::Look(providers.look(provider, Mode::Test, &inquiry).await),
        }
    })
}

/// What the server sends.
struct Sent {
    status: u16,
    content_type: &'static str,
    body: String,
    /// The connection ends after so many bytes of the body.
    cut: Option<usize>,
    then: Option<String>,
    create: bool,
}

impl Sent {
    fn of(good: &Good, changes: &[Change], transport: &Transport) -> Self {
        let body = changed(&good.body, good.words, changes);
        let (then, create) = (good.then.as_ref().map(Value::to_string), good.ask == Ask::Create);
        let mut sent = Self { status: good.status, content_type: "application/json", body, cut: None, then, create };
        let part = |at: &prop::sample::Index, body: &str| (0..=at.index(body.len() + 1)).rev().find(|end| body.is_char_boundary(*end)).unwrap_or(0);
        match transport {
            Transport::Faithful => {}
            Transport::Truncated(at) => sent.body.truncate(part(at, &sent.body)),
            Transport::CutOff(at) => sent.cut = Some(part(at, &sent.body)),
            Transport::ContentType(content_type) => sent.content_type = content_type,
            Transport::Status(status) => sent.status = *status,
            Transport::Page(page) => sent.body = (*page).to_owned(),
        }
        sent
    }

    fn reply(&self, line: &str) -> Reply {
        let second = if self.create { line.starts_with("GET") } else { line.contains("from=") };
        match &self.then {
            Some(then) if second => Reply::Answer(200, Vec::new(), then.clone().into_bytes()),
            _ => match self.cut {
                Some(cut) => {
                    let head = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n\r\n", self.status, self.body.len() + 1);
                    Reply::Raw([head.as_bytes(), &self.body.as_bytes()[..cut]].concat())
                }
                None => Reply::Answer(self.status, vec![("content-type", self.content_type.to_owned())], self.body.clone().into_bytes()),
            },
        }
    }
}

/// Whether the words that mean something are still as they were, and what they are now.
fn kept(good: &Value, words: &[&str], now: Option<&Value>) -> (bool, Vec<String>) {
    let at = |word: &&str| now.and_then(|now| now.pointer(word));
    (words.iter().all(|word| at(word) == good.pointer(word)), words.iter().filter_map(|word| Some(sanitised(at(word)?.as_str()?))).collect())
}

/// Whether a report is what the good one said, or less.
fn no_more(report: &Report, good: Option<&Report>, kept: bool, words: &[String]) -> Result<(), TestCaseError> {
    if report.status == Status::Unmapped {
        prop_assert!(!kept && words.contains(&report.provider_status), "{report:?} is not the unknown word");
    } else {
        let Some(good) = good.filter(|_| kept) else { return Err(TestCaseError::fail(format!("{report:?} out of nothing"))) };
        // Without its reason a return is a failure, which is what it is called.
        let failed = matches!((&good.status, &report.status), (Status::Returned { .. }, Status::Failed { .. }));
        prop_assert!(failed || discriminant(&report.status) == discriminant(&good.status), "{report:?}");
    }
    let (amount, reference) = (good.and_then(|good| good.amount), good.and_then(|good| good.reference.as_ref()));
    prop_assert!(report.amount.is_none() || report.amount == amount, "another amount: {report:?}");
    prop_assert!(report.reference.is_none() || good.is_none() || report.reference.as_ref() == reference, "another id: {report:?}");
    Ok(())
}

/// Whether what came of a damaged answer is justified by the good one, or by what is documented of its new status.
fn justified(good: &Good, meant: &Outcome, sent: &Sent, got: &Outcome) -> Result<(), TestCaseError> {
    let now = serde_json::from_str::<Value>(&sent.body).ok().filter(|_| sent.cut.is_none());
    let (kept, now_words) = kept(&good.body, good.words, now.as_ref());
    let same = got.class() == meant.class();
    let fair = match got {
        Outcome::Answer(Answer::NoAnswer { .. }) | Outcome::Look(Look::Nothing { .. }) => true,
        Outcome::Answer(Answer::NotSent { .. }) => false,
        // By the status alone, or about a header.
        Outcome::Answer(Answer::Unprocessed { .. }) => matches!(sent.status, 401 | 403 | 429) || (same && kept),
        Outcome::Answer(Answer::Refused { .. }) => same && kept && (sent.status == good.status || matches!(sent.status, 400 | 422)),
        Outcome::Answer(Answer::KeyConflict) => same && kept && matches!(sent.status, 400 | 409 | 422),
        // Where a status says it all.
        Outcome::Answer(Answer::Says(report)) if report.status == Status::Authorised && good.status != sent.status => {
            matches!((good.api.provider, sent.status), (Provider::Truelayer | Provider::WorldpayAccount, 200 | 202))
                || (same && kept && (200..203).contains(&sent.status))
        }
        Outcome::Look(Look::NotFound) => {
            let documented = matches!(good.api.name, "truelayer v1, body signed" | "worldpay card payouts v4");
            // So the last page of a list says that it is the last.
            let last_page = now.as_ref().and_then(|now| now.pointer("/_links/next")).is_some_and(Value::is_null);
            (same && kept) || (sent.status == 404 && documented) || (good.then.is_some() && last_page)
        }
        Outcome::Answer(Answer::Says(report)) | Outcome::Look(Look::Found(report)) => return no_more(report, meant.report(), kept, &now_words),
    };
    prop_assert!(fair, "{got:?} in place of {meant:?}, status {}", sent.status);
    Ok(())
}

fn damaged_answers_are_worth_no_more(goods: Vec<Good>) {
    let runtime = runtime();
    let sending = Arc::new(Mutex::new(None::<Sent>));
    let now = Arc::clone(&sending);
    let script = with_tokens(move |request| now.lock().expect("no panic").as_ref().expect("an answer").reply(&request.line));
    let server = runtime.block_on(Scripted::start(script));
    for good in goods {
        let providers = connectors(good.api.provider, &(good.api.section)(&server.url));
        let asked = |changes: &[Change], transport: &Transport| {
            *sending.lock().expect("no panic") = Some(Sent::of(&good, changes, transport));
            ask(&providers, &good, &runtime)
        };
        let meant = asked(&[], &Transport::Faithful);
        assert_eq!(meant.class(), good.means, "{}: {}", good.api.name, good.body);
        property(CASES, &(vec(change(), 0..=3), transport()), |(changes, transport)| {
            let got = asked(&changes, &transport);
            let sent = Sent::of(&good, &changes, &transport);
            justified(&good, &meant, &sent, &got).map_err(|why| TestCaseError::fail(format!("{why}\n{}: {}", good.api.name, sent.body)))
        });
    }
}

#[test]
fn damaged_answers_of_truelayer() {
    damaged_answers_are_worth_no_more(truelayer());
}

#[test]
fn damaged_answers_of_truelayer_v3() {
    damaged_answers_are_worth_no_more(truelayer_v3());
}

#[test]
fn damaged_answers_of_worldpay_accounts() {
    damaged_answers_are_worth_no_more(worldpay_account());
}

#[test]
fn damaged_answers_of_worldpay_cards() {
    damaged_answers_are_worth_no_more(worldpay_card());
}

#[test]
fn damaged_answers_of_mollie() {
    damaged_answers_are_worth_no_more(mollie());
}

/// A good notice: who sends it, what it tells, and the words that say so.
type GoodNotice = (Provider, Value, &'static str, &'static [&'static str]);

fn notices() -> Vec<GoodNotice> {
    let mut goods: Vec<GoodNotice> = Vec::new();
    for (name, tells) in [
        ("authorised", "Authorised"),
        ("submitted", "Submitted"),
        ("settled", "Settled"),
        ("rejected", "Rejected"),
        ("failed", "Failed"),
        ("returned", "Returned"),
    ] {
        goods.push((Provider::Truelayer, fixture(&format!("truelayer/notice-payout-{name}")), tells, &["/event_type"]));
    }
    goods.push((Provider::Truelayer, fixture("truelayer/notice-topup-received"), "", &[]));
    for (name, tells) in [("executed", "Settled"), ("failed", "Failed"), ("returned", "Returned")] {
        goods.push((Provider::TruelayerV3, fixture(&format!("truelayer_v3/notice-payout-{name}")), tells, &["/type"]));
    }
    for (classification, kind, tells) in [
        ("payout", "requested", "Authorised"),
        ("payout", "disbursed", "Settled"),
        ("payout", "refused", "Failed"),
        ("payment", "sentForRefund", "Submitted"),
        ("payment", "refunded", "Settled"),
        ("payment", "refundFailed", "Returned"),
    ] {
        let of = [
            ("/eventDetails/transactionReference", hex_key().into()),
            ("/eventDetails/classification", classification.into()),
            ("/eventDetails/type", kind.into()),
        ];
        let event = with(fixture("worldpay/card-event-disbursed"), of);
        goods.push((Provider::WorldpayCard, event, tells, &["/eventDetails/classification", "/eventDetails/type"]));
    }
    let completed = json!({"notificationId": "n1", "notificationType": "payoutSuccess", "paymentState": "COMPLETED",
        "originalPaymentInfo": {"payoutRequestID": "PZ000EC4", "transactionReference": hex_key()}});
    // Never evidence.
    goods.push((Provider::WorldpayAccount, completed, "", &[]));
    let live = |name: &str| with(fixture(&format!("mollie/notice-{name}")), [("/_embedded/entity/mode", "test".into())]);
    goods.push((Provider::Mollie, live("completed"), "Settled", &["/_embedded/entity/status"]));
    goods.push((Provider::Mollie, live("returned"), "Returned", &["/_embedded/entity/status"]));
    goods.push((Provider::Mollie, mollie_payout("completed"), "Settled", &["/status"]));
    goods.push((Provider::Mollie, fixture("mollie/notice-simple"), "", &[]));
    goods
}

/// The account of a provider, with what proves its notices.
fn inbox(provider: Provider, url: &str) -> Providers {
    let keys = json!([{"id": "1", "secret": SECRET}]);
    let (section, proof) = match provider {
        Provider::Truelayer => ((tables::TRUELAYER.section)(url), None),
        Provider::TruelayerV3 => ((tables::TRUELAYER_V3.section)(url), None),
        Provider::WorldpayAccount => ((tables::WORLDPAY_ACCOUNT.section)(url), Some(("event_keys", keys))),
        Provider::WorldpayCard => ((tables::CARD_V4.section)(url), Some(("event_keys", keys))),
        Provider::Mollie => ((tables::MOLLIE.section)(url), Some(("webhook_secrets", json!([SECRET])))),
    };
    let mut section = section;
    if let Some((name, value)) = proof {
        section[name] = value;
    }
    connectors(provider, &section)
}

/// The headers with which a provider proves a notice.
fn proof(provider: Provider, key: &SigningKey, jku: &str, body: &[u8]) -> HeaderMap {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), body);
    let hex = const_hex::encode(tag);
    let (name, value) = match provider {
        Provider::Truelayer | Provider::TruelayerV3 => {
            ("tl-signature", key.sign_request(&Method::POST, NOTICES, &[], body, Some(jku)).expect("signs"))
        }
        Provider::WorldpayAccount | Provider::WorldpayCard => ("event-signature", format!("1/SHA256/{hex}")),
        Provider::Mollie => ("x-mollie-signature", format!("sha256={hex}")),
    };
    HeaderMap::from_iter([(name.parse().expect("a name"), HeaderValue::try_from(value).expect("a value"))])
}

fn tells(notice: &Notice) -> String {
    notice.told().map_or(String::new(), |told| Outcome::Look(Look::Found(told.report.clone())).class().trim_start_matches("found ").to_owned())
}

/// What was signed as it is, and is not as documented, tells what the good notice told, or less; and about the same attempt.
#[test]
fn damaged_notices() {
    let runtime = runtime();
    let key = SigningKey::from_pem(tables::KID, private_key()).expect("a key");
    let jwks = Jwks { keys: vec![key.verifying_key().expect("a public key").to_jwk(tables::KID)] };
    let jwks = serde_json::to_value(jwks).expect("JSON");
    let server = runtime.block_on(Scripted::start(move |_| Reply::json(200, &jwks)));
    let jku = format!("{}/.well-known/jwks", server.url);
    for (provider, good, meant, words) in notices() {
        let providers = inbox(provider, &server.url);
        let read = |body: String| {
            let headers = proof(provider, &key, &jku, body.as_bytes());
            runtime.block_on(providers.read_notice(provider, Mode::Test, &Method::POST, NOTICES, &headers, &Bytes::from(body)))
        };
        let best = read(good.to_string()).expect("a notice");
        assert_eq!(tells(&best), meant, "{good}");
        let damage = prop_oneof![4 => Just(Transport::Faithful), 1 => transport()];
        property(CASES, &(vec(change(), 0..=3), damage), |(changes, transport)| {
            let mut body = changed(&good, words, &changes);
            match transport {
                Transport::Truncated(at) | Transport::CutOff(at) => {
                    body = body.chars().take(at.index(body.chars().count())).collect();
                }
                Transport::Page(page) => body = page.to_owned(),
                Transport::Faithful | Transport::ContentType(_) | Transport::Status(_) => {}
            }
            let notice = match read(body.clone()) {
                Ok(notice) => notice,
                Err(NoticeError::Unreadable(_)) => return Ok(()),
                Err(error) => return Err(TestCaseError::fail(format!("{error}: {body}"))),
            };
            let now = serde_json::from_str(&body).ok();
            let (kept, now_words) = kept(&good, words, now.as_ref());
            prop_assert!(!notice.dedupe_id().is_empty() && !notice.event_type().is_empty());
            let reference = best.told().and_then(|told| told.report.reference.clone()).map(About::Reference);
            let id = (provider == Provider::WorldpayAccount).then(|| About::Reference(ProviderReference("PZ000EC4".to_owned())));
            let known = [best.hint().cloned(), best.told().map(|told| told.about.clone()), reference, id];
            let same_payout = |about: &About| known.iter().flatten().any(|known| known == about);
            if let Some(told) = notice.told() {
                prop_assert!(same_payout(&told.about) && notice.hint().is_none(), "{:?}: {body}", told.about);
                no_more(&told.report, best.told().map(|best| &best.report), kept, &now_words)
                    .map_err(|why| TestCaseError::fail(format!("{why}: {body}")))?;
            }
            // What is no longer evidence is at most an occasion to look at the same payout.
            prop_assert!(notice.hint().is_none_or(same_payout), "{:?}: {body}", notice.hint());
            Ok(())
        });
    }
}
