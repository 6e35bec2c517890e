//! `/v2/payouts`: a balance is paid out to its own account on the next business day, as seed 004 does.
//!
//! What stands in the way is told at once, by a code each, and leaves the key free. A payout that is opened here is one like any other: it is routed, sent
//! and told as they are, and `/v1/payouts` shows it too.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use domain::account::{Funding, Status as AccountStatus};
use domain::credential::Scope;
use domain::destination::{Beneficiary, Description};
use domain::fact::{Reason, Source};
use domain::fingerprint::fingerprint;
use domain::id::{BalanceAccountId, Mode, PartyId, PayoutId, transaction_of_key};
use domain::instrument::{Instrument, Payee};
use domain::metadata::Metadata;
use domain::money::{Currency, Money};
use domain::payout::{Fact, LIMIT_EXCEEDED, Payout, What};
use domain::snapshot::{Status, View, payout_id, read_payout_id};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use workers::open::{Opening, Undrawn};
use workers::record::Recorded;
use workers::store::StoreError;
use workers::store::accounts::Standing;
use workers::store::payouts::Drawing;

use super::caller::Caller;
use super::commands::optional_body;
use super::edge::TraceParent;
use super::hal::{self, answer};
use super::intake::{Duty, KEY};
use super::json::{self, Fields};
use super::opening::Circumstances;
use super::order::{self, checked};
use super::payouts::{REPLAYED, named_party};
use super::problem::{Errors, Kind, Problem};
use super::view::set;
use super::{DECISIONS_MAX, Ingress, hal_payout_list};

/// The longest key, in characters.
const KEY_MAX: usize = 255;
const NOTHING_DONE: &str = "Nothing was done, and the Idempotency-Key is free.";

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v2/payouts", post(create).get(hal_payout_list::list)).route("/v2/payouts/{id}", get(one).delete(cancel))
}

/// A payout that is asked for. Serialised, it is what the fingerprint is made of: the order of the fields is fixed for ever.
#[derive(Serialize)]
struct Asked {
    balance: BalanceAccountId,
    /// `None`: the whole balance.
    money: Option<Money>,
    description: Option<Description>,
    /// Part of the payout's id, so not of the fingerprint.
    #[serde(skip)]
    party: Option<PartyId>,
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut fields = json::read(body, &mut errors)?;
        let errs = &mut errors;
        let unknown = "must be the id of a balance of the party";
        let balance = fields.text("balanceId", errs).and_then(|text| text.parse().map_err(|_| errs.field("/balanceId", "invalid", unknown)).ok());
        let money = fields.optional_object("amount", errs).and_then(|amount| read_amount(amount, errs));
        // An empty text says as little as none.
        let description = fields.optional_text("description", errs).filter(|text| !text.is_empty());
        let description = description.and_then(|text| checked(errs, "/description", Description::parse(&text)));
        if fields.take("testmode").is_some() {
            errs.field("/testmode", "not_allowed", hal::TESTMODE);
        }
        let party = order::party_id(&mut fields, errs);
        fields.finish(errs);
        match (balance, errors.is_empty()) {
            (Some(balance), true) => Ok(Self { balance, money, description, party }),
            _ => Err(errors.into_problem()),
        }
    }

    fn fingerprint(&self, pepper: &[u8]) -> String {
        fingerprint(pepper, "balance payout 1", [serde_json::to_vec(self).expect("a request has string keys only, so it is always JSON")])
    }
}

fn read_amount(mut amount: Fields, errors: &mut Errors) -> Option<Money> {
    let currency = amount.text("currency", errors).and_then(|text| checked(errors, "/amount/currency", Currency::parse(&text)));
    let value = amount.text("value", errors);
    amount.finish(errors);
    let (currency, value) = (currency?, value?);
    checked(errors, "/amount/value", Money::from_decimal(&value, currency))
}

/// The key of a request, if it has one.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY).iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| (1..=KEY_MAX).contains(&text.len()) && more.is_none());
    text.map(|text| Some(text.to_owned())).ok_or_else(|| {
        let mut errors = Errors::default();
        errors.parameter(KEY, "invalid", format_args!("must be there once at most, with 1 to {KEY_MAX} characters of ASCII"));
        errors.into_problem()
    })
}

