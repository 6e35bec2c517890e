//! The fan-out: commits match a few subscriptions of a party, and leave each event for the others to work of its own, which comes by them page by page. It stands among those few under
//! a name that no subscription has, so all that holds for deliveries of a subscription holds for it: its events of one payout come one after the other, and a worker that dies is
//! followed by another one.

use super::lanes::RelayTicket;
use super::payouts::{answer_of, unknown_answer};
use super::{Store, StoreError};

/// Subscriptions that one call of the script comes by.
const PAGE: usize = 200;

/// How far the fan-out of an event has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FannedOut {
    /// There are more subscriptions: call again.
    Page,
    /// Each that is owed the event has its delivery, and the work is acknowledged.
    Done,
    /// The lease has gone to somebody else, who goes on.
    LeaseLost,
}

impl Store {
    /// Makes the deliveries of an event to the next page of the subscriptions that its commit did not match: those that there were by then and are still there, by what they want now.
    ///
    /// # Errors
    /// As every call. A repeat of one that was applied comes to the page after it, so none is made twice; behind the last one it answers [`FannedOut::LeaseLost`].
    pub async fn fan_out(&self, ticket: &RelayTicket) -> Result<FannedOut, StoreError> {
        let (names, shard, payout, name) = (&self.shared.names, ticket.event.shard(), ticket.event.payout(), ticket.subscription.to_string());
        let [wait, fly, more] = ["wait:", "fly:", "more:"].map(|what| [names.shard(shard), what, &name].concat());
        let keys = [names.payout(payout), wait, fly, names.of(shard, "lanes"), names.of(shard, "clock"), more];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.fan_out, &keys, |command| {
                command.arg(names.shard(shard)).arg(&name).arg(payout.to_string()).arg(ticket.event.sequence()).arg(ticket.token.0).arg(PAGE);
            })
            .await?;
        match answer_of(&answer)? {
            "page" => Ok(FannedOut::Page),
            "done" => Ok(FannedOut::Done),
            "lost" => Ok(FannedOut::LeaseLost),
            other => Err(unknown_answer(other)),
        }
    }
}
