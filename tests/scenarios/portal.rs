//! The pages for parties, as a browser without scripts sees them. How they look and work with scripts is tested in a browser.

mod browser;
mod pages;

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use domain::id::{Mode, PartyId};
use domain::portal::Access;
use payrelay::portal;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use workers::egress;

use crate::support::{Caller, Installation, PEPPER, Plan, Reply, payout, transaction};

fn plan() -> Plan {
    let egress = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..egress::Settings::default() };
    let portal = portal::Settings { enabled: true, ..portal::Settings::default() };
    // Keys are read each time, so that one that is revoked ends at once.
    Plan { portal, egress, ingress: json!({ "key_cache_ms": 0, "webhooks": { "challenge": [] } }), ..Plan::default() }
}

/// A browser without scripts, and with one cookie.
#[derive(Clone)]
struct Browser {
    http: reqwest::Client,
    url: String,
    cookie: Option<String>,
}

impl Browser {
    fn new(installation: &Installation) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, url: installation.url.clone(), cookie: None }
    }

    /// With the session of a link.
    async fn of(installation: &Installation, caller: &Caller, access: &str) -> Self {
        let mut browser = Self::new(installation);
        let entered = browser.enter(&link(caller, access).await).await;
        assert_eq!((entered.status, entered.header("location")), (303, Some("/portal")), "{entered:?}");
        browser
    }

    /// Sends what the script of the first page sends. Keeps the cookie.
    async fn enter(&mut self, link: &str) -> Reply {
        let reply = self.post("/portal/enter", &[("link", link)]).await;
        if let Some(cookie) = reply.header("set-cookie") {
            self.cookie = Some(cookie.split(';').next().unwrap().to_owned());
        }
        reply
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(cookie) = &self.cookie { request.header("cookie", cookie) } else { request }
    }

    async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(reqwest::Method::GET, path)).await
    }

    fn form(&self, path: &str, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.request(reqwest::Method::POST, path).header("content-type", "application/x-www-form-urlencoded").body(body)
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        Reply::of(self.form(path, fields)).await
    }

    /// Sends a form of a page, with the token that stands in it.
    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let token = form_token(&self.get("/portal").await);
        self.post(path, &[&[("form_token", token.as_str())], fields].concat()).await
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

fn form_token(page: &Reply) -> String {
    between(&page.text, r#"name="form_token" value=""#, "\"").unwrap_or_else(|| panic!("no form: {page:?}")).to_owned()
}

/// The token of a new link.
async fn link(caller: &Caller, access: &str) -> String {
    let made = caller.post("/v1/portal-links", &json!({ "access": access })).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json["result"]["url"].as_str().unwrap().split_once("/portal/enter#").unwrap().1.to_owned()
}

/// A subscription over the API; its id.
async fn subscribed(caller: &Caller, wishes: &Value) -> String {
    let made = caller.post("/v1/webhooks", wishes).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json["result"]["id"].as_str().unwrap().to_owned()
}

fn to(url: &str) -> Value {
    json!({ "url": url, "event_types": "*" })
}

/// What a subscriber got: headers and body.
type Got = Arc<Mutex<Vec<(HeaderMap, String)>>>;

/// A subscriber that answers as it is told, and keeps what came.
async fn subscriber(status: u16, says: &'static str) -> (String, Got, Arc<Mutex<u16>>) {
    let got: Got = Arc::default();
    let status = Arc::new(Mutex::new(status));
    let (keeps, answers) = (got.clone(), status.clone());
    let receive = async move |headers: HeaderMap, body: String| {
        keeps.lock().unwrap().push((headers, body));
        (StatusCode::from_u16(*answers.lock().unwrap()).unwrap(), says)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/hooks", post(receive))).await });
    (url, got, status)
}

/// A link is good for one session, and neither token stands anywhere in the store.
#[tokio::test]
async fn a_link_opens_once() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let made = shop.post("/v1/portal-links", &json!({ "access": "manage" })).await;
    let result = &made.json["result"];
    assert_eq!(
        (made.status, made.header("cache-control"), &result["party_id"], &result["access"]),
        (201, Some("no-store"), &json!("shop"), &json!("manage"))
    );
    let url = result["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{}/portal/enter#link_", installation.url)), "behind the #, where browsers send it to nobody: {url}");
    let token = url.split_once('#').unwrap().1;

    let mut browser = Browser::new(&installation);
    assert_eq!(browser.get("/portal").await.status, 401);
    for _ in 0..2 {
        assert_eq!(browser.get("/portal/enter").await.status, 200, "looking does not use it up");
    }
    for wrong in ["", "link_", &token[1..], &format!("{token}x"), &shop.token, &"x".repeat(5_000)] {
        let refused = browser.enter(wrong).await;
        assert_eq!((refused.status, refused.header("set-cookie")), (401, None), "{wrong}");
    }
    let (one, other) = (browser.clone(), browser.clone());
    let fields = [("link", token)];
    let both = tokio::join!(one.post("/portal/enter", &fields), other.post("/portal/enter", &fields));
    let mut statuses = [both.0.status, both.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [303, 401], "of two at once, one gets in");
    let entered = if both.0.status == 303 { both.0 } else { both.1 };
    let cookie = entered.header("set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; Max-Age=28800; HttpOnly; SameSite=Strict"), "{cookie}");
    browser.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    let home = browser.get("/portal").await;
    assert!(home.status == 200 && home.text.contains("shop"), "{home:?}");
    assert_eq!(browser.enter(token).await.status, 401, "nor afterwards");

    let session = browser.cookie.as_ref().unwrap().split_once('=').unwrap().1.to_owned();
    let kept = |hash: &str| installation.redis.say(&["EXISTS", &format!("t:{{auth}}:session:{hash}")]);
    assert_eq!(kept(&domain::credential::token_hash(PEPPER.as_bytes(), &session)), ":1\r\n");
    let names = installation.redis.say(&["KEYS", "*"]);
    assert!(!names.contains(&session) && !names.contains(token), "{names}");
    // The session is no API key, and an API key no session.
    let as_key = Caller { token: session, ..shop.clone() };
    assert_eq!(as_key.get("/v1/webhooks").await.status, 401);
    browser.cookie = Some(format!("payrelay-portal={}", shop.token));
    assert_eq!(browser.get("/portal").await.status, 401);
}

