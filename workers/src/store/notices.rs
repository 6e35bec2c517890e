//! Notices: evidence is remembered once and settled once; a hint is remembered until it was looked at.

use std::time::Duration;

use domain::id::{NoticeId, PayoutId, Shard};
use jiff::{SignedDuration, Timestamp};
use redis::Value;

use super::lanes::{SettleWork, Ticket, millis};
use super::payouts::{answer_of, unknown_answer};
use super::vault::VaultError;
use super::{Store, StoreError, from_value};

/// How long the id of a settled notice is remembered: longer than any provider goes on repeating one (TrueLayer: 72 h).
const REMEMBERED: Duration = Duration::from_hours(24 * 8);

/// What a notice is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// It is settled once, and its id is remembered after that.
    Evidence,
    /// It leads to a look, after which it is forgotten: the next one with its id leads to another.
    Hint,
}

/// Whether a notice was new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembered {
    New,
    Known,
}

/// A notice that nobody could do anything with.
#[derive(Debug)]
pub struct Orphan {
    pub id: NoticeId,
    pub put_aside_at_ms: i64,
    /// What the verifier accepted; `None` if it is forgotten by now.
    pub body: Option<Result<Vec<u8>, VaultError>>,
}

/// What became of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Done,
    /// Its payout is not here, perhaps not yet.
    RetryAt(Timestamp),
    /// Its payout never came.
    Orphan,
    /// Nobody could read it, or come to an end with it. Listed among the orphans, and kept until a person has seen to it.
    Aside,
    /// A hint that was followed. If it came again meanwhile, it is followed again at that time.
    Followed {
        again: Timestamp,
    },
}

impl Store {
    /// Stores a notice with the work to settle it, once per id.
    ///
    /// # Errors
    /// As every call. A repeat answers [`Remembered::Known`].
    pub async fn remember(&self, id: NoticeId, worth: Worth, body: &[u8]) -> Result<Remembered, StoreError> {
        let names = &self.shared.names;
        let shard = id.shard();
        let keys = [names.of(shard, &format!("nt:{id}")), names.of(shard, "due:settle"), names.of(shard, "clock")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let sealed = self.shared.vault.seal(&owner(id), body);
        let answer = self
            .run(&self.shared.scripts.remember, &keys, |command| {
                command.arg(sealed).arg(id.to_string()).arg(names.shard(shard)).arg(if worth == Worth::Hint { "1" } else { "0" });
            })
            .await?;
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
    pub async fn settled(&self, work: &SettleWork, ticket: &Ticket, outcome: Settled) -> Result<(), StoreError> {
        let id = work.id;
        let names = &self.shared.names;
        let shard: Shard = id.shard();
        let keys = [names.of(shard, &format!("nt:{id}")), names.of(shard, "due:settle"), names.of(shard, "orphans"), names.of(shard, "clock")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let (word, due) = match outcome {
            Settled::Done => ("d", 0),
            Settled::RetryAt(at) => ("r", at.as_millisecond()),
            Settled::Orphan => ("o", 0),
            Settled::Aside => ("a", 0),
            Settled::Followed { again } => ("f", again.as_millisecond()),
        };
        self.run(&self.shared.scripts.settled, &keys, |command| {
            command.arg(&ticket.id).arg(ticket.token.0).arg(word).arg(due).arg(millis(REMEMBERED)).arg(work.times_told);
        })
        .await
        .map(drop)
    }

    /// Claims the next look at a payout that somebody asks for: one in `every`, whoever asks, in whatever process. Answers how long to wait instead, if
    /// somebody else had it.
    ///
    /// # Errors
    /// As every call. **After an error the look may be claimed**, and nobody else gets one for that time; the looks of the plan do not ask here.
    pub async fn claim_look(&self, id: PayoutId, every: SignedDuration) -> Result<Option<SignedDuration>, StoreError> {
        let names = &self.shared.names;
        let keys = [names.of(id.shard(), &format!("look:{id}")), names.of(id.shard(), "clock")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
        let answer: Value = self.run(&self.shared.scripts.look, &keys, |command| _ = command.arg(every)).await?;
        let wait: i64 = from_value(answer)?;
        Ok((wait > 0).then(|| SignedDuration::from_millis(wait)))
    }

    /// Orphans, and what was put aside, newest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn orphans(&self, limit: usize) -> Result<Vec<Orphan>, StoreError> {
        let names = &self.shared.names;
        let mut found = Vec::new();
        for shard in self.shared.shards.all() {
            let command = redis::cmd("ZREVRANGE").arg(names.of(shard, "orphans")).arg(0).arg(limit.saturating_sub(1)).arg("WITHSCORES").to_owned();
            let entries: Vec<(String, f64)> = from_value(self.query(command).await?)?;
            for (id, at) in entries {
                let Ok(id) = id.parse::<NoticeId>() else { continue };
                let command = redis::cmd("HGET").arg(names.of(shard, &format!("nt:{id}"))).arg("body").to_owned();
                let sealed: Option<Vec<u8>> = from_value(self.query(command).await?)?;
                #[expect(clippy::cast_possible_truncation, reason = "scores are whole milliseconds, far below 2^53")]
                found.push(Orphan { id, put_aside_at_ms: at as i64, body: sealed.map(|sealed| self.open_notice(id, &sealed)) });
            }
        }
        found.sort_by_key(|orphan| std::cmp::Reverse(orphan.put_aside_at_ms));
        found.truncate(limit);
        Ok(found)
    }

    /// Makes an orphan due again, as if it had come now. False if it is none, or is forgotten.
    ///
    /// # Errors
    /// As every call. A repeat answers false.
    pub async fn retry_notice(&self, id: NoticeId) -> Result<bool, StoreError> {
        let names = &self.shared.names;
        let shard = id.shard();
        let keys = [names.of(shard, &format!("nt:{id}")), names.of(shard, "due:settle"), names.of(shard, "orphans"), names.of(shard, "clock")];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self.run(&self.shared.scripts.retry_notice, &keys, |command| _ = command.arg(id.to_string()).arg(names.shard(shard))).await?;
        Ok(from_value::<i64>(answer)? == 1)
    }

    pub(super) fn open_notice(&self, id: NoticeId, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
        self.shared.vault.open(&owner(id), sealed)
    }
}

fn owner(id: NoticeId) -> String {
    format!("{id}/notice")
}
