//! `/notices/{provider}/{mode}`: what a provider tells us. Verified, remembered once, and answered; what it means is decided later, by a worker.
//!
//! The mode in the path chooses the keys that the signature is verified with, and the notice is only good for payouts of that mode. The path without
//! a mode serves installations that have the provider configured for one mode only. It is the signature that admits a notice: no API key is involved.
//! A notice that proves nothing by itself at most brings the next look at the provider forward. Only a 2xx ends the provider's repeats, so everything
//! that is our own trouble is answered 503.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use domain::fact::{Provider, Source};
use domain::id::{Mode, NoticeId, Shard};
use domain::payout::state::StateName;
use domain::payout::{Fact, Payout, What};
use jiff::Timestamp;
use providers::{Hint, NoticeError};
use workers::settle::StoredNotice;
use workers::store::notices::Remembered;

use super::Ingress;
use super::commands::{CHECK_EVERY, checked_lately};
use super::problem::{Kind, Problem};

/// A payout with so many commits is not looked at because of hints any more: anybody who knows a key can send them, and each look is remembered.
const HINTED_MAX: u64 = 500;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/notices/{provider}", post(of_the_only_mode)).route("/notices/{provider}/{mode}", post(of_mode))
}

async fn of_mode(State(ingress): State<Arc<Ingress>>, Path((provider, mode)): Path<(String, String)>, request: Request) -> Result<Response, Problem> {
    let mode = [Mode::Test, Mode::Live].into_iter().find(|known| known.as_str() == mode);
    let (Some(provider), Some(mode)) = (Provider::named(&provider), mode) else { return Err(Problem::not_found("address for notices")) };
    ingress.notice(provider, mode, request).await
}

async fn of_the_only_mode(State(ingress): State<Arc<Ingress>>, Path(provider): Path<String>, request: Request) -> Result<Response, Problem> {
    let Some(provider) = Provider::named(&provider) else { return Err(Problem::not_found("address for notices")) };
    let is_configured = |mode: &Mode| ingress.recorder.providers.configured(*mode).any(|configured| configured == provider);
    let mut modes = [Mode::Test, Mode::Live].into_iter().filter(is_configured);
    match (modes.next(), modes.next()) {
        (Some(mode), None) => ingress.notice(provider, mode, request).await,
        (Some(_), Some(_)) => {
            let name = provider.name();
            Err(Problem::new(Kind::NoticesAmbiguous, format!("Use /notices/{name}/test or /notices/{name}/live.")))
        }
        (None, _) => Err(Problem::not_found("address for notices")),
    }
}

impl Ingress {
    async fn notice(&self, provider: Provider, mode: Mode, request: Request) -> Result<Response, Problem> {
        let taken = self.take_notice(provider, mode, request).await;
        let outcome = match &taken {
            Ok(outcome) => outcome,
            Err(problem) => problem.name(),
        };
        self.metrics.notice(provider.name(), mode, outcome);
        // Worldpay repeats an event, and holds back later ones, until it gets exactly this; the others take any success.
        taken.map(|_| StatusCode::OK.into_response())
    }

    async fn take_notice(&self, provider: Provider, mode: Mode, request: Request) -> Result<&'static str, Problem> {
        let (parts, body) = request.into_parts();
        tracing::Span::current().record("mode", mode.as_str());
        // Before anything is read: a stranger's body is not waited for.
        if provider == Provider::Truelayer && !["tl-signature", "x-tl-signature"].iter().any(|name| parts.headers.contains_key(*name)) {
            return Err(refused(&NoticeError::Unverified("no signature of an accepted generation".to_owned())));
        }
        let body = self.read_body(&parts, body, self.settings.notice_max_bytes).await?;
        let read = self.recorder.providers.read_notice(provider, mode, &parts.method, parts.uri.path(), &parts.headers, &body).await;
        let notice = read.map_err(|error| refused(&error))?;
        let Some(told) = notice.told() else {
            if let Some(hint) = notice.hint() {
                return self.look_soon(provider, mode, hint).await;
            }
            tracing::debug!(event_type = notice.event_type(), "a notice that is not about a payout");
            return Ok("not_about_a_payout");
        };
        let store = &self.recorder.store;
        // A key that we cannot have made belongs to no payout of ours. It is kept all the same, so that it is listed as an orphan.
        let payout = told.key.payout_and_attempt().map(|(payout, _)| payout).filter(|payout| store.shards().contains(payout.shard()));
        if let Some(payout) = payout {
            tracing::Span::current().record("payout.id", tracing::field::display(payout));
        }
        let shard = payout.map_or(Shard::new(0), |payout| payout.shard());
        let id = NoticeId::derive(provider.name(), &format!("{mode}:{}", notice.dedupe_id()), shard);
        let stored = StoredNotice { v: 1, provider, mode, told: told.clone() };
        let stored = serde_json::to_vec(&stored).expect("a notice has string keys only, so it is always JSON");
        match store.remember(id, &stored).await? {
            Remembered::New => Ok("new"),
            Remembered::Known => Ok("known"),
        }
    }

    /// Brings the next look at the provider forward, at most once in a few seconds. The hint itself is not believed.
    async fn look_soon(&self, provider: Provider, mode: Mode, hint: &Hint) -> Result<&'static str, Problem> {
        // Where the provider told its own id only, the polls find out.
        let Hint::Key(key) = hint else { return Ok("hint") };
        let store = &self.recorder.store;
        let Some((id, attempt)) = key.payout_and_attempt().filter(|(id, _)| store.shards().contains(id.shard())) else { return Ok("hint") };
        let is_it = |payout: &Payout| payout.mode == mode && payout.provider_of(attempt) == Some(provider) && payout.version < HINTED_MAX;
        let Some(payout) = store.load(id).await?.filter(is_it) else { return Ok("hint") };
        tracing::Span::current().record("payout.id", tracing::field::display(id));
        if checked_lately(store, id).await? {
            // What still has polls ahead is found by them; what has ended is looked at once more when it may be.
            if payout.state.name() == StateName::Settled {
                store.look_later(id, store.clock().now().saturating_add(CHECK_EVERY).unwrap_or(Timestamp::MAX)).await?;
            }
        } else {
            self.recorder.record(payout, &Fact::new(Source::Notice, What::Check)).await?;
        }
        Ok("hint")
    }
}

fn refused(error: &NoticeError) -> Problem {
    tracing::warn!(%error, "a notice was not accepted");
    match error {
        NoticeError::NotConfigured => Problem::not_found("address for notices"),
        NoticeError::Unverified(_) => Problem::new(Kind::NoticeUnverified, format!("{error}.")),
        NoticeError::KeysUnavailable => Problem::new(Kind::KeysUnavailable, "Send the notice again."),
        NoticeError::Unreadable(_) => Problem::new(Kind::NoticeUnreadable, format!("{error}.")),
    }
}
