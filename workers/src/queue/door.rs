//! The other way into a lane: for work that was leased in passing, by the script that made it due.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::feed::Ready;
use super::lease::Home;

/// Lets work into a lane that runs in this process.
pub struct Door<I, T: Clone> {
    pub(super) ready: Arc<Ready<I, T>>,
    pub(super) home: Arc<Home<T>>,
    pub(super) permits: Arc<Semaphore>,
    pub(super) concurrency: usize,
}

/// A share of a lane's concurrency that is held for work yet to be leased. What is not used of it is let go.
pub struct Room<'a, I, T: Clone> {
    door: &'a Door<I, T>,
    permits: OwnedSemaphorePermit,
}

impl<I, T: Clone> Door<I, T> {
    /// Room for up to `most` jobs; `None` when the lane is busy, or has stopped.
    #[must_use]
    pub fn room(&self, most: usize) -> Option<Room<'_, I, T>> {
        self.room_beside(0, most)
    }

    /// As [`Door::room`], of the one half of the lane only, for callers that may not fill the room that they take: as many of them as there may be at a
    /// time, the other half goes on working meanwhile.
    #[must_use]
    pub fn spare_room(&self, most: usize) -> Option<Room<'_, I, T>> {
        self.room_beside(self.concurrency / 2, most)
    }

    fn room_beside(&self, kept: usize, most: usize) -> Option<Room<'_, I, T>> {
        let free = self.permits.available_permits().saturating_sub(kept);
        let most = u32::try_from(free.min(most)).ok().filter(|most| *most > 0)?;
        let permits = self.permits.clone().try_acquire_many_owned(most).ok()?;
        // In this order: a lane that closes from here on waits for the permits, and so for what is leased with them.
        if !self.ready.is_open() {
            return None;
        }
        Some(Room { door: self, permits })
    }
}

impl<I, T: Clone> Room<'_, I, T> {
    /// The jobs that there is room for.
    #[must_use]
    pub fn size(&self) -> usize {
        self.permits.num_permits()
    }

    /// Hands leased work to the lane. What there is no room for, and everything once the lane has stopped, is given back.
    pub fn fill(mut self, work: Vec<(I, T)>) {
        let Door { ready, home, .. } = self.door;
        ready.add(work.into_iter().map(|(item, ticket)| home.job(item, ticket, self.permits.split(1))).collect());
    }
}
