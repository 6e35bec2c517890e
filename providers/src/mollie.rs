//! Mollie Payouts API v2: the client face, and the settings of both faces.
//!
//! Mollie pays a balance out to the account that is configured for that balance, on the next business day, and to nobody else. So the only destination is
//! [`Destination::OwnAccount`], the amount is always written out, and the currency of a payout selects the balance. The provider's webhooks
//! are read in [`inbox`], the types on the wire are in [`wire`], and [`sandbox`] is the server that speaks the same wire. The table of answers:
//!
//! | what came back to a create | answer |
//! |---|---|
//! | no body byte left: DNS, connect, TLS, `send_by` passed | [`Answer::NotSent`] |
//! | 201 (or 200) with our payout | [`Answer::Says`], with the provider's id |
//! | 201 with another amount, balance or description under our key | [`Answer::KeyConflict`] |
//! | one of the [`Settings::refusal_statuses`], with an error in the provider's shape | [`Answer::Refused`] |
//! | 401, 403, 429, and that a payout of the balance is scheduled already | [`Answer::Unprocessed`] |
//! | everything else: 404, 408, 409, 5xx, resets, deadlines, unreadable bodies | [`Answer::NoAnswer`] |
//!
//! A key is remembered for one hour (H); afterwards the same request pays again. There is no look-up by key, so every description ends with ours, and a
//! look without the provider's id goes through the list of payouts and recognises it by that.
//!
//! Labels: **(H)** read in the provider's documents or libraries, **ASSUMED** found nowhere and therefore a setting or harmless.

pub mod inbox;
pub mod sandbox;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use domain::destination::Destination;
use domain::fact::{Answer, Look, Provider, ProviderReference, Reason, Report, Status};
use domain::id::{Mode, ProviderKey};
use domain::wait::Polling;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::http as net;
use crate::http::{Call, Failure, Limits, Response};
use crate::profile::{self, AmountFormat, KeyFormat, NoticeProof, Profile};
use crate::reading::{NotAnAccount, ReadError, check_accounts, is_plain_id, no_answer, not_sent, remaining, sanitised, unprocessed, usable};
use crate::{Canceling, FieldProblem, Inquiry, Line, Order, Statement, clock};

/// The provider's address, one for test and live (H).
pub const HOST: &str = "https://api.mollie.com";

/// The header of a create's key (H).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The built-in profile. That keys are remembered for an hour is (H), as are the cancel call and the side effect; the propagation time of
/// the list, the plan of polls and its bound are ASSUMED.
#[must_use]
pub fn profile(provider: Provider) -> Profile {
    let seconds = SignedDuration::from_secs;
    Profile {
        provider,
        api: "Mollie Payouts API v2",
        key: KeyFormat::Uuid,
        recognises_duplicates: true,
        retention: Some(SignedDuration::from_hours(1)),
        // Through the list of payouts: every description ends with our key.
        looked_up_by_our_key: true,
        propagation: seconds(60),
        not_found_is_final: false,
        polling: Polling { waits: [5, 30, 120, 600, 3600].map(seconds).to_vec(), bound: SignedDuration::from_hours(7 * 24) },
        last_words: &["completed", "failed", "canceled"],
        cancelable: true,
        one_open_per_balance: true,
        batch_max: None,
        amount: AmountFormat::DecimalText,
        limits: profile::Limits { beneficiary_name: MAX_REFERENCE, reference: MAX_REFERENCE, reference_min: None },
        destinations: &["own_account"],
        currencies: None,
        notices: NoticeProof::SharedSecret,
        told_by_reference: true,
        lists_payouts: true,
        unavailable_means_unprocessed: false,
        side_effects: &["sets the balance's transferFrequency to never, which only the provider's dashboard can undo"],
        cut_offs: &[],
    }
}

/// Longest reference: with a space and our key, within the 255 characters of a description. No longer than any reference is anyway.
const MAX_REFERENCE: usize = 140;