#[tokio::test]
async fn links_and_sessions_end_by_themselves() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let pass = async |minutes: u64| installation.store.move_clock(Duration::from_secs(60 * minutes)).await.unwrap();
    let mut browser = Browser::new(&installation);
    let late = link(&shop, "read").await;
    pass(15).await;
    assert_eq!(browser.enter(&late).await.status, 401, "a link of yesterday");

    browser = Browser::of(&installation, &shop, "read").await;
    for _ in 0..15 {
        pass(29).await;
        assert_eq!(browser.get("/portal").await.status, 200, "one that is used goes on");
    }
    pass(29).await;
    let by_itself = browser.request(reqwest::Method::GET, "/portal").header("x-by-itself", "1");
    assert_eq!(Reply::of(by_itself).await.status, 200);
    pass(1).await;
    assert_eq!(browser.get("/portal").await.status, 401, "what a page asks for by itself is no use of it");

    browser = Browser::of(&installation, &shop, "read").await;
    for _ in 0..16 {
        pass(29).await;
        assert_eq!(browser.get("/portal").await.status, 200);
    }
    pass(16).await;
    assert_eq!(browser.get("/portal").await.status, 401, "after its whole time it ends however much it is used");
}

/// The same pages, and nothing of others on them: neither of another party, nor of the same party in the other mode.
#[tokio::test]
async fn a_session_sees_its_party_and_mode_only() {
    let installation = Installation::with(plan()).await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let live = installation.caller_with(|key| {
        key.mode = Mode::Live;
        key.reach = domain::credential::Reach::Party(PartyId::parse("shop").unwrap());
    });
    let live = live.await;
    let mine = subscribed(&shop, &to("https://hooks.example.com/")).await;
    let of_cafe = subscribed(&cafe, &to("https://cafe.example.com/")).await;
    let of_live = subscribed(&live, &to("https://live.example.com/")).await;
    let id = transaction();
    cafe.post("/v1/payouts", &payout(&id)).await;
    let timeline = cafe.get(&format!("/v1/payouts/{id}/timeline")).await;
    let event = timeline.json["result"]["events"][0]["id"].as_str().unwrap().to_owned();

    let browser = Browser::of(&installation, &shop, "manage").await;
    let (home, events) = (browser.get("/portal").await.text, browser.get("/portal/events").await.text);
    assert!(home.contains(&mine) && !home.contains(&of_cafe) && !home.contains(&of_live), "{home}");
    assert!(!events.contains(&event));
    for other in [of_cafe.as_str(), of_live.as_str(), "sub_00", "sub_ff0000000000000000000000", "../webhooks"] {
        let path = format!("/portal/subscriptions/{}", other.replace('/', "%2F"));
        assert_eq!(browser.get(&path).await.status, 404, "{other}");
        assert_eq!(browser.get(&format!("{path}/edit")).await.status, 404, "{other}");
        for action in ["ping", "pause", "resume", "rotate", "replay", "count", "cancel", "delete"] {
            assert_eq!(browser.send(&path, &[("action", action)]).await.status, 404, "{other} {action}");
        }
        let check = [("subscription", other), ("id", "a"), ("timestamp", "1"), ("signature", "v1,a"), ("body", "{}")];
        assert_eq!(browser.send("/portal/verify", &check).await.status, 404);
    }
    assert_eq!(browser.get(&format!("/portal/events/{event}")).await.status, 404);
    let retry = [("action", "retry"), ("event", event.as_str())];
    assert_eq!(browser.send(&format!("/portal/subscriptions/{mine}"), &retry).await.status, 404, "an event of another party");
    for (caller, id) in [(&cafe, &of_cafe), (&live, &of_live)] {
        let untouched = caller.get(&format!("/v1/webhooks/{id}")).await;
        assert_eq!((&untouched.json["result"]["version"], &untouched.json["result"]["status"]), (&json!(1), &json!("enabled")));
    }
    // A live session where no live keys are served any more.
    let live_browser = Browser::of(&installation, &live, "read").await;
    assert!(live_browser.get("/portal").await.text.contains(&of_live));
}

