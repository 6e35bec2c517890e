//! The body of `POST /v1/payouts`: seed 003's seven fields and some optional ones, each checked by its own rule.
//!
//! Two kinds of rules are kept apart. What is wrong with the *form* of a request is wrong for ever. What is wrong with it *now* (a day that has
//! passed, a provider that is no longer configured) must not stop a repeat of a request that was accepted in its time: that one is a replay.

use std::collections::{BTreeMap, BTreeSet};

use domain::destination::{
    AccountNumber, Beneficiary, BeneficiaryName, CardExpiry, CardNumber, CardToken, Destination, DestinationError, Iban, RoutingNumber, SortCode,
    StatementReference, TextError, UsAccountNumber, UsAccountType,
};
use domain::fact::Provider;
use domain::fingerprint::fingerprint;
use domain::id::{Mode, PartyId, PayoutId, ProviderKey};
use domain::metadata::Metadata;
use domain::money::{Currency, CurrencyError, Money, MoneyError};
use domain::party::NotACountry;
use jiff::{SignedDuration, Timestamp};
use providers::{Providers, Unprepared};
use serde::Serialize;
use uuid::Uuid;
use workers::routing::{self, Rule};

use super::json::{self, Fields, Value};
use super::problem::{Errors, Problem};

/// The longest name and reference of seed 003, in characters.
const TEXT_MAX: usize = 18;
/// Why a payout is made, by seed 003.
const CONTEXT_CODES: [&str; 3] = ["withdrawal", "service_payment", "internal"];
const METADATA_MAX: usize = 20;
const METADATA_KEY_MAX: usize = 40;
const METADATA_VALUE_MAX: usize = 500;
/// How far ahead a payout can be scheduled.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24 * 366);

/// What is asked for, in a form that is right in itself. Serialised, it is the canonical request that the fingerprint is made of: the order of the
/// fields is fixed for ever, and what was left to a default stays absent, so that a change of configuration does not turn a repeat into a conflict.
#[derive(Serialize)]
pub struct Asked {
    /// A UUID, in lower case with hyphens.
    pub transaction_id: String,
    pub money: Money,
    pub beneficiary: Beneficiary,
    pub context_code: &'static str,
    pub metadata: Metadata,
    pub scheduled_for: Option<Timestamp>,
    pub provider: Option<Provider>,
    /// The `transaction_id` of the payout that it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// Part of the payout's id, so not of the fingerprint.
    #[serde(skip)]
    pub party: Option<PartyId>,
    /// The whole balance is asked for, less this, its reserve, in minor units: `money` is what is there now, by which its route is chosen.
    #[serde(skip)]
    pub whole: Option<i64>,
    /// Who has decided beforehand where it goes, where that comes from a payout instrument.
    #[serde(skip)]
    pub decided_by: BTreeSet<Option<String>>,
}

