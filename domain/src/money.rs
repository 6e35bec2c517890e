//! Amounts: whole minor units of one currency, always positive, never a float.
//!
//! Providers that speak decimals get them from [`Money::to_decimal`] and are read with [`Money::from_decimal`]; both are exact or an error.
//! Which side of an account an amount is on is for [`crate::ledger`]; an amount has no sign.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A currency of ISO 4217 in which an amount can be written down: one whose exponent is 0, 2, 3 or 4.
///
/// In text, and in serde, it is its upper-case three-letter code. The order is that of the codes' list and only good for keys of maps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub struct Currency {
    iso: iso_currency::Currency,
    exponent: u32,
}

/// Why a text is not a currency that we can pay out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    #[error("a currency is three upper-case letters")]
    NotACode,
    #[error("not a currency of ISO 4217")]
    Unknown,
    /// Precious metals, bond units, the code for tests, the code for no currency: nothing that an amount can be paid in.
    #[error("the currency has no minor unit")]
    NoMinorUnit,
}

impl Currency {
    /// The euro.
    pub const EUR: Self = Self { iso: iso_currency::Currency::EUR, exponent: 2 };
    /// The pound sterling.
    pub const GBP: Self = Self { iso: iso_currency::Currency::GBP, exponent: 2 };

    /// The currency of an upper-case ISO 4217 code; no white space, no lower case, no numeric codes.
    ///
    /// # Errors
    ///
    /// [`CurrencyError`] says whether the text has the wrong shape, names nothing, or names something without a minor unit.
    pub fn parse(code: &str) -> Result<Self, CurrencyError> {
        if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(CurrencyError::NotACode);
        }
        let iso = iso_currency::Currency::from_code(code).ok_or(CurrencyError::Unknown)?;
        match iso.exponent() {
            Some(exponent @ (0 | 2 | 3 | 4)) => Ok(Self { iso, exponent: u32::from(exponent) }),
            Some(_) | None => Err(CurrencyError::NoMinorUnit),
        }
    }

    /// The upper-case three-letter code.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.iso.code()
    }

    /// So many minor units in major units, with exactly the currency's number of decimal digits: `100.00`, `-0.05`, `0` (yen).
    #[must_use]
    pub fn decimal(self, minor: i64) -> String {
        // By text, not by division: the digits are moved, so there is nothing to round.
        let exponent = self.exponent as usize;
        let width = exponent.saturating_add(1);
        let sign = if minor < 0 { "-" } else { "" };
        let mut text = format!("{:0width$}", minor.unsigned_abs());
        if exponent > 0 {
            text.insert(text.len().saturating_sub(exponent), '.');
        }
        format!("{sign}{text}")
    }

    /// How many decimal digits the minor unit is below the major one: 0, 2, 3 or 4.
    #[must_use]
    pub const fn exponent(self) -> u32 {
        self.exponent
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<String> for Currency {
    type Error = CurrencyError;

    fn try_from(code: String) -> Result<Self, CurrencyError> {
        Self::parse(&code)
    }
}

impl From<Currency> for &'static str {
    fn from(currency: Currency) -> Self {
        currency.code()
    }
}

/// A positive amount: `1..=MAX_MINOR` minor units of a currency.
///
/// In serde it is `{"minor": 10000, "currency": "GBP"}`, checked on the way in. In text it is `GBP 100.00`.
/// There is no order, because amounts of different currencies have none; compare [`Money::minor`] where the currencies are known to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why a number or a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("an amount is at least one minor unit")]
    NotPositive,
    #[error("an amount is at most {} minor units", Money::MAX_MINOR)]
    TooLarge,
    /// Not digits, or digits around one point: a sign, an exponent, a comma, white space, a leading zero before another digit, nothing before or after the point.
    #[error("must be a plain decimal number")]
    NotADecimal,
    #[error("must have no more decimal digits than the currency")]
    TooManyDecimals,
}

impl Money {
    /// The largest amount, in minor units: fifteen nines.
    ///
    /// Below 2^53 an integer survives every reader that keeps numbers as doubles: the scripts of the store, JavaScript, `jq`. Fifteen digits are the
    /// round number below that which leaves room to add up several amounts of this size before a sum stops being exact there. Far above any payout, in any currency.
    pub const MAX_MINOR: i64 = 999_999_999_999_999;

    /// # Errors
    ///
    /// [`MoneyError::NotPositive`] below 1, [`MoneyError::TooLarge`] above [`Money::MAX_MINOR`].
    pub const fn new(minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        if minor < 1 {
            return Err(MoneyError::NotPositive);
        }
        if minor > Self::MAX_MINOR {
            return Err(MoneyError::TooLarge);
        }
        Ok(Self { minor, currency })
    }

