use std::sync::LazyLock;

use domain::destination::{AccountNumber, Destination, Iban, RoutingNumber, SortCode, UsAccountNumber, UsAccountType};

use super::super::world::{access, beneficiary, key, money, soon};
use super::*;
use crate::http::scripted::{Received, Reply, Scripted, refusing};
use crate::worldpay::key_of;

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const CREATE: &str = "POST /accountPayouts";
const LEGACY_CREATE: &str = "POST /payouts/accounts/single";

pub(super) fn settings(url: &str) -> Settings {
    serde_json::from_value(serde_json::json!({"access": access(url), "entity": "default"})).expect("settings")
}

pub(super) fn legacy(url: &str) -> Settings {
    serde_json::from_value(serde_json::json!({"access": access(url), "entity": "000055", "generation": "legacy"})).expect("settings")
}

pub(super) fn client(settings: Settings) -> Client {
    Client::new(settings, Mode::Test, Provider::Truelayer).expect("a client")
}

pub(super) fn iban() -> Destination {
    Destination::Iban(Iban::parse("GB82WEST12345698765432").expect("an IBAN"))
}

static ADA: LazyLock<domain::destination::Beneficiary> = LazyLock::new(|| beneficiary("Ada Quill", "Invoice 1187", iban()));

fn order(number: u8) -> Order<'static> {
    Order { key: key(number), money: money(12_345, "GBP"), beneficiary: &ADA, context_code: "withdrawal" }
}

fn prepared(client: &Client) -> Vec<u8> {
    client.prepare(&order(1)).expect("prepares")
}

pub(super) fn inquiry<'a>(number: u8, reference: Option<&'a ProviderReference>, request: &'a [u8]) -> Inquiry<'a> {
    Inquiry { key: key(number), reference, request, first_sent: clock::now() }
}

pub(super) fn accepted(id: Option<&str>) -> Answer {
    Answer::Says(accepted_report(id.map(str::to_owned)))
}

async fn answer_to(status: u16, body: serde_json::Value) -> Answer {
    let server = Scripted::start(move |_| Reply::json(status, &body)).await;
    let client = client(settings(&server.url));
    client.submit(&prepared(&client), soon(), LONG).await
}

