//! What callers and providers see of the service.

use std::time::Duration;

use domain::credential::{ApiKey, Reach, Scope, token, token_hash};
use domain::fact::{About, Reason, Source};
use domain::id::{Mode, PartyId, PayoutId};
use domain::payout::{Fact, What};
use futures_util::future::join_all;
use jiff::SignedDuration;
use payrelay::local::{self, Local};
use payrelay::run::Role;
use providers::jws::{Algorithm, Jwks, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use workers::record::Recorded;
use workers::store::private_server::Fsync;

use crate::support::{Caller, Installation, Plan, Reply, api_key, payout, random, signing_key, transaction, truelayer};

fn party(name: &str) -> PartyId {
    PartyId::parse(name).unwrap()
}

/// Records a fact as a worker would.
async fn happens(installation: &Installation, party_name: &str, transaction_id: &str, source: Source, what: What) {
    let store = &installation.store;
    let id = PayoutId::derive(&party(party_name), Mode::Test, transaction_id, store.shards());
    let payout = store.load(id).await.unwrap().unwrap();
    let recorded = installation.recorder.record(payout, &Fact::new(source, what)).await.unwrap();
    assert!(matches!(recorded, Recorded::Done(_)), "{recorded:?}");
}

async fn initiate(installation: &Installation, party_name: &str, transaction_id: &str) {
    let send_by = installation.store.clock().now() + SignedDuration::from_secs(10);
    happens(installation, party_name, transaction_id, Source::Worker, What::Initiate { send_by, aside_until: None }).await;
}

#[tokio::test]
async fn a_payout_is_accepted_and_read_in_the_seeds_shape() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let id = transaction();

    let accepted = shop.post("/v1/payouts", &payout(&id.to_uppercase())).await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    assert_eq!(accepted.header("location"), Some(format!("/v1/payouts/{id}").as_str()));
    assert_eq!(accepted.header("idempotency-replayed"), None);
    for (name, value) in payout(&id).as_object().unwrap() {
        assert_eq!(&accepted.json["result"][name], value, "{name}");
    }
    assert_eq!(accepted.json["result"]["status"], "requested");
    assert_eq!(accepted.json["result"]["party_id"], "shop");
    let at = accepted.json["result"]["requested_at"].as_str().unwrap();
    assert!(at.ends_with('Z') && at.len() == "2019-10-01T17:00:00.0000000Z".len(), "{at}");

    let read = shop.get(accepted.header("location").unwrap()).await;
    assert_eq!((read.status, &read.json), (200, &accepted.json));
    assert_eq!(shop.get(&format!("/v1/payouts/{}", id.to_uppercase())).await.json, accepted.json);
    for other in [transaction(), "x".to_owned()] {
        assert_eq!(shop.get(&format!("/v1/payouts/{other}")).await.problem(), "not-found");
    }
}

#[tokio::test]
async fn the_same_request_again_is_a_replay_and_another_one_a_conflict() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let id = transaction();
    let first = shop.post("/v1/payouts", &payout(&id)).await;

    // Spelled otherwise, it still asks for the same.
    let respelled = format!(" {}\n", serde_json::to_string_pretty(&payout(&id.to_uppercase())).unwrap());
    let again = shop.post_bytes("/v1/payouts", respelled, &[]).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")));
    assert_eq!(again.json, first.json);

    let mut other = payout(&id);
    other["amount_in_minor"] = json!(10001);
    let conflict = shop.post("/v1/payouts", &other).await;
    assert_eq!((conflict.status, conflict.problem()), (422, "key-conflict"));
    assert_eq!(shop.get(&format!("/v1/payouts/{id}")).await.json, first.json);

    // A replay shows the payout as it is by now.
    initiate(&installation, "shop", &id).await;
    assert_eq!(shop.post("/v1/payouts", &payout(&id)).await.json["result"]["status"], "initiated");
}

#[tokio::test]
async fn fifty_equal_requests_at_once_make_one_payout() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let id = transaction();
    let body = payout(&id);
    let replies = join_all((0..50).map(|_| shop.post("/v1/payouts", &body))).await;
    assert!(replies.iter().all(|reply| reply.status == 202), "{replies:?}");
    assert_eq!(replies.iter().filter(|reply| reply.header("idempotency-replayed").is_none()).count(), 1);
    assert!(replies.iter().all(|reply| reply.json == replies[0].json));
    let timeline = shop.get(&format!("/v1/payouts/{id}/timeline")).await;
    assert_eq!(timeline.json["result"]["events"].as_array().unwrap().len(), 1, "{timeline:?}");
    assert_eq!(shop.get("/v1/payouts").await.json["results"].as_array().unwrap().len(), 1);
}

/// A day that has passed is an error for a new request, but a request that was accepted in its time stays a replay.
#[tokio::test]
async fn a_repeat_after_its_day_is_still_a_replay() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let id = transaction();
    let mut body = payout(&id);
    let day = installation.store.clock().now() + SignedDuration::from_hours(24);
    body["scheduled_for"] = json!(day.to_string());
    let first = shop.post("/v1/payouts", &body).await;
    assert_eq!((first.status, &first.json["result"]["status"]), (202, &json!("scheduled")), "{first:?}");
    assert_eq!(first.json["result"]["scheduled_for"], json!(format!("{day:.7}")));

    installation.store.move_clock(Duration::from_hours(48)).await.unwrap();
    let again = shop.post("/v1/payouts", &body).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")), "{again:?}");
    body["transaction_id"] = json!(transaction());
    assert_eq!(shop.post("/v1/payouts", &body).await.errors(), [("/scheduled_for", "in_the_past")]);
    body["scheduled_for"] = json!((installation.store.clock().now() + SignedDuration::from_hours(24 * 367)).to_string());
    assert_eq!(shop.post("/v1/payouts", &body).await.errors(), [("/scheduled_for", "too_far_ahead")]);
}

#[tokio::test]
async fn what_the_provider_cannot_do_is_refused_with_the_field() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let mut body = payout(&transaction());
    body["beneficiary_iban"] = Value::Null;
    body["beneficiary_account"] = json!({ "sort_code": "12-34-56", "account_number": "12345678" });
    assert_eq!(shop.post("/v1/payouts", &body).await.errors(), [("/beneficiary_iban", "refused_by_provider")]);

    let live = installation.caller_with(|key| (key.mode, key.reach) = (Mode::Live, Reach::Party(party("shop")))).await;
    assert_eq!(live.post("/v1/payouts", &payout(&transaction())).await.errors(), [("/provider", "not_configured")]);
}

