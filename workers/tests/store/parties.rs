//! Parties against a real server: what the commit that opens a payout makes of them, and what a repeated or a second write does.

use domain::id::Mode;
use domain::party::{Country, Details, DisplayName, Party, PartyReference, Status};
use domain::payout::{Payout, What};
use domain::revision::Revision;
use jiff::{SignedDuration, Timestamp};
use workers::store::Store;
use workers::store::parties::Written;
use workers::store::payouts::{Committed, Opened};

use super::{Installation, beneficiary, decide, installation, order, party};

fn acme(fingerprint: &str) -> Party {
    let (reference, name) = (PartyReference::parse("acme").unwrap(), DisplayName::parse("Acme & Sons").unwrap());
    Party::new(reference, Mode::Test, name, Country::parse("GB").unwrap(), fingerprint.to_owned(), Timestamp::UNIX_EPOCH)
}

fn with(party: &Party, status: Status) -> Party {
    let Revision::Changed(next) = party.revise(Details { status, ..party.details.clone() }, party.version, Timestamp::UNIX_EPOCH) else { panic!() };
    next
}

async fn stored(store: &Store) -> Party {
    store.party(&party(), Mode::Test).await.unwrap().unwrap()
}

/// The commit decides, whatever was true when the payout was asked for: one that was judged before the deactivation is not opened after it.
#[tokio::test]
async fn no_payout_is_opened_after_a_deactivation() {
    let Installation { store, server: _server, .. } = &installation().await;
    let active = acme("f");
    assert_eq!(store.make_party(&active, &[], 0, &[]).await.unwrap(), Written::Done);
    let (first, second) = (order(store, "k1"), order(store, "k2"));
    assert!(matches!(store.open_payout(&first, &beneficiary(), "f1").await.unwrap(), Opened::New));
    let inactive = with(&active, Status::Inactive);
    assert_eq!(store.write_party(&inactive).await.unwrap(), Written::Done);
    assert!(matches!(store.open_payout(&second, &beneficiary(), "f2").await.unwrap(), Opened::Inactive));
    assert!(!store.is_claimed(second.payout.id).await.unwrap(), "its key is free");
    // What is open goes on, and its request is still a repeat.
    assert!(matches!(store.open_payout(&first, &beneficiary(), "f1").await.unwrap(), Opened::Exists(_)));
    assert!(matches!(store.open_payout(&first, &beneficiary(), "f2").await.unwrap(), Opened::Conflict));
    let send_by = store.clock().now() + SignedDuration::from_secs(10);
    let initiated = decide(&first.payout, store, What::Initiate { send_by, aside_until: None });
    assert_eq!(store.commit(&initiated).await.unwrap(), Committed::Done);

    assert_eq!(store.write_party(&with(&inactive, Status::Active)).await.unwrap(), Written::Done);
    assert!(matches!(store.open_payout(&second, &beneficiary(), "f2").await.unwrap(), Opened::New));
    let loaded: Payout = store.load(first.payout.id).await.unwrap().unwrap();
    assert_eq!(loaded, initiated.payout);
}

/// Each write counts once, on the version that it was decided on, and what was not written is not there.
#[tokio::test]
async fn records_are_written_on_the_version_that_was_seen() {
    let Installation { store, server: _server, .. } = &installation().await;
    let active = acme("f");
    assert_eq!(store.write_party(&with(&active, Status::Inactive)).await.unwrap(), Written::Missing, "there is nothing to change");
    assert_eq!(store.party(&party(), Mode::Test).await.unwrap(), None);
    assert!(store.is_active(&party(), Mode::Test).await.unwrap());
    assert_eq!(store.make_party(&active, &[], 0, &[]).await.unwrap(), Written::Done);
    assert_eq!(store.make_party(&acme("g"), &[], 0, &[]).await.unwrap(), Written::Stale);
    assert_eq!(stored(store).await, active);
    let inactive = with(&active, Status::Inactive);
    assert_eq!(store.write_party(&inactive).await.unwrap(), Written::Done);
    assert_eq!(store.write_party(&inactive).await.unwrap(), Written::Stale);
    assert_eq!(stored(store).await, inactive);
    assert_eq!(store.party(&party(), Mode::Live).await.unwrap(), None, "the other mode knows nothing of it");
}
