//! Payouts of a whole balance, and workers that die while they fix what it is.

use domain::account::{Funding, Holder, TopUp};
use domain::amount::Amount;
use domain::id::TopUpId;
use domain::ledger::Account;
use workers::store::accounts::{SetUp, ToppedUp};

use super::*;

/// No mood goes with it.
const THERE: i64 = 54_321;

impl Site {
    /// A balance in pounds, and a payout of all of it that is due.
    async fn post_whole(&self) -> Sent {
        let (store, party) = (&self.local.store, self.local.config.ingress.default_party.clone());
        let mut account = store.account(&party, Mode::Test, Currency::GBP).await.unwrap().account;
        (account.version, account.funding) = (1, Funding::Balance);
        assert_eq!(store.set_up(&account, &Holder::default()).await.unwrap(), SetUp::Done);
        self.top_up("first", THERE).await;
        let transaction = Uuid::new_v4();
        let transaction_id = transaction.to_string();
        let id = PayoutId::derive(&party, Mode::Test, &transaction_id, store.shards());
        let order = Order {
            id,
            party,
            mode: Mode::Test,
            transaction_id,
            amount: Amount::Whole(Currency::GBP),
            keeps: 0,
            context_code: "withdrawal".to_owned(),
            metadata: domain::metadata::Metadata::default(),
            scheduled_for: None,
            route: vec![Provider::Truelayer],
            maker: "maker".to_owned(),
            batch_id: None,
            replaces: None,
            due_date: None,
            decided_by: std::collections::BTreeSet::new(),
            approve_by: None,
            rule: None,
            trace: None,
        };
        store.open_payout(&Payout::open(order, store.clock().now()), &beneficiary(), "fingerprint").await.unwrap();
        Sent { transaction, id, provider: Provider::Truelayer, accepted: true, canceled: None }
    }

    async fn top_up(&self, key: &str, minor: i64) {
        let (store, party) = (&self.local.store, self.local.config.ingress.default_party.clone());
        let money = Money::new(minor, Currency::GBP).unwrap();
        let id = TopUpId::derive(&party, Mode::Test, key, store.shards());
        let top_up = TopUp { id, party, mode: Mode::Test, transaction_id: key.to_owned(), money, recorded_at: store.clock().now() };
        assert_eq!(store.top_up(&top_up).await.unwrap(), ToppedUp::New);
    }

    async fn funds(&self) -> [i64; 3] {
        let standing = self.local.store.account(&self.local.config.ingress.default_party, Mode::Test, Currency::GBP).await.unwrap();
        [Account::Available, Account::Reserved, Account::Settled].map(|account| standing.balances.of(account))
    }
}

/// It is fixed and reserved, and whoever comes next sends that: what has come in since is not in it.
#[tokio::test]
async fn a_crash_between_the_amount_and_the_intent() {
    let site = Site::open().await;
    let sent = site.post_whole().await;
    assert_eq!(site.funds().await, [THERE, 0, 0]);
    aborted(site.worker("first", "fixed-before-intent=abort")).await;
    let held = site.payout(&sent).await;
    assert_eq!((held.state.name(), held.amount.exact().map(Money::minor)), (StateName::Requested, Some(THERE)));
    assert_eq!((site.funds().await, site.calls(&sent).creates), ([0, THERE, 0], 0));
    site.top_up("second", 100).await;
    site.leases_end().await;
    let _second = site.worker("second", "");
    eventually("it is settled", PATIENCE, async || site.state(&sent).await == StateName::Settled).await;
    let fixes = site.local.store.timeline(sent.id).await.unwrap().unwrap().observations;
    assert_eq!(fixes.iter().filter(|seen| matches!(seen.fact.as_ref().map(|fact| &fact.what), Some(What::Fix { .. }))).count(), 1);
    assert_eq!((site.funds().await, site.movements(&sent)), ([100, 0, THERE], 1));
}
