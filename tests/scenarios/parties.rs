//! Parties and their payout instruments, as platforms and merchants see them.

use std::time::Duration;

use domain::credential::{Reach, Scope};
use domain::id::{Mode, PartyId};
use domain::instrument::InstrumentReference;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Caller, Installation, Log, Plan, payout, signing_key, transaction};

const GB: &str = "GB33BUKB20201555555555";
const OTHER_GB: &str = "GB29NWBK60161331926819";
const NL: &str = "NL91ABNA0417164300";

async fn platform(installation: &Installation) -> Caller {
    installation.caller_with(|_| {}).await
}

fn party(reference: &str) -> Value {
    json!({ "partyReference": reference, "displayName": "Acme & Sons", "country": "GB" })
}

fn instrument(reference: &str) -> Value {
    json!({
        "payoutInstrumentReference": reference,
        "currency": "GBP",
        "beneficiaryName": "John Smith",
        "destination": { "type": "iban", "iban": GB },
    })
}

/// `with(party("acme"), "country", "DE")`
fn with(mut body: Value, name: &str, value: impl Into<Value>) -> Value {
    body[name] = value.into();
    body
}

fn without(mut body: Value, name: &str) -> Value {
    body.as_object_mut().unwrap().remove(name);
    body
}

#[tokio::test]
async fn a_party_is_made_read_and_changed() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let made = platform.post("/parties", &party("acme")).await;
    assert_eq!((made.status, made.header("location"), made.header("idempotency-replayed")), (201, Some("/parties/acme"), None), "{made:?}");
    let at = made.json["dateTimeCreated"].as_str().unwrap().to_owned();
    assert!(at.ends_with('Z') && at.len() == "2025-01-23T12:23:45.222Z".len(), "{at}");
    let expected = json!({
        "partyId": "acme", "partyReference": "acme", "displayName": "Acme & Sons", "country": "GB", "status": "active", "version": 1,
        "dateTimeCreated": at, "dateTimeUpdated": at,
    });
    assert_eq!(made.json, expected);
    assert_eq!(platform.get("/parties/acme").await.json, expected);
    for id in ["nobody", "a.b", "%20", "acme%2Fx"] {
        assert_eq!(platform.get(&format!("/parties/{id}")).await.problem(), "not-found", "{id}");
    }

    // What was read can be changed and sent back.
    installation.store.move_clock(Duration::from_secs(60)).await.unwrap();
    let change = with(expected.clone(), "displayName", "Acme Ltd");
    let changed = platform.put("/parties/acme", &change).await;
    assert_eq!((changed.status, &changed.json["displayName"], &changed.json["version"]), (200, &json!("Acme Ltd"), &json!(2)), "{changed:?}");
    assert_eq!(changed.json["dateTimeCreated"], json!(at));
    assert_ne!(changed.json["dateTimeUpdated"], json!(at));
    assert_eq!(platform.get("/parties/acme").await.json, changed.json);
    // The same again is a repeat, another change of what is no more is not made, and what is like that already is left alone.
    let again = platform.put("/parties/acme", &change).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json), (200, Some("true"), &changed.json), "{again:?}");
    for version in [0, 1, 3] {
        let stale = platform.put("/parties/acme", &json!({ "displayName": "Acme", "country": "DE", "version": version })).await;
        assert_eq!((stale.status, stale.problem()), (409, "version-stale"), "{version}");
    }
    let same = platform.put("/parties/acme", &changed.json).await;
    assert_eq!((same.status, same.header("idempotency-replayed"), &same.json), (200, None, &changed.json), "{same:?}");

    for (name, value) in [
        ("partyId", json!("other")),
        ("partyReference", json!("other")),
        ("dateTimeCreated", json!("2025-01-23T12:23:45.222Z")),
        ("dateTimeUpdated", json!(at)),
    ] {
        let refused = platform.put("/parties/acme", &with(changed.json.clone(), name, value)).await;
        assert_eq!((refused.status, refused.errors()), (400, vec![(format!("/{name}").as_str(), "read_only")]), "{name}");
    }
    for (body, error) in [
        (without(changed.json.clone(), "version"), ("/version", "missing")),
        (without(changed.json.clone(), "displayName"), ("/displayName", "missing")),
        (without(changed.json.clone(), "country"), ("/country", "missing")),
        (with(changed.json.clone(), "country", "UK"), ("/country", "unknown_country")),
        (with(changed.json.clone(), "status", "gone"), ("/status", "unknown_status")),
        (with(changed.json.clone(), "version", "2"), ("/version", "wrong_type")),
        (with(changed.json.clone(), "payoutInstruments", json!([])), ("/payoutInstruments", "unknown_field")),
    ] {
        assert_eq!(platform.put("/parties/acme", &body).await.errors(), [error], "{body}");
    }
    assert_eq!(platform.put("/parties/nobody", &changed.json).await.problem(), "not-found");
    assert_eq!(platform.get("/parties/acme").await.json, changed.json, "nothing of all that was written");
}

