//! The auditor of "at most one movement per payout": a sandbox's **own ledger of money that moved**.
//!
//! It counts what left, not what was asked for, and groups it in two ways: by our payout, which the key of an attempt can be turned back into, and by
//! what a bank would see (amount, currency, beneficiary, reference).

use std::collections::BTreeMap;

use domain::id::ProviderKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Money on its way out, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    Out,
    Back,
}

/// One movement of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// The key that the payout was asked for with. One that is not a UUID is told apart by a UUID made of its hash.
    pub transaction_id: Uuid,
    pub direction: Direction,
    pub amount_in_minor: i64,
    pub currency: String,
    /// A hash of name and account, to tell beneficiaries apart without naming them.
    pub beneficiary: String,
    pub reference: String,
    pub at: Timestamp,
}

impl Movement {
    /// Our payout and attempt, if the `transaction_id` has the form of a key of ours.
    #[must_use]
    pub fn payout_and_attempt(&self) -> Option<(domain::id::PayoutId, u8)> {
        ProviderKey::from_uuid(self.transaction_id).payout_and_attempt()
    }
}

/// The auditor's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ledger {
    pub movements: Vec<Movement>,
    /// Movements out while another one of the same payout of ours had not come back. **Must be 0.**
    pub double_movements: u64,
    /// The same by what a bank would see. Two payouts that are meant to look alike count here too.
    pub same_to_the_bank: u64,
}

impl Ledger {
    pub(crate) fn of(movements: Vec<Movement>) -> Self {
        let by_payout = doubles(&movements, |movement| match movement.payout_and_attempt() {
            Some((payout, _)) => payout.to_string(),
            None => movement.transaction_id.to_string(),
        });
        let by_looks = doubles(&movements, |movement| {
            (movement.amount_in_minor, movement.currency.clone(), movement.beneficiary.clone(), movement.reference.clone())
        });
        Self { movements, double_movements: by_payout, same_to_the_bank: by_looks }
    }
}

fn doubles<K: Ord>(movements: &[Movement], group: impl Fn(&Movement) -> K) -> u64 {
    let mut out: BTreeMap<K, i64> = BTreeMap::new();
    let mut doubles = 0;
    for movement in movements {
        let count = out.entry(group(movement)).or_default();
        match movement.direction {
            Direction::Out => {
                *count += 1;
                doubles += u64::from(*count > 1);
            }
            Direction::Back => *count -= 1,
        }
    }
    doubles
}

/// A key as the auditor knows it. One that is no UUID gets one of its own.
pub(crate) fn uuid_of(key: &[u8]) -> Uuid {
    Uuid::try_parse_ascii(key).unwrap_or_else(|_| {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = <[u8; 32]>::from(Sha256::digest(key));
        Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    })
}

/// A name for the beneficiary that tells two apart and says nothing about either.
pub(crate) fn mask_of(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            digest.update([0]);
        }
        digest.update(part);
    }
    const_hex::encode(&digest.finalize()[..8])
}

#[cfg(test)]
mod tests {
    use domain::id::{Mode, PartyId, PayoutId, Shards};

    use super::*;

    fn movement(key: ProviderKey, direction: Direction, reference: &str) -> Movement {
        Movement {
            transaction_id: key.as_uuid(),
            direction,
            amount_in_minor: 1,
            currency: "GBP".to_owned(),
            beneficiary: "b".to_owned(),
            reference: reference.to_owned(),
            at: Timestamp::UNIX_EPOCH,
        }
    }

    /// The auditor finds a payout that was paid under two keys, and does not mistake a second try after a failure for that.
    #[test]
    fn doubles_are_found_across_attempts() {
        let payout = |key| PayoutId::derive(&PartyId::parse("acme").expect("a party"), Mode::Test, key, Shards::ONE);
        let (a, b) = (payout("a"), payout("b"));
        let (first, second) = (ProviderKey::derive(a, 1), ProviderKey::derive(a, 2));
        use Direction::{Back, Out};
        let ledger = |movements: Vec<Movement>| {
            let ledger = Ledger::of(movements);
            (ledger.double_movements, ledger.same_to_the_bank)
        };
        assert_eq!(ledger(vec![movement(first, Out, "x"), movement(ProviderKey::derive(b, 1), Out, "y")]), (0, 0));
        assert_eq!(ledger(vec![movement(first, Out, "x"), movement(second, Out, "y")]), (1, 0));
        assert_eq!(ledger(vec![movement(first, Out, "x"), movement(first, Back, "x"), movement(second, Out, "x")]), (0, 0));
        assert_eq!(ledger(vec![movement(first, Out, "x"), movement(ProviderKey::derive(b, 1), Out, "x")]), (0, 1));
        assert_eq!(ledger(vec![movement(first, Out, "x"), movement(first, Out, "x"), movement(first, Out, "x")]), (2, 2));
        // A key that is not ours stands for itself.
        let strange = ProviderKey::from_uuid(Uuid::nil());
        assert_eq!(ledger(vec![movement(strange, Out, "x"), movement(strange, Out, "y")]), (1, 0));
    }
}
