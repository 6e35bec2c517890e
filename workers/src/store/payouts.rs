//! Payouts in the store: the commit, and the ways to read them.

use std::collections::HashSet;

use domain::account::BalanceAccount;
use domain::delivery::Delivery;
use domain::destination::Beneficiary;
use domain::event::Event;
use domain::fact::Reason;
use domain::id::{EventId, PayoutId, SubscriptionId};
use domain::metadata::Metadata;
use domain::payout::rule::RuleMet;
use domain::payout::state::StateName;
use domain::payout::{Observation, Payout, Step};
use jiff::Timestamp;
use jiff::civil::Date;
use redis::Value;

use super::commit::Beside;
use super::groups::GroupId;
use super::lanes::Token;
use super::lists::{Page, Range};
use super::{Store, StoreError, from_json, from_value, to_json};
use crate::circuit::Passed;
use crate::gate::Question;

/// How the opening of a payout went.
#[derive(Debug)]
pub enum Opened {
    New,
    /// The key was used before, for the same request. The payout as it is now.
    Exists(Box<Payout>),
    /// The key was used before, for the same request, so long ago that only the memory of the key is left.
    Archived,
    /// The key was used before, for the same request. The record of the payout cannot be read.
    Unreadable(StoreError),
    /// The key was used before, for another request.
    Conflict,
    /// The account or a limit does not allow it, by this code. Nothing was written.
    Refused(Reason, Option<RuleMet>),
    /// The party is inactive. Nothing was written, and the key is free.
    Inactive,
    /// A second person must approve it. Nothing was written: open it so that it waits for that.
    NeedsApproval(RuleMet),
    /// This equal payout is unresolved. Nothing was written, and the key is free.
    Twin(PayoutId),
    /// What it is to replace has not ended, was replaced before, or is not there. Nothing was written, and the key is free.
    NotReplaceable(Irreplaceable),
}

/// Why a payout cannot be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irreplaceable {
    /// There is none of that key, or only the memory of the key is left.
    Missing,
    /// It is in this state.
    Is(StateName),
    /// Another payout stands for it, and has not ended without arriving.
    Replaced,
}

/// What comes with a payout that is opened.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Of the request.
    pub fingerprint: &'a str,
    /// What it has to pass.
    pub question: Option<&'a Question>,
}

impl<'a> From<&'a str> for Claim<'a> {
    /// Of a payout that has nothing to pass.
    fn from(fingerprint: &'a str) -> Self {
        Self { fingerprint, question: None }
    }
}

/// What the opening of a payout from a balance for a business day does to its account.
#[derive(Clone, Copy, Debug)]
pub struct Drawing<'a> {
    /// As it was when this was decided.
    pub account: &'a BalanceAccount,
    /// As it is to be from then on, if it is to change: one version further.
    pub next: Option<&'a BalanceAccount>,
    pub day: Date,
    /// What must be available at least, in minor units.
    pub needed: i64,
}

/// How the opening of a payout from a balance went.
#[derive(Debug)]
pub enum Drawn {
    Opened(Opened),
    /// There is a payout of that balance for that day already. Nothing was written.
    Taken,
    /// The account is not as it was any more: load, decide again. Nothing was written.
    Changed,
}

/// How fixing the amount of a payout went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fixed {
    Done,
    /// So much is available by now, in minor units: decide again.
    Moved {
        available: i64,
    },
    /// The account is not as it was any more: load, decide again.
    Changed,
    /// The payout has moved on.
    Stale,
    /// The account's ledger does not add up: nothing of it is paid.
    Frozen,
    /// The amount goes beyond this limit.
    LimitExceeded(Option<RuleMet>),
}

/// How a commit went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Written, now or by an earlier try of the same commit.
    Done,
    /// Somebody else committed first: load, decide again, commit again.
    Stale,
    /// There is no such payout.
    Missing,
}

