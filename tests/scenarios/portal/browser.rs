//! The same in a real browser, with scripts: Chromium without a window, driven by WebDriver. Pictures of what it showed are in `target/tmp/portal`.
//!
//! Where there is no `chromedriver` the test says so and ends; `make test` installs one on Debian.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Pid, Signal, kill_process_group};

use super::*;

/// What WebDriver calls an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser of its own: its driver, its profile and its process end with it.
struct Chromium {
    driver: Child,
    /// The browser itself, which has a group of its own.
    browser: Option<Pid>,
    http: reqwest::Client,
    /// Of the session.
    url: String,
    _profile: tempfile::TempDir,
    /// Kept open: it goes on talking.
    _said: BufReader<ChildStdout>,
}

impl Chromium {
    /// `None` where none is installed.
    async fn start() -> Option<Self> {
        let places: Vec<PathBuf> = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        let program = places.iter().map(|place| place.join("chromedriver")).find(|program| program.is_file())?;
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(program)
            .arg("--port=0")
            .env("TMPDIR", profile.path())
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut said = BufReader::new(driver.stdout.take().unwrap());
        let port = said
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned()));
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap();
        let url = format!("http://127.0.0.1:{}/session", port.expect("it says its port"));
        let mut chromium = Self { driver, browser: None, http, url, _profile: profile, _said: said };
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--lang=en-GB",
            "--window-size=1280,1000",
            format!("--user-data-dir={}", chromium._profile.path().join("profile").display()),
        ]);
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" }, "timeouts": { "implicit": 10_000 } });
        let session = chromium.call(reqwest::Method::POST, "", &json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        chromium.browser = session["capabilities"]["goog:processID"].as_i64().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        chromium.url = format!("{}/{}", chromium.url, session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}")));
        Some(chromium)
    }

    async fn call(&self, method: reqwest::Method, path: &str, body: &Value) -> Value {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
        if method == reqwest::Method::POST {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let reply = Reply::of(request).await;
        assert_eq!(reply.status, 200, "{path} {body}: {}", reply.text.chars().take(1_000).collect::<String>());
        reply.json["value"].clone()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.call(reqwest::Method::POST, path, &body).await
    }

    async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    /// The first element like that, once there is one.
    async fn find(&self, xpath: &str) -> String {
        self.post("/element", json!({ "using": "xpath", "value": xpath })).await[ELEMENT].as_str().unwrap().to_owned()
    }

    /// That there is an element with this text.
    async fn sees(&self, text: &str) {
        self.find(&format!("//body//*[contains(text(), \"{text}\")]")).await;
    }

    async fn click(&self, xpath: &str) {
        let element = self.find(xpath).await;
        self.post(&format!("/element/{element}/click"), json!({})).await;
    }

    async fn button(&self, text: &str) {
        self.click(&format!("//main//*[self::button or self::a][normalize-space()=\"{text}\"]")).await;
    }

    async fn write(&self, id: &str, text: &str) {
        let element = self.find(&format!("//*[@id=\"{id}\"]")).await;
        self.post(&format!("/element/{element}/value"), json!({ "text": text })).await;
    }

    async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] })).await
    }

    async fn text(&self) -> String {
        self.run("return document.body.innerText").await.as_str().unwrap().to_owned()
    }

    /// Keeps what is to be seen, the whole page.
    async fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("portal");
        std::fs::create_dir_all(&folder).unwrap();
        let shot = self.post("/goog/cdp/execute", json!({ "cmd": "Page.captureScreenshot", "params": { "captureBeyondViewport": true } })).await;
        std::fs::write(folder.join(name).with_extension("png"), STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()).unwrap();
    }

    async fn dark(&self, dark: bool) {
        let value = if dark { "dark" } else { "light" };
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": value }] });
        self.post("/goog/cdp/execute", json!({ "cmd": "Emulation.setEmulatedMedia", "params": features })).await;
    }

    async fn size(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.post("/goog/cdp/execute", json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": metrics })).await;
    }

    /// What the browser complains of: scripts and styles that the policy forbids, errors in scripts.
    async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        log.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Every field has a label, everything that can be pressed a name, and nothing is wider than the window.
    async fn is_usable(&self) {
        let script = "const bare = (all, ok) => [...document.querySelectorAll(all)].filter((it) => !ok(it)).map((it) => it.outerHTML);
            return [...bare('input:not([type=hidden]), select, textarea', (it) => it.labels.length > 0),
                    ...bare('button, a', (it) => (it.ariaLabel || it.textContent).trim()),
                    ...(document.documentElement.scrollWidth > innerWidth ? ['wider than the window'] : []),
                    ...[...document.querySelectorAll('.scroll')].filter((it) => it.scrollWidth > it.clientWidth).map((it) => `${it.scrollWidth} in ${it.clientWidth}`),
                    ...(document.querySelectorAll('h1').length === 1 ? [] : ['not one heading'])];";
        assert_eq!(self.run(script).await, json!([]));
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let driver = Pid::from_child(&self.driver);
        for group in self.browser.into_iter().chain([driver]) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.driver.wait();
    }
}

