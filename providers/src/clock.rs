//! The machine's clock: for limits on what this process does itself, and for the sandbox. What is decided about a payout gets its time from the caller.

use jiff::Timestamp;

#[expect(clippy::disallowed_methods, reason = "a send must not leave after its time, whatever the time that tests move")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
