//! TrueLayer Payouts API v1: the client face, and the settings of both faces.
//!
//! The client translates: an order into the exact bytes of a request, and what comes back into [`Answer`] and [`Look`]. The provider's webhooks are read
//! in [`inbox`], the types on the wire are in [`wire`], and [`sandbox`] is the server that speaks the same wire. The table of answers:
//!
//! | what came back to a create | answer |
//! |---|---|
//! | no body byte left: DNS, connect, TLS, no token, `send_by` passed | [`Answer::NotSent`] |
//! | 200, 202 (the body is ignored) | [`Answer::Says`], authorised |
//! | 400, 422 with one of the [`Settings::refusal_codes`] | [`Answer::Refused`] |
//! | 401 after one fresh token, 403, 429, or the code `invalid_signature` | [`Answer::Unprocessed`] |
//! | the code `duplicate_transaction_id` with 400, 409 or 422 | what a look finds, if amount and account agree; else [`Answer::KeyConflict`] |
//! | everything else: 404, 408, 5xx, resets, deadlines, unreadable errors | [`Answer::NoAnswer`] |
//!
//! Labels: **(H)** read in the provider's documents or libraries, **ASSUMED** found nowhere and therefore a setting or harmless.

pub mod inbox;
mod jwks;
pub(crate) mod proof;
pub mod sandbox;
pub(crate) mod token;
pub mod wire;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use domain::destination::{Beneficiary, Destination, Iban};
use domain::fact::{Answer, Look, Provider, Reason, Report, Status};
use domain::id::{Mode, ProviderKey};
use domain::money::{Currency, Money};
use domain::wait::Polling;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::time::Instant;

use self::token::{Credentials, Tokens};
use crate::clock;
use crate::http as net;
use crate::http::{Call, Failure, Limits, Response, Unread};
use crate::jws::{KeyError, SigningKey};
use crate::profile::{self, AmountFormat, KeyFormat, NoticeProof, Profile};
pub use crate::reading::ReadError;
use crate::reading::{NotAnAccount, no_answer, not_sent, remaining, sanitised, unprocessed, usable};
use crate::{FieldProblem, Line, Statement};

/// The header of body-only signatures (H).
pub const BODY_SIGNATURE: HeaderName = HeaderName::from_static("x-tl-signature");
/// The header of signatures over the whole request (H).
pub const REQUEST_SIGNATURE: HeaderName = HeaderName::from_static("tl-signature");

/// The provider's addresses (H).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hosts {
    pub api: &'static str,
    pub auth: &'static str,
    pub jwks: &'static str,
}

/// The provider's addresses for test and for live credentials (H).
#[must_use]
pub const fn hosts(mode: Mode) -> Hosts {
    match mode {
        Mode::Test => Hosts {
            api: "https://payouts.truelayer-sandbox.com",
            auth: "https://auth.truelayer-sandbox.com",
            jwks: "https://webhooks.truelayer-sandbox.com/.well-known/jwks",
        },
        Mode::Live => Hosts {
            api: "https://payouts.truelayer.com",
            auth: "https://auth.truelayer.com",
            jwks: "https://webhooks.truelayer.com/.well-known/jwks",
        },
    }
}

/// The built-in profile. That duplicates are recognised by their `transaction_id` is (H); that this lasts as long as the payout, the
/// propagation time and the plan of polls are ASSUMED.
#[must_use]
pub fn profile() -> Profile {
    let seconds = SignedDuration::from_secs;
    Profile {
        provider: Provider::Truelayer,
        api: "TrueLayer Payouts API v1",
        key: KeyFormat::Uuid,
        recognises_duplicates: true,
        retention: None,
        looked_up_by_our_key: true,
        propagation: seconds(30),
        not_found_is_final: false,
        polling: Polling { waits: [1, 5, 30, 120, 600, 1800].map(seconds).to_vec(), bound: SignedDuration::from_hours(72) },
        last_words: &["settled", "failed", "rejected"],
        cancelable: false,
        one_open_per_balance: false,
        batch_max: None,
        amount: AmountFormat::MinorUnits,
        limits: profile::Limits { beneficiary_name: wire::MAX_TEXT, reference: wire::MAX_TEXT, reference_min: None },
        destinations: &["iban"],
        currencies: None,
        notices: NoticeProof::Signature,
        told_by_reference: false,
        lists_payouts: true,
        unavailable_means_unprocessed: false,
        side_effects: &[],
        cut_offs: &[],
    }
}

