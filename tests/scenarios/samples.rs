//! What merchants can paste: the samples of docs/verify.md against real payloads, and the tools that try an endpoint.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::event::EventType;
use domain::id::{Mode, PartyId, PayoutId, Shards};
use domain::sample::Sample;
use domain::signature::{Secret, Signer, header, sign, verify};
use domain::subscription::EventTypes;
use tokio::net::TcpListener;
use workers::relay::keys::{self, SigningKeys};

const NOW: i64 = 1_800_000_000;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/samples")
}

/// Each language's way to run its sample.
const LANGUAGES: [(&str, &[&str]); 5] =
    [("python3", &["verify.py"]), ("node", &["verify.mjs"]), ("java", &["Verify.java"]), ("go", &["build", "verify.go"]), ("php", &["verify.php"])];

fn is_there(program: &str) -> bool {
    let version = if program == "go" { "version" } else { "--version" };
    Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn run(program: &str, arguments: &[&str], body: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(samples())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("JAVA_TOOL_OPTIONS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(body).unwrap();
    child.wait_with_output().unwrap()
}

/// Each sample accepts what is genuine, and nothing else. What cannot be run here is said.
#[test]
fn every_sample_tells_genuine_from_forged() {
    let (secret, other) = (Secret::from_bytes(&[3; 32]).unwrap(), Secret::from_bytes(&[4; 24]).unwrap());
    let payout = PayoutId::derive(&PartyId::parse("acme").unwrap(), Mode::Test, "x", Shards::ONE);
    let event = Sample::of(EventType::Returned, payout, 3, jiff::Timestamp::from_second(NOW).unwrap());
    let (id, body) = (event.id.to_string(), event.body.into_bytes());
    let accented = "{\"name\":\"Zoë\\n\"}\n".as_bytes().to_vec();
    let good = |at: i64| sign(&secret, &id, at, &body);
    let mut changed = body.clone();
    *changed.last_mut().unwrap() = b' ';
    let text = |at: i64| at.to_string();
    let (right, none, short, cut) = (secret.to_text(), "whsec_".to_owned(), "whsec_YWJj".to_owned(), "whsec_abc".to_owned());
    // Whoever has no secret configured accepts nothing: what is signed with nothing could be anybody's.
    let with = |key: &[u8]| {
        let signed = [format!("{id}.{NOW}.").as_bytes(), &body].concat();
        format!("v1,{}", STANDARD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), &signed)))
    };
    let cases = [
        ("genuine", &right, text(NOW), good(NOW), &body, true),
        ("bytes", &right, text(NOW), sign(&secret, &id, NOW, &accented), &accented, true),
        ("late, within the tolerance", &right, text(NOW - 299), good(NOW - 299), &body, true),
        ("rotated", &right, text(NOW), header(&[other.clone(), secret.clone()], &id, NOW, &body), &body, true),
        ("another secret", &right, text(NOW), sign(&other, &id, NOW, &body), &body, false),
        ("changed", &right, text(NOW), good(NOW), &changed, false),
        ("old", &right, text(NOW - 301), good(NOW - 301), &body, false),
        ("from the future", &right, text(NOW + 301), good(NOW + 301), &body, false),
        ("no signature", &right, text(NOW), String::new(), &body, false),
        ("no timestamp", &right, String::new(), good(NOW), &body, false),
        ("another version", &right, text(NOW), good(NOW).replacen("v1,", "v2,", 1), &body, false),
        ("no secret", &none, text(NOW), with(b""), &body, false),
        ("too short a secret", &short, text(NOW), with(b"abc"), &body, false),
        ("a secret that is no base64", &cut, text(NOW), good(NOW), &body, false),
    ];
    let page = std::fs::read_to_string(samples().join("../verify.md")).unwrap();
    for (program, arguments) in LANGUAGES {
        let file = arguments.last().unwrap();
        assert!(page.contains(&format!("(samples/{file})")), "{file} is on the page");
        if !is_there(program) {
            eprintln!("SKIPPED: {program} is not installed, so docs/samples/{file} was not run");
            continue;
        }
        // `go run` compiles each time, and has something to say of each status but 0.
        let built = tempfile::tempdir().unwrap();
        let (program, arguments): (String, &[&str]) = if program == "go" {
            let to = built.path().join("verify");
            let status = Command::new("go").args(["build", "-o"]).arg(&to).arg(file).current_dir(samples()).status().unwrap();
            assert!(status.success(), "{file} compiles");
            (to.to_str().unwrap().to_owned(), &[])
        } else {
            (program.to_owned(), arguments)
        };
        for (name, secret, timestamp, signature, body, accepted) in &cases {
            let all: Vec<&str> = arguments
                .iter()
                .copied()
                .chain([secret.as_str(), &id, timestamp, signature, &NOW.to_string()].map(|text| &*text.to_owned().leak()))
                .collect();
            let output = run(&program, &all, body);
            let expected = if *accepted { 0 } else { 1 };
            assert_eq!(output.status.code(), Some(expected), "{program}, {name}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stderr.is_empty(), "{program}, {name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

/// The sample for public keys does the same with them.
#[test]
fn the_sample_for_public_keys_tells_genuine_from_forged() {
    let page = std::fs::read_to_string(samples().join("../verify.md")).unwrap();
    assert!(page.contains("(samples/verify-v1a.mjs)"));
    if !is_there("node") {
        eprintln!("SKIPPED: node is not installed, so docs/samples/verify-v1a.mjs was not run");
        return;
    }
    let pairs = [[3; 32], [4; 32]].map(|seed| keys::make(&seed).unwrap());
    let [(_, public), (_, other)] = pairs.each_ref().map(|(private, public)| (private, public.text.clone()));
    let [signs, others] = pairs.each_ref().map(|(private, _)| SigningKeys::read([private.as_str()]).unwrap());
    let (id, body) = ("ev_1", "{\"name\":\"Zoë\"}".as_bytes());
    let good = |at: i64| signs.sign(id, at, body);
    let rotated = format!("v1,abc {} {}", others.sign(id, NOW, body), good(NOW));
    for (name, key, at, signature, body, accepted) in [
        ("genuine", &public, NOW, good(NOW), body, true),
        ("beside others", &public, NOW, rotated.clone(), body, true),
        ("by one of two keys", &format!("{other},{public}"), NOW, good(NOW), body, true),
        ("another key", &other, NOW, good(NOW), body, false),
        ("changed", &public, NOW, good(NOW), &b"{}"[..], false),
        ("old", &public, NOW - 301, good(NOW - 301), body, false),
        ("another time", &public, NOW - 1, good(NOW), body, false),
        ("another version", &public, NOW, good(NOW).replacen("v1a,", "v1,", 1), body, false),
        ("no signature", &public, NOW, String::new(), body, false),
        ("none at all", &public, NOW, "v1a,abc".to_owned(), body, false),
        ("no key", &"whpk_".to_owned(), NOW, good(NOW), body, false),
    ] {
        let output = run("node", &["verify-v1a.mjs", key, id, &at.to_string(), &signature, &NOW.to_string()], body);
        assert_eq!(output.status.code(), Some(if accepted { 0 } else { 1 }), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn payrelay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_payrelay")).args(arguments).output().unwrap()
}

/// The example of the help, pasted into a shell.
#[test]
fn the_example_of_verify_works_as_pasted() {
    let help = String::from_utf8(payrelay(&["verify", "--help"]).stdout).unwrap();
    let example = help.split_once("Example:\n").expect("an example").1;
    let folder = Path::new(env!("CARGO_BIN_EXE_payrelay")).parent().unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh").arg("-c").arg(example).env("PATH", path).env_remove("PAYRELAY_WEBHOOK_SECRET").output().unwrap();
    assert!(output.status.success(), "{example}\n{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("genuine"));
}

/// That a webhook is not genuine is told from that nobody could look.
#[test]
fn what_cannot_be_verified_is_not_called_forged() {
    let at = ["--id", "msg_1", "--timestamp", "1614265330", "--signature", "v1,abc"];
    for (arguments, code) in [
        (&["--secret", SECRET, "--body", "/dev/null"][..], 1),
        (&["--secret", SECRET, "--body", "/there/is/no/such/file"], 2),
        (&["--secret", "whsec_", "--body", "/dev/null"], 2),
    ] {
        let output = payrelay(&[&["verify"], &at[..], arguments].concat());
        let said = if code == 1 { &output.stdout } else { &output.stderr };
        assert!(output.status.code() == Some(code) && !said.is_empty(), "{arguments:?} {output:?}");
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver that does as docs/verify.md says.
async fn receive(State(verified): State<Arc<AtomicUsize>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now_s = workers::clock::Clock::of_the_machine().as_second();
    let secrets = [Secret::parse(SECRET).unwrap()];
    match verify(&secrets, text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"), &body, now_s, 300) {
        Ok(()) => {
            verified.fetch_add(1, Ordering::Relaxed);
            StatusCode::NO_CONTENT
        }
        Err(_) => StatusCode::UNAUTHORIZED,
    }
}

/// A receiver of ours verifies all samples, and passes the whole probe; one that verifies nothing is told so.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let verified = Arc::new(AtomicUsize::new(0));
    let router = axum::Router::new().fallback(receive).with_state(verified.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let said = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        tokio::task::block_in_place(|| {
            let output = payrelay(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
        })
    };
    let (code, text) = said(&["trigger", "--url", &url, "--secret", SECRET]);
    assert_eq!((code, verified.load(Ordering::Relaxed)), (Some(0), EventTypes::names().count()), "{text}");
    let ids = |text: &str| text.split_whitespace().filter(|word| word.starts_with("ev_")).map(ToOwned::to_owned).collect::<Vec<_>>();
    let (_, again) = said(&["trigger", "--url", &url, "--secret", SECRET, "--type", "webhook.failing", "--type", "webhook.failing"]);
    let (ids, count) = ([ids(&text), ids(&again)].concat(), EventTypes::names().count() + 2);
    assert_eq!((ids.len(), BTreeSet::from_iter(&ids).len()), (count, count), "each message has an id of its own, in each run: {ids:?}");
    let (code, text) = said(&["trigger", "--url", &url, "--secret", SECRET, "--type", "payout.returned"]);
    assert!(code == Some(0) && text.contains("payout.returned") && !text.contains("payout.failed"), "{text}");
    let (code, text) = said(&["probe", "--url", &url, "--secret", SECRET]);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("WRONG"), "{text}");
    let (code, text) = said(&["trigger", "--url", &url, "--secret", SECRET, "--type", "webhook.failing", "--payload", "full"]);
    assert!(code == Some(0) && text.contains("webhook.failing"), "{text}");
    let other = Secret::from_bytes(&[1; 32]).unwrap().to_text();
    assert_eq!(said(&["trigger", "--url", &url, "--secret", &other]).0, Some(1), "it does not verify");
    assert_eq!(said(&["chaos", "endpoint", "--url", &url, "--secret", &other]).0, Some(1), "genuine events are refused");

    // Nobody.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = said(&["probe", "--url", &format!("http://{free}/"), "--secret", SECRET]);
    assert!(code == Some(1) && text.contains("nothing listens there") && text.lines().count() == 1, "{text}");

    // Whoever accepts everything.
    let careless = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", careless.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(careless, axum::Router::new().fallback(async || "thanks")).await });
    let (code, text) = said(&["probe", "--url", &url, "--secret", SECRET]);
    let wrong = text.lines().filter(|line| line.contains("WRONG") && line.contains("refused")).count();
    assert_eq!((code, wrong), (Some(1), 11), "{text}");
}

/// A receiver that is written against Mollie gets samples as from a subscription of `/v2/webhooks`.
#[tokio::test(flavor = "multi_thread")]
async fn samples_of_snapshots_are_signed_as_snapshots_are() {
    let secret = "the-text-that-was-shown-once-1";
    let signer = Signer::new(&[Secret::from_bytes(secret.as_bytes()).unwrap()]);
    let got: Arc<Mutex<Vec<String>>> = Arc::default();
    let keeps = got.clone();
    let receive = async move |headers: HeaderMap, body: Bytes| {
        let signed = headers.get("x-mollie-signature").is_some_and(|given| signer.of_body(&body).any(|expected| *given == expected));
        let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let entity = &event["_embedded"]["entity"];
        keeps.lock().unwrap().push(format!(
            "{} {} {}",
            event["type"].as_str().unwrap(),
            entity["status"].as_str().unwrap(),
            entity["statusReason"]["code"].as_str().unwrap()
        ));
        if signed { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(receive)).await });
    let run = |more: &[&str]| {
        tokio::task::block_in_place(|| payrelay(&[&["trigger", "--url", &url, "--secret", secret, "--payload", "snapshot"], more].concat()))
    };
    let output = run(&[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        *got.lock().unwrap(),
        [
            "payout.initiated initiated initiated",
            "payout.processing-at-bank processing-at-bank processing_at_bank",
            "payout.completed completed completed",
            "payout.failed failed returned",
            "payout.failed failed insufficient_funds",
            "payout.canceled canceled canceled",
        ]
    );
    let none = run(&["--type", "payout.requested"]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("not told"), "{none:?}");
}
