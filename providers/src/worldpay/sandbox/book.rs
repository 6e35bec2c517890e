//! What the sandbox remembers: payouts of both APIs, what was asked about them, and the money that moved, for [`crate::sandbox::audit`].

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::mood::{Distribution, Mood};
use crate::sandbox::audit::{Direction, Ledger, Movement};
use crate::sandbox::journal::Journal;

/// Entries of each list about one payout.
const MAX_CALLS: usize = 64;

/// Which API a payout was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    Account,
    Card,
}

/// A payout. What it shows of the beneficiary is a mask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The provider's id: a payout request id, or the last part of a link.
    pub id: String,
    pub transaction_reference: String,
    /// The provider's word for where it is; for a basic disbursement, the last event.
    pub status: String,
    /// Whether the API answers `queryRequired` until [`Stored::visible_at`] has come; if not, it is not there until then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub query_required: bool,
    pub visible_at: Timestamp,
    pub created_at: Timestamp,
    pub amount_in_minor: i64,
    pub currency: String,
    /// A hash of name and account.
    pub beneficiary: String,
    pub reference: String,
    /// Whether money is out.
    pub out: bool,
    /// Kept beside it in the journal, and not shown.
    #[serde(skip)]
    pub(super) content: Content,
}

/// What the API shows about a payout beside its state.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Content {
    #[default]
    Nothing,
    Account(Box<crate::worldpay::account::wire::Item>),
    Card {
        version: u8,
        scheme: String,
        refusal_code: Option<String>,
    },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content")
    }
}

/// What was asked about one key, and what was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Creates that were received with valid credentials and content.
    pub creates: u64,
    pub gets: u64,
    /// The answers to creates, oldest first: a status or `dropped`. At most the last 64.
    pub answers: VecDeque<String>,
    /// The notices sent, oldest first. At most the last 64.
    pub notices: VecDeque<SentNotice>,
}

/// One try to deliver a notice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SentNotice {
    pub id: String,
    pub event_type: String,
    pub at: Timestamp,
    pub forged: bool,
    /// The status of the receiver's answer; `None` if there was none.
    pub status: Option<u16>,
}

/// Everything about one key, for the admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    pub api: Api,
    pub mood: Mood,
    /// `None` while no create was carried out.
    pub payout: Option<Stored>,
    pub calls: Calls,
}

#[derive(Default)]
struct Entry {
    mood: Mood,
    /// Whether the mood's first answer has been given.
    faulted: bool,
    payout: Option<Stored>,
    calls: Calls,
}

/// What a valid create comes to.
pub(super) enum Created {
    /// Carried out now.
    New(Mood, Stored),
    /// Known before.
    Known(Stored),
    /// Not carried out, by mood.
    Refused(Mood),
}

/// A payout, as far as its mood depends on it.
pub(super) struct Asked<'a> {
    pub(super) amount_in_minor: i64,
    pub(super) texts: [&'a str; 2],
}

pub(super) struct Rules {
    pub(super) magic: bool,
    pub(super) max_payouts: usize,
    /// By API, whether a repeat is carried out again.
    pub(super) pays_repeats: [bool; 2],
    pub(super) late_appear: SignedDuration,
    pub(super) distribution: Option<Distribution>,
}

pub(super) struct Book {
    inner: Mutex<Inner>,
}

struct Inner {
    /// By API and key: the idempotency key, or the transaction reference.
    entries: BTreeMap<(Api, String), Entry>,
    movements: Vec<Movement>,
    next: VecDeque<(u32, Mood)>,
    next_id: u64,
    rules: Rules,
    journal: Journal,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Payout { api: Api, key: String, mood: Mood, stored: Box<Stored>, content: Content },
    Movement(Movement),
}

/// The states in which money has left, and those in which it is back.
const OUT: [&str; 5] = ["EXECUTED", "COMPLETED", "requestReceived", "approved", "disbursed"];
const BACK: [&str; 6] = ["REVERSED", "FAILED", "INVALID", "refundFailed", "refused", "error"];

