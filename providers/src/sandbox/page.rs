//! The page of all sandboxes, for people.

use std::fmt::Write as _;

use domain::fact::Provider;

use super::all::{All, having};
use super::audit::Direction;
use super::mood::Mood;

/// How a payout gets a mood.
pub(super) const HOW: [&str; 4] = [
    "By its amount in minor units, which is the same for a mood at every provider that has it. Elsewhere it is an amount as any other.",
    "By its reference, or at Worldpay also by the beneficiary's name: `MOOD ` and the name of a mood, cut to the length that the provider takes.",
    "By order: POST {base_url}/sandbox/moods with {\"next\": 3, \"mood\": \"fail\"} is for the next three payouts that do not choose.",
    "By chance: POST {base_url}/sandbox/moods with {\"fault_percent\": 20, \"seed\": 7} is for all others. The same seed and key give the same mood.",
];

/// How money comes into an account at TrueLayer v3.
pub(super) const DEPOSIT: &str = "POST {base_url}/sandbox/merchant-accounts/{id}/deposits with {\"amount_in_minor\": 12345} at truelayer-v3, whose accounts GET {base_url}/v3/merchant-accounts lists: the deposit is told by a webhook, and is in the list of transactions.";

/// Movements that are shown of one provider, the last ones.
const SHOWN: usize = 20;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #ddd}code{font-size:.95em}";

pub(super) fn front(all: &All) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>payrelay sandbox</title>\
         <style>{STYLE}</style><h1>payrelay sandbox</h1><p>Providers that are not ones. The money is imaginary; the books are kept by each of them, not by payrelay.</p>"
    );
    page.push_str("<h2>Providers</h2><table><tr><th>provider<th>base URL<th>movements<th>double<th>");
    for provider in Provider::ALL {
        let (url, ledger) = (escaped(&all.url(provider)), all.ledger_of(provider));
        let (name, movements, doubles) = (provider.name(), ledger.movements.len(), ledger.double_movements);
        let _ = write!(
            page,
            "<tr><td>{name}<td><code>{url}</code><td>{movements}<td>{doubles}<td><a href=\"/ledgers/{name}\">ledger</a> · <a href=\"{url}/sandbox/moods\">moods</a>"
        );
    }
    page.push_str("</table><h2>Moods</h2><ul>");
    for how in HOW {
        let _ = write!(page, "<li>{}</li>", escaped(how));
    }
    page.push_str("</ul><table><tr><th>mood<th>amount<th>what happens<th>where");
    for mood in Mood::ALL {
        let there = having(mood);
        let places = if there.len() == Provider::ALL.len() { "everywhere".to_owned() } else { there.join(", ") };
        let _ = write!(page, "<tr><td><code>{}</code><td>{}<td>{}<td>{places}", mood.name(), mood.amount(), escaped(mood.sentence()));
    }
    let _ = write!(page, "</table><h2>Money that comes in</h2><p>{}</p><h2>Money that moved</h2>", escaped(DEPOSIT));
    for provider in Provider::ALL {
        let movements = all.ledger_of(provider).movements;
        let _ = write!(page, "<h3>{}</h3>", provider.name());
        if movements.is_empty() {
            page.push_str("<p>Nothing yet.</p>");
            continue;
        }
        page.push_str("<table><tr><th>when<th>way<th>minor units<th>currency<th>reference<th>payout");
        for movement in movements.iter().rev().take(SHOWN) {
            let way = if movement.direction == Direction::Out { "out" } else { "back" };
            let payout = movement.payout_and_attempt().map_or_else(|| movement.transaction_id.to_string(), |(payout, _)| payout.to_string());
            let (at, amount, currency, reference) =
                (movement.at, movement.amount_in_minor, escaped(&movement.currency), escaped(&movement.reference));
            let _ = write!(page, "<tr><td>{at:.3}<td>{way}<td>{amount}<td>{currency}<td>{reference}<td><code>{payout}</code>");
        }
        page.push_str("</table>");
    }
    page.push_str("</html>\n");
    page
}

/// A text that somebody else has chosen, as it may stand in a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
