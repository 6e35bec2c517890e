//! Groups in the store: a record that owns the key and the bytes of a request for many payouts, and its work.

use std::fmt;
use std::time::Duration;

use domain::id::BatchId;

use super::lanes::{Lane, Ticket, field, millis, readable};
use super::payouts::{answer_of, unknown_answer};
use super::{Store, StoreError, from_json, from_value, to_json};
use crate::group::Group;
use crate::queue::{Batch, Source};

/// For how long a group is kept after its end, for people: its payouts hold all that is needed.
const KEPT: Duration = Duration::from_hours(30 * 24);

/// A group of a batch: `ba_…:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupId {
    pub batch: BatchId,
    pub number: u32,
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.batch, self.number)
    }
}

/// How far a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of it has been sent.
    Open,
    /// It may have been sent.
    Sent,
    /// Nothing of it was sent, nor will be.
    Closed,
}

/// Whether a group may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Its record says that it is sent.
    Yes,
    Frozen,
    /// The lease has gone to somebody else.
    Lost,
}

/// A group that is due.
#[derive(Debug)]
pub struct GroupWork {
    pub group: Group,
    pub phase: Phase,
    pub times_leased: u32,
}

/// Groups to bring on, of one shard.
#[derive(Clone, Debug)]
pub struct GroupLane(pub Lane);

impl Store {
    /// Says of a group that it is sent, with its members and the exact bytes.
    ///
    /// # Errors
    /// As every call. **After an error nothing must be sent**: whoever leases it next sees what was written.
    pub async fn begin_group(&self, group: &Group, ticket: &Ticket, request: &[u8]) -> Result<Begun, StoreError> {
        let (id, names) = (group.id(), &self.shared.names);
        let shard = id.batch.shard();
        let (record, due, frozen) = (self.group_key(id), names.of(shard, "due:group"), names.of(shard, "frozen"));
        let sealed = self.shared.vault.seal(&request_owner(id), request);
        let answer = self
            .run(&self.shared.scripts.group_begin, &[&record, &due, &frozen], |command| {
                command.arg(id.to_string()).arg(ticket.token.0).arg(to_json(group)).arg(sealed);
            })
            .await?;
        match answer_of(&answer)? {
            "begun" => Ok(Begun::Yes),
            "frozen" => Ok(Begun::Frozen),
            "lost" => Ok(Begun::Lost),
            other => Err(unknown_answer(other)),
        }
    }

    /// Sees to it that a group which nobody has begun never is. Says how far it has come; `None` when the lease is lost.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn close_group(&self, id: GroupId, ticket: &Ticket) -> Result<Option<Phase>, StoreError> {
        self.turn_group(id, ticket, "c").await
    }

    /// Ends the work of a group, if the lease still holds.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn end_group(&self, id: GroupId, ticket: &Ticket) -> Result<(), StoreError> {
        self.turn_group(id, ticket, "e").await.map(drop)
    }

    async fn turn_group(&self, id: GroupId, ticket: &Ticket, turn: &str) -> Result<Option<Phase>, StoreError> {
        let (record, due) = (self.group_key(id), self.shared.names.of(id.batch.shard(), "due:group"));
        let answer = self
            .run(&self.shared.scripts.group_end, &[&record, &due], |command| {
                command.arg(id.to_string()).arg(ticket.token.0).arg(turn).arg(millis(KEPT));
            })
            .await?;
        match answer_of(&answer)? {
            "lost" => Ok(None),
            other => phase(other).map(Some),
        }
    }

    /// Makes the work of a group due later, if the lease still holds.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn put_off_group(&self, id: GroupId, ticket: &Ticket, wait: Duration) -> Result<(), StoreError> {
        let lane = Lane { store: self.clone(), shard: id.batch.shard(), lease: Duration::ZERO };
        lane.give_back_flat("due:group", std::slice::from_ref(ticket), wait).await
    }

    /// The exact bytes of a group that was begun.
    ///
    /// # Errors
    /// As every call.
    pub async fn group_request(&self, id: GroupId) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed: Option<Vec<u8>> = from_value(self.query(redis::cmd("HGET").arg(self.group_key(id)).arg("req").to_owned()).await?)?;
        Ok(sealed.map(|sealed| self.shared.vault.open(&request_owner(id), &sealed)).transpose()?)
    }

    fn group_key(&self, id: GroupId) -> String {
        format!("{}gr:{id}", self.shared.names.shard(id.batch.shard()))
    }
}

impl Source for GroupLane {
    type Item = GroupWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:group", "gr:", &["rec", "phase"], max).await?;
        let items = readable(entries, |entry| {
            let group: Group = from_json("group", field(&entry.fields, 0))?;
            let phase = phase(std::str::from_utf8(field(&entry.fields, 1)).unwrap_or_default())?;
            Ok((GroupWork { group, phase, times_leased: entry.times_leased }, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:group", &tickets, wait).await
    }
}

fn phase(word: &str) -> Result<Phase, StoreError> {
    match word {
        "open" => Ok(Phase::Open),
        "sent" => Ok(Phase::Sent),
        "closed" => Ok(Phase::Closed),
        other => Err(unknown_answer(other)),
    }
}

fn request_owner(id: GroupId) -> String {
    format!("{id}/request")
}
