//! Client, inbox and sandbox against each other, over real sockets, in both generations.

use domain::fact::{About, Told};
use http::{HeaderMap, Method, header};

use super::super::inbox::{Inbox, Notice, NoticeError};
use super::*;
use crate::http as net;
use crate::http::Limits;
use crate::sandbox::audit::Direction;
use crate::sandbox::mood::{Distribution, Mood};
use crate::worldpay::error::ErrorBody;
use crate::worldpay::signature::{EVENT_SIGNATURE, Unsigned};
use crate::worldpay::world::{World, event_keys};

/// A world in which `client` speaks that generation.
async fn start(generation: Generation, change: impl FnOnce(&mut crate::worldpay::sandbox::Settings)) -> (World, Client) {
    let world = World::start(|settings| {
        if generation == Generation::Legacy {
            settings.entity = "000055".to_owned();
        }
        change(settings);
    })
    .await;
    let settings = if generation == Generation::Legacy { legacy(&world.url) } else { settings(&world.url) };
    (world, client(settings))
}

async fn pay(client: &Client, number: u8, minor: i64, reference: &str) -> Answer {
    let ada = beneficiary("Ada Quill", reference, iban());
    let request = client.prepare(&Order { key: key(number), money: money(minor, "GBP"), beneficiary: &ada, context_code: "x" }).expect("prepares");
    // The deadline is what some answers are about; for the others it only has to be longer than a busy machine is slow.
    let within = if minor == Mood::FIRST_AMOUNT + 2 { 1_500 } else { 15_000 };
    client.submit(&request, soon(), Duration::from_millis(within)).await
}

/// The kind of an answer, without the id that the sandbox chose.
fn kind(answer: &Answer) -> String {
    match answer {
        Answer::Says(report) => format!("says {}", report.provider_status),
        Answer::NotSent { why } => format!("not sent {}", why.as_str()),
        Answer::Unprocessed { why, retry_after } => format!("unprocessed {} {}", why.as_str(), retry_after.map_or(0, |wait| wait.as_secs())),
        Answer::NoAnswer { why } => format!("no answer {}", why.as_str()),
        Answer::Refused { reason } => format!("refused {}", reason.as_str()),
        Answer::KeyConflict => "conflict".to_owned(),
    }
}

fn reference(answer: &Answer) -> ProviderReference {
    match answer {
        Answer::Says(Report { reference: Some(reference), .. }) => reference.clone(),
        other => panic!("an id: {other:?}"),
    }
}

/// A payout from create to completed, in both generations: answer, looks by id and by key, search, and ledger tell the same story.
#[tokio::test]
async fn a_payout_completes() {
    for generation in [Generation::Current, Generation::Legacy] {
        let (world, client) = start(generation, |_| ()).await;
        assert_eq!(client.look(&inquiry(1, None, b"")).await, Look::NotFound);
        let answer = pay(&client, 1, 19_999, "Invoice 1").await;
        world.status_is(1, "COMPLETED").await;
        let id = reference(&answer);
        let by_id = client.look(&inquiry(1, Some(&id), b"")).await;
        let Look::Found(report) = &by_id else { panic!("found: {by_id:?}") };
        assert_eq!((&report.status, report.amount, &report.reference), (&Status::Settled, Some(money(19_999, "GBP")), &Some(id.clone())));
        assert_eq!(client.look(&inquiry(1, None, b"")).await, by_id);
        assert_eq!(client.look(&inquiry(2, None, b"")).await, Look::NotFound);
        assert_eq!(client.look(&inquiry(2, Some(&id), b"")).await, Look::Nothing { why: Reason::new("other_payout") });

        let completed = Search { payment_state: Some("COMPLETED".to_owned()), currency: Some(Currency::GBP), ..Search::default() };
        let page = client.search(&completed).await.expect("a page");
        assert_eq!((page.items.len(), page.pagination.total_number_of_records, page.pagination.page_size), (1, 1, 499));
        let item = client.read(&id).await.expect("an answer").expect("a payout");
        assert_eq!((item.id(), item.target_amount.as_ref().map(|amount| amount.as_str())), (Some(id.0.as_str()), Some("199.99")));
        let none = Search { payment_state: Some("FAILED".to_owned()), ..Search::default() };
        assert_eq!(client.search(&none).await.expect("a page").items, []);
        let tomorrow = "2199-01-01".parse().ok();
        assert_eq!(client.search(&Search { from: tomorrow, ..Search::default() }).await.expect("a page").items, []);

        let hour = SignedDuration::from_hours(1);
        let statement = client.statement(clock::now() - hour, clock::now() + hour, 10).await.expect("a statement");
        let [line] = &statement.lines[..] else { panic!("one line: {statement:?}") };
        assert_eq!((line.key, line.report.amount, &line.report.status, statement.whole), (Some(key(1)), report.amount, &Status::Settled, true));
        assert_eq!(client.statement(clock::now() + hour, clock::now() + hour + hour, 10).await.expect("a statement").lines, []);

        let ledger = world.sandbox.ledger();
        let [movement] = &ledger.movements[..] else { panic!("one movement") };
        let attempt = movement.payout_and_attempt().map(|(_, attempt)| attempt);
        assert_eq!((movement.amount_in_minor, movement.direction, attempt), (19_999, Direction::Out, Some(1)));
        assert_eq!((ledger.double_movements, ledger.same_to_the_bank), (0, 0));
    }
}

