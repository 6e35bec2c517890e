//! Settling notices: what a provider told us, as a fact about the payout it speaks of.
//!
//! What is evidence is recorded as it is. What is only a hint leads to a look here and now, and the answer is recorded as if the provider had told it: so
//! hints, which anybody may send to some addresses, change nothing about the plan of polls, never lead to a send, and leave no trace unless there is news.

use std::sync::Arc;

use domain::fact::{About, Look, Provider, Report, Source};
use domain::id::Mode;
use domain::payout::{Fact, Payout, Verdict, What};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::Instrument as _;

use crate::deposit::{self, StoredDeposit};
use crate::execute::{Payouts, inquiry, later};
use crate::queue::{Job, Lease};
use crate::store::lanes::{SettleWork, Ticket};
use crate::store::notices::Settled;
use crate::store::vault::VaultError;
use crate::store::{Store, StoreError};
use crate::trace;

/// A notice may be faster than our own write, or than the worker that can read it. After this time it is an orphan.
const ORPHAN_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// What a notice says, as it is stored between the request that brought it and its settlement.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredNotice {
    /// The version of this form.
    pub v: u8,
    pub provider: Provider,
    /// Whose keys verified it. A notice of the provider's test environment says nothing about a live payout.
    pub mode: Mode,
    pub about: About,
    /// Verified evidence; `None` for a hint, which is an occasion to look.
    pub report: Option<Report>,
}

/// The version of its form that is written, and the only one that is read.
const VERSION: u8 = 2;

/// Everything that is stored as a notice. Each kind has a version of its own.
enum Stored {
    Payout(StoredNotice),
    Deposit(StoredDeposit),
}

/// Why a stored notice says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    /// Its form is older than any that is still read.
    Older,
    /// It is sealed with a key that this worker does not have. Others have it: what sealed it was one of us.
    Sealed,
    /// It cannot be opened or understood here. A worker of a later version may.
    Here,
}

/// Where a notice leads.
enum Addressed {
    /// To an attempt, by its number.
    Found(Box<Payout>, u8),
    /// To nothing that is here, perhaps not yet.
    Unknown,
    /// To nothing of ours: its key is none that we can have made, or of an attempt at another provider.
    Foreign,
}

/// What a notice is about, for a person: no name and no account of anybody.
#[must_use]
pub fn about(body: &Result<Vec<u8>, VaultError>) -> Option<(Provider, Mode, String)> {
    Some(match Stored::read(body).ok()? {
        Stored::Payout(notice) => {
            let about = match &notice.about {
                About::Key(key) => key.to_string(),
                About::Reference(reference) => reference.0.clone(),
            };
            let word = notice.report.map_or_else(|| "hint".to_owned(), |report| report.provider_status);
            (notice.provider, notice.mode, format!("payout {about}: {word}"))
        }
        Stored::Deposit(StoredDeposit { provider, mode, deposit, .. }) => (
            provider,
            mode,
            format!("deposit {} into {}: {} {}", deposit.transaction_id, deposit.account, deposit.money.minor(), deposit.money.currency().code()),
        ),
    })
}

impl Stored {
    fn read(body: &Result<Vec<u8>, VaultError>) -> Result<Self, Unread> {
        #[derive(Deserialize)]
        struct Form {
            v: u8,
        }
        let body = match body {
            Ok(body) => body,
            Err(VaultError::UnknownKey(_)) => return Err(Unread::Sealed),
            Err(_) => return Err(Unread::Here),
        };
        match serde_json::from_slice::<Form>(body) {
            Ok(Form { v }) if v < VERSION => Err(Unread::Older),
            Ok(Form { v: VERSION }) => serde_json::from_slice(body).map(Self::Payout).map_err(|_| Unread::Here),
            Ok(Form { v: deposit::VERSION }) => serde_json::from_slice(body).map(Self::Deposit).map_err(|_| Unread::Here),
            Ok(_) | Err(_) => Err(Unread::Here),
        }
    }
}

impl StoredNotice {
    #[must_use]
    pub const fn new(provider: Provider, mode: Mode, about: About, report: Option<Report>) -> Self {
        Self { v: VERSION, provider, mode, about, report }
    }

    async fn addressed(&self, store: &Store) -> Result<Addressed, StoreError> {
        let here = match &self.about {
            About::Key(key) => match key.payout_and_attempt().filter(|(payout, _)| store.shards().contains(payout.shard())) {
                Some(here) => here,
                None => return Ok(Addressed::Foreign),
            },
            About::Reference(reference) => match store.referred(self.provider, self.mode, reference).await? {
                Some(here) => here,
                None => return Ok(Addressed::Unknown),
            },
        };
        let (id, attempt) = here;
        Ok(match store.load(id).await?.filter(|payout| payout.mode == self.mode) {
            None => Addressed::Unknown,
            // The signature proves which provider speaks, and it speaks for its own attempts only.
            Some(payout) if payout.provider_of(attempt) != Some(self.provider) => Addressed::Foreign,
            Some(payout) => Addressed::Found(Box::new(payout), attempt),
        })
    }
}

/// As long again as it has waited already, from a second to an hour.
fn put_off(work: &SettleWork, now: Timestamp) -> Settled {
    let age = now.duration_since(work.at);
    Settled::RetryAt(later(now, age.clamp(SignedDuration::from_secs(1), SignedDuration::from_hours(1))))
}

/// Put off for a day, and then this.
pub(crate) fn put_off_before(end: Settled, work: &SettleWork, now: Timestamp) -> Settled {
    if now.duration_since(work.at) >= ORPHAN_AFTER { end } else { put_off(work, now) }
}