/// Reads a body.
///
/// # Errors
/// Everything that is wrong with it at once, where it can be read at all.
pub fn read(body: &[u8]) -> Result<Asked, Problem> {
    let mut errors = Errors::default();
    let mut fields = json::read(body, &mut errors)?;
    let errs = &mut errors;

    let transaction_id = fields.text("transaction_id", errs).and_then(|text| checked(errs, "/transaction_id", canonical_uuid(&text)));
    let name = fields.text("beneficiary_name", errs);
    let name = name.and_then(|text| checked(errs, "/beneficiary_name", BeneficiaryName::parse(&text, TEXT_MAX)));
    let reference = fields.text("beneficiary_reference", errs);
    let reference = reference.and_then(|text| checked(errs, "/beneficiary_reference", StatementReference::parse(&text, TEXT_MAX)));
    let currency = fields.text("currency", errs).and_then(|text| checked(errs, "/currency", Currency::parse(&text)));
    let minor = fields.integer("amount_in_minor", errs);
    // The amount's own rules hold in every currency, so a wrong currency does not hide a wrong amount.
    let money = minor.and_then(|minor| checked(errs, "/amount_in_minor", Money::new(minor, currency.unwrap_or(Currency::GBP))));
    let context_code = fields.text("context_code", errs).and_then(|text| checked(errs, "/context_code", context_code(&text)));
    let destination = destination(&mut fields, currency, errs);
    let metadata = metadata(&mut fields, errs);
    let scheduled_for = fields.optional_text("scheduled_for", errs).and_then(|text| checked(errs, "/scheduled_for", instant(&text)));
    let provider = fields.optional_text("provider", errs).and_then(|text| checked(errs, "/provider", provider(&text)));
    let replaces = fields.optional_text("replaces", errs).and_then(|text| checked(errs, "/replaces", canonical_uuid(&text)));
    if replaces.is_some() && replaces == transaction_id {
        errs.field("/replaces", "itself", "must be the transaction_id of another payout");
    }
    let party = party_id(&mut fields, errs);
    fields.finish(errs);

    match (transaction_id, name, reference, currency, money, context_code, destination) {
        (Some(transaction_id), Some(name), Some(reference), Some(_), Some(money), Some(context_code), Some(destination)) if errors.is_empty() => {
            Ok(Asked {
                transaction_id,
                money,
                beneficiary: Beneficiary { name, reference, destination, description: None, instrument: None },
                context_code,
                metadata,
                scheduled_for,
                provider,
                replaces,
                party,
                whole: None,
                decided_by: BTreeSet::new(),
            })
        }
        _ => Err(errors.into_problem()),
    }
}

/// The optional `party_id` of a body.
pub fn party_id(fields: &mut Fields, errors: &mut Errors) -> Option<PartyId> {
    let text = fields.optional_text("party_id", errors)?;
    PartyId::parse(&text).map_err(|error| errors.field("/party_id", "invalid", format_args!("must be {}", error.expected))).ok()
}

impl Asked {
    /// What tells this request from another one under the same key: a keyed hash, because a plain one of an account and a name could be guessed.
    #[must_use]
    pub fn fingerprint(&self, pepper: &[u8]) -> String {
        let canonical = serde_json::to_vec(self).expect("a request has string keys only, so it is always JSON");
        fingerprint(pepper, "fingerprint 1", [canonical.as_slice()])
    }

    /// The providers that the payout may go to, in order, as [`routing::route`] says.
    #[must_use]
    pub fn route(&self, providers: &Providers, rules: &[Rule], party: &PartyId, mode: Mode, id: PayoutId) -> Vec<Provider> {
        routing::route(providers, rules, self.provider, (party, mode), &self.first_order(id))
    }

    fn first_order(&self, id: PayoutId) -> providers::Order<'_> {
        let key = ProviderKey::derive(id, 1);
        providers::Order { key, money: self.money, beneficiary: &self.beneficiary, context_code: self.context_code }
    }

    /// Whether it can be accepted now.
    ///
    /// # Errors
    /// The fields that stand in the way.
    pub fn check_now(&self, providers: &Providers, route: &[Provider], mode: Mode, id: PayoutId, now: Timestamp) -> Result<(), Problem> {
        let mut errors = Errors::default();
        if let Some(at) = self.scheduled_for {
            if at <= now {
                errors.field("/scheduled_for", "in_the_past", "must be in the future");
            } else if at.duration_since(now) > AHEAD_MAX {
                errors.field("/scheduled_for", "too_far_ahead", "must be at most a year ahead");
            }
        }
        match route.first() {
            None if self.provider.is_some() => errors.field("/provider", "not_configured", format_args!("is not configured for {mode} payouts")),
            None => errors.field("/provider", "not_configured", format_args!("no provider is configured for {mode} payouts")),
            Some(provider) => match providers.prepare(*provider, mode, &self.first_order(id)).map(drop) {
                Ok(()) => {}
                Err(Unprepared::NotConfigured) => errors.field("/provider", "not_configured", format_args!("is not configured for {mode} payouts")),
                Err(Unprepared::Field(problem)) => errors.field(format!("/{}", problem.field), "refused_by_provider", problem.why),
            },
        }
        errors.check()
    }
}

