//! Money that somebody sends to a merchant account, and the webhook that tells of it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use uuid::Uuid;

use super::super::wire::{ExternalPayment, Moment};
use super::{Account, Sandbox};
use crate::clock;
use crate::http::Client;
use crate::sandbox::admin;
use crate::truelayer::sandbox::notices::NoticeSignature;

/// What came into each account, in minor units. Not in the journal: a sandbox that starts again has its opening balances.
#[derive(Default)]
pub(super) struct Deposits(Mutex<BTreeMap<String, i128>>);

impl Deposits {
    pub(super) fn of(&self, account: &Account) -> i128 {
        self.0.lock().ok().and_then(|all| all.get(&account.id).copied()).unwrap_or_default()
    }

    fn add(&self, account: &Account, minor: i64) {
        if let Ok(mut all) = self.0.lock() {
            *all.entry(account.id.clone()).or_default() += i128::from(minor);
        }
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
        Ok(deposit) => {
            sandbox.receive(&account, &deposit);
            StatusCode::NO_CONTENT.into_response()
        }
        Err(response) => *response,
    }
}

impl Sandbox {
    fn receive(&self, account: &Account, deposit: &Deposit) {
        if !deposit.forged {
            self.shared.deposits.add(account, deposit.amount_in_minor);
        }
        let transaction_id = deposit.transaction_id.unwrap_or_else(crate::sandbox::random_uuid);
        for _ in 0..deposit.events {
            let event = ExternalPayment {
                event_type: "external_payment_received".to_owned(),
                event_id: crate::sandbox::random_uuid().to_string(),
                event_version: 1,
                transaction_id,
                merchant_account_id: account.id.clone(),
                currency: account.currency.clone(),
                amount_in_minor: deposit.amount_in_minor,
                settled_at: Some(Moment(clock::now())),
            };
            let Ok(body) = serde_json::to_vec(&event).map(Bytes::from) else { return };
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
    }
}