#[tokio::test]
async fn every_bad_body_has_its_own_problem() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let good = payout(&transaction()).to_string();
    let with = |extra: &str| format!("{},{extra}}}", &good[..good.len() - 1]);
    let deep = with(&format!("\"metadata\":{}1{}", "[".repeat(10_000), "]".repeat(10_000)));
    for (body, status, problem, errors) in [
        (Vec::new(), 400, "body-missing", vec![]),
        (vec![b' '; 65 * 1024], 413, "body-too-large", vec![]),
        (vec![b' '; 500 * 1024], 413, "body-too-large", vec![]),
        (deep.into_bytes(), 400, "json-too-deep", vec![]),
        (b"{\"transaction_id\":\"\xff\"}".to_vec(), 400, "not-utf-8", vec![]),
        (good.as_bytes()[..50].to_vec(), 400, "json-invalid", vec![]),
        (format!("{good}{good}").into_bytes(), 400, "json-invalid", vec![]),
        (with("\"note\":1").into_bytes(), 400, "invalid-fields", vec![("/note", "unknown_field")]),
        (with("\"currency\":\"GBP\"").into_bytes(), 400, "invalid-fields", vec![("/currency", "duplicate_field")]),
        (good.replace("10000", "10000.0").into_bytes(), 400, "invalid-fields", vec![("/amount_in_minor", "not_an_integer")]),
        (good.replace("10000", "\"10000\"").into_bytes(), 400, "invalid-fields", vec![("/amount_in_minor", "wrong_type")]),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let reply = shop.post_bytes("/v1/payouts", body, &[]).await;
        assert_eq!((reply.status, reply.problem(), reply.errors()), (status, problem, errors), "{shown}");
    }
    let request = |content_type: &str| shop.request(Method::POST, "/v1/payouts").header("content-type", content_type).body(good.clone());
    // What `curl --data` calls all that it sends is taken with a token only (json.rs).
    for content_type in ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-16"] {
        assert_eq!(shop.send(request(content_type)).await.problem(), "media-type", "{content_type}");
    }
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter((0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024]))));
    assert_eq!(shop.post_bytes("/v1/payouts", chunked, &[]).await.problem(), "body-too-large");
    // Nothing of all that was stored.
    assert_eq!(shop.get("/v1/payouts").await.json, json!({ "results": [] }));
    assert_eq!(shop.send(request("application/json; charset=utf-8")).await.status, 202);
}

#[tokio::test]
async fn a_key_that_must_sign_is_served_with_either_signature_only() {
    let installation = Installation::start().await;
    let (signer, registered) = signing_key("kid-1");
    let (stranger, _) = signing_key("kid-1");
    let shop = installation
        .caller_with(|key| {
            key.reach = Reach::Party(party("shop"));
            key.must_sign = true;
            key.signing_keys = vec![registered];
        })
        .await;
    let post = async |body: &str, headers: &[(&str, &str)]| shop.post_bytes("/v1/payouts", body.to_owned(), headers).await;
    let request = |key: &SigningKey, path: &str, headers: &[(&str, &str)], body: &str| {
        key.sign_request(&http_method(), path, headers, body.as_bytes(), None).unwrap()
    };
    let body = payout(&transaction()).to_string();

    let unsigned = post(&body, &[]).await;
    assert_eq!((unsigned.status, unsigned.problem()), (401, "signature-missing"));
    assert!(unsigned.header("www-authenticate").is_some());

    let of_body = signer.sign_body(body.as_bytes(), None).unwrap();
    let of_request = request(&signer, "/v1/payouts", &[("Idempotency-Key", "k1")], &body);
    let accepted = post(&body, &[("X-TL-Signature", &of_body)]).await;
    assert_eq!((accepted.status, accepted.header("idempotency-replayed")), (202, None), "{accepted:?}");
    for headers in [
        vec![("Tl-Signature", of_request.as_str()), ("Idempotency-Key", "k1")],
        vec![("Tl-Signature", &of_request), ("Idempotency-Key", "k1"), ("X-TL-Signature", &of_body)],
        // Sent again, byte for byte, a signed request is a replay.
        vec![("X-TL-Signature", &of_body)],
    ] {
        let again = post(&body, &headers).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")), "{again:?}");
    }

    let other = payout(&transaction()).to_string();
    let of_stranger = stranger.sign_body(other.as_bytes(), None).unwrap();
    let of_other = signer.sign_body(other.as_bytes(), None).unwrap();
    let of_other_path = request(&signer, "/v1/payouts/x", &[], &other);
    let unlisted = SigningKey::generate("kid-2", Algorithm::Es512).unwrap().sign_body(other.as_bytes(), None).unwrap();
    let listed_only = request(&signer, "/v1/payouts", &[("Idempotency-Key", "k1")], &other);
    for headers in [
        vec![("X-TL-Signature", of_body.as_str())],
        vec![("X-TL-Signature", &of_stranger)],
        vec![("X-TL-Signature", &unlisted)],
        vec![("X-TL-Signature", "nonsense")],
        vec![("X-TL-Signature", &of_other), ("X-TL-Signature", &of_other)],
        vec![("X-TL-Signature", &of_other), ("Tl-Signature", &of_other_path)],
        vec![("Tl-Signature", &of_other)],
        vec![("Tl-Signature", &of_other_path)],
        vec![("Tl-Signature", &listed_only)],
        vec![("Tl-Signature", &listed_only), ("Idempotency-Key", "k2")],
    ] {
        let reply = post(&other, &headers).await;
        assert_eq!((reply.status, reply.problem()), (401, "signature-invalid"), "{headers:?}");
    }
    // The signature is over the bytes: one more line end is another body. And it is looked at before the body is.
    assert_eq!(post(&format!("{other}\n"), &[("X-TL-Signature", &of_other)]).await.problem(), "signature-invalid");
    assert_eq!(post("nonsense", &[]).await.problem(), "signature-missing");
    assert_eq!(post(&other, &[("X-TL-Signature", &of_other)]).await.status, 202);
    // Reading and taking back need no signature.
    let key = serde_json::from_str::<Value>(&other).unwrap()["transaction_id"].as_str().unwrap().to_owned();
    assert_eq!(shop.post_bytes(&format!("/v1/payouts/{key}/cancel"), "", &[]).await.status, 200);
}

fn http_method() -> axum::http::Method {
    axum::http::Method::POST
}

