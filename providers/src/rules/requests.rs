//! What a provider gets is within its documents, and what it does not get is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use domain::fact::{Answer, Provider, ProviderReference};
use domain::id::Mode;
use http::{HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::orders::{CURRENCIES, Draft, drafts};
use super::tables::{self, Api, Batch, Cancel, Header, Kind, Rule};
use super::{connectors, leaves, property, runtime};
use crate::http::scripted::{Received, Reply, Scripted};
use crate::jws::{self, Algorithm, SigningKey, VerifyingKey};
use crate::{Canceling, Inquiry, Providers, Unprepared, clock, mollie, truelayer, truelayer_v3, worldpay};

const CASES: u32 = 160;
pub(super) const WITHIN: Duration = Duration::from_secs(20);

static PAIR: LazyLock<(String, String)> = LazyLock::new(|| {
    let key = SigningKey::generate(tables::KID, Algorithm::Es512).expect("a key");
    let public = key.verifying_key().expect("a public key").to_pem().expect("encodes");
    (key.to_pem().expect("encodes").expose_secret().to_owned(), public)
});

pub(super) fn private_key() -> &'static str {
    &PAIR.0
}

pub(super) fn soon() -> jiff::Timestamp {
    clock::now() + jiff::SignedDuration::from_secs(60)
}