/// The table of answers, line by line.
#[tokio::test]
async fn every_status_has_its_class() {
    use serde_json::json;
    let refused = |code: &str| Answer::Refused { reason: Reason::new(code) };
    let unprocessed = |why: &str| Answer::Unprocessed { why: Reason::new(why), retry_after: None };
    let validation = json!({"errorName": "bodyDoesNotMatchSchema", "message": "Ada", "validationErrors":
        [{"errorName": "stringIsTooLong", "message": "Ada Quill", "jsonPath": "$.instruction.parties[0].personalDetails.companyName"}]});
    for (status, body, expected) in [
        (202, json!({"payoutRequestId": "PZ000EC4", "idempotencyKey": "k", "entity": "default"}), accepted(Some("PZ000EC4"))),
        (200, json!({"ubr": "PZ000EC4"}), accepted(Some("PZ000EC4"))),
        (202, json!({"payoutRequestId": "../events"}), accepted(None)),
        (202, json!({"payoutRequestId": 7}), accepted(None)),
        (202, json!([]), accepted(None)),
        (400, validation.clone(), refused("stringIsTooLong.companyName")),
        (422, validation, refused("stringIsTooLong.companyName")),
        (400, json!({"errorName": "BODYISNOTJSON"}), refused("bodyisnotjson")),
        (422, json!({"errorName": "fieldHasInvalidValue", "jsonPath": "$.merchant.entity"}), refused("fieldhasinvalidvalue.entity")),
        (400, json!({"errorName": "headerIsMissing", "headerName": "Idempotency-Key"}), unprocessed("headerismissing.idempotency-key")),
        (406, json!({"errorName": "headerHasInvalidValue", "headerName": "Accept"}), unprocessed("headerhasinvalidvalue.accept")),
        (415, json!({"errorName": "headerHasInvalidValue"}), unprocessed("headerhasinvalidvalue")),
        (401, json!({"errorName": "unauthorized", "message": "Invalid token"}), unprocessed("unauthorized")),
        (403, json!({"errorName": "forbidden", "message": "Forbidden.\u{a0}Unauthorised\u{a0}request"}), unprocessed("forbidden")),
        (403, json!({"errorName": "entityIsNotConfigured"}), unprocessed("forbidden")),
        (429, json!({"errorName": "tooManyRequests"}), unprocessed("rate_limited")),
        // Known statuses without the documented content, and statuses that are not listed, prove nothing.
        (400, json!({"errorName": "somethingNew"}), no_answer("status_400")),
        (400, json!({"errorName": null}), no_answer("status_400")),
        (422, json!([]), no_answer("status_422")),
        (415, json!({}), no_answer("status_415")),
        (201, json!({}), no_answer("status_201")),
        (204, json!({}), no_answer("status_204")),
        (302, json!({}), no_answer("status_302")),
        (404, json!({"errorName": "notFound"}), no_answer("status_404")),
        (408, json!({}), no_answer("status_408")),
        (500, json!({"errorName": null, "message": "Unexpected Issue. Please try again"}), no_answer("status_500")),
        (500, json!({"errorName": "bodyDoesNotMatchSchema"}), no_answer("status_500")),
        (500, json!({"errorName": "checkOutcome"}), no_answer("checkoutcome")),
        (503, json!({"errorName": "serviceUnavailable"}), no_answer("status_503")),
        (504, json!({}), no_answer("status_504")),
    ] {
        assert_eq!(answer_to(status, body.clone()).await, expected, "{status} {body}");
    }
    let server = Scripted::start(|_| Reply::Answer(429, vec![("retry-after", "17".to_owned())], Vec::new())).await;
    let client = client(settings(&server.url));
    let expected = Answer::Unprocessed { why: Reason::new("rate_limited"), retry_after: Some(SignedDuration::from_secs(17)) };
    assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, expected);
}

/// What goes over the wire in the current generation: fixed bytes, exact decimals, and the headers of the documentation.
#[tokio::test]
async fn a_create_has_fixed_bytes_and_headers() {
    let server = Scripted::start(|_| Reply::status(202)).await;
    let client = client(settings(&format!("{}/edge", server.url)));
    assert_eq!(prepared(&client), prepared(&client));
    assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, accepted(None));
    let [received] = &server.received()[..] else { panic!("one request") };
    let reference = key(1).as_uuid().simple().to_string();
    let expected = format!(
        r#"{{"merchant":{{"entity":"default"}},"transactionReference":"{reference}","instruction":{{"countryCode":"GB","value":{{"sourceCurrency":"GBP","targetCurrency":"GBP","targetAmount":123.45}},"narrative":{{"line1":"Invoice 1187"}},"beneficiaryBankDetails":{{"iban":"GB82WEST12345698765432"}},"parties":[{{"partyType":"beneficiary","personalDetails":{{"type":"company","companyName":"Ada Quill"}}}}]}}}}"#
    );
    assert_eq!((received.line.as_str(), std::str::from_utf8(&received.body).expect("text")), ("POST /edge/accountPayouts", expected.as_str()));
    let header = |name: &str| received.headers[name].to_str().expect("text").to_owned();
    assert_eq!(header("authorization"), "Basic YWNtZTpodW50ZXIy");
    assert_eq!((header("accept"), header("content-type")), ("application/json".to_owned(), "application/json".to_owned()));
    assert_eq!((header("wp-api-version"), header("wp-callerid")), ("2025-01-01".to_owned(), "payrelay-tests".to_owned()));
    assert_eq!((header("idempotency-key"), header("wp-correlationid")), (reference, key(1).to_string()));
}

