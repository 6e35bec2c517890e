//! Everything after the commit, and the commit itself: the store, the queue, and the work that both carry.
//!
//! This is the only package that knows Redis. **Invariants:** a payout's record, events, ledger entries and work are written by one script; any
//! work may run twice; a handler returns only when what it learnt is committed.

pub mod agreement;
pub mod batch;
pub mod circuit;
pub mod clock;
pub mod deposit;
pub mod egress;
pub mod execute;
pub mod failpoints;
pub mod fence;
mod forgotten;
pub mod gate;
pub mod group;
pub mod lanes;
pub mod metrics;
pub mod open;
pub mod poll;
pub mod queue;
pub mod receipt;
pub mod reconcile;
pub mod record;
pub mod relay;
pub mod replay;
pub mod retention;
pub mod routing;
pub mod schedule;
pub mod settle;
pub mod store;
pub mod sweep;
pub mod trace;
pub mod waits;
