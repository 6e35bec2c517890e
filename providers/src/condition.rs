//! What an answer says about the provider itself, beside the payout: for the circuit breaker.

use crate::mollie::wire::ALREADY_SCHEDULED;

/// How a provider does, by one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It took the payout, or refused it for what it is.
    Well,
    /// It cannot be reached, gives no usable answer, or forbids the call.
    Failing,
    /// It does not accept our credentials or our signature. The next payout would meet the same.
    LockedOut,
    /// Nothing: the provider was not called, or asked for patience.
    Unknown,
}

/// Codes of credentials and signatures that are not accepted.
const LOCKED_OUT: [&str; 3] = ["unauthorized", "invalid_signature", "token_invalid_client"];

/// Codes of our own doing, and of limits of rates and of balances, which are each payout's own affair.
const NOT_ABOUT_THE_PROVIDER: [&str; 11] = [
    "send_by_passed",
    "unreadable_request",
    "unusable_version",
    "unusable_key",
    "signing_failed",
    "provider_not_configured",
    "fenced",
    "may_be_forgotten",
    "look_timeout",
    "rate_limited",
    ALREADY_SCHEDULED,
];

impl Condition {
    /// By the reason code of an [`Answer`](domain::fact::Answer) that is neither an acceptance nor a refusal: with one of those, the provider is well.
    #[must_use]
    pub fn of(code: &str) -> Self {
        if LOCKED_OUT.contains(&code) {
            Self::LockedOut
        } else if NOT_ABOUT_THE_PROVIDER.contains(&code) {
            Self::Unknown
        } else {
            Self::Failing
        }
    }

    /// The word in scripts and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Failing => "failing",
            Self::LockedOut => "locked_out",
            Self::Unknown => "nothing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look that we gave up is no send: a provider that answers questions slowly may take payouts as ever.
    #[test]
    fn what_we_gave_up_ourselves_says_nothing_about_the_provider() {
        for (code, condition) in [("look_timeout", Condition::Unknown), ("timeout", Condition::Failing), ("unauthorized", Condition::LockedOut)] {
            assert_eq!(Condition::of(code), condition, "{code}");
        }
    }
}