#[tokio::test]
async fn a_party_reference_is_used_once() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let body = with(party("acme"), "payoutInstruments", json!([instrument("a"), instrument("b c")]));
    let replies = join_all((0..20).map(|_| platform.post("/parties", &body))).await;
    assert!(replies.iter().all(|reply| reply.status == 201 && reply.json == replies[0].json), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count(), 1);

    for other in [
        party("acme"),
        with(body.clone(), "country", "DE"),
        with(body.clone(), "displayName", "Acme"),
        with(body.clone(), "payoutInstruments", json!([instrument("a"), with(instrument("b c"), "beneficiaryName", "John Smyth")])),
    ] {
        let refused = platform.post("/parties", &other).await;
        assert_eq!((refused.status, refused.problem()), (422, "reference-conflict"), "{other}");
    }
    // A replay shows what became of it, under whatever the request had said.
    let instruments = replies[0].json["payoutInstruments"].clone();
    platform.put("/parties/acme", &json!({ "displayName": "Acme Ltd", "country": "DE", "version": 1 })).await;
    platform.post("/parties/acme/payoutInstruments", &instrument("later")).await;
    let again = platform.post("/parties", &body).await;
    assert_eq!(
        (again.header("idempotency-replayed"), &again.json["displayName"], &again.json["version"]),
        (Some("true"), &json!("Acme Ltd"), &json!(2))
    );
    assert_eq!(again.json["payoutInstruments"], instruments);

    // A reference that cannot be an id leads to one, always the same, and keeps its own spelling.
    let named = platform.post("/parties", &party("Acme & Sons, Łódź")).await;
    let id = named.json["partyId"].as_str().unwrap();
    assert!(id.starts_with("par_") && id.len() == 30, "{id}");
    assert_eq!(named.json["partyReference"], "Acme & Sons, Łódź");
    assert_eq!(platform.get(named.header("location").unwrap()).await.json, named.json);
    let again = platform.post("/parties", &party("Acme & Sons, Łódź")).await;
    assert_eq!((again.header("idempotency-replayed"), &again.json), (Some("true"), &named.json));
    // Somebody who takes that id for a reference gets neither it nor one of its own.
    assert_eq!(platform.post("/parties", &party(id)).await.problem(), "reference-conflict");
}

