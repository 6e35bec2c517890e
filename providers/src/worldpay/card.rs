//! Worldpay card payouts: money to cards, versions 2 to 4. The client face, and its settings.
//!
//! The table of answers is that of [`super`], and for a 201, which by itself says nothing:
//!
//! | outcome of a create | answer |
//! |---|---|
//! | `requestReceived`, `requested`, `inReview` | [`Answer::Says`], authorised |
//! | `pending` | [`Answer::Says`], submitted |
//! | `approved`, `disbursed` | [`Answer::Says`], settled |
//! | `refused` | [`Answer::Refused`] |
//! | `queryRequired` (versions 2 and 3) | what its link tells at once, if that is definite; else [`Answer::NoAnswer`] |
//! | `error`, no outcome that can be read | [`Answer::NoAnswer`] |
//!
//! **Duplicates are not recognised** (ASSUMED, there being no word about them): the same request twice pays twice, so nothing may be sent again. An attempt is
//! looked up by its link, and before that is known by a query for our reference. What "not found" is worth depends on the version:
//! versions 2 and 3 have an outcome of that name, which is final once no byte can be on its way any more ([`Profile::not_found_is_final`]); their 404 is no
//! evidence. Version 4 has nothing conclusive: its 404 is [`Look::NotFound`], and never final.

pub mod inbox;
mod request;
pub mod wire;

use std::time::Duration;

use bytes::Bytes;
use domain::fact::{Answer, Look, Provider, ProviderReference, Reason, Report, Status};
use domain::id::{Mode, ProviderKey};
use domain::wait::Polling;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::request::Prepared;
use self::wire::PAYOUTS;
use super::access::{Access, Version};
use super::signature::EventKey;
use super::{SetupError, access, key_text, no_answer, not_accepted, not_sent, sanitised, time_of, unanswered, usable};
use crate::ReadError;
use crate::http::Response;
use crate::profile::{self, AmountFormat, KeyFormat, NoticeProof, Profile};
use crate::{FieldProblem, Inquiry, Order, clock};

/// Which version of the API is spoken (H).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApiVersion {
    V2,
    V3,
    #[default]
    V4,
}

impl ApiVersion {
    /// In `Accept` and `Content-Type` (H).
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::V2 => "application/vnd.worldpay.payouts-v2+json",
            Self::V3 => "application/vnd.worldpay.payouts-v3+json",
            Self::V4 => "application/vnd.worldpay.payouts-v4+json",
        }
    }

    fn asked(self) -> Version {
        Version::MediaType(self.media_type().to_owned())
    }
}

/// By which way a payout goes (H).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// As a refund, in days. With version 3 and 4 also to expired cards (H).
    #[default]
    BasicDisbursement,
    /// Visa Direct or Mastercard Send, in minutes (H).
    FastAccess,
}

impl Endpoint {
    const fn relation(self) -> &'static str {
        match self {
            Self::BasicDisbursement => "payouts:basicDisbursement",
            Self::FastAccess => "payouts:fastAccess",
        }
    }

    const fn path(self) -> &'static str {
        match self {
            Self::BasicDisbursement => "/payouts/basicDisbursement",
            Self::FastAccess => "/payouts/fastAccess",
        }
    }
}

/// The network that a card with two of them prefers; in the United States (H).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardBrand {
    Maestro,
    Mastercard,
}

/// Credentials and choices of one account. `Debug` shows no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub access: access::Settings,
    /// Who pays: 1 to 32 letters, digits and spaces (H).
    pub entity: String,
    #[serde(default)]
    pub version: ApiVersion,
    #[serde(default)]
    pub endpoint: Endpoint,
    /// Fast access only.
    #[serde(default)]
    pub preferred_card_brand: Option<CardBrand>,
    /// Fast access only: whether a payout that the scheme does not answer goes by basic disbursement. Absent: the provider's default, which is yes (H).
    #[serde(default)]
    pub fallback_to_basic: Option<bool>,
    /// The first line of every narrative, with the reference of the payout as the second; absent, the reference is the first and only line.
    #[serde(default)]
    pub narrative: Option<String>,
    /// What a narrative may hold beside letters, digits and spaces. Taken over from another API of the platform (ASSUMED).
    #[serde(default = "defaults::narrative_symbols")]
    pub narrative_symbols: String,
    /// Error names which, with 400 or 422, mean that the payout will not be made. Any other leaves it inconclusive.
    #[serde(default = "defaults::refusals")]
    pub refusals: Vec<String>,
    /// The keys of events. Without any, events are occasions to look; with them, they must be signed, and are evidence.
    #[serde(default)]
    pub event_keys: Vec<EventKey>,
    #[serde(default)]
    pub profile: profile::Overrides,
}

mod defaults {
    pub(super) fn narrative_symbols() -> String {
        "_!@#$%()*=.:;?[]{}~/+-,`^&".to_owned()
    }
    pub(super) fn refusals() -> Vec<String> {
        crate::worldpay::error::REFUSALS.map(str::to_owned).to_vec()
    }
}

