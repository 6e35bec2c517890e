//! Worldpay account payouts: money to bank accounts. The client face, and its settings.
//!
//! Two generations of the API are spoken, chosen by [`Settings::generation`], with the same meanings. The table of answers is that of [`super`], and:
//!
//! | what came back to a create | answer |
//! |---|---|
//! | 202, and 200 for a repeat (a body that cannot be read is no matter) | [`Answer::Says`], authorised |
//! | 409 | what a search finds, if amount and account agree; else [`Answer::KeyConflict`] |
//!
//! A payout is looked up by the provider's id, and before that is known by a search for the transaction reference, which is our key.
//! What is not documented for a duplicate with other content is left to that search: the answer says nothing about content.

mod batch;
pub mod inbox;
mod request;
pub mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use domain::fact::{Answer, Look, Provider, ProviderReference, Reason, Report, Status};
use domain::id::{Mode, ProviderKey};
use domain::money::{Currency, Money};
use domain::wait::Polling;
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

pub use self::batch::BatchAnswer;
use self::request::Prepared;
use super::access::{Access, Version};
use super::signature::EventKey;
use super::{SetupError, access, key_of, key_text, no_answer, not_accepted, not_sent, sanitised, time_of, unanswered, unread, usable};
use crate::ReadError;
use crate::http::{Call, Response};
use crate::profile::{self, AmountFormat, KeyFormat, NoticeProof, Profile};
use crate::{FieldProblem, Inquiry, Line, Order, Statement, clock};

/// The header by which the current generation recognises a repeat: 1 to 35 characters (H).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Pages of one statement, at most: 499 payouts each.
const STATEMENT_PAGES_MAX: u32 = 400;

/// Which generation of the API is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// `/accountPayouts`, versioned by date (H).
    #[default]
    Current,
    /// `/payouts/accounts` and `/payouts/events`, versioned by media type (H); what the answers look like is ASSUMED.
    Legacy,
}

/// What a beneficiary's name is the name of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeneficiaryKind {
    #[default]
    Company,
    /// The last word of the name becomes the last name.
    Person,
}

/// Credentials and choices of one account. `Debug` shows no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub access: access::Settings,
    /// Who pays: 1 to 32 characters; with the legacy generation exactly 6 (H).
    pub entity: String,
    #[serde(default)]
    pub generation: Generation,
    /// The date of the current generation (H).
    #[serde(default = "defaults::api_version")]
    pub api_version: String,
    #[serde(default)]
    pub legacy: Legacy,
    #[serde(default)]
    pub beneficiary_kind: BeneficiaryKind,
    /// Preferred channels, separated by commas: `instant,wire`. Absent: the provider chooses.
    #[serde(default)]
    pub channel: Option<String>,
    /// The provider's transaction type, in the word or code of the generation.
    #[serde(default)]
    pub transaction_type: Option<String>,
    /// The provider's purpose code for each of our context codes: `withdrawal = "WPTRNF"`. None is sent for the others.
    #[serde(default)]
    pub purposes: BTreeMap<String, String>,
    /// The account that pays, if not the default one. Current generation only.
    #[serde(default)]
    pub source_account: Option<String>,
    /// The provider's limit for the digits of an amount; where exactly it applies is ASSUMED.
    #[serde(default = "defaults::amount_digits")]
    pub amount_digits: usize,
    /// Error names which, with 400 or 422, mean that the payout will not be made. Any other leaves it inconclusive.
    #[serde(default = "defaults::refusals")]
    pub refusals: Vec<String>,
    /// The keys of notices. With any, notices must be signed. That they are signed as events are is ASSUMED. Even signed ones are only occasions to look.
    #[serde(default)]
    pub event_keys: Vec<EventKey>,
    #[serde(default)]
    pub profile: profile::Overrides,
}

/// What the legacy generation leaves open, or documents in several ways.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Legacy {
    /// Who instructs; absent: the entity (H).
    pub instructing_treasury_id: Option<String>,
    /// The media types are documented in three spellings; these are the seed's.
    pub single: String,
    pub batch: String,
    pub search: String,
    /// `PT03` (H).
    pub beneficiary_code: String,
    /// `PD01` (ASSUMED).
    pub company_code: String,
    /// `PD02` (H).
    pub person_code: String,
    /// `AC01` (ASSUMED).
    pub checking_code: String,
    /// `AC02` (ASSUMED).
    pub savings_code: String,
}

