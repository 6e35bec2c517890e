//! `payrelay verify`: whether a webhook that somebody has received is genuine, and if not, why. For merchants whose own check fails.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use domain::signature::{Mismatch, Secret, verify};
use jiff::Timestamp;
use serde::Deserialize;
use workers::receipt::{Invalid, Receipt, Statement};
use workers::relay::keys::PublicKey;

use super::print;

/// What the process ends with when the webhook does not verify.
const EXIT_MISMATCH: u8 = 1;
/// No body of ours is larger.
const BODY_MAX: u64 = 16 << 20;

/// Can be pasted into a shell as it is.
const EXAMPLE: &str = "Example:
  printf '%s' '{\"test\": 2432232314}' | payrelay verify --secret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw \\
    --id msg_p5jXN8AQM9LWM0D4loKWxJek --timestamp 1614265330 --at 2021-02-25T15:02:10Z \\
    --signature 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Arguments {
    /// A secret of the subscription, `whsec_…`; several with commas. Better in the environment than on the command line, which others can see.
    #[arg(long = "secret", env = "PAYRELAY_WEBHOOK_SECRET", hide_env_values = true, required_unless_present = "receipt", value_delimiter = ',')]
    secrets: Vec<String>,
    /// The header `webhook-id`, as it came.
    #[arg(long, default_value = "")]
    id: String,
    /// The header `webhook-timestamp`, as it came.
    #[arg(long, default_value = "")]
    timestamp: String,
    /// The header `webhook-signature`, as it came.
    #[arg(long, default_value = "")]
    signature: String,
    /// A file with the body, byte for byte; `-` is the standard input.
    #[arg(long, default_value = "-")]
    body: PathBuf,
    /// When it came, as in 2026-01-31T09:00:00Z. Without it: now.
    #[arg(long)]
    at: Option<Timestamp>,
    /// How far its timestamp may be from that, in seconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(i64).range(0..=604_800))]
    tolerance: i64,
    /// A file with a receipt of a delivery, as `/v1/deliveries/{id}/receipt` answers it: checked in place of a webhook.
    #[arg(long, value_name = "FILE", requires = "keys")]
    receipt: Option<PathBuf>,
    /// A public key that receipts are signed with, `whpk_…`, from `/.well-known/webhook-keys.json`; several with commas.
    #[arg(long = "key", value_delimiter = ',')]
    keys: Vec<String>,
}

/// A webhook as somebody has it.
pub(crate) struct Received<'a> {
    pub(crate) id: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) signature: &'a str,
    pub(crate) body: &'a [u8],
}

/// What is wrong, and what may be behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    mismatch: Mismatch,
    hint: Option<&'static str>,
}

/// Ends with 0 if the webhook is genuine, 1 if not.
///
/// # Errors
/// A secret is none, or the body cannot be read.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(path) = &arguments.receipt {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        return match explain_receipt(&text, &arguments.keys)? {
            Ok(said) => print(&said).map(|()| ExitCode::SUCCESS),
            Err(invalid) => print(&format!("not genuine: {invalid}")).map(|()| ExitCode::from(EXIT_MISMATCH)),
        };
    }
    let mut body = Vec::new();
    if arguments.body.as_os_str() == "-" {
        std::io::stdin().take(BODY_MAX + 1).read_to_end(&mut body).context("reading the body")?;
    } else {
        let file = std::fs::File::open(&arguments.body).with_context(|| format!("opening {}", arguments.body.display()))?;
        file.take(BODY_MAX + 1).read_to_end(&mut body).context("reading the body")?;
    }
    ensure!(body.len() as u64 <= BODY_MAX, "the body has more than {BODY_MAX} bytes");
    let at = arguments.at.unwrap_or_else(workers::clock::Clock::of_the_machine);
    let Arguments { id, timestamp, signature, .. } = arguments;
    let explained = explain(&arguments.secrets, &Received { id, timestamp, signature, body: &body }, at.as_second(), arguments.tolerance)?;
    Ok(match explained {
        None => {
            print("genuine: a signature of it was made with the secret, over these very bytes")?;
            ExitCode::SUCCESS
        }
        Some(explanation) => {
            print(&format!("not genuine: {explanation}"))?;
            ExitCode::from(EXIT_MISMATCH)
        }
    })
}

/// What a receipt proves, or why it proves nothing.
fn explain_receipt(text: &str, keys: &[String]) -> anyhow::Result<Result<String, Invalid>> {
    #[derive(Deserialize)]
    struct Answer {
        result: Receipt,
    }
    let keys = keys.iter().map(|text| PublicKey::read(text.trim())).collect::<Result<Vec<_>, _>>().context("a key is not one")?;
    // As it was answered, or what was in the answer.
    let receipt: Result<Receipt, _> = serde_json::from_str::<Answer>(text).map(|answer| answer.result).or_else(|_| serde_json::from_str(text));
    let receipt = receipt.context("it is no receipt as `/v1/deliveries/{id}/receipt` answers it")?;
    Ok(receipt.verify(&keys).map(|Statement { link, record }| {
        format!("genuine: signed with one of the keys, place {} of the chain, hash {}\n{record}", link.place, link.hash)
    }))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mismatch)?;
        if let Some(hint) = self.hint { write!(f, "\n{hint}") } else { Ok(()) }
    }
}

