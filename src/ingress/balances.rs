//! `/v1/balances`: what a party has in each currency, as seed 003 shows it, and what the platform sets up of an account.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use domain::account::{BALANCE_MAX, Funding, Status};
use domain::credential::{Reach, Scope};
use domain::destination::{BeneficiaryName, Iban};
use domain::id::{BalanceAccountId, Mode, PartyId};
use domain::money::Currency;
use serde::Serialize;
use workers::store::StoreError;
use workers::store::accounts::{SetUp, Standing};

use super::caller::Caller;
use super::intake::Duty;
use super::order::checked;
use super::payouts::party_in;
use super::problem::{Errors, Kind, Problem};
use super::view::{Moment, answer, result};
use super::{DECISIONS_MAX, Ingress, json, order};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/balances", get(list)).route("/v1/balances/{currency}", get(one).patch(change))
}

/// An account as JSON. Holds the holder, so it is for answers only.
#[derive(Serialize)]
struct View<'a> {
    currency: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iban: Option<&'a str>,
    status: Status,
    current_balance_in_minor: i64,
    available_balance_in_minor: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_owner: Option<&'a str>,
    balance_account_id: BalanceAccountId,
    party_id: &'a PartyId,
    mode: Mode,
    funding: Funding,
    /// 0 as long as nobody has set the account up.
    version: u64,
    reserve_in_minor: i64,
    queued_refunds_in_minor: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    negative_threshold_in_minor: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Moment>,
}

/// What is to be changed: what is not given stays as it is.
struct Change {
    party: Option<PartyId>,
    version: Option<u64>,
    funding: Option<Funding>,
    status: Option<Status>,
    reserve: Option<i64>,
    queued_refunds: Option<i64>,
    /// `None` within: it is taken back.
    negative_threshold: Option<Option<i64>>,
    ends_schedule: bool,
    owner: Option<BeneficiaryName>,
    iban: Option<Iban>,
}

impl<'a> View<'a> {
    fn new(Standing { account, holder, balances }: &'a Standing) -> Self {
        Self {
            currency: account.currency.code(),
            iban: holder.iban.as_ref().map(Iban::as_str),
            status: account.status,
            current_balance_in_minor: account.current(balances),
            available_balance_in_minor: account.available(balances),
            account_owner: holder.owner.as_ref().map(BeneficiaryName::as_str),
            balance_account_id: account.id,
            party_id: &account.party,
            mode: account.mode,
            funding: account.funding,
            version: account.version,
            reserve_in_minor: account.reserve,
            queued_refunds_in_minor: account.queued_refunds,
            negative_threshold_in_minor: account.negative_threshold,
            created_at: account.created_at.map(Moment),
            updated_at: account.updated_at.map(Moment),
        }
    }
}

impl Change {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut fields = json::read(body, &mut errors)?;
        let errs = &mut errors;
        let party = order::party_id(&mut fields, errs);
        let version = fields.optional_integer("version", errs).and_then(|version| {
            let version = u64::try_from(version);
            version.map_err(|_| errs.field("/version", "out_of_range", "must not be negative")).ok()
        });
        let funding = fields.optional_text("funding", errs).and_then(|text| match text.as_str() {
            "provider" => Some(Funding::Provider),
            "balance" => Some(Funding::Balance),
            _ => {
                errs.field("/funding", "unknown", "must be provider or balance");
                None
            }
        });
        let status = fields.optional_text("status", errs).and_then(|text| match text.as_str() {
            "enabled" => Some(Status::Enabled),
            "disabled" => Some(Status::Disabled),
            _ => {
                errs.field("/status", "unknown", "must be enabled or disabled");
                None
            }
        });
        let no_threshold = fields.is_null("negative_threshold_in_minor");
        let mut minor = |name: &str| {
            let minor = fields.optional_integer(name, errs)?;
            if !(0..=BALANCE_MAX).contains(&minor) {
                errs.field(format!("/{name}"), "out_of_range", format_args!("must be from 0 to {BALANCE_MAX}"));
            }
            Some(minor)
        };
        let (reserve, queued_refunds) = (minor("reserve_in_minor"), minor("queued_refunds_in_minor"));
        let negative_threshold = minor("negative_threshold_in_minor").map(Some).or_else(|| no_threshold.then_some(None));
        let ends_schedule = fields.only_null(
            "schedule",
            "can only be ended here, by null: another one is set by `PUT /parties/{partyId}/balanceAccount/{balanceAccountId}`",
            errs,
        );
        let owner = fields.optional_text("account_owner", errs);
        let owner = owner.and_then(|text| checked(errs, "/account_owner", BeneficiaryName::parse(&text, BeneficiaryName::MAX_CHARS)));
        let iban = fields.optional_text("iban", errs).and_then(|text| checked(errs, "/iban", Iban::parse(&text)));
        fields.finish(errs);
        errors.check()?;
        Ok(Self { party, version, funding, status, reserve, queued_refunds, negative_threshold, ends_schedule, owner, iban })
    }
}

