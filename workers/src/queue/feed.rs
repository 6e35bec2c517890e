//! The worker's end of a queue: apalis-core's [`Backend`] over the jobs that the pump has leased.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::layers::Identity;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use futures_util::task::AtomicWaker;
use tokio::task::coop;

use super::lease::Job;
use super::{Settings, Shared, Source};

/// What is leased and not yet taken by the worker.
pub(super) struct Ready<I, T: Clone> {
    shelf: Mutex<Shelf<I, T>>,
    worker: AtomicWaker,
}

struct Shelf<I, T: Clone> {
    jobs: VecDeque<Job<I, T>>,
    /// False once the lane stops: whatever would be added goes back instead.
    open: bool,
    /// Counts task ids: with its `task-context` feature on, apalis panics on a task without one.
    taken: u64,
}

/// The worker's end of a queue.
pub(super) struct Feed<S: Source>(pub(super) Arc<Shared<S>>);

// === impl Ready ===

impl<I, T: Clone> Ready<I, T> {
    pub(super) fn new() -> Self {
        let shelf = Shelf { jobs: VecDeque::new(), open: true, taken: 0 };
        Self { shelf: Mutex::new(shelf), worker: AtomicWaker::new() }
    }

    /// Hands jobs to the worker; after [`close`](Self::close) drops them instead, so that their leases are given back.
    pub(super) fn add(&self, jobs: Vec<Job<I, T>>) {
        let refused = self.shelf(|shelf| {
            if !shelf.open {
                return jobs;
            }
            shelf.jobs.extend(jobs);
            Vec::new()
        });
        drop(refused);
        self.worker.wake();
    }

    /// Drops what the worker has not taken. Repeatable.
    pub(super) fn close(&self) {
        let unstarted = self.shelf(|shelf| {
            shelf.open = false;
            std::mem::take(&mut shelf.jobs)
        });
        drop(unstarted);
    }

    pub(super) fn is_open(&self) -> bool {
        self.shelf(|shelf| shelf.open)
    }

    fn take(&self) -> Option<Task<Job<I, T>>> {
        let (job, id) = self.shelf(|shelf| {
            let job = shelf.jobs.pop_front()?;
            shelf.taken += 1;
            Some((job, shelf.taken))
        })?;
        Some(TaskBuilder::new(job).task_id(TaskId::from_int(id)).build())
    }

    /// No item, ticket or lease is dropped under the lock, so none of their code runs there and poison means nothing.
    fn shelf<R>(&self, f: impl FnOnce(&mut Shelf<I, T>) -> R) -> R {
        f(&mut self.shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Feed ===

impl<S: Source> Backend for Feed<S> {
    type Task = Task<Job<S::Item, S::Ticket>>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, _: &WorkerContext) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let budget = ready!(coop::poll_proceed(cx));
        let mut task = self.0.ready.take();
        if task.is_none() {
            // Registered, then looked at again: jobs may have been added in between.
            self.0.ready.worker.register(cx.waker());
            task = self.0.ready.take();
        }
        match task {
            Some(task) => {
                budget.made_progress();
                Poll::Ready(Some(Ok(task)))
            }
            None => Poll::Pending,
        }
    }

    /// Nothing to do: after an aborted drain apalis does not call this at all, so [`run`](super::run) flushes the pump itself.
    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl<S: Source> BackendConfig for Feed<S> {
    type Args = Job<S::Item, S::Ticket>;
    type Id = TaskId;
    type Kind = Ephemeral;
    type Config = Settings;
    type Layer = Identity;

    fn config(&self) -> &Settings {
        &self.0.settings
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
