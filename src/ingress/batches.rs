//! `/v1/payouts/batches`: ask for many payouts in one request, and see what became of each.
//!
//! A batch is accepted whole and opened later, page by page, by a worker ([`workers::batch`]). What is wrong with the request (its syntax, its size,
//! a `transaction_id` that is there twice) refuses it; what is wrong with one item is told about that item, in the words of a request of its own.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use domain::credential::{Reach, Scope};
use domain::fingerprint::fingerprint;
use domain::id::{BatchId, Mode, PartyId, PayoutId};
use domain::payout::state::StateName;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tracing::Span;
use workers::batch::{Batch, Item, ItemResult, Outcome, PAGE};
use workers::open::Wanted;
use workers::store::Store;
use workers::store::batches::{Accepted, Kept, Progress};

use super::caller::Caller;
use super::edge::TraceParent;
use super::intake::Duty;
use super::json::{self, RawList};
use super::opening::{Circumstances, archived, conflict, inactive, not_replaceable, twin};
use super::payouts::{REPLAYED, party_in};
use super::problem::{Errors, Kind, Problem};
use super::query::Parameters;
use super::view::{Moment, answer, result, set};
use super::{Ingress, order};

/// Pages that are written at one time.
const AT_ONCE: usize = 8;
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;
/// Pages of the store that one page of a filtered list looks at, at most.
const LOOKED_AT_MAX: usize = 20;

/// Limits of batches.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The most items of a batch.
    pub items_max: usize,
    /// The largest body. Each item may be as large as a body of its own.
    pub body_max_bytes: usize,
    /// Batches that are taken in at one time: each is held in memory. More are answered 503.
    pub concurrency: usize,
    /// Batches of a shard that wait to be opened, at most. More are answered 503.
    pub waiting_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { items_max: 10_000, body_max_bytes: 16 << 20, concurrency: 2, waiting_max: 100 }
    }
}

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/v1/payouts/batches", post(create))
        .route("/v1/payouts/batches/{batch_id}", get(one))
        .route("/v1/payouts/batches/{batch_id}/items", get(items))
}

/// A batch that was read, and is to be stored.
struct Asked {
    batch: Batch,
    fingerprint: String,
    /// Sealed.
    pages: Vec<Vec<u8>>,
}

async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = ingress.admit(&parts.headers, Scope::PayoutsWrite).await?;
    let overloaded = || Problem::new(Kind::Overloaded, "As many batches as can be are being taken in. Nothing was done.");
    let slot = Arc::clone(&ingress.batch_slots).try_acquire_owned().map_err(|_| overloaded())?;
    let body = ingress.take_in(&caller, &parts, body, ingress.settings.batches.body_max_bytes, Duty::Body).await?;
    json::check_media_type(&parts.headers)?;
    let trace = parts.extensions.get().map(TraceParent::onwards);

    // Ten thousand items are long work for a core: not on a thread that serves others.
    let (reading, reader, span) = (Arc::clone(&ingress), caller.clone(), Span::current());
    // The slot goes along: a request that is given up leaves its work on that thread.
    let read = tokio::task::spawn_blocking(move || (span.in_scope(|| reading.read_batch(&reader, &body, trace.as_deref())), slot));
    let (read, _slot) = read.await.map_err(|_| Problem::new(Kind::Internal, "The batch could not be read."))?;
    let Asked { batch, fingerprint, pages } = read?;

    let store = &ingress.recorder.store;
    if let Some(known) = store.batch(batch.id).await? {
        return ingress.replay(&caller, known, &fingerprint).await;
    }
    if !store.is_active(&batch.party, batch.mode).await? {
        return Err(inactive());
    }
    let full = || Problem::new(Kind::Overloaded, "As many batches as may wait are waiting. Nothing was done.");
    // Before anything is uploaded; the script that accepts it looks again.
    if store.batches_waiting(batch.id.shard()).await? >= ingress.settings.batches.waiting_max {
        return Err(full());
    }
    let of = &batch;
    let stored = pages.into_iter().enumerate().map(|(page, sealed)| async move { store.put_batch_page(of, page, &sealed).await });
    stream::iter(stored).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let accepted_now = store.accept_batch(&batch, &fingerprint, ingress.settings.batches.waiting_max).await?;
    if accepted_now != Accepted::New {
        store.drop_batch_pages(&batch).await?;
    }
    match accepted_now {
        Accepted::New => ingress.recorder.metrics.accepted(batch.mode),
        // Another request with this key was faster.
        Accepted::Exists | Accepted::Conflict => {
            let known = store.batch(batch.id).await?.ok_or_else(|| Problem::new(Kind::StoreUnavailable, "Repeat the request as it is."))?;
            return ingress.replay(&caller, known, &fingerprint).await;
        }
        Accepted::Full => return Err(full()),
        Accepted::Expired => return Err(Problem::new(Kind::Timeout, "Nothing was done. Repeat the request as it is.")),
    }
    let progress = Progress { batch, fingerprint, pages_done: 0, outcomes: BTreeMap::new(), expanded_at: None };
    Ok(accepted(&caller, &BatchView::new(&progress, BTreeMap::new())))
}

