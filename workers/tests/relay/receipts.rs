//! Receipts: the same state has the same place, the chain holds together, and nothing of it can be changed unnoticed.

use domain::delivery::Progress;
use domain::id::{DeliveryId, EventId};
use workers::receipt::{Invalid, Receipt, find, issue};
use workers::relay::keys::{self, PublicKey, SigningKeys};
use workers::store::receipts::Chain;

use super::*;

fn signing() -> (SigningKeys, PublicKey) {
    let (private, public) = keys::make(&[7; 32]).unwrap();
    (SigningKeys::read([private.as_str()]).unwrap(), public)
}

impl Installation {
    pub(super) async fn receipt(&self, payout: &Payout) -> Option<Receipt> {
        let id = DeliveryId::new(EventId::new(payout.id, 1), self.subscription);
        let (party, mode, told) = self.store.delivery(id).await.unwrap().unwrap();
        issue(&self.store, &signing().0, &party, mode, &told).await.unwrap()
    }
}

#[tokio::test]
async fn a_receipt_proves_what_was_sent_and_answered() {
    let at = &installation().await;
    let (a, b) = (at.open("a").await, at.open("b").await);
    assert_eq!(at.receipt(&a).await, None, "it was not tried");
    at.receiver.mood(Mood::Status(500));
    at.crank().await;
    let failed = at.receipt(&a).await.unwrap();
    at.receiver.mood(Mood::Status(200));
    at.later(60).await;
    at.crank().await;
    let mut chain = vec![failed];
    for payout in [&a, &b] {
        chain.push(at.receipt(payout).await.unwrap());
        // Of another second it may be, and be signed as of that.
        let again = at.receipt(payout).await.unwrap();
        assert_eq!(Some((again.id, &again.statement)), chain.last().map(|last| (last.id, &last.statement)), "the same place again");
        assert!(again.verify(&[signing().1]).is_ok());
    }
    let keys = [signing().1];
    let mut previous = String::new();
    for (number, receipt) in (1..).zip(&chain) {
        let read: Receipt = serde_json::from_str(&serde_json::to_string(receipt).unwrap()).unwrap();
        let statement = read.verify(&keys).unwrap();
        assert_eq!((statement.link.place, &statement.link.previous), (number, &previous));
        previous = statement.link.hash;
    }
    let record: serde_json::Value = serde_json::from_str(&chain[1].verify(&keys).unwrap().record).unwrap();
    assert_eq!((record["status"].as_str(), record["attempt_count"].as_u64()), (Some(Progress::Delivered.name()), Some(2)));
    assert_eq!(record["attempts"][1]["result"]["status"], 200);

    let other = keys::make(&[8; 32]).unwrap().1;
    assert_eq!(chain[1].verify(&[other]), Err(Invalid::Signature));
    let changed = Receipt { statement: chain[1].statement.replace("200", "201"), ..chain[1].clone() };
    assert_eq!(changed.verify(&keys), Err(Invalid::Signature));
    let moved = Receipt { issued_at: chain[1].issued_at + 1, ..chain[1].clone() };
    assert_eq!(moved.verify(&keys), Err(Invalid::Signature));
    // Even whoever has the key cannot put another record into a link.
    let statement = chain[1].statement.replace("200", "201");
    let signatures = signing().0.sign(&chain[1].id.to_string(), chain[1].issued_at, statement.as_bytes());
    assert_eq!(Receipt { statement, signatures, ..chain[1].clone() }.verify(&keys), Err(Invalid::Hash));
    assert_eq!(PublicKey::read(&keys[0].text).as_ref().ok(), Some(&keys[0]));
    assert!(PublicKey::read("whpk_AAAA").is_err());
}

/// Many at a time make one chain.
#[tokio::test]
async fn receipts_that_are_asked_for_together_make_one_chain() {
    let at = &installation().await;
    let mut payouts = Vec::new();
    for number in 0..8 {
        payouts.push(at.open(&number.to_string()).await);
    }
    at.crank().await;
    let receipts = futures_util::future::join_all(payouts.iter().map(|payout| at.receipt(payout))).await;
    let keys = [signing().1];
    let mut links: Vec<_> = receipts.into_iter().map(|receipt| receipt.unwrap().verify(&keys).unwrap().link).collect();
    links.sort_by_key(|link| link.place);
    assert_eq!(links.iter().map(|link| link.place).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    assert!(links.windows(2).all(|pair| pair[1].previous == pair[0].hash));
}

/// The oldest links go, the others are a chain from there on; whoever has a receipt goes on proving what it says, and readers make nothing.
#[tokio::test]
async fn a_chain_is_trimmed_and_goes_on_from_its_anchor() {
    let at = &installation().await;
    let mut payouts = Vec::new();
    for number in 0..5 {
        payouts.push(at.open(&number.to_string()).await);
    }
    at.crank().await;
    let trim = async |kept| at.store.trim_receipts(Shard::new(0), Duration::from_secs(kept), 1).await.unwrap();
    let chain = async || at.store.links(&party(), Mode::Test, 0, 10).await.unwrap();
    assert_eq!((chain().await, trim(0).await), (Chain::default(), 0));
    let oldest = at.receipt(&payouts[0]).await.unwrap();
    at.receipt(&payouts[1]).await.unwrap();
    at.later(60).await;
    let third = at.receipt(&payouts[2]).await.unwrap().verify(&[signing().1]).unwrap().link;
    let before = chain().await;
    assert_eq!((before.length, before.anchor.clone(), before.links.len()), (3, (0, String::new()), 3));

    assert_eq!((trim(30).await, trim(30).await, trim(30).await), (1, 1, 0));
    let (length, anchor) = (3, (2, before.links[1].0.hash.clone()));
    assert_eq!(chain().await, Chain { length, anchor: anchor.clone(), links: vec![before.links[2].clone()] });
    assert_eq!(before.links[2].0, third);
    assert!(oldest.verify(&[signing().1]).is_ok());
    assert_eq!(at.store.links(&party(), Mode::Test, 3, 10).await.unwrap().links, []);

    // All of them, and the next one follows the anchor.
    at.later(60).await;
    assert_eq!((trim(30).await, trim(30).await), (1, 0));
    assert_eq!(chain().await, Chain { length, anchor: (3, third.hash.clone()), links: Vec::new() });
    let next = at.receipt(&payouts[3]).await.unwrap().verify(&[signing().1]).unwrap().link;
    assert_eq!((next.place, &next.previous), (4, &third.hash));
    // What was trimmed gets a place of its own when it is asked for again.
    let again = at.receipt(&payouts[0]).await.unwrap().verify(&[signing().1]).unwrap();
    assert_eq!((again.link.place, &again.link.previous, &again.record), (5, &next.hash, &oldest.verify(&[signing().1]).unwrap().record));
    let id = DeliveryId::new(EventId::new(payouts[4].id, 1), at.subscription);
    let (of, mode, told) = at.store.delivery(id).await.unwrap().unwrap();
    assert_eq!(find(&at.store, &signing().0, &of, mode, &told).await.unwrap(), None);
    assert_eq!(chain().await.length, 5);
}
