//! Why a payout of a balance is refused at once: each documented reason, and the way in which the platform sets its cause.

use super::*;

/// One request under one key, again and again.
async fn ask(shop: &Shop, key: &str) -> Reply {
    shop.acme.post_bytes(PAYOUTS, shop.body(Some("1.00")).to_string(), &[("Idempotency-Key", key)]).await
}

/// It is refused by that code, as often as it is asked for, and nothing is written.
async fn is_refused(shop: &Shop, code: &str) {
    let before = shop.acme.get(PAYOUTS).await.json["count"].clone();
    for _ in 0..2 {
        let reply = ask(shop, code).await;
        assert_eq!(refusal(&reply), (422, code.to_owned(), None), "{reply:?}");
        assert_eq!(reply.json["title"], "Unprocessable Entity");
    }
    assert_eq!(shop.acme.get(PAYOUTS).await.json["count"], before);
}

/// Its cause is gone, and so its key pays: it was free.
async fn is_paid(shop: &Shop, code: &str) {
    let paid = ask(shop, code).await;
    assert_eq!((paid.status, paid.header("idempotency-replayed")), (201, None), "{code}: {paid:?}");
    assert_eq!(shop.cancel(&paid.json).await.status, 200);
}

#[tokio::test]
async fn every_reason_has_a_code_and_a_cause() {
    let shop = Shop::with(1_000).await;

    let first = shop.asked(Some("1.00")).await;
    is_refused(&shop, "already_scheduled").await;
    shop.cancel(&first).await;
    is_paid(&shop, "already_scheduled").await;

    let all = json!({ "transaction_id": transaction(), "amount_in_minor": 950, "currency": "EUR", "context_code": "withdrawal",
        "beneficiary_name": "John Smith", "beneficiary_reference": "x", "beneficiary_iban": "NL91ABNA0417164300" });
    assert_eq!(shop.acme.post("/v1/payouts", &all).await.json["result"]["status"], "requested");
    is_refused(&shop, "insufficient_funds").await;
    shop.acme.post(&format!("/v1/payouts/{}/cancel", all["transaction_id"].as_str().unwrap()), &json!({})).await;
    is_paid(&shop, "insufficient_funds").await;

    shop.change(json!({ "status": "disabled" })).await;
    is_refused(&shop, "balance_inactive").await;
    assert_eq!(shop.acme.get("/v2/balances/primary").await.json["status"], "inactive");
    shop.change(json!({ "status": "enabled" })).await;
    is_paid(&shop, "balance_inactive").await;

    assert_eq!(shop.platform.delete("/parties/acme").await.status / 100, 2);
    is_refused(&shop, "payouts_blocked").await;
    let party = shop.platform.get("/parties/acme").await.json;
    let active = json!({ "version": party["version"], "displayName": "Acme & Sons", "country": "NL", "status": "active" });
    let active = shop.platform.put("/parties/acme", &active).await;
    assert_eq!(active.status, 200, "{active:?}");
    is_paid(&shop, "payouts_blocked").await;

    shop.change(json!({ "queued_refunds_in_minor": 1 })).await;
    is_refused(&shop, "queued_refunds").await;
    shop.change(json!({ "queued_refunds_in_minor": 0 })).await;
    is_paid(&shop, "queued_refunds").await;

    // Another balance of the party: one that its provider funds is as far below zero as was paid out of it.
    assert_eq!(shop.acme.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    is_paid(&shop, "without a threshold it may be below zero").await;
    shop.change_of("GBP", json!({ "negative_threshold_in_minor": 9_999 })).await;
    is_refused(&shop, "below_threshold").await;
    shop.change_of("GBP", json!({ "negative_threshold_in_minor": null })).await;
    is_paid(&shop, "a threshold that was taken back").await;
    shop.change_of("GBP", json!({ "negative_threshold_in_minor": 10_000 })).await;
    is_paid(&shop, "below_threshold").await;
    let shown = shop.acme.get("/v1/balances/GBP").await.json["result"].clone();
    assert_eq!((&shown["negative_threshold_in_minor"], &shown["available_balance_in_minor"]), (&json!(10_000), &json!(-10_000)));
}

/// Without any, with one that no configured provider pays to, and with one that it does.
#[tokio::test]
async fn a_balance_needs_a_destination_that_can_be_paid_to() {
    let installation = Installation::start().await;
    let platform = installation.caller_with(|_| {}).await;
    let acme = installation.caller("acme").await;
    let card = json!({ "type": "card", "number": "4444333322221111", "expiry": "2031-05" });
    let body = json!({
        "partyReference": "acme", "displayName": "Acme & Sons", "country": "NL",
        "payoutInstruments": [{ "payoutInstrumentReference": "main", "currency": "EUR", "beneficiaryName": "John Smith", "destination": card }],
        "balanceAccounts": [{ "currency": "EUR" }],
    });
    let made = platform.post("/parties", &body).await.json["balanceAccounts"][0].clone();
    let balance = made["balanceAccountId"].as_str().unwrap().to_owned();
    let top_up = json!({ "transaction_id": transaction(), "party_id": "acme", "currency": "EUR", "amount_in_minor": 500 });
    assert_eq!(platform.post("/v1/top-ups", &top_up).await.status, 201);
    let is_refused = async || {
        for amount in [Value::Null, json!({ "currency": "EUR", "value": "1.00" })] {
            let reply = acme.post(PAYOUTS, &json!({ "balanceId": balance, "amount": amount })).await;
            assert_eq!(refusal(&reply), (422, "destination_invalid".to_owned(), None), "{reply:?}");
            assert!(["1111", "John"].iter().all(|secret| !reply.text.contains(secret)), "{reply:?}");
        }
    };
    is_refused().await;
    let at = format!("/parties/acme/balanceAccount/{balance}");
    let set = platform.put(&at, &json!({ "version": 1, "payoutInstrumentReference": "main" })).await;
    assert_eq!(set.status, 200, "{set:?}");
    is_refused().await;
    let iban = json!({ "version": 1, "destination": { "type": "iban", "iban": "NL91ABNA0417164300" } });
    let changed = platform.put("/parties/acme/payoutInstruments/main", &iban).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let paid = acme.post(PAYOUTS, &json!({ "balanceId": balance })).await;
    assert_eq!(paid.status, 201, "{paid:?}");
    // It goes where it was to go when it was accepted, whatever the instrument is by then.
    let other = json!({ "version": 2, "destination": { "type": "iban", "iban": "DE89370400440532013000" } });
    assert_eq!(platform.put("/parties/acme/payoutInstruments/main", &other).await.status, 200);
    let held = installation.store.beneficiary(id(&paid.json)).await.unwrap();
    assert_eq!(serde_json::to_value(&held.destination).unwrap()["iban"], "NL91ABNA0417164300");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_by_its_field() {
    let shop = Shop::with(1_000).await;
    let amount = |currency: Value, value: Value| json!({ "balanceId": shop.balance, "amount": { "currency": currency, "value": value } });
    for (body, field) in [
        (json!({}), "balanceId"),
        (json!({ "balanceId": "bal_gVMhHKqSSRYJyPsuoPNFH" }), "balanceId"),
        (json!({ "balanceId": format!("bal_{}", "0".repeat(28)) }), "balanceId"),
        (json!({ "balanceId": 1 }), "balanceId"),
        (amount(json!("EUR"), json!("10.001")), "amount.value"),
        (amount(json!("EUR"), json!("-1.00")), "amount.value"),
        (amount(json!("EUR"), json!("0.00")), "amount.value"),
        (amount(json!("EUR"), json!(10)), "amount.value"),
        (amount(json!("EUR"), Value::Null), "amount.value"),
        (amount(json!("GBP"), json!("1.00")), "amount.currency"),
        (amount(json!("eur"), json!("1.00")), "amount.currency"),
        (json!({ "balanceId": shop.balance, "amount": "10.00" }), "amount"),
        (json!({ "balanceId": shop.balance, "amount": { "currency": "EUR", "value": "1.00", "minor": 1 } }), "amount.minor"),
        (json!({ "balanceId": shop.balance, "reserve": 1 }), "reserve"),
    ] {
        let reply = shop.acme.post(PAYOUTS, &body).await;
        assert_eq!(refusal(&reply), (422, "invalid_fields".to_owned(), Some(field.to_owned())), "{body}");
    }
    let detail = shop.acme.post(PAYOUTS, &json!({ "balanceId": "x" })).await.json["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("The 'balanceId' field"), "{detail}");
    for (body, status, code) in [("", 400, "body_missing"), ("{", 400, "json_invalid"), ("[]", 400, "json_invalid")] {
        assert_eq!(refusal(&shop.acme.post_bytes(PAYOUTS, body, &[]).await), (status, code.to_owned(), None), "{body}");
    }
    let text = shop.acme.request(Method::POST, PAYOUTS).header("content-type", "text/plain").body("{}");
    assert_eq!(refusal(&shop.acme.send(text).await).0, 415);
    assert_eq!(refusal(&shop.acme.get("/v2/nothing").await).0, 404);
    assert_eq!(refusal(&shop.acme.patch(PAYOUTS, &json!({})).await).0, 405);
    assert_eq!(refusal(&Reply::of(shop.acme.http.get(format!("{}{PAYOUTS}", shop.acme.url))).await).0, 401);
    for id in ["payout_x", "po_00", "payout_j8NvRAM2WNZtsykpLEX8J", &format!("payout_{}", "f".repeat(28))] {
        assert_eq!(refusal(&shop.acme.get(&format!("{PAYOUTS}/{id}")).await), (404, "not_found".to_owned(), None), "{id}");
    }
    // The provider knows what is in it, and so the amount must be said.
    let pounds = json!({ "currency": "GBP", "payoutInstrumentReference": "pounds" });
    let instrument = json!({ "payoutInstrumentReference": "pounds", "currency": "GBP", "beneficiaryName": "John Smith",
        "destination": { "type": "iban", "iban": "GB33BUKB20201555555555" } });
    shop.platform.post("/parties/acme/payoutInstruments", &instrument).await;
    let made = shop.platform.post("/parties/acme/balanceAccount", &pounds).await.json;
    shop.change_of("GBP", json!({ "funding": "provider" })).await;
    let balance = &made["balanceAccountId"];
    assert_eq!(refusal(&shop.acme.post(PAYOUTS, &json!({ "balanceId": balance })).await).2.as_deref(), Some("amount"));
    let exact = shop.acme.post(PAYOUTS, &json!({ "balanceId": balance, "amount": { "currency": "GBP", "value": "1.00" } })).await;
    assert_eq!(exact.status, 201, "{exact:?}");
}
