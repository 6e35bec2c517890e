//! What the sandboxes of all providers share: the auditor, moods and chance, connections that can be cut, the course of a payout and its notices, and the
//! address at which all of them can be reached together.

pub(crate) mod admin;
pub mod all;
pub mod audit;
pub mod behaviour;
pub mod book;
pub mod calls;
pub(crate) mod course;
pub(crate) mod draw;
pub(crate) mod journal;
pub(crate) mod line;
pub mod mood;
pub(crate) mod outbox;
mod page;

use axum::extract::Request;
use bytes::Bytes;
use uuid::Uuid;

/// Largest request body that a sandbox reads, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// The parts of a request, with its raw body; `None` if that is too large or broken off.
pub(crate) async fn taken_apart(request: Request) -> Option<(http::request::Parts, Bytes)> {
    let (parts, body) = request.into_parts();
    axum::body::to_bytes(body, MAX_BODY).await.ok().map(|body| (parts, body))
}

/// A version 4 UUID.
pub(crate) fn random_uuid() -> Uuid {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("no random numbers: ids of the sandbox are not random");
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
