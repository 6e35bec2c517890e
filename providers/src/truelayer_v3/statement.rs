//! The payouts of a period, from the lists of the merchant accounts: `GET /v3/merchant-accounts/{id}/transactions` (H).
//!
//! The provider filters by the day on which money moved (H), and a statement is about when payouts were made. So the list is read to the time by which what was made in the period
//! has moved, and only what was made in it is kept. A payout that has not moved yet is listed as `pending`, by the time at which it was made (ASSUMED).

use std::collections::{BTreeMap, BTreeSet};

use domain::fact::{ProviderReference, Reason, Report, Status};
use domain::money::{Currency, Money};
use http::{HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};

use super::{Client, status, wire};
use crate::http::{Call, Unread};
use crate::reading::{ReadError, is_plain_id, sanitised, usable};
use crate::{Line, Statement, clock};

/// Asks for pages; accounts that were opened after 2023 get them anyway (H).
const PAGES: HeaderName = HeaderName::from_static("tl-enable-pagination");

/// Questions for one statement, at most. A page holds a thousand transactions (H).
const CALLS_MAX: u32 = 256;

/// The longest period that one question is about; the provider takes up to 31 days (H), and ends are rounded.
const LONGEST_PERIOD: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is still too much for one answer in this time is an error.
const SHORTEST_PERIOD: SignedDuration = SignedDuration::from_millis(1);

/// Longest cursor that is sent back, in bytes.
const CURSOR_MAX: usize = 4096;

/// What was read so far.
struct Reading {
    /// When payouts were made that are wanted; both ends belong to it.
    from: Timestamp,
    to: Timestamp,
    /// By the provider's id: what is told twice is one payout.
    found: BTreeMap<String, Line>,
    lines_max: usize,
    calls: u32,
}

impl Client {
    /// The payouts of the configured merchant accounts that were made in a period, ours or not. What is too much for one answer is asked for in halves.
    ///
    /// It is not whole where a list does not say how it goes on, or names a page that was read already.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; also for a payout whose amount cannot be read.
    pub async fn statement(&self, from: Timestamp, to: Timestamp, lines_max: usize) -> Result<Statement, ReadError> {
        let accounts: BTreeSet<_> = self.settings.merchant_accounts.values().collect();
        // What has not moved within the bound of polls is in review by then.
        let moved = later(to, self.profile.polling.bound).min(clock::now()).max(to);
        let mut reading = Reading { from, to, found: BTreeMap::new(), lines_max, calls: 0 };
        let mut whole = true;
        for account in accounts {
            whole &= self.read_account(account, moved, &mut reading).await?;
        }
        whole &= reading.found.len() <= lines_max;
        Ok(Statement { lines: reading.found.into_values().take(lines_max).collect(), whole })
    }

    /// Reads what moved in an account until `moved`. Answers whether that was all of it.
    async fn read_account(&self, account: &str, moved: Timestamp, reading: &mut Reading) -> Result<bool, ReadError> {
        let mut periods = Vec::new();
        let mut start = reading.from;
        loop {
            let end = later(start, LONGEST_PERIOD).min(moved);
            periods.push((start, end));
            if end >= moved {
                break;
            }
            start = end;
        }
        let mut whole = true;
        while let Some(period) = periods.pop() {
            let Some(halves) = self.read_period(account, period, reading, &mut whole).await? else { continue };
            periods.extend(halves);
        }
        Ok(whole)
    }

    /// Reads a period page by page; the halves of it where a page was too large to be read.
    async fn read_period(
        &self,
        account: &str,
        (from, to): (Timestamp, Timestamp),
        reading: &mut Reading,
        whole: &mut bool,
    ) -> Result<Option<[(Timestamp, Timestamp); 2]>, ReadError> {
        let mut cursors = BTreeSet::new();
        let mut cursor: Option<String> = None;
        loop {
            if reading.calls == CALLS_MAX || reading.found.len() >= reading.lines_max {
                *whole = false;
                return Ok(None);
            }
            reading.calls += 1;
            // Written in whole milliseconds, and what is told twice is one payout: so the end is rounded up.
            let end = later(to, SHORTEST_PERIOD);
            let call = |within| {
                let call = Call::new(Method::GET, format!("/v3/merchant-accounts/{account}/transactions"), within)
                    .header(PAGES, HeaderValue::from_static("true"))
                    .query("type", "payout")
                    .query("from", format!("{from:.3}"))
                    .query("to", format!("{end:.3}"));
                match &cursor {
                    Some(cursor) => call.query("cursor", cursor),
                    None => call,
                }
            };
            let response = self.tokens.read(&self.api, call, self.read_deadline()).await?;
            let half = to.duration_since(from) / 2;
            if matches!(response.body, Err(Unread::TooLarge)) && half >= SHORTEST_PERIOD {
                let between = later(from, half);
                return Ok(Some([(between, to), (from, between)]));
            }
            let page: wire::Transactions = usable(&response)?;
            for item in &page.items {
                if let wire::Transaction::Payout(payout) = item {
                    reading.take(payout)?;
                }
            }
            let Some(pagination) = page.pagination else {
                *whole = false;
                return Ok(None);
            };
            let Some(next) = pagination.next_cursor else { return Ok(None) };
            if next.len() > CURSOR_MAX || !cursors.insert(next.clone()) {
                *whole = false;
                return Ok(None);
            }
            cursor = Some(next);
        }
    }
}

impl Reading {
    fn take(&mut self, payout: &wire::PayoutTransaction) -> Result<(), ReadError> {
        let line = line(payout)?;
        if line.at.is_none_or(|at| (self.from..=self.to).contains(&at)) {
            self.found.insert(payout.id.clone(), line);
        }
        Ok(())
    }
}

/// A payout of the list in our words.
fn line(payout: &wire::PayoutTransaction) -> Result<Line, ReadError> {
    let id = payout.payout_id.as_ref().unwrap_or(&payout.id);
    if !is_plain_id(id) {
        return Err(ReadError::new("unreadable_reference"));
    }
    let amount = Currency::parse(&payout.currency).ok().and_then(|currency| Money::new(payout.amount_in_minor, currency).ok());
    let amount = amount.ok_or_else(|| ReadError::new("unreadable_amount"))?;
    let (status, word) = match payout.status.as_str() {
        "executed" | "settled" if payout.returned_by.is_some() => (Status::Returned { reason: Reason::new("returned") }, "returned"),
        "settled" => (Status::Settled, "settled"),
        word => (status(word, None), word),
    };
    let moved = payout.executed_at.or(payout.created_at).map(|moment| moment.0);
    Ok(Line {
        key: payout.metadata.as_ref().and_then(wire::key_in),
        at: payout.created_at.or(payout.executed_at).map(|moment| moment.0),
        report: Report { status, provider_status: sanitised(word), at: moved, reference: Some(ProviderReference(id.clone())), amount: Some(amount) },
    })
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}
