//! The platform's part: sends payouts, repeats what got no answer, sends some of them again, takes some back, and puts in the money for them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use domain::fact::Provider;
use domain::id::{Mode, PayoutId, ProviderKey};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;
use workers::clock::Clock;

use super::dice::Dice;
use crate::caller::{Answer, Caller};
use crate::local::{Local, order};

/// In how many parts the money for the payouts comes in, besides the first half.
const TOP_UPS: i64 = 8;
/// How long one request is repeated.
const STUBBORN: Duration = Duration::from_secs(60);

/// A payout that was asked for.
#[derive(Clone, Debug)]
pub struct Sent {
    pub transaction: Uuid,
    pub id: PayoutId,
    /// Who was to pay it.
    pub provider: Provider,
    /// Answered 202, at least once.
    pub accepted: bool,
    /// What the platform was told when it took the payout back: that it is canceled, or that it is too late.
    pub canceled: Option<bool>,
}

/// What is done with one payout, and when.
struct Course {
    provider: Provider,
    transaction: Uuid,
    body: Value,
    begins: Duration,
    /// Sent again at the same time.
    again: bool,
    /// Taken back so long after it was accepted.
    taken_back: Option<Duration>,
}

/// What was asked for, and the money that came in, by currency.
#[derive(Debug, Default)]
pub struct Load {
    pub sent: Vec<Sent>,
    pub topped_up: BTreeMap<String, i64>,
}

impl Sent {
    /// The name of its first attempt at the provider.
    #[must_use]
    pub fn provider_key(&self) -> ProviderKey {
        ProviderKey::derive(self.id, 1)
    }
}

/// Sends payouts, spread over a time, and returns when each has its answer.
///
/// Their accounts pay with their own money: half of what is needed is there at the beginning, and the rest comes in meanwhile, so that some payouts are
/// asked for in vain.
pub(super) async fn send(local: &Local, payouts: u32, seed: u64, over: Duration) -> anyhow::Result<Load> {
    let mut dice = Dice::new(seed, "load");
    let courses: Vec<Course> = (0..payouts).map(|_| Course::draw(&mut dice, over)).collect();
    let mut topped_up: BTreeMap<String, i64> = BTreeMap::new();
    for Course { body, .. } in &courses {
        *topped_up.entry(body["currency"].as_str().unwrap_or_default().to_owned()).or_default() += body["amount_in_minor"].as_i64().unwrap_or(0);
    }
    let mut coming_in = JoinSet::new();
    for (currency, total) in &mut topped_up {
        local.unsigned.expect(Method::PATCH, &format!("/v1/balances/{currency}"), Some(&json!({ "funding": "balance" }))).await?;
        let (first, part) = (*total / 2 + 1, *total / 2 / TOP_UPS + 1);
        *total = first + part * TOP_UPS;
        let parts: Vec<_> = (0..TOP_UPS).map(|_| (part, dice.within_time(over))).collect();
        for (minor, begins) in std::iter::once((first, Duration::ZERO)).chain(parts) {
            let body = json!({ "transaction_id": Uuid::from_u128(u128::from(dice.next())), "currency": currency, "amount_in_minor": minor });
            let caller = local.caller.clone();
            let coming = async move {
                tokio::time::sleep(begins).await;
                match stubbornly(&caller, "/v1/top-ups", Some(&body)).await {
                    Some(answer) if answer.status == StatusCode::CREATED => Ok(()),
                    answer => bail!("a top-up was answered {answer:?}"),
                }
            };
            if begins.is_zero() { coming.await? } else { _ = coming_in.spawn(coming) }
        }
    }
    let mut running = JoinSet::new();
    for course in courses {
        let id = PayoutId::derive(&local.config.ingress.default_party, Mode::Test, &course.transaction.to_string(), local.store.shards());
        running.spawn(course.run(local.caller.clone(), id));
    }
    let mut sent = Vec::new();
    while let Some(ended) = running.join_next().await {
        sent.push(ended??);
    }
    sent.sort_by_key(|sent| sent.transaction);
    while let Some(ended) = coming_in.join_next().await {
        ended??;
    }
    Ok(Load { sent, topped_up })
}