fn destination(fields: &mut Fields, currency: Option<Currency>, errors: &mut Errors) -> Option<Destination> {
    let iban = fields.optional_text("beneficiary_iban", errors);
    let account = fields.optional_object("beneficiary_account", errors);
    if let Some(object) = fields.optional_object("destination", errors) {
        if iban.is_some() || account.is_some() {
            drop(object.rest());
            errors.field("/destination", "not_both", "give one of `beneficiary_iban`, `beneficiary_account` and `destination`");
            return None;
        }
        return read_destination(object, currency, errors);
    }
    match (iban, account) {
        (Some(_), Some(account)) => {
            drop(account.rest());
            errors.field("/beneficiary_account", "not_both", "give either `beneficiary_iban` or `beneficiary_account`");
            None
        }
        (Some(text), None) => {
            let iban = checked(errors, "/beneficiary_iban", Iban::parse(&text))?;
            reachable("/beneficiary_iban", Destination::Iban(iban), currency, errors)
        }
        (None, Some(mut account)) => {
            let sort_code = account.text("sort_code", errors);
            let sort_code = sort_code.and_then(|text| checked(errors, "/beneficiary_account/sort_code", SortCode::parse(&text)));
            let number = account.text("account_number", errors);
            let account_number = number.and_then(|text| checked(errors, "/beneficiary_account/account_number", AccountNumber::parse(&text)));
            account.finish(errors);
            let destination = Destination::UkAccount { sort_code: sort_code?, account_number: account_number? };
            reachable("/beneficiary_account", destination, currency, errors)
        }
        (None, None) => {
            errors.field("/beneficiary_iban", "missing", "is required, unless `beneficiary_account` or `destination` is given");
            None
        }
    }
}

/// The destination, if payouts in that currency reach it.
fn reachable(at: &str, destination: Destination, currency: Option<Currency>, errors: &mut Errors) -> Option<Destination> {
    let why = match &destination {
        // The registry writes the accounts of Jersey, Guernsey and the Isle of Man with GB as well; no other country's are in the scheme.
        Destination::Iban(iban) if currency == Some(Currency::GBP) && iban.country() != "GB" => {
            "must be a GB account: pounds go by the Faster Payments Scheme"
        }
        Destination::UkAccount { .. } if currency.is_some_and(|currency| currency != Currency::GBP) => "is for payouts in GBP only",
        _ => return Some(destination),
    };
    errors.field(at, "not_reachable", why);
    None
}

/// Reads a destination in its JSON form, [`Destination`], for payouts in that currency.
pub(super) fn read_destination(mut object: Fields, currency: Option<Currency>, errors: &mut Errors) -> Option<Destination> {
    let (here, at_type) = (object.here().to_owned(), object.pointer("type"));
    let Some(kind) = object.text("type", errors) else {
        drop(object.rest());
        return None;
    };
    let mut field = |name: &'static str, errors: &mut Errors| object.text(name, errors).map(|text| (object.pointer(name), text));
    macro_rules! read {
        ($name:literal, $kind:ty) => {
            field($name, errors).and_then(|(at, text)| checked(errors, &at, <$kind>::parse(&text)))
        };
    }
    let destination = match kind.as_str() {
        "own_account" => Some(Destination::OwnAccount),
        "iban" => read!("iban", Iban).map(Destination::Iban),
        "sort_code_account_number" => {
            let sort_code = read!("sort_code", SortCode);
            let account_number = read!("account_number", AccountNumber);
            sort_code.zip(account_number).map(|(sort_code, account_number)| Destination::UkAccount { sort_code, account_number })
        }
        "routing_number_account_number" => {
            let routing_number = read!("routing_number", RoutingNumber);
            let account_number = read!("account_number", UsAccountNumber);
            let account_type = field("account_type", errors).and_then(|(at, text)| {
                let known = match text.as_str() {
                    "checking" => Some(UsAccountType::Checking),
                    "savings" => Some(UsAccountType::Savings),
                    _ => None,
                };
                if known.is_none() {
                    errors.field(at, "unknown", "must be checking or savings");
                }
                known
            });
            routing_number.zip(account_number).zip(account_type).map(|((routing_number, account_number), account_type)| Destination::UsAccount {
                routing_number,
                account_number,
                account_type,
            })
        }
        "card" | "network_token" | "apple_pay" => {
            let number = read!("number", CardNumber);
            let expiry = read!("expiry", CardExpiry);
            number.zip(expiry).map(|(number, expiry)| match kind.as_str() {
                "card" => Destination::Card { number, expiry },
                "network_token" => Destination::NetworkToken { number, expiry },
                _ => Destination::ApplePay { number, expiry },
            })
        }
        "card_token" => read!("token", CardToken).map(Destination::CardToken),
        _ => {
            drop(object.rest());
            errors.field(at_type, "unknown", format_args!("must be one of {}", Destination::KINDS.join(", ")));
            return None;
        }
    };
    object.finish(errors);
    reachable(&here, destination?, currency, errors)
}