/// Every mood, seen from the client: what the first create comes to, what a repeat comes to, where the payout ends, and how often money moved.
#[tokio::test]
async fn moods() {
    for generation in [Generation::Current, Generation::Legacy] {
        let (world, client) =
            start(generation, |settings| (settings.behaviour.slow_answer_ms, settings.behaviour.late_appear_ms) = (60_000, 300)).await;
        let lost = "no answer connection_lost";
        let broken = "no answer status_500";
        let says = "says NEW";
        let refused = "refused fieldhasinvalidvalue.instruction";
        let table = [
            (Mood::Plain, says, says, Some("COMPLETED"), "202 200", 1),
            (Mood::LostAnswer, lost, says, Some("COMPLETED"), "dropped 200", 1),
            (Mood::SlowAnswer, "no answer deadline", says, Some("COMPLETED"), "202 200", 1),
            (Mood::ErrorBefore, broken, says, Some("COMPLETED"), "500 202", 1),
            (Mood::ErrorAfter, broken, says, Some("COMPLETED"), "500 200", 1),
            (Mood::LateAppear, lost, says, Some("COMPLETED"), "dropped 200", 1),
            (Mood::DuplicateNotices, says, says, Some("COMPLETED"), "202 200", 1),
            (Mood::ShuffledNotices, says, says, Some("COMPLETED"), "202 200", 1),
            (Mood::BadSignature, says, says, Some("COMPLETED"), "202 200", 1),
            (Mood::NoNotices, says, says, Some("COMPLETED"), "202 200", 1),
            (Mood::Reject, says, says, Some("INVALID"), "202 200", 0),
            (Mood::Refuse, refused, refused, None, "400 400", 0),
            (Mood::Fail, says, says, Some("FAILED"), "202 200", 2),
            (Mood::Return, says, says, Some("REVERSED"), "202 200", 2),
            (Mood::RateLimit, "unprocessed rate_limited 1", says, Some("COMPLETED"), "429 202", 1),
            (Mood::Stuck, says, says, Some("EXECUTED"), "202 200", 1),
            (Mood::Unauthorised, "unprocessed unauthorized 0", says, Some("COMPLETED"), "401 202", 1),
            (Mood::Forbidden, "unprocessed forbidden 0", says, Some("COMPLETED"), "403 202", 1),
            (Mood::Interim, says, says, Some("COMPLETED"), "202 200", 1),
            (Mood::Inconclusive, broken, says, Some("COMPLETED"), "500 200", 1),
            (Mood::Vanished, broken, says, Some("COMPLETED"), "500 202", 1),
            (Mood::Silent, says, says, Some("EXECUTED"), "202 200", 1),
        ];
        assert_eq!(table.map(|(mood, ..)| mood), Mood::ALL);
        for (number, (mood, first, second, end, answers, movements)) in (1..).zip(table) {
            let name = mood.name();
            let amount = Mood::FIRST_AMOUNT + i64::from(number) - 1;
            assert_eq!(kind(&pay(&client, number, amount, "Invoice").await), first, "{name}");
            if mood == Mood::LateAppear {
                assert_eq!(client.look(&inquiry(number, None, b"")).await, Look::NotFound, "not yet");
            }
            assert_eq!(kind(&pay(&client, number, amount, "Invoice").await), second, "{name}");
            match end {
                Some(status) => world.status_is(number, status).await,
                None => assert_eq!(world.stored(number), None, "{name}"),
            }
            assert_eq!((world.answers(number).as_str(), world.moved(number)), (answers, movements), "{name}");
        }
        assert_eq!((world.sandbox.ledger().double_movements, world.sandbox.ledger().same_to_the_bank), (0, 0));
        // What was late has appeared, and what came back is told as that.
        let late = world.stored(6).expect("stored").visible_at;
        world.until(|_| (clock::now() > late).then_some(())).await;
        assert!(matches!(client.look(&inquiry(6, None, b"")).await, Look::Found(_)));
        let Look::Found(returned) = client.look(&inquiry(14, None, b"")).await else { panic!("found") };
        assert_eq!(returned.status, Status::Returned { reason: Reason::new("reversed") });
        assert!(world.sandbox.advance(key(16), "COMPLETED") && !world.sandbox.advance(key(16), "COMPLETED"), "what is stuck can be helped, once");
        assert!(!world.sandbox.advance(key(16), "EXECUTED") && !world.sandbox.advance(key(16), "disbursed"), "never back, never elsewhere");
        assert!(world.sandbox.advance(key(16), "REVERSED"), "a late return");
        assert_eq!(world.moved(16), 2);
    }
}

