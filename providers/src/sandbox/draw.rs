//! Chance that can be repeated: the same for the same seed and the same key, whatever the order of arrival.

use sha2::{Digest as _, Sha256};

/// One of the choices, in about `percent` of a hundred cases; otherwise, or if there is nothing to choose from, `None`.
pub(crate) fn one_of<T: Copy>(choices: &[T], percent: u8, seed: u64, key: &[u8]) -> Option<T> {
    let digest: [u8; 32] = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(key).finalize().into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    let (chance, choice) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    if u64::from(chance) * 100 >= u64::from(percent) << 32 {
        return None;
    }
    choices.get(usize::try_from(choice).unwrap_or_default().checked_rem(choices.len())?).copied()
}
