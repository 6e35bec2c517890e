//! The rules, by provider and version of its API, in the order of the provider's documents.

use domain::fact::Provider;
use serde_json::{Value, json};

use super::orders::Draft;

/// One API as a configuration makes us speak it.
pub(super) struct Api {
    pub(super) name: &'static str,
    pub(super) provider: Provider,
    /// What an operator would configure, for a provider at that address.
    pub(super) section: fn(&str) -> Value,
    /// Which orders are within what is documented, and what is configured. All others have to be refused before they are sent.
    pub(super) takes: Takes,
    /// What a create looks like on the wire.
    pub(super) line: &'static str,
    pub(super) headers: &'static [(&'static str, Header)],
    pub(super) body: &'static [&'static [Rule]],
}

/// A request for many payouts.
pub(super) struct Batch {
    pub(super) name: &'static str,
    /// The API whose orders it takes, and what one of its items looks like.
    pub(super) single: &'static Api,
    pub(super) line: &'static str,
    pub(super) headers: &'static [(&'static str, Header)],
    /// What stands there once, for all items.
    pub(super) head: &'static [Rule],
    /// The list of them.
    pub(super) items: &'static str,
    /// What an item leaves out because it stands in the head.
    pub(super) once: &'static str,
}

/// A request that cancels a payout. It has no body.
pub(super) struct Cancel {
    pub(super) of: &'static Api,
    /// With `{id}` for the provider's id of the payout.
    pub(super) line: &'static str,
    pub(super) headers: &'static [(&'static str, Header)],
}

pub(super) struct Takes {
    pub(super) destinations: &'static [&'static str],
    /// Empty: any.
    pub(super) currencies: &'static [&'static str],
    pub(super) contexts: &'static [&'static str],
    pub(super) amount: fn(&Draft) -> bool,
    pub(super) name: fn(&str) -> bool,
    pub(super) reference: fn(&str) -> bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Header {
    Is(&'static str),
    /// The key, in lower case and with hyphens: a version 4 UUID.
    Uuid,
    /// The key as 32 hexadecimal digits: 1 to 35 characters.
    Hex,
    /// Over the body, detached, ES512.
    BodySignature,
    /// Over method, path, `Idempotency-Key` and body, detached, ES512.
    RequestSignature,
    Absent,
}

/// One field of a body. Fields without a rule are not allowed.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) at: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    /// The rule is there only where that field has that value.
    pub(super) when: Option<(&'static str, &'static str)>,
    /// What of the order it has to be, unchanged.
    pub(super) is: Option<fn(&Draft) -> String>,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Least and most characters, and which.
    Text(usize, usize, fn(char) -> bool),
    Word(&'static [&'static str]),
    /// A JSON integer in the minor unit.
    Minor,
    /// A JSON number in the major unit: 1 to 10 digits, at most two decimals, no exponent.
    Major,
    /// A JSON text in the major unit with exactly the currency's decimals.
    DecimalText,
    Integer(i64, i64),
    True,
}

use Kind::{DecimalText, Integer, Major, Minor, Text, True, Word};

const fn required(at: &'static str, kind: Kind) -> Rule {
    Rule { at, kind, required: true, when: None, is: None }
}

const fn optional(at: &'static str, kind: Kind) -> Rule {
    Rule { at, kind, required: false, when: None, is: None }
}

impl Rule {
    const fn when(self, at: &'static str, value: &'static str) -> Self {
        Self { when: Some((at, value)), ..self }
    }

    const fn is(self, of: fn(&Draft) -> String) -> Self {
        Self { is: Some(of), ..self }
    }
}

// Characters.

fn any(_: char) -> bool {
    true
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

fn upper(c: char) -> bool {
    c.is_ascii_uppercase()
}

fn upper_or_digit(c: char) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit()
}

fn lower_hex(c: char) -> bool {
    c.is_ascii_digit() || ('a'..='f').contains(&c)
}

fn uuid(c: char) -> bool {
    lower_hex(c) || c == '-'
}

fn visible(c: char) -> bool {
    c.is_ascii_graphic()
}

fn holder(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_ ".contains(c)
}

