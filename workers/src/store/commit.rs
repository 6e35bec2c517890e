//! A step on its way to the store: what the script is told of it, and what it hands over.

use std::sync::Arc;

use domain::event::Event;
use domain::id::Shard;
use domain::payout::{Payout, Step};
use domain::work::Next;
use redis::{Arg, Cmd, Value};

use super::handover::Room;
use super::lanes::{RelayTicket, RelayWork, Token};
use super::payouts::{Permit, StoredEvent, answer_of, random_token, unknown_answer};
use super::schedules::Advance;
use super::slots::Slots;
use super::together::{Asked, one_for_each};
use super::{COMMAND_BYTES, COMMAND_PARTS, Store, StoreError, circuits, from_value, to_json};
use crate::gate::Question;

/// What a commit has beside its step; for most of them nothing.
#[derive(Clone, Copy, Default)]
pub(super) struct Beside<'a> {
    /// Of the request that opens the payout.
    pub(super) fingerprint: &'a str,
    /// What the payout has to pass that is opened, or whose amount is fixed.
    pub(super) question: Option<&'a Question>,
    /// The beneficiary of the payout that is opened.
    pub(super) sealed: &'a [u8],
    /// How far the schedule comes that opens it, if one does.
    pub(super) advance: Option<&'a Advance>,
    /// What is asked of the account beside the entries, as the script reads it.
    pub(super) asked: &'a str,
}

/// A step as the script reads it.
#[derive(Clone)]
pub(super) struct Written {
    key: String,
    values: Cmd,
}

impl Store {
    /// Asks the script to commit a step, and fills the room that there is for deliveries with what it hands over. Gives the script's answer.
    pub(super) async fn commit_step(&self, step: &Step, permit: Option<Permit>, beside: Beside<'_>, request: &[u8]) -> Result<Value, StoreError> {
        let shard = step.payout.id.shard();
        let taker = if step.events.is_empty() { None } else { self.taker(shard) };
        let room = taker.as_ref().and_then(|taker| taker.room());
        let written = self.written(step, permit, beside, request, room.as_ref().map_or(0, Room::size));
        // Those that are under way may take their whole deadline, and then it has one of its own.
        let answer = tokio::time::timeout(2 * self.shared.deadline, self.ask(shard, Asked::Step(written))).await;
        let answer = answer.unwrap_or_else(|_| Err(self.unavailable(None)))?;
        if let (Some(room), Some(taker), Value::Array(parts)) = (room, &taker, &answer)
            && let [_, _, _, _, token, handed @ ..] = parts.as_slice()
            && !handed.is_empty()
        {
            let party: Arc<str> = [step.payout.party.as_str(), ":", step.payout.mode.as_str()].concat().into();
            room.fill(handed.chunks_exact(3).filter_map(|entry| handed_over(step, token, entry, &taker.slots, &party)).collect());
        }
        Ok(answer)
    }

    /// Everything that the script is told of a step. `room`: deliveries that the caller would take at once.
    fn written(&self, step: &Step, permit: Option<Permit>, beside: Beside<'_>, request: &[u8], room: usize) -> Written {
        let Beside { fingerprint, question, sealed, advance, asked } = beside;
        let payout = &step.payout;
        let (next, due) = match step.next {
            Next::Execute(at) => ("x", at.as_millisecond()),
            Next::Poll(at) => ("p", at.as_millisecond()),
            Next::Keep => ("k", 0),
            Next::Nothing => ("n", 0),
        };
        let is_open = !payout.state.name().is_final();
        let mut values = Cmd::with_capacity(COMMAND_PARTS, COMMAND_BYTES);
        values.arg(payout.version.saturating_sub(1)).arg(random_token()).arg(to_json(payout)).arg(to_json(&step.observation));
        values.arg(match permit {
            None => String::new(),
            Some(Permit::Execute(token)) => format!("x{}", token.0),
            Some(Permit::Poll(token)) => format!("p{}", token.0),
            Some(Permit::Group { token, group, again }) => format!("{}{} {group}", if again { "r" } else { "g" }, token.0),
        });
        values.arg(next).arg(due).arg(fingerprint).arg(sealed).arg(request);
        values.arg(payout.id.to_string()).arg(step.observation.at.as_millisecond());
        values.arg(if is_open { "1" } else { "0" }).arg(payout.version);
        let to = permit.and(payout.attempt()).map(|attempt| circuits::name(attempt.provider, payout.mode));
        values.arg(to.unwrap_or_default());
        values.arg(payout.state.name().as_str()).arg(payout.requested_at().as_millisecond());
        values.arg(if payout.version == 1 { payout.metadata.json() } else { "" });
        values.arg(question.map(Question::whom).unwrap_or_default()).arg(question.map(to_json).unwrap_or_default()).arg(asked).arg(room);
        values.arg(advance.map(|advance| advance.to_value()).unwrap_or_default());
        values.arg([payout.party.as_str(), payout.mode.as_str(), payout.amount.currency().code()].join(":")).arg(step.entries.len());
        for entry in &step.entries {
            values.arg(entry.from.name()).arg(entry.to.name()).arg(entry.minor);
        }
        values.arg(step.events.len());
        for event in &step.events {
            values.arg(event.id.sequence()).arg(event.kind.name()).arg(stored(event, payout));
        }
        Written { key: self.shared.names.payout(payout.id), values }
    }

