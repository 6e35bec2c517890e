//! What a payout is to pay: an amount, or all that its balance holds when it is paid.

use serde::{Deserialize, Serialize};

use crate::money::{Currency, Money, MoneyError};

/// What a payout is to pay.
///
/// In serde an exact amount is as [`Money`] is, and a whole balance is `{"currency": "GBP"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub enum Amount {
    Exact(Money),
    /// What is available when it is due, less what the account keeps back. It is fixed once, before the first dispatch; until then nothing is reserved.
    Whole(Currency),
}

impl Amount {
    #[must_use]
    pub const fn currency(self) -> Currency {
        match self {
            Self::Exact(money) => money.currency(),
            Self::Whole(currency) => currency,
        }
    }

    /// `None` as long as a whole balance is not fixed.
    #[must_use]
    pub const fn exact(self) -> Option<Money> {
        match self {
            Self::Exact(money) => Some(money),
            Self::Whole(_) => None,
        }
    }
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self::Exact(money)
    }
}

/// What [`Amount`] looks like in JSON, before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minor: Option<i64>,
    currency: Currency,
}

impl TryFrom<Form> for Amount {
    type Error = MoneyError;

    fn try_from(form: Form) -> Result<Self, MoneyError> {
        match form.minor {
            Some(minor) => Money::new(minor, form.currency).map(Self::Exact),
            None => Ok(Self::Whole(form.currency)),
        }
    }
}

impl From<Amount> for Form {
    fn from(amount: Amount) -> Self {
        Self { minor: amount.exact().map(Money::minor), currency: amount.currency() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records that were written when every amount was exact are read as before.
    #[test]
    fn an_exact_amount_is_written_as_money_is() {
        let money = Money::new(10_000, Currency::GBP).expect("an amount");
        let json = serde_json::to_string(&Amount::Exact(money)).expect("serialises");
        assert_eq!(json, serde_json::to_string(&money).expect("serialises"));
        assert_eq!(serde_json::from_str::<Amount>(&json).expect("reads"), Amount::Exact(money));
        let whole = r#"{"currency":"GBP"}"#;
        assert_eq!(serde_json::to_string(&Amount::Whole(Currency::GBP)).expect("serialises"), whole);
        assert_eq!(serde_json::from_str::<Amount>(whole).expect("reads"), Amount::Whole(Currency::GBP));
        for wrong in
            [r#"{"minor":0,"currency":"GBP"}"#, r#"{"minor":-1,"currency":"GBP"}"#, r#"{"currency":"gbp"}"#, r#"{"currency":"GBP","whole":1}"#]
        {
            assert!(serde_json::from_str::<Amount>(wrong).is_err(), "{wrong}");
        }
    }
}
