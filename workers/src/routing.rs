//! Rules of the platform: which providers a payout may go to, and in which order, and which payouts a second person must approve.
//!
//! The route is decided once, when the payout is opened, and kept with it. The second provider of a route gets the payout only after the first one has
//! refused it, or nothing was sent to it; never while an outcome is unknown.

use std::collections::BTreeSet;

use domain::destination::{Destination, Iban};
use domain::fact::Provider;
use domain::id::{Mode, PartyId};
use domain::money::{Currency, Money};
use providers::{Order, Providers, Unprepared};
use serde::Deserialize;

/// What is to be with the payouts that fit. What is left out fits all.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Of an approval: what payouts that meet it call it. Without one: `approvals[0]` and so on.
    #[serde(default)]
    pub name: Option<String>,
    /// Codes of currencies.
    #[serde(default)]
    pub currencies: Vec<String>,
    /// Types of destinations: `iban`, `sort_code_account_number`, `card`, …
    #[serde(default)]
    pub destinations: Vec<String>,
    /// Countries of IBANs, two letters each.
    #[serde(default)]
    pub countries: Vec<String>,
    #[serde(default)]
    pub parties: Vec<String>,
    /// IBANs of accounts, however a payout names them.
    #[serde(default)]
    pub accounts: Vec<Account>,
    /// Of an approval: only where the party has not sent to the account before.
    #[serde(default)]
    pub new_beneficiary: bool,
    /// In the currency's minor unit, inclusive.
    #[serde(default)]
    pub amount_from: Option<i64>,
    /// In the currency's minor unit, exclusive.
    #[serde(default)]
    pub amount_below: Option<i64>,
    /// Of a route, in the order in which they are tried. Those that are not configured, or cannot take the payout, are passed over.
    #[serde(default)]
    pub providers: Vec<Provider>,
}

/// An account in a rule.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct Account(Option<String>);

impl From<String> for Account {
    /// A text that is no IBAN is an account that no payout goes to: the parser's own words would quote it, so it is found out later.
    fn from(text: String) -> Self {
        Self(Iban::parse(&text).ok().map(|iban| Destination::Iban(iban).account()))
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Account(redacted)")
    }
}

impl Rule {
    /// What is wrong with it as a route.
    #[must_use]
    pub fn problems_of_route(&self) -> Vec<(&'static str, String)> {
        let mut found = self.problems();
        let once = self.providers.iter().collect::<BTreeSet<_>>().len() == self.providers.len();
        // A second time it would be tried again under another key.
        if !once || self.providers.is_empty() {
            found.push(("providers", "must name at least one provider, and none twice".to_owned()));
        }
        if self.name.is_some() {
            found.push(("name", "belongs to `ingress.approvals`: no payout tells its route by one".to_owned()));
        }
        if self.new_beneficiary {
            found.push(("new_beneficiary", "belongs to `ingress.approvals`".to_owned()));
        }
        found
    }

    /// What is wrong with it as a rule of approval.
    #[must_use]
    pub fn problems_of_approval(&self) -> Vec<(&'static str, String)> {
        let mut found = self.problems();
        if !self.name.as_deref().is_none_or(is_name) {
            found.push(("name", NOT_A_NAME.to_owned()));
        }
        if !self.providers.is_empty() {
            found.push(("providers", "belong to `ingress.routes`: whoever is to pay, a person approves before".to_owned()));
        }
        found
    }