/// A party comes with its instruments or not at all, and each wrong field is named where it stands.
#[tokio::test]
async fn a_party_is_made_whole_or_not_at_all() {
    let installation = Installation::with(Plan { ingress: json!({ "instruments_max": 2 }), ..Plan::default() }).await;
    let platform = platform(&installation).await;
    let list = |items: &[Value]| with(party("acme"), "payoutInstruments", items);
    for (body, errors) in [
        (without(party("acme"), "partyReference"), vec![("/partyReference", "missing")]),
        (party(""), vec![("/partyReference", "empty")]),
        (party(&"x".repeat(65)), vec![("/partyReference", "too_long")]),
        (with(party("acme"), "displayName", "a\nb"), vec![("/displayName", "control_characters")]),
        (with(party("acme"), "country", "gb"), vec![("/country", "unknown_country")]),
        (with(party("acme"), "status", "inactive"), vec![("/status", "unknown_field")]),
        (with(party("acme"), "payoutInstruments", json!({})), vec![("/payoutInstruments", "wrong_type")]),
        (list(&[json!(1)]), vec![("/payoutInstruments/0", "wrong_type")]),
        (list(&[instrument("a"), instrument("a")]), vec![("/payoutInstruments/1/payoutInstrumentReference", "duplicate")]),
        (list(&[instrument("a"), instrument("b"), instrument("c")]), vec![("/payoutInstruments", "too_many")]),
        (
            list(&[instrument("a"), with(instrument("b/c"), "destination", json!({ "type": "iban", "iban": "GB00", "note": 1 }))]),
            vec![
                ("/payoutInstruments/1/payoutInstrumentReference", "invalid"),
                ("/payoutInstruments/1/destination/iban", "iban_check_digits"),
                ("/payoutInstruments/1/destination/note", "unknown_field"),
            ],
        ),
    ] {
        let refused = platform.post("/parties", &body).await;
        assert_eq!((refused.status, refused.errors()), (400, errors), "{body}");
    }
    assert_eq!(platform.get("/parties/acme").await.problem(), "not-found");
    assert_eq!(platform.get("/parties/acme/payoutInstruments").await.problem(), "not-found");
    let made = platform.post("/parties", &list(&[instrument("b"), instrument("a")])).await;
    assert_eq!(made.status, 201, "{made:?}");
    let listed = platform.get("/parties/acme/payoutInstruments").await;
    let references = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["payoutInstrumentReference"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(references(&made.json["payoutInstruments"]), ["b", "a"], "as they were asked for");
    assert_eq!(references(&listed.json["payoutInstruments"]), ["a", "b"], "by their names");

    // No more than it can have; the same again is no more.
    let full = platform.post("/parties/acme/payoutInstruments", &instrument("c")).await;
    assert_eq!((full.status, full.problem()), (409, "instruments-full"));
    let again = platform.post("/parties/acme/payoutInstruments", &instrument("a")).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, Some("true")), "{again:?}");
}

