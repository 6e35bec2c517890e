//! Calls that share a round trip, and one flush of the disk: what is asked for while one is under way goes with the next.
//!
//! Nothing waits for company: a call that finds none under way goes at once and alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Calls that go together, at most: a script holds up everybody else for as long as it runs.
const TOGETHER: usize = 32;

/// The calls of one kind to one shard.
pub(super) struct Gather<T, R>(Mutex<Waiting<T, R>>);

struct Waiting<T, R> {
    under_way: bool,
    calls: VecDeque<(T, oneshot::Sender<R>)>,
}

/// Whoever sends for all. Dropped before its time, it leaves nobody waiting.
struct Turn<T, R> {
    gather: Arc<Gather<T, R>>,
    ended: bool,
}

impl<T, R> Default for Gather<T, R> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { under_way: false, calls: VecDeque::new() }))
    }
}

impl<T: Send + 'static, R: Send + 'static> Gather<T, R> {
    /// Asks for `item`. `send` answers for each of its items, in their order; `None` if it ended without.
    ///
    /// A caller that goes away has asked all the same.
    pub(super) async fn ask<S, F>(self: &Arc<Self>, item: T, send: S) -> Option<R>
    where
        S: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        let (answer, answered) = oneshot::channel();
        let goes_now = {
            let mut waiting = self.lock();
            waiting.calls.push_back((item, answer));
            !std::mem::replace(&mut waiting.under_way, true)
        };
        if goes_now {
            // A task of its own: the caller may be dropped, and others count on it.
            let mut turn = Turn { gather: Arc::clone(self), ended: false };
            tokio::spawn(async move {
                while let Some((items, answers)) = turn.next() {
                    for (answer, result) in answers.into_iter().zip(send(items).await) {
                        let _ = answer.send(result);
                    }
                }
            });
        }
        answered.await.ok()
    }
}

impl<T, R> Gather<T, R> {
    fn lock(&self) -> MutexGuard<'_, Waiting<T, R>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> Turn<T, R> {
    /// What goes together now. At the end, whoever comes after it begins anew.
    fn next(&mut self) -> Option<(Vec<T>, Vec<oneshot::Sender<R>>)> {
        let mut waiting = self.gather.lock();
        let count = waiting.calls.len().min(TOGETHER);
        if count == 0 {
            waiting.under_way = false;
            self.ended = true;
            return None;
        }
        Some(waiting.calls.drain(..count).unzip())
    }
}

impl<T, R> Drop for Turn<T, R> {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.gather.lock();
            waiting.under_way = false;
            waiting.calls.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    #[tokio::test]
    async fn what_comes_while_a_call_is_under_way_goes_with_the_next() {
        let gather = Arc::new(Gather::<usize, usize>::default());
        let (sent, mut calls) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let send = move |items: Vec<usize>| {
            let (sent, gate) = (sent.clone(), gate.clone());
            async move {
                sent.send((items.len(), gate.clone())).expect("the test listens");
                gate.acquire().await.expect("the gate is never closed").forget();
                items.into_iter().map(|item| item * 2).collect()
            }
        };
        let ask = |item| {
            let (gather, send) = (gather.clone(), send.clone());
            tokio::spawn(async move { gather.ask(item, send).await })
        };
        let mut asked = vec![ask(0)];
        let (alone, gate) = calls.recv().await.expect("it goes at once");
        assert_eq!(alone, 1);
        asked.extend((1..=TOGETHER + 1).map(ask));
        // They are asked for before the gate opens.
        while gather.lock().calls.len() <= TOGETHER {
            tokio::task::yield_now().await;
        }
        gate.add_permits(3);
        let together = [calls.recv().await, calls.recv().await].map(|call| call.map(|(count, _)| count));
        assert_eq!(together, [Some(TOGETHER), Some(1)]);
        for (item, asked) in asked.into_iter().enumerate() {
            assert_eq!(asked.await.expect("no panic"), Some(item * 2));
        }
        // And the next one goes at once again.
        gate.add_permits(1);
        assert_eq!(ask(7).await.expect("no panic"), Some(14));
    }

    #[tokio::test]
    async fn a_panic_leaves_nobody_waiting() {
        let gather = Arc::new(Gather::<usize, usize>::default());
        let panics = |_: Vec<usize>| async { panic!("on purpose") };
        assert_eq!(gather.ask(1, panics).await, None);
        assert_eq!(gather.ask(1, |items| async { items }).await, Some(1));
        // As long as it should be, or nobody hears of it.
        assert_eq!(gather.ask(1, |_| async { Vec::new() }).await, None);
    }
}
