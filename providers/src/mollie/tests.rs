use domain::destination::{Beneficiary, StatementReference};
use domain::id::{PartyId, PayoutId, Shards};
use domain::money::{Currency, Money};
use serde_json::{Value, json};

use super::*;
use crate::http::scripted::{Received, Reply, Scripted, refusing};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);
const CREATE: &str = "POST /v2/payouts";
const BALANCE: &str = "bal_gVMhHKqSSRYJyPsuoPNFH";
/// The connector does not care under which name it is registered.
const NAME: Provider = Provider::Truelayer;

pub(super) fn settings(url: &str) -> Settings {
    let settings = json!({
        "base_url": url,
        "api_key": "test_hunter2",
        "balances": {"EUR": BALANCE, "JPY": "bal_yen"},
        "webhook_secrets": ["VpQ3WukU6uSCGQ8TPTD3WPDpac3GyNEj"],
        "read_timeout_ms": 10_000,
    });
    serde_json::from_value(settings).expect("settings")
}

pub(super) fn key(number: u8) -> ProviderKey {
    let payout = PayoutId::derive(&PartyId::parse("acme").expect("a party"), Mode::Test, &number.to_string(), Shards::ONE);
    ProviderKey::derive(payout, 1)
}

pub(super) fn own_account(reference: &str) -> Beneficiary {
    Beneficiary::own_account(StatementReference::parse(reference, 140).expect("a reference"))
}

pub(super) fn eur(minor: i64) -> Money {
    Money::new(minor, Currency::EUR).expect("an amount")
}

pub(super) fn soon() -> Timestamp {
    clock::now() + SignedDuration::from_secs(60)
}

fn prepared(client: &Client) -> Vec<u8> {
    let order = Order { key: key(1), money: eur(1000), beneficiary: &own_account("Week 12"), context_code: "withdrawal" };
    client.prepare(&order).expect("prepares")
}

fn inquiry<'a>(request: &'a [u8], reference: Option<&'a ProviderReference>) -> Inquiry<'a> {
    Inquiry { key: key(1), reference, request, first_sent: "2026-05-20T09:13:37Z".parse().expect("a timestamp") }
}

async fn provider(script: impl FnMut(&Received) -> Reply + Send + 'static) -> (Scripted, Client) {
    let server = Scripted::start(script).await;
    let client = Client::new(settings(&server.url), Mode::Test, NAME).expect("a client");
    (server, client)
}

/// The payout that the provider makes of our request.
fn payout() -> Value {
    json!({
        "resource": "payout", "id": "payout_1", "balanceId": BALANCE, "amount": {"currency": "EUR", "value": "10.00"},
        "description": format!("Week 12 {}", key(1)), "status": "requested", "statusReason": {"code": "requested", "message": "The payout has been requested."},
        "createdAt": "2026-05-20T09:13:38+00:00", "initiatedAt": null, "completedAt": null, "canceledAt": null, "mode": "test", "_links": {},
    })
}

/// That payout with some fields replaced.
fn with(change: Value) -> Value {
    let mut payout = payout();
    let Value::Object(change) = change else { panic!("an object") };
    payout.as_object_mut().expect("an object").extend(change);
    payout
}

fn page(payouts: &[Value], next: Option<&str>) -> Reply {
    let next = next.map(|id| json!({"href": format!("https://elsewhere.example/v2/payouts?from={id}&limit=2"), "type": "application/hal+json"}));
    Reply::json(200, &json!({"count": payouts.len(), "_embedded": {"payouts": payouts}, "_links": {"next": next, "previous": null}}))
}

fn says(status: Status, word: &str, at: Option<&str>) -> Report {
    Report {
        status,
        provider_status: word.to_owned(),
        at: at.map(|at| at.parse().expect("a timestamp")),
        reference: Some(ProviderReference("payout_1".to_owned())),
        amount: Some(eur(1000)),
    }
}

fn requested() -> Report {
    says(Status::Authorised, "requested", Some("2026-05-20T09:13:38Z"))
}

fn error(status: u16, detail: &str) -> Value {
    json!({"status": status, "title": "Title", "detail": detail, "_links": {}})
}