/// Whether a dispatch may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permitted {
    /// The intent is on disk. `epoch` grows with every dispatch of this store. `look_first`: the store has lost writes before, so the provider
    /// may know this attempt already. `passed`: how the circuit of the provider let it.
    Yes {
        epoch: u64,
        look_first: bool,
        passed: Passed,
    },
    Stale,
    Missing,
    /// The lease has gone to somebody else.
    LeaseLost,
    /// Dispatch is frozen.
    Frozen,
    /// The circuit of the provider is open, or dispatch is frozen for the party. A payout that is due for dispatch was set aside until it is not; nothing else has changed.
    Held {
        why: &'static str,
    },
}

/// Why a payout is held, as a code.
const PAUSED: &str = "provider_paused";
const CIRCUIT_OPEN: &str = "circuit_open";
pub(super) const PARTY_FROZEN: &str = "party_frozen";

/// What permits a dispatch: the lease of the work that it is done for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    Execute(Token),
    Poll(Token),
    /// The lease of a group that the payout is sent with, for the first time or again.
    Group {
        token: Token,
        group: GroupId,
        again: bool,
    },
}

/// What is stored about a payout besides the record.
#[derive(Debug)]
pub struct Timeline {
    pub payout: Payout,
    pub observations: Vec<Observation>,
    pub events: Vec<StoredEvent>,
    /// By sequence and subscription.
    pub deliveries: Vec<ListedDelivery>,
    /// Of each subscription that waits for events of this payout, their sequences in the order in which it will get them. The first one is in its lane.
    pub queues: Vec<(SubscriptionId, Vec<u32>)>,
    /// Whether it has so many deliveries that they are read by pages ([`Store::deliveries_of`]): then neither they nor the queues are here.
    pub many: bool,
}

/// Fields of a payout that are read at once. One whose party has no more subscriptions than commits match has fewer.
const FIELDS_AT_ONCE: usize = 512;

/// An event as it is kept: what the relay needs besides the body stands in a line of its own before it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    pub id: EventId,
    pub kind: String,
    pub at: Timestamp,
    /// W3C `traceparent` of the request that asked for the payout.
    pub trace: Option<String>,
    /// The exact bytes to sign and send.
    pub body: String,
}

/// A delivery of a payout's timeline. `delivery` is `None` until it was tried.
#[derive(Clone, Debug)]
pub struct ListedDelivery {
    pub subscription: SubscriptionId,
    pub sequence: u32,
    pub delivery: Option<Delivery>,
}