#[tokio::test]
async fn only_callers_with_the_right_key_and_scope_get_in() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let id = transaction();
    shop.post("/v1/payouts", &payout(&id)).await;
    let path = format!("/v1/payouts/{id}");

    let stranger = Caller { token: domain::credential::token(Mode::Test, [7; 32]), ..shop.clone() };
    for caller in [&stranger, &Caller { token: "nonsense".to_owned(), ..shop.clone() }] {
        for _ in 0..2 {
            let reply = caller.get(&path).await;
            assert_eq!((reply.status, reply.problem()), (401, "unauthenticated"));
            assert_eq!(reply.headers.get_all("www-authenticate").iter().count(), 2);
        }
    }
    let url = format!("{}{path}", installation.url);
    assert_eq!(Reply::of(installation.http.get(&url)).await.problem(), "unauthenticated");
    assert_eq!(Reply::of(installation.http.get(&url).basic_auth(&shop.token, Some(""))).await.status, 200);
    assert_eq!(Reply::of(installation.http.get(&url).basic_auth("shop", Some(&shop.token))).await.status, 200);

    let reader = installation
        .caller_with(|key| {
            key.reach = Reach::Party(party("shop"));
            key.scopes = [Scope::PayoutsRead].into();
        })
        .await;
    assert_eq!(reader.get(&path).await.status, 200);
    for (path, body) in [("/v1/payouts", payout(&id)), (&format!("{path}/cancel"), json!({})), (&format!("{path}/resolve"), json!({}))] {
        let reply = reader.post(path, &body).await;
        assert_eq!((reply.status, reply.problem()), (403, "missing-scope"), "{path}");
    }
    assert_eq!(reader.get("/v1/webhooks").await.problem(), "missing-scope");

    // A revoked key ends within the time that keys are kept in memory, here 100 ms.
    installation.store.revoke_key(shop.key.id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(shop.get(&path).await.problem(), "unauthenticated");
}

/// Whatever the key may do, whether its account is configured, and although it is in the store that a live installation uses, too.
#[tokio::test]
async fn a_live_key_is_refused_where_live_mode_is_off() {
    let both = providers::Settings {
        truelayer_test: Some(truelayer("http://127.0.0.1:9")),
        truelayer_live: Some(truelayer("https://127.0.0.1:9")),
        ..providers::Settings::default()
    };
    let installation = Installation::with(Plan { live: false, providers: both, ..Plan::default() }).await;
    let live = installation.caller_with(|key| key.mode = Mode::Live).await;
    let refused = live.post("/v1/payouts", &payout(&transaction())).await;
    assert_eq!((refused.status, refused.problem()), (401, "unauthenticated"), "{refused:?}");
    for path in ["/v1/payouts", "/v1/webhooks"] {
        assert_eq!(live.get(path).await.problem(), "unauthenticated", "{path}");
    }
    // Renamed, it is not a test key either.
    let renamed = Caller { token: live.token.replace("live", "test"), ..live };
    assert_ne!(renamed.token, live.token);
    assert_eq!(renamed.get("/v1/payouts").await.problem(), "unauthenticated");
    let test = installation.caller_with(|_| {}).await;
    assert_eq!(test.get("/v1/payouts").await.json, json!({ "results": [] }));
}

/// The same, from the configuration on.
#[tokio::test]
async fn live_mode_is_off_unless_the_configuration_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let plan = local::Plan {
        folder: folder.path(),
        redis_url: None,
        fsync: Fsync::Always,
        listen: "127.0.0.1:0",
        more: "",
        providers: &domain::fact::Provider::ALL,
        sandbox: |_| {},
        role: Some(Role::Serve),
    };
    let local = Local::start(plan).await.unwrap();
    let url = format!("http://{}", local.listening.unwrap().ingress.unwrap());
    for (mode, status) in [(Mode::Test, 200), (Mode::Live, 401)] {
        let key = ApiKey { mode, ..api_key(&local.store) };
        let token = token(mode, random());
        local.store.put_key(&token_hash(local.config.pepper(), &token), &key).await.unwrap();
        let caller = Caller { http: reqwest::Client::builder().no_proxy().build().unwrap(), url: url.clone(), token, key };
        assert_eq!(caller.get("/v1/payouts").await.status, status, "{mode}");
    }
}

#[tokio::test]
async fn parties_and_modes_do_not_see_each_other() {
    let plan = Plan {
        providers: providers::Settings {
            truelayer_test: Some(truelayer("http://127.0.0.1:9")),
            truelayer_live: Some(truelayer("https://127.0.0.1:9")),
            ..providers::Settings::default()
        },
        ..Plan::default()
    };
    let installation = Installation::with(plan).await;
    let shop = installation.caller("shop").await;
    let cafe = installation.caller("cafe").await;
    let live = installation.caller_with(|key| (key.mode, key.reach) = (Mode::Live, Reach::Party(party("shop")))).await;
    let platform = installation.caller_with(|_| {}).await;
    let id = transaction();
    let path = format!("/v1/payouts/{id}");
    assert_eq!(shop.post("/v1/payouts", &payout(&id)).await.status, 202);

    for other in [&cafe, &live, &platform] {
        for path in [path.clone(), format!("{path}/timeline")] {
            assert_eq!(other.get(&path).await.problem(), "not-found", "{path}");
        }
        assert_eq!(other.post(&format!("{path}/cancel"), &json!({})).await.problem(), "not-found");
        assert_eq!(other.get("/v1/payouts").await.json, json!({ "results": [] }));
    }
    // The key is unique per party and mode, so each of them can use it too.
    for other in [&cafe, &live, &platform] {
        let mut body = payout(&id);
        body["amount_in_minor"] = json!(5);
        let reply = other.post("/v1/payouts", &body).await;
        assert_eq!((reply.status, reply.header("idempotency-replayed")), (202, None));
    }
    assert_eq!(shop.get(&path).await.json["result"]["amount_in_minor"], 10000);

    // A party's key names its own party or none; whether another exists is not told.
    for named in ["cafe", "nobody"] {
        assert_eq!(shop.get(&format!("{path}?party_id={named}")).await.problem(), "other-party");
        let mut body = payout(&id);
        body["party_id"] = json!(named);
        assert_eq!(shop.post("/v1/payouts", &body).await.problem(), "other-party");
    }
    assert_eq!(shop.get(&format!("{path}?party_id=shop")).await.status, 200);
    // The platform names the party, or means the default one.
    assert_eq!(platform.get(&format!("{path}?party_id=shop")).await.json["result"]["amount_in_minor"], 10000);
    assert_eq!(platform.get(&path).await.json["result"]["party_id"], "default");
    assert_eq!(platform.get("/v1/payouts?party_id=cafe").await.json["results"].as_array().unwrap().len(), 1);
    // Beside a body a query says nothing, so it is refused and not passed over; without one it names the party.
    let beside = platform.post("/v1/payouts?party_id=cafe", &payout(&transaction())).await;
    assert_eq!((beside.status, beside.errors()), (400, vec![("party_id", "unknown_parameter")]));
    let canceled = platform.post_bytes(&format!("{path}/cancel?party_id=cafe"), "", &[]).await;
    assert_eq!((canceled.status, &canceled.json["result"]["party_id"]), (200, &json!("cafe")), "{canceled:?}");
    assert_eq!(platform.post_bytes(&format!("{path}/cancel?party=cafe"), "", &[]).await.errors(), [("party", "unknown_parameter")]);
    assert_eq!(shop.post_bytes(&format!("{path}/cancel?party_id=cafe"), "", &[]).await.problem(), "other-party");
}