fn narrative(c: char) -> bool {
    c.is_ascii_alphanumeric() || " _!@#$%()*=.:;?[]{}~/+-,`^&".contains(c)
}

// What of an order a field has to be.

fn key(draft: &Draft) -> String {
    draft.key().to_string()
}

fn hex_key(draft: &Draft) -> String {
    draft.key().to_string().replace('-', "")
}

fn name(draft: &Draft) -> String {
    draft.name.clone()
}

fn reference(draft: &Draft) -> String {
    draft.reference.clone()
}

fn context(draft: &Draft) -> String {
    draft.context.clone()
}

fn currency(draft: &Draft) -> String {
    draft.currency.0.to_owned()
}

fn iban(draft: &Draft) -> String {
    draft.field("iban").unwrap_or_default().to_owned()
}

fn account_number(draft: &Draft) -> String {
    draft.field("account_number").unwrap_or_default().to_owned()
}

fn bank_code(draft: &Draft) -> String {
    draft.field("sort_code").or(draft.field("routing_number")).unwrap_or_default().to_owned()
}

fn account_type(draft: &Draft) -> String {
    draft.field("account_type").unwrap_or_default().to_owned()
}

fn country(draft: &Draft) -> String {
    match draft.kind() {
        "iban" => iban(draft)[..2].to_owned(),
        "sort_code_account_number" => "GB".to_owned(),
        _ => "US".to_owned(),
    }
}

fn card_number(draft: &Draft) -> String {
    draft.field("number").unwrap_or_default().to_owned()
}

fn token(draft: &Draft) -> String {
    draft.field("token").unwrap_or_default().to_owned()
}

fn year(draft: &Draft) -> String {
    draft.field("expiry").unwrap_or_default()[..4].to_owned()
}

fn month(draft: &Draft) -> String {
    draft.field("expiry").unwrap_or_default()[5..].trim_start_matches('0').to_owned()
}

fn first_name(draft: &Draft) -> String {
    draft.name.rsplit_once(' ').unwrap_or_default().0.trim().to_owned()
}

fn last_name(draft: &Draft) -> String {
    draft.name.rsplit_once(' ').unwrap_or_default().1.to_owned()
}

fn description(draft: &Draft) -> String {
    format!("{} {}", draft.reference, draft.key())
}

// Limits of orders.

fn any_amount(_: &Draft) -> bool {
    true
}

/// At most two decimals, and ten digits with them.
fn ten_digits(draft: &Draft) -> bool {
    let (minor, decimals) = (draft.minor, draft.currency.1);
    let hundredths = match decimals {
        3 if minor % 10 == 0 => Some(minor / 10),
        4 if minor % 100 == 0 => Some(minor / 100),
        0 | 2 => Some(minor),
        _ => None,
    };
    hundredths.is_some_and(|count| count <= 9_999_999_999)
}

fn up_to_18(text: &str) -> bool {
    (1..=18).contains(&text.chars().count())
}

fn up_to_140(text: &str) -> bool {
    (1..=140).contains(&text.chars().count())
}

fn six_to_50(text: &str) -> bool {
    (6..=50).contains(&text.chars().count())
}

fn first_and_last(text: &str) -> bool {
    let fits = |name: &str| (1..=50).contains(&name.chars().count());
    text.rsplit_once(' ').is_some_and(|(first, last)| fits(first.trim()) && fits(last))
}

fn line_of_narrative(text: &str) -> bool {
    (1..=24).contains(&text.chars().count()) && text.chars().all(narrative)
}

const BASIC: Header = Header::Is("Basic YWNtZTpodW50ZXIy");
const JSON: Header = Header::Is("application/json");

fn access(url: &str) -> Value {
    json!({"base_url": url, "username": "acme", "password": "hunter2"})
}

// TrueLayer v1: section 2.1.2.

pub(super) const KID: &str = "6f0f0f5c-8a52-4f0e-9f58-0a4d9a5b7c33";

fn truelayer(url: &str) -> Value {
    json!({
        "base_url": url, "auth_url": url, "client_id": "acme", "client_secret": "hunter2", "kid": KID,
        "private_key_pem": super::requests::private_key(), "jku": [format!("{url}/.well-known/jwks")],
    })
}

