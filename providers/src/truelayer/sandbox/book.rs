//! What the sandbox remembers: payouts, what was asked about them, and the money that moved, for [`crate::sandbox::audit`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sandbox::audit::mask_of;
pub use crate::sandbox::audit::{Direction, Ledger, Movement};
use crate::sandbox::behaviour::Behaviour;
pub use crate::sandbox::calls::{Calls, SentNotice};
use crate::sandbox::journal::Journal;
use crate::sandbox::mood::{Chooser, Distribution, Mood};
use crate::sandbox::random_uuid;
use crate::truelayer::wire::{Balance, CreatePayout, Moment, Payout, TopUp, Transaction};

/// Everything about one `transaction_id`, for the admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct View {
    pub mood: Mood,
    /// `None` while no create was carried out.
    pub payout: Option<Payout>,
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

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    payout: Payout,
    mood: Mood,
    created_at: Timestamp,
    visible_at: Timestamp,
}

/// A state that a payout can be moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Authorised,
    Submitted,
    Settled,
    Rejected,
    Failed,
    Returned,
}

impl Stage {
    /// The word in an event's type and in the name of its timestamp.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Authorised => "authorised",
            Self::Submitted => "submitted",
            Self::Settled => "settled",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Returned => "returned",
        }
    }
}

/// A move that was made: what a notice about it says.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(super) transaction_id: Uuid,
    /// The same for every copy of the notice.
    pub(super) event_id: String,
    pub(super) stage: Stage,
    pub(super) at: Moment,
    pub(super) reason: Option<&'static str>,
}

/// What a valid create comes to.
pub(super) enum Created {
    /// Carried out now.
    New(Mood),
    /// Known before; `same` if the content is the same.
    Known { same: bool },
    /// Not carried out, by mood.
    Refused(Mood),
}

/// An account of the sandbox's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub currency: String,
    pub iban: String,
    pub balance_in_minor: i64,
    #[serde(default = "Account::owner")]
    pub account_owner: String,
}

impl Account {
    fn owner() -> String {
        "Sandbox Platform".to_owned()
    }
}

pub(super) struct Book {
    inner: Mutex<Inner>,
}

struct Inner {
    entries: HashMap<Uuid, Entry>,
    /// Carried out, oldest first.
    order: Vec<Uuid>,
    movements: Vec<Movement>,
    /// By currency, what has left and not come back.
    out: HashMap<String, i128>,
    top_ups: Vec<TopUp>,
    accounts: Vec<Account>,
    chooser: Chooser,
    behaviour: Behaviour,
    pays_repeats: bool,
    journal: Journal,
}

/// A line of the journal.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Payout(Box<Stored>),
    Movement(Movement),
    TopUp(TopUp),
}

