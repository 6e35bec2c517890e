//! What the sandbox remembers: payouts of both APIs, what was asked about them, and the money that moved, for [`crate::sandbox::audit`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sandbox::audit::{Direction, Ledger, Movement, uuid_of};
use crate::sandbox::behaviour::Behaviour;
use crate::sandbox::calls::{Calls, SentNotice};
use crate::sandbox::journal::Journal;
use crate::sandbox::mood::{Chooser, Distribution, Mood};
use crate::sandbox::random_uuid;

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
    /// The key of the request that it was made with: its own, or that of a batch. `None` after a restart.
    under: Option<String>,
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

pub(super) struct Book {
    inner: Mutex<Inner>,
}

struct Inner {
    /// By API and key: the idempotency key, or the transaction reference.
    entries: BTreeMap<(Api, String), Entry>,
    movements: Vec<(Api, Movement)>,
    next_id: u64,
    chooser: Chooser,
    behaviour: Behaviour,
    /// By API, whether a repeat is carried out again.
    pays_repeats: [bool; 2],
    journal: Journal,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Payout { api: Api, key: String, mood: Mood, stored: Box<Stored>, content: Content },
    Movement { api: Api, movement: Movement },
}

/// A move that was made: what a notice about it says.
pub(crate) struct Moved {
    pub(super) api: Api,
    pub(super) key: String,
    pub(super) stored: Stored,
    /// Whether the money had arrived before.
    pub(super) late: bool,
    /// The same for every copy of the notice.
    pub(super) notice_id: String,
    pub(super) at: Timestamp,
}

