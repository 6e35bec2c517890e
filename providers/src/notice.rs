//! What a provider's webhook comes to, in the same words for every provider.

use domain::fact::{ProviderReference, Told};
use domain::id::ProviderKey;

/// A webhook that an inbox has read. Only an inbox makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub(crate) dedupe_id: String,
    pub(crate) event_type: String,
    pub(crate) told: Option<Told>,
    pub(crate) hint: Option<Hint>,
}

/// Which attempt to look at now, where a notice is not evidence, or carries the provider's id and nothing of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    Key(ProviderKey),
    Reference(ProviderReference),
}

impl Notice {
    /// The provider's id of the event, or a hash of the body where it has none. The same in every delivery of it.
    #[must_use]
    pub fn dedupe_id(&self) -> &str {
        &self.dedupe_id
    }

    /// The provider's word for the event, safe to store and to show.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Verified evidence about one of our attempts; `None` for events that are not about a payout of ours, and for what proves nothing by itself.
    #[must_use]
    pub const fn told(&self) -> Option<&Told> {
        self.told.as_ref()
    }

    /// The attempt to ask about; never together with [`Notice::told`].
    #[must_use]
    pub const fn hint(&self) -> Option<&Hint> {
        self.hint.as_ref()
    }
}
