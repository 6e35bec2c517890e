//! What a provider lists of a period: its side of a reconciliation.

use domain::fact::{ProviderReference, Report};
use domain::id::ProviderKey;
use jiff::Timestamp;

use crate::ReadError;

/// The payouts that a provider lists, ours or not. Has no names and no accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub lines: Vec<Line>,
    /// Whether that is all of it. What is missing in a list that was cut may still be there.
    pub whole: bool,
}

/// One payout as a provider lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The key that it was made under, where the list shows one; not necessarily a key of ours.
    pub key: Option<ProviderKey>,
    /// The first time that the list tells of it. `None` where it tells none.
    pub at: Option<Timestamp>,
    /// Its state, amount and reference.
    pub report: Report,
}

/// Why there is no statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoStatement {
    #[error("the provider is not configured for this mode")]
    NotConfigured,
    /// No document of the provider describes a list.
    #[error("the provider does not list payouts")]
    NotListed,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Line {
    #[must_use]
    pub const fn reference(&self) -> Option<&ProviderReference> {
        self.report.reference.as_ref()
    }
}