/// Gives out tokens; answers everything else with `reply`.
pub(super) fn with_tokens(mut reply: impl FnMut(&Received) -> Reply + Send + 'static) -> impl FnMut(&Received) -> Reply + Send + 'static {
    let token = serde_json::json!({"access_token": "token", "expires_in": 3600, "token_type": "Bearer"});
    move |request| if request.line == "POST /connect/token" { Reply::json(200, &token) } else { reply(request) }
}

fn broken(message: String) -> TestCaseError {
    TestCaseError::fail(message)
}

impl Api {
    /// Whether the documents, and the configuration, let an order be sent.
    fn takes(&self, draft: &Draft) -> bool {
        let takes = &self.takes;
        let any_or = |list: &[&str], word: &str| list.is_empty() || list.contains(&word);
        takes.destinations.contains(&draft.kind())
            && any_or(takes.currencies, draft.currency.0)
            && any_or(takes.contexts, &draft.context)
            && (takes.amount)(draft)
            && (takes.name)(&draft.name)
            && (takes.reference)(&draft.reference)
    }

    /// Checks a create as it arrived.
    fn check(&self, draft: &Draft, received: &Received) -> Result<(), TestCaseError> {
        prop_assert_eq!(&received.line, self.line);
        for (name, header) in self.headers {
            check_header(draft, received, name, *header).map_err(|why| broken(format!("{name}: {why}")))?;
        }
        let body = std::str::from_utf8(&received.body).map_err(|_| broken("not UTF-8".to_owned()))?;
        check_fields(draft, &self.body.concat(), &leaves(body))
    }
}

impl Batch {
    /// Checks a batch as it arrived: `head` stands for what is not about one of its items.
    fn check(&self, head: &Draft, items: &[Draft], received: &Received) -> Result<(), TestCaseError> {
        prop_assert_eq!(&received.line, self.line);
        for (name, header) in self.headers {
            check_header(head, received, name, *header).map_err(|why| broken(format!("{name}: {why}")))?;
        }
        let body = std::str::from_utf8(&received.body).map_err(|_| broken("not UTF-8".to_owned()))?;
        let mut outside = leaves(body);
        let mut by_item = vec![BTreeMap::new(); items.len()];
        outside.retain(|at, raw| {
            let within = at.strip_prefix(self.items).and_then(|at| at.strip_prefix('/')?.split_once('/'));
            let item = within.and_then(|(index, at)| Some((by_item.get_mut(index.parse::<usize>().ok()?)?, at)));
            item.map(|(item, at)| item.insert(format!("/{at}"), raw.clone())).is_none()
        });
        check_fields(head, self.head, &outside)?;
        let of_item = |rule: &Rule| !rule.at.starts_with(self.once);
        let rules: Vec<Rule> = self.single.body.concat().into_iter().filter(of_item).collect();
        items.iter().zip(&by_item).try_for_each(|(item, leaves)| check_fields(item, &rules, leaves))
    }
}

/// Every field has a rule that it keeps, and what is required is there.
fn check_fields(draft: &Draft, rules: &[Rule], leaves: &BTreeMap<String, String>) -> Result<(), TestCaseError> {
    let text = |at: &str| leaves.get(at).and_then(|raw| serde_json::from_str::<String>(raw).ok());
    let holds = |rule: &&Rule| rule.when.is_none_or(|(at, value)| text(at).as_deref() == Some(value));
    let rules: Vec<&Rule> = rules.iter().filter(holds).collect();
    for (at, raw) in leaves {
        let rule = rules.iter().find(|rule| rule.at == at).ok_or_else(|| broken(format!("{at} is not documented here")))?;
        check_field(draft, rule, raw).map_err(|why| broken(format!("{at} is {raw}: {why}")))?;
    }
    for rule in rules.iter().filter(|rule| rule.required) {
        prop_assert!(leaves.contains_key(rule.at), "{} is required", rule.at);
    }
    for (one, other) in tables::ONE_OF.iter().filter(|(one, _)| rules.iter().any(|rule| rule.at == *one)) {
        prop_assert!(leaves.contains_key(*one) != leaves.contains_key(*other), "{one} or {other}");
    }
    Ok(())
}

fn check_header(draft: &Draft, received: &Received, name: &str, header: Header) -> Result<(), String> {
    let values: Vec<&HeaderValue> = received.headers.get_all(name).iter().collect();
    let value = match (&values[..], header) {
        ([], Header::Absent) => return Ok(()),
        ([value], _) => value.to_str().map_err(|_| "not text")?,
        _ => return Err(format!("{} values", values.len())),
    };
    let key = draft.key().to_string();
    let public = || Arc::new(VerifyingKey::from_pem(&PAIR.1).expect("a key"));
    let lookup = |kid: &str| (kid == tables::KID).then(public);
    let good = match header {
        Header::Is(text) => value == text,
        Header::Uuid => value == key && value.len() == 36 && value.as_bytes()[14] == b'4' && value == value.to_ascii_lowercase(),
        Header::Hex => value == key.replace('-', "") && (1..=35).contains(&value.len()),
        Header::BodySignature => !value.contains('=') && jws::verify_body(lookup, Algorithm::Es512, value, &received.body).is_ok(),
        Header::RequestSignature => {
            let path = received.line.trim_start_matches("POST ");
            let request = jws::Request { method: &Method::POST, path, headers: &received.headers, body: &received.body };
            !value.contains('=') && jws::verify_request(lookup, value, &request, &["Idempotency-Key"]).is_ok()
        }
        Header::Absent => false,
    };
    if good { Ok(()) } else { Err(value.to_owned()) }
}

fn check_field(draft: &Draft, rule: &Rule, raw: &str) -> Result<(), String> {
    let text = || serde_json::from_str::<String>(raw).map_err(|_| "not a text".to_owned());
    let plain = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let minor = |text: &str, least: usize, most: usize| -> Result<(), String> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let point = text.contains('.');
        if !plain(whole)
            || !decimals.bytes().all(|byte| byte.is_ascii_digit())
            || point == decimals.is_empty()
            || !(least..=most).contains(&decimals.len())
        {
            return Err("not such a decimal".to_owned());
        }
        let exponent = draft.currency.1;
        let padded = format!("{whole}{decimals:0<exponent$}");
        if decimals.len() <= exponent && padded.parse() == Ok(draft.minor) { Ok(()) } else { Err(format!("not {} minor units", draft.minor)) }
    };
    let value = match rule.kind {
        Kind::Text(least, most, allowed) => {
            let text = text()?;
            let count = text.chars().count();
            if !(least..=most).contains(&count) {
                return Err(format!("{count} characters"));
            }
            if !text.chars().all(allowed) {
                return Err("a character that is not allowed".to_owned());
            }
            text
        }
        Kind::Word(words) => {
            let text = text()?;
            if !words.contains(&text.as_str()) {
                return Err("not one of the words".to_owned());
            }
            text
        }
        Kind::Minor if plain(raw) && raw.parse() == Ok(draft.minor) => raw.to_owned(),
        Kind::Minor => return Err(format!("not {}", draft.minor)),
        Kind::Major => {
            minor(raw, 0, 2)?;
            if raw.bytes().filter(u8::is_ascii_digit).count() > 10 {
                return Err("more than ten digits".to_owned());
            }
            raw.to_owned()
        }
        Kind::DecimalText => {
            let text = text()?;
            minor(&text, draft.currency.1, draft.currency.1)?;
            text
        }
        Kind::Integer(least, most) => match raw.parse::<i64>() {
            Ok(number) if plain(raw) && (least..=most).contains(&number) => raw.to_owned(),
            _ => return Err("not such an integer".to_owned()),
        },
        Kind::True if raw == "true" => raw.to_owned(),
        Kind::True => return Err("not true".to_owned()),
    };
    match rule.is {
        Some(of) if of(draft) != value => Err(format!("not {:?}", of(draft))),
        _ => Ok(()),
    }
}

