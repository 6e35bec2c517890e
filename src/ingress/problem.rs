//! What goes wrong with a request, as RFC 9457 problem documents. None of them repeats a value of the request.
//!
//! A [`Problem`] travels in the extensions of its response; [`super::edge`] writes it out, because only the edge knows the request's id.

use std::fmt;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use workers::store::StoreError;

/// The kinds of problems. Their names are part of the API: clients branch on `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    NotFound,
    MethodNotAllowed,
    MisdirectedRequest,
    BodyTooLarge,
    BodyTimeout,
    BodyBroken,
    BodyMissing,
    MediaType,
    NotUtf8,
    JsonInvalid,
    JsonTooDeep,
    InvalidFields,
    InvalidParameters,
    Unauthenticated,
    SignatureMissing,
    SignatureInvalid,
    MissingScope,
    SecondPerson,
    OtherParty,
    FormRefused,
    KeyConflict,
    BatchConflict,
    BatchArchived,
    KeyArchived,
    NotPossibleNow,
    SubscriptionsFull,
    SubscriptionDeleted,
    VersionStale,
    AccountBusy,
    AccountFull,
    ProviderFunded,
    TopUpConflict,
    PartyInactive,
    TwinUnresolved,
    NotReplaceable,
    LimitExceeded,
    ReferenceConflict,
    AccountConflict,
    InstrumentsFull,
    AlreadyScheduled,
    InsufficientFunds,
    BalanceInactive,
    PayoutsBlocked,
    QueuedRefunds,
    BelowThreshold,
    DestinationInvalid,
    FeedClosed,
    FeedExpired,
    NoticeUnverified,
    NoticeUnreadable,
    NoticesAmbiguous,
    RateLimited,
    Overloaded,
    StoreUnavailable,
    StoreFull,
    KeysUnavailable,
    Timeout,
    Internal,
}

impl Kind {
    /// Every kind, as the documentation lists them.
    pub const ALL: [Self; 58] = [
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::MisdirectedRequest,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::BodyBroken,
        Self::BodyMissing,
        Self::MediaType,
        Self::NotUtf8,
        Self::JsonInvalid,
        Self::JsonTooDeep,
        Self::InvalidFields,
        Self::InvalidParameters,
        Self::Unauthenticated,
        Self::SignatureMissing,
        Self::SignatureInvalid,
        Self::MissingScope,
        Self::SecondPerson,
        Self::OtherParty,
        Self::FormRefused,
        Self::KeyConflict,
        Self::BatchConflict,
        Self::BatchArchived,
        Self::KeyArchived,
        Self::NotPossibleNow,
        Self::SubscriptionsFull,
        Self::SubscriptionDeleted,
        Self::VersionStale,
        Self::AccountBusy,
        Self::AccountFull,
        Self::ProviderFunded,
        Self::TopUpConflict,
        Self::PartyInactive,
        Self::TwinUnresolved,
        Self::NotReplaceable,
        Self::LimitExceeded,
        Self::ReferenceConflict,
        Self::AccountConflict,
        Self::InstrumentsFull,
        Self::AlreadyScheduled,
        Self::InsufficientFunds,
        Self::BalanceInactive,
        Self::PayoutsBlocked,
        Self::QueuedRefunds,
        Self::BelowThreshold,
        Self::DestinationInvalid,
        Self::FeedClosed,
        Self::FeedExpired,
        Self::NoticeUnverified,
        Self::NoticeUnreadable,
        Self::NoticesAmbiguous,
        Self::RateLimited,
        Self::Overloaded,
        Self::StoreUnavailable,
        Self::StoreFull,
        Self::KeysUnavailable,
        Self::Timeout,
        Self::Internal,
    ];

