//! What a worker asks a connector to do, in the same words for every provider.

use std::fmt;

use domain::destination::Beneficiary;
use domain::fact::{ProviderReference, Reason, Report};
use domain::id::ProviderKey;
use domain::money::Money;
use jiff::Timestamp;

/// What is to be sent: one attempt of one payout.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    pub key: ProviderKey,
    pub money: Money,
    pub beneficiary: &'a Beneficiary,
    pub context_code: &'a str,
}

/// A send that one asks about. `request` are the bytes that `prepare` made; `reference` is the provider's id, once it has told one.
#[derive(Clone, Copy)]
pub struct Inquiry<'a> {
    pub key: ProviderKey,
    pub reference: Option<&'a ProviderReference>,
    pub request: &'a [u8],
    pub first_sent: Timestamp,
}

impl fmt::Debug for Inquiry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, reference, request: _, first_sent } = self;
        f.debug_struct("Inquiry").field("key", key).field("reference", reference).field("first_sent", first_sent).finish_non_exhaustive()
    }
}

/// How an attempt to cancel at the provider ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canceling {
    Canceled(Report),
    TooLate(Report),
    Nothing { why: Reason },
}
