//! One account at one provider: the `match` over the closed list of connectors.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use domain::fact::{Answer, Look, Provider, Reason};
use domain::id::{Mode, ProviderKey};
use http::{HeaderMap, HeaderName, Method};
use jiff::Timestamp;

use crate::profile::Profile;
use crate::{
    BatchAnswer, Canceling, FieldProblem, Inquiry, NoStatement, Notice, Order, Settings, Statement, mollie, of, truelayer, truelayer_v3, worldpay,
};

/// The client and the inbox of an account.
#[derive(Debug)]
#[expect(clippy::enum_variant_names, reason = "`WorldpayAccount` is Worldpay's API for payouts to accounts")]
pub(crate) enum Account {
    Truelayer(Box<(truelayer::Client, truelayer::inbox::Inbox)>),
    TruelayerV3(Box<(truelayer_v3::Client, truelayer_v3::inbox::Inbox)>),
    WorldpayAccount(Box<(worldpay::account::Client, worldpay::account::inbox::Inbox)>),
    WorldpayCard(Box<(worldpay::card::Client, worldpay::card::inbox::Inbox)>),
    Mollie(Box<(mollie::Client, mollie::inbox::Inbox)>),
}

/// Why a request to our address for notices is not a notice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoticeError {
    #[error("the provider is not configured for this mode")]
    NotConfigured,
    /// Not signed, or forged, damaged, or changed on the way. Answer 401.
    #[error("{0}")]
    Unverified(String),
    /// Not the sender's fault: answer 503, and it will be sent again.
    #[error("the provider's keys are not available")]
    KeysUnavailable,
    /// Verified, but not what the provider documents. Answer 400, and look into it.
    #[error("the notice cannot be read: {0}")]
    Unreadable(&'static str),
}

/// The same call of whatever client it is.
macro_rules! client {
    ($account:expr, $client:ident => $call:expr) => {
        match $account {
            Account::Truelayer(account) => {
                let $client = &account.0;
                $call
            }
            Account::TruelayerV3(account) => {
                let $client = &account.0;
                $call
            }
            Account::WorldpayAccount(account) => {
                let $client = &account.0;
                $call
            }
            Account::WorldpayCard(account) => {
                let $client = &account.0;
                $call
            }
            Account::Mollie(account) => {
                let $client = &account.0;
                $call
            }
        }
    };
}

/// The profile of a provider that is not configured.
pub(crate) fn built_in(provider: Provider) -> Profile {
    match provider {
        Provider::Truelayer => truelayer::profile(),
        Provider::TruelayerV3 => truelayer_v3::profile(provider),
        Provider::WorldpayAccount => worldpay::account::profile(provider),
        Provider::WorldpayCard => worldpay::card::profile(provider),
        Provider::Mollie => mollie::profile(provider),
    }
}

impl Account {
    /// The account of that provider and mode, if it is configured.
    pub(crate) fn open(settings: &Settings, provider: Provider, mode: Mode) -> Result<Option<Self>, Box<dyn Error + Send + Sync>> {
        Ok(match provider {
            Provider::Truelayer => match of(mode, &settings.truelayer_test, &settings.truelayer_live) {
                Some(of) => {
                    let inbox = truelayer::inbox::Inbox::new(of, mode)?;
                    Some(Self::Truelayer(Box::new((truelayer::Client::new(of.clone(), mode)?, inbox))))
                }
                None => None,
            },
            Provider::TruelayerV3 => match of(mode, &settings.truelayer_v3_test, &settings.truelayer_v3_live) {
                Some(of) => {
                    let inbox = truelayer_v3::inbox::Inbox::new(of, mode)?;
                    Some(Self::TruelayerV3(Box::new((truelayer_v3::Client::new(of.clone(), mode, provider)?, inbox))))
                }
                None => None,
            },
            Provider::WorldpayAccount => match of(mode, &settings.worldpay_account_test, &settings.worldpay_account_live) {
                Some(of) => {
                    let inbox = worldpay::account::inbox::Inbox::new(of, mode)?;
                    Some(Self::WorldpayAccount(Box::new((worldpay::account::Client::new(of.clone(), mode, provider)?, inbox))))
                }
                None => None,
            },
            Provider::WorldpayCard => match of(mode, &settings.worldpay_card_test, &settings.worldpay_card_live) {
                Some(of) => {
                    let inbox = worldpay::card::inbox::Inbox::new(of, mode)?;
                    Some(Self::WorldpayCard(Box::new((worldpay::card::Client::new(of.clone(), mode, provider)?, inbox))))
                }
                None => None,
            },
            Provider::Mollie => match of(mode, &settings.mollie_test, &settings.mollie_live) {
                Some(of) => {
                    let inbox = mollie::inbox::Inbox::new(of, mode)?;
                    Some(Self::Mollie(Box::new((mollie::Client::new(of.clone(), mode, provider)?, inbox))))
                }
                None => None,
            },
        })
    }

    pub(crate) fn profile(&self) -> &Profile {
        client!(self, client => client.profile())
    }

    /// The request, if the account pays in that currency.
    pub(crate) fn prepare(&self, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
        if self.profile().currencies.as_ref().is_some_and(|paid| !paid.contains(&order.money.currency())) {
            return Err(FieldProblem { field: "currency", why: "is none that this provider's account pays in" });
        }
        self.request(order)
    }

    /// The request, whichever currencies the account is said to pay in now.
    pub(crate) fn request(&self, order: &Order<'_>) -> Result<Vec<u8>, FieldProblem> {
        match self {
            Self::Truelayer(_) => truelayer::Client::prepare(order.key, order.money, order.beneficiary, order.context_code),
            Self::TruelayerV3(account) => account.0.prepare(order),
            Self::WorldpayAccount(account) => account.0.prepare(order),
            Self::WorldpayCard(account) => account.0.prepare(order),
            Self::Mollie(account) => account.0.prepare(order),
        }
    }

