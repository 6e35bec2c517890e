//! `payrelay doctor`: the real program, against the sandboxes.

use serde_json::Value;

use super::House;

#[tokio::test]
async fn every_configured_provider_is_looked_at() {
    let house = House::open().await;
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_payrelay"));
    let ended = command.arg("--config").arg(&house.local.config_file).args(["doctor", "--json"]).output().await.unwrap();
    let found: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let of_providers = found.as_array().unwrap().iter().filter(|finding| finding["area"] == "provider");
    let mut looked_at: Vec<_> = of_providers.map(|finding| (finding["what"].as_str().unwrap(), finding["state"].as_str().unwrap())).collect();
    looked_at.sort_unstable();
    let expected = [
        "providers.mollie_test.base_url",
        "providers.truelayer_test.auth_url",
        "providers.truelayer_test.base_url",
        "providers.truelayer_v3_test.auth_url",
        "providers.truelayer_v3_test.base_url",
        "providers.worldpay_account_test.access.base_url",
        "providers.worldpay_card_test.access.base_url",
    ];
    assert_eq!(looked_at, expected.map(|key| (key, "ok")), "{found:#}");
}
