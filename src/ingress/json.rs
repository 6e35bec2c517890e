//! JSON bodies, read strictly and field by field, so that every wrong field is named and not only the first.
//!
//! serde's own errors stop at the first problem and repeat values, which may be account numbers. So a body becomes a small tree first, in which
//! duplicate fields are still visible and integers are told from floats, and [`Fields`] hands out its parts with errors of our own words.

use std::collections::HashSet;
use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use serde_json::value::RawValue;

use super::problem::{Errors, Kind, Problem};

/// Deep enough for every body we know, and far below what the parser itself could stand.
const NESTING_MAX: usize = 16;

/// A JSON value that has kept what strictness needs.
#[derive(Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    /// A number that is no integer of 64 bits: `1.0`, `1e3`, `9223372036854775808`.
    OtherNumber,
    Text(String),
    List(Vec<Value>),
    /// In the order of the body, duplicates included.
    Object(Vec<(String, Value)>),
}

/// The members of an object that have not been asked for yet.
pub struct Fields {
    /// The JSON pointer of the object; empty for the whole body.
    at: String,
    members: Vec<(String, Value)>,
}

/// Checks that a body says that it is JSON.
///
/// # Errors
/// [`Kind::MediaType`].
pub fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let problem = |detail| Err(Problem::new(Kind::MediaType, detail));
    if headers.contains_key(header::CONTENT_ENCODING) {
        return problem("Send the body without Content-Encoding.");
    }
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return problem("Send `Content-Type: application/json`, once.") };
    let mut parts = value.to_str().unwrap_or_default().split(';').map(str::trim);
    // What `curl --data` says of whatever it sends, as in seed 003. A page of somebody else can have a browser send that too, with a password that the browser keeps, but no token.
    let is_token = |value: &HeaderValue| value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    let has_token = headers.get(header::AUTHORIZATION).is_some_and(is_token);
    let is_json = parts.next().is_some_and(|kind| {
        kind.eq_ignore_ascii_case("application/json") || has_token && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    let utf8 = |parameter: &str| parameter.eq_ignore_ascii_case("charset=utf-8") || parameter.eq_ignore_ascii_case("charset=\"utf-8\"");
    if is_json && parts.all(utf8) { Ok(()) } else { problem("Send `Content-Type: application/json`.") }
}

/// Reads a body that must be one JSON object. Duplicates, at any depth, go to `errors`.
///
/// # Errors
/// What makes it unreadable as a whole: empty, not UTF-8, too deep, not JSON, more than one value, not an object.
pub fn read(body: &[u8], errors: &mut Errors) -> Result<Fields, Problem> {
    let text = text_of(body)?;
    if nesting(text) > NESTING_MAX {
        return Err(Problem::new(Kind::JsonTooDeep, format!("Objects and lists may be nested {NESTING_MAX} deep.")));
    }
    let value: Value = one_value(text)?;
    report_duplicates("", &value, errors);
    match value {
        Value::Object(members) => Ok(Fields { at: String::new(), members }),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::OtherNumber | Value::Text(_) | Value::List(_) => Err(no_object()),
    }
}

/// The texts of the items of a list. They are JSON each, and no more is known about them.
pub struct RawList<'a> {
    /// As many as may be.
    pub items: Vec<&'a RawValue>,
    /// Whether there are more.
    pub more: bool,
}

