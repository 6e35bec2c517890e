use domain::destination::{BeneficiaryName, Iban, StatementReference};
use domain::metadata::Metadata;
use serde_json::{Value, json};

use super::*;

const GERMAN: &str = "DE89370400440532013000";

fn gate(approvals: Value, limits: Value) -> Gate {
    let rules = Rules {
        approvals: serde_json::from_value(approvals).unwrap(),
        approval_hours: 24,
        limits: serde_json::from_value(limits).unwrap(),
        known_days: 400,
        known_max: 100,
        refuse_twins: true,
    };
    Gate::new(b"pepper", rules)
}

fn beneficiary(destination: Value) -> Beneficiary {
    Beneficiary {
        name: BeneficiaryName::parse("John Smith", 18).unwrap(),
        reference: StatementReference::parse("Withdrawal 204", 18).unwrap(),
        destination: serde_json::from_value(destination).unwrap(),
        description: None,
        instrument: None,
    }
}

fn order(party: &str, amount: Amount) -> Order {
    let party = PartyId::parse(party).unwrap();
    Order {
        id: PayoutId::derive(&party, Mode::Test, "k", Shards::ONE),
        party,
        mode: Mode::Test,
        transaction_id: "k".to_owned(),
        batch_id: None,
        replaces: None,
        due_date: None,
        amount,
        keeps: 0,
        context_code: "withdrawal".to_owned(),
        metadata: Metadata::default(),
        scheduled_for: None,
        route: Vec::new(),
        maker: "ann".to_owned(),
        decided_by: std::collections::BTreeSet::new(),
        approve_by: None,
        rule: None,
        trace: None,
    }
}

fn euros(minor: i64) -> Amount {
    Money::new(minor, Currency::EUR).unwrap().into()
}

fn asked(gate: &Gate, order: &Order, destination: Value) -> Value {
    serde_json::to_value(gate.question(order, &beneficiary(destination), Shards::ONE)).unwrap()
}

fn whom(gate: &Gate, order: &Order, beneficiary: &Beneficiary) -> String {
    gate.question(order, beneficiary, Shards::ONE).whom()
}

/// The same account is the same in each of its spellings, another party's is another one, and none can be read.
#[test]
fn an_account_is_known_by_a_hash_of_its_own() {
    let gate = gate(json!([]), json!([]));
    let of = |party: &str, destination: Value| {
        let whom = whom(&gate, &order(party, euros(1)), &beneficiary(destination));
        whom.split(' ').next().unwrap().to_owned()
    };
    let british = || json!({ "type": "iban", "iban": "GB33BUKB20201555555555" });
    let by_sort_code = json!({ "type": "sort_code_account_number", "sort_code": "202015", "account_number": "55555555" });
    assert_eq!(of("shop", british()), of("shop", by_sort_code));
    assert_ne!(of("shop", british()), of("other", british()));
    let card = |expiry: &str| json!({ "type": "card", "number": "4444333322221111", "expiry": expiry });
    assert_eq!(of("shop", card("2031-05")), of("shop", card("2033-01")));
    let (whom, asked) = (whom(&gate, &order("shop", euros(1)), &beneficiary(british())), asked(&gate, &order("shop", euros(1)), british()));
    let text = format!("{whom} {asked}");
    assert!(!text.contains("5555") && !text.contains("Smith") && !text.contains("Withdrawal"), "{text}");
}

