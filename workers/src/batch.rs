//! Batches: a request for many payouts, which is accepted whole and opened page by page.
//!
//! The request stores its items, sealed, and one piece of work. A worker opens the payouts of one page with [`Recorder::open`], as a request of its own
//! would, and commits what became of them; that commit makes the next page due. **A page may run any number of times**: a key opens one payout, and
//! the payout remembers its batch, so the item of a page that runs again is still told as opened by this batch.

use std::sync::Arc;
use std::time::Duration;

use domain::fact::Provider;
use domain::id::{BatchId, Mode, PartyId, PayoutId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::Instrument as _;

use crate::execute::Payouts;
use crate::group::Group;
use crate::open::{Opening, Wanted};
use crate::queue::{Job, Lease};
use crate::record::Recorder;
use crate::store::StoreError;
use crate::store::batches::{ExpandWork, Expanded};
use crate::store::lanes::Ticket;
use crate::trace;

/// Items of a page: what one script writes, and one value of the store holds.
pub const PAGE: usize = 100;
/// Payouts of a page that are opened at one time.
const AT_ONCE: usize = 16;
/// When a batch that leads nowhere is tried again. Its age is a metric, and every try an error in the log.
const STUCK_WAIT: Duration = Duration::from_mins(10);

/// A batch as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    pub id: BatchId,
    pub party: PartyId,
    pub mode: Mode,
    /// The caller's key, unique per party and mode.
    pub batch_id: String,
    /// How many items it has, at least one.
    pub items: usize,
    pub accepted_at: Timestamp,
    /// Names the pages of the request that was accepted, apart from those of one that came at the same time.
    pub upload: String,
    /// W3C `traceparent` of the request that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// One payout of a batch, as it waits to be opened. Stored sealed.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    Wanted(Box<Wanted<Value>>),
    /// Its form is wrong: it will never be a payout. `problem` is the document that a request of its own would have been answered with.
    Invalid {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transaction_id: Option<String>,
        problem: Value,
    },
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The batch has opened this payout.
    Opened,
    /// The same request had been made before, singly or in another batch.
    Replayed,
    /// Its key was used for another request.
    Conflict,
    /// Its key was used for the same request, so long ago that only the memory of the key is left.
    Archived,
    /// Its key was used for the same request, whose payout is there and cannot be read: a person has to look after it.
    Unreadable,
    /// The party was inactive when its turn came.
    Inactive,
    /// An equal payout was unresolved when its turn came.
    TwinUnresolved,
    /// The payout that it was to replace could not be replaced when its turn came.
    NotReplaceable,
    /// It cannot be a payout.
    Invalid,
}

/// What became of an item, as it is kept. Holds no account and no name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemResult {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payout_id: Option<PayoutId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Value>,
}

// === impl Batch, Item, Outcome ===

impl Batch {
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.items.div_ceil(PAGE)
    }
}

impl Item {
    #[must_use]
    pub fn transaction_id(&self) -> Option<&str> {
        match self {
            Self::Wanted(wanted) => Some(&wanted.order.transaction_id),
            Self::Invalid { transaction_id, .. } => transaction_id.as_deref(),
        }
    }
}

impl Outcome {
    pub const ALL: [Self; 9] = [
        Self::Opened,
        Self::Replayed,
        Self::Conflict,
        Self::Archived,
        Self::Unreadable,
        Self::Inactive,
        Self::TwinUnresolved,
        Self::NotReplaceable,
        Self::Invalid,
    ];

    /// The word in the API, in the store and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Replayed => "replayed",
            Self::Conflict => "conflict",
            Self::Archived => "archived",
            Self::Unreadable => "unreadable",
            Self::Inactive => "inactive",
            Self::TwinUnresolved => "twin_unresolved",
            Self::NotReplaceable => "not_replaceable",
            Self::Invalid => "invalid",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == name)
    }
}

/// Opens the payouts of one page.
pub async fn expand(context: Arc<Payouts>, job: Job<ExpandWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let span = tracing::debug_span!("batch.expand", batch.id = %work.batch.id, page = work.page);
    trace::continues(&span, work.batch.trace.as_deref());
    let id = work.batch.id;
    async {
        match context.expand(work, &lease).await {
            Ok(()) => lease.settled(),
            Err(error) => tracing::warn!(batch.id = %id, %error, "a page of a batch was not opened; its lease will lead back to it"),
        }
    }
    .instrument(span)
    .await;
}

