//! Verified notices: remembered once, settled once.

use std::time::Duration;

use domain::id::{NoticeId, Shard};
use jiff::Timestamp;

use super::lanes::{Ticket, millis};
use super::payouts::{answer_of, unknown_answer};
use super::{Store, StoreError};

/// How long the id of a settled notice is remembered: longer than any provider goes on repeating one (TrueLayer: 72 h).
const REMEMBERED: Duration = Duration::from_hours(24 * 8);

/// Whether a notice was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    New,
    Known,
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Done,
    /// Its payout is not here, perhaps not yet.
    RetryAt(Timestamp),
    /// Its payout never came.
    Orphan,
}

impl Store {
    /// Stores a verified notice with the work to settle it, once per id.
    ///
    /// # Errors
    /// As every call. A repeat answers [`Remembered::Known`].
    pub async fn remember(&self, id: NoticeId, body: &[u8]) -> Result<Remembered, StoreError> {
        let names = &self.shared.names;
        let shard = id.shard();
        let keys = [names.of(shard, &format!("nt:{id}")), names.of(shard, "due:settle"), names.of(shard, "clock")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let sealed = self.shared.vault.seal(&owner(id), body);
        let answer =
            self.run(&self.shared.scripts.remember, &keys, |command| _ = command.arg(sealed).arg(id.to_string()).arg(names.shard(shard))).await?;
        match answer_of(&answer)? {
            "new" => Ok(Remembered::New),
            "known" => Ok(Remembered::Known),
            other => Err(unknown_answer(other)),
        }
    }

    /// Ends the work of a notice, or puts it off, if the lease still holds. Otherwise nothing happens: the present holder will do it.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn settled(&self, id: NoticeId, ticket: &Ticket, outcome: Settled) -> Result<(), StoreError> {
        let names = &self.shared.names;
        let shard: Shard = id.shard();
        let keys = [names.of(shard, &format!("nt:{id}")), names.of(shard, "due:settle"), names.of(shard, "orphans"), names.of(shard, "clock")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (word, due) = match outcome {
            Settled::Done => ("d", 0),
            Settled::RetryAt(at) => ("r", at.as_millisecond()),
            Settled::Orphan => ("o", 0),
        };
        self.run(&self.shared.scripts.settled, &keys, |command| {
            command.arg(&ticket.id).arg(ticket.token.0).arg(word).arg(due).arg(millis(REMEMBERED));
        })
        .await
        .map(drop)
    }

    pub(super) fn open_notice(&self, id: NoticeId, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        Ok(self.shared.vault.open(&owner(id), sealed)?)
    }
}

fn owner(id: NoticeId) -> String {
    format!("{id}/notice")
}