/// How requests are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Generation {
    /// `X-TL-Signature` over the body, as the v1 API was first documented (H).
    #[default]
    Body,
    /// `Tl-Signature` over method, path, `Idempotency-Key` and body, as in its later documentation (H).
    Request,
}

/// Credentials and bounds of one account at TrueLayer. `Debug` shows no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Scheme, host and port of the API; a path is put before every path. See [`hosts`].
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
    #[serde(default)]
    pub signature: Generation,
    /// The scope of tokens: `payouts` for v1 (H).
    #[serde(default = "defaults::scope")]
    pub scope: String,
    /// Error codes which, with 400 or 422, mean that the payout will not be made. Only codes that certainly mean that belong here:
    /// any other leaves the payout inconclusive. `validation_error` is (H), `invalid_request` ASSUMED.
    #[serde(default = "defaults::refusal_codes")]
    pub refusal_codes: Vec<String>,
    /// DNS, TCP and TLS together.
    #[serde(default = "defaults::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// The whole of a token request.
    #[serde(default = "defaults::token_timeout_ms")]
    pub token_timeout_ms: u64,
    /// The whole of a question: a look, balances, transactions.
    #[serde(default = "defaults::read_timeout_ms")]
    pub read_timeout_ms: u64,
    /// Largest answer that is read, in bytes.
    #[serde(default = "defaults::response_limit_bytes")]
    pub response_limit_bytes: usize,
    /// Whether webhooks with only the older body signature (`X-TL-Signature`, RS512) are accepted.
    #[serde(default = "defaults::accept_legacy_notices")]
    pub accept_legacy_notices: bool,
    /// The shortest time between two fetches of the provider's keys that an unknown key id can cause.
    #[serde(default = "defaults::jwks_refetch_ms")]
    pub jwks_refetch_ms: u64,
    #[serde(default)]
    pub profile: profile::Overrides,
}