/// Reads a body as [`read`] does, but leaves the items of the list `name`, of which `max` may be, to be read one by one. `None` for a list that is
/// missing, or is none; that is in `errors` then.
///
/// # Errors
/// As [`read`].
pub fn read_with_list<'a>(body: &'a [u8], name: &str, max: usize, errors: &mut Errors) -> Result<(Fields, Option<RawList<'a>>), Problem> {
    // A text that is passed over is not descended into, so nesting is no danger here.
    let (mut lists, mut members) = (Vec::new(), Vec::new());
    for (member, raw) in one_value::<Members<'a>>(text_of(body)?)?.0 {
        if member == name {
            lists.push(raw);
        } else if nesting(raw.get()) >= NESTING_MAX {
            return Err(Problem::new(Kind::JsonTooDeep, format!("Objects and lists may be nested {NESTING_MAX} deep.")));
        } else {
            members.push((member, one_value(raw.get())?));
        }
    }
    let at = pointer("", name);
    if lists.len() > 1 {
        errors.field(&at, "duplicate_field", "is there more than once");
    }
    let list = match lists.pop() {
        None => {
            errors.field(at, "missing", "is required");
            None
        }
        Some(raw) if raw.get().starts_with('[') => {
            let mut parser = serde_json::Deserializer::from_str(raw.get());
            Some(parser.deserialize_seq(UpTo(max)).map_err(|error| not_json(&error))?)
        }
        Some(_) => {
            errors.field(at, "wrong_type", "must be a list");
            None
        }
    };
    let object = Value::Object(members);
    report_duplicates("", &object, errors);
    match object {
        Value::Object(members) => Ok((Fields { at: String::new(), members }, list)),
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::OtherNumber | Value::Text(_) | Value::List(_) => Err(no_object()),
    }
}

fn text_of(body: &[u8]) -> Result<&str, Problem> {
    if body.is_empty() {
        return Err(Problem::new(Kind::BodyMissing, "Send a JSON object."));
    }
    std::str::from_utf8(body).map_err(|error| Problem::new(Kind::NotUtf8, format!("The first wrong byte is number {}.", error.valid_up_to())))
}

/// The only value of a text.
fn one_value<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(&mut parser).map_err(|error| if error.is_data() { no_object() } else { not_json(&error) })?;
    parser.end().map_err(|error| {
        Problem::new(Kind::JsonInvalid, format!("There is more after the first value, at line {}, column {}.", error.line(), error.column()))
    })?;
    Ok(value)
}

fn no_object() -> Problem {
    Problem::new(Kind::JsonInvalid, "It is JSON, and no object.")
}

/// The parser's words about syntax may repeat some of it, so only the place goes on.
fn not_json(error: &serde_json::Error) -> Problem {
    let what = if error.is_eof() { "It ends too early" } else { "There is a syntax error" };
    Problem::new(Kind::JsonInvalid, format!("{what}, at line {}, column {}.", error.line(), error.column()))
}

/// How deep brackets are nested at most, without parsing: brackets inside strings do not count.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' => rest = behind_string(rest),
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What follows a string, of which the opening quote was read.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' {
            return &rest[at + 1..];
        }
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    &[]
}

