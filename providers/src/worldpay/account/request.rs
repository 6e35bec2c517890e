//! Orders become requests: what is checked, what is sent, and the envelope in which it is kept until then.

use domain::destination::{Destination, UsAccountType};
use domain::id::ProviderKey;
use domain::money::Money;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::{self, BankDetails, Instruction, Item, LegacyBankDetails, LegacyParty, LegacyPayout, LegacyPerson, Merchant, PersonalDetails};
use super::{BeneficiaryKind, Generation, Settings, amount, key_text};
use crate::worldpay::SetupError;
use crate::worldpay::access::Version;
use crate::worldpay::decimal::Decimal;
use crate::{FieldProblem, Order};

/// Decimal digits of an amount (H).
const DECIMALS: usize = 2;

/// A request as it is kept: everything that is needed to send it, whatever the settings say by then. The body goes out byte for byte.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prepared {
    pub(super) generation: Generation,
    pub(super) version: Version,
    pub(super) batch: bool,
    pub(super) key: ProviderKey,
    pub(super) body: Box<RawValue>,
}

impl Prepared {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Whether what the provider has is what was asked for: the amount, and the account where it shows one.
    pub(super) fn is_same(&self, item: &Item) -> bool {
        let body = self.body.get();
        let (currency, target, iban, account) = match self.generation {
            Generation::Current => {
                let Ok(wire::CreatePayout { instruction: Instruction { value, beneficiary_bank_details: bank, .. }, .. }) =
                    serde_json::from_str(body)
                else {
                    return false;
                };
                (value.target_currency.unwrap_or(value.source_currency), value.target_amount, bank.iban, bank.account_number)
            }
            Generation::Legacy => {
                let Ok(LegacyPayout { target_currency, target_amount, bank_details, .. }) = serde_json::from_str(body) else { return false };
                (target_currency, Some(target_amount), bank_details.iban, bank_details.beneficiary_account_number)
            }
        };
        let ours = Item { target_currency: Some(currency), target_amount: target, ..Item::default() };
        let agrees = |ours: &Option<String>, theirs: &Option<String>| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        amount(&ours).is_some() && amount(&ours) == amount(item) && agrees(&iban, &item.iban) && agrees(&account, &item.account_number)
    }
}

/// Checks the settings that go into requests.
pub(super) fn check(settings: &Settings) -> Result<(), SetupError> {
    let entity = settings.entity.chars().count();
    if !(1..=32).contains(&entity) {
        return Err(SetupError::Unusable("entity", "must be 1 to 32 characters"));
    }
    let legacy = settings.generation == Generation::Legacy;
    let treasury = settings.legacy.instructing_treasury_id.as_ref().is_none_or(|id| id.chars().count() == 6);
    if legacy && (entity != 6 || !treasury) {
        return Err(SetupError::Unusable("entity and legacy.instructing_treasury_id", "must be 6 characters"));
    }
    let Settings { legacy, api_version, .. } = settings;
    let value = |text: &String| !text.is_empty() && http::HeaderValue::from_str(text).is_ok();
    if ![api_version, &legacy.single, &legacy.batch, &legacy.search].into_iter().all(value) {
        return Err(SetupError::Unusable("api_version and the media types", "must be plain text"));
    }
    if settings.source_account.as_ref().is_some_and(|account| account.chars().count() != 16) {
        return Err(SetupError::Unusable("source_account", "must be 16 characters"));
    }
    Ok(())
}

/// One payout.
pub(super) fn single(settings: &Settings, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
    let reference = key_text(order.key);
    let (body, version) = match settings.generation {
        Generation::Current => {
            let merchant = Merchant { entity: settings.entity.clone() };
            let create = wire::CreatePayout { merchant, transaction_reference: reference, instruction: instruction(settings, order)? };
            (raw(&create), dated(settings))
        }
        Generation::Legacy => {
            let mut payout = legacy(settings, order)?;
            payout.requester = Some(wire::Requester {
                instructing_treasury_id: treasury(settings),
                entity: settings.entity.clone(),
                api_request_reference: reference,
            });
            (raw(&payout), Version::MediaType(settings.legacy.single.clone()))
        }
    };
    written(settings, version, false, order.key, body)
}

