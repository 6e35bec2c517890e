//! `payrelay listen`: pulls the feed of a party and posts each event to an address of this machine, signed as a webhook is. For whoever writes a receiver and has no public
//! address: nothing reaches in, and what is tried is what will come.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use domain::id::EventId;
use domain::signature::{Secret, Signer};
use reqwest::{Client, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use url::Url;
use workers::clock::Clock;
use workers::waits;

use super::print;

/// How long one call may take, beyond what it was asked to wait.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How long the service is asked to wait for an event; it waits as long as it lets anybody.
const WAIT_S: u64 = 30;
/// The place of whoever has none yet.
const NOW: &str = "now";
/// Events of one page.
const PAGE: u64 = 100;

#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where events are posted to, such as <http://127.0.0.1:3000/webhooks>.
    #[arg(long, value_name = "URL")]
    pub forward_to: Url,
    /// The address of the service.
    #[arg(long, env = "PAYRELAY_URL", default_value = "http://127.0.0.1:8080")]
    pub url: Url,
    /// An API key of the party, with the scopes `webhooks.read` and `webhooks.write`. Better in the environment than on the command line, which others can see.
    #[arg(long, env = "PAYRELAY_API_KEY", hide_env_values = true)]
    pub api_key: String,
    /// The party, with a key of the platform.
    #[arg(long)]
    pub party: Option<String>,
    /// An event type, or all that begin with a word (payout.*). Several times for several; without it: all.
    #[arg(long = "type")]
    pub types: Vec<String>,
    /// The secret to sign with, `whsec_…`. Without it: a new one, which is printed.
    #[arg(long, env = "PAYRELAY_WEBHOOK_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// How often an event is posted that is answered 5xx or 429, or not at all, before it is passed over. Twelve tries take some eight seconds, in which a receiver can be
    /// started again.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub tries: u32,
    /// A file that remembers how far it has come. Without it, and at its first use, it begins with the next event.
    #[arg(long)]
    pub cursor: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Page {
    results: Vec<Event>,
    next_cursor: String,
}

#[derive(Deserialize)]
struct Event {
    id: EventId,
    r#type: String,
    /// Byte for byte what is signed.
    payload: Box<RawValue>,
}

/// What the service said instead of a page.
#[derive(Deserialize)]
struct Problem {
    title: String,
    detail: String,
    #[serde(default)]
    errors: Vec<Wrong>,
}

/// One of the things that are wrong with what it was asked.
#[derive(Deserialize)]
struct Wrong {
    #[serde(alias = "pointer")]
    parameter: String,
    detail: String,
}

/// How the receiver took an event.
struct Taken {
    what: String,
    /// Whether it may take it another time.
    again: bool,
}

/// Listens until `stop`. An event that was not taken is shown, and passed over after some tries; one of which nobody knows whether it was posted is posted again by the next run.
///
/// # Errors
/// The service does not accept the key, or does not keep what comes after the cursor any more. While it does not answer, it is asked again.
pub async fn run(arguments: Arguments, stop: CancellationToken) -> anyhow::Result<()> {
    let secret = match &arguments.secret {
        Some(text) => Secret::parse(text.trim()).context("the secret is not one; copy it whole")?,
        None => {
            let secret = Secret::from_bytes(&rand::random::<[u8; 32]>()).context("making a secret")?;
            print(&format!("signing with {}", secret.to_text()))?;
            secret
        }
    };
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().context("making a client")?;
    let listener = Listener { client, signer: Signer::new(&[secret]), arguments };
    match stop.run_until_cancelled(listener.listen()).await {
        Some(ended) => ended,
        None => Ok(()),
    }
}

struct Listener {
    client: Client,
    signer: Signer,
    arguments: Arguments,
}

impl Listener {
    async fn listen(&self) -> anyhow::Result<()> {
        let mut cursor = self.remembered()?;
        let mut wait = waits::reconnect();
        loop {
            let page = match self.page(&cursor).await {
                Ok(page) => page,
                Err(error) if error.is::<Again>() => {
                    tracing::warn!(%error, "the service does not answer; it is asked again");
                    waits::pause(&mut wait).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            wait = waits::reconnect();
            for event in &page.results {
                self.deliver(event).await?;
            }
            if page.next_cursor != cursor {
                cursor = page.next_cursor;
                self.remember(&cursor)?;
            }
        }
    }

    /// The next events. Opens the feed where there is none.
    async fn page(&self, cursor: &str) -> anyhow::Result<Page> {
        // The first place is wanted at once: what comes from now on is behind it, whatever becomes of this process.
        let wait = if cursor == NOW { 0 } else { WAIT_S };
        let mut query = vec![("after", cursor.to_owned()), ("wait", wait.to_string()), ("limit", PAGE.to_string())];
        query.extend(self.arguments.types.iter().map(|kind| ("type", kind.clone())));
        let answer = self.ask(Method::GET, "/v1/events", &query).await?;
        let answer = match answer.status() {
            StatusCode::CONFLICT => {
                read(self.ask(Method::PUT, "/v1/feed", &[]).await?).await?;
                print("the party had no feed, so it was opened; it stays open, and keeps events, until DELETE /v1/feed")?;
                self.ask(Method::GET, "/v1/events", &query).await?
            }
            _ => answer,
        };
        let text = read(answer).await?;
        serde_json::from_str(&text).context("the service answers something else; is that its address?")
    }

    async fn ask(&self, method: Method, path: &str, query: &[(&str, String)]) -> anyhow::Result<Response> {
        let url = self.arguments.url.join(path).context("the address of the service")?;
        let party = self.arguments.party.iter().map(|party| ("party_id", party));
        let request = self.client.request(method, url).bearer_auth(&self.arguments.api_key).query(query).query(&party.collect::<Vec<_>>());
        let sent = request.timeout(TIMEOUT + Duration::from_secs(WAIT_S)).send().await;
        sent.map_err(|error| Again(format!("{}: {}", self.arguments.url, reason(&error))).into())
    }

    /// Posts an event until it is taken, and shows how that went.
    async fn deliver(&self, event: &Event) -> anyhow::Result<()> {
        let line = |what: &str| print(&format!("{} {} → {what}", event.id, event.r#type));
        let (tries, mut wait) = (self.arguments.tries, waits::reconnect());
        for number in 1..tries {
            let Taken { what, again } = self.forward(event).await;
            match (again, number) {
                (false, 1) => return line(&what),
                (false, _) => return line(&format!("{what}, at try {number}")),
                (true, 1) => line(&format!("{what}; it is tried again"))?,
                (true, _) => {}
            }
            waits::pause(&mut wait).await;
        }
        let Taken { what, again } = self.forward(event).await;
        line(&if again { format!("{what}; passed over after {tries} tries") } else { what })
    }

    /// Posts an event once.
    async fn forward(&self, Event { id, payload, .. }: &Event) -> Taken {
        let (id, body, at_s) = (id.to_string(), payload.get(), Clock::of_the_machine().as_second());
        let signature = self.signer.header(&id, at_s, body.as_bytes());
        let request = self
            .client
            .post(self.arguments.forward_to.clone())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", at_s)
            .header("webhook-signature", signature)
            .body(body.to_owned())
            .timeout(TIMEOUT);
        let began = Instant::now();
        match request.send().await {
            Ok(answer) => {
                let status = answer.status();
                let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                Taken { what: format!("{status} in {} ms", began.elapsed().as_millis()), again }
            }
            Err(error) => Taken { what: format!("not delivered: {}", reason(&error)), again: true },
        }
    }

    fn remembered(&self) -> anyhow::Result<String> {
        let Some(path) = &self.arguments.cursor else { return Ok(NOW.to_owned()) };
        match std::fs::read_to_string(path) {
            Ok(cursor) => Ok(cursor.trim().to_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(NOW.to_owned()),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    fn remember(&self, cursor: &str) -> anyhow::Result<()> {
        let Some(path) = &self.arguments.cursor else { return Ok(()) };
        let write = |path: &Path| std::fs::write(path, format!("{cursor}\n"));
        // Whole or not at all.
        let beside = path.with_extension("new");
        write(&beside).and_then(|()| std::fs::rename(&beside, path)).with_context(|| format!("writing {}", path.display()))
    }
}

/// That the service does not answer at present.
#[derive(Debug)]
struct Again(String);

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Again {}

/// Why there is no answer, in a few words.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match (error.is_timeout(), error.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (_, true) => format!("nobody answers there ({cause})"),
        _ => format!("the connection ended ({cause})"),
    }
}

/// The text of a 2xx.
async fn read(answer: Response) -> anyhow::Result<String> {
    let status = answer.status();
    let text = answer.text().await.map_err(|error| Again(reason(&error)))?;
    if status.is_success() {
        return Ok(text);
    }
    let said = serde_json::from_str::<Problem>(&text).map_or_else(
        |_| String::new(),
        |Problem { title, detail, errors }| {
            let wrongs = errors.iter().map(|Wrong { parameter, detail }| format!("\n  {parameter}: {detail}"));
            format!(": {title}. {detail}{}", wrongs.collect::<String>())
        },
    );
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Again(format!("{status}{said}")).into());
    }
    bail!("{status}{said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_nobody_listens_at_is_told_as_such() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::builder().no_proxy().build().unwrap().get(format!("http://{free}/")).send().await.unwrap_err();
        let said = reason(&error);
        assert!(said.starts_with("nobody answers there (") && said.contains("refused"), "{said}");
    }
}
