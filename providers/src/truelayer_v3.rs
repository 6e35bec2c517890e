//! TrueLayer Payouts API v3: the client face, and the settings of both faces.
//!
//! Unlike in v1 ([`crate::truelayer`]) the provider makes the payout's id and tells it in the answer to the create. If that answer is lost there is no
//! look-up by anything of ours: **the same bytes under the same `Idempotency-Key` are sent again, are recognised, and are answered with the id**. So
//! [`Client::look`] without the provider's id says [`NO_REFERENCE`]. Our key also travels in the metadata, so that a notice names it. Tokens, signatures and the
//! proof of webhooks are those of v1; the provider's webhooks are read in [`inbox`], its lists in `statement.rs`, the types on the wire are in [`wire`], and [`sandbox`] is the
//! server that speaks the same wire. The table of answers:
//!
//! | what came back to a create | answer |
//! |---|---|
//! | no body byte left: DNS, connect, TLS, no token, `send_by` passed | [`Answer::NotSent`] |
//! | 202 (or 200, 201) with an id | [`Answer::Says`], authorised, with the id |
//! | 400 or 422 with one of the [`Settings::refusal_titles`] | [`Answer::Refused`] |
//! | 401 after one fresh token, 403, 429 | [`Answer::Unprocessed`] |
//! | 422 `Idempotency-Key Reuse` | [`Answer::KeyConflict`] |
//! | everything else: 404, 408, 409, 5xx, resets, deadlines, unreadable answers | [`Answer::NoAnswer`] |
//!
//! Labels: **(H)** read in the provider's documents or libraries, **ASSUMED** found nowhere and therefore a setting or harmless.

pub mod inbox;
pub mod sandbox;
mod statement;
pub mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use domain::destination::Destination;
use domain::fact::{Answer, Look, Provider, ProviderReference, Reason, Report, Status};
use domain::id::Mode;
use domain::money::{Currency, Money};
use domain::wait::Polling;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use crate::http as net;
use crate::http::{Call, Failure, Limits, Response};
use crate::jws::{Algorithm, KeyError, SigningKey};
use crate::profile::{self, AmountFormat, KeyFormat, NoticeProof, Profile};
use crate::reading::{NotAnAccount, ReadError, check_accounts, is_plain_id, no_answer, not_sent, remaining, sanitised, unprocessed, usable};
use crate::truelayer::token::{Credentials, Tokens};
use crate::truelayer::{REQUEST_SIGNATURE, SetupError};
use crate::{FieldProblem, Inquiry, Order, clock};

/// The header of a create's key (H).
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why a look says nothing although nothing went wrong: the answer that would have told the provider's id was lost, and only a re-send can tell it again.
pub const NO_REFERENCE: &str = "no_reference";

/// The address of the API for test and for live credentials (H). Those of tokens and keys are as in [`crate::truelayer::hosts`].
#[must_use]
pub const fn host(mode: Mode) -> &'static str {
    match mode {
        Mode::Test => "https://api.truelayer-sandbox.com",
        Mode::Live => "https://api.truelayer.com",
    }
}

/// The built-in profile. That a repeat under the same key is recognised is (H); for how long, the propagation time and the plan of polls are ASSUMED.
#[must_use]
pub fn profile(provider: Provider) -> Profile {
    let seconds = SignedDuration::from_secs;
    Profile {
        provider,
        api: "TrueLayer Payments API v3",
        key: KeyFormat::Uuid,
        recognises_duplicates: true,
        retention: Some(SignedDuration::from_hours(24)),
        looked_up_by_our_key: false,
        propagation: seconds(30),
        not_found_is_final: false,
        polling: Polling { waits: [1, 5, 30, 120, 600, 1800].map(seconds).to_vec(), bound: SignedDuration::from_hours(72) },
        last_words: &["executed", "failed"],
        cancelable: false,
        one_open_per_balance: false,
        batch_max: None,
        amount: AmountFormat::MinorUnits,
        limits: profile::Limits { beneficiary_name: MAX_NAME, reference: defaults::reference_max(), reference_min: None },
        destinations: &["iban", "sort_code_account_number"],
        currencies: None,
        notices: NoticeProof::Signature,
        told_by_reference: true,
        lists_payouts: true,
        unavailable_means_unprocessed: false,
        side_effects: &[],
        cut_offs: &[],
    }
}

/// No longer than any name is. The provider documents no limit.
const MAX_NAME: usize = 140;