#[tokio::test]
async fn an_instrument_is_made_and_changed_and_never_shown_whole() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    platform.post("/parties", &party("acme")).await;
    let path = "/parties/acme/payoutInstruments";
    let made = platform.post(path, &instrument("GBP account")).await;
    let own = "/parties/acme/payoutInstruments/GBP%20account";
    assert_eq!((made.status, made.header("location")), (201, Some(own)), "{made:?}");
    let at = made.json["dateTimeCreated"].clone();
    let expected = json!({
        "payoutInstrumentReference": "GBP account", "currency": "GBP", "destinationType": "iban", "destinationMasked": "GB33…5555",
        "beneficiaryNameMasked": "J…", "version": 1, "dateTimeCreated": at, "dateTimeUpdated": at,
    });
    assert_eq!(made.json, expected);
    assert_eq!(platform.get(own).await.json, expected);
    assert_eq!(platform.get(path).await.json, json!({ "payoutInstruments": [expected] }));

    // Made once: the same again is a replay, spelled otherwise too, and anything else a conflict.
    let respelled = json!({ "destination": { "iban": GB, "type": "iban" }, "currency": "GBP", "beneficiaryName": "John Smith", "payoutInstrumentReference": "GBP account" });
    let again = platform.post(path, &respelled).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json), (201, Some("true"), &expected), "{again:?}");
    for other in [
        with(instrument("GBP account"), "beneficiaryName", "John Smyth"),
        with(with(instrument("GBP account"), "currency", "EUR"), "destination", json!({ "type": "iban", "iban": NL })),
        with(instrument("GBP account"), "destination", json!({ "type": "iban", "iban": OTHER_GB })),
    ] {
        let refused = platform.post(path, &other).await;
        assert_eq!((refused.status, refused.problem()), (422, "reference-conflict"), "{other}");
    }

    // The name alone, then where the money goes; what is left out stays.
    let stored = async || {
        let reference = InstrumentReference::parse("GBP account").unwrap();
        let instrument = installation.store.instrument(&PartyId::parse("acme").unwrap(), Mode::Test, &reference).await.unwrap().unwrap();
        serde_json::to_value(instrument.payee).unwrap()
    };
    let renamed = platform.put(own, &with(expected.clone(), "beneficiaryName", "Mary Smith")).await;
    assert_eq!((renamed.status, &renamed.json["beneficiaryNameMasked"], &renamed.json["version"]), (200, &json!("M…"), &json!(2)), "{renamed:?}");
    assert_eq!(stored().await, json!({ "name": "Mary Smith", "destination": { "type": "iban", "iban": GB } }));
    let to = json!({ "type": "sort_code_account_number", "sort_code": "12-34-56", "account_number": "12345678" });
    let moved = platform.put(own, &json!({ "version": 2, "destination": to })).await;
    let shown = (&moved.json["destinationType"], &moved.json["destinationMasked"], &moved.json["version"]);
    assert_eq!((moved.status, shown), (200, (&json!("sort_code_account_number"), &json!("…5678"), &json!(3))), "{moved:?}");
    assert_eq!(stored().await["name"], "Mary Smith");
    let again = platform.put(own, &json!({ "version": 2, "destination": to })).await;
    assert_eq!((again.status, again.header("idempotency-replayed"), &again.json), (200, Some("true"), &moved.json));
    let stale = platform.put(own, &json!({ "version": 2, "destination": { "type": "iban", "iban": GB } })).await;
    assert_eq!((stale.status, stale.problem()), (409, "version-stale"));
    let same = platform.put(own, &moved.json).await;
    assert_eq!((same.status, &same.json), (200, &moved.json), "{same:?}");
    // The request that made it still made it.
    assert_eq!(platform.post(path, &instrument("GBP account")).await.json, moved.json);

    for (name, value) in [
        ("payoutInstrumentReference", "other"),
        ("currency", "EUR"),
        ("destinationType", "iban"),
        ("destinationMasked", "GB33…5555"),
        ("beneficiaryNameMasked", "J…"),
        ("dateTimeCreated", "2025-01-23T12:23:45.222Z"),
        ("dateTimeUpdated", "2025-01-23T12:23:45.222Z"),
    ] {
        let refused = platform.put(own, &with(with(moved.json.clone(), "beneficiaryName", "X Y"), name, value)).await;
        assert_eq!((refused.status, refused.errors()), (400, vec![(format!("/{name}").as_str(), "read_only")]), "{name}");
    }
    for (body, error) in [
        (json!({ "destination": to }), ("/version", "missing")),
        (json!({ "version": 3, "destination": { "type": "iban", "iban": NL } }), ("/destination", "not_reachable")),
        (json!({ "version": 3, "destination": { "type": "wallet" } }), ("/destination/type", "unknown")),
        (json!({ "version": 3, "destination": {} }), ("/destination/type", "missing")),
        (json!({ "version": 3, "destination": GB }), ("/destination", "wrong_type")),
        (json!({ "version": 3, "beneficiaryName": " X" }), ("/beneficiaryName", "white_space")),
        (json!({ "version": 3, "status": "inactive" }), ("/status", "unknown_field")),
    ] {
        assert_eq!(platform.put(own, &body).await.errors(), [error], "{body}");
    }
    assert_eq!(platform.get(own).await.json, moved.json, "nothing of all that was written");

    let (new, change) = (instrument("x").to_string(), json!({ "version": 1 }).to_string());
    for (method, path, body) in [
        (Method::GET, "/parties/acme/payoutInstruments/other", ""),
        (Method::PUT, "/parties/acme/payoutInstruments/other", &change),
        (Method::GET, "/parties/acme/payoutInstruments/a.b", ""),
        (Method::GET, "/parties/nobody/payoutInstruments/GBP%20account", ""),
        (Method::POST, "/parties/nobody/payoutInstruments", &new),
    ] {
        let reply = platform.send_bytes(method.clone(), path, body.to_owned(), &[]).await;
        assert_eq!((reply.status, reply.problem()), (404, "not-found"), "{method} {path}");
    }
}