fn with(mut section: Value, name: &str, value: Value) -> Value {
    section[name] = value;
    section
}

const CONTEXTS: &[&str] = &["withdrawal", "service_payment", "internal"];

const TRUELAYER_BODY: &[Rule] = &[
    required("/transaction_id", Text(36, 36, uuid)).is(key),
    required("/beneficiary_name", Text(1, 18, any)).is(name),
    required("/beneficiary_iban", Text(15, 34, upper_or_digit)).is(iban),
    required("/beneficiary_reference", Text(1, 18, any)).is(reference),
    required("/currency", Text(3, 3, upper)).is(currency),
    required("/amount_in_minor", Minor),
    required("/context_code", Word(CONTEXTS)).is(context),
];

const TRUELAYER_TAKES: Takes =
    Takes { destinations: &["iban"], currencies: &[], contexts: CONTEXTS, amount: any_amount, name: up_to_18, reference: up_to_18 };

pub(super) const TRUELAYER: Api = Api {
    name: "truelayer v1, body signed",
    provider: Provider::Truelayer,
    section: truelayer,
    takes: TRUELAYER_TAKES,
    line: "POST /v1/payouts",
    headers: &[
        ("authorization", Header::Is("Bearer token")),
        ("content-type", JSON),
        ("x-tl-signature", Header::BodySignature),
        ("tl-signature", Header::Absent),
    ],
    body: &[TRUELAYER_BODY],
};

pub(super) const TRUELAYER_REQUEST: Api = Api {
    name: "truelayer v1, request signed",
    section: |url| with(truelayer(url), "signature", "request".into()),
    headers: &[
        ("authorization", Header::Is("Bearer token")),
        ("content-type", JSON),
        ("idempotency-key", Header::Uuid),
        ("x-tl-signature", Header::Absent),
        ("tl-signature", Header::RequestSignature),
    ],
    takes: TRUELAYER_TAKES,
    ..TRUELAYER
};

// TrueLayer v3: section 2.3.

pub(super) const MERCHANT_ACCOUNTS: [(&str, &str); 5] =
    [("GBP", "822f8dfe-0874-481b-b966-5b14f767792f"), ("EUR", "euros"), ("JPY", "yen"), ("KWD", "dinars"), ("CLF", "unidades")];

fn by_currency(accounts: &[(&str, &str)]) -> Value {
    accounts.iter().map(|(currency, id)| ((*currency).to_owned(), (*id).into())).collect::<serde_json::Map<_, _>>().into()
}

fn merchant_account(draft: &Draft) -> String {
    MERCHANT_ACCOUNTS.iter().find(|(currency, _)| *currency == draft.currency.0).map(|(_, id)| (*id).to_owned()).unwrap_or_default()
}

const IDENTIFIER: &str = "/beneficiary/account_identifier/type";

pub(super) const TRUELAYER_V3: Api = Api {
    name: "truelayer v3",
    provider: Provider::TruelayerV3,
    section: |url| with(truelayer(url), "merchant_accounts", by_currency(&MERCHANT_ACCOUNTS)),
    takes: Takes {
        destinations: &["iban", "sort_code_account_number"],
        currencies: &["GBP", "EUR", "JPY", "KWD", "CLF"],
        contexts: &[],
        amount: any_amount,
        name: up_to_140,
        reference: up_to_18,
    },
    line: "POST /v3/payouts",
    headers: &[
        ("authorization", Header::Is("Bearer token")),
        ("content-type", JSON),
        ("idempotency-key", Header::Uuid),
        ("x-tl-signature", Header::Absent),
        ("tl-signature", Header::RequestSignature),
    ],
    body: &[&[
        required("/merchant_account_id", Text(1, 128, visible)).is(merchant_account),
        required("/amount_in_minor", Minor),
        required("/currency", Text(3, 3, upper)).is(currency),
        required("/beneficiary/type", Word(&["external_account"])),
        required("/beneficiary/account_holder_name", Text(1, 140, any)).is(name),
        required("/beneficiary/reference", Text(1, 18, any)).is(reference),
        required(IDENTIFIER, Word(&["iban", "sort_code_account_number"])),
        required("/beneficiary/account_identifier/iban", Text(15, 34, upper_or_digit)).when(IDENTIFIER, "iban").is(iban),
        required("/beneficiary/account_identifier/sort_code", Text(6, 6, digit)).when(IDENTIFIER, "sort_code_account_number").is(bank_code),
        required("/beneficiary/account_identifier/account_number", Text(8, 8, digit)).when(IDENTIFIER, "sort_code_account_number").is(account_number),
        // At most ten pairs, keys of at most 40 and values of at most 500 characters.
        required("/metadata/payrelay_key", Text(1, 500, uuid)).is(key),
    ]],
};

