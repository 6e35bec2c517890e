//! What a sandbox remembers whose provider names payouts itself: our keys with their first answers, payouts under the provider's ids, and movements.
//!
//! With a journal the book outlives its process. A key is remembered for as long as the provider documents, and no longer: after that the same request is carried out again, as it would be there.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::audit::{Direction, Ledger, Movement};
use super::behaviour::Behaviour;
use super::calls::{Calls, SentNotice};
use super::journal::Journal;
use super::mood::{Chooser, Distribution, Mood};

/// A book of payouts `P`.
pub(crate) struct Book<P> {
    inner: Mutex<Inner<P>>,
}

struct Inner<P> {
    behaviour: Behaviour,
    /// How long a key is remembered; `None`: for ever.
    remembered: Option<SignedDuration>,
    chooser: Chooser,
    entries: HashMap<Uuid, Entry>,
    payouts: HashMap<String, Kept<P>>,
    /// The payouts' ids, oldest first.
    order: Vec<String>,
    movements: Vec<Movement>,
    out: Out,
    journal: Journal,
}

/// A line of the journal. The last one about a key or an id counts.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<P> {
    Key { key: Uuid, mood: Mood, first: First },
    Payout { id: String, kept: Kept<P> },
    Movement(Movement),
}

/// By currency, what has left and not come back.
pub(crate) type Out = HashMap<String, i128>;

#[derive(Default)]
struct Entry {
    mood: Mood,
    /// Whether the mood's first answer has been given.
    faulted: bool,
    first: Option<First>,
    ids: Vec<String>,
    calls: Calls,
}

/// What a key was first used for.
#[derive(Clone, Serialize, Deserialize)]
struct First {
    content: [u8; 32],
    at: Timestamp,
    /// `None` while the first request is under way.
    answer: Option<(u16, Value)>,
}

/// A payout under the provider's id.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Kept<P> {
    pub(crate) key: Uuid,
    pub(crate) visible_at: Timestamp,
    pub(crate) payout: P,
}

/// What a create comes to before it is carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// To be carried out now; [`Book::settle`] says what was answered.
    New(Mood),
    /// The key is remembered. `answer` is the first one, if there is one yet.
    Repeat { same: bool, answer: Option<(u16, Value)> },
    /// Not carried out, by mood.
    Faulted(Mood),
    /// No room.
    Full,
}

/// Everything about one key, for the admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View<P> {
    pub mood: Mood,
    /// What was made under it, oldest first. More than one if it was used again after it was forgotten.
    pub payouts: Vec<P>,
    pub calls: Calls,
}