impl Default for Legacy {
    fn default() -> Self {
        let media = |version| format!("application/vnd.worldpay.account-payouts-{version}+json");
        Self {
            instructing_treasury_id: None,
            single: media("v2"),
            batch: media("v1"),
            search: media("v2"),
            beneficiary_code: "PT03".to_owned(),
            company_code: "PD01".to_owned(),
            person_code: "PD02".to_owned(),
            checking_code: "AC01".to_owned(),
            savings_code: "AC02".to_owned(),
        }
    }
}

mod defaults {
    pub(super) fn api_version() -> String {
        "2025-01-01".to_owned()
    }
    pub(super) const fn amount_digits() -> usize {
        10
    }
    pub(super) fn refusals() -> Vec<String> {
        crate::worldpay::error::REFUSALS.map(str::to_owned).to_vec()
    }
}

/// Shortest and longest narrative (H).
pub const MIN_NARRATIVE: usize = 6;
pub const MAX_NARRATIVE: usize = 50;

/// The built-in profile. That repeats are recognised is (H); for how long, the propagation time and the plan of polls are ASSUMED.
#[must_use]
pub fn profile(provider: Provider) -> Profile {
    let seconds = SignedDuration::from_secs;
    Profile {
        provider,
        api: "Worldpay Access Account Payouts 2025-01-01",
        key: KeyFormat::Hex,
        recognises_duplicates: true,
        retention: Some(SignedDuration::from_hours(24)),
        looked_up_by_our_key: true,
        propagation: seconds(60),
        not_found_is_final: false,
        polling: Polling { waits: [2, 10, 60, 300, 1800, 3600].map(seconds).to_vec(), bound: SignedDuration::from_hours(7 * 24) },
        last_words: &["COMPLETED", "REVERSED", "FAILED", "INVALID"],
        cancelable: false,
        one_open_per_balance: false,
        batch_max: Some(wire::MAX_BATCH),
        amount: AmountFormat::DecimalNumber,
        limits: profile::Limits { beneficiary_name: 140, reference: MAX_NARRATIVE, reference_min: Some(MIN_NARRATIVE) },
        destinations: &["iban", "sort_code_account_number", "routing_number_account_number"],
        currencies: None,
        notices: NoticeProof::None,
        told_by_reference: true,
        lists_payouts: true,
        unavailable_means_unprocessed: false,
        side_effects: &[],
        cut_offs: &[],
    }
}

/// The client of one account. Knows nothing of payouts' states: same question, same translation, however often.
pub struct Client {
    settings: Settings,
    access: Access,
    profile: Profile,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("access", &self.access).field("generation", &self.settings.generation).finish_non_exhaustive()
    }
}

const ACCOUNT_PAYOUTS: &str = "/accountPayouts";
const LEGACY_PAYOUTS: &str = "/payouts/accounts";
const LEGACY_EVENTS: &str = "/payouts/events";
/// Items of a page when one payout is searched for. More than one is one too many.
const FEW: u32 = 10;

impl Client {
    /// Checks the settings. In live mode the address must be https.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the setting.
    pub fn new(settings: Settings, mode: Mode, provider: Provider) -> Result<Self, SetupError> {
        let access = Access::new(&settings.access, mode)?;
        request::check(&settings)?;
        let mut profile = profile(provider).with(&settings.profile);
        if settings.generation == Generation::Legacy {
            profile.api = "Worldpay Access Account Payouts v2";
        }
        Ok(Self { access, profile, settings })
    }

    /// The profile with the configured values.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Everything that is needed to send, and to send again: the exact body, and how it is asked for. The same order makes the same bytes.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`], for what the provider would refuse anyway. Names the field of the order.
    pub fn prepare(&self, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
        request::single(&self.settings, order)
    }