/// Credentials and bounds of one account at Mollie. `Debug` shows no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Scheme, host and port of the API; a path is put before every path. See [`HOST`].
    #[serde(default = "defaults::base_url")]
    pub base_url: String,
    /// An API key (`test_…`, `live_…`), which belongs to one mode, or the token of an organisation (`access_…`, OAuth), with which every request names the mode.
    pub api_key: SecretString,
    /// By currency, the id of the balance that pays: `EUR` to `bal_…`.
    pub balances: BTreeMap<String, String>,
    /// The secrets of webhook subscriptions, several while one is replaced by the next. Without any, every notice is refused.
    #[serde(default)]
    pub webhook_secrets: Vec<SecretString>,
    /// The statuses which, with an error in the provider's shape, mean that the payout will not be made. 422 is (H) for the documented reasons; that 400
    /// means the same is ASSUMED.
    #[serde(default = "defaults::refusal_statuses")]
    pub refusal_statuses: Vec<u16>,
    /// When to ask again after an earlier payout of the balance was found to be waiting for its day. An hour: until then the provider may repeat its answer.
    #[serde(default = "defaults::scheduled_wait_ms")]
    pub scheduled_wait_ms: u64,
    /// DNS, TCP and TLS together.
    #[serde(default = "defaults::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// The whole of a question: a look with all its pages, a cancel, balances.
    #[serde(default = "defaults::read_timeout_ms")]
    pub read_timeout_ms: u64,
    /// Largest answer that is read, in bytes.
    #[serde(default = "defaults::response_limit_bytes")]
    pub response_limit_bytes: usize,
    /// Payouts on a page of the list, 1 to 250 (H).
    #[serde(default = "defaults::page_size")]
    pub page_size: u8,
    /// Pages that a look reads at most. What is not found on them is unknown, not absent.
    #[serde(default = "defaults::pages_max")]
    pub pages_max: u32,
    #[serde(default)]
    pub profile: profile::Overrides,
}

mod defaults {
    pub(super) fn base_url() -> String {
        super::HOST.to_owned()
    }
    pub(super) fn refusal_statuses() -> Vec<u16> {
        vec![400, 422]
    }
    pub(super) const fn scheduled_wait_ms() -> u64 {
        3_600_000
    }
    pub(super) const fn connect_timeout_ms() -> u64 {
        5_000
    }
    pub(super) const fn read_timeout_ms() -> u64 {
        10_000
    }
    pub(super) const fn response_limit_bytes() -> usize {
        1024 * 1024
    }
    pub(super) const fn page_size() -> u8 {
        250
    }
    pub(super) const fn pages_max() -> u32 {
        8
    }
}

/// Why a connector could not be set up. Names the setting, never its value.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("base_url")]
    BaseUrl(#[source] net::ClientError),
    #[error("api_key")]
    ApiKey(#[source] ApiKeyProblem),
    #[error("balances.{currency}")]
    Balance { currency: String, source: NotAnAccount },
    /// Empty, or zero where nothing would come of it.
    #[error("{0}")]
    Missing(&'static str),
}

/// What is wrong with an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyProblem {
    #[error("it has characters that no header can have")]
    Characters,
    #[error("it belongs to the other mode")]
    OtherMode,
}

/// The client of one account. Knows nothing of payouts' states: same question, same translation, however often.
pub struct Client {
    settings: Settings,
    api: net::Client,
    authorization: HeaderValue,
    mode: Mode,
    /// What the request has to say about the mode; `None` if the key says it.
    testmode: Option<bool>,
    profile: Profile,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("api", &self.api).finish_non_exhaustive()
    }
}

/// The prepared request: the key goes into a header, the rest are the bytes of the body.
#[derive(Serialize, Deserialize)]
struct Prepared<'a> {
    key: ProviderKey,
    #[serde(borrow)]
    body: &'a RawValue,
}

const PAYOUTS: &str = "/v2/payouts";
/// How far the provider's clock may be behind ours, for how far back the list is read.
const SKEW: SignedDuration = SignedDuration::from_mins(10);
/// Payouts of our amount without a description in the list, which a look asks for one by one.
const UNDESCRIBED_MAX: usize = 8;

