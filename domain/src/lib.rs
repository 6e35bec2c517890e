//! What a payout is. No async, no clock, no network: time is passed in, and everything here is a value or a pure function.
//!
//! Start with [`payout`]; it is the only place where a payout's state changes.

#![warn(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

pub mod account;
pub mod amount;
pub mod bulletin;
pub mod calendar;
pub mod credential;
pub mod delivery;
pub mod destination;
pub mod event;
pub mod fact;
pub mod fingerprint;
pub mod id;
pub mod instrument;
pub mod ledger;
pub mod metadata;
pub mod money;
pub mod party;
pub mod payout;
pub mod portal;
pub mod revision;
pub mod sample;
pub mod schedule;
pub mod signature;
pub mod snapshot;
pub mod subscription;
pub mod wait;
pub mod work;
