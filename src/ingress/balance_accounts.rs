//! `/parties/{partyId}/balanceAccount`: a party's account in a currency as seed 001 shows it: where its money goes, and on which days.
//!
//! It is the record that `/v1/balances` shows in seed 003's shape. Keys that must sign sign the whole request, because it decides where money goes.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use domain::account::BalanceAccount;
use domain::credential::Scope;
use domain::fingerprint::fingerprint;
use domain::id::{BalanceAccountId, Mode, PartyId};
use domain::instrument::InstrumentReference;
use domain::money::Currency;
use domain::party::Country;
use domain::revision::Revision;
use domain::schedule::{self, Schedule, Why};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use workers::store::StoreError;
use workers::store::accounts::{SetUp, Standing};

use super::balances::{busy, platform};
use super::instruments::reference;
use super::intake::Duty;
use super::json::{self, Fields};
use super::order::checked;
use super::parties::{Zoned, changed, made, within_reach};
use super::problem::{Errors, Kind, Problem};
use super::revision::{Revised, stale};
use super::view::answer;
use super::{DECISIONS_MAX, Ingress};

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new()
        .route("/parties/{partyId}/balanceAccount", post(create))
        .route("/parties/{partyId}/balanceAccount/{balanceAccountId}", get(one).put(update))
        .route("/parties/{partyId}/balanceAccounts", get(list))
}

/// A balance account as JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AccountView<'a> {
    currency: Currency,
    #[serde(skip_serializing_if = "Option::is_none")]
    payout_instrument_reference: Option<&'a InstrumentReference>,
    /// `frequency`, and what goes with it.
    #[serde(flatten)]
    schedule: Option<Schedule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_payout_date: Option<Date>,
    balance_account_id: BalanceAccountId,
    account_number: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    date_time_created: Option<Zoned>,
    #[serde(skip_serializing_if = "Option::is_none")]
    date_time_updated: Option<Zoned>,
    version: u64,
}

/// The fields of an account that are written once. `nextPayoutDate` has a rule of its own.
const LASTING: [&str; 3] = ["currency", "balanceAccountId", "dateTimeCreated"];
/// Those that follow from what else is set.
const CHANGING: [&str; 2] = ["accountNumber", "dateTimeUpdated"];

/// A balance account that is asked for, read. Serialised, it is what the fingerprint is made of: the order of the fields is fixed for ever.
#[derive(Clone, Serialize)]
pub(super) struct Asked {
    pub(super) currency: Currency,
    pub(super) instrument: Option<InstrumentReference>,
    pub(super) schedule: Option<Schedule>,
}

impl Asked {
    fn read(mut fields: Fields, errors: &mut Errors) -> Option<Self> {
        let at = fields.pointer("currency");
        let currency = fields.text("currency", errors).and_then(|text| checked(errors, &at, Currency::parse(&text)));
        let at = fields.pointer("payoutInstrumentReference");
        let text = fields.optional_text("payoutInstrumentReference", errors);
        let is_named = text.is_some();
        let instrument = text.and_then(|text| reference(&at, &text, errors));
        let schedule = read_schedule(&mut fields, errors);
        if schedule.is_some() && !is_named {
            errors.field(at, "missing", "is required with a schedule");
        }
        fields.finish(errors);
        Some(Self { currency: currency?, instrument, schedule })
    }

    /// What tells this request from another one for the same account.
    fn fingerprint(&self, pepper: &[u8]) -> String {
        fingerprint(pepper, "balance account 1", [serde_json::to_vec(self).expect("a request has string keys only, so it is always JSON")])
    }

    /// The account that it asks for, on the word of the owner of a credential, decided on the present one.
    pub(super) fn account(&self, present: &BalanceAccount, ingress: &Ingress, by: &str, now: Timestamp) -> BalanceAccount {
        let today = ingress.calendars.of(self.currency).date(now);
        present.asked_for(self.instrument.clone(), self.schedule, self.fingerprint(&ingress.pepper), by, today, now)
    }
}

/// The schedule of a body; `None` where none of its fields is there. What is wrong with it is in `errors`.
fn read_schedule(fields: &mut Fields, errors: &mut Errors) -> Option<Schedule> {
    use schedule::Field;
    let mut readable = true;
    let mut word = |field: Field| match fields.take(field.word()) {
        None => None,
        Some(json::Value::Text(text)) => Some(text),
        Some(other) => {
            readable = false;
            errors.field(fields.pointer(field.word()), "wrong_type", format_args!("must be a string, not {}", other.kind()));
            None
        }
    };
    let (frequency, day, recurrence) = (word(Field::Frequency), word(Field::Day), word(Field::Recurrence));
    if !readable || (frequency.is_none() && day.is_none() && recurrence.is_none()) {
        return None;
    }
    let read =
        Schedule::read(schedule::Fields { frequency: frequency.as_deref(), scheduled_payout_day: day.as_deref(), recurrence: recurrence.as_deref() });
    let note = |error: schedule::ScheduleError| {
        let code = match error.why {
            Why::Unknown => "unknown",
            Why::Missing(_) => "missing",
            Why::NotFor(_) => "not_for_frequency",
        };
        errors.field(fields.pointer(error.field.word()), code, error);
    };
    read.map_err(|wrong| wrong.into_iter().for_each(note)).ok()
}