/// Every kind of destination is read in its JSON form, for currencies that reach it, and shown masked.
#[tokio::test]
async fn every_kind_of_destination_can_be_an_instrument() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    platform.post("/parties", &party("acme")).await;
    let path = "/parties/acme/payoutInstruments";
    let kinds = [
        ("EUR", json!({ "type": "iban", "iban": NL }), "NL91…4300"),
        ("GBP", json!({ "type": "sort_code_account_number", "sort_code": "123456", "account_number": "12345678" }), "…5678"),
        (
            "USD",
            json!({ "type": "routing_number_account_number", "routing_number": "021000021", "account_number": "87654321", "account_type": "savings" }),
            "…4321",
        ),
        ("GBP", json!({ "type": "card", "number": "4444333322221111", "expiry": "2031-05" }), "…1111"),
        ("GBP", json!({ "type": "card_token", "token": "https://try.access.worldpay.com/tokens/MTIz" }), "…"),
        ("GBP", json!({ "type": "network_token", "number": "4917610000000000003", "expiry": "2031-05" }), "…0003"),
        ("GBP", json!({ "type": "apple_pay", "number": "5555555555554444", "expiry": "2031-05" }), "…4444"),
        ("EUR", json!({ "type": "own_account" }), "own account"),
    ];
    for (currency, destination, masked) in kinds {
        let kind = destination["type"].clone();
        let body = with(with(instrument(kind.as_str().unwrap()), "destination", destination), "currency", currency);
        let made = platform.post(path, &body).await;
        assert_eq!((made.status, &made.json["destinationMasked"], &made.json["destinationType"]), (201, &json!(masked), &kind), "{made:?}");
    }
    for (currency, destination) in [
        ("GBP", json!({ "type": "iban", "iban": NL })),
        ("EUR", json!({ "type": "sort_code_account_number", "sort_code": "123456", "account_number": "12345678" })),
    ] {
        let body = with(with(instrument("x"), "destination", destination), "currency", currency);
        assert_eq!(platform.post(path, &body).await.errors(), [("/destination", "not_reachable")], "{body}");
    }
    assert_eq!(platform.post(path, &without(instrument("x"), "destination")).await.errors(), [("/destination", "missing")]);
}

/// From the answer to `DELETE` on no payout of the party is opened, singly or in a batch; what is open goes on, and all of it can be read.
#[tokio::test]
async fn an_inactive_party_is_not_paid_out_for() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let shop = installation.caller("shop").await;
    platform.post("/parties", &party("shop")).await;
    let open = payout(&transaction());
    assert_eq!(shop.post("/v1/payouts", &open).await.status, 202);
    let accepted = json!({ "batch_id": transaction(), "items": [payout(&transaction()), open] });
    let accepted_at = shop.post("/v1/payouts/batches", &accepted).await;
    assert_eq!(accepted_at.status, 202);

    for _ in 0..2 {
        let deactivated = platform.delete("/parties/shop").await;
        assert_eq!((deactivated.status, deactivated.text.as_str()), (204, ""));
    }
    let party = platform.get("/parties/shop").await;
    assert_eq!((&party.json["status"], &party.json["version"]), (&json!("inactive"), &json!(2)), "once");

    let refused = payout(&transaction());
    let reply = shop.post("/v1/payouts", &refused).await;
    assert_eq!((reply.status, reply.problem()), (409, "party-inactive"), "{reply:?}");
    let batch = json!({ "batch_id": transaction(), "items": [payout(&transaction())] });
    assert_eq!(shop.post("/v1/payouts/batches", &batch).await.problem(), "party-inactive");
    // A batch that was accepted before tells of each item; one that was open is still that one.
    while installation.expand().await.unwrap() > 0 {}
    let items = shop.get(&format!("{}/items", accepted_at.header("location").unwrap())).await;
    let results: Vec<_> = items.json["results"].as_array().unwrap().iter().map(|item| item["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["inactive", "replayed"], "{items:?}");
    assert_eq!(items.json["results"][0]["problem"]["type"], "urn:payrelay:problem:party-inactive");
    let again = shop.post("/v1/payouts/batches", &accepted).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")), "{again:?}");
    // What is open is as it was, for reading and for taking back.
    let again = shop.post("/v1/payouts", &open).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")), "{again:?}");
    let path = format!("/v1/payouts/{}", open["transaction_id"].as_str().unwrap());
    assert_eq!(shop.get(&path).await.status, 200);
    assert_eq!(shop.get("/v1/payouts").await.json["results"].as_array().unwrap().len(), 1);
    assert_eq!(shop.post_bytes(&format!("{path}/cancel"), "", &[]).await.json["result"]["status"], "canceled");
    // The other mode knows nothing of it.
    assert!(installation.store.is_active(&PartyId::parse("shop").unwrap(), Mode::Live).await.unwrap());

    let back = platform.put("/parties/shop", &with(party.json.clone(), "status", "active")).await;
    assert_eq!((back.status, &back.json["status"], &back.json["version"]), (200, &json!("active"), &json!(3)), "{back:?}");
    let now = shop.post("/v1/payouts", &refused).await;
    assert_eq!((now.status, now.header("idempotency-replayed")), (202, None), "the refusal has not used the key: {now:?}");
    // A change of something else does not wake a party up.
    platform.delete("/parties/shop").await;
    let renamed = platform.put("/parties/shop", &json!({ "displayName": "Shop", "country": "GB", "version": 4 })).await;
    assert_eq!((&renamed.json["status"], &renamed.json["version"]), (&json!("inactive"), &json!(5)), "{renamed:?}");
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.problem(), "party-inactive");
}

