//! The pages of subscriptions: all of them, one of them with what can be done about it, and the form that makes and changes one.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use domain::delivery::Progress;
use domain::id::{ReplayId, SubscriptionId};
use domain::portal::Access;
use domain::signature::Secret;
use domain::subscription::{EventTypes, Ordering, Payload, Secrets, Status, Subscription};
use jiff::Timestamp;
use workers::replay::{Replay, Standing as Replaying};
use workers::store::deliveries::{Place, Wanted};
use workers::store::subscriptions::Standing;

use super::deliveries::{Recent, Row, how};
use super::door::Visitor;
use super::fields::{Filled, instant};
use super::page::{Frame, Notice, Pill, When, see_other, shown};
use crate::ingress::Ingress;
use crate::ingress::deliveries::{read_cursor, write_cursor};
use crate::ingress::json::{Fields, Value};
use crate::ingress::problem::{Errors, Kind, Problem};
use crate::ingress::query::Parameters;
use crate::ingress::replays::Replayed;
use crate::ingress::webhooks::{self, condition, told};

/// Deliveries, or subscriptions, on a page, at most.
const ROWS: usize = 50;

#[derive(Template)]
#[template(path = "subscriptions.html")]
struct List<'a> {
    frame: Frame<'a>,
    all: Vec<Shown<'a>>,
    full: bool,
    /// Where the next ones are.
    more: Option<String>,
}

#[derive(Template)]
#[template(path = "subscription.html")]
struct One<'a> {
    frame: Frame<'a>,
    /// Where its buttons lead.
    path: String,
    it: Shown<'a>,
    /// Shown once.
    secret: Option<String>,
    rows: Vec<Row>,
    /// What they can be narrowed to, and whether they are.
    narrowings: Vec<(&'static str, bool)>,
    /// Where the next ones are.
    older: Option<String>,
    replays: Vec<Past>,
}

impl One<'_> {
    fn is_narrowed(&self) -> bool {
        self.narrowings.iter().any(|(_, chosen)| *chosen)
    }

    fn is_replaying(&self) -> bool {
        self.replays.iter().any(|replay| replay.running)
    }
}

/// A replay, as people read it.
struct Past {
    id: ReplayId,
    status: &'static str,
    running: bool,
    asked_at: When,
    looked_at: u64,
    /// How much there is to look at, while it runs.
    of: Option<u64>,
    deliveries: u64,
}

impl Past {
    /// `left`: what it has to look at yet.
    fn new(replay: &Replay, left: Option<u64>) -> Self {
        Self {
            id: replay.id,
            status: replay.standing.name(),
            running: replay.standing == Replaying::Running,
            asked_at: When(replay.spec.asked_at),
            looked_at: replay.payouts_looked_at,
            of: left.map(|left| replay.payouts_looked_at.saturating_add(left)),
            deliveries: replay.deliveries,
        }
    }
}

/// Which deliveries of a subscription are looked at.
#[derive(Default)]
struct Look {
    progress: Option<Progress>,
    after: Option<Place>,
}

#[derive(Template)]
#[template(path = "form.html")]
struct Form<'a> {
    frame: Frame<'a>,
    /// Where it goes.
    path: String,
    back: String,
    filled: &'a Filled,
    asymmetric_available: bool,
}

/// A subscription, as people read it.
pub(super) struct Shown<'a> {
    pub(super) subscription: &'a Subscription,
    secrets: &'a Secrets,
    standing: &'a Standing,
    status: &'static str,
    reason: Option<&'a str>,
    since: Option<When>,
    last_success: Option<When>,
    /// Until when each of the former secrets signs too, newest first.
    former_until: Vec<When>,
}

impl<'a> Shown<'a> {
    fn new(ingress: &Ingress, subscription: &'a Subscription, secrets: &'a Secrets, standing: &'a Standing, recent: &Recent) -> Self {
        let (status, reason, since) = condition(subscription, standing);
        Self {
            subscription,
            secrets,
            standing,
            status,
            reason,
            since: since.map(When),
            last_success: recent.last_successes().get(&subscription.id).copied(),
            former_until: secrets.former_until(ingress.recorder().store.clock().now()).into_iter().map(When).collect(),
        }
    }

    fn pill(&self) -> Pill {
        Pill(self.status)
    }

    /// The reason of the status for people. A reason that the platform's operators have given stands as it is.
    fn why(&self) -> Option<String> {
        match self.reason? {
            "nothing_gets_through" => Some("nothing gets through".to_owned()),
            "asked" => Some("as asked for".to_owned()),
            "challenge_unanswered" => Some("its URL has not answered the challenge that it was sent".to_owned()),
            "gone" => Some("the subscriber answered 410".to_owned()),
            other => Some(other.replace('_', " ")),
        }
    }

