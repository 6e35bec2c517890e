//! What a caller can do about a payout that exists: take it back, have the provider asked now, decide it in review.
//!
//! Each is a fact for the domain to judge. None of them calls a provider.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use domain::credential::Scope;
use domain::fact::{Reason, Source};
use domain::id::PartyId;
use domain::payout::state::StateName;
use domain::payout::{Declined, Fact, Payout, Resolution, Resolved, What};
use workers::record::Recorded;

use super::intake::Duty;
use super::json::Fields;
use super::payouts::party_in;
use super::problem::{Errors, Kind, Problem};
use super::view::{PayoutView, result};
use super::{Ingress, json, order};

const NOTE_MAX: usize = 500;

/// `POST /v1/payouts/{transaction_id}/cancel`, with an optional body `{"reason", "party_id"}`. It moves no money, so it need not be signed.
/// A payout that is cancelled already is answered as such. One that a provider has accepted is cancelled there, where the provider can: 202, and the
/// provider decides.
pub(super) async fn cancel(State(ingress): State<Arc<Ingress>>, Path(key): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PayoutsWrite, Duty::None).await?;
    let mut errors = Errors::default();
    let mut fields = optional_body(&parts, &body, &mut errors)?;
    let reason = optional_reason(&mut fields, &mut errors);
    let party = order::party_id(&mut fields, &mut errors);
    fields.finish(&mut errors);
    errors.check()?;
    let payout = ingress.find(&caller, party, &key).await?;
    if payout.state.name() == StateName::Canceled {
        return ingress.shown(StatusCode::OK, &payout).await;
    }
    if payout.state.name().is_before_dispatch() {
        ingress.check_unsent(&payout).await?;
    }
    let why = reason.unwrap_or_else(|| Reason::new("canceled_by_caller"));
    match ingress.recorder.record(payout, &Fact::new(Source::Caller, What::Cancel { reason: why.clone() })).await? {
        Recorded::Done(payout) => ingress.shown(StatusCode::OK, &payout).await,
        Recorded::Declined(_, payout) if payout.state.name() == StateName::Canceled => ingress.shown(StatusCode::OK, &payout).await,
        // It is to be asked already, or was a moment ago.
        Recorded::Declined(_, payout) if payout.cancel_asked.is_some() => ingress.shown(StatusCode::ACCEPTED, &payout).await,
        // A provider that can cancel is asked to, by a worker: the outcome is told as any other.
        Recorded::Declined(_, payout) => match ingress.recorder.record(*payout, &Fact::new(Source::Caller, What::AskToCancel { reason: why })).await?
        {
            Recorded::Done(payout) => ingress.shown(StatusCode::ACCEPTED, &payout).await,
            Recorded::Declined(declined, payout) => Err(not_now(declined, &payout)),
            Recorded::Missing => Err(Problem::not_found("payout")),
        },
        Recorded::Missing => Err(Problem::not_found("payout")),
    }
}

/// `POST /v1/payouts/{transaction_id}/approve`, with an optional body `{"party_id"}`: a second person agrees. It lets money go, so keys that must sign
/// sign the whole request. Who has approved it already is answered as if it were now.
pub(super) async fn approve(State(ingress): State<Arc<Ingress>>, Path(key): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PayoutsApprove, Duty::Request).await?;
    let payout = ingress.find(&caller, only_party(&parts, &body)?, &key).await?;
    let by = &caller.key().owner;
    match ingress.recorder.record(payout, &Fact::new(Source::Operator, What::Approve { by: by.clone() })).await? {
        Recorded::Done(payout) => ingress.shown(StatusCode::OK, &payout).await,
        Recorded::Declined(_, payout) if payout.approved_by.as_ref() == Some(by) => ingress.shown(StatusCode::OK, &payout).await,
        Recorded::Declined(declined @ (Declined::MakerIsChecker | Declined::MakerUnknown), _) => {
            Err(Problem::new(Kind::SecondPerson, format!("Nothing was changed: {declined}.")))
        }
        Recorded::Declined(declined, payout) => Err(not_now(declined, &payout)),
        Recorded::Missing => Err(Problem::not_found("payout")),
    }
}

/// `POST /v1/payouts/{transaction_id}/check`, with an optional body `{"party_id"}`: brings the next look at the provider forward to now.
/// Asked again within a few seconds, it is answered the same and nothing more is done.
pub(super) async fn check(State(ingress): State<Arc<Ingress>>, Path(key): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::PayoutsWrite, Duty::None).await?;
    let payout = ingress.find(&caller, only_party(&parts, &body)?, &key).await?;
    match ingress.recorder.check(payout, Source::Caller).await? {
        Recorded::Done(payout) => ingress.shown(StatusCode::ACCEPTED, &payout).await,
        Recorded::Declined(declined, payout) => Err(not_now(declined, &payout)),
        Recorded::Missing => Err(Problem::not_found("payout")),
    }
}