/// The provider's own sandbox, which checks what it gets by rules of its own.
async fn sandbox(api: &Api) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let stopped = CancellationToken::new();
    // Nothing but the answers is looked at, so nothing else happens.
    let never = 3_600_000;
    let client_keys = || vec![truelayer::sandbox::ClientKey { kid: tables::KID.to_owned(), public_key_pem: PAIR.1.clone() }];
    let secret = || SecretString::from("hunter2");
    macro_rules! serve {
        ($sandbox:expr) => {{
            let serving = $sandbox.expect("a sandbox").serve(listener, stopped.clone());
            tokio::spawn(async move { serving.await.expect("serves") });
        }};
    }
    match api.provider {
        Provider::Truelayer => {
            let mut settings = truelayer::sandbox::Settings::new("acme", secret(), client_keys());
            (settings.behaviour.magic, settings.authorise_after_ms) = (false, never);
            let account = |(currency, _): &(&str, usize)| truelayer::sandbox::book::Account {
                currency: (*currency).to_owned(),
                iban: "GB29NWBK60161331926819".to_owned(),
                balance_in_minor: i64::MAX / 2,
                account_owner: "Acme".to_owned(),
            };
            settings.accounts = CURRENCIES.iter().map(account).collect();
            serve!(truelayer::sandbox::Sandbox::new(settings));
        }
        Provider::TruelayerV3 => {
            let account = |(currency, id): &(&str, &str)| truelayer_v3::sandbox::Account {
                id: (*id).to_owned(),
                currency: (*currency).to_owned(),
                balance_in_minor: i64::MAX / 2,
            };
            let accounts = tables::MERCHANT_ACCOUNTS.iter().map(account).collect();
            let mut settings = truelayer_v3::sandbox::Settings::new("acme", secret(), client_keys(), accounts);
            (settings.behaviour.magic, settings.authorize_after_ms) = (false, never);
            serve!(truelayer_v3::sandbox::Sandbox::new(settings));
        }
        Provider::WorldpayAccount | Provider::WorldpayCard => {
            let mut settings = worldpay::sandbox::Settings::new("acme", secret());
            settings.entity = (api.section)("")["entity"].as_str().expect("an entity").to_owned();
            (settings.behaviour.magic, settings.stage_ms) = (false, never);
            serve!(worldpay::sandbox::Sandbox::new(settings));
        }
        Provider::Mollie => {
            let account = |(currency, id): &(&str, &str)| mollie::sandbox::balance::Account {
                id: (*id).to_owned(),
                currency: (*currency).to_owned(),
                balance_in_minor: i64::MAX / 2,
            };
            let api_key = (api.section)("")["api_key"].as_str().expect("a key").to_owned();
            let accounts = tables::BALANCES.iter().map(account).collect();
            let mut settings = mollie::sandbox::Settings::new(SecretString::from(api_key), accounts);
            (settings.behaviour.magic, settings.one_per_balance, settings.initiate_after_ms) = (false, false, never);
            serve!(mollie::sandbox::Sandbox::new(settings));
        }
    }
    (url, stopped)
}

