//! Derivations that are fixed for ever, and texts that are read as they were written.

use proptest::prelude::*;

use super::provider_key::{VARIANT, VERSION_4};
use super::*;

const PAYOUT: &str = "po_108b18049462e43939ac383bbcce";

fn party(text: &str) -> PartyId {
    PartyId::parse(text).expect("a party id")
}

fn shards(count: u8) -> Shards {
    Shards::new(count).expect("at least one shard")
}

/// Values computed by another implementation of the documented derivations. If this fails, the code is wrong, not the test.
#[test]
fn derivations_are_fixed_for_ever() {
    let acme = party("acme");
    for (count, live, test) in [(1, 0, 0), (16, 0, 7), (255, 16, 208)] {
        assert_eq!((shards(count).of(&acme, Mode::Live).index(), shards(count).of(&acme, Mode::Test).index()), (live, test), "{count}");
    }
    let payout = PayoutId::derive(&acme, Mode::Live, "invoice-42", shards(255));
    assert_eq!(payout.to_string(), PAYOUT);
    assert_eq!(PayoutId::derive(&acme, Mode::Test, "ключ", Shards::ONE).to_string(), "po_0053eb26929a9ec43daec873448e");
    assert_eq!(BatchId::derive(&acme, Mode::Live, "invoice-42", shards(255)).to_string(), "ba_1093a5a106bd8431772dcfa646c8");
    assert_eq!(ProviderKey::derive(payout, 1).to_string(), "108b1804-9462-4e43-a4e6-b0e0eef33804");
    let group = ProviderKey::of_group(BatchId::derive(&acme, Mode::Live, "invoice-42", shards(255)), 7);
    assert_eq!((group.to_string().as_str(), group.payout_and_attempt()), ("112ef10d-e18c-497b-9223-d981fdc86f2f", None));
    assert_eq!(ProviderKey::derive(payout, 255).to_string(), "108b1804-9462-4e43-a4e6-b0e0eef33bfc");
    assert_eq!(ProviderKey::derive(PayoutId([0; 14]), 0).to_string(), "00000000-0000-4000-8000-000000000000");
    assert_eq!(ProviderKey::derive(PayoutId([255; 14]), 255).to_string(), "ffffffff-ffff-4fff-bfff-fffffffffffc");
    assert_eq!(PartyId::of_reference("acme"), acme);
    assert_eq!(PartyId::of_reference("Ачме & Sons").as_str(), "par_03a4a964f6cf5c1c9b893a76eb");
    let account = BalanceAccountId::derive(&acme, Mode::Live, Currency::EUR, shards(255));
    assert_eq!(account.to_string(), "bal_100372b0382f9c624b3ec737830c");
    assert_eq!(account.number(), "8555207476368526");
    assert_eq!(account.scheduled(jiff::civil::date(2026, 11, 27)).to_string(), "01630f68-01f2-89e3-9d4e-73c8a35f183a");
    assert_eq!(transaction_of_key("invoice-42").to_string(), "f64aa5b4-fcab-8857-9198-a5ade85c1124");
    let top_up = TopUpId::derive(&acme, Mode::Live, "4b2d9f5e-6d0b-4f0e-9a55-0a1b2c3d4e5f", shards(255));
    assert_eq!(top_up.to_string(), "tu_100a9b61c56d85f39651058aaeaf");
    let subscription = SubscriptionId::new(Shard::new(3), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(subscription.to_string(), "sub_030102030405060708090a0b");
    let fan_out = SubscriptionId::of_fan_out(&acme, Mode::Live, shards(255));
    assert!(fan_out.to_string().starts_with("sub_10ffff") && fan_out.is_fan_out() && !subscription.is_fan_out());
    assert_ne!(fan_out, SubscriptionId::of_fan_out(&acme, Mode::Test, shards(255)));
    assert!(!SubscriptionId::new(Shard::new(3), [0xff; 11]).is_fan_out(), "what is drawn is never a fan-out");
    let delivery = DeliveryId::new(EventId::new(payout, 7), subscription);
    assert_eq!(delivery.to_string(), "dl_108b18049462e43939ac383bbcce_7_030102030405060708090a0b");
    assert_eq!(NoticeId::derive("truelayer", "evt-1", Shard::new(5)).to_string(), "nt_05ee3cebaf1d718cde257b1a03cf");
    assert_eq!(EventId::new(payout, 7).to_string(), "ev_108b18049462e43939ac383bbcce_7");
    assert_eq!(ApiKeyId::new([0, 1, 2, 3, 4, 5, 6, 255]).to_string(), "key_00010203040506ff");
}

#[test]
fn shards_are_counted_and_tagged() {
    assert_eq!(Shards::new(0), None);
    assert_eq!(shards(3).all().map(Shard::tag).collect::<Vec<_>>(), ["s00", "s01", "s02"]);
    assert_eq!(shards(255).all().map(Shard::tag).last().as_deref(), Some("s254"));
    assert!(shards(3).contains(Shard::new(2)) && !shards(3).contains(Shard::new(3)));
}

#[test]
fn only_the_exact_form_is_an_id() {
    assert!(PAYOUT.parse::<PayoutId>().is_ok());
    for text in [
        "",
        "po_",
        "po",
        "108b18049462e43939ac383bbcce",
        "PO_108b18049462e43939ac383bbcce",
        "nt_108b18049462e43939ac383bbcce",
        "po-108b18049462e43939ac383bbcce",
        "po_108B18049462E43939AC383BBCCE",
        "po_108b18049462e43939ac383bbcce0",
        "po_108b18049462e43939ac383bbcce00",
        "po_108b18049462e43939ac383bbc",
        " po_108b18049462e43939ac383bbcce",
        "po_108b18049462e43939ac383bbcce ",
        "po_108b18049462e43939ac383bbcg0",
        "po_108b18049462e43939ac383bbc+1",
        "po_108b18049462e43939ac383bbcé",
    ] {
        assert!(text.parse::<PayoutId>().is_err(), "{text:?}");
    }
    assert!("ev_108b18049462e43939ac383bbcce_0".parse::<EventId>().is_ok());
    assert!("ev_108b18049462e43939ac383bbcce_4294967295".parse::<EventId>().is_ok());
    for text in [
        "ev_108b18049462e43939ac383bbcce",
        "ev_108b18049462e43939ac383bbcce_",
        "ev_108b18049462e43939ac383bbcce_01",
        "ev_108b18049462e43939ac383bbcce_00",
        "ev_108b18049462e43939ac383bbcce_+1",
        "ev_108b18049462e43939ac383bbcce_-1",
        "ev_108b18049462e43939ac383bbcce_4294967296",
        "ev_108b18049462e43939ac383bbcce_1_1",
        "ev_108b18049462e43939ac383bbcce.1",
        "ev_108B18049462E43939AC383BBCCE_1",
        "po_108b18049462e43939ac383bbcce_1",
    ] {
        assert!(text.parse::<EventId>().is_err(), "{text:?}");
    }
    let key = "108b1804-9462-4e43-a4e6-b0e0eef33804";
    assert!(key.parse::<ProviderKey>().is_ok());
    for text in [key.to_uppercase(), key.replace('-', ""), format!("{{{key}}}"), format!("urn:uuid:{key}"), String::new()] {
        assert!(text.parse::<ProviderKey>().is_err(), "{text:?}");
    }
    let error = "po_".parse::<PayoutId>().expect_err("no digits");
    assert_eq!(error.to_string(), "expected po_ and 28 lower-case hexadecimal digits");
}

#[test]
fn party_ids_are_plain() {
    for (text, good) in [("a", true), ("Acme_1-x", true), (&*"x".repeat(64), true), (&*"x".repeat(65), false)] {
        assert_eq!(PartyId::parse(text).is_ok(), good, "{text:?}");
    }
    for text in ["", " ", "a b", "a.b", "a:b", "{s00}", "a/b", "é", "a\n"] {
        assert!(PartyId::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn json_is_the_text_and_is_checked() {
    let payout: PayoutId = PAYOUT.parse().expect("an id");
    assert_eq!(serde_json::to_string(&payout).expect("serialises"), format!("\"{PAYOUT}\""));
    assert_eq!(serde_json::to_string(&Mode::Live).expect("serialises"), "\"live\"");
    assert_eq!(serde_json::from_str::<Mode>("\"test\"").expect("reads"), Mode::Test);
    assert!(serde_json::from_str::<PartyId>("\"a b\"").is_err());
    assert!(serde_json::from_str::<PayoutId>("\"po_\"").is_err());
    assert!(serde_json::from_str::<PayoutId>("1").is_err());
    // Also where the reader has only an owned text: through a value, and with escapes.
    assert_eq!(serde_json::from_value::<PayoutId>(serde_json::json!(PAYOUT)).expect("reads"), payout);
    assert_eq!(serde_json::from_str::<PartyId>("\"a\\u0062\"").expect("reads"), party("ab"));
    // And as keys of maps.
    let map = std::collections::BTreeMap::from([(payout, 1)]);
    let json = serde_json::to_string(&map).expect("serialises");
    assert_eq!(serde_json::from_str::<std::collections::BTreeMap<PayoutId, i32>>(&json).expect("reads"), map);
}

/// Moving a boundary between two parts makes another id.
#[test]
fn parts_do_not_run_into_each_other() {
    assert_ne!(digest("a", &[b"bc"]), digest("ab", &[b"c"]));
    assert_ne!(digest("a", &[b"b", b"c"]), digest("a", &[b"bc", b""]));
    let id = |party_id: &str, mode, key| PayoutId::derive(&party(party_id), mode, key, Shards::ONE);
    assert_ne!(id("acme", Mode::Live, "k"), id("acme", Mode::Test, "k"));
    assert_ne!(id("acme", Mode::Live, "k"), id("acm", Mode::Live, "ek"));
}

#[test]
fn foreign_uuids_are_not_inverted() {
    for text in [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "00000000-0000-5000-8000-000000000000",
        "00000000-0000-4000-0000-000000000000",
        "00000000-0000-4000-c000-000000000000",
        "00000000-0000-4000-8000-000000000001",
        "00000000-0000-4000-8000-000000000002",
    ] {
        assert_eq!(text.parse::<ProviderKey>().expect("a UUID").payout_and_attempt(), None, "{text}");
    }
}

fn back<T: FromStr<Err = IdError> + fmt::Display + PartialEq + Serialize + for<'de> Deserialize<'de>>(id: &T) -> bool {
    let json = serde_json::to_string(id).expect("serialises");
    id.to_string().parse::<T>().as_ref() == Ok(id) && serde_json::from_str::<T>(&json).as_ref().ok() == Some(id)
}

proptest! {
    #[test]
    fn ids_round_trip(bytes: [u8; 14], random: [u8; 11], short: [u8; 8], sequence: u32, attempt: u8, name in "[A-Za-z0-9_-]{1,64}") {
        let payout = PayoutId(bytes);
        let event = EventId::new(payout, sequence);
        let subscription = SubscriptionId::new(Shard::new(bytes[1]), random);
        let delivery = DeliveryId::new(event, subscription);
        let notice = NoticeId::derive("truelayer", &name, Shard::new(bytes[2]));
        prop_assert!(back(&payout) && back(&BatchId(bytes)) && back(&BalanceAccountId(bytes)) && back(&event) && back(&subscription) && back(&delivery) && back(&notice));
        prop_assert!(back(&ApiKeyId::new(short)) && back(&party(&name)) && back(&ProviderKey::derive(payout, attempt)));
        prop_assert_eq!((payout.shard().index(), event.shard(), delivery.event().shard()), (bytes[0], payout.shard(), payout.shard()));
        prop_assert_eq!((subscription.shard().index(), notice.shard().index()), (bytes[1], bytes[2]));
        prop_assert!(!event.to_string().contains('.'));
    }

    #[test]
    fn provider_keys_are_version_4_and_invertible(bytes: [u8; 14], attempt: u8) {
        let key = ProviderKey::derive(PayoutId(bytes), attempt);
        prop_assert_eq!(key.as_uuid().get_version_num(), 4);
        prop_assert_eq!(key.as_uuid().get_variant(), uuid::Variant::RFC4122);
        prop_assert_eq!(key.payout_and_attempt(), Some((PayoutId(bytes), attempt)));
    }

    #[test]
    fn a_key_that_inverts_is_the_one_that_is_derived(bits: u128) {
        let key = ProviderKey::from_uuid(Uuid::from_u128(bits & !(0xf << 76) & !(0b11 << 62) & !0b11 | VERSION_4 | VARIANT));
        let Some((payout, attempt)) = key.payout_and_attempt() else { panic!("it has the form") };
        prop_assert_eq!(ProviderKey::derive(payout, attempt), key);
    }

    #[test]
    fn distinct_attempts_have_distinct_keys(bytes: [u8; 14], one: u8, other: u8) {
        let key = |attempt| ProviderKey::derive(PayoutId(bytes), attempt);
        prop_assert_eq!(key(one) == key(other), one == other);
    }

    #[test]
    fn a_party_stays_in_one_existing_shard(name in "[A-Za-z0-9_-]{1,64}", count in 1_u8.., key: String) {
        let (party, shards) = (party(&name), shards(count));
        let payout = PayoutId::derive(&party, Mode::Live, &key, shards);
        prop_assert_eq!(payout.shard(), shards.of(&party, Mode::Live));
        prop_assert!(shards.contains(payout.shard()));
        prop_assert_eq!(payout, PayoutId::derive(&party, Mode::Live, &key, shards));
    }

    #[test]
    fn any_text_is_an_id_in_its_only_form_or_an_error(text in "(po_|ev_|key_)?[0-9a-fA-F_é]{0,34}") {
        if let Ok(id) = text.parse::<PayoutId>() { prop_assert_eq!(id.to_string(), &*text); }
        if let Ok(id) = text.parse::<EventId>() { prop_assert_eq!(id.to_string(), &*text); }
        if let Ok(id) = text.parse::<ApiKeyId>() { prop_assert_eq!(id.to_string(), &*text); }
    }

    #[test]
    fn a_delivery_has_one_form(text in "dl_[0-9a-f]{27,29}_[0-9]{1,3}_[0-9a-fA-F]{23,24}(_1)?") {
        if let Ok(id) = text.parse::<DeliveryId>() { prop_assert_eq!(id.to_string(), &*text); }
    }
}
