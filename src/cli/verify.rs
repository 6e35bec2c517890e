//! `payrelay verify`: whether a webhook that somebody has received is genuine, and if not, why. For merchants whose own check fails.

use std::fmt;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::signature::{Mismatch, Secret, Signer, verify};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;
use workers::receipt::{Invalid, Receipt, Statement};
use workers::relay::keys::PublicKey;

use super::{complain, print};
use crate::spelling::{Spelling, unescaped};

/// What the process ends with when the webhook does not verify.
const EXIT_MISMATCH: u8 = 1;
/// And when nobody can tell. It is what clap ends with too.
const EXIT_UNTOLD: u8 = 2;
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
    #[arg(
        long = "secret",
        env = "PAYRELAY_WEBHOOK_SECRET",
        hide_env_values = true,
        required_unless_present_any = ["receipt", "keys"],
        value_delimiter = ','
    )]
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
    /// The header `X-Mollie-Signature`, as it came, of a subscription of `/v2/webhooks`: in place of the three above, with its secret as the secret.
    #[arg(long, requires = "secrets", conflicts_with_all = ["id", "timestamp", "signature", "receipt"])]
    mollie_signature: Option<String>,
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
    /// A public key that receipts and `v1a` signatures are made with, `whpk_…`, from `/.well-known/webhook-keys.json`; several with commas.
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

/// By what a webhook may have been signed.
pub(crate) struct Trust {
    pub(crate) secrets: Vec<Secret>,
    pub(crate) keys: Vec<PublicKey>,
}

/// By what it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Secret,
    Key,
}

/// What is wrong, and what may be behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    what: String,
    hint: Option<String>,
}

/// Ends with 0 if the webhook or the receipt is genuine, 1 if not, 2 if that cannot be told: a secret or a key is none, or a file cannot be read.
#[must_use]
pub fn run(arguments: &Arguments) -> ExitCode {
    told(arguments).unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(EXIT_UNTOLD)
    })
}

fn told(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(path) = &arguments.receipt {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        return match explain_receipt(&text, &read_keys(&arguments.keys)?)? {
            Ok(said) => print(&said).map(|()| ExitCode::SUCCESS),
            Err(invalid) => print(&format!("not genuine: {invalid}")).map(|()| ExitCode::from(EXIT_MISMATCH)),
        };
    }
    let Arguments { secrets, keys, id, timestamp, signature, mollie_signature, tolerance, .. } = arguments;
    let read = |secrets: &[String]| secrets.iter().map(|text| read_secret(text.trim())).collect::<anyhow::Result<Vec<_>>>();
    let explained = if let Some(signature) = mollie_signature {
        let body = read_body(arguments)?;
        let as_text =
            |text: &String| Secret::from_bytes(text.trim().as_bytes()).context("a secret is not one; copy it whole, from the answer that showed it");
        explain_mollie(&secrets.iter().map(as_text).collect::<anyhow::Result<Vec<_>>>()?, signature, &body)
    } else {
        let trust = Trust { secrets: read(secrets)?, keys: read_keys(keys)? };
        let at = arguments.at.unwrap_or_else(workers::clock::Clock::of_the_machine);
        let body = read_body(arguments)?;
        explain(&trust, &Received { id, timestamp, signature, body: &body }, at.as_second(), *tolerance, "--at")
    };
    Ok(match explained {
        Ok(by) => {
            let with = match by {
                By::Secret => "the secret",
                By::Key => "one of the keys",
            };
            print(&format!("genuine: a signature of it was made with {with}, over these very bytes"))?;
            ExitCode::SUCCESS
        }
        Err(explanation) => {
            print(&format!("not genuine: {explanation}"))?;
            ExitCode::from(EXIT_MISMATCH)
        }
    })
}

fn read_body(arguments: &Arguments) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    if arguments.body.as_os_str() == "-" {
        std::io::stdin().take(BODY_MAX + 1).read_to_end(&mut body).context("reading the body")?;
    } else {
        let file = std::fs::File::open(&arguments.body).with_context(|| format!("opening {}", arguments.body.display()))?;
        file.take(BODY_MAX + 1).read_to_end(&mut body).context("reading the body")?;
    }
    ensure!(body.len() as u64 <= BODY_MAX, "the body has more than {BODY_MAX} bytes");
    Ok(body)
}

