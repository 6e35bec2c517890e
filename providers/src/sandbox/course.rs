//! The course of a payout in a sandbox: stage after stage in a task of its own, with the notices that its mood wants.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::mood::Mood;
use crate::clock;

/// A sandbox, as far as the course of its payouts needs it.
pub(crate) trait Course: Clone + Send + Sync + 'static {
    type Stage: Copy + Send + Sync;
    type Moved: Send + Sync;

    /// The stages of a payout in that mood, each with the wait before it in milliseconds.
    fn plan(&self, mood: Mood) -> Vec<(u64, Self::Stage)>;
    /// Moves a payout on; `None` if it is not there or cannot go there from where it is.
    fn step(&self, id: &str, stage: Self::Stage) -> Option<Self::Moved>;
    /// Sends the notice about a move, or a forged one that lies about it.
    fn tell(&self, moved: &Self::Moved, forged: bool) -> impl Future<Output = ()> + Send;
    /// Before that, nobody outside knows of the payout.
    fn visible_at(&self, id: &str) -> Option<Timestamp>;
    fn stopped(&self) -> CancellationToken;
}

/// Takes a new payout through its stages. Must be called inside a tokio runtime.
pub(crate) fn begin<C: Course>(course: &C, id: String, mood: Mood) {
    let (moves, receiver) = mpsc::unbounded_channel();
    tokio::spawn(notices(course.clone(), id.clone(), mood, receiver));
    let (course, stopped) = (course.clone(), course.stopped());
    tokio::spawn(async move {
        for (wait, stage) in course.plan(mood) {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait)) => {}
                () = stopped.cancelled() => return,
            }
            // Somebody may have cancelled it, or moved it by hand: then it goes on from there or stays.
            if let Some(moved) = course.step(&id, stage)
                && moves.send(moved).is_err()
            {
                return;
            }
        }
    });
}

/// Tells of one move that was made by hand. Must be called inside a tokio runtime.
pub(crate) fn announce<C: Course>(course: &C, id: &str, moved: C::Moved) {
    let (moves, receiver) = mpsc::unbounded_channel();
    if moves.send(moved).is_ok() {
        tokio::spawn(notices(course.clone(), id.to_owned(), Mood::Plain, receiver));
    }
}

/// Takes the moves of one payout and sends a notice about each, one after the other, until there are no more.
async fn notices<C: Course>(course: C, id: String, mood: Mood, mut moves: mpsc::UnboundedReceiver<C::Moved>) {
    let mut held = Vec::new();
    while let Some(moved) = moves.recv().await {
        match mood {
            Mood::NoNotices => {}
            Mood::ShuffledNotices => held.push(moved),
            _ => send(&course, &id, mood, &moved).await,
        }
    }
    for moved in held.iter().rev() {
        send(&course, &id, mood, moved).await;
    }
}

async fn send<C: Course>(course: &C, id: &str, mood: Mood, moved: &C::Moved) {
    if let Some(visible_at) = course.visible_at(id) {
        tokio::time::sleep(visible_at.duration_since(clock::now()).max(SignedDuration::ZERO).unsigned_abs()).await;
    }
    if mood == Mood::BadSignature {
        course.tell(moved, true).await;
    }
    let copies = if mood == Mood::DuplicateNotices { 2 } else { 1 };
    for _ in 0..copies {
        course.tell(moved, false).await;
    }
}