impl Client {
    /// Checks the settings. In live mode the address must be https. A key of the other mode is refused.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the setting.
    pub fn new(settings: Settings, mode: Mode, provider: Provider) -> Result<Self, SetupError> {
        let key = settings.api_key.expose_secret();
        let (api_key, balances) = (("api_key", key.is_empty()), ("balances", settings.balances.is_empty()));
        for (setting, missing) in [api_key, balances, ("page_size", settings.page_size == 0), ("pages_max", settings.pages_max == 0)] {
            if missing {
                return Err(SetupError::Missing(setting));
            }
        }
        let testmode = match (key.split_once('_').map(|(kind, _)| kind), mode) {
            (Some("test"), Mode::Test) | (Some("live"), Mode::Live) => None,
            (Some("test"), Mode::Live) | (Some("live"), Mode::Test) => return Err(SetupError::ApiKey(ApiKeyProblem::OtherMode)),
            _ => Some(mode == Mode::Test),
        };
        check_accounts(&settings.balances).map_err(|currency| SetupError::Balance { currency, source: NotAnAccount })?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| SetupError::ApiKey(ApiKeyProblem::Characters))?;
        authorization.set_sensitive(true);
        let limits = Limits { connect: Duration::from_millis(settings.connect_timeout_ms), body: settings.response_limit_bytes, ..Limits::default() };
        Ok(Self {
            api: net::Client::new(&settings.base_url, mode == Mode::Live, limits).map_err(SetupError::BaseUrl)?,
            authorization,
            mode,
            testmode,
            profile: profile(provider).with(&settings.profile),
            settings,
        })
    }

    /// The profile with the configured values.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The request, to be stored and sent, and sent again, as it is. The same order makes the same bytes.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`], for what the provider would refuse anyway, and for any destination but the balance's own account.
    pub fn prepare(&self, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
        let problem = |field, why| FieldProblem { field, why };
        let Order { key, money, beneficiary, context_code: _ } = *order;
        if beneficiary.destination != Destination::OwnAccount {
            return Err(problem("destination", "must be own_account: this provider pays a balance out to its own account only"));
        }
        let balance_id = self.settings.balances.get(money.currency().code()).ok_or(problem("balanceId", "is not configured for this currency"))?;
        let reference = beneficiary.reference.as_str();
        if reference.chars().count() > MAX_REFERENCE {
            return Err(problem("description", "must leave room for our key: the reference is at most 140 characters"));
        }
        let create = wire::CreatePayout {
            balance_id: balance_id.clone(),
            amount: Some(wire::Amount::of(money)),
            description: Some(wire::describe(reference, key)),
            testmode: self.testmode,
        };
        let unwritten = |_| problem("description", "could not be written");
        let body = serde_json::value::to_raw_value(&create).map_err(unwritten)?;
        serde_json::to_vec(&Prepared { key, body: &body }).map_err(unwritten)
    }

    /// Sends a prepared request, once, and says how that ended. `within` bounds everything.
    ///
    /// No byte of the body leaves after `send_by`, which is compared with the system clock after the connection is there.
    /// Within an hour of the first send, repeating it is safe for the provider's money (H); later it pays again.
    pub async fn submit(&self, prepared: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        let Some((key, body, create)) = unpack(prepared) else { return not_sent("unreadable_request") };
        if clock::now() > send_by {
            return not_sent("send_by_passed");
        }
        let Ok(key) = HeaderValue::try_from(key.to_string()) else { return not_sent("unreadable_request") };
        let call = self.call(Method::POST, PAYOUTS, within).header(IDEMPOTENCY_KEY, key);
        let response = match self.api.call(call.body("application/json", body).send_by(send_by)).await {
            Ok(response) => response,
            Err(Failure::NotSent(why)) => return not_sent(why),
            Err(Failure::Ambiguous(why)) => return no_answer(why),
        };
        tracing::debug!(status = response.status.as_u16(), "the provider answered a payout");
        match response.status {
            StatusCode::CREATED | StatusCode::OK => self.accepted(&create, &response),
            StatusCode::UNAUTHORIZED => unprocessed("unauthorized", None),
            StatusCode::FORBIDDEN => unprocessed("forbidden", None),
            StatusCode::TOO_MANY_REQUESTS => unprocessed("rate_limited", retry_after(&response)),
            status => match response.json::<wire::ErrorBody>().filter(|error| error.status == status.as_u16()) {
                Some(error) if self.settings.refusal_statuses.contains(&status.as_u16()) => self.refused(&error),
                Some(_) | None => no_answer(&format!("status_{}", status.as_u16())),
            },
        }
    }

    fn refused(&self, error: &wire::ErrorBody) -> Answer {
        let code = error.code();
        if error.is_about_the_key() {
            // ASSUMED: no document says that other content under a key is refused, but if it is, it is not a refusal of our payout.
            Answer::KeyConflict
        } else if self.profile.one_open_per_balance && code == wire::ALREADY_SCHEDULED {
            // Not a word about this payout: it was not taken, and may be once the earlier one has begun.
            let wait = i64::try_from(self.settings.scheduled_wait_ms).unwrap_or(i64::MAX);
            unprocessed(wire::ALREADY_SCHEDULED, Some(SignedDuration::from_millis(wait)))
        } else {
            Answer::Refused { reason: Reason::new(&code) }
        }
    }

    /// Asks for one attempt: by the provider's id, else through the list of the balance's payouts. Changes nothing at the provider.
    ///
    /// [`Look::NotFound`] means that the list was read back to before the first send, and nothing in it can be ours. A list that cannot be read so far or
    /// does not say where it ends, a payout of our amount that nowhere shows its description, or two with our key are [`Look::Nothing`]: somebody has to look.
    pub async fn look(&self, inquiry: &Inquiry<'_>) -> Look {
        match self.find(inquiry, self.read_deadline()).await {
            Ok(Some(payout)) => match self.report(&payout) {
                Ok(report) => Look::Found(report),
                Err(ReadError { why }) => Look::Nothing { why },
            },
            Ok(None) => Look::NotFound,
            Err(ReadError { why }) => Look::Nothing { why },
        }
    }

    /// Cancels at the provider, which it allows while the payout is `requested` (H). Repeating it tells the same.
    pub async fn cancel(&self, inquiry: &Inquiry<'_>) -> Canceling {
        match self.try_cancel(inquiry, self.read_deadline()).await {
            Ok(report) if matches!(report.status, Status::Canceled { .. }) => Canceling::Canceled(report),
            Ok(report) => Canceling::TooLate(report),
            Err(ReadError { why }) => Canceling::Nothing { why },
        }
    }

    /// One payout by the provider's id; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn payout(&self, id: &str) -> Result<Option<wire::Payout>, ReadError> {
        self.get_payout(id, self.read_deadline()).await
    }

    /// The balances of the account, of every currency: the first page, which is all unless there are more than 250.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn balances(&self) -> Result<Vec<wire::Balance>, ReadError> {
        let call = self.testmode_query(self.call(Method::GET, "/v2/balances", remaining(self.read_deadline())).query("limit", "250"));
        usable::<wire::Balances>(&self.api.call(call).await?).map(|page| page.embedded.balances)
    }

    /// Reads an accepting answer. If it is somebody else's payout, our key was used before with other content: the first one wins (ASSUMED).
    fn accepted(&self, create: &wire::CreatePayout, response: &Response) -> Answer {
        let Some(payout) = response.json::<wire::Payout>() else { return no_answer("unreadable") };
        let same = payout.balance_id == create.balance_id
            && payout.amount.as_ref().is_none_or(|amount| Some(amount.exact()) == create.amount.as_ref().map(wire::Amount::exact))
            && payout.description.as_ref().is_none_or(|description| Some(description) == create.description.as_ref());
        match self.report(&payout) {
            Ok(_) if !same => Answer::KeyConflict,
            Ok(report) => Answer::Says(report),
            Err(ReadError { why }) => Answer::NoAnswer { why },
        }
    }

    async fn try_cancel(&self, inquiry: &Inquiry<'_>, deadline: Instant) -> Result<Report, ReadError> {
        let id = match inquiry.reference {
            Some(ProviderReference(id)) => id.clone(),
            None => self.find(inquiry, deadline).await?.ok_or(ReadError::new("not_found"))?.id,
        };
        let call = self.testmode_query(self.call(Method::DELETE, payout_path(&id)?, remaining(deadline)));
        let response = self.api.call(call).await?;
        let payout = match response.status {
            // It can no longer be cancelled, or already is: its state says which.
            StatusCode::CONFLICT => self.get_payout(&id, deadline).await?.ok_or(ReadError::new("not_found"))?,
            StatusCode::NOT_FOUND => return Err(ReadError::new("not_found")),
            _ => usable(&response)?,
        };
        if payout.id == id { self.report(&payout) } else { Err(ReadError::new("other_payout")) }
    }

    async fn find(&self, inquiry: &Inquiry<'_>, deadline: Instant) -> Result<Option<wire::Payout>, ReadError> {
        match inquiry.reference {
            // The provider told us this id, so that it does not know it is no evidence that there is nothing.
            Some(ProviderReference(id)) => self.get_payout(id, deadline).await?.map(Some).ok_or(ReadError::new("reference_unknown")),
            None => self.search(inquiry, deadline).await,
        }
    }

    async fn get_payout(&self, id: &str, deadline: Instant) -> Result<Option<wire::Payout>, ReadError> {
        let call = self.testmode_query(self.call(Method::GET, payout_path(id)?, remaining(deadline)));
        let response = self.api.call(call).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let payout: wire::Payout = usable(&response)?;
        if payout.id == id { Ok(Some(payout)) } else { Err(ReadError::new("other_payout")) }
    }

    /// Goes through the balance's payouts, newest first, back to before the first send.
    async fn search(&self, inquiry: &Inquiry<'_>, deadline: Instant) -> Result<Option<wire::Payout>, ReadError> {
        let (_, _, create) = unpack(inquiry.request).ok_or(ReadError::new("unreadable_request"))?;
        let since = inquiry.first_sent.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
        let (mut ours, mut undescribed) = (Vec::new(), Vec::new());
        let mut from = None;
        for _ in 0..self.settings.pages_max {
            let page = self.page(&create.balance_id, from.as_deref(), deadline).await?;
            let payouts = page.embedded.payouts;
            // Only an order that is seen to be the one that was asked for is relied on.
            let complete = payouts.is_sorted_by_key(|payout| std::cmp::Reverse(payout.created_at))
                && payouts.last().is_some_and(|payout| payout.created_at.0 < since);
            for payout in payouts {
                match &payout.description {
                    Some(description) if wire::described_key(description) == Some(inquiry.key) => ours.push(payout),
                    Some(_) => {}
                    None if payout.created_at.0 >= since && may_be(&payout, &create) => undescribed.push(payout.id),
                    None => {}
                }
            }
            match page.links.next_from() {
                Some(Some(next)) if !complete => from = Some(next),
                // Whether there are more is not said, and nothing that is here is ours.
                None if !complete && ours.is_empty() => return Err(ReadError::new("unlinked_list")),
                Some(_) | None => return self.judge(inquiry.key, ours, undescribed, deadline).await,
            }
        }
        // What was found is found; that the rest was not read only matters if nothing was.
        if ours.is_empty() { Err(ReadError::new("list_too_long")) } else { self.judge(inquiry.key, ours, undescribed, deadline).await }
    }

    /// Decides which of the found payouts is ours. Lists may leave descriptions out (H): such payouts are asked for one by one.
    async fn judge(
        &self,
        key: ProviderKey,
        mut ours: Vec<wire::Payout>,
        undescribed: Vec<String>,
        deadline: Instant,
    ) -> Result<Option<wire::Payout>, ReadError> {
        if undescribed.len() > UNDESCRIBED_MAX {
            return Err(ReadError::new("undescribed_payouts"));
        }
        for id in undescribed {
            let payout = self.get_payout(&id, deadline).await?.ok_or(ReadError::new("undescribed_payouts"))?;
            match &payout.description {
                Some(description) if wire::described_key(description) == Some(key) => ours.push(payout),
                Some(_) => {}
                None => return Err(ReadError::new("undescribed_payouts")),
            }
        }
        if ours.len() > 1 { Err(ReadError::new("several_payouts")) } else { Ok(ours.pop()) }
    }

    /// The payouts of the configured balances that were made in a period, those included that Mollie makes by itself. A line has no key where the list leaves the
    /// description out (H).
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn statement(&self, from: Timestamp, to: Timestamp, lines_max: usize) -> Result<Statement, ReadError> {
        let mut statement = Statement { lines: Vec::new(), whole: true };
        let balances: BTreeSet<_> = self.settings.balances.values().collect();
        for balance in balances {
            statement.whole &= self.read_balance(balance, (from, to), lines_max, &mut statement.lines).await?;
        }
        Ok(statement)
    }

    /// Reads one balance's payouts, newest first, back to before the period. Answers whether that was all of them.
    async fn read_balance(
        &self,
        balance_id: &str,
        (from, to): (Timestamp, Timestamp),
        lines_max: usize,
        lines: &mut Vec<Line>,
    ) -> Result<bool, ReadError> {
        let mut next = None;
        for _ in 0..self.settings.pages_max {
            let page = self.page(balance_id, next.as_deref(), self.read_deadline()).await?;
            let payouts = page.embedded.payouts;
            // As in a search: only an order that is seen is relied on.
            let sorted = payouts.is_sorted_by_key(|payout| std::cmp::Reverse(payout.created_at));
            let passed = sorted && payouts.last().is_some_and(|payout| payout.created_at.0 < from);
            for payout in payouts.iter().filter(|payout| (from..=to).contains(&payout.created_at.0)) {
                if lines.len() == lines_max {
                    return Ok(false);
                }
                let key = payout.description.as_deref().and_then(wire::described_key);
                lines.push(Line { key, at: Some(payout.created_at.0), report: self.report(payout)? });
            }
            match page.links.next_from() {
                _ if passed => return Ok(true),
                Some(None) => return Ok(true),
                Some(Some(from)) => next = Some(from),
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    async fn page(&self, balance_id: &str, from: Option<&str>, deadline: Instant) -> Result<wire::Payouts, ReadError> {
        let mut call = self
            .call(Method::GET, PAYOUTS, remaining(deadline))
            .query("balanceId", balance_id)
            .query("limit", self.settings.page_size.to_string())
            .query("sort", "desc");
        if let Some(from) = from {
            call = call.query("from", from);
        }
        usable(&self.api.call(self.testmode_query(call)).await?)
    }

    fn call(&self, method: Method, path: impl Into<String>, within: Duration) -> Call {
        Call::new(method, path, within).header(header::AUTHORIZATION, self.authorization.clone())
    }

    /// Reads name the mode in the query, creates in the body (H).
    fn testmode_query(&self, call: Call) -> Call {
        match self.testmode {
            Some(testmode) => call.query("testmode", testmode.to_string()),
            None => call,
        }
    }

    fn read_deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.read_timeout_ms)
    }

    /// A payout in our words. One of the other mode, with an id that is none, or with an amount that is not exact is not usable.
    fn report(&self, payout: &wire::Payout) -> Result<Report, ReadError> {
        let Some(report) = report(payout) else { return Err(ReadError::new("unreadable")) };
        if payout.mode == self.mode.as_str() { Ok(report) } else { Err(ReadError::new("other_mode")) }
    }
}