/// Settles one notice.
pub async fn settle(context: Arc<Payouts>, job: Job<SettleWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let id = work.id;
    let notice = match Stored::read(&work.body) {
        Ok(Stored::Payout(notice)) if work.times_leased <= context.settings.leases_max => notice,
        Ok(Stored::Deposit(deposit)) if work.times_leased <= context.settings.leases_max => {
            match context.deposit(&work, &lease, &deposit).await {
                Ok(()) => lease.settled(),
                Err(error) => tracing::warn!(notice.id = %id, %error, "a deposit could not be settled; its lease will lead back to it"),
            }
            return;
        }
        read => {
            let now = context.recorder.store.clock().now();
            let (why, outcome) = match read {
                Ok(_) => ("leased_too_often", Settled::Aside),
                Err(Unread::Older) => ("older_form", Settled::Aside),
                Err(Unread::Here) => ("unreadable", put_off_before(Settled::Aside, &work, now)),
                Err(Unread::Sealed) => ("unknown_vault_key", put_off(&work, now)),
            };
            if outcome == Settled::Aside {
                tracing::error!(notice.id = %id, why, "a notice is put aside; only polls can find out what it told");
            } else {
                tracing::error!(notice.id = %id, why, "a notice cannot be read by this worker; another one may");
            }
            match context.recorder.store.settled(&work, lease.ticket(), outcome).await {
                Ok(()) => lease.settled(),
                Err(error) => tracing::warn!(notice.id = %id, %error, "a notice could not be put off; its lease will lead back to it"),
            }
            return;
        }
    };
    let span = tracing::debug_span!("notice.settle", notice.id = %id, payout.id = tracing::field::Empty);
    // Before the span is entered for the first time: from then on it belongs to the trace that it was begun in.
    let addressed = notice.addressed(&context.recorder.store).await;
    if let Ok(Addressed::Found(payout, _)) = &addressed {
        span.record("payout.id", tracing::field::display(payout.id));
        trace::continues(&span, payout.trace.as_deref());
    }
    async {
        let settled = match addressed {
            Ok(addressed) => context.settle(&work, &lease, notice, addressed).await,
            Err(error) => Err(error),
        };
        match settled {
            Ok(()) => lease.settled(),
            Err(error) => tracing::warn!(notice.id = %id, %error, "a notice could not be settled; its lease will lead back to it"),
        }
    }
    .instrument(span)
    .await;
}

impl Payouts {
    async fn settle(&self, work: &SettleWork, lease: &Lease<Ticket>, notice: StoredNotice, addressed: Addressed) -> Result<(), StoreError> {
        let store = &self.recorder.store;
        let now = store.clock().now();
        let outcome = match (addressed, notice.report) {
            (Addressed::Found(payout, attempt), Some(report)) => {
                let fact = Fact::new(Source::Notice, What::Reported { attempt, report });
                self.recorder.record(*payout, &fact).await?;
                fail::fail_point!("notice-not-settled");
                Settled::Done
            }
            (Addressed::Found(payout, attempt), None) => match self.follow(*payout, attempt).await? {
                Some(settled) => settled,
                None => put_off_before(Settled::Orphan, work, now),
            },
            (Addressed::Unknown, _) => put_off_before(Settled::Orphan, work, now),
            (Addressed::Foreign, _) => Settled::Orphan,
        };
        if outcome == Settled::Orphan {
            tracing::warn!(notice.id = %work.id, "a notice speaks of a payout that is not here, or that its provider does not show");
        }
        store.settled(work, lease.ticket(), outcome).await
    }

    /// Looks at the attempt that a hint names, unless somebody has just had a look asked for: then later. `None` if the provider gave no answer.
    async fn follow(&self, payout: Payout, number: u8) -> Result<Option<Settled>, StoreError> {
        let store = &self.recorder.store;
        let every = self.recorder.check_every;
        let attempt = payout.attempts.iter().find(|made| made.number == number);
        let Some(attempt) = attempt.filter(|_| payout.is_checkable()) else {
            // Before its answer is there the polls are still to come; once it has ended there is nothing to learn.
            return Ok(Some(Settled::Followed { again: later(store.clock().now(), every) }));
        };
        if let Some(wait) = store.claim_look(payout.id, every).await? {
            return Ok(Some(Settled::RetryAt(later(store.clock().now(), wait))));
        }
        // The bytes that are kept are those of the latest attempt.
        let is_latest = payout.attempt().is_some_and(|latest| latest.number == number);
        let request = if is_latest { store.request(payout.id).await?.unwrap_or_default() } else { Vec::new() };
        let look = self.recorder.providers.look(attempt.provider, payout.mode, &inquiry(attempt, &request)).await;
        self.recorder.metrics.looked(attempt.provider, &look);
        let again = later(store.clock().now(), every);
        match look {
            Look::Found(report) => {
                let fact = Fact::new(Source::Notice, What::Reported { attempt: number, report });
                if self.is_news(&payout, &fact) {
                    self.recorder.record(payout, &fact).await?;
                }
                Ok(Some(Settled::Followed { again }))
            }
            // That it is not known is for the plan of polls to judge.
            Look::NotFound => Ok(Some(Settled::Followed { again })),
            Look::Nothing { .. } => Ok(None),
        }
    }

    /// Whether a fact adds anything to the record.
    fn is_news(&self, payout: &Payout, fact: &Fact) -> bool {
        match payout.apply(fact, &self.recorder.plan(payout), self.recorder.store.clock().now()) {
            Verdict::Known(step) => (&step.payout.attempts, &step.payout.contradictions) != (&payout.attempts, &payout.contradictions),
            Verdict::Moved(_) | Verdict::Refused(..) | Verdict::Declined(_) => true,
        }
    }
}