/// The `balanceAccounts` of a party that is asked for. Those that are wrong are in `errors` and left out.
pub(super) fn read_list(fields: &mut Fields, max: usize, errors: &mut Errors) -> Vec<Asked> {
    let objects = fields.optional_objects("balanceAccounts", max, errors);
    let mut currencies = HashSet::new();
    let mut asked = Vec::with_capacity(objects.len());
    for object in objects {
        let at = object.pointer("currency");
        let Some(one) = Asked::read(object, errors) else { continue };
        if !currencies.insert(one.currency) {
            errors.field(at, "duplicate", "is that of another balance account of this request");
        }
        asked.push(one);
    }
    asked
}

/// What is wrong with paying an account out to an instrument of that currency, `None` where the party has no such instrument.
pub(super) fn check_instrument(at: &str, account: Currency, instrument: Option<Currency>, errors: &mut Errors) {
    match instrument {
        None => errors.field(at, "unknown_instrument", "is not a payout instrument of the party"),
        Some(currency) if currency != account => errors.field(at, "other_currency", "must be a payout instrument in the account's currency"),
        Some(_) => {}
    }
}

/// `POST …/balanceAccount`: an account with money of its own, once per currency.
async fn create(State(ingress): State<Arc<Ingress>>, Path(party): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::BalancesWrite, Duty::Request).await?;
    let party = within_reach(&caller, &party)?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let asked = Asked::read(json::read(&body, &mut errors)?, &mut errors);
    let (Some(asked), true) = (asked, errors.is_empty()) else { return Err(errors.into_problem()) };
    let (mode, store) = (caller.mode(), &ingress.recorder.store);
    let country = ingress.found_party(&party, mode).await?.details.country;
    let fingerprint = asked.fingerprint(&ingress.pepper);
    for _ in 0..DECISIONS_MAX {
        let Standing { account: present, holder, .. } = store.account(&party, mode, asked.currency).await?;
        if let Some(held) = &present.fingerprint {
            let conflict =
                || Problem::new(Kind::AccountConflict, "It can have one account in a currency. Change that one instead. Nothing was changed.");
            return if *held == fingerprint { Ok(ingress.made_account(&present, true)) } else { Err(conflict()) };
        }
        let mut errors = Errors::default();
        ingress.check_scheduled("/frequency", country, asked.schedule, &mut errors);
        errors.check()?;
        ingress.check_paid_out_to(&party, mode, asked.currency, asked.instrument.as_ref()).await?;
        let account = asked.account(&present, &ingress, &caller.key().owner, store.clock().now());
        match store.set_up(&account, &holder).await? {
            SetUp::Done => return Ok(ingress.made_account(&account, false)),
            SetUp::Stale => {}
            SetUp::Busy => return Err(busy()),
        }
    }
    Err(StoreError::Unavailable(None).into())
}

async fn list(State(ingress): State<Arc<Ingress>>, Path(party): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct List<'a> {
        balance_accounts: Vec<AccountView<'a>>,
    }
    let caller = ingress.admit(&headers, Scope::BalancesRead).await?;
    let party = within_reach(&caller, &party)?;
    ingress.found_party(&party, caller.mode()).await?;
    let accounts = ingress.recorder.store.accounts(&party, caller.mode()).await?;
    let there = accounts.iter().map(|standing| &standing.account).filter(|account| account.version > 0);
    Ok(answer(StatusCode::OK, &List { balance_accounts: there.map(|account| ingress.account_view(account)).collect() }))
}

async fn one(State(ingress): State<Arc<Ingress>>, Path((party, id)): Path<(String, String)>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::BalancesRead).await?;
    let party = within_reach(&caller, &party)?;
    let Standing { account, .. } = ingress.found_account(&party, caller.mode(), &id).await?;
    Ok(answer(StatusCode::OK, &ingress.account_view(&account)))
}