impl Store {
    /// Opens a payout: claims the caller's key and writes the first step, atomically. Concurrent first calls make one payout.
    ///
    /// # Errors
    /// As every call. A repeat is safe.
    pub async fn open_payout<'a>(&self, step: &Step, beneficiary: &Beneficiary, claim: impl Into<Claim<'a>>) -> Result<Opened, StoreError> {
        let sealed = self.seal_beneficiary(step.payout.id, beneficiary);
        let Claim { fingerprint, question } = claim.into();
        opened(self.commit_step(step, None, Beside { fingerprint, question, sealed: &sealed, ..Beside::default() }, &[]).await?, question)
    }

    pub(super) fn seal_beneficiary(&self, id: PayoutId, beneficiary: &Beneficiary) -> Vec<u8> {
        self.shared.vault.seal(&beneficiary_owner(id), to_json(beneficiary).as_bytes())
    }

    /// As [`Store::open_payout`], for a business day, of an account that is as it was seen and has no other payout for that day.
    ///
    /// # Errors
    /// As every call. A repeat is safe.
    pub async fn draw<'a>(&self, step: &Step, beneficiary: &Beneficiary, claim: impl Into<Claim<'a>>, of: Drawing<'_>) -> Result<Drawn, StoreError> {
        let Claim { fingerprint, question } = claim.into();
        let sealed = self.seal_beneficiary(step.payout.id, beneficiary);
        let next = of.next.map(to_json).unwrap_or_default();
        let asked = format!("{} {} {} {next}", of.account.version, of.needed, of.day);
        let beside = Beside { fingerprint, question, sealed: &sealed, asked: &asked, ..Beside::default() };
        let answer = self.commit_step(step, None, beside, &[]).await?;
        match answer_of(&answer)? {
            "taken" => Ok(Drawn::Taken),
            "changed" => Ok(Drawn::Changed),
            _ => opened(answer, question).map(Drawn::Opened),
        }
    }

    /// Commits the step that fixes the amount of a payout of a whole balance: only while the account, and what is available in it, are as they were seen.
    ///
    /// # Errors
    /// As every call. A repeat of the same call is safe.
    pub async fn fix(&self, step: &Step, account: &BalanceAccount, available: i64, question: Option<&Question>) -> Result<Fixed, StoreError> {
        let asked = format!("{} {available}", account.version);
        let answer = self.commit_step(step, None, Beside { asked: &asked, question, ..Beside::default() }, &[]).await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(Fixed::Done),
            "moved" => {
                let (_, available): (String, i64) = from_value(answer)?;
                Ok(Fixed::Moved { available })
            }
            "changed" => Ok(Fixed::Changed),
            "stale" | "missing" => Ok(Fixed::Stale),
            "frozen" => Ok(Fixed::Frozen),
            "refused" => {
                let (_, _, met): (String, String, String) = from_value(answer)?;
                Ok(Fixed::LimitExceeded(question.and_then(|question| question.met(&met))))
            }
            other => Err(unknown_answer(other)),
        }
    }

    /// Whether the key of a payout was used for the request with this fingerprint, however long ago; `None` if it was not used at all.
    ///
    /// # Errors
    /// As every call.
    pub async fn was_claimed_by(&self, id: PayoutId, fingerprint: &str) -> Result<Option<bool>, StoreError> {
        // Of one that was trimmed only the beginning is left.
        Ok(self.claimed_by(id).await?.map(|kept| fingerprint.starts_with(&kept)))
    }

    /// What is kept of the fingerprint of the request that used the key of a payout.
    async fn claimed_by(&self, id: PayoutId) -> Result<Option<String>, StoreError> {
        let names = &self.shared.names;
        let key = names.payout(id);
        let keys = [key.as_str()];
        let answer = self.run(&self.shared.scripts.claimed, &keys, |command| {
            command.arg(names.shard(id.shard())).arg(id.to_string());
        });
        from_value(answer.await?)
    }

    /// Commits a step on the version that it was decided on.
    ///
    /// # Errors
    /// As every call. A repeat of the same call is safe: an applied commit answers [`Committed::Done`] again.
    pub async fn commit(&self, step: &Step) -> Result<Committed, StoreError> {
        let answer = self.commit_step(step, None, Beside::default(), &[]).await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(Committed::Done),
            "stale" => Ok(Committed::Stale),
            "missing" => Ok(Committed::Missing),
            other => Err(unknown_answer(other)),
        }
    }

    /// Commits the intent to send, with the exact bytes of the request where they are new. Only the holder of the lease is permitted, and nobody
    /// while dispatch is frozen, for all or for the party, or the circuit of the provider is open.
    ///
    /// # Errors
    /// As every call. **After an error nothing must be sent**: the lease ends, and whoever comes next sees what was written.
    pub async fn commit_intent(&self, step: &Step, lease: Permit, request: Option<&[u8]>) -> Result<Permitted, StoreError> {
        let sealed = request.map(|request| self.shared.vault.seal(&request_owner(step.payout.id), request)).unwrap_or_default();
        let answer = self.commit_step(step, Some(lease), Beside::default(), &sealed).await?;
        match answer_of(&answer)? {
            "committed" => {
                let Value::Array(parts) = answer else { return Err(unknown_answer("committed")) };
                let (_, epoch, look_first, passed): (String, u64, u8, String) = from_value(Value::Array(parts.into_iter().take(4).collect()))?;
                Ok(Permitted::Yes { epoch, look_first: look_first == 1, passed: Passed::read(&passed)? })
            }
            // Written by a try of this very call whose answer was lost. The epoch was counted then, and is at most the present one.
            "done" => {
                let shard = step.payout.id.shard();
                Ok(Permitted::Yes { epoch: self.epoch(shard).await?, look_first: self.is_suspect(&step.payout).await?, passed: Passed::Counting })
            }
            "stale" => Ok(Permitted::Stale),
            "missing" => Ok(Permitted::Missing),
            "lost" => Ok(Permitted::LeaseLost),
            "frozen" => Ok(Permitted::Frozen),
            "held" => {
                let (_, why): (String, String) = from_value(answer)?;
                let known = [PAUSED, PARTY_FROZEN].into_iter().find(|known| *known == why);
                Ok(Permitted::Held { why: known.unwrap_or(CIRCUIT_OPEN) })
            }
            other => Err(unknown_answer(other)),
        }
    }

    /// Forgets how often the payout was leased without a commit: what kept it from being done has nothing to do with it, and may last.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn excuse(&self, id: PayoutId) -> Result<(), StoreError> {
        self.query(redis::cmd("HSET").arg(self.shared.names.payout(id)).arg("l").arg(0).to_owned()).await.map(drop)
    }

    /// Whether the key of a payout was used, however long ago.
    ///
    /// # Errors
    /// As every call.
    pub async fn is_claimed(&self, id: PayoutId) -> Result<bool, StoreError> {
        Ok(self.claimed_by(id).await?.is_some())
    }

    /// The record of a payout, if there is one.
    ///
    /// # Errors
    /// As every call.
    pub async fn load(&self, id: PayoutId) -> Result<Option<Payout>, StoreError> {
        let (record, metadata): (Option<Vec<u8>>, Option<String>) =
            from_value(self.query(redis::cmd("HMGET").arg(self.shared.names.payout(id)).arg(&RECORD).to_owned()).await?)?;
        record.map(|record| payout(&record, metadata.unwrap_or_default())).transpose()
    }

    /// As [`Store::load`], among others: a record that cannot be read is reported, left for a person, and counts as none.
    ///
    /// # Errors
    /// As every call.
    pub async fn load_readable(&self, id: PayoutId) -> Result<Option<Payout>, StoreError> {
        match self.load(id).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                tracing::error!(payout.id = %id, %error, "the record of a payout cannot be read and is left for a person");
                Ok(None)
            }
            loaded => loaded,
        }
    }

    /// The beneficiary of a payout, decrypted.
    ///
    /// # Errors
    /// As every call; a missing or unreadable text is [`StoreError::Corrupt`] or [`StoreError::Vault`].
    pub async fn beneficiary(&self, id: PayoutId) -> Result<Beneficiary, StoreError> {
        let sealed: Option<Vec<u8>> = self.field(id, "sec").await?;
        let sealed = sealed.ok_or_else(|| StoreError::Corrupt(format!("{id} has no beneficiary")))?;
        self.open_beneficiary(id, &sealed)
    }

    pub(crate) fn open_beneficiary(&self, id: PayoutId, sealed: &[u8]) -> Result<Beneficiary, StoreError> {
        // The parser's own words would quote what was sealed.
        serde_json::from_slice(&self.shared.vault.open(&beneficiary_owner(id), sealed)?)
            .map_err(|_| StoreError::Corrupt(format!("beneficiary of {id}")))
    }

    /// The exact bytes that were, or may have been, sent for the latest attempt. `None` before the first intent.
    ///
    /// # Errors
    /// As every call.
    pub async fn request(&self, id: PayoutId) -> Result<Option<Vec<u8>>, StoreError> {
        let sealed: Option<Vec<u8>> = self.field(id, "req").await?;
        Ok(sealed.map(|sealed| self.shared.vault.open(&request_owner(id), &sealed)).transpose()?)
    }

    pub(super) async fn field<T: redis::FromRedisValue>(&self, id: PayoutId, field: &str) -> Result<T, StoreError> {
        from_value(self.query(redis::cmd("HGET").arg(self.shared.names.payout(id)).arg(field).to_owned()).await?)
    }

    /// Everything that is known about a payout, if there is one; of one with many deliveries, all but these ([`Timeline::many`]).
    ///
    /// # Errors
    /// As every call.
    pub async fn timeline(&self, id: PayoutId) -> Result<Option<Timeline>, StoreError> {
        let mut command = redis::cmd("HSCAN");
        command.arg(self.shared.names.payout(id)).arg(0).arg("COUNT").arg(FIELDS_AT_ONCE);
        let (more, fields): (String, Vec<(String, Vec<u8>)>) = from_value(self.query(command).await?)?;
        if more == "0" {
            return timeline(id, &fields, false);
        }
        let fields = self.fields(id, None).await?;
        timeline(id, &fields, true)
    }

    /// A payout, its events, and of its deliveries those to one subscription; less the observations. If there is such a payout.
    ///
    /// # Errors
    /// As every call.
    pub async fn timeline_of(&self, id: PayoutId, subscription: SubscriptionId) -> Result<Option<Timeline>, StoreError> {
        timeline(id, &self.fields(id, Some(subscription)).await?, false)
    }

    async fn fields(&self, id: PayoutId, of: Option<SubscriptionId>) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (key, of) = (self.shared.names.payout(id), of.map(|of| of.to_string()).unwrap_or_default());
        from_value(self.run(&self.shared.scripts.timeline, &[&key], |command| _ = command.arg(of)).await?)
    }

    /// The payouts of a range that `keep` keeps, newest first. One whose record cannot be read is left out, and an error in the log.
    ///
    /// # Errors
    /// As every call.
    pub async fn list(&self, range: &Range<'_>, keep: impl Fn(&Payout) -> bool) -> Result<Page, StoreError> {
        self.page("list", range, |id| self.load_readable(id), keep).await
    }
}

