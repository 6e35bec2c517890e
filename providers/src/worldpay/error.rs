//! The provider's error documents (H): a name for machines, a text for people, and what was wrong where.

use std::fmt;

use serde::{Deserialize, Serialize};

/// "We cannot guarantee that a resource was created" (H). The status it comes with is documented nowhere, so it is recognised at any.
pub const CHECK_OUTCOME: &str = "checkOutcome";

/// The names which, with 400 or 422, mean that there is a problem with the request and nothing was done (H). Any other name leaves a payout inconclusive.
pub const REFUSALS: [&str; 15] = [
    "bodyDoesNotMatchSchema",
    "bodyIsEmpty",
    "bodyIsNotJson",
    "fieldHasInvalidValue",
    "fieldIsEmpty",
    "fieldIsMissing",
    "fieldIsNotAllowed",
    "fieldIsNull",
    "fieldMustBeString",
    "numberIsTooLarge",
    "panFailedLuhnCheck",
    "stringFailedRegexCheck",
    "stringIsTooLong",
    "stringIsTooShort",
    "unrecognizedCardBrand",
];

/// An error document. Everything is optional: one API sends `null` for the name. `Debug` shows names only, because the texts repeat values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    #[serde(default)]
    pub error_name: Option<String>,
    #[serde(default)]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_parameter: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_parameter: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_errors: Vec<ErrorBody>,
}

impl fmt::Debug for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBody").field("error_name", &self.error_name).field("validation_errors", &self.validation_errors).finish_non_exhaustive()
    }
}

impl ErrorBody {
    /// An error of that name.
    #[must_use]
    pub fn named(name: &str, message: &str) -> Self {
        Self { error_name: Some(name.to_owned()), message: Some(message.to_owned()), ..Self::default() }
    }

    /// Whether it has that name. Capitals differ from API to API, so they do not count (H).
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.error_name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }

    /// Whether it is about a header of ours.
    #[must_use]
    pub fn is_about_a_header(&self) -> bool {
        ["headerHasInvalidValue", "headerIsMissing"]
            .into_iter()
            .any(|name| self.is(name) || self.validation_errors.iter().any(|error| error.is(name)))
    }

    /// The most telling name and the field it is about: `stringIsTooLong.number`. Never the provider's text, and of a path only the name of a field.
    #[must_use]
    pub fn code(&self) -> String {
        // Some errors have name and text interchanged (H), so that what is not one word is no name.
        let word = |text: &&str| (1..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let name = |error: &Self| error.error_name.as_deref().filter(word).map(str::to_owned);
        let told = self.validation_errors.first().filter(|error| name(error).is_some()).unwrap_or(self);
        let place = told.json_path.as_ref().or(told.query_parameter.as_ref()).or(told.path_parameter.as_ref()).or(told.header_name.as_ref());
        let field = place.and_then(|path| path.rsplit(['.', '$']).next()).and_then(|field| field.split('[').next()).filter(word);
        match (name(told), field) {
            (Some(name), Some(field)) => format!("{name}.{field}"),
            (Some(name), None) => name,
            (None, _) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each documented error in, its code out.
    #[test]
    fn documents_become_codes() {
        for (json, code) in [
            (
                r#"{"validationErrors":[{"jsonPath":"$.instruction.parties[0].personalDetails.phones[0].number","errorName":"stringIsTooLong","message":"number must be between 1-20 digits length"}],"errorName":"bodyDoesNotMatchSchema","message":"There was an error in the request"}"#,
                "stringIsTooLong.number",
            ),
            (
                r#"{"errorName":"fieldHasInvalidValue","message":"Your merchant boarding …","jsonPath":"$.merchant.entity"}"#,
                "fieldHasInvalidValue.entity",
            ),
            (r#"{"errorName":"x","jsonPath":"$.parties[0]"}"#, "x.parties"),
            (r#"{"errorName":"x","jsonPath":"$['Ada Quill']"}"#, "x"),
            (
                r#"{"errorName":"urlContainsInvalidValue","validationErrors":[{"errorName":"fieldIsMissing","queryParameter":"transactionReference"}]}"#,
                "fieldIsMissing.transactionReference",
            ),
            (r#"{"errorName":"headerHasInvalidValue","headerName":"Content-Type"}"#, "headerHasInvalidValue.Content-Type"),
            (r#"{"errorName":"Access to the requested resource has been denied","message":"AccessDenied"}"#, ""),
            (r#"{"errorName":"x","validationErrors":[{"errorName":"Ada Quill is too long","jsonPath":"$.name"}]}"#, "x"),
            (r#"{"errorName":null,"message":"Unexpected Issue. Please try again"}"#, ""),
            (r#"{}"#, ""),
        ] {
            let error: ErrorBody = serde_json::from_str(json).expect(json);
            assert_eq!(error.code(), code, "{json}");
        }
    }

    #[test]
    fn names_are_compared_without_capitals_and_texts_are_not_shown() {
        let error: ErrorBody = serde_json::from_str(r#"{"errorName":"BODYISEMPTY","message":"Ada Quill 4444333322221111"}"#).expect("reads");
        assert!(error.is("bodyIsEmpty") && !error.is("bodyIsNotJson"));
        assert!(!format!("{error:?}").contains("Ada"));
        assert!(!ErrorBody::default().is(""));
    }
}