    /// The last part of `type`, the status, and the title that goes with both.
    #[must_use]
    pub const fn parts(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::NotFound => ("not-found", StatusCode::NOT_FOUND, "There is nothing here"),
            Self::MethodNotAllowed => ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "This resource has no such method"),
            Self::MisdirectedRequest => ("misdirected-request", StatusCode::MISDIRECTED_REQUEST, "This host is not served here"),
            Self::BodyTooLarge => ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
            Self::BodyTimeout => ("body-timeout", StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time"),
            Self::BodyBroken => ("body-broken", StatusCode::BAD_REQUEST, "The body did not arrive whole"),
            Self::BodyMissing => ("body-missing", StatusCode::BAD_REQUEST, "A body is required"),
            Self::MediaType => ("media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The media type is not supported"),
            Self::NotUtf8 => ("not-utf-8", StatusCode::BAD_REQUEST, "The body is not UTF-8"),
            Self::JsonInvalid => ("json-invalid", StatusCode::BAD_REQUEST, "Not a JSON object"),
            Self::JsonTooDeep => ("json-too-deep", StatusCode::BAD_REQUEST, "The body is nested too deeply"),
            Self::InvalidFields => ("invalid-fields", StatusCode::BAD_REQUEST, "Fields of the body are not acceptable"),
            Self::InvalidParameters => ("invalid-parameters", StatusCode::BAD_REQUEST, "Parameters of the query are not acceptable"),
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, "Valid credentials are required"),
            Self::SignatureMissing => ("signature-missing", StatusCode::UNAUTHORIZED, "The request must be signed"),
            Self::SignatureInvalid => ("signature-invalid", StatusCode::UNAUTHORIZED, "The signature is not accepted"),
            Self::MissingScope => ("missing-scope", StatusCode::FORBIDDEN, "The API key may not do this"),
            Self::SecondPerson => ("second-person", StatusCode::FORBIDDEN, "Somebody else must do this"),
            Self::OtherParty => ("other-party", StatusCode::FORBIDDEN, "The API key is bound to another party"),
            Self::FormRefused => ("form-refused", StatusCode::FORBIDDEN, "The form is not accepted"),
            Self::KeyConflict => ("key-conflict", StatusCode::UNPROCESSABLE_ENTITY, "The transaction_id was used for another request"),
            Self::BatchConflict => ("batch-conflict", StatusCode::UNPROCESSABLE_ENTITY, "The batch_id was used for another batch"),
            Self::BatchArchived => ("batch-archived", StatusCode::GONE, "The batch_id was used long ago"),
            Self::KeyArchived => ("key-archived", StatusCode::CONFLICT, "The transaction_id was used long ago"),
            Self::NotPossibleNow => ("not-possible-now", StatusCode::CONFLICT, "Not possible in the present state"),
            Self::SubscriptionsFull => ("subscriptions-full", StatusCode::CONFLICT, "The party has as many subscriptions as it can have"),
            Self::SubscriptionDeleted => ("subscription-deleted", StatusCode::UNPROCESSABLE_ENTITY, "The subscription was deleted"),
            Self::VersionStale => ("version-stale", StatusCode::CONFLICT, "It was changed in the meantime"),
            Self::AccountBusy => ("account-busy", StatusCode::CONFLICT, "The account has payouts under way"),
            Self::AccountFull => ("account-full", StatusCode::CONFLICT, "The account cannot hold so much"),
            Self::ProviderFunded => ("provider-funded", StatusCode::CONFLICT, "The provider funds the account"),
            Self::TopUpConflict => ("top-up-conflict", StatusCode::UNPROCESSABLE_ENTITY, "The transaction_id was used for another top-up"),
            Self::PartyInactive => ("party-inactive", StatusCode::CONFLICT, "The party is inactive"),
            Self::TwinUnresolved => ("twin-unresolved", StatusCode::CONFLICT, "An equal payout is not resolved"),
            Self::NotReplaceable => ("not-replaceable", StatusCode::CONFLICT, "The payout cannot be replaced"),
            Self::LimitExceeded => ("limit-exceeded", StatusCode::UNPROCESSABLE_ENTITY, "The payout goes beyond a limit"),
            Self::ReferenceConflict => ("reference-conflict", StatusCode::UNPROCESSABLE_ENTITY, "The reference was used for another request"),
            Self::AccountConflict => ("account-conflict", StatusCode::UNPROCESSABLE_ENTITY, "The party has another account in that currency"),
            Self::InstrumentsFull => ("instruments-full", StatusCode::CONFLICT, "The party has as many payout instruments as it can have"),
            Self::AlreadyScheduled => {
                ("already-scheduled", StatusCode::UNPROCESSABLE_ENTITY, "A payout of the balance is scheduled for that day already")
            }
            Self::InsufficientFunds => ("insufficient-funds", StatusCode::UNPROCESSABLE_ENTITY, "The balance has insufficient funds"),
            Self::BalanceInactive => ("balance-inactive", StatusCode::UNPROCESSABLE_ENTITY, "The balance is not active"),
            Self::PayoutsBlocked => ("payouts-blocked", StatusCode::UNPROCESSABLE_ENTITY, "Payouts of the party are blocked"),
            Self::QueuedRefunds => ("queued-refunds", StatusCode::UNPROCESSABLE_ENTITY, "The balance has queued refunds"),
            Self::BelowThreshold => {
                ("below-threshold", StatusCode::UNPROCESSABLE_ENTITY, "A balance of the party is below its negative balance threshold")
            }
            Self::DestinationInvalid => {
                ("destination-invalid", StatusCode::UNPROCESSABLE_ENTITY, "The balance has no destination that can be paid to")
            }
            Self::FeedClosed => ("feed-closed", StatusCode::CONFLICT, "The party has no feed"),
            Self::FeedExpired => ("feed-expired", StatusCode::GONE, "Events after the cursor are not kept any more"),
            Self::NoticeUnverified => ("notice-unverified", StatusCode::UNAUTHORIZED, "The notice is not proved to come from the provider"),
            Self::NoticeUnreadable => ("notice-unreadable", StatusCode::BAD_REQUEST, "The notice cannot be read"),
            Self::NoticesAmbiguous => ("notices-ambiguous", StatusCode::NOT_FOUND, "The address does not say which mode the notice is for"),
            Self::RateLimited => ("rate-limited", StatusCode::TOO_MANY_REQUESTS, "The key has made too many requests"),
            Self::Overloaded => ("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Too many requests are under way"),
            Self::StoreUnavailable => ("store-unavailable", StatusCode::SERVICE_UNAVAILABLE, "The store does not answer"),
            Self::StoreFull => ("store-full", StatusCode::SERVICE_UNAVAILABLE, "The store accepts no more writes"),
            Self::KeysUnavailable => ("keys-unavailable", StatusCode::SERVICE_UNAVAILABLE, "The provider's keys are not available"),
            Self::Timeout => ("timeout", StatusCode::SERVICE_UNAVAILABLE, "The request took too long"),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong here"),
        }
    }

    /// Seconds after which a repeat makes sense, where it does without a change.
    const fn retry_after_s(self) -> Option<&'static str> {
        match self {
            Self::RateLimited | Self::Overloaded | Self::StoreUnavailable | Self::KeysUnavailable | Self::Timeout => Some("1"),
            Self::StoreFull => Some("30"),
            Self::NotFound
            | Self::MethodNotAllowed
            | Self::MisdirectedRequest
            | Self::BodyTooLarge
            | Self::BodyTimeout
            | Self::BodyBroken
            | Self::BodyMissing
            | Self::MediaType
            | Self::NotUtf8
            | Self::JsonInvalid
            | Self::JsonTooDeep
            | Self::InvalidFields
            | Self::InvalidParameters
            | Self::Unauthenticated
            | Self::SignatureMissing
            | Self::SignatureInvalid
            | Self::MissingScope
            | Self::SecondPerson
            | Self::OtherParty
            | Self::FormRefused
            | Self::KeyConflict
            | Self::BatchConflict
            | Self::BatchArchived
            | Self::KeyArchived
            | Self::NotPossibleNow
            | Self::SubscriptionsFull
            | Self::SubscriptionDeleted
            | Self::VersionStale
            | Self::AccountBusy
            | Self::AccountFull
            | Self::ProviderFunded
            | Self::TopUpConflict
            | Self::PartyInactive
            | Self::TwinUnresolved
            | Self::NotReplaceable
            | Self::LimitExceeded
            | Self::ReferenceConflict
            | Self::AccountConflict
            | Self::InstrumentsFull
            | Self::AlreadyScheduled
            | Self::InsufficientFunds
            | Self::BalanceInactive
            | Self::PayoutsBlocked
            | Self::QueuedRefunds
            | Self::BelowThreshold
            | Self::DestinationInvalid
            | Self::FeedClosed
            | Self::FeedExpired
            | Self::NoticeUnverified
            | Self::NoticeUnreadable
            | Self::NoticesAmbiguous
            | Self::Internal => None,
        }
    }
}

