//! One dispatch of a payout to a provider, and what is known about it.
//!
//! What an attempt came to is a **fold over a set**: each statement is absorbed once, the earliest wins, and `Attempt::outcome` reads the
//! set as a whole. So the order in which statements arrive, and how often, cannot matter.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::Clash;
use crate::fact::{Provider, ProviderReference, Reason, Report, Status};
use crate::id::ProviderKey;

/// One dispatch of a payout to a provider, under one key, sent once or (identical, where the provider recognises duplicates) more often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// From 1.
    pub number: u8,
    pub provider: Provider,
    pub key: ProviderKey,
    /// The key of the request for many payouts that it was sent with. The provider recognises a repeat of that request, whole, and of no other: it is
    /// never sent again by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<ProviderKey>,
    pub initiated_at: Timestamp,
    /// Nobody was allowed to send it until then: its provider was paused or failing, or dispatch was frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aside_until: Option<Timestamp>,
    /// How often sending was begun. The number of the latest send.
    pub sends: u32,
    /// The sends that may have reached the provider. A send that is proved not to have been processed is taken out.
    pub live: Vec<Send>,
    pub evidence: Evidence,
    /// It was never sent and never will be: its provider cannot take the payout, so the next one has its turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<Ended>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<ProviderReference>,
    /// The provider's latest word, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_status: Option<String>,
}

/// One send that may have reached the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Send {
    pub number: u32,
    /// When it was begun: no byte of it left before.
    pub at: Timestamp,
    /// After this time no byte of it leaves any more.
    pub by: Timestamp,
    pub fate: Fate,
}

/// What became of a send. A definite answer outranks a presumed silence, whichever was recorded first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// May be under way.
    Open,
    /// Ended without a usable answer.
    Ambiguous,
    /// The provider answered with a documented refusal.
    Refused(Ended),
}

/// When something was first known, and why it happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    pub at: Timestamp,
    pub reason: Reason,
}

/// The set of what the provider said about an attempt; per kind the earliest statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Evidence {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorised: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submitted: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Ended>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Ended>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub returned: Option<Ended>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canceled: Option<Ended>,
}

/// What an attempt came to, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every send is proved not to have been processed: the same attempt may go again.
    Unsent,
    /// A send is under way, and nothing is known.
    Open,
    /// A send ended without a usable answer.
    Ambiguous,
    Authorised(Timestamp),
    Submitted(Timestamp),
    Settled(Timestamp),
    Returned(Ended),
    Failed(Ended),
    /// Refused at the door, in the answer to a send or as a status.
    Rejected(Ended),
    Canceled(Ended),
    Clash(Clash),
}

/// What has come to be known about an attempt by one statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The provider took it, or went on with it.
    Accepted,
    CameBack(Ended),
    /// It ended before money moved, or nothing of it was processed.
    NotMoved,
}

fn earliest<T: Ord>(slot: &mut Option<T>, said: T) {
    match slot {
        Some(held) if *held <= said => {}
        _ => *slot = Some(said),
    }
}

// === impl Attempt ===

impl Attempt {
    /// Takes a statement of the provider into the set.
    pub(super) fn absorb(&mut self, report: &Report, at: Timestamp) {
        let at = report.at.unwrap_or(at);
        let evidence = &mut self.evidence;
        match &report.status {
            Status::Authorised => earliest(&mut evidence.authorised, at),
            Status::Submitted => earliest(&mut evidence.submitted, at),
            Status::Settled => earliest(&mut evidence.settled, at),
            Status::Rejected { reason } => earliest(&mut evidence.rejected, Ended { at, reason: reason.clone() }),
            Status::Failed { reason } => earliest(&mut evidence.failed, Ended { at, reason: reason.clone() }),
            Status::Returned { reason } => earliest(&mut evidence.returned, Ended { at, reason: reason.clone() }),
            Status::Canceled { reason } => earliest(&mut evidence.canceled, Ended { at, reason: reason.clone() }),
            Status::Unmapped => {}
        }
        self.provider_status = Some(report.provider_status.clone());
        if self.reference.is_none() {
            self.reference.clone_from(&report.reference);
        }
    }

    /// The send is proved not to have been processed. One that was refused stays: it has had its answer.
    pub(super) fn forget_send(&mut self, number: u32) {
        self.live.retain(|send| send.number != number || matches!(send.fate, Fate::Refused(_)));
    }

    /// What became of a send is known now, or known better.
    pub(super) fn settle_send(&mut self, number: u32, fate: Fate) {
        if let Some(send) = self.live.iter_mut().find(|send| send.number == number && !matches!(send.fate, Fate::Refused(_))) {
            send.fate = fate.max(send.fate.clone());
        }
    }