/// The states that hold a payout are all interim, the one called REJECTED too.
#[tokio::test]
async fn interim_states_end_nothing() {
    let (world, client) = start(Generation::Current, |settings| settings.stage_ms = 60_000).await;
    assert_eq!(kind(&pay(&client, 1, 500, "Invoice").await), "says NEW");
    for (word, status) in [
        ("NEW", Status::Authorised),
        ("IN_REVIEW", Status::Authorised),
        ("RFI_IN_PROGRESS", Status::Authorised),
        ("AWAITING_LIQUIDITY", Status::Authorised),
        ("REJECTED", Status::Authorised),
        ("EXECUTED", Status::Submitted),
        ("COMPLETED", Status::Settled),
        ("REVERSED", Status::Returned { reason: Reason::new("reversed") }),
    ] {
        assert!(word == "NEW" || world.sandbox.advance(key(1), word), "{word}");
        let Look::Found(report) = client.look(&inquiry(1, None, b"")).await else { panic!("found") };
        assert_eq!((report.provider_status.as_str(), report.status), (word, status));
    }
}

fn read_all(inbox: &Inbox, raw: &[(HeaderMap, Bytes)]) -> Vec<Result<Notice, NoticeError>> {
    let one = |(headers, body): &(HeaderMap, Bytes)| {
        let read = inbox.read(&Method::POST, "/notices/worldpay", headers, body);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(read))
    };
    raw.iter().map(one).collect()
}

fn signed_inbox(world: &World) -> Inbox {
    Inbox::new(&Settings { event_keys: event_keys(), ..settings(&world.url) }, Mode::Test).expect("an inbox")
}