fn read_secret(text: &str) -> anyhow::Result<Secret> {
    if text.starts_with("whpk_") {
        bail!("a secret begins with whsec_; whpk_ is the beginning of a public key, which goes behind --key");
    }
    Secret::parse(text).context("a secret is not one; copy it whole, from the answer that showed it")
}

fn read_keys(texts: &[String]) -> anyhow::Result<Vec<PublicKey>> {
    texts.iter().map(|text| PublicKey::read(text.trim())).collect::<Result<Vec<_>, _>>().context("a key is not one")
}

/// The longest body, in bytes, for which other spellings are tried: more than events have, and each takes as long as the first.
const RESPELLED_MAX: usize = 16 * 1_024;

/// What a receipt proves, or why it proves nothing.
fn explain_receipt(text: &str, keys: &[PublicKey]) -> anyhow::Result<Result<String, Invalid>> {
    #[derive(Deserialize)]
    struct Answer {
        result: Receipt,
    }
    // As it was answered, or what was in the answer.
    let receipt: Result<Receipt, _> = serde_json::from_str::<Answer>(text).map(|answer| answer.result).or_else(|_| serde_json::from_str(text));
    let receipt = receipt.context("it is no receipt as `/v1/deliveries/{id}/receipt` answers it")?;
    Ok(receipt.verify(keys).map(|Statement { link, record }| {
        format!("genuine: signed with one of the keys, place {} of the chain, hash {}\n{record}", link.place, link.hash)
    }))
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(hint) = &self.hint { write!(f, "\n{hint}") } else { Ok(()) }
    }
}

impl Trust {
    /// As [`verify`], by a secret or, in `v1a` signatures, by a key.
    fn verify(&self, received: &Received<'_>, now_s: i64, tolerance_s: i64) -> Result<By, Mismatch> {
        let Received { id, timestamp, signature, body } = *received;
        let mismatch = match verify(&self.secrets, id, timestamp, signature, body, now_s, tolerance_s) {
            Ok(()) => return Ok(By::Secret),
            Err(mismatch @ (Mismatch::NoV1 | Mismatch::NoMatch)) => mismatch,
            Err(mismatch) => return Err(mismatch),
        };
        let timestamp_s = timestamp.parse().map_err(|_| Mismatch::Timestamp)?;
        if self.keys.iter().any(|key| key.has_signed(signature, id, timestamp_s, body)) {
            return Ok(By::Key);
        }
        let has = |version: &str| signature.split_whitespace().any(|one| one.starts_with(version));
        // One that could have matched is looked for first.
        Err(if self.keys.is_empty() {
            mismatch
        } else if has("v1a,") || (has("v1,") && !self.secrets.is_empty()) {
            Mismatch::NoMatch
        } else {
            Mismatch::NoV1
        })
    }

    /// Whenever it was.
    fn signed(&self, received: &Received<'_>) -> bool {
        self.verify(received, 0, i64::MAX).is_ok()
    }
}

/// By what it was signed. `came` is what the reader calls the time at which it came, where that can be told.
pub(crate) fn explain(trust: &Trust, received: &Received<'_>, now_s: i64, tolerance_s: i64, came: &str) -> Result<By, Explanation> {
    let Received { timestamp, signature, .. } = *received;
    let mismatch = match trust.verify(received, now_s, tolerance_s) {
        Ok(by) => return Ok(by),
        Err(mismatch) => mismatch,
    };
    let hint = match mismatch {
        Mismatch::Missing { .. } => {
            "Pass on the headers webhook-id, webhook-timestamp and webhook-signature as they came; a proxy may have dropped them.".to_owned()
        }
        Mismatch::Timestamp | Mismatch::InTheFuture { .. } if timestamp.len() > 11 => {
            "It looks like milliseconds; the header holds seconds. Use it as it came.".to_owned()
        }
        Mismatch::Timestamp => "Use the header as it came, digits only.".to_owned(),
        Mismatch::TooOld { .. } | Mismatch::InTheFuture { .. } if trust.signed(received) => {
            format!("Its signature is right. It is an old message ({came} says when it came), or one of the two clocks is wrong.")
        }
        Mismatch::TooOld { .. } | Mismatch::InTheFuture { .. } => format!("Its signature is not right either. {came} says when it came."),
        Mismatch::NoV1 if trust.keys.is_empty() && signature.contains("v1a,") => {
            "There are only signatures by public key (v1a), for which a secret is of no use.".to_owned()
        }
        Mismatch::NoV1 if trust.secrets.is_empty() && signature.contains("v1,") => {
            "There are only signatures by secret (v1), for which a public key is of no use. A subscription asks for v1a by its `signatures`."
                .to_owned()
        }
        Mismatch::NoV1 | Mismatch::NoMatch => behind(trust, received, mismatch),
    };
    let what = match mismatch {
        Mismatch::NoV1 if trust.secrets.is_empty() => "webhook-signature holds no v1a signature".to_owned(),
        mismatch => mismatch.to_string(),
    };
    Err(Explanation { what, hint: Some(hint) })
}