    fn title(&self) -> &str {
        self.subscription.name.as_deref().unwrap_or(&self.subscription.url)
    }

    fn events(&self) -> String {
        match &self.subscription.event_types {
            EventTypes::All => "all events".to_owned(),
            EventTypes::These(patterns) => patterns.iter().map(domain::subscription::Pattern::as_str).collect::<Vec<_>>().join(", "),
        }
    }

    fn held_until(&self) -> Option<When> {
        self.standing.held_until.map(When)
    }

    fn in_order(&self) -> bool {
        self.subscription.ordering == Ordering::Strict
    }

    fn payload(&self) -> &'static str {
        form_of(self.subscription.payload)
    }

    /// Whether its signatures are those of Standard Webhooks, which the guide explains.
    fn is_standard(&self) -> bool {
        self.subscription.payload != Payload::Snapshot
    }

    /// Secrets that sign at one time, at most.
    const fn secrets_max() -> usize {
        Secrets::SIGNING_MAX
    }

    fn created_at(&self) -> When {
        When(self.subscription.created_at)
    }
}

/// What events hold, in words.
pub(super) const fn form_of(payload: Payload) -> &'static str {
    match payload {
        Payload::Thin => "thin",
        Payload::Full => "full, with the masked destination",
        Payload::Snapshot => "the payout as it was, signed over the body",
    }
}

/// A page of the party's subscriptions, oldest first. `cursor` is where the page before ended.
pub(super) async fn list(State(ingress): State<Arc<Ingress>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = ingress.visitor(&headers).await?;
    let cursor = Parameters::read(query.as_deref()).one("cursor", &mut Errors::default());
    let after = cursor.and_then(|cursor| webhooks::read_cursor(&cursor));
    let (found, next) = ingress.subscriptions(&visitor.caller, None, after, ROWS).await?;
    let most = ingress.settings().webhooks.subscriptions_max;
    let full = ingress.recorder().store.count_subscriptions(&visitor.grant.party, visitor.grant.mode).await? >= most;
    let more = next.map(|next| format!("/portal/subscriptions?cursor={}", webhooks::write_cursor(next)));
    let ids: Vec<SubscriptionId> = found.iter().map(|(subscription, ..)| subscription.id).collect();
    let recent = Recent::of(&ingress, &visitor, &ids).await?;
    let shown_ones = found.iter().map(|(subscription, secrets, standing)| Shown::new(&ingress, subscription, secrets, standing, &recent));
    let page = List { frame: Frame::new(&visitor, "subscriptions", "Subscriptions"), all: shown_ones.collect(), full, more };
    shown(StatusCode::OK, &page)
}

/// One subscription with its deliveries, latest first. `status` narrows them, `cursor` is where the page before ended.
pub(super) async fn one(
    State(ingress): State<Arc<Ingress>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let visitor = ingress.visitor(&headers).await?;
    let mut query = Parameters::read(query.as_deref());
    let mut one = |name: &str| query.one(name, &mut Errors::default());
    let progress = one("status").and_then(|name: String| Progress::named(&name));
    let look = Look { progress, after: one("cursor").and_then(|cursor: String| read_cursor(&cursor)) };
    page_of(&ingress, &visitor, &id, look, StatusCode::OK, None, None).await
}

async fn page_of(
    ingress: &Ingress,
    visitor: &Visitor,
    id: &str,
    look: Look,
    status: StatusCode,
    notice: Option<Notice>,
    secret: Option<Secret>,
) -> Result<Response, Problem> {
    let (subscription, secrets) = ingress.subscription(&visitor.caller, None, id).await?;
    let standing = ingress.recorder().store.standing(subscription.id).await?;
    let recent = Recent::of(ingress, visitor, &[subscription.id]).await?;
    let wanted = Wanted {
        party: subscription.party.clone(),
        mode: subscription.mode,
        subscription: Some(subscription.id),
        payout: None,
        sequence: None,
        progress: look.progress,
        types: EventTypes::All,
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::MAX,
        looks_back: ingress.recorder().looks_back,
    };
    let (listed, next) = ingress.recorder().store.deliveries(&wanted, look.after, ROWS).await?;
    let rows = listed.iter().map(Row::of).collect();
    let mut replays = Vec::new();
    for replay in ingress.recorder().store.replays(subscription.id).await? {
        // One runs, at most.
        let left = match replay.standing {
            Replaying::Running => Some(ingress.recorder().store.replay_left(&replay.spec, replay.place.as_ref()).await?),
            Replaying::Done { .. } | Replaying::Canceled { .. } | Replaying::Stopped { .. } => None,
        };
        replays.push(Past::new(&replay, left));
    }
    let narrowings = Progress::ALL.map(|known| (known.name(), look.progress == Some(known))).to_vec();
    let it = Shown::new(ingress, &subscription, &secrets, &standing, &recent);
    let frame = Frame::new(visitor, "subscriptions", it.title()).with(notice);
    let path = format!("/portal/subscriptions/{}", subscription.id);
    let narrowed = look.progress.map_or(String::new(), |progress| format!("status={}&", progress.name()));
    let older = next.map(|next| format!("{path}?{narrowed}cursor={}", write_cursor(next)));
    let page = One { frame, path, it, secret: secret.map(|secret| told(&secret, subscription.payload)), rows, narrowings, older, replays };
    shown(status, &page)
}

