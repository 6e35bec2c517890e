//! How ids are written, read and derived.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::Visitor;
use sha2::{Digest, Sha256};

use super::{IdError, Shard};

/// Debug and serde of a type whose `Display` and `FromStr` are inverse: both are that text.
macro_rules! as_text {
    ($($id:ident),+) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(PhantomData))
            }
        }
    )+};
}

/// An id of `$bytes` bytes, written as `$prefix` and `$digits` lower-case hexadecimal digits.
macro_rules! hex_id {
    ($(#[$doc:meta])* $id:ident, $prefix:literal, $bytes:literal, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $id([u8; $bytes]);

        impl $id {
            /// The id without its prefix, as the store packs it.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                write_hex(f, &self.0)
            }
        }

        impl FromStr for $id {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                text.strip_prefix($prefix)
                    .and_then(read_hex)
                    .map(Self)
                    .ok_or(IdError { expected: concat!($prefix, " and ", $digits, " lower-case hexadecimal digits") })
            }
        }

        as_text!($id);
    };
}

/// For ids whose first byte is their shard.
macro_rules! in_shard {
    ($($id:ident),+) => {$(
        impl $id {
            /// The shard that the record lives in.
            #[must_use]
            pub const fn shard(self) -> Shard {
                Shard::new(self.0[0])
            }
        }
    )+};
}

/// SHA-256 over the label and the parts, each preceded by its length in bytes as eight big-endian bytes: no two different lists read the same.
pub(super) fn digest(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(label.as_bytes()).chain(parts.iter().copied()) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The shard and the first 13 bytes of a digest.
pub(super) fn in_front(shard: Shard, digest: [u8; 32]) -> [u8; 14] {
    let mut id = [shard.index(); 14];
    id[1..].copy_from_slice(&digest[..13]);
    id
}

pub(super) fn write_hex<const N: usize>(f: &mut fmt::Formatter<'_>, bytes: &[u8; N]) -> fmt::Result {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // One call for all of them: ids are written several times a request.
    let pairs = bytes.map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    f.write_str(std::str::from_utf8(pairs.as_flattened()).map_err(|_| fmt::Error)?)
}

/// Exactly `N` bytes, two lower-case digits each.
pub(super) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a' - 10),
        _ => None,
    }
}

/// Reads a text with `FromStr`, without a copy of it.
pub(super) struct Text<T>(pub(super) PhantomData<T>);

impl<T: FromStr<Err = IdError>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