#[tokio::test]
async fn changes_at_the_same_time_are_made_one_at_a_time() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    platform.post("/parties", &with(party("acme"), "payoutInstruments", json!([instrument("a")]))).await;
    let whole = json!({ "version": 1, "displayName": "Acme & Sons", "country": "GB" });
    for (path, base, name) in
        [("/parties/acme", whole, "displayName"), ("/parties/acme/payoutInstruments/a", json!({ "version": 1 }), "beneficiaryName")]
    {
        let bodies: Vec<Value> = (0..10).map(|number| with(base.clone(), name, format!("{number} Ltd"))).collect();
        let replies = join_all(bodies.iter().map(|body| platform.put(path, body))).await;
        let made: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
        assert_eq!(made.len(), 1, "{replies:?}");
        assert_eq!((&made[0].json["version"], &platform.get(path).await.json), (&json!(2), &made[0].json));
        assert!(replies.iter().all(|reply| reply.status == 200 || reply.problem() == "version-stale"), "{replies:?}");
    }
}

#[tokio::test]
async fn a_key_of_a_party_reads_its_own_and_changes_nothing() {
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    for name in ["shop", "other"] {
        platform.post("/parties", &with(party(name), "payoutInstruments", json!([instrument("a")]))).await;
    }
    let shop = installation.caller("shop").await;
    let paths =
        |party: &str| [format!("/parties/{party}"), format!("/parties/{party}/payoutInstruments"), format!("/parties/{party}/payoutInstruments/a")];
    for path in paths("shop") {
        assert_eq!(shop.get(&path).await.json, platform.get(&path).await.json, "{path}");
    }
    for path in paths("other").iter().chain(&paths("nobody")) {
        let reply = shop.get(path).await;
        assert_eq!((reply.status, reply.problem()), (404, "not-found"), "{path}");
    }
    let writes = |party: &str| {
        let [own, list, one] = paths(party);
        [(Method::PUT, own.clone()), (Method::DELETE, own), (Method::POST, list), (Method::PUT, one)]
    };
    let body = json!({ "version": 1, "displayName": "x", "country": "GB" }).to_string();
    for (party, status, problem) in [("shop", 403, "missing-scope"), ("other", 404, "not-found"), ("nobody", 404, "not-found")] {
        for (method, path) in writes(party) {
            let reply = shop.send_bytes(method.clone(), &path, body.clone(), &[]).await;
            assert_eq!((reply.status, reply.problem()), (status, problem), "{method} {path}");
        }
    }
    assert_eq!(shop.post("/parties", &self::party("shop")).await.problem(), "missing-scope");

    // Neither does a key of the platform without the scope.
    let reader = installation.caller_with(|key| key.scopes = [Scope::PartiesRead].into()).await;
    let stranger = installation.caller_with(|key| key.scopes.retain(|scope| !scope.name().starts_with("parties."))).await;
    for path in paths("shop") {
        assert_eq!((reader.get(&path).await.status, stranger.get(&path).await.problem()), (200, "missing-scope"), "{path}");
    }
    for (method, path) in writes("shop").into_iter().chain([(Method::POST, "/parties".to_owned())]) {
        for caller in [&reader, &stranger] {
            assert_eq!(caller.send_bytes(method.clone(), &path, body.clone(), &[]).await.problem(), "missing-scope", "{method} {path}");
        }
    }

    // What a test key makes, a live key never sees; and it may have the same names.
    let live = installation.caller_with(|key| key.mode = Mode::Live).await;
    for path in paths("shop") {
        assert_eq!(live.get(&path).await.problem(), "not-found", "{path}");
    }
    let made = live.post("/parties", &with(self::party("shop"), "country", "DE")).await;
    assert_eq!((made.status, made.header("idempotency-replayed")), (201, None), "{made:?}");
    assert_eq!(live.delete("/parties/shop").await.status, 204);
    assert_eq!(
        (&platform.get("/parties/shop").await.json["country"], &platform.get("/parties/shop").await.json["status"]),
        (&json!("GB"), &json!("active"))
    );
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
}

