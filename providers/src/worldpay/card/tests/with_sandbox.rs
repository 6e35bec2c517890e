//! Client, inbox and sandbox against each other, over real sockets, in every version.

use domain::fact::About;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::super::inbox::{Inbox, Notice, NoticeError};
use super::*;
use crate::http as net;
use crate::http::{Call, Limits};
use crate::sandbox::mood::{Distribution, Mood};
use crate::worldpay::error::ErrorBody;
use crate::worldpay::signature::{EVENT_SIGNATURE, EventKey, Unsigned};
use crate::worldpay::world::World;

async fn start(change: impl FnOnce(&mut crate::worldpay::sandbox::Settings)) -> World {
    World::start(change).await
}

fn fast(url: &str, version: ApiVersion) -> Client {
    client(Settings { version, endpoint: Endpoint::FastAccess, ..settings(url) })
}

async fn pay_to(client: &Client, number: u8, minor: i64, beneficiary: &Beneficiary) -> Answer {
    let order = Order { key: key(number), money: money(minor, "GBP"), beneficiary, context_code: "x" };
    let request = client.prepare(&order).expect("prepares");
    // The deadline is what some answers are about; for the others it only has to be longer than a busy machine is slow.
    let within = if minor == Mood::FIRST_AMOUNT + 2 { 1_500 } else { 15_000 };
    client.submit(&request, soon(), Duration::from_millis(within)).await
}

async fn pay(client: &Client, number: u8, minor: i64) -> Answer {
    pay_to(client, number, minor, &ada("Invoice")).await
}

fn link(answer: &Answer) -> ProviderReference {
    match answer {
        Answer::Says(Report { reference: Some(reference), .. }) => reference.clone(),
        other => panic!("a link: {other:?}"),
    }
}

/// A payout from create to arrival in every version and by both ways: answer, looks by link and by query, and ledger tell the same story.
#[tokio::test]
async fn a_payout_arrives() {
    for version in VERSIONS {
        for (fast_access, first, last, shown) in [
            (false, "says requestReceived authorised", "refunded", "found requestReceived authorised"),
            (true, "says approved settled", "disbursed", "found disbursed settled"),
        ] {
            let world = start(|_| ()).await;
            let client = if fast_access { fast(&world.url, version) } else { in_version(&world.url, version) };
            let request = prepared(&client);
            let unknown = if version < ApiVersion::V4 { "nothing status_404" } else { "not found" };
            assert_eq!(seen(&client.look(&inquiry(1, None, &request)).await), unknown);
            let answer = pay(&client, 1, 19_999).await;
            assert_eq!(told(&answer), first, "{version:?}");
            world.status_is(1, last).await;
            let by_link = client.look(&inquiry(1, Some(&link(&answer)), &request)).await;
            assert_eq!(seen(&by_link), shown);
            assert_eq!(client.look(&inquiry(1, None, &request)).await, by_link, "the same by query, link included");
            let ledger = world.sandbox.ledger();
            let [movement] = &ledger.movements[..] else { panic!("one movement: {ledger:?}") };
            assert_eq!((movement.amount_in_minor, movement.payout_and_attempt().map(|(_, attempt)| attempt)), (19_999, Some(1)));
            assert_eq!(ledger.double_movements, 0);
        }
    }
}

