//! docs/openapi.yaml is kept by hand. This keeps it true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use domain::bulletin::{Hook, News};
use domain::delivery::{Attempt, Attempted, Heard};
use domain::event::EventType;
use domain::fact::{Provider, Reason};
use domain::id::{Mode, PartyId, Shard, SubscriptionId};
use domain::payout::state::StateName;
use domain::sample::Sample;
use domain::subscription::Payload;
use payrelay::ingress::problem::Kind;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Installation, payout, transaction};

fn text() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.yaml")).expect("docs/openapi.yaml")
}

/// The lines below `heading`, which are indented deeper than it.
fn below<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().skip_while(|line| *line != heading);
    let depth = lines.next().map(indent).unwrap_or_else(|| panic!("no line `{heading}`"));
    lines.take_while(|line| indent(line) > depth).collect()
}

/// The keys of a mapping that is written one to a line at this indent.
fn keys(lines: &[&str], indent: usize) -> BTreeSet<String> {
    let own = lines.iter().filter_map(|line| line.strip_prefix(&" ".repeat(indent))).filter(|line| !line.starts_with(' '));
    own.filter_map(|line| line.split_once(':')).map(|(key, _)| key.to_owned()).collect()
}

fn items(lines: &[&str]) -> Vec<String> {
    lines.iter().filter_map(|line| line.trim().strip_prefix("- ")).map(ToOwned::to_owned).collect()
}

/// The part of the document with the schemas, whose names are those of responses too.
fn schemas() -> String {
    below(&text(), "  schemas:").join("\n")
}

/// Paths with their methods.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = text();
    let paths = keys(&below(&text, "paths:"), 2);
    let methods = |path: &str| {
        let known = keys(&below(&text, &format!("  {path}:")), 4);
        known.into_iter().filter(|key| key != "parameters").map(|method| method.to_uppercase()).collect()
    };
    paths.into_iter().map(|path| (path.clone(), methods(&path))).collect()
}

/// The paths of `.route("…")` in the ingress.
fn routed() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ingress");
    let sources =
        std::fs::read_dir(folder).expect("a folder").map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a source"));
    let paths =
        |source: String| -> Vec<String> { source.split(".route(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect() };
    sources.flat_map(paths).collect()
}

#[tokio::test]
async fn every_route_is_documented_with_its_methods() {
    let documented = documented();
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), routed());
    let installation = Installation::start().await;
    let caller = installation.caller("shop").await;
    for (path, methods) in documented.iter().filter(|(path, _)| *path != "/metrics") {
        let filled = path.replace("{transaction_id}", &transaction()).replace("{id}", "sub_00").replace("{mode}", "test");
        // No route has this one.
        let reply = caller.send(caller.request(Method::TRACE, &filled)).await;
        let problem = if path.starts_with("/v2/") { reply.json["code"].as_str().unwrap().replace('_', "-") } else { reply.problem().to_owned() };
        assert_eq!(problem, "method-not-allowed", "{path}");
        let allowed = reply.header("allow").unwrap().split(',').filter(|method| *method != "HEAD").map(ToOwned::to_owned);
        assert_eq!(allowed.collect::<BTreeSet<_>>(), *methods, "{path}");
    }
}

#[test]
fn every_problem_status_and_event_is_documented() {
    let text = schemas();
    let problems = items(&below(&text, "    Problem:"));
    let expected: Vec<String> = Kind::ALL.into_iter().map(|kind| format!("urn:payrelay:problem:{}", kind.parts().0)).collect();
    assert_eq!(problems, expected);
    assert_eq!(items(&below(&text, "    Status:")), StateName::ALL.map(StateName::as_str));
    let events: Vec<_> = EventType::ALL.map(EventType::name).into_iter().chain(domain::bulletin::KINDS).collect();
    assert_eq!(items(&below(&text, "    EventType:")), events);
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("README.md");
    for state in StateName::ALL {
        let row = format!("\n| `{}` | `{}`", state.as_str(), EventType::entering(state).name());
        assert!(readme.contains(&row), "{row}");
    }
}