impl Passed {
    /// As the commit says it: nothing, that failures are being counted, or how often in a row the circuit has opened.
    fn read(word: &str) -> Result<Self, StoreError> {
        Ok(match word {
            "" => Self::Closed,
            "counting" => Self::Counting,
            trips => Self::Trial { trips: number(trips)? },
        })
    }
}

// === impl StoredEvent ===

impl StoredEvent {
    pub(super) fn of(event: &Event, trace: Option<&str>) -> Self {
        Self { id: event.id, kind: event.kind.name().to_owned(), at: event.at, trace: trace.map(str::to_owned), body: event.body.clone() }
    }

    pub(crate) fn read(id: EventId, stored: &[u8], metadata: &str) -> Result<Self, StoreError> {
        let corrupt = || StoreError::Corrupt(format!("event {id}"));
        let text = std::str::from_utf8(stored).map_err(|_| corrupt())?;
        let (head, body) = text.split_once('\n').ok_or_else(corrupt)?;
        let mut words = head.split(' ');
        let kind = words.next().ok_or_else(corrupt)?.to_owned();
        let at = words.next().and_then(|ms| ms.parse().ok()).and_then(|ms| Timestamp::from_millisecond(ms).ok()).ok_or_else(corrupt)?;
        Ok(Self { id, kind, at, trace: words.next().map(str::to_owned), body: Event::body_of(body.to_owned(), metadata) })
    }
}