mod defaults {
    pub(super) fn scope() -> String {
        "payouts".to_owned()
    }
    pub(super) fn refusal_codes() -> Vec<String> {
        vec!["validation_error".to_owned(), "invalid_request".to_owned()]
    }
    pub(super) const fn connect_timeout_ms() -> u64 {
        5_000
    }
    pub(super) const fn token_timeout_ms() -> u64 {
        10_000
    }
    pub(super) const fn read_timeout_ms() -> u64 {
        10_000
    }
    pub(super) const fn response_limit_bytes() -> usize {
        256 * 1024
    }
    pub(super) const fn accept_legacy_notices() -> bool {
        true
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

/// Why a connector could not be set up. Names the setting, never its value if that is secret.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("base_url")]
    BaseUrl(#[source] net::ClientError),
    #[error("auth_url")]
    AuthUrl(#[source] net::ClientError),
    #[error("jku")]
    Jku(#[source] net::ClientError),
    #[error("private_key_pem")]
    PrivateKey(#[source] KeyError),
    /// Of v3 only.
    #[error("merchant_accounts")]
    NoMerchantAccounts,
    /// Of v3 only.
    #[error("merchant_accounts.{currency}")]
    MerchantAccount { currency: String, source: NotAnAccount },
    #[error("client_id, kid and jku must not be empty")]
    Empty,
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

const PAYOUTS: &str = "/v1/payouts";
/// Questions for one statement, at most.
const STATEMENT_CALLS_MAX: u32 = 256;
/// The half of a period that is not halved again.
const SHORTEST_PERIOD: SignedDuration = SignedDuration::from_millis(1);

impl Client {
    /// Checks the settings and parses the key, once. In live mode every address must be https.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the setting.
    pub fn new(settings: Settings, mode: Mode) -> Result<Self, SetupError> {
        if settings.client_id.is_empty() || settings.kid.is_empty() || settings.jku.is_empty() {
            return Err(SetupError::Empty);
        }
        let tls_only = mode == Mode::Live;
        let signing = SigningKey::from_pem(settings.kid.as_str(), settings.private_key_pem.expose_secret()).map_err(SetupError::PrivateKey)?;
        if signing.algorithm() != crate::jws::Algorithm::Es512 {
            return Err(SetupError::PrivateKey(KeyError::OtherKind));
        }
        Ok(Self {
            api: net::Client::new(&settings.base_url, tls_only, settings.limits()).map_err(SetupError::BaseUrl)?,
            tokens: Tokens::new(
                net::Client::new(&settings.auth_url, tls_only, settings.limits()).map_err(SetupError::AuthUrl)?,
                Credentials {
                    client_id: settings.client_id.clone(),
                    client_secret: settings.client_secret.clone(),
                    scope: settings.scope.clone(),
                    timeout: Duration::from_millis(settings.token_timeout_ms),
                },
            ),
            signing,
            profile: profile().with(&settings.profile),
            settings,
        })
    }

    /// The profile with the configured values.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The exact bytes of the create request, to be stored and sent, and sent again, as they are. The same arguments make the same bytes.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`], for what the provider would refuse anyway.
    pub fn prepare(key: ProviderKey, money: Money, beneficiary: &Beneficiary, context_code: &str) -> Result<Vec<u8>, FieldProblem> {
        let problem = |field, why| FieldProblem { field, why };
        let Destination::Iban(iban) = &beneficiary.destination else {
            return Err(problem("beneficiary_iban", "is required: this provider pays to an IBAN only"));
        };
        let text = |field, text: &str| match text.chars().count() {
            0 => Err(problem(field, "must not be empty")),
            1..=wire::MAX_TEXT => Ok(text.to_owned()),
            _ => Err(problem(field, "must be at most 18 characters")),
        };
        if !wire::CONTEXT_CODES.contains(&context_code) {
            return Err(problem("context_code", "must be withdrawal, service_payment or internal"));
        }
        let create = wire::CreatePayout {
            transaction_id: key.as_uuid(),
            beneficiary_name: text("beneficiary_name", beneficiary.name.as_str())?,
            beneficiary_iban: iban.as_str().to_owned(),
            beneficiary_reference: text("beneficiary_reference", beneficiary.reference.as_str())?,
            currency: money.currency().code().to_owned(),
            amount_in_minor: money.minor(),
            context_code: context_code.to_owned(),
        };
        serde_json::to_vec(&create).map_err(|_| problem("transaction_id", "could not be written"))
    }

    /// Sends a prepared request, at most once per accepted token, and says how that ended. `within` bounds everything, a token included.
    ///
    /// No byte of the body leaves after `send_by`, which is compared with the system clock after the connection is there.
    /// Repeating it is safe for the provider's money, because the key is in the bytes, but it is the caller's decision whether to.
    pub async fn submit(&self, body: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        let Ok(create) = serde_json::from_slice::<wire::CreatePayout>(body) else { return not_sent("unreadable_request") };
        if clock::now() > send_by {
            return not_sent("send_by_passed");
        }
        let deadline = Instant::now() + within;
        let body = Bytes::copy_from_slice(body);
        let mut refreshed = false;
        loop {
            let (token, serial) = match self.tokens.get(deadline).await {
                Ok(token) => token,
                // After a 401 the request was refused once and not sent again: that is what the 401 said.
                Err(_) if refreshed => return unprocessed("unauthorized", None),
                Err(why) => return not_sent(why),
            };
            let call = match self.signed(&create, body.clone(), remaining(deadline)) {
                Ok(call) => call.header(header::AUTHORIZATION, token).send_by(send_by),
                Err(_) => return not_sent("signing_failed"),
            };
            let response = match self.api.call(call).await {
                Ok(response) => response,
                Err(Failure::NotSent(why)) => return not_sent(why),
                Err(Failure::Ambiguous(why)) => return no_answer(why),
            };
            let error = response.json::<wire::ErrorBody>();
            let code = error.as_ref().map_or("", |error| error.error.as_str());
            tracing::debug!(status = response.status.as_u16(), correlation_id = correlation(&response), "the provider answered a payout");
            return match response.status {
                StatusCode::OK | StatusCode::ACCEPTED => {
                    Answer::Says(Report { status: Status::Authorised, provider_status: "new".to_owned(), at: None, reference: None, amount: None })
                }
                StatusCode::UNAUTHORIZED if !refreshed && code != INVALID_SIGNATURE => {
                    refreshed = true;
                    self.tokens.forget(serial).await;
                    continue;
                }
                StatusCode::UNAUTHORIZED => unprocessed(if code == INVALID_SIGNATURE { code } else { "unauthorized" }, None),
                StatusCode::FORBIDDEN => unprocessed("forbidden", None),
                StatusCode::TOO_MANY_REQUESTS => unprocessed("rate_limited", response.retry_after(clock::now())),
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY | StatusCode::CONFLICT if code == DUPLICATE => {
                    self.adopt(&create, deadline).await
                }
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if code == INVALID_SIGNATURE => unprocessed(code, None),
                StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY if self.settings.refusal_codes.iter().any(|known| known == code) => {
                    Answer::Refused { reason: Reason::new(&error.map(|error| error.code()).unwrap_or_default()) }
                }
                status => no_answer(&format!("status_{}", status.as_u16())),
            };
        }
    }

    /// Asks for the attempt under that key. Changes nothing at the provider, so it can be repeated at will.
    ///
    /// Whether amount and currency are ours is for the caller to compare.
    pub async fn look(&self, key: ProviderKey) -> Look {
        match self.find(key, self.read_deadline()).await {
            Ok(Some(payout)) => Look::Found(report(&payout)),
            Ok(None) => Look::NotFound,
            Err(ReadError { why }) => Look::Nothing { why },
        }
    }

    /// Payouts and top-ups of a period, all of it in one answer: the API has no pages (H).
    ///
    /// # Errors
    ///
    /// [`ReadError`], also when the answer is larger than [`Settings::response_limit_bytes`]: ask for a shorter period.
    pub async fn transactions(
        &self,
        from: Timestamp,
        to: Timestamp,
        kind: Option<TransactionKind>,
        currency: Option<Currency>,
    ) -> Result<Vec<wire::Transaction>, ReadError> {
        let response = self.list(from, to, kind, currency).await?;
        usable::<wire::Many<wire::Transaction>>(&response).map(|many| many.results)
    }

    /// The payouts of a period. What is too much for one answer is asked for in halves.
    ///
    /// That the period is about when payouts were made is ASSUMED.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn statement(&self, from: Timestamp, to: Timestamp, lines_max: usize) -> Result<Statement, ReadError> {
        let mut found: BTreeMap<uuid::Uuid, Line> = BTreeMap::new();
        let (mut periods, mut calls) = (vec![(from, to)], 0);
        while let Some((from, to)) = periods.pop() {
            if calls == STATEMENT_CALLS_MAX || found.len() >= lines_max {
                return Ok(Statement { lines: found.into_values().collect(), whole: false });
            }
            calls += 1;
            let response = self.list(from, to, Some(TransactionKind::Payout), None).await?;
            let half = to.duration_since(from) / 2;
            if matches!(response.body, Err(Unread::TooLarge)) && half >= SHORTEST_PERIOD {
                let between = from.saturating_add(half).unwrap_or(to);
                // Both ends belong to a period (ASSUMED): what is told twice is one payout, because its id is.
                periods.extend([(between, to), (from, between)]);
                continue;
            }
            for transaction in usable::<wire::Many<wire::Transaction>>(&response)?.results {
                if let wire::Transaction::Payout(payout) = transaction {
                    found.insert(payout.transaction_id, line(&payout));
                }
            }
        }
        let whole = found.len() <= lines_max;
        Ok(Statement { lines: found.into_values().take(lines_max).collect(), whole })
    }

    async fn list(&self, from: Timestamp, to: Timestamp, kind: Option<TransactionKind>, currency: Option<Currency>) -> Result<Response, ReadError> {
        let call = |within| {
            let mut call = Call::new(Method::GET, "/v1/transactions", within)
                .query("from", wire::Moment(from).to_string())
                .query("to", wire::Moment(to).to_string());
            if let Some(kind) = kind {
                call = call.query("type", kind.name());
            }
            if let Some(currency) = currency {
                call = call.query("currency", currency.code());
            }
            call
        };
        self.tokens.read(&self.api, call, self.read_deadline()).await
    }

    /// The accounts at the provider, one per currency.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub async fn balances(&self) -> Result<Vec<wire::Balance>, ReadError> {
        let response = self.tokens.read(&self.api, |within| Call::new(Method::GET, "/v1/balances", within), self.read_deadline()).await?;
        usable::<wire::Many<wire::Balance>>(&response).map(|many| many.results)
    }

    /// Adopts what the provider has under the key of a request that it called a duplicate.
    async fn adopt(&self, create: &wire::CreatePayout, deadline: Instant) -> Answer {
        match self.find(ProviderKey::from_uuid(create.transaction_id), deadline).await {
            Ok(Some(payout)) => {
                let account = |text: &str| Iban::parse(text).map(|iban| iban.as_str().to_owned()).ok();
                let same = payout.amount_in_minor == create.amount_in_minor
                    && payout.currency == create.currency
                    && account(&payout.beneficiary_iban) == account(&create.beneficiary_iban);
                if same { Answer::Says(report(&payout)) } else { Answer::KeyConflict }
            }
            Ok(None) | Err(ReadError { .. }) => no_answer(DUPLICATE),
        }
    }

    async fn find(&self, key: ProviderKey, deadline: Instant) -> Result<Option<wire::Payout>, ReadError> {
        let response = self.tokens.read(&self.api, |within| Call::new(Method::GET, format!("{PAYOUTS}/{}", key.as_uuid()), within), deadline).await?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let payout = usable::<wire::One<wire::Payout>>(&response)?.result;
        if payout.transaction_id == key.as_uuid() { Ok(Some(payout)) } else { Err(ReadError::new("other_payout")) }
    }

    fn signed(&self, create: &wire::CreatePayout, body: Bytes, within: Duration) -> Result<Call, KeyError> {
        let value = |text: String| HeaderValue::try_from(text).map_err(|_| KeyError::Failed);
        let call = Call::new(Method::POST, PAYOUTS, within);
        let call = match self.settings.signature {
            Generation::Body => call.header(BODY_SIGNATURE, value(self.signing.sign_body(&body, None)?)?),
            Generation::Request => {
                let key = create.transaction_id.to_string();
                let signature = self.signing.sign_request(&Method::POST, &self.api.path(PAYOUTS), &[("Idempotency-Key", &key)], &body, None)?;
                call.header(HeaderName::from_static("idempotency-key"), value(key)?).header(REQUEST_SIGNATURE, value(signature)?)
            }
        };
        Ok(call.body("application/json", body))
    }

    fn read_deadline(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.settings.read_timeout_ms)
    }
}

/// ASSUMED: the code of a signature that did not verify.
const INVALID_SIGNATURE: &str = "invalid_signature";
/// ASSUMED: the code of a second request under a known `transaction_id`, where it is not answered with 202.
const DUPLICATE: &str = "duplicate_transaction_id";

/// What `GET /v1/transactions` can be narrowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionKind {
    Payout,
    TopUp,
}

impl TransactionKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Payout => "payout",
            Self::TopUp => "topup",
        }
    }
}

