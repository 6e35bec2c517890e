//! Room for requests of one kind: so many at a time, and of one party only a share of them, so that nobody takes it all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::{Mode, PartyId};
use tokio::sync::{Semaphore, SemaphorePermit};

/// So much of all may be one party's: a fourth.
const SHARE: usize = 4;

/// Seats for requests.
#[derive(Debug)]
pub(super) struct Room {
    all: Semaphore,
    /// Of one party and mode.
    share: usize,
    /// Those who have some. Never more than there are seats.
    taken: Mutex<HashMap<(PartyId, Mode), usize>>,
}

/// A place in a room, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    room: &'a Room,
    of: (PartyId, Mode),
    _one: SemaphorePermit<'a>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All of them.
    All,
    /// As many as one party can have.
    Share,
}

impl Room {
    pub(super) fn new(seats: usize) -> Self {
        Self { all: Semaphore::new(seats), share: (seats / SHARE).max(1), taken: Mutex::default() }
    }

    /// A seat at once, or none.
    pub(super) fn enter(&self, party: &PartyId, mode: Mode) -> Result<Seat<'_>, Taken> {
        let one = self.all.try_acquire().map_err(|_| Taken::All)?;
        let of = (party.clone(), mode);
        let mut taken = self.taken();
        let has = taken.entry(of.clone()).or_default();
        if *has >= self.share {
            return Err(Taken::Share);
        }
        *has += 1;
        drop(taken);
        Ok(Seat { room: self, of, _one: one })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<(PartyId, Mode), usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        if let Some(has) = taken.get_mut(&self.of) {
            *has -= 1;
            if *has == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_party_takes_its_share_and_leaves_the_rest() {
        let [shop, cafe] = ["shop", "cafe"].map(|name| PartyId::parse(name).unwrap());
        let room = Room::new(8);
        let seats = [room.enter(&shop, Mode::Test).unwrap(), room.enter(&shop, Mode::Test).unwrap()];
        assert_eq!(room.enter(&shop, Mode::Test).unwrap_err(), Taken::Share);
        let others = [room.enter(&cafe, Mode::Test).unwrap(), room.enter(&shop, Mode::Live).unwrap()];
        drop(seats);
        let again = room.enter(&shop, Mode::Test).unwrap();
        drop((again, others));
        assert!(room.taken().is_empty());
        let parties: Vec<_> = (0..9).map(|number| PartyId::parse(&format!("p{number}")).unwrap()).collect();
        let seats: Vec<_> = parties.iter().filter_map(|party| room.enter(party, Mode::Test).ok()).collect();
        assert_eq!((seats.len(), room.enter(&parties[8], Mode::Test).unwrap_err()), (8, Taken::All));
        assert_eq!(Room::new(1).share, 1);
    }
}
