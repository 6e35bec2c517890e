//! Routes in whose course a provider turns out to be no one to send to.

use std::time::{Duration, Instant};

use domain::destination::{Beneficiary, BeneficiaryName, Destination, Iban, StatementReference};
use domain::fact::{Provider, Reason};
use domain::id::{Mode, PayoutId};
use domain::money::{Currency, Money};
use domain::payout::state::StateName;
use domain::payout::{Order, Payout};
use providers::sandbox::mood::Mood;
use workers::store::freeze::Freeze;

use super::{House, PATIENCE, quick, unhurried};

/// A payout whose route was decided with another configuration: what the next provider cannot take goes to the one after it, and where nobody has an
/// account for as long as a dispatch is tried at all, it is rejected in the end.
#[tokio::test]
async fn nothing_waits_for_ever_for_a_provider_that_cannot_take_it() {
    let house = House::with(&unhurried(), "rules.dispatch_bound_ms = 4000\n", quick).await;
    house.local.sandboxes.truelayer_v3.set_mood(1, Mood::Refuse);
    let open = async |key: &str, mode: Mode, route: Vec<Provider>| {
        let (store, party) = (&house.local.store, house.local.config.ingress.default_party.clone());
        let order = Order {
            id: PayoutId::derive(&party, mode, key, store.shards()),
            party,
            mode,
            transaction_id: key.to_owned(),
            amount: Money::new(12_345, Currency::GBP).unwrap().into(),
            keeps: 0,
            context_code: "withdrawal".to_owned(),
            metadata: domain::metadata::Metadata::default(),
            scheduled_for: None,
            route,
            maker: "ops".to_owned(),
            batch_id: None,
            replaces: None,
            due_date: None,
            decided_by: std::collections::BTreeSet::new(),
            approve_by: None,
            rule: None,
            trace: None,
        };
        let beneficiary = Beneficiary {
            name: BeneficiaryName::parse("Ada Quill", 18).unwrap(),
            reference: StatementReference::parse("Withdrawal 204", 18).unwrap(),
            destination: Destination::Iban(Iban::parse("GB33BUKB20201555555555").unwrap()),
            description: None,
            instrument: None,
        };
        let step = Payout::open(order, store.clock().now());
        store.open_payout(&step, &beneficiary, "f").await.unwrap();
        step.payout.id
    };
    let becomes = async |id: PayoutId, states: &[StateName]| {
        let began = Instant::now();
        loop {
            let payout = house.local.store.load(id).await.unwrap().unwrap();
            if states.contains(&payout.state.name()) {
                return payout;
            }
            assert!(began.elapsed() < PATIENCE, "{payout:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    let paid = open("moved", Mode::Test, vec![Provider::TruelayerV3, Provider::Mollie, Provider::WorldpayAccount]).await;
    let payout = becomes(paid, &[StateName::Settled, StateName::Rejected, StateName::Failed, StateName::InReview]).await;
    let sends: Vec<_> = payout.attempts.iter().map(|attempt| (attempt.provider, attempt.sends)).collect();
    assert_eq!(sends, [(Provider::TruelayerV3, 1), (Provider::Mollie, 0), (Provider::WorldpayAccount, 1)]);
    assert_eq!(payout.state.name(), StateName::Settled);

    // No account in this mode.
    let stranded = open("stranded", Mode::Live, vec![Provider::TruelayerV3, Provider::Mollie]).await;
    let payout = becomes(stranded, &[StateName::Rejected, StateName::InReview]).await;
    assert_eq!(payout.state.reason(), Some(&Reason::new("provider_not_configured")));
    assert_eq!(payout.attempts.iter().map(|attempt| attempt.sends).collect::<Vec<_>>(), [0]);
    assert!(payout.reached[&StateName::Rejected].duration_since(payout.reached[&StateName::Requested]) >= jiff::SignedDuration::from_secs(4));

    // After the store has lost writes: nobody is passed over unasked, and nobody is paid.
    let (store, shard) = (&house.local.store, paid.shard());
    store.freeze(shard, &Freeze { reason: "a drill".to_owned(), at_ms: 0, epoch_seen: 0, nothing_lost: false }).await.unwrap();
    let suspect = open("suspect", Mode::Test, vec![Provider::Mollie, Provider::WorldpayAccount]).await;
    store.thaw(shard, Duration::from_millis(100)).await.unwrap();
    let payout = becomes(suspect, &[StateName::Settled, StateName::Rejected, StateName::InReview]).await;
    assert_eq!((payout.state.name(), payout.attempts.len()), (StateName::InReview, 0));
    assert_eq!(house.local.sandboxes.times_paid(suspect), 0);
}
