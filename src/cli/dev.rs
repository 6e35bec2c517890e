//! `payrelay dev`: everything on this machine.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::keys;
use crate::config::Config;
use crate::demo::Options;
use crate::telemetry;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Send a few payouts, show them travel, and check what must hold.
    #[arg(long)]
    pub demo: bool,
    /// Keep everything running after the demo.
    #[arg(long)]
    pub stay: bool,
    /// A store to use instead of a private one.
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<String>,
}

/// Runs until a signal, or until the demo is over. Warnings go to standard error, numbers to `/metrics`. `file` is configuration beside that which joins the parts: it can set
/// what this does not, such as `ingress.approvals`. Variables of the environment are left alone, but for `REDIS_URL`: they are those of another installation.
///
/// # Errors
/// It could not be started, or the demo found something wrong.
pub fn run(file: Option<&Path>, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { demo, stay, redis_url } = arguments;
    let mut settings = Config::read(None, [])?.telemetry;
    "warn".clone_into(&mut settings.level);
    let telemetry = telemetry::start(&settings)?;
    let more = match file {
        Some(file) => read(file).with_context(|| format!("reading {}", file.display()))?,
        None => json!({}),
    };
    let more = plain_keys(&with_everything(more)?);
    let options = Options { demo, stay, redis_url, more, watch: Some(telemetry.watch()) };
    let ended = super::attended(|stop| crate::demo::run(options, stop));
    telemetry.shutdown(super::TELEMETRY_END);
    ended
}

fn read(file: &Path) -> anyhow::Result<Value> {
    let source = ::config::File::from(file).format(::config::FileFormat::Toml);
    Ok(::config::Config::builder().add_source(source).build()?.try_deserialize()?)
}

/// With what is off by default and costs nothing here, so that all of it can be tried: the portal, `v1a` signatures and receipts.
fn with_everything(mut more: Value) -> anyhow::Result<Value> {
    for (section, key, value) in [("portal", "enabled", json!(true)), ("relay", "signing_keys", json!([keys::new_webhook_key()?.0]))] {
        let sections = more.as_object_mut().context("a table")?;
        if let Some(section) = sections.entry(section).or_insert_with(|| json!({})).as_object_mut() {
            section.entry(key).or_insert(value);
        }
    }
    Ok(more)
}

/// A whole key to a line: these can stand behind others, which a table that was begun before cannot.
fn plain_keys(more: &Value) -> String {
    let mut lines = String::new();
    write_keys(more, "", &mut lines);
    lines
}

fn write_keys(value: &Value, route: &str, lines: &mut String) {
    match value {
        Value::Object(table) => {
            let dot = if route.is_empty() { "" } else { "." };
            table.iter().for_each(|(name, value)| write_keys(value, &format!("{route}{dot}{}", Value::from(name.as_str())), lines));
        }
        value => *lines += &format!("{route} = {}\n", inline(value)),
    }
}

/// Texts and numbers are written in TOML as in JSON, and so are lists.
fn inline(value: &Value) -> String {
    match value {
        Value::Object(table) => {
            let fields: Vec<_> = table.iter().map(|(name, value)| format!("{} = {}", Value::from(name.as_str()), inline(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_become_keys_that_can_stand_behind_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("more.toml");
        let text = "[ingress]\napproval_hours = 7\napprovals = [{ name = 'a \"b\"', amount_from = 5 }]\n[relay]\nwaits_s = [1, 2]\n";
        std::fs::write(&file, text).unwrap();
        let both = format!("ingress.listen = '127.0.0.1:0'\n{}", plain_keys(&read(&file).unwrap()));
        let again: Value = ::config::Config::builder()
            .add_source(::config::File::from_str(&both, ::config::FileFormat::Toml))
            .build()
            .unwrap()
            .try_deserialize()
            .unwrap();
        let expected = serde_json::json!({
            "ingress": { "listen": "127.0.0.1:0", "approval_hours": 7, "approvals": [{ "name": "a \"b\"", "amount_from": 5 }] },
            "relay": { "waits_s": [1, 2] },
        });
        assert_eq!(again, expected);
    }
}
