//! The course of a payout in a sandbox: stage after stage in a task of its own, with the notices that its mood wants.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::mood::Mood;
use crate::clock;

/// A sandbox, as far as the course of its payouts needs it.
pub(crate) trait Course: Clone + Send + Sync + 'static {
    type Id: Clone + Send + Sync;
    type Stage: Copy + Send + Sync;
    type Moved: Send + Sync;

    /// The stages of a payout in that mood, each with the wait before it in milliseconds.
    fn plan(&self, id: &Self::Id, mood: Mood) -> Vec<(u64, Self::Stage)>;
    /// Moves a payout on; `None` if it is not there or cannot go there from where it is.
    fn step(&self, id: &Self::Id, stage: Self::Stage) -> Option<Self::Moved>;
    /// Sends the notice about a move, or a forged one that lies about it.
    fn tell(&self, moved: &Self::Moved, forged: bool) -> impl Future<Output = ()> + Send;
    /// Before that, nobody outside knows of the payout.
    fn visible_at(&self, id: &Self::Id) -> Option<Timestamp>;
    fn errands(&self) -> &Errands;
}

/// What a sandbox does by itself: moves that are to come, and notices that are on their way.
#[derive(Default)]
pub(crate) struct Errands {
    /// Ends them.
    pub(crate) stopped: CancellationToken,
    running: TaskTracker,
}

impl Errands {
    /// Whether nothing will move or be told any more without somebody's doing.
    pub(crate) fn are_done(&self) -> bool {
        self.running.is_empty()
    }

    /// Runs something until it ends or everything does. Must be called inside a tokio runtime.
    pub(crate) fn run(&self, errand: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        self.running.spawn(async move {
            stopped.run_until_cancelled(errand).await;
        });
    }
}

/// Takes a payout through its stages, and tells of its first one if there is something to tell. Must be called inside a tokio runtime.
pub(crate) fn begin<C: Course>(course: &C, id: C::Id, mood: Mood, first: Option<C::Moved>) {
    let (moves, receiver) = mpsc::unbounded_channel();
    course.errands().run(notices(course.clone(), id.clone(), mood, receiver));
    let mover = course.clone();
    course.errands().run(async move {
        let course = mover;
        if first.is_some_and(|first| moves.send(first).is_err()) {
            return;
        }
        for (wait, stage) in course.plan(&id, mood) {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            // Somebody may have cancelled it or moved it by hand, or a restart has the first stages behind it: then it goes on from there or stays.
            if let Some(moved) = course.step(&id, stage)
                && moves.send(moved).is_err()
            {
                return;
            }
        }
    });
}

/// Tells of one move that was made by hand. Must be called inside a tokio runtime.
pub(crate) fn announce<C: Course>(course: &C, id: C::Id, moved: C::Moved) {
    let (moves, receiver) = mpsc::unbounded_channel();
    if moves.send(moved).is_ok() {
        course.errands().run(notices(course.clone(), id, Mood::Plain, receiver));
    }
}

/// Takes the moves of one payout and sends a notice about each, one after the other, until there are no more.
async fn notices<C: Course>(course: C, id: C::Id, mood: Mood, mut moves: mpsc::UnboundedReceiver<C::Moved>) {
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

async fn send<C: Course>(course: &C, id: &C::Id, mood: Mood, moved: &C::Moved) {
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