    pub(crate) async fn submit(&self, prepared: &[u8], send_by: Timestamp, within: Duration) -> Answer {
        client!(self, client => client.submit(prepared, send_by, within).await)
    }

    /// The request for many payouts, where the provider takes one.
    pub(crate) fn prepare_batch(&self, key: ProviderKey, orders: &[Order<'_>]) -> Result<Vec<u8>, FieldProblem> {
        match self {
            Self::WorldpayAccount(account) => account.0.prepare_batch(key, orders),
            Self::Truelayer(_) | Self::TruelayerV3(_) | Self::WorldpayCard(_) | Self::Mollie(_) => {
                Err(FieldProblem { field: "items", why: "go to this provider one by one" })
            }
        }
    }

    pub(crate) async fn submit_batch(&self, prepared: &[u8], send_by: Timestamp, within: Duration) -> BatchAnswer {
        match self {
            Self::WorldpayAccount(account) => account.0.submit_batch(prepared, send_by, within).await,
            Self::Truelayer(_) | Self::TruelayerV3(_) | Self::WorldpayCard(_) | Self::Mollie(_) => BatchAnswer::not_sent("no_batches"),
        }
    }

    pub(crate) async fn look(&self, inquiry: &Inquiry<'_>) -> Look {
        match self {
            Self::Truelayer(account) => account.0.look(inquiry.key).await,
            Self::TruelayerV3(account) => account.0.look(inquiry).await,
            Self::WorldpayAccount(account) => account.0.look(inquiry).await,
            Self::WorldpayCard(account) => account.0.look(inquiry).await,
            Self::Mollie(account) => account.0.look(inquiry).await,
        }
    }

    /// Only where the profile says `cancelable`.
    pub(crate) async fn cancel(&self, inquiry: &Inquiry<'_>) -> Canceling {
        match self {
            Self::Mollie(account) => account.0.cancel(inquiry).await,
            Self::Truelayer(_) | Self::TruelayerV3(_) | Self::WorldpayAccount(_) | Self::WorldpayCard(_) => {
                Canceling::Nothing { why: Reason::new("cannot_cancel") }
            }
        }
    }

    /// Only where the profile says `lists_payouts`.
    pub(crate) async fn statement(&self, from: Timestamp, to: Timestamp, lines_max: usize) -> Result<Statement, NoStatement> {
        match self {
            Self::Truelayer(account) => Ok(account.0.statement(from, to, lines_max).await?),
            Self::WorldpayAccount(account) => Ok(account.0.statement(from, to, lines_max).await?),
            Self::TruelayerV3(account) => Ok(account.0.statement(from, to, lines_max).await?),
            Self::Mollie(account) => Ok(account.0.statement(from, to, lines_max).await?),
            Self::WorldpayCard(_) => Err(NoStatement::NotListed),
        }
    }

    /// The headers of which a webhook needs one; none where anybody may send them.
    pub(crate) fn proofs(&self) -> Vec<HeaderName> {
        match self {
            Self::Truelayer(account) => account.1.proofs(),
            Self::TruelayerV3(account) => account.1.proofs(),
            Self::WorldpayAccount(account) => account.1.proofs(),
            Self::WorldpayCard(account) => account.1.proofs(),
            Self::Mollie(account) => account.1.proofs(),
        }
    }

    pub(crate) async fn read_notice(&self, method: &Method, path: &str, headers: &HeaderMap, body: &Bytes) -> Result<Notice, NoticeError> {
        match self {
            Self::Truelayer(account) => Ok(account.1.read(method, path, headers, body).await?),
            Self::TruelayerV3(account) => Ok(account.1.read(method, path, headers, body).await?),
            Self::WorldpayAccount(account) => Ok(account.1.read(method, path, headers, body).await?),
            Self::WorldpayCard(account) => Ok(account.1.read(method, path, headers, body).await?),
            Self::Mollie(account) => Ok(account.1.read(method, path, headers, body).await?),
        }
    }
}

impl From<truelayer::inbox::NoticeError> for NoticeError {
    fn from(error: truelayer::inbox::NoticeError) -> Self {
        use truelayer::inbox::NoticeError as Theirs;
        match error {
            Theirs::NoSignature | Theirs::Unverified(_) | Theirs::KeySource => Self::Unverified(error.to_string()),
            Theirs::KeysUnavailable => Self::KeysUnavailable,
            Theirs::Unreadable(why) => Self::Unreadable(why),
        }
    }
}

impl From<worldpay::account::inbox::NoticeError> for NoticeError {
    fn from(error: worldpay::account::inbox::NoticeError) -> Self {
        use worldpay::account::inbox::NoticeError as Theirs;
        match error {
            Theirs::Unsigned(_) => Self::Unverified(error.to_string()),
            Theirs::Unreadable(why) => Self::Unreadable(why),
        }
    }
}

impl From<worldpay::card::inbox::NoticeError> for NoticeError {
    fn from(error: worldpay::card::inbox::NoticeError) -> Self {
        use worldpay::card::inbox::NoticeError as Theirs;
        match error {
            Theirs::Unsigned(_) => Self::Unverified(error.to_string()),
            Theirs::Unreadable(why) => Self::Unreadable(why),
        }
    }
}

impl From<mollie::inbox::NoticeError> for NoticeError {
    fn from(error: mollie::inbox::NoticeError) -> Self {
        use mollie::inbox::NoticeError as Theirs;
        match error {
            Theirs::NoSignature | Theirs::Unverified => Self::Unverified(error.to_string()),
            Theirs::Unreadable(why) => Self::Unreadable(why),
        }
    }
}