/// What each mood does to the notifications of one payout, and that none of them tells anything.
#[tokio::test(flavor = "multi_thread")]
async fn notifications() {
    for (mood, expected) in [
        (Mood::Plain, vec!["payoutSuccess"]),
        (Mood::DuplicateNotices, vec!["payoutSuccess", "payoutSuccess"]),
        (Mood::BadSignature, vec!["refused", "payoutSuccess"]),
        (Mood::Interim, vec!["rfiInProgress", "payoutSuccess"]),
        (Mood::Return, vec!["payoutSuccess", "payoutReturn"]),
    ] {
        let (world, client) = start(Generation::Current, |_| ()).await;
        world.sandbox.set_mood(1, mood);
        let id = reference(&pay(&client, 1, 500, "Invoice").await);
        let notices = read_all(&signed_inbox(&world), &world.notices(expected.len()).await);
        let words: Vec<_> = notices.iter().map(|notice| notice.as_ref().map_or("refused", Notice::event_type)).collect();
        assert_eq!(words, expected, "{}", mood.name());
        for notice in notices.iter().flatten() {
            assert_eq!((notice.hint(), notice.told()), (Some(&About::Key(key(1))), None::<&Told>));
        }
        let ids: std::collections::HashSet<_> = notices.iter().flatten().map(Notice::dedupe_id).collect();
        let distinct = notices.iter().flatten().count() / if mood == Mood::DuplicateNotices { 2 } else { 1 };
        assert_eq!(ids.len(), distinct, "{}", mood.name());
        // The hint leads to the truth.
        assert!(matches!(client.look(&inquiry(1, Some(&id), b"")).await, Look::Found(_)));
    }
    // Last first: the return comes before the success.
    let (world, client) = start(Generation::Current, |_| ()).await;
    world.sandbox.set_mood(1, Mood::ShuffledNotices);
    pay(&client, 1, 500, "Invoice").await;
    assert_eq!(read_all(&signed_inbox(&world), &world.notices(1).await).len(), 1);
    // The provider's own magic value, in the reference of a client that is not ours: turned back before it arrived.
    let (world, _) = start(Generation::Current, |_| ()).await;
    let create = Prepared::read(&prepared(&client)).expect("reads").body.get().to_owned();
    let create = create.replace(&key_text(key(1)), "ABC123-invalidBankDetails");
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let call = Call::new(Method::POST, "/accountPayouts", LONG)
        .header(header::AUTHORIZATION, HeaderValue::from_static("Basic YWNtZTpodW50ZXIy"))
        .header(access::API_VERSION, HeaderValue::from_static("2025-01-01"))
        .header(IDEMPOTENCY_KEY, HeaderValue::from_static("mustBeUnique12345"))
        .body("application/json", create.into());
    assert_eq!(api.call(call).await.expect("an answer").status, StatusCode::ACCEPTED);
    let notices = read_all(&signed_inbox(&world), &world.notices(1).await);
    let notice = notices[0].as_ref().expect("reads");
    assert_eq!((notice.event_type(), notice.hint()), ("payoutReversal", Some(&About::Reference(ProviderReference("PZ000000".to_owned())))));

    // A receiver that fails at first gets it again, under the same id.
    let (world, client) = start(Generation::Current, |_| ()).await;
    world.fail_notices(2);
    pay(&client, 1, 500, "Invoice").await;
    world.notices(1).await;
    let sent = world.until(|world| Some(world.sandbox.payout(key(1))?.calls.notices).filter(|sent| sent.len() == 3)).await;
    assert_eq!(sent.iter().map(|sent| sent.status).collect::<Vec<_>>(), [Some(500), Some(500), Some(200)]);
    assert!(sent.iter().all(|other| other.event_id == sent[0].event_id));
}

/// With keys, strangers cannot cause a look; without, everything is a hint and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn notifications_are_signed_where_there_are_keys() {
    let (world, client) = start(Generation::Current, |_| ()).await;
    pay(&client, 1, 500, "Invoice").await;
    let (headers, body) = world.notices(1).await[0].clone();
    let signed = signed_inbox(&world);
    let open = Inbox::new(&settings(&world.url), Mode::Test).expect("an inbox");
    let read = async |inbox: &Inbox, headers: &HeaderMap, body: &Bytes| inbox.read(&Method::POST, "/", headers, body).await;
    assert!(read(&signed, &headers, &body).await.is_ok());
    let mut bare = headers.clone();
    bare.remove(EVENT_SIGNATURE);
    assert_eq!(read(&signed, &bare, &body).await, Err(NoticeError::Unsigned(Unsigned::Missing)));
    assert!(read(&open, &bare, &body).await.expect("reads").told().is_none());
    let changed = Bytes::from(String::from_utf8(body.to_vec()).expect("text").replace("COMPLETED", "REVERSED"));
    assert_eq!(read(&signed, &headers, &changed).await, Err(NoticeError::Unsigned(Unsigned::Mismatch)));
    let bad =
        Settings { event_keys: vec![crate::worldpay::signature::EventKey { id: String::new(), ..event_keys().remove(0) }], ..settings(&world.url) };
    assert!(matches!(Inbox::new(&bad, Mode::Test), Err(SetupError::Unusable("event_keys", _))));
}