/// The built-in profile, of the default version, 4. See [`profile_of`].
#[must_use]
pub fn profile(provider: Provider) -> Profile {
    profile_of(provider, ApiVersion::default())
}

/// What a version is like. That "several minutes" of propagation are 15, and the plan of polls, are ASSUMED; the 48 hours that the bound goes beyond are (H).
#[must_use]
pub fn profile_of(provider: Provider, version: ApiVersion) -> Profile {
    let seconds = SignedDuration::from_secs;
    Profile {
        provider,
        api: match version {
            ApiVersion::V2 => "Worldpay Access Card Payouts v2",
            ApiVersion::V3 => "Worldpay Access Card Payouts v3",
            ApiVersion::V4 => "Worldpay Access Card Payouts v4",
        },
        key: KeyFormat::Hex,
        recognises_duplicates: false,
        retention: None,
        looked_up_by_our_key: true,
        propagation: seconds(15 * 60),
        not_found_is_final: version < ApiVersion::V4,
        polling: Polling { waits: [30, 60, 120, 240, 480, 900, 3600].map(seconds).to_vec(), bound: SignedDuration::from_hours(49) },
        last_words: &["requestReceived", "approved", "disbursed", "refused"],
        cancelable: false,
        one_open_per_balance: false,
        batch_max: None,
        amount: AmountFormat::MinorUnits,
        limits: profile::Limits { beneficiary_name: 140, reference: wire::MAX_NARRATIVE, reference_min: None },
        destinations: &["card", "card_token", "network_token", "apple_pay"],
        currencies: None,
        notices: NoticeProof::SharedSecret,
        told_by_reference: false,
        lists_payouts: false,
        unavailable_means_unprocessed: false,
        side_effects: &[],
        cut_offs: &[],
    }
}

/// The last words of fast access alone. A basic disbursement, which fast access falls back to unless that is switched off, ends at `requestReceived` (H).
const FAST_LAST_WORDS: [&str; 3] = ["approved", "disbursed", "refused"];

/// The client of one account. Knows nothing of payouts' states: same question, same translation, however often.
pub struct Client {
    settings: Settings,
    access: Access,
    profile: Profile,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("access", &self.access).field("version", &self.settings.version).finish_non_exhaustive()
    }
}

impl Client {
    /// Checks the settings. In live mode the address must be https.
    ///
    /// # Errors
    ///
    /// [`SetupError`] names the setting.
    pub fn new(settings: Settings, mode: Mode, provider: Provider) -> Result<Self, SetupError> {
        let access = Access::new(&settings.access, mode)?;
        request::check(&settings)?;
        let mut profile = profile_of(provider, settings.version).with(&settings.profile);
        if settings.endpoint == Endpoint::FastAccess && settings.fallback_to_basic == Some(false) {
            profile.last_words = &FAST_LAST_WORDS;
        }
        if settings.event_keys.is_empty() {
            profile.notices = NoticeProof::None;
        }
        Ok(Self { access, profile, settings })
    }

    /// The profile with the configured values.
    #[must_use]
    pub const fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Everything that is needed to send: the exact body, and how it is asked for. The same order makes the same bytes. Holds the card: keep it encrypted.
    ///
    /// Whether a card has expired is left to the provider, because it depends on the day.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`], for what the provider would refuse anyway. Names the field of the order.
    pub fn prepare(&self, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
        request::prepare(&self.settings, order)
    }

    /// Sends a prepared request once and says how that ended. `within` bounds everything, the discovery of links included.
    ///
    /// No byte of the body leaves after `send_by`, which is compared with the system clock after the connection is there. **Repeating it may pay twice.**
    pub async fn submit(&self, prepared: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        let Some(prepared) = Prepared::read(prepared) else { return not_sent("unreadable_request") };
        if clock::now() > send_by {
            return not_sent("send_by_passed");
        }
        let deadline = Instant::now() + within;
        let version = prepared.version.asked();
        let path = self.path_of(prepared.endpoint.relation(), prepared.endpoint.path(), &version, deadline).await;
        let body = Bytes::copy_from_slice(prepared.body.get().as_bytes());
        let Some(call) = self.access.post(path, &version, Some(prepared.key.as_uuid()), body, deadline) else { return not_sent("unusable_version") };
        match self.access.send(call.send_by(send_by)).await {
            Ok(response) if response.status == StatusCode::CREATED => self.created(&response, &prepared, deadline).await,
            Ok(response) => not_accepted(&response, &self.settings.refusals),
            Err(failure) => unanswered(failure),
        }
    }