/// `POST /v1/payouts/{transaction_id}/resolve` with `{"outcome", "reason", "evidence", "party_id"}`: an operator decides a payout in review.
/// It settles where the money is, so keys that must sign sign the whole request. The same decision again is answered as such.
pub(super) async fn resolve(State(ingress): State<Arc<Ingress>>, Path(key): Path<String>, request: Request) -> Result<Response, Problem> {
    let (caller, parts, body) = ingress.receive(request, Scope::Operator, Duty::Request).await?;
    json::check_media_type(&parts.headers)?;
    let mut errors = Errors::default();
    let mut fields = json::read(&body, &mut errors)?;
    let outcome = fields.text("outcome", &mut errors).and_then(|text| outcome(&text, &mut errors));
    let reason = fields.text("reason", &mut errors).and_then(|text| reason(&text, &mut errors));
    let evidence = fields.text("evidence", &mut errors).and_then(|text| note("/evidence", text, &mut errors));
    let party = order::party_id(&mut fields, &mut errors);
    fields.finish(&mut errors);
    let (Some(outcome), Some(reason), Some(evidence), true) = (outcome, reason, evidence, errors.is_empty()) else {
        return Err(errors.into_problem());
    };
    let payout = ingress.find(&caller, party, &key).await?;
    let resolution = Resolution { outcome, reason, evidence, by: caller.key().owner.clone(), at: ingress.recorder.store.clock().now() };
    let decided = |payout: &Payout| payout.resolution.as_ref().is_some_and(|held| Resolution { at: held.at, ..resolution.clone() } == *held);
    match ingress.recorder.record(payout, &Fact::new(Source::Operator, What::Resolve(resolution.clone()))).await? {
        Recorded::Done(payout) => ingress.shown(StatusCode::OK, &payout).await,
        Recorded::Declined(_, payout) if decided(&payout) => ingress.shown(StatusCode::OK, &payout).await,
        Recorded::Declined(declined, payout) => Err(not_now(declined, &payout)),
        Recorded::Missing => Err(Problem::not_found("payout")),
    }
}

impl Ingress {
    async fn shown(&self, status: StatusCode, payout: &Payout) -> Result<Response, Problem> {
        let beneficiary = self.recorder.store.beneficiary(payout.id).await?;
        Ok(result(status, &PayoutView::new(payout, &beneficiary)))
    }
}

impl Ingress {
    /// Fails closed: after a rollback of the store a payout that looks undispatched may be with its provider.
    ///
    /// # Errors
    /// [`Kind::NotPossibleNow`] where nobody can say whether it was sent.
    pub(super) async fn check_unsent(&self, payout: &Payout) -> Result<(), Problem> {
        let store = &self.recorder.store;
        if !store.is_suspect(payout).await? {
            return Ok(());
        }
        let why = if store.frozen(payout.id.shard()).await?.is_some() {
            "Dispatch is frozen, and whether the payout was sent before can only be said when it is thawed. It was not canceled, and is not sent meanwhile: ask again then."
        } else {
            "The store may have forgotten that the payout was sent. It was not canceled: its providers are asked for it before it is sent."
        };
        Err(Problem::new(Kind::NotPossibleNow, why))
    }
}

fn not_now(declined: Declined, payout: &Payout) -> Problem {
    Problem::new(Kind::NotPossibleNow, format!("The payout is `{}`: {declined}.", payout.state.name().as_str()))
}

/// The party of a body that may hold nothing else, or be none.
pub(super) fn only_party(parts: &Parts, body: &[u8]) -> Result<Option<PartyId>, Problem> {
    let mut errors = Errors::default();
    let mut fields = optional_body(parts, body, &mut errors)?;
    let party = order::party_id(&mut fields, &mut errors);
    fields.finish(&mut errors);
    errors.check()?;
    Ok(party)
}

/// No body at all is an empty object, or one that holds the party that the query names.
pub(super) fn optional_body(parts: &Parts, body: &[u8], errors: &mut Errors) -> Result<Fields, Problem> {
    if body.is_empty() {
        let named = if parts.method == Method::DELETE { None } else { party_in(parts.uri.query())? };
        return named.map_or_else(|| Ok(Fields::none()), |party| json::read(serde_json::json!({ "party_id": party }).to_string().as_bytes(), errors));
    }
    json::check_media_type(&parts.headers)?;
    json::read(body, errors)
}

fn optional_reason(fields: &mut Fields, errors: &mut Errors) -> Option<Reason> {
    let text = fields.optional_text("reason", errors)?;
    reason(&text, errors)
}

/// A reason is told to merchants and counted, so it is a code and not a text.
fn reason(text: &str, errors: &mut Errors) -> Option<Reason> {
    let reason = Reason::new(text);
    if reason.as_str() == text {
        return Some(reason);
    }
    errors.field("/reason", "not_a_code", "must be a code of 1 to 64 lower-case letters, digits, `_`, `-` or `.`");
    None
}

fn outcome(text: &str, errors: &mut Errors) -> Option<Resolved> {
    match text {
        "settled" => Some(Resolved::Settled),
        "returned" => Some(Resolved::Returned),
        "failed" => Some(Resolved::Failed),
        _ => {
            errors.field("/outcome", "unknown_outcome", "must be settled, returned or failed");
            None
        }
    }
}

/// Free text for people: where the proof can be found, why a provider is paused.
pub(super) fn note(at: &str, text: String, errors: &mut Errors) -> Option<String> {
    if text.trim().is_empty() {
        errors.field(at, "empty", "must tell others what they need to know");
    } else if text.chars().count() > NOTE_MAX {
        errors.field(at, "too_long", format_args!("must be at most {NOTE_MAX} characters"));
    } else if text.chars().any(char::is_control) {
        errors.field(at, "control_characters", "must not hold control characters");
    } else {
        return Some(text);
    }
    None
}