impl<P: Clone + Serialize + DeserializeOwned> Book<P> {
    /// Opens a book, with what the journal has kept.
    pub(crate) fn open(behaviour: &Behaviour, remembered: Option<SignedDuration>) -> std::io::Result<Self> {
        let (journal, lines) = Journal::open(behaviour.journal.as_deref())?;
        let mut inner = Inner {
            behaviour: behaviour.clone(),
            remembered,
            chooser: Chooser::new(Mood::COMMON, behaviour.magic, behaviour.random.clone()),
            entries: HashMap::new(),
            payouts: HashMap::new(),
            order: Vec::new(),
            movements: Vec::new(),
            out: HashMap::new(),
            journal,
        };
        lines.into_iter().for_each(|line| inner.replay(line));
        Ok(Self { inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a create and says what becomes of it. `reference` and `minor` may choose the mood of a key that is new.
    pub(crate) fn admit(&self, key: Uuid, reference: &str, minor: i64, content: &[u8], now: Timestamp) -> Admitted {
        let mut inner = self.lock();
        if !inner.entries.contains_key(&key) {
            if inner.entries.len() >= inner.behaviour.keys_max {
                return Admitted::Full;
            }
            let mood = inner.chooser.choose(key.as_bytes(), &[reference], minor);
            inner.entries.insert(key, Entry { mood, ..Entry::default() });
        }
        let remembered = inner.remembered;
        let Some(entry) = inner.entries.get_mut(&key) else { return Admitted::Full };
        entry.calls.creates += 1;
        let content: [u8; 32] = Sha256::digest(content).into();
        let known = |first: &&First| remembered.is_none_or(|time| now.duration_since(first.at) < time);
        if let Some(first) = entry.first.as_ref().filter(known) {
            return Admitted::Repeat { same: first.content == content, answer: first.answer.clone() };
        }
        let first = !std::mem::replace(&mut entry.faulted, true);
        match entry.mood {
            Mood::Refuse => return Admitted::Faulted(Mood::Refuse),
            mood @ (Mood::ErrorBefore | Mood::RateLimit) if first => return Admitted::Faulted(mood),
            _ => {}
        }
        let first = First { content, at: now, answer: None };
        entry.first = Some(first.clone());
        let (mood, again) = (entry.mood, !entry.ids.is_empty());
        inner.journal.write(&Line::<P>::Key { key, mood, first });
        Admitted::New(if again { Mood::Plain } else { mood })
    }

    /// The answer that repeats under this key get from now on.
    pub(crate) fn settle(&self, key: Uuid, status: u16, answer: Value) {
        let mut inner = self.lock();
        let Some(Entry { mood, first: Some(first), .. }) = inner.entries.get_mut(&key) else { return };
        first.answer = Some((status, answer));
        let (mood, first) = (*mood, first.clone());
        inner.journal.write(&Line::<P>::Key { key, mood, first });
    }

    pub(crate) fn keep(&self, key: Uuid, id: String, mood: Mood, payout: P, now: Timestamp) {
        let mut inner = self.lock();
        let visible_at = if mood == Mood::LateAppear { now.checked_add(inner.behaviour.late_appear()).unwrap_or(now) } else { now };
        let line = Line::Payout { id, kept: Kept { key, visible_at, payout } };
        inner.journal.write(&line);
        inner.replay(line);
    }

    /// Notes the answer to a create.
    pub(crate) fn answered(&self, key: Uuid, answer: String) {
        if let Some(entry) = self.lock().entries.get_mut(&key) {
            entry.calls.answered(answer);
        }
    }

    pub(crate) fn notified(&self, key: Uuid, notice: SentNotice) {
        if let Some(entry) = self.lock().entries.get_mut(&key) {
            entry.calls.notified(notice);
        }
    }

    /// The payout as the API shows it now, and a note that it was asked for.
    pub(crate) fn get(&self, id: &str, now: Timestamp) -> Option<P> {
        let mut inner = self.lock();
        let kept = inner.payouts.get(id)?.clone();
        inner.entries.get_mut(&kept.key)?.calls.gets += 1;
        (kept.visible_at <= now).then_some(kept.payout)
    }

    /// What the API would list, newest first.
    pub(crate) fn visible(&self, now: Timestamp) -> Vec<P> {
        let inner = self.lock();
        let kept = inner.order.iter().rev().filter_map(|id| inner.payouts.get(id));
        kept.filter(|kept| kept.visible_at <= now).map(|kept| kept.payout.clone()).collect()
    }

    /// Every payout, visible or not.
    pub(crate) fn all(&self) -> Vec<P> {
        let inner = self.lock();
        inner.order.iter().filter_map(|id| inner.payouts.get(id)).map(|kept| kept.payout.clone()).collect()
    }

    pub(crate) fn kept(&self, id: &str) -> Option<Kept<P>> {
        self.lock().payouts.get(id).cloned()
    }

    /// The last payout under a key.
    pub(crate) fn id_of(&self, key: Uuid) -> Option<String> {
        self.lock().entries.get(&key)?.ids.last().cloned()
    }

    /// The payouts that have not ended, with their moods: what a restart has to take up again.
    pub(crate) fn unfinished(&self, ended: impl Fn(Mood, &P) -> bool) -> Vec<(String, Mood)> {
        let inner = self.lock();
        let open = |id: &String| {
            let kept = inner.payouts.get(id)?;
            let mood = inner.entries.get(&kept.key)?.mood;
            (!ended(mood, &kept.payout)).then(|| (id.clone(), mood))
        };
        inner.order.iter().filter_map(open).collect()
    }

    pub(crate) fn view(&self, key: Uuid) -> Option<View<P>> {
        let inner = self.lock();
        let entry = inner.entries.get(&key)?;
        let payouts = entry.ids.iter().filter_map(|id| inner.payouts.get(id)).map(|kept| kept.payout.clone()).collect();
        Some(View { mood: entry.mood, payouts, calls: entry.calls.clone() })
    }

    /// Changes a payout, with the money that this moves. `change` gets a copy and what has left so far; with `None` nothing is changed.
    pub(crate) fn change<R>(&self, id: &str, change: impl FnOnce(&mut Kept<P>, &Out) -> Option<(R, Option<Movement>)>) -> Option<R> {
        let mut inner = self.lock();
        let mut kept = inner.payouts.get(id)?.clone();
        let (result, movement) = change(&mut kept, &inner.out)?;
        if let Some(movement) = movement {
            let line = Line::<P>::Movement(movement);
            inner.journal.write(&line);
            inner.replay(line);
        }
        let line = Line::Payout { id: id.to_owned(), kept };
        inner.journal.write(&line);
        inner.replay(line);
        Some(result)
    }

    pub(crate) fn out(&self) -> Out {
        self.lock().out.clone()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let movements = self.lock().movements.clone();
        Ledger::of(movements)
    }

    /// The next `count` keys that are new get that mood, after those of earlier calls.
    pub(crate) fn set_mood(&self, count: u32, mood: Mood) {
        self.lock().chooser.order(count, mood);
    }

    pub(crate) fn set_distribution(&self, distribution: Option<Distribution>) {
        self.lock().chooser.randomly(distribution);
    }
}

impl<P> Inner<P> {
    /// Enters what a line says, for the first time or again.
    fn replay(&mut self, line: Line<P>) {
        match line {
            Line::Key { key, mood, first } => {
                let entry = self.entries.entry(key).or_default();
                (entry.mood, entry.faulted, entry.first) = (mood, true, Some(first));
            }
            Line::Payout { id, kept } => {
                if !self.payouts.contains_key(&id) {
                    self.entries.entry(kept.key).or_default().ids.push(id.clone());
                    self.order.push(id.clone());
                }
                self.payouts.insert(id, kept);
            }
            Line::Movement(movement) => {
                let amount = i128::from(movement.amount_in_minor);
                *self.out.entry(movement.currency.clone()).or_default() += if movement.direction == Direction::Out { amount } else { -amount };
                self.movements.push(movement);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(remembered: Option<SignedDuration>) -> Book<u8> {
        Book::open(&Behaviour { keys_max: 2, ..Behaviour::default() }, remembered).expect("a book")
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a timestamp")
    }

    /// A key is one request for as long as it is remembered, and a new one afterwards.
    #[test]
    fn keys_are_remembered_and_forgotten() {
        let book = book(Some(SignedDuration::from_secs(3600)));
        let key = Uuid::from_u128(1);
        let admit = |content: &[u8], second| book.admit(key, "", 1, content, at(second));
        assert_eq!(admit(b"a", 0), Admitted::New(Mood::Plain));
        assert_eq!(admit(b"a", 1), Admitted::Repeat { same: true, answer: None }, "under way");
        book.keep(key, "p1".to_owned(), Mood::Plain, 1, at(1));
        book.settle(key, 201, "p1".into());
        assert_eq!(admit(b"b", 3599), Admitted::Repeat { same: false, answer: Some((201, "p1".into())) });
        assert_eq!(admit(b"a", 3600), Admitted::New(Mood::Plain));
        book.keep(key, "p2".to_owned(), Mood::Plain, 2, at(3600));
        let view = book.view(key).expect("known");
        assert_eq!((view.payouts, view.calls.creates), (vec![1, 2], 4));
        assert_eq!(book.admit(Uuid::from_u128(2), "", 1, b"", at(0)), Admitted::New(Mood::Plain));
        assert_eq!(book.admit(Uuid::from_u128(3), "", 1, b"", at(0)), Admitted::Full);
    }

    #[test]
    fn moods_decide_first_answers_and_when_a_payout_is_seen() {
        let book = book(None);
        let key = Uuid::from_u128(1);
        assert_eq!(book.admit(key, "MOOD error-before", 1, b"", at(0)), Admitted::Faulted(Mood::ErrorBefore));
        assert_eq!(book.admit(key, "MOOD error-before", 1, b"", at(0)), Admitted::New(Mood::ErrorBefore), "once");
        let late = Uuid::from_u128(2);
        assert_eq!(book.admit(late, "", Mood::FIRST_AMOUNT + 5, b"", at(0)), Admitted::New(Mood::LateAppear));
        book.keep(late, "p".to_owned(), Mood::LateAppear, 7, at(0));
        assert_eq!((book.get("p", at(9)), book.visible(at(9))), (None, vec![]));
        assert_eq!((book.get("p", at(10)), book.visible(at(10))), (Some(7), vec![7]));
    }
}