// Worldpay account payouts, current generation: section 1.5.1.

const BANK: &[&str] = &["iban", "sort_code_account_number", "routing_number_account_number"];
const PURPOSES: &[&str] = &["WPTRNF"];
const DETAILS: &str = "/instruction/parties/0/personalDetails/type";

fn worldpay_account(url: &str) -> Value {
    json!({"access": access(url), "entity": "default", "purposes": {"withdrawal": "WPTRNF"}, "channel": "instant,wire", "source_account": "1234567890123456"})
}

pub(super) const WORLDPAY_ACCOUNT: Api = Api {
    name: "worldpay account payouts, to companies",
    provider: Provider::WorldpayAccount,
    section: worldpay_account,
    takes: Takes { destinations: BANK, currencies: &[], contexts: &[], amount: ten_digits, name: up_to_140, reference: six_to_50 },
    line: "POST /accountPayouts",
    headers: &[
        ("authorization", BASIC),
        ("accept", JSON),
        ("content-type", JSON),
        ("wp-api-version", Header::Is("2025-01-01")),
        ("wp-correlationid", Header::Uuid),
        ("idempotency-key", Header::Hex),
    ],
    body: &[&[
        required("/merchant/entity", Text(1, 32, any)),
        required("/transactionReference", Text(6, 50, lower_hex)).is(hex_key),
        required("/instruction/countryCode", Text(2, 2, upper)).is(country),
        required("/instruction/value/sourceCurrency", Text(3, 3, upper)).is(currency),
        required("/instruction/value/targetCurrency", Text(3, 3, upper)).is(currency),
        // And no source amount: only one of the two may be there.
        required("/instruction/value/targetAmount", Major),
        required("/instruction/narrative/line1", Text(6, 50, any)).is(reference),
        optional("/instruction/purposeOfPayment/code", Word(PURPOSES)),
        optional("/instruction/channel", Word(&["instant,wire"])),
        optional("/instruction/source/accountNumber", Text(16, 16, digit)),
        optional("/instruction/beneficiaryBankDetails/iban", Text(1, 34, upper_or_digit)).is(iban),
        optional("/instruction/beneficiaryBankDetails/accountNumber", Text(1, 64, digit)).is(account_number),
        optional("/instruction/beneficiaryBankDetails/bankCode", Text(1, 35, digit)).is(bank_code),
        optional("/instruction/beneficiaryBankDetails/accountType", Word(&["checking", "savings"])).is(account_type),
        required("/instruction/parties/0/partyType", Word(&["beneficiary"])),
        required(DETAILS, Word(&["company", "person"])),
        required("/instruction/parties/0/personalDetails/companyName", Text(1, 140, any)).when(DETAILS, "company").is(name),
        required("/instruction/parties/0/personalDetails/firstName", Text(1, 50, any)).when(DETAILS, "person").is(first_name),
        required("/instruction/parties/0/personalDetails/lastName", Text(1, 50, any)).when(DETAILS, "person").is(last_name),
    ]],
};

pub(super) const WORLDPAY_PERSON: Api = Api {
    name: "worldpay account payouts, to persons",
    section: |url| with(worldpay_account(url), "beneficiary_kind", "person".into()),
    takes: Takes { name: first_and_last, ..WORLDPAY_ACCOUNT.takes },
    ..WORLDPAY_ACCOUNT
};