    /// Sends a prepared request once and says how that ended. `within` bounds everything, the discovery of links included.
    ///
    /// No byte of the body leaves after `send_by`, which is compared with the system clock after the connection is there.
    /// Repeating it is safe for the provider's money, because the key is in the bytes, but it is the caller's decision whether to.
    pub async fn submit(&self, prepared: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        let Some(prepared) = Prepared::read(prepared).filter(|prepared| !prepared.batch) else { return not_sent("unreadable_request") };
        let deadline = Instant::now() + within;
        let response = match self.post(&prepared, send_by, deadline).await {
            Ok(response) => response,
            Err(answer) => return answer,
        };
        match response.status {
            StatusCode::OK | StatusCode::ACCEPTED => {
                let accepted = response.json::<wire::Accepted>().unwrap_or_default();
                Answer::Says(accepted_report(accepted.payout_request_id.or(accepted.ubr)))
            }
            StatusCode::CONFLICT => self.adopt(&prepared, deadline).await,
            _ => not_accepted(&response, &self.settings.refusals),
        }
    }

    /// Asks for an attempt: by the provider's id if it is known, else by our key. Changes nothing at the provider.
    ///
    /// Whether amount and currency are ours is for the caller to compare.
    pub async fn look(&self, inquiry: &Inquiry<'_>) -> Look {
        let deadline = self.access.read_deadline();
        // Asked in the generation in which it was sent, whatever the settings say by now.
        let generation = Prepared::read(inquiry.request).map_or(self.settings.generation, |prepared| prepared.generation);
        let found = match inquiry.reference.filter(|reference| is_id(&reference.0)) {
            Some(reference) => match self.read_in(generation, reference, inquiry.key, deadline).await {
                Ok(None) => self.find(generation, inquiry.key, deadline).await,
                found => found,
            },
            None => self.find(generation, inquiry.key, deadline).await,
        };
        match found {
            Ok(Some(item)) => Look::Found(report(&item)),
            Ok(None) => Look::NotFound,
            Err(ReadError { why }) => Look::Nothing { why },
        }
    }

    /// The payout that has that id; `None` if there is none *now*.
    ///
    /// # Errors
    ///
    /// [`ReadError`], also for an id of another form than the provider's. That an id is not ours is a 403, as is a lack of rights (H).
    pub async fn read(&self, reference: &ProviderReference) -> Result<Option<wire::Item>, ReadError> {
        self.get_one(self.settings.generation, reference, None, self.access.read_deadline()).await
    }

    /// One page of the payouts that fit. Pages begin at 1 and hold at most 499 items (H).
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn search(&self, search: &Search) -> Result<wire::Page, ReadError> {
        self.search_in(self.settings.generation, search, None, self.access.read_deadline()).await
    }

