//! How the sandbox says no, in the provider's words, and what it says no to.

use axum::Json;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Sandbox;
use super::book::Api;
use crate::worldpay::access::CORRELATION_ID;
use crate::worldpay::error::ErrorBody;

/// Largest request body that is read, in bytes: a batch of 500.
const MAX_BODY: usize = 2 * 1024 * 1024;

/// An error in the provider's shape.
pub(super) fn error(status: StatusCode, name: &str, message: &str) -> Response {
    (status, Json(ErrorBody::named(name, message))).into_response()
}

/// A problem with a field, as both APIs report it.
pub(super) fn invalid(name: &str, path: &str, message: &str) -> Response {
    let detail = ErrorBody { json_path: Some(path.to_owned()), ..ErrorBody::named(name, message) };
    let body = ErrorBody { validation_errors: vec![detail], ..ErrorBody::named("bodyDoesNotMatchSchema", "There was an error in the request") };
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

pub(super) fn header_problem(status: StatusCode, name: &str, header: &str) -> Response {
    let body = ErrorBody { header_name: Some(header.to_owned()), ..ErrorBody::named(name, "The header is missing or not what this resource needs.") };
    (status, Json(body)).into_response()
}

pub(super) fn unauthorised(api: Api) -> Response {
    match api {
        Api::Account => error(StatusCode::UNAUTHORIZED, "unauthorized", "Invalid token"),
        Api::Card => error(StatusCode::UNAUTHORIZED, "accessDenied", "Access to the requested resource has been denied"),
    }
}

pub(super) fn forbidden() -> Response {
    // The spaces are the provider's (H).
    error(StatusCode::FORBIDDEN, "forbidden", "Forbidden.\u{a0}Unauthorised\u{a0}request")
}

pub(super) fn broken(api: Api) -> Response {
    match api {
        Api::Account => {
            let body = serde_json::json!({"errorName": null, "message": "Unexpected Issue. Please try again"});
            (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
        }
        Api::Card => {
            let message = "An error occurred within the service (potentially due to an interaction with a downstream service)";
            error(StatusCode::INTERNAL_SERVER_ERROR, "internalErrorOccurred", message)
        }
    }
}

/// The parts of a request, with its raw body.
pub(super) async fn taken_apart(request: Request) -> Result<(http::request::Parts, Bytes), Response> {
    let (parts, body) = request.into_parts();
    match axum::body::to_bytes(body, MAX_BODY).await {
        Ok(body) => Ok((parts, body)),
        Err(_) => Err(error(StatusCode::PAYLOAD_TOO_LARGE, "bodyIsTooLarge", "The body is too large.")),
    }
}

/// What every request must bring: credentials, and a correlation id that is a UUID, if any (H).
pub(super) fn admitted(sandbox: &Sandbox, api: Api, headers: &HeaderMap) -> Result<(), Box<Response>> {
    if !sandbox.authorised(headers) {
        return Err(Box::new(unauthorised(api)));
    }
    match headers.get(CORRELATION_ID).map(|value| value.to_str().ok().and_then(|text| Uuid::try_parse(text).ok())) {
        Some(None) => Err(Box::new(header_problem(StatusCode::BAD_REQUEST, "headerHasInvalidValue", "WP-CorrelationId"))),
        Some(Some(_)) | None => Ok(()),
    }
}

/// Media types of the older kind: the same in `Accept` and, with a body, in `Content-Type` (H). That the statuses are 406 and 415 is ASSUMED.
pub(super) fn media_types(headers: &HeaderMap, known: &[&str], with_body: bool) -> Result<usize, Box<Response>> {
    let value = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wrong = |status, name| Err(Box::new(header_problem(status, "headerHasInvalidValue", name)));
    let accept = value(header::ACCEPT);
    let Some(index) = known.iter().position(|known| *known == accept) else { return wrong(StatusCode::NOT_ACCEPTABLE, "Accept") };
    if with_body && value(header::CONTENT_TYPE) != accept {
        return wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type");
    }
    Ok(index)
}

/// A JSON body, with the provider's errors: unknown and missing fields are named.
pub(super) fn body_of<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    if body.is_empty() {
        return Err(Box::new(error(StatusCode::BAD_REQUEST, "bodyIsEmpty", "The body within the request is empty.")));
    }
    serde_json::from_slice(body).map_err(|problem| {
        let text = problem.to_string();
        let field = text.split('`').nth(1).unwrap_or_default();
        Box::new(match problem.classify() {
            serde_json::error::Category::Data if text.starts_with("unknown field") => {
                invalid("fieldIsNotAllowed", &format!("$.{field}"), "Not a field.")
            }
            serde_json::error::Category::Data if text.starts_with("missing field") => invalid("fieldIsMissing", &format!("$.{field}"), "Required."),
            serde_json::error::Category::Data => invalid("fieldHasInvalidValue", "$", "Of the wrong type."),
            _ => error(StatusCode::BAD_REQUEST, "bodyIsNotJson", "The body within the request is not valid JSON."),
        })
    })
}
