use domain::destination::{Beneficiary, Destination};

use super::super::world::{access, beneficiary, event_keys, key, money, soon};
use super::*;
use crate::http::scripted::{Received, Reply, Scripted, refusing};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const BASIC: &str = "POST /payouts/basicDisbursement";
const VERSIONS: [ApiVersion; 3] = [ApiVersion::V2, ApiVersion::V3, ApiVersion::V4];

pub(super) fn settings(url: &str) -> Settings {
    serde_json::from_value(serde_json::json!({"access": access(url), "entity": "default"})).expect("settings")
}

pub(super) fn client(settings: Settings) -> Client {
    Client::new(settings, Mode::Test, Provider::Truelayer).expect("a client")
}

pub(super) fn in_version(url: &str, version: ApiVersion) -> Client {
    client(Settings { version, ..settings(url) })
}

/// A destination from its JSON form.
pub(super) fn destination(json: &str) -> Destination {
    serde_json::from_str(json).expect(json)
}

pub(super) fn visa() -> Destination {
    destination(r#"{"type":"card","number":"4444333322221111","expiry":"2035-05"}"#)
}

pub(super) fn ada(reference: &str) -> Beneficiary {
    beneficiary("Ada Quill", reference, visa())
}

pub(super) fn prepared(client: &Client) -> Vec<u8> {
    let ada = ada("Invoice 1187");
    client.prepare(&Order { key: key(1), money: money(12_345, "GBP"), beneficiary: &ada, context_code: "withdrawal" }).expect("prepares")
}

pub(super) fn inquiry<'a>(number: u8, reference: Option<&'a ProviderReference>, request: &'a [u8]) -> Inquiry<'a> {
    Inquiry { key: key(number), reference, request, first_sent: clock::now() }
}

/// An answer or a look in one line.
pub(super) fn told(answer: &Answer) -> String {
    match answer {
        Answer::Says(report) => format!("says {} {}", report.provider_status, class(&report.status)),
        Answer::NotSent { why } => format!("not sent {}", why.as_str()),
        Answer::Unprocessed { why, retry_after } => format!("unprocessed {} {}", why.as_str(), retry_after.map_or(0, |wait| wait.as_secs())),
        Answer::NoAnswer { why } => format!("no answer {}", why.as_str()),
        Answer::Refused { reason } => format!("refused {}", reason.as_str()),
        Answer::KeyConflict => "conflict".to_owned(),
    }
}

pub(super) fn seen(look: &Look) -> String {
    match look {
        Look::Found(report) => format!("found {} {}", report.provider_status, class(&report.status)),
        Look::NotFound => "not found".to_owned(),
        Look::Nothing { why } => format!("nothing {}", why.as_str()),
    }
}

fn class(status: &Status) -> String {
    match status {
        Status::Authorised => "authorised".to_owned(),
        Status::Submitted => "submitted".to_owned(),
        Status::Settled => "settled".to_owned(),
        Status::Failed { reason } => format!("failed:{}", reason.as_str()),
        Status::Unmapped => "unmapped".to_owned(),
        other => format!("{other:?}"),
    }
}

fn payout(outcome: &str, url: &str) -> serde_json::Value {
    serde_json::json!({"outcome": outcome, "receivedAt": "2025-08-01T10:37:36.923Z", "refusalCode": "9G", "scheme": {"name": "visa", "reference": "4"},
        "_links": {"payouts:payout": {"href": format!("{url}/payouts/eyJrIjoiazNhYjYzMiJ9")}, "curies": [{"name": "payouts"}]}, "newField": 1})
}

async fn answer_to(status: u16, body: serde_json::Value) -> String {
    let server = Scripted::start(move |request: &Received| if request.line == BASIC { Reply::json(status, &body) } else { Reply::status(500) }).await;
    let client = client(settings(&server.url));
    told(&client.submit(&prepared(&client), soon(), LONG).await)
}

/// The table of answers, line by line. A 201 by itself says nothing.
#[tokio::test]
async fn every_answer_has_its_class() {
    use serde_json::json;
    let body = |outcome: &str| payout(outcome, "https://try.access.worldpay.com");
    let boarding = json!({"errorName": "fieldHasInvalidValue", "message": "Your merchant boarding process …", "jsonPath": "$.merchant.entity"});
    let luhn = json!({"errorName": "bodyDoesNotMatchSchema", "validationErrors":
        [{"errorName": "panFailedLuhnCheck", "message": "4444333322221112", "jsonPath": "$.instruction.payoutInstrument.cardNumber"}]});
    let check_outcome = json!({"errorName": "checkOutcome", "message": "We cannot guarantee that a resource was created. …"});
    for (status, body, expected) in [
        (201, body("requestReceived"), "says requestReceived authorised"),
        (201, body("requested"), "says requested authorised"),
        (201, body("inReview"), "says inReview authorised"),
        (201, body("pending"), "says pending submitted"),
        (201, body("approved"), "says approved settled"),
        (201, body("disbursed"), "says disbursed settled"),
        (201, body("refused"), "refused refused.9g"),
        (201, json!({"outcome": "refused"}), "refused refused"),
        (201, body("error"), "no answer error"),
        (201, body("queryRequired"), "no answer queryrequired"),
        (201, json!({"outcome": "queryRequired"}), "no answer queryrequired"),
        (201, json!({"outcome": "payoutNotFound", "message": "Your payout request was unsuccessful. Please retry."}), "no answer payoutnotfound"),
        (201, body("teleported <b>"), "says teleported__b_ unmapped"),
        (201, json!({}), "no answer unreadable"),
        (201, json!({"outcome": 5}), "no answer unreadable"),
        // The status of checkOutcome is documented nowhere.
        (500, check_outcome.clone(), "no answer checkoutcome"),
        (504, check_outcome.clone(), "no answer checkoutcome"),
        (202, check_outcome.clone(), "no answer checkoutcome"),
        (201, check_outcome.clone(), "no answer checkoutcome"),
        (400, check_outcome, "no answer checkoutcome"),
        (400, luhn, "refused panfailedluhncheck.cardnumber"),
        (422, boarding, "refused fieldhasinvalidvalue.entity"),
        (401, json!({"errorName": "accessDenied"}), "unprocessed unauthorized 0"),
        (403, json!({"errorName": "forbidden"}), "unprocessed forbidden 0"),
        (429, json!({}), "unprocessed rate_limited 0"),
        (406, json!({"errorName": "headerHasInvalidValue", "headerName": "Accept"}), "unprocessed headerhasinvalidvalue.accept 0"),
        (409, json!({"errorName": "transactionReferenceIsADuplicate"}), "no answer status_409"),
        (200, body("approved"), "no answer status_200"),
        (400, json!({"errorName": "somethingNew"}), "no answer status_400"),
        (404, json!({"errorName": "resourceNotFound"}), "no answer status_404"),
        (500, json!({"errorName": "internalErrorOccurred"}), "no answer status_500"),
        (503, json!({"errorName": "serviceUnavailable"}), "no answer status_503"),
    ] {
        assert_eq!(answer_to(status, body.clone()).await, expected, "{status} {body}");
    }
}

/// The fixed bytes of a request, and the media type of each version in both headers.
#[tokio::test]
async fn a_create_has_fixed_bytes_and_headers() {
    for version in VERSIONS {
        let server = Scripted::start(|_| Reply::json(201, &payout("approved", "https://x"))).await;
        let client = in_version(&server.url, version);
        assert_eq!(prepared(&client), prepared(&client));
        let answer = client.submit(&prepared(&client), soon(), LONG).await;
        let Answer::Says(Report { reference, at, amount, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!((reference, at, amount), (Some(ProviderReference("eyJrIjoiazNhYjYzMiJ9".to_owned())), None, None));
        let [received] = &server.received()[..] else { panic!("one request") };
        let reference = key(1).as_uuid().simple().to_string();
        let expected = format!(
            r#"{{"transactionReference":"{reference}","merchant":{{"entity":"default"}},"instruction":{{"narrative":{{"line1":"Invoice 1187"}},"value":{{"currency":"GBP","amount":12345}},"payoutInstrument":{{"type":"card/plain","cardNumber":"4444333322221111","cardExpiryDate":{{"month":5,"year":2035}},"cardHolderName":"Ada Quill"}}}}}}"#
        );
        assert_eq!((received.line.as_str(), std::str::from_utf8(&received.body).expect("text")), (BASIC, expected.as_str()));
        let header = |name: &str| received.headers[name].to_str().expect("text");
        assert_eq!((header("accept"), header("content-type")), (version.media_type(), version.media_type()));
        assert_eq!((header("authorization"), header("wp-callerid")), ("Basic YWNtZTpodW50ZXIy", "payrelay-tests"));
        assert_eq!(header("wp-correlationid"), key(1).to_string());
    }
    assert_eq!(ApiVersion::V3.media_type(), "application/vnd.worldpay.payouts-v3+json");
}

/// Every instrument, the narrative of two lines, and routing.
#[test]
fn every_instrument_is_written() {
    let fast = client(Settings {
        endpoint: Endpoint::FastAccess,
        narrative: Some("The Mind Palace Ltd".to_owned()),
        preferred_card_brand: Some(CardBrand::Maestro),
        fallback_to_basic: Some(false),
        ..settings("http://127.0.0.1:1")
    });
    let expiry = r#"{"month":1,"year":2031}"#;
    for (json, name, expected) in [
        (
            r#"{"type":"card","number":"4444333322221111","expiry":"2031-01"}"#,
            "José Núñez",
            format!(r#"{{"type":"card/plain","cardNumber":"4444333322221111","cardExpiryDate":{expiry}}}"#),
        ),
        (
            r#"{"type":"card_token","token":"https://try.access.worldpay.com/tokens/MTIz"}"#,
            "Ada",
            r#"{"type":"card/tokenized","href":"https://try.access.worldpay.com/tokens/MTIz"}"#.to_owned(),
        ),
        (
            r#"{"type":"network_token","number":"4917610000000000003","expiry":"2031-01"}"#,
            "Ada",
            format!(r#"{{"type":"card/networkToken","tokenNumber":"4917610000000000003","expiryDate":{expiry}}}"#),
        ),
        (
            r#"{"type":"apple_pay","number":"5555555555554444","expiry":"2031-01"}"#,
            "Ada Quill",
            format!(r#"{{"type":"card/networkToken+applepay","dpan":"5555555555554444","cardExpiryDate":{expiry},"cardHolderName":"Ada Quill"}}"#),
        ),
    ] {
        let beneficiary = beneficiary(name, "Memory265-13/08/1876", destination(json));
        let order = Order { key: key(1), money: money(1, "GBP"), beneficiary: &beneficiary, context_code: "x" };
        let written = String::from_utf8(fast.prepare(&order).expect("prepares")).expect("text");
        assert!(written.contains(&format!(r#""payoutInstrument":{expected}"#)), "{written}");
        assert!(written.contains(r#""narrative":{"line1":"The Mind Palace Ltd","line2":"Memory265-13/08/1876"}"#), "{written}");
        assert!(written.contains(r#""routing":{"preferredCardBrand":"maestro","fallbackToBasic":"disabled"}"#), "{written}");
    }
}

/// What the provider would refuse is refused here, by the name of the order's field.
#[test]
fn preparing_refuses_what_the_provider_would() {
    let client = client(settings("http://127.0.0.1:1"));
    let problem = |beneficiary: &Beneficiary| {
        client.prepare(&Order { key: key(1), money: money(1, "GBP"), beneficiary, context_code: "x" }).map_err(|problem| problem.field)
    };
    assert_eq!(problem(&ada(&"x".repeat(25))), Err("beneficiary_reference"));
    assert_eq!(problem(&ada("Rechnung für Müller")), Err("beneficiary_reference"));
    assert!(problem(&ada(&"x".repeat(24))).is_ok());
    let iban = destination(r#"{"type":"iban","iban":"GB82WEST12345698765432"}"#);
    assert_eq!(problem(&beneficiary("Ada", "Invoice", iban)), Err("destination"));
    // Whether a card has expired depends on the day, so it is the provider's word.
    assert!(problem(&beneficiary("Ada", "Invoice", destination(r#"{"type":"card","number":"4444333322221111","expiry":"2019-01"}"#))).is_ok());
    // Without a list of symbols that is known, the list can be extended.
    let wide = super::tests::client(Settings { narrative_symbols: "ü".to_owned(), ..settings("http://127.0.0.1:1") });
    let umlaut = ada("Rechnung für Müller");
    assert!(wide.prepare(&Order { key: key(1), money: money(1, "GBP"), beneficiary: &umlaut, context_code: "x" }).is_ok());
}

#[tokio::test]
async fn what_never_left_and_what_was_lost() {
    let (closed, _socket) = refusing();
    let down = client(settings(&closed));
    assert_eq!(told(&down.submit(&prepared(&down), soon(), LONG).await), "not sent connect");
    let server = Scripted::start(|_| Reply::status(201)).await;
    let client = client(settings(&server.url));
    let past = clock::now() - SignedDuration::from_secs(1);
    assert_eq!(told(&client.submit(&prepared(&client), past, LONG).await), "not sent send_by_passed");
    assert_eq!(told(&client.submit(b"{}", soon(), LONG).await), "not sent unreadable_request");
    assert_eq!(server.received().len(), 0);
    for (reply, within, why) in
        [(Reply::Drop, LONG, "connection_lost"), (Reply::Hang, SHORT, "deadline"), (Reply::Raw(b"HTTP/1.1 2".to_vec()), LONG, "connection_lost")]
    {
        let mut reply = Some(reply);
        let server = Scripted::start(move |_| reply.take().unwrap_or(Reply::status(201))).await;
        let client = super::tests::client(settings(&server.url));
        assert_eq!(told(&client.submit(&prepared(&client), soon(), within).await), format!("no answer {why}"));
        assert_eq!(server.count(BASIC), 1, "sent once");
    }
}

/// The time to send may pass while links are discovered: then the body stays here.
#[tokio::test]
async fn send_by_is_checked_again_at_the_socket() {
    let passes = std::sync::Arc::new(std::sync::OnceLock::new());
    let until = std::sync::Arc::clone(&passes);
    let server = Scripted::start(move |_| {
        while until.get().is_some_and(|until| clock::now() <= *until) {
            std::thread::yield_now();
        }
        Reply::status(500)
    })
    .await;
    let mut settings = settings(&server.url);
    settings.access.discover = true;
    let client = client(settings);
    let request = prepared(&client);
    let send_by = *passes.get_or_init(|| clock::now() + SignedDuration::from_millis(300));
    assert_eq!(told(&client.submit(&request, send_by, LONG).await), "not sent send_by_passed");
    assert_eq!(server.count(BASIC), 0);
    assert_eq!(server.count("GET /"), 1);
}

/// The link of a queryRequired is asked once; only a definite outcome there is an answer.
#[tokio::test]
async fn a_required_query_is_made() {
    for (status, outcome, expected) in [
        (200, "approved", "says approved settled"),
        (200, "requestReceived", "says requestReceived authorised"),
        (200, "refused", "says refused failed:refused.9g"),
        // Too early to believe, or not definite.
        (200, "payoutNotFound", "no answer queryrequired"),
        (200, "queryRequired", "no answer queryrequired"),
        (200, "error", "no answer queryrequired"),
        (404, "approved", "no answer queryrequired"),
        (500, "approved", "no answer queryrequired"),
    ] {
        let server = Scripted::start(move |request: &Received| {
            if request.line == BASIC { Reply::json(201, &payout("queryRequired", "")) } else { Reply::json(status, &payout(outcome, "")) }
        })
        .await;
        let client = in_version(&server.url, ApiVersion::V3);
        assert_eq!(told(&client.submit(&prepared(&client), soon(), LONG).await), expected, "{status} {outcome}");
        assert_eq!(server.count("GET /payouts/eyJrIjoiazNhYjYzMiJ9"), 1);
    }
}

/// A look goes by the link, else by the query. A failure is never a "not found", and what a 404 is worth depends on the version.
#[tokio::test]
async fn looks() {
    let reference = ProviderReference("eyJrIjoiazNhYjYzMiJ9".to_owned());
    for (link, query, v3, v4) in [
        ((200, "approved"), None, "found approved settled", "found approved settled"),
        ((200, "disbursed"), None, "found disbursed settled", "found disbursed settled"),
        ((200, "pending"), None, "found pending submitted", "found pending submitted"),
        ((200, "inReview"), None, "found inReview authorised", "found inReview authorised"),
        ((200, "refused"), None, "found refused failed:refused.9g", "found refused failed:refused.9g"),
        ((200, "error"), None, "found error unmapped", "found error unmapped"),
        ((200, "queryRequired"), None, "nothing queryrequired", "nothing queryrequired"),
        ((200, "payoutNotFound"), None, "not found", "not found"),
        ((403, ""), None, "nothing status_403", "nothing status_403"),
        ((500, ""), None, "nothing status_500", "nothing status_500"),
        ((404, ""), Some((200, "approved")), "found approved settled", "found approved settled"),
        ((404, ""), Some((200, "payoutNotFound")), "not found", "not found"),
        ((404, ""), Some((404, "")), "nothing status_404", "not found"),
        ((404, ""), Some((400, "")), "nothing status_400", "nothing status_400"),
    ] {
        for (version, expected) in [(ApiVersion::V2, v3), (ApiVersion::V3, v3), (ApiVersion::V4, v4)] {
            let server = Scripted::start(move |request: &Received| {
                let (status, outcome) = if request.line.starts_with("GET /payouts/query?") { query.expect("no query was expected") } else { link };
                if status == 200 { Reply::json(200, &payout(outcome, "")) } else { Reply::status(status) }
            })
            .await;
            let client = in_version(&server.url, version);
            let request = prepared(&client);
            assert_eq!(seen(&client.look(&inquiry(1, Some(&reference), &request)).await), expected, "{version:?} {link:?} {query:?}");
            if query.is_some() {
                assert_eq!(seen(&client.look(&inquiry(1, None, &request)).await), expected, "{version:?} {query:?}");
                let asked = server.received().last().expect("asked").clone();
                let reference = key_text(key(1));
                assert_eq!(asked.line, format!("GET /payouts/query?transactionReference={reference}&entity=default"));
                assert_eq!(asked.headers["accept"], version.media_type());
            }
        }
    }
    // A 404 is only final-looking where the payout and the profile are both of version 4: a setting that changed must not make it so.
    let server = Scripted::start(|_| Reply::status(404)).await;
    let (old, new) = (in_version(&server.url, ApiVersion::V3), in_version(&server.url, ApiVersion::V4));
    assert_eq!(seen(&old.look(&inquiry(1, None, &prepared(&new))).await), "nothing status_404");
    assert_eq!(seen(&new.look(&inquiry(1, None, &prepared(&old))).await), "nothing status_404");
}

#[test]
fn a_link_names_a_resource_and_nothing_else() {
    let resource = |href: &str| {
        let text = payout("approved", "").to_string().replace("/payouts/eyJrIjoiazNhYjYzMiJ9", href);
        serde_json::from_str::<wire::Payout>(&text).expect("reads").resource().map(str::to_owned)
    };
    assert_eq!(resource("https://try.access.worldpay.com/payouts/abc-_~.=+%3D").as_deref(), Some("abc-_~.=+%3D"));
    assert_eq!(resource("https://evil.example/payouts/abc").as_deref(), Some("abc"), "asked of our own host");
    for odd in
        ["/payouts/", "/payouts/..", "/payouts/a/b", "/payouts/a?b", "/payouts/a#b", "/payouts/a%2Fb", "/payouts/a%2e", "/accounts/a", "/payouts/é"]
    {
        assert_eq!(resource(odd), None, "{odd}");
    }
    assert_eq!(resource(&format!("/payouts/{}", "a".repeat(1025))), None);
    let update = r#"{"outcome":"pending","_links":{"payouts:update":{"href":"/payouts/u1"}}}"#;
    assert_eq!(serde_json::from_str::<wire::Payout>(update).expect("reads").resource(), Some("u1"));
    let odd = r#"{"outcome":"pending","_links":[],"scheme":1,"receivedAt":{}}"#;
    assert_eq!(serde_json::from_str::<wire::Payout>(odd).expect("reads").resource(), None);
}

#[test]
fn the_profile_says_what_a_version_can_prove() {
    for version in VERSIONS {
        let profile = in_version("http://127.0.0.1:1", version).profile().clone();
        assert!(!profile.recognises_duplicates && profile.looked_up_by_our_key);
        assert!(!profile.may_resend(clock::now(), clock::now()), "nothing is ever sent again");
        assert_eq!(profile.not_found_is_final, version < ApiVersion::V4);
        assert!(profile.polling.bound > SignedDuration::from_hours(48), "beyond the silence that a scheme may keep");
        assert_eq!(profile.notices, NoticeProof::None, "no keys");
    }
    let keyed = client(Settings { event_keys: event_keys(), ..settings("http://127.0.0.1:1") });
    assert_eq!(keyed.profile().notices, NoticeProof::SharedSecret);
    assert_eq!(profile(Provider::Truelayer), profile_of(Provider::Truelayer, ApiVersion::V4));
}

#[test]
fn settings_are_checked_and_nothing_shows_a_card() {
    let good = settings("http://127.0.0.1:1");
    let own = client(good.clone());
    let request = prepared(&own);
    let create: wire::CreatePayout = serde_json::from_str(Prepared::read(&request).expect("reads").body.get()).expect("reads");
    let ada = ada("Invoice 1187");
    let order = Order { key: key(1), money: money(1, "GBP"), beneficiary: &ada, context_code: "x" };
    // The digits of the time are anybody's.
    let inquiry = Inquiry { first_sent: jiff::Timestamp::UNIX_EPOCH, ..inquiry(1, None, &request) };
    let shown = format!("{good:?} {own:?} {order:?} {create:?} {:?} {inquiry:?}", create.instruction);
    for secret in ["hunter2", "4444", "1111", "Ada", "Quill", "Invoice", "2035"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let new = |settings, mode| Client::new(settings, mode, Provider::Truelayer).expect_err("unusable").to_string();
    assert_eq!(new(good.clone(), Mode::Live), "access.base_url");
    for entity in ["", " a", "a_b", "é", &"x".repeat(33)] {
        assert_eq!(new(Settings { entity: entity.to_owned(), ..good.clone() }, Mode::Test), "entity must be 1 to 32 letters, digits and spaces");
    }
    let long = Some("x".repeat(25));
    assert!(new(Settings { narrative: long, ..good.clone() }, Mode::Test).starts_with("narrative must be"));
    assert!(new(Settings { fallback_to_basic: Some(true), ..good }, Mode::Test).ends_with("are for fast access"));
    let parsed: Settings = serde_json::from_value(serde_json::json!({"access": access("http://a"), "entity": "e", "version": "v2",
        "endpoint": "fast-access", "preferred_card_brand": "maestro"}))
    .expect("settings");
    assert_eq!((parsed.version, parsed.endpoint), (ApiVersion::V2, Endpoint::FastAccess));
    assert!(serde_json::from_value::<Settings>(serde_json::json!({"access": access(""), "entity": "e", "version": "v1"})).is_err(), "not spoken");
}

/// `requestReceived` is the end of a basic disbursement, and of fast access that fell back to one. Where it may not fall back, more is to come.
#[test]
fn last_words_depend_on_what_is_ordered() {
    let ends = |endpoint, fallback_to_basic| {
        let client = client(Settings { endpoint, fallback_to_basic, ..settings("http://127.0.0.1:1") });
        client.profile().last_words.contains(&"requestReceived")
    };
    assert!(ends(Endpoint::BasicDisbursement, None));
    assert!(ends(Endpoint::FastAccess, None) && ends(Endpoint::FastAccess, Some(true)));
    assert!(!ends(Endpoint::FastAccess, Some(false)));
}

mod with_sandbox;