async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        results: Vec<View<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::BalancesRead).await?;
    let party = ingress.party(&caller, party_in(query.as_deref())?)?;
    let accounts = ingress.recorder.store.accounts(&party, caller.mode()).await?;
    Ok(answer(StatusCode::OK, &List { results: accounts.iter().map(View::new).collect() }))
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(currency): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::BalancesRead).await?;
    let party = ingress.party(&caller, party_in(query.as_deref())?)?;
    let standing = ingress.recorder.store.account(&party, caller.mode(), named(&currency)?).await?;
    Ok(result(StatusCode::OK, &View::new(&standing)))
}

async fn change(State(ingress): State<Arc<Ingress>>, Path(currency): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::BalancesWrite, Duty::Request).await?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let currency = named(&currency)?;
    let mut asked = Change::read(&body)?;
    let party = ingress.party(&caller, asked.party.take())?;
    let store = &ingress.recorder.store;
    for _ in 0..DECISIONS_MAX {
        let standing = store.account(&party, caller.mode(), currency).await?;
        let (mut account, mut holder) = (standing.account.clone(), standing.holder.clone());
        if asked.version.is_some_and(|version| version != account.version) {
            return Err(Problem::new(Kind::VersionStale, format!("The account has version {}. Nothing was changed.", account.version)));
        }
        account.funding = asked.funding.unwrap_or(account.funding);
        account.status = asked.status.unwrap_or(account.status);
        if asked.reserve.is_some_and(|reserve| reserve != account.reserve || account.reserve_by.is_none()) {
            account.reserve_by = Some(caller.key().owner.clone());
        }
        account.reserve = asked.reserve.unwrap_or(account.reserve);
        account.queued_refunds = asked.queued_refunds.unwrap_or(account.queued_refunds);
        account.negative_threshold = asked.negative_threshold.unwrap_or(account.negative_threshold);
        if asked.ends_schedule && account.planned.is_some() {
            let mut errors = Errors::default();
            ingress.check_scheduled("/schedule", ingress.found_party(&party, caller.mode()).await?.details.country, None, &mut errors);
            errors.check()?;
            (account.planned, account.schedule_by) = (None, None);
        }
        holder.owner = asked.owner.clone().or(holder.owner);
        holder.iban = asked.iban.or(holder.iban);
        if account == standing.account && holder == standing.holder && account.created_at.is_some() {
            return Ok(result(StatusCode::OK, &View::new(&standing)));
        }
        let now = store.clock().now();
        account.version = account.version.saturating_add(1);
        account.created_at.get_or_insert(now);
        account.updated_at = Some(now);
        match store.set_up(&account, &holder).await? {
            SetUp::Done => {
                let standing = store.account(&party, caller.mode(), currency).await?;
                return Ok(result(StatusCode::OK, &View::new(&standing)));
            }
            SetUp::Stale => {}
            SetUp::Busy => return Err(busy()),
        }
    }
    Err(StoreError::Unavailable(None).into())
}

/// Who funds it cannot change now.
pub(super) fn busy() -> Problem {
    Problem::new(Kind::AccountBusy, "Payouts of the account are under way. Disable it, and change `funding` when nothing is reserved any more.")
}

/// The currency of a path, in any case.
fn named(currency: &str) -> Result<Currency, Problem> {
    Currency::parse(&currency.to_ascii_uppercase()).map_err(|_| Problem::not_found("currency"))
}

/// Money comes in by the platform's word only.
pub(super) fn platform(caller: &Caller) -> Result<(), Problem> {
    match caller.key().reach {
        Reach::Platform => Ok(()),
        Reach::Party(_) => Err(Problem::new(Kind::MissingScope, "Only a key of the platform may do this.")),
    }
}
