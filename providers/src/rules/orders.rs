//! Orders of every kind that the domain lets in, plain ones and hostile ones, and texts that it does not.

use domain::destination::{Beneficiary, BeneficiaryName, Destination, StatementReference};
use domain::id::{Mode, PartyId, PayoutId, ProviderKey, Shards};
use domain::money::{Currency, Money};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::Order;

/// An order in plain values, before the domain has seen it.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Of the payout: its key is made of this.
    pub(super) number: u64,
    pub(super) minor: i64,
    /// A currency, and how many decimal digits it has.
    pub(super) currency: (&'static str, usize),
    pub(super) name: String,
    pub(super) reference: String,
    pub(super) context: String,
    /// In the JSON form of [`Destination`].
    pub(super) destination: Value,
}

/// One currency and more of each number of decimal digits.
pub(super) const CURRENCIES: [(&str, usize); 7] = [("GBP", 2), ("EUR", 2), ("USD", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("CHF", 2)];

/// From Norway's 15 to Saint Lucia's 32 characters, with letters inside and without.
const IBANS: [&str; 7] = [
    "GB82WEST12345698765432",
    "DE89370400440532013000",
    "NO9386011117947",
    "NL91ABNA0417164300",
    "FR1420041010050500013M02606",
    "MT84MALT011000012345MTLCAST001S",
    "LC55HEMM000100010012001200023015",
];

impl Draft {
    pub(super) fn key(&self) -> ProviderKey {
        let payout = PayoutId::derive(&PartyId::parse("acme").expect("a party"), Mode::Test, &self.number.to_string(), Shards::ONE);
        ProviderKey::derive(payout, 1 + u8::try_from(self.number % 3).expect("small"))
    }

    pub(super) fn kind(&self) -> &str {
        self.field("type").expect("a type")
    }

    /// A text of the destination.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.destination.get(name)?.as_str()
    }

    /// `None` for texts that the domain refuses.
    pub(super) fn beneficiary(&self) -> Option<Beneficiary> {
        Some(Beneficiary {
            name: BeneficiaryName::parse(&self.name, 140).ok()?,
            reference: StatementReference::parse(&self.reference, 140).ok()?,
            destination: serde_json::from_value::<Destination>(self.destination.clone()).expect("a destination"),
            description: None,
            instrument: None,
        })
    }

    pub(super) fn order<'a>(&'a self, beneficiary: &'a Beneficiary) -> Order<'a> {
        let currency = Currency::parse(self.currency.0).expect("a currency");
        assert_eq!(currency.exponent() as usize, self.currency.1);
        Order { key: self.key(), money: Money::new(self.minor, currency).expect("an amount"), beneficiary, context_code: &self.context }
    }
}

/// Orders of which three in four are to one of these destinations.
pub(super) fn drafts(kinds: &'static [&'static str]) -> impl Strategy<Value = Draft> {
    let destination = prop_oneof![3 => select(kinds).prop_flat_map(of_kind), 1 => select(&KINDS[..]).prop_flat_map(of_kind)];
    let context = prop_oneof![3 => select(&["withdrawal", "service_payment", "internal"][..]).prop_map(str::to_owned), 1 => "[a-z_\" é]{0,20}"];
    let currency = prop_oneof![2 => select(&CURRENCIES[..2]), 1 => select(&CURRENCIES[..])];
    (amount(), currency, name(), reference(), context, destination).prop_map(|(minor, currency, name, reference, context, destination)| Draft {
        number: 0,
        minor,
        currency,
        name,
        reference,
        context,
        destination,
    })
}

/// 310 and 320 are left out: at Worldpay's test systems they ask for a refusal and an error (H).
fn amount() -> impl Strategy<Value = i64> {
    let round = (0_u32..15).prop_map(|power| 10_i64.pow(power));
    let edge = select(&[1, 9_999_999_999, 10_000_000_000, Money::MAX_MINOR][..]);
    prop_oneof![4 => 1_i64..=30_000, 2 => 1_i64..=9_999_999_999, 1 => 1..=Money::MAX_MINOR, 1 => round, 1 => edge]
        .prop_filter("magic at a test system", |minor| ![310, 320].contains(minor))
}