    /// The answers of the script for each of the steps. One that failed there among others is asked for once more by itself, so that its error concerns nobody
    /// else and is told as what it is.
    pub(super) async fn committed(&self, shard: Shard, steps: &[Written], answer: Result<Value, StoreError>) -> Vec<Result<Value, StoreError>> {
        let mut answers = one_for_each(steps.len(), answer);
        let mut concerns_all = None;
        for (answer, step) in answers.iter_mut().zip(steps) {
            if answer.as_ref().is_ok_and(|answer| answer_of(answer).is_ok_and(|word| word == "failed")) {
                *answer = match &concerns_all {
                    Some(error) => Err(StoreError::clone(error)),
                    None => match self.call(self.commit_call(shard, std::slice::from_ref(step)), &self.shared.scripts.commit).await {
                        Ok(Value::Array(alone)) => alone.into_iter().next().ok_or_else(|| unknown_answer("nothing")),
                        Ok(_) => Err(unknown_answer("no list")),
                        Err(error) => Err(error),
                    },
                };
                if let Err(error @ (StoreError::Unavailable(_) | StoreError::Full)) = answer {
                    concerns_all = Some(error.clone());
                }
            }
        }
        answers
    }

    /// The call of the script for these steps.
    pub(super) fn commit_call(&self, shard: Shard, steps: &[Written]) -> Cmd {
        let names = &self.shared.names;
        let of_all = ["clock", "lanes", "open", "due:execute"].map(|name| names.of(shard, name));
        let keys: Vec<&str> = of_all.iter().chain(steps.iter().map(|step| &step.key)).map(String::as_str).collect();
        let taker = self.taker(shard);
        let mut command = self.shared.scripts.commit.call(&keys, (COMMAND_PARTS * steps.len(), COMMAND_BYTES * steps.len()));
        command.arg(names.shard(shard)).arg(taker.as_ref().map_or(0, |taker| taker.lease_ms));
        command.arg(taker.as_ref().map_or(0, |taker| taker.per_subscription));
        for step in steps {
            let values = step.values.args_iter();
            command.arg(values.len());
            for value in values {
                if let Arg::Simple(value) = value {
                    command.arg(value);
                }
            }
        }
        command
    }
}

/// A delivery of a step's event that the commit has leased in passing. One that cannot be read stays leased, and is found when the lease ends.
fn handed_over(step: &Step, token: &Value, entry: &[Value], slots: &Arc<Slots>, party: &Arc<str>) -> Option<(RelayWork, RelayTicket)> {
    let [subscription, version, sequence] = entry else { return None };
    let text = |value: &Value| from_value::<String>(value.clone()).ok();
    let token = Token(from_value(token.clone()).ok()?);
    let (subscription, sequence): (_, u32) = (text(subscription)?.parse().ok()?, text(sequence)?.parse().ok()?);
    let event = step.events.iter().find(|event| event.id.sequence() == sequence)?;
    let work = RelayWork {
        subscription,
        subscription_version: text(version)?.parse().ok(),
        event: StoredEvent::of(event, step.payout.trace.as_deref()),
        delivery: None,
        times_leased: 1,
        slot: slots.take(party, false),
    };
    Some((work, RelayTicket { subscription, event: event.id, token, party: party.clone() }))
}

fn stored(event: &Event, payout: &Payout) -> String {
    let at = event.at.as_millisecond().to_string();
    let (space, trace) = payout.trace.as_deref().map_or(("", ""), |trace| (" ", trace));
    [event.kind.name(), " ", &at, space, trace, "\n", event.stem(&payout.metadata)].concat()
}
