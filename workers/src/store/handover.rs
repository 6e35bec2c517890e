//! Deliveries that a script hands over: made due and leased in one stroke, for the relay lane that runs in the same process.
//!
//! What is new is delivered without a call for the lease, and so without a second flush of the disk; a lane with a backlog goes on without one. Nobody
//! gets ahead in this way: while the turn of any subscription has come, nothing is handed over. Whatever is not handed over waits in its lane, as ever.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use domain::id::Shard;

use super::Store;
use super::lanes::{RelayLanes, RelayTicket, RelayWork, millis};
use super::slots::Slots;
use crate::queue::Door;

/// Deliveries of one commit that are handed over, at most. There is seldom more than one.
const ROOM: usize = 4;

/// The relay lanes that run in this process.
#[derive(Default)]
pub(super) struct Takers(RwLock<HashMap<Shard, Arc<Taker>>>);

/// The relay lane of one shard.
pub(super) struct Taker {
    door: Door<RelayWork, RelayTicket>,
    pub(super) slots: Arc<Slots>,
    pub(super) lease_ms: u64,
    pub(super) per_subscription: usize,
}

/// Room in a lane for what a script may hand over.
pub(super) type Room<'a> = crate::queue::Room<'a, RelayWork, RelayTicket>;

impl Store {
    /// From now on scripts hand deliveries to this lane while it has room. A later lane of the same shard takes its place.
    pub fn hand_over_to(&self, lanes: &RelayLanes, door: Door<RelayWork, RelayTicket>) {
        let taker = Taker { door, slots: lanes.slots.clone(), lease_ms: millis(lanes.lane.lease), per_subscription: lanes.per_subscription };
        self.shared.takers.0.write().unwrap_or_else(PoisonError::into_inner).insert(lanes.lane.shard, Arc::new(taker));
    }

    pub(super) fn taker(&self, shard: Shard) -> Option<Arc<Taker>> {
        self.shared.takers.0.read().unwrap_or_else(PoisonError::into_inner).get(&shard).cloned()
    }
}

impl Taker {
    /// For what a commit makes due. While half of the lane is free, nobody has more than its share.
    pub(super) fn room(&self) -> Option<Room<'_>> {
        self.door.spare_room(ROOM)
    }

    /// For the one that follows a delivery, unless its party has more than its share.
    pub(super) fn room_for_one(&self, party: &str) -> Option<Room<'_>> {
        if self.slots.may_go_on(party) { self.door.room(1) } else { None }
    }
}