/// What a key may not do, no link of it may; what a link does not grant, no form brings about.
#[tokio::test]
async fn nobody_is_granted_more_than_was_meant() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let reader = installation.caller_with(|key| {
        key.reach = domain::credential::Reach::Party(PartyId::parse("shop").unwrap());
        key.scopes = [domain::credential::Scope::WebhooksRead].into();
    });
    let reader = reader.await;
    let id = subscribed(&shop, &to("https://hooks.example.com/")).await;
    assert_eq!(reader.post("/v1/portal-links", &json!({ "access": "manage" })).await.problem(), "missing-scope");
    assert_eq!(reader.delete("/v1/portal-links").await.problem(), "missing-scope");
    assert_eq!(shop.post("/v1/portal-links", &json!({ "access": "read", "party_id": "cafe" })).await.problem(), "other-party");
    for (body, at, code) in [
        (json!({}), "/access", "missing"),
        (json!({ "access": "admin" }), "/access", "unknown_value"),
        (json!({ "access": "read", "life": 1 }), "/life", "unknown_field"),
    ] {
        assert_eq!(shop.post("/v1/portal-links", &body).await.errors(), [(at, code)]);
    }

    let browser = Browser::of(&installation, &reader, "read").await;
    let path = format!("/portal/subscriptions/{id}");
    let page = browser.get(&path).await;
    assert_eq!(page.text.matches("<form").count(), 1, "the only form signs out: {}", page.text);
    for action in ["ping", "pause", "resume", "rotate", "retry", "replay", "count", "cancel", "delete"] {
        assert_eq!(browser.send(&path, &[("action", action)]).await.status, 403, "{action}");
    }
    let fields = [("url", "https://elsewhere.example/"), ("events", "all"), ("ordering", "none"), ("payload", "thin"), ("version", "1")];
    for path in ["/portal/subscriptions/new".to_owned(), format!("{path}/edit"), "/portal/events/x".to_owned()] {
        assert_eq!(browser.send(&path, &fields).await.status, 403, "{path}");
    }
    let listed = shop.get("/v1/webhooks").await.json["results"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["version"], &listed[0]["status"]), (1, &json!(1), &json!("enabled")));
    // To ask whether a webhook is genuine changes nothing.
    let check = [("subscription", id.as_str()), ("id", "a"), ("timestamp", "1"), ("signature", "v1,a"), ("body", "{}")];
    assert!(browser.send("/portal/verify", &check).await.text.contains("Not genuine"));
}