/// Whether a payout without a description can be what was asked for.
fn may_be(payout: &wire::Payout, create: &wire::CreatePayout) -> bool {
    match (&payout.amount, &create.amount) {
        // An amount that cannot be read may be any.
        (Some(theirs), Some(ours)) => theirs.exact().is_none() || theirs.exact() == ours.exact(),
        _ => true,
    }
}

fn unpack(prepared: &[u8]) -> Option<(ProviderKey, Bytes, wire::CreatePayout)> {
    let Prepared { key, body } = serde_json::from_slice(prepared).ok()?;
    let create = serde_json::from_str(body.get()).ok()?;
    Some((key, Bytes::copy_from_slice(body.get().as_bytes()), create))
}

fn payout_path(id: &str) -> Result<String, ReadError> {
    if is_plain_id(id) { Ok(format!("{PAYOUTS}/{id}")) } else { Err(ReadError::new("unreadable_reference")) }
}

/// `Retry-After`, else the end of the window that the rate limit's header names (H).
fn retry_after(response: &Response) -> Option<SignedDuration> {
    let window = || {
        let limit = wire::RateLimit::parse(response.headers.get("ratelimit")?.to_str().ok()?)?;
        Some(SignedDuration::from_secs(i64::try_from(limit.resets_in_s).ok()?).min(SignedDuration::from_hours(1)))
    };
    response.retry_after(clock::now()).or_else(window)
}