/// The usual mistakes, each undone in turn.
fn behind(trust: &Trust, received: &Received<'_>, mismatch: Mismatch) -> String {
    let Received { signature, body, .. } = *received;
    if body.is_empty() {
        return "The body is empty. Read it before anything else does, and keep its bytes.".to_owned();
    }
    let mended = mended(signature);
    if let Some((signature, hint)) = &mended
        && trust.signed(&Received { signature, ..*received })
    {
        return format!("{hint} Apart from that it is right.");
    }
    if let Some(hint) = respelled(body, |body| trust.signed(&Received { body, ..*received })) {
        return hint;
    }
    let texts: Vec<String> = trust.secrets.iter().map(Secret::to_text).collect();
    let texts = texts.iter().flat_map(|text| [text.as_str(), text.trim_start_matches("whsec_")]);
    let by_text = Trust { secrets: texts.filter_map(|text| Secret::from_bytes(text.as_bytes()).ok()).collect(), keys: Vec::new() };
    if by_text.signed(received) {
        return "It was signed with the text of the secret. The key is what the base64 behind whsec_ decodes to.".to_owned();
    }
    match mended {
        Some((_, hint)) => hint.to_owned(),
        None if mismatch == Mismatch::NoV1 => "Use the header as it came: `v1,` and base64, several with spaces between them.".to_owned(),
        None if trust.secrets.is_empty() => unexplained("Another key (is it that of this installation? is it used no longer?)", body),
        None => unexplained("Another secret (has it been rotated? is it that of this subscription?)", body),
    }
}