/// What one of the buttons asks for. The answer is the page again, and says how that went.
pub(super) async fn act(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (visitor, mut form) = ingress.posted(request, Access::Manage).await?;
    let caller = &visitor.caller;
    let mut errors = Errors::default();
    let action = form.one("action", &mut errors).unwrap_or_default();
    let named = id.parse::<domain::id::SubscriptionId>().map(|id| id.to_string()).unwrap_or_default();
    tracing::info!(subscription.id = named, action = known(&action), by = %visitor.grant.by, "a party acts in the portal");
    let mut secret = None;
    let done = match action.as_str() {
        "ping" => ingress.ping_subscription(caller, None, &id).await.map(|attempt| pinged(&attempt)),
        "pause" => ingress.pause_subscription(caller, None, &id).await.map(|_| Notice::good("Paused. Events wait, in order, until it is resumed.")),
        "resume" => ingress.resume_subscription(caller, None, &id).await.map(|_| Notice::good("Resumed. What waited is delivered now.")),
        "challenge" => {
            ingress.challenge_subscription(caller, None, &id).await.map(|_| Notice::good("Its URL has answered. What waited is delivered now."))
        }
        "rotate" => {
            let fields = rotation(&mut form);
            ingress.rotate_secret(caller, &id, fields, errors).await.map(|(_, _, new)| {
                secret = Some(new);
                Notice::good("The secret is rotated. Each former one that has time left signs too until then.")
            })
        }
        "retry" => again(&ingress, &visitor, &id, &mut form).await,
        "replay" | "count" => ingress.replay_to(caller, &id, replay_of(&mut form, action == "count"), errors).await.map(|done| replayed(&done)),
        "cancel" => {
            let replay = form.one("replay", &mut errors).unwrap_or_default();
            ingress
                .cancel_replay(caller, None, &id, &replay)
                .await
                .map(|_| Notice::good("The replay is ended. What it has made due is delivered all the same."))
        }
        "delete" => {
            ingress.unsubscribe(caller, None, &id).await?;
            return Ok(see_other("/portal"));
        }
        _ => Err(Problem::new(Kind::FormRefused, "There is no such action.")),
    };
    let (status, notice) = match done {
        Ok(notice) => (StatusCode::OK, notice),
        Err(problem) => (problem.status(), Notice::of(problem)?),
    };
    page_of(&ingress, &visitor, &id, Look::default(), status, Some(notice), secret).await
}

/// What the form of a replay asks for. Times are in UTC.
fn replay_of(form: &mut Parameters, dry_run: bool) -> Fields {
    let mut members = vec![("dry_run".to_owned(), Value::Bool(dry_run))];
    for name in ["what", "from", "to"] {
        let Some(text) = form.one(name, &mut Errors::default()).filter(|text| !text.trim().is_empty()) else { continue };
        let exact = if name == "what" { text } else { instant(&text) };
        members.push((name.to_owned(), Value::Text(exact)));
    }
    Fields::of(members)
}

fn replayed(replayed: &Replayed) -> Notice {
    match replayed {
        Replayed::Begun(_) => Notice::good("The replay begins. What it sends says so in the header payrelay-replay, and keeps its webhook-id."),
        Replayed::Counted(counted) => {
            let more = if counted.complete { "" } else { " or more" };
            Notice::good(format!("It would send {}{more}.", counted.deliveries))
        }
    }
}

/// For logs: a word of ours, whatever was sent.
fn known(action: &str) -> &'static str {
    ["ping", "pause", "resume", "challenge", "rotate", "retry", "replay", "count", "cancel", "delete"]
        .into_iter()
        .find(|word| *word == action)
        .unwrap_or("unknown")
}

fn rotation(form: &mut Parameters) -> Fields {
    let hours = form.one("overlap_hours", &mut Errors::default()).filter(|hours| !hours.trim().is_empty());
    let member = |hours: String| ("overlap_hours".to_owned(), hours.trim().parse().map_or(Value::OtherNumber, Value::Integer));
    Fields::of(hours.map(member).into_iter().collect())
}