    /// Asks for an attempt: by its link if it is known, else by our reference. Changes nothing at the provider.
    ///
    /// The provider shows no amount, so there is none to compare. See the module for what "not found" means.
    pub async fn look(&self, inquiry: &Inquiry<'_>) -> Look {
        let deadline = self.access.read_deadline();
        let sent = Prepared::read(inquiry.request);
        let version = sent.as_ref().map_or(self.settings.version, |sent| sent.version);
        let entity = sent.map_or_else(|| self.settings.entity.clone(), |sent| sent.entity);
        if let Some(reference) = inquiry.reference.filter(|reference| wire::is_resource(&reference.0)) {
            match self.follow(&reference.0, version, inquiry.key, deadline).await {
                Ok(Some(payout)) => return judged(&payout),
                // A link that leads nowhere: the query may still know.
                Ok(None) => {}
                Err(ReadError { why }) => return Look::Nothing { why },
            }
        }
        match self.query(version, inquiry.key, &entity, deadline).await {
            Ok(Some(payout)) => judged(&payout),
            // With versions that have an outcome for it, a 404 is something else; it must not pass for final.
            Ok(None) if version.min(self.settings.version) < ApiVersion::V4 => Look::Nothing { why: Reason::new("status_404") },
            Ok(None) => Look::NotFound,
            Err(ReadError { why }) => Look::Nothing { why },
        }
    }

    /// What a 201 says.
    async fn created(&self, response: &Response, prepared: &Prepared, deadline: Instant) -> Answer {
        let Some(payout) = response.json::<wire::Payout>() else {
            // Without an outcome it may still be an error document.
            let other = not_accepted(response, &[]);
            return if other == no_answer("status_201") { no_answer("unreadable") } else { other };
        };
        match payout.outcome.as_str() {
            "refused" => Answer::Refused { reason: refusal(&payout) },
            "error" | "payoutNotFound" => no_answer(&payout.outcome),
            "queryRequired" => {
                // The link is told only here. If it already knows more, that is worth the question; what it does not know, a look will.
                let Some(resource) = payout.resource() else { return no_answer(&payout.outcome) };
                match self.follow(resource, prepared.version, prepared.key, deadline).await.map(|found| found.as_ref().map(judged)) {
                    Ok(Some(Look::Found(report))) if report.status != Status::Unmapped => Answer::Says(report),
                    _ => no_answer(&payout.outcome),
                }
            }
            _ => Answer::Says(report(&payout)),
        }
    }

    /// The payout at the end of a link; `None` if there is none now.
    async fn follow(&self, resource: &str, version: ApiVersion, key: ProviderKey, deadline: Instant) -> Result<Option<wire::Payout>, ReadError> {
        let call = self.access.get(format!("{PAYOUTS}/{resource}"), &version.asked(), Some(key.as_uuid()), deadline);
        found(&self.access.ask(call).await?)
    }

    async fn query(&self, version: ApiVersion, key: ProviderKey, entity: &str, deadline: Instant) -> Result<Option<wire::Payout>, ReadError> {
        let path = self.path_of("payouts:query", "/payouts/query", &version.asked(), deadline).await;
        let call = self.access.get(path, &version.asked(), Some(key.as_uuid()), deadline);
        let call = call.map(|call| call.query("transactionReference", key_text(key)).query("entity", entity));
        found(&self.access.ask(call).await?)
    }

    /// Two documents lead to a resource: the root to the payouts, and those to their actions.
    async fn path_of(&self, relation: &str, stable: &str, version: &Version, deadline: Instant) -> String {
        let payouts = self.access.path_of("/", version, "service:payouts", PAYOUTS, deadline).await;
        self.access.path_of(&payouts, version, relation, stable, deadline).await
    }
}

fn found(response: &Response) -> Result<Option<wire::Payout>, ReadError> {
    match response.status {
        StatusCode::NOT_FOUND => Ok(None),
        _ => usable(response).map(Some),
    }
}

/// What a look at an outcome is worth.
fn judged(payout: &wire::Payout) -> Look {
    match payout.outcome.as_str() {
        "payoutNotFound" => Look::NotFound,
        "queryRequired" => Look::Nothing { why: Reason::new("queryRequired") },
        _ => Look::Found(report(payout)),
    }
}

/// `refused.9g`: the code is the scheme's, and means something to people who know it.
fn refusal(payout: &wire::Payout) -> Reason {
    Reason::new(&payout.refusal_code.as_ref().map_or_else(|| "refused".to_owned(), |code| format!("refused.{}", sanitised(code))))
}

/// Our word for theirs (H). `error` is 48 hours of silence, or a scheme's error: nobody knows, so it is no word of ours.
fn status(payout: &wire::Payout) -> Status {
    match payout.outcome.as_str() {
        "requestReceived" | "requested" | "inReview" => Status::Authorised,
        "pending" => Status::Submitted,
        "approved" | "disbursed" => Status::Settled,
        "refused" => Status::Failed { reason: refusal(payout) },
        _ => Status::Unmapped,
    }
}

fn report(payout: &wire::Payout) -> Report {
    let status = status(payout);
    // It is when the payout was received; when it went on is not told.
    let at = if status == Status::Authorised { payout.received_at.as_deref().and_then(time_of) } else { None };
    let reference = payout.resource().map(|resource| ProviderReference(resource.to_owned()));
    Report { provider_status: sanitised(&payout.outcome), at, reference, amount: None, status }
}

#[cfg(test)]
mod tests;
