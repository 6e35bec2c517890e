//! What the pages show and do, and that they hold nothing that is not meant to be shown.

use super::*;
use crate::support::Log;

/// The texts of a hostile party and of a hostile subscriber.
const HOSTILE: &str = r#""><script>alert(1)</script><img src=x onerror=alert(2)>'{{7*7}}&amp;"#;
const BODY: &str = r#"<script>alert("body")</script></pre><a href="javascript:alert(3)">x</a>"#;

fn secret_in(page: &str) -> Option<&str> {
    between(page, "<pre data-copy>whsec_", "<")
}

/// A subscription from its making to its end, with forms alone.
#[tokio::test]
async fn a_subscription_is_looked_after_without_scripts() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let browser = Browser::of(&installation, &shop, "manage").await;
    assert!(browser.get("/portal").await.text.contains("Nobody is told yet"));
    let (url, got, status) = subscriber(204, "").await;

    let wishes = |url: &str, more: &[(&'static str, &'static str)]| {
        let mut fields = vec![("url".to_owned(), url.to_owned())];
        let usual = [("ordering", "strict"), ("payload", "thin"), ("name", "books"), ("headers", "X-Api-Key: of-the-merchant")];
        fields.extend(usual.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        fields
    };
    let send = async |path: &str, fields: &[(String, String)]| {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        browser.send(path, &fields).await
    };
    let new = "/portal/subscriptions/new";
    for (url, more, wrong) in [
        ("http://10.0.0.1/", vec![("events", "all")], "wrong-url"),
        (url.as_str(), vec![("events", "some")], "wrong-event_types"),
        (url.as_str(), vec![("events", "some"), ("event_types", "payout.nothing")], "payout.nothing"),
        (url.as_str(), vec![("events", "all"), ("rate_per_s", "many")], "wrong-rate_per_s"),
        (url.as_str(), vec![("events", "all"), ("metadata", "nonsense")], "wrong-metadata"),
        (url.as_str(), vec![("events", "all"), ("headers", "Host: x")], "wrong-headers"),
    ] {
        let refused = send(new, &wishes(url, &more)).await;
        assert_eq!(refused.status, 400, "{wrong}");
        assert!(refused.text.contains(wrong) && refused.text.contains(r#"value="books""#), "what was typed stays: {}", refused.text);
        assert!(!refused.text.contains("of-the-merchant"), "but for what is secret");
    }
    let made = send(
        new,
        &wishes(&url, &[("events", "some"), ("event_types", "payout.requested"), ("event_types", "payout.canceled"), ("metadata", "region: eu")]),
    )
    .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let secret = format!("whsec_{}", secret_in(&made.text).unwrap());
    let listed = shop.get("/v1/webhooks").await.json["results"][0].clone();
    let id = listed["id"].as_str().unwrap();
    assert_eq!(
        (&listed["name"], &listed["event_types"], &listed["metadata"], &listed["header_names"]),
        (&json!("books"), &json!(["payout.canceled", "payout.requested"]), &json!({ "region": "eu" }), &json!(["x-api-key"]))
    );
    let path = format!("/portal/subscriptions/{id}");
    let act = async |action: &'static str| browser.send(&path, &[("action", action)]).await;

    let pinged = act("ping").await;
    assert!(pinged.text.contains("The ping arrived: HTTP 204"), "{}", pinged.text);
    *status.lock().unwrap() = 500;
    assert!(act("ping").await.text.contains("The ping did not get through: HTTP 500"));
    assert_eq!(got.lock().unwrap().last().unwrap().0["x-api-key"], "of-the-merchant");

    let paused = act("pause").await;
    assert!(paused.text.contains(r#"class="pill paused""#) && paused.text.contains(r#"value="resume""#), "{}", paused.text);
    assert!(act("resume").await.text.contains(r#"class="pill enabled""#));
    let rotated = browser.send(&path, &[("action", "rotate"), ("overlap_hours", "1")]).await;
    let newer = format!("whsec_{}", secret_in(&rotated.text).unwrap());
    assert_ne!(newer, secret);
    assert!(rotated.text.contains("The secret before signs until") && !rotated.text.contains("The one before that until"), "{}", rotated.text);
    let again = browser.send(&path, &[("action", "rotate"), ("overlap_hours", "1")]).await;
    assert!(again.text.contains("The secret before signs until") && again.text.contains("The one before that until"), "{}", again.text);
    assert_eq!(browser.send(&path, &[("action", "rotate"), ("overlap_hours", "999")]).await.status, 400);
    assert_eq!(act("burn").await.status, 403);

    let form = browser.get(&format!("{path}/edit")).await.text;
    assert!(form.contains(r#"value="payout.canceled" checked"#) && form.contains("region: eu") && form.contains("<code>x-api-key</code>"), "{form}");
    let version = between(&form, r#"name="version" value=""#, "\"").unwrap().to_owned();
    let mut fields = vec![("url", url.as_str()), ("name", ""), ("events", "all"), ("ordering", "none"), ("payload", "full"), ("version", "1")];
    let stale = browser.send(&format!("{path}/edit"), &fields).await;
    assert!(stale.status == 409 && stale.text.contains("version"), "somebody else was first: {}", stale.text);
    fields[5].1 = &version;
    let changed = browser.send(&format!("{path}/edit"), &fields).await;
    assert_eq!((changed.status, changed.header("location")), (303, Some(path.as_str())));
    let read = shop.get(&format!("/v1/webhooks/{id}")).await.json["result"].clone();
    assert_eq!((&read["event_types"], &read["ordering"], &read["payload"]), (&json!(["*"]), &json!("none"), &json!("full")));
    assert!(read.get("name").is_none() && read.get("metadata").is_none() && read["header_names"] == json!(["x-api-key"]), "{read}");
    fields[0].1 = "https://elsewhere.example/";
    let version = read["version"].to_string();
    fields[5].1 = &version;
    let moved = browser.send(&format!("{path}/edit"), &fields).await;
    assert!(moved.status == 400 && moved.text.contains("wrong-headers"), "what headers hold is not told to another address");

    for page in
        [browser.get("/portal").await, browser.get(&path).await, browser.get(&format!("{path}/edit")).await, browser.get("/portal/verify").await]
    {
        for hidden in [&secret, &newer, "of-the-merchant", "whsec_"] {
            let guide = hidden == "whsec_" && page.text.contains("In your receiver");
            assert!(guide || !page.text.contains(hidden), "{hidden} is shown again: {}", page.text);
        }
    }
    assert_eq!(act("delete").await.status, 303);
    assert_eq!(browser.get(&path).await.status, 404);
    assert_eq!(shop.get("/v1/webhooks").await.json["results"], json!([]));
}

/// Whoever saves the form as it was filled in changes nothing, whatever the subscription asks for.
#[tokio::test]
async fn a_form_that_is_saved_as_it_was_changes_nothing() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let browser = Browser::of(&installation, &shop, "manage").await;
    for wanted in [
        json!(["*"]),
        json!(["payout.completed", "webhook.*"]),
        json!(["payout.*", "reconciliation.break"]),
        json!(["payout.failed", "webhook.disabled"]),
        json!(["webhook.*"]),
        json!(["reconciliation.*", "webhook.changed", "webhook.enabled", "webhook.failing"]),
    ] {
        let id = subscribed(&shop, &json!({ "url": "https://hooks.example.com/", "event_types": wanted })).await;
        let path = format!("/portal/subscriptions/{id}/edit");
        let form = browser.get(&path).await.text;
        let mut fields = vec![("url", "https://hooks.example.com/"), ("ordering", "strict"), ("payload", "thin"), ("version", "1")];
        fields.push(("events", if form.contains(r#"value="all" checked"#) { "all" } else { "some" }));
        let boxes = form.split(r#"name="event_types" value=""#).skip(1).map(|rest| rest.split_once('"').unwrap());
        fields.extend(boxes.filter(|(_, rest)| rest.starts_with(" checked")).map(|(name, _)| ("event_types", name)));
        let saved = browser.send(&path, &fields).await;
        assert_eq!(saved.status, 303, "{wanted}: {}", saved.text);
        let kept = shop.get(&format!("/v1/webhooks/{id}")).await.json["result"].clone();
        assert_eq!((&kept["event_types"], &kept["version"]), (&wanted, &json!(2)));
    }
}

/// A delivery that fails is shown with what the subscriber said, and is made again by a button.
#[tokio::test]
async fn a_failed_delivery_is_read_and_sent_again() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let (url, got, status) = subscriber(500, BODY).await;
    let id = subscribed(&shop, &json!({ "url": url, "event_types": ["payout.requested"] })).await;
    let browser = Browser::of(&installation, &shop, "manage").await;
    let path = format!("/portal/subscriptions/{id}");
    assert!(browser.get(&path).await.text.contains("Nothing was to be delivered lately"));
    let transaction_id = transaction();
    shop.post("/v1/payouts", &payout(&transaction_id)).await;
    let waiting = browser.get(&path).await.text;
    assert!(waiting.contains("not tried yet") && waiting.contains("data-by-itself"), "it will have news: {waiting}");
    assert_eq!(installation.deliver().await, 1);
    let page = browser.get(&path).await.text;
    assert!(
        page.contains(r#"class="pill failing""#) && page.contains(&transaction_id) && page.contains("next try") && page.contains("Try now"),
        "{page}"
    );
    assert!(
        page.contains("&#60;script&#62;alert(&#34;body&#34;)") || page.contains("&lt;script&gt;alert(&quot;body&quot;)"),
        "what was said, as text: {page}"
    );
    assert!(!page.contains("<script>alert") && !page.contains("<a href=\"javascript"), "{page}");

    let event = between(&page, "/portal/events/", "\"").unwrap().to_owned();
    let events = browser.get("/portal/events").await.text;
    assert!(events.contains(&event) && events.contains("payout.requested"));
    let of_event = format!("/portal/events/{event}");
    let read = browser.get(&of_event).await.text;
    assert!(read.contains(&id) && read.contains("payout.requested") && read.contains(&transaction_id), "{read}");

    *status.lock().unwrap() = 200;
    let again = browser.send(&of_event, &[("event", event.as_str()), ("subscription", id.as_str())]).await;
    assert!(again.status == 200 && again.text.contains("delivered again now"), "{}", again.text);
    assert_eq!(installation.deliver().await, 1);
    let page = browser.get(&path).await.text;
    assert!(page.contains(r#"class="pill delivered""#) && page.contains("2 attempts") && page.contains("Send again"), "{page}");
    assert!(!page.contains("data-by-itself"), "nothing is awaited any more");
    assert!(!page.contains("none lately"), "it has a last success");
    let again = browser.send(&path, &[("action", "retry"), ("event", event.as_str())]).await;
    assert_eq!(again.status, 200);
    assert_eq!(installation.deliver().await, 1);

    // What is listed can be narrowed.
    let narrowed = async |status: &str| browser.get(&format!("{path}?status={status}")).await.text.contains(&transaction_id);
    assert!(narrowed("delivered").await && !narrowed("failing").await && !narrowed("abandoned").await);

    // What came is checked with the secret that is kept here.
    let (headers, body) = got.lock().unwrap().last().unwrap().clone();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (webhook, at, signature) = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let check = async |body: &str| {
        let fields = [("subscription", id.as_str()), ("id", &webhook), ("timestamp", &at), ("signature", &signature), ("body", body)];
        browser.send("/portal/verify", &fields).await.text
    };
    assert!(check(&body).await.contains("Genuine: signed"));
    assert!(check(&body.replace("requested", "completed")).await.contains("Not genuine"));
    assert!(check(&format!("{body}\r\n")).await.contains("a line break at its end"));
    // Later on it has to be said when it came.
    installation.store.move_clock(Duration::from_secs(600)).await.unwrap();
    let late = check(&body).await;
    assert!(late.contains("Not genuine") && late.contains("“When it came” says when it came") && !late.contains("--at"), "{late}");
    let came = jiff::Timestamp::from_second(at.parse().unwrap()).unwrap().strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let check_at = async |came: &str| {
        let fields = [("subscription", id.as_str()), ("id", &webhook), ("timestamp", &at), ("signature", &signature), ("at", came), ("body", &body)];
        browser.send("/portal/verify", &fields).await.text
    };
    let then = check_at(&came).await;
    assert!(then.contains("not long before it came") && then.contains(&format!(r#"value="{came}""#)), "{then}");
    assert!(check_at("2020-01-31T09:00").await.contains("further ahead than allowed"));
    assert!(check_at("soon").await.contains("is no time"));
    assert_eq!(browser.send(&path, &[("action", "retry"), ("event", "ev_x")]).await.status, 404);
}

/// What a party is told of its subscriptions is listed, read and sent again like what it is told of payouts.
#[tokio::test]
async fn what_is_told_of_subscriptions_is_shown() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let (url, got, status) = subscriber(500, BODY).await;
    let id = subscribed(&shop, &json!({ "url": url, "event_types": ["webhook.*"], "name": "watch" })).await;
    let other = subscribed(&shop, &json!({ "url": url, "event_types": ["payout.completed"] })).await;
    let browser = Browser::of(&installation, &shop, "manage").await;
    assert!(browser.get("/portal/events").await.text.contains("Nothing has happened yet"));
    assert_eq!(shop.patch(&format!("/v1/webhooks/{other}"), &json!({ "version": 1, "url": format!("{url}/new") })).await.status, 200);
    installation.deliver().await;
    let events = browser.get("/portal/events").await.text;
    assert!(events.contains("webhook.changed") && events.contains(r#"class="pill failing""#), "{events}");
    let page = browser.get(&format!("/portal/subscriptions/{id}?status=failing")).await.text;
    let event = between(&page, "/portal/events/", "\"").unwrap().to_owned();
    assert!(events.contains(&event));
    let of_event = format!("/portal/events/{event}");
    let read = browser.get(&of_event).await.text;
    assert!(read.contains("watch") && read.contains("Try now") && read.contains(&other) && !read.contains("payout <code>"), "{read}");

    *status.lock().unwrap() = 200;
    let told = got.lock().unwrap().len();
    let again = browser.send(&of_event, &[("event", event.as_str()), ("subscription", id.as_str())]).await;
    assert!(again.status == 200 && again.text.contains("delivered again now"), "{}", again.text);
    installation.deliver().await;
    assert_eq!(got.lock().unwrap().len(), told + 1);
    assert!(browser.get(&format!("/portal/subscriptions/{id}")).await.text.contains(r#"class="pill delivered""#));
    let stranger = Browser::of(&installation, &installation.caller("cafe").await, "manage").await;
    assert_eq!(stranger.get(&of_event).await.status, 404);
}

/// A key of the installation signs for all parties: what it has signed for another one is not genuine here.
#[tokio::test]
async fn a_key_is_believed_for_its_own_party_only() {
    let (private, public) = workers::relay::keys::make(&[7; 32]).unwrap();
    let signing_keys = workers::relay::keys::SigningKeys::read([private.as_str()]).unwrap();
    let installation = Installation::with(Plan { signing_keys: signing_keys.clone(), ..plan() }).await;
    let shop = installation.caller("shop").await;
    let subscription = async |signatures: &[&str]| {
        subscribed(&shop, &json!({ "url": "https://hooks.example.com/", "event_types": "*", "signatures": signatures })).await
    };
    let [asks, does_not] = [subscription(&["v1", "v1a"]).await, subscription(&["v1"]).await];
    let browser = Browser::of(&installation, &shop, "read").await;
    let at = installation.store.clock().now().as_second();
    let check = async |subscription: &str, party: &str| {
        let body = json!({ "type": "payout.requested", "data": { "party_id": party } }).to_string();
        let signature = signing_keys.sign("msg_1", at, body.as_bytes());
        assert!(public.has_signed(&signature, "msg_1", at, body.as_bytes()));
        let at = at.to_string();
        let fields = [("subscription", subscription), ("id", "msg_1"), ("timestamp", &at), ("signature", &signature), ("body", &body)];
        browser.send("/portal/verify", &fields).await.text
    };
    assert!(check(&asks, "shop").await.contains("Genuine: signed with a key"));
    assert!(check(&asks, "mallory").await.contains("tells of another party"));
    assert!(check(&does_not, "shop").await.contains("Not genuine"));
}

/// The page of an event says to whom it goes, and what each of them gets, byte for byte but for the space in it.
#[tokio::test]
async fn an_event_is_shown_as_each_subscription_gets_it() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let browser = Browser::of(&installation, &shop, "manage").await;
    let mut all = Vec::new();
    for (name, payload) in [("books", "thin"), ("bank <b>", "full")] {
        let (url, got, _) = subscriber(200, "").await;
        subscribed(&shop, &json!({ "url": url, "event_types": ["payout.requested"], "name": name, "payload": payload })).await;
        all.push((name, got));
    }
    let (url, got, _) = subscriber(200, "").await;
    let made = shop.post("/v2/webhooks", &json!({ "url": url, "name": "shop", "eventTypes": ["payout.canceled"] })).await;
    assert_eq!(made.status, 201, "{made:?}");
    all.push(("shop", got));
    let id = transaction();
    shop.post("/v1/payouts", &payout(&id)).await;
    assert_eq!(shop.post(&format!("/v1/payouts/{id}/cancel"), &json!({})).await.status, 200);
    assert_eq!(installation.deliver().await, 3);
    let shown = async |kind: &str| {
        let events = browser.get("/portal/events").await.text;
        let line = events.split("/portal/events/").find(|line| line.contains(&format!(">{kind}<"))).unwrap_or_else(|| panic!("{events}"));
        browser.get(&format!("/portal/events/{}", line.split_once('"').unwrap().0)).await.text
    };
    let page = shown("payout.requested").await;
    assert!(page.contains("For books, as it is set up now") && page.contains("For bank &#60;b&#62;, as it is set up now"), "{page}");
    let payloads = |page: &str| -> Vec<Value> {
        let texts = page.split("<pre data-copy>").skip(1).map(|rest| rest.split_once("</pre>").unwrap().0.replace("&#34;", "\""));
        texts.map(|text| serde_json::from_str(&text).unwrap()).collect()
    };
    let got: Vec<Value> = all.iter().map(|(_, got)| serde_json::from_str(&got.lock().unwrap()[0].1).unwrap()).collect();
    assert_eq!(payloads(&page), got[..2]);
    assert!(got[1]["data"].get("destination").is_some() && !page.contains("signed over the body"), "{page}");
    let page = shown("payout.canceled").await;
    assert_eq!(payloads(&page), got[2..]);
    assert_eq!(got[2]["_embedded"]["entity"]["status"], "canceled");
}

/// After a receiver has lost what it had, all of it is sent again; more than a page of deliveries is read page by page.
#[tokio::test]
async fn what_was_lost_is_replayed() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let (url, got, _) = subscriber(200, "").await;
    let id = subscribed(&shop, &json!({ "url": url, "event_types": ["payout.requested"] })).await;
    for _ in 0..55 {
        assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    }
    installation.deliver().await;
    assert_eq!(got.lock().unwrap().len(), 55);
    let browser = Browser::of(&installation, &shop, "manage").await;
    let path = format!("/portal/subscriptions/{id}");
    let (mut page, mut pages, mut seen) = (browser.get(&path).await.text, 1, std::collections::BTreeSet::new());
    loop {
        seen.extend(page.split("/portal/events/ev_").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
        let Some(older) = between(&page, &format!("{path}?cursor="), "\"").map(|cursor| format!("{path}?cursor={cursor}")) else { break };
        page = browser.get(&older).await.text;
        pages += 1;
    }
    assert_eq!((pages, seen.len()), (2, 55));

    let send = async |fields: &[(&str, &str)]| browser.send(&path, fields).await;
    assert!(send(&[("action", "count"), ("what", "ended")]).await.text.contains("It would send 55."));
    assert!(send(&[("action", "count"), ("what", "abandoned")]).await.text.contains("It would send 0."));
    let old = [("action", "count"), ("what", "ended"), ("from", "2020-01-01T00:00"), ("to", "2020-01-02T10:11:12")];
    assert!(send(&old).await.text.contains("It would send 0."));
    let wrong = send(&[("action", "replay"), ("what", "ended"), ("from", "soon")]).await;
    assert_eq!(wrong.status, 400);
    let begun = send(&[("action", "replay"), ("what", "ended"), ("from", ""), ("to", "")]).await;
    assert!(
        begun.status == 200 && begun.text.contains("The replay begins") && begun.text.contains("running: 0 sent; 0 of 55 looked at"),
        "{}",
        begun.text
    );
    let again = send(&[("action", "replay"), ("what", "ended")]).await;
    assert!(again.status == 409 && again.text.contains("under way"), "one at a time");
    let replay = between(&begun.text, r#"name="replay" value=""#, "\"").unwrap().to_owned();
    let ended = send(&[("action", "cancel"), ("replay", &replay)]).await;
    assert!(ended.text.contains("The replay is ended") && ended.text.contains("canceled"), "{}", ended.text);
    assert_eq!(send(&[("action", "cancel"), ("replay", "rp_x")]).await.status, 404);
}

/// Text of others is text, wherever it stands.
#[tokio::test]
async fn hostile_texts_are_shown_as_text() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let (url, _, _) = subscriber(500, BODY).await;
    let browser = Browser::of(&installation, &shop, "manage").await;
    let url = format!("{url}?a=\"><script>alert(4)</script>&b='x'");
    let metadata = format!("region: {HOSTILE}");
    let fields = [
        ("url", url.as_str()),
        ("name", &HOSTILE[..60]),
        ("description", HOSTILE),
        ("events", "all"),
        ("ordering", "strict"),
        ("payload", "thin"),
        ("metadata", &metadata),
    ];
    let made = browser.send("/portal/subscriptions/new", &fields).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = shop.get("/v1/webhooks").await.json["results"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/portal/subscriptions/{id}");
    let pinged = browser.send(&path, &[("action", "ping")]).await;
    assert!(pinged.text.contains("alert(&#34;body&#34;)") || pinged.text.contains("alert(&quot;body&quot;)"), "{}", pinged.text);
    let wrong = browser.send("/portal/subscriptions/new", &[("url", HOSTILE), ("events", "some"), ("event_types", HOSTILE), ("name", HOSTILE)]).await;
    assert_eq!(wrong.status, 400);
    let check = [
        ("subscription", id.as_str()),
        ("id", HOSTILE),
        ("timestamp", HOSTILE),
        ("signature", HOSTILE),
        ("at", HOSTILE),
        ("body", "</textarea><script>alert(5)</script>"),
    ];
    let pages = [
        made,
        pinged,
        wrong,
        browser.get("/portal").await,
        browser.get(&path).await,
        browser.get(&format!("{path}/edit")).await,
        browser.get("/portal/verify").await,
        browser.send("/portal/verify", &check).await,
        browser.get("/portal/%3Cscript%3Ealert(6)%3C%2Fscript%3E").await,
    ];
    for page in pages {
        for raw in ["<script>alert", "<img src=x", "\"><script", "</textarea><script"] {
            assert!(!page.text.contains(raw), "{raw}: {}", page.text);
        }
    }
}

/// What lets somebody in, and what signs, stands in no log.
#[tokio::test]
async fn no_token_and_no_secret_is_logged() {
    let log = Log::default();
    let _logging = tracing::subscriber::set_default(log.subscriber());
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let (url, _, _) = subscriber(204, "").await;
    let token = link(&shop, "manage").await;
    let mut browser = Browser::new(&installation);
    assert_eq!(browser.enter(&token).await.status, 303);
    assert_eq!(browser.enter(&token).await.status, 401);
    let session = browser.cookie.clone().unwrap().split_once('=').unwrap().1.to_owned();
    let fields = [
        ("url", url.as_str()),
        ("events", "all"),
        ("ordering", "strict"),
        ("payload", "thin"),
        ("headers", "x-key: of-the-merchant"),
        ("headers", "nonsense-of-the-merchant"),
    ];
    assert_eq!(browser.send("/portal/subscriptions/new", &fields).await.status, 400);
    let made = browser.send("/portal/subscriptions/new", &fields[..5]).await;
    let secret = secret_in(&made.text).unwrap().to_owned();
    let id = shop.get("/v1/webhooks").await.json["results"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/portal/subscriptions/{id}");
    let form = form_token(&browser.get(&path).await);
    browser.send(&path, &[("action", "rotate")]).await;
    browser.send(&path, &[("action", "of-the-merchant")]).await;
    browser.send("/portal/leave", &[]).await;
    let text = log.text();
    assert!(text.contains("a session of the portal begins") && text.contains("a party acts in the portal") && text.contains(&id), "{text}");
    for hidden in [token.as_str(), &session, &form, &secret, "whsec_", "of-the-merchant"] {
        assert!(!text.contains(hidden), "{hidden} is in the log");
    }
}
