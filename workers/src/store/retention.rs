//! The end of what is kept: payouts that ended long ago, with all that is in them, give way to the memory of their keys; lists of what needs a person are cut.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::delivery::{Delivery, Status};
use domain::id::{BatchId, PayoutId, Shard};
use domain::payout::Payout;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::lanes::millis;
use super::lists::Position;
use super::payouts::{payout, random_token};
use super::{Store, StoreError, from_json, from_value, to_json};

/// Of the records of a page together, about: one of a party with thousands of subscriptions has megabytes.
const PAGE_BYTES: usize = 16 << 20;

const MILLISECOND: SignedDuration = SignedDuration::from_millis(1);

/// What stays of a fingerprint: enough to tell another request from a repeat. Neither pays.
const FINGERPRINT_KEPT: usize = 8;

/// A payout that ended long ago, with everything that is stored of it.
#[derive(Debug)]
pub struct OldPayout {
    pub position: Position,
    payout: Payout,
    /// What can be read as text, by field.
    fields: BTreeMap<String, String>,
    /// What is sealed, as it is stored, in base64.
    sealed: BTreeMap<String, String>,
}

/// An archived record: one line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    id: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sealed: &'a BTreeMap<String, String>,
}

/// What a look at old payouts found.
#[derive(Debug, Default)]
pub struct OldPage {
    /// Those that can be trimmed as far as can be seen.
    pub payouts: Vec<OldPayout>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Position>,
}

impl OldPayout {
    fn bytes(&self) -> usize {
        self.fields.iter().chain(&self.sealed).map(|(name, value)| name.len() + value.len()).sum()
    }

    /// All that is stored of it, as a line of JSON. What is sealed stays sealed.
    ///
    /// # Errors
    /// None for what came from a store.
    pub fn line(&self) -> Result<String, StoreError> {
        let line = Line { kind: "payout", id: self.payout.id.to_string(), fields: &self.fields, sealed: &self.sealed };
        serde_json::to_string(&line).map_err(|_| StoreError::Corrupt(format!("{} as a line", self.payout.id)))
    }
}