/// A form counts only if a page of this very session has sent it.
#[tokio::test]
async fn forms_of_other_sites_and_sessions_are_refused() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let id = subscribed(&shop, &to("https://hooks.example.com/")).await;
    let (browser, other) = (Browser::of(&installation, &shop, "manage").await, Browser::of(&installation, &shop, "manage").await);
    let (mine, foreign) = (form_token(&browser.get("/portal").await), form_token(&other.get("/portal").await));
    assert_ne!(mine, foreign);
    let path = format!("/portal/subscriptions/{id}");
    for token in ["", "x", foreign.as_str(), &mine[1..]] {
        assert_eq!(browser.post(&path, &[("action", "pause"), ("form_token", token)]).await.status, 403, "{token}");
    }
    assert_eq!(browser.post(&path, &[("action", "pause")]).await.status, 403);
    assert_eq!(browser.post("/portal/leave", &[]).await.status, 403);
    let good = [("action", "pause"), ("form_token", mine.as_str())];
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("odd", 403), ("same-origin", 200)] {
        let request = browser.form(&path, &good).header("sec-fetch-site", site);
        assert_eq!(Reply::of(request).await.status, status, "{site}");
    }
    let sneaked = link(&shop, "manage").await;
    let from_elsewhere = browser.form("/portal/enter", &[("link", sneaked.as_str())]).header("sec-fetch-site", "cross-site");
    assert_eq!(Reply::of(from_elsewhere).await.status, 403, "nobody is signed in as somebody else unawares");
    // JSON, which a script of another site could not send either without being asked first.
    let json = browser.request(reqwest::Method::POST, &path).header("content-type", "application/json").body(r#"{"action":"resume"}"#);
    assert_eq!(Reply::of(json).await.status, 415);
    let shown = shop.get(&format!("/v1/webhooks/{id}")).await;
    assert_eq!((&shown.json["result"]["status"], &shown.json["result"]["version"]), (&json!("paused"), &json!(2)), "the good one, once");
}

#[tokio::test]
async fn sessions_are_ended_by_whoever_may() {
    let installation = Installation::with(plan()).await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let platform = installation.caller_with(|_| {}).await;
    let lives = async |browser: &Browser| browser.get("/portal").await.status == 200;

    let (one, other) = (Browser::of(&installation, &shop, "read").await, Browser::of(&installation, &shop, "read").await);
    let left = one.send("/portal/leave", &[]).await;
    assert!(left.status == 200 && left.header("set-cookie").unwrap().contains("Max-Age=0"), "{left:?}");
    assert!(!lives(&one).await && lives(&other).await, "signing out ends this one");

    let of_cafe = Browser::of(&installation, &cafe, "read").await;
    let unused = link(&shop, "read").await;
    assert_eq!(platform.delete("/v1/portal-links?party_id=shop").await.status, 204);
    assert!(!lives(&other).await && lives(&of_cafe).await, "the platform takes back what one party has");
    assert_eq!(Browser::new(&installation).enter(&unused).await.status, 401);
    // In the same instant, if it must be: which was first does not depend on anybody's clock.
    let again = Browser::of(&installation, &shop, "read").await;
    assert!(lives(&again).await, "and may grant it anew");

    let unused = link(&shop, "read").await;
    assert!(installation.store.revoke_key(shop.key.id).await.unwrap());
    assert!(!lives(&again).await, "what a key has granted ends with the key");
    assert_eq!(Browser::new(&installation).enter(&unused).await.status, 401);

    // The operator needs no key.
    let wish = |access| portal::link::Wish { party: PartyId::parse("shop").unwrap(), mode: Mode::Test, access, by: "ops".to_owned(), key: None };
    let settings = portal::Settings { links_max: 3, ..plan().portal };
    let make = async || portal::link::make(&installation.store, PEPPER.as_bytes(), &settings, &installation.url, wish(Access::Manage)).await.unwrap();
    let made = make().await;
    assert!(made.is_none(), "as many links as a party can have lately were made for it above");
    installation.redis.say(&["DEL", "t:{auth}:links:shop:test"]);
    let made = make().await.unwrap();
    let mut browser = Browser::new(&installation);
    assert_eq!(browser.enter(made.url.split_once('#').unwrap().1).await.status, 303);
    assert!(lives(&browser).await);
}