#[tokio::test]
async fn a_payout_is_taken_back_until_it_is_dispatched() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let (first, second) = (transaction(), transaction());
    for id in [&first, &second] {
        shop.post("/v1/payouts", &payout(id)).await;
    }
    let path = format!("/v1/payouts/{first}/cancel");
    assert_eq!(shop.post(&path, &json!({ "reason": "Not a code!" })).await.errors(), [("/reason", "not_a_code")]);
    assert_eq!(shop.post(&path, &json!({ "why": "x" })).await.errors(), [("/why", "unknown_field")]);
    let canceled = shop.post(&path, &json!({ "reason": "order_withdrawn" })).await;
    assert_eq!(canceled.status, 200, "{canceled:?}");
    let result = &canceled.json["result"];
    assert_eq!((&result["status"], &result["reason"]), (&json!("canceled"), &json!("order_withdrawn")));
    assert!(result["canceled_at"].is_string());
    let again = shop.post_bytes(&path, "", &[]).await;
    assert_eq!((again.status, &again.json), (200, &canceled.json));

    initiate(&installation, "shop", &second).await;
    let late = shop.post(&format!("/v1/payouts/{second}/cancel"), &json!({})).await;
    assert_eq!((late.status, late.problem()), (409, "not-possible-now"));
    assert_eq!(shop.post(&format!("/v1/payouts/{}/cancel", transaction()), &json!({})).await.problem(), "not-found");
}

#[tokio::test]
async fn a_check_brings_the_next_look_forward_once() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let id = transaction();
    shop.post("/v1/payouts", &payout(&id)).await;
    let path = format!("/v1/payouts/{id}/check");
    assert_eq!(shop.post_bytes(&path, "", &[]).await.problem(), "not-possible-now");

    initiate(&installation, "shop", &id).await;
    happens(&installation, "shop", &id, Source::Worker, What::NoAnswer { attempt: 1, send: 1, why: Reason::new("timeout") }).await;
    let versions = async || shop.get(&format!("/v1/payouts/{id}/timeline")).await.json["result"]["version"].as_u64().unwrap();
    let before = versions().await;
    for _ in 0..3 {
        let reply = shop.post_bytes(&path, "", &[]).await;
        assert_eq!((reply.status, &reply.json["result"]["status"]), (202, &json!("inconclusive")), "{reply:?}");
    }
    assert_eq!(versions().await, before + 1);
    installation.store.move_clock(Duration::from_secs(6)).await.unwrap();
    shop.post_bytes(&path, "", &[]).await;
    assert_eq!(versions().await, before + 2);
}

#[tokio::test]
async fn an_operator_decides_a_payout_in_review() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let (signer, registered) = signing_key("kid-1");
    let operator = installation
        .caller_with(|key| {
            key.owner = "ada".to_owned();
            key.must_sign = true;
            key.signing_keys = vec![registered];
        })
        .await;
    let id = transaction();
    shop.post("/v1/payouts", &payout(&id)).await;
    let path = format!("/v1/payouts/{id}/resolve");
    let resolve = async |body: &Value| {
        let body = body.to_string();
        let signature = signer.sign_request(&http_method(), &path, &[], body.as_bytes(), None).unwrap();
        operator.post_bytes(&path, body, &[("Tl-Signature", &signature)]).await
    };
    let decision = json!({ "outcome": "settled", "reason": "bank_statement", "evidence": "TICKET-7", "party_id": "shop" });
    assert_eq!(resolve(&decision).await.problem(), "not-possible-now");

    initiate(&installation, "shop", &id).await;
    happens(&installation, "shop", &id, Source::Worker, What::Stuck { why: Reason::new("leased_too_often") }).await;
    let read = shop.get(&format!("/v1/payouts/{id}")).await;
    assert_eq!((&read.json["result"]["status"], &read.json["result"]["review_cause"]), (&json!("in_review"), &json!("stuck")));

    // A signature over the body alone could be taken to another payout.
    let of_body = signer.sign_body(decision.to_string().as_bytes(), None).unwrap();
    assert_eq!(operator.post(&path, &decision).await.problem(), "signature-missing");
    let reply = operator.post_bytes(&path, decision.to_string(), &[("X-TL-Signature", &of_body)]).await;
    assert_eq!(reply.problem(), "signature-missing");
    let bad = resolve(&json!({ "outcome": "paid", "reason": "A text", "evidence": " " })).await;
    assert_eq!(bad.errors(), [("/outcome", "unknown_outcome"), ("/reason", "not_a_code"), ("/evidence", "empty")]);

    let resolved = resolve(&decision).await;
    assert_eq!((resolved.status, &resolved.json["result"]["status"]), (200, &json!("settled")), "{resolved:?}");
    assert_eq!(resolve(&decision).await.json, resolved.json);
    let mut other = decision.clone();
    other["outcome"] = json!("failed");
    assert_eq!(resolve(&other).await.problem(), "not-possible-now");
}

#[tokio::test]
async fn lists_are_newest_first_and_page_by_cursor() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let mut ids = Vec::new();
    for number in 0..7 {
        let id = transaction();
        let mut body = payout(&id);
        if number % 2 == 1 {
            body["currency"] = json!("EUR");
        }
        assert_eq!(shop.post("/v1/payouts", &body).await.status, 202);
        ids.insert(0, id);
        installation.store.move_clock(Duration::from_secs(1)).await.unwrap();
    }
    shop.post(&format!("/v1/payouts/{}/cancel", ids[2]), &json!({})).await;
    let listed = |reply: &Reply| -> Vec<String> {
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json["results"].as_array().unwrap().iter().map(|item| item["transaction_id"].as_str().unwrap().to_owned()).collect()
    };

    let all = shop.get("/v1/payouts").await;
    assert_eq!(listed(&all), ids);
    assert_eq!(all.json["results"][0], shop.get(&format!("/v1/payouts/{}", ids[0])).await.json["result"]);
    let mut paged = Vec::new();
    let mut path = "/v1/payouts?limit=3".to_owned();
    loop {
        let page = shop.get(&path).await;
        paged.extend(listed(&page));
        let Some(cursor) = page.json["next_cursor"].as_str() else { break };
        path = format!("/v1/payouts?limit=3&cursor={cursor}");
    }
    assert_eq!(paged, ids);

    assert_eq!(listed(&shop.get("/v1/payouts?status=canceled").await), [ids[2].clone()]);
    assert_eq!(listed(&shop.get("/v1/payouts?status=canceled&status=requested").await), ids);
    assert_eq!(listed(&shop.get("/v1/payouts?currency=EUR").await), [ids[1].clone(), ids[3].clone(), ids[5].clone()]);
    assert_eq!(listed(&shop.get("/v1/payouts?provider=truelayer&limit=1").await), ids[..1]);
    let middle = all.json["results"][3]["requested_at"].as_str().unwrap();
    assert_eq!(listed(&shop.get(&format!("/v1/payouts?to={middle}")).await), ids[4..]);
    assert_eq!(shop.get("/v1/payouts?state=failed&limit=0").await.errors(), [("limit", "out_of_range"), ("state", "unknown_parameter")]);
}