impl Store {
    /// Payouts that ended longer ago than `kept`, the longest ago first, from `after` on. One that cannot be read is reported and stays.
    ///
    /// # Errors
    /// As every call.
    pub async fn old_payouts(&self, shard: Shard, kept: Duration, after: Option<Position>, page: usize) -> Result<OldPage, StoreError> {
        let names = &self.shared.names;
        let from = after.map_or_else(|| "-inf".to_owned(), |position| position.at_ms.to_string());
        let (mut found, mut offset, mut bytes) = (OldPage::default(), 0, 0);
        loop {
            let mut command = redis::cmd("ZRANGEBYSCORE");
            command.arg(names.of(shard, "ended")).arg(&from).arg(self.ended_until(kept)).arg("WITHSCORES").arg("LIMIT").arg(offset).arg(page);
            let chunk: Vec<(String, f64)> = from_value(self.query(command).await?)?;
            let got = chunk.len();
            offset += got;
            for (id, at) in chunk {
                let Ok(id) = id.parse::<PayoutId>() else { continue };
                #[expect(clippy::cast_possible_truncation, reason = "scores are whole milliseconds, far below 2^53")]
                let position = Position { at_ms: at as i64, id };
                if after.is_some_and(|after| position <= after) {
                    continue;
                }
                if bytes > PAGE_BYTES {
                    return Ok(found);
                }
                found.next = Some(position);
                match self.old_payout(position).await {
                    Ok(old) => {
                        bytes += old.as_ref().map_or(0, OldPayout::bytes);
                        found.payouts.extend(old);
                    }
                    Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                        tracing::error!(payout.id = %id, %error, "an old payout cannot be read and is left for a person");
                    }
                    Err(error) => return Err(error),
                }
            }
            if got < page {
                found.next = None;
                return Ok(found);
            }
            if found.next.is_some() {
                return Ok(found);
            }
        }
    }

    /// `None` for one that still owes somebody an event, as far as its own record tells.
    async fn old_payout(&self, position: Position) -> Result<Option<OldPayout>, StoreError> {
        let command = redis::cmd("HGETALL").arg(self.shared.names.payout(position.id)).to_owned();
        let all: Vec<(String, Vec<u8>)> = from_value(self.query(command).await?)?;
        let text = |name: &str| all.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice());
        let Some(record) = text("rec") else { return Ok(None) };
        let payout = payout(record, String::from_utf8_lossy(text("meta").unwrap_or_default()).into_owned())?;
        let (mut fields, mut sealed) = (BTreeMap::new(), BTreeMap::new());
        for (name, value) in all {
            let owes = name.starts_with("q:")
                || name.starts_with("d:") && matches!(from_json::<Delivery>("delivery", &value)?.status, Status::Pending { .. });
            if owes {
                return Ok(None);
            }
            match String::from_utf8(value) {
                Ok(text) if name != "sec" && name != "req" => _ = fields.insert(name, text),
                Ok(text) => _ = sealed.insert(name, STANDARD.encode(text)),
                Err(bytes) => _ = sealed.insert(name, STANDARD.encode(bytes.as_bytes())),
            }
        }
        Ok(Some(OldPayout { position, payout, fields, sealed }))
    }

    /// Forgets payouts but for the memory of their keys, each if it still is as it was seen, ended longer ago than `kept`, and owes nobody anything. Says how many.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_payouts(&self, shard: Shard, kept: Duration, payouts: &[OldPayout]) -> Result<u64, StoreError> {
        let why = self.ask_to_trim(shard, kept, payouts, FINGERPRINT_KEPT).await?;
        Ok(why.iter().filter(|why| why.is_empty()).count() as u64)
    }

    /// Those that [`Store::trim_payouts`] would forget by now: only they are worth a line in the archive.
    ///
    /// # Errors
    /// As every call.
    pub async fn can_go(&self, shard: Shard, kept: Duration, payouts: Vec<OldPayout>) -> Result<Vec<OldPayout>, StoreError> {
        let why = self.ask_to_trim(shard, kept, &payouts, 0).await?;
        Ok(payouts.into_iter().zip(why).filter_map(|(old, why)| why.is_empty().then_some(old)).collect())
    }

    /// Why each has to stay, if it does. `fingerprint`: characters of it that stay, or 0 to ask only.
    async fn ask_to_trim(&self, shard: Shard, kept: Duration, payouts: &[OldPayout], fingerprint: usize) -> Result<Vec<String>, StoreError> {
        let names = &self.shared.names;
        let keys = [names.of(shard, "ended"), names.of(shard, "frozen"), names.of(shard, "look-first")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.payout_trim, &keys, |command| {
                command.arg(names.shard(shard)).arg(self.ended_until(kept)).arg(fingerprint).arg(random_token());
                for OldPayout { payout, .. } in payouts {
                    let batch = payout.batch_id.as_deref().map(|key| BatchId::derive(&payout.party, payout.mode, key, self.shared.shards));
                    command.arg(payout.id.to_string()).arg(payout.version).arg(format!("{}:{}", payout.party, payout.mode.as_str()));
                    command.arg(payout.requested_at().as_millisecond()).arg(batch.map(|id| id.to_string()).unwrap_or_default());
                }
            })
            .await?;
        from_value(answer)
    }

    /// Takes a page of what was given up longer ago than `kept` off the lists. Says how many.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_abandoned(&self, shard: Shard, kept: Duration, page: usize) -> Result<u64, StoreError> {
        let names = &self.shared.names;
        let answer = self
            .run(&self.shared.scripts.abandoned_trim, &[&names.of(shard, "abandoned")], |command| {
                command.arg(names.shard(shard)).arg(self.ended_until(kept)).arg(page);
            })
            .await?;
        from_value(answer)
    }

    /// Takes a page of what subscribers answered longer ago than `kept` out of the records of deliveries; the rest of those stays. Says of how many.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_excerpts(&self, shard: Shard, kept: Duration, page: usize) -> Result<u64, StoreError> {
        let names = &self.shared.names;
        let listed = names.of(shard, "excerpts");
        let until = Timestamp::from_millisecond(self.ended_until(kept)).unwrap_or(Timestamp::MIN);
        let entries = self.oldest(&listed, kept, page).await?;
        for entry in &entries {
            let mut parts = entry.splitn(3, '/');
            let (Some(subscription), Some(payout), Some(sequence)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let (payout, field) = (names.of(shard, &format!("po:{payout}")), format!("d:{subscription}:{sequence}"));
            let seen: Option<String> = from_value(self.query(redis::cmd("HGET").arg(&payout).arg(&field).to_owned()).await?)?;
            // One that cannot be read is left for a person.
            let delivery = seen.as_deref().map(|seen| from_json::<Delivery>("delivery", seen.as_bytes()));
            let read =
                delivery.and_then(|read| read.inspect_err(|error| tracing::error!(%error, "what a subscriber answered cannot be forgotten")).ok());
            // What was heard in the last instant of the time that counts goes too.
            let forgotten = read.map(|mut delivery| (delivery.forget_excerpts(until.saturating_add(MILLISECOND).unwrap_or(until)), delivery));
            let (next, record) = forgotten.map_or((None, String::new()), |(next, delivery)| (next, to_json(&delivery)));
            self.run(&self.shared.scripts.excerpt_trim, &[&payout, &listed], |command| {
                command.arg(entry).arg(&field).arg(seen.as_deref().unwrap_or_default()).arg(&record);
                command.arg(next.map(|next| next.as_millisecond().to_string()).unwrap_or_default());
            })
            .await?;
        }
        Ok(entries.len() as u64)
    }

    /// Forgets a page of notices that were put aside longer ago than `kept`. Says how many.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_orphans(&self, shard: Shard, kept: Duration, page: usize) -> Result<u64, StoreError> {
        let names = &self.shared.names;
        let listed = names.of(shard, "orphans");
        let entries = self.oldest(&listed, kept, page).await?;
        for entry in &entries {
            self.query(redis::cmd("DEL").arg(names.of(shard, &format!("nt:{entry}"))).to_owned()).await?;
            self.query(redis::cmd("ZREM").arg(&listed).arg(entry).to_owned()).await?;
        }
        Ok(entries.len() as u64)
    }

    async fn oldest(&self, key: &str, kept: Duration, page: usize) -> Result<Vec<String>, StoreError> {
        let command = redis::cmd("ZRANGEBYSCORE").arg(key).arg("-inf").arg(self.ended_until(kept)).arg("LIMIT").arg(0).arg(page).to_owned();
        from_value(self.query(command).await?)
    }

    fn ended_until(&self, kept: Duration) -> i64 {
        self.clock().now().as_millisecond().saturating_sub_unsigned(millis(kept))
    }
}