async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PayoutsWrite, Duty::Keyed).await?;
    json::check_media_type(&parts.headers)?;
    let mut asked = Asked::read(&body)?;
    let party = ingress.party(&caller, asked.party.take())?;
    let store = &ingress.recorder.store;
    let transaction_id =
        key(&parts.headers)?.map_or_else(|| uuid::Builder::from_random_bytes(rand::random()).into_uuid(), |key| transaction_of_key(&key)).to_string();
    let id = PayoutId::derive(&party, caller.mode(), &transaction_id, store.shards());
    tracing::Span::current().record("payout.id", tracing::field::display(id));
    let fingerprint = asked.fingerprint(&ingress.pepper);
    // A repeat is one whatever has become of the account in the meantime.
    if let Some(by_this) = store.was_claimed_by(id, &fingerprint).await? {
        if !by_this {
            return Err(conflict());
        }
        let payout = store.load(id).await?.ok_or_else(archived)?;
        return ingress.created(&caller, &payout, true).await;
    }
    let trace = parts.extensions.get().map(TraceParent::onwards);
    for _ in 0..DECISIONS_MAX {
        let now = store.clock().now();
        let of = Circumstances { party: &party, mode: caller.mode(), maker: &caller.key().owner, batch_id: None, trace: trace.as_deref(), now };
        let (standing, instrument) = ingress.payable(&asked, &party, &caller).await?;
        let account = &standing.account;
        let (day, opens) = ingress.next_day(account.currency, now);
        let mut wanted = ingress.wanted(asked.order(&ingress, &caller, &transaction_id, &standing, instrument, (day, opens))?, &of);
        wanted.fingerprint.clone_from(&fingerprint);
        if let Some(objection) = wanted.objection.take() {
            return Err(unpayable(&objection));
        }
        let needed = asked.money.map_or(account.reserve.saturating_add(1), Money::minor);
        // Where accounts must have a schedule, it stays.
        let paused = if ingress.keeps_schedules(&party, caller.mode()).await? { None } else { account.paused(now) };
        match ingress.recorder.draw(&wanted, Drawing { account, next: paused.as_ref(), day, needed }).await? {
            Ok(opening) => return ingress.opened(&caller, opening).await,
            Err(Undrawn::Changed) => {}
            Err(Undrawn::Taken) => {
                let detail = format!("A payout is already scheduled for the next business day, {day}, for this balance. {NOTHING_DONE}");
                return Err(Problem::new(Kind::AlreadyScheduled, detail));
            }
            Err(Undrawn::Refused(reason, _)) if reason.as_str() == "account_disabled" => return Err(inactive()),
            Err(Undrawn::Refused(reason, rule)) if reason.as_str() == LIMIT_EXCEEDED => {
                let which = rule.map_or_else(String::new, |rule| format!(", `{}`", rule.name));
                return Err(Problem::new(Kind::LimitExceeded, format!("The payout goes beyond a limit of the platform{which}. {NOTHING_DONE}")));
            }
            Err(Undrawn::Refused(..)) => {
                return Err(Problem::new(Kind::InsufficientFunds, format!("The balance has insufficient funds. {NOTHING_DONE}")));
            }
        }
    }
    Err(StoreError::Unavailable(None).into())
}

impl Asked {
    /// The same, in the words of every other payout.
    fn order(
        &self,
        ingress: &Ingress,
        caller: &Caller,
        transaction_id: &str,
        standing: &Standing,
        instrument: Instrument,
        (day, opens): (Date, Timestamp),
    ) -> Result<order::Asked, Problem> {
        let Standing { account, balances, .. } = standing;
        let decided_by = &account.decided_by() | &instrument.decided_by();
        let Payee { name, destination } = instrument.payee;
        // A route by amount goes by what is there now, and where there is nothing the store will say so.
        let least = Money::new(1, account.currency).map_err(|_| Problem::new(Kind::Internal, "There is no least amount."))?;
        let money = self.money.unwrap_or_else(|| account.whole(balances, 0).unwrap_or(least));
        let providers = &ingress.recorder.providers;
        let room = providers.configured(caller.mode()).map(|provider| providers.profile(provider, caller.mode()).limits.reference).min();
        let unnamed = || Description::parse(&format!("Payout {day}"));
        let reference = self.description.clone().map_or_else(unnamed, Ok).and_then(|description| description.reference(room.unwrap_or(usize::MAX)));
        let reference = reference.map_err(|error| Problem::field("/description", "not_a_reference", error))?;
        Ok(order::Asked {
            transaction_id: transaction_id.to_owned(),
            money,
            beneficiary: Beneficiary { name, reference, destination, description: self.description.clone(), instrument: account.instrument.clone() },
            context_code: "withdrawal",
            metadata: Metadata::default(),
            scheduled_for: Some(opens),
            provider: None,
            replaces: None,
            party: None,
            whole: self.money.is_none().then_some(account.reserve),
            decided_by,
        })
    }
}

