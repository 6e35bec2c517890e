//! `payrelay reconcile`: the real program, against the sandboxes' lists.

use std::path::Path;
use std::time::{Duration, Instant};

use domain::destination::Beneficiary;
use domain::fact::{Answer, Provider};
use domain::id::{Mode, ProviderKey};
use domain::money::{Currency, Money};
use jiff::Timestamp;
use payrelay::config::Config;
use payrelay::local::order;
use providers::sandbox::all::All;
use providers::truelayer_v3::sandbox::ListFault;
use providers::{Order, Providers};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workers::reconcile::Kind;

use super::{House, PATIENCE, iban, quick, unhurried};

/// How the program ends, what it prints and what it says.
async fn reconcile(config: &Path, provider: &str, day: &str, more: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_payrelay"));
    command.arg("--config").arg(config).args(["reconcile", "--provider", provider, "--mode", "test", "--day", day]).args(more);
    let ended = command.envs(variables.iter().copied()).output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
}

async fn told(config: &Path, provider: &str, day: &str) -> (i32, Value, String) {
    let (code, out, err) = reconcile(config, provider, day, &["--json"], &[]).await;
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {err}")), err)
}

/// How many payouts each outcome has that any has.
fn outcomes(told: &Value) -> Vec<(&str, u64)> {
    let each = told["outcomes"].as_array().unwrap().iter();
    each.map(|outcome| (outcome["outcome"].as_str().unwrap(), outcome["payouts"].as_u64().unwrap())).filter(|(_, count)| *count > 0).collect()
}

/// A payout that settles, its attempt's key, and the day on which it was sent.
async fn paid(house: &House, provider: Provider) -> (ProviderKey, String) {
    let transaction = Uuid::new_v4();
    let body = order(provider, transaction, 12_345);
    house.local.caller.expect(http::Method::POST, "/v1/payouts", Some(&body)).await.unwrap();
    house.becomes(transaction, &["settled"]).await;
    let payout = house.local.store.load(house.id(transaction)).await.unwrap().unwrap();
    let attempt = payout.attempts.last().unwrap();
    let day = attempt.first_sent().strftime("%Y-%m-%d").to_string();
    (attempt.key, day)
}

/// Makes a payout at the provider past the installation.
async fn behind_our_back(providers: &Providers, provider: Provider, key: ProviderKey, minor: i64, reference: &str) {
    let beneficiary: Beneficiary = serde_json::from_value(json!({
        "name": "Ada Quill", "reference": reference, "destination": { "type": "iban", "iban": "GB33BUKB20201555555555" },
    }))
    .unwrap();
    let money = Money::new(minor, Currency::parse("GBP").unwrap()).unwrap();
    let order = Order { key, money, beneficiary: &beneficiary, context_code: "withdrawal" };
    let prepared = providers.prepare(provider, Mode::Test, &order).unwrap();
    let minute = Duration::from_secs(60);
    let answer = providers.submit(provider, Mode::Test, &prepared, Timestamp::MAX, minute).await;
    assert!(matches!(answer, Answer::Says(_)), "{answer:?}");
}

#[tokio::test]
async fn a_day_matches_where_the_provider_lists_payouts() {
    let house = House::open().await;
    let config = &house.local.config_file;
    for provider in [Provider::Truelayer, Provider::TruelayerV3, Provider::WorldpayAccount, Provider::Mollie] {
        let (_, day) = paid(&house, provider).await;
        paid(&house, provider).await;
        let (code, found, err) = told(config, provider.name(), &day).await;
        assert_eq!((code, outcomes(&found)), (0, vec![("matched", 2)]), "{provider:?} {found:#} {err}");
        assert_eq!((&found["whole"], &found["unfinished"]), (&json!(false), &json!(true)), "the day is not over");
        let before = day.parse::<jiff::civil::Date>().unwrap().yesterday().unwrap().to_string();
        let (code, found, _) = told(config, provider.name(), &before).await;
        assert_eq!((&found["whole"], &found["unfinished"]), (&json!(true), &json!(false)), "that one is over");
        assert_eq!((code, outcomes(&found)), (0, Vec::new()), "{provider:?}: the day before has none of them, {found:#}");
        if provider == Provider::Truelayer {
            let (code, out, err) = reconcile(config, "truelayer", &day, &["--json"], &[("PAYRELAY__RECONCILIATION__LINES_MAX", "1")]).await;
            let found: Value = serde_json::from_str(&out).unwrap();
            assert_eq!((code, outcomes(&found), &found["whole"]), (4, vec![("matched", 1)], &json!(false)), "{out} {err}");
        }
    }
    let kept = house.local.store.reconciled().await.unwrap();
    assert_eq!(kept.len(), 8, "a result for each provider and day, however often it was compared: {kept:?}");
    assert!(kept.iter().all(|day| day.breaks.is_empty()), "{kept:?}");
    let shown = async |path: &str| house.local.unsigned.call(http::Method::GET, path, None).await.unwrap();
    let all = shown("/v1/reconciliations").await.body;
    assert_eq!(all["results"].as_array().unwrap().len(), 8, "{all:#}");
    let latest = all["results"][0]["day"].as_str().unwrap();
    assert!(all["results"].as_array().unwrap().iter().all(|of| of["day"].as_str().unwrap() <= latest), "newest first: {all:#}");
    let of_day = shown(&format!("/v1/reconciliations/{latest}")).await.body;
    assert_eq!((&of_day["results"][0]["matched"], &of_day["results"][0]["breaks"]), (&json!(2), &json!({})), "{of_day:#}");
    assert_eq!((&of_day["results"][0]["status"], &all["results"][7]["status"]), (&json!("unfinished"), &json!("whole")), "{all:#}");
    assert!(of_day["results"].as_array().unwrap().iter().all(|of| of["day"] == latest), "{of_day:#}");
    assert_eq!(shown("/v1/reconciliations/2020-01-01").await.body["results"], json!([]));
    assert_eq!(shown("/v1/reconciliations/yesterday").await.status, http::StatusCode::NOT_FOUND);

    let (code, out, err) = reconcile(config, "worldpay-card", "2026-01-02", &[], &[]).await;
    assert_eq!((code, out.as_str(), err.contains("does not list payouts")), (4, "", true), "{err}");
    house.local.stop().await.unwrap();
}