/// Equal is who gets it, how much, and with which words; what is due by a calendar is paid once by its key.
#[test]
fn a_twin_is_equal_in_all_that_the_beneficiary_sees() {
    let gate = gate(json!([]), json!([]));
    let iban = || json!({ "type": "iban", "iban": GERMAN });
    let twin_of = |order: &Order, who: &Beneficiary| whom(&gate, order, who).split_once(' ').map(|(_, twin)| twin.to_owned());
    let twin = |order: &Order| twin_of(order, &beneficiary(iban()));
    let written = |reference: &str| {
        let who = Beneficiary { reference: StatementReference::parse(reference, 18).unwrap(), ..beneficiary(iban()) };
        twin_of(&order("shop", euros(5)), &who)
    };
    assert_eq!((written("Withdrawal 204"), written("WITHDRAWAL204")), (twin(&order("shop", euros(5))), written("withdrawal  204")));
    assert_ne!(written("Withdrawal 204"), written("Withdrawal 205"));
    assert_eq!(twin(&order("shop", euros(5))), twin(&Order { transaction_id: "l".to_owned(), ..order("shop", euros(5)) }));
    assert_ne!(twin(&order("shop", euros(5))), twin(&order("shop", euros(6))));
    assert_ne!(twin(&order("shop", euros(5))), twin(&order("shop", Amount::Whole(Currency::EUR))));
    assert_ne!(twin(&order("shop", euros(5))), twin(&order("shop", Money::new(5, Currency::GBP).unwrap().into())));
    assert_eq!(twin(&Order { due_date: Some(jiff::civil::date(2026, 3, 2)), ..order("shop", euros(5)) }), None);
}

#[test]
fn approvals_name_accounts_and_those_that_are_new() {
    let gate = gate(json!([{ "accounts": [GERMAN] }, { "countries": ["NL"], "new_beneficiary": true }]), json!([]));
    let iban = |text: &str| Destination::Iban(Iban::parse(text).unwrap());
    let party = PartyId::parse("shop").unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let rule = gate.approval(&party, euros(1), &iban(GERMAN), now).map(|approval| approval.rule);
    assert_eq!(rule, Some(RuleMet { name: "approvals[0]".to_owned(), kind: RuleKind::Approval }));
    assert!(gate.approval(&party, euros(1), &iban("NL91ABNA0417164300"), now).is_none(), "the store knows whether it is new");
    let new = |text: &str| asked(&gate, &order("shop", euros(1)), json!({ "type": "iban", "iban": text }))["approve_new"].clone();
    assert_eq!((new("NL91ABNA0417164300"), new(GERMAN)), (json!(true), json!(false)));
}

/// Limits of one scope and window share a counter, and the narrowest counts; what a whole balance will be may be more than any.
#[test]
fn limits_are_counted_together() {
    let limits = json!([
        { "scope": "party", "currency": "EUR", "hours": 24, "amount_max": 500, "count_max": 9, "beyond": "reject" },
        { "scope": "party", "currency": "EUR", "hours": 24, "amount_max": 400, "beyond": "reject", "parties": ["shop"] },
        { "scope": "party", "currency": "EUR", "hours": 24, "amount_max": 100, "beyond": "approve" },
        { "scope": "beneficiary", "currency": "EUR", "hours": 48, "count_max": 2, "beyond": "reject" },
        { "scope": "party", "currency": "GBP", "hours": 24, "amount_max": 1, "beyond": "reject" },
    ]);
    let gate = gate(json!([]), limits);
    let asked = |order: &Order| asked(&gate, order, json!({ "type": "own_account" }));
    let shop = asked(&order("shop", euros(7)));
    let [of_party, of_beneficiary] = shop["counters"].as_array().unwrap().as_slice() else { panic!("{shop}") };
    assert_eq!(
        of_party,
        &json!({ "key": "shop:test:EUR:24:", "part_ms": 3_600_000, "parts": 24, "minor": 7, "count": 1,
                 "reject_minor": 400, "reject_count": 9, "approve_minor": 100 })
    );
    let whom = whom(&gate, &order("shop", euros(7)), &beneficiary(json!({ "type": "own_account" })));
    assert_eq!(of_beneficiary["key"], json!(format!("shop:test:EUR:48:{}", whom.split(' ').next().unwrap())));
    assert_eq!((&of_beneficiary["reject_count"], &of_beneficiary["reject_minor"]), (&json!(2), &Value::Null));
    let whole = asked(&order("other", Amount::Whole(Currency::EUR)));
    let of_party = &whole["counters"][0];
    assert_eq!((&of_party["minor"], &of_party["reject_minor"], &of_party["approve_minor"]), (&json!(0), &json!(500), &json!(-1)));
    let party = PartyId::parse("shop").unwrap();
    let pounds = Money::new(1, Currency::parse("USD").unwrap()).unwrap();
    assert!(gate.question_of_amount((&party, Mode::Test), &beneficiary(json!({ "type": "own_account" })), pounds).is_none());
}