    /// What no payout can ever fit, or what would mean something else than it says: the key, and why.
    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut unless = |fine: bool, key, why: &str| {
            if !fine {
                found.push((key, why.to_owned()));
            }
        };
        unless(
            self.currencies.iter().all(|code| Currency::parse(code).is_ok()),
            "currencies",
            "must hold codes of ISO 4217 in capitals, such as EUR",
        );
        let kinds = Destination::KINDS.join(", ");
        unless(self.destinations.iter().all(|kind| Destination::KINDS.contains(&kind.as_str())), "destinations", &format!("must be among {kinds}"));
        unless(
            self.countries.iter().all(|code| Iban::has_country(code)),
            "countries",
            "must hold two capital letters each of a country that has IBANs, such as NL",
        );
        let by_iban = self.destinations.is_empty() || self.destinations.iter().any(|kind| kind == "iban");
        unless(self.countries.is_empty() || by_iban, "countries", "are those of IBANs, and no `iban` is among the destinations");
        unless(self.parties.iter().all(|party| PartyId::parse(party).is_ok()), "parties", "must hold ids of parties");
        unless(self.accounts.iter().all(|account| account.0.is_some()), "accounts", "must hold IBANs, in capitals and without spaces");
        let (from, below) = (self.amount_from, self.amount_below);
        let amounts = if from.is_some() { "amount_from" } else { "amount_below" };
        // 1000 are 10 pounds, or 1000 yen.
        unless(
            (from.is_none() && below.is_none()) || self.currencies.len() == 1,
            amounts,
            "counts minor units, and so needs exactly one currency beside it",
        );
        unless(
            from.unwrap_or(0) >= 0 && below.is_none_or(|below| below > from.unwrap_or(0)),
            "amount_below",
            "must be above `amount_from`, which is 0 or more",
        );
        found
    }

    /// Whether it speaks of a payout of that party, over that amount, to that destination.
    #[must_use]
    pub fn fits(&self, party: &PartyId, money: Money, destination: &Destination) -> bool {
        self.fits_some_amount(party, money.currency(), destination)
            && self.amount_from.is_none_or(|from| money.minor() >= from)
            && self.amount_below.is_none_or(|below| money.minor() < below)
    }

    /// Whether there is an amount with which a payout would fit.
    #[must_use]
    pub fn fits_some_amount(&self, party: &PartyId, currency: Currency, destination: &Destination) -> bool {
        any(&self.currencies, currency.code()) && self.speaks_of(party, destination)
    }

    /// Whether there is a payout of that party to that destination that would fit.
    #[must_use]
    pub fn speaks_of(&self, party: &PartyId, destination: &Destination) -> bool {
        let country = match destination {
            Destination::Iban(iban) => iban.country(),
            _ => "",
        };
        any(&self.destinations, destination.kind())
            && any(&self.countries, country)
            && any(&self.parties, party.as_str())
            && (self.accounts.is_empty() || self.accounts.contains(&Account(Some(destination.account()))))
    }
}

fn any(wanted: &[String], found: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| one == found)
}

pub(crate) const NOT_A_NAME: &str = "must be 1 to 64 letters, digits, `_`, `-` and `.`: callers are told it";

/// Whether rules can be called that.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// The providers that a payout may go to, in order: the one that is asked for; else those of the rule that fits, less those that cannot take it; else the
/// first that can take it. If none can, the first of them that pays in that currency, so that its reasons can be told. Empty if nobody who may get it is configured.
#[must_use]
pub fn route(providers: &Providers, rules: &[Rule], asked: Option<Provider>, (party, mode): (&PartyId, Mode), order: &Order<'_>) -> Vec<Provider> {
    let ruled = ruled(rules, party, order.money, &order.beneficiary.destination);
    let configured: Vec<_> = providers.configured(mode).collect();
    let candidates: Vec<_> = match (asked, ruled) {
        (Some(asked), _) => configured.into_iter().filter(|provider| *provider == asked).collect(),
        (None, Some(ruled)) => ruled.iter().copied().filter(|provider| configured.contains(provider)).collect(),
        (None, None) => configured,
    };
    let takes = |provider: &Provider| providers.prepare(*provider, mode, order).is_ok();
    let [first, _, ..] = candidates.as_slice() else { return candidates };
    let (first, most) = (*first, if asked.is_none() && ruled.is_some() { usize::MAX } else { 1 });
    let able: Vec<_> = candidates.iter().copied().filter(takes).take(most).collect();
    if !able.is_empty() {
        return able;
    }
    // Whoever pays in that currency knows better what is wrong than one who does not.
    let pays_in_it =
        |provider: &Provider| !matches!(providers.prepare(*provider, mode, order), Err(Unprepared::Field(problem)) if problem.is_of_currency());
    vec![candidates.into_iter().find(pays_in_it).unwrap_or(first)]
}

