//! The address at which all sandboxes are: its page, its ledgers, and Worldpay's discovery below a path.

use domain::fact::Provider;
use http::Method;
use payrelay::chaos;
use payrelay::local::order;
use providers::sandbox::mood::{Distribution, Mood};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{House, quick};

async fn get(url: &str, accept: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(url).header("accept", accept).send().await.unwrap().error_for_status().unwrap().text().await.unwrap()
}

async fn json_of(url: &str) -> Value {
    serde_json::from_str(&get(url, "application/json").await).unwrap()
}

#[tokio::test]
async fn the_page_lists_providers_moods_and_books() {
    let discover = |account: &str| format!("providers.{account}.access.discover = true\nproviders.{account}.access.discover_timeout_ms = 300\n");
    let keys = discover("worldpay_account_test") + &discover("worldpay_card_test");
    let house = House::with(chaos::SHORT, &keys, quick).await;
    let mut paid = Vec::new();
    for provider in Provider::ALL {
        let transaction = Uuid::new_v4();
        let mut body = order(provider, transaction, 500);
        // Somebody else's text on a page.
        body["beneficiary_reference"] = json!("A & B 204");
        house.local.caller.expect(Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
        house.becomes(transaction, &["settled", "authorised"]).await;
        paid.push((provider, house.id(transaction)));
    }
    house.becomes_paid(&paid).await;
    let url = &house.local.sandbox_url;
    let page = json_of(url).await;
    let names: Vec<_> = page["providers"].as_array().unwrap().iter().map(|provider| provider["provider"].as_str().unwrap()).collect();
    assert_eq!(names, Provider::ALL.map(Provider::name));
    assert_eq!(page["moods"].as_array().unwrap().len(), Mood::ALL.len());
    for (provider, id) in &paid {
        let shown = page["providers"].as_array().unwrap().iter().find(|shown| shown["provider"] == provider.name()).unwrap();
        assert_eq!((&shown["ledger"]["movements"], &shown["ledger"]["double_movements"]), (&json!(1), &json!(0)), "{provider:?}");
        let ledger = json_of(shown["ledger"]["href"].as_str().unwrap()).await;
        let of_ours = house.local.sandboxes.ledger_of(*provider).movements;
        assert_eq!(ledger["movements"].as_array().unwrap().len(), of_ours.len());
        assert!(of_ours.iter().all(|movement| movement.payout_and_attempt().map(|(payout, _)| payout) == Some(*id)), "{provider:?}");
        // Every mood that the page promises is one that the provider can be told.
        let moods = json_of(shown["admin"]["moods"].as_str().unwrap()).await;
        let told: Vec<_> = moods["moods"].as_array().unwrap().iter().map(|mood| mood["mood"].clone()).collect();
        assert_eq!(Value::from(told), shown["moods"]);
        // And the page says of each mood where it exists.
        let here = page["moods"].as_array().unwrap().iter().filter(|mood| mood["where"].as_array().unwrap().contains(&shown["provider"]));
        assert_eq!(here.map(|mood| mood["mood"].clone()).collect::<Value>(), shown["moods"], "{provider:?}");
    }
    assert_eq!(json_of(&format!("{url}/ledgers")).await["movements"].as_array().unwrap().len(), paid.len());
    let html = get(url, "text/html,application/xhtml+xml").await;
    for provider in Provider::ALL {
        assert!(html.contains(&format!("{url}{}", providers::sandbox::all::path(provider))), "{html}");
    }
    assert!(html.contains("<td>A &amp; B 204<td>") && html.contains("<code>lost-answer</code><td>10001<td>"), "{html}");
}

/// The same seed means the same moods at every provider, whoever is asked first; a provider is not told of a mood that it does not have.
#[tokio::test]
async fn orders_and_seeds() {
    let house = House::open().await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let tell = async |provider: Provider, body: Value| {
        let url = format!("{}/sandbox/moods", house.local.sandboxes.url(provider));
        client.post(url).body(body.to_string()).send().await.unwrap().status().as_u16()
    };
    for provider in Provider::ALL {
        assert_eq!(tell(provider, json!({ "next": 1, "mood": "refuse" })).await, 204);
        let expected = if provider.name().starts_with("worldpay") { 204 } else { 400 };
        assert_eq!(tell(provider, json!({ "next": 0, "mood": "interim" })).await, expected);
    }
    // Worldpay has one desk for both of its APIs, so the second order is the card's.
    for provider in Provider::ALL {
        let refused = Uuid::new_v4();
        house.local.caller.expect(Method::POST, "/v1/payouts", Some(&order(provider, refused, 500))).await.unwrap();
        assert_eq!(house.becomes(refused, &["rejected", "settled", "authorised"]).await, "rejected", "{provider:?}");
    }
    let distribution = Distribution { fault_percent: 50, seed: 7, moods: vec![Mood::DuplicateNotices, Mood::ShuffledNotices] };
    house.local.sandboxes.set_random(Some(&distribution));
    for provider in Provider::ALL {
        let transaction = Uuid::new_v4();
        house.local.caller.expect(Method::POST, "/v1/payouts", Some(&order(provider, transaction, 500))).await.unwrap();
        house.becomes(transaction, &["settled", "authorised"]).await;
        let key = domain::id::ProviderKey::derive(house.id(transaction), 1);
        let drawn = if provider.name().starts_with("worldpay") {
            distribution.draw(key.as_uuid().simple().to_string().as_bytes(), &Mood::ALL)
        } else {
            distribution.draw(key.as_uuid().as_bytes(), Mood::COMMON)
        };
        assert_eq!(house.local.sandboxes.mood(provider, key), Some(drawn), "{provider:?}");
    }
}
