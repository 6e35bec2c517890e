//! How each provider speaks. A connector only translates: an order into bytes, and what comes back into the words of [`domain::fact`].
//!
//! It never sees the state of a payout, the store or a retry counter; what an answer means for a payout, and what to do next, is decided elsewhere.
//! Providers are a closed list, and [`Providers`] is a `match` over it: adding one is adding a variant, and the compiler lists the rest.

mod clock;
pub mod http;
pub mod jws;
pub mod mollie;
mod order;
pub mod profile;
mod reading;
pub mod sandbox;
pub mod truelayer;
pub mod truelayer_v3;
pub mod worldpay;

pub use order::{Canceling, Inquiry, Order};
pub use reading::{Hint, NotAnAccount, ReadError};

use std::time::Duration;

use bytes::Bytes;
use domain::destination::Beneficiary;
use domain::fact::{Answer, Look, Provider, Reason};
use domain::id::{Mode, ProviderKey};
use domain::money::Money;
use jiff::Timestamp;
use serde::Deserialize;

use crate::profile::Profile;

/// The configured accounts: one per provider and mode, each optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub truelayer_test: Option<truelayer::Settings>,
    pub truelayer_live: Option<truelayer::Settings>,
}

/// The connectors that are configured. Test and live have connectors, credentials, tokens and keys of their own.
#[derive(Debug)]
pub struct Providers {
    truelayer_test: Option<Truelayer>,
    truelayer_live: Option<Truelayer>,
}

#[derive(Debug)]
struct Truelayer {
    client: truelayer::Client,
    inbox: truelayer::inbox::Inbox,
}

/// Which account could not be set up, and why.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("truelayer, {mode}")]
    Truelayer { mode: Mode, source: truelayer::SetupError },
}

/// A field that a provider cannot take as it is. Repeats no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct FieldProblem {
    /// The provider's name of the field.
    pub field: &'static str,
    pub why: &'static str,
}

/// Why there is no request to store and send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprepared {
    #[error("the provider is not configured for this mode")]
    NotConfigured,
    #[error(transparent)]
    Field(#[from] FieldProblem),
}

/// Why a request to our address for notices is not a notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    #[error("the provider is not configured for this mode")]
    NotConfigured,
    #[error(transparent)]
    Truelayer(#[from] truelayer::inbox::NoticeError),
}

const NOT_CONFIGURED: &str = "provider_not_configured";

impl Providers {
    /// Sets up what is configured. Makes no request.
    ///
    /// # Errors
    ///
    /// [`SetupError`] for the first account whose settings are not usable.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let truelayer = |settings: &Option<truelayer::Settings>, mode| {
            let set_up = |settings: &truelayer::Settings| {
                let inbox = truelayer::inbox::Inbox::new(settings, mode)?;
                Ok(Truelayer { client: truelayer::Client::new(settings.clone(), mode)?, inbox })
            };
            settings.as_ref().map(set_up).transpose().map_err(|source| SetupError::Truelayer { mode, source })
        };
        Ok(Self {
            truelayer_test: truelayer(&settings.truelayer_test, Mode::Test)?,
            truelayer_live: truelayer(&settings.truelayer_live, Mode::Live)?,
        })
    }

    /// The providers that a payout of this mode can go to.
    pub fn configured(&self, mode: Mode) -> impl Iterator<Item = Provider> + '_ {
        Provider::ALL.into_iter().filter(move |provider| match provider {
            Provider::Truelayer => self.truelayer(mode).is_some(),
        })
    }

    /// What the provider is like, with the configured values; the built-in ones where it is not configured.
    #[must_use]
    pub fn profile(&self, provider: Provider, mode: Mode) -> Profile {
        match provider {
            Provider::Truelayer => self.truelayer(mode).map_or_else(truelayer::profile, |connector| connector.client.profile().clone()),
        }
    }

    /// The exact bytes of the request, to be stored and sent, and sent again, as they are. The same arguments make the same bytes.
    ///
    /// # Errors
    ///
    /// [`Unprepared`]: what this provider cannot take.
    pub fn prepare(
        &self,
        provider: Provider,
        mode: Mode,
        key: ProviderKey,
        money: Money,
        beneficiary: &Beneficiary,
        context_code: &str,
    ) -> Result<Vec<u8>, Unprepared> {
        match provider {
            Provider::Truelayer => {
                self.truelayer(mode).ok_or(Unprepared::NotConfigured)?;
                Ok(truelayer::Client::prepare(key, money, beneficiary, context_code)?)
            }
        }
    }

    /// Sends prepared bytes and says how that ended. No byte of them leaves after `send_by`; the whole call ends `within` that time.
    pub async fn submit(&self, provider: Provider, mode: Mode, body: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        match provider {
            Provider::Truelayer => match self.truelayer(mode) {
                Some(connector) => connector.client.submit(body, send_by, within).await,
                None => Answer::NotSent { why: Reason::new(NOT_CONFIGURED) },
            },
        }
    }

    /// Asks for the attempt under that key. Changes nothing at the provider.
    pub async fn look(&self, provider: Provider, mode: Mode, key: ProviderKey) -> Look {
        match provider {
            Provider::Truelayer => match self.truelayer(mode) {
                Some(connector) => connector.client.look(key).await,
                None => Look::Nothing { why: Reason::new(NOT_CONFIGURED) },
            },
        }
    }

    /// Verifies and reads a provider's webhook. `path` is the path that the provider called, without query.
    ///
    /// # Errors
    ///
    /// [`NoticeError`].
    pub async fn read_notice(
        &self,
        provider: Provider,
        mode: Mode,
        method: &::http::Method,
        path: &str,
        headers: &::http::HeaderMap,
        body: &Bytes,
    ) -> Result<truelayer::inbox::Notice, NoticeError> {
        match provider {
            Provider::Truelayer => {
                let connector = self.truelayer(mode).ok_or(NoticeError::NotConfigured)?;
                Ok(connector.inbox.read(method, path, headers, body).await?)
            }
        }
    }

    /// The client of TrueLayer itself, for what only it has: balances and transactions.
    #[must_use]
    pub fn truelayer_client(&self, mode: Mode) -> Option<&truelayer::Client> {
        self.truelayer(mode).map(|connector| &connector.client)
    }

    const fn truelayer(&self, mode: Mode) -> Option<&Truelayer> {
        match mode {
            Mode::Test => self.truelayer_test.as_ref(),
            Mode::Live => self.truelayer_live.as_ref(),
        }
    }
}