/// A limit is told by its name or its place, that which is the narrowest; an account that is new, by the rule that asks.
#[test]
fn a_question_knows_whose_bounds_it_has() {
    let limits = json!([
        { "scope": "party", "currency": "EUR", "hours": 24, "amount_max": 500, "beyond": "reject" },
        { "scope": "beneficiary", "currency": "EUR", "hours": 24, "amount_max": 9, "beyond": "reject", "name": "per-account" },
        { "scope": "party", "currency": "EUR", "hours": 24, "amount_max": 400, "count_max": 3, "beyond": "reject" },
    ]);
    let gate = gate(json!([{ "new_beneficiary": true }]), limits);
    let question = gate.question(&order("shop", euros(7)), &beneficiary(json!({ "type": "own_account" })), Shards::ONE);
    let met = |said: &str| question.met(said).map(|met| (met.name, met.kind));
    assert_eq!(met("1 reject_minor"), Some(("limits[2]".to_owned(), RuleKind::PartyLimit)));
    assert_eq!(met("2 reject_minor"), Some(("per-account".to_owned(), RuleKind::BeneficiaryLimit)));
    assert_eq!(met(""), Some(("approvals[0]".to_owned(), RuleKind::NewBeneficiary)));
    assert_eq!((met("1 approve_minor"), met("3 reject_minor"), met("x y")), (None, None, None));
}

/// Whatever a rule for new accounts does not ask about proves nothing to it: smaller ones, other currencies. What it never asks about, it does not doubt.
#[test]
fn a_payout_that_no_rule_asks_about_proves_nothing_to_it() {
    let rules = json!([{ "new_beneficiary": true, "currencies": ["EUR"], "amount_from": 1000, "parties": ["shop"] }]);
    let proves_nothing = |rules: &Value, party: &str, amount: Amount| {
        asked(&gate(rules.clone(), json!([])), &order(party, amount), json!({ "type": "iban", "iban": GERMAN }))["proves_nothing"] == json!(true)
    };
    assert!(proves_nothing(&rules, "shop", euros(999)));
    assert!(proves_nothing(&rules, "shop", Money::new(5_000, Currency::GBP).unwrap().into()));
    assert!(!proves_nothing(&rules, "shop", euros(1_000)) && !proves_nothing(&rules, "shop", Amount::Whole(Currency::EUR)));
    assert!(
        !proves_nothing(&rules, "other", euros(1)) && !proves_nothing(&json!([{ "amount_from": 1000, "currencies": ["EUR"] }]), "shop", euros(1))
    );
}

#[test]
fn mistakes_in_limits_are_found() {
    let keys = |change: Value| {
        let mut limit = json!({ "scope": "party", "currency": "EUR", "hours": 24, "amount_max": 5, "beyond": "reject" });
        limit.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value::<Limit>(limit).unwrap().problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert!(keys(json!({})).is_empty());
    for (change, key) in [
        (json!({ "currency": "eur" }), "currency"),
        (json!({ "hours": 0 }), "hours"),
        (json!({ "hours": HOURS_MAX + 1 }), "hours"),
        (json!({ "amount_max": null }), "amount_max"),
        (json!({ "amount_max": -1 }), "amount_max"),
        (json!({ "parties": ["a b"] }), "parties"),
        (json!({ "name": "a b" }), "name"),
    ] {
        assert_eq!(keys(change.clone()), [key], "{change}");
    }
}
