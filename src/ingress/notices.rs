//! `/notices/{provider}/{mode}`: what a provider tells us. Verified, remembered once, and answered; what it means is decided later, by a worker.
//!
//! The mode in the path chooses the keys that the signature is verified with, and the notice is only good for payouts of that mode. The path without
//! a mode serves installations that have the provider configured for one mode only. It is the signature that admits a notice: no API key is involved.
//! A notice that proves nothing by itself at most leads to a look at the provider, one per payout at a time. Only a 2xx ends the provider's repeats, so everything
//! that is our own trouble is answered 503.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use domain::fact::{About, Provider, Told};
use domain::id::{Mode, NoticeId, PayoutId, ProviderKey, Shard};
use domain::payout::Payout;
use providers::NoticeError;
use workers::deposit::StoredDeposit;
use workers::settle::StoredNotice;
use workers::store::notices::{Remembered, Worth};

use super::Ingress;
use super::problem::{Kind, Problem};

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
        let providers = &self.recorder.providers;
        // Before anything is read: a stranger's body is not waited for.
        providers.admit_notice(provider, mode, &parts.headers).map_err(|error| refused(&error))?;
        let body = self.read_body(&parts, body, self.settings.notice_max_bytes).await?;
        let read = providers.read_notice(provider, mode, &parts.method, parts.uri.path(), &parts.headers, &body).await;
        let notice = read.map_err(|error| refused(&error))?;
        let evidence = |shard| NoticeId::derive(provider.name(), &format!("{mode}:{}", notice.dedupe_id()), shard);
        let (id, worth, stored) = match (notice.told(), notice.deposit(), notice.hint()) {
            (Some(Told { about, report }), ..) => {
                let stored = StoredNotice::new(provider, mode, about.clone(), Some(report.clone()));
                (evidence(self.shard(about)), Worth::Evidence, serde_json::to_vec(&stored))
            }
            // Whose it is, a worker finds out.
            (None, Some(deposit), _) => {
                let stored = StoredDeposit::new(provider, mode, deposit.clone());
                (evidence(Shard::new(0)), Worth::Evidence, serde_json::to_vec(&stored))
            }
            (None, None, Some(about)) => {
                let hinted = self.hinted(provider, mode, about).await?;
                // One that leads nowhere yet is kept only if the provider sent it: anybody can make up the others.
                let waits = notice.is_signed() && matches!(about, About::Reference(_));
                let (about, shard) = match hinted {
                    Some((id, attempt)) => (About::Key(ProviderKey::derive(id, attempt)), id.shard()),
                    None if waits => (about.clone(), Shard::new(0)),
                    None => return Ok("hint"),
                };
                let stored = StoredNotice::new(provider, mode, about, None);
                // One per attempt at a time, however many come.
                let id = NoticeId::derive(provider.name(), &format!("{mode}:hint:{}", addressee(&stored.about)), shard);
                (id, Worth::Hint, serde_json::to_vec(&stored))
            }
            (None, None, None) => {
                tracing::debug!(event_type = notice.event_type(), "a notice that is not about a payout");
                return Ok("not_about_a_payout");
            }
        };
        let stored = stored.expect("a notice has string keys only, so it is always JSON");
        match (self.recorder.store.remember(id, worth, &stored).await?, worth) {
            (_, Worth::Hint) => Ok("hint"),
            (Remembered::New, Worth::Evidence) => Ok("new"),
            (Remembered::Known, Worth::Evidence) => Ok("known"),
        }
    }

    /// Where a notice lands: with its payout, if its key is one that we can have made. The others are kept all the same, until they are listed as orphans.
    fn shard(&self, about: &About) -> Shard {
        let About::Key(key) = about else { return Shard::new(0) };
        let here = key.payout_and_attempt().filter(|(payout, _)| self.recorder.store.shards().contains(payout.shard()));
        if let Some((payout, _)) = here {
            tracing::Span::current().record("payout.id", tracing::field::display(payout));
        }
        here.map_or(Shard::new(0), |(payout, _)| payout.shard())
    }

    /// The attempt that a hint is about, if it is here and with that provider.
    async fn hinted(&self, provider: Provider, mode: Mode, about: &About) -> Result<Option<(PayoutId, u8)>, Problem> {
        let store = &self.recorder.store;
        let here = match about {
            About::Key(key) => key.payout_and_attempt().filter(|(id, _)| store.shards().contains(id.shard())),
            About::Reference(reference) => store.referred(provider, mode, reference).await?,
        };
        let Some((id, attempt)) = here else { return Ok(None) };
        let is_it = |payout: &Payout| payout.mode == mode && payout.provider_of(attempt) == Some(provider);
        if !store.load(id).await?.as_ref().is_some_and(is_it) {
            return Ok(None);
        }
        tracing::Span::current().record("payout.id", tracing::field::display(id));
        Ok(Some((id, attempt)))
    }
}

fn addressee(about: &About) -> String {
    match about {
        About::Key(key) => key.to_string(),
        About::Reference(reference) => reference.0.clone(),
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
