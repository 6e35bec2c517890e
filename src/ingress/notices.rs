//! `/notices/truelayer/{mode}`: what the provider tells us. Verified, remembered once, and answered; what it means is decided later, by a worker.
//!
//! The mode in the path chooses the keys that the signature is verified with, and the notice is only good for payouts of that mode. The path without
//! a mode serves installations that have the provider configured for one mode only. It is the signature that admits a notice: no API key is involved.
//! Only a 2xx ends the provider's repeats, so everything that is our own trouble is answered 503.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use domain::fact::Provider;
use domain::id::{Mode, NoticeId, Shard};
use providers::NoticeError;
use providers::truelayer::inbox;
use workers::settle::StoredNotice;
use workers::store::notices::Remembered;

use super::Ingress;
use super::problem::{Kind, Problem};

const PROVIDER: Provider = Provider::Truelayer;

pub(super) fn routes() -> Router<Arc<Ingress>> {
    Router::new().route("/notices/truelayer", post(of_the_only_mode)).route("/notices/truelayer/{mode}", post(of_mode))
}

async fn of_mode(State(ingress): State<Arc<Ingress>>, Path(mode): Path<String>, request: Request) -> Result<Response, Problem> {
    let mode = [Mode::Test, Mode::Live].into_iter().find(|known| known.as_str() == mode);
    ingress.notice(mode.ok_or_else(|| Problem::not_found("address for notices"))?, request).await
}

async fn of_the_only_mode(State(ingress): State<Arc<Ingress>>, request: Request) -> Result<Response, Problem> {
    let is_configured = |mode: &Mode| ingress.recorder.providers.configured(*mode).any(|provider| provider == PROVIDER);
    let mut modes = [Mode::Test, Mode::Live].into_iter().filter(is_configured);
    match (modes.next(), modes.next()) {
        (Some(mode), None) => ingress.notice(mode, request).await,
        (Some(_), Some(_)) => Err(Problem::new(Kind::NoticesAmbiguous, "Use /notices/truelayer/test or /notices/truelayer/live.")),
        (None, _) => Err(Problem::not_found("address for notices")),
    }
}

impl Ingress {
    async fn notice(&self, mode: Mode, request: Request) -> Result<Response, Problem> {
        let taken = self.take_notice(mode, request).await;
        let outcome = match &taken {
            Ok(outcome) => outcome,
            Err(problem) => problem.name(),
        };
        self.metrics.notice(PROVIDER.name(), mode, outcome);
        taken.map(|_| StatusCode::NO_CONTENT.into_response())
    }

    async fn take_notice(&self, mode: Mode, request: Request) -> Result<&'static str, Problem> {
        let (parts, body) = request.into_parts();
        tracing::Span::current().record("mode", mode.as_str());
        // Before anything is read: a stranger's body is not waited for.
        if !["tl-signature", "x-tl-signature"].iter().any(|name| parts.headers.contains_key(*name)) {
            return Err(refused(&NoticeError::Truelayer(inbox::NoticeError::NoSignature)));
        }
        let body = self.read_body(&parts, body, self.settings.notice_max_bytes).await?;
        let read = self.recorder.providers.read_notice(PROVIDER, mode, &parts.method, parts.uri.path(), &parts.headers, &body).await;
        let notice = read.map_err(|error| refused(&error))?;
        let Some(told) = notice.told() else {
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
        let id = NoticeId::derive(PROVIDER.name(), &format!("{mode}:{}", notice.dedupe_id()), shard);
        let stored = StoredNotice { v: 1, provider: PROVIDER, mode, told: told.clone() };
        let stored = serde_json::to_vec(&stored).expect("a notice has string keys only, so it is always JSON");
        match store.remember(id, &stored).await? {
            Remembered::New => Ok("new"),
            Remembered::Known => Ok("known"),
        }
    }
}

fn refused(error: &NoticeError) -> Problem {
    tracing::warn!(%error, "a notice was not accepted");
    match error {
        NoticeError::NotConfigured => Problem::not_found("address for notices"),
        NoticeError::Truelayer(inbox::NoticeError::NoSignature | inbox::NoticeError::Unverified(_) | inbox::NoticeError::KeySource) => {
            Problem::new(Kind::NoticeUnverified, format!("{error}."))
        }
        NoticeError::Truelayer(inbox::NoticeError::KeysUnavailable) => Problem::new(Kind::KeysUnavailable, "Send the notice again."),
        NoticeError::Truelayer(inbox::NoticeError::Unreadable(_)) => Problem::new(Kind::NoticeUnreadable, format!("{error}.")),
    }
}
