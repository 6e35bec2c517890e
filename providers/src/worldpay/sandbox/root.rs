//! The root resource, from which all others can be discovered.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;

use super::Sandbox;
use super::book::Api;
use super::refusals::admitted;

/// The root, with the links of seed 000.
pub(super) async fn root(State(sandbox): State<Sandbox>, headers: HeaderMap) -> Response {
    if let Err(response) = admitted(&sandbox, Api::Account, &headers) {
        return *response;
    }
    let url = sandbox.url();
    let mut links: serde_json::Map<_, _> =
        ROOT.into_iter().map(|(rel, path)| (rel.to_owned(), serde_json::json!({"href": format!("{url}{path}")}))).collect();
    links.insert("curies".to_owned(), serde_json::json!([{"href": format!("{url}/rels/payments/{{rel}}"), "name": "payments", "templated": true}]));
    Json(serde_json::json!({"_links": links})).into_response()
}

const ROOT: [(&str, &str); 20] = [
    ("payments:authorize", "/payments/authorizations"),
    ("service:payments", "/payments"),
    ("service:sessions", "/sessions"),
    ("service:tokens", "/tokens"),
    ("service:verifications/accounts", "/verifications/accounts"),
    ("service:verifications/customers/3ds", "/verifications/customers/3ds"),
    ("service:verifiedTokens", "/verifiedTokens"),
    ("service:fraudsight", "/fraudsight"),
    ("service:exemptions", "/exemptions"),
    ("service:payouts", "/payouts"),
    ("service:payments/alternative/direct", "/payments/alternative/direct"),
    ("service:payments/alternative/action/paypal", "/payments/alternative/action/paypal"),
    ("service:payments/alternative/action/ideal", "/payments/alternative/action/ideal"),
    ("service:payouts/accounts", "/payouts/accounts"),
    ("service:payouts/events", "/payouts/events"),
    ("service:moneyTransfers", "/moneyTransfers"),
    ("service:foreignExchange", "/foreignExchange"),
    ("service:accounts/statements", "/accounts/statements"),
    ("service:accounts/balance", "/accounts/balance"),
    ("service:accounts/transfer", "/accounts/transfer"),
];