/// Something wrong with a request, or with us.
#[derive(Clone, Debug)]
pub struct Problem {
    pub kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
}

/// What is wrong with one field of a body or one parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    #[serde(flatten)]
    place: Place,
    /// For programs. Stable.
    code: &'static str,
    /// For people.
    detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// A JSON pointer (RFC 6901) into the body.
    Pointer(String),
    /// The name of a parameter of the query.
    Parameter(String),
}

/// The wrongs of one request, collected so that a caller hears of all of them at once.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

/// More are not listed: nobody reads them, and they would let a caller choose the size of our answer.
const LISTED_MAX: usize = 32;
const NAME_MAX: usize = 100;

// === impl Errors ===

impl Errors {
    /// Adds what is wrong with the field at a JSON pointer.
    pub fn field(&mut self, pointer: impl Into<String>, code: &'static str, detail: impl fmt::Display) {
        self.add(Place::Pointer(cut(pointer.into())), code, &detail);
    }

    /// Adds what is wrong with a parameter of the query.
    pub fn parameter(&mut self, name: impl Into<String>, code: &'static str, detail: impl fmt::Display) {
        self.add(Place::Parameter(cut(name.into())), code, &detail);
    }

    fn add(&mut self, place: Place, code: &'static str, detail: &dyn fmt::Display) {
        if self.0.len() < LISTED_MAX {
            self.0.push(FieldError { place, code, detail: detail.to_string() });
        }
    }