/// A clock that is an hour behind neither makes what was taken back good again nor what is granted since useless.
#[tokio::test]
async fn what_is_taken_back_does_not_depend_on_clocks() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let taken = Browser::of(&installation, &shop, "read").await;
    assert_eq!(shop.delete("/v1/portal-links").await.status, 204);
    let mut grant_key = None;
    let mut slow = Browser::new(&installation);
    assert_eq!(slow.enter(&link(&shop, "read").await).await.status, 303);
    // As if the process that made this link had a clock that is behind.
    for key in installation.redis.say(&["KEYS", "t:{auth}:session:*"]).lines().filter(|line| line.starts_with("t:")) {
        let grant = installation.redis.say(&["HGET", key, "grant"]);
        let grant: Value = serde_json::from_str(grant.lines().nth(1).unwrap()).unwrap();
        if grant["generation"].is_string() {
            let behind = Value::Object(
                grant
                    .as_object()
                    .unwrap()
                    .iter()
                    .map(|(name, value)| (name.clone(), if name == "made_at" { json!("2020-01-01T00:00:00Z") } else { value.clone() }))
                    .collect(),
            );
            installation.redis.say(&["HSET", key, "grant", &behind.to_string()]);
            grant_key = Some(key.to_owned());
        }
    }
    assert!(grant_key.is_some());
    assert_eq!(slow.get("/portal").await.status, 200, "it was granted afterwards");
    assert_eq!(taken.get("/portal").await.status, 401);
    assert_eq!(shop.delete("/v1/portal-links").await.status, 204);
    assert_eq!(slow.get("/portal").await.status, 401, "and each time anew");
}

/// Who is signed in for one party is asked before a link to another one takes its place; the link is good until then.
#[tokio::test]
async fn a_link_to_another_party_asks_before_it_replaces_a_session() {
    let installation = Installation::with(plan()).await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let mut browser = Browser::of(&installation, &shop, "manage").await;
    let first = browser.clone();
    let to_cafe = link(&cafe, "read").await;
    for instead_of in [None, Some(""), Some("x")] {
        let fields: Vec<_> = [("link", to_cafe.as_str())].into_iter().chain(instead_of.map(|sent| ("instead_of", sent))).collect();
        let asked = browser.post("/portal/enter", &fields).await;
        assert_eq!((asked.status, asked.header("set-cookie")), (200, None), "{asked:?}");
        assert!(asked.text.contains("<strong>shop</strong>") && asked.text.contains("<strong>cafe</strong>"), "{}", asked.text);
        assert_eq!(asked.header("cache-control"), Some("no-store"));
    }
    assert!(browser.get("/portal").await.text.contains("<span class=\"party\">shop</span>"), "who stays has lost nothing");

    // Of the same party it takes the place at once, as one that manages does of one that looks on.
    assert_eq!(browser.enter(&link(&shop, "read").await).await.status, 303);
    let asked = browser.post("/portal/enter", &[("link", &to_cafe)]).await;
    let agreed = between(&asked.text, r#"name="instead_of" value=""#, "\"").unwrap().to_owned();
    assert_eq!(first.post("/portal/enter", &[("link", &to_cafe), ("instead_of", &agreed)]).await.status, 200, "another session has not agreed");
    let before = browser.clone();
    let entered = browser.post("/portal/enter", &[("link", &to_cafe), ("instead_of", &agreed)]).await;
    assert_eq!((entered.status, entered.header("location")), (303, Some("/portal")), "{entered:?}");
    browser.cookie = Some(entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned());
    assert!(browser.get("/portal").await.text.contains("<span class=\"party\">cafe</span>"));
    assert_eq!(before.get("/portal").await.status, 401, "what it took the place of has ended");
    assert_eq!(first.get("/portal").await.status, 200);
}

/// Whatever is answered, browsers keep it to themselves and run nothing of others.
#[tokio::test]
async fn every_answer_is_guarded() {
    let installation = Installation::with(plan()).await;
    let shop = installation.caller("shop").await;
    let id = subscribed(&shop, &to("https://hooks.example.com/")).await;
    let (browser, stranger) = (Browser::of(&installation, &shop, "manage").await, Browser::new(&installation));
    let one = format!("/portal/subscriptions/{id}");
    let replies = [
        (200, browser.get("/portal").await),
        (200, browser.get(&one).await),
        (200, browser.get(&format!("{one}/edit")).await),
        (200, browser.get("/portal/subscriptions/new").await),
        (200, browser.get("/portal/events").await),
        (200, browser.get("/portal/verify").await),
        (200, browser.send(&one, &[("action", "pause")]).await),
        (200, stranger.get("/portal/enter").await),
        (401, stranger.get("/portal").await),
        (401, stranger.post("/portal/leave", &[]).await),
        (403, browser.post(&one, &[("action", "pause")]).await),
        (404, browser.get("/portal/nowhere").await),
        (404, browser.get("/portal/assets/..%2F..%2Fportal.rs").await),
        (404, browser.get("/portal/assets/").await),
        (405, browser.get("/portal/leave").await),
        (303, browser.send(&one, &[("action", "delete")]).await),
    ];
    for (status, reply) in replies {
        assert_eq!(reply.status, status, "{reply:?}");
        let policy = reply.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in
            [("referrer-policy", "no-referrer"), ("x-frame-options", "DENY"), ("cache-control", "no-store"), ("x-content-type-options", "nosniff")]
        {
            assert_eq!(reply.header(name), Some(value), "{status} {name}");
        }
        assert_eq!(reply.header("www-authenticate"), None, "a browser would ask for a password");
        if status != 303 {
            assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
            assert!(!reply.text.contains("<script>") && !reply.text.contains(" style=") && !reply.text.contains("onclick"), "{}", reply.text);
        }
    }
    let home = browser.get("/portal").await.text;
    for (name, kind) in [("portal.css", "text/css"), ("portal.js", "text/javascript"), ("htmx.min.js", "text/javascript"), ("icon.svg", "image/svg")]
    {
        let address = between(&home, &format!("\"/portal/assets/{name}"), "\"").unwrap_or_else(|| panic!("{name}"));
        let asset = stranger.get(&format!("/portal/assets/{name}{address}")).await;
        assert!(asset.status == 200 && asset.header("content-type").unwrap().starts_with(kind) && address.starts_with("?v="), "{name}");
        assert!(asset.header("cache-control").unwrap().contains("immutable") && !asset.text.is_empty());
    }
    assert!(!home.contains("src=\"http") && !home.contains("href=\"http"), "nothing comes from elsewhere");
}

/// Off unless it is configured; with https the cookie is for this host, by https only.
#[tokio::test]
async fn it_is_as_it_was_configured() {
    let installation = Installation::start().await;
    let shop = installation.caller("shop").await;
    assert_eq!(shop.post("/v1/portal-links", &json!({ "access": "read" })).await.problem(), "not-found");
    let browser = Browser::new(&installation);
    for path in ["/portal", "/portal/enter", "/portal/assets/portal.css"] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }

    let portal = portal::Settings { enabled: true, url: Some("https://pay.example".to_owned()), ..portal::Settings::default() };
    let installation = Installation::with(Plan { portal, ..plan() }).await;
    let shop = installation.caller("shop").await;
    let made = shop.post("/v1/portal-links", &json!({ "access": "read" })).await;
    let token = made.json["result"]["url"].as_str().unwrap().strip_prefix("https://pay.example/portal/enter#").unwrap().to_owned();
    let mut browser = Browser::new(&installation);
    let entered = browser.enter(&token).await;
    let cookie = entered.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__Host-payrelay-portal=") && cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    assert_eq!(browser.get("/portal").await.status, 200);
    browser.cookie = browser.cookie.map(|cookie| cookie.replace("__Host-", ""));
    assert_eq!(browser.get("/portal").await.status, 401);
}