    /// The payouts that were submitted in a period, by the days that it touches.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn statement(&self, from: Timestamp, to: Timestamp, lines_max: usize) -> Result<Statement, ReadError> {
        let day = |at: Timestamp| at.to_zoned(jiff::tz::TimeZone::UTC).date();
        // Whether the last day is a part of the window is not documented.
        let last = day(to).tomorrow().unwrap_or(day(to));
        let mut search = Search { from: Some(day(from)), to: Some(last), page_number: 1, ..Search::default() };
        let mut lines = Vec::new();
        loop {
            let page = self.search(&search).await?;
            let read = page.items.len();
            lines.extend(page.items.iter().map(line).filter(|line| line.at.is_none_or(|at| (from..=to).contains(&at))));
            if search.page_number >= page.pagination.page_count || read == 0 {
                // A page that says nothing of others may be one of several.
                let whole = page.pagination.page_count > 0 || read == 0;
                return Ok(cut(lines, whole, lines_max));
            }
            if lines.len() >= lines_max || search.page_number == STATEMENT_PAGES_MAX {
                return Ok(cut(lines, false, lines_max));
            }
            search.page_number += 1;
        }
    }

    /// The answer to a create, or what it means that there is none.
    async fn post(&self, prepared: &Prepared, send_by: Timestamp, deadline: Instant) -> Result<Response, Answer> {
        if clock::now() > send_by {
            return Err(not_sent("send_by_passed"));
        }
        let path = match prepared.generation {
            Generation::Current if prepared.batch => format!("{ACCOUNT_PAYOUTS}/batch"),
            Generation::Current => ACCOUNT_PAYOUTS.to_owned(),
            Generation::Legacy => {
                let resource = self.legacy_path("service:payouts/accounts", LEGACY_PAYOUTS, deadline).await;
                format!("{resource}/{}", if prepared.batch { "batch" } else { "single" })
            }
        };
        let body = Bytes::copy_from_slice(prepared.body.get().as_bytes());
        let call = self.access.post(path, &prepared.version, Some(prepared.key.as_uuid()), body, deadline);
        let mut call = call.ok_or_else(|| not_sent("unusable_version"))?.send_by(send_by);
        if prepared.generation == Generation::Current {
            let key = HeaderValue::try_from(key_text(prepared.key)).map_err(|_| not_sent("unusable_key"))?;
            call = call.header(IDEMPOTENCY_KEY, key);
        }
        self.access.send(call).await.map_err(unanswered)
    }

    /// Adopts what the provider has under the key of a request that it called a conflict.
    async fn adopt(&self, prepared: &Prepared, deadline: Instant) -> Answer {
        match self.find(prepared.generation, prepared.key, deadline).await {
            Ok(Some(item)) if prepared.is_same(&item) => Answer::Says(report(&item)),
            Ok(Some(item)) if amount(&item).is_some() => Answer::KeyConflict,
            // Without an amount, what is there says nothing about its content.
            Ok(_) | Err(ReadError { .. }) => no_answer("status_409"),
        }
    }

    async fn read_in(
        &self,
        generation: Generation,
        reference: &ProviderReference,
        key: ProviderKey,
        deadline: Instant,
    ) -> Result<Option<wire::Item>, ReadError> {
        let item = self.get_one(generation, reference, Some(key.as_uuid()), deadline).await?;
        // Another payout under an id that we hold for this one would be told as if it were this one.
        match &item {
            Some(item) if item.transaction_reference.as_deref().is_some_and(|reference| reference != key_text(key)) => Err(unread("other_payout")),
            _ => Ok(item),
        }
    }

    async fn get_one(
        &self,
        generation: Generation,
        reference: &ProviderReference,
        about: Option<Uuid>,
        deadline: Instant,
    ) -> Result<Option<wire::Item>, ReadError> {
        let id = reference.0.as_str();
        if !is_id(id) {
            return Err(unread("unusable_reference"));
        }
        let path = match generation {
            Generation::Current => format!("{ACCOUNT_PAYOUTS}/{id}"),
            Generation::Legacy => format!("{}/{id}", self.legacy_path("service:payouts/events", LEGACY_EVENTS, deadline).await),
        };
        let response = self.access.ask(self.access.get(path, &self.search_version(generation), about, deadline)).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        // That the older generation answers with a page is ASSUMED; one payout is read as well.
        match usable::<wire::Page>(&response) {
            Ok(page) => only(page.items.into_iter().filter(|item| item.id().is_none_or(|own| own == id))),
            Err(_) => usable(&response).map(Some),
        }
    }

    async fn find(&self, generation: Generation, key: ProviderKey, deadline: Instant) -> Result<Option<wire::Item>, ReadError> {
        let search = Search { transaction_reference: Some(key_text(key)), page_size: FEW, ..Search::default() };
        let page = self.search_in(generation, &search, Some(key.as_uuid()), deadline).await?;
        let whole = page.pagination.page_count <= 1 && page.items.iter().all(|item| item.transaction_reference.is_some());
        // A search may find what only resembles.
        let ours = page.items.into_iter().filter(|item| item.transaction_reference.as_deref() == search.transaction_reference.as_deref());
        match only(ours)? {
            // Ours may be what does not say which payout it is, or on another page.
            None if !whole => Err(unread("incomplete_search")),
            found => Ok(found),
        }
    }

    async fn search_in(&self, generation: Generation, search: &Search, about: Option<Uuid>, deadline: Instant) -> Result<wire::Page, ReadError> {
        let path = match generation {
            Generation::Current => format!("{ACCOUNT_PAYOUTS}/events"),
            Generation::Legacy => self.legacy_path("service:payouts/events", LEGACY_EVENTS, deadline).await,
        };
        let call = self.access.get(path, &self.search_version(generation), about, deadline).map(|call| search.asked(call, &self.settings.entity));
        usable(&self.access.ask(call).await?)
    }

    fn search_version(&self, generation: Generation) -> Version {
        match generation {
            Generation::Current => Version::Dated(self.settings.api_version.clone()),
            Generation::Legacy => Version::MediaType(self.settings.legacy.search.clone()),
        }
    }

    async fn legacy_path(&self, relation: &str, stable: &str, deadline: Instant) -> String {
        // The root is no part of any API; it is asked for as the search is.
        self.access.path_of("/", &self.search_version(Generation::Legacy), relation, stable, deadline).await
    }
}

