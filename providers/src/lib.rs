//! How each provider speaks. A connector only translates: an order into bytes, and what comes back into the words of [`domain::fact`].
//!
//! It never sees the state of a payout, the store or a retry counter; what an answer means for a payout, and what to do next, is decided elsewhere.
//! Providers are a closed list, and [`Providers`] is a `match` over it: adding one is adding a variant, and the compiler lists the rest.

mod account;
mod clock;
pub mod condition;
pub mod http;
pub mod jws;
pub mod mollie;
mod notice;
mod order;
pub mod profile;
mod reading;
pub mod sandbox;
mod statement;
pub mod truelayer;
pub mod truelayer_v3;
pub mod worldpay;

#[cfg(test)]
mod rules;

pub use account::NoticeError;
pub use notice::Notice;
pub use order::{Canceling, Inquiry, Order};
pub use reading::{NotAnAccount, ReadError};
pub use statement::{Line, NoStatement, Statement};
pub use worldpay::account::BatchAnswer;

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use domain::fact::{Answer, Look, Provider, Reason};
use domain::id::{Mode, ProviderKey};
use jiff::Timestamp;
use serde::Deserialize;

use crate::account::Account;
use crate::profile::Profile;

/// The configured accounts: one per provider and mode, each optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub truelayer_test: Option<truelayer::Settings>,
    pub truelayer_live: Option<truelayer::Settings>,
    pub truelayer_v3_test: Option<truelayer_v3::Settings>,
    pub truelayer_v3_live: Option<truelayer_v3::Settings>,
    pub worldpay_account_test: Option<worldpay::account::Settings>,
    pub worldpay_account_live: Option<worldpay::account::Settings>,
    pub worldpay_card_test: Option<worldpay::card::Settings>,
    pub worldpay_card_live: Option<worldpay::card::Settings>,
    pub mollie_test: Option<mollie::Settings>,
    pub mollie_live: Option<mollie::Settings>,
}

/// The accounts that are configured. Test and live have connectors, credentials, tokens and keys of their own.
#[derive(Debug)]
pub struct Providers {
    accounts: BTreeMap<(Provider, Mode), Account>,
}

/// Which account could not be set up. The source names the setting, and its source says why, where there is more to say.
#[derive(Debug, thiserror::Error)]
#[error("{provider}, {mode}", provider = provider.name())]
pub struct SetupError {
    pub provider: Provider,
    pub mode: Mode,
    pub source: Box<dyn Error + Send + Sync>,
}

/// A field that a provider cannot take as it is. Repeats no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct FieldProblem {
    /// The order's name of the field, or the provider's where the order has none.
    pub field: &'static str,
    pub why: &'static str,
}

impl FieldProblem {
    /// Whether the account has nothing to pay in that currency from.
    #[must_use]
    pub fn is_of_currency(&self) -> bool {
        matches!(self.field, "currency" | "merchant_account_id" | "balanceId")
    }
}

/// Why there is no request to store and send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unprepared {
    #[error("the provider is not configured for this mode")]
    NotConfigured,
    #[error(transparent)]
    Field(#[from] FieldProblem),
}

const NOT_CONFIGURED: &str = "provider_not_configured";

/// The settings of a mode.
pub(crate) fn of<'a, S>(mode: Mode, test: &'a Option<S>, live: &'a Option<S>) -> Option<&'a S> {
    match mode {
        Mode::Test => test.as_ref(),
        Mode::Live => live.as_ref(),
    }
}

/// How long the calls of a configured account may take, in ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// Where the keys stand, below `providers`.
    pub section: String,
    /// The whole of a question.
    pub read_ms: u64,
    /// What comes before any answer, each by its key.
    pub parts: Vec<(&'static str, u64)>,
}