    /// The amount in minor units.
    #[must_use]
    pub const fn minor(self) -> i64 {
        self.minor
    }

    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum, unless the currencies differ or it is more than [`Money::MAX_MINOR`].
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.same_currency(other)?;
        Self::new(self.minor.checked_add(other.minor)?, self.currency).ok()
    }

    /// The difference, unless the currencies differ or nothing (or less) would remain: zero is not an amount.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.same_currency(other)?;
        Self::new(self.minor.checked_sub(other.minor)?, self.currency).ok()
    }

    fn same_currency(self, other: Self) -> Option<()> {
        (self.currency == other.currency).then_some(())
    }

    /// The amount in major units with exactly the currency's number of decimal digits: `100.00`, `0.05`, `1200` (yen), `0.001` (dinar).
    #[must_use]
    pub fn to_decimal(self) -> String {
        self.currency.decimal(self.minor)
    }

    /// Reads an amount in major units: digits, then optionally a point and at most as many digits as the currency has.
    ///
    /// Fewer decimals than the currency has are exact (`100`, `100.5`). More are refused even if they are zeros: who writes them has another unit in mind.
    ///
    /// # Errors
    ///
    /// [`MoneyError`]: not such a text, too many decimals, nothing, or too much.
    pub fn from_decimal(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        let (whole, decimals) = match text.split_once('.') {
            Some((whole, decimals)) if !decimals.is_empty() => (whole, decimals),
            Some(_) => return Err(MoneyError::NotADecimal),
            None => (text, ""),
        };
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(decimals) || (whole.len() > 1 && whole.starts_with('0')) {
            return Err(MoneyError::NotADecimal);
        }
        let exponent = currency.exponent as usize;
        let Some(missing) = exponent.checked_sub(decimals.len()) else {
            return Err(MoneyError::TooManyDecimals);
        };
        let mut minor: i64 = 0;
        for digit in whole.bytes().chain(decimals.bytes()).chain(std::iter::repeat_n(b'0', missing)) {
            let digit = i64::from(digit.saturating_sub(b'0'));
            minor = minor.checked_mul(10).and_then(|minor| minor.checked_add(digit)).ok_or(MoneyError::TooLarge)?;
        }
        Self::new(minor, currency)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.currency, self.to_decimal())
    }
}

/// What [`Money`] looks like in JSON, before it is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    minor: i64,
    currency: Currency,
}

impl TryFrom<Form> for Money {
    type Error = MoneyError;

    fn try_from(form: Form) -> Result<Self, MoneyError> {
        Self::new(form.minor, form.currency)
    }
}

impl From<Money> for Form {
    fn from(money: Money) -> Self {
        Self { minor: money.minor, currency: money.currency }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect("a currency with a minor unit")
    }

    /// Every code of ISO 4217, found by trying all that three letters can spell.
    fn every_code() -> Vec<String> {
        let mut codes = Vec::new();
        for a in 'A'..='Z' {
            for b in 'A'..='Z' {
                for c in 'A'..='Z' {
                    let code = String::from_iter([a, b, c]);
                    if iso_currency::Currency::from_code(&code).is_some() {
                        codes.push(code);
                    }
                }
            }
        }
        codes
    }