/// The connectors of one API, once to a server that keeps what arrives and answers none of it, and once to the provider's sandbox.
struct Ends {
    runtime: tokio::runtime::Runtime,
    arrived: Arc<Mutex<Vec<Received>>>,
    keeping: Providers,
    to_sandbox: Providers,
    _server: Scripted,
    _sandbox: DropGuard,
}

impl Ends {
    fn of(api: &Api) -> Self {
        let runtime = runtime();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&arrived);
        let keep = with_tokens(move |request| {
            seen.lock().expect("no panic").push(request.clone());
            Reply::status(503)
        });
        let (server, (url, stopped)) = runtime.block_on(async { (Scripted::start(keep).await, sandbox(api).await) });
        let to = |url: &str| connectors(api.provider, &(api.section)(url));
        Self { runtime, arrived, keeping: to(&server.url), to_sandbox: to(&url), _server: server, _sandbox: stopped.drop_guard() }
    }

    /// What has arrived since it was asked last.
    fn arrived(&self) -> Vec<Received> {
        std::mem::take(&mut self.arrived.lock().expect("no panic"))
    }

    /// The only request that has arrived.
    fn only(&self) -> Result<Received, TestCaseError> {
        <[Received; 1]>::try_from(self.arrived()).map(|[received]| received).map_err(|all| broken(format!("{} requests arrived", all.len())))
    }
}

/// Refused with the name of a field, or sent as documented and taken by the sandbox; and which of the two, the documents say.
fn orders_become_documented_requests(api: &Api) {
    let ends = Ends::of(api);
    let accepted = Mutex::new(BTreeMap::<String, u32>::new());
    let number = AtomicU64::new(0);
    property(CASES, &drafts(api.takes.destinations), |draft| {
        // A sandbox remembers what it saw under a key, also while a smaller case is looked for.
        let draft = Draft { number: number.fetch_add(1, Ordering::Relaxed), ..draft };
        // What the domain does not let in has no way here.
        let Some(beneficiary) = draft.beneficiary() else { return Ok(()) };
        let order = draft.order(&beneficiary);
        let prepared = match ends.keeping.prepare(api.provider, Mode::Test, &order) {
            Ok(prepared) => prepared,
            Err(Unprepared::Field(problem)) => {
                prop_assert!(!api.takes(&draft), "refused although within the documents: {problem}");
                prop_assert!(!problem.field.is_empty() && !problem.why.is_empty());
                return Ok(());
            }
            Err(Unprepared::NotConfigured) => return Err(broken("not configured".to_owned())),
        };
        prop_assert!(api.takes(&draft), "taken although not within the documents");
        prop_assert_eq!(&prepared, &ends.keeping.prepare(api.provider, Mode::Test, &order).expect("prepares"), "not the same bytes");
        ends.runtime.block_on(async {
            ends.arrived();
            sent(&ends.keeping, api, &prepared).await;
            api.check(&draft, &ends.only()?)?;
            let answer = sent(&ends.to_sandbox, api, &prepared).await;
            prop_assert!(matches!(answer, Answer::Says(_)), "the sandbox: {answer:?}");
            Ok(())
        })?;
        *accepted.lock().expect("no panic").entry(draft.kind().to_owned()).or_default() += 1;
        Ok(())
    });
    // Three in four orders are to these, and about half of them are within the limits of texts and amounts.
    let floor = CASES / (api.takes.destinations.len() as u32) / 8;
    for kind in api.takes.destinations {
        let count = accepted.lock().expect("no panic").get(*kind).copied().unwrap_or_default();
        assert!(count >= floor, "{}: only {count} orders to {kind} were sent", api.name);
    }
}