/// The same of the older generation; what is sent again goes out as it was prepared, whatever the settings say by then.
#[tokio::test]
async fn the_legacy_generation_has_its_own_bytes_and_media_type() {
    let server = Scripted::start(|_| Reply::json(202, &serde_json::json!({"ubr": "PZ000EC4"}))).await;
    let old = client(Settings {
        beneficiary_kind: BeneficiaryKind::Person,
        purposes: BTreeMap::from([("withdrawal".to_owned(), "WPTRNF".to_owned())]),
        channel: Some("wire".to_owned()),
        ..legacy(&server.url)
    });
    let request = prepared(&old);
    let changed = client(Settings { generation: Generation::Current, entity: "other".to_owned(), ..legacy(&server.url) });
    for sender in [&old, &changed] {
        assert_eq!(sender.submit(&request, soon(), LONG).await, accepted(Some("PZ000EC4")));
    }
    let [received, again] = &server.received()[..] else { panic!("two requests") };
    let reference = key(1).as_uuid().simple().to_string();
    let expected = format!(
        r#"{{"requester":{{"instructingTreasuryId":"000055","entity":"000055","apiRequestReference":"{reference}"}},"transactionReference":"{reference}","countryCode":"GB","sourceCurrency":"GBP","sourceAmount":0,"targetCurrency":"GBP","targetAmount":123.45,"narrative":"Invoice 1187","purposeOfPaymentCode":"WPTRNF","channel":"wire","bankDetails":{{"iban":"GB82WEST12345698765432"}},"parties":[{{"partyTypeCode":"PT03","personalDetails":{{"typeCode":"PD02","firstName":"Ada","lastName":"Quill"}}}}]}}"#
    );
    assert_eq!((received.line.as_str(), std::str::from_utf8(&received.body).expect("text")), (LEGACY_CREATE, expected.as_str()));
    let media = "application/vnd.worldpay.account-payouts-v2+json";
    assert_eq!(
        (&received.headers["accept"], &received.headers["content-type"]),
        (&HeaderValue::from_static(media), &HeaderValue::from_static(media))
    );
    assert!(!received.headers.contains_key("wp-api-version") && !received.headers.contains_key("idempotency-key"));
    assert_eq!((&again.line, &again.body, &again.headers["accept"]), (&received.line, &received.body, &received.headers["accept"]));
}

#[tokio::test]
async fn what_never_left() {
    let (closed, _socket) = refusing();
    let down = client(settings(&closed));
    assert_eq!(down.submit(&prepared(&down), soon(), LONG).await, not_sent("connect"));
    let server = Scripted::start(|_| Reply::status(202)).await;
    let client = client(settings(&server.url));
    let past = clock::now() - SignedDuration::from_secs(1);
    assert_eq!(client.submit(&prepared(&client), past, LONG).await, not_sent("send_by_passed"));
    assert_eq!(client.submit(b"{}", soon(), LONG).await, not_sent("unreadable_request"));
    let batch = client.prepare_batch(key(9), &[order(1)]).expect("prepares");
    assert_eq!(client.submit(&batch, soon(), LONG).await, not_sent("unreadable_request"), "a batch is not one payout");
    assert_eq!(client.submit_batch(&prepared(&client), soon(), LONG).await.answer, not_sent("unreadable_request"));
    assert_eq!(server.received().len(), 0);
}