/// The duty to sign covers whatever changes a destination. Where the path says whose it is, the path is signed too.
#[tokio::test]
async fn destinations_are_changed_by_signed_requests_only() {
    let installation = Installation::start().await;
    let (signer, registered) = signing_key("kid-1");
    let platform = installation
        .caller_with(|key| {
            key.must_sign = true;
            key.signing_keys = vec![registered];
        })
        .await;
    let of_body = |body: &str| signer.sign_body(body.as_bytes(), None).unwrap();
    let of_request = |method: &Method, path: &str, body: &str| {
        let method = axum::http::Method::from_bytes(method.as_str().as_bytes()).unwrap();
        signer.sign_request(&method, path, &[], body.as_bytes(), None).unwrap()
    };

    for name in ["shop", "other"] {
        let body = with(party(name), "payoutInstruments", json!([instrument("a")])).to_string();
        assert_eq!(platform.post_bytes("/parties", body.clone(), &[]).await.problem(), "signature-missing");
        let made = platform.post_bytes("/parties", body.clone(), &[("X-TL-Signature", &of_body(&body))]).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let list = "/parties/shop/payoutInstruments";
    let one = "/parties/shop/payoutInstruments/a";
    let change = json!({ "version": 1, "destination": { "type": "iban", "iban": OTHER_GB } }).to_string();
    for (method, path, elsewhere, body, status) in [
        (Method::POST, list, "/parties/other/payoutInstruments", instrument("b").to_string(), 201),
        (Method::PUT, one, "/parties/other/payoutInstruments/a", change, 200),
    ] {
        let send = async |headers: &[(&str, &str)]| platform.send_bytes(method.clone(), path, body.clone(), headers).await;
        assert_eq!(send(&[]).await.problem(), "signature-missing");
        assert_eq!(send(&[("X-TL-Signature", &of_body(&body))]).await.problem(), "signature-missing", "the body does not say whose it is");
        assert_eq!(send(&[("Tl-Signature", &of_request(&method, elsewhere, &body))]).await.problem(), "signature-invalid");
        assert_eq!(send(&[("Tl-Signature", &of_request(&method, path, "{}"))]).await.problem(), "signature-invalid");
        assert_eq!(send(&[("Tl-Signature", &of_request(&method, path, &body))]).await.status, status, "{method}");
    }
    assert_eq!(platform.get(one).await.json["destinationMasked"], "GB29…6819");
    // What moves nothing need not be signed.
    let named = platform.put("/parties/shop", &json!({ "displayName": "Shop", "country": "GB", "version": 1 })).await;
    assert_eq!((named.status, platform.delete("/parties/shop").await.status), (200, 204), "{named:?}");
}

/// I14: who is paid, and where, is in no answer, no log line and no plain text of the store; nor does a sealed record open in another's place.
#[tokio::test]
async fn nothing_about_a_beneficiary_is_shown_logged_or_stored_in_plain() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let installation = Installation::start().await;
    let platform = platform(&installation).await;
    let body = with(party("Łódź & Sons"), "payoutInstruments", json!([instrument("a"), with(instrument("b"), "beneficiaryName", "Mary Lamb")]));
    let made = platform.post("/parties", &body).await;
    let path = made.header("location").unwrap().to_owned();
    let (list, one) = (format!("{path}/payoutInstruments"), format!("{path}/payoutInstruments/a"));
    // An unknown field is named in the answer, whatever its name is, and nowhere else.
    platform.post("/parties", &with(body.clone(), GB, "John Smith")).await;
    let mut answers = String::new();
    let change =
        json!({ "version": 1, "beneficiaryName": "Peter Pan", "destination": { "type": "card", "number": "4444333322221111", "expiry": "2031-05" } });
    for reply in [
        platform.post("/parties", &body).await,
        platform.post("/parties", &with(body.clone(), "country", "DE")).await,
        platform.post("/parties", &with(body.clone(), "country", "John Smith")).await,
        platform.post(&list, &with(instrument("c"), "destination", json!({ "type": "iban", "iban": "GB34BUKB20201555555555" }))).await,
        platform.post(&list, &with(instrument("John Smith!"), "currency", GB)).await,
        platform.post(&list, &with(instrument("a"), "beneficiaryName", "Mary Lamb")).await,
        platform.put(&one, &with(change.clone(), "destinationMasked", GB)).await,
        platform.put(&one, &change).await,
        platform.put(&one, &with(change.clone(), "version", 7)).await,
        platform.get(&one).await,
        platform.get(&list).await,
        platform.get(&format!("{list}/John%20Smith")).await,
        platform.get(&path).await,
    ] {
        answers += &reply.text;
    }
    let id = made.json["partyId"].as_str().unwrap();
    let shard = installation.store.shards().of(&PartyId::parse(id).unwrap(), Mode::Test).tag();
    let key = format!("t:{{{shard}}}:pa:{id}:test");
    let stored = installation.redis.say(&["HGETALL", &key]);
    assert!(stored.contains("i:a") && stored.contains("v:b"), "{stored}");
    for (what, text) in [("answers", &answers), ("the log", &log.text()), ("the store", &stored)] {
        for secret in ["GB33BUKB", "GB34", "John", "Smith", "Mary", "Peter", "44443333"] {
            assert!(!text.contains(secret), "{secret} in {what}: {text}");
        }
    }
    // What the platform calls a party is for the platform.
    for (what, text) in [("the log", &log.text()), ("the store", &stored)] {
        assert!(!text.contains("Łódź") && !text.contains("Acme"), "{what}: {text}");
    }
    assert!(log.text().contains("reference-conflict") && log.text().contains(id));

    // Somebody who can write to the store can still not make one instrument of another, nor of another party.
    let swap =
        "local a = redis.call('HGET', KEYS[1], 'i:a') redis.call('HSET', KEYS[1], 'i:a', redis.call('HGET', KEYS[1], 'i:b'), 'i:b', a) return 1";
    installation.redis.say(&["EVAL", swap, "1", &key]);
    for path in [&one, &list] {
        let reply = platform.get(path).await;
        assert_eq!((reply.status, reply.problem()), (500, "internal"), "{path}");
    }
}