/// Credentials and bounds of one account at TrueLayer. `Debug` shows no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Scheme, host and port of the API; a path is put before every path. See [`host`].
    pub base_url: String,
    /// Scheme, host and port of the server that gives out tokens.
    pub auth_url: String,
    pub client_id: String,
    pub client_secret: SecretString,
    /// The id under which the provider knows the public half of the signing key.
    pub kid: String,
    /// The signing key: P-521, PKCS#8 or SEC1.
    pub private_key_pem: SecretString,
    /// The only addresses from which keys of webhooks are taken, compared exactly.
    pub jku: Vec<String>,
    /// By currency, the id of the merchant account that pays: `GBP` to a UUID.
    pub merchant_accounts: BTreeMap<String, String>,
    /// The scope of tokens: `payments` for v3 (H).
    #[serde(default = "defaults::scope")]
    pub scope: String,
    /// Which scheme carries the money; absent, the provider's default, which is the preferred instant one (H).
    #[serde(default)]
    pub scheme_selection: Option<wire::SchemeSelection>,
    /// Titles of errors, as codes, which with 400 or 422 mean that the payout will not be made. Only those that certainly mean that belong here: any other
    /// leaves the payout inconclusive. `invalid_parameters` is (H).
    #[serde(default = "defaults::refusal_titles")]
    pub refusal_titles: Vec<String>,
    /// Longest reference, in characters: 18 as in v1, because schemes in the United Kingdom carry no more (ASSUMED for v3).
    #[serde(default = "defaults::reference_max")]
    pub reference_max: usize,
    /// DNS, TCP and TLS together.
    #[serde(default = "defaults::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// The whole of a token request.
    #[serde(default = "defaults::timeout_ms")]
    pub token_timeout_ms: u64,
    /// The whole of a question: a look, merchant accounts.
    #[serde(default = "defaults::timeout_ms")]
    pub read_timeout_ms: u64,
    /// Largest answer that is read, in bytes.
    #[serde(default = "defaults::response_limit_bytes")]
    pub response_limit_bytes: usize,
    /// The shortest time between two fetches of the provider's keys that an unknown key id can cause.
    #[serde(default = "defaults::jwks_refetch_ms")]
    pub jwks_refetch_ms: u64,
    #[serde(default)]
    pub profile: profile::Overrides,
}

mod defaults {
    pub(super) fn scope() -> String {
        "payments".to_owned()
    }
    pub(super) fn refusal_titles() -> Vec<String> {
        vec!["invalid_parameters".to_owned()]
    }
    pub(super) const fn reference_max() -> usize {
        18
    }
    pub(super) const fn connect_timeout_ms() -> u64 {
        5_000
    }
    pub(super) const fn timeout_ms() -> u64 {
        10_000
    }
    pub(super) const fn response_limit_bytes() -> usize {
        256 * 1024
    }
    pub(super) const fn jwks_refetch_ms() -> u64 {
        30_000
    }
}

impl Settings {
    fn limits(&self) -> Limits {
        Limits { connect: Duration::from_millis(self.connect_timeout_ms), body: self.response_limit_bytes, ..Limits::default() }
    }
}

/// The client of one account. Knows nothing of payouts' states: same question, same translation, however often.
pub struct Client {
    settings: Settings,
    api: net::Client,
    tokens: Tokens,
    signing: SigningKey,
    profile: Profile,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("api", &self.api).finish_non_exhaustive()
    }
}

const PAYOUTS: &str = "/v3/payouts";

impl Client {
    /// Checks the settings and parses the key, once. In live mode every address must be https.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the setting.
    pub fn new(settings: Settings, mode: Mode, provider: Provider) -> Result<Self, SetupError> {
        if settings.client_id.is_empty() || settings.kid.is_empty() || settings.jku.is_empty() {
            return Err(SetupError::Empty);
        }
        if settings.merchant_accounts.is_empty() {
            return Err(SetupError::NoMerchantAccounts);
        }
        check_accounts(&settings.merchant_accounts).map_err(|currency| SetupError::MerchantAccount { currency, source: NotAnAccount })?;
        let tls_only = mode == Mode::Live;
        let signing = SigningKey::from_pem(settings.kid.as_str(), settings.private_key_pem.expose_secret()).map_err(SetupError::PrivateKey)?;
        if signing.algorithm() != Algorithm::Es512 {
            return Err(SetupError::PrivateKey(KeyError::OtherKind));
        }
        let credentials = Credentials {
            client_id: settings.client_id.clone(),
            client_secret: settings.client_secret.clone(),
            scope: settings.scope.clone(),
            timeout: Duration::from_millis(settings.token_timeout_ms),
        };
        let mut profile = profile(provider).with(&settings.profile);
        profile.limits.reference = settings.reference_max;
        let auth = net::Client::new(&settings.auth_url, tls_only, settings.limits()).map_err(SetupError::AuthUrl)?;
        Ok(Self {
            api: net::Client::new(&settings.base_url, tls_only, settings.limits()).map_err(SetupError::BaseUrl)?,
            tokens: Tokens::new(auth, credentials),
            signing,
            profile,
            settings,
        })
    }