/// Bytes left and no usable answer came.
#[tokio::test]
async fn no_answer_after_the_request_left() {
    for (reply, within, why) in
        [(Reply::Drop, LONG, "connection_lost"), (Reply::Hang, SHORT, "deadline"), (Reply::Raw(b"HTTP/1.1 2".to_vec()), LONG, "connection_lost")]
    {
        let mut reply = Some(reply);
        let server = Scripted::start(move |_| reply.take().unwrap_or(Reply::status(202))).await;
        let client = client(settings(&server.url));
        assert_eq!(client.submit(&prepared(&client), soon(), within).await, no_answer(why));
        assert_eq!(server.count(CREATE), 1, "sent once");
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
    let mut settings = legacy(&server.url);
    settings.access.discover = true;
    let client = client(settings);
    let request = prepared(&client);
    let send_by = *passes.get_or_init(|| clock::now() + SignedDuration::from_millis(300));
    assert_eq!(client.submit(&request, send_by, LONG).await, not_sent("send_by_passed"));
    assert_eq!((server.count("GET /"), server.count(LEGACY_CREATE)), (1, 0));
}

/// Links are discovered once, kept, and only followed to where our credentials belong; without them the documented addresses serve.
#[tokio::test]
async fn links_are_discovered_and_kept() {
    let served = |link: fn(&str) -> String| async move {
        let url = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
        let own = std::sync::Arc::clone(&url);
        let server = Scripted::start(move |request: &Received| {
            let href = link(own.get().map_or("", String::as_str));
            let curies = serde_json::json!([{"name": "payments", "templated": true}]);
            let links = serde_json::json!({"_links": {"service:payouts/accounts": {"href": href}, "curies": curies}});
            if request.line == "GET /" { Reply::json(200, &links) } else { Reply::status(202) }
        })
        .await;
        url.set(server.url.clone()).expect("once");
        let mut settings = legacy(&server.url);
        settings.access.discover = true;
        let client = client(settings);
        for _ in 0..2 {
            assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, accepted(None));
        }
        assert_eq!(server.count("GET /"), 1, "kept");
        let root = server.received().into_iter().find(|received| received.line == "GET /").expect("the root");
        assert!(root.headers.contains_key("authorization") && root.body.is_empty());
        server.received().iter().map(|received| received.line.clone()).filter(|line| line.starts_with("POST")).collect::<Vec<_>>()
    };
    assert_eq!(served(|url| format!("{url}/v9/accounts")).await, ["POST /v9/accounts/single"; 2]);
    assert_eq!(served(|_| "/v9/accounts".to_owned()).await, ["POST /v9/accounts/single"; 2]);
    assert_eq!(served(|_| "https://evil.example/v9/accounts".to_owned()).await, [LEGACY_CREATE; 2]);
    assert_eq!(served(|url| format!("{}/v9/accounts", url.replace("http://", "http://user@"))).await, [LEGACY_CREATE; 2]);

    // A root that is silent costs a bounded time, once.
    let server = Scripted::start(|request: &Received| if request.line == "GET /" { Reply::Hang } else { Reply::status(202) }).await;
    let mut settings = legacy(&server.url);
    (settings.access.discover, settings.access.discover_timeout_ms) = (true, 100);
    let client = client(settings);
    for _ in 0..2 {
        assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, accepted(None));
    }
    assert_eq!((server.count("GET /"), server.count(LEGACY_CREATE)), (1, 2));
}

fn item(change: impl Fn(&mut serde_json::Value)) -> serde_json::Value {
    let mut item = serde_json::json!({"paymentId": "51a448e5-4430-ee11-b58a-005056b48b8e", "paymentDatetime": "2023-08-01T08:24:44.443Z", "payeeName": "Ada Quill",
        "sourceCurrency": "GBP", "sourceAmount": 0, "targetCurrency": "GBP", "targetAmount": 123.45, "paymentState": "EXECUTED",
        "iban": "GB82WEST12345698765432", "payoutRequestId": "PO000N65", "transactionReference": key_text(key(1)), "newField": {}});
    change(&mut item);
    item
}

fn page(items: &[serde_json::Value]) -> serde_json::Value {
    // Written by hand where it matters: a JSON value would make a double of the amount.
    serde_json::json!({"items": items, "pagination": {"pageNumber": 1, "pageSize": 10, "pageCount": 1, "totalNumberOfRecords": items.len()}})
}