#[tokio::test]
async fn the_timeline_tells_all_but_who_was_paid() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    shop.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/a", "event_types": "*" })).await;
    let id = transaction();
    shop.post("/v1/payouts", &payout(&id)).await;
    initiate(&installation, "shop", &id).await;
    happens(&installation, "shop", &id, Source::Worker, What::NoAnswer { attempt: 1, send: 1, why: Reason::new("timeout") }).await;

    let reply = shop.get(&format!("/v1/payouts/{id}/timeline")).await;
    let result = &reply.json["result"];
    let states: Vec<_> = result["facts"].as_array().unwrap().iter().map(|fact| fact["to"].as_str().unwrap()).collect();
    assert_eq!(states, ["requested", "initiated", "inconclusive"]);
    assert_eq!((&result["attempts"][0]["number"], &result["attempts"][0]["provider"]), (&json!(1), &json!("truelayer")));
    let events: Vec<_> = result["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(events, ["payout.requested", "payout.initiated", "payout.inconclusive"]);
    assert_eq!(result["deliveries"].as_array().unwrap().len(), 3);
    assert_eq!(result["deliveries"][0]["status"], "pending");
    for secret in ["GB33", "John", "Smith", "Withdrawal"] {
        assert!(!reply.text.contains(secret), "{secret} in {}", reply.text);
    }
}

