//! `/v1/events` as a feed, for those who rather pull than be called: the bodies of the webhooks, ordered per payout, none skipped. And whether a party has one.
//!
//! A request that waits asks the store again and again, so there is a limit to how many wait at one time.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::credential::Scope;
use domain::id::{EventId, Mode, PartyId, Shard};
use domain::subscription::EventTypes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use workers::store::StoreError;
use workers::store::feed::{After, Fed, FeedPlace};
use workers::store::payouts::StoredEvent;

use super::Ingress;
use super::deliveries::types;
use super::payouts::{limit, party_in};
use super::problem::{Errors, Kind, Problem};
use super::query::Parameters;
use super::room::Taken;
use super::view::{Moment, answer, result};

/// Limits of what waits for events.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The longest time that a request waits for an event; who asks for more waits so long. 8 s.
    pub wait_max_ms: u64,
    /// How often it looks for one. 200 ms.
    pub look_every_ms: u64,
    /// Requests that wait at one time, at most; more are answered with 503, and those of a party beyond a fourth of them after one look. 64.
    pub waiting_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { wait_max_ms: 8_000, look_every_ms: 200, waiting_max: 64 }
    }
}

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/v1/events", get(read)).route("/v1/feed", get(state).put(open).delete(close))
}

#[derive(Serialize)]
struct View<'a> {
    /// The `webhook-id` under which subscriptions get it.
    id: EventId,
    r#type: &'a str,
    at: Moment,
    /// What is signed and sent to subscriptions that want it thin, byte for byte.
    payload: &'a RawValue,
}

impl<'a> View<'a> {
    fn new(event: &'a StoredEvent) -> Result<Self, StoreError> {
        let payload = serde_json::from_str(&event.body).map_err(|_| StoreError::Corrupt(format!("the body of {}", event.id)))?;
        Ok(Self { id: event.id, r#type: &event.kind, at: Moment(event.at), payload })
    }
}

/// What a page is asked for.
struct Asked {
    party: Option<PartyId>,
    after: Cursor,
    wait: Duration,
    types: EventTypes,
    limit: usize,
}

/// Where a page begins, as the caller has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cursor {
    Beginning,
    Now,
    /// One place per shard. Those of one party are all in one.
    Place(Shard, FeedPlace),
}

impl Asked {
    fn read(query: Option<&str>, settings: &Settings) -> Result<Self, Problem> {
        let mut errors = Errors::default();
        let mut parameters = Parameters::read(query);
        let errs = &mut errors;
        let party = parameters.parsed("party_id", "invalid", errs, PartyId::parse);
        let after = parameters.parsed("after", "invalid", errs, |text| Cursor::read(text).ok_or("must be the `next_cursor` of a page, or `now`"));
        let seconds = parameters.parsed("wait", "out_of_range", errs, |text| {
            let seconds: Option<u64> = text.parse().ok().filter(|seconds| *seconds <= 3_600 && text.bytes().all(|byte| byte.is_ascii_digit()));
            seconds.ok_or("must be seconds, from 0 to 3600")
        });
        let types = types(&mut parameters, errs);
        let limit = limit(&mut parameters, errs);
        parameters.finish(errors)?;
        let wait = Duration::from_secs(seconds.unwrap_or(0)).min(Duration::from_millis(settings.wait_max_ms));
        Ok(Self { party, after: after.unwrap_or(Cursor::Beginning), wait, types, limit })
    }
}

impl Cursor {
    fn write(shard: Shard, place: FeedPlace) -> String {
        URL_SAFE_NO_PAD.encode(format!("1:{}:{place}", shard.index()))
    }