fn report_duplicates(at: &str, value: &Value, errors: &mut Errors) {
    match value {
        Value::Object(members) => {
            let mut seen = HashSet::with_capacity(members.len());
            for (name, value) in members {
                if !seen.insert(name) {
                    errors.field(pointer(at, name), "duplicate_field", "is there more than once");
                }
                if matches!(value, Value::Object(_) | Value::List(_)) {
                    report_duplicates(&pointer(at, name), value, errors);
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate().filter(|(_, item)| matches!(item, Value::Object(_) | Value::List(_))) {
                report_duplicates(&pointer(at, &index.to_string()), item, errors);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::OtherNumber | Value::Text(_) => {}
    }
}

/// The pointer of a member, escaped as RFC 6901 wants it.
#[must_use]
pub fn pointer(at: &str, name: &str) -> String {
    format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"))
}

// === impl Fields ===

impl Fields {
    /// An object without members, for an optional body that is not there.
    #[must_use]
    pub const fn none() -> Self {
        Self { at: String::new(), members: Vec::new() }
    }

    /// A body that was put together from something else, such as a form.
    #[must_use]
    pub const fn of(members: Vec<(String, Value)>) -> Self {
        Self { at: String::new(), members }
    }

    /// The JSON pointer of the object itself.
    #[must_use]
    pub fn here(&self) -> &str {
        &self.at
    }

    /// The JSON pointer of a member.
    #[must_use]
    pub fn pointer(&self, name: &str) -> String {
        pointer(&self.at, name)
    }

    /// Takes a member out. `null` counts as absent.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let first = self.members.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.members.swap_remove(first);
        // Duplicates were reported; they are not unknown fields as well.
        self.members.retain(|(known, _)| known != name);
        (value != Value::Null).then_some(value)
    }

    /// Whether a member is there and `null`: for what is taken back that way.
    #[must_use]
    pub fn is_null(&self, name: &str) -> bool {
        self.members.iter().any(|(known, value)| known == name && *value == Value::Null)
    }

    /// Puts `value` where a member is `null`: for what is taken back that way.
    pub fn replace_null(&mut self, name: &str, value: &Value) {
        for (_, found) in self.members.iter_mut().filter(|(known, found)| known == name && *found == Value::Null) {
            *found = value.clone();
        }
    }

    /// Notes a member that is `null`, where it is one that cannot be taken back.
    pub fn refuse_null(&self, name: &str, errors: &mut Errors) {
        if self.is_null(name) {
            errors.field(self.pointer(name), "wrong_type", "must not be null: it is always there; leave it out to keep it");
        }
    }

    /// Whether a member is there that can only be `null`; `otherwise` says what else to do.
    pub fn only_null(&mut self, name: &str, otherwise: &str, errors: &mut Errors) -> bool {
        let is_null = self.is_null(name);
        if self.take(name).is_some() {
            errors.field(self.pointer(name), "unknown", otherwise);
        }
        is_null
    }

    /// A text that must be there.
    pub fn text(&mut self, name: &str, errors: &mut Errors) -> Option<String> {
        let value = self.required(name, errors)?;
        self.as_text(name, value, errors)
    }

    /// A text that may be absent.
    pub fn optional_text(&mut self, name: &str, errors: &mut Errors) -> Option<String> {
        let value = self.take(name)?;
        self.as_text(name, value, errors)
    }

    fn as_text(&self, name: &str, value: Value, errors: &mut Errors) -> Option<String> {
        let Value::Text(text) = value else {
            errors.field(self.pointer(name), "wrong_type", format_args!("must be a string, not {}", value.kind()));
            return None;
        };
        Some(text)
    }

    /// An integer that must be there.
    pub fn integer(&mut self, name: &str, errors: &mut Errors) -> Option<i64> {
        let value = self.required(name, errors)?;
        self.as_integer(name, &value, errors)
    }

    /// An integer that may be absent.
    pub fn optional_integer(&mut self, name: &str, errors: &mut Errors) -> Option<i64> {
        let value = self.take(name)?;
        self.as_integer(name, &value, errors)
    }

    fn as_integer(&self, name: &str, value: &Value, errors: &mut Errors) -> Option<i64> {
        match value {
            Value::Integer(number) => Some(*number),
            Value::OtherNumber => {
                errors.field(self.pointer(name), "not_an_integer", "must be written as an integer of at most 64 bits, without point or exponent");
                None
            }
            Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Object(_) => {
                errors.field(self.pointer(name), "wrong_type", format_args!("must be an integer, not {}", value.kind()));
                None
            }
        }
    }

    /// `true` or `false`, that may be absent.
    pub fn optional_bool(&mut self, name: &str, errors: &mut Errors) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(value) => Some(value),
            other => {
                errors.field(self.pointer(name), "wrong_type", format_args!("must be a boolean, not {}", other.kind()));
                None
            }
        }
    }

    /// An object that may be absent.
    pub fn optional_object(&mut self, name: &str, errors: &mut Errors) -> Option<Self> {
        match self.take(name)? {
            Value::Object(members) => Some(Self { at: self.pointer(name), members }),
            other => {
                errors.field(self.pointer(name), "wrong_type", format_args!("must be an object, not {}", other.kind()));
                None
            }
        }
    }

    /// The objects of a list that may be absent, `max` at most. What is none of them is named.
    pub fn optional_objects(&mut self, name: &str, max: usize, errors: &mut Errors) -> Vec<Self> {
        let at = self.pointer(name);
        let items = match self.take(name) {
            None => Vec::new(),
            Some(Value::List(items)) if items.len() <= max => items,
            Some(Value::List(_)) => {
                errors.field(at, "too_many", format_args!("may have {max} items"));
                return Vec::new();
            }
            Some(other) => {
                errors.field(at, "wrong_type", format_args!("must be a list, not {}", other.kind()));
                return Vec::new();
            }
        };
        let object = |(index, item): (usize, Value)| match item {
            Value::Object(members) => Some(Self { at: format!("{at}/{index}"), members }),
            other => {
                errors.field(format!("{at}/{index}"), "wrong_type", format_args!("must be an object, not {}", other.kind()));
                None
            }
        };
        items.into_iter().enumerate().filter_map(object).collect()
    }

    /// A member that must be there, of any type.
    pub fn required(&mut self, name: &str, errors: &mut Errors) -> Option<Value> {
        let value = self.take(name);
        if value.is_none() {
            errors.field(self.pointer(name), "missing", "is required");
        }
        value
    }

    /// All that is left, for objects whose names are the caller's.
    #[must_use]
    pub fn rest(self) -> Vec<(String, Value)> {
        self.members
    }

    /// What nobody asked for is unknown.
    pub fn finish(self, errors: &mut Errors) {
        let names: std::collections::BTreeSet<&String> = self.members.iter().map(|(name, _)| name).collect();
        for name in names {
            errors.field(pointer(&self.at, name), "unknown_field", "is not a field of this request");
        }
    }
}

// === impl Value ===

impl Value {
    /// The type, for people.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::OtherNumber => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::OtherNumber, Value::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber)
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Value::Object(members))
    }
}