/// `PUT …/balanceAccount/{balanceAccountId}` with the `version` and the `nextPayoutDate` that it was decided on. An instrument that is left out stays as it is, and so
/// does a schedule of which no field is there.
async fn update(State(ingress): State<Arc<Ingress>>, Path((party, id)): Path<(String, String)>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::BalancesWrite, Duty::Request).await?;
    let party = within_reach(&caller, &party)?;
    platform(&caller)?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let revised = Revised::take(&mut fields, &LASTING, &CHANGING, &mut errors);
    let seen = fields.optional_text("nextPayoutDate", &mut errors).and_then(|text| date(&text, &mut errors));
    let instrument = fields.optional_text("payoutInstrumentReference", &mut errors);
    let instrument = instrument.and_then(|text| reference("/payoutInstrumentReference", &text, &mut errors));
    let schedule = read_schedule(&mut fields, &mut errors);
    fields.finish(&mut errors);
    let (Some(revised), true) = (revised, errors.is_empty()) else { return Err(errors.into_problem()) };
    let (mode, store) = (caller.mode(), &ingress.recorder.store);
    for _ in 0..DECISIONS_MAX {
        let Standing { account, holder, .. } = ingress.found_account(&party, mode, &id).await?;
        let now = store.clock().now();
        let days = ingress.calendars.of(account.currency);
        let instrument = instrument.clone().or_else(|| account.instrument.clone());
        let schedule = schedule.or(account.planned.map(|planned| planned.schedule));
        let revision = account.revise(instrument.clone(), schedule, (revised.version, &caller.key().owner), days.date(now), now);
        match &revision {
            Revision::Stale => return Err(stale(account.version)),
            Revision::Repeated => {
                revised.check_repeated(&ingress.account_view(&account))?;
                return Ok(changed(&ingress.account_view(&account), true));
            }
            Revision::Same | Revision::Changed(_) => {}
        }
        revised.check(&ingress.account_view(&account))?;
        let next = account.next_payout_date(days, now);
        if seen.is_none() && next.is_some() {
            return Err(Problem::field("/nextPayoutDate", "missing", "is required: the one that the account has now"));
        }
        if seen != next {
            let is = next.map_or_else(|| "It has no schedule".to_owned(), |next| format!("Its next payout is due on {next}"));
            return Err(Problem::new(Kind::VersionStale, format!("{is}. Read it, and decide again. Nothing was changed.")));
        }
        let mut errors = Errors::default();
        ingress.check_scheduled("/frequency", ingress.found_party(&party, mode).await?.details.country, schedule, &mut errors);
        errors.check()?;
        if schedule.is_some() && instrument.is_none() {
            return Err(Problem::field("/payoutInstrumentReference", "missing", "is required with a schedule"));
        }
        ingress.check_paid_out_to(&party, mode, account.currency, instrument.as_ref()).await?;
        let Revision::Changed(next) = revision else { return Ok(changed(&ingress.account_view(&account), false)) };
        if store.set_up(&next, &holder).await? == SetUp::Done {
            return Ok(changed(&ingress.account_view(&next), false));
        }
    }
    Err(StoreError::Unavailable(None).into())
}

/// `YYYY-MM-DD`, and nothing else that could be read as a date.
fn date(text: &str, errors: &mut Errors) -> Option<Date> {
    let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
    if date.is_none() {
        errors.field("/nextPayoutDate", "not_a_date", "must be a date, such as 2026-03-19");
    }
    date
}

impl Ingress {
    /// An account that somebody has set up.
    async fn found_account(&self, party: &PartyId, mode: Mode, id: &str) -> Result<Standing, Problem> {
        let missing = || Problem::not_found("balance account");
        let id: BalanceAccountId = id.parse().map_err(|_| missing())?;
        self.found_party(party, mode).await?;
        let accounts = self.recorder.store.accounts(party, mode).await?;
        accounts.into_iter().find(|standing| standing.account.id == id && standing.account.version > 0).ok_or_else(missing)
    }

    /// That an account has a schedule, where one of that country must.
    pub(super) fn check_scheduled(&self, at: &str, country: Country, schedule: Option<Schedule>, errors: &mut Errors) {
        if schedule.is_none() && self.must_have_schedules(country) {
            errors.field(at, "missing", "is required: accounts of parties in that country must have a schedule");
        }
    }

    pub(super) fn must_have_schedules(&self, country: Country) -> bool {
        self.settings.schedule_countries.contains(&country)
    }

    /// That an account in that currency can be paid out to that instrument, if one is named. Stays so: instruments neither go nor change their currency.
    async fn check_paid_out_to(
        &self,
        party: &PartyId,
        mode: Mode,
        currency: Currency,
        instrument: Option<&InstrumentReference>,
    ) -> Result<(), Problem> {
        let Some(reference) = instrument else { return Ok(()) };
        let found = self.recorder.store.instrument(party, mode, reference).await?;
        let mut errors = Errors::default();
        check_instrument("/payoutInstrumentReference", currency, found.map(|instrument| instrument.currency), &mut errors);
        errors.check()
    }

    pub(super) fn account_view<'a>(&self, account: &'a BalanceAccount) -> AccountView<'a> {
        AccountView {
            currency: account.currency,
            payout_instrument_reference: account.instrument.as_ref(),
            schedule: account.planned.map(|planned| planned.schedule),
            next_payout_date: account.next_payout_date(self.calendars.of(account.currency), self.recorder.store.clock().now()),
            balance_account_id: account.id,
            account_number: account.id.number(),
            date_time_created: account.created_at.map(Zoned),
            date_time_updated: account.updated_at.map(Zoned),
            version: account.version,
        }
    }

    fn made_account(&self, account: &BalanceAccount, replayed: bool) -> Response {
        made(&self.account_view(account), &format!("/parties/{}/balanceAccount/{}", account.party, account.id), replayed)
    }
}
