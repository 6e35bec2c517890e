//! The directory of the ids that providers make: from a provider's own id to the attempt that it belongs to.
//!
//! An id of ours leads to its payout by itself; one of theirs says nothing about the shard. So each has a key with a hash tag of its own, which is the id
//! itself, and whatever node that belongs to is asked.

use std::time::Duration;

use domain::fact::{Provider, ProviderReference};
use domain::id::{Mode, PayoutId};

use super::lanes::millis;
use super::{Store, StoreError, from_value};

impl Store {
    /// Notes that the provider calls that attempt so, for as long as `kept`. Written **before** the commit that uses the id, so that no notice about a
    /// payout that has one leads nowhere; when the commit never comes, the entry says something true all the same.
    ///
    /// # Errors
    /// As every call. Repeatable: the first entry stays, and one of another attempt is only reported.
    pub async fn refer(
        &self,
        (provider, mode): (Provider, Mode),
        reference: &ProviderReference,
        attempt: (PayoutId, u8),
        kept: Duration,
    ) -> Result<(), StoreError> {
        let entry = format!("{}/{}", attempt.0, attempt.1);
        let mut command = redis::cmd("SET");
        command.arg(self.reference(provider, mode, reference)).arg(&entry).arg("NX").arg("GET").arg("PX").arg(millis(kept));
        let held: Option<String> = from_value(self.query(command).await?)?;
        if held.is_some_and(|held| held != entry) {
            tracing::error!(payout.id = %attempt.0, provider.name = provider.name(), "a provider gives two payouts the same id; notices that name it are taken to be about the first");
        }
        Ok(())
    }

    /// The payout, and the number of its attempt, that the provider calls so, if it is known.
    ///
    /// # Errors
    /// As every call.
    pub async fn referred(&self, provider: Provider, mode: Mode, reference: &ProviderReference) -> Result<Option<(PayoutId, u8)>, StoreError> {
        let key = self.reference(provider, mode, reference);
        let entry: Option<String> = from_value(self.query(redis::cmd("GET").arg(key).to_owned()).await?)?;
        let read = |entry: String| {
            let (payout, attempt) = entry.split_once('/')?;
            Some((payout.parse().ok()?, attempt.parse().ok()?))
        };
        entry.map(|entry| read(entry).ok_or_else(|| StoreError::Corrupt("an entry of the directory of references".to_owned()))).transpose()
    }

    fn reference(&self, provider: Provider, mode: Mode, reference: &ProviderReference) -> String {
        format!("{}{{ref:{}:{mode}:{}}}", self.shared.names.prefix, provider.name(), reference.0)
    }
}