fn metadata(fields: &mut Fields, errors: &mut Errors) -> Metadata {
    Metadata::from(&metadata_entries(fields, errors).unwrap_or_default())
}

/// The entries of `metadata`, if it is there.
pub(super) fn metadata_entries(fields: &mut Fields, errors: &mut Errors) -> Option<BTreeMap<String, String>> {
    let entries = fields.optional_object("metadata", errors)?.rest();
    if entries.len() > METADATA_MAX {
        errors.field("/metadata", "too_many", format_args!("may have {METADATA_MAX} entries"));
    }
    let mut kept = BTreeMap::new();
    for (name, value) in entries {
        let at = json::pointer("/metadata", &name);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if !(1..=METADATA_KEY_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
            errors.field(&at, "invalid_key", format_args!("names are 1 to {METADATA_KEY_MAX} letters, digits, `_`, `.` or `-`"));
        }
        match value {
            Value::Text(text) if text.chars().count() > METADATA_VALUE_MAX => {
                errors.field(at, "too_long", format_args!("must be at most {METADATA_VALUE_MAX} characters"));
            }
            Value::Text(text) if text.chars().any(char::is_control) => errors.field(at, "control_characters", "must not hold control characters"),
            Value::Text(text) => _ = kept.insert(name, text),
            other => errors.field(at, "wrong_type", format_args!("must be a string, not {}", other.kind())),
        }
    }
    Some(kept)
}

/// Keeps what parsed, and notes what did not.
pub(super) fn checked<T, E: Wrong>(errors: &mut Errors, at: &str, parsed: Result<T, E>) -> Option<T> {
    parsed.map_err(|error| errors.field(at, error.code(), error)).ok()
}

/// An error with a stable name. Its text repeats no value.
pub(super) trait Wrong: std::fmt::Display {
    fn code(&self) -> &'static str;
}

impl Wrong for TextError {
    fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong { .. } => "too_long",
            Self::Edges => "white_space",
            Self::Control => "control_characters",
        }
    }
}

impl Wrong for DestinationError {
    fn code(&self) -> &'static str {
        match self {
            Self::IbanCharacters => "iban_characters",
            Self::IbanForm => "iban_form",
            Self::IbanCheckDigits => "iban_check_digits",
            Self::IbanCountry => "iban_country",
            Self::IbanCountryForm => "iban_country_form",
            Self::SortCode => "sort_code",
            Self::AccountNumber => "account_number",
            Self::RoutingNumber => "routing_number",
            Self::RoutingCheckDigit => "routing_check_digit",
            Self::UsAccountNumber => "us_account_number",
            Self::CardNumber => "card_number",
            Self::CardCheckDigit => "card_check_digit",
            Self::CardExpiry => "card_expiry",
            Self::CardToken => "card_token",
        }
    }
}

impl Wrong for NotACountry {
    fn code(&self) -> &'static str {
        "unknown_country"
    }
}