/// `None` if it is genuine.
///
/// # Errors
/// A secret is none.
pub(crate) fn explain(secrets: &[String], received: &Received<'_>, now_s: i64, tolerance_s: i64) -> anyhow::Result<Option<Explanation>> {
    let read = secrets.iter().map(|text| Secret::parse(text.trim()));
    let read = read.collect::<Result<Vec<_>, _>>().context("a secret is not one; copy it whole, from the answer that showed it")?;
    let Received { id, timestamp, signature, body } = *received;
    let Err(mismatch) = verify(&read, id, timestamp, signature, body, now_s, tolerance_s) else { return Ok(None) };
    let by = |secrets: &[Secret], timestamp: &str, body: &[u8]| verify(secrets, id, timestamp, signature, body, 0, i64::MAX).is_ok();
    let genuine = by(&read, timestamp, body);
    let hint = match mismatch {
        Mismatch::Missing { .. } => {
            Some("Pass on the headers webhook-id, webhook-timestamp and webhook-signature as they came; a proxy may have dropped them.")
        }
        Mismatch::Timestamp | Mismatch::InTheFuture { .. } if timestamp.len() > 11 => {
            Some("It looks like milliseconds; the header holds seconds. Use it as it came.")
        }
        Mismatch::Timestamp => Some("Use the header as it came, digits only."),
        Mismatch::TooOld { .. } | Mismatch::InTheFuture { .. } if genuine => {
            Some("Its signature is right. It is an old message (--at says when it came), or one of the two clocks is wrong.")
        }
        Mismatch::TooOld { .. } | Mismatch::InTheFuture { .. } => Some("Its signature is not right either. --at says when it came."),
        Mismatch::NoV1 if signature.contains("v1a,") => Some("There are only signatures by public key (v1a), for which a secret is of no use."),
        Mismatch::NoV1 => Some("Use the header as it came: `v1,` and base64, several with spaces between them."),
        Mismatch::NoMatch => behind(secrets, &read, received, by),
    };
    Ok(Some(Explanation { mismatch, hint }))
}

/// The usual mistakes, each undone in turn.
fn behind(secrets: &[String], read: &[Secret], received: &Received<'_>, by: impl Fn(&[Secret], &str, &[u8]) -> bool) -> Option<&'static str> {
    let Received { timestamp, body, .. } = *received;
    let as_text: Vec<Secret> = secrets.iter().filter_map(|text| Secret::from_bytes(text.trim().as_bytes()).ok()).collect();
    let of_base64 = secrets.iter().filter_map(|text| Secret::from_bytes(text.trim().trim_start_matches("whsec_").as_bytes()).ok());
    let as_text: Vec<Secret> = as_text.into_iter().chain(of_base64).collect();
    let without_end: &[u8] = body.strip_suffix(b"\n").map_or(body, |body| body.strip_suffix(b"\r").unwrap_or(body));
    if body.is_empty() {
        Some("The body is empty. Read it before anything else does, and keep its bytes.")
    } else if by(read, timestamp, without_end) {
        Some("The body has a line break at its end that was not sent: it was added when the body was stored.")
    } else if by(read, timestamp, &compact(body)) {
        Some("The body was formatted anew. Verify the bytes that came, before JSON is parsed.")
    } else if by(&as_text, timestamp, body) {
        Some("It was signed with the text of the secret. The key is what the base64 behind whsec_ decodes to.")
    } else {
        Some(
            "Another secret (has it been rotated? is it that of this subscription?), or the body, the id or the timestamp was changed on the way: verify the bytes that came.",
        )
    }
}

/// JSON without the space between its parts.
fn compact(body: &[u8]) -> Vec<u8> {
    let (mut within, mut escaped) = (false, false);
    let mut kept = body.to_vec();
    kept.retain(|byte| {
        let space = !within && byte.is_ascii_whitespace();
        match (within, escaped, *byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, _, b'"') => within = !within,
            _ => {}
        }
        !space
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test":"a \" b"}"#;

    fn hint(secret: &str, timestamp: &str, signature: &str, body: &[u8], now_s: i64) -> Option<String> {
        let received = Received { id: ID, timestamp, signature, body };
        explain(&[secret.to_owned()], &received, now_s, 300).unwrap().map(|explanation| explanation.to_string())
    }

    #[test]
    fn each_mistake_is_told_by_its_name() {
        let good = domain::signature::sign(&Secret::parse(SECRET).unwrap(), ID, AT, BODY);
        let at = AT.to_string();
        assert_eq!(hint(SECRET, &at, &good, BODY, AT), None);
        let by_text = domain::signature::sign(&Secret::from_bytes(SECRET.as_bytes()).unwrap(), ID, AT, BODY);
        let other = Secret::from_bytes(&[1; 32]).unwrap().to_text();
        for (secret, timestamp, signature, body, now_s, expected) in [
            (SECRET, "", &*good, BODY, AT, "webhook-timestamp is missing"),
            (SECRET, "1614265330000", &good, BODY, AT, "milliseconds"),
            (SECRET, "soon", &good, BODY, AT, "digits only"),
            (SECRET, &at, &good, BODY, AT + 1_000, "Its signature is right"),
            (&other, &at, &good, BODY, AT + 1_000, "not right either"),
            (SECRET, &at, "v1a,abc", BODY, AT, "by public key"),
            (SECRET, &at, "abc", BODY, AT, "`v1,` and base64"),
            (SECRET, &at, &good, b"", AT, "is empty"),
            (SECRET, &at, &good, b"{\"test\":\"a \\\" b\"}\r\n", AT, "a line break at its end"),
            (SECRET, &at, &good, b"{\n  \"test\": \"a \\\" b\"\n}", AT, "formatted anew"),
            (SECRET, &at, &by_text, BODY, AT, "with the text of the secret"),
            (&other, &at, &good, BODY, AT, "Another secret"),
        ] {
            let told = hint(secret, timestamp, signature, body, now_s).unwrap();
            assert!(told.contains(expected), "{told}: {expected}");
            assert!(!told.contains(secret));
        }
        assert!(explain(&["whsec_x".to_owned()], &Received { id: ID, timestamp: &at, signature: &good, body: BODY }, AT, 300).is_err());
    }
}
