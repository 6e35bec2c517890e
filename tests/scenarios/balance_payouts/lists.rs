//! Lists in pages, and balances as the seed's provider shows them.

use super::*;

fn ids(page: &Value) -> Vec<String> {
    page["_embedded"]["payouts"].as_array().unwrap().iter().map(|payout| payout["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn payouts_are_listed_in_pages_that_lead_to_each_other() {
    let shop = Shop::with(100_000).await;
    let mut asked = Vec::new();
    for n in 0..7 {
        let payout = shop.asked(Some("1.00")).await;
        asked.insert(0, payout["id"].as_str().unwrap().to_owned());
        if n < 6 {
            shop.cancel(&payout).await;
        }
    }
    // One in another currency, by the other route: it is a payout of the party all the same.
    let single = payout(&transaction());
    let pounds = shop.acme.post("/v1/payouts", &single).await.json["result"]["payout_id"].as_str().unwrap().replace("po_", "payout_");
    asked.insert(0, pounds.clone());

    let whole = shop.acme.get(PAYOUTS).await;
    assert_eq!((whole.status, whole.header("content-type")), (200, Some("application/hal+json")));
    assert_eq!((ids(&whole.json), &whole.json["count"]), (asked.clone(), &json!(8)));
    assert_eq!((&whole.json["_links"]["previous"], &whole.json["_links"]["next"]), (&Value::Null, &Value::Null));
    let first = &whole.json["_embedded"]["payouts"][1];
    assert_eq!(*first, shop.read(first).await, "each as it is read alone");

    let mut at = format!("{PAYOUTS}?limit=3");
    let (mut seen, mut pages) = (Vec::new(), Vec::new());
    loop {
        let page = shop.acme.get(&at).await.json;
        assert_eq!(page["count"], ids(&page).len());
        seen.extend(ids(&page));
        pages.push(page.clone());
        let own = page["_links"]["self"]["href"].as_str().unwrap();
        assert_eq!(shop.acme.get(own).await.json, page, "{own}");
        let Some(next) = page["_links"]["next"]["href"].as_str() else { break };
        at = next.to_owned();
    }
    assert_eq!((&seen, pages.len()), (&asked, 3));
    for (page, before) in pages.iter().skip(1).zip(&pages) {
        let previous = page["_links"]["previous"]["href"].as_str().unwrap();
        assert_eq!(ids(&shop.acme.get(previous).await.json), ids(before), "{previous}");
    }
    // A page begins with the payout that it is asked to begin with.
    assert_eq!(ids(&shop.acme.get(&format!("{PAYOUTS}?from={}&limit=2", asked[2])).await.json), asked[2..4]);
    let euros = shop.acme.get(&format!("{PAYOUTS}?balanceId={}&limit=2", shop.balance)).await.json;
    assert_eq!(ids(&euros), asked[1..3]);
    assert_eq!(ids(&shop.acme.get(euros["_links"]["next"]["href"].as_str().unwrap()).await.json), asked[3..5]);
    assert_eq!(ids(&shop.platform.get(&format!("{PAYOUTS}?party_id=acme&limit=1")).await.json), asked[..1]);
    let next = shop.platform.get(&format!("{PAYOUTS}?party_id=acme&limit=1")).await.json["_links"]["next"]["href"].as_str().unwrap().to_owned();
    assert_eq!(ids(&shop.platform.get(&next).await.json), asked[1..2], "it still names the party: {next}");

    let one = format!("{PAYOUTS}/{}", asked[1]);
    let (mut of_platform, of_party) = (shop.platform.get(&one).await.json, shop.acme.get(&format!("{one}?party_id=acme")).await.json);
    let balance = of_platform["_links"]["balance"]["href"].as_str().unwrap().to_owned();
    assert_eq!(shop.platform.get(&balance).await.status, 200, "it names the party: {balance}");
    of_platform["_links"]["balance"]["href"] = json!(balance.strip_suffix("?party_id=acme").unwrap());
    assert_eq!(of_platform, of_party);
    assert_eq!(refusal(&shop.platform.get(&format!("{one}?party_id=other")).await).0, 404);
    assert_eq!(refusal(&shop.platform.delete(&format!("{one}?party_id=other")).await).0, 404);

    let other = shop.installation.caller("other").await;
    assert_eq!(other.get(PAYOUTS).await.json["count"], 0);
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=251", "limit"),
        ("from=payout_x", "from"),
        (&format!("from=payout_{}", "0".repeat(28)), "from"),
        ("sort=asc", "sort"),
        ("balanceId=x", "balanceId"),
        ("page=2", "page"),
    ] {
        let reply = shop.acme.get(&format!("{PAYOUTS}?{query}")).await;
        assert_eq!(refusal(&reply), (400, "invalid_parameters".to_owned(), Some(field.to_owned())), "{query}");
    }
    let foreign = other.get(&format!("{PAYOUTS}?from={}", asked[0])).await;
    assert_eq!(refusal(&foreign).2.as_deref(), Some("from"), "a payout of somebody else is none");
    assert_eq!(shop.acme.get(&format!("{PAYOUTS}?limit=250&sort=desc")).await.status, 200);
}

#[tokio::test]
async fn balances_look_as_in_the_seed() {
    let shop = Shop::with(90_525).await;
    let at = format!("{BALANCES}/{}", shop.balance);
    let shown = shop.acme.get(&at).await;
    assert_eq!((shown.status, shown.header("content-type")), (200, Some("application/hal+json")), "{shown:?}");
    let amount = |value: &str| json!({ "currency": "EUR", "value": value });
    let expected = json!({
        "resource": "balance", "id": shop.balance, "mode": "test", "createdAt": shown.json["createdAt"], "currency": "EUR", "description": "EUR balance",
        "availableAmount": amount("905.25"), "pendingAmount": amount("0.00"), "transferFrequency": "daily", "transferThreshold": amount("0.00"),
        "reserve": amount("0.00"), "transferReference": null,
        "transferDestination": { "type": "bank-account", "beneficiaryName": "J…", "bankAccount": shown.json["transferDestination"]["bankAccount"] },
        "status": "active", "_links": { "self": { "href": at, "type": "application/hal+json" } },
    });
    assert_eq!(shown.json, expected);
    let destination = shown.json["transferDestination"]["bankAccount"].as_str().unwrap();
    assert!(!destination.contains("0417164300") && destination.ends_with("4300"), "{destination}");
    assert_eq!(shop.acme.get(&format!("{BALANCES}/primary")).await.json, shown.json);

    // One that nobody has set up, and below zero: its provider has paid for it.
    shop.acme.post("/v1/payouts", &payout(&transaction())).await;
    let list = shop.acme.get(BALANCES).await.json;
    let balances = list["_embedded"]["balances"].as_array().unwrap();
    let [euros, pounds] = balances.as_slice() else { panic!("{list}") };
    assert_eq!((&list["count"], euros), (&json!(2), &shown.json));
    assert_eq!(
        (&pounds["availableAmount"]["value"], &pounds["transferDestination"], &pounds["createdAt"]),
        (&json!("-100.00"), &Value::Null, &Value::Null)
    );
    assert_eq!(pounds["transferFrequency"], "never");
    let one = shop.acme.get(&format!("{BALANCES}?limit=1")).await.json;
    assert_eq!((&one["_embedded"]["balances"][0], &one["_links"]["previous"]), (euros, &Value::Null));
    let next = shop.acme.get(one["_links"]["next"]["href"].as_str().unwrap()).await.json;
    assert_eq!((&next["_embedded"]["balances"][0], &next["_links"]["next"]), (pounds, &Value::Null));
    assert_eq!(shop.acme.get(next["_links"]["previous"]["href"].as_str().unwrap()).await.json["_embedded"], one["_embedded"]);
    assert_eq!(shop.acme.get(&format!("{BALANCES}?currency=GBP")).await.json["_embedded"]["balances"], json!([pounds]));
    let other = shop.installation.caller("other").await;
    for path in [at.as_str(), "/v2/balances/primary", "/v2/balances/x"] {
        assert_eq!(refusal(&other.get(path).await), (404, "not_found".to_owned(), None));
    }
    let of_party = format!("{at}?party_id=acme");
    let mut of_platform = shop.platform.get(&of_party).await.json;
    assert_eq!(of_platform["_links"]["self"]["href"].take(), json!(of_party));
    of_platform["_links"]["self"]["href"] = json!(at);
    assert_eq!(of_platform, shown.json);
    for (query, field) in [("currency=eur", "currency"), ("from=x", "from"), (&format!("from=bal_{}", "0".repeat(28)), "from"), ("x=1", "x")] {
        assert_eq!(refusal(&shop.acme.get(&format!("{BALANCES}?{query}")).await).2.as_deref(), Some(field), "{query}");
    }
}
