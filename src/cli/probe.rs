//! `payrelay probe`: what a merchant's endpoint makes of webhooks as they come in the worst case: twice, late, out of order, forged.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use domain::event::EventType;
use domain::id::{Mode, PartyId, PayoutId, Shards};
use domain::sample::Sample;
use domain::signature::{Secret, header, sign};
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use workers::clock::Clock;
use workers::egress::{Egress, Target};

use super::print;
use super::trigger::anywhere;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, to a server on this machine:\n  payrelay probe --url http://127.0.0.1:3000/hooks --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)]
pub struct Arguments {
    /// The endpoint, whatever address that is.
    #[arg(long)]
    url: String,
    /// The secret that it verifies with, `whsec_…`. Better in the environment than on the command line, which others can see.
    #[arg(long, env = "PAYRELAY_WEBHOOK_SECRET", hide_env_values = true)]
    secret: String,
    /// How far timestamps may be from its clock, in seconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(i64).range(10..=604_800))]
    tolerance: i64,
    /// The longest time for each, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=60))]
    timeout: u16,
}

/// What is sent.
struct Case {
    about: &'static str,
    /// A 2xx is right, or anything but that.
    accepted: bool,
    id: String,
    timestamp: String,
    signature: String,
    body: String,
}

/// Ends with 0 if the endpoint did right in each case, 1 if not.
///
/// # Errors
/// The URL or the secret is none.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let secret = Secret::parse(arguments.secret.trim()).context("the secret is not one; copy it whole")?;
    let egress = anywhere(&arguments.url)?;
    let target = egress.target(&arguments.url, Mode::Test)?;
    let timeout = Duration::from_secs(arguments.timeout.into());
    let (mut table, mut all) = (Table::new(), true);
    table.load_style(NOTHING).set_header(["", "what was sent", "is to be", "answer"]);
    for case in cases(&secret, arguments.tolerance, Clock::of_the_machine())? {
        let status = send(&egress, &target, &case, timeout).await;
        // What is left would find nobody either.
        if let Some(what) = status.as_ref().err().and_then(|why| nobody(why)) {
            bail!("{}: {what}", arguments.url);
        }
        // Whoever does not answer at all has refused nothing.
        let right = status.as_ref().is_ok_and(|status| (200..300).contains(status) == case.accepted);
        all &= right;
        let expected = if case.accepted { "accepted: 2xx" } else { "refused: not 2xx" };
        table.add_row([if right { "ok" } else { "WRONG" }, case.about, expected, &status.map_or_else(|why| why, |status| status.to_string())]);
    }
    print(&table.to_string())?;
    print(if all { "all right" } else { "What is WRONG is for the endpoint to mend: docs/verify.md shows how signatures are verified." })?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cases(secret: &Secret, tolerance_s: i64, now: Timestamp) -> anyhow::Result<Vec<Case>> {
    let party = PartyId::parse("sample").context("the party of the samples")?;
    let payout = PayoutId::derive(&party, Mode::Test, &now.to_string(), Shards::ONE);
    let other = Secret::from_bytes(&[7; 32]).context("a secret of nobody's")?;
    let now_s = now.as_second();
    let event = |sequence, kind| Sample::of(kind, payout, sequence, now);
    let by = |about, accepted, event: &Sample, at_s: i64, signs: &dyn Fn(&str, i64, &[u8]) -> String| {
        let id = event.id.to_string();
        let signature = signs(&id, at_s, event.body.as_bytes());
        Case { about, accepted, id, timestamp: at_s.to_string(), signature, body: event.body.clone() }
    };
    let good = |id: &str, at_s: i64, body: &[u8]| sign(secret, id, at_s, body);
    let genuine = |about, event: &Sample, at_s| by(about, true, event, at_s, &good);
    let forged = |about, signs: &dyn Fn(&str, i64, &[u8]) -> String| by(about, false, &event(9, EventType::Completed), now_s, signs);

    let (first, second, third) = (event(1, EventType::Requested), event(2, EventType::Initiated), event(3, EventType::Completed));
    let mut unknown = event(4, EventType::Completed);
    unknown.body = unknown.body.replacen("payout.completed", "payout.of-another-time", 1);
    let (late, early) = (now_s - tolerance_s - 60, now_s + tolerance_s + 60);
    let changed = Case { body: third.body.replacen("10000", "99999", 1), ..by("a body that was changed", false, &third, now_s, &good) };
    let other_time = Case { timestamp: (now_s - 1).to_string(), ..by("a timestamp that was changed", false, &third, now_s, &good) };
    let other_id = Case { id: event(8, EventType::Completed).id.to_string(), ..by("an id that was changed", false, &third, now_s, &good) };
    Ok(vec![
        genuine("an event", &first, now_s),
        genuine("the same again", &first, now_s),
        genuine("the same again, as a later try", &first, now_s + 1),
        genuine("the third event of a payout", &third, now_s),
        genuine("the second one, after it", &second, now_s),
        genuine("an event that was held up, within the tolerance", &second, now_s - tolerance_s + 30.min(tolerance_s / 2)),
        genuine("an event of a type that nobody knew yet", &unknown, now_s),
        by("two signatures, as while the secret is rotated", true, &third, now_s, &|id, at_s, body| {
            header(&[other.clone(), secret.clone()], id, at_s, body)
        }),
        by("a signature of a scheme that nobody knew yet beside ours", true, &third, now_s, &|id, at_s, body| {
            format!("v9,abc {}", good(id, at_s, body))
        }),
        forged("a signature by another secret", &|id, at_s, body| sign(&other, id, at_s, body)),
        forged("no signature", &|_, _, _| String::new()),
        forged("a signature that is none", &|_, _, _| "v1,".to_owned()),
        forged("a signature without its version", &|id, at_s, body| good(id, at_s, body).replacen("v1,", "", 1)),
        forged("the right signature under another version", &|id, at_s, body| good(id, at_s, body).replacen("v1,", "v2,", 1)),
        changed,
        other_time,
        other_id,
        by("an old event, signed long ago: a replay", false, &third, late, &good),
        by("an event from the future", false, &third, early, &good),
        Case { timestamp: String::new(), ..by("no timestamp", false, &third, now_s, &good) },
    ])
}

/// What is wrong where there is nobody to try.
fn nobody(why: &str) -> Option<&'static str> {
    match why {
        "connect" => Some("nothing listens there"),
        "dns" => Some("its name leads nowhere"),
        "tls" => Some("there is no TLS session with it: is its certificate valid for this name, and is it https at all?"),
        _ => None,
    }
}

/// The status of the answer, or why there is none.
async fn send(egress: &Egress, target: &Target, case: &Case, timeout: Duration) -> Result<u16, String> {
    let named = [("webhook-id", &case.id), ("webhook-timestamp", &case.timestamp), ("webhook-signature", &case.signature)];
    let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    for (name, value) in named.into_iter().filter(|(_, value)| !value.is_empty()) {
        headers.push((HeaderName::from_static(name), HeaderValue::from_str(value).map_err(|error| error.to_string())?));
    }
    let body = Bytes::from(case.body.clone());
    match tokio::time::timeout(timeout, egress.post(target, &headers, body, Clock::of_the_machine())).await {
        Ok(Ok(posted)) => Ok(posted.status),
        Ok(Err(failure)) => Err(failure.why.code().to_owned()),
        Err(_) => Err("timeout".to_owned()),
    }
}