    /// Whether something is wrong with that field or parameter already.
    #[must_use]
    pub fn names(&self, name: &str) -> bool {
        self.0.iter().any(|error| error.place.name() == name)
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// # Errors
    /// [`Kind::InvalidFields`] or [`Kind::InvalidParameters`] if something was added.
    pub fn check(self) -> Result<(), Problem> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into_problem()) }
    }

    /// The problem that lists them.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        let kind = match self.0.first() {
            Some(FieldError { place: Place::Parameter(_), .. }) => Kind::InvalidParameters,
            _ => Kind::InvalidFields,
        };
        let names: Vec<&str> = self.0.iter().map(|error| error.place.name()).collect();
        Problem { kind, detail: format!("Not acceptable: {}.", names.join(", ")), errors: self.0 }
    }
}

impl Place {
    fn name(&self) -> &str {
        match self {
            Self::Pointer(name) | Self::Parameter(name) => name,
        }
    }
}

fn cut(name: String) -> String {
    match name.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}

// === impl Problem ===

/// Of a request that was given up in the midst of it.
pub const UNKNOWN: &str = "Whether the request took effect is unknown. Repeating it as it is, is safe.";
/// The same of one that only reads.
const READ_ONLY: &str = "Repeating it as it is, is safe.";

impl Problem {
    /// The problem of a request that could have no effect: it need not be wondered about.
    #[must_use]
    pub fn of_a_read(self) -> Self {
        if self.detail == UNKNOWN { Self { detail: READ_ONLY.to_owned(), ..self } } else { self }
    }

