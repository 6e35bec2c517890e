//! What a sandbox notes about the calls that it got and the notices that it sent, per payout.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;

/// Entries of each list about one payout.
const MAX_CALLS: usize = 64;

/// What was asked about one payout, and what was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Creates that were received from a caller who proved who they are.
    pub creates: u64,
    pub gets: u64,
    /// The answers to creates, oldest first: a status or `dropped`. At most the last 64.
    pub answers: VecDeque<String>,
    /// The notices sent, oldest first. At most the last 64.
    pub notices: VecDeque<SentNotice>,
}

/// One try to deliver a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentNotice {
    pub event_id: String,
    pub event_type: String,
    pub at: Timestamp,
    pub forged: bool,
    /// The status of the receiver's answer; `None` if there was none.
    pub status: Option<u16>,
}

impl Calls {
    pub(crate) fn answered(&mut self, answer: String) {
        push(&mut self.answers, answer);
    }

    pub(crate) fn notified(&mut self, notice: SentNotice) {
        push(&mut self.notices, notice);
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == MAX_CALLS {
        list.pop_front();
    }
    list.push_back(item);
}