impl Moved {
    pub(super) fn new(api: Api, key: &str, stored: Stored, late: bool, at: Timestamp) -> Self {
        Self { api, key: key.to_owned(), stored, late, notice_id: random_uuid().to_string(), at }
    }
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

/// Whether the money had arrived, so that what comes next is a return.
fn has_arrived(status: &str) -> bool {
    matches!(status, "COMPLETED" | "refunded")
}

impl Book {
    /// Opens a book, with what the journal has kept.
    pub(super) fn open(behaviour: &Behaviour, pays_repeats: [bool; 2]) -> std::io::Result<Self> {
        let (journal, lines) = Journal::open(behaviour.journal.as_deref())?;
        let mut inner = Inner {
            entries: BTreeMap::new(),
            movements: Vec::new(),
            next_id: 0,
            chooser: Chooser::new(&Mood::ALL, behaviour.magic, behaviour.random.clone()),
            behaviour: behaviour.clone(),
            pays_repeats,
            journal,
        };
        for line in lines {
            match line {
                Line::Payout { api, key, mood, stored, content } => {
                    let entry = inner.entries.entry((api, key)).or_default();
                    inner.next_id += u64::from(entry.payout.is_none());
                    *entry = Entry { mood, faulted: true, payout: Some(Stored { content, ..*stored }), under: None, calls: Calls::default() };
                }
                Line::Movement { api, movement } => inner.movements.push((api, movement)),
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

    /// The mood by which a create of that key would not be carried out now.
    pub(super) fn refuses(&self, api: Api, key: &str, asked: &Asked<'_>) -> Option<Mood> {
        let mut inner = self.lock();
        inner.entry(&(api, key.to_owned()), asked).filter(|entry| entry.payout.is_none())?.refuses(api)
    }

    /// Notes a valid create and carries it out, unless its mood says otherwise. The first content of a key wins (ASSUMED). A repeat is recognised
    /// if it comes in the same request, which is what `under` names; in any other it is carried out again.
    ///
    /// `make` makes the payout; the number is different for each. `None` if the book is full.
    pub(super) fn create(
        &self,
        api: Api,
        key: &str,
        under: &str,
        asked: &Asked<'_>,
        now: Timestamp,
        make: impl FnOnce(Mood, u64) -> Stored,
    ) -> Option<Created> {
        let mut inner = self.lock();
        let index = (api, key.to_owned());
        let repeats = inner.pays_repeats[usize::from(api == Api::Card)];
        let late = now.checked_add(inner.behaviour.late_appear()).unwrap_or(now);
        let number = inner.next_id;
        let entry = inner.entry(&index, asked)?;
        entry.calls.creates += 1;
        if let Some(stored) = entry.payout.clone() {
            if repeats || entry.under.as_ref().is_some_and(|known| known != under) {
                inner.moved(api, movement(key, &stored, Direction::Out, now));
            }
            return Some(Created::Known(stored));
        }
        let refused = entry.refuses(api);
        entry.faulted = true;
        if let Some(mood) = refused {
            return Some(Created::Refused(mood));
        }
        entry.under = Some(under.to_owned());
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
            inner.moved(api, movement(key, &stored, Direction::Out, now));
        }
        Some(Created::New(mood, stored))
    }

    pub(super) fn answered(&self, api: Api, key: &str, answer: String) {
        if let Some(entry) = self.lock().entries.get_mut(&(api, key.to_owned())) {
            entry.calls.answered(answer);
        }
    }

    pub(super) fn notified(&self, api: Api, key: &str, notice: SentNotice) {
        if let Some(entry) = self.lock().entries.get_mut(&(api, key.to_owned())) {
            entry.calls.notified(notice);
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

    pub(super) fn stored(&self, api: Api, key: &str) -> Option<Stored> {
        self.lock().entries.get(&(api, key.to_owned()))?.payout.clone()
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
    pub(super) fn advance(&self, api: Api, key: &str, status: &str, now: Timestamp) -> Option<Moved> {
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
        let late = has_arrived(&stored.status);
        status.clone_into(&mut stored.status);
        let (leaves, returns) = (OUT.contains(&status) && !stored.out, BACK.contains(&status) && stored.out);
        stored.out = (stored.out || leaves) && !returns;
        let stored = stored.clone();
        let direction = if leaves { Some(Direction::Out) } else { returns.then_some(Direction::Back) };
        inner.kept(api, key, mood, &stored);
        if let Some(direction) = direction {
            inner.moved(api, movement(key, &stored, direction, now));
        }
        Some(Moved::new(api, key, stored, late, now))
    }

    /// What moved through these APIs.
    pub(super) fn ledger(&self, through: &[Api]) -> Ledger {
        let inner = self.lock();
        Ledger::of(inner.movements.iter().filter(|(api, _)| through.contains(api)).map(|(_, movement)| movement.clone()).collect())
    }

    /// The next `count` payouts that are new get that mood, after those of earlier calls.
    pub(super) fn set_mood(&self, count: u32, mood: Mood) {
        self.lock().chooser.order(count, mood);
    }

    pub(super) fn set_distribution(&self, distribution: Option<Distribution>) {
        self.lock().chooser.randomly(distribution);
    }
}

impl Entry {
    fn refuses(&self, api: Api) -> Option<Mood> {
        match self.mood {
            Mood::Refuse => Some(Mood::Refuse),
            mood @ (Mood::ErrorBefore | Mood::RateLimit | Mood::Unauthorised | Mood::Forbidden) if !self.faulted => Some(mood),
            Mood::Vanished if !self.faulted && api == Api::Account => Some(Mood::Vanished),
            _ => None,
        }
    }
}

impl Inner {
    /// What is known of a key; its mood is chosen when it is seen for the first time. `None` if the book is full.
    fn entry(&mut self, index: &(Api, String), asked: &Asked<'_>) -> Option<&mut Entry> {
        if !self.entries.contains_key(index) {
            if self.entries.len() >= self.behaviour.keys_max {
                return None;
            }
            let mood = self.chooser.choose(index.1.as_bytes(), &asked.texts, asked.amount_in_minor);
            self.entries.insert(index.clone(), Entry { mood, ..Entry::default() });
        }
        self.entries.get_mut(index)
    }

    fn moved(&mut self, api: Api, movement: Movement) {
        self.journal.write(&Line::Movement { api, movement: movement.clone() });
        self.movements.push((api, movement));
    }

    fn kept(&mut self, api: Api, key: &str, mood: Mood, stored: &Stored) {
        let (key, content) = (key.to_owned(), stored.content.clone());
        self.journal.write(&Line::Payout { api, key, mood, stored: Box::new(stored.clone()), content });
    }
}

fn movement(key: &str, stored: &Stored, direction: Direction, at: Timestamp) -> Movement {
    Movement {
        transaction_id: uuid_of(key.as_bytes()),
        direction,
        amount_in_minor: stored.amount_in_minor,
        currency: stored.currency.clone(),
        beneficiary: stored.beneficiary.clone(),
        reference: stored.reference.clone(),
        at,
    }
}