/// Requests with links that are begun and not ended keep those who are in from nothing, and end soon.
#[tokio::test]
async fn a_crowd_at_the_door_shuts_nobody_out_who_is_in() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut settings = plan();
    settings.portal.concurrency = 4;
    let installation = Installation::with(settings).await;
    let shop = installation.caller("shop").await;
    let browser = Browser::of(&installation, &shop, "manage").await;
    let mut crowd = Vec::new();
    for _ in 0..8 {
        let mut stream = tokio::net::TcpStream::connect(installation.url.trim_start_matches("http://")).await.unwrap();
        let head = "POST /portal/enter HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 100\r\n\r\nlink=";
        stream.write_all(head.as_bytes()).await.unwrap();
        crowd.push(stream);
    }
    assert_eq!(browser.get("/portal").await.status, 200);
    let mut statuses = Vec::new();
    for mut stream in crowd {
        let mut answer = [0; 12];
        tokio::time::timeout(Duration::from_secs(4), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        statuses.push(String::from_utf8_lossy(&answer[9..]).into_owned());
    }
    assert!(statuses.iter().all(|status| ["408", "503"].contains(&status.as_str())), "{statuses:?}");
    assert!(statuses.contains(&"408".to_owned()), "{statuses:?}");
    let mut late = Browser::new(&installation);
    assert_eq!(late.enter(&link(&shop, "read").await).await.status, 303, "the door is open again");
}