impl Book {
    /// Opens a book, with what the journal has kept. A last line that was cut short is dropped.
    pub(super) fn open(behaviour: &Behaviour, accounts: Vec<Account>, pays_repeats: bool) -> std::io::Result<Self> {
        let (journal, lines) = Journal::open(behaviour.journal.as_deref())?;
        let mut inner = Inner {
            entries: HashMap::new(),
            order: Vec::new(),
            movements: Vec::new(),
            out: HashMap::new(),
            top_ups: Vec::new(),
            accounts,
            chooser: Chooser::new(Mood::COMMON, behaviour.magic, behaviour.random.clone()),
            behaviour: behaviour.clone(),
            pays_repeats,
            journal,
        };
        inner.replay(lines);
        Ok(Self { inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a valid create and carries it out, unless its mood says otherwise. The first content of a `transaction_id` wins (H).
    pub(super) fn create(&self, create: &CreatePayout, now: Timestamp) -> Option<Created> {
        let mut inner = self.lock();
        let full = inner.entries.len() >= inner.behaviour.keys_max;
        let id = create.transaction_id;
        if !inner.entries.contains_key(&id) {
            if full {
                return None;
            }
            let mood = inner.chooser.choose(id.as_bytes(), &[&create.beneficiary_reference], create.amount_in_minor);
            inner.entries.insert(id, Entry { mood, ..Entry::default() });
        }
        let late_appear = inner.behaviour.late_appear();
        let entry = inner.entries.get_mut(&id)?;
        entry.calls.creates += 1;
        if let Some(Stored { payout, .. }) = &entry.payout {
            let same = is_same(payout, create);
            if inner.pays_repeats {
                let movement = movement(&new_payout(create), Direction::Out, now);
                inner.write(&Line::Movement(movement.clone()));
                inner.record(movement);
            }
            return Some(Created::Known { same });
        }
        let first = !std::mem::replace(&mut entry.faulted, true);
        match entry.mood {
            Mood::Refuse => return Some(Created::Refused(Mood::Refuse)),
            mood @ (Mood::ErrorBefore | Mood::RateLimit) if first => return Some(Created::Refused(mood)),
            _ => {}
        }
        let mood = entry.mood;
        let visible_at = if mood == Mood::LateAppear { now.checked_add(late_appear).unwrap_or(now) } else { now };
        let stored = Stored { payout: new_payout(create), mood, created_at: now, visible_at };
        entry.payout = Some(stored.clone());
        inner.order.push(id);
        inner.write(&Line::Payout(Box::new(stored)));
        Some(Created::New(mood))
    }

    pub(super) fn answered(&self, id: Uuid, answer: String) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.calls.answered(answer);
        }
    }

    pub(super) fn notified(&self, id: Uuid, notice: SentNotice) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.calls.notified(notice);
        }
    }

    /// The payout as the API shows it now, and a note that it was asked for.
    pub(super) fn get(&self, id: Uuid, now: Timestamp) -> Option<Payout> {
        let mut inner = self.lock();
        let entry = inner.entries.get_mut(&id)?;
        entry.calls.gets += 1;
        entry.payout.as_ref().filter(|stored| stored.visible_at <= now).map(|stored| stored.payout.clone())
    }

    pub(super) fn view(&self, id: Uuid) -> Option<View> {
        let inner = self.lock();
        let entry = inner.entries.get(&id)?;
        Some(View { mood: entry.mood, payout: entry.payout.as_ref().map(|stored| stored.payout.clone()), calls: entry.calls.clone() })
    }

    /// Payouts that have not ended, with mood and the moment from which they are visible: what a restart has to take up again.
    pub(super) fn unfinished(&self) -> Vec<(Uuid, Mood)> {
        let inner = self.lock();
        let open = |id: &Uuid| {
            let stored = inner.entries.get(id)?.payout.as_ref()?;
            let status = stored.payout.status.as_str();
            let ended = matches!(status, "failed" | "rejected") || (status == "settled" && stored.mood != Mood::Return);
            (!ended).then_some((*id, stored.mood))
        };
        inner.order.iter().filter_map(open).collect()
    }

    pub(super) fn visible_at(&self, id: Uuid) -> Option<Timestamp> {
        self.lock().entries.get(&id)?.payout.as_ref().map(|stored| stored.visible_at)
    }

    /// Moves a payout on, with the money that this moves; `None` if it is not there or cannot go there from where it is.
    pub(super) fn advance(&self, id: Uuid, stage: Stage, now: Timestamp) -> Option<Moved> {
        let mut inner = self.lock();
        let stored = inner.entries.get(&id)?.payout.clone()?;
        let Stored { mut payout, mood, created_at, visible_at } = stored;
        let poor = stage == Stage::Authorised && inner.available(&payout.currency) < i128::from(payout.amount_in_minor);
        let stage = if poor { Stage::Rejected } else { stage };
        let status = payout.status.as_str();
        let allowed = match stage {
            Stage::Authorised | Stage::Rejected => status == "new",
            Stage::Submitted => status == "authorised",
            Stage::Settled => status == "submitted",
            Stage::Failed => matches!(status, "authorised" | "submitted"),
            Stage::Returned => matches!(status, "submitted" | "settled"),
        };
        if !allowed {
            return None;
        }
        let at = Moment(now);
        let mut reason = None;
        match stage {
            Stage::Authorised => payout.authorised_at = Some(at),
            Stage::Submitted => payout.submitted_at = Some(at),
            Stage::Settled => payout.settled_at = Some(at),
            Stage::Rejected => {
                payout.rejected_at = Some(at);
                reason = Some("insufficient_funds");
                payout.rejection_code = reason.map(str::to_owned);
            }
            Stage::Failed | Stage::Returned => {
                payout.failed_at = Some(at);
                reason = Some(if stage == Stage::Failed { "scheme_error" } else { "returned" });
                payout.failure_code = reason.map(str::to_owned);
            }
        }
        // A return is shown as a failure: ASSUMED.
        payout.status = if stage == Stage::Returned { Stage::Failed.word() } else { stage.word() }.to_owned();
        let direction = match stage {
            Stage::Authorised => Some(Direction::Out),
            Stage::Failed | Stage::Returned => Some(Direction::Back),
            Stage::Submitted | Stage::Settled | Stage::Rejected => None,
        };
        if let Some(direction) = direction {
            let movement = movement(&payout, direction, now);
            inner.write(&Line::Movement(movement.clone()));
            inner.record(movement);
        }
        let stored = Stored { payout, mood, created_at, visible_at };
        inner.write(&Line::Payout(Box::new(stored.clone())));
        inner.entries.get_mut(&id)?.payout = Some(stored);
        Some(Moved { transaction_id: id, event_id: random_uuid().to_string(), stage, at, reason })
    }

    pub(super) fn ledger(&self) -> Ledger {
        let movements = self.lock().movements.clone();
        Ledger::of(movements)
    }

    pub(super) fn transactions(&self, from: Timestamp, to: Timestamp, now: Timestamp) -> Vec<Transaction> {
        let inner = self.lock();
        let payouts = inner.order.iter().filter_map(|id| inner.entries.get(id)?.payout.as_ref());
        let payouts = payouts
            .filter(|stored| (from..=to).contains(&stored.created_at) && stored.visible_at <= now)
            .map(|stored| Transaction::Payout(Box::new(stored.payout.clone())));
        let top_ups = inner.top_ups.iter().filter(|top_up| top_up.settled_at.is_some_and(|at| (from..=to).contains(&at.0)));
        payouts.chain(top_ups.cloned().map(Transaction::TopUp)).collect()
    }

    pub(super) fn balances(&self) -> Vec<Balance> {
        let inner = self.lock();
        let balance = |account: &Account| {
            let whole = |amount: i128| i64::try_from(amount).unwrap_or(i64::MAX);
            Balance {
                currency: account.currency.clone(),
                iban: account.iban.clone(),
                status: "enabled".to_owned(),
                current_balance_in_minor: whole(inner.current(&account.currency)),
                available_balance_in_minor: whole(inner.available(&account.currency)),
                account_owner: account.account_owner.clone(),
            }
        };
        inner.accounts.iter().map(balance).collect()
    }

    pub(super) fn pays_in(&self, currency: &str) -> bool {
        self.lock().accounts.iter().any(|account| account.currency == currency)
    }

    pub(super) fn top_up(&self, top_up: TopUp) {
        let mut inner = self.lock();
        inner.write(&Line::TopUp(top_up.clone()));
        inner.top_ups.push(top_up);
    }

    /// The next `count` payouts that are new get that mood, after those of earlier calls.
    pub(super) fn set_mood(&self, count: u32, mood: Mood) {
        self.lock().chooser.order(count, mood);
    }

    pub(super) fn set_distribution(&self, distribution: Option<Distribution>) {
        self.lock().chooser.randomly(distribution);
    }
}