/// An IBAN, or an account number (with the code of its bank): one of the two has to be there.
pub(super) const ONE_OF: &[(&str, &str)] = &[
    ("/instruction/beneficiaryBankDetails/iban", "/instruction/beneficiaryBankDetails/accountNumber"),
    ("/bankDetails/iban", "/bankDetails/beneficiaryAccountNumber"),
];

// Worldpay account payouts, legacy generation: section 1.4.2, with the lengths of 1.5.1.

const LEGACY_DETAILS: &str = "/parties/0/personalDetails/typeCode";
const LEGACY_MEDIA: Header = Header::Is("application/vnd.worldpay.account-payouts-v2+json");

pub(super) const WORLDPAY_LEGACY: Api = Api {
    name: "worldpay account payouts, legacy",
    section: |url| json!({"access": access(url), "entity": "000055", "generation": "legacy"}),
    line: "POST /payouts/accounts/single",
    headers: &[
        ("authorization", BASIC),
        ("accept", LEGACY_MEDIA),
        ("content-type", LEGACY_MEDIA),
        ("wp-api-version", Header::Absent),
        ("wp-correlationid", Header::Uuid),
        ("idempotency-key", Header::Absent),
    ],
    body: &[&[
        required("/requester/instructingTreasuryId", Text(6, 6, any)),
        required("/requester/entity", Text(6, 6, any)),
        required("/requester/apiRequestReference", Text(1, 35, lower_hex)).is(hex_key),
        required("/transactionReference", Text(6, 50, lower_hex)).is(hex_key),
        required("/countryCode", Text(2, 2, upper)).is(country),
        required("/sourceCurrency", Text(3, 3, upper)).is(currency),
        // As in the documented example: the unused one of the two is zero.
        required("/sourceAmount", Integer(0, 0)),
        required("/targetCurrency", Text(3, 3, upper)).is(currency),
        required("/targetAmount", Major),
        required("/narrative", Text(6, 50, any)).is(reference),
        optional("/bankDetails/iban", Text(1, 34, upper_or_digit)).is(iban),
        optional("/bankDetails/beneficiaryAccountNumber", Text(1, 64, digit)).is(account_number),
        optional("/bankDetails/bankCode", Text(1, 35, digit)).is(bank_code),
        optional("/bankDetails/beneficiaryAccountTypeCode", Word(&["AC01", "AC02"])),
        required("/parties/0/partyTypeCode", Word(&["PT03"])),
        required(LEGACY_DETAILS, Word(&["PD01", "PD02"])),
        required("/parties/0/personalDetails/companyName", Text(1, 140, any)).when(LEGACY_DETAILS, "PD01").is(name),
    ]],
    ..WORLDPAY_ACCOUNT
};

// Worldpay account payouts in batches: sections 1.5.2 and, legacy, 1.4.3.

pub(super) const WORLDPAY_BATCH: Batch = Batch {
    name: "worldpay account payouts, batches",
    single: &WORLDPAY_ACCOUNT,
    line: "POST /accountPayouts/batch",
    headers: WORLDPAY_ACCOUNT.headers,
    head: &[required("/merchant/entity", Text(1, 32, any))],
    items: "/payouts",
    once: "/merchant/",
};

const LEGACY_BATCH_MEDIA: Header = Header::Is("application/vnd.worldpay.account-payouts-v1+json");

pub(super) const WORLDPAY_LEGACY_BATCH: Batch = Batch {
    name: "worldpay account payouts, legacy batches",
    single: &WORLDPAY_LEGACY,
    line: "POST /payouts/accounts/batch",
    headers: &[
        ("authorization", BASIC),
        ("accept", LEGACY_BATCH_MEDIA),
        ("content-type", LEGACY_BATCH_MEDIA),
        ("wp-api-version", Header::Absent),
        ("wp-correlationid", Header::Uuid),
        ("idempotency-key", Header::Absent),
    ],
    head: &[
        required("/RequesterDetails/InstructingTreasuryId", Text(6, 6, any)),
        required("/RequesterDetails/entity", Text(6, 6, any)),
        required("/RequesterDetails/ApiRequestReference", Text(1, 35, lower_hex)).is(hex_key),
    ],
    items: "/Payouts",
    once: "/requester/",
};