/// Batches: ids per payout, a repeat without ids, and the whole batch ambiguous when the answer is lost.
#[tokio::test]
async fn batches() {
    for generation in [Generation::Current, Generation::Legacy] {
        let (world, client) = start(generation, |_| ()).await;
        let batch = |numbers: &[u8], key_of_batch| {
            let orders: Vec<_> = numbers.iter().map(|number| Order { money: money(500 + i64::from(*number), "GBP"), ..order(*number) }).collect();
            client.prepare_batch(key(key_of_batch), &orders).expect("prepares")
        };
        let request = batch(&[1, 2, 3], 100);
        let first = client.submit_batch(&request, soon(), LONG).await;
        assert_eq!((&first.answer, first.references.len()), (&accepted(None), 3));
        let again = client.submit_batch(&request, soon(), LONG).await;
        assert_eq!((&again.answer, again.references.len()), (&accepted(None), 0));
        for (of, id) in &first.references {
            let number = (1..=3).find(|number| key(*number) == *of).expect("ours");
            world.status_is(number, "COMPLETED").await;
            let Look::Found(report) = client.look(&inquiry(number, Some(id), b"")).await else { panic!("found") };
            assert_eq!((report.status, report.amount), (Status::Settled, Some(money(500 + i64::from(number), "GBP"))));
        }
        world.sandbox.set_mood(1, Mood::LostAnswer);
        let request = batch(&[4, 5], 101);
        assert_eq!(client.submit_batch(&request, soon(), LONG).await.answer, no_answer("connection_lost"));
        assert_eq!(client.submit_batch(&request, soon(), LONG).await.answer, accepted(None));
        world.sandbox.set_mood(1, Mood::RateLimit);
        let request = batch(&[6, 7], 102);
        assert_eq!(kind(&client.submit_batch(&request, soon(), LONG).await.answer), "unprocessed rate_limited 1");
        assert_eq!(client.submit_batch(&request, soon(), LONG).await.references.len(), 2);
        world.status_is(7, "COMPLETED").await;
        let large: Vec<_> = (6..=255).map(|number| Order { money: money(500, "GBP"), ..order(number) }).collect();
        let large = client.prepare_batch(key(103), &large).expect("prepares");
        assert_eq!(client.submit_batch(&large, soon(), LONG).await.references.len(), 250);
        world.until(|world| (6..=255).all(|number| world.stored(number).is_some_and(|stored| stored.status == "COMPLETED")).then_some(())).await;
        assert_eq!((world.sandbox.ledger().double_movements, world.sandbox.movements().len()), (2, 257));
    }
}