impl Inner {
    /// What is in the account, with top-ups, less what has settled.
    fn current(&self, currency: &str) -> i128 {
        let settled = self.entries.values().filter_map(|entry| entry.payout.as_ref()).map(|stored| &stored.payout);
        let settled =
            settled.filter(|payout| payout.currency == currency && payout.status == "settled").map(|payout| i128::from(payout.amount_in_minor));
        self.filled(currency) - settled.sum::<i128>()
    }

    /// What is in the account, with top-ups, less all that has left and not come back.
    fn available(&self, currency: &str) -> i128 {
        self.filled(currency) - self.out.get(currency).copied().unwrap_or_default()
    }

    fn record(&mut self, movement: Movement) {
        let amount = i128::from(movement.amount_in_minor);
        let out = self.out.entry(movement.currency.clone()).or_default();
        *out += match movement.direction {
            Direction::Out => amount,
            Direction::Back => -amount,
        };
        self.movements.push(movement);
    }

    fn filled(&self, currency: &str) -> i128 {
        let opening = self.accounts.iter().filter(|account| account.currency == currency).map(|account| i128::from(account.balance_in_minor));
        let top_ups = self.top_ups.iter().filter(|top_up| top_up.currency == currency).map(|top_up| i128::from(top_up.amount_in_minor));
        opening.chain(top_ups).sum()
    }

    fn write(&mut self, line: &Line) {
        self.journal.write(line);
    }

    fn replay(&mut self, lines: Vec<Line>) {
        for line in lines {
            match line {
                Line::Payout(stored) => {
                    let id = stored.payout.transaction_id;
                    let entry = self.entries.entry(id).or_default();
                    if entry.payout.is_none() {
                        self.order.push(id);
                    }
                    entry.mood = stored.mood;
                    entry.faulted = true;
                    entry.payout = Some(*stored);
                }
                Line::Movement(movement) => self.record(movement),
                Line::TopUp(top_up) => self.top_ups.push(top_up),
            }
        }
    }
}

fn new_payout(create: &CreatePayout) -> Payout {
    let CreatePayout { transaction_id, beneficiary_name, beneficiary_iban, beneficiary_reference, currency, amount_in_minor, context_code } =
        create.clone();
    Payout {
        transaction_id,
        authorised_at: None,
        submitted_at: None,
        settled_at: None,
        failed_at: None,
        rejected_at: None,
        beneficiary_name,
        beneficiary_iban,
        beneficiary_reference,
        amount_in_minor,
        currency,
        context_code,
        status: "new".to_owned(),
        rejection_code: None,
        failure_code: None,
    }
}

fn is_same(payout: &Payout, create: &CreatePayout) -> bool {
    let of = |payout: &Payout| CreatePayout {
        transaction_id: payout.transaction_id,
        beneficiary_name: payout.beneficiary_name.clone(),
        beneficiary_iban: payout.beneficiary_iban.clone(),
        beneficiary_reference: payout.beneficiary_reference.clone(),
        currency: payout.currency.clone(),
        amount_in_minor: payout.amount_in_minor,
        context_code: payout.context_code.clone(),
    };
    of(payout) == *create
}

fn movement(payout: &Payout, direction: Direction, at: Timestamp) -> Movement {
    Movement {
        transaction_id: payout.transaction_id,
        direction,
        amount_in_minor: payout.amount_in_minor,
        currency: payout.currency.clone(),
        beneficiary: mask_of(&[&payout.beneficiary_iban, &payout.beneficiary_name]),
        reference: payout.beneficiary_reference.clone(),
        at,
    }
}
