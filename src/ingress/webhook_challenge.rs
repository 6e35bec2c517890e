//! A URL that has to show that it wants to be told, before it is: it answers a signed `webhook.challenge` with the value that it is given.
//!
//! Until then its events wait as in a pause. It is asked when it is registered, and again whenever somebody says so: a receiver learns the secret from the answer
//! that makes its subscription, so the first message is one that it may not be able to verify yet.

use std::time::Duration;

use domain::delivery::{Attempt, Attempted};
use domain::id::{Mode, PartyId};
use domain::subscription::{Secrets, Status, Subscription};
use jiff::Timestamp;
use workers::relay::ping;
use workers::store::subscriptions::Subscribed;

use super::Ingress;
use super::caller::Caller;
use super::problem::{Kind, Problem};
use super::webhooks::random;

impl Ingress {
    /// What a subscription begins with.
    pub(super) fn status_of_new_url(&self, mode: Mode, now: Timestamp) -> Status {
        if self.settings.webhooks.challenge.contains(&mode) { Status::Pending { at: now } } else { Status::Enabled }
    }

    /// What a subscription becomes by another URL. A pause stays one, where nobody need be asked.
    pub(super) fn asks_anew(&self, subscription: &mut Subscription) {
        let now = self.recorder.store.clock().now();
        match self.status_of_new_url(subscription.mode, now) {
            Status::Enabled if matches!(subscription.status, Status::Pending { .. }) => subscription.status = Status::Enabled,
            pending @ Status::Pending { .. } => subscription.status = pending,
            Status::Enabled | Status::Paused { .. } | Status::Disabled { .. } => {}
        }
    }

    /// Asks the URL of a subscription that is pending, and enables it if it answers; else it stays as it is. Says how that went, if it was asked.
    pub(super) async fn challenged(&self, mut subscription: Subscription, secrets: &Secrets) -> (Subscription, Option<Attempt>) {
        let Status::Pending { .. } = subscription.status else { return (subscription, None) };
        let party = subscription.party.clone();
        let Ok(_seat) = self.pings(subscription.mode).enter(&party, subscription.mode) else { return (subscription, None) };
        let (timeout, now) = (Duration::from_millis(self.settings.webhooks.ping_timeout_ms), self.recorder.store.clock().now());
        let (value, number) = (const_hex::encode(random::<16>()), u64::from_ne_bytes(random()));
        let keys = &self.settings.signing_keys;
        let (attempt, wants) = ping::challenge(&self.egress, keys, &subscription, secrets, &value, number, timeout, now).await;
        if wants {
            let pending = subscription.clone();
            subscription.status = Status::Enabled;
            subscription.version = subscription.version.saturating_add(1);
            // Where somebody else has changed it meanwhile, what answered may be another URL; and trouble with the store is no reason to keep the secret of a
            // new subscription from whoever asked for it: it can be asked once more.
            if !matches!(self.recorder.store.begin_afresh(&subscription, None).await, Ok(Subscribed::Done)) {
                subscription = pending;
            }
        }
        (subscription, Some(attempt))
    }

    /// Asks the URL of a subscription once more. One that is not pending is left as it is.
    ///
    /// # Errors
    /// [`Kind::NotPossibleNow`] with what was answered, or why nothing was; [`Kind::Overloaded`]; trouble with the store.
    pub(crate) async fn challenge_subscription(&self, caller: &Caller, party: Option<PartyId>, id: &str) -> Result<(Subscription, Secrets), Problem> {
        let (subscription, secrets) = self.subscription(caller, party, id).await?;
        let (subscription, attempt) = self.challenged(subscription, &secrets).await;
        let (Status::Pending { .. }, how) = (&subscription.status, attempt.map(|attempt| attempt.result)) else { return Ok((subscription, secrets)) };
        let why = match how {
            None => return Err(Problem::new(Kind::Overloaded, "As many calls of subscribers as can be are under way. Nothing was sent.")),
            Some(Attempted::Acknowledged { status }) => format!("The URL answered {status}, but not with the value that it was given."),
            Some(Attempted::Answered { status, .. }) => format!("The URL answered {status}."),
            Some(Attempted::Unreachable { why }) => format!("The URL did not answer: {why}."),
            Some(Attempted::Unwanted) => "The URL was not asked.".to_owned(),
        };
        Err(Problem::new(Kind::NotPossibleNow, format!("{why} The subscription stays `pending`.")))
    }
}