impl Ingress {
    /// The balance that is to be paid out, and to whom; or the first of the documented reasons why not, but for those that the store decides.
    async fn payable(&self, asked: &Asked, party: &PartyId, caller: &Caller) -> Result<(Standing, Instrument), Problem> {
        let (store, mode) = (&self.recorder.store, caller.mode());
        let refuse = |kind, why: &str| Err(Problem::new(kind, format!("{why} {NOTHING_DONE}")));
        let mut accounts = store.accounts(party, mode).await?;
        let below = accounts.iter().any(|standing| standing.account.is_below_threshold(&standing.balances));
        let Some(place) = accounts.iter().position(|standing| standing.account.id == asked.balance) else {
            return Err(Problem::field("/balanceId", "invalid", format_args!("must be the id of a balance of the party `{party}`")));
        };
        let standing = accounts.swap_remove(place);
        let account = &standing.account;
        if let Some(money) = asked.money
            && money.currency() != account.currency
        {
            return Err(Problem::field("/amount/currency", "other_currency", "must be that of the balance"));
        }
        if account.status == AccountStatus::Disabled {
            return Err(inactive());
        }
        if !store.is_active(party, mode).await? {
            return Err(blocked());
        }
        if account.queued_refunds > 0 {
            return refuse(Kind::QueuedRefunds, "The balance has queued refunds.");
        }
        if below {
            return refuse(Kind::BelowThreshold, "One of the organization's balances is below the negative balance threshold.");
        }
        if asked.money.is_none() && account.funding == Funding::Provider {
            return Err(Problem::field("/amount", "missing", "is required: the provider funds the balance, and only it knows what is in it"));
        }
        let instrument = match &account.instrument {
            Some(reference) => store.instrument(party, mode, reference).await?,
            None => None,
        };
        let Some(instrument) = instrument else {
            return refuse(Kind::DestinationInvalid, "The payout destination (bank account) is not configured.");
        };
        Ok((standing, instrument))
    }

    /// The next business day after today, and when it opens.
    fn next_day(&self, currency: Currency, now: Timestamp) -> (Date, Timestamp) {
        let days = self.calendars.of(currency);
        let day = days.calendar().next_business_day(days.date(now));
        (day, days.opens_on(day))
    }

    async fn opened(&self, caller: &Caller, opening: Opening<Problem>) -> Result<Response, Problem> {
        match opening {
            Opening::Opened(payout) => self.created(caller, &payout, false).await,
            Opening::Replayed(payout) => self.created(caller, &payout, true).await,
            Opening::Unreadable(error) => Err(error.into()),
            Opening::Conflict => Err(conflict()),
            Opening::Archived => Err(archived()),
            Opening::Inactive => Err(blocked()),
            Opening::Twin(key) => {
                let detail = format!("An equal payout of the balance ({key}) is inconclusive or in review, and may arrive. {NOTHING_DONE}");
                Err(Problem::new(Kind::TwinUnresolved, detail))
            }
            // It cannot name one.
            Opening::NotReplaceable(_) => Err(Problem::new(Kind::Internal, "A payout of a balance replaces none.")),
            Opening::Objected(problem) => Err(unpayable(&problem)),
        }
    }

    /// The answer to a request for a payout: it says what the request did to the schedule of the balance.
    async fn created(&self, caller: &Caller, payout: &Payout, replayed: bool) -> Result<Response, Problem> {
        let store = &self.recorder.store;
        let beneficiary = store.beneficiary(payout.id).await?;
        let view = seen_by(caller, payout, View::new(payout, &beneficiary, store.shards()));
        let view = if self.keeps_schedules(&payout.party, payout.mode).await? { view } else { view.paused() };
        let mut response = answer(StatusCode::CREATED, &view);
        set(&mut response, header::LOCATION, &format!("/v2/payouts/{}", payout_id(payout.id)));
        if replayed {
            set(&mut response, REPLAYED, "true");
        }
        Ok(response)
    }

    /// Whether schedules of a party outlive a payout that is asked for by hand.
    async fn keeps_schedules(&self, party: &PartyId, mode: Mode) -> Result<bool, Problem> {
        if self.settings.schedule_countries.is_empty() {
            return Ok(false);
        }
        let found = self.recorder.store.party(party, mode).await?;
        Ok(found.is_some_and(|party| self.must_have_schedules(party.details.country)))
    }

    async fn payout_shown(&self, caller: &Caller, payout: &Payout) -> Result<Response, Problem> {
        let store = &self.recorder.store;
        let beneficiary = store.beneficiary(payout.id).await?;
        Ok(answer(StatusCode::OK, &seen_by(caller, payout, View::new(payout, &beneficiary, store.shards()))))
    }

