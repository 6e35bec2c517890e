//! What the sandboxes of all providers share: the auditor, chance, connections that can be cut, and the sending of notices.

pub mod audit;
pub(crate) mod draw;
pub(crate) mod line;
pub(crate) mod outbox;

use uuid::Uuid;

/// A version 4 UUID.
pub(crate) fn random_uuid() -> Uuid {
    let mut bytes = [0; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("no random numbers: ids of the sandbox are not random");
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
