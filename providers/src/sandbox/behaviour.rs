//! What every sandbox can be told about the way it behaves, whoever's wire it speaks.

use std::path::PathBuf;
use std::time::Duration;

use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, header};
use jiff::SignedDuration;
use serde::Deserialize;

use super::line;
use super::mood::{Distribution, Mood};

/// What a sandbox does beside speaking its wire. Everything has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// For the mood `return`: from arrived to returned.
    pub return_after_ms: u64,
    /// For the mood `slow-answer`: the time to the answer.
    pub slow_answer_ms: u64,
    /// How long every answer to a create takes.
    pub answer_after_ms: u64,
    /// For the mood `late-appear`: how long a payout cannot be found.
    pub late_appear_ms: u64,
    /// For the mood `rate-limit`, in whole seconds.
    pub retry_after_s: u64,
    /// Whether amounts and texts choose moods.
    pub magic: bool,
    /// Random moods for payouts that chose none.
    pub random: Option<Distribution>,
    /// A file, appended to, from which keys, payouts and movements are read again at the next start. Holds names and accounts, and no number of a card.
    pub journal: Option<PathBuf>,
    /// Above this many keys, creates are answered with 503.
    pub keys_max: usize,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            return_after_ms: 200,
            slow_answer_ms: 30_000,
            answer_after_ms: 0,
            late_appear_ms: 10_000,
            retry_after_s: 1,
            magic: true,
            random: None,
            journal: None,
            keys_max: 1_000_000,
        }
    }
}

impl Behaviour {
    pub(crate) fn late_appear(&self) -> SignedDuration {
        milliseconds(self.late_appear_ms)
    }

    /// The time that the mood `slow-answer` takes.
    pub(crate) async fn dawdle(&self) {
        tokio::time::sleep(Duration::from_millis(self.slow_answer_ms)).await;
    }

    /// An answer that takes its time; `note` is told of it at once, because the caller may be gone by then.
    pub(crate) async fn answered(&self, response: Response, note: impl FnOnce(String)) -> Response {
        note(response.status().as_u16().to_string());
        if self.answer_after_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.answer_after_ms)).await;
        }
        response
    }

    /// The answer to a create that was carried out, as its mood wants it.
    pub(crate) async fn answer(&self, mood: Mood, request: &Parts, accepted: Response, broken: Response, note: impl FnOnce(String)) -> Response {
        match mood {
            Mood::LostAnswer | Mood::LateAppear => {
                note("dropped".to_owned());
                line::cut(request);
                broken
            }
            Mood::SlowAnswer => {
                note(accepted.status().as_u16().to_string());
                self.dawdle().await;
                accepted
            }
            Mood::ErrorAfter => self.answered(broken, note).await,
            _ => self.answered(accepted, note).await,
        }
    }

    /// An answer of the mood `rate-limit`.
    pub(crate) fn slowed_down(&self, mut response: Response) -> Response {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        response
    }
}

/// A time of the settings.
pub(crate) fn milliseconds(value: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(value).unwrap_or(i64::MAX))
}
