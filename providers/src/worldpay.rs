//! Worldpay Access: what its payout APIs share. [`account`] pays to bank accounts, [`card`] to cards.
//!
//! One origin and one set of credentials (HTTP Basic) serve every API (H). An API is asked for by a media type or by a dated header, depending on its age,
//! and links to resources may be discovered from the root. Errors have one shape, read by [`error::ErrorBody`]. The table of answers that both share:
//!
//! | what came back to a create | answer |
//! |---|---|
//! | no body byte left: DNS, connect, TLS, `send_by` passed | [`Answer::NotSent`] |
//! | 400, 422 with an error name that means a problem with the request | [`Answer::Refused`] |
//! | 401, 403, 429, and 400, 406, 415 about a header: our credentials or settings, not this payout | [`Answer::Unprocessed`] |
//! | the error `checkOutcome`, whatever the status | [`Answer::NoAnswer`] |
//! | everything else: 404, 408, 5xx, resets, deadlines, unreadable errors | [`Answer::NoAnswer`] |
//!
//! Labels: **(H)** read in the provider's documents, **ASSUMED** found nowhere and therefore a setting or harmless.

pub mod access;
pub mod account;
pub mod card;
pub mod decimal;
pub mod error;
pub mod sandbox;
pub mod signature;

use crate::ReadError;
use domain::fact::{Answer, Reason};
use domain::id::{Mode, ProviderKey};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use self::error::ErrorBody;
use crate::clock;
use crate::http as net;
use crate::http::{Failure, Response};

/// The provider's address for test and for live credentials (H).
#[must_use]
pub const fn host(mode: Mode) -> &'static str {
    match mode {
        Mode::Test => "https://try.access.worldpay.com",
        Mode::Live => "https://access.worldpay.com",
    }
}

/// Why a connector could not be set up. Names the setting, never its value.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("access.base_url")]
    BaseUrl(#[source] net::ClientError),
    #[error("{0} must not be empty")]
    Empty(&'static str),
    #[error("{0} {1}")]
    Unusable(&'static str, &'static str),
}

/// A key as Worldpay gets it: 32 lower-case hexadecimal digits, because its idempotency keys have at most 35 characters (H).
fn key_text(key: ProviderKey) -> String {
    key.as_uuid().simple().to_string()
}

/// The inverse of [`key_text`]; `None` for a text that is no key of ours.
fn key_of(text: &str) -> Option<ProviderKey> {
    let key = Uuid::try_parse(text).ok().map(ProviderKey::from_uuid)?;
    (key_text(key) == text && key.payout_and_attempt().is_some()).then_some(key)
}

/// The provider's id of a webhook, if it is one that can be kept, else the hash of the webhook: 64 hexadecimal digits.
fn dedupe_id(id: Option<&str>, body: &[u8]) -> String {
    match id {
        Some(id) if (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) => id.to_owned(),
        _ => const_hex::encode(Sha256::digest(body)),
    }
}

/// The provider's word, safe to store and to show: 64 characters of `A-Z a-z 0-9 _ - .`, others become `_`.
fn sanitised(word: &str) -> String {
    word.chars().take(64).map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' }).collect()
}

fn not_sent(why: &str) -> Answer {
    Answer::NotSent { why: Reason::new(why) }
}

fn no_answer(why: &str) -> Answer {
    Answer::NoAnswer { why: Reason::new(why) }
}

fn unprocessed(why: &str, retry_after: Option<SignedDuration>) -> Answer {
    Answer::Unprocessed { why: Reason::new(why), retry_after }
}

fn unread(why: &str) -> ReadError {
    ReadError { why: Reason::new(why) }
}

fn unanswered(failure: Failure) -> Answer {
    match failure {
        Failure::NotSent(why) => not_sent(why),
        Failure::Ambiguous(why) => no_answer(why),
    }
}

/// What an answer to a create means that is neither a success nor about a duplicate: the second to last lines of the table.
fn not_accepted(response: &Response, refusals: &[String]) -> Answer {
    let error = response.json::<ErrorBody>().unwrap_or_default();
    let silent = || no_answer(&format!("status_{}", response.status.as_u16()));
    if error.is(error::CHECK_OUTCOME) {
        return no_answer(error::CHECK_OUTCOME);
    }
    match response.status {
        StatusCode::UNAUTHORIZED => unprocessed("unauthorized", None),
        StatusCode::FORBIDDEN => unprocessed("forbidden", None),
        StatusCode::TOO_MANY_REQUESTS => unprocessed("rate_limited", response.retry_after(clock::now())),
        StatusCode::BAD_REQUEST | StatusCode::NOT_ACCEPTABLE | StatusCode::UNSUPPORTED_MEDIA_TYPE if error.is_about_a_header() => {
            unprocessed(&error.code(), None)
        }
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if refusals.iter().any(|name| error.is(name)) => {
            Answer::Refused { reason: Reason::new(&error.code()) }
        }
        _ => silent(),
    }
}

/// A 200 with the expected content, or why not. A list is none: it would be read as an object whose fields have no names.
fn usable<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, ReadError> {
    if response.status != StatusCode::OK {
        return Err(unread(&format!("status_{}", response.status.as_u16())));
    }
    let object = response.body.as_ref().is_ok_and(|body| body.trim_ascii_start().starts_with(b"{"));
    response.json().filter(|_| object).ok_or_else(|| unread("unreadable"))
}

/// A time as the provider writes it: with a zone, or without one, which is then UTC (ASSUMED).
fn time_of(text: &str) -> Option<Timestamp> {
    let zoneless = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(zoneless)
}

/// A value that is nice to have: what cannot be read counts as absent, so that a provider's slip in a detail does not hide a status.
fn lenient<'de, D: serde::Deserializer<'de>, T: serde::de::DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(T::deserialize(value).ok())
}

