//! `/parties`: what the platform tells about its merchants, in the shapes of seed 001.
//!
//! Parties are made and changed by the platform; a key that is bound to a party may read its own. Answers hold no account number and no beneficiary.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::account::BalanceAccount;
use domain::credential::Scope;
use domain::fingerprint::fingerprint;
use domain::id::{Mode, PartyId};
use domain::instrument::Instrument;
use domain::party::{Country, Details, DisplayName, Party, PartyReference, Status};
use domain::revision::Revision;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use workers::store::StoreError;
use workers::store::accounts::Standing;
use workers::store::parties::Written;

use super::balance_accounts::{self, AccountView};
use super::balances::{busy, platform};
use super::caller::Caller;
use super::instruments::{self, InstrumentView};
use super::intake::Duty;
use super::json::{self, Fields};
use super::order::checked;
use super::payouts::{REPLAYED, limit};
use super::problem::{Errors, Kind, Problem};
use super::query::Parameters;
use super::revision::{Revised, stale};
use super::view::{answer, set};
use super::{DECISIONS_MAX, Ingress};

/// Balance accounts that are made with a party, at most.
const ACCOUNTS_MAX: usize = 20;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/parties", post(create).get(list)).route("/parties/{partyId}", get(one).put(update).delete(deactivate))
}

/// A party as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartyView<'a> {
    party_id: &'a PartyId,
    party_reference: &'a str,
    display_name: &'a str,
    country: Country,
    status: Status,
    version: u64,
    date_time_created: Zoned,
    date_time_updated: Zoned,
    /// Only in the answer to a request that makes some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    payout_instruments: Vec<InstrumentView<'a>>,
    /// Only in the answer to a request that makes some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    balance_accounts: Vec<AccountView<'a>>,
}

/// The fields of a party that only the service writes, once.
const LASTING: [&str; 3] = ["partyId", "partyReference", "dateTimeCreated"];
/// And with each version.
const CHANGING: [&str; 1] = ["dateTimeUpdated"];

/// A time as seed 001 writes it: ISO 8601, to the millisecond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zoned(pub(super) Timestamp);

impl Serialize for Zoned {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.3}", self.0))
    }
}

impl<'a> PartyView<'a> {
    fn new(party: &'a Party) -> Self {
        Self {
            party_id: &party.id,
            party_reference: party.reference.as_str(),
            display_name: party.details.display_name.as_str(),
            country: party.details.country,
            status: party.details.status,
            version: party.version,
            date_time_created: Zoned(party.created_at),
            date_time_updated: Zoned(party.updated_at),
            payout_instruments: Vec::new(),
            balance_accounts: Vec::new(),
        }
    }
}

/// The body of `POST /parties`, read. Serialised, it is what the fingerprint is made of: the order of the fields is fixed for ever.
#[derive(Serialize)]
struct Asked {
    reference: PartyReference,
    display_name: DisplayName,
    country: Country,
    instruments: Vec<instruments::Asked>,
    accounts: Vec<balance_accounts::Asked>,
}

impl Asked {
    fn read(body: &[u8], instruments_max: usize) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut fields = json::read(body, &mut errors)?;
        let errs = &mut errors;
        let reference = fields.text("partyReference", errs).and_then(|text| checked(errs, "/partyReference", PartyReference::parse(&text)));
        let display_name = display_name(&mut fields, errs);
        let country = country(&mut fields, errs);
        let instruments = instruments::read_list(&mut fields, instruments_max, errs);
        let accounts = balance_accounts::read_list(&mut fields, ACCOUNTS_MAX, errs);
        for (index, account) in accounts.iter().enumerate() {
            let Some(reference) = &account.instrument else { continue };
            // One that is wrong itself has been named.
            let currency = instruments.iter().find(|instrument| instrument.reference == *reference).map(|instrument| instrument.currency);
            let at = format!("/balanceAccounts/{index}/payoutInstrumentReference");
            if errs.is_empty() {
                balance_accounts::check_instrument(&at, account.currency, currency, errs);
            }
        }
        fields.finish(errs);
        match (reference, display_name, country) {
            (Some(reference), Some(display_name), Some(country)) if errors.is_empty() => {
                Ok(Self { reference, display_name, country, instruments, accounts })
            }
            _ => Err(errors.into_problem()),
        }
    }
}

fn display_name(fields: &mut Fields, errors: &mut Errors) -> Option<DisplayName> {
    fields.text("displayName", errors).and_then(|text| checked(errors, "/displayName", DisplayName::parse(&text)))
}

fn country(fields: &mut Fields, errors: &mut Errors) -> Option<Country> {
    fields.text("country", errors).and_then(|text| checked(errors, "/country", Country::parse(&text)))
}

