//! Batches, and workers that die while they open one.

use workers::batch::PAGE;

use super::*;

/// A page and a half.
const ITEMS: usize = PAGE + PAGE / 2;
/// A page takes a machine that has much else to do longer than the handlers of the other stories may take.
const UNHURRIED: [(&str, &str); 2] = [("workers.handler_deadline_ms", "20000"), ("workers.lease_ms", "25000")];

impl Site {
    /// Asks for a batch of payouts that go well.
    async fn post_batch(&self) -> (Uuid, Vec<Sent>) {
        let place = i64::try_from(Mood::ALL.iter().position(|known| *known == Mood::Plain).unwrap()).unwrap();
        let transactions: Vec<Uuid> = (0..ITEMS).map(|_| Uuid::new_v4()).collect();
        let item = |transaction: &Uuid| {
            json!({
                "transaction_id": transaction,
                "beneficiary_name": "John Smith",
                "beneficiary_iban": "GB33BUKB20201555555555",
                "beneficiary_reference": format!("Withdrawal {:.7}", transaction.simple().to_string()),
                "currency": "GBP",
                "amount_in_minor": Mood::FIRST_AMOUNT + place,
                "context_code": "withdrawal",
            })
        };
        let id = Uuid::new_v4();
        let body = json!({ "batch_id": id, "items": transactions.iter().map(item).collect::<Vec<_>>() });
        let answer = self.local.caller.call(Method::POST, "/v1/payouts/batches", Some(&body)).await.unwrap();
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        let party = &self.local.config.ingress.default_party;
        let sent = |transaction: Uuid| {
            let id = PayoutId::derive(party, Mode::Test, &transaction.to_string(), self.local.store.shards());
            Sent { transaction, id, provider: Provider::Truelayer, accepted: true, canceled: None }
        };
        (id, transactions.into_iter().map(sent).collect())
    }
}

/// A worker is aborted while it opens a batch; another one goes on where it was. No item twice, none lost, and each is told as opened by this batch.
async fn survives(armed: &str, opened: std::ops::Range<usize>) {
    let site = Site::with(&UNHURRIED, |_| {}).await;
    let (id, sent) = site.post_batch().await;
    aborted(site.worker("first", armed)).await;
    let mut there = 0;
    for sent in &sent {
        there += usize::from(site.local.store.load(sent.id).await.unwrap().is_some());
    }
    assert!(opened.contains(&there), "{there} of {opened:?}");
    site.leases_end().await;
    let _second = site.worker("second", "");
    let path = format!("/v1/payouts/batches/{id}");
    eventually("the batch is opened", PATIENCE, async || {
        let read = site.local.caller.expect(Method::GET, &path, None).await.unwrap();
        read["result"]["status"] == "expanded"
    })
    .await;
    let read = site.local.caller.expect(Method::GET, &path, None).await.unwrap();
    assert_eq!(read["result"]["results"]["opened"], ITEMS, "{read}");
    site.is_well(&sent).await;
    let read = site.local.caller.expect(Method::GET, &path, None).await.unwrap();
    assert_eq!(read["result"]["payouts"], json!({ "settled": ITEMS }));
}

#[tokio::test]
async fn a_crash_between_two_items_of_a_batch() {
    survives("batch-item-opened=abort@120", 120..ITEMS).await;
}

#[tokio::test]
async fn a_crash_between_a_page_of_a_batch_and_its_record() {
    survives("batch-page-not-recorded=abort@2", ITEMS..ITEMS + 1).await;
}