fn nothing(why: &str) -> Look {
    Look::Nothing { why: Reason::new(why) }
}

/// The table of answers, line by line.
#[tokio::test]
async fn every_status_has_its_class() {
    let refused = |code: &str| Answer::Refused { reason: Reason::new(code) };
    let accepted = Answer::Says(requested());
    for (status, body, expected) in [
        (201, payout(), accepted.clone()),
        (200, payout(), accepted.clone()),
        // A list may leave the description out, and so may this.
        (201, with(json!({"description": null, "amount": null})), Answer::Says(Report { amount: None, ..requested() })),
        (
            201,
            with(json!({"status": "initiated", "initiatedAt": "2026-05-21T06:00:00+00:00"})),
            Answer::Says(says(Status::Authorised, "initiated", Some("2026-05-21T06:00:00Z"))),
        ),
        // Somebody else's payout under our key.
        (201, with(json!({"amount": {"currency": "EUR", "value": "10.01"}})), Answer::KeyConflict),
        (201, with(json!({"amount": {"currency": "JPY", "value": "1000"}})), Answer::KeyConflict),
        (201, with(json!({"balanceId": "bal_other"})), Answer::KeyConflict),
        (201, with(json!({"description": "Week 12"})), Answer::KeyConflict),
        // Accepted, but what it says cannot be relied on.
        (201, with(json!({"amount": {"currency": "EUR", "value": "10.001"}})), no_answer("unreadable")),
        (201, with(json!({"amount": {"currency": "EUR", "value": 10.00}})), no_answer("unreadable")),
        (201, with(json!({"id": "../../v2/balances"})), no_answer("unreadable")),
        (201, with(json!({"mode": "live"})), no_answer("other_mode")),
        (201, json!({}), no_answer("unreadable")),
        (422, error(422, "The balance has insufficient funds."), refused("insufficient_funds")),
        (422, error(422, "Something new about Ada."), refused("unprocessable")),
        (400, error(400, "The request body is not JSON."), refused("unprocessable")),
        (422, error(422, "The Idempotency-Key was used before."), Answer::KeyConflict),
        (422, json!({"status": 422, "title": "Idempotency-Key reused", "detail": "Unprocessable Entity"}), Answer::KeyConflict),
        // An earlier send of ours may still be under way, and a machine in trouble knows nothing about our content.
        (409, error(409, "A request with this Idempotency-Key is being processed."), no_answer("status_409")),
        (503, error(503, "The idempotency store is not available."), no_answer("status_503")),
        (401, error(401, "Missing authentication"), unprocessed("unauthorized", None)),
        (403, error(403, "no"), unprocessed("forbidden", None)),
        (429, error(429, "slow down"), unprocessed("rate_limited", None)),
        // An error that is not in the provider's shape may be anybody's.
        (422, json!({"error": "no"}), no_answer("status_422")),
        (422, error(400, "mixed up"), no_answer("status_422")),
        (400, json!([]), no_answer("status_400")),
        (409, error(409, "Conflict"), no_answer("status_409")),
        (404, error(404, "No entity exists"), no_answer("status_404")),
        (202, payout(), no_answer("status_202")),
        (204, json!({}), no_answer("status_204")),
        (302, json!({}), no_answer("status_302")),
        (408, error(408, "time"), no_answer("status_408")),
        (410, error(410, "gone"), no_answer("status_410")),
        (500, error(500, "insufficient"), no_answer("status_500")),
        (502, json!({}), no_answer("status_502")),
        (503, error(503, "busy"), no_answer("status_503")),
    ] {
        let reply = body.clone();
        let (_server, client) = provider(move |_| Reply::json(status, &reply)).await;
        assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, expected, "{status} {body}");
    }
    // Which statuses refuse is a setting.
    let server = Scripted::start(|_| Reply::json(400, &error(400, "The request body is not JSON."))).await;
    let client = Client::new(Settings { refusal_statuses: vec![422], ..settings(&server.url) }, Mode::Test, NAME).expect("a client");
    assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, no_answer("status_400"));
}

