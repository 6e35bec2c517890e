//! The examples of the documents that the product was asked for from, as they stand there: each request is taken, and its answer has every documented
//! field in the documented form. What only the service or the caller can know (`<…>`) is filled in from earlier answers.

use std::collections::BTreeMap;

use domain::fact::{ProviderReference, Report, Source, Status};
use domain::id::{Mode, PartyId, PayoutId};
use domain::payout::{Fact, What};
use serde_json::{Value, json};

use crate::support::{Caller, Installation, Reply, transaction};

/// A request, and what the document answers to it.
struct Example<'a> {
    seed: &'static str,
    request: &'a str,
    body: Value,
    status: u16,
    /// `null` where the document shows none.
    answer: Value,
}

/// The form of a value: its kind, and of texts that are times, dates or UUIDs that they are.
fn form(value: &Value) -> Value {
    let mask = |text: &str| -> String { text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect() };
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(number) => json!(if number.is_i64() { "integer" } else { "number" }),
        Value::String(text) if text.parse::<uuid::Uuid>().is_ok() => json!("uuid"),
        Value::String(text) if mask(text).starts_with("9999-99-99") => json!(mask(text)),
        Value::String(_) => json!("text"),
        // Lists are of one kind.
        Value::Array(items) => Value::Array(items.iter().take(1).map(form).collect()),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), form(value))).collect(),
    }
}

/// Of `ours`, what is documented.
fn documented(ours: &Value, answer: &Value) -> Value {
    match (ours, answer) {
        (Value::Object(ours), Value::Object(answer)) => {
            answer.iter().filter_map(|(name, answer)| Some((name.clone(), documented(ours.get(name)?, answer)))).collect()
        }
        (Value::Array(ours), Value::Array(answer)) => ours.iter().zip(answer.iter().cycle()).map(|(ours, answer)| documented(ours, answer)).collect(),
        (ours, _) => ours.clone(),
    }
}

fn filled(text: &str, known: &BTreeMap<&str, String>) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
}

impl<'a> Example<'a> {
    fn new(seed: &'static str, request: &'a str, body: Value, status: u16, answer: Value) -> Self {
        Self { seed, request, body, status, answer }
    }

    async fn holds(self, caller: &Caller, known: &BTreeMap<&str, String>) -> Reply {
        let (method, path) = self.request.split_once(' ').unwrap();
        let path = filled(path, known);
        let reply = match method {
            "GET" => caller.get(&path).await,
            _ => caller.send_bytes(method.parse().unwrap(), &path, filled(&self.body.to_string(), known), &[]).await,
        };
        assert_eq!(reply.status, self.status, "{} {}: {reply:?}", self.seed, self.request);
        if !self.answer.is_null() {
            assert_eq!(form(&documented(&reply.json, &self.answer)), form(&self.answer), "{} {}: {reply:?}", self.seed, self.request);
        }
        reply
    }
}

/// Seed 003's payout, once it is settled.
fn settled() -> Value {
    json!({
        "transaction_id": "cc328607-e02e-49e2-81c9-5bd044c8f7d7", "authorised_at": "2019-10-01T17:00:00.0000000Z",
        "submitted_at": "2019-10-01T17:00:00.0000000Z", "settled_at": "2019-10-01T17:00:00.0000000Z", "beneficiary_name": "John Smith",
        "beneficiary_iban": "GB33BUKB20201555555555", "beneficiary_reference": "Withdrawal 204", "amount_in_minor": 10000, "currency": "GBP",
        "context_code": "withdrawal", "status": "settled",
    })
}

