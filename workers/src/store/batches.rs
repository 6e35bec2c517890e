//! Batches in the store: pages of sealed items, the record that makes them count, and what became of each.
//!
//! Pages are written first, each by a call of its own, under the name of their upload and for a while only. The acceptance keeps them, in the same
//! script that claims the caller's key and makes the work due: what was not accepted leaves nothing behind, and what was accepted is all there.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::id::{BatchId, Shard};
use jiff::Timestamp;
use redis::Value;

use super::lanes::{Lane, Ticket, field, millis, readable};
use super::payouts::{answer_of, random_token, unknown_answer};
use super::{Store, StoreError, from_json, from_value, to_json};
use crate::batch::{Batch, Item, ItemResult, Outcome};
use crate::group::Group;
use crate::queue::{self, Source};

/// How long a page waits for its batch to be accepted: longer than any request takes.
const UPLOAD_KEPT: Duration = Duration::from_hours(1);
/// Payouts whose states one call counts.
const COUNTED: usize = 500;

/// How the acceptance of a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    New,
    /// The key was used before, for the same batch.
    Exists,
    /// The key was used before, for another batch.
    Conflict,
    /// As many batches as may wait are waiting.
    Full,
    /// The pages were not accepted in time. Nothing was written.
    Expired,
}

/// Whether a page was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expanded {
    Done,
    /// By somebody else, or by an earlier try of this very call.
    Before,
}

/// A batch and how far it has come.
#[derive(Clone, Debug)]
pub struct Progress {
    pub batch: Batch,
    pub fingerprint: String,
    /// Pages that were opened.
    pub pages_done: usize,
    /// Items of those pages, by what became of them.
    pub outcomes: BTreeMap<Outcome, u64>,
    /// When the last page was opened.
    pub expanded_at: Option<Timestamp>,
}

/// What is kept under the key of a batch.
#[derive(Clone, Debug)]
pub enum Kept {
    Whole(Progress),
    /// All of it ended so long ago that only the memory of its key is left.
    Key {
        fingerprint: String,
    },
}

/// A page of a batch that is due to be opened.
#[derive(Debug)]
pub struct ExpandWork {
    pub batch: Batch,
    pub page: usize,
    pub times_leased: u32,
}

/// Batches to open, of one shard.
#[derive(Clone, Debug)]
pub struct ExpandLane(pub Lane);

impl Store {
    /// A name for an upload that no other has.
    #[must_use]
    pub fn new_upload() -> String {
        random_token()
    }

    /// A page of items as it is stored. Work for a core, and no call.
    #[must_use]
    pub fn seal_batch_page(&self, batch: &Batch, page: usize, items: &[Item]) -> Vec<u8> {
        self.shared.vault.seal(&page_owner(batch, page), to_json(&items).as_bytes())
    }

    /// Stores a sealed page for a while. Repeatable.
    ///
    /// # Errors
    /// As every call.
    pub async fn put_batch_page(&self, batch: &Batch, page: usize, sealed: &[u8]) -> Result<(), StoreError> {
        let command = redis::cmd("SET").arg(self.page_key(batch, page)).arg(sealed).arg("PX").arg(millis(UPLOAD_KEPT)).to_owned();
        self.query(command).await.map(drop)
    }