    fn read(text: &str) -> Option<Self> {
        if text == "now" {
            return Some(Self::Now);
        }
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (shard, place) = text.strip_prefix("1:")?.split_once(':')?;
        Some(Self::Place(Shard::new(shard.parse().ok()?), place.parse().ok()?))
    }
}

/// The events behind a cursor: at once, if there are any, else when one comes or the time is over.
async fn read(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct List<'a> {
        results: Vec<View<'a>>,
        /// Also on an empty page: what comes is behind it.
        next_cursor: String,
    }
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let Asked { party, after, wait, types, limit } = Asked::read(query.as_deref(), &ingress.settings.feed)?;
    let party = ingress.party(&caller, party)?;
    let mode: Mode = caller.mode();
    let shard = ingress.recorder.store.shards().of(&party, mode);
    let mut after = match after {
        Cursor::Beginning => After::Beginning,
        Cursor::Now => After::Now,
        Cursor::Place(of, place) if of == shard => After::Place(place),
        Cursor::Place(..) => {
            let mut errors = Errors::default();
            errors.parameter("after", "invalid", "must be the `next_cursor` of a page of this party's feed");
            return Err(errors.into_problem());
        }
    };
    let ends = Instant::now() + wait;
    let mut waiting = None;
    let (events, next) = loop {
        match ingress.recorder.store.feed(&party, mode, after, &types, limit).await? {
            Fed::Closed => return Err(Problem::new(Kind::FeedClosed, "Open it with `PUT /v1/feed`; it begins with the next event.")),
            Fed::Expired => {
                let detail = "Events after it were told and are not kept any more. `GET /v1/deliveries` and `GET /v1/payouts` list what is; without `after` the feed begins with the oldest event that it has.";
                return Err(Problem::new(Kind::FeedExpired, detail));
            }
            Fed::Page { events, next } => {
                let now = Instant::now();
                if !events.is_empty() || now >= ends || ingress.shutdown.is_cancelled() {
                    break (events, next);
                }
                after = After::Place(next);
                if waiting.is_none() {
                    waiting = match ingress.feed_slots.enter(&party, mode) {
                        Ok(seat) => Some(seat),
                        // As if it had asked to wait for a moment only: others can.
                        Err(Taken::Share) => {
                            tokio::time::sleep_until(ends.min(now + Duration::from_millis(ingress.settings.feed.look_every_ms))).await;
                            break (events, next);
                        }
                        Err(Taken::All) => {
                            let detail = "As many requests as can be wait for events. Ask without `wait`, or again in a moment.";
                            return Err(Problem::new(Kind::Overloaded, detail));
                        }
                    };
                }
                let look_again = now + Duration::from_millis(ingress.settings.feed.look_every_ms);
                tokio::select! {
                    () = ingress.shutdown.cancelled() => {}
                    () = tokio::time::sleep_until(look_again.min(ends)) => {}
                }
            }
        }
    };
    let results = events.iter().map(View::new).collect::<Result<_, _>>()?;
    Ok(answer(StatusCode::OK, &List { results, next_cursor: Cursor::write(shard, next) }))
}

/// Whether the party has a feed, and how much is in it.
async fn state(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksRead).await?;
    let party = ingress.party(&caller, party_in(query.as_deref())?)?;
    ingress.feed_state(&party, caller.mode()).await
}

/// Opens it with the next event. What was told before is not in it.
async fn open(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksWrite).await?;
    let party = ingress.party(&caller, party_in(query.as_deref())?)?;
    ingress.recorder.store.open_feed(&party, caller.mode()).await?;
    ingress.feed_state(&party, caller.mode()).await
}

/// Closes it, and forgets what is in it.
async fn close(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = ingress.admit(&headers, Scope::WebhooksWrite).await?;
    let party = ingress.party(&caller, party_in(query.as_deref())?)?;
    ingress.recorder.store.close_feed(&party, caller.mode()).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl Ingress {
    async fn feed_state(&self, party: &PartyId, mode: Mode) -> Result<Response, Problem> {
        #[derive(Serialize)]
        struct State<'a> {
            party_id: &'a PartyId,
            mode: Mode,
            is_open: bool,
            events: u64,
        }
        let length = self.recorder.store.feed_length(party, mode).await?;
        Ok(result(StatusCode::OK, &State { party_id: party, mode, is_open: length.is_some(), events: length.unwrap_or(0) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_survive_and_nonsense_does_not() {
        let place = "1764000000123-7".parse().unwrap();
        let cursor = Cursor::write(Shard::new(3), place);
        assert_eq!(Cursor::read(&cursor), Some(Cursor::Place(Shard::new(3), place)));
        for text in ["", "then", &URL_SAFE_NO_PAD.encode("2:3:1-1"), &URL_SAFE_NO_PAD.encode("1:3:1"), &URL_SAFE_NO_PAD.encode("1:300:1-1")] {
            assert_eq!(Cursor::read(text), None, "{text}");
        }
    }
}
