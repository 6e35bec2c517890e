//! What all processes of an installation must be told alike, as a hash for each section: what decides about a payout, or about what is kept of it. Addresses, paths, sizes
//! and numbers of threads are each process's own.
//!
//! The hashes are keyed with `ingress.key_pepper`, which all processes share: whoever can read the store learns neither a secret nor a limit from them, by guessing either.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

/// Keys, or whole sections, as they are written in a configuration.
pub(super) const ALIKE: &[&str] = &[
    "server.live",
    "vault",
    "ingress.routes",
    "ingress.approvals",
    "ingress.approval_hours",
    "ingress.known_days",
    "ingress.known_max",
    "ingress.limits",
    "ingress.refuse_twins",
    "ingress.schedule_countries",
    "ingress.instruments_max",
    "workers.lease_ms",
    "execute",
    "circuit",
    "rules",
    "schedules",
    "relay.waits_s",
    "relay.retry_after_cap_ms",
    "relay.throttle_ms",
    "relay.throttle_cap_ms",
    "relay.circuit_failures",
    "relay.circuit_wait_first_ms",
    "relay.circuit_wait_cap_ms",
    "relay.warn_after_hours",
    "relay.disable_after_hours",
    "relay.per_subscription",
    "relay.leases_max",
    "relay.signing_keys",
    "egress.allow",
    "egress.https_only_in_live",
    "calendars",
    "deposits",
    "retention.payouts_days",
    "retention.abandoned_days",
    "retention.excerpts_days",
    "retention.orphans_days",
    "retention.feed_days",
    "retention.replays_days",
    "retention.receipts_days",
    "providers.truelayer_test",
    "providers.truelayer_live",
    "providers.truelayer_v3_test",
    "providers.truelayer_v3_live",
    "providers.worldpay_account_test",
    "providers.worldpay_account_live",
    "providers.worldpay_card_test",
    "providers.worldpay_card_live",
    "providers.mollie_test",
    "providers.mollie_live",
];

/// The hash of each section of a configuration, whether anything is set there or not.
pub(super) fn told(layers: &::config::Config, pepper: &[u8]) -> BTreeMap<String, String> {
    let told = |section: &str| {
        let mut text = format!("configuration {section} ");
        write_plainly(&layers.get::<Value>(section).unwrap_or_default(), &mut text);
        (section.to_owned(), domain::credential::token_hash(pepper, &text)[..32].to_owned())
    };
    ALIKE.iter().copied().map(told).collect()
}

/// In one way, whichever file or variable it came from: tables by name, and numbers as the texts that variables make of them.
fn write_plainly(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push('-'),
        Value::Bool(is) => write_text(&is.to_string(), text),
        Value::Number(number) => write_text(&number.to_string(), text),
        Value::String(string) => write_text(string, text),
        Value::Array(list) => {
            text.push('[');
            list.iter().for_each(|item| write_plainly(item, text));
            text.push(']');
        }
        Value::Object(table) => {
            text.push('{');
            for (name, value) in table.iter().collect::<BTreeMap<_, _>>() {
                write_text(name, text);
                write_plainly(value, text);
            }
            text.push('}');
        }
    }
}

/// With its length, so that no two values are written alike.
fn write_text(value: &str, text: &mut String) {
    let _ = write!(text, "{}:{value}", value.len());
}