/// A batch, under a key of its own.
pub(super) fn batch(settings: &Settings, key: ProviderKey, orders: &[Order<'_>]) -> Result<Vec<u8>, FieldProblem> {
    if orders.is_empty() || orders.len() > wire::MAX_BATCH {
        return Err(problem("payouts", "must be 1 to 500"));
    }
    let mut keys: Vec<_> = orders.iter().map(|order| order.key).collect();
    keys.sort_unstable();
    if keys.windows(2).any(|pair| matches!(pair, [one, other] if one == other)) {
        return Err(problem("payouts", "must have different keys"));
    }
    let (body, version) = match settings.generation {
        Generation::Current => {
            let item = |order: &Order<'_>| {
                Ok(wire::BatchItem { instruction: instruction(settings, order)?, transaction_reference: key_text(order.key), merchant: None })
            };
            let payouts = orders.iter().map(item).collect::<Result<_, FieldProblem>>()?;
            (raw(&wire::CreateBatch { merchant: Merchant { entity: settings.entity.clone() }, payouts }), dated(settings))
        }
        Generation::Legacy => {
            let requester = wire::LegacyBatchRequester {
                instructing_treasury_id: treasury(settings),
                entity: settings.entity.clone(),
                api_request_reference: key_text(key),
            };
            let payouts = orders.iter().map(|order| legacy(settings, order)).collect::<Result<_, _>>()?;
            (raw(&wire::LegacyBatch { requester, payouts }), Version::MediaType(settings.legacy.batch.clone()))
        }
    };
    written(settings, version, true, key, body)
}

fn problem(field: &'static str, why: &'static str) -> FieldProblem {
    FieldProblem { field, why }
}

fn raw<T: Serialize>(body: &T) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(body).ok()
}

fn written(settings: &Settings, version: Version, batch: bool, key: ProviderKey, body: Option<Box<RawValue>>) -> Result<Vec<u8>, FieldProblem> {
    let written = body.map(|body| serde_json::to_vec(&Prepared { generation: settings.generation, version, batch, key, body }));
    written.and_then(Result::ok).ok_or(problem("transaction_id", "could not be written"))
}

fn dated(settings: &Settings) -> Version {
    Version::Dated(settings.api_version.clone())
}

fn treasury(settings: &Settings) -> String {
    settings.legacy.instructing_treasury_id.clone().unwrap_or_else(|| settings.entity.clone())
}

/// The narrative, unchanged: a beneficiary may match it to an invoice.
fn narrative(order: &Order<'_>) -> Result<String, FieldProblem> {
    let text = order.beneficiary.reference.as_str();
    match text.chars().count() {
        super::MIN_NARRATIVE..=super::MAX_NARRATIVE => Ok(text.to_owned()),
        _ => Err(problem("beneficiary_reference", "must be 6 to 50 characters: it is the narrative of the payout")),
    }
}

fn decimal(settings: &Settings, money: Money) -> Result<Decimal, FieldProblem> {
    let decimal = Decimal::of(money, DECIMALS).ok_or(problem("amount_in_minor", "has more than two decimal digits"))?;
    if decimal.digits() > settings.amount_digits {
        return Err(problem("amount_in_minor", "has more digits than the provider takes"));
    }
    Ok(decimal)
}

/// First and last name, where the provider wants them apart.
fn person<'a>(order: &Order<'a>) -> Result<(&'a str, &'a str), FieldProblem> {
    let names = order.beneficiary.name.as_str().rsplit_once(' ').map(|(first, last)| (first.trim(), last));
    let fits = |name: &str| (1..=50).contains(&name.chars().count());
    names
        .filter(|(first, last)| fits(first) && fits(last))
        .ok_or(problem("beneficiary_name", "must be a first and a last name of at most 50 characters each"))
}

struct Account<'a> {
    country: &'a str,
    iban: Option<&'a str>,
    number: Option<&'a str>,
    bank: Option<&'a str>,
    kind: Option<UsAccountType>,
}

