//! What every connector does with a response before it knows whose it is: bounds, words that are safe to keep, and the error of a failed question.

use std::time::Duration;

use domain::fact::{Answer, Reason};
use domain::money::Currency;
use http::StatusCode;
use jiff::SignedDuration;
use tokio::time::Instant;

use crate::http::{Failure, Response};

/// Why a question that is not about one attempt has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider gave no usable answer: {}", why.as_str())]
pub struct ReadError {
    pub why: Reason,
}

impl ReadError {
    pub(crate) fn new(why: &str) -> Self {
        Self { why: Reason::new(why) }
    }

    pub(crate) fn status(status: StatusCode) -> Self {
        Self::new(&format!("status_{}", status.as_u16()))
    }
}

impl From<Failure> for ReadError {
    /// Whether the request left makes no difference to a question.
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotSent(why) | Failure::Ambiguous(why) => Self::new(why),
        }
    }
}

/// A setting that is to lead from a currency to an id of the provider, and does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a currency with the id of an account")]
pub struct NotAnAccount;

/// Checks the ids of accounts by currency; the error is the first currency, or what stands in its place, that is not right.
pub(crate) fn check_accounts<'a>(accounts: impl IntoIterator<Item = (&'a String, &'a String)>) -> Result<(), String> {
    let wrong = |(currency, id): &(&String, &String)| Currency::parse(currency).is_err() || !is_plain_id(id);
    accounts.into_iter().find(wrong).map_or(Ok(()), |(currency, _)| Err(sanitised(currency)))
}

pub(crate) fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

pub(crate) fn not_sent(why: &str) -> Answer {
    Answer::NotSent { why: Reason::new(why) }
}

pub(crate) fn unprocessed(why: &str, retry_after: Option<SignedDuration>) -> Answer {
    Answer::Unprocessed { why: Reason::new(why), retry_after }
}

pub(crate) fn no_answer(why: &str) -> Answer {
    Answer::NoAnswer { why: Reason::new(why) }
}

/// A 200 with the expected content, or why not.
pub(crate) fn usable<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, ReadError> {
    if response.status != StatusCode::OK {
        return Err(ReadError::status(response.status));
    }
    response.json().ok_or_else(|| ReadError::new("unreadable"))
}

/// The provider's word, safe to store and to show: 64 characters of `A-Z a-z 0-9 _ - .`, others become `_`.
pub(crate) fn sanitised(word: &str) -> String {
    word.chars().take(64).map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' }).collect()
}

/// Whether an id of a provider may become part of a path: letters, digits, `_` and `-`, 128 at most.
pub(crate) fn is_plain_id(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}