// Worldpay card payouts, versions 2 to 4: section 1.2.2.

const INSTRUMENT: &str = "/instruction/payoutInstrument/type";
const PLAIN: &str = "card/plain";
const APPLE_PAY: &str = "card/networkToken+applepay";
const NETWORK_TOKEN: &str = "card/networkToken";

const CARD_BODY: &[Rule] = &[
    required("/transactionReference", Text(1, 64, lower_hex)).is(hex_key),
    required("/merchant/entity", Text(1, 32, |c| c.is_ascii_alphanumeric() || c == ' ')),
    required("/instruction/value/amount", Minor),
    required("/instruction/value/currency", Text(3, 3, upper)).is(currency),
    required(INSTRUMENT, Word(&[PLAIN, "card/tokenized", NETWORK_TOKEN, APPLE_PAY])),
    required("/instruction/payoutInstrument/cardNumber", Text(12, 19, digit)).when(INSTRUMENT, PLAIN).is(card_number),
    required("/instruction/payoutInstrument/cardExpiryDate/month", Integer(1, 12)).when(INSTRUMENT, PLAIN).is(month),
    required("/instruction/payoutInstrument/cardExpiryDate/year", Integer(2000, 2099)).when(INSTRUMENT, PLAIN).is(year),
    optional("/instruction/payoutInstrument/cardHolderName", Text(1, 140, holder)).when(INSTRUMENT, PLAIN).is(name),
    required("/instruction/payoutInstrument/href", Text(1, 2048, visible)).when(INSTRUMENT, "card/tokenized").is(token),
    required("/instruction/payoutInstrument/tokenNumber", Text(12, 19, digit)).when(INSTRUMENT, NETWORK_TOKEN).is(card_number),
    required("/instruction/payoutInstrument/expiryDate/month", Integer(1, 12)).when(INSTRUMENT, NETWORK_TOKEN).is(month),
    required("/instruction/payoutInstrument/expiryDate/year", Integer(2000, 2099)).when(INSTRUMENT, NETWORK_TOKEN).is(year),
    required("/instruction/payoutInstrument/dpan", Text(12, 19, digit)).when(INSTRUMENT, APPLE_PAY).is(card_number),
    required("/instruction/payoutInstrument/cardExpiryDate/month", Integer(1, 12)).when(INSTRUMENT, APPLE_PAY).is(month),
    required("/instruction/payoutInstrument/cardExpiryDate/year", Integer(2000, 2099)).when(INSTRUMENT, APPLE_PAY).is(year),
    optional("/instruction/payoutInstrument/cardHolderName", Text(1, 140, holder)).when(INSTRUMENT, APPLE_PAY).is(name),
];

const ONE_LINE: &[Rule] = &[required("/instruction/narrative/line1", Text(1, 24, narrative)).is(reference)];
const TWO_LINES: &[Rule] = &[
    required("/instruction/narrative/line1", Text(1, 24, narrative)).is(|_| "The Mind Palace Ltd".to_owned()),
    required("/instruction/narrative/line2", Text(1, 24, narrative)).is(reference),
];
const ROUTING: &[Rule] = &[
    optional("/instruction/routing/preferredCardBrand", Word(&["maestro", "mastercard"])),
    optional("/instruction/routing/fallbackToBasic", Word(&["disabled", "enabled"])),
];

macro_rules! card_headers {
    ($media_type:literal) => {
        &[
            ("authorization", BASIC),
            ("accept", Header::Is($media_type)),
            ("content-type", Header::Is($media_type)),
            ("wp-correlationid", Header::Uuid),
            ("idempotency-key", Header::Absent),
        ]
    };
}