    /// The profile with the configured values.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The exact bytes of the create request, to be stored and sent, and sent again, as they are. The same order makes the same bytes.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`], for what the provider would refuse anyway.
    pub fn prepare(&self, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
        let problem = |field, why| FieldProblem { field, why };
        let Order { key, money, beneficiary, context_code: _ } = *order;
        let currency = money.currency().code();
        let account = self.settings.merchant_accounts.get(currency).ok_or(problem("merchant_account_id", "is not configured for this currency"))?;
        let account_identifier = match &beneficiary.destination {
            Destination::Iban(iban) => wire::AccountIdentifier::Iban { iban: iban.as_str().to_owned() },
            Destination::UkAccount { sort_code, account_number } => wire::AccountIdentifier::SortCodeAccountNumber {
                sort_code: sort_code.as_str().to_owned(),
                account_number: account_number.as_str().to_owned(),
            },
            Destination::UsAccount { .. }
            | Destination::Card { .. }
            | Destination::CardToken(_)
            | Destination::NetworkToken { .. }
            | Destination::ApplePay { .. }
            | Destination::OwnAccount => return Err(problem("destination", "must be an IBAN, or a sort code and account number")),
        };
        if beneficiary.reference.as_str().chars().count() > self.settings.reference_max {
            return Err(problem("reference", "is longer than this provider takes"));
        }
        let create = wire::CreatePayout {
            merchant_account_id: account.clone(),
            amount_in_minor: money.minor(),
            currency: currency.to_owned(),
            beneficiary: wire::Beneficiary::ExternalAccount {
                account_holder_name: beneficiary.name.as_str().to_owned(),
                account_identifier,
                reference: beneficiary.reference.as_str().to_owned(),
            },
            scheme_selection: self.settings.scheme_selection.clone(),
            metadata: BTreeMap::from([(wire::METADATA_KEY.to_owned(), key.to_string())]),
        };
        serde_json::to_vec(&create).map_err(|_| problem("metadata", "could not be written"))
    }

    /// Sends a prepared request, at most once per accepted token, and says how that ended. `within` bounds everything, a token included.
    ///
    /// No byte of the body leaves after `send_by`, which is compared with the system clock after the connection is there.
    /// While the provider remembers the key, repeating it is safe for its money, and tells the id that a lost answer held.
    pub async fn submit(&self, prepared: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        let create = serde_json::from_slice::<wire::CreatePayout>(prepared).ok();
        let Some(key) = create.and_then(|create| create.key()) else { return not_sent("unreadable_request") };
        if clock::now() > send_by {
            return not_sent("send_by_passed");
        }
        let deadline = Instant::now() + within;
        let (key, body) = (key.to_string(), Bytes::copy_from_slice(prepared));
        let mut refreshed = false;
        loop {
            let (token, serial) = match self.tokens.get(deadline).await {
                Ok(token) => token,
                // After a 401 the request was refused once and not sent again: that is what the 401 said.
                Err(_) if refreshed => return unprocessed("unauthorized", None),
                Err(why) => return not_sent(why),
            };
            let call = match self.signed(&key, body.clone(), remaining(deadline)) {
                Ok(call) => call.header(header::AUTHORIZATION, token).send_by(send_by),
                Err(_) => return not_sent("signing_failed"),
            };
            let response = match self.api.call(call).await {
                Ok(response) => response,
                Err(Failure::NotSent(why)) => return not_sent(why),
                Err(Failure::Ambiguous(why)) => return no_answer(why),
            };
            let problem = response.json::<wire::Problem>();
            let trace_id = problem.as_ref().and_then(|problem| problem.trace_id.as_deref()).map(sanitised).unwrap_or_default();
            tracing::debug!(status = response.status.as_u16(), trace_id, "the provider answered a payout");
            let bad_signature = problem.as_ref().is_some_and(is_bad_signature);
            if response.status == StatusCode::UNAUTHORIZED && !refreshed && !bad_signature {
                refreshed = true;
                self.tokens.forget(serial).await;
                continue;
            }
            return match response.status {
                StatusCode::UNAUTHORIZED => unprocessed(if bad_signature { "invalid_signature" } else { "unauthorized" }, None),
                status => self.answer(status, problem.as_ref(), &response),
            };
        }
    }