/// The id under which the provider's support finds an answer (H).
fn correlation(response: &Response) -> &str {
    response.headers.get("x-tl-correlation-id").and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Our word for theirs (H), except that a return is a failure with the code `returned` (ASSUMED: v1 documents no returns).
fn status(word: &str, code: Option<&str>) -> Status {
    let reason = || Reason::new(code.unwrap_or_default());
    match word {
        "new" | "authorised" => Status::Authorised,
        "submitted" => Status::Submitted,
        "settled" => Status::Settled,
        "rejected" => Status::Rejected { reason: reason() },
        "failed" if code == Some("returned") => Status::Returned { reason: reason() },
        "failed" => Status::Failed { reason: reason() },
        _ => Status::Unmapped,
    }
}

fn report(payout: &wire::Payout) -> Report {
    let word = payout.status.as_str();
    let at = match word {
        "authorised" => payout.authorised_at,
        "submitted" => payout.submitted_at,
        "settled" => payout.settled_at,
        "rejected" => payout.rejected_at,
        "failed" => payout.failed_at,
        _ => None,
    };
    let currency = Currency::parse(&payout.currency).ok();
    Report {
        status: status(word, payout.rejection_code.as_deref().or(payout.failure_code.as_deref())),
        provider_status: sanitised(word),
        at: at.map(|moment| moment.0),
        reference: None,
        amount: currency.and_then(|currency| Money::new(payout.amount_in_minor, currency).ok()),
    }
}

fn line(payout: &wire::Payout) -> Line {
    let told = [payout.authorised_at, payout.submitted_at, payout.settled_at, payout.failed_at, payout.rejected_at];
    let at = told.into_iter().flatten().map(|moment| moment.0).min();
    Line { key: Some(ProviderKey::from_uuid(payout.transaction_id)), at, report: report(payout) }
}

#[cfg(test)]
mod tests;