/// That an object has no members but those of a schema.
fn within(text: &str, schema: &str, value: &Value) {
    let fields = keys(&below(text, &format!("    {schema}:")), 8);
    let unknown: Vec<_> = value.as_object().unwrap().keys().filter(|key| !fields.contains(*key)).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?} of {schema}");
}

/// That a message that is no event is one of those that a schema names, with its fields and no others.
pub(crate) fn is_message(schema: &str, message: &Value) {
    let text = schemas();
    within(&text, schema, message);
    assert!(below(&text, &format!("    {schema}:")).concat().contains(message["type"].as_str().unwrap()), "{message}");
    if let Some(data) = message.get("data") {
        within(&text, &format!("{schema}Data"), data);
    }
}

#[test]
fn webhooks_and_attempts_hold_documented_fields_only() {
    let (text, at) = (schemas(), jiff::Timestamp::UNIX_EPOCH);
    for kind in EventType::ALL.map(EventType::name) {
        let body: Value = serde_json::from_str(&Sample::named(kind, "x", at).unwrap().as_sent(Payload::Full).unwrap()).unwrap();
        within(&text, "WebhookBody", &body);
        within(&text, "WebhookData", &body["data"]);
    }
    let heard = Some(Heard { excerpt: "no".to_owned(), request_id: Some("x".to_owned()) });
    for result in [
        Attempted::Acknowledged { status: 200 },
        Attempted::Answered { status: 429, retry_after_ms: Some(1) },
        Attempted::Unreachable { why: "connect".to_owned() },
        Attempted::Unwanted,
    ] {
        let attempt = json!(Attempt { at, latency_ms: 1, result, heard: heard.clone() });
        within(&text, "DeliveryAttempt", &attempt);
        within(&text, "AttemptResult", &attempt["result"]);
        let known = below(&text, "    AttemptResult:").concat();
        assert!(known.contains(attempt["result"]["result"].as_str().unwrap()), "{attempt}");
    }
}

#[test]
fn what_is_told_of_a_party_has_the_documented_fields() {
    let (text, now) = (schemas(), jiff::Timestamp::UNIX_EPOCH);
    let of = || Hook { subscription_id: SubscriptionId::new(Shard::new(0), [7; 11]), name: Some("books".to_owned()) };
    let mut told = BTreeSet::new();
    for news in [
        News::Break { provider: Provider::Mollie, day: jiff::civil::date(2026, 1, 31), matched: 1, breaks: BTreeMap::from([("amount", 1)]) },
        News::Failing { of: of(), failing_since: now, disabled_at: now },
        News::Disabled { of: of(), reason: Reason::new("gone") },
        News::Enabled { of: of() },
        News::Changed { of: of(), changed: &["url"] },
    ] {
        let body: Value = serde_json::from_str(&news.body(&PartyId::parse("shop").unwrap(), Mode::Test, 1, now)).unwrap();
        within(&text, "WebhookBody", &body);
        told.extend(body["data"].as_object().unwrap().keys().cloned());
    }
    assert_eq!(told, keys(&below(&text, "    PartyEventData:"), 8));
}