fn accepted(caller: &Caller, view: &BatchView<'_>) -> Response {
    let mut response = result(StatusCode::ACCEPTED, view);
    let path = format!("/v1/payouts/batches/{}", view.batch_id);
    let location = match caller.key().reach {
        Reach::Platform => format!("{path}?party_id={}", view.party_id),
        Reach::Party(_) => path,
    };
    set(&mut response, header::LOCATION, &location);
    response
}

impl Ingress {
    /// Reads a batch, all its items included.
    fn read_batch(&self, caller: &Caller, body: &Bytes, trace: Option<&str>) -> Result<Asked, Problem> {
        let mut errors = Errors::default();
        let max = self.settings.batches.items_max;
        let (mut fields, list) = json::read_with_list(body, "items", max, &mut errors)?;
        let errs = &mut errors;
        let batch_id = fields.text("batch_id", errs).and_then(|text| {
            let id = order::transaction_id(&text);
            if id.is_none() {
                errs.field("/batch_id", "not_a_uuid", "must be a UUID with hyphens");
            }
            id
        });
        let named = order::party_id(&mut fields, errs);
        fields.finish(errs);
        let raw = match list {
            Some(RawList { items, more: false }) if !items.is_empty() => items,
            Some(RawList { more: true, .. }) => {
                errs.field("/items", "too_many", format_args!("may have {max} items"));
                Vec::new()
            }
            Some(_) => {
                errs.field("/items", "empty", "must have at least one item");
                Vec::new()
            }
            // Its fault has been noted.
            None => Vec::new(),
        };
        let (Some(batch_id), true) = (batch_id, errors.is_empty()) else { return Err(errors.into_problem()) };
        let party = self.party(caller, named)?;
        let (mode, store) = (caller.mode(), &self.recorder.store);
        let of = Circumstances { party: &party, mode, maker: &caller.key().owner, batch_id: Some(&batch_id), trace, now: store.clock().now() };
        let items: Vec<Item> = raw.iter().map(|raw| self.read_item(raw, &of)).collect();
        let mut places = HashMap::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            if let Some(first) = item.transaction_id().and_then(|id| places.insert(id, index)) {
                errors.field(format!("/items/{index}/transaction_id"), "duplicate", format_args!("is that of item {first} too"));
            }
        }
        errors.check()?;
        let fingerprint = self.batch_fingerprint(items.iter().zip(&raw));
        let id = BatchId::derive(&party, mode, &batch_id, store.shards());
        let batch = Batch {
            id,
            mode,
            items: items.len(),
            accepted_at: of.now,
            upload: Store::new_upload(),
            trace: trace.map(str::to_owned),
            party: party.clone(),
            batch_id,
        };
        let pages = items.chunks(PAGE).enumerate().map(|(page, items)| store.seal_batch_page(&batch, page, items)).collect();
        Ok(Asked { batch, fingerprint, pages })
    }

    fn read_item(&self, raw: &RawValue, of: &Circumstances<'_>) -> Item {
        let text = raw.get();
        let max = self.settings.body_max_bytes;
        let read = if text.len() > max { Err(too_large(max)) } else { order::read(text.as_bytes()) };
        let read = read.and_then(|mut asked| match asked.party.take() {
            Some(named) if named != *of.party => Err(Problem::field("/party_id", "other_party", "must be the party of the batch, or be left out")),
            _ => Ok(asked),
        });
        match read {
            Ok(asked) => {
                let Wanted { order, beneficiary, fingerprint, objection } = self.wanted(asked, of);
                Item::Wanted(Box::new(Wanted { order, beneficiary, fingerprint, objection: objection.map(|problem| problem.value()) }))
            }
            Err(problem) => Item::Invalid { transaction_id: transaction_id_in(text), problem: problem.value() },
        }
    }

    /// What tells this batch from another one under the same key: the fingerprints of its items in their order; of an item that is none, its text.
    fn batch_fingerprint<'a>(&self, items: impl Iterator<Item = (&'a Item, &'a &'a RawValue)>) -> String {
        let parts = items.flat_map(|(item, raw)| {
            let (kind, text) = match item {
                Item::Wanted(wanted) => (b'w', wanted.fingerprint.as_str()),
                Item::Invalid { .. } => (b'i', raw.get()),
            };
            [Cow::Owned(vec![kind]), Cow::Owned((text.len() as u64).to_be_bytes().to_vec()), Cow::Borrowed(text.as_bytes())]
        });
        fingerprint(&self.pepper, "batch fingerprint 1", parts)
    }

    async fn replay(&self, caller: &Caller, known: Kept, fingerprint: &str) -> Result<Response, Problem> {
        let (Kept::Whole(Progress { fingerprint: first, .. }) | Kept::Key { fingerprint: first }) = &known;
        if first != fingerprint {
            return Err(Problem::new(Kind::BatchConflict, "The batch_id is that of a batch with other content. Nothing was changed."));
        }
        let known = whole(known)?;
        let standing = self.recorder.store.batch_standing(&known.batch).await?;
        let mut response = accepted(caller, &BatchView::new(&known, standing));
        set(&mut response, REPLAYED, "true");
        Ok(response)
    }

    /// The batch with that key. One of another party or mode is not found, like one that never was.
    async fn find_batch(&self, caller: &Caller, named: Option<PartyId>, key: &str) -> Result<Progress, Problem> {
        let party = self.party(caller, named)?;
        let missing = || Problem::not_found("batch");
        let key = order::transaction_id(key).ok_or_else(missing)?;
        let id = BatchId::derive(&party, caller.mode(), &key, self.recorder.store.shards());
        whole(self.recorder.store.batch(id).await?.ok_or_else(missing)?)
    }
}