impl Wrong for CurrencyError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotACode => "not_a_code",
            Self::Unknown => "unknown_currency",
            Self::NoMinorUnit => "no_minor_unit",
        }
    }
}

impl Wrong for MoneyError {
    fn code(&self) -> &'static str {
        match self {
            Self::NotPositive => "not_positive",
            Self::TooLarge => "too_large",
            Self::NotADecimal => "not_a_decimal",
            Self::TooManyDecimals => "too_many_decimals",
        }
    }
}

/// An error that is its own text.
pub(super) struct Said(&'static str, &'static str);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.1)
    }
}

impl Wrong for Said {
    fn code(&self) -> &'static str {
        self.0
    }
}

/// The lower-case form of a UUID with hyphens; no braces, no `urn:`.
pub(super) fn canonical_uuid(text: &str) -> Result<String, Said> {
    let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    uuid.map(|uuid| uuid.as_hyphenated().to_string()).ok_or(Said("not_a_uuid", "must be a UUID with hyphens"))
}

/// The key of a payout in a path, in its canonical form.
#[must_use]
pub fn transaction_id(text: &str) -> Option<String> {
    canonical_uuid(text).ok()
}

fn context_code(text: &str) -> Result<&'static str, Said> {
    CONTEXT_CODES.into_iter().find(|code| *code == text).ok_or(Said("unknown_code", "must be withdrawal, service_payment or internal"))
}

fn provider(text: &str) -> Result<Provider, Said> {
    Provider::named(text).ok_or(Said("unknown_provider", "is not a provider of this service"))
}

fn instant(text: &str) -> Result<Timestamp, Said> {
    timestamp(text).ok_or(Said("not_an_instant", "must be a date and time with offset by RFC 3339, such as 2026-01-31T09:00:00Z"))
}