fn unexplained(other: &str, body: &[u8]) -> String {
    let text = str::from_utf8(body).unwrap_or_default();
    let anew = if is_json(text) && Spelling::COMPACT.of(text) != text {
        " This one has space between its parts, which none has that payrelay sends: it was parsed and written anew."
    } else {
        ""
    };
    format!("{other}, or the body, the id or the timestamp was changed on the way: verify the bytes that came.{anew}")
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// What the body has become, if `by` accepts what it may have been.
fn respelled(body: &[u8], by: impl Fn(&[u8]) -> bool) -> Option<String> {
    let cut = body.strip_suffix(b"\n").map(|cut| cut.strip_suffix(b"\r").unwrap_or(cut));
    if cut.is_some_and(&by) {
        return Some("The body has a line break at its end that was not sent: it was added when the body was stored.".to_owned());
    }
    if [&b"\n"[..], b"\r\n"].iter().any(|end| by(&[body, end].concat())) {
        return Some("The body lacks a line break at its end that was sent: something has cut it off.".to_owned());
    }
    let text = str::from_utf8(body).ok().filter(|text| text.len() <= RESPELLED_MAX && is_json(text))?;
    let plain = unescaped(text);
    let spellings = [
        ("without space between its parts", Spelling::COMPACT),
        ("with a space behind each comma and colon", Spelling::SPACED),
        ("in lines, indented by two spaces", Spelling::lines("  ")),
        ("in lines, indented by four spaces", Spelling::lines("    ")),
        ("in lines, indented by tabs", Spelling::lines("\t")),
    ];
    for (how, spelling) in spellings {
        for spelled in [text, &plain].map(|text| spelling.of(text)) {
            if spelled.len() > 4 * RESPELLED_MAX {
                continue;
            }
            if by(spelled.as_bytes()) || by((spelled + "\n").as_bytes()) {
                return Some(format!(
                    "The body was formatted anew: written {how}, as it was sent, it verifies. Verify the bytes that came, before JSON is parsed."
                ));
            }
        }
    }
    None
}

/// The value of `webhook-signature` as it may have come, if it is in another form, and what the form is.
fn mended(signature: &str) -> Option<(String, &'static str)> {
    const JOINED: &str = "The signatures are joined by commas. There are spaces between them when they come; something has joined them.";
    const BARE: &str = "The signature stands without its version. Use the header as it came: `v1,` and base64.";
    const HEX: &str = "The signature is in hexadecimal digits. The header holds base64, behind `v1,`: use it as it came, and compare it with base64.";
    let (mut header, mut version, mut hint) = (Vec::new(), None, None);
    for part in signature.split([',', ' ', '\t']).filter(|part| !part.is_empty()) {
        if matches!(part, "v1" | "v1a") {
            version = Some(part);
            continue;
        }
        let bare = part.trim_start_matches("sha256=").trim_start_matches("v1=");
        // Of 32 bytes by a secret, of 64 by a key; anything else is no signature at all.
        let of_length = |bytes: &Vec<u8>| matches!(bytes.len(), 32 | 64);
        let hex = const_hex::decode(bare).ok().filter(of_length);
        let is_hex = hex.is_some();
        let Some(bytes) = hex.or_else(|| STANDARD.decode(bare).ok().filter(of_length)) else { continue };
        hint = if is_hex { Some(HEX) } else { hint.or(version.is_none().then_some(BARE)) };
        let version = version.take().unwrap_or(if bytes.len() == 64 { "v1a" } else { "v1" });
        header.push(format!("{version},{}", STANDARD.encode(bytes)));
    }
    let joined = header.iter().any(|one| !signature.split_whitespace().any(|given| given == one));
    let hint = hint.or(joined.then_some(JOINED))?;
    (!header.is_empty()).then(|| (header.join(" "), hint))
}

/// As [`explain`], for a receiver that is written against Mollie: its signature is over the body alone, with the text of the secret.
fn explain_mollie(secrets: &[Secret], signature: &str, body: &[u8]) -> Result<By, Explanation> {
    let signer = Signer::new(secrets);
    let given: Vec<String> = signature.split([',', ' ']).filter(|one| !one.is_empty()).map(str::to_ascii_lowercase).collect();
    let by = |body: &[u8]| signer.of_body(body).any(|expected| given.contains(&expected));
    if by(body) {
        return Ok(By::Secret);
    }
    let hint = if body.is_empty() {
        "The body is empty. Read it before anything else does, and keep its bytes.".to_owned()
    } else if given.iter().any(|one| one.strip_prefix("sha256=").is_none_or(|digits| const_hex::decode(digits).is_ok_and(|bytes| bytes.len() != 32)))
    {
        "X-Mollie-Signature is `sha256=` and 64 hexadecimal digits. Use the header as it came.".to_owned()
    } else {
        respelled(body, by).unwrap_or_else(|| unexplained("Another secret (is it that of this subscription, the text as it was shown?)", body))
    };
    Err(Explanation { what: "no signature matches".to_owned(), hint: Some(hint) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const AT: i64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test":"a \" b"}"#;

    fn told(trust: &Trust, timestamp: &str, signature: &str, body: &[u8], now_s: i64) -> Option<String> {
        let received = Received { id: ID, timestamp, signature, body };
        explain(trust, &received, now_s, 300, "--at").err().map(|explanation| explanation.to_string())
    }

    fn by_secret(text: &str) -> Trust {
        Trust { secrets: vec![Secret::parse(text).unwrap()], keys: Vec::new() }
    }

    #[test]
    fn each_mistake_is_told_by_its_name() {
        let sign = |body: &[u8]| domain::signature::sign(&Secret::parse(SECRET).unwrap(), ID, AT, body);
        let good = sign(BODY);
        let at = AT.to_string();
        assert_eq!(told(&by_secret(SECRET), &at, &good, BODY, AT), None);
        let by_text = domain::signature::sign(&Secret::from_bytes(SECRET.as_bytes()).unwrap(), ID, AT, BODY);
        let other = Secret::from_bytes(&[1; 32]).unwrap().to_text();
        let bare = good.trim_start_matches("v1,");
        let hex = const_hex::encode(STANDARD.decode(bare).unwrap());
        let accented = "{\"a\":\"é/\",\"b\":[1,2]}";
        let of_spaced = sign(b"{\"test\": 1}");
        let of_lines = sign(b"{\n  \"test\": 1\n}");
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
            (SECRET, &at, &sign(b"{}\n"), b"{}", AT, "lacks a line break"),
            (SECRET, &at, &good, b"{\n  \"test\": \"a \\\" b\"\n}", AT, "formatted anew: written without space"),
            (SECRET, &at, &sign(accented.as_bytes()), br#"{"a": "\u00e9\/", "b": [1, 2]}"#, AT, "formatted anew: written without space"),
            (SECRET, &at, &of_spaced, b"{\"test\":1}", AT, "with a space behind each comma"),
            (SECRET, &at, &of_lines, b"{\"test\":1}", AT, "indented by two spaces"),
            (SECRET, &at, &by_text, BODY, AT, "with the text of the secret"),
            (SECRET, &at, &format!("v1,{},{good}", STANDARD.encode([1; 32])), BODY, AT, "joined by commas"),
            (SECRET, &at, &format!("v1,{}, {good}", STANDARD.encode([1; 32])).replace(", ", ","), BODY, AT, "joined by commas"),
            (SECRET, &at, bare, BODY, AT, "without its version"),
            (SECRET, &at, &format!("v1,{hex}"), BODY, AT, "compare it with base64. Apart from that it is right"),
            (SECRET, &at, &format!("sha256={hex}"), BODY, AT, "compare it with base64. Apart from that it is right"),
            (&other, &at, &hex, BODY, AT, "no v1 signature\nThe signature is in hexadecimal"),
            (&other, &at, &good, BODY, AT, "Another secret"),
            (&other, &at, &good, b"{\"test\": 1}", AT, "was parsed and written anew"),
        ] {
            let told = told(&by_secret(secret), timestamp, signature, body, now_s).unwrap_or_else(|| panic!("genuine: {expected}"));
            assert!(told.contains(expected), "{told}: {expected}");
            assert!(!told.contains(secret));
        }
        assert!(read_secret("whsec_x").is_err());
        assert!(read_secret("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=").unwrap_err().to_string().contains("--key"));
    }

    #[test]
    fn a_key_verifies_without_a_secret() {
        let (key, other) = (workers::relay::keys::make(&[7; 32]).unwrap(), workers::relay::keys::make(&[8; 32]).unwrap().1);
        let good = workers::relay::keys::SigningKeys::read([key.0.as_str()]).unwrap().sign(ID, AT, BODY);
        let at = AT.to_string();
        let (trust, others) = (Trust { secrets: Vec::new(), keys: vec![key.1.clone()] }, Trust { secrets: Vec::new(), keys: vec![other] });
        let both = Trust { secrets: by_secret(SECRET).secrets, keys: vec![key.1] };
        let of = |signature| Received { id: ID, timestamp: &at, signature, body: BODY };
        assert_eq!(explain(&trust, &of(&good), AT, 300, "--at"), Ok(By::Key));
        assert_eq!(explain(&both, &of(&format!("v1,x {good}")), AT, 300, "--at"), Ok(By::Key));
        for (trust, signature, body, now_s, expected) in [
            (&trust, &*good, BODY, AT + 301, "Its signature is right"),
            (&trust, &good, b"{\"test\": \"a \\\" b\"}", AT, "formatted anew"),
            (&trust, &good.replace("v1a,", ""), BODY, AT, "without its version"),
            (&trust, "v1,abc", BODY, AT, "no v1a signature\nThere are only signatures by secret"),
            (&trust, "abc", BODY, AT, "no v1a signature"),
            (&others, &good, BODY, AT, "no signature matches\nAnother key"),
            (&both, "v1,abc", BODY, AT, "no signature matches\nAnother secret"),
        ] {
            let told = told(trust, &at, signature, body, now_s).unwrap_or_else(|| panic!("genuine: {expected}"));
            assert!(told.contains(expected), "{told}: {expected}");
        }
    }

    #[test]
    fn a_receiver_for_mollie_is_told_too() {
        let secret = Secret::from_bytes(b"a-text-of-at-least-24-signs").unwrap();
        let good = Signer::new(std::slice::from_ref(&secret)).of_body(BODY).next().unwrap();
        let explain =
            |signature: &str, body: &[u8]| explain_mollie(std::slice::from_ref(&secret), signature, body).map_err(|error| error.to_string());
        assert_eq!(explain(&good, BODY), Ok(By::Secret));
        assert_eq!(explain(&format!("sha256=00, {good}"), BODY), Ok(By::Secret), "one of several");
        for (signature, body, expected) in [
            (&*good, &b"{}"[..], "Another secret"),
            (&good, b"", "is empty"),
            (&good, b"{\"test\": \"a \\\" b\"}", "formatted anew"),
            (good.trim_start_matches("sha256="), BODY, "64 hexadecimal digits"),
        ] {
            assert!(explain(signature, body).unwrap_err().contains(expected), "{signature}: {expected}");
        }
    }
}
