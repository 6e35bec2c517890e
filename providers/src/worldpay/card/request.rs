//! Orders become requests: what is checked, what is sent, and the envelope in which it is kept until then.

use domain::destination::{CardExpiry, Destination};
use domain::id::ProviderKey;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::{self, ExpiryDate, Instrument, MAX_NARRATIVE};
use super::{ApiVersion, CardBrand, Endpoint, Settings, key_text};
use crate::worldpay::SetupError;
use crate::{FieldProblem, Order};

/// A request as it is kept: everything that is needed to send it, and to ask about it, whatever the settings say by then. The body goes out byte for byte.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prepared {
    pub(super) version: ApiVersion,
    pub(super) endpoint: Endpoint,
    pub(super) key: ProviderKey,
    pub(super) entity: String,
    pub(super) body: Box<RawValue>,
}

impl Prepared {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// Checks the settings that go into requests.
pub(super) fn check(settings: &Settings) -> Result<(), SetupError> {
    let entity = &settings.entity;
    let letters = entity.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ');
    if !(1..=32).contains(&entity.len()) || !letters || entity.starts_with(' ') {
        return Err(SetupError::Unusable("entity", "must be 1 to 32 letters, digits and spaces"));
    }
    if settings.narrative.as_ref().is_some_and(|line| line_problem(settings, line).is_some()) {
        return Err(SetupError::Unusable("narrative", "must be 1 to 24 characters that a narrative may hold"));
    }
    if settings.endpoint == Endpoint::BasicDisbursement && (settings.preferred_card_brand.is_some() || settings.fallback_to_basic.is_some()) {
        return Err(SetupError::Unusable("preferred_card_brand and fallback_to_basic", "are for fast access"));
    }
    Ok(())
}

pub(super) fn prepare(settings: &Settings, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
    let problem = |field, why| FieldProblem { field, why };
    let reference = order.beneficiary.reference.as_str();
    if let Some(why) = line_problem(settings, reference) {
        return Err(problem("beneficiary_reference", why));
    }
    let narrative = match &settings.narrative {
        Some(line) => wire::Narrative { line1: line.clone(), line2: Some(reference.to_owned()) },
        None => wire::Narrative { line1: reference.to_owned(), line2: None },
    };
    let routing = wire::Routing {
        preferred_card_brand: settings.preferred_card_brand.map(|brand| match brand {
            CardBrand::Maestro => "maestro".to_owned(),
            CardBrand::Mastercard => "mastercard".to_owned(),
        }),
        fallback_to_basic: settings.fallback_to_basic.map(|fallback| if fallback { "enabled" } else { "disabled" }.to_owned()),
    };
    let routed = routing.preferred_card_brand.is_some() || routing.fallback_to_basic.is_some();
    let create = wire::CreatePayout {
        transaction_reference: key_text(order.key),
        merchant: wire::Merchant { entity: settings.entity.clone() },
        instruction: wire::Instruction {
            narrative,
            value: wire::Value { currency: order.money.currency().code().to_owned(), amount: order.money.minor() },
            payout_instrument: instrument(order)?,
            routing: routed.then_some(routing),
        },
    };
    let Settings { version, endpoint, entity, .. } = settings;
    let written = serde_json::value::to_raw_value(&create)
        .and_then(|body| serde_json::to_vec(&Prepared { version: *version, endpoint: *endpoint, key: order.key, entity: entity.clone(), body }));
    written.map_err(|_| problem("transaction_id", "could not be written"))
}

/// What is wrong with a line of a narrative. The provider is documented elsewhere to replace what it cannot show; here nothing is changed silently.
fn line_problem(settings: &Settings, line: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == ' ' || settings.narrative_symbols.contains(c);
    if !(1..=MAX_NARRATIVE).contains(&line.chars().count()) {
        Some("must be 1 to 24 characters: it is a line of the narrative")
    } else if !line.chars().all(allowed) {
        Some("holds a character that a narrative cannot")
    } else {
        None
    }
}

fn instrument(order: &Order<'_>) -> Result<Instrument, FieldProblem> {
    let date = |expiry: &CardExpiry| ExpiryDate { month: expiry.month(), year: expiry.year() };
    Ok(match &order.beneficiary.destination {
        Destination::Card { number, expiry } => Instrument::Plain {
            card_number: number.as_str().to_owned(),
            card_expiry_date: date(expiry),
            card_holder_name: holder(order.beneficiary.name.as_str()),
            billing_address: None,
        },
        Destination::CardToken(token) => Instrument::Tokenized { href: token.as_str().to_owned() },
        Destination::NetworkToken { number, expiry } => {
            Instrument::NetworkToken { token_number: number.as_str().to_owned(), expiry_date: date(expiry) }
        }
        Destination::ApplePay { number, expiry } => Instrument::ApplePay {
            dpan: number.as_str().to_owned(),
            card_expiry_date: date(expiry),
            card_holder_name: holder(order.beneficiary.name.as_str()),
            billing_address: None,
        },
        Destination::Iban(_) | Destination::UkAccount { .. } | Destination::UsAccount { .. } | Destination::OwnAccount => {
            return Err(FieldProblem { field: "destination", why: "must be a card, or what stands for one" });
        }
    })
}

/// The name on the card, if the provider can take it as it is: letters without accents, digits, `-`, `_` and spaces (H). It is optional since version 2 (H).
fn holder(name: &str) -> Option<String> {
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b' '));
    (fits && name.bytes().any(|byte| byte.is_ascii_alphabetic())).then(|| name.to_owned())
}
