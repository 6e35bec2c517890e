//! Batches: up to 500 payouts in one request, under one key. All of them are taken, or none (ASSUMED).

use std::time::Duration;

use domain::fact::{Answer, ProviderReference, Reason};
use domain::id::ProviderKey;
use http::StatusCode;
use jiff::Timestamp;
use tokio::time::Instant;

use super::request::{self, Prepared};
use super::{Client, accepted_report, key_of, not_accepted, not_sent, wire};
use crate::{FieldProblem, Order};

/// How the send of a batch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchAnswer {
    /// The same for every payout of the batch: an ambiguous batch makes each of them ambiguous.
    pub answer: Answer,
    /// The ids that the provider told, by the keys of the payouts. A repeat of a batch is answered without ids (H).
    pub references: Vec<(ProviderKey, ProviderReference)>,
}

impl BatchAnswer {
    pub(crate) fn not_sent(why: &'static str) -> Self {
        Self { answer: Answer::NotSent { why: Reason::new(why) }, references: Vec::new() }
    }
}

impl Client {
    /// As [`Client::prepare`], for 1 to 500 orders with different keys under the `key` of the batch.
    ///
    /// # Errors
    ///
    /// [`FieldProblem`] of the first order that has one.
    pub fn prepare_batch(&self, key: ProviderKey, orders: &[Order<'_>]) -> Result<Vec<u8>, FieldProblem> {
        request::batch(&self.settings, key, orders)
    }

    /// As [`Client::submit`], for a prepared batch.
    pub async fn submit_batch(&self, prepared: &[u8], send_by: Timestamp, within: Duration) -> BatchAnswer {
        let without_ids = |answer| BatchAnswer { answer, references: Vec::new() };
        let Some(prepared) = Prepared::read(prepared).filter(|prepared| prepared.batch) else {
            return without_ids(not_sent("unreadable_request"));
        };
        let response = match self.post(&prepared, send_by, Instant::now() + within).await {
            Ok(response) => response,
            Err(answer) => return without_ids(answer),
        };
        match response.status {
            StatusCode::OK | StatusCode::ACCEPTED => {
                let items = response.json::<Vec<wire::AcceptedItem>>().unwrap_or_default().into_iter().take(wire::MAX_BATCH);
                let told = |item: wire::AcceptedItem| {
                    let reference = accepted_report(item.payout_request_id.or(item.ubr)).reference?;
                    Some((key_of(&item.transaction_reference)?, reference))
                };
                BatchAnswer { answer: Answer::Says(accepted_report(None)), references: items.filter_map(told).collect() }
            }
            _ => without_ids(not_accepted(&response, &self.settings.refusals)),
        }
    }
}