#[tokio::test]
async fn the_examples_of_seed_001_hold() {
    let installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    let instrument = |reference: &str, currency: &str, destination: Value| json!({ "payoutInstrumentReference": reference, "currency": currency, "beneficiaryName": "John Smith", "destination": destination });
    let us =
        json!({ "type": "routing_number_account_number", "routing_number": "021000021", "account_number": "87654321", "account_type": "checking" });
    let party = json!({
        "partyReference": "parTH82wexHglhnBbzd6iJ7P0", "displayName": "Acme", "country": "US",
        "payoutInstruments": [
            instrument("personalCheckingAccount2", "EUR", json!({ "type": "iban", "iban": "NL91ABNA0417164300" })),
            instrument("primaryBusinessAccount", "USD", us),
        ],
    });
    let made = platform.post("/parties", &party).await;
    assert_eq!(made.status, 201, "{made:?}");
    let mut known = BTreeMap::from([("partyId", made.json["partyId"].as_str().unwrap().to_owned())]);

    let account = json!({
        "currency": "USD", "payoutInstrumentReference": "primaryBusinessAccount", "scheduledPayoutDay": "thursday", "frequency": "weekly",
        "balanceAccountId": "parApcraCq1bmBuCotAMoyss0", "dateTimeCreated": "2025-04-16T20:46:26.852Z",
        "dateTimeUpdated": "2025-04-16T20:46:29.901Z", "version": 1, "accountNumber": "12345678", "nextPayoutDate": "2026-03-19",
    });
    let asked =
        json!({ "currency": "EUR", "payoutInstrumentReference": "personalCheckingAccount2", "scheduledPayoutDay": "friday", "frequency": "weekly" });
    let create = "POST /parties/<partyId>/balanceAccount";
    Example::new("001", create, asked, 201, account.clone()).holds(&platform, &known).await;
    // The table of the schema: monthly asks for the week as well, and daily for nothing.
    let monthly = json!({
        "currency": "USD", "payoutInstrumentReference": "primaryBusinessAccount", "frequency": "monthly", "scheduledPayoutDay": "friday",
        "recurrence": "first",
    });
    let mut with_week = account.clone();
    with_week["recurrence"] = json!("first");
    let dollars = Example::new("001", create, monthly, 201, with_week).holds(&platform, &known).await;
    for name in ["balanceAccountId", "dateTimeCreated", "dateTimeUpdated", "accountNumber", "nextPayoutDate"] {
        known.insert(name, dollars.json[name].as_str().unwrap().to_owned());
    }
    let one = "GET /parties/<partyId>/balanceAccount/<balanceAccountId>";
    Example::new("001", one, Value::Null, 200, account.clone()).holds(&platform, &known).await;
    let mut change = account.clone();
    for name in known.keys().filter(|name| **name != "partyId") {
        change[*name] = json!(format!("<{name}>"));
    }
    let put = "PUT /parties/<partyId>/balanceAccount/<balanceAccountId>";
    let changed = Example::new("001", put, change, 200, account).holds(&platform, &known).await;
    assert_eq!((&changed.json["frequency"], &changed.json["recurrence"]), (&json!("weekly"), &Value::Null));
    // "Coming soon".
    Example::new("001", "DELETE /parties/<partyId>/balanceAccount/<balanceAccountId>", json!({}), 405, Value::Null).holds(&platform, &known).await;
}

#[tokio::test]
async fn the_examples_of_seed_003_hold() {
    let installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    let shop = installation.caller("shop").await;
    for (currency, iban, status) in [("GBP", "GB33BUKB20201555555555", "enabled"), ("EUR", "FR1420041010050500013M02606", "disabled")] {
        let body = json!({ "party_id": "shop", "iban": iban, "account_owner": "Owner Name", "status": status, "funding": "balance" });
        assert_eq!(platform.patch(&format!("/v1/balances/{currency}"), &body).await.status, 200);
    }
    let top_up = json!({ "transaction_id": transaction(), "party_id": "shop", "currency": "GBP", "amount_in_minor": 50_000_000 });
    assert_eq!(platform.post("/v1/top-ups", &top_up).await.status, 201);

    let known = BTreeMap::from([("UUID", transaction())]);
    let asked = json!({
        "transaction_id": "<UUID>", "beneficiary_name": "John Smith", "beneficiary_iban": "GB33BUKB20201555555555",
        "beneficiary_reference": "Withdrawal 204", "currency": "GBP", "amount_in_minor": 10000, "context_code": "withdrawal",
    });
    Example::new("003", "POST /v1/payouts", asked.clone(), 202, Value::Null).holds(&shop, &known).await;
    // "Only the first one will be processed."
    Example::new("003", "POST /v1/payouts", asked, 202, Value::Null).holds(&shop, &known).await;
    installation.execute().await;
    let id = PayoutId::derive(&PartyId::parse("shop").unwrap(), Mode::Test, &known["UUID"], installation.store.shards());
    let told = async |status: Status, word: &str| {
        let reference = Some(ProviderReference("theirs".to_owned()));
        let report = Report { status, provider_status: word.to_owned(), at: None, reference, amount: None };
        let held = installation.store.load(id).await.unwrap().unwrap();
        installation.recorder.record(held, &Fact::new(Source::Notice, What::Reported { attempt: 1, report })).await.unwrap();
    };
    // Of each status the fields that its table lists, and no time of a state that it has not been in.
    let times = ["authorised_at", "submitted_at", "settled_at"];
    for (reached, (status, word)) in
        [(Status::Authorised, "authorised"), (Status::Submitted, "submitted"), (Status::Settled, "settled")].into_iter().enumerate()
    {
        told(status, word).await;
        let mut answer = settled();
        let later = &times[reached + 1..];
        answer.as_object_mut().unwrap().retain(|name, _| !later.contains(&name.as_str()));
        let one = Example::new("003", "GET /v1/payouts/<UUID>", Value::Null, 200, json!({ "result": answer }));
        let shown = one.holds(&shop, &known).await.json["result"].clone();
        assert_eq!(shown["status"], word);
        assert!(later.iter().all(|name| shown.get(*name).is_none()), "{shown}");
    }

    let mut listed = settled();
    listed["type"] = json!("payout");
    let query = "from=%222019-10-01T17:00:00.0000000Z%22&to=%222100-10-02T17:00:00.0000000Z%22&type=%22Payout%22&currency=%22GBP%22";
    let request = format!("GET /v1/transactions?{query}");
    let list = Example::new("003", &request, Value::Null, 200, json!({ "results": [listed] })).holds(&shop, &known).await;
    assert_eq!(list.json["results"].as_array().unwrap().len(), 1, "payouts only: {list:?}");
    let balance = json!({
        "currency": "GBP", "iban": "GB33BUKB20201555555555", "status": "enabled", "current_balance_in_minor": 50_000_000,
        "available_balance_in_minor": 49_998_000, "account_owner": "Owner Name",
    });
    let balances = Example::new("003", "GET /v1/balances", Value::Null, 200, json!({ "results": [balance] })).holds(&shop, &known).await;
    assert_eq!(balances.json["results"].as_array().unwrap().len(), 2, "{balances:?}");
}