/// Each state in, our word for it out (the mapping of the documentation).
#[test]
fn states_are_mapped() {
    let reason = Reason::new;
    for (word, expected) in [
        ("NEW", Status::Authorised),
        ("VALID", Status::Authorised),
        ("AWAITING_EXECUTION", Status::Authorised),
        ("IN_REVIEW", Status::Authorised),
        ("RFI_IN_PROGRESS", Status::Authorised),
        ("AWAITING_LIQUIDITY", Status::Authorised),
        ("REJECTED", Status::Authorised),
        ("EXECUTED", Status::Submitted),
        ("COMPLETED", Status::Settled),
        ("completed", Status::Settled),
        ("REVERSED", Status::Returned { reason: reason("reversed") }),
        ("FAILED", Status::Failed { reason: reason("failed") }),
        ("INVALID", Status::Rejected { reason: reason("invalid") }),
        ("TELEPORTED <b>", Status::Unmapped),
    ] {
        let text = item(|item| item["paymentState"] = word.into()).to_string();
        let read: wire::Item = serde_json::from_str(&text).expect(word);
        let report = report(&read);
        assert_eq!((&report.status, report.provider_status), (&expected, sanitised(word)), "{word}");
        assert_eq!(report.amount, Some(money(12_345, "GBP")));
        assert_eq!(report.reference, Some(ProviderReference("PO000N65".to_owned())));
        let submitted_at = (expected == Status::Authorised).then(|| "2023-08-01T08:24:44.443Z".parse().expect("a time"));
        assert_eq!(report.at, submitted_at, "the only time that is told is that of the submission");
    }
    for (amount, currency) in [("0", "GBP"), ("1.005", "GBP"), ("1", "gbp"), ("1e2", "GBP")] {
        let text = format!(r#"{{"paymentState":"NEW","targetAmount":{amount},"targetCurrency":"{currency}","paymentDatetime":5}}"#);
        let report = report(&serde_json::from_str(&text).expect("reads"));
        assert_eq!((report.amount, report.at, report.reference), (None, None, None), "{text}");
    }
}

/// A look finds, does not find, or fails; a failure is never a "not found".
#[tokio::test]
async fn looks() {
    let found = |look: Look| match look {
        Look::Found(report) => report.provider_status,
        Look::NotFound => "not found".to_owned(),
        Look::Nothing { why } => why.as_str().to_owned(),
    };
    let reference = ProviderReference("PO000N65".to_owned());
    let by_id = format!("GET /accountPayouts/{}", reference.0);
    for (read, search, expected) in [
        ((200, item(|_| ())), None, "EXECUTED"),
        ((200, item(|item| item["transactionReference"] = key_text(key(2)).into())), None, "other_payout"),
        ((403, serde_json::json!({"errorName": "forbidden"})), None, "status_403"),
        ((500, serde_json::json!({})), None, "status_500"),
        ((200, serde_json::json!({"paymentState": 5})), None, "unreadable"),
        ((404, serde_json::json!({})), Some((200, page(&[item(|_| ())]))), "EXECUTED"),
        ((404, serde_json::json!({})), Some((200, page(&[]))), "not found"),
        ((404, serde_json::json!({})), Some((200, page(&[item(|item| item["transactionReference"] = "other".into())]))), "not found"),
        ((404, serde_json::json!({})), Some((200, page(&[item(|_| ()), item(|_| ())]))), "several_payouts"),
        ((404, serde_json::json!({})), Some((403, serde_json::json!({}))), "status_403"),
        ((404, serde_json::json!({})), Some((204, serde_json::json!({}))), "status_204"),
        ((404, serde_json::json!({})), Some((404, serde_json::json!({}))), "status_404"),
    ] {
        let (line, searched) = (by_id.clone(), search.clone());
        let server = Scripted::start(move |request: &Received| {
            let (status, body) = if request.line == line { &read } else { searched.as_ref().expect("no search was expected") };
            Reply::json(*status, body)
        })
        .await;
        let client = client(settings(&server.url));
        assert_eq!(found(client.look(&inquiry(1, Some(&reference), &prepared(&client))).await), expected, "{search:?}");
        if search.is_some() {
            // Without an id there is only the search.
            assert_eq!(found(client.look(&inquiry(1, None, b"")).await), expected, "{search:?}");
            let asked = server.received().last().expect("asked").line.clone();
            assert_eq!(
                asked,
                format!("GET /accountPayouts/events?pageSize=10&pageNumber=1&entity=default&transactionReference={}", key_text(key(1)))
            );
        }
    }
    // What is no id of the provider's never becomes part of an address: then there is only the search.
    for odd in ["../events", "PZ/1", "", "PZ?x=1", &"P".repeat(33)] {
        let server = Scripted::start(|_| Reply::json(200, &page(&[]))).await;
        let (client, odd) = (client(settings(&server.url)), ProviderReference(odd.to_owned()));
        assert_eq!(found(client.look(&inquiry(1, Some(&odd), b"")).await), "not found", "{odd:?}");
        assert_eq!(client.read(&odd).await, Err(unread("unusable_reference")));
        let [asked] = &server.received()[..] else { panic!("one question") };
        assert!(asked.line.starts_with("GET /accountPayouts/events?pageSize"), "{}", asked.line);
    }
}

/// A conflict is adopted if what is there is ours, and a contradiction if it is not.
#[tokio::test]
async fn conflicts_are_looked_at() {
    type Change = fn(&mut serde_json::Value);
    let cases: [(Change, &str); 7] = [
        (|_| (), "adopted"),
        // What cannot be compared is neither.
        (|item| item["targetAmount"] = serde_json::Value::Null, "other"),
        (|item| item["targetCurrency"] = 826.into(), "other"),
        (|item| item["payeeName"] = "A QUILL".into(), "adopted"),
        (|item| item["targetAmount"] = 123.46.into(), "conflict"),
        (|item| item["targetCurrency"] = "EUR".into(), "conflict"),
        (|item| item["iban"] = "GB29NWBK60161331926819".into(), "conflict"),
    ];
    for (change, expected) in cases {
        let server = Scripted::start(move |request: &Received| {
            if request.line == CREATE {
                Reply::json(409, &serde_json::json!({"errorName": "conflict"}))
            } else {
                Reply::json(200, &page(&[item(change)]))
            }
        })
        .await;
        let client = client(settings(&server.url));
        let answer = client.submit(&prepared(&client), soon(), LONG).await;
        let told = match &answer {
            Answer::Says(report) if report.status == Status::Submitted => "adopted",
            Answer::KeyConflict => "conflict",
            _ => "other",
        };
        assert_eq!(told, expected, "{answer:?}");
    }
    let server = Scripted::start(|request: &Received| if request.line == CREATE { Reply::status(409) } else { Reply::json(200, &page(&[])) }).await;
    let client = client(settings(&server.url));
    assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, no_answer("status_409"));
}