/// The sandbox is a strict server: credentials, headers, fields, amounts.
#[tokio::test]
async fn the_sandbox_is_strict() {
    let (world, client) = start(Generation::Current, |_| ()).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let good = Prepared::read(&prepared(&client)).expect("reads").body.get().to_owned();
    let headers = [
        ("authorization", "Basic YWNtZTpodW50ZXIy"),
        ("wp-api-version", "2025-01-01"),
        ("idempotency-key", "k1"),
        ("wp-correlationid", "00000000-0000-4000-8000-000000000000"),
    ];
    let send = async |path: &str, headers: &[(&'static str, &str)], content_type: &'static str, body: &str| {
        let call = Call::new(Method::POST, path, LONG).body(content_type, Bytes::copy_from_slice(body.as_bytes()));
        let with = |call: Call, (name, value): &(&'static str, &str)| {
            call.header(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
        };
        let response = api.call(headers.iter().fold(call, with)).await.expect("an answer");
        assert!(response.headers.contains_key("wp-correlationid"), "always told");
        (response.status.as_u16(), response.json::<ErrorBody>().map(|error| error.code()).unwrap_or_default())
    };
    let problem = |status, code: &str| (status, code.to_owned());
    for (name, value, expected) in [
        ("authorization", "Basic YWNtZTpodW50ZXIz", problem(401, "unauthorized")),
        ("wp-api-version", "2024-01-01", problem(400, "headerHasInvalidValue.WP-Api-Version")),
        ("idempotency-key", "123456789012345678901234567890123456", problem(400, "headerHasInvalidValue.Idempotency-Key")),
        ("wp-correlationid", "payout 7", problem(400, "headerHasInvalidValue.WP-CorrelationId")),
    ] {
        let changed = headers.map(|(own, held)| (own, if own == name { value } else { held }));
        assert_eq!(send("/accountPayouts", &changed, "application/json", &good).await, expected, "{name}");
    }
    for (from, to, expected) in [
        (r#"{"merchant""#, r#"{"note":1,"merchant""#, problem(400, "fieldIsNotAllowed.note")),
        (r#""countryCode":"GB","#, "", problem(400, "fieldIsMissing.countryCode")),
        (r#""countryCode":"GB""#, r#""countryCode":"GBR""#, problem(400, "stringIsTooLong.countryCode")),
        ("123.45", "123.456", problem(400, "fieldHasInvalidValue.targetAmount")),
        ("123.45", "-1", problem(400, "fieldHasInvalidValue.targetAmount")),
        ("123.45", "0", problem(400, "fieldHasInvalidValue.targetAmount")),
        ("123.45", r#""123.45""#, problem(400, "fieldHasInvalidValue")),
        (r#""targetAmount""#, r#""sourceAmount":5,"targetAmount""#, problem(400, "fieldIsNotAllowed.targetAmount")),
        ("Invoice 1187", "Inv", problem(400, "stringIsTooShort.line1")),
        ("GB82WEST", "GB83WEST", problem(400, "fieldHasInvalidValue.iban")),
        (r#""entity":"default""#, r#""entity":"other""#, problem(403, "forbidden")),
        ("{", "{{", problem(400, "bodyIsNotJson")),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert_eq!(send("/accountPayouts", &headers, "application/json", &changed).await, expected, "{to}");
    }
    assert_eq!(send("/accountPayouts", &headers, "application/json", "").await, problem(400, "bodyIsEmpty"));
    assert_eq!(world.sandbox.movements(), []);
    assert_eq!(
        send("/accountPayouts", &headers, "application/json", &good.replace("\"targetAmount\"", "\"sourceAmount\":0,\"targetAmount\"")).await,
        problem(202, "")
    );
    assert_eq!(send("/accountPayouts", &headers, "application/json", &good).await, problem(200, ""), "a repeat");

    // The older generation: all three spellings of the media type, the same in both headers.
    let old = r#"{"requester":{"instructingTreasuryId":"000055","entity":"default","apiRequestReference":"r1"}}"#;
    for (accept, content_type, expected) in [
        (
            "application/vnd.worldpay.account-payouts-v2+json",
            "application/vnd.worldpay.account-payouts-v2+json",
            problem(400, "fieldIsMissing.transactionReference"),
        ),
        (
            "application/vnd.worldpay.wts.payout-v2+json",
            "application/vnd.worldpay.wts.payout-v2+json",
            problem(400, "fieldIsMissing.transactionReference"),
        ),
        ("application/vnd.worldpay.account-payouts-v2+json", "application/json", problem(415, "headerHasInvalidValue.Content-Type")),
        ("application/json", "application/json", problem(406, "headerHasInvalidValue.Accept")),
    ] {
        let headers = [headers[0], ("accept", accept)];
        assert_eq!(send("/payouts/accounts/single", &headers, content_type, old).await, expected, "{accept}");
    }
}

/// The root has the links of the documentation, and they lead where the client goes without them.
#[tokio::test]
async fn discovery_leads_to_the_same_place() {
    let (world, client) = start(Generation::Legacy, |_| ()).await;
    assert_eq!(kind(&pay(&client, 1, 500, "Invoice").await), "says NEW");
    let mut settings = legacy(&world.url);
    settings.access.discover = true;
    let discovering = super::client(settings);
    assert_eq!(kind(&pay(&discovering, 2, 600, "Invoice").await), "says NEW");
    assert!(matches!(discovering.look(&inquiry(1, None, b"")).await, Look::Found(_)));
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let call = Call::new(Method::GET, "/", LONG).header(header::AUTHORIZATION, HeaderValue::from_static("Basic YWNtZTpodW50ZXIy"));
    let root = api.call(call).await.expect("an answer").json::<serde_json::Value>().expect("JSON");
    // As in seed 000, but for the host.
    let documented = include_str!("../../../../fixtures/worldpay/root.json").replace("https://try.access.worldpay.com", &world.url);
    assert_eq!(root, serde_json::from_str::<serde_json::Value>(&documented).expect("JSON"));
}

/// The admin routes: what operators and tests in other languages see. Nothing of a beneficiary is in them.
#[tokio::test]
async fn admin_routes() {
    let (world, client) = start(Generation::Current, |_| ()).await;
    let api = net::Client::new(&world.url, false, Limits::default()).expect("a client");
    let get = async |path: &str| api.call(Call::new(Method::GET, path, LONG)).await.expect("an answer").json::<serde_json::Value>().expect("JSON");
    let send = async |path: &str, body: &'static str| {
        api.call(Call::new(Method::POST, path, LONG).body("application/json", body.into())).await.expect("an answer").status.as_u16()
    };
    let moods = get("/sandbox/moods").await;
    assert_eq!((moods["moods"].as_array().map(Vec::len), &moods["moods"][1]["amount_in_minor"]), (Some(22), &10_001.into()));
    assert_eq!(send("/sandbox/moods", r#"{"next": 1, "mood": "stuck"}"#).await, 204);
    assert_eq!(send("/sandbox/moods", r#"{"next": 1, "mood": "merry"}"#).await, 400);
    assert_eq!(kind(&pay(&client, 1, 500, "Invoice").await), "says NEW");
    world.status_is(1, "EXECUTED").await;
    let path = format!("/sandbox/payouts/{}", key_text(key(1)));
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "NEW"}"#).await, 409);
    assert_eq!(send(&format!("{path}/advance"), r#"{"to": "FAILED"}"#).await, 204);
    let view = get(&path).await;
    assert_eq!((&view["mood"], &view["calls"]["creates"], &view["payout"]["status"]), (&"stuck".into(), &1.into(), &"FAILED".into()));
    let ledger = get("/sandbox/ledger").await;
    assert_eq!((&ledger["double_movements"], ledger["movements"].as_array().map(Vec::len)), (&0.into(), Some(2)));
    for shown in [&ledger, &view] {
        assert!(!shown.to_string().contains("Quill") && !shown.to_string().contains("WEST"), "{shown}");
    }
    assert_eq!(send("/sandbox/moods", r#"{"fault_percent": 100, "seed": 7, "moods": ["reject"]}"#).await, 204);
    assert_eq!(kind(&pay(&client, 2, 500, "Invoice").await), "says NEW");
    world.status_is(2, "INVALID").await;
    world.sandbox.set_random(Some(Distribution { fault_percent: 100, seed: 7, moods: vec![Mood::Refuse] }));
    assert!(matches!(pay(&client, 3, 500, "MOOD refuse").await, Answer::Refused { .. }));
    assert_eq!(get("/nowhere").await["errorName"], "endpointNotFound");
}

/// The first content of a key wins. The answer to the second does not tell, and the look does.
#[tokio::test]
async fn the_first_content_wins() {
    let (world, client) = start(Generation::Current, |_| ()).await;
    assert_eq!(reference(&pay(&client, 1, 500, "Invoice").await), reference(&pay(&client, 1, 700, "Invoice").await));
    let Look::Found(report) = client.look(&inquiry(1, None, b"")).await else { panic!("found") };
    assert_eq!(report.amount, Some(money(500, "GBP")));
    world.status_is(1, "COMPLETED").await;
    assert_eq!(world.moved(1), 1);
    // A sandbox that is full is not one that has refused.
    let (_world, client) = start(Generation::Current, |settings| settings.behaviour.keys_max = 0).await;
    assert_eq!(kind(&pay(&client, 1, 500, "Invoice").await), "no answer status_503");
}

/// A journal carries payouts of both APIs and movements over a restart, and unfinished ones go on.
#[tokio::test]
async fn a_restart_keeps_the_books() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("sandbox.jsonl");
    let card: Destination = serde_json::from_str(r#"{"type":"card","number":"4444333322221111","expiry":"2035-05"}"#).expect("a card");
    let to_card = beneficiary("Ada Quill", "MOOD stuck", card);
    let cards = |world: &World| {
        let settings = serde_json::json!({"access": access(&world.url), "entity": "default", "endpoint": "fast-access"});
        let settings: crate::worldpay::card::Settings = serde_json::from_value(settings).expect("settings");
        crate::worldpay::card::Client::new(settings, Mode::Test, Provider::Truelayer).expect("a client")
    };
    let before = {
        let (world, client) = start(Generation::Current, |settings| settings.behaviour.journal = Some(journal.clone())).await;
        pay(&client, 1, 500, "Invoice").await;
        world.status_is(1, "COMPLETED").await;
        pay(&client, 2, 600, "MOOD stuck").await;
        world.status_is(2, "EXECUTED").await;
        let cards = cards(&world);
        let order = Order { key: key(3), money: money(700, "GBP"), beneficiary: &to_card, context_code: "x" };
        cards.submit(&cards.prepare(&order).expect("prepares"), soon(), LONG).await;
        world.status_is(3, "pending").await;
        world.sandbox.ledger()
    };
    let text = std::fs::read_to_string(&journal).expect("a journal");
    assert!(!text.contains("4444333322221111"), "no card is written down");
    // The process died in the middle of a line.
    let mut file = std::fs::OpenOptions::new().append(true).open(&journal).expect("a journal");
    std::io::Write::write_all(&mut file, br#"{"movement":{"transaction_id":"#).expect("writes");
    let (world, client) = start(Generation::Current, |settings| settings.behaviour.journal = Some(journal.clone())).await;
    assert_eq!(world.sandbox.ledger(), before);
    let Look::Found(report) = client.look(&inquiry(1, None, b"")).await else { panic!("found") };
    assert_eq!((report.status, report.amount), (Status::Settled, Some(money(500, "GBP"))), "to the penny");
    assert_eq!(kind(&pay(&client, 1, 500, "Invoice").await), "says NEW");
    assert!(world.sandbox.advance(key(2), "COMPLETED") && world.sandbox.advance(key(3), "approved"));
    assert!(matches!(cards(&world).look(&inquiry(3, None, b"")).await, Look::Found(Report { status: Status::Settled, .. })));
    assert_eq!((world.sandbox.ledger().double_movements, world.moved(1), world.moved(2), world.moved(3)), (0, 1, 1, 1));
    let interrupted =
        |settings: &mut crate::worldpay::sandbox::Settings| (settings.behaviour.journal, settings.stage_ms) = (Some(journal.clone()), 60_000);
    {
        let (_world, client) = start(Generation::Current, interrupted).await;
        assert_eq!(kind(&pay(&client, 4, 800, "Invoice").await), "says NEW");
    }
    let (world, _) = start(Generation::Current, |settings| settings.behaviour.journal = Some(journal.clone())).await;
    world.status_is(4, "COMPLETED").await;
}

/// A provider that does not recognise repeats pays them: the ledger tells what the API does not.
#[tokio::test]
async fn repeats_that_are_paid_are_counted() {
    let (world, client) = start(Generation::Current, |settings| settings.pays_account_repeats = true).await;
    for _ in 0..2 {
        assert_eq!(kind(&pay(&client, 1, 500, "Invoice").await), "says NEW");
        world.status_is(1, "COMPLETED").await;
    }
    assert_eq!((world.moved(1), world.sandbox.ledger().double_movements), (2, 1));
}

/// Whatever goes wrong: look first, send the same bytes again only when nothing is found, and every payout is paid once or not at all.
#[tokio::test]
async fn by_the_rules_nothing_is_paid_twice() {
    let (world, client) = start(Generation::Current, |settings| {
        (settings.behaviour.late_appear_ms, settings.behaviour.slow_answer_ms) = (50, 400);
        settings.behaviour.random = Some(Distribution {
            fault_percent: 90,
            seed: 11,
            moods: Mood::ALL.into_iter().filter(|mood| !matches!(mood, Mood::Stuck | Mood::Silent)).collect(),
        });
    })
    .await;
    let mut ends = std::collections::BTreeMap::<String, u32>::new();
    for number in 1..=60 {
        let ada = beneficiary("Ada Quill", &format!("Invoice {number}"), iban());
        let order = Order { key: key(number), money: money(500 + i64::from(number), "GBP"), beneficiary: &ada, context_code: "x" };
        let request = client.prepare(&order).expect("prepares");
        let deadline = Instant::now() + LONG;
        let end = loop {
            assert!(Instant::now() < deadline, "{number} does not end");
            match client.look(&inquiry(number, None, &request)).await {
                Look::Found(Report {
                    status: Status::Settled | Status::Failed { .. } | Status::Returned { .. } | Status::Rejected { .. },
                    provider_status,
                    ..
                }) => {
                    break provider_status;
                }
                Look::Found(_) | Look::Nothing { .. } => tokio::time::sleep(Duration::from_millis(3)).await,
                Look::NotFound => {
                    if let Answer::Refused { .. } = client.submit(&request, soon(), Duration::from_millis(200)).await {
                        break "refused".to_owned();
                    }
                }
            }
        };
        *ends.entry(end).or_default() += 1;
    }
    assert_eq!(world.sandbox.ledger().double_movements, 0);
    assert!(["COMPLETED", "FAILED", "INVALID", "refused"].into_iter().all(|end| ends.contains_key(end)), "{ends:?}");
}