/// Mastercard is eligible for fast access since version 4; before, and with Maestro, a payout falls back to a basic disbursement, unless it may not.
#[tokio::test]
async fn fast_access_depends_on_card_and_version() {
    let world = start(|_| ()).await;
    let master = destination(r#"{"type":"card","number":"5555555555554444","expiry":"2035-05"}"#);
    let maestro = destination(r#"{"type":"card","number":"6759649826438453","expiry":"2035-05"}"#);
    let mut number = 0;
    for (version, destination, fallback, expected) in [
        (ApiVersion::V2, &master, None, "says requestReceived authorised"),
        (ApiVersion::V3, &master, None, "says requestReceived authorised"),
        (ApiVersion::V4, &master, None, "says approved settled"),
        (ApiVersion::V4, &maestro, None, "says requestReceived authorised"),
        (ApiVersion::V4, &maestro, Some(true), "says requestReceived authorised"),
        (ApiVersion::V4, &maestro, Some(false), "refused refused.57"),
    ] {
        number += 1;
        let client = client(Settings { version, endpoint: Endpoint::FastAccess, fallback_to_basic: fallback, ..settings(&world.url) });
        let answer = pay_to(&client, number, 500, &beneficiary("Ada", "Invoice", destination.clone())).await;
        assert_eq!(told(&answer), expected, "{version:?} {fallback:?}");
    }
}

/// Every instrument is taken; a card that has expired only for a basic disbursement, since version 3.
#[tokio::test]
async fn instruments_and_expiry() {
    let world = start(|_| ()).await;
    let expired = r#"{"type":"card","number":"4444333322221111","expiry":"2019-01"}"#;
    let refused = "refused fieldhasinvalidvalue.cardexpirydate";
    let received = "says requestReceived authorised";
    let mut number = 0;
    for (json, client, expected) in [
        (r#"{"type":"card_token","token":"https://try.access.worldpay.com/tokens/MTIz"}"#, in_version(&world.url, ApiVersion::V4), received),
        (r#"{"type":"network_token","number":"4917610000000000003","expiry":"2035-05"}"#, in_version(&world.url, ApiVersion::V3), received),
        (r#"{"type":"apple_pay","number":"4911830000000","expiry":"2035-05"}"#, in_version(&world.url, ApiVersion::V2), received),
        (expired, in_version(&world.url, ApiVersion::V2), refused),
        (expired, in_version(&world.url, ApiVersion::V3), received),
        (expired, in_version(&world.url, ApiVersion::V4), received),
        (expired, fast(&world.url, ApiVersion::V3), refused),
        (expired, fast(&world.url, ApiVersion::V4), refused),
        // A name that the provider could not take is left out, as versions 2 and later allow.
        (r#"{"type":"card","number":"4444333322221111","expiry":"2035-05"}"#, in_version(&world.url, ApiVersion::V2), received),
    ] {
        number += 1;
        let answer = pay_to(&client, number, 500, &beneficiary("José Núñez", "Invoice", destination(json))).await;
        assert_eq!(told(&answer), expected, "{json}");
    }
}

/// The provider's own magic values: amounts for a basic disbursement, names for fast access.
#[tokio::test]
async fn the_providers_magic_values() {
    let world = start(|_| ()).await;
    let master = destination(r#"{"type":"card","number":"5454545454545454","expiry":"2035-05"}"#);
    let (basic, fast) = (in_version(&world.url, ApiVersion::V4), fast(&world.url, ApiVersion::V4));
    let to_master = beneficiary("Ada", "Invoice", master);
    assert_eq!(told(&pay_to(&basic, 1, 1000, &to_master).await), "says requestReceived authorised");
    assert_eq!(told(&pay_to(&basic, 2, 310, &to_master).await), "refused refused.05");
    assert_eq!(told(&pay_to(&basic, 3, 320, &to_master).await), "no answer error");
    let request = prepared(&basic);
    assert_eq!(seen(&basic.look(&inquiry(3, None, &request)).await), "found error unmapped", "kept, and never guessed");
    assert_eq!(told(&pay_to(&fast, 4, 500, &beneficiary("REFUSED62", "Invoice", visa())).await), "refused refused.62");
    assert_eq!(seen(&fast.look(&inquiry(4, None, &request)).await), "found refused failed:refused.62");
    assert_eq!((world.moved(2), world.moved(3), world.moved(4)), (0, 0, 0));
}

/// Every mood in every version by the fast way: the first answer, what a look finds at once and in the end, and how often money moved.
/// Nothing is ever sent again: the provider would pay again.
#[tokio::test]
async fn moods() {
    for version in VERSIONS {
        let world = start(|settings| (settings.behaviour.slow_answer_ms, settings.behaviour.late_appear_ms) = (60_000, 700)).await;
        let client = fast(&world.url, version);
        let v4 = version == ApiVersion::V4;
        let (lost, broken, approved) = ("no answer connection_lost", "no answer status_500", "says approved settled");
        let (settled, absent) = ("found disbursed settled", if v4 { "not found" } else { "nothing status_404" });
        let refusal = "refused fieldhasinvalidvalue.instruction";
        let inconclusive = if v4 { "no answer checkoutcome" } else { "no answer queryrequired" };
        let unresolved = if v4 { "not found" } else { "nothing queryrequired" };
        let table = [
            (Mood::Plain, approved, None, settled, 1),
            (Mood::LostAnswer, lost, None, settled, 1),
            (Mood::SlowAnswer, "no answer deadline", None, settled, 1),
            (Mood::ErrorBefore, broken, Some(absent), absent, 0),
            (Mood::ErrorAfter, broken, None, settled, 1),
            (Mood::LateAppear, lost, Some(absent), settled, 1),
            (Mood::DuplicateNotices, approved, None, settled, 1),
            (Mood::ShuffledNotices, approved, None, settled, 1),
            (Mood::BadSignature, approved, None, settled, 1),
            (Mood::NoNotices, approved, None, settled, 1),
            (Mood::Reject, "refused refused.05", None, "found refused failed:refused.05", 0),
            (Mood::Refuse, refusal, Some(absent), absent, 0),
            (Mood::Fail, "says pending submitted", None, "found refused failed:refused.91", 0),
            (Mood::Return, approved, None, settled, 1),
            (Mood::RateLimit, "unprocessed rate_limited 1", Some(absent), absent, 0),
            (Mood::Stuck, "says pending submitted", None, "found pending submitted", 0),
            (Mood::Unauthorised, "unprocessed unauthorized 0", Some(absent), absent, 0),
            (Mood::Forbidden, "unprocessed forbidden 0", Some(absent), absent, 0),
            (Mood::Interim, "says inReview authorised", None, settled, 1),
            (Mood::Inconclusive, inconclusive, Some(unresolved), settled, 1),
            // Conclusive in versions 2 and 3; in version 4 there is nothing to tell it from what may still appear.
            (Mood::Vanished, inconclusive, Some(unresolved), "not found", 0),
            (Mood::Silent, "says requested authorised", None, "found error unmapped", 0),
        ];
        assert_eq!(table.map(|(mood, ..)| mood), Mood::ALL);
        let request = prepared(&client);
        for (number, (mood, first, at_once, end, movements)) in (1..).zip(table) {
            let name = mood.name();
            let answer = pay(&client, number, Mood::FIRST_AMOUNT + i64::from(number) - 1).await;
            assert_eq!(told(&answer), first, "{name} {version:?}");
            let look = async || seen(&client.look(&inquiry(number, None, &request)).await);
            if let Some(at_once) = at_once {
                assert_eq!(look().await, at_once, "{name} {version:?}");
            }
            let deadline = Instant::now() + LONG;
            while look().await != end {
                assert!(Instant::now() < deadline, "{name} {version:?}: {}", look().await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(world.moved(number), movements, "{name} {version:?}");
        }
        assert_eq!(world.sandbox.ledger().double_movements, 0);
        assert!(world.sandbox.advance(key(16), "approved") && !world.sandbox.advance(key(16), "pending"), "what is stuck can be helped");
        assert_eq!((seen(&client.look(&inquiry(16, None, &request)).await).as_str(), world.moved(16)), ("found approved settled", 1));
        // What healed: the same bytes again, where the answer said that nothing was processed.
        for (number, answers) in [(15, "429 201"), (17, "401 201"), (18, "403 201")] {
            assert_eq!(told(&pay(&client, number, Mood::FIRST_AMOUNT + i64::from(number) - 1).await), approved);
            assert_eq!((world.answers(number).as_str(), world.moved(number)), (answers, 1));
        }
    }
}

/// Whatever goes wrong: sent again only after a word that nothing was processed, every payout is paid once or not at all.
#[tokio::test]
async fn by_the_rules_nothing_is_paid_twice() {
    let world = start(|settings| {
        (settings.behaviour.late_appear_ms, settings.behaviour.slow_answer_ms) = (50, 400);
        let moods = Mood::ALL.into_iter().filter(|mood| !matches!(mood, Mood::Stuck | Mood::Silent)).collect();
        settings.behaviour.random = Some(Distribution { fault_percent: 90, seed: 11, moods });
    })
    .await;
    for version in VERSIONS {
        let client = fast(&world.url, version);
        let mut ends = std::collections::BTreeMap::<&str, u32>::new();
        for number in (1..=40).map(|number| number + 40 * u8::try_from(version as usize).expect("small")) {
            let ada = ada(&format!("Invoice {number}"));
            let order = Order { key: key(number), money: money(500 + i64::from(number), "GBP"), beneficiary: &ada, context_code: "x" };
            let request = client.prepare(&order).expect("prepares");
            let answer = loop {
                match client.submit(&request, soon(), Duration::from_millis(200)).await {
                    Answer::NotSent { .. } | Answer::Unprocessed { .. } => {}
                    other => break other,
                }
            };
            // What was not found for so long is left to a person, or in versions 2 and 3 known not to be.
            let patience = Instant::now() + Duration::from_millis(400);
            let end = loop {
                match (&answer, client.look(&inquiry(number, None, &request)).await) {
                    (Answer::Refused { .. }, _) => break "refused",
                    (_, Look::Found(Report { status: Status::Settled | Status::Failed { .. }, .. })) => break "ended",
                    (_, Look::NotFound) if version < ApiVersion::V4 => break "not found for good",
                    _ if Instant::now() > patience => break "in review",
                    _ => tokio::time::sleep(Duration::from_millis(3)).await,
                }
            };
            *ends.entry(end).or_default() += 1;
            assert!(world.moved(number) <= 1, "{number} {version:?}");
            assert!(end != "not found for good" || world.moved(number) == 0, "{number} {version:?} is final");
        }
        assert!(ends.contains_key("ended") && ends.contains_key("refused") && ends.contains_key("in review"), "{version:?} {ends:?}");
        assert_eq!(ends.contains_key("not found for good"), version < ApiVersion::V4, "{ends:?}");
    }
    assert_eq!(world.sandbox.ledger().double_movements, 0);
}

/// A repeat pays again, which is why there must be none; by setting it is refused, and what is there is found.
#[tokio::test]
async fn repeats_pay_again() {
    let world = start(|_| ()).await;
    let client = fast(&world.url, ApiVersion::V4);
    for _ in 0..2 {
        assert!(told(&pay(&client, 1, 500).await).starts_with("says"));
    }
    assert_eq!((world.moved(1), world.sandbox.ledger().double_movements), (2, 1));
    let world = start(|settings| settings.rejects_card_repeats = true).await;
    let client = fast(&world.url, ApiVersion::V4);
    assert_eq!(told(&pay(&client, 1, 500).await), "says approved settled");
    assert_eq!(told(&pay(&client, 1, 500).await), "no answer status_409");
    assert!(matches!(client.look(&inquiry(1, None, &prepared(&client))).await, Look::Found(_)));
    assert_eq!(world.moved(1), 1);
}

fn inbox(keys: Vec<EventKey>) -> Inbox {
    Inbox::new(&Settings { event_keys: keys, ..settings("http://127.0.0.1:1") }, Mode::Test).expect("an inbox")
}

/// What each mood does to the events of one payout: verified ones are evidence, forged ones are refused.
#[tokio::test]
async fn events() {
    let v4 = ApiVersion::V4;
    for (mood, is_fast, expected) in [
        (Mood::Plain, true, vec!["approved settled", "disbursed settled"]),
        (Mood::Plain, false, vec!["sentForRefund submitted", "refunded settled"]),
        (Mood::DuplicateNotices, true, vec!["approved settled", "approved settled", "disbursed settled", "disbursed settled"]),
        (Mood::ShuffledNotices, true, vec!["disbursed settled", "approved settled"]),
        (Mood::BadSignature, true, vec!["forged", "approved settled", "forged", "disbursed settled"]),
        (Mood::Fail, true, vec!["pending submitted", "refused failed:refused"]),
        (Mood::Silent, true, vec!["requested authorised", "pending submitted", "error unmapped"]),
        (Mood::Return, false, vec!["sentForRefund submitted", "refunded settled", r#"refundFailed Returned { reason: Reason("refundfailed") }"#]),
    ] {
        let world = start(|_| ()).await;
        world.sandbox.set_mood(1, mood);
        let client = if is_fast { fast(&world.url, v4) } else { in_version(&world.url, v4) };
        pay(&client, 1, 500).await;
        let inbox = inbox(event_keys());
        let mut words = Vec::new();
        let mut ids = std::collections::HashSet::new();
        for (headers, body) in world.notices(expected.len()).await {
            assert_eq!(headers["content-type"], "application/vnd.worldpay.events-v1.hal+json");
            words.push(match inbox.read(&Method::POST, "/", &headers, &body).await {
                Ok(notice) => {
                    ids.insert(notice.dedupe_id().to_owned());
                    let told = notice.told().expect("signed");
                    assert_eq!((&told.about, told.report.amount, notice.hint()), (&About::Key(key(1)), Some(money(500, "GBP")), None));
                    assert!(told.report.at.is_some());
                    format!("{} {}", notice.event_type(), class(&told.report.status))
                }
                Err(NoticeError::Unsigned(Unsigned::Mismatch)) => "forged".to_owned(),
                Err(error) => error.to_string(),
            });
        }
        assert_eq!(words, expected, "{}", mood.name());
        let distinct = words.iter().filter(|word| *word != "forged").count() / if mood == Mood::DuplicateNotices { 2 } else { 1 };
        assert_eq!(ids.len(), distinct, "{}", mood.name());
    }
}

/// One of several signatures is enough, by whichever key; without keys an event is a hint; a change anywhere is noticed.
#[tokio::test]
async fn events_are_believed_only_whole() {
    let world = start(|_| ()).await;
    pay(&fast(&world.url, ApiVersion::V4), 1, 500).await;
    let (headers, body) = world.notices(1).await[0].clone();
    let read = async |keys: Vec<EventKey>, headers: &HeaderMap, body: &Bytes| inbox(keys).read(&Method::POST, "/", headers, body).await;
    let value = headers[EVENT_SIGNATURE].to_str().expect("text").to_owned();
    assert_eq!(value.matches("/SHA256/").count(), 2, "one per key");
    let whole: Notice = read(event_keys(), &headers, &body).await.expect("verified");
    // Before, during and after a rotation.
    let [old, new] = <[EventKey; 2]>::try_from(event_keys()).expect("two");
    assert_eq!(read(vec![old.clone()], &headers, &body).await, Ok(whole.clone()));
    assert_eq!(read(vec![new.clone()], &headers, &body).await, Ok(whole));
    let other = EventKey { id: "3".to_owned(), ..new.clone() };
    assert_eq!(read(vec![other], &headers, &body).await, Err(NoticeError::Unsigned(Unsigned::UnknownKey)));
    let wrong = EventKey { secret: old.secret, ..new };
    assert_eq!(read(vec![wrong], &headers, &body).await, Err(NoticeError::Unsigned(Unsigned::Mismatch)));
    let bare = HeaderMap::new();
    assert_eq!(read(event_keys(), &bare, &body).await, Err(NoticeError::Unsigned(Unsigned::Missing)));
    let mut longer = body.to_vec();
    longer.push(b' ');
    assert_eq!(read(event_keys(), &headers, &longer.into()).await, Err(NoticeError::Unsigned(Unsigned::Mismatch)));
    let hint = read(Vec::new(), &bare, &body).await.expect("reads");
    assert_eq!((hint.told(), hint.hint()), (None, Some(&About::Key(key(1)))));
}

/// Two documents lead to the resources, and both are kept.
#[tokio::test]
async fn discovery_leads_to_the_same_place() {
    for version in VERSIONS {
        let world = start(|_| ()).await;
        let mut settings = Settings { version, ..settings(&world.url) };
        settings.access.discover = true;
        let discovering = client(settings);
        assert_eq!(told(&pay(&discovering, 1, 500).await), "says requestReceived authorised");
        assert!(matches!(discovering.look(&inquiry(1, None, &prepared(&discovering))).await, Look::Found(_)));
    }
    let server = Scripted::start(|request: &Received| match request.line.as_str() {
        "GET /" => Reply::json(200, &serde_json::json!({"_links": {"service:payouts": {"href": "/p"}}})),
        "GET /p" => Reply::json(
            200,
            &serde_json::json!({"_links": {"payouts:basicDisbursement": {"href": "/p/basic"},
            "payouts:query": {"href": "/p/query{?transactionReference,entity}", "templated": true}}}),
        ),
        "POST /p/basic" => Reply::json(201, &payout("requestReceived", "")),
        _ => Reply::json(200, &payout("requestReceived", "")),
    })
    .await;
    let mut settings = settings(&server.url);
    settings.access.discover = true;
    let client = client(settings);
    let request = prepared(&client);
    for _ in 0..2 {
        assert_eq!(told(&client.submit(&request, soon(), LONG).await), "says requestReceived authorised");
        assert_eq!(seen(&client.look(&inquiry(1, None, &request)).await), "found requestReceived authorised");
    }
    let query = format!("GET /p/query?transactionReference={}&entity=default", key_text(key(1)));
    assert_eq!((server.count("GET /"), server.count("GET /p"), server.count("POST /p/basic"), server.count(&query)), (1, 1, 2, 2));
}

/// Where each version has its curies, what the links are, and both texts of payoutNotFound; version 1 has a shape of its own.
#[tokio::test]
async fn versions_differ_on_the_wire() {
    let world = start(|settings| (settings.behaviour.late_appear_ms, settings.older_not_found_text) = (0, true)).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let send = async |method: Method, path: String, version: u8, body: Option<String>| {
        let media = format!("application/vnd.worldpay.payouts-v{version}+json");
        let media = HeaderValue::try_from(media).expect("a value");
        let call = Call::new(method, path, LONG);
        let call = if let Some(body) = body { call.body("x", body.into()).header(http::header::CONTENT_TYPE, media.clone()) } else { call };
        let call = call.header(http::header::ACCEPT, media).header(http::header::AUTHORIZATION, HeaderValue::from_static("Basic YWNtZTpodW50ZXIy"));
        let response = api.call(call).await.expect("an answer");
        let code = response.json::<ErrorBody>().map(|error| error.code()).unwrap_or_default();
        (response.status.as_u16(), response.json::<serde_json::Value>().expect("JSON"), code)
    };
    let create = |reference: &str, narrative: &str, more: &str| {
        format!(
            r#"{{"transactionReference":"{reference}","merchant":{{"entity":"default"}}{more},"instruction":{{"narrative":{narrative},"value":{{"currency":"GBP","amount":500}},"payoutInstrument":{{"type":"card/plain","cardNumber":"4444333322221111","cardExpiryDate":{{"month":5,"year":2035}},"cardHolderName":"Ada Quill"}}}}}}"#
        )
    };
    let lines = r#"{"line1":"abc","line2":"abc"}"#;
    for (version, narrative, inside, outside) in
        [(1, r#""abc""#, false, true), (2, lines, true, true), (3, lines, true, false), (4, lines, true, false)]
    {
        let path = || "/payouts/basicDisbursement".to_owned();
        let (status, body, _) = send(Method::POST, path(), version, Some(create(&format!("r{version}"), narrative, ""))).await;
        assert_eq!((status, &body["outcome"]), (201, &"requestReceived".into()), "{version}");
        assert_eq!((body["_links"]["curies"].is_array(), body["curies"].is_array()), (inside, outside), "{version}");
        assert!(body["_links"]["payouts:payout"]["href"].as_str().is_some_and(|href| href.starts_with(&world.url)));
        // Strict since version 2.
        let expected = if version == 1 { (201, "") } else { (400, "fieldIsNotAllowed.note") };
        let (status, _, code) = send(Method::POST, path(), version, Some(create(&format!("s{version}"), narrative, r#","note":1"#))).await;
        assert_eq!((status, code.as_str()), expected, "{version}");
        let other = if version == 1 { lines } else { r#""abc""# };
        assert_eq!(send(Method::POST, path(), version, Some(create("t", other, ""))).await.0, 400, "the other shape");
        let root = send(Method::GET, "/payouts".to_owned(), version, None).await.1;
        assert_eq!(root["_links"]["payouts:query"].is_object(), version >= 2, "{version}");
    }
    for (version, length, good) in [(1, 25, true), (1, 26, false), (2, 24, true), (2, 25, false), (4, 25, false)] {
        let text = "x".repeat(length);
        let narrative = if version == 1 { format!(r#""{text}""#) } else { format!(r#"{{"line1":"{text}"}}"#) };
        let path = "/payouts/fastAccess".to_owned();
        let (status, body, _) = send(Method::POST, path, version, Some(create(&format!("n{version}-{length}"), &narrative, ""))).await;
        assert_eq!(status == 201, good, "{version} {length} {body}");
        assert!(!good || body["_links"]["payouts:update"].is_object(), "an approved payout can be updated");
    }
    let nameless = create("v1", r#""abc""#, "").replace(r#","cardHolderName":"Ada Quill""#, "");
    assert_eq!(send(Method::POST, "/payouts/fastAccess".to_owned(), 1, Some(nameless)).await.2, "fieldIsMissing.cardHolderName");
    for (from, to, status, code) in [
        ("4444333322221111", "4444333322221112", 400, "panFailedLuhnCheck.cardNumber"),
        ("4444333322221111", "30569309025904", 400, "unrecognizedCardBrand.cardNumber"),
        ("Ada Quill", "José", 400, "stringFailedRegexCheck.cardHolderName"),
        ("\"abc\"}", "\"ä\"}", 400, "stringFailedRegexCheck.line2"),
        (r#""amount":500"#, r#""amount":5.5"#, 400, "fieldHasInvalidValue"),
        (r#""amount":500"#, r#""amount":0"#, 400, "fieldHasInvalidValue.value"),
        (r#""entity":"default""#, r#""entity":"other""#, 422, "fieldHasInvalidValue.entity"),
    ] {
        let body = create("w", lines, "").replacen(from, to, 1);
        let (got, _, told) = send(Method::POST, "/payouts/fastAccess".to_owned(), 4, Some(body)).await;
        assert_eq!((got, told.as_str()), (status, code), "{to}");
    }
    let missing = send(Method::GET, "/payouts/query?transactionReference=r4".to_owned(), 4, None).await;
    assert_eq!(missing.0, 404, "a query in the path is part of the path");
    world.sandbox.set_mood(1, Mood::Vanished);
    let required = send(Method::POST, "/payouts/basicDisbursement".to_owned(), 3, Some(create("gone", lines, ""))).await.1;
    assert!(required["_links"]["payouts:update"].is_object() && required["outcome"] == "queryRequired");
    let href = required["_links"]["payouts:payout"]["href"].as_str().and_then(|href| href.strip_prefix(&world.url)).expect("a link").to_owned();
    let gone = send(Method::GET, href, 3, None).await.1;
    let older = "The payout does not exist, money has not been moved. Please try the payout again.";
    assert_eq!((&gone["outcome"], &gone["message"]), (&"payoutNotFound".into(), &older.into()));
    // Neither parameter of a query can be missing.
    for (name, value, absent) in [("transactionReference", "r4", "entity"), ("entity", "default", "transactionReference")] {
        let call = Call::new(Method::GET, "/payouts/query", LONG).query(name, value);
        let call = call.header(http::header::ACCEPT, HeaderValue::from_static(ApiVersion::V4.media_type()));
        let call = call.header(HeaderName::from_static("authorization"), HeaderValue::from_static("Basic YWNtZTpodW50ZXIy"));
        let response = api.call(call).await.expect("an answer");
        let code = response.json::<ErrorBody>().expect("an error").code();
        assert_eq!((response.status.as_u16(), code), (400, format!("fieldIsMissing.{absent}")));
    }
}