fn whole(kept: Kept) -> Result<Progress, Problem> {
    match kept {
        Kept::Whole(progress) => Ok(progress),
        Kept::Key { .. } => Err(Problem::new(Kind::BatchArchived, "All its items ended long ago. Its payouts can be read by their transaction_id.")),
    }
}

fn too_large(max: usize) -> Problem {
    Problem::new(Kind::BodyTooLarge, format!("An item may have {max} bytes."))
}

/// The key of an item that is otherwise not readable.
fn transaction_id_in(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Key {
        transaction_id: String,
    }
    serde_json::from_str::<Key>(text).ok().and_then(|key| order::transaction_id(&key.transaction_id))
}

/// A batch as JSON.
#[derive(Serialize)]
struct BatchView<'a> {
    batch_id: &'a str,
    party_id: &'a PartyId,
    mode: Mode,
    /// `expanding` until every item has a result, then `expanded`.
    status: &'static str,
    accepted_at: Moment,
    #[serde(skip_serializing_if = "Option::is_none")]
    expanded_at: Option<Moment>,
    items: usize,
    results: BTreeMap<&'static str, u64>,
    /// The payouts of the batch by status.
    payouts: BTreeMap<String, u64>,
}

/// The result of an item that was not opened yet.
const PENDING: &str = "pending";

impl<'a> BatchView<'a> {
    fn new(progress: &'a Progress, payouts: BTreeMap<String, u64>) -> Self {
        let Progress { batch, outcomes, expanded_at, .. } = progress;
        let mut results: BTreeMap<_, _> =
            Outcome::ALL.into_iter().map(|outcome| (outcome.as_str(), outcomes.get(&outcome).copied().unwrap_or(0))).collect();
        let known: u64 = results.values().sum();
        results.insert(PENDING, (batch.items as u64).saturating_sub(known));
        Self {
            batch_id: &batch.batch_id,
            party_id: &batch.party,
            mode: batch.mode,
            status: if expanded_at.is_some() { "expanded" } else { "expanding" },
            accepted_at: Moment(batch.accepted_at),
            expanded_at: expanded_at.map(Moment),
            items: batch.items,
            results,
            payouts,
        }
    }
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let progress = ingress.find_batch(&caller, party_in(query.as_deref())?, &key).await?;
    let standing = ingress.recorder.store.batch_standing(&progress.batch).await?;
    Ok(result(StatusCode::OK, &BatchView::new(&progress, standing)))
}

/// An item as JSON.
#[derive(Serialize)]
struct ItemView {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_id: Option<String>,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_id: Option<PayoutId>,
    /// Of the payout, now.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<StateName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<serde_json::Value>,
}

/// Which items to list.
struct Listing {
    party: Option<PartyId>,
    /// The first item of the page.
    from: usize,
    limit: usize,
    results: Vec<&'static str>,
}

impl Listing {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut parameters = Parameters::read(query);
        let errs = &mut errors;
        let party = parameters.parsed("party_id", "invalid", errs, PartyId::parse);
        let number = |text: &str| text.parse::<usize>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let after = parameters.parsed("after", "invalid", errs, |text| number(text).ok_or("must be the `index` of an item"));
        let limit = parameters.parsed("limit", "out_of_range", errs, |text| {
            number(text).filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or("must be a number from 1 to 200")
        });
        let mut results = Vec::new();
        for name in parameters.all("result") {
            match Outcome::named(&name).map(Outcome::as_str).or((name == PENDING).then_some(PENDING)) {
                Some(result) => results.push(result),
                None => errs.parameter("result", "unknown_result", "is not a result of an item"),
            }
        }
        parameters.finish(errors)?;
        Ok(Self { party, from: after.map_or(0, |after| after.saturating_add(1)), limit: limit.unwrap_or(LIMIT_DEFAULT), results })
    }
}