impl Course {
    fn draw(dice: &mut Dice, over: Duration) -> Self {
        let transaction = uuid::Builder::from_random_bytes((u128::from(dice.next()) << 64 | u128::from(dice.next())).to_be_bytes()).into_uuid();
        let mut begins = dice.within_time(over);
        if dice.percent(30) {
            // Together with others.
            begins = Duration::from_secs(begins.as_secs());
        }
        let provider = dice.pick(&Provider::ALL).unwrap_or(Provider::Truelayer);
        let mut body = order(provider, transaction, i64::try_from(dice.within(1..100_000)).unwrap_or(1));
        body["beneficiary_reference"] = json!(format!("Withdrawal {}", dice.within(0..100_000)));
        if dice.percent(10) {
            let at = Clock::of_the_machine().saturating_add(begins + dice.millis(1_000..3_000)).unwrap_or(jiff::Timestamp::MAX);
            body["scheduled_for"] = json!(at.to_string());
        }
        // While it may not be dispatched yet, or while nobody knows what became of it.
        let soon = dice.percent(60);
        let taken_back = dice.percent(16).then(|| dice.millis(if soon { 0..40 } else { 40..6_000 }));
        Self { provider, transaction, body, begins, again: dice.percent(10), taken_back }
    }

    async fn run(self, caller: Caller, id: PayoutId) -> anyhow::Result<Sent> {
        tokio::time::sleep(self.begins).await;
        let mut sent = Sent { transaction: self.transaction, id, provider: self.provider, accepted: false, canceled: None };
        let post = || stubbornly(&caller, "/v1/payouts", Some(&self.body));
        let (answer, again) = tokio::join!(post(), async { if self.again { Some(post().await) } else { None } });
        for answer in [answer, again.flatten()].into_iter().flatten() {
            // While the store was away, the day that it was asked for has come.
            if answer.status == StatusCode::BAD_REQUEST && self.body.get("scheduled_for").is_some() {
                continue;
            }
            if answer.status != StatusCode::ACCEPTED || answer.body["result"]["payout_id"] != id.to_string() {
                bail!("a payout was answered {}: {}", answer.status, answer.body);
            }
            sent.accepted = true;
        }
        if let (true, Some(wait)) = (sent.accepted, self.taken_back) {
            tokio::time::sleep(wait).await;
            sent.canceled = match stubbornly(&caller, &format!("/v1/payouts/{}/cancel", self.transaction), None).await {
                Some(answer) if answer.status == StatusCode::OK => Some(true),
                Some(answer) if answer.status == StatusCode::CONFLICT => Some(false),
                // The provider is asked, and who wins is told later.
                Some(answer) if answer.status == StatusCode::ACCEPTED => None,
                Some(answer) => bail!("taking a payout back was answered {}: {}", answer.status, answer.body),
                None => None,
            };
        }
        Ok(sent)
    }
}

/// Sends a request until it is answered, by anything but 5xx.
async fn stubbornly(caller: &Caller, path: &str, body: Option<&Value>) -> Option<Answer> {
    let began = Instant::now();
    let mut wait = Duration::from_millis(50);
    while began.elapsed() < STUBBORN {
        match caller.call(Method::POST, path, body).await {
            Ok(answer) if !answer.status.is_server_error() => return Some(answer),
            Ok(_) | Err(_) => tokio::time::sleep(wait).await,
        }
        wait = (wait * 2).min(Duration::from_millis(500));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_asks_for_the_same_payouts() {
        let drawn = |seed| {
            let mut dice = Dice::new(seed, "load");
            (0..50)
                .map(|_| Course::draw(&mut dice, Duration::from_secs(5)))
                .map(|course| (course.transaction, course.begins, course.taken_back))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        assert!(drawn(7).iter().any(|(_, _, taken_back)| taken_back.is_some()));
    }
}