/// A batch is refused with the name of a field if one of its orders is, or sent as documented and taken by the sandbox, under the keys of its orders.
fn orders_become_a_documented_batch(batch: &Batch) {
    let (api, ends) = (batch.single, Ends::of(batch.single));
    let (taken, refused, number) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let generated = (drafts(api.takes.destinations), proptest::collection::vec(drafts(api.takes.destinations), 1..12), any::<bool>());
    property(CASES, &generated, |(head, drafts, mixed)| {
        let numbered = |draft: Draft| Draft { number: number.fetch_add(1, Ordering::Relaxed), ..draft };
        let (head, drafts): (Draft, Vec<Draft>) = (numbered(head), drafts.into_iter().map(numbered).collect());
        // One order that is out of bounds is enough, so most batches are made of the others.
        let kept = |draft: &Draft| draft.beneficiary().is_some() && (mixed || api.takes(draft));
        let drafts: Vec<Draft> = drafts.into_iter().filter(kept).collect();
        let beneficiaries: Vec<_> = drafts.iter().filter_map(Draft::beneficiary).collect();
        let orders: Vec<_> = drafts.iter().zip(&beneficiaries).map(|(draft, beneficiary)| draft.order(beneficiary)).collect();
        let within = !orders.is_empty() && drafts.iter().all(|draft| api.takes(draft));
        let prepared = match ends.keeping.prepare_batch(api.provider, Mode::Test, head.key(), &orders) {
            Ok(prepared) => prepared,
            Err(Unprepared::Field(problem)) => {
                prop_assert!(!within, "refused although within the documents: {problem}");
                prop_assert!(!problem.field.is_empty() && !problem.why.is_empty());
                refused.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Err(Unprepared::NotConfigured) => return Err(broken("not configured".to_owned())),
        };
        prop_assert!(within, "taken although not within the documents");
        let twice: Vec<_> = [&orders[..], &orders[..1]].concat();
        prop_assert!(ends.keeping.prepare_batch(api.provider, Mode::Test, head.key(), &twice).is_err(), "one payout twice");
        let again = ends.keeping.prepare_batch(api.provider, Mode::Test, head.key(), &orders);
        prop_assert_eq!(&prepared, &again.expect("prepares"), "not the same bytes");
        ends.runtime.block_on(async {
            ends.arrived();
            ends.keeping.submit_batch(api.provider, Mode::Test, &prepared, soon(), WITHIN).await;
            batch.check(&head, &drafts, &ends.only()?)?;
            let answer = ends.to_sandbox.submit_batch(api.provider, Mode::Test, &prepared, soon(), WITHIN).await;
            prop_assert!(matches!(answer.answer, Answer::Says(_)), "the sandbox: {answer:?}");
            let told: BTreeSet<_> = answer.references.iter().map(|(key, _)| *key).collect();
            prop_assert_eq!(told, drafts.iter().map(Draft::key).collect::<BTreeSet<_>>());
            Ok(())
        })?;
        taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let (taken, refused) = (taken.into_inner(), refused.into_inner());
    assert!(taken >= u64::from(CASES) / 4 && refused >= u64::from(CASES) / 8, "{}: {taken} taken, {refused} refused", batch.name);
}

/// A payout is canceled by the id that the provider gave it, in one documented request; an id that is none leads to no request. The sandbox cancels it,
/// by its id or without knowing that, and tells the same when it is asked again.
fn cancels_are_documented(cancel: &Cancel) {
    let (api, ends) = (cancel.of, Ends::of(cancel.of));
    let (number, plain, hostile) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let ids = prop_oneof![3 => "payout_[A-Za-z0-9]{1,40}", 1 => "[!-~ ]{0,60}", 1 => select(&["..", "payout_1/../x", "payout_1?a=b", "payout_%2e", "pé"][..]).prop_map(str::to_owned)];
    property(CASES, &(drafts(api.takes.destinations), ids, any::<bool>()), |(draft, id, known)| {
        let draft = Draft { number: number.fetch_add(1, Ordering::Relaxed), ..draft };
        let Some(beneficiary) = draft.beneficiary() else { return Ok(()) };
        let Ok(prepared) = ends.keeping.prepare(api.provider, Mode::Test, &draft.order(&beneficiary)) else { return Ok(()) };
        let told = ProviderReference(id.clone());
        let inquiry = Inquiry { key: draft.key(), reference: None, request: &prepared, first_sent: clock::now() };
        ends.runtime.block_on(async {
            ends.arrived();
            ends.keeping.cancel(api.provider, Mode::Test, &Inquiry { reference: Some(&told), ..inquiry }).await;
            if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) && !id.is_empty() {
                let received = ends.only()?;
                prop_assert_eq!(&received.line, &cancel.line.replace("{id}", &id));
                for (name, header) in cancel.headers {
                    check_header(&draft, &received, name, *header).map_err(|why| broken(format!("{name}: {why}")))?;
                }
                prop_assert!(received.body.is_empty());
                plain.fetch_add(1, Ordering::Relaxed);
            } else {
                let lines: Vec<String> = ends.arrived().into_iter().map(|received| received.line).collect();
                prop_assert!(lines.is_empty(), "{lines:?}");
                hostile.fetch_add(1, Ordering::Relaxed);
            }
            let Answer::Says(report) = sent(&ends.to_sandbox, api, &prepared).await else { return Err(broken("not created".to_owned())) };
            let reference = report.reference.as_ref().filter(|_| known);
            for _ in 0..2 {
                let canceled = ends.to_sandbox.cancel(api.provider, Mode::Test, &Inquiry { reference, ..inquiry }).await;
                prop_assert!(matches!(canceled, Canceling::Canceled(_)), "{canceled:?}");
            }
            Ok(())
        })
    });
    let (plain, hostile) = (plain.into_inner(), hostile.into_inner());
    assert!(plain >= u64::from(CASES) / 8 && hostile >= u64::from(CASES) / 16, "{}: {plain} ids and {hostile} that are none", api.name);
}

async fn sent(providers: &Providers, api: &Api, prepared: &[u8]) -> Answer {
    providers.submit(api.provider, Mode::Test, prepared, soon(), WITHIN).await
}

#[test]
fn truelayer_gets_what_it_documents() {
    [tables::TRUELAYER, tables::TRUELAYER_REQUEST].iter().for_each(orders_become_documented_requests);
}

#[test]
fn truelayer_v3_gets_what_it_documents() {
    orders_become_documented_requests(&tables::TRUELAYER_V3);
}

#[test]
fn worldpay_accounts_get_what_is_documented() {
    [tables::WORLDPAY_ACCOUNT, tables::WORLDPAY_PERSON, tables::WORLDPAY_LEGACY].iter().for_each(orders_become_documented_requests);
}

#[test]
fn worldpay_accounts_get_batches_as_documented() {
    [tables::WORLDPAY_BATCH, tables::WORLDPAY_LEGACY_BATCH].iter().for_each(orders_become_a_documented_batch);
}

#[test]
fn worldpay_cards_get_what_is_documented() {
    [tables::CARD_V2, tables::CARD_V3, tables::CARD_V4, tables::CARD_FAST].iter().for_each(orders_become_documented_requests);
}

#[test]
fn mollie_gets_what_it_documents() {
    [tables::MOLLIE, tables::MOLLIE_TOKEN].iter().for_each(orders_become_documented_requests);
}

#[test]
fn mollie_is_asked_to_cancel_as_it_documents() {
    [tables::MOLLIE_CANCEL, tables::MOLLIE_TOKEN_CANCEL].iter().for_each(cancels_are_documented);
}