    /// Accepts a batch whose pages are stored. At most `waiting_max` of a shard wait to be opened.
    ///
    /// # Errors
    /// As every call. A repeat is safe.
    pub async fn accept_batch(&self, batch: &Batch, fingerprint: &str, waiting_max: usize) -> Result<Accepted, StoreError> {
        let names = &self.shared.names;
        let shard = batch.id.shard();
        let mut keys = vec![self.batch_key(batch.id), names.of(shard, "due:expand"), names.of(shard, "batches"), names.of(shard, "clock")];
        keys.extend((0..batch.pages()).map(|page| self.page_key(batch, page)));
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.batch_accept, &keys, |command| {
                command.arg(fingerprint).arg(to_json(batch)).arg(batch.id.to_string()).arg(&batch.upload).arg(waiting_max).arg(names.shard(shard));
            })
            .await?;
        match answer_of(&answer)? {
            "new" => Ok(Accepted::New),
            "exists" => Ok(Accepted::Exists),
            "conflict" => Ok(Accepted::Conflict),
            "full" => Ok(Accepted::Full),
            "expired" => Ok(Accepted::Expired),
            other => Err(unknown_answer(other)),
        }
    }

    /// Batches of a shard that wait to be opened.
    ///
    /// # Errors
    /// As every call.
    pub async fn batches_waiting(&self, shard: Shard) -> Result<usize, StoreError> {
        from_value(self.query(redis::cmd("ZCARD").arg(self.shared.names.of(shard, "batches")).to_owned()).await?)
    }

    /// Drops the pages of an upload that was not accepted; they would end by themselves later.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn drop_batch_pages(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut command = redis::cmd("UNLINK");
        for page in 0..batch.pages() {
            command.arg(self.page_key(batch, page));
        }
        self.query(command).await.map(drop)
    }

    /// What is kept of the batch with that id, if there is or was one.
    ///
    /// # Errors
    /// As every call.
    pub async fn batch(&self, id: BatchId) -> Result<Option<Kept>, StoreError> {
        let fields: BTreeMap<String, Vec<u8>> = from_value(self.query(redis::cmd("HGETALL").arg(self.batch_key(id)).to_owned()).await?)?;
        let text = |name: &str| fields.get(name).and_then(|value| std::str::from_utf8(value).ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u64>().ok());
        let Some(fingerprint) = text("fp").map(str::to_owned) else { return Ok(None) };
        let Some(record) = fields.get("rec") else { return Ok(Some(Kept::Key { fingerprint })) };
        Ok(Some(Kept::Whole(Progress {
            batch: from_json("batch", record)?,
            fingerprint,
            pages_done: number("page").and_then(|page| usize::try_from(page).ok()).unwrap_or(0),
            outcomes: Outcome::ALL.into_iter().map(|outcome| (outcome, number(&format!("n:{}", outcome.as_str())).unwrap_or(0))).collect(),
            expanded_at: number("ended").and_then(|ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()),
        })))
    }

    /// The items of a page that was not opened yet; `None` when it was.
    ///
    /// # Errors
    /// As every call; [`StoreError::Corrupt`] or [`StoreError::Vault`] for a page that cannot be read.
    pub async fn batch_page(&self, batch: &Batch, page: usize) -> Result<Option<Vec<Item>>, StoreError> {
        let sealed: Option<Vec<u8>> = from_value(self.query(redis::cmd("GET").arg(self.page_key(batch, page)).to_owned()).await?)?;
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = self.shared.vault.open(&page_owner(batch, page), &sealed)?;
        // The parser's own words would quote what was sealed.
        serde_json::from_slice(&plain).map(Some).map_err(|_| StoreError::Corrupt(format!("page {page} of {}", batch.id)))
    }

    /// What became of the items of a page; `None` before it was opened.
    ///
    /// # Errors
    /// As every call.
    pub async fn batch_results(&self, batch: &Batch, page: usize) -> Result<Option<Vec<ItemResult>>, StoreError> {
        let results: Option<Vec<u8>> = from_value(self.query(redis::cmd("GET").arg(self.results_key(batch, page)).to_owned()).await?)?;
        results.map(|results| from_json("results of a batch", &results)).transpose()
    }

    /// How many of the batch's payouts are in which state: those that it opened, and those that had been asked for before.
    ///
    /// # Errors
    /// As every call.
    pub async fn batch_standing(&self, batch: &Batch) -> Result<BTreeMap<String, u64>, StoreError> {
        let shard = batch.id.shard();
        let (payouts, records) = (self.payouts_key(batch), self.shared.names.of(shard, "po:"));
        let mut states = BTreeMap::new();
        for first in (0..batch.items).step_by(COUNTED) {
            let answer = self
                .run(&self.shared.scripts.batch_standing, &[&payouts], |command| {
                    command.arg(&records).arg(first).arg(first + COUNTED - 1);
                })
                .await?;
            let Value::Array(mut counted) = answer else { return Err(unknown_answer("no list")) };
            if counted.is_empty() {
                return Err(unknown_answer("an empty list"));
            }
            let looked_at: usize = from_value(counted.remove(0))?;
            let counts: Vec<(String, u64)> = from_value(Value::Array(counted))?;
            for (state, count) in counts {
                *states.entry(state).or_default() += count;
            }
            if looked_at < COUNTED {
                break;
            }
        }
        Ok(states)
    }

    /// Records what became of a page and makes the next one due, and the groups that came of it, if the lease still holds. Otherwise the present holder will do it.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn batch_expanded(
        &self,
        batch: &Batch,
        page: usize,
        results: &[ItemResult],
        groups: &[Group],
        ticket: &Ticket,
    ) -> Result<Expanded, StoreError> {
        let names = &self.shared.names;
        let shard = batch.id.shard();
        let keys = [
            self.batch_key(batch.id),
            names.of(shard, "due:expand"),
            names.of(shard, "batches"),
            self.page_key(batch, page),
            self.results_key(batch, page),
            self.payouts_key(batch),
            names.of(shard, "clock"),
            names.of(shard, "batches-opened"),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.batch_expanded, &keys, |command| {
                command.arg(batch.id.to_string()).arg(ticket.token.0).arg(page).arg(to_json(&results));
                command.arg(if page + 1 == batch.pages() { "1" } else { "0" }).arg(names.shard(shard));
                command.arg(Outcome::ALL.len());
                for outcome in Outcome::ALL {
                    command.arg(outcome.as_str()).arg(results.iter().filter(|result| result.outcome == outcome).count());
                }
                command.arg(groups.len());
                for group in groups {
                    command.arg(group.id().to_string()).arg(to_json(group));
                }
                for payout in results.iter().filter_map(|result| result.payout_id) {
                    command.arg(payout.to_string());
                }
            })
            .await?;
        match answer_of(&answer)? {
            "committed" => Ok(Expanded::Done),
            "lost" => Ok(Expanded::Before),
            other => Err(unknown_answer(other)),
        }
    }

    /// Makes the work of a batch due later, if the lease still holds.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn put_off_batch(&self, id: BatchId, ticket: &Ticket, wait: Duration) -> Result<(), StoreError> {
        let lane = Lane { store: self.clone(), shard: id.shard(), lease: Duration::ZERO };
        lane.give_back_flat("due:expand", std::slice::from_ref(ticket), wait).await
    }

    /// How long the oldest batch has waited to be opened whole, in ms; 0 when none does. Puts back work that is missing, which in a sound store it
    /// never is, and says how many batches lacked it.
    ///
    /// # Errors
    /// As every call.
    pub async fn look_over_batches(&self, shard: Shard) -> Result<(u64, u64), StoreError> {
        const LOOKED_OVER: usize = 500;
        let names = &self.shared.names;
        let (batches, due) = (names.of(shard, "batches"), names.of(shard, "due:expand"));
        let command = redis::cmd("ZRANGE").arg(&batches).arg(0).arg(LOOKED_OVER - 1).arg("WITHSCORES").to_owned();
        let waiting: Vec<(String, f64)> = from_value(self.query(command).await?)?;
        let now = self.clock().now().as_millisecond();
        let mut repaired = 0;
        for (id, _) in &waiting {
            let score: Option<f64> = from_value(self.query(redis::cmd("ZSCORE").arg(&due).arg(id).to_owned()).await?)?;
            // It may have ended between the two questions.
            let still: Option<f64> = from_value(self.query(redis::cmd("ZSCORE").arg(&batches).arg(id).to_owned()).await?)?;
            if score.is_none() && still.is_some() {
                self.query(redis::cmd("ZADD").arg(&due).arg("NX").arg(now).arg(id).to_owned()).await?;
                repaired += 1;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "scores are milliseconds, far below 2^53")]
        let age = waiting.first().map_or(0, |(_, at)| u64::try_from(now - *at as i64).unwrap_or(0));
        Ok((age, repaired))
    }

    pub(super) fn batch_key(&self, id: BatchId) -> String {
        format!("{}ba:{id}", self.shared.names.shard(id.shard()))
    }

    fn page_key(&self, batch: &Batch, page: usize) -> String {
        format!("{}bi:{}:{}:{page}", self.shared.names.shard(batch.id.shard()), batch.id, batch.upload)
    }

    pub(super) fn results_key(&self, batch: &Batch, page: usize) -> String {
        format!("{}br:{}:{page}", self.shared.names.shard(batch.id.shard()), batch.id)
    }

    pub(super) fn payouts_key(&self, batch: &Batch) -> String {
        format!("{}bp:{}", self.shared.names.shard(batch.id.shard()), batch.id)
    }
}

impl Source for ExpandLane {
    type Item = ExpandWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<queue::Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:expand", "ba:", &["rec", "page"], max).await?;
        let items = readable(entries, |entry| {
            let batch: Batch = from_json("batch", field(&entry.fields, 0))?;
            let page = std::str::from_utf8(field(&entry.fields, 1)).ok().and_then(|page| page.parse().ok());
            let page = page.ok_or_else(|| StoreError::Corrupt(format!("{}", batch.id)))?;
            Ok((ExpandWork { batch, page, times_leased: entry.times_leased }, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(queue::Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:expand", &tickets, wait).await
    }
}

fn page_owner(batch: &Batch, page: usize) -> String {
    format!("{}/{}/{page}", batch.id, batch.upload)
}
