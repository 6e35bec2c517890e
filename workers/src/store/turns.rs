//! Turns of payouts to be looked for. After a loss of writes each provider is asked for each payout that it could have, before anything is sent: turns bound how many of these
//! looks are made in a second, over all processes.

use std::time::Duration;

use domain::fact::Provider;
use domain::id::{Mode, PayoutId};

use super::lanes::{Ticket, millis};
use super::{Store, StoreError, circuits, from_value};

/// A turn that is not used for so long after its time has passed: who comes later, because no worker was there, waits for another one.
const LASTS_MS: i64 = 2_000;

/// What waits for a turn: payouts that are to be sent, and polls of those that may be sent again. They share the turns, in the order in which they ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looking {
    Execute,
    Poll,
}

impl Store {
    /// Asks for a turn to make so many looks at each of these providers at one time, of which `per_s` are made in a second at each. Answers how long to wait for it; `None`: longer
    /// than `longest`, and then none was given.
    ///
    /// # Errors
    /// As every call. After an error a turn may be given that nobody uses; asking again is safe.
    pub async fn turn_to_look(&self, mode: Mode, looks: &[(Provider, u64)], per_s: u32, longest: Duration) -> Result<Option<Duration>, StoreError> {
        let key = format!("{}{{looks}}:free", self.shared.names.prefix);
        let keys = [key.as_str()];
        let answer = self.run(&self.shared.scripts.look_turns, &keys, |command| {
            command.arg(self.clock().offset_ms()).arg(1_000_000 / u64::from(per_s.max(1))).arg(millis(longest));
            for (provider, count) in looks {
                command.arg(circuits::name(*provider, mode)).arg(count);
            }
        });
        Ok(u64::try_from(from_value::<i64>(answer.await?)?).ok().map(Duration::from_millis))
    }

    /// Puts a leased payout off until its turn. One that is to be sent nobody was allowed to send until then.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn put_off(&self, lane: Looking, id: PayoutId, lease: &Ticket, wait: Duration) -> Result<(), StoreError> {
        let names = &self.shared.names;
        let shard = id.shard();
        let lane = match lane {
            Looking::Execute => "execute",
            Looking::Poll => "poll",
        };
        let keys = [names.payout(id), names.of(shard, &format!("due:{lane}")), names.of(shard, "clock")];
        let keys = keys.each_ref().map(String::as_str);
        let answer = self.run(&self.shared.scripts.put_off, &keys, |command| {
            command.arg(id.to_string()).arg(lease.token.0).arg(millis(wait)).arg(names.of(shard, "wake")).arg(lane);
        });
        answer.await.map(drop)
    }

    /// Uses the turn that a payout was put off for, if its time has come by the store's clock, whatever this machine's says: then there is nothing to wait for. Else answers how long to
    /// wait for it; `None`: it has none, or its time has passed; ask for another one.
    ///
    /// # Errors
    /// As every call. After an error it may have been used.
    pub async fn use_turn(&self, id: PayoutId) -> Result<Option<Duration>, StoreError> {
        let keys = [self.shared.names.payout(id), self.shared.names.of(id.shard(), "clock")];
        let keys = keys.each_ref().map(String::as_str);
        let answer = self.run(&self.shared.scripts.use_turn, &keys, |command| _ = command.arg(LASTS_MS));
        Ok(u64::try_from(from_value::<i64>(answer.await?)?).ok().map(Duration::from_millis))
    }
}