#[tokio::test]
async fn breaks_are_printed_logged_and_kept() {
    breaks(Provider::Truelayer).await;
}

/// The payouts are known there by ids that the provider has made, and to other sandboxes by the key in their metadata.
#[tokio::test]
async fn breaks_are_found_in_lists_of_transactions() {
    breaks(Provider::TruelayerV3).await;
}

async fn breaks(provider: Provider) {
    let name = provider.name();
    let house = House::open().await;
    let (first, day) = paid(&house, provider).await;
    let (second, _) = paid(&house, provider).await;
    let (third, _) = paid(&house, provider).await;
    let stranger = ProviderKey::from_uuid(Uuid::new_v4());
    behind_our_back(&house.local.providers, provider, stranger, 777, "Withdrawal 204").await;
    let (code, found, err) = told(&house.local.config_file, name, &day).await;
    assert_eq!((code, outcomes(&found)), (3, vec![("matched", 3), ("missing_here", 1)]), "{found:#}");
    assert_eq!((&found["breaks"][0]["key"], &found["breaks"][0]["theirs"]["minor"]), (&json!(stranger), &json!(777)), "{found:#}");
    assert!(err.contains("missing_here") && err.contains(&stranger.to_string()), "{err}");

    // Another sandbox in the place of the first: it knows one payout with another amount, one that goes no further, and not the third.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let text = std::fs::read_to_string(&house.local.config_file).unwrap().replace(&house.local.sandbox_url, &url);
    let file = house.local.config_file.with_extension("other.toml");
    std::fs::write(&file, &text).unwrap();
    let stop = CancellationToken::new();
    let other = All::new(house.local.config.sandbox.clone().unwrap(), &url).unwrap();
    let serving = tokio::spawn(other.serve(listener, stop.clone()));
    let there = Providers::new(&Config::read(Some(("other", &text)), []).unwrap().providers).unwrap();
    behind_our_back(&there, provider, first, 12_346, "Withdrawal 204").await;
    behind_our_back(&there, provider, second, 12_345, "MOOD stuck").await;
    let (code, found, err) = told(&file, name, &day).await;
    let expected = vec![("missing_there", 1), ("different_amount", 1), ("different_status", 1)];
    assert_eq!((code, outcomes(&found)), (3, expected), "{found:#} {err}");
    let of = |kind: &str| found["breaks"].as_array().unwrap().iter().find(|found| found["kind"] == kind).unwrap().clone();
    assert_eq!((&of("missing_there")["key"], &of("different_status")["key"]), (&json!(third), &json!(second)));
    assert_eq!((&of("different_amount")["ours"]["minor"], &of("different_amount")["theirs"]["minor"]), (&json!(12_345), &json!(12_346)));

    let (code, out, err) = reconcile(&file, name, &day, &[], &[]).await;
    assert_eq!(code, 3);
    for text in ["different_amount", "GBP 123.45", "GBP 123.46", "missing_there"] {
        assert!(out.contains(text), "{text} is missing in\n{out}");
    }
    for secret in ["Ada", "John", "Smith", "GB33BUKB20201555555555", "5555555555"] {
        assert!(!out.contains(secret) && !err.contains(secret), "{secret} in\n{out}\n{err}");
    }
    let kept = house.local.store.reconciled().await.unwrap();
    let [kept] = kept.as_slice() else { panic!("the later result takes the place of the earlier one: {kept:?}") };
    assert_eq!(kept.breaks, [(Kind::MissingThere, 1), (Kind::DifferentAmount, 1), (Kind::DifferentStatus, 1)]);
    stop.cancel();
    serving.await.unwrap().unwrap();
    house.local.stop().await.unwrap();
}

