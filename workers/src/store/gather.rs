//! Calls that share a round trip, and one flush of the disk: what is asked for while one is under way goes with the next.
//!
//! Nothing waits for company: a call that finds none under way goes at once and alone. And under load the server does not wait for us: once as much waits as went
//! with the call before, it goes too, and is there when the server is done with that. Fewer would be further flushes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Of each kind, at most, go together: a script holds up everybody else for as long as it runs. And so many, at least, go beside a call that is under way.
const TOGETHER: usize = 32;

/// Calls to one shard, of two kinds, of which neither waits for its turn behind the other.
pub(super) struct Gather<T, R> {
    waiting: Mutex<Waiting<T, R>>,
    is_second: fn(&T) -> bool,
}

struct Waiting<T, R> {
    /// Calls under way: two at most.
    under_way: usize,
    /// How many went with the latest.
    latest: usize,
    asked: VecDeque<(T, oneshot::Sender<R>)>,
}

/// What goes with one call.
type Together<T, R> = (Vec<T>, Vec<oneshot::Sender<R>>);

/// How an item begins.
enum Begun<T, R> {
    /// It goes at once, alone.
    Alone(T),
    /// It waits; its answer comes by this. And what is to be sent beside the call that is under way.
    Waits(oneshot::Receiver<R>, Option<Together<T, R>>),
}

/// A call under way. Dropped before its time, and none other is, it leaves nobody waiting.
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
        let turn = || Turn { gather: Arc::clone(self), ended: false };
        match self.begin(item) {
            Begun::Alone(item) => {
                let mut turn = turn();
                let alone = send(vec![item]);
                let _others = Afterwards(Some(move || {
                    if let Some(next) = turn.next() {
                        turn.go_on(next, send);
                    }
                }));
                alone.await.pop()
            }
            Begun::Waits(answered, beside) => {
                if let Some(beside) = beside {
                    turn().go_on(beside, send);
                }
                answered.await.ok()
            }
        }
    }

    fn begin(&self, item: T) -> Begun<T, R> {
        let mut waiting = self.lock();
        if waiting.under_way == 0 {
            (waiting.under_way, waiting.latest) = (1, 1);
            return Begun::Alone(item);
        }
        let (answer, answered) = oneshot::channel();
        waiting.asked.push_back((item, answer));
        Begun::Waits(answered, waiting.next(self.is_second))
    }
}