/// The providers of the first route that fits; `None` if none does.
#[must_use]
fn ruled<'a>(rules: &'a [Rule], party: &PartyId, money: Money, destination: &Destination) -> Option<&'a [Provider]> {
    rules.iter().find(|rule| rule.fits(party, money, destination)).map(|rule| rule.providers.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rule = |json: serde_json::Value| serde_json::from_value::<Rule>(json).unwrap();
        let rules = [
            rule(serde_json::json!({ "parties": ["shop"], "providers": ["mollie"] })),
            rule(
                serde_json::json!({ "currencies": ["EUR"], "countries": ["DE", "NL"], "amount_from": 100, "amount_below": 1000, "providers": ["truelayer"] }),
            ),
            rule(serde_json::json!({ "destinations": ["iban"], "providers": ["worldpay-account", "truelayer-v3"] })),
        ];
        let german = Destination::Iban(Iban::parse("DE89370400440532013000").unwrap());
        let british = Destination::Iban(Iban::parse("GB33BUKB20201555555555").unwrap());
        let found = |party: &str, minor, currency, destination: &Destination| {
            let money = Money::new(minor, Currency::parse(currency).unwrap()).unwrap();
            ruled(&rules, &PartyId::parse(party).unwrap(), money, destination).map(<[Provider]>::to_vec)
        };
        assert_eq!(found("shop", 1, "EUR", &german), Some(vec![Provider::Mollie]));
        assert_eq!(found("x", 100, "EUR", &german), Some(vec![Provider::Truelayer]));
        for (minor, currency, destination) in [(99, "EUR", &german), (1000, "EUR", &german), (500, "GBP", &german), (500, "EUR", &british)] {
            assert_eq!(found("x", minor, currency, destination), Some(vec![Provider::WorldpayAccount, Provider::TruelayerV3]));
        }
        assert_eq!(found("x", 500, "EUR", &Destination::OwnAccount), None);
        assert!(serde_json::from_value::<Rule>(serde_json::json!({ "currency": "EUR", "providers": [] })).is_err());
    }
    /// Each mistake is found under its key, and a rule without one has none.
    #[test]
    fn mistakes_are_found() {
        let keys = |json: serde_json::Value| {
            let mut rule = serde_json::json!({ "providers": ["truelayer"] });
            rule.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
            let rule: Rule = serde_json::from_value(rule).unwrap();
            rule.problems_of_route().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let fine = serde_json::json!({ "currencies": ["EUR"], "countries": ["DE", "NL"], "destinations": ["iban"], "amount_from": 100, "amount_below": 1000 });
        assert!(keys(fine).is_empty());
        assert!(keys(serde_json::json!({ "destinations": ["card", "own_account"], "parties": ["shop"] })).is_empty());
        for (rule, key) in [
            (serde_json::json!({ "providers": [] }), "providers"),
            (serde_json::json!({ "name": "mine" }), "name"),
            (serde_json::json!({ "providers": ["mollie", "mollie"] }), "providers"),
            (serde_json::json!({ "currencies": ["EUr"] }), "currencies"),
            (serde_json::json!({ "currencies": ["EUR", "ERU"] }), "currencies"),
            (serde_json::json!({ "destinations": ["ibann"] }), "destinations"),
            (serde_json::json!({ "countries": ["nl"] }), "countries"),
            (serde_json::json!({ "countries": ["Germany"] }), "countries"),
            (serde_json::json!({ "countries": ["XX"] }), "countries"),
            (serde_json::json!({ "countries": ["NL"], "destinations": ["card"] }), "countries"),
            (serde_json::json!({ "parties": [""] }), "parties"),
            (serde_json::json!({ "amount_from": 1 }), "amount_from"),
            (serde_json::json!({ "amount_below": 1, "currencies": ["EUR", "GBP"] }), "amount_below"),
            (serde_json::json!({ "amount_from": 5, "amount_below": 5, "currencies": ["EUR"] }), "amount_below"),
            (serde_json::json!({ "amount_from": -1, "currencies": ["EUR"] }), "amount_below"),
        ] {
            assert_eq!(keys(rule.clone()), [key], "{rule}");
        }
    }
}
