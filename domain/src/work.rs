//! What is to be done next for a payout: at most one thing, at one time.

use jiff::Timestamp;

/// The work that a payout has after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Dispatch it, not before this time.
    Execute(Timestamp),
    /// Ask the provider about it, not before this time.
    Poll(Timestamp),
    /// Whatever is planned or under way stays as it is. The intent to send is one such step: its lease is what finds a crash later.
    Keep,
    /// Nothing: it has ended, or a person has to decide.
    Nothing,
}