/// A search that may have left ours out is not a "not found".
#[tokio::test]
async fn an_incomplete_search_is_no_answer() {
    let other = || item(|item| item["transactionReference"] = "XYZ102025".into());
    let nameless = || item(|item| item["transactionReference"] = serde_json::Value::Null);
    let paged = |pages: u32, items: &[serde_json::Value]| {
        let mut page = page(items);
        page["pagination"]["pageCount"] = pages.into();
        page
    };
    let nothing = |why: &str| Look::Nothing { why: Reason::new(why) };
    for (answer, expected) in [
        (paged(0, &[]), Look::NotFound),
        (paged(1, &[other()]), Look::NotFound),
        (paged(1, &[other(), nameless()]), nothing("incomplete_search")),
        (paged(5610, &[other()]), nothing("incomplete_search")),
        (paged(5610, &[]), nothing("incomplete_search")),
        (serde_json::json!([[]]), nothing("unreadable")),
    ] {
        let reply = answer.clone();
        let server = Scripted::start(move |_| Reply::json(200, &reply)).await;
        let client = client(settings(&server.url));
        assert_eq!(client.look(&inquiry(1, None, &prepared(&client))).await, expected, "{answer}");
    }
    let server = Scripted::start(move |_| Reply::json(200, &paged(5610, &[nameless(), item(|_| ())]))).await;
    let client = client(settings(&server.url));
    assert!(matches!(client.look(&inquiry(1, None, &prepared(&client))).await, Look::Found(_)), "what is found is found");
}

