//! `/v2/balances`: the accounts of `/v1/balances` as seed 004's provider shows its balances.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use domain::account::{BalanceAccount, Status};
use domain::credential::Scope;
use domain::id::{BalanceAccountId, Mode, PartyId};
use domain::instrument::{Instrument, Payee};
use domain::money::Currency;
use domain::schedule::{Frequency, Schedule};
use domain::snapshot::{Amount, Link, Moment};
use serde::Serialize;
use workers::store::accounts::Standing;

use super::Ingress;
use super::caller::Caller;
use super::hal::{self, answer, refuse_testmode};
use super::payouts::named_party;
use super::problem::{Errors, Problem};
use super::query::Parameters;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v2/balances", get(list)).route("/v2/balances/{id}", get(one))
}

/// A balance as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    resource: &'static str,
    id: BalanceAccountId,
    mode: Mode,
    /// `null` as long as nobody has set the account up.
    created_at: Option<Moment>,
    currency: &'static str,
    description: String,
    available_amount: Amount,
    /// Money is told of when it is there, so none is ever on its way.
    pending_amount: Amount,
    transfer_frequency: String,
    transfer_threshold: Amount,
    /// What a payout of the whole balance leaves in it.
    reserve: Amount,
    transfer_reference: Option<&'static str>,
    transfer_destination: Option<Destination<'a>>,
    status: &'static str,
    #[serde(rename = "_links")]
    links: Links,
}

/// Where the balance is paid out to, as a person may see it who knows it already.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Destination<'a> {
    r#type: &'a str,
    beneficiary_name: String,
    bank_account: String,
}

#[derive(Serialize)]
struct Links {
    #[serde(rename = "self")]
    own: Link,
}

impl<'a> View<'a> {
    fn new(caller: &Caller, Standing { account, balances, .. }: &'a Standing, instrument: Option<&'a Instrument>) -> Self {
        let query = named_party(caller, &account.party).map_or_else(String::new, |(name, party)| format!("?{name}={party}"));
        let own = format!("/v2/balances/{}{query}", account.id);
        let currency = account.currency;
        Self {
            resource: "balance",
            id: account.id,
            mode: account.mode,
            created_at: account.created_at.map(Moment),
            currency: currency.code(),
            description: format!("{currency} balance"),
            available_amount: Amount::of(account.available(balances), currency),
            pending_amount: Amount::of(0, currency),
            transfer_frequency: frequency(account),
            transfer_threshold: Amount::of(0, currency),
            reserve: Amount::of(account.reserve, currency),
            transfer_reference: None,
            transfer_destination: instrument.map(|Instrument { payee: Payee { name, destination }, .. }| Destination {
                r#type: match destination.kind() {
                    "iban" | "sort_code_account_number" | "routing_number_account_number" => "bank-account",
                    other => other,
                },
                beneficiary_name: name.masked(),
                bank_account: destination.masked(),
            }),
            status: match account.status {
                Status::Enabled => "active",
                Status::Disabled => "inactive",
            },
            links: Links { own: Link::to(own) },
        }
    }
}

/// The schedule in one word.
fn frequency(account: &BalanceAccount) -> String {
    match account.planned.map(|planned| planned.schedule) {
        None => "never".to_owned(),
        Some(Schedule::Daily) => Frequency::Daily.word().to_owned(),
        Some(Schedule::Weekly(day)) => format!("every-{}", day.word()),
        Some(Schedule::Monthly(..)) => Frequency::Monthly.word().to_owned(),
    }
}

/// What is asked for.
struct Listing {
    party: Option<PartyId>,
    currency: Option<Currency>,
    from: Option<BalanceAccountId>,
    limit: usize,
}

impl Listing {
    fn read(query: Option<&str>) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut parameters = Parameters::read(query);
        refuse_testmode(&mut parameters, &mut errors);
        let party = parameters.parsed("party_id", "invalid", &mut errors, hal::party);
        let currency = parameters.parsed("currency", "unknown_currency", &mut errors, Currency::parse);
        let from = parameters.parsed("from", "invalid", &mut errors, str::parse);
        let limit = hal::limit(&mut parameters, &mut errors);
        parameters.finish(errors)?;
        Ok(Self { party, currency, from, limit })
    }
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Balances<'a> {
        balances: Vec<View<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::BalancesRead).await?;
    let mut listing = Listing::read(query.as_deref())?;
    let party = ingress.party(&caller, listing.party.take())?;
    let mut accounts = ingress.recorder.store.accounts(&party, caller.mode()).await?;
    accounts.retain(|standing| listing.currency.is_none_or(|currency| currency == standing.account.currency));
    let begin = match listing.from {
        None => 0,
        Some(from) => accounts.iter().position(|standing| standing.account.id == from).ok_or_else(|| {
            let mut errors = Errors::default();
            errors.parameter("from", "invalid", "must be the id of a balance of this list");
            errors.into_problem()
        })?,
    };
    let at = |place: usize| accounts.get(place).map(|standing| standing.account.id.to_string());
    let previous = if begin == 0 { None } else { at(begin.saturating_sub(listing.limit)) };
    let next = at(begin.saturating_add(listing.limit));
    let page: Vec<&Standing> = accounts.iter().skip(begin).take(listing.limit).collect();
    let instruments = futures_util::future::try_join_all(page.iter().map(|standing| ingress.paid_out_to(&standing.account))).await?;
    let balances: Vec<View<'_>> =
        page.iter().zip(&instruments).map(|(standing, instrument)| View::new(&caller, standing, instrument.as_ref())).collect();
    let mut same = vec![("limit", listing.limit.to_string())];
    same.extend(listing.currency.map(|currency| ("currency", currency.code().to_owned())));
    same.extend(named_party(&caller, &party));
    let places = (previous, listing.from.map(|from| from.to_string()), next);
    Ok(answer(StatusCode::OK, &hal::Page::new("/v2/balances", &same, places, balances.len(), Balances { balances })))
}

/// `GET /v2/balances/{id}`. `primary` is the one that was set up first.
async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::BalancesRead).await?;
    let mut errors = Errors::default();
    let mut parameters = Parameters::read(query.as_deref());
    refuse_testmode(&mut parameters, &mut errors);
    let named = parameters.parsed("party_id", "invalid", &mut errors, hal::party);
    parameters.finish(errors)?;
    let party = ingress.party(&caller, named)?;
    let accounts = ingress.recorder.store.accounts(&party, caller.mode()).await?;
    let found = if id == "primary" {
        let set_up = accounts.iter().filter(|standing| standing.account.created_at.is_some());
        set_up.min_by_key(|standing| (standing.account.created_at, standing.account.currency))
    } else {
        accounts.iter().find(|standing| standing.account.id.to_string() == id)
    };
    let standing = found.ok_or_else(|| Problem::not_found("balance"))?;
    let instrument = ingress.paid_out_to(&standing.account).await?;
    Ok(answer(StatusCode::OK, &View::new(&caller, standing, instrument.as_ref())))
}

impl Ingress {
    /// The payout instrument of an account, if it has one.
    async fn paid_out_to(&self, account: &BalanceAccount) -> Result<Option<Instrument>, Problem> {
        let Some(reference) = &account.instrument else { return Ok(None) };
        Ok(self.recorder.store.instrument(&account.party, account.mode, reference).await?)
    }
}