    /// As [`Attempt::settle_send`], of each up to that one that may have reached the provider.
    pub(super) fn settle_sends_up_to(&mut self, last: u32, fate: &Fate) {
        for number in 1..=last {
            self.settle_send(number, fate.clone());
        }
    }

    /// Since when it is tried to bring it to its provider. The time in which that was not allowed does not count.
    pub(super) fn tried_since(&self) -> Timestamp {
        self.aside_until.map_or(self.initiated_at, |until| until.max(self.initiated_at))
    }

    /// Since when the provider may know its key. What is proved not to have been processed has told it to nobody, however long ago the attempt began.
    #[must_use]
    pub fn first_sent(&self) -> Timestamp {
        self.live.iter().map(|send| send.at).min().unwrap_or(self.initiated_at)
    }

    /// Whether the provider has acknowledged the attempt in any way.
    pub(super) fn accepted(&self) -> bool {
        let evidence = &self.evidence;
        evidence.authorised.is_some() || evidence.submitted.is_some() || evidence.settled.is_some() || evidence.returned.is_some()
    }

    /// Whether money may have moved for this attempt although it had been closed.
    pub(super) fn moved_after_close(&self) -> bool {
        self.evidence.settled.is_some() || self.evidence.returned.is_some() || (self.refused().is_some() && self.accepted())
    }

    /// Whether it has just come out that money may have moved although the payout was withdrawn. What was known `before` was no obstacle to that: an
    /// attempt that had been accepted and then failed, say.
    pub(super) fn moved_after_withdrawal(&self, before: &Self) -> bool {
        self.moved_after_close() || (self.live.is_empty() && self.accepted() && !before.accepted())
    }

    /// What is known now and was not known `before`, one statement earlier. The same statement with another time or reason is none.
    pub(super) fn news(&self, before: &Self) -> Option<News> {
        let (now, then) = (&self.evidence, &before.evidence);
        let accepted = |said: &Evidence| [said.authorised.is_some(), said.submitted.is_some(), said.settled.is_some()];
        let ended = |said: &Evidence| [said.rejected.is_some(), said.failed.is_some(), said.canceled.is_some()];
        let unprocessed = |attempt: &Self| attempt.live.is_empty() || attempt.refused().is_some();
        match &now.returned {
            Some(returned) if then.returned.is_none() => Some(News::CameBack(returned.clone())),
            _ if accepted(now) != accepted(then) => Some(News::Accepted),
            _ if ended(now) != ended(then) || unprocessed(self) != unprocessed(before) => Some(News::NotMoved),
            _ => None,
        }
    }

    /// That it was passed over, or the first of the refusals, if every send that may have arrived was refused: one such answer, while another send is silent, would prove
    /// nothing about the silent one. The first by the order of the sends, because their answers may be recorded in any order.
    fn refused(&self) -> Option<&Ended> {
        let mut refused = self.passed_over.as_ref();
        for send in &self.live {
            match &send.fate {
                Fate::Refused(ended) => refused = refused.or(Some(ended)),
                Fate::Open | Fate::Ambiguous => return None,
            }
        }
        refused
    }

    /// What the attempt came to: came back > settled > canceled > failed > rejected > submitted > authorised > silence. Canceled outranks failed, because
    /// a canceled payout has ended, while after a failure it may go to the next provider.
    pub(super) fn outcome(&self) -> Outcome {
        let evidence = &self.evidence;
        let refused = self.refused();
        let ended = evidence.failed.is_some() || evidence.rejected.is_some() || evidence.canceled.is_some();
        if refused.is_some() && self.accepted() {
            return Outcome::Clash(Clash::RefusedAndAccepted);
        }
        if ended && evidence.settled.is_some() {
            return Outcome::Clash(Clash::EndedAndSettled);
        }
        if let Some(ended) = &evidence.returned {
            return Outcome::Returned(ended.clone());
        }
        if let Some(at) = evidence.settled {
            return Outcome::Settled(at);
        }
        if let Some(ended) = &evidence.canceled {
            return Outcome::Canceled(ended.clone());
        }
        if let Some(ended) = &evidence.failed {
            return Outcome::Failed(ended.clone());
        }
        if let Some(ended) = &evidence.rejected {
            return Outcome::Rejected(ended.clone());
        }
        if let Some(at) = evidence.submitted {
            return Outcome::Submitted(at);
        }
        if let Some(at) = evidence.authorised {
            return Outcome::Authorised(at);
        }
        if let Some(ended) = refused {
            return Outcome::Rejected(ended.clone());
        }
        if self.live.iter().any(|send| !matches!(send.fate, Fate::Open)) {
            Outcome::Ambiguous
        } else if self.live.is_empty() {
            Outcome::Unsent
        } else {
            Outcome::Open
        }
    }
}
