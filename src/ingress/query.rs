//! Queries, read as strictly as bodies: a parameter that is unknown, or given twice where once makes sense, is an error that names it.
//!
//! Names and values are compared exactly, case included.

use super::problem::{Errors, Problem};

/// The parameters of a query that have not been asked for yet.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    #[must_use]
    pub fn read(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The same with values that may be in double quotes, which are then no part of them.
    #[must_use]
    pub fn unquoted(self) -> Self {
        let bare = |value: String| value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).map(ToOwned::to_owned).unwrap_or(value);
        Self(self.0.into_iter().map(|(name, value)| (name, bare(value))).collect())
    }

    /// All values of a parameter that may be repeated.
    pub fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, left) = std::mem::take(&mut self.0).into_iter().partition(|(known, _)| known == name);
        self.0 = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be there once.
    pub fn one(&mut self, name: &str, errors: &mut Errors) -> Option<String> {
        let mut values = self.all(name);
        if values.len() > 1 {
            errors.parameter(name, "repeated", "may be given once only");
        }
        values.pop()
    }

    /// The value of a parameter that may be there once, parsed.
    pub fn parsed<T, E: std::fmt::Display>(
        &mut self,
        name: &str,
        code: &'static str,
        errors: &mut Errors,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.one(name, errors)?;
        parse(&value).map_err(|error| errors.parameter(name, code, error)).ok()
    }

    /// What nobody asked for is unknown.
    ///
    /// # Errors
    /// Everything that was wrong with the query.
    pub fn finish(self, mut errors: Errors) -> Result<(), Problem> {
        let names: std::collections::BTreeSet<String> = self.0.into_iter().map(|(name, _)| name).collect();
        for name in names {
            // Most often it is right, and in the wrong place.
            let hint = if name == "party_id" { "; where a request has a body, it stands there" } else { "" };
            errors.parameter(name, "unknown_parameter", format_args!("is not a parameter of this request{hint}"));
        }
        errors.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::problem::Kind;

    #[test]
    fn unknown_and_repeated_parameters_are_named() {
        let mut errors = Errors::default();
        let mut query = Parameters::read(Some("status=failed&status=settled&limit=1&limit=2&Limit=3&from=a%2Bb"));
        assert_eq!(query.all("status"), ["failed", "settled"]);
        query.one("limit", &mut errors);
        assert_eq!(query.one("from", &mut errors).as_deref(), Some("a+b"));
        let problem = query.finish(errors).unwrap_err();
        assert_eq!(problem.kind, Kind::InvalidParameters);
        let document: serde_json::Value = serde_json::from_slice(&problem.document("")).unwrap();
        let names: Vec<_> = document["errors"].as_array().unwrap().iter().map(|error| (&error["parameter"], &error["code"])).collect();
        assert_eq!(names, [(&"limit".into(), &"repeated".into()), (&"Limit".into(), &"unknown_parameter".into())]);
    }

    #[test]
    fn no_query_is_no_parameters() {
        assert!(Parameters::read(None).finish(Errors::default()).is_ok());
        assert!(Parameters::read(Some("")).finish(Errors::default()).is_ok());
    }
}