#[tokio::test]
async fn waits_are_told() {
    let limit = r#""create-v2-payouts";r=0;t=7;mollie-burst=60"#.to_owned();
    for (headers, wait) in [
        (vec![("retry-after", "17".to_owned())], Some(17)),
        (vec![("retry-after", "17".to_owned()), ("ratelimit", limit.clone())], Some(17)),
        (vec![("ratelimit", limit)], Some(7)),
        (vec![("ratelimit", r#""x";r=0;t=99999999"#.to_owned())], Some(3600)),
        (vec![("ratelimit", "nonsense".to_owned())], None),
    ] {
        let (_server, client) = provider(move |_| Reply::Answer(429, headers.clone(), Vec::new())).await;
        assert_eq!(client.submit(&prepared(&client), soon(), LONG).await, unprocessed("rate_limited", wait.map(SignedDuration::from_secs)));
    }
}

/// What goes over the wire is the prepared body under our key; a credential of an organisation names the mode, an API key must not.
#[tokio::test]
async fn what_is_sent() {
    for (api_key, testmode) in [("test_hunter2", None), ("access_hunter2", Some(true)), ("opaque", Some(true))] {
        let server = Scripted::start(|received| if received.line == CREATE { Reply::json(201, &payout()) } else { page(&[], None) }).await;
        let client = Client::new(Settings { api_key: SecretString::from(api_key), ..settings(&server.url) }, Mode::Test, NAME).expect("a client");
        let request = prepared(&client);
        assert_eq!(prepared(&client), request, "the same order makes the same bytes");
        assert_eq!(client.submit(&request, soon(), LONG).await, Answer::Says(requested()));
        assert_eq!(client.look(&inquiry(&request, None)).await, Look::NotFound);
        let [create, list] = &server.received()[..] else { panic!("two requests") };
        assert_eq!(create.headers["authorization"], format!("Bearer {api_key}").as_str());
        assert_eq!(create.headers["content-type"], "application/json");
        assert_eq!(create.headers["idempotency-key"], key(1).to_string().as_str());
        let tail = testmode.map_or(String::new(), |testmode| format!(r#","testmode":{testmode}"#));
        let expected =
            format!(r#"{{"balanceId":"{BALANCE}","amount":{{"currency":"EUR","value":"10.00"}},"description":"Week 12 {}"{tail}}}"#, key(1));
        assert_eq!(create.body, expected.as_bytes());
        let tail = testmode.map_or(String::new(), |testmode| format!("&testmode={testmode}"));
        assert_eq!(list.line, format!("GET /v2/payouts?balanceId={BALANCE}&limit=250&sort=desc{tail}"));
    }
    let server = Scripted::start(|_| Reply::json(201, &with(json!({"mode": "live"})))).await;
    let tls = Client::new(Settings { api_key: SecretString::from("access_x"), ..settings(&server.url) }, Mode::Live, NAME);
    assert!(matches!(tls, Err(SetupError::BaseUrl(net::ClientError::Insecure))));
}

/// No connection, no time: the payout did not leave.
#[tokio::test]
async fn what_never_left() {
    let (closed, _socket) = refusing();
    let client = Client::new(settings(&closed), Mode::Test, NAME).expect("a client");
    let request = prepared(&client);
    assert_eq!(client.submit(&request, soon(), LONG).await, not_sent("connect"));
    let (server, client) = provider(|_| Reply::json(201, &payout())).await;
    assert_eq!(client.submit(&request, clock::now() - SignedDuration::from_secs(1), LONG).await, not_sent("send_by_passed"));
    for unreadable in [&b"{}"[..], b"", br#"{"key":"x","body":{}}"#, br#"{"key":"7c0a3f52-94f1-4be0-8d1c-5a9d0c6f7e20","body":{"balanceId":1}}"#] {
        assert_eq!(client.submit(unreadable, soon(), LONG).await, not_sent("unreadable_request"));
    }
    assert_eq!(server.received().len(), 0);
}

/// Bytes left and no usable answer came.
#[tokio::test]
async fn no_answer_after_the_request_left() {
    for (reply, within, why) in [
        (Reply::Drop, LONG, "connection_lost"),
        (Reply::Hang, SHORT, "deadline"),
        (Reply::Raw(b"HTTP/1.1 2".to_vec()), LONG, "connection_lost"),
        // Accepted, and then cut off: an acceptance without an id has to be looked for.
        (Reply::Raw(b"HTTP/1.1 201 X\r\ncontent-length: 999\r\n\r\n{\"id\"".to_vec()), LONG, "unreadable"),
        (Reply::Stall(b"HTTP/1.1 201 X\r\ncontent-length: 999\r\n\r\n{\"id\"".to_vec()), SHORT, "unreadable"),
        (Reply::Answer(201, Vec::new(), vec![b' '; 2_000_000]), LONG, "unreadable"),
    ] {
        let mut reply = Some(reply);
        let (server, client) = provider(move |_| reply.take().unwrap_or(Reply::status(500))).await;
        assert_eq!(client.submit(&prepared(&client), soon(), within).await, no_answer(why));
        assert_eq!(server.count(CREATE), 1, "once");
    }
}

/// By the provider's id.
#[tokio::test]
async fn looks_by_reference() {
    let reference = ProviderReference("payout_1".to_owned());
    for (reply, expected) in [
        (Reply::json(200, &payout()), Look::Found(requested())),
        (Reply::json(404, &error(404, "No entity exists with token 'payout_1'")), nothing("reference_unknown")),
        (Reply::json(200, &with(json!({"id": "payout_2"}))), nothing("other_payout")),
        (Reply::json(200, &with(json!({"mode": "live"}))), nothing("other_mode")),
        (Reply::json(200, &with(json!({"amount": {"currency": "EUR", "value": "1e1"}}))), nothing("unreadable")),
        (Reply::status(403), nothing("status_403")),
        (Reply::status(429), nothing("status_429")),
        (Reply::status(500), nothing("status_500")),
        (Reply::json(200, &json!({})), nothing("unreadable")),
        (Reply::Drop, nothing("connection_lost")),
    ] {
        let mut reply = Some(reply);
        let (_server, client) = provider(move |_| reply.take().unwrap_or(Reply::Drop)).await;
        let request = prepared(&client);
        assert_eq!(client.look(&inquiry(&request, Some(&reference))).await, expected);
    }
    let (server, client) = provider(|_| Reply::status(500)).await;
    let strange = ProviderReference("../balances/primary".to_owned());
    assert_eq!(client.look(&inquiry(&prepared(&client), Some(&strange))).await, nothing("unreadable_reference"));
    assert_eq!(server.received().len(), 0);
}

/// Without the provider's id: through the list, by our key in the description, and never by amount alone.
#[tokio::test]
async fn looks_through_the_list() {
    let other = |id: &str, at: &str| with(json!({"id": id, "description": "Somebody's", "createdAt": at}));
    let bare = |id: &str, change: Value| {
        let mut payout = with(json!({"id": id, "description": null}));
        payout.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        payout
    };
    let late = "2026-05-20T09:15:00+00:00";
    let early = "2026-05-20T09:00:00+00:00";
    let table: Vec<(&str, Vec<Vec<Value>>, Value, Look)> = vec![
        ("an empty list", vec![vec![]], json!(null), Look::NotFound),
        ("only others", vec![vec![other("payout_2", late)]], json!(null), Look::NotFound),
        ("ours", vec![vec![other("payout_2", late), payout()]], json!(null), Look::Found(requested())),
        ("ours on the second page", vec![vec![other("payout_2", late)], vec![payout()]], json!(null), Look::Found(requested())),
        // The first page reaches back far enough: the second is not asked for.
        ("older ones do not count", vec![vec![other("payout_2", late), other("payout_3", early)], vec![payout()]], json!(null), Look::NotFound),
        // ... unless the page is not in the order that was asked for.
        (
            "an unsorted page",
            vec![vec![other("payout_3", early), other("payout_2", late), other("payout_4", early)], vec![payout()]],
            json!(null),
            Look::Found(requested()),
        ),
        ("two of ours", vec![vec![payout(), with(json!({"id": "payout_2"}))]], json!(null), nothing("several_payouts")),
        // Payouts without a description are asked for one by one, if they can be ours at all.
        ("undescribed, ours", vec![vec![bare("payout_1", json!({}))]], payout(), Look::Found(requested())),
        ("undescribed, theirs", vec![vec![bare("payout_1", json!({}))]], other("payout_1", late), Look::NotFound),
        ("undescribed for good", vec![vec![bare("payout_1", json!({}))]], bare("payout_1", json!({})), nothing("undescribed_payouts")),
        (
            "undescribed, another amount",
            vec![vec![bare("payout_1", json!({"amount": {"currency": "EUR", "value": "10.01"}}))]],
            json!(null),
            Look::NotFound,
        ),
        ("undescribed, too old", vec![vec![bare("payout_1", json!({"createdAt": early}))]], json!(null), Look::NotFound),
        ("undescribed, of any amount", vec![vec![bare("payout_1", json!({"amount": null}))]], payout(), Look::Found(requested())),
        (
            "undescribed, of an amount that cannot be read",
            vec![vec![bare("payout_1", json!({"amount": {"currency": "EUR", "value": "10.000"}}))]],
            payout(),
            Look::Found(requested()),
        ),
        ("too many undescribed", vec![(0..9).map(|n| bare(&format!("payout_{n}"), json!({}))).collect()], payout(), nothing("undescribed_payouts")),
        // A list that does not end in time proves nothing.
        (
            "a long list",
            vec![vec![other("payout_2", late)], vec![other("payout_3", late)], vec![other("payout_4", late)], vec![payout()]],
            json!(null),
            nothing("list_too_long"),
        ),
    ];
    for (name, pages, single, expected) in table {
        let server = Scripted::start(move |received| {
            if received.line.starts_with("GET /v2/payouts/") {
                return if single.is_null() { Reply::status(500) } else { Reply::json(200, &single) };
            }
            let from = received.line.split("&from=page_").nth(1).map_or(0, |rest| rest.parse::<usize>().expect("a number"));
            let next = format!("page_{}", from + 1);
            page(&pages[from], (from + 1 < pages.len()).then_some(next.as_str()))
        })
        .await;
        let client = Client::new(Settings { pages_max: 3, ..settings(&server.url) }, Mode::Test, NAME).expect("a client");
        let request = prepared(&client);
        assert_eq!(client.look(&inquiry(&request, None)).await, expected, "{name}");
    }
    // What does not say that it is the last page is not the end of the list; what is on it, is.
    let unlinked = |payout: Value, links: Value| Reply::json(200, &json!({"count": 1, "_embedded": {"payouts": [payout]}, "_links": links}));
    for links in [Value::Null, json!({}), json!({"next": {}}), json!({"next": {"href": "/v2/payouts?cursor=2"}})] {
        for (payout, expected) in [(other("payout_2", late), nothing("unlinked_list")), (payout(), Look::Found(requested()))] {
            let mut reply = Some(unlinked(payout, links.clone()));
            let (_server, client) = provider(move |_| reply.take().unwrap_or(Reply::Drop)).await;
            assert_eq!(client.look(&inquiry(&prepared(&client), None)).await, expected, "{links}");
        }
    }
    for (reply, why) in [
        (Reply::status(500), "status_500"),
        (Reply::status(404), "status_404"),
        (Reply::json(200, &json!({"count": 0})), "unreadable"),
        (Reply::Drop, "connection_lost"),
    ] {
        let mut reply = Some(reply);
        let (_server, client) = provider(move |_| reply.take().unwrap_or(Reply::Drop)).await;
        let request = prepared(&client);
        assert_eq!(client.look(&inquiry(&request, None)).await, nothing(why), "a list that failed is not an empty list");
    }
    let (_server, client) = provider(|_| Reply::status(500)).await;
    assert_eq!(client.look(&inquiry(b"?", None)).await, nothing("unreadable_request"));
}

#[tokio::test]
async fn cancels() {
    let reference = ProviderReference("payout_1".to_owned());
    let canceled = || with(json!({"status": "canceled", "statusReason": {"code": "canceled"}, "canceledAt": "2026-05-20T10:00:00+00:00"}));
    let initiated = || with(json!({"status": "initiated", "initiatedAt": "2026-05-21T06:00:00+00:00"}));
    let gone = says(Status::Canceled { reason: Reason::new("canceled") }, "canceled", Some("2026-05-20T10:00:00Z"));
    let going = says(Status::Authorised, "initiated", Some("2026-05-21T06:00:00Z"));
    let nothing = |why| Canceling::Nothing { why: Reason::new(why) };
    for (delete, get, expected) in [
        (Reply::json(200, &canceled()), json!(null), Canceling::Canceled(gone.clone())),
        (Reply::json(409, &error(409, "The payout cannot be canceled in its current state.")), initiated(), Canceling::TooLate(going.clone())),
        // Somebody cancelled it before, we perhaps.
        (Reply::json(409, &error(409, "The payout cannot be canceled in its current state.")), canceled(), Canceling::Canceled(gone)),
        // A 200 is not a cancellation; the status is.
        (Reply::json(200, &initiated()), json!(null), Canceling::TooLate(going)),
        (Reply::json(409, &error(409, "?")), json!(null), nothing("status_500")),
        (Reply::status(404), json!(null), nothing("not_found")),
        (Reply::status(500), json!(null), nothing("status_500")),
        (Reply::status(401), json!(null), nothing("status_401")),
        (Reply::Drop, json!(null), nothing("connection_lost")),
        (Reply::json(200, &with(json!({"id": "payout_2"}))), json!(null), nothing("other_payout")),
    ] {
        let mut delete = Some(delete);
        let (server, client) = provider(move |received| match received.line.as_str() {
            "DELETE /v2/payouts/payout_1" => delete.take().unwrap_or(Reply::Drop),
            "GET /v2/payouts/payout_1" if !get.is_null() => Reply::json(200, &get),
            _ => Reply::status(500),
        })
        .await;
        let request = prepared(&client);
        assert_eq!(client.cancel(&inquiry(&request, Some(&reference))).await, expected);
        assert_eq!(server.count("DELETE /v2/payouts/payout_1"), 1);
    }
    // Without the provider's id it is looked for first.
    let (_server, client) =
        provider(move |received| if received.line.starts_with("DELETE") { Reply::json(200, &canceled()) } else { page(&[payout()], None) }).await;
    let request = prepared(&client);
    assert!(matches!(client.cancel(&inquiry(&request, None)).await, Canceling::Canceled(_)));
    let (server, client) = provider(|_| page(&[], None)).await;
    assert_eq!(client.cancel(&inquiry(&request, None)).await, nothing("not_found"));
    assert_eq!(server.received().len(), 1);
}

/// Each documented status in, our word for it out.
#[test]
fn statuses_are_mapped() {
    let reason = Reason::new;
    for (word, code, expected) in [
        ("requested", "requested", Status::Authorised),
        ("initiated", "initiated", Status::Authorised),
        ("processing-at-bank", "processing_at_bank", Status::Submitted),
        ("completed", "completed", Status::Settled),
        ("canceled", "canceled", Status::Canceled { reason: reason("canceled") }),
        ("failed", "insufficient_funds", Status::Failed { reason: reason("insufficient_funds") }),
        ("failed", "returned", Status::Returned { reason: reason("returned") }),
        ("failed", "", Status::Failed { reason: reason("unspecified") }),
        // The other spelling is not theirs.
        ("processing_at_bank", "processing_at_bank", Status::Unmapped),
        ("Completed", "completed", Status::Unmapped),
    ] {
        assert_eq!(status(word, code), expected, "{word} {code}");
    }
}

#[test]
fn preparing_refuses_what_the_provider_would() {
    let client = Client::new(settings("http://127.0.0.1:1"), Mode::Test, NAME).expect("a client");
    let yen = Money::new(7, Currency::parse("JPY").expect("a currency")).expect("an amount");
    let prepare = |money, beneficiary: &Beneficiary| client.prepare(&Order { key: key(1), money, beneficiary, context_code: "" });
    let text = String::from_utf8(prepare(yen, &own_account("x")).expect("prepares")).expect("text");
    assert!(text.contains(r#""balanceId":"bal_yen","amount":{"currency":"JPY","value":"7"}"#), "{text}");
    let longest = prepare(eur(Money::MAX_MINOR), &own_account(&"ü".repeat(140))).expect("prepares");
    let (_, _, create) = unpack(&longest).expect("unpacks");
    assert!(create.description.expect("a description").chars().count() <= wire::MAX_DESCRIPTION);
    assert_eq!(create.amount.expect("an amount").value, "9999999999999.99");

    let gbp = Money::new(1, Currency::GBP).expect("an amount");
    assert_eq!(prepare(gbp, &own_account("x")).expect_err("no balance").field, "balanceId");
    let iban = domain::destination::Iban::parse("GB82WEST12345698765432").expect("an IBAN");
    let theirs = Beneficiary { destination: Destination::Iban(iban), ..own_account("x") };
    let problem = prepare(eur(1), &theirs).expect_err("somebody else's account");
    assert_eq!(problem.field, "destination");
    assert!(!problem.to_string().contains("GB82"));
}

#[test]
fn settings_are_checked_and_show_no_secret() {
    let good = settings("http://127.0.0.1:1");
    let new = |settings: Settings, mode| Client::new(settings, mode, NAME);
    let key = |key: &str| Settings { api_key: SecretString::from(key), ..good.clone() };
    let text =
        format!("{good:?} {:?} {:?}", new(good.clone(), Mode::Test).expect("a client"), inbox::Inbox::new(&good, Mode::Test).expect("an inbox"));
    assert!(!text.contains("hunter2") && !text.contains("VpQ3"), "{text}");
    assert!(matches!(new(key("live_x"), Mode::Test), Err(SetupError::ApiKey(ApiKeyProblem::OtherMode))));
    assert!(matches!(new(key("test_x"), Mode::Live), Err(SetupError::ApiKey(ApiKeyProblem::OtherMode))));
    assert!(matches!(new(key("test_a\nb"), Mode::Test), Err(SetupError::ApiKey(ApiKeyProblem::Characters))));
    assert!(matches!(new(key(""), Mode::Test), Err(SetupError::Missing("api_key"))));
    let balance = |currency: &str, id: &str| Settings { balances: [(currency.to_owned(), id.to_owned())].into(), ..good.clone() };
    assert!(matches!(new(balance("eur", "bal_1"), Mode::Test), Err(SetupError::Balance { .. })));
    assert!(matches!(new(balance("EUR", "bal/1"), Mode::Test), Err(SetupError::Balance { .. })));
    let least = json!({"api_key": "test_x", "balances": {"EUR": "bal_1"}});
    assert_eq!(serde_json::from_value::<Settings>(least).expect("settings").base_url, HOST);
    assert!(serde_json::from_value::<Settings>(json!({"api_key": "", "balances": {}, "api_keys": 1})).is_err());
}

/// An hour is an hour: a repeat is offered for 48 minutes, and then never again.
#[test]
fn the_profile_bounds_repeats() {
    let profile = profile(NAME);
    let at = |minutes: i64| Timestamp::from_second(minutes * 60).expect("a timestamp");
    assert!(profile.may_resend(at(0), at(47)));
    assert!(!profile.may_resend(at(0), at(48)));
    assert!(profile.cancelable && profile.one_open_per_balance);
    assert_eq!(profile.destinations, ["own_account"]);
    assert!(profile.side_effects[0].contains("transferFrequency to never"));
}

#[test]
fn debug_shows_nothing_of_a_request() {
    let client = Client::new(settings("http://127.0.0.1:1"), Mode::Test, NAME).expect("a client");
    let (beneficiary, request) = (own_account("Secret holiday"), prepared(&client));
    let order = Order { key: key(1), money: eur(1), beneficiary: &beneficiary, context_code: "" };
    let shown = format!("{order:?} {:?}", inquiry(&request, None));
    assert!(!shown.contains("holiday") && !shown.contains("Week") && !shown.contains("123, 34"), "{shown}");
}

mod with_sandbox;