    /// Exponents other than 2 move money by powers of ten when they are wrong, so they are written down here a second time.
    #[test]
    fn exponents_are_those_of_iso_4217() {
        let table = "
            0 BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF
            3 BHD IQD JOD KWD LYD OMR TND
            4 CLF UYW
            - XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX
        ";
        let mut listed = std::collections::HashMap::new();
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (exponent, codes) = line.split_once(' ').expect("an exponent and codes");
            listed.extend(codes.split(' ').map(|code| (code, exponent.parse::<u32>().ok())));
        }
        let codes = every_code();
        assert!(codes.len() > 150, "{}", codes.len());
        for code in &codes {
            let expected = listed.remove(code.as_str()).unwrap_or(Some(2));
            let parsed = Currency::parse(code);
            assert_eq!(parsed.map(Currency::exponent), expected.ok_or(CurrencyError::NoMinorUnit), "{code}");
            assert!(parsed.is_err() || parsed.is_ok_and(|currency| currency.code() == code), "{code}");
        }
        assert!(listed.is_empty(), "not known any more: {listed:?}");
        assert_eq!((Currency::GBP, Currency::EUR), (currency("GBP"), currency("EUR")));
    }

    #[test]
    fn a_currency_is_three_upper_case_letters() {
        for text in ["", "GB", "GBPP", "gbp", "Gbp", " GBP", "GBP ", "826", "ＧＢＰ", "G\u{0}P"] {
            assert_eq!(Currency::parse(text), Err(CurrencyError::NotACode), "{text:?}");
        }
        assert_eq!(Currency::parse("QQQ"), Err(CurrencyError::Unknown));
    }

    #[test]
    fn an_amount_is_positive_and_bounded() {
        for (minor, expected) in [
            (i64::MIN, Some(MoneyError::NotPositive)),
            (-1, Some(MoneyError::NotPositive)),
            (0, Some(MoneyError::NotPositive)),
            (1, None),
            (Money::MAX_MINOR, None),
            (Money::MAX_MINOR + 1, Some(MoneyError::TooLarge)),
            (i64::MAX, Some(MoneyError::TooLarge)),
        ] {
            assert_eq!(Money::new(minor, Currency::GBP).err(), expected, "{minor}");
        }
    }

    #[test]
    fn sums_and_differences_stay_amounts_of_one_currency() {
        let gbp = |minor| Money::new(minor, Currency::GBP).expect("an amount");
        let eur = Money::new(1, Currency::EUR).expect("an amount");
        assert_eq!(gbp(1).checked_add(gbp(2)), Some(gbp(3)));
        assert_eq!(gbp(3).checked_sub(gbp(2)), Some(gbp(1)));
        assert_eq!(gbp(2).checked_sub(gbp(2)), None);
        assert_eq!(gbp(1).checked_sub(gbp(2)), None);
        assert_eq!(gbp(Money::MAX_MINOR).checked_add(gbp(1)), None);
        assert_eq!(gbp(1).checked_add(eur), None);
        assert_eq!(gbp(2).checked_sub(eur), None);
    }

    /// Decimal texts in, minor units or the reason out.
    #[test]
    fn decimals_are_exact_or_refused() {
        let table = "
            GBP  100.00               10000
            GBP  100                  10000
            GBP  100.5                10050
            GBP  0.01                 1
            GBP  0.00                 NotPositive
            GBP  0                    NotPositive
            GBP  0.001                TooManyDecimals
            GBP  1.000                TooManyDecimals
            GBP  -1.00                NotADecimal
            GBP  +1.00                NotADecimal
            GBP  1e2                  NotADecimal
            GBP  1,00                 NotADecimal
            GBP  1.0.0                NotADecimal
            GBP  .50                  NotADecimal
            GBP  1.                   NotADecimal
            GBP  .                    NotADecimal
            GBP  01.00                NotADecimal
            GBP  00                   NotADecimal
            GBP  0x10                 NotADecimal
            GBP  １.00                NotADecimal
            GBP  9999999999999.99     999999999999999
            GBP  10000000000000.00    TooLarge
            GBP  99999999999999999999 TooLarge
            JPY  1200                 1200
            JPY  1200.0               TooManyDecimals
            JPY  1200.                NotADecimal
            KWD  0.001                1
            KWD  1.5                  1500
            CLF  0.0001               1
            CLF  1                    10000
        ";
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let [code, text, expected] = line.split_whitespace().collect::<Vec<_>>()[..] else { panic!("three columns: {line}") };
            let got = match Money::from_decimal(text, currency(code)) {
                Ok(money) => money.minor().to_string(),
                Err(error) => format!("{error:?}"),
            };
            assert_eq!(got, expected, "{line}");
        }
        for text in ["", " ", " 1.00", "1.00 ", "1 000.00", "1_000.00", "\u{661}"] {
            assert_eq!(Money::from_decimal(text, Currency::GBP), Err(MoneyError::NotADecimal), "{text:?}");
        }
    }

    #[test]
    fn text_and_json_are_fixed() {
        let money = Money::new(10_000, Currency::GBP).expect("an amount");
        assert_eq!(money.to_string(), "GBP 100.00");
        assert_eq!(Money::new(7, currency("JPY")).expect("an amount").to_string(), "JPY 7");
        assert_eq!(Money::new(7, currency("KWD")).expect("an amount").to_string(), "KWD 0.007");
        let json = r#"{"minor":10000,"currency":"GBP"}"#;
        assert_eq!(serde_json::to_string(&money).expect("serialises"), json);
        assert_eq!(serde_json::from_str::<Money>(json).expect("reads"), money);
        for bad in [
            r#"{"minor":0,"currency":"GBP"}"#,
            r#"{"minor":-1,"currency":"GBP"}"#,
            r#"{"minor":1000000000000000,"currency":"GBP"}"#,
            r#"{"minor":1.0,"currency":"GBP"}"#,
            r#"{"minor":"1","currency":"GBP"}"#,
            r#"{"minor":1,"currency":"gbp"}"#,
            r#"{"minor":1,"currency":"XAU"}"#,
            r#"{"minor":1}"#,
            r#"{"minor":1,"currency":"GBP","scale":2}"#,
            r#"{"minor":1,"minor":2,"currency":"GBP"}"#,
        ] {
            assert!(serde_json::from_str::<Money>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        /// I13: an amount survives being written as a decimal or as JSON, in every currency that has a minor unit.
        #[test]
        fn every_currency_round_trips(minor in prop_oneof![1..=Money::MAX_MINOR, 1..=20_000_i64]) {
            static CURRENCIES: LazyLock<Vec<Currency>> = LazyLock::new(|| every_code().iter().filter_map(|code| Currency::parse(code).ok()).collect());
            for &currency in &*CURRENCIES {
                let money = Money::new(minor, currency).expect("in range");
                let text = money.to_decimal();
                let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
                prop_assert_eq!(decimals, currency.exponent() as usize);
                prop_assert_eq!(Money::from_decimal(&text, currency), Ok(money));
                let json = serde_json::to_string(&money).expect("serialises");
                prop_assert_eq!(serde_json::from_str::<Money>(&json).expect("reads"), money);
            }
        }

        #[test]
        fn any_text_is_an_amount_or_an_error(text in "\\PC{0,24}") {
            if let Ok(money) = Money::from_decimal(&text, Currency::GBP) {
                prop_assert!((1..=Money::MAX_MINOR).contains(&money.minor()));
            }
        }
    }
}