/// Our word for theirs (H). That `returned` may follow `completed` is ASSUMED, and makes no difference here.
fn status(word: &str, code: &str) -> Status {
    match word {
        "requested" | "initiated" => Status::Authorised,
        "processing-at-bank" => Status::Submitted,
        "completed" => Status::Settled,
        "canceled" => Status::Canceled { reason: Reason::new(code) },
        "failed" if code == "returned" => Status::Returned { reason: Reason::new(code) },
        "failed" => Status::Failed { reason: Reason::new(code) },
        _ => Status::Unmapped,
    }
}

/// A payout in our words; `None` if its id is none, or if it has an amount that is not exact.
fn report(payout: &wire::Payout) -> Option<Report> {
    let amount = match &payout.amount {
        Some(amount) => Some(amount.exact()?),
        None => None,
    };
    let at = match payout.status.as_str() {
        "requested" => Some(payout.created_at),
        "initiated" => payout.initiated_at,
        "completed" => payout.completed_at,
        "canceled" => payout.canceled_at,
        _ => None,
    };
    is_plain_id(&payout.id).then(|| Report {
        status: status(&payout.status, &payout.status_reason.code),
        provider_status: sanitised(&payout.status),
        at: at.map(|moment| moment.0),
        reference: Some(ProviderReference(payout.id.clone())),
        amount,
    })
}

#[cfg(test)]
mod tests;