fn account<'a>(order: &Order<'a>) -> Result<Account<'a>, FieldProblem> {
    match &order.beneficiary.destination {
        Destination::Iban(iban) => Ok(Account { country: iban.country(), iban: Some(iban.as_str()), number: None, bank: None, kind: None }),
        Destination::UkAccount { sort_code, account_number } => {
            Ok(Account { country: "GB", iban: None, number: Some(account_number.as_str()), bank: Some(sort_code.as_str()), kind: None })
        }
        Destination::UsAccount { routing_number, account_number, account_type } => Ok(Account {
            country: "US",
            iban: None,
            number: Some(account_number.as_str()),
            bank: Some(routing_number.as_str()),
            kind: Some(*account_type),
        }),
        Destination::Card { .. }
        | Destination::CardToken(_)
        | Destination::NetworkToken { .. }
        | Destination::ApplePay { .. }
        | Destination::OwnAccount => Err(problem("destination", "must be a bank account")),
    }
}

fn instruction(settings: &Settings, order: &Order<'_>) -> Result<Instruction, FieldProblem> {
    let Account { country, iban, number, bank, kind } = account(order)?;
    let currency = order.money.currency().code().to_owned();
    let personal_details = match settings.beneficiary_kind {
        BeneficiaryKind::Company => PersonalDetails {
            kind: "company".to_owned(),
            company_name: Some(order.beneficiary.name.as_str().to_owned()),
            ..PersonalDetails::default()
        },
        BeneficiaryKind::Person => {
            let (first, last) = person(order)?;
            PersonalDetails {
                kind: "person".to_owned(),
                first_name: Some(first.to_owned()),
                last_name: Some(last.to_owned()),
                ..PersonalDetails::default()
            }
        }
    };
    Ok(Instruction {
        country_code: country.to_owned(),
        value: wire::Value {
            source_currency: currency.clone(),
            source_amount: None,
            target_currency: Some(currency),
            target_amount: Some(decimal(settings, order.money)?),
        },
        narrative: Some(wire::Narrative { line1: narrative(order)? }),
        purpose_of_payment: purpose(settings, order).map(|code| wire::Purpose { code, description: None }),
        transaction_type: settings.transaction_type.clone(),
        channel: settings.channel.clone(),
        source: settings.source_account.clone().map(|account_number| wire::SourceAccount { account_number }),
        beneficiary_bank_details: BankDetails {
            iban: iban.map(str::to_owned),
            account_number: number.map(str::to_owned),
            bank_code: bank.map(str::to_owned),
            account_type: kind.map(|kind| if kind == UsAccountType::Checking { "checking" } else { "savings" }.to_owned()),
            ..BankDetails::default()
        },
        parties: vec![wire::Party { party_type: "beneficiary".to_owned(), personal_details, address: None }],
    })
}

fn legacy(settings: &Settings, order: &Order<'_>) -> Result<LegacyPayout, FieldProblem> {
    let Account { country, iban, number, bank, kind } = account(order)?;
    let currency = order.money.currency().code().to_owned();
    let codes = &settings.legacy;
    let personal_details = match settings.beneficiary_kind {
        BeneficiaryKind::Company => LegacyPerson {
            type_code: codes.company_code.clone(),
            company_name: Some(order.beneficiary.name.as_str().to_owned()),
            ..LegacyPerson::default()
        },
        BeneficiaryKind::Person => {
            let (first, last) = person(order)?;
            LegacyPerson {
                type_code: codes.person_code.clone(),
                first_name: Some(first.to_owned()),
                last_name: Some(last.to_owned()),
                ..LegacyPerson::default()
            }
        }
    };
    Ok(LegacyPayout {
        requester: None,
        transaction_reference: key_text(order.key),
        country_code: country.to_owned(),
        source_currency: currency.clone(),
        source_amount: Decimal::zero(),
        target_currency: currency,
        target_amount: decimal(settings, order.money)?,
        narrative: narrative(order)?,
        purpose_of_payment_code: purpose(settings, order),
        transaction_type_code: settings.transaction_type.clone(),
        channel: settings.channel.clone(),
        bank_details: LegacyBankDetails {
            beneficiary_account_type_code: kind.map(|kind| match kind {
                UsAccountType::Checking => codes.checking_code.clone(),
                UsAccountType::Savings => codes.savings_code.clone(),
            }),
            beneficiary_account_number: number.map(str::to_owned),
            iban: iban.map(str::to_owned),
            bank_code: bank.map(str::to_owned),
        },
        parties: vec![LegacyParty { party_type_code: codes.beneficiary_code.clone(), personal_details }],
    })
}

fn purpose(settings: &Settings, order: &Order<'_>) -> Option<String> {
    settings.purposes.get(order.context_code).cloned()
}
