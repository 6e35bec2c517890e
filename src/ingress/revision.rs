//! What the body of a PUT says besides the change: the version that it was decided on, and fields that only the service writes. Those may be sent back as
//! they were read, so that a caller can take an answer, change what it wants to change, and send the whole.

use serde::Serialize;
use serde_json::Value;

use super::json::Fields;
use super::order;
use super::problem::{Errors, Kind, Problem};

pub(super) struct Revised {
    /// The version that the caller has seen.
    pub(super) version: u64,
    lasting: Vec<(&'static str, String)>,
    changing: Vec<(&'static str, String)>,
}

impl Revised {
    /// Takes `version`, which must be there, and those of the read-only fields that are: the ones that `last` as long as what is changed, and the ones that a
    /// change may change.
    pub(super) fn take(fields: &mut Fields, last: &[&'static str], change: &[&'static str], errors: &mut Errors) -> Option<Self> {
        let version = fields.integer("version", errors).and_then(|version| {
            let version = u64::try_from(version).ok();
            if version.is_none() {
                errors.field(fields.pointer("version"), "out_of_range", "must not be negative");
            }
            version
        });
        let mut those_of = |names: &[&'static str]| names.iter().filter_map(|name| Some((*name, fields.optional_text(name, errors)?))).collect();
        let (lasting, changing) = (those_of(last), those_of(change));
        Some(Self { version: version?, lasting, changing })
    }

    /// Whether the read-only fields are as they are shown.
    ///
    /// # Errors
    /// [`Kind::InvalidFields`] with those that are not.
    pub(super) fn check<T: Serialize>(&self, shown: &T) -> Result<(), Problem> {
        compare(self.lasting.iter().chain(&self.changing), shown)
    }

    /// The same of a change that was made before: what it has changed, its caller cannot have seen.
    ///
    /// # Errors
    /// As [`Revised::check`].
    pub(super) fn check_repeated<T: Serialize>(&self, shown: &T) -> Result<(), Problem> {
        compare(self.lasting.iter(), shown)
    }
}

fn compare<'a, T: Serialize>(sent: impl Iterator<Item = &'a (&'static str, String)>, shown: &T) -> Result<(), Problem> {
    let shown = serde_json::to_value(shown).unwrap_or_default();
    let mut errors = Errors::default();
    for (name, sent) in sent {
        let is = shown.get(name).and_then(Value::as_str);
        // A time may have been read and written by a library that spells it otherwise.
        let same_instant = || order::timestamp(sent).is_some_and(|sent| is.and_then(order::timestamp) == Some(sent));
        if is != Some(sent) && !same_instant() {
            errors.field(format!("/{name}"), "read_only", "cannot be changed: send it as it is, or leave it out");
        }
    }
    errors.check()
}

/// The change was decided on another version than the present one.
pub(super) fn stale(present: u64) -> Problem {
    Problem::new(Kind::VersionStale, format!("It is at version {present}. Read it, and decide again. Nothing was changed."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ingress::json;

    #[test]
    fn read_only_fields_are_accepted_as_they_were_read() {
        let shown = json!({ "partyId": "acme", "dateTimeCreated": "2026-01-31T09:00:00.120Z", "version": 3 });
        let wrong = |body: &str| {
            let mut errors = Errors::default();
            let mut fields = json::read(body.as_bytes(), &mut errors).unwrap();
            let revised = Revised::take(&mut fields, &["partyId", "dateTimeCreated"], &["nextPayoutDate"], &mut errors);
            fields.finish(&mut errors);
            let problem = match revised.filter(|_| errors.is_empty()) {
                Some(revised) => revised.check(&shown).err(),
                None => Some(errors.into_problem()),
            };
            let document = problem.map(|problem| problem.value());
            document.map(|document| (document["errors"][0]["pointer"].clone(), document["errors"][0]["code"].clone()))
        };
        for good in [
            r#"{"version":3}"#,
            r#"{"version":0,"partyId":"acme"}"#,
            r#"{"version":3,"partyId":"acme","dateTimeCreated":"2026-01-31T09:00:00.120Z"}"#,
            r#"{"version":3,"dateTimeCreated":"2026-01-31T10:00:00.12+01:00"}"#,
        ] {
            assert_eq!(wrong(good), None, "{good}");
        }
        for (bad, at, code) in [
            (r#"{}"#, "/version", "missing"),
            (r#"{"version":-1}"#, "/version", "out_of_range"),
            (r#"{"version":"3"}"#, "/version", "wrong_type"),
            (r#"{"version":3,"partyId":"Acme"}"#, "/partyId", "read_only"),
            (r#"{"version":3,"dateTimeCreated":"2026-01-31T09:00:00.121Z"}"#, "/dateTimeCreated", "read_only"),
            (r#"{"version":3,"dateTimeCreated":"today"}"#, "/dateTimeCreated", "read_only"),
            (r#"{"version":3,"nextPayoutDate":"2026-03-19"}"#, "/nextPayoutDate", "read_only"),
        ] {
            assert_eq!(wrong(bad), Some((at.into(), code.into())), "{bad}");
        }
    }

    /// Whoever repeats a change has seen the record as it was before, but another record never.
    #[test]
    fn a_repeat_says_what_has_always_been_so() {
        let shown = json!({ "partyId": "acme", "dateTimeUpdated": "2026-01-31T09:00:00.120Z", "version": 3 });
        let is_taken = |body: &str| {
            let mut errors = Errors::default();
            let mut fields = json::read(body.as_bytes(), &mut errors).unwrap();
            let revised = Revised::take(&mut fields, &["partyId"], &["dateTimeUpdated"], &mut errors).unwrap();
            (revised.check(&shown).is_ok(), revised.check_repeated(&shown).is_ok())
        };
        assert_eq!(is_taken(r#"{"version":2,"partyId":"acme","dateTimeUpdated":"2026-01-30T09:00:00Z"}"#), (false, true));
        assert_eq!(is_taken(r#"{"version":2,"partyId":"other"}"#), (false, false));
    }
}