#[cfg(test)]
mod world;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_32_characters_and_lead_back() {
        let payout = domain::id::PayoutId::derive(&domain::id::PartyId::parse("acme").expect("a party"), Mode::Test, "1", domain::id::Shards::ONE);
        let key = ProviderKey::derive(payout, 2);
        assert_eq!(key_text(key).len(), 32);
        assert_eq!(key_of(&key_text(key)), Some(key));
        assert_eq!(key_of(&key.to_string()), None, "only the form that we send");
        assert_eq!(key_of(&key_text(key).to_uppercase()), None);
        assert_eq!(key_of("Memory265-13/08/1876"), None);
        assert_eq!(key_of(&Uuid::max().simple().to_string()), None, "a UUID that is no key of ours");
    }

    fn document(name: &str) -> String {
        let path = format!("{}/fixtures/worldpay/{name}.json", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(&path).expect(&path)
    }

    fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
        serde_json::from_str(&document(name)).expect(name)
    }

    /// Parses a document, writes it again and compares, so that no field is lost or renamed on either way.
    fn survives<T: serde::de::DeserializeOwned + serde::Serialize>(name: &str) -> T {
        let parsed: T = read(name);
        let written: serde_json::Value = serde_json::from_str(&serde_json::to_string(&parsed).expect(name)).expect(name);
        assert_eq!(written, read::<serde_json::Value>(name), "{name}");
        parsed
    }

    /// The documents of the provider's own guides and change log: none is lost on, and none surprises, the types that we read and write with.
    #[test]
    fn documents_of_the_provider_are_understood() {
        for (name, outcome, inside, outside) in [
            ("card-v3-fast-before", "requestReceived", false, true),
            ("card-v4-fast-after", "approved", true, false),
            ("card-query-required", "queryRequired", true, false),
            ("card-v2-curies-outside", "requestReceived", false, true),
            ("card-v2-curies-both", "requestReceived", true, true),
            ("card-v3-curies-inside", "requestReceived", true, false),
            ("card-refused", "refused", false, false),
            ("card-not-found", "payoutNotFound", false, false),
            ("card-not-found-older", "payoutNotFound", false, false),
        ] {
            let payout: card::wire::Payout = survives(name);
            let within = payout.links.as_ref().is_some_and(|links| links.curies.is_some());
            assert_eq!((payout.outcome.as_str(), within, payout.curies.is_some()), (outcome, inside, outside), "{name}");
        }
        assert!(read::<ErrorBody>("card-check-outcome").is(error::CHECK_OUTCOME));
        assert_ne!(read::<card::wire::Payout>("card-not-found").message, read::<card::wire::Payout>("card-not-found-older").message);
        assert_eq!(survives::<card::wire::CreatePayout>("card-create-request").instruction.value.amount, 100);
        assert_eq!(survives::<card::wire::Event>("card-event-disbursed").event_details.kind, "disbursed");
        let create: account::wire::CreatePayout = survives("account-create-request");
        assert_eq!(create.instruction.value.target_amount.as_ref().map(|amount| amount.as_str()), Some("199.99"));
        assert_eq!(survives::<account::wire::Accepted>("account-accepted").payout_request_id.as_deref(), Some("PZ000EC4"));
        assert_eq!(survives::<Vec<account::wire::AcceptedItem>>("account-batch-accepted").len(), 1);
        // Of a payout we keep what matters; the rest is ignored.
        let page: account::wire::Page = read("account-page");
        assert_eq!((page.items[0].id(), page.pagination.page_count), (Some("PO000N65"), 5610));
    }

    #[test]
    fn times_without_a_zone_are_utc() {
        for text in ["2018-06-13T14:18:13.407", "2018-06-13T14:18:13.407Z", "2018-06-13T15:18:13.407+01:00"] {
            assert_eq!(time_of(text).map(|time| time.to_string()).as_deref(), Some("2018-06-13T14:18:13.407Z"), "{text}");
        }
        assert_eq!(time_of("2025-01-23T12:23:445.222Z"), None, "as in one of the provider's examples");
    }
}