impl<T: Send + 'static, R: Send + 'static> Turn<T, R> {
    /// Sends for those that have come meanwhile, in a task of its own: whoever was first has its answer, and may have gone.
    fn go_on<S, F>(mut self, mut next: Together<T, R>, send: S)
    where
        S: Fn(Vec<T>) -> F + Send + 'static,
        F: Future<Output = Vec<R>> + Send,
    {
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                loop {
                    let (items, answers) = next;
                    let results = send(items).await;
                    let more = self.next();
                    for (answer, result) in answers.into_iter().zip(results) {
                        let _ = answer.send(result);
                    }
                    match more {
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
        Self { waiting: Mutex::new(Waiting { under_way: 0, latest: 0, asked: VecDeque::new() }), is_second }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T, R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, R> Waiting<T, R> {
    /// What is to be sent now, if anything is: all that waits if nothing is under way; beside one call, if it is as much as went with the latest.
    fn next(&mut self, is_second: fn(&T) -> bool) -> Option<Together<T, R>> {
        if self.under_way > 1 || self.under_way == 1 && self.asked.len() < self.latest.max(TOGETHER) {
            return None;
        }
        let (mut together, mut later, mut counts) = (Vec::new(), VecDeque::new(), [0; 2]);
        while counts != [TOGETHER; 2] {
            let Some((item, answer)) = self.asked.pop_front() else { break };
            // Whoever has gone was told that nobody knows, and may have asked anew: it is not done long after that.
            if answer.is_closed() {
                continue;
            }
            let count = &mut counts[usize::from(is_second(&item))];
            if *count < TOGETHER {
                *count += 1;
                together.push((item, answer));
            } else {
                later.push_back((item, answer));
            }
        }
        later.append(&mut self.asked);
        self.asked = later;
        if together.is_empty() {
            return None;
        }
        self.under_way += 1;
        self.latest = together.len();
        Some(together.into_iter().unzip())
    }
}

impl<T, R> Turn<T, R> {
    /// Its call has ended: what goes together now. At the end, whoever comes after it begins anew.
    fn next(&mut self) -> Option<Together<T, R>> {
        let mut waiting = self.gather.lock();
        waiting.under_way -= 1;
        let next = waiting.next(self.gather.is_second);
        self.ended = next.is_none();
        next
    }
}

impl<T, R> Drop for Turn<T, R> {
    fn drop(&mut self) {
        if !self.ended {
            let mut waiting = self.gather.lock();
            waiting.under_way -= 1;
            if waiting.under_way == 0 {
                waiting.asked.clear();
            }
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

    /// Calls that end when the test says so.
    struct Calls {
        gather: Arc<Gather<usize, usize>>,
        sent: mpsc::UnboundedSender<(Vec<usize>, oneshot::Sender<()>)>,
        seen: mpsc::UnboundedReceiver<(Vec<usize>, oneshot::Sender<()>)>,
        asked: Vec<tokio::task::JoinHandle<Option<usize>>>,
    }

    impl Calls {
        /// What is 100 or more is of the second kind.
        fn new() -> Self {
            let (sent, seen) = mpsc::unbounded_channel();
            Self { gather: Arc::new(Gather::new(|item| *item >= 100)), sent, seen, asked: Vec::new() }
        }

        /// Asks for these, one after the other. Afterwards so many calls are under way, and so many items wait.
        async fn ask(&mut self, items: impl IntoIterator<Item = usize>, (under_way, wait): (usize, usize)) {
            for item in items {
                let (gather, sent) = (self.gather.clone(), self.sent.clone());
                let send = move |items: Vec<usize>| {
                    let (end, ended) = oneshot::channel();
                    let _ = sent.send((items.clone(), end));
                    async move {
                        let _ = ended.await;
                        items.into_iter().map(|item| item * 2).collect()
                    }
                };
                let seen = Arc::new(Semaphore::new(0));
                let begun = seen.clone();
                self.asked.push(tokio::spawn(async move {
                    begun.add_permits(1);
                    gather.ask(item, send).await
                }));
                // It has asked when it waits for its answer.
                seen.acquire().await.expect("open").forget();
                tokio::task::yield_now().await;
            }
            let waiting = self.gather.lock();
            assert_eq!((waiting.under_way, waiting.asked.len()), (under_way, wait));
        }

        /// The next call, with what goes along.
        async fn call(&mut self) -> (Vec<usize>, oneshot::Sender<()>) {
            self.seen.recv().await.expect("a call")
        }

        async fn all_are_answered(self) {
            let Self { sent, mut seen, asked, .. } = self;
            drop(sent);
            while let Some((_, end)) = seen.recv().await {
                let _ = end.send(());
            }
            for asked in asked {
                assert!(asked.await.expect("no panic").is_some());
            }
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_call_is_under_way_goes_with_the_next() {
        let mut calls = Calls::new();
        calls.ask([0], (1, 0)).await;
        let (alone, end) = calls.call().await;
        assert_eq!(alone, [0]);
        calls.ask(1..TOGETHER, (1, TOGETHER - 1)).await;
        end.send(()).expect("it waits");
        let (together, end) = calls.call().await;
        assert_eq!(together, (1..TOGETHER).collect::<Vec<_>>());
        end.send(()).expect("it waits");
        for (item, asked) in calls.asked.drain(..).enumerate() {
            assert_eq!(asked.await.expect("no panic"), Some(item * 2));
        }
        // And the next one goes at once again.
        calls.ask([7], (1, 0)).await;
        assert_eq!(calls.call().await.0, [7]);
    }

    /// So the server has the next call when it is done with one.
    #[tokio::test]
    async fn as_much_as_is_under_way_goes_beside_it() {
        let mut calls = Calls::new();
        calls.ask([0], (1, 0)).await;
        let (_, end_first) = calls.call().await;
        calls.ask(1..TOGETHER, (1, TOGETHER - 1)).await;
        calls.ask([TOGETHER], (2, 0)).await;
        let (beside, end_beside) = calls.call().await;
        assert_eq!(beside.len(), TOGETHER);
        // Two are enough.
        let of_both = || (0..TOGETHER).chain(100..100 + TOGETHER);
        calls.ask(of_both(), (2, 2 * TOGETHER)).await;
        end_first.send(()).expect("it waits");
        let (third, end_third) = calls.call().await;
        assert_eq!(third.len(), 2 * TOGETHER);
        end_beside.send(()).expect("it waits");
        while calls.gather.lock().under_way > 1 {
            tokio::task::yield_now().await;
        }
        // Fewer than that do not go beside it.
        calls.ask(of_both().skip(1), (1, 2 * TOGETHER - 1)).await;
        calls.ask([0], (2, 0)).await;
        let (fourth, end_fourth) = calls.call().await;
        assert_eq!(fourth.len(), 2 * TOGETHER);
        drop((end_third, end_fourth));
        calls.all_are_answered().await;
    }

    /// Many of one kind keep none of the other one waiting.
    #[tokio::test]
    async fn each_kind_has_its_own_room() {
        let mut calls = Calls::new();
        calls.ask([0], (1, 0)).await;
        let (_, end_first) = calls.call().await;
        calls.ask(1..=TOGETHER, (2, 0)).await;
        let (_, end_beside) = calls.call().await;
        calls.ask((100..100 + 2 * TOGETHER).chain([1]), (2, 2 * TOGETHER + 1)).await;
        end_first.send(()).expect("it waits");
        let (mixed, end_mixed) = calls.call().await;
        assert_eq!(mixed, (100..100 + TOGETHER).chain([1]).collect::<Vec<_>>());
        drop((end_beside, end_mixed));
        assert_eq!(calls.call().await.0, (100 + TOGETHER..100 + 2 * TOGETHER).collect::<Vec<_>>());
        calls.all_are_answered().await;
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
        while gather.lock().asked.len() < 2 {
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
        while gather.lock().asked.len() < 2 {
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
