//! What a store that has lost writes may have forgotten about a payout: another attempt, at whichever provider could have been asked.

use std::collections::BTreeMap;

use domain::destination::Beneficiary;
use domain::fact::{Look, Provider};
use domain::id::ProviderKey;
use domain::payout::attempt::Attempt;
use domain::payout::{Payout, What};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use providers::{Inquiry, Order};

use crate::execute::Payouts;
use crate::store::StoreError;

/// What the providers know about a payout beyond its record.
pub(crate) enum Forgotten {
    /// Nothing, and what they do not know they never knew: it may be sent.
    Nothing,
    /// One of them has it.
    Found(What),
    /// One of them could not be asked, or may have forgotten it too.
    Perhaps,
}

/// A route names each provider once, so a payout has had no more attempts than there are providers.
const ATTEMPTS_MAX: u8 = Provider::ALL.len() as u8;

/// How far back a provider is asked that lists payouts by time: what was forgotten is older than its new record.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What providers are asked about a payout, beyond what is on record.
struct Questions {
    asked: Vec<(Provider, u8, ProviderKey, Vec<u8>)>,
    /// Every provider that could have it can be asked, and forgets nothing.
    all_remember: bool,
}

impl Payouts {
    /// Asks every provider that could have taken this payout about every attempt that could have been made there, `attempt` excepted. The route in the
    /// record does not count: it may have been another one when the payout was first accepted.
    pub(crate) async fn forgotten(&self, payout: &Payout, attempt: &Attempt) -> Result<Forgotten, StoreError> {
        let providers = &self.recorder.providers;
        let beneficiary = self.recorder.store.beneficiary(payout.id).await?;
        let Some(Questions { asked, all_remember }) = self.questions(payout, &beneficiary) else { return Ok(Forgotten::Perhaps) };
        let first_sent = attempt.initiated_at.saturating_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        let mut looks: FuturesUnordered<_> = asked
            .iter()
            .map(async |(provider, number, key, request)| {
                let inquiry = Inquiry { key: *key, reference: None, request, first_sent };
                (*provider, *number, providers.look(*provider, payout.mode, &inquiry).await)
            })
            .collect();
        let mut forgotten = if all_remember { Forgotten::Nothing } else { Forgotten::Perhaps };
        // The first that is found is the answer, however long the others take.
        while let Some((provider, number, look)) = looks.next().await {
            match look {
                Look::Found(report) => {
                    tracing::error!(payout.id = %payout.id, provider.name = provider.name(), attempt = number, "a provider has an attempt of which there is no record");
                    return Ok(Forgotten::Found(What::Elsewhere { provider, attempt: number, report }));
                }
                Look::NotFound => {}
                Look::Nothing { .. } => forgotten = Forgotten::Perhaps,
            }
        }
        Ok(forgotten)
    }

    /// How many looks at each provider a payout takes before it is sent, if it is suspect: those of [`Payouts::forgotten`], and that for the attempt itself.
    pub(crate) fn looks(&self, payout: &Payout, beneficiary: &Beneficiary) -> Vec<(Provider, u64)> {
        let mut looks = BTreeMap::new();
        for (provider, ..) in self.questions(payout, beneficiary).into_iter().flat_map(|questions| questions.asked) {
            *looks.entry(provider).or_insert(0) += 1;
        }
        // An attempt that was sent before is none of these.
        let own = payout.attempt().filter(|attempt| attempt.sends > 0).map(|attempt| attempt.provider);
        own.into_iter().for_each(|own| *looks.entry(own).or_insert(0) += 1);
        looks.into_iter().collect()
    }

    /// `None` for a payout whose amount is not known yet.
    fn questions(&self, payout: &Payout, beneficiary: &Beneficiary) -> Option<Questions> {
        let providers = &self.recorder.providers;
        let money = payout.amount.exact()?;
        let mut asked = Vec::new();
        // One that is not configured here cannot be asked.
        let here: Vec<Provider> = providers.configured(payout.mode).collect();
        let possible = payout.route.iter().chain(payout.attempts.iter().map(|made| &made.provider));
        let mut all_remember = possible.into_iter().all(|provider| here.contains(provider));
        for provider in here {
            for number in 1..=ATTEMPTS_MAX {
                let key = ProviderKey::derive(payout.id, number);
                let order = Order { key, money, beneficiary, context_code: &payout.context_code };
                // What it cannot take it cannot have taken.
                let Ok(request) = providers.request(provider, payout.mode, &order) else { continue };
                all_remember &= providers.profile(provider, payout.mode).recognises_for_ever();
                let on_record = payout.attempts.iter().any(|made| made.sends > 0 && (made.number, made.provider) == (number, provider));
                if !on_record {
                    asked.push((provider, number, key, request));
                }
            }
        }
        Some(Questions { asked, all_remember })
    }
}