/// How far along a state is. A payout only goes forward.
fn rank(status: &str) -> Option<u8> {
    Some(match status {
        "NEW" | "requested" => 0,
        "VALID" => 1,
        "IN_REVIEW" | "inReview" => 2,
        "RFI_IN_PROGRESS" => 3,
        "AWAITING_LIQUIDITY" => 4,
        "REJECTED" => 5,
        "AWAITING_EXECUTION" | "pending" => 6,
        "EXECUTED" | "approved" | "requestReceived" => 7,
        "sentForRefund" => 8,
        "COMPLETED" | "disbursed" | "refunded" => 9,
        "REVERSED" | "FAILED" | "INVALID" | "refundFailed" | "refused" | "error" | "payoutNotFound" => 10,
        _ => return None,
    })
}

impl Book {
    /// Opens a book, with what the journal has kept.
    pub(super) fn open(rules: Rules, journal: Option<&Path>) -> std::io::Result<Self> {
        let (journal, lines) = Journal::open(journal)?;
        let mut inner = Inner { entries: BTreeMap::new(), movements: Vec::new(), next: VecDeque::new(), next_id: 0, rules, journal };
        for line in lines {
            match line {
                Line::Payout { api, key, mood, stored, content } => {
                    let entry = inner.entries.entry((api, key)).or_default();
                    inner.next_id += u64::from(entry.payout.is_none());
                    *entry = Entry { mood, faulted: true, payout: Some(Stored { content, ..*stored }), calls: Calls::default() };
                }
                Line::Movement(movement) => inner.movements.push(movement),
            }
        }
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// Payouts with their moods: what a restart may have to take up again.
    pub(super) fn all(&self) -> Vec<(Api, String, Mood, Stored)> {
        let inner = self.lock();
        let one = |((api, key), entry): (&(Api, String), &Entry)| Some((*api, key.clone(), entry.mood, entry.payout.clone()?));
        inner.entries.iter().filter_map(one).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a valid create and carries it out, unless its mood says otherwise. The first content of a key wins (ASSUMED).
    ///
    /// `make` makes the payout; the number is different for each. `None` if the book is full.
    pub(super) fn create(&self, api: Api, key: &str, asked: &Asked<'_>, now: Timestamp, make: impl FnOnce(Mood, u64) -> Stored) -> Option<Created> {
        let mut inner = self.lock();
        let index = (api, key.to_owned());
        if !inner.entries.contains_key(&index) {
            if inner.entries.len() >= inner.rules.max_payouts {
                return None;
            }
            let mood = inner.mood_for(key, asked);
            inner.entries.insert(index.clone(), Entry { mood, ..Entry::default() });
        }
        let repeats = inner.rules.pays_repeats[usize::from(api == Api::Card)];
        let late = now.checked_add(inner.rules.late_appear).unwrap_or(now);
        let number = inner.next_id;
        let entry = inner.entries.get_mut(&index)?;
        entry.calls.creates += 1;
        if let Some(stored) = entry.payout.clone() {
            if repeats {
                inner.moved(movement(key, &stored, Direction::Out, now));
            }
            return Some(Created::Known(stored));
        }
        let first = !std::mem::replace(&mut entry.faulted, true);
        match entry.mood {
            Mood::Refuse => return Some(Created::Refused(Mood::Refuse)),
            mood @ (Mood::ErrorBefore | Mood::RateLimit | Mood::Unauthorised | Mood::Forbidden) if first => return Some(Created::Refused(mood)),
            Mood::Vanished if first && api == Api::Account => return Some(Created::Refused(Mood::Vanished)),
            _ => {}
        }
        let mood = entry.mood;
        let mut stored = make(mood, number);
        if mood == Mood::LateAppear || (api == Api::Card && matches!(mood, Mood::Inconclusive | Mood::Vanished)) {
            stored.visible_at = late;
        }
        let out = OUT.contains(&stored.status.as_str());
        stored.out = out;
        entry.payout = Some(stored.clone());
        inner.next_id += 1;
        inner.kept(api, key, mood, &stored);
        if out {
            inner.moved(movement(key, &stored, Direction::Out, now));
        }
        Some(Created::New(mood, stored))
    }

    pub(super) fn answered(&self, api: Api, key: &str, answer: String) {
        if let Some(entry) = self.lock().entries.get_mut(&(api, key.to_owned())) {
            push(&mut entry.calls.answers, answer);
        }
    }

    pub(super) fn notified(&self, api: Api, key: &str, notice: SentNotice) {
        if let Some(entry) = self.lock().entries.get_mut(&(api, key.to_owned())) {
            push(&mut entry.calls.notices, notice);
        }
    }

    /// The payouts that fit, oldest first by id, and a note that they were asked for.
    pub(super) fn find(&self, api: Api, fits: impl Fn(&Stored) -> bool) -> Vec<Stored> {
        let mut inner = self.lock();
        let mut found = Vec::new();
        for ((of, _), entry) in &mut inner.entries {
            if let Some(stored) = entry.payout.as_ref().filter(|stored| *of == api && fits(stored)) {
                entry.calls.gets += 1;
                found.push(stored.clone());
            }
        }
        found.sort_by(|one, other| (one.created_at, &one.id).cmp(&(other.created_at, &other.id)));
        found
    }

    pub(super) fn view(&self, key: &str) -> Option<View> {
        let inner = self.lock();
        let view = |api| {
            let entry = inner.entries.get(&(api, key.to_owned()))?;
            Some(View { api, mood: entry.mood, payout: entry.payout.clone(), calls: entry.calls.clone() })
        };
        view(Api::Account).or_else(|| view(Api::Card))
    }

    /// Moves a payout on, with the money that this moves; `None` if it is not there or cannot go there from where it is.
    pub(super) fn advance(&self, api: Api, key: &str, status: &str, now: Timestamp) -> Option<Stored> {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(&(api, key.to_owned()))?;
        let (mood, stored) = (entry.mood, entry.payout.as_mut()?);
        let back = rank(&stored.status)? == 10;
        if back
            || rank(status)? <= rank(&stored.status)?
            || (api == Api::Account) != status.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        {
            return None;
        }
        status.clone_into(&mut stored.status);
        let (leaves, returns) = (OUT.contains(&status) && !stored.out, BACK.contains(&status) && stored.out);
        stored.out = (stored.out || leaves) && !returns;
        let stored = stored.clone();
        let direction = if leaves { Some(Direction::Out) } else { returns.then_some(Direction::Back) };
        inner.kept(api, key, mood, &stored);
        if let Some(direction) = direction {
            inner.moved(movement(key, &stored, direction, now));
        }
        Some(stored)
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::of(self.lock().movements.clone())
    }

    /// The next `count` payouts that are new get that mood, after those of earlier calls.
    pub(super) fn set_mood(&self, count: u32, mood: Mood) {
        self.lock().next.push_back((count, mood));
    }

    pub(super) fn set_distribution(&self, distribution: Option<Distribution>) {
        self.lock().rules.distribution = distribution;
    }
}

impl Inner {
    fn moved(&mut self, movement: Movement) {
        self.journal.write(&Line::Movement(movement.clone()));
        self.movements.push(movement);
    }

    fn kept(&mut self, api: Api, key: &str, mood: Mood, stored: &Stored) {
        let (key, content) = (key.to_owned(), stored.content.clone());
        self.journal.write(&Line::Payout { api, key, mood, stored: Box::new(stored.clone()), content });
    }

    fn mood_for(&mut self, key: &str, asked: &Asked<'_>) -> Mood {
        let magic = || asked.texts.into_iter().find_map(Mood::of_text).or_else(|| Mood::of_amount(asked.amount_in_minor));
        if let Some(mood) = self.rules.magic.then(magic).flatten() {
            return mood;
        }
        while let Some((count, mood)) = self.next.front_mut() {
            let mood = *mood;
            if let Some(rest) = count.checked_sub(1) {
                *count = rest;
                return mood;
            }
            self.next.pop_front();
        }
        self.rules.distribution.as_ref().map_or(Mood::Plain, |distribution| distribution.draw(key))
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == MAX_CALLS {
        list.pop_front();
    }
    list.push_back(item);
}

fn movement(key: &str, stored: &Stored, direction: Direction, at: Timestamp) -> Movement {
    let hashed = || {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = <[u8; 32]>::from(Sha256::digest(key));
        Uuid::from_bytes([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    };
    Movement {
        transaction_id: Uuid::try_parse(key).unwrap_or_else(|_| hashed()),
        direction,
        amount_in_minor: stored.amount_in_minor,
        currency: stored.currency.clone(),
        beneficiary: stored.beneficiary.clone(),
        reference: stored.reference.clone(),
        at,
    }
}