/// How an opening went, by the script's answer.
pub(super) fn opened(answer: Value, question: Option<&Question>) -> Result<Opened, StoreError> {
    match answer_of(&answer)? {
        "committed" | "done" => Ok(Opened::New),
        "conflict" => Ok(Opened::Conflict),
        "inactive" => Ok(Opened::Inactive),
        "approve" => {
            let (_, met): (String, String) = from_value(answer)?;
            question.and_then(|question| question.met(&met)).map(Opened::NeedsApproval).ok_or_else(|| unknown_answer("approve"))
        }
        "twin" => {
            let (_, twin): (String, String) = from_value(answer)?;
            Ok(Opened::Twin(twin.parse().map_err(|_| unknown_answer("twin"))?))
        }
        "not-replaceable" => {
            let (_, why): (String, String) = from_value(answer)?;
            let why =
                if why == "replaced" { Irreplaceable::Replaced } else { StateName::named(&why).map_or(Irreplaceable::Missing, Irreplaceable::Is) };
            Ok(Opened::NotReplaceable(why))
        }
        "exists" => {
            let (_, record, metadata): (String, Vec<u8>, String) = from_value(answer)?;
            if record.is_empty() {
                return Ok(Opened::Archived);
            }
            Ok(payout(&record, metadata).map_or_else(Opened::Unreadable, |payout| Opened::Exists(Box::new(payout))))
        }
        "refused" => {
            let (_, reason, met): (String, String, String) = from_value(answer)?;
            let rule = question.filter(|_| !met.is_empty()).and_then(|question| question.met(&met));
            Ok(Opened::Refused(Reason::new(&reason), rule))
        }
        "undecided" => Err(StoreError::Restored),
        other => Err(unknown_answer(other)),
    }
}

