//! The guide to signatures: how they are made, and a form that tells whether a webhook that was received is genuine, and if not, why.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::id::PartyId;
use domain::portal::Access;
use domain::subscription::{Payload, Secrets, Subscription};
use jiff::Timestamp;
use workers::store::subscriptions::Standing;

use super::door::Visitor;
use super::fields::instant;
use super::page::{Frame, Notice, shown};
use crate::cli::verify::{By, Received, Trust, explain};
use crate::ingress::Ingress;
use crate::ingress::problem::{Errors, Kind, Problem};

/// How far its timestamp may be from now, in seconds: as receivers usually have it.
const TOLERANCE_S: i64 = 300;

/// Subscriptions that can be chosen, at most: the oldest.
const CHOICES: usize = 200;

#[derive(Template)]
#[template(path = "verify.html")]
struct Guide<'a> {
    frame: Frame<'a>,
    subscriptions: &'a [(Subscription, Secrets, Standing)],
    /// The installation's public keys, in the text of Standard Webhooks.
    public_keys: Vec<String>,
    tried: Tried,
}

/// What stands in the form.
#[derive(Default)]
struct Tried {
    subscription: String,
    id: String,
    timestamp: String,
    signature: String,
    /// When it came, in UTC, as a field for a time holds it. Empty: now.
    at: String,
    body: String,
}

pub(super) async fn guide(State(ingress): State<Arc<Ingress>>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = ingress.visitor(&headers).await?;
    page_of(&ingress, &visitor, Tried::default(), None).await
}

/// Says whether it is genuine. Changes nothing, so that whoever looks on may ask too.
pub(super) async fn check(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (visitor, mut form) = ingress.posted(request, Access::Read).await?;
    let mut text = |name: &str| form.one(name, &mut Errors::default()).unwrap_or_default();
    let header = |text: String| text.trim().to_owned();
    let tried = Tried {
        subscription: text("subscription"),
        id: header(text("id")),
        timestamp: header(text("timestamp")),
        signature: header(text("signature")),
        at: header(text("at")),
        body: text("body"),
    };
    let (subscription, secrets) = ingress.subscription(&visitor.caller, None, &tried.subscription).await?;
    let now = ingress.recorder().store.clock().now();
    let came = if tried.at.is_empty() { Ok(now) } else { instant(&tried.at).parse::<Timestamp>() };
    // They sign for all parties.
    let keys = if subscription.asymmetric { ingress.settings().signing_keys.published() } else { Vec::new() };
    // To look for other spellings of a body takes a while, which nobody else should wait for.
    let judging = tokio::task::spawn_blocking(move || {
        let notice = match came {
            // Whatever signed then.
            Ok(at) => judged(&tried, &Trust { secrets: secrets.valid_at(at.min(now)), keys }, at, &subscription.party),
            Err(_) => Notice::bad("“When it came” is no time, such as 2026-01-31T09:00:00, in UTC."),
        };
        (tried, notice)
    });
    let (tried, notice) = judging.await.map_err(|_| Problem::new(Kind::Internal, "The signature could not be checked."))?;
    page_of(&ingress, &visitor, tried, Some(notice)).await
}

/// What is to be said of a webhook that came at that time to that party.
fn judged(tried: &Tried, trust: &Trust, at: Timestamp, party: &PartyId) -> Notice {
    let Tried { id, timestamp, signature, body, .. } = tried;
    let received = Received { id, timestamp, signature, body: body.as_bytes() };
    match explain(trust, &received, at.as_second(), TOLERANCE_S, "“When it came”") {
        Ok(By::Key) if party_of(body).as_deref() != Some(party.as_str()) => {
            Notice::bad("Not yours: a key of this service has signed it, and it tells of another party.")
        }
        Ok(by) => {
            let with = match by {
                By::Secret => "the secret of this subscription",
                By::Key => "a key of this service",
            };
            let when = if tried.at.is_empty() { "not long ago" } else { "not long before it came" };
            Notice::good(format!("Genuine: signed with {with}, over these very bytes, and {when}."))
        }
        Err(explanation) => Notice::bad(format!("Not genuine: {explanation}")),
    }
}

/// The party that an event tells of.
fn party_of(body: &str) -> Option<String> {
    let event: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(event.pointer("/data/party_id")?.as_str()?.to_owned())
}

async fn page_of(ingress: &Ingress, visitor: &Visitor, tried: Tried, notice: Option<Notice>) -> Result<Response, Problem> {
    let (mut subscriptions, _) = ingress.subscriptions(&visitor.caller, None, None, CHOICES).await?;
    subscriptions.retain(|(subscription, _, _)| subscription.payload != Payload::Snapshot);
    let frame = Frame::new(visitor, "verify", "Verify a signature").with(notice);
    let public_keys = ingress.settings().signing_keys.published().into_iter().map(|key| key.text).collect();
    shown(StatusCode::OK, &Guide { frame, subscriptions: &subscriptions, public_keys, tried })
}