/// `POST /parties`: a party, with payout instruments and balance accounts, or nothing. Once per `partyReference`. Keys that must sign sign the body, which says everything.
async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PartiesWrite, Duty::Body).await?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let max = ingress.settings.instruments_max;
    let asked = Asked::read(&body, max)?;
    let (mode, store) = (caller.mode(), &ingress.recorder.store);
    let (by, now) = (caller.key().owner.as_str(), store.clock().now());
    let canonical = serde_json::to_vec(&asked).expect("a request has string keys only, so it is always JSON");
    let fingerprint = fingerprint(&ingress.pepper, "party 1", [canonical]);
    let party = Party::new(asked.reference, mode, asked.display_name, asked.country, fingerprint, now);
    tracing::Span::current().record("party", party.id.as_str());
    let instruments: Vec<_> = asked.instruments.into_iter().map(|asked| asked.instrument(&party.id, mode, by, &ingress.pepper, now)).collect();
    let mut errors = Errors::default();
    for (index, account) in asked.accounts.iter().enumerate() {
        ingress.check_scheduled(&format!("/balanceAccounts/{index}/frequency"), party.details.country, account.schedule, &mut errors);
    }
    // What was made in its time is a repeat, whatever must be now.
    if !errors.is_empty() && store.party(&party.id, mode).await?.is_none() {
        return Err(errors.into_problem());
    }
    for _ in 0..DECISIONS_MAX {
        let mut accounts = Vec::with_capacity(asked.accounts.len());
        for asked in &asked.accounts {
            let Standing { account, holder, .. } = store.account(&party.id, mode, asked.currency).await?;
            accounts.push((asked.account(&account, &ingress, by, now), holder));
        }
        match store.make_party(&party, &instruments, max, &accounts).await? {
            Written::Done => {
                let accounts: Vec<_> = accounts.into_iter().map(|(account, _)| account).collect();
                return Ok(ingress.made_party(&party, &instruments, &accounts, false));
            }
            Written::Stale => match store.party(&party.id, mode).await? {
                Some(held) if held.fingerprint == party.fingerprint => return ingress.remade_party(&held, &instruments, &asked.accounts).await,
                Some(_) => return Err(Problem::new(Kind::ReferenceConflict, "The partyReference is that of another party. Nothing was changed.")),
                // An account of it has changed in the meantime: the platform can set one up before there is a record of its party.
                None => {}
            },
            Written::Full => return Err(instruments::full(max)),
            Written::Busy => return Err(busy()),
            Written::Missing => break,
        }
    }
    Err(StoreError::Unavailable(None).into())
}

/// The answer to a request that makes a record, now or before.
pub(super) fn made<T: Serialize>(view: &T, location: &str, replayed: bool) -> Response {
    let mut response = answer(StatusCode::CREATED, view);
    set(&mut response, header::LOCATION, location);
    if replayed {
        set(&mut response, REPLAYED, "true");
    }
    response
}

/// The answer to a request that changes a record, now or before.
pub(super) fn changed<T: Serialize>(view: &T, repeated: bool) -> Response {
    let mut response = answer(StatusCode::OK, view);
    if repeated {
        set(&mut response, REPLAYED, "true");
    }
    response
}

/// `GET /parties?status=&limit=&cursor=`: those that have records, by name, for the platform.
async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        parties: Vec<PartyView<'a>>,
        /// Absent on the last page.
        #[serde(skip_serializing_if = "Option::is_none")]
        next_cursor: Option<String>,
    }
    let caller = ingress.admit(&headers, Scope::PartiesRead).await?;
    platform(&caller)?;
    let mut errors = Errors::default();
    let mut parameters = Parameters::read(query.as_deref());
    let status = parameters.parsed("status", "unknown_status", &mut errors, |text| Status::named(text).ok_or("is not a status of a party"));
    let limit = limit(&mut parameters, &mut errors);
    let after =
        parameters.parsed("cursor", "invalid", &mut errors, |text| read_cursor(text).ok_or("must be the `nextCursor` of a page of this list"));
    parameters.finish(errors)?;
    let keep = |party: &Party| status.is_none_or(|status| party.details.status == status);
    let (found, next) = ingress.recorder.store.parties(caller.mode(), after.as_ref(), limit, keep).await?;
    let next_cursor = next.map(|party| URL_SAFE_NO_PAD.encode(party.as_str()));
    Ok(answer(StatusCode::OK, &List { parties: found.iter().map(PartyView::new).collect(), next_cursor }))
}

/// The place behind a party, as a page has named it.
fn read_cursor(text: &str) -> Option<PartyId> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?.parse().ok()
}

async fn one(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PartiesRead).await?;
    let party = ingress.found_party(&within_reach(&caller, &id)?, caller.mode()).await?;
    Ok(answer(StatusCode::OK, &PartyView::new(&party)))
}