async fn items(
    State(ingress): State<Arc<Ingress>>,
    Path(key): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List {
        results: Vec<ItemView>,
        /// Absent on the last page.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_after: Option<usize>,
    }

    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let mut listing = Listing::read(query.as_deref())?;
    let progress = ingress.find_batch(&caller, listing.party.take(), &key).await?;
    let (batch, store) = (&progress.batch, &ingress.recorder.store);
    let (mut found, mut next) = (Vec::new(), listing.from);
    'pages: for page in (listing.from / PAGE..batch.pages()).take(LOOKED_AT_MAX) {
        for (index, item) in items_of(store, batch, page).await?.into_iter().enumerate().map(|(place, item)| (page * PAGE + place, item)) {
            if index < listing.from {
                continue;
            }
            if found.len() == listing.limit {
                break 'pages;
            }
            next = index + 1;
            if listing.results.is_empty() || listing.results.contains(&item.result) {
                found.push(ItemView { index, ..item });
            }
        }
    }
    let ids: Vec<Option<PayoutId>> = found.iter().map(|item| item.payout_id).collect();
    let payouts = try_join_all(ids.into_iter().map(async |id| match id {
        Some(id) => store.load_readable(id).await,
        None => Ok(None),
    }));
    for (item, payout) in found.iter_mut().zip(payouts.await?) {
        item.status = payout.map(|payout| payout.state.name());
    }
    Ok(answer(StatusCode::OK, &List { results: found, next_after: (next > 0 && next < batch.items).then(|| next - 1) }))
}

/// The items of a page of the store, whether they were opened or not.
async fn items_of(store: &Store, batch: &Batch, page: usize) -> Result<Vec<ItemView>, Problem> {
    let opened = |results: Vec<ItemResult>| results.into_iter().map(ItemView::opened).collect();
    if let Some(results) = store.batch_results(batch, page).await? {
        return Ok(opened(results));
    }
    if let Some(items) = store.batch_page(batch, page).await? {
        return Ok(items.iter().map(ItemView::pending).collect());
    }
    // Opened between the two questions.
    Ok(store.batch_results(batch, page).await?.map(opened).unwrap_or_default())
}

impl ItemView {
    fn opened(result: ItemResult) -> Self {
        let problem = match result.outcome {
            Outcome::Opened | Outcome::Replayed | Outcome::Unreadable | Outcome::Invalid => result.problem,
            Outcome::Conflict => Some(conflict().value()),
            Outcome::Archived => Some(archived().value()),
            Outcome::Inactive => Some(inactive().value()),
            Outcome::TwinUnresolved => Some(twin(None).value()),
            Outcome::NotReplaceable => Some(not_replaceable(None).value()),
        };
        let ItemResult { transaction_id, outcome, payout_id, problem: _ } = result;
        Self { index: 0, transaction_id, result: outcome.as_str(), payout_id, status: None, problem }
    }

    fn pending(item: &Item) -> Self {
        Self { index: 0, transaction_id: item.transaction_id().map(str::to_owned), result: PENDING, payout_id: None, status: None, problem: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_items_are_asked_for_strictly() {
        let listing = Listing::read(Some("after=99&limit=200&result=invalid&result=pending")).unwrap();
        assert_eq!((listing.from, listing.limit, listing.results), (100, 200, vec!["invalid", PENDING]));
        let plain = Listing::read(None).unwrap();
        assert_eq!((plain.from, plain.limit, plain.results.len()), (0, LIMIT_DEFAULT, 0));
        for query in ["after=-1", "after=+1", "after=x", "limit=0", "limit=201", "result=Invalid", "result=", "status=failed", "after=1&after=2"] {
            assert_eq!(Listing::read(Some(query)).err().map(|problem| problem.kind), Some(Kind::InvalidParameters), "{query}");
        }
    }

    #[test]
    fn the_key_of_a_broken_item_is_found_if_it_has_one() {
        let id = "cc328607-e02e-49e2-81c9-5bd044c8f7d7";
        assert_eq!(transaction_id_in(&format!(r#"{{"transaction_id":"{}","x":[1]}}"#, id.to_uppercase())).as_deref(), Some(id));
        for text in
            ["1", "{}", r#"{"transaction_id":1}"#, r#"{"transaction_id":"x"}"#, &format!(r#"{{"transaction_id":"{id}","transaction_id":"{id}"}}"#)]
        {
            assert_eq!(transaction_id_in(text), None, "{text}");
        }
    }
}