/// Has an event delivered to a subscription now.
pub(super) async fn again(ingress: &Ingress, visitor: &Visitor, subscription: &str, form: &mut Parameters) -> Result<Notice, Problem> {
    let event = form.one("event", &mut Errors::default()).unwrap_or_default();
    let event = event.parse().map_err(|_| Problem::not_found("event"))?;
    let subscription = ingress.deliver_again(&visitor.caller, None, subscription, event).await?;
    Ok(Notice::good(match subscription.status {
        Status::Paused { .. } | Status::Pending { .. } => {
            "It is delivered again once the subscription is resumed or its URL has answered; until then it waits."
        }
        Status::Enabled | Status::Disabled { .. } => "It is delivered again now. The list shows how that went in a moment.",
    }))
}

fn pinged(attempt: &domain::delivery::Attempt) -> Notice {
    let (good, what) = how(&attempt.result);
    let text = if good {
        format!("The ping arrived: {what} in {} ms.", attempt.latency_ms)
    } else {
        format!("The ping did not get through: {what}, after {} ms.", attempt.latency_ms)
    };
    let heard = attempt.heard.as_ref().map(|heard| heard.excerpt.clone()).filter(|excerpt| !excerpt.is_empty());
    Notice { good, text, quoted: heard }
}

/// The form of a new subscription.
pub(super) async fn blank(State(ingress): State<Arc<Ingress>>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = ingress.visitor(&headers).await?;
    form_of_new(&ingress, &visitor, &Filled::blank(), StatusCode::OK)
}

fn form_of_new(ingress: &Ingress, visitor: &Visitor, filled: &Filled, status: StatusCode) -> Result<Response, Problem> {
    let page = Form {
        frame: Frame::new(visitor, "subscriptions", "New subscription"),
        path: "/portal/subscriptions/new".to_owned(),
        back: "/portal".to_owned(),
        filled,
        asymmetric_available: !ingress.settings().signing_keys.is_empty(),
    };
    shown(status, &page)
}

/// Makes it. The answer is its page, with the secret.
pub(super) async fn create(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let (visitor, mut form) = ingress.posted(request, Access::Manage).await?;
    let filled = Filled::sent(&mut form);
    let (fields, errors) = filled.wishes();
    match ingress.subscribe(&visitor.caller, fields, errors).await {
        Ok((subscription, _, secret)) => {
            tracing::info!(subscription.id = %subscription.id, action = "create", by = %visitor.grant.by, "a party acts in the portal");
            let notice = Notice::good("The subscription is made. Events of payouts go there from now on.");
            page_of(&ingress, &visitor, &subscription.id.to_string(), Look::default(), StatusCode::CREATED, Some(notice), Some(secret)).await
        }
        Err(problem) if is_of_the_form(&problem) => form_of_new(&ingress, &visitor, &filled.refused(&problem), problem.status()),
        Err(problem) => Err(problem),
    }
}

/// The form of one that there is.
pub(super) async fn edit(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let visitor = ingress.visitor(&headers).await?;
    let (subscription, secrets) = ingress.subscription(&visitor.caller, None, &id).await?;
    form_of_change(&ingress, &visitor, &subscription, &Filled::of(&subscription, &secrets), StatusCode::OK)
}

fn form_of_change(ingress: &Ingress, visitor: &Visitor, it: &Subscription, filled: &Filled, status: StatusCode) -> Result<Response, Problem> {
    let page = Form {
        frame: Frame::new(visitor, "subscriptions", "Edit the subscription"),
        path: format!("/portal/subscriptions/{}/edit", it.id),
        back: format!("/portal/subscriptions/{}", it.id),
        filled,
        asymmetric_available: it.asymmetric || !ingress.settings().signing_keys.is_empty(),
    };
    shown(status, &page)
}

/// Changes it.
pub(super) async fn change(State(ingress): State<Arc<Ingress>>, Path(id): Path<String>, request: Request) -> Result<Response, Problem> {
    let (visitor, mut form) = ingress.posted(request, Access::Manage).await?;
    let (before, secrets) = ingress.subscription(&visitor.caller, None, &id).await?;
    let mut filled = Filled::sent(&mut form);
    filled.header_names = secrets.headers.names().map(ToOwned::to_owned).collect();
    let (fields, errors) = filled.wishes();
    match ingress.change_subscription(&visitor.caller, &id, fields, errors).await {
        Ok((subscription, _)) => {
            tracing::info!(subscription.id = %subscription.id, action = "change", by = %visitor.grant.by, "a party acts in the portal");
            Ok(see_other(&format!("/portal/subscriptions/{}", subscription.id)))
        }
        Err(problem) if is_of_the_form(&problem) => form_of_change(&ingress, &visitor, &before, &filled.refused(&problem), problem.status()),
        Err(problem) => Err(problem),
    }
}

fn is_of_the_form(problem: &Problem) -> bool {
    matches!(problem.kind, Kind::InvalidFields | Kind::SubscriptionsFull | Kind::VersionStale)
}
