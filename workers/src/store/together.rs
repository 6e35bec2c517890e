//! What is written together: steps of payouts and tries of deliveries that come while a call is under way go with the next one, each for itself. They share
//! the round trip, what a script reads only once, and above all the flush of the disk, which is the largest part of either.

use std::sync::atomic::Ordering;

use domain::id::Shard;
use futures_util::future::join;
use redis::{Cmd, Pipeline, Value};

use super::commit::Written;
use super::gather::Gather;
use super::payouts::unknown_answer;
use super::subscriptions::Try;
use super::{Store, StoreError};

/// What a shard is asked, with others of its kind and of the other one.
pub(super) enum Asked {
    Step(Written),
    Try(Try),
}

/// The answer of the script for one of them.
pub(super) type Answer = Result<Value, StoreError>;

/// What a shard is asked together.
pub(super) type Calls = Gather<Asked, Answer>;

/// Those of a shard.
pub(super) fn calls() -> Calls {
    Gather::new(|asked| matches!(asked, Asked::Try(_)))
}

impl Store {
    /// Asks it with what else there is, and gives what the script answers to it. It waits for the call that is under way.
    pub(super) async fn ask(&self, shard: Shard, asked: Asked) -> Answer {
        let calls = self.shared.calls.get(usize::from(shard.index())).ok_or_else(|| unknown_answer("a shard"))?;
        let store = self.clone();
        let send = move |asked| {
            let store = store.clone();
            async move { store.ask_together(shard, asked).await }
        };
        calls.ask(asked, send).await.unwrap_or(Err(StoreError::Unavailable(None)))
    }

    /// The answer to each, in their order.
    async fn ask_together(&self, shard: Shard, asked: Vec<Asked>) -> Vec<Answer> {
        let (mut steps, mut tries, mut is_step) = (Vec::new(), Vec::new(), Vec::with_capacity(asked.len()));
        for one in asked {
            is_step.push(matches!(one, Asked::Step(_)));
            match one {
                Asked::Step(step) => steps.push(step),
                Asked::Try(one) => tries.push(one),
            }
        }
        let [known_of_tries, known_of_steps] = if steps.is_empty() || tries.is_empty() {
            [None, None]
        } else {
            self.in_one([self.record_call(shard, &tries), self.commit_call(shard, &steps)]).await
        };
        let of_tries = async {
            match known_of_tries {
                Some(answer) => answer,
                None if tries.is_empty() => Ok(Value::Array(Vec::new())),
                None => self.call(self.record_call(shard, &tries), &self.shared.scripts.relayed).await,
            }
        };
        let of_steps = async {
            match known_of_steps {
                Some(answer) => answer,
                None if steps.is_empty() => Ok(Value::Array(Vec::new())),
                None => self.call(self.commit_call(shard, &steps), &self.shared.scripts.commit).await,
            }
        };
        let (of_tries, of_steps) = join(of_tries, of_steps).await;
        let mut of_steps = self.committed(shard, &steps, of_steps).await.into_iter();
        let mut of_tries = one_for_each(tries.len(), of_tries).into_iter();
        let next = |is_step| if is_step { of_steps.next() } else { of_tries.next() };
        is_step.into_iter().map(next).map(|answer| answer.unwrap_or_else(|| Err(unknown_answer("nothing")))).collect()
    }

    /// Both calls, one after the other, with nothing between them and one flush. Nothing of one that has failed: it is asked for again by itself, which changes
    /// nothing where it was done, and then it says what is wrong with it. Where no answer comes in time, nobody is asked again.
    async fn in_one(&self, calls: [Cmd; 2]) -> [Option<Answer>; 2] {
        let mut both = Pipeline::with_capacity(calls.len());
        both.atomic();
        for call in calls {
            both.add_command(call);
        }
        let mut connection = self.connection();
        // The last of the answers is that of the transaction.
        let calling = connection.send_packed_commands(&both, 3, 1);
        let Ok(answers) = tokio::time::timeout(self.shared.deadline, calling).await else {
            return [(); 2].map(|()| Some(Err(self.unavailable(None))));
        };
        let Ok(Some(Value::Array(answers))) = answers.map(|mut answers| answers.pop()) else { return [None, None] };
        self.shared.healthy.store(true, Ordering::Relaxed);
        let mut answers = answers.into_iter().map(|answer| if matches!(answer, Value::ServerError(_)) { None } else { Some(Ok(answer)) });
        [answers.next().flatten(), answers.next().flatten()]
    }
}

/// What a script has answered to `count` of them at once, or the error that concerns all.
pub(super) fn one_for_each(count: usize, answer: Answer) -> Vec<Answer> {
    match answer {
        Ok(Value::Array(answers)) if answers.len() == count => answers.into_iter().map(Ok).collect(),
        Ok(_) => (0..count).map(|_| Err(unknown_answer("another number of answers"))).collect(),
        Err(error) => vec![Err(error); count],
    }
}