/// A return that nobody was told of: the list shows it, and then the provider is asked.
#[tokio::test]
async fn a_return_whose_notice_was_lost_is_found_by_its_day() {
    let house = House::with(&unhurried(), "", |settings| {
        quick(settings);
        settings.truelayer.behaviour.return_after_ms = 4_000;
        // Nobody listens there.
        settings.truelayer.notice_url = Some("http://127.0.0.1:1/".to_owned());
    })
    .await;
    let config = &house.local.config_file;
    let returned = house.pay("truelayer", "MOOD return", "GBP", iban()).await;
    house.becomes(returned, &["settled"]).await;
    let payout = house.local.store.load(house.id(returned)).await.unwrap().unwrap();
    let attempt = payout.attempts.last().unwrap();
    let day = attempt.first_sent().strftime("%Y-%m-%d").to_string();
    let began = Instant::now();
    loop {
        let (code, found, err) = told(config, "truelayer", &day).await;
        if outcomes(&found) == [("different_status", 1)] {
            assert_eq!(code, 3);
            break;
        }
        assert!(began.elapsed() < PATIENCE, "it comes back: {found:#} {err}");
    }
    assert_eq!(house.becomes(returned, &["settled"]).await, "settled", "to compare changes nothing");
    let (code, out, err) = reconcile(config, "truelayer", &day, &["--check"], &[]).await;
    assert_eq!((code, out.contains("\n1 of them are asked about")), (3, true), "{out} {err}");
    house.becomes(returned, &["returned"]).await;
    let (code, found, err) = told(config, "truelayer", &day).await;
    assert_eq!((code, outcomes(&found)), (0, vec![("matched", 1)]), "{found:#} {err}");
    house.local.stop().await.unwrap();
}

/// What else an account's list holds is passed over, what came back is listed as such, and a list that cannot be read to its end is no list.
#[tokio::test]
async fn lists_of_transactions_that_misbehave() {
    let house = House::with(&unhurried(), "", |settings| {
        quick(settings);
        (settings.truelayer_v3.page_size, settings.truelayer_v3.list_faults) = (2, vec![ListFault::EmptyPage, ListFault::Strangers]);
    })
    .await;
    let config = &house.local.config_file;
    let (key, day) = paid(&house, Provider::TruelayerV3).await;
    paid(&house, Provider::TruelayerV3).await;
    let returned = house.pay("truelayer-v3", "MOOD return", "GBP", iban()).await;
    house.becomes(returned, &["returned"]).await;
    let (code, found, err) = told(config, "truelayer-v3", &day).await;
    assert_eq!((code, outcomes(&found)), (0, vec![("matched", 3)]), "{found:#} {err}");

    let text = std::fs::read_to_string(config).unwrap();
    for (fault, whole) in [(ListFault::Error, None), (ListFault::SameCursor, Some(false)), (ListFault::Unpaginated, Some(false))] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut settings = house.local.config.sandbox.clone().unwrap();
        (settings.truelayer_v3.page_size, settings.truelayer_v3.list_faults) = (1, vec![fault]);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(All::new(settings, &url).unwrap().serve(listener, stop.clone()));
        let text = text.replace(&house.local.sandbox_url, &url);
        let file = config.with_extension("other.toml");
        std::fs::write(&file, &text).unwrap();
        let there = Providers::new(&Config::read(Some(("other", &text)), []).unwrap().providers).unwrap();
        behind_our_back(&there, Provider::TruelayerV3, ProviderKey::from_uuid(Uuid::new_v4()), 5, "Withdrawal 205").await;
        behind_our_back(&there, Provider::TruelayerV3, key, 12_346, "Withdrawal 204").await;
        let (code, out, err) = reconcile(&file, "truelayer-v3", &day, &["--json"], &[]).await;
        assert_eq!(code, 4, "{fault:?}: {out} {err}");
        match whole {
            None => assert!(out.is_empty() && err.contains("status_500"), "{out} {err}"),
            Some(whole) => {
                let found: Value = serde_json::from_str(&out).unwrap();
                assert_eq!((&found["whole"], found["breaks"].as_array().unwrap().is_empty()), (&json!(whole), false), "{fault:?} {found:#}");
                assert!(outcomes(&found).iter().all(|(outcome, _)| *outcome != "missing_there"), "{fault:?} {found:#}");
            }
        }
        stop.cancel();
        serving.await.unwrap().unwrap();
    }
    let kept = house.local.store.reconciled().await.unwrap();
    assert_eq!((kept.len(), kept[0].breaks.len()), (1, 0), "what is not whole is not kept: {kept:?}");
    house.local.stop().await.unwrap();
}