/// A key that is bound to a party needs no record of it, and nor do its payouts.
#[tokio::test]
async fn a_party_without_a_record_is_paid_out_for() {
    let installation = Installation::start().await;
    let shop = installation.caller_with(|key| key.reach = Reach::Party(PartyId::parse("shop").unwrap())).await;
    assert_eq!(shop.get("/parties/shop").await.problem(), "not-found");
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    // It can be given one later, and has its payouts still.
    let platform = platform(&installation).await;
    assert_eq!(platform.post("/parties", &party("shop")).await.status, 201);
    assert_eq!(shop.get("/v1/payouts").await.json["results"].as_array().unwrap().len(), 1);
}

/// The platform sees all parties of its mode by name, page by page, whichever shard they live in.
#[tokio::test]
async fn the_platform_lists_parties() {
    let installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    let mut names: Vec<String> = (0..25).map(|n| format!("party-{n:02}")).collect();
    for name in names.iter().rev() {
        let body = json!({ "partyReference": name, "displayName": "A party", "country": "GB" });
        assert_eq!(platform.post("/parties", &body).await.status, 201);
    }
    assert_eq!(platform.request(reqwest::Method::DELETE, "/parties/party-07").send().await.unwrap().status(), 204);
    let listed = async |query: &str| {
        let (mut found, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = platform.get(&format!("/parties?limit=10{query}{cursor}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let parties = page.json["parties"].as_array().unwrap();
            assert!(parties.len() <= 10 && parties.iter().all(|party| party.get("payoutInstruments").is_none()));
            found.extend(parties.iter().map(|party| party["partyId"].as_str().unwrap().to_owned()));
            pages += 1;
            match page.json["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return (found, pages),
            }
        }
    };
    assert_eq!(listed("").await, (names.clone(), 3));
    assert_eq!(listed("&status=inactive").await, (vec![names.remove(7)], 1));
    assert_eq!(listed("&status=active").await, (names, 3));
    for query in ["status=gone", "cursor=!", "limit=0", "page=2"] {
        assert_eq!(platform.get(&format!("/parties?{query}")).await.problem(), "invalid-parameters", "{query}");
    }
    let own = installation.caller("party-01").await.get("/parties").await;
    assert_eq!((own.status, own.problem()), (403, "missing-scope"), "{own:?}");
}