/// `PUT /parties/{partyId}`: the whole of what can be changed, and the `version` that it was decided on. `status` left out stays as it is.
async fn update(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PartiesWrite, Duty::None).await?;
    let id = within_reach(&caller, &id)?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let revised = Revised::take(&mut fields, &LASTING, &CHANGING, &mut errors);
    let display_name = display_name(&mut fields, &mut errors);
    let country = country(&mut fields, &mut errors);
    let status = fields.optional_text("status", &mut errors).and_then(|text| status(&text, &mut errors));
    fields.finish(&mut errors);
    let (Some(revised), Some(display_name), Some(country), true) = (revised, display_name, country, errors.is_empty()) else {
        return Err(errors.into_problem());
    };
    let store = &ingress.recorder.store;
    for _ in 0..DECISIONS_MAX {
        let party = ingress.found_party(&id, caller.mode()).await?;
        let details = Details { display_name: display_name.clone(), country, status: status.unwrap_or(party.details.status) };
        match party.revise(details, revised.version, store.clock().now()) {
            Revision::Stale => return Err(stale(party.version)),
            Revision::Repeated => {
                revised.check_repeated(&PartyView::new(&party))?;
                return Ok(changed(&PartyView::new(&party), true));
            }
            Revision::Same => {
                revised.check(&PartyView::new(&party))?;
                return Ok(changed(&PartyView::new(&party), false));
            }
            Revision::Changed(next) => {
                revised.check(&PartyView::new(&party))?;
                if next.details.country != party.details.country {
                    ingress.check_all_scheduled(&next).await?;
                }
                if store.write_party(&next).await? == Written::Done {
                    return Ok(changed(&PartyView::new(&next), false));
                }
            }
        }
    }
    Err(StoreError::Unavailable(None).into())
}

/// `DELETE /parties/{partyId}`: no payout of the party is opened from now on. What is open goes on, and everything can still be read.
async fn deactivate(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PartiesWrite).await?;
    let id = within_reach(&caller, &id)?;
    platform(&caller)?;
    let store = &ingress.recorder.store;
    for _ in 0..DECISIONS_MAX {
        let party = ingress.found_party(&id, caller.mode()).await?;
        let details = Details { status: Status::Inactive, ..party.details.clone() };
        let done = match party.revise(details, party.version, store.clock().now()) {
            Revision::Changed(next) => store.write_party(&next).await? == Written::Done,
            Revision::Same | Revision::Repeated | Revision::Stale => true,
        };
        if done {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    Err(StoreError::Unavailable(None).into())
}

fn status(text: &str, errors: &mut Errors) -> Option<Status> {
    let status = Status::named(text);
    if status.is_none() {
        errors.field("/status", "unknown_status", format_args!("must be one of {}", Status::ALL.map(Status::as_str).join(", ")));
    }
    status
}

/// The party of a path. One that the caller does not reach is not found, like one that does not exist.
pub(super) fn within_reach(caller: &Caller, id: &str) -> Result<PartyId, Problem> {
    let id = PartyId::parse(id).ok().filter(|id| caller.reaches(id, caller.mode())).ok_or_else(missing)?;
    tracing::Span::current().record("party", id.as_str());
    Ok(id)
}

pub(super) fn missing() -> Problem {
    Problem::not_found("party")
}

impl Ingress {
    fn made_party(&self, party: &Party, instruments: &[Instrument], accounts: &[BalanceAccount], replayed: bool) -> Response {
        let view = PartyView {
            payout_instruments: instruments.iter().map(InstrumentView::new).collect(),
            balance_accounts: accounts.iter().map(|account| self.account_view(account)).collect(),
            ..PartyView::new(party)
        };
        made(&view, &format!("/parties/{}", party.id), replayed)
    }

    /// The answer to the request that made a party, to whom it comes again: everything that it made, as it is by now.
    async fn remade_party(&self, party: &Party, made: &[Instrument], asked: &[balance_accounts::Asked]) -> Result<Response, Problem> {
        let store = &self.recorder.store;
        let present = store.instruments(&party.id, party.mode).await?.unwrap_or_default();
        let instruments: Vec<_> =
            made.iter().filter_map(|made| present.iter().find(|present| present.reference == made.reference).cloned()).collect();
        let accounts = asked.iter().map(|asked| store.account(&party.id, party.mode, asked.currency));
        let accounts = futures_util::future::try_join_all(accounts).await?;
        let accounts: Vec<_> = accounts.into_iter().map(|standing| standing.account).collect();
        Ok(self.made_party(party, &instruments, &accounts, true))
    }

    /// That each account of the party has a schedule, where accounts in its country must.
    async fn check_all_scheduled(&self, party: &Party) -> Result<(), Problem> {
        if !self.must_have_schedules(party.details.country) {
            return Ok(());
        }
        let accounts = self.recorder.store.accounts(&party.id, party.mode).await?;
        let lacks = |standing: &&Standing| standing.account.created_at.is_some() && standing.account.planned.is_none();
        let Some(Standing { account, .. }) = accounts.iter().find(lacks) else { return Ok(()) };
        let why = format!("is one in which accounts must have a schedule, and that in {} has none: give it one first", account.currency);
        Err(Problem::field("/country", "not_allowed", why))
    }

    pub(super) async fn found_party(&self, id: &PartyId, mode: Mode) -> Result<Party, Problem> {
        self.recorder.store.party(id, mode).await?.ok_or_else(missing)
    }
}
