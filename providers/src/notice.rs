//! What a provider's webhook comes to, in the same words for every provider.

use domain::fact::{About, Deposit, Told};

/// A webhook that an inbox has read. Only an inbox makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub(crate) dedupe_id: String,
    pub(crate) event_type: String,
    pub(crate) told: Option<Told>,
    pub(crate) hint: Option<About>,
    pub(crate) deposit: Option<Deposit>,
    pub(crate) signed: bool,
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

    /// The attempt to ask about, where a notice is no evidence; never together with [`Notice::told`].
    #[must_use]
    pub const fn hint(&self) -> Option<&About> {
        self.hint.as_ref()
    }

    /// Verified evidence of money that came in; never together with [`Notice::told`] or [`Notice::hint`].
    #[must_use]
    pub const fn deposit(&self) -> Option<&Deposit> {
        self.deposit.as_ref()
    }

    /// Whether the provider has signed it. Anybody can send what is not signed, and as much of it as they like.
    #[must_use]
    pub const fn is_signed(&self) -> bool {
        self.signed
    }
}
