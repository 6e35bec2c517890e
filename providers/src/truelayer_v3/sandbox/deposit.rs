//! Money that somebody sends to a merchant account, and the webhook that tells of it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

use super::super::wire::{ExternalPayment, Moment};
use super::{Account, Sandbox};
use crate::clock;
use crate::http::Client;
use crate::sandbox::admin;
use crate::truelayer::sandbox::notices::NoticeSignature;

/// What came into each account, oldest first. Not in the journal: a sandbox that starts again has its opening balances.
#[derive(Default)]
pub(super) struct Deposits(Mutex<BTreeMap<String, Vec<Received>>>);

/// Money that came in.
#[derive(Clone)]
pub(super) struct Received {
    pub(super) transaction_id: Uuid,
    pub(super) amount_in_minor: i64,
    pub(super) at: Timestamp,
}

/// Deposits that an account keeps, at most; above that they are answered with 503.
const KEPT_MAX: usize = 10_000;

impl Deposits {
    pub(super) fn of(&self, account: &Account) -> Vec<Received> {
        self.0.lock().ok().and_then(|all| all.get(&account.id).cloned()).unwrap_or_default()
    }

    pub(super) fn sum(&self, account: &Account) -> i128 {
        let sum = |received: &Vec<Received>| received.iter().map(|received| i128::from(received.amount_in_minor)).sum();
        self.0.lock().ok().and_then(|all| all.get(&account.id).map(sum)).unwrap_or_default()
    }

    /// Whether there was room.
    fn add(&self, account: &Account, received: Received) -> bool {
        let Ok(mut all) = self.0.lock() else { return false };
        let kept = all.entry(account.id.clone()).or_default();
        if kept.len() < KEPT_MAX {
            kept.push(received);
            return true;
        }
        false
    }
}

/// What is sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deposit {
    amount_in_minor: i64,
    /// Of the movement; made up if it is left out.
    #[serde(default)]
    transaction_id: Option<Uuid>,
    /// How many events tell of it, each with an id of its own; none are sent with 0.
    #[serde(default = "one")]
    events: u8,
    /// How often each event is sent.
    #[serde(default = "one")]
    copies: u8,
    /// Signed with a key that nobody knows; and then nothing comes in.
    #[serde(default)]
    forged: bool,
}

const fn one() -> u8 {
    1
}

pub(super) async fn deposit(State(sandbox): State<Sandbox>, Path(id): Path<String>, body: Bytes) -> Response {
    let Some(account) = sandbox.shared.settings.accounts.iter().find(|account| account.id == id).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match admin::read::<Deposit>(&body) {
        Ok(deposit) if sandbox.receive(&account, &deposit) => StatusCode::NO_CONTENT.into_response(),
        Ok(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(response) => *response,
    }
}

impl Sandbox {
    /// Whether there was room for it.
    fn receive(&self, account: &Account, deposit: &Deposit) -> bool {
        let transaction_id = deposit.transaction_id.unwrap_or_else(crate::sandbox::random_uuid);
        let at = clock::now();
        if !deposit.forged && !self.shared.deposits.add(account, Received { transaction_id, amount_in_minor: deposit.amount_in_minor, at }) {
            return false;
        }
        for _ in 0..deposit.events {
            let event = ExternalPayment {
                event_type: "external_payment_received".to_owned(),
                event_id: crate::sandbox::random_uuid().to_string(),
                event_version: 1,
                transaction_id,
                merchant_account_id: account.id.clone(),
                currency: account.currency.clone(),
                amount_in_minor: deposit.amount_in_minor,
                settled_at: Some(Moment(at)),
            };
            let Ok(body) = serde_json::to_vec(&event).map(Bytes::from) else { return true };
            for _ in 0..deposit.copies {
                let (sandbox, body, forged) = (self.clone(), body.clone(), deposit.forged);
                // Each by itself: they arrive in any order.
                self.shared.errands.run(async move {
                    let jku = sandbox.jku();
                    let call = |client: &Client| sandbox.shared.keys.signed(NoticeSignature::Request, client, &jku, &body, forged).ok();
                    sandbox.shared.outbox.deliver(forged, call, |status| status.is_success(), |_| {}).await;
                });
            }
        }
        true
    }
}