/// The fields that make up a payout.
pub(super) const RECORD: [&str; 2] = ["rec", "meta"];

/// Puts a payout together again.
pub(super) fn payout(record: &[u8], metadata: String) -> Result<Payout, StoreError> {
    let payout: Payout = from_json("payout", record)?;
    let metadata = Metadata::from_json(metadata).map_err(|_| StoreError::Corrupt(format!("metadata of {}", payout.id)))?;
    Ok(Payout { metadata, ..payout })
}

/// Puts together what was read of a payout, if its record is there.
fn timeline(id: PayoutId, fields: &[(String, Vec<u8>)], many: bool) -> Result<Option<Timeline>, StoreError> {
    let metadata = fields.iter().find_map(|(name, value)| (name == "meta").then(|| String::from_utf8_lossy(value).into_owned())).unwrap_or_default();
    let mut found = None;
    let (mut observations, mut events, mut deliveries, mut queues) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (name, value) in fields {
        match name.split_once(':') {
            None if name == "rec" => found = Some(payout(value, metadata.clone())?),
            Some(("o", _)) => observations.push(from_json::<Observation>("observation", value)?),
            Some(("e", sequence)) => events.push(StoredEvent::read(EventId::new(id, number(sequence)?), value, &metadata)?),
            Some(("d", rest)) => {
                let (subscription, sequence) = rest.split_once(':').ok_or_else(|| unknown_answer(name))?;
                let subscription = subscription.parse().map_err(|_| unknown_answer(name))?;
                deliveries.push(ListedDelivery { subscription, sequence: number(sequence)?, delivery: Some(from_json("delivery", value)?) });
            }
            _ => {}
        }
    }
    let tried: HashSet<_> = deliveries.iter().map(|listed| (listed.subscription, listed.sequence)).collect();
    for (name, value) in fields {
        let Some(("q", subscription)) = name.split_once(':') else { continue };
        let subscription: SubscriptionId = subscription.parse().map_err(|_| unknown_answer(name))?;
        // Nobody's yet: whose it is to be is seen when it has its turn.
        if subscription.is_fan_out() {
            continue;
        }
        let queue = queue(value)?;
        for sequence in queue.iter().copied() {
            if !tried.contains(&(subscription, sequence)) {
                deliveries.push(ListedDelivery { subscription, sequence, delivery: None });
            }
        }
        queues.push((subscription, queue));
    }
    observations.sort_by_key(|observation| observation.version);
    events.sort_by_key(|event| event.id.sequence());
    deliveries.sort_by_key(|listed| (listed.sequence, listed.subscription));
    Ok(found.map(|payout| Timeline { payout, observations, events, deliveries, queues, many }))
}

/// The sequences that a subscription has not finished, in order.
pub(super) fn queue(field: &[u8]) -> Result<Vec<u32>, StoreError> {
    String::from_utf8_lossy(field).split(',').map(number).collect()
}

fn beneficiary_owner(id: PayoutId) -> String {
    format!("{id}/beneficiary")
}

fn request_owner(id: PayoutId) -> String {
    format!("{id}/request")
}

pub(super) fn random_token() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn number(text: &str) -> Result<u32, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt(format!("`{text}` is not a number")))
}

/// The first word of a script's answer.
pub(super) fn answer_of(value: &Value) -> Result<&str, StoreError> {
    let word = match value {
        Value::Array(items) => items.first(),
        other => Some(other),
    };
    match word {
        Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).map_err(|_| unknown_answer("bytes")),
        Some(Value::SimpleString(text)) => Ok(text),
        _ => Err(unknown_answer("nothing")),
    }
}

pub(super) fn unknown_answer(answer: &str) -> StoreError {
    StoreError::Corrupt(format!("unexpected `{answer}`"))
}
