//! What a provider may do to an answer without asking (new fields, new words, links that are gone), and what happens to answers on their way.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

/// One change of a document. An index chooses where, among the places that there are.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A field that nobody knows, in any of the objects.
    Unknown(Index, Value),
    /// A word that nobody knows in place of one of the words that mean something.
    Word(Index, String),
    /// `_links`, or one of the links, is `null`.
    NullLink(Index),
    DropLink(Index),
    /// Any value that is not an object or a list is `null`.
    Null(Index),
    Drop(Index),
    /// The name and the text of an error are interchanged.
    Swap,
    /// A number, or an amount in a text, is written otherwise.
    Number(Index, fn(&str) -> String),
}

/// What becomes of the response around the document.
#[derive(Clone, Debug)]
pub(super) enum Transport {
    Faithful,
    /// Only so much of the body, which is then complete as far as HTTP is concerned.
    Truncated(Index),
    /// Only so much of it, and then the connection ends.
    CutOff(Index),
    ContentType(&'static str),
    Status(u16),
    /// Another document altogether.
    Page(&'static str),
}

/// What a number can look like: the first three mean the same, the others do not.
const SPELLINGS: [fn(&str) -> String; 7] = [
    |number| if number.contains('.') { format!("{number}0") } else { format!("{number}.0") },
    |number| format!("{number}e0"),
    |number| format!("\"{number}\""),
    |number| format!("-{number}"),
    |number| format!("{number}00000000000000000000"),
    |number| format!("\"{}\"", number.replace('.', ",")),
    |_| "true".to_owned(),
];

pub(super) fn change() -> impl Strategy<Value = Change> {
    let misleading = serde_json::json!({"status": "settled", "errorName": "fieldIsMissing"});
    let value = select(vec![Value::Null, Value::from(1.5), Value::from("x"), misleading, serde_json::json!([[]])]);
    let at = any::<Index>;
    prop_oneof![
        2 => (at(), value).prop_map(|(at, value)| Change::Unknown(at, value)),
        3 => (at(), "(tele|PRE_|x-)[a-zA-Z <\"]{1,8}").prop_map(|(at, word)| Change::Word(at, word)),
        1 => at().prop_map(Change::NullLink),
        2 => at().prop_map(Change::DropLink),
        2 => at().prop_map(Change::Null),
        2 => at().prop_map(Change::Drop),
        1 => Just(Change::Swap),
        2 => (at(), select(SPELLINGS.to_vec())).prop_map(|(at, spelling)| Change::Number(at, spelling)),
    ]
}

pub(super) fn transport() -> impl Strategy<Value = Transport> {
    let statuses = [
        200, 201, 202, 203, 204, 206, 207, 301, 302, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 418, 422, 423, 425, 429, 451, 500,
        501, 502, 503, 504, 520, 599,
    ];
    prop_oneof![
        8 => Just(Transport::Faithful),
        1 => any::<Index>().prop_map(Transport::Truncated),
        1 => any::<Index>().prop_map(Transport::CutOff),
        1 => select(&["text/html", "text/plain; charset=utf-16", "application/problem+json", "application/vnd.unheard-of+json", ""][..]).prop_map(Transport::ContentType),
        4 => select(statuses.to_vec()).prop_map(Transport::Status),
        1 => select(&["", "<html>gateway</html>", "null", "[]", "[[]]", "{}", "\"settled\"", "0", "\u{feff}{}"][..]).prop_map(Transport::Page),
    ]
}

/// The pointers of a document: to its objects, and to its values that are neither objects nor lists.
fn places(document: &Value) -> (Vec<String>, Vec<String>) {
    fn walk(at: &str, value: &Value, objects: &mut Vec<String>, leaves: &mut Vec<String>) {
        let inner: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                objects.push(at.to_owned());
                fields.iter().map(|(name, value)| (name.replace('~', "~0").replace('/', "~1"), value)).collect()
            }
            Value::Array(values) => values.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
            _ => return leaves.push(at.to_owned()),
        };
        inner.into_iter().for_each(|(name, value)| walk(&format!("{at}/{name}"), value, objects, leaves));
    }
    let (mut objects, mut leaves) = Default::default();
    walk("", document, &mut objects, &mut leaves);
    (objects, leaves)
}

fn one<'a>(at: &Index, places: &'a [String]) -> Option<&'a str> {
    (!places.is_empty()).then(|| at.get(places).as_str())
}

fn set(document: &mut Value, at: Option<&str>, value: Value) {
    if let Some(place) = at.and_then(|at| document.pointer_mut(at)) {
        *place = value;
    }
}

fn remove(document: &mut Value, at: Option<&str>) {
    let Some((parent, name)) = at.and_then(|at| at.rsplit_once('/')) else { return };
    if let Some(Value::Object(fields)) = document.pointer_mut(parent) {
        fields.remove(&name.replace("~1", "/").replace("~0", "~"));
    }
}

/// The text of a document after the changes. `words` are the pointers to its words that mean something.
pub(super) fn changed(document: &Value, words: &[&str], changes: &[Change]) -> String {
    /// Around what is to stand in the text without quotes.
    const RAW: char = '\u{1}';
    let mut document = document.clone();
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    for change in changes {
        let (objects, leaves) = places(&document);
        let is_link = |at: &&String| {
            at.rsplit('/')
                .next()
                .is_some_and(|name| ["_links", "next", "previous", "self", "entity", "payouts:payout", "payouts:update", "curies"].contains(&name))
        };
        let links: Vec<String> = objects.iter().chain(&leaves).filter(is_link).cloned().collect();
        match change {
            Change::Unknown(at, value) => {
                if let Some(Value::Object(fields)) = one(at, &objects).and_then(|at| document.pointer_mut(at)) {
                    fields.insert("unheardOf".to_owned(), value.clone());
                }
            }
            Change::Word(at, word) => set(&mut document, one(at, &words), word.as_str().into()),
            Change::NullLink(at) => set(&mut document, one(at, &links), Value::Null),
            Change::DropLink(at) => remove(&mut document, one(at, &links)),
            Change::Null(at) => set(&mut document, one(at, &leaves), Value::Null),
            Change::Drop(at) => remove(&mut document, one(at, &leaves)),
            Change::Swap => swap(&mut document),
            Change::Number(at, spelling) => {
                let numbers: Vec<String> = leaves.iter().filter(|at| document.pointer(at).and_then(number).is_some()).cloned().collect();
                let at = one(at, &numbers);
                if let Some(text) = at.and_then(|at| number(document.pointer(at)?)) {
                    set(&mut document, at, format!("{RAW}{}{RAW}", spelling(&text)).into());
                }
            }
        }
    }
    let (before, after) = (format!("\"{}", escaped(RAW)), format!("{}\"", escaped(RAW)));
    let mut text = document.to_string();
    while let Some((head, rest)) = text.split_once(&before) {
        let (raw, tail) = rest.split_once(&after).expect("both ends");
        text = format!("{head}{}{tail}", raw.replace("\\\"", "\""));
    }
    text
}

fn escaped(c: char) -> String {
    Value::from(c.to_string()).to_string().trim_matches('"').to_owned()
}

/// The digits of a number, or of a text that is nothing but an amount.
fn number(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => Some(text.clone()),
        _ => None,
    }
}

fn swap(document: &mut Value) {
    for (name, text) in [("errorName", "message"), ("title", "detail"), ("error", "error_description")] {
        if let Some(fields) = document.as_object_mut()
            && let (Some(one), Some(other)) = (fields.remove(name), fields.remove(text))
        {
            fields.insert(name.to_owned(), other);
            fields.insert(text.to_owned(), one);
        }
    }
}