impl Payouts {
    async fn expand(&self, work: ExpandWork, lease: &Lease<Ticket>) -> Result<(), StoreError> {
        let ExpandWork { batch, page, times_leased } = work;
        let store = &self.recorder.store;
        if times_leased > self.settings.leases_max {
            tracing::error!(batch.id = %batch.id, page, "a page of a batch was leased again and again without being opened");
        }
        let items = match store.batch_page(&batch, page).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                tracing::error!(batch.id = %batch.id, page, %error, "a page of a batch cannot be read and is left for a person");
                return store.put_off_batch(batch.id, lease.ticket(), STUCK_WAIT).await;
            }
            items => items?,
        };
        let Some(items) = items else {
            // Somebody else was faster, and the work with it.
            return Ok(());
        };
        let companies = self.companies(&batch, &items);
        let hold = SignedDuration::from_millis(i64::try_from(self.settings.group_hold_ms).unwrap_or(i64::MAX));
        let (recorder, of) = (&self.recorder, &batch);
        let opening = items.into_iter().zip(companies.clone()).map(|(item, company)| async move {
            let hold = if company.is_some() { hold } else { SignedDuration::ZERO };
            recorder.open_item(of, &item, hold).await
        });
        let results: Vec<ItemResult> = stream::iter(opening).buffered(AT_ONCE).try_collect().await?;
        fail::fail_point!("batch-page-not-recorded");
        if store.batch_expanded(&batch, page, &results, &self.groups(&batch, page, &companies, &results), lease.ticket()).await? == Expanded::Done {
            self.recorder.metrics.expanded(batch.mode, &results);
        }
        Ok(())
    }
}

impl Payouts {
    /// By item: the provider to which it can go in one request with others of this page.
    fn companies(&self, batch: &Batch, items: &[Item]) -> Vec<Option<Provider>> {
        let company = |item: &Item| match item {
            Item::Wanted(wanted) if wanted.objection.is_none() && wanted.order.scheduled_for.is_none() => {
                wanted.order.route.first().copied().filter(|provider| self.group_max(*provider, batch.mode).is_some())
            }
            Item::Wanted(_) | Item::Invalid { .. } => None,
        };
        let companies: Vec<Option<Provider>> = items.iter().map(company).collect();
        let is_alone = |company: &Provider| companies.iter().filter(|other| **other == Some(*company)).count() < 2;
        companies.iter().map(|company| company.filter(|company| !is_alone(company))).collect()
    }

    fn group_max(&self, provider: Provider, mode: Mode) -> Option<usize> {
        self.recorder.providers.profile(provider, mode).batch_max.filter(|_| self.settings.group_hold_ms > 0)
    }

    /// What this page has opened and can go together.
    fn groups(&self, batch: &Batch, page: usize, companies: &[Option<Provider>], results: &[ItemResult]) -> Vec<Group> {
        let mut groups = Vec::new();
        for provider in Provider::ALL {
            let Some(max) = self.group_max(provider, batch.mode) else { continue };
            let places = companies.iter().zip(results).enumerate();
            let here = places.filter(|(_, (company, result))| **company == Some(provider) && result.outcome == Outcome::Opened);
            let here: Vec<(usize, PayoutId)> = here.filter_map(|(place, (_, result))| Some((page * PAGE + place, result.payout_id?))).collect();
            for members in here.chunks(max).filter(|members| members.len() > 1) {
                let Some(number) = members.first().and_then(|(place, _)| u32::try_from(*place).ok()) else { continue };
                let members = members.iter().map(|(_, id)| *id).collect();
                groups.push(Group { batch: batch.id, number, provider, mode: batch.mode, members, trace: batch.trace.clone() });
            }
        }
        groups
    }
}

impl Recorder {
    async fn open_item(&self, batch: &Batch, item: &Item, hold: SignedDuration) -> Result<ItemResult, StoreError> {
        let (outcome, payout_id, problem) = match item {
            Item::Invalid { problem, .. } => (Outcome::Invalid, None, Some(problem.clone())),
            Item::Wanted(wanted) => {
                let opening = self.open(wanted, hold).await?;
                fail::fail_point!("batch-item-opened");
                match opening {
                    Opening::Opened(payout) => (Outcome::Opened, Some(payout.id), None),
                    // By an earlier run of this page.
                    Opening::Replayed(payout) if payout.batch_id.as_ref() == Some(&batch.batch_id) => (Outcome::Opened, Some(payout.id), None),
                    Opening::Replayed(payout) => (Outcome::Replayed, Some(payout.id), None),
                    Opening::Archived => (Outcome::Archived, None, None),
                    // It would be no other the next time, and the others of the page must not wait for it.
                    Opening::Unreadable(error) => {
                        let id = wanted.order.id;
                        tracing::error!(payout.id = %id, %error, "the record of a payout that a batch asks for again cannot be read and is left for a person");
                        (Outcome::Unreadable, Some(id), None)
                    }
                    Opening::Conflict => (Outcome::Conflict, None, None),
                    Opening::Inactive => (Outcome::Inactive, None, None),
                    Opening::Twin(_) => (Outcome::TwinUnresolved, None, None),
                    Opening::NotReplaceable(_) => (Outcome::NotReplaceable, None, None),
                    Opening::Objected(problem) => (Outcome::Invalid, None, Some(problem)),
                }
            }
        };
        Ok(ItemResult { transaction_id: item.transaction_id().map(str::to_owned), outcome, payout_id, problem })
    }
}
