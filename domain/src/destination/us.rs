//! Accounts in the United States, as the automated clearing house knows them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::DestinationError;

redacted!(RoutingNumber, UsAccountNumber);
checked_text!(RoutingNumber, DestinationError, Self::parse);
checked_text!(UsAccountNumber, DestinationError, Self::parse);

/// The number of a bank in the United States: nine digits, the last of which checks the others.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoutingNumber(String);

impl RoutingNumber {
    /// # Errors
    ///
    /// [`DestinationError::RoutingNumber`], [`DestinationError::RoutingCheckDigit`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        if text.len() != 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DestinationError::RoutingNumber);
        }
        let digits = text.chars().filter_map(|digit| digit.to_digit(10));
        let sum: u32 = digits.zip([3, 7, 1].into_iter().cycle()).map(|(digit, weight)| digit.saturating_mul(weight)).sum();
        // Nine zeros pass the sum and name no bank.
        if sum > 0 && sum.is_multiple_of(10) { Ok(Self(text.to_owned())) } else { Err(DestinationError::RoutingCheckDigit) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The number of an account in the United States: 4 to 17 digits. It has no check digit.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UsAccountNumber(String);

impl UsAccountNumber {
    /// # Errors
    ///
    /// [`DestinationError::UsAccountNumber`].
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        if (4..=17).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DestinationError::UsAccountNumber)
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What kind of account it is: a transfer names it, and one to the wrong kind comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsAccountType {
    Checking,
    Savings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_number_has_its_check_digit() {
        for (text, error) in [
            ("021000021", None),
            ("122105278", None),
            ("021000022", Some(DestinationError::RoutingCheckDigit)),
            ("201000021", Some(DestinationError::RoutingCheckDigit)),
            ("000000000", Some(DestinationError::RoutingCheckDigit)),
            ("02100002", Some(DestinationError::RoutingNumber)),
            ("0210000210", Some(DestinationError::RoutingNumber)),
            ("02100002x", Some(DestinationError::RoutingNumber)),
            ("", Some(DestinationError::RoutingNumber)),
        ] {
            assert_eq!(RoutingNumber::parse(text).err(), error, "{text:?}");
        }
    }

    #[test]
    fn an_account_number_is_digits() {
        for (text, good) in
            [("1234", true), ("12345678901234567", true), ("123", false), ("123456789012345678", false), ("12-34", false), ("", false)]
        {
            assert_eq!(UsAccountNumber::parse(text).is_ok(), good, "{text:?}");
        }
    }
}