pub(super) const CARD_V2: Api = Api {
    name: "worldpay card payouts v2",
    provider: Provider::WorldpayCard,
    section: |url| json!({"access": access(url), "entity": "default", "version": "v2"}),
    takes: Takes {
        destinations: &["card", "card_token", "network_token", "apple_pay"],
        currencies: &[],
        contexts: &[],
        amount: any_amount,
        name: up_to_140,
        reference: line_of_narrative,
    },
    line: "POST /payouts/basicDisbursement",
    headers: card_headers!("application/vnd.worldpay.payouts-v2+json"),
    body: &[CARD_BODY, ONE_LINE],
};

pub(super) const CARD_V3: Api = Api {
    name: "worldpay card payouts v3",
    section: |url| json!({"access": access(url), "entity": "default", "version": "v3"}),
    headers: card_headers!("application/vnd.worldpay.payouts-v3+json"),
    ..CARD_V2
};

pub(super) const CARD_V4: Api = Api {
    name: "worldpay card payouts v4",
    section: |url| json!({"access": access(url), "entity": "default"}),
    headers: card_headers!("application/vnd.worldpay.payouts-v4+json"),
    ..CARD_V2
};

pub(super) const CARD_FAST: Api = Api {
    name: "worldpay card payouts v4, fast access",
    section: |url| {
        json!({"access": access(url), "entity": "default", "endpoint": "fast-access", "preferred_card_brand": "mastercard",
            "fallback_to_basic": true, "narrative": "The Mind Palace Ltd"})
    },
    line: "POST /payouts/fastAccess",
    body: &[CARD_BODY, TWO_LINES, ROUTING],
    ..CARD_V4
};

// Mollie: section 3.2.

pub(super) const BALANCES: [(&str, &str); 5] =
    [("EUR", "bal_gVMhHKqSSRYJyPsuoPNFH"), ("GBP", "bal_pounds"), ("JPY", "bal_yen"), ("KWD", "bal_dinars"), ("CLF", "bal_unidades")];

fn balance(draft: &Draft) -> String {
    BALANCES.iter().find(|(currency, _)| *currency == draft.currency.0).map(|(_, id)| (*id).to_owned()).unwrap_or_default()
}

const MOLLIE_BODY: &[Rule] = &[
    required("/balanceId", Text(5, 128, visible)).is(balance),
    // Without an amount, everything would be paid out.
    required("/amount/currency", Text(3, 3, upper)).is(currency),
    required("/amount/value", DecimalText),
    required("/description", Text(1, 255, any)).is(description),
];

pub(super) const MOLLIE: Api = Api {
    name: "mollie, with an API key",
    provider: Provider::Mollie,
    section: |url| json!({"base_url": url, "api_key": "test_hunter2", "balances": by_currency(&BALANCES), "webhook_secrets": ["secret"]}),
    takes: Takes {
        destinations: &["own_account"],
        currencies: &["EUR", "GBP", "JPY", "KWD", "CLF"],
        contexts: &[],
        amount: any_amount,
        name: up_to_140,
        reference: up_to_140,
    },
    line: "POST /v2/payouts",
    headers: &[("authorization", Header::Is("Bearer test_hunter2")), ("content-type", JSON), ("idempotency-key", Header::Uuid)],
    body: &[MOLLIE_BODY],
};

pub(super) const MOLLIE_TOKEN: Api = Api {
    name: "mollie, with the token of an organisation",
    section: |url| with((MOLLIE.section)(url), "api_key", "access_hunter2".into()),
    headers: &[("authorization", Header::Is("Bearer access_hunter2")), ("content-type", JSON), ("idempotency-key", Header::Uuid)],
    // Only then, and in the body.
    body: &[MOLLIE_BODY, &[required("/testmode", True)]],
    ..MOLLIE
};

pub(super) const MOLLIE_CANCEL: Cancel = Cancel {
    of: &MOLLIE,
    line: "DELETE /v2/payouts/{id}",
    headers: &[("authorization", Header::Is("Bearer test_hunter2")), ("content-type", Header::Absent)],
};

pub(super) const MOLLIE_TOKEN_CANCEL: Cancel = Cancel {
    of: &MOLLIE_TOKEN,
    // Only then, and in the query.
    line: "DELETE /v2/payouts/{id}?testmode=true",
    headers: &[("authorization", Header::Is("Bearer access_hunter2")), ("content-type", Header::Absent)],
};