/// From the link to signing out, by clicks.
#[tokio::test]
async fn a_party_looks_after_its_subscriptions_in_a_browser() {
    let Some(browser) = Chromium::start().await else {
        eprintln!("SKIPPED: there is no chromedriver; the portal was not tested in a browser (Debian: apt install chromium chromium-driver)");
        return;
    };
    let installation = Installation::with(plan()).await;
    let (shop, cafe) = (installation.caller("shop").await, installation.caller("cafe").await);
    let (url, got, status) = subscriber(200, "{\"error\": \"database <b>down</b>\"}").await;

    let made = shop.post("/v1/portal-links", &json!({ "access": "manage" })).await;
    browser.open(made.json["result"]["url"].as_str().unwrap()).await;
    browser.sees("Nobody is told yet").await;
    assert_eq!(browser.run("return location.pathname + location.hash").await, "/portal", "the token is gone from the address");
    browser.is_usable().await;
    browser.picture("1-empty").await;

    browser.button("Make the first one").await;
    browser.write("url", "http://10.0.0.1/").await;
    browser.button("Make the subscription").await;
    browser.find("//*[@id=\"wrong-url\"]").await;
    browser.is_usable().await;
    browser.picture("2-form").await;
    browser.run("document.getElementById('url').value = ''").await;
    browser.write("url", &url).await;
    browser.write("name", "Back office").await;
    browser.click("//input[@value=\"payout.requested\"]").await;
    assert_eq!(browser.run("return document.getElementById('some').checked").await, true, "the choice follows");
    browser.button("Make the subscription").await;
    browser.sees("shown this once").await;
    let first = browser.run("return document.querySelector('#secret pre').textContent").await.as_str().unwrap().to_owned();
    assert!(first.starts_with("whsec_"));
    browser.is_usable().await;
    browser.picture("3-made").await;
    let long = format!("https://hooks.example.com/{}", "a_long_way_to_go".repeat(8));
    let kinds = json!(["payout.processing-at-bank", "payout.review-required", "payout.attempt-failed", "webhook.*", "reconciliation.break"]);
    let beside = subscribed(&shop, &json!({ "url": long, "event_types": kinds })).await;
    assert_eq!(shop.post(&format!("/v1/webhooks/{beside}/pause"), &json!({})).await.status, 200);
    browser.click("//a[.=\"Subscriptions\"]").await;
    browser.sees("Back office").await;
    browser.is_usable().await;
    browser.picture("4-list").await;
    assert_eq!(shop.delete(&format!("/v1/webhooks/{beside}")).await.status, 204);
    browser.post("/back", json!({})).await;
    assert!(!browser.text().await.contains("whsec_"), "nor is it shown by going back");

    browser.open(&format!("{}/portal", installation.url)).await;
    browser.button("Back office").await;
    browser.run("window.marker = 'the same document'").await;
    browser.button("Ping").await;
    browser.sees("The ping arrived: HTTP 200").await;
    assert_eq!(got.lock().unwrap().len(), 1);
    assert_eq!(browser.run("return document.activeElement.id").await, "notice", "who does not see it is told");
    browser.button("Pause").await;
    browser.find("//main//span[@class=\"pill paused\"]").await;
    browser.button("Resume").await;
    browser.find("//main//span[@class=\"pill enabled\"]").await;
    browser.click("//summary[.=\"Rotate the secret\"]").await;
    browser.button("Rotate now").await;
    browser.sees("shown this once").await;
    let second = browser.run("return document.querySelector('#secret pre').textContent").await.as_str().unwrap().to_owned();
    assert!(second.starts_with("whsec_") && second != first);
    browser.picture("5-rotated").await;
    browser.button("Refresh").await;
    browser.find("//main[not(.//*[@id=\"secret\"])]").await;

    *status.lock().unwrap() = 500;
    assert_eq!(shop.post("/v1/payouts", &payout(&transaction())).await.status, 202);
    assert_eq!(installation.deliver().await, 1);
    browser.button("Refresh").await;
    browser.find("//main//span[@class=\"pill failing\"]").await;
    browser.click("//main//summary[contains(., \"1 attempt\")]").await;
    browser.sees("database <b>down</b>").await;
    browser.is_usable().await;
    browser.picture("6-failed").await;
    browser.dark(true).await;
    browser.picture("6-failed-dark").await;
    browser.dark(false).await;
    *status.lock().unwrap() = 200;
    browser.button("Try now").await;
    browser.sees("delivered again now").await;
    assert_eq!(installation.deliver().await, 1);
    // The page looks by itself.
    browser.find("//main//span[@class=\"pill delivered\"]").await;
    assert_eq!(browser.run("return window.marker").await, "the same document", "all of that were parts of one page");
    let time = browser.run("return document.querySelector('#deliveries time').textContent").await;
    assert!(!time.as_str().unwrap().contains("UTC"), "in the reader's zone: {time}");

    browser.click("//main//a[.=\"payout.requested\"]").await;
    browser.sees("Formatted for reading").await;
    browser.is_usable().await;
    browser.picture("7-event").await;
    browser.click("//a[.=\"Events\"]").await;
    browser.sees("What there was to tell").await;
    browser.picture("8-events").await;
    browser.click("//a[.=\"Verify a signature\"]").await;
    let (headers, body) = got.lock().unwrap().last().unwrap().clone();
    for (id, name) in [("id", "webhook-id"), ("timestamp", "webhook-timestamp"), ("signature", "webhook-signature")] {
        browser.write(id, headers[name].to_str().unwrap()).await;
    }
    browser.write("body", &body).await;
    browser.button("Check").await;
    browser.sees("Genuine: signed").await;
    browser.is_usable().await;
    browser.picture("9-verified").await;

    browser.size(390, 844).await;
    browser.open(&format!("{}/portal", installation.url)).await;
    browser.sees("Back office").await;
    browser.is_usable().await;
    browser.picture("10-narrow").await;
    browser.button("Back office").await;
    browser.find("//h2[.=\"Deliveries\"]").await;
    browser.is_usable().await;
    browser.picture("11-narrow-one").await;
    browser.size(1280, 1000).await;

    // A link of another party asks first, and is as good afterwards.
    let to_cafe = format!("{}/portal/enter#{}", installation.url, link(&cafe, "read").await);
    browser.open(&to_cafe).await;
    browser.find("//h1[.=\"Another party\"]").await;
    browser.is_usable().await;
    browser.picture("12-another-party").await;
    browser.button("Stay with shop").await;
    browser.sees("Back office").await;
    browser.open(&to_cafe).await;
    browser.button("Sign out and open cafe").await;
    browser.find("//span[@class=\"party\"][.=\"cafe\"]").await;

    let complaints = browser.complaints().await;
    let expected = |line: &String| line.contains("400 (Bad Request)") || line.contains("ERR_CACHE_MISS");
    assert!(complaints.iter().all(expected), "{complaints:?}");
    browser.click("//header//button[.=\"Sign out\"]").await;
    browser.sees("You are signed out").await;
    browser.open(&format!("{}/portal", installation.url)).await;
    browser.sees("You are not signed in").await;
    browser.picture("13-signed-out").await;
}