impl Settings {
    /// The deadlines of every configured account.
    #[must_use]
    pub fn deadlines(&self) -> Vec<Deadlines> {
        let mut found = Vec::new();
        for mode in [Mode::Test, Mode::Live] {
            let mut add = |provider, inner: &str, read_ms, parts: &[(&'static str, u64)]| {
                let section = format!("{}{inner}", Self::section(provider, mode));
                found.push(Deadlines { section, read_ms, parts: parts.to_vec() });
            };
            if let Some(of) = of(mode, &self.truelayer_test, &self.truelayer_live) {
                let parts = [("connect_timeout_ms", of.connect_timeout_ms), ("token_timeout_ms", of.token_timeout_ms)];
                add(Provider::Truelayer, "", of.read_timeout_ms, &parts);
            }
            if let Some(of) = of(mode, &self.truelayer_v3_test, &self.truelayer_v3_live) {
                let parts = [("connect_timeout_ms", of.connect_timeout_ms), ("token_timeout_ms", of.token_timeout_ms)];
                add(Provider::TruelayerV3, "", of.read_timeout_ms, &parts);
            }
            let worldpay = [
                (Provider::WorldpayAccount, of(mode, &self.worldpay_account_test, &self.worldpay_account_live).map(|of| &of.access)),
                (Provider::WorldpayCard, of(mode, &self.worldpay_card_test, &self.worldpay_card_live).map(|of| &of.access)),
            ];
            for (provider, access) in worldpay {
                let Some(access) = access else { continue };
                let mut parts = vec![("connect_timeout_ms", access.connect_timeout_ms)];
                if access.discover {
                    parts.push(("discover_timeout_ms", access.discover_timeout_ms));
                }
                add(provider, ".access", access.read_timeout_ms, &parts);
            }
            if let Some(of) = of(mode, &self.mollie_test, &self.mollie_live) {
                add(Provider::Mollie, "", of.read_timeout_ms, &[("connect_timeout_ms", of.connect_timeout_ms)]);
            }
        }
        found
    }

    /// What each configured account believes otherwise than is built in, by its section below `providers`.
    #[must_use]
    pub fn overrides(&self) -> Vec<(String, &profile::Overrides)> {
        let mut found = Vec::new();
        for mode in [Mode::Test, Mode::Live] {
            let accounts = [
                (Provider::Truelayer, of(mode, &self.truelayer_test, &self.truelayer_live).map(|of| &of.profile)),
                (Provider::TruelayerV3, of(mode, &self.truelayer_v3_test, &self.truelayer_v3_live).map(|of| &of.profile)),
                (Provider::WorldpayAccount, of(mode, &self.worldpay_account_test, &self.worldpay_account_live).map(|of| &of.profile)),
                (Provider::WorldpayCard, of(mode, &self.worldpay_card_test, &self.worldpay_card_live).map(|of| &of.profile)),
                (Provider::Mollie, of(mode, &self.mollie_test, &self.mollie_live).map(|of| &of.profile)),
            ];
            found.extend(accounts.into_iter().filter_map(|(provider, of)| Some((Self::section(provider, mode), of?))));
        }
        found
    }

    /// The section of an account in the configuration, below `providers`.
    #[must_use]
    pub fn section(provider: Provider, mode: Mode) -> String {
        format!("{}_{mode}", provider.name().replace('-', "_"))
    }
}

impl Providers {
    /// Sets up what is configured. Makes no request.
    ///
    /// # Errors
    ///
    /// [`SetupError`] for the first account whose settings are not usable.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let mut accounts = BTreeMap::new();
        for provider in Provider::ALL {
            for mode in [Mode::Test, Mode::Live] {
                let account = Account::open(settings, provider, mode).map_err(|source| SetupError { provider, mode, source })?;
                accounts.extend(account.map(|account| ((provider, mode), account)));
            }
        }
        Ok(Self { accounts })
    }