    /// A problem with a sentence for people.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new() }
    }

    /// One wrong field.
    #[must_use]
    pub fn field(pointer: &str, code: &'static str, detail: impl fmt::Display) -> Self {
        let mut errors = Errors::default();
        errors.field(pointer, code, detail);
        errors.into_problem()
    }

    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("There is no such {what}."))
    }

    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.kind.parts().1
    }

    /// The name of the problem, for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.kind.parts().0
    }

    /// The document, for the request with this id.
    #[must_use]
    pub fn document(&self, request_id: &str) -> Vec<u8> {
        let mut document = self.value();
        document["instance"] = json!(request_id);
        document.to_string().into_bytes()
    }

    /// What is wrong in the shape of seed 004: the status, and the document.
    ///
    /// There, what is wrong with a field of a body is unprocessable, and the first of such fields is named.
    #[must_use]
    pub fn hal(&self) -> (StatusCode, Vec<u8>) {
        let (name, status, _) = self.kind.parts();
        let status = if self.kind == Kind::InvalidFields { StatusCode::UNPROCESSABLE_ENTITY } else { status };
        let mut document = json!({
            "status": status.as_u16(),
            "title": status.canonical_reason().unwrap_or_default(),
            "detail": self.detail,
            "code": name.replace('-', "_"),
            "_links": { "documentation": { "href": format!("urn:payrelay:problem:{name}"), "type": "text/plain" } },
        });
        if let Some(error) = self.errors.first() {
            let field = error.place.name();
            document["field"] = json!(field.strip_prefix('/').unwrap_or(field).replace('/', "."));
            document["detail"] = json!(format!("The '{}' field {}.", document["field"].as_str().unwrap_or_default(), error.detail));
        }
        (status, document.to_string().into_bytes())
    }

    /// The title that goes with its kind, for people.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        self.kind.parts().2
    }

    /// What is wrong, for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields that are wrong: pointer or parameter, and what is wrong with it, for people.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &str)> {
        self.errors.iter().map(|error| (error.place.name(), error.detail.as_str()))
    }

    /// Whether it names a field whose pointer begins so.
    #[must_use]
    pub fn is_about(&self, pointer: &str) -> bool {
        self.errors.iter().any(|error| error.place.name().starts_with(pointer))
    }

    /// The document without a request: what is told about an item of a batch.
    #[must_use]
    pub fn value(&self) -> serde_json::Value {
        let (name, status, title) = self.kind.parts();
        let mut document = json!({
            "type": format!("urn:payrelay:problem:{name}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if !self.errors.is_empty() {
            document["errors"] = json!(self.errors);
        }
        document
    }
}

impl IntoResponse for Problem {
    /// Status and headers, with an empty body: the edge fills in the document.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.kind.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        match self.kind {
            Kind::Unauthenticated => {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="payrelay""#));
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="payrelay", charset="UTF-8""#));
            }
            Kind::SignatureMissing | Kind::SignatureInvalid => {
                headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Tl-Signature realm="payrelay""#));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Problem {
    /// Logs the cause, which the caller is not told.
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(cause) => {
                tracing::warn!(%error, cause = cause.as_ref().map(tracing::field::display), "a request could not be served");
                Self::new(Kind::StoreUnavailable, UNKNOWN)
            }
            StoreError::Restored => {
                tracing::warn!(%error, "a request could not be served");
                Self::new(
                    Kind::StoreUnavailable,
                    "The account does not cover the payout, but its balance is not certain: dispatch is frozen, or was after a restore. Nothing was decided: top-ups \
                     that are missing can be repeated, and so can this request.",
                )
            }
            StoreError::Full => {
                tracing::error!(%error, "a request could not be served");
                Self::new(Kind::StoreFull, "Nothing was written.")
            }
            StoreError::Corrupt(_) | StoreError::Vault(_) | StoreError::Refused(_) | StoreError::OtherSettings(_) => {
                tracing::error!(%error, "a record cannot be used");
                Self::new(Kind::Internal, "A record cannot be read. The operators have been told.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.into_iter().map(|kind| kind.parts().0).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            let (_, status, _) = kind.parts();
            let asks_to_wait = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(kind.retry_after_s().is_some(), asks_to_wait, "{kind:?}");
        }
    }

    #[test]
    fn a_document_names_every_field() {
        let mut errors = Errors::default();
        errors.field("/beneficiary_iban", "missing", "is required");
        errors.field(format!("/{}", "x".repeat(300)), "unknown_field", "is not a field of this request");
        let document: serde_json::Value = serde_json::from_slice(&errors.into_problem().document("req_1")).unwrap();
        assert_eq!(document["type"], "urn:payrelay:problem:invalid-fields");
        assert_eq!(document["status"], 400);
        assert_eq!(document["instance"], "req_1");
        assert_eq!(document["errors"][0], json!({"pointer": "/beneficiary_iban", "code": "missing", "detail": "is required"}));
        assert_eq!(document["errors"][1]["pointer"].as_str().unwrap().chars().count(), 101);
    }

    /// As the documents of seed 004's provider.
    #[test]
    fn in_hal_the_first_field_is_named() {
        let hal = |problem: Problem| {
            let (status, document) = problem.hal();
            (status.as_u16(), serde_json::from_slice::<serde_json::Value>(&document).unwrap())
        };
        let (status, document) = hal(Problem::field("/amount/value", "not_a_decimal", "must be a decimal"));
        let links = json!({ "documentation": { "href": "urn:payrelay:problem:invalid-fields", "type": "text/plain" } });
        let expected = json!({
            "status": 422, "title": "Unprocessable Entity", "detail": "The 'amount.value' field must be a decimal.", "field": "amount.value",
            "code": "invalid_fields", "_links": links,
        });
        assert_eq!((status, document), (422, expected));
        let (status, document) = hal(Problem::new(Kind::QueuedRefunds, "They go first."));
        assert_eq!((status, &document["code"], document.get("field")), (422, &json!("queued_refunds"), None));
        let mut errors = Errors::default();
        errors.parameter("from", "invalid", "must be the id of a payout");
        assert_eq!(hal(errors.into_problem()).0, 400);
    }

    #[test]
    fn the_list_is_bounded() {
        let mut errors = Errors::default();
        for i in 0..1_000 {
            errors.parameter(format!("p{i}"), "unknown", "is unknown");
        }
        let document: serde_json::Value = serde_json::from_slice(&errors.into_problem().document("req_1")).unwrap();
        assert_eq!(document["errors"].as_array().unwrap().len(), LISTED_MAX);
        assert_eq!(document["type"], "urn:payrelay:problem:invalid-parameters");
    }
}