    /// The payout of that id. One of another party or mode is not found, like one that does not exist.
    pub(super) async fn payout_of_id(&self, caller: &Caller, named: Option<PartyId>, id: &str) -> Result<Payout, Problem> {
        let missing = || Problem::not_found("payout");
        let id = read_payout_id(id).filter(|id| self.recorder.store.shards().contains(id.shard())).ok_or_else(missing)?;
        tracing::Span::current().record("payout.id", tracing::field::display(id));
        let payout = self.recorder.store.load(id).await?.ok_or_else(missing)?;
        let is_meant = named.is_none_or(|party| party == payout.party);
        if is_meant && caller.reaches(&payout.party, payout.mode) { Ok(payout) } else { Err(missing()) }
    }
}

async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::PayoutsRead).await?;
    let payout = ingress.payout_of_id(&caller, hal::party_in(query.as_deref())?, &id).await?;
    ingress.payout_shown(&caller, &payout).await
}

/// `DELETE /v2/payouts/{id}`: takes it back until it is initiated. It moves no money, so it need not be signed. One that was taken back is answered as such.
async fn cancel(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PayoutsWrite, Duty::None).await?;
    let party = hal::party_in(parts.uri.query())?;
    let mut errors = Errors::default();
    let mut fields = optional_body(&parts, &body, &mut errors)?;
    if fields.take("testmode").is_some() {
        errors.field("/testmode", "not_allowed", hal::TESTMODE);
    }
    fields.finish(&mut errors);
    errors.check()?;
    let payout = ingress.payout_of_id(&caller, party, &id).await?;
    let too_late = || Problem::new(Kind::NotPossibleNow, "The payout cannot be canceled in its current state.");
    match Status::of(&payout) {
        Status::Canceled => return ingress.payout_shown(&caller, &payout).await,
        Status::Requested => {}
        Status::Initiated | Status::ProcessingAtBank | Status::Completed | Status::Failed => return Err(too_late()),
    }
    ingress.check_unsent(&payout).await?;
    let why = Reason::new("canceled_by_caller");
    // What was initiated meanwhile and not sent can be taken back by `/v1`, which says so; here it has had its chance.
    let cancel = Fact::new(Source::Caller, What::Cancel { reason: why });
    match ingress.recorder.record_while(payout, &cancel, |payout| Status::of(payout) == Status::Requested).await? {
        Recorded::Done(payout) => ingress.payout_shown(&caller, &payout).await,
        Recorded::Declined(_, payout) if Status::of(&payout) == Status::Canceled => ingress.payout_shown(&caller, &payout).await,
        Recorded::Declined(..) => Err(too_late()),
        Recorded::Missing => Err(Problem::not_found("payout")),
    }
}

/// What a provider cannot take, in the words of this request.
fn unpayable(objection: &Problem) -> Problem {
    if objection.is_about("/beneficiary_reference") {
        return Problem::field("/description", "refused_by_provider", "has characters that no provider takes which can pay this balance out");
    }
    if objection.is_about("/amount") {
        return Problem::field("/amount", "refused_by_provider", "cannot be paid by any provider that can pay this balance out");
    }
    if ["/currency", "/merchant_account_id", "/balanceId"].iter().any(|field| objection.is_about(field)) {
        return Problem::field("/balanceId", "refused_by_provider", "is of a currency that no provider pays in which is configured");
    }
    Problem::new(Kind::DestinationInvalid, format!("The payout destination (bank account) is invalid: no provider can pay to it. {NOTHING_DONE}"))
}

/// A key of the platform has to name the party whose balance it reads, so what it is shown does.
pub(super) fn seen_by<'a>(caller: &Caller, payout: &Payout, view: View<'a>) -> View<'a> {
    if named_party(caller, &payout.party).is_some() { view.naming(&payout.party) } else { view }
}

fn inactive() -> Problem {
    Problem::new(Kind::BalanceInactive, format!("The balance is not active. {NOTHING_DONE}"))
}

fn blocked() -> Problem {
    Problem::new(Kind::PayoutsBlocked, format!("Payouts are blocked for this organization. {NOTHING_DONE}"))
}

fn conflict() -> Problem {
    Problem::new(Kind::KeyConflict, "The Idempotency-Key is that of a payout with other content. Nothing was changed.")
}

fn archived() -> Problem {
    Problem::new(
        Kind::KeyArchived,
        "The Idempotency-Key was used for this same request, whose payout has ended and was archived. Nothing was changed.",
    )
}