#[tokio::test]
async fn a_webhooks_secret_is_shown_once_and_rotates() {
    let installation = Installation::with(Plan { ingress: json!({ "webhooks": { "subscriptions_max": 16 } }), ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let cafe = installation.caller("cafe").await;
    let platform = installation.caller_with(|_| {}).await;
    let asked = json!({ "url": "https://hooks.example.com/a?b=c", "event_types": ["payout.completed", "payout.failed"], "name": "books" });
    let made = shop.post("/v1/webhooks", &asked).await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{made:?}");
    let mut expected = made.json["result"].clone();
    let secret = expected.as_object_mut().unwrap().remove("secret").unwrap();
    domain::signature::Secret::parse(secret.as_str().unwrap()).unwrap();
    for (name, value) in asked.as_object().unwrap() {
        assert_eq!(&expected[name], value, "{name}");
    }
    assert_eq!((&expected["status"], &expected["party_id"]), (&json!("enabled"), &json!("shop")));
    let all = json!({ "url": "https://hooks.example.com/all", "event_types": ["*"] });
    let all = shop.post("/v1/webhooks", &all).await.json["result"].clone();
    assert_eq!(all["event_types"], json!(["*"]));
    assert_eq!(shop.delete(&format!("/v1/webhooks/{}", all["id"].as_str().unwrap())).await.status, 204);

    let path = made.header("location").unwrap().to_owned();
    let read = shop.get(&path).await;
    assert_eq!(read.json["result"], expected);
    assert_eq!(shop.get("/v1/webhooks").await.json, json!({ "results": [expected] }));
    assert!(!read.text.contains("whsec_"));
    for other in [cafe.get(&path).await, cafe.delete(&path).await, cafe.post_bytes(&format!("{path}/rotate"), "", &[]).await] {
        assert_eq!(other.problem(), "not-found");
    }
    assert_eq!(platform.get(&path).await.status, 200);
    assert_eq!(platform.get(&format!("{path}?party_id=cafe")).await.problem(), "not-found");

    let rotated = shop.post(&format!("{path}/rotate"), &json!({ "overlap_hours": 1 })).await;
    let new = rotated.json["result"]["secret"].as_str().unwrap();
    assert_eq!(rotated.status, 200);
    assert_ne!(json!(new), secret);
    let (_, secrets) = installation.store.subscription(path.rsplit_once('/').unwrap().1.parse().unwrap()).await.unwrap().unwrap();
    let texts = |at| -> Vec<String> { secrets.valid_at(at).iter().map(domain::signature::Secret::to_text).collect() };
    let now = installation.store.clock().now();
    assert_eq!(texts(now), [new, secret.as_str().unwrap()]);
    assert_eq!(texts(now + SignedDuration::from_hours(2)), [new]);
    assert_eq!(shop.post(&format!("{path}/rotate"), &json!({ "overlap_hours": 169 })).await.errors(), [("/overlap_hours", "out_of_range")]);

    assert_eq!(shop.delete(&path).await.status, 204);
    assert_eq!(shop.delete(&path).await.problem(), "not-found");
    for _ in 0..16 {
        assert_eq!(shop.post("/v1/webhooks", &asked).await.status, 201);
    }
    let full = shop.post("/v1/webhooks", &asked).await;
    assert_eq!((full.status, full.problem()), (409, "subscriptions-full"));
}

#[tokio::test]
async fn webhooks_do_not_lead_into_the_private_network() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    for url in [
        "http://127.0.0.1/a",
        "https://localhost/a",
        "https://10.1.2.3/",
        "https://192.168.0.1/",
        "https://172.16.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://metadata.google.internal/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fe80::1]/",
        "https://[fd00::1]/",
        "https://user:pass@hooks.example.com/",
        "ftp://hooks.example.com/",
        "hooks.example.com",
        "",
    ] {
        let reply = shop.post("/v1/webhooks", &json!({ "url": url, "event_types": "*" })).await;
        assert_eq!((reply.status, reply.errors()), (400, vec![("/url", "not_allowed")]), "{url}");
    }
    let live = installation.caller_with(|key| (key.mode, key.reach) = (Mode::Live, Reach::Party(party("shop")))).await;
    let plain = json!({ "url": "http://hooks.example.com/", "event_types": "*" });
    assert_eq!(live.post("/v1/webhooks", &plain).await.errors(), [("/url", "not_allowed")]);
    assert_eq!(shop.post("/v1/webhooks", &plain).await.status, 201);
    let kinds = json!({ "url": "https://hooks.example.com/", "event_types": ["payout.completed", "payout.paid", 1] });
    assert_eq!(
        shop.post("/v1/webhooks", &kinds).await.errors(),
        [("/event_types/1", "unknown_event_type"), ("/event_types/2", "unknown_event_type")]
    );
    // Twice the same is that, and `*` stands for all payouts.
    for (event_types, kept) in [
        (json!(["payout.completed", "payout.completed"]), json!(["payout.completed"])),
        (json!(["payout.completed", "*"]), json!(["*"])),
        (json!(["*", "webhook.*"]), json!(["payout.*", "webhook.*"])),
    ] {
        let made = shop.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/", "event_types": event_types })).await;
        assert_eq!((made.status, &made.json["result"]["event_types"]), (201, &kept), "{made:?}");
    }
    for event_types in [json!([]), json!("payout.completed"), json!(null)] {
        assert_eq!(shop.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/", "event_types": event_types })).await.status, 400);
    }
}

/// The provider's test environment cannot say anything about a live payout, however well it signs.
#[tokio::test]
async fn a_notice_is_good_for_payouts_of_its_mode_only() {
    let (key, base) = provider().await;
    let plan = Plan {
        providers: providers::Settings {
            truelayer_test: Some(truelayer(&base)),
            truelayer_live: Some(truelayer("https://127.0.0.1:9")),
            ..providers::Settings::default()
        },
        ..Plan::default()
    };
    let installation = Installation::with(plan).await;
    let shop = installation.caller("shop").await;
    let live = installation.caller_with(|key| (key.mode, key.reach) = (Mode::Live, Reach::Party(party("shop")))).await;
    let (path, jku) = ("/notices/truelayer/test", format!("{base}/.well-known/jwks"));
    for (caller, expected) in [(&shop, "settled"), (&live, "initiated")] {
        let id = transaction();
        let accepted = caller.post("/v1/payouts", &payout(&id)).await;
        let payout_id: PayoutId = accepted.json["result"]["payout_id"].as_str().unwrap().parse().unwrap();
        let payout = installation.store.load(payout_id).await.unwrap().unwrap();
        let send_by = installation.store.clock().now() + SignedDuration::from_secs(10);
        installation.recorder.record(payout, &Fact::new(Source::Worker, What::Initiate { send_by, aside_until: None })).await.unwrap();
        let provider_key = domain::id::ProviderKey::derive(payout_id, 1).to_string();
        let body = json!({ "event_type": "payout_settled", "event_id": transaction(), "event_schema_version": 1, "event_body": { "transaction_id": provider_key } });
        let body = body.to_string();
        let signature = key.sign_request(&http_method(), path, &[], body.as_bytes(), Some(&jku)).unwrap();
        let request = installation.http.post(format!("{}{path}", installation.url)).header("Tl-Signature", signature).body(body);
        assert_eq!(Reply::of(request).await.status, 200);
        installation.settle().await;
        assert_eq!(caller.get(&format!("/v1/payouts/{id}")).await.json["result"]["status"], expected);
    }
    let ambiguous = Reply::of(installation.http.post(format!("{}/notices/truelayer", installation.url))).await;
    assert_eq!((ambiguous.status, ambiguous.problem()), (404, "notices-ambiguous"));
}

/// A provider that publishes the key that it signs its notices with.
async fn provider() -> (SigningKey, String) {
    let key = SigningKey::generate("provider-key", Algorithm::Es512).unwrap();
    let jwks = Jwks { keys: vec![key.verifying_key().unwrap().to_jwk("provider-key")] };
    let router = axum::Router::new().route("/.well-known/jwks", axum::routing::get(async move || axum::Json(jwks)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (key, base)
}

#[tokio::test]
async fn only_verified_notices_are_remembered() {
    let (key, base) = provider().await;
    let plan =
        Plan { providers: providers::Settings { truelayer_test: Some(truelayer(&base)), ..providers::Settings::default() }, ..Plan::default() };
    let installation = Installation::with(plan).await;
    let shop = installation.caller("shop").await;
    let id = transaction();
    let accepted = shop.post("/v1/payouts", &payout(&id)).await;
    let payout_id: PayoutId = accepted.json["result"]["payout_id"].as_str().unwrap().parse().unwrap();
    let provider_key = domain::id::ProviderKey::derive(payout_id, 1);
    let jku = format!("{base}/.well-known/jwks");
    let event = |kind: &str| {
        json!({ "event_type": kind, "event_id": transaction(), "event_schema_version": 1, "event_body": { "transaction_id": provider_key.to_string() } }).to_string()
    };
    let send = async |path: &str, body: &str, signature: Option<String>| {
        let mut request = installation.http.post(format!("{}{path}", installation.url)).body(body.to_owned());
        if let Some(signature) = signature {
            request = request.header("Tl-Signature", signature);
        }
        Reply::of(request).await
    };
    let sign = |path: &str, body: &str| Some(key.sign_request(&http_method(), path, &[], body.as_bytes(), Some(&jku)).unwrap());
    let path = "/notices/truelayer/test";
    let body = event("payout_settled");

    for signature in [None, Some("x..y".to_owned()), sign("/elsewhere", &body), sign(path, &event("payout_failed"))] {
        let reply = send(path, &body, signature).await;
        assert_eq!((reply.status, reply.problem()), (401, "notice-unverified"));
    }
    let elsewhere = key.sign_request(&http_method(), path, &[], body.as_bytes(), Some("http://127.0.0.1:9/jwks")).unwrap();
    assert_eq!(send(path, &body, Some(elsewhere)).await.problem(), "notice-unverified");
    let waiting = async || {
        let mut found = Vec::new();
        for shard in installation.store.shards().all() {
            let lane = workers::store::lanes::Lane { store: installation.store.clone(), shard, lease: Duration::from_millis(1) };
            let batch = workers::queue::Source::lease(&workers::store::lanes::SettleLane(lane), 10).await.unwrap();
            found.extend(batch.items.into_iter().filter_map(|(work, _)| work.body.ok()));
        }
        found
    };
    assert!(waiting().await.is_empty());

    for _ in 0..2 {
        assert_eq!(send(path, &body, sign(path, &body)).await.status, 200);
    }
    // With one mode configured the mode can be left out; it is the same notice.
    assert_eq!(send("/notices/truelayer", &body, sign("/notices/truelayer", &body)).await.status, 200);
    let remembered = waiting().await;
    assert_eq!(remembered.len(), 1);
    let notice: workers::settle::StoredNotice = serde_json::from_slice(&remembered[0]).unwrap();
    assert_eq!((notice.mode, notice.about), (Mode::Test, About::Key(provider_key)));

    let other = event("payment_link_paid");
    assert_eq!(send(path, &other, sign(path, &other)).await.status, 200);
    let nonsense = "{}".to_owned();
    assert_eq!(send(path, &nonsense, sign(path, &nonsense)).await.problem(), "notice-unreadable");
    for path in ["/notices/truelayer/live", "/notices/truelayer/prod", "/notices/mollie"] {
        assert_eq!(send(path, &body, sign(path, &body)).await.problem(), "not-found", "{path}");
    }
    let large = " ".repeat(65 * 1024);
    assert_eq!(send(path, &large, sign(path, &large)).await.problem(), "body-too-large");
}

#[tokio::test]
async fn every_answer_has_an_id_and_every_error_is_a_problem() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let sent = shop.send(shop.request(Method::GET, "/v1/payouts").header("x-request-id", "mine-1")).await;
    assert_eq!(sent.header("x-request-id"), Some("mine-1"));
    let odd = shop.send(shop.request(Method::GET, "/v1/payouts").header("x-request-id", "a b")).await;
    assert!(odd.header("x-request-id").unwrap().starts_with("req_"));
    assert_eq!(shop.get("/v1/payout").await.problem(), "not-found");
    let wrong = shop.send(shop.request(Method::PUT, "/v1/payouts")).await;
    assert_eq!((wrong.status, wrong.problem()), (405, "method-not-allowed"));
    let allowed: std::collections::BTreeSet<_> = wrong.header("allow").unwrap().split(',').collect();
    assert_eq!(allowed, ["GET", "HEAD", "POST"].into());
    let head = shop.send(shop.request(Method::HEAD, "/v1/payouts")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    let head = shop.send(shop.request(Method::HEAD, "/v1/nothing")).await;
    assert_eq!((head.status, head.text.as_str()), (404, ""));
}

#[tokio::test]
async fn without_the_store_callers_are_asked_to_come_again() {
    let plan = Plan { store_deadline_ms: 300, ..Plan::default() };
    let mut installation = Installation::with(plan).await;
    let shop = installation.caller("shop").await;
    let get = async |path: &str| Reply::of(shop.http.get(format!("{}{path}", shop.url))).await;
    let ready = get("/readyz").await;
    assert_eq!((ready.status, &ready.json["checks"]["store"]), (200, &json!("ok")));

    installation.redis.kill();
    let reply = shop.post("/v1/payouts", &payout(&transaction())).await;
    assert_eq!((reply.status, reply.problem(), reply.header("retry-after")), (503, "store-unavailable", Some("1")));
    assert_eq!(reply.json["detail"], "Whether the request took effect is unknown. Repeating it as it is, is safe.");
    let read = shop.get("/v1/payouts").await;
    assert_eq!((read.status, &read.json["detail"]), (503, &json!("Repeating it as it is, is safe.")), "a read has no effect");
    let ready = get("/readyz").await;
    assert_eq!((ready.status, &ready.json["checks"]["store"]), (503, &json!("does not answer")));
    assert_eq!(get("/livez").await.status, 200);

    installation.redis.restart();
    let again = shop.post("/v1/payouts", &payout(&transaction())).await;
    assert_eq!(again.status, 202, "{again:?}");
}

/// I14, at the edge: what a log line or a span holds leads to nobody's account, name or credentials.
#[tokio::test]
async fn neither_accounts_nor_names_nor_credentials_are_logged() {
    let log = crate::support::Log::default();
    let _guard = tracing::subscriber::set_default(log.subscriber());
    let installation = Installation::start().await;
    let (signer, registered) = signing_key("kid-1");
    let shop = installation
        .caller_with(|key| {
            key.reach = Reach::Party(party("shop"));
            key.signing_keys = vec![registered];
        })
        .await;
    let id = transaction();
    let body = payout(&id).to_string();
    let signature = signer.sign_body(body.as_bytes(), None).unwrap();
    shop.post_bytes("/v1/payouts", body.clone(), &[("X-TL-Signature", &signature)]).await;
    shop.post_bytes("/v1/payouts", body.replace("10000", "1"), &[]).await;
    shop.post_bytes("/v1/payouts", body.replace("GB33", "GB34"), &[]).await;
    shop.post_bytes("/v1/payouts", body.clone(), &[("X-TL-Signature", &signer.sign_body(b"x", None).unwrap())]).await;
    shop.post_bytes("/v1/payouts", body.replace("\"currency\"", "\"GB33BUKB20201555555555\""), &[]).await;
    shop.get("/v1/payouts?cursor=GB33BUKB20201555555555").await;
    shop.get(&format!("/v1/payouts/{id}")).await;
    let hook = shop.post("/v1/webhooks", &json!({ "url": "https://hooks.example.com/hidden", "event_types": "*" })).await;
    let text = log.text();
    assert!(text.contains("payout.id=po_") && text.contains("key-conflict"), "{text}");
    let secret = hook.json["result"]["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
    for secret in ["GB33BUKB", "GB34", "John", "Smith", "Withdrawal", &shop.token, &signature, secret, "hidden"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

/// Sends the head of a request that announces a body and holds the body back.
async fn half_a_request(caller: &Caller) -> TcpStream {
    half_of(caller, "/v1/payouts", &format!("authorization: Bearer {}", caller.token)).await
}

async fn half_of(caller: &Caller, path: &str, proof: &str) -> TcpStream {
    let address = caller.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{proof}\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// As `curl` sends the example of seed 003: it leaves the double quotes of a URL as they are.
#[tokio::test]
async fn quotes_are_taken_as_curl_sends_them() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    let transaction_id = transaction();
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction_id)).await.status, 202);
    let address = shop.url.strip_prefix("http://").unwrap();
    let query = r#"from="2019-10-01T17:00:00.0000000Z"&to="2100-10-02T17:00:00.0000000Z"&type="Payout"&currency="GBP""#;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        format!("GET /v1/transactions?{query} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n", shop.token);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&transaction_id), "{answer}");
}

#[tokio::test]
async fn too_many_at_once_are_turned_away_and_the_slow_are_not_waited_for() {
    let plan = Plan { ingress: json!({ "concurrency": 1, "body_timeout_ms": 700, "timeout_ms": 5_000 }), ..Plan::default() };
    let installation = Installation::with(plan).await;
    let shop = installation.caller("shop").await;
    let mut slow = half_a_request(&shop).await;
    let shed = loop {
        let reply = shop.get("/v1/payouts").await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!((shed.status, shed.problem(), shed.header("retry-after")), (503, "overloaded", Some("1")));
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-timeout"), "{answer}");
    assert_eq!(shop.get("/v1/payouts").await.status, 200);
}

/// A webhook that no body could make believable, or that nobody here waits for, is answered before its body has come, whichever provider it is of.
#[tokio::test]
async fn the_bodies_of_strangers_are_not_waited_for() {
    let mollie = json!({ "api_key": "test_x", "balances": { "EUR": "bal_1" }, "webhook_secrets": ["a secret"] });
    let access = json!({ "base_url": "http://127.0.0.1:9", "username": "user", "password": "secret" });
    let card = json!({ "access": access, "entity": "default", "event_keys": [{ "id": "1", "secret": "a secret" }] });
    let account = json!({ "access": access, "entity": "default" });
    let providers = providers::Settings {
        truelayer_test: Some(truelayer("http://127.0.0.1:9")),
        mollie_test: Some(serde_json::from_value(mollie).unwrap()),
        worldpay_card_test: Some(serde_json::from_value(card).unwrap()),
        worldpay_account_test: Some(serde_json::from_value(account).unwrap()),
        ..providers::Settings::default()
    };
    let installation = Installation::with(Plan { ingress: json!({ "body_timeout_ms": 700 }), providers, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    for (path, proof, answered) in [
        ("/notices/truelayer/test", "x: y", "HTTP/1.1 401"),
        ("/notices/mollie/test", "tl-signature: x", "HTTP/1.1 401"),
        ("/notices/mollie/test", "x-mollie-signature: x", "HTTP/1.1 408"),
        ("/notices/worldpay-card/test", "x: y", "HTTP/1.1 401"),
        ("/notices/worldpay-card/test", "event-signature: x", "HTTP/1.1 408"),
        // Without keys anybody may send there.
        ("/notices/worldpay-account/test", "x: y", "HTTP/1.1 408"),
        ("/notices/mollie/live", "x-mollie-signature: x", "HTTP/1.1 404"),
        ("/notices/truelayer-v3/test", "tl-signature: x", "HTTP/1.1 404"),
    ] {
        let mut stream = half_of(&shop, path, proof).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), answered, "{path} {proof}");
    }
}

/// Anybody can send something to the address for notices: that must not shut callers out. Nor must callers delay what a provider says.
#[tokio::test]
async fn callers_and_notices_do_not_take_each_others_slots() {
    let (key, base) = provider().await;
    let providers = providers::Settings { truelayer_test: Some(truelayer(&base)), ..providers::Settings::default() };
    let installation = Installation::with(Plan { ingress: json!({ "concurrency": 1 }), providers, ..Plan::default() }).await;
    let shop = installation.caller("shop").await;
    let (path, jku) = ("/notices/truelayer/test", format!("{base}/.well-known/jwks"));
    let other = json!({ "event_type": "payment_link_paid", "event_id": transaction(), "event_schema_version": 1, "event_body": {} }).to_string();
    let signature = key.sign_request(&http_method(), path, &[], other.as_bytes(), Some(&jku)).unwrap();
    let notice = async || shop.post_bytes(path, other.clone(), &[("Tl-Signature", &signature)]).await;
    let list = async || shop.get("/v1/payouts").await;
    assert_eq!((notice().await.status, list().await.status), (200, 200));

    // What holds a slot is there as soon as another of its kind is turned away.
    let flood = half_of(&shop, path, "tl-signature: x..y").await;
    while notice().await.status != 503 {}
    assert_eq!(notice().await.problem(), "overloaded");
    assert_eq!(list().await.status, 200);
    drop(flood);
    while notice().await.status != 200 {}

    let _flood = half_a_request(&shop).await;
    while list().await.status != 503 {}
    assert_eq!(list().await.problem(), "overloaded");
    assert_eq!(notice().await.status, 200);
}

#[tokio::test]
async fn the_end_comes_in_time_and_not_before_what_is_under_way() {
    let plan = Plan { ingress: json!({ "drain_ms": 300 }), ..Plan::default() };
    let mut installation = Installation::with(plan).await;
    let shop = installation.caller("shop").await;
    // One connection idles, one sends its body in time, one never does.
    assert_eq!(shop.get("/v1/payouts").await.status, 200);
    let mut good = half_a_request(&shop).await;
    let mut bad = half_a_request(&shop).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    installation.shutdown.cancel();
    good.write_all(b"        }").await.unwrap();
    good.write_all(b" ").await.unwrap();
    let mut answer = String::new();
    good.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid-fields"), "{answer}");
    let ended = tokio::time::timeout(Duration::from_secs(2), &mut installation.serving).await;
    assert!(matches!(ended, Ok(Ok(Ok(())))), "{ended:?}");
    let mut rest = Vec::new();
    let _ = bad.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

/// Who may pause a provider, and who sees what of it. Test and live are apart.
#[tokio::test]
async fn only_operators_of_the_platform_pause_a_provider() {
    let installation = Installation::start().await;
    let (shop, platform) = (installation.caller("shop").await, installation.caller_with(|_| {}).await);
    let reader = installation.caller_with(|key| key.scopes.retain(|scope| scope.name() == "payouts.read")).await;
    let (pause, resume) = ("/v1/providers/mollie/pause", "/v1/providers/mollie/resume");
    let reason = json!({ "reason": "a drill" });
    assert_eq!(shop.post(pause, &reason).await.problem(), "other-party");
    assert_eq!(reader.post(pause, &reason).await.problem(), "missing-scope");
    let no_operator = installation.caller_with(|key| key.scopes.retain(|scope| scope.name() != "operator")).await;
    for path in [pause, resume] {
        let refused = no_operator.post(path, &reason).await;
        assert_eq!((refused.status, refused.problem()), (403, "missing-scope"));
    }
    assert_eq!(platform.post("/v1/providers/cash/pause", &reason).await.status, 404);
    for (body, error) in [
        (json!({}), ("/reason", "missing")),
        (json!({ "reason": " " }), ("/reason", "empty")),
        (json!({ "reason": "a", "mode": "live" }), ("/mode", "other_mode")),
        (json!({ "reason": "a", "until": "x" }), ("/until", "unknown_field")),
    ] {
        assert_eq!(platform.post(pause, &body).await.errors(), [error]);
    }
    assert_eq!(platform.get("/v1/providers/mollie").await.json["result"]["circuit"], json!({ "state": "closed", "held": 0 }));

    let paused = platform.post(pause, &reason).await;
    let circuit = &paused.json["result"]["circuit"];
    assert_eq!((paused.status, &circuit["state"], &circuit["paused"]["progress"]), (200, &json!("paused"), &json!("effective")), "{paused:?}");
    assert_eq!((&circuit["paused"]["by"], &circuit["paused"]["reason"]), (&json!("somebody"), &json!("a drill")));
    let seen = reader.get("/v1/providers").await.json["results"][4]["circuit"].clone();
    assert_eq!((&seen["state"], &seen["paused"]["by"], &seen["paused"]["reason"]), (&json!("paused"), &Value::Null, &Value::Null));
    let live = installation.caller_with(|key| key.mode = Mode::Live).await;
    assert_eq!(live.get("/v1/providers/mollie").await.json["result"]["circuit"]["state"], "closed");

    // What lets money go is signed by those who must sign, path and all.
    let (signing, registered) = signing_key("ops");
    let signer = installation.caller_with(|key| (key.must_sign, key.signing_keys) = (true, vec![registered])).await;
    assert_eq!(signer.post(resume, &json!({})).await.problem(), "signature-missing");
    let signature = signing.sign_request(&Method::POST, resume, &[], b"{}", None).unwrap();
    let resumed = signer.post_bytes(resume, "{}", &[("tl-signature", &signature)]).await;
    assert_eq!((resumed.status, &resumed.json["result"]["circuit"]["state"]), (200, &json!("closed")), "{resumed:?}");
    assert_eq!(resumed.json["result"]["circuit"]["resumed"]["by"], "somebody");
}

/// A key has its burst and then its rate; what others do is no concern of its.
#[tokio::test]
async fn a_key_that_asks_too_often_is_told_to_wait() {
    let installation = Installation::with(Plan { ingress: json!({ "rate": { "per_s": 1, "burst": 3 } }), ..Plan::default() }).await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let mut refused = None;
    for _ in 0..20 {
        let reply = shop.get("/v1/payouts").await;
        if reply.status != 200 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("the burst ends");
    assert_eq!((refused.status, refused.problem(), refused.header("retry-after")), (429, "rate-limited", Some("1")));
    let hal = shop.get("/v2/payouts").await;
    assert_eq!((hal.status, &hal.json["code"], hal.header("retry-after")), (429, &json!("rate_limited"), Some("1")));
    assert_eq!(cafe.get("/v1/payouts").await.status, 200);
}
