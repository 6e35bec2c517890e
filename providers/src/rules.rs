//! Property tests of what providers get and what they answer, against rules written down from their documents, and not from the connectors.
//!
//! [`tables`] is to be read beside the documents: per provider and version, which orders are within its limits, and what a create has to look like on the
//! wire. [`requests`] sends generated orders through the connectors to a server that keeps what arrives; [`answers`] gives the connectors damaged answers.

mod answers;
mod mutation;
mod orders;
mod requests;
mod tables;

use std::collections::BTreeMap;

use domain::fact::Provider;
use domain::id::Mode;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use serde_json::value::RawValue;

use crate::{Providers, Settings};

/// The connectors of one configuration, set up as an operator would.
fn connectors(provider: Provider, section: &serde_json::Value) -> Providers {
    let settings = serde_json::json!({Settings::section(provider, Mode::Test): section});
    Providers::new(&serde_json::from_value(settings).expect("settings")).expect("connectors")
}

/// Tries a property; the test panics with the smallest case that breaks it.
fn property<S: Strategy>(cases: u32, strategy: &S, holds: impl Fn(S::Value) -> TestCaseResult) {
    let config = Config { cases, max_shrink_iters: 400, failure_persistence: None, ..Config::default() };
    if let Err(broken) = TestRunner::new(config).run(strategy, holds) {
        panic!("{broken}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The values of a JSON document that are not objects or lists, as they are written, by pointer. Numbers keep their digits.
fn leaves(json: &str) -> BTreeMap<String, String> {
    fn walk(at: &str, raw: &RawValue, into: &mut BTreeMap<String, String>) {
        let text = raw.get();
        if let Ok(object) = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) {
            assert!(!object.is_empty(), "{at} is an empty object");
            object.iter().for_each(|(name, inner)| walk(&format!("{at}/{name}"), inner, into));
        } else if let Ok(list) = serde_json::from_str::<Vec<Box<RawValue>>>(text) {
            list.iter().enumerate().for_each(|(index, inner)| walk(&format!("{at}/{index}"), inner, into));
        } else {
            into.insert(at.to_owned(), text.to_owned());
        }
    }
    let (mut into, raw) = (BTreeMap::new(), serde_json::from_str::<Box<RawValue>>(json).expect("JSON"));
    walk("", &raw, &mut into);
    into
}