    fn answer(&self, status: StatusCode, problem: Option<&wire::Problem>, response: &Response) -> Answer {
        let ambiguous = || no_answer(&format!("status_{}", status.as_u16()));
        match status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => accepted(response),
            StatusCode::FORBIDDEN => unprocessed("forbidden", None),
            StatusCode::TOO_MANY_REQUESTS => unprocessed("rate_limited", response.retry_after(clock::now())),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => match problem.map(|problem| (problem.code(), problem)) {
                Some((code, _)) if status == StatusCode::UNPROCESSABLE_ENTITY && code == KEY_REUSE => Answer::KeyConflict,
                Some((code, problem)) if self.settings.refusal_titles.contains(&code) => Answer::Refused { reason: Reason::new(&problem.reason()) },
                Some(_) | None => ambiguous(),
            },
            _ => ambiguous(),
        }
    }

    /// Asks for one attempt by the provider's id. Changes nothing at the provider.
    ///
    /// Without an id there is nothing to ask by: [`Look::Nothing`] with [`NO_REFERENCE`]. Never [`Look::NotFound`], because an id that the provider told us
    /// cannot be unknown to it.
    pub async fn look(&self, inquiry: &Inquiry<'_>) -> Look {
        match self.find(inquiry).await {
            Ok(payout) => Look::Found(report(&payout)),
            Err(ReadError { why }) => Look::Nothing { why },
        }
    }

    /// The accounts at the provider.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn merchant_accounts(&self) -> Result<Vec<wire::MerchantAccount>, ReadError> {
        let call = |within| Call::new(Method::GET, "/v3/merchant-accounts", within);
        let response = self.tokens.read(&self.api, call, self.read_deadline()).await?;
        usable::<wire::MerchantAccounts>(&response).map(|accounts| accounts.items)
    }

    async fn find(&self, inquiry: &Inquiry<'_>) -> Result<wire::Payout, ReadError> {
        let Some(ProviderReference(id)) = inquiry.reference else { return Err(ReadError::new(NO_REFERENCE)) };
        if !is_plain_id(id) {
            return Err(ReadError::new("unreadable_reference"));
        }
        let call = |within| Call::new(Method::GET, format!("{PAYOUTS}/{id}"), within);
        let response = self.tokens.read(&self.api, call, self.read_deadline()).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Err(ReadError::new("reference_unknown"));
        }
        let payout: wire::Payout = usable(&response)?;
        let others = payout.metadata.as_ref().is_some_and(|metadata| wire::key_in(metadata).is_some_and(|key| key != inquiry.key));
        if payout.id == *id && !others { Ok(payout) } else { Err(ReadError::new("other_payout")) }
    }

    fn signed(&self, key: &str, body: Bytes, within: Duration) -> Result<Call, KeyError> {
        let value = |text: &str| HeaderValue::try_from(text).map_err(|_| KeyError::Failed);
        let signature = self.signing.sign_request(&Method::POST, &self.api.path(PAYOUTS), &[("Idempotency-Key", key)], &body, None)?;
        let call = Call::new(Method::POST, PAYOUTS, within).header(IDEMPOTENCY_KEY, value(key)?).header(REQUEST_SIGNATURE, value(&signature)?);
        Ok(call.body("application/json", body))
    }

    fn read_deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.read_timeout_ms)
    }
}

/// The code of the title of a key that was used with other content (H).
const KEY_REUSE: &str = "idempotency_key_reuse";

/// A 401 that no fresh token heals (H): its detail is the only sign.
fn is_bad_signature(problem: &wire::Problem) -> bool {
    problem.detail.as_ref().is_some_and(|detail| detail.to_ascii_lowercase().contains("signature"))
}

/// An acceptance is worth nothing without the id that it tells: then the same request has to be sent again.
fn accepted(response: &Response) -> Answer {
    match response.json::<wire::Created>().filter(|created| is_plain_id(&created.id)) {
        Some(created) => Answer::Says(Report {
            status: Status::Authorised,
            provider_status: "pending".to_owned(),
            at: None,
            reference: Some(ProviderReference(created.id)),
            amount: None,
        }),
        None => no_answer("unreadable"),
    }
}

/// Our word for theirs (H). `executed` can be left for `failed` when the money comes back; documents differ on whether a look ever shows that.
fn status(word: &str, reason: Option<&str>) -> Status {
    let code = || Reason::new(reason.unwrap_or_default());
    match word {
        "pending" | "authorized" => Status::Authorised,
        "executed" => Status::Settled,
        "failed" if reason == Some("returned") => Status::Returned { reason: code() },
        "failed" => Status::Failed { reason: code() },
        _ => Status::Unmapped,
    }
}

fn report(payout: &wire::Payout) -> Report {
    let at = match payout.status.as_str() {
        "pending" => payout.created_at,
        "executed" => payout.executed_at,
        "failed" => payout.failed_at,
        _ => None,
    };
    let currency = Currency::parse(&payout.currency).ok();
    Report {
        status: status(&payout.status, payout.failure_reason.as_deref()),
        provider_status: sanitised(&payout.status),
        at: at.map(|moment| moment.0),
        reference: Some(ProviderReference(payout.id.clone())),
        amount: currency.and_then(|currency| Money::new(payout.amount_in_minor, currency).ok()),
    }
}

#[cfg(test)]
mod tests;