/// What the provider would refuse is refused here, by the name of the order's field.
#[test]
fn preparing_refuses_what_the_provider_would() {
    let current = client(settings("http://127.0.0.1:1"));
    let people = client(Settings { beneficiary_kind: BeneficiaryKind::Person, ..settings("http://127.0.0.1:1") });
    let ada = |reference: &str| beneficiary("Ada Quill", reference, iban());
    let problem = |client: &Client, money: Money, beneficiary: &domain::destination::Beneficiary| {
        client.prepare(&Order { key: key(1), money, beneficiary, context_code: "x" }).expect_err("a problem").field
    };
    let pounds = money(1, "GBP");
    assert_eq!(problem(&current, pounds, &ada("Inv 1")), "beneficiary_reference");
    assert_eq!(problem(&current, pounds, &ada(&"x".repeat(51))), "beneficiary_reference");
    // The shortest and the longest that the profile shows are those that are checked and told.
    let profile::Limits { reference: longest, reference_min: Some(shortest), .. } = current.profile().limits else { panic!("a shortest reference") };
    for length in [shortest, longest] {
        assert!(current.prepare(&Order { beneficiary: &ada(&"x".repeat(length)), ..order(1) }).is_ok(), "{length}");
    }
    for length in [shortest - 1, longest + 1] {
        let told = current.prepare(&Order { beneficiary: &ada(&"x".repeat(length)), ..order(1) }).expect_err("a problem").why;
        assert!(told.contains(&format!("{shortest} to {longest} characters")), "{told}");
    }
    assert_eq!(problem(&people, pounds, &beneficiary("Ada", "Invoice", iban())), "beneficiary_name");
    assert_eq!(problem(&current, money(1_005, "KWD"), &ada("Invoice")), "amount_in_minor");
    assert_eq!(problem(&current, money(10_000_000_000, "GBP"), &ada("Invoice")), "amount_in_minor");
    assert!(current.prepare(&Order { money: money(9_999_999_999, "GBP"), ..order(1) }).is_ok());
    let card: Destination = serde_json::from_str(r#"{"type":"card","number":"4444333322221111","expiry":"2035-05"}"#).expect("a card");
    assert_eq!(problem(&current, pounds, &beneficiary("Ada", "Invoice", card)), "destination");
    assert_eq!(current.prepare_batch(key(9), &[]).expect_err("empty").field, "payouts");
    assert_eq!(current.prepare_batch(key(9), &[order(1), order(1)]).expect_err("the same twice").field, "payouts");
    assert_eq!(current.prepare_batch(key(9), &vec![order(1); 501]).expect_err("too many").field, "payouts");
}

/// Accounts of each country, as they are written in each generation.
#[test]
fn every_account_is_written() {
    let uk = Destination::UkAccount {
        sort_code: SortCode::parse("11-22-33").expect("a sort code"),
        account_number: AccountNumber::parse("12345678").expect("an account"),
    };
    let us = Destination::UsAccount {
        routing_number: RoutingNumber::parse("021000021").expect("a routing number"),
        account_number: UsAccountNumber::parse("87654321").expect("an account"),
        account_type: UsAccountType::Savings,
    };
    let old = r#""bankDetails":{"#;
    for (destination, current, older) in [
        (iban(), r#""iban":"GB82WEST12345698765432"}"#, r#""iban":"GB82WEST12345698765432"}"#),
        (uk, r#""accountNumber":"12345678","bankCode":"112233"}"#, r#""beneficiaryAccountNumber":"12345678","bankCode":"112233"}"#),
        (
            us,
            r#""accountNumber":"87654321","bankCode":"021000021","accountType":"savings"}"#,
            r#""beneficiaryAccountTypeCode":"AC02","beneficiaryAccountNumber":"87654321","bankCode":"021000021"}"#,
        ),
    ] {
        let ada = beneficiary("Ada Quill", "Invoice 1187", destination);
        let order = Order { beneficiary: &ada, ..order(1) };
        let written = |settings| String::from_utf8(client(settings).prepare(&order).expect("prepares")).expect("text");
        let (new, legacy) = (written(settings("http://127.0.0.1:1")), written(legacy("http://127.0.0.1:1")));
        assert!(new.contains(&format!(r#""beneficiaryBankDetails":{{{current}"#)), "{new}");
        assert!(legacy.contains(&format!("{old}{older}")), "{legacy}");
    }
}

#[test]
fn settings_are_checked_and_nothing_shows_a_secret() {
    let url = "http://127.0.0.1:1";
    let good = settings(url);
    let client = client(good.clone());
    let request = prepared(&client);
    let shown = format!("{good:?} {client:?} {:?} {:?} {:?}", order(1), inquiry(1, None, &request), Prepared::read(&request).map(|one| one.version));
    for secret in ["hunter2", "YWNtZTpodW50ZXIy", "Ada", "Quill", "GB82", "Invoice"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let create: wire::CreatePayout = serde_json::from_str(Prepared::read(&request).expect("reads").body.get()).expect("reads");
    let shown = format!("{create:?} {:?} {:?}", create.instruction, serde_json::from_str::<wire::Item>(&item(|_| ()).to_string()).expect("reads"));
    assert!(!shown.contains("Ada") && !shown.contains("GB82") && !shown.contains("123.45"), "{shown}");

    let new = |settings, mode| Client::new(settings, mode, Provider::Truelayer).expect_err("unusable").to_string();
    assert_eq!(new(good.clone(), Mode::Live), "access.base_url");
    assert_eq!(new(Settings { entity: String::new(), ..good.clone() }, Mode::Test), "entity must be 1 to 32 characters");
    assert_eq!(
        new(Settings { entity: "short".to_owned(), ..legacy(url) }, Mode::Test),
        "entity and legacy.instructing_treasury_id must be 6 characters"
    );
    assert_eq!(new(Settings { source_account: Some("1".to_owned()), ..good.clone() }, Mode::Test), "source_account must be 16 characters");
    assert_eq!(new(Settings { api_version: "a\nb".to_owned(), ..good.clone() }, Mode::Test), "api_version and the media types must be plain text");
    let mut nobody = good.clone();
    nobody.access.password = String::new().into();
    assert_eq!(new(nobody, Mode::Test), "access.username and access.password must not be empty");
    let mut colon = good;
    colon.access.username = "a:b".to_owned();
    assert!(new(colon, Mode::Test).starts_with("access.username must not hold a colon"));
    let unknown = serde_json::json!({"access": access(url), "entity": "default", "entiti": ""});
    assert!(serde_json::from_value::<Settings>(unknown).is_err());
}

#[test]
fn the_key_leads_back() {
    assert_eq!(key_of(&key_text(key(1))), Some(key(1)));
    let profile = profile(Provider::Truelayer);
    assert!(profile.recognises_duplicates && profile.looked_up_by_our_key && !profile.not_found_is_final);
    assert!(profile.may_resend(clock::now(), clock::now() + SignedDuration::from_hours(19)));
    assert!(!profile.may_resend(clock::now(), clock::now() + SignedDuration::from_hours(20)));
}

mod with_sandbox;
