//! Receipts: what is on record of a delivery, at its place in a chain of hashes per party, signed with the installation's keys. Who holds one can show that it was sent, when, and
//! what was answered; and that nothing was put before it afterwards. Made when one is asked for, so deliveries cost nothing more; only by those who may write, so that
//! readers cannot make the store grow.

use domain::delivery::{Attempt, Digest, Progress};
use domain::id::{DeliveryId, EventId, Mode, PartyId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::relay::keys::{PublicKey, SigningKeys};
use crate::store::deliveries::Told;
use crate::store::{Store, StoreError};

/// A place in a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Counts from 1.
    pub place: u64,
    /// The hash of the link before; empty for the first one.
    pub previous: String,
    /// SHA-256 over the text of `previous` and the SHA-256 of the record, in hexadecimal digits both.
    pub hash: String,
}

/// What a receipt states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub link: Link,
    /// What was on record when the link was made: JSON, byte for byte. The chain itself keeps its hash only.
    pub record: String,
}

/// A receipt. What is signed is `id.issued_at.statement`, as a webhook is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    pub id: DeliveryId,
    /// Seconds since 1970.
    pub issued_at: i64,
    /// A [`Statement`] as JSON, byte for byte.
    pub statement: String,
    /// `v1a,…`, one per key, with a space between them.
    pub signatures: String,
}

/// What is put on record.
#[derive(Serialize)]
struct Record<'a> {
    delivery_id: DeliveryId,
    event_id: EventId,
    party_id: &'a PartyId,
    mode: Mode,
    event_type: &'a str,
    event_at: Timestamp,
    /// Of the body that the latest try of `attempts` that sent one has sent, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_sha256: Option<String>,
    /// Of the URL that this went to, without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    url_sha256: Option<String>,
    status: Progress,
    attempt_count: u32,
    /// When each was sent, and what was answered; the latest 20. Without excerpts of bodies, which are not kept as long as receipts are.
    attempts: Vec<Tried>,
}

/// A try. The hashes, in hexadecimal digits, are absent where nothing was sent.
#[derive(Serialize)]
struct Tried {
    #[serde(flatten)]
    attempt: Attempt,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_sha256: Option<String>,
}

/// Why a receipt proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("no signature of it was made with one of these keys")]
    Signature,
    #[error("what is signed is no statement of a receipt")]
    Statement,
    #[error("its hash is not that of its record and the link before")]
    Hash,
}

fn link_hash(previous: &str, record: &str) -> String {
    Digest::of(format!("{previous}{}", Digest::of(record.as_bytes())).as_bytes()).to_string()
}

/// Makes the receipt of a delivery as it stands; `None` if it was not tried. The same state has the same place, whenever it is asked for, as long as that is kept.
///
/// # Errors
/// As every call of the store. Repeatable.
pub async fn issue(store: &Store, keys: &SigningKeys, party: &PartyId, mode: Mode, told: &Told) -> Result<Option<Receipt>, StoreError> {
    let Some((of, record)) = on_record(party, mode, told)? else { return Ok(None) };
    let make =
        |links: u64, previous: &str| Link { place: links.saturating_add(1), previous: previous.to_owned(), hash: link_hash(previous, &record) };
    let link = store.chain(party, mode, &of, make).await?;
    signed(store, keys, told, link, record).map(Some)
}

/// The receipt of a delivery as it stands, if that was made before. Writes nothing.
///
/// # Errors
/// As every call of the store.
pub async fn find(store: &Store, keys: &SigningKeys, party: &PartyId, mode: Mode, told: &Told) -> Result<Option<Receipt>, StoreError> {
    let Some((of, record)) = on_record(party, mode, told)? else { return Ok(None) };
    let link = store.link_of(party, mode, &of).await?;
    link.map(|link| signed(store, keys, told, link, record)).transpose()
}

fn corrupt(told: &Told) -> StoreError {
    StoreError::Corrupt(format!("a receipt of {}", told.id()))
}

/// What the chain knows the state of a delivery by, and what is on record of it; `None` if it was not tried.
fn on_record(party: &PartyId, mode: Mode, told: &Told) -> Result<Option<(String, String)>, StoreError> {
    let Some(delivery) = told.delivery.as_ref().filter(|delivery| delivery.attempt_count > 0) else { return Ok(None) };
    let status = Progress::of(Some(delivery));
    let kept = Digest::of(told.event.body.as_bytes());
    let tried = |(place, attempt): (usize, &Attempt)| {
        let mut attempt = attempt.clone();
        attempt.forget_excerpt();
        let sent = delivery.sent(place);
        let payload_sha256 = sent.map(|sent| sent.body.unwrap_or(kept).to_string());
        Tried { attempt, payload_sha256, url_sha256: sent.map(|sent| sent.to.to_string()) }
    };
    let attempts: Vec<Tried> = delivery.attempts.iter().enumerate().map(tried).collect();
    let latest = attempts.iter().rev().find(|tried| tried.payload_sha256.is_some());
    let record = Record {
        delivery_id: told.id(),
        event_id: told.event.id,
        party_id: party,
        mode,
        event_type: &told.event.kind,
        event_at: told.event.at,
        payload_sha256: latest.and_then(|tried| tried.payload_sha256.clone()),
        url_sha256: latest.and_then(|tried| tried.url_sha256.clone()),
        status,
        attempt_count: delivery.attempt_count,
        attempts,
    };
    let record = serde_json::to_string(&record).map_err(|_| corrupt(told))?;
    Ok(Some((format!("{}:{}:{}", told.id(), delivery.attempt_count, status.name()), record)))
}

fn signed(store: &Store, keys: &SigningKeys, told: &Told, link: Link, record: String) -> Result<Receipt, StoreError> {
    if link.hash != link_hash(&link.previous, &record) {
        return Err(StoreError::Corrupt(format!("{}: what is on record is not what its receipt was made of", told.id())));
    }
    let statement = serde_json::to_string(&Statement { link, record }).map_err(|_| corrupt(told))?;
    let issued_at = store.clock().now().as_second();
    let signatures = keys.sign(&told.id().to_string(), issued_at, statement.as_bytes());
    Ok(Receipt { id: told.id(), issued_at, statement, signatures })
}

impl Receipt {
    /// What it states, if one of these keys has signed it and it holds together.
    ///
    /// # Errors
    /// [`Invalid`]: the first thing that is wrong.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<Statement, Invalid> {
        let (id, body) = (self.id.to_string(), self.statement.as_bytes());
        if !keys.iter().any(|key| key.has_signed(&self.signatures, &id, self.issued_at, body)) {
            return Err(Invalid::Signature);
        }
        let statement: Statement = serde_json::from_str(&self.statement).map_err(|_| Invalid::Statement)?;
        if statement.link.hash == link_hash(&statement.link.previous, &statement.record) { Ok(statement) } else { Err(Invalid::Hash) }
    }
}
