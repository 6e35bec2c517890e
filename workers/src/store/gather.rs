//! Calls that share a round trip, and one flush of the disk: what is asked for while one is under way goes with the next.
//!
//! Nothing waits for company: a call that finds none under way goes at once and alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Of each kind, at most, go together: a script holds up everybody else for as long as it runs.
const TOGETHER: usize = 32;

/// Calls to one shard, of two kinds, of which neither waits for its turn behind the other.
pub(super) struct Gather<T, R> {
    waiting: Mutex<Waiting<T, R>>,
    is_second: fn(&T) -> bool,
}

struct Waiting<T, R> {
    under_way: bool,
    calls: VecDeque<(T, oneshot::Sender<R>)>,
}

/// Whoever sends for all. Dropped before its time, it leaves nobody waiting.
struct Turn<T, R> {
    gather: Arc<Gather<T, R>>,
    ended: bool,
}

/// What is done at the end of a scope, however it ends.
struct Afterwards<F: FnOnce()>(Option<F>);

impl<T: Send + 'static, R: Send + 'static> Gather<T, R> {
    /// Asks for `item`. `send` answers for each of its items, in their order; `None` if it ended without.
    ///
    /// Of a caller that goes away, nobody knows whether it has asked.
    pub(super) async fn ask<S, F>(self: &Arc<Self>, item: T, send: S) -> Option<R>
    where
        S: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        match self.begin_or_wait(item) {
            Ok(item) => {
                let alone = send(vec![item]);
                let gather = Arc::clone(self);
                let _others = Afterwards(Some(move || gather.go_on(send)));
                alone.await.pop()
            }
            Err(answered) => answered.await.ok(),
        }
    }

    /// Gives the item back to whoever is to send it at once, or else what its answer comes by.
    fn begin_or_wait(&self, item: T) -> Result<T, oneshot::Receiver<R>> {
        let mut waiting = self.lock();
        if !std::mem::replace(&mut waiting.under_way, true) {
            return Ok(item);
        }
        let (answer, answered) = oneshot::channel();
        waiting.calls.push_back((item, answer));
        Err(answered)
    }

    /// Sends for those that have come meanwhile, in a task of its own: whoever was first has its answer, and may have gone.
    fn go_on<S, F>(self: Arc<Self>, send: S)
    where
        S: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        let mut turn = Turn { gather: self, ended: false };
        let Some(mut next) = turn.next() else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                loop {
                    let (items, answers) = next;
                    for (answer, result) in answers.into_iter().zip(send(items).await) {
                        let _ = answer.send(result);
                    }
                    match turn.next() {
                        Some(more) => next = more,
                        None => return,
                    }
                }
            });
        }
    }
}

