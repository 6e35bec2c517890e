//! Stories of the whole system: real Redis, real sockets.

#![allow(clippy::unwrap_used, reason = "a scenario ends at its first surprise, helpers included")]

mod agreement;
mod approvals;
mod balance_accounts;
mod balance_payouts;
mod balances;
mod batches;
mod bulletins;
mod crash;
mod deliveries;
mod dev;
mod fan_out;
mod feed;
mod groups;
mod ingress;
mod interop;
mod limits;
mod listen;
mod openapi;
mod parties;
mod party_freeze;
mod portal;
mod providers;
mod receipts;
#[path = "../../workers/tests/relay/receiver.rs"]
#[allow(dead_code, reason = "it belongs to the tests of the relay, which use all of it")]
mod receiver;
mod samples;
mod schedule;
mod scheduled;
mod seeds;
mod support;
mod telemetry;
mod webhooks;
