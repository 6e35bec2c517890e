//! Which providers a payout may go to, and in which order: rules of the platform.
//!
//! The route is decided once, when the payout is accepted, and kept with it. The second provider of a route gets the payout only after the first one has
//! refused it, or nothing was sent to it; never while an outcome is unknown.

use domain::destination::Destination;
use domain::fact::Provider;
use domain::id::PartyId;
use domain::money::Money;
use serde::Deserialize;

/// Providers for the payouts that fit. What is left out fits all. The first rule that fits counts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
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
    /// In the currency's minor unit, inclusive.
    #[serde(default)]
    pub amount_from: Option<i64>,
    /// In the currency's minor unit, exclusive.
    #[serde(default)]
    pub amount_below: Option<i64>,
    /// In the order in which they are tried. Those that are not configured, or cannot take the payout, are passed over.
    pub providers: Vec<Provider>,
}

impl Rule {
    fn fits(&self, party: &PartyId, money: Money, destination: &Destination) -> bool {
        let any = |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|one| one == found);
        let country = match destination {
            Destination::Iban(iban) => iban.country(),
            _ => "",
        };
        any(&self.currencies, money.currency().code())
            && any(&self.destinations, destination.kind())
            && any(&self.countries, country)
            && any(&self.parties, party.as_str())
            && self.amount_from.is_none_or(|from| money.minor() >= from)
            && self.amount_below.is_none_or(|below| money.minor() < below)
    }
}

/// The providers of the first rule that fits; `None` if none does.
#[must_use]
pub fn ruled<'a>(rules: &'a [Rule], party: &PartyId, money: Money, destination: &Destination) -> Option<&'a [Provider]> {
    rules.iter().find(|rule| rule.fits(party, money, destination)).map(|rule| rule.providers.as_slice())
}

#[cfg(test)]
mod tests {
    use domain::destination::Iban;
    use domain::money::Currency;

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
}