/// What payouts to search for; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    pub transaction_reference: Option<String>,
    /// `COMPLETED`, for one.
    pub payment_state: Option<String>,
    /// A window of at most 31 days (H), that begins before today (H).
    pub from: Option<jiff::civil::Date>,
    pub to: Option<jiff::civil::Date>,
    pub currency: Option<Currency>,
    /// From 1; 0 counts as 1.
    pub page_number: u32,
    /// 1 to 499; 0 counts as 499.
    pub page_size: u32,
}

impl Search {
    fn asked(&self, call: Call, entity: &str) -> Call {
        let size = if self.page_size == 0 { 499 } else { self.page_size.min(499) };
        let call = call.query("pageSize", size.to_string()).query("pageNumber", self.page_number.max(1).to_string()).query("entity", entity);
        let date = |date: Option<jiff::civil::Date>| date.map(|date| date.to_string());
        let filters = [
            ("transactionReference", self.transaction_reference.clone()),
            ("paymentState", self.payment_state.clone()),
            ("startDate", date(self.from)),
            ("endDate", date(self.to)),
            ("targetCurrency", self.currency.map(|currency| currency.code().to_owned())),
        ];
        filters.into_iter().fold(call, |call, (name, value)| if let Some(value) = value { call.query(name, value) } else { call })
    }
}

/// The only one, if there is one. Two payouts under one reference are for a person to look at: nothing that one of them does would be the whole truth.
fn only(mut items: impl Iterator<Item = wire::Item>) -> Result<Option<wire::Item>, ReadError> {
    match (items.next(), items.next()) {
        (item, None) => Ok(item),
        (_, Some(_)) => {
            tracing::error!("Worldpay has several payouts under one reference");
            Err(unread("several_payouts"))
        }
    }
}

/// Whether a text has the form of the provider's ids (H), with room. In a path, anything else could be another path.
fn is_id(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What an acceptance says: an id, if it could be read.
fn accepted_report(id: Option<String>) -> Report {
    let reference = id.filter(|id| is_id(id));
    Report { status: Status::Authorised, provider_status: "NEW".to_owned(), at: None, reference: reference.map(ProviderReference), amount: None }
}

/// Our word for theirs (H). `REJECTED` is documented as an interim state, so it ends nothing. `REVERSED` means that the funds came back, always.
fn status(word: &str) -> Status {
    let reason = || Reason::new(word);
    match word.to_ascii_uppercase().as_str() {
        "NEW" | "VALID" | "AWAITING_EXECUTION" | "IN_REVIEW" | "RFI_IN_PROGRESS" | "AWAITING_LIQUIDITY" | "REJECTED" => Status::Authorised,
        "EXECUTED" => Status::Submitted,
        "COMPLETED" => Status::Settled,
        "REVERSED" => Status::Returned { reason: reason() },
        "FAILED" => Status::Failed { reason: reason() },
        "INVALID" => Status::Rejected { reason: reason() },
        _ => Status::Unmapped,
    }
}

fn report(item: &wire::Item) -> Report {
    let status = status(&item.payment_state);
    // The only time that is told is that of the submission to Worldpay.
    let at = if status == Status::Authorised { item.payment_datetime.as_deref().and_then(time_of) } else { None };
    Report {
        provider_status: sanitised(&item.payment_state),
        at,
        reference: item.id().filter(|id| is_id(id)).map(|id| ProviderReference(id.to_owned())),
        amount: amount(item),
        status,
    }
}

fn line(item: &wire::Item) -> Line {
    let key = item.transaction_reference.as_deref().and_then(key_of);
    Line { key, at: item.payment_datetime.as_deref().and_then(time_of), report: report(item) }
}

fn cut(mut lines: Vec<Line>, whole: bool, lines_max: usize) -> Statement {
    let whole = whole && lines.len() <= lines_max;
    lines.truncate(lines_max);
    Statement { lines, whole }
}

fn amount(item: &wire::Item) -> Option<Money> {
    let currency = Currency::parse(item.target_currency.as_deref()?).ok()?;
    item.target_amount.as_ref()?.to_money(currency)
}

#[cfg(test)]
mod tests;