    /// The providers that a payout of this mode can go to.
    pub fn configured(&self, mode: Mode) -> impl Iterator<Item = Provider> + '_ {
        self.accounts.keys().filter(move |(_, of)| *of == mode).map(|(provider, _)| *provider)
    }

    /// What the provider is like, with the configured values; the built-in ones where it is not configured.
    #[must_use]
    pub fn profile(&self, provider: Provider, mode: Mode) -> Profile {
        self.account(provider, mode).map_or_else(|| account::built_in(provider), |account| account.profile().clone())
    }

    /// The exact bytes of the request, to be stored and sent, and sent again, as they are. The same arguments make the same bytes.
    ///
    /// # Errors
    ///
    /// [`Unprepared`]: what this provider cannot take.
    pub fn prepare(&self, provider: Provider, mode: Mode, order: &Order<'_>) -> Result<Vec<u8>, Unprepared> {
        Ok(self.account(provider, mode).ok_or(Unprepared::NotConfigured)?.prepare(order)?)
    }

    /// As [`Providers::prepare`], whichever currencies the account is said to pay in now: what may have been sent before, when nobody had said so.
    ///
    /// # Errors
    ///
    /// [`Unprepared`]: what this provider could not take then either.
    pub fn request(&self, provider: Provider, mode: Mode, order: &Order<'_>) -> Result<Vec<u8>, Unprepared> {
        Ok(self.account(provider, mode).ok_or(Unprepared::NotConfigured)?.request(order)?)
    }

    /// Sends prepared bytes and says how that ended. No byte of them leaves after `send_by`; the whole call ends `within` that time.
    pub async fn submit(&self, provider: Provider, mode: Mode, prepared: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        match self.account(provider, mode) {
            Some(account) => account.submit(prepared, send_by, within).await,
            None => Answer::NotSent { why: Reason::new(NOT_CONFIGURED) },
        }
    }

    /// As [`Providers::prepare`], for orders with different keys under the `key` of the request.
    ///
    /// # Errors
    ///
    /// [`Unprepared`]: also where the provider takes one payout in a request.
    pub fn prepare_batch(&self, provider: Provider, mode: Mode, key: ProviderKey, orders: &[Order<'_>]) -> Result<Vec<u8>, Unprepared> {
        Ok(self.account(provider, mode).ok_or(Unprepared::NotConfigured)?.prepare_batch(key, orders)?)
    }

    /// As [`Providers::submit`], for a prepared request for many payouts.
    pub async fn submit_batch(&self, provider: Provider, mode: Mode, prepared: &[u8], send_by: Timestamp, within: Duration) -> BatchAnswer {
        match self.account(provider, mode) {
            Some(account) => account.submit_batch(prepared, send_by, within).await,
            None => BatchAnswer::not_sent(NOT_CONFIGURED),
        }
    }

    /// Asks about an attempt. Changes nothing at the provider.
    pub async fn look(&self, provider: Provider, mode: Mode, inquiry: &Inquiry<'_>) -> Look {
        match self.account(provider, mode) {
            Some(account) => account.look(inquiry).await,
            None => Look::Nothing { why: Reason::new(NOT_CONFIGURED) },
        }
    }

    /// Asks the provider to cancel an attempt that it has accepted. Repeating it tells the same.
    pub async fn cancel(&self, provider: Provider, mode: Mode, inquiry: &Inquiry<'_>) -> Canceling {
        match self.account(provider, mode) {
            Some(account) => account.cancel(inquiry).await,
            None => Canceling::Nothing { why: Reason::new(NOT_CONFIGURED) },
        }
    }

    /// The payouts that the provider lists for the time from `from` to `to`, by its own idea of when a payout was made. Changes nothing there. Ends after `lines_max`
    /// lines or the pages that the account's settings allow, whichever is first, and says so.
    ///
    /// # Errors
    ///
    /// [`NoStatement`].
    pub async fn statement(
        &self,
        provider: Provider,
        mode: Mode,
        from: Timestamp,
        to: Timestamp,
        lines_max: usize,
    ) -> Result<Statement, NoStatement> {
        self.account(provider, mode).ok_or(NoStatement::NotConfigured)?.statement(from, to, lines_max).await
    }

    /// Whether a webhook with these headers is worth reading at all: an account is there, and one of the headers that its proof is in.
    ///
    /// # Errors
    ///
    /// [`NoticeError::NotConfigured`], and [`NoticeError::Unverified`] for what cannot be verified whatever its body is.
    pub fn admit_notice(&self, provider: Provider, mode: Mode, headers: &::http::HeaderMap) -> Result<(), NoticeError> {
        let proofs = self.account(provider, mode).ok_or(NoticeError::NotConfigured)?.proofs();
        if proofs.is_empty() || proofs.iter().any(|name| headers.contains_key(name)) {
            return Ok(());
        }
        Err(NoticeError::Unverified("no signature of an accepted generation".to_owned()))
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
    ) -> Result<Notice, NoticeError> {
        self.account(provider, mode).ok_or(NoticeError::NotConfigured)?.read_notice(method, path, headers, body).await
    }

    fn account(&self, provider: Provider, mode: Mode) -> Option<&Account> {
        self.accounts.get(&(provider, mode))
    }
}