fn name() -> BoxedStrategy<String> {
    let long = (of_edge_length(), of_edge_length()).prop_map(|(first, last)| format!("{first} {last}"));
    prop_oneof![8 => "[A-Z][a-z]{1,7} [A-Z][a-z]{1,7}", 1 => "[A-Za-z0-9_-]{1,18}", 2 => of_edge_length(), 1 => long, 2 => hostile()].boxed()
}

fn reference() -> BoxedStrategy<String> {
    prop_oneof![8 => "[A-Za-z0-9][A-Za-z0-9 ]{4,16}[A-Za-z0-9]", 2 => of_edge_length(), 1 => "[!-~]{1,24}", 2 => hostile()].boxed()
}

/// One word, as long as some provider takes, or one character more or less.
fn of_edge_length() -> BoxedStrategy<String> {
    let lengths = select(&[1_usize, 5, 6, 17, 18, 19, 23, 24, 25, 49, 50, 51, 139, 140, 141][..]);
    lengths.prop_flat_map(|length| prop::collection::vec(prop::char::range('a', 'z'), length).prop_map(String::from_iter)).boxed()
}

/// Texts that break what is careless: quotes, accents, letters outside the first plane, marks that join; and what the domain itself refuses.
fn hostile() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "[\"'\\\\éßŁ漢🦀\u{301}\u{200d}\u{a0}<>&;{}%A-Z ]{1,60}",
        4 => "[A-Z🦀é\"\\\\]{1,18}",
        2 => "\\PC{1,140}",
        1 => "\\PC{1,150}",
        1 => " {1,5}",
        1 => "[a-z]{1,5}[\u{0}-\u{1f}\u{7f}\u{85}\u{2028}\u{202e}][a-z]{1,5}",
    ]
    .boxed()
}

const KINDS: [&str; 8] =
    ["iban", "sort_code_account_number", "routing_number_account_number", "card", "card_token", "network_token", "apple_pay", "own_account"];

fn of_kind(kind: &'static str) -> BoxedStrategy<Value> {
    match kind {
        "iban" => select(&IBANS[..]).prop_map(|iban| json!({"type": "iban", "iban": iban})).boxed(),
        "sort_code_account_number" => ("[0-9]{6}", "[0-9]{8}")
            .prop_map(|(sort_code, number)| json!({"type": "sort_code_account_number", "sort_code": sort_code, "account_number": number}))
            .boxed(),
        "routing_number_account_number" => (select(&["021000021", "122105278"][..]), "[0-9]{4,17}", select(&["checking", "savings"][..]))
            .prop_map(|(routing, number, kind)| {
                json!({"type": "routing_number_account_number", "routing_number": routing, "account_number": number, "account_type": kind})
            })
            .boxed(),
        "card_token" => "https://try\\.access\\.worldpay\\.com/tokens/[!-~]{1,200}".prop_map(|token| json!({"type": "card_token", "token": token})).boxed(),
        "own_account" => Just(json!({"type": "own_account"})).boxed(),
        // Of brands that Worldpay pays to, and not yet expired: both depend on what only the provider knows.
        _ => ("[2456][0-9]{10,17}", "20[4-9][0-9]-(0[1-9]|1[0-2])")
            .prop_map(move |(digits, expiry)| json!({"type": kind, "number": with_check_digit(&digits), "expiry": expiry}))
            .boxed(),
    }
}

/// With the last digit that makes the sum of the others, every second of them doubled, a multiple of ten.
fn with_check_digit(digits: &str) -> String {
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let digit = |c: char| c.to_digit(10).expect("a digit");
    let sum: u32 = digits.chars().rev().enumerate().map(|(place, c)| if place % 2 == 0 { doubled(digit(c)) } else { digit(c) }).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}