#[tokio::test]
async fn answers_hold_documented_fields_only() {
    let text = schemas();
    let fields = |schema: &str| keys(&below(&text, &format!("    {schema}:")), 8);
    let within = |schema: &str, value: &Value| within(&text, schema, value);
    for state in StateName::ALL {
        assert!(fields("Payout").contains(state.timestamp_field()), "{}", state.timestamp_field());
    }
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let hook = shop.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/", "event_types": "*", "name": "a" })).await;
    within("Webhook", &hook.json["result"]);
    let path = format!("{}/rotate", hook.header("location").unwrap());
    within("Webhook", &shop.post_bytes(&path, "", &[]).await.json["result"]);
    let id = transaction();
    let mut body = payout(&id);
    body["metadata"] = json!({ "a": "b" });
    body["party_id"] = json!("shop");
    body["provider"] = json!("truelayer");
    within("NewPayout", &body);
    within("Payout", &shop.post("/v1/payouts", &body).await.json["result"]);
    within("Payout", &shop.post_bytes(&format!("/v1/payouts/{id}/cancel"), "", &[]).await.json["result"]);
    let account = shop.get("/v1/providers/worldpay-account").await.json;
    let limits = account["result"]["limits"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys(&below(&below(&text, "    Provider:").join("\n"), "        limits:"), 12), limits);
    assert_eq!(account["result"]["batch_max"], workers::batch::PAGE, "what goes in one request here, not what the provider takes");
    let provider = shop.get("/v1/providers/mollie").await;
    within("Provider", &provider.json["result"]);
    within("Circuit", &provider.json["result"]["circuit"]);
    let batch = json!({ "batch_id": transaction(), "items": [body, {}] });
    let accepted = shop.post("/v1/payouts/batches", &batch).await;
    within("Batch", &accepted.json["result"]);
    while installation.expand().await.expect("a store") > 0 {}
    let path = accepted.header("location").unwrap();
    within("Batch", &shop.get(path).await.json["result"]);
    let items = shop.get(&format!("{path}/items")).await;
    items.json["results"].as_array().unwrap().iter().for_each(|item| within("BatchItem", item));
    within("Problem", &items.json["results"][1]["problem"]);
    let opened = payout(&transaction());
    shop.post("/v1/payouts/batches", &json!({ "batch_id": transaction(), "items": [opened] })).await;
    while installation.expand().await.expect("a store") > 0 {}
    within("Payout", &shop.get(&format!("/v1/payouts/{}", opened["transaction_id"].as_str().unwrap())).await.json["result"]);
    within("Timeline", &shop.get(&format!("/v1/payouts/{id}/timeline")).await.json["result"]);

    let platform = installation.caller_with(|_| {}).await;
    let instrument = json!({
        "payoutInstrumentReference": "main",
        "currency": "GBP",
        "beneficiaryName": "John Smith",
        "destination": { "type": "iban", "iban": "GB33BUKB20201555555555" },
    });
    let account = json!({ "currency": "GBP", "payoutInstrumentReference": "main", "frequency": "monthly", "scheduledPayoutDay": "monday", "recurrence": "first" });
    within("NewBalanceAccount", &account);
    let party =
        json!({ "partyReference": "acme", "displayName": "Acme", "country": "GB", "payoutInstruments": [instrument], "balanceAccounts": [account] });
    within("NewParty", &party);
    within("NewPayoutInstrument", &instrument);
    let made = platform.post("/parties", &party).await;
    within("Party", &made.json);
    within("PayoutInstrument", &made.json["payoutInstruments"][0]);
    within("BalanceAccount", &made.json["balanceAccounts"][0]);
    let top_up = json!({ "transaction_id": transaction(), "party_id": "acme", "currency": "GBP", "amount_in_minor": 1 });
    assert_eq!(platform.post("/v1/top-ups", &top_up).await.status, 201);
    let scheduled = loop {
        installation.store.move_clock(std::time::Duration::from_hours(5)).await.unwrap();
        installation.look_at_schedules().await;
        let listed = platform.get("/v1/payouts?party_id=acme").await.json["results"][0].clone();
        if listed.is_object() {
            break listed;
        }
    };
    assert_eq!(scheduled["initiated_by"], "schedule");
    within("Payout", &scheduled);
    within("Balance", &platform.get("/v1/balances/GBP?party_id=acme").await.json["result"]);

    let top_up = json!({ "transaction_id": transaction(), "party_id": "acme", "currency": "GBP", "amount_in_minor": 1_000 });
    within("TopUp", &platform.post("/v1/top-ups", &top_up).await.json["result"]);
    let whole = json!({ "balanceId": made.json["balanceAccounts"][0]["balanceAccountId"], "amount": null, "description": "x", "party_id": "acme" });
    within("NewBalancePayout", &whole);
    let paid = platform.post("/v2/payouts", &whole).await;
    within("BalancePayout", &paid.json);
    within("HalProblem", &platform.post("/v2/payouts", &whole).await.json);
    within("HalProblem", &platform.post("/v2/payouts", &json!({})).await.json);
    let list = platform.get("/v2/payouts?party_id=acme").await.json;
    within("BalancePayout", &list["_embedded"]["payouts"][0]);
    within("HalPageLinks", &list["_links"]);
    within("HalBalance", &platform.get("/v2/balances/primary?party_id=acme").await.json);
}