impl<T, R> Gather<T, R> {
    /// `is_second`: of the second kind.
    pub(super) fn new(is_second: fn(&T) -> bool) -> Self {
        Self { waiting: Mutex::new(Waiting { under_way: false, calls: VecDeque::new() }), is_second }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T, R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> Turn<T, R> {
    /// What goes together now. At the end, whoever comes after it begins anew.
    fn next(&mut self) -> Option<(Vec<T>, Vec<oneshot::Sender<R>>)> {
        let mut waiting = self.gather.lock();
        let (mut together, mut later, mut counts) = (Vec::new(), VecDeque::new(), [0; 2]);
        while counts != [TOGETHER; 2] {
            let Some((item, answer)) = waiting.calls.pop_front() else { break };
            // Whoever has gone was told that nobody knows, and may have asked anew: it is not done long after that.
            if answer.is_closed() {
                continue;
            }
            let count = &mut counts[usize::from((self.gather.is_second)(&item))];
            if *count < TOGETHER {
                *count += 1;
                together.push((item, answer));
            } else {
                later.push_back((item, answer));
            }
        }
        later.append(&mut waiting.calls);
        waiting.calls = later;
        if together.is_empty() {
            waiting.under_way = false;
            self.ended = true;
            return None;
        }
        Some(together.into_iter().unzip())
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

impl<F: FnOnce()> Drop for Afterwards<F> {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then();
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
        let gather = Arc::new(Gather::<usize, usize>::new(|_| false));
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

    /// Many of one kind keep none of the other one waiting.
    #[tokio::test]
    async fn each_kind_has_its_own_room() {
        let gather = Arc::new(Gather::<usize, usize>::new(|item| *item >= 100));
        let (sent, mut calls) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let send = {
            let gate = gate.clone();
            move |items: Vec<usize>| {
                let (sent, gate) = (sent.clone(), gate.clone());
                async move {
                    sent.send(items.clone()).expect("the test listens");
                    gate.acquire().await.expect("the gate is never closed").forget();
                    items
                }
            }
        };
        let ask = |item| {
            let (gather, send) = (gather.clone(), send.clone());
            tokio::spawn(async move { gather.ask(item, send).await })
        };
        let mut asked = vec![ask(0)];
        assert_eq!(calls.recv().await, Some(vec![0]));
        for item in (100..100 + 2 * TOGETHER).chain([1]) {
            let before = gather.lock().calls.len();
            asked.push(ask(item));
            while gather.lock().calls.len() == before {
                tokio::task::yield_now().await;
            }
        }
        gate.add_permits(3);
        let expected: Vec<usize> = (100..100 + TOGETHER).chain([1]).collect();
        assert_eq!(calls.recv().await, Some(expected));
        assert_eq!(calls.recv().await, Some((100 + TOGETHER..100 + 2 * TOGETHER).collect()));
        for asked in asked {
            assert!(asked.await.expect("no panic").is_some());
        }
    }

    /// The first is under way and two more have come when `end` says how it ends.
    async fn first_ends(end: impl FnOnce(&Semaphore, tokio::task::JoinHandle<Option<usize>>)) -> [Option<usize>; 2] {
        let gather = Arc::new(Gather::<usize, usize>::new(|_| false));
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let ask = |item| {
            let (gather, gate, begun) = (gather.clone(), gate.clone(), begun.clone());
            tokio::spawn(async move {
                let send = move |items: Vec<usize>| {
                    let (gate, begun) = (gate.clone(), begun.clone());
                    async move {
                        begun.add_permits(1);
                        if items == [0] {
                            gate.acquire().await.expect("the test says how it ends").forget();
                        }
                        items
                    }
                };
                gather.ask(item, send).await
            })
        };
        let first = ask(0);
        begun.acquire().await.expect("open").forget();
        let others = [ask(1), ask(2)];
        while gather.lock().calls.len() < 2 {
            tokio::task::yield_now().await;
        }
        end(&gate, first);
        let [one, two] = others;
        [one.await.expect("no panic"), two.await.expect("no panic")]
    }

    #[tokio::test]
    async fn whoever_was_first_may_go_away_or_panic_and_the_others_go_all_the_same() {
        assert_eq!(first_ends(|gate, _| gate.add_permits(1)).await, [Some(1), Some(2)]);
        assert_eq!(first_ends(|_, first| first.abort()).await, [Some(1), Some(2)]);
        // Its call panics.
        assert_eq!(first_ends(|gate, _| gate.close()).await, [Some(1), Some(2)]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_sent() {
        let gather = Arc::new(Gather::<usize, usize>::new(|_| false));
        let (sent, mut calls) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let ask = |item| {
            let (gather, sent, gate) = (gather.clone(), sent.clone(), gate.clone());
            let send = move |items: Vec<usize>| {
                let (sent, gate) = (sent.clone(), gate.clone());
                async move {
                    sent.send(items.clone()).expect("the test listens");
                    gate.acquire().await.expect("the gate is never closed").forget();
                    items
                }
            };
            tokio::spawn(async move { gather.ask(item, send).await })
        };
        let first = ask(0);
        assert_eq!(calls.recv().await, Some(vec![0]));
        let [gone, stays] = [ask(1), ask(2)];
        while gather.lock().calls.len() < 2 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        assert!(gone.await.is_err());
        gate.add_permits(2);
        assert_eq!(calls.recv().await, Some(vec![2]));
        assert_eq!((first.await.expect("no panic"), stays.await.expect("no panic")), (Some(0), Some(2)));
    }

    #[tokio::test]
    async fn a_panic_leaves_nobody_waiting() {
        let gather = Arc::new(Gather::<usize, usize>::new(|_| false));
        let panics = |_: Vec<usize>| async { panic!("on purpose") };
        let alone = {
            let gather = gather.clone();
            tokio::spawn(async move { gather.ask(1, panics).await })
        };
        assert!(alone.await.is_err());
        assert_eq!(gather.ask(1, |items| async { items }).await, Some(1));
        // As long as it should be, or nobody hears of it.
        assert_eq!(gather.ask(1, |_| async { Vec::new() }).await, None);
    }
}