/// An instant by RFC 3339, with offset: nothing that jiff reads beyond that.
#[must_use]
pub fn timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let (head, rest) = bytes.split_at_checked(19)?;
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = *head else { return None };
    let rest = match rest {
        [b'.', more @ ..] => {
            let end = more.iter().position(|byte| !byte.is_ascii_digit())?;
            if !(1..=9).contains(&end) {
                return None;
            }
            &more[end..]
        }
        rest => rest,
    };
    let offset = match *rest {
        [b'Z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => digits(&[a, b, c, d]),
        _ => false,
    };
    let plain = digits(&[y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2]);
    if plain && offset { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body() -> serde_json::Value {
        json!({
            "transaction_id": "CC328607-e02e-49e2-81c9-5bd044c8f7d7",
            "beneficiary_name": "John Smith",
            "beneficiary_iban": "GB33BUKB20201555555555",
            "beneficiary_reference": "Withdrawal 204",
            "currency": "GBP",
            "amount_in_minor": 10000,
            "context_code": "withdrawal",
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "a table of changes reads better without borrows")]
    fn with(changes: serde_json::Value) -> Result<Asked, Problem> {
        let mut body = body();
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        read(body.to_string().as_bytes())
    }

    /// The pointers and codes that a change to the body leads to.
    fn wrongs(changes: serde_json::Value) -> Vec<(String, String)> {
        let Err(problem) = with(changes) else { return Vec::new() };
        let document: serde_json::Value = serde_json::from_slice(&problem.document("")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        document["errors"].as_array().unwrap().iter().map(|error| (text(&error["pointer"]), text(&error["code"]))).collect()
    }

    #[test]
    fn the_seeds_request_is_read() {
        let asked = read(body().to_string().as_bytes()).unwrap();
        assert_eq!(asked.transaction_id, "cc328607-e02e-49e2-81c9-5bd044c8f7d7");
        assert_eq!(asked.money.minor(), 10_000);
        assert_eq!((asked.scheduled_for, asked.provider, asked.party), (None, None, None));
    }

    #[test]
    fn each_field_has_its_rule() {
        let at = |pointer: &str, code: &str| vec![(pointer.to_owned(), code.to_owned())];
        for (change, expected) in [
            (json!({"transaction_id": "cc328607e02e49e281c95bd044c8f7d7"}), at("/transaction_id", "not_a_uuid")),
            (json!({"transaction_id": "{cc328607-e02e-49e2-81c9-5bd044c8f7d7}"}), at("/transaction_id", "not_a_uuid")),
            (json!({"transaction_id": 5}), at("/transaction_id", "wrong_type")),
            (json!({"beneficiary_name": "x".repeat(19)}), at("/beneficiary_name", "too_long")),
            (json!({"beneficiary_name": ""}), at("/beneficiary_name", "empty")),
            (json!({"beneficiary_reference": "x".repeat(19)}), at("/beneficiary_reference", "too_long")),
            (json!({"beneficiary_reference": "a\nb"}), at("/beneficiary_reference", "control_characters")),
            (json!({"beneficiary_iban": "GB33BUKB20201555555556"}), at("/beneficiary_iban", "iban_check_digits")),
            (json!({"beneficiary_iban": "NL91ABNA0417164300"}), at("/beneficiary_iban", "not_reachable")),
            (json!({"beneficiary_iban": null}), at("/beneficiary_iban", "missing")),
            (json!({"currency": "gbp"}), at("/currency", "not_a_code")),
            (json!({"currency": "ZZZ"}), at("/currency", "unknown_currency")),
            (json!({"currency": "XAU"}), at("/currency", "no_minor_unit")),
            (json!({"amount_in_minor": 0}), at("/amount_in_minor", "not_positive")),
            (json!({"amount_in_minor": -1}), at("/amount_in_minor", "not_positive")),
            (json!({"amount_in_minor": 1.0}), at("/amount_in_minor", "not_an_integer")),
            (json!({"amount_in_minor": "1"}), at("/amount_in_minor", "wrong_type")),
            (json!({"amount_in_minor": 1_000_000_000_000_000_i64}), at("/amount_in_minor", "too_large")),
            (json!({"context_code": "gift"}), at("/context_code", "unknown_code")),
            (json!({"provider": "stripe"}), at("/provider", "unknown_provider")),
            (json!({"party_id": "a b"}), at("/party_id", "invalid")),
            (json!({"replaces": "x"}), at("/replaces", "not_a_uuid")),
            (json!({"replaces": "cc328607-e02e-49e2-81c9-5bd044c8f7d7"}), at("/replaces", "itself")),
            (json!({"scheduled_for": "2026-01-31"}), at("/scheduled_for", "not_an_instant")),
            (json!({"scheduled_for": "2026-01-31T09:00:00"}), at("/scheduled_for", "not_an_instant")),
            (json!({"scheduled_for": "2026-02-31T09:00:00Z"}), at("/scheduled_for", "not_an_instant")),
            (json!({"metadata": {"a b": "x"}}), at("/metadata/a b", "invalid_key")),
            (json!({"metadata": {"a": 1}}), at("/metadata/a", "wrong_type")),
            (json!({"metadata": {"a": "x".repeat(501)}}), at("/metadata/a", "too_long")),
            (json!({"metadata": {"a": "\u{0}"}}), at("/metadata/a", "control_characters")),
            (json!({"metadata": []}), at("/metadata", "wrong_type")),
            (json!({"metadata": (0..21).map(|i| (i.to_string(), json!(""))).collect::<serde_json::Map<_, _>>()}), at("/metadata", "too_many")),
            (json!({"beneficiary_account": {"sort_code": "123456", "account_number": "12345678"}}), at("/beneficiary_account", "not_both")),
            (json!({"note": "x"}), at("/note", "unknown_field")),
        ] {
            assert_eq!(wrongs(change.clone()), expected, "{change}");
        }
    }

    #[test]
    fn all_wrong_fields_are_told_at_once() {
        let body = br#"{"transaction_id":1,"amount_in_minor":1.5,"beneficiary_iban":"x","currency":"eur","note":1,"note":2}"#;
        let Err(problem) = read(body) else { panic!("accepted") };
        let document: serde_json::Value = serde_json::from_slice(&problem.document("")).unwrap();
        let pointers: Vec<_> = document["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        let expected = [
            "/note",
            "/transaction_id",
            "/beneficiary_name",
            "/beneficiary_reference",
            "/currency",
            "/amount_in_minor",
            "/context_code",
            "/beneficiary_iban",
            "/note",
        ];
        assert_eq!(pointers, expected);
    }

    #[test]
    fn accounts_and_other_countries() {
        let account = json!({"beneficiary_iban": null, "beneficiary_account": {"sort_code": "12-34-56", "account_number": "12345678"}});
        assert!(matches!(with(account.clone()).unwrap().beneficiary.destination, Destination::UkAccount { .. }));
        let mut in_euro = account;
        in_euro["currency"] = json!("EUR");
        assert_eq!(wrongs(in_euro), [("/beneficiary_account".to_owned(), "not_reachable".to_owned())]);
        assert!(with(json!({"currency": "EUR", "beneficiary_iban": "NL91ABNA0417164300"})).is_ok());
        let bad = wrongs(json!({"beneficiary_iban": null, "beneficiary_account": {"sort_code": "1", "iban": "x"}}));
        let expected = [
            ("/beneficiary_account/sort_code", "sort_code"),
            ("/beneficiary_account/account_number", "missing"),
            ("/beneficiary_account/iban", "unknown_field"),
        ];
        assert_eq!(bad, expected.map(|(at, code)| (at.to_owned(), code.to_owned())));
    }

    /// The fingerprint is of what is meant: spelling does not matter, every field does.
    #[test]
    fn fingerprints_are_of_the_meaning() {
        let print = |change: serde_json::Value| with(change).unwrap().fingerprint(b"pepper");
        let plain = print(json!({}));
        assert_eq!(plain.len(), 64);
        for same in [
            json!({"transaction_id": "cc328607-e02e-49e2-81c9-5bd044c8f7d7"}),
            json!({"metadata": {}}),
            json!({"provider": null}),
            json!({"replaces": null}),
            json!({"party_id": "shop"}),
        ] {
            assert_eq!(print(same.clone()), plain, "{same}");
        }
        for other in [
            json!({"amount_in_minor": 10001}),
            json!({"beneficiary_name": "John Smyth"}),
            json!({"beneficiary_reference": "Withdrawal 205"}),
            json!({"beneficiary_iban": "GB29NWBK60161331926819"}),
            json!({"context_code": "internal"}),
            json!({"metadata": {"a": "b"}}),
            json!({"provider": "truelayer"}),
            json!({"scheduled_for": "2026-01-31T09:00:00Z"}),
            json!({"replaces": "0c328607-e02e-49e2-81c9-5bd044c8f7d7"}),
        ] {
            assert_ne!(print(other.clone()), plain, "{other}");
        }
        let at = |text: &str| print(json!({"scheduled_for": text}));
        assert_eq!(at("2026-01-31T09:00:00Z"), at("2026-01-31T10:00:00.000+01:00"));
        assert_ne!(plain, with(json!({})).unwrap().fingerprint(b"salt"));
    }

    #[test]
    fn instants_are_strict() {
        for (text, good) in [
            ("2026-01-31T09:00:00Z", true),
            ("2026-01-31T09:00:00.1234567Z", true),
            ("2026-01-31T09:00:00+05:30", true),
            ("2026-01-31t09:00:00z", false),
            ("2026-01-31 09:00:00Z", false),
            ("2026-01-31T09:00Z", false),
            ("2026-01-31T09:00:00.Z", false),
            ("2026-01-31T09:00:00+0530", false),
            ("2026-01-31T09:00:00Z[UTC]", false),
            ("2026-01-31T25:00:00Z", false),
            ("", false),
        ] {
            assert_eq!(timestamp(text).is_some(), good, "{text}");
        }
    }
}