/// The document shows no body; these are the provider's own (providers.md), but for its link to its documentation.
#[tokio::test]
async fn the_shapes_of_seed_004_hold() {
    let installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    let acme = installation.caller("acme").await;
    let party = json!({
        "partyReference": "acme", "displayName": "Acme", "country": "NL",
        "payoutInstruments": [{
            "payoutInstrumentReference": "main", "currency": "EUR", "beneficiaryName": "John Smith",
            "destination": { "type": "iban", "iban": "NL91ABNA0417164300" },
        }],
        "balanceAccounts": [{ "currency": "EUR", "payoutInstrumentReference": "main", "frequency": "daily" }],
    });
    let made = platform.post("/parties", &party).await;
    let top_up = json!({ "transaction_id": transaction(), "party_id": "acme", "currency": "EUR", "amount_in_minor": 5_000 });
    assert_eq!(platform.post("/v1/top-ups", &top_up).await.status, 201);
    let mut known = BTreeMap::from([("balance", made.json["balanceAccounts"][0]["balanceAccountId"].as_str().unwrap().to_owned())]);

    let link = json!({ "href": "https://api.mollie.com/v2/payouts/payout_j8NvRAM2WNZtsykpLEX8J", "type": "application/hal+json" });
    let payout = json!({
        "resource": "payout", "id": "payout_j8NvRAM2WNZtsykpLEX8J", "balanceId": "bal_gVMhHKqSSRYJyPsuoPNFH",
        "amount": { "currency": "EUR", "value": "10.00" }, "description": "My payout description", "status": "requested",
        "statusReason": { "code": "requested", "message": "The payout has been requested." }, "createdAt": "2024-03-20T09:13:37+00:00",
        "initiatedAt": null, "completedAt": null, "canceledAt": null, "mode": "live", "_links": { "self": link },
    });
    let asked = json!({ "balanceId": "<balance>", "amount": { "currency": "EUR", "value": "10.00" }, "description": "My payout description" });
    let made = Example::new("004", "POST /v2/payouts", asked, 201, payout.clone()).holds(&acme, &known).await;
    known.insert("payout", made.json["id"].as_str().unwrap().to_owned());
    Example::new("004", "GET /v2/payouts/<payout>", Value::Null, 200, payout.clone()).holds(&acme, &known).await;
    let mut canceled = payout.clone();
    (canceled["status"], canceled["canceledAt"]) = (json!("canceled"), json!("2024-03-20T09:13:37+00:00"));
    let reply = Example::new("004", "DELETE /v2/payouts/<payout>", json!({}), 200, canceled).holds(&acme, &known).await;
    assert_eq!((&reply.json["status"], &reply.json["statusReason"]["code"]), (&json!("canceled"), &json!("canceled")));

    // "If no amount is specified, the full available balance … is paid out."
    let mut whole = payout;
    whole["amount"] = Value::Null;
    Example::new("004", "POST /v2/payouts", json!({ "balanceId": "<balance>" }), 201, whole).holds(&acme, &known).await;
    let refused = json!({ "status": 422, "title": "Unprocessable Entity", "detail": "A payout is already scheduled for the next business day." });
    let again = json!({ "balanceId": "<balance>", "amount": { "currency": "EUR", "value": "1.00" } });
    Example::new("004", "POST /v2/payouts", again, 422, refused.clone()).holds(&acme, &known).await;
    let mut named = refused;
    named["field"] = json!("balanceId");
    let nobody = json!({ "balanceId": "bal_gVMhHKqSSRYJyPsuoPNFH" });
    Example::new("004", "POST /v2/payouts", nobody, 422, named).holds(&acme, &known).await;
}