/// The members of an object, duplicates included, each with its text.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyMembers;

        impl<'de> Visitor<'de> for AnyMembers {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = entries.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(AnyMembers)
    }
}

/// Takes so many items of a list, and passes over the rest.
struct UpTo(usize);

impl<'de> Visitor<'de> for UpTo {
    type Value = RawList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawList<'de>, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.0 {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(RawList { items, more: false }),
            }
        }
        let mut more = false;
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok(RawList { items, more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(body: &[u8]) -> Option<Kind> {
        read(body, &mut Errors::default()).err().map(|problem| problem.kind)
    }

    fn codes(errors: Errors) -> Vec<(String, String)> {
        let document: serde_json::Value = serde_json::from_slice(&errors.into_problem().document("")).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        document["errors"].as_array().into_iter().flatten().map(|error| (text(&error["pointer"]), text(&error["code"]))).collect()
    }

    #[test]
    fn each_unreadable_body_has_its_own_problem() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for (body, kind) in [
            (&b""[..], Kind::BodyMissing),
            (b"  ", Kind::JsonInvalid),
            (b"{\"a\":\"\xff\"}", Kind::NotUtf8),
            (deep.as_bytes(), Kind::JsonTooDeep),
            (b"{\"a\":", Kind::JsonInvalid),
            (b"{\"a\":1,}", Kind::JsonInvalid),
            (b"{'a':1}", Kind::JsonInvalid),
            (b"{\"a\":01}", Kind::JsonInvalid),
            (b"{\"a\":NaN}", Kind::JsonInvalid),
            (b"{\"a\":1e999}", Kind::JsonInvalid),
            (b"{\"a\":\"\\ud800\"}", Kind::JsonInvalid),
            (b"{} {}", Kind::JsonInvalid),
            (b"{}x", Kind::JsonInvalid),
            (b"\xef\xbb\xbf{}", Kind::JsonInvalid),
            (b"[]", Kind::JsonInvalid),
            (b"null", Kind::JsonInvalid),
        ] {
            assert_eq!(kind_of(body), Some(kind), "{:?}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        }
        assert_eq!(kind_of(b" {\"a\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[[\"}\n"), None);
    }

    #[test]
    fn every_wrong_field_is_named_and_no_value_repeated() {
        let mut errors = Errors::default();
        let body = br#"{"n":1.0,"m":"5","t":7,"o":{"x/y~":1,"x/y~":2},"d":1,"d":1,"huge":9223372036854775808,"extra":"GB33"}"#;
        let mut fields = read(body, &mut errors).unwrap();
        assert_eq!(fields.integer("n", &mut errors), None);
        assert_eq!(fields.integer("m", &mut errors), None);
        assert_eq!(fields.text("t", &mut errors), None);
        assert_eq!(fields.integer("huge", &mut errors), None);
        assert_eq!(fields.text("absent", &mut errors), None);
        let _ = fields.take("d");
        let _ = fields.optional_object("o", &mut errors);
        fields.finish(&mut errors);
        let document = String::from_utf8(errors.into_problem().document("")).unwrap();
        assert!(!document.contains("GB33") && !document.contains("\"5\""), "{document}");

        let mut errors = Errors::default();
        let mut fields = read(body, &mut errors).unwrap();
        for name in ["n", "m", "t", "huge"] {
            fields.integer(name, &mut errors);
        }
        fields.take("d");
        fields.take("o");
        fields.finish(&mut errors);
        let expected = [
            ("/o/x~1y~0", "duplicate_field"),
            ("/d", "duplicate_field"),
            ("/n", "not_an_integer"),
            ("/m", "wrong_type"),
            ("/huge", "not_an_integer"),
            ("/extra", "unknown_field"),
        ];
        assert_eq!(codes(errors), expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));
    }

    #[test]
    fn lists_of_objects_name_what_is_none() {
        let mut errors = Errors::default();
        let mut fields = read(br#"{"a":[{"x":1},5,{"y":2}],"b":{},"c":[{},{},{},{}]}"#, &mut errors).unwrap();
        let objects = fields.optional_objects("a", 3, &mut errors);
        objects.into_iter().for_each(|mut object| {
            object.take("x");
            object.finish(&mut errors);
        });
        for name in ["b", "c", "absent"] {
            assert_eq!(fields.optional_objects(name, 3, &mut errors).len(), 0, "{name}");
        }
        let expected = [("/a/1", "wrong_type"), ("/a/2/y", "unknown_field"), ("/b", "wrong_type"), ("/c", "too_many")];
        assert_eq!(codes(errors), expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned())));
    }

    #[test]
    fn null_is_absent() {
        let mut errors = Errors::default();
        let mut fields = read(br#"{"a":null,"b":null}"#, &mut errors).unwrap();
        assert_eq!(fields.optional_text("a", &mut errors), None);
        assert!(errors.is_empty());
        assert_eq!(fields.text("b", &mut errors), None);
        assert_eq!(codes(errors), [("/b".to_owned(), "missing".to_owned())]);
    }

    #[test]
    fn only_json_in_utf_8_is_json() {
        let of = |values: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(*name, value.parse().unwrap());
            }
            check_media_type(&headers).is_ok()
        };
        assert!(of(&[("content-type", "application/json")]));
        assert!(of(&[("content-type", "Application/JSON; charset=UTF-8")]));
        assert!(!of(&[]));
        assert!(!of(&[("content-type", "application/json; charset=latin1")]));
        assert!(!of(&[("content-type", "application/x-www-form-urlencoded")]));
        assert!(!of(&[("content-type", "application/x-www-form-urlencoded"), ("authorization", "Basic dDo=")]), "which browsers keep");
        assert!(of(&[("content-type", "application/x-www-form-urlencoded"), ("authorization", "Bearer t")]), "as `curl --data` says");
        assert!(!of(&[("content-type", "multipart/form-data")]));
        assert!(!of(&[("content-type", "application/jsonx")]));
        assert!(!of(&[("content-type", "application/json"), ("content-type", "text/plain")]));
        assert!(!of(&[("content-type", "application/json"), ("content-encoding", "gzip")]));
    }
}
