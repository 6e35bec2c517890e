//! Amounts in JSON numbers, kept as the text they were written in, so that nothing is rounded on the way.

use std::fmt;

use domain::money::{Currency, Money};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON number in a currency's major unit.
///
/// Reads and writes through serde_json only, and not inside a `flatten` or an untagged enum, which would make a float of it first.
#[derive(Clone, PartialEq, Eq)]
pub struct Decimal(Box<str>);

impl Decimal {
    /// The amount with at most `digits` decimal digits; `None` if it has more that are not zero.
    #[must_use]
    pub fn of(money: Money, digits: usize) -> Option<Self> {
        let text = money.to_decimal();
        let Some((whole, decimals)) = text.split_once('.') else { return Some(Self(text.into())) };
        let (kept, rest) = decimals.split_at_checked(digits).unwrap_or((decimals, ""));
        let exact = rest.bytes().all(|byte| byte == b'0');
        exact.then(|| if kept.is_empty() { Self(whole.into()) } else { Self(format!("{whole}.{kept}").into()) })
    }

    /// No amount, as the provider writes it where it has none (H).
    #[must_use]
    pub fn zero() -> Self {
        Self("0".into())
    }

    /// How many digits it is written with.
    #[must_use]
    pub fn digits(&self) -> usize {
        self.0.bytes().filter(u8::is_ascii_digit).count()
    }

    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|byte| matches!(byte, b'0' | b'.'))
    }

    /// The amount in that currency. `None` for nothing, for less than nothing, for a power of ten, and for what the currency's unit cannot hold exactly.
    #[must_use]
    pub fn to_money(&self, currency: Currency) -> Option<Money> {
        let text = match self.0.split_once('.') {
            // Zeros beyond the currency's digits are how some write it.
            Some((whole, decimals)) => {
                let keep = usize::try_from(currency.exponent()).unwrap_or_default();
                let (kept, rest) = decimals.split_at_checked(keep).unwrap_or((decimals, ""));
                if rest.bytes().any(|byte| byte != b'0') {
                    return None;
                }
                if kept.is_empty() { whole.to_owned() } else { format!("{whole}.{kept}") }
            }
            None => self.0.to_string(),
        };
        Money::from_decimal(&text, currency).ok()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            Ok(Self(raw.get().into()))
        } else {
            Err(serde::de::Error::custom("an amount is a number"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect("a currency")
    }

    #[test]
    fn amounts_are_written_exactly() {
        for (minor, code, text) in [
            (19_999, "EUR", Some("199.99")),
            (1, "GBP", Some("0.01")),
            (20_000, "GBP", Some("200.00")),
            (1_200, "JPY", Some("1200")),
            (1_500, "KWD", Some("1.50")),
            (1_505, "KWD", None),
            (Money::MAX_MINOR, "GBP", Some("9999999999999.99")),
        ] {
            let money = Money::new(minor, currency(code)).expect("an amount");
            let decimal = Decimal::of(money, 2);
            assert_eq!(decimal.as_ref().map(Decimal::as_str), text, "{money}");
            let Some(decimal) = decimal else { continue };
            let json = serde_json::to_string(&decimal).expect("writes");
            assert_eq!(Some(json.as_str()), text, "a number, not a text");
            let read: Decimal = serde_json::from_str(&json).expect("reads");
            assert_eq!(read.to_money(currency(code)), Some(money), "{json}");
        }
    }

    /// What the provider may write, and what it is worth.
    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (json, minor) in [
            ("1.05", Some(105)),
            ("10", Some(1_000)),
            ("199.9", Some(19_990)),
            ("199.990", Some(19_999)),
            ("0.1", Some(10)),
            // Through a double this would be 4503599627370.4961.
            ("4503599627370.49", Some(450_359_962_737_049)),
            ("199.999", None),
            ("0", None),
            ("0.00", None),
            ("-1.00", None),
            ("1e2", None),
            ("1.0E2", None),
        ] {
            let decimal: Decimal = serde_json::from_str(json).expect(json);
            assert_eq!(decimal.to_money(Currency::GBP).map(Money::minor), minor, "{json}");
        }
        assert!(serde_json::from_str::<Decimal>("\"1.05\"").is_err());
        assert!(serde_json::from_str::<Decimal>("null").is_err());
        assert_eq!(serde_json::from_str::<Option<Decimal>>("null").expect("reads"), None);
        assert!(Decimal::zero().is_zero() && Decimal::zero().digits() == 1);
    }
}
