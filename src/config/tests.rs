use std::collections::BTreeSet;

use domain::money::Currency;
use jiff::civil::date;

use super::*;

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn with(file: &str, list: &[(&str, &str)]) -> Result<Config, BadConfig> {
    Config::read((!file.is_empty()).then_some(("payrelay.toml", file)), variables(list))
}

fn refused(file: &str, list: &[(&str, &str)]) -> String {
    let error = with(file, list).err().expect("a configuration that is refused").to_string();
    assert!(!error.contains('\n'), "one line: {error:?}");
    error
}

const SECRETS: [(&str, &str); 2] =
    [("PAYRELAY__VAULT__KEYS__1", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="), ("PAYRELAY__INGRESS__KEY_PEPPER", "a pepper of some length")];

/// The defaults with the two secrets that everybody has to bring, and these changes.
fn checked(changes: &[(&str, &str)]) -> Vec<String> {
    let all: Vec<_> = SECRETS.iter().chain(changes).copied().collect();
    with("", &all).expect("readable").check().iter().map(ToString::to_string).collect()
}

// === every key is documented ===

/// Every key of [`Config`], found by asking serde's own derive: see [`keys::of_config`].
mod keys {
    use std::cell::RefCell;
    use std::fmt;

    use serde::Deserialize as _;
    use serde::de::value::{Error, StrDeserializer};
    use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor};
    use serde::forward_to_deserialize_any;

    use super::super::Config;

    /// Follows `route` through structs, and notes the fields of the struct at its end, if that is one.
    #[derive(Clone, Copy)]
    struct Walk<'a> {
        route: &'a [&'static str],
        fields: &'a RefCell<Option<&'static [&'static str]>>,
    }

    /// All keys, `section.key`, and whether each is a struct of its own.
    pub(super) fn of_config() -> Vec<(Vec<&'static str>, bool)> {
        let mut found = Vec::new();
        let mut open = vec![Vec::new()];
        while let Some(route) = open.pop() {
            let fields = RefCell::new(None);
            // It never succeeds: it is over when it has noted what there is.
            assert!(Config::deserialize(Walk { route: &route, fields: &fields }).is_err());
            if !route.is_empty() {
                found.push((route.clone(), fields.borrow().is_some()));
            }
            for field in fields.take().unwrap_or_default() {
                open.push(route.iter().chain([field]).copied().collect());
            }
        }
        found
    }

    fn over<T>() -> Result<T, Error> {
        Err(serde::de::Error::custom("over"))
    }

    impl<'de> Deserializer<'de> for Walk<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            over()
        }

        fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_some(self)
        }

        fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_newtype_struct(self)
        }

        fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
            if self.route.is_empty() {
                *self.fields.borrow_mut() = Some(fields);
                return over();
            }
            visitor.visit_map(self)
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map enum
            identifier ignored_any
        }
    }

    impl<'de> MapAccess<'de> for Walk<'_> {
        type Error = Error;

        fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
            let key: StrDeserializer<'_, Error> = self.route.first().copied().unwrap_or_default().into_deserializer();
            seed.deserialize(key).map(Some)
        }

        fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
            seed.deserialize(Walk { route: self.route.get(1..).unwrap_or_default(), ..*self })
        }
    }

    impl fmt::Debug for Walk<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.route.fmt(f)
        }
    }
}

/// The keys that a text documents: `section.key`, each with the comment above it. `#key = …` counts, it is how keys without default are shown.
fn documented(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut comment = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        let code = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase())).unwrap_or(line);
        if let Some(words) = line.strip_prefix("# ") {
            comment = words.to_owned();
        } else if let Some(name) = code.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            comment.clear();
        } else if let Some((key, value)) = code.split_once(" = ") {
            found.push((format!("{section}.{key}"), comment.clone()));
            // `{ a = 1, b = 2 }` documents its keys too; the names in a table of tables are examples.
            let inner = value.trim().strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).filter(|inner| !inner.contains('{'));
            for inner in inner.unwrap_or_default().split(',') {
                if let Some((inner, _)) = inner.split_once('=') {
                    found.push((format!("{section}.{key}.{}", inner.trim()), comment.clone()));
                }
            }
        } else {
            comment.clear();
        }
    }
    found
}

#[test]
fn every_key_stands_in_the_defaults_with_a_sentence() {
    let documented = documented(DEFAULTS);
    for (key, comment) in &documented {
        assert!(comment.ends_with('.'), "`{key}` has no sentence above it");
    }
    let mut names: Vec<_> = documented.iter().map(|(key, _)| key.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), documented.len(), "a key stands twice");
    let (mut known, mut sections) = (BTreeSet::new(), BTreeSet::from([String::new()]));
    for (route, is_section) in keys::of_config() {
        // Live accounts have the keys of test accounts, and all have one kind of profile, as all sandboxes have one kind of behaviour; the file says so instead
        // of repeating them.
        let of_live = route.len() > 1
            && route[0] == "providers"
            && (route[1].ends_with("_live") || route[1] != "truelayer_test" && route[2..].first() == Some(&"profile"));
        let repeated = route.len() > 2 && route[0] == "sandbox" && route[1] != "truelayer" && route[2] == "behaviour";
        let name = route.join(".");
        if !is_section && !of_live && !repeated {
            assert!(names.contains(&name), "`{name}` is not documented");
        }
        if is_section {
            sections.insert(name.clone());
        }
        known.insert(name);
    }
    assert!(known.len() > 100, "the walk found the keys: {}", known.len());
    for name in &names {
        let outer = name.rsplit_once('.').map_or("", |(outer, _)| outer);
        // The inside of an example of a list or of `keys` is no key of ours.
        assert!(known.contains(name) || !sections.contains(outer), "`{name}` is documented and does not exist");
    }
}

/// Where a section has defaults in the code too (tests and the sandbox are made without the file), they are the documented ones.
#[test]
fn defaults_in_the_code_are_the_documented_ones() {
    fn bare<T: serde::de::DeserializeOwned>(text: &str) -> T {
        ::config::Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build().unwrap().try_deserialize().unwrap()
    }
    let config = with("", &[]).unwrap();
    assert_eq!(format!("{:?}", config.ingress), format!("{:?}", bare::<ingress::Settings>("key_pepper = ''")));
    assert_eq!(format!("{:?}", config.relay), format!("{:?}", bare::<workers::relay::RelaySettings>("")));
    assert_eq!(config.portal, bare::<crate::portal::Settings>(""));
    assert_eq!(format!("{:?}", config.egress), format!("{:?}", bare::<workers::egress::Settings>("")));
}

/// What is commented out in the defaults can be commented in: the examples are of the right kind.
#[test]
fn the_examples_in_the_defaults_are_readable() {
    let text: String = DEFAULTS
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase())).unwrap_or(line))
        .take_while(|line| *line != "[providers.truelayer_live]")
        .fold(String::new(), |text, line| text + line + "\n");
    let config = with(&text, &[]).unwrap();
    let account = config.providers.truelayer_test.unwrap();
    assert_eq!(account.profile.bound_ms, Some(259_200_000));
    // A default that is only written as an example is the real one.
    let plain = "[providers.truelayer_test]\nbase_url='https://a'\nauth_url='https://b'\nclient_id='c'\nclient_secret='d'\nkid='e'\nprivate_key_pem='f'\njku=['g']";
    let plain = with(plain, &[]).unwrap().providers.truelayer_test.unwrap();
    assert_eq!(
        (account.scope, account.refusal_codes, account.connect_timeout_ms, account.token_timeout_ms, account.read_timeout_ms),
        (plain.scope, plain.refusal_codes, plain.connect_timeout_ms, plain.token_timeout_ms, plain.read_timeout_ms)
    );
    assert_eq!(
        (account.response_limit_bytes, account.accept_legacy_notices, account.jwks_refetch_ms, account.signature),
        (plain.response_limit_bytes, plain.accept_legacy_notices, plain.jwks_refetch_ms, plain.signature)
    );
}

#[test]
fn the_examples_beside_the_defaults_are_readable_and_sound() {
    let sandbox = with(include_str!("../../config/sandbox.toml"), &[]).unwrap();
    assert!(sandbox.sandbox.is_some());
    assert!(!sandbox.server.live);

    let key = providers::jws::SigningKey::generate("k", providers::jws::Algorithm::Es512).unwrap();
    let pem = key.to_pem().unwrap();
    let secrets = [SECRETS[0], SECRETS[1], ("PAYRELAY__PROVIDERS__TRUELAYER_LIVE__CLIENT_SECRET", "s")];
    let mut all = secrets.to_vec();
    all.push(("PAYRELAY__PROVIDERS__TRUELAYER_LIVE__PRIVATE_KEY_PEM", pem.expose_secret()));
    let production = with(include_str!("../../config/production.toml"), &all).unwrap();
    assert!(production.server.live);
    assert_eq!(production.check(), []);
}

// === layers ===

#[test]
fn a_variable_wins_over_the_file_and_the_file_over_the_default() {
    assert_eq!(with("", &[]).unwrap().workers.lease_ms, 35_000);
    let file = "[workers]\nlease_ms = 40000\nexecute = { concurrency = 7 }";
    let config = with(file, &[]).unwrap();
    assert_eq!((config.workers.lease_ms, config.workers.execute.concurrency, config.workers.execute.batch), (40_000, 7, 32));
    let config = with(file, &[("PAYRELAY__WORKERS__LEASE_MS", "50000"), ("PAYRELAY__WORKERS__EXECUTE__BATCH", "5")]).unwrap();
    assert_eq!((config.workers.lease_ms, config.workers.execute.concurrency, config.workers.execute.batch), (50_000, 7, 5));
}

#[test]
fn variables_become_what_their_key_wants() {
    let config = with(
        "",
        &[
            ("PAYRELAY__SERVER__LIVE", "true"),
            ("PAYRELAY__REDIS__SHARDS", "4"),
            ("PAYRELAY__EGRESS__ALLOW", r#"["127.0.0.1", "*.example.internal"]"#),
            ("PAYRELAY__TELEMETRY__TRACE_RATIO", "0.25"),
            ("PAYRELAY__VAULT__KEYS__7", "0123"),
            ("PAYRELAY__INGRESS__KEY_PEPPER", "1e5"),
            ("PAYRELAY__TELEMETRY__FORMAT", "json"),
            ("PAYRELAY__FENCE__PATH", ""),
            ("PAYRELAY__CALENDARS__CURRENCIES__EUR__OPENS", "08:00"),
        ],
    )
    .unwrap();
    assert_eq!(config.calendars.currencies["EUR"].opens, "08:00", "the name of a currency keeps its case");
    assert!(config.server.live);
    assert_eq!((config.redis.shards, config.egress.allow.len(), config.telemetry.trace_ratio), (4, 2, 0.25));
    assert_eq!(config.vault.keys[&7].expose_secret(), "0123", "a secret of digits remains a text");
    assert_eq!(config.pepper(), b"1e5");
    assert_eq!(config.telemetry.format, telemetry::Format::Json);
    assert_eq!(config.fence.path, None, "an empty variable counts as unset");
}

#[test]
fn the_names_of_others_are_understood_and_ours_win() {
    let others = [("REDIS_URL", "redis://one:1"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://two:4318")];
    let config = with("", &others).unwrap();
    assert_eq!(config.redis.url, "redis://one:1");
    assert_eq!(config.telemetry.otlp_endpoint.as_deref(), Some("http://two:4318"));
    let config = with("", &[("PAYRELAY__REDIS__URL", "redis://ours:1"), others[0]]).unwrap();
    assert_eq!(config.redis.url, "redis://ours:1");
}

// === refusals ===

#[test]
fn a_misspelt_key_is_named_wherever_it_stands() {
    let error = refused("[workers]\nlease_mss = 40000", &[]);
    assert!(error.contains("`workers.lease_mss`") && error.contains("payrelay.toml"), "{error}");
    let error = refused("[worker]\nlease_ms = 40000", &[]);
    assert!(error.contains("`worker`"), "{error}");
    let error = refused("", &[("PAYRELAY__REDIS__URI", "redis://x")]);
    assert!(error.contains("`redis.uri`") && error.contains("PAYRELAY__REDIS__URI"), "{error}");
    let error = refused("", &[("PAYRELAY__REDDIS__URL", "redis://x")]);
    assert!(error.contains("`reddis`") && error.contains("PAYRELAY__REDDIS__URL"), "{error}");
    let error = refused("", &[("PAYRELAY__WORKERS__RELAY__CONCURENCY", "3")]);
    assert!(error.contains("`workers.relay.concurency`"), "{error}");
    let error = refused("[providers.truelayer_test]\nclient_idd = 'x'", &[]);
    assert!(error.contains("`providers.truelayer_test.client_idd`"), "{error}");
}

#[test]
fn a_missing_key_is_named() {
    let error = refused("[providers.truelayer_test]\nbase_url = 'https://a.example'", &[]);
    assert!(error.contains("`providers.truelayer_test.auth_url` has no default and must be set"), "{error}");
}

#[test]
fn no_refusal_repeats_a_value() {
    for error in [
        refused("[vault]\nkeys = 'the secret'", &[]),
        refused("", &[("PAYRELAY__VAULT__CURRENT", "the secret")]),
        refused("[ingress]\nkey_pepper = 'the secret\n", &[]),
        refused("[ingress]\nkey_pepper = the secret\n", &[]),
        refused("[ingress]\nhosts = 'the secret'\n", &[]),
        refused("[workers]\nlease_ms = 'the secret'\n", &[]),
    ] {
        assert!(!error.contains("the secret"), "{error}");
    }
    let keys = with("", &[("PAYRELAY__VAULT__KEYS__1", "the secret")]).unwrap().vault().unwrap_err().to_string();
    assert!(keys.contains("vault key 1 is not 32 bytes in base64") && !keys.contains("the secret"), "{keys}");
    assert!(!format!("{:?}", with("", &SECRETS).unwrap().ingress).contains("a pepper"));
}

#[test]
fn a_list_that_is_none_says_how_one_is_written() {
    let error = refused("", &[("PAYRELAY__INGRESS__HOSTS", "a.example")]);
    assert!(error.contains(r#"["one", "two"]"#) && error.contains("PAYRELAY__INGRESS__HOSTS"), "{error}");
}

// === judgement ===

#[test]
fn the_defaults_lack_nothing_but_secrets() {
    assert_eq!(checked(&[]), [""; 0]);
    let bare = with("", &[]).unwrap();
    let problems = bare.check();
    assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["vault.keys", "ingress.key_pepper"]);
    for problem in problems {
        assert!(problem.text.contains("openssl rand -base64 32") && problem.text.contains("PAYRELAY__"), "{problem}");
    }
    assert!(bare.demand(Sections::Store).is_err());
}

/// Each contradiction by itself, and the key that is named for it.
#[test]
fn contradictions_are_found() {
    for (changes, key) in [
        (&[("PAYRELAY__WORKERS__LEASE_MS", "20500")][..], "workers.lease_ms"),
        (&[("PAYRELAY__WORKERS__HANDLER_DEADLINE_MS", "34000")], "workers.lease_ms"),
        (&[("PAYRELAY__WORKERS__HANDLER_DEADLINE_MS", "17000")], "workers.handler_deadline_ms"),
        (&[("PAYRELAY__EXECUTE__CALL_MS", "26000")], "workers.handler_deadline_ms"),
        (&[("PAYRELAY__EGRESS__TIMEOUT_MS", "26000")], "workers.handler_deadline_ms"),
        (&[("PAYRELAY__EXECUTE__LOOK_MS", "4001")], "execute.send_window_ms"),
        (&[("PAYRELAY__EXECUTE__LOOK_MS", "99")], "execute.look_ms"),
        (&[("PAYRELAY__EXECUTE__GROUP_LOOK_MS", "99")], "execute.group_look_ms"),
        (&[("PAYRELAY__EXECUTE__GROUP_LOOK_MS", "13000")], "workers.handler_deadline_ms"),
        (&[("PAYRELAY__REDIS__DEADLINE_MS", "9500")], "workers.lease_ms"),
        (&[("PAYRELAY__EXECUTE__SEND_WINDOW_MS", "12000")], "execute.call_ms"),
        (&[("PAYRELAY__WORKERS__DRAIN_MS", "12000")], "workers.drain_ms"),
        (&[("PAYRELAY__REDIS__SHARDS", "0")], "redis.shards"),
        (&[("PAYRELAY__REDIS__SHARDS", "101")], "redis.shards"),
        (&[("PAYRELAY__REDIS__URL", "127.0.0.1:6379")], "redis.url"),
        (&[("PAYRELAY__REDIS__PREFIX", "{a}")], "redis.prefix"),
        (&[("PAYRELAY__WORKERS__EXECUTE__BATCH", "65")], "workers.execute.batch"),
        (&[("PAYRELAY__WORKERS__POLL__CONCURRENCY", "0")], "workers.poll.concurrency"),
        (&[("PAYRELAY__RELAY__PER_SUBSCRIPTION", "513")], "relay.per_subscription"),
        (&[("PAYRELAY__RELAY__WAITS_S", "[]")], "relay.waits_s"),
        (&[("PAYRELAY__INGRESS__BODY_TIMEOUT_MS", "10000")], "ingress.timeout_ms"),
        (&[("PAYRELAY__INGRESS__LISTEN", "8080")], "ingress.listen"),
        (&[("PAYRELAY__INGRESS__ADMIN_LISTEN", "127.0.0.1:8080")], "ingress.admin_listen"),
        (&[("PAYRELAY__INGRESS__KEY_PEPPER", "short")], "ingress.key_pepper"),
        (&[("PAYRELAY__VAULT__CURRENT", "2")], "vault.keys"),
        (&[("PAYRELAY__TELEMETRY__LEVEL", "info,payrelay=loud")], "telemetry.level"),
        (&[("PAYRELAY__TELEMETRY__LEVEL", "inof")], "telemetry.level"),
        (&[("PAYRELAY__TELEMETRY__OTLP_ENDPOINT", "localhost:4317")], "telemetry.otlp_endpoint"),
        (&[("PAYRELAY__TELEMETRY__TRACE_RATIO", "1.5")], "telemetry.trace_ratio"),
        (&[("PAYRELAY__RULES__CHECK_EVERY_MS", "0")], "rules.check_every_ms"),
        (&[("PAYRELAY__CALENDARS__OTHERS__ZONE", "Mars")], "calendars.others.zone"),
    ] {
        let problems = checked(changes);
        assert!(problems.iter().any(|problem| problem.starts_with(&format!("`{key}`"))), "{changes:?}: {problems:?}");
    }
}

/// Whatever the provider: its account's deadlines must fit into those of the work.
#[test]
fn deadlines_of_every_account_are_compared() {
    let mollie = "[providers.mollie_test]\napi_key='test_x'\nbalances={EUR='bal_1'}\n";
    let access = |more: &str| format!("access={{base_url='http://a.example',username='u',password='p'{more}}}\nentity='default'\n");
    let card = |more: &str| format!("[providers.worldpay_card_test]\n{}", access(more));
    let found = |file: String| with(&file, &SECRETS).unwrap().check().into_iter().map(|problem| (problem.key, problem.text)).collect::<Vec<_>>();
    assert_eq!(found(format!("{mollie}{}", card(""))), []);
    for (file, key, names) in [
        (format!("{mollie}read_timeout_ms=18000"), "workers.handler_deadline_ms", "providers.mollie_test.read_timeout_ms + execute.call_ms"),
        (card(",read_timeout_ms=18000"), "workers.handler_deadline_ms", "providers.worldpay_card_test.access.read_timeout_ms + execute.call_ms"),
        (format!("{mollie}connect_timeout_ms=12000\nread_timeout_ms=12000"), "execute.call_ms", "providers.mollie_test.connect_timeout_ms"),
        (
            card(",connect_timeout_ms=11000"),
            "providers.worldpay_card_test.access.read_timeout_ms",
            "providers.worldpay_card_test.access.connect_timeout_ms",
        ),
    ] {
        let problems = found(file.clone());
        assert!(matches!(&problems[..], [(at, text)] if at == key && text.contains(&format!("`{names}`"))), "{file}: {problems:?}");
    }
    let polls = found(format!("{mollie}profile={{polls_ms=[]}}"));
    assert_eq!(polls[0].0, "providers.mollie_test.profile.polls_ms");
    let currencies = found(format!("{mollie}profile={{currencies=[]}}"));
    assert_eq!(currencies[0].0, "providers.mollie_test.profile.currencies");
    let error = refused(&format!("{mollie}profile={{currencies=['EURO']}}"), &[]);
    assert!(error.contains("providers.mollie_test.profile.currencies"), "{error}");
}

#[test]
fn rules_of_routing_are_judged() {
    let problems =
        with("[[ingress.routes]]\nproviders=['mollie']\n[[ingress.routes]]\nproviders=['mollie']\ncurrencies=['EURO']", &SECRETS).unwrap().check();
    assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["ingress.routes[1].currencies"]);
}

#[test]
fn calendars_are_judged() {
    let of = |file: &str| with(file, &SECRETS).unwrap();
    let problems = |file: &str| of(file).check().into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>().join("; ");
    // What is not said about a currency stays as it is by default.
    let calendars = of("[calendars]\ncurrencies.EUR.calendar = 'oslo'\ntables.oslo.closed = ['2027-05-17', 2027-05-06]").calendars.read().unwrap();
    let euro = calendars.of(Currency::EUR);
    assert_eq!((euro.calendar().name(), euro.zone().iana_name()), ("oslo", Some("Europe/Berlin")));
    assert_eq!(euro.calendar().roll_forward(date(2027, 5, 6)), date(2027, 5, 7));
    let of_default = of("").calendars.read().unwrap();
    let name = |code| of_default.of(Currency::parse(code).unwrap()).calendar().name().to_owned();
    assert_eq!(["EUR", "GBP", "USD"].map(name), ["TARGET2", "UK", "weekdays"]);

    for (file, problem) in [
        ("currencies.EUR.calendar = 'TARGET'", "`calendars.currencies.EUR.calendar` must be one of weekdays, TARGET2, UK"),
        ("tables.oslo.base = 'UK'\nothers.calendar = 'bergen'", "`calendars.others.calendar` must be one of weekdays, TARGET2, UK, oslo"),
        ("others.zone = 'Europe/Nowhere'", "`calendars.others.zone` must be a time zone of IANA, such as Europe/London"),
        ("others.opens = '6:00'", "`calendars.others.opens` must be a time of day, such as 06:00"),
        ("others.opens = '24:00'", "`calendars.others.opens` must be a time of day, such as 06:00"),
        ("others.cut_off = '25:00'", "`calendars.others.cut_off` must be a time of day, such as 17:00, or 24:00 for midnight"),
        ("others.cut_off = '06:00'", "`calendars.others.cut_off` cannot be used: the cut-off must be later than the opening"),
        ("others.cut_off = '24:00'", ""),
        (
            "currencies.EURO = { calendar = 'UK', zone = 'UTC', opens = '06:00', cut_off = '17:00' }",
            "`calendars.currencies.EURO` has no currency as its name: a currency is three upper-case letters",
        ),
        ("tables.oslo.base = 'Oslo'", "`calendars.tables.oslo.base` must be one of weekdays, TARGET2, UK"),
        ("tables.UK.closed = []", "`calendars.tables.UK` needs a name of its own"),
        ("tables.oslo.closed = ['2027-05-17', '17 May']", "`calendars.tables.oslo.closed[1]` must be a date, such as 2026-12-25"),
        ("tables.oslo.open = ['2027-02-29']", "`calendars.tables.oslo.open[0]` must be a date, such as 2026-12-25"),
        ("tables.oslo = { closed = ['2027-05-17'], open = ['2027-05-17'] }", "`calendars.tables.oslo` names 2027-05-17 as closed and as open"),
        // Whoever uses a table that is wrong is not told twice.
        ("tables.oslo.open = ['x']\nothers.calendar = 'oslo'", "`calendars.tables.oslo.open[0]` must be a date, such as 2026-12-25"),
    ] {
        assert_eq!(problems(&format!("[calendars]\n{file}")), problem, "{file}");
    }
    let error = refused("[calendars]\ntables.oslo.closing = []", &[]);
    assert!(error.contains("`calendars.tables.oslo.closing`"), "{error}");
    let missing = refused("[calendars]\ncurrencies.USD.zone = 'America/New_York'", &[]);
    assert!(missing.contains("`calendars.currencies.USD.calendar` has no default and must be set"), "{missing}");
}

#[test]
fn live_mode_demands_more() {
    let problems = checked(&[("PAYRELAY__SERVER__LIVE", "true"), ("PAYRELAY__EGRESS__HTTPS_ONLY_IN_LIVE", "false")]);
    for key in ["fence.path", "egress.https_only_in_live", "providers"] {
        assert!(problems.iter().any(|problem| problem.starts_with(&format!("`{key}`"))), "{key}: {problems:?}");
    }
}

#[test]
fn accounts_of_live_mode_must_be_https() {
    let key = providers::jws::SigningKey::generate("k", providers::jws::Algorithm::Es512).unwrap();
    let pem = key.to_pem().unwrap();
    let account = |mode: &str, scheme: &str| {
        format!(
            "[providers.truelayer_{mode}]\nbase_url='{scheme}://a.example'\nauth_url='{scheme}://a.example'\nclient_id='c'\nclient_secret='d'\nkid='e'\n\
             jku=['{scheme}://a.example/jwks']\nprivate_key_pem='''{}'''",
            pem.expose_secret()
        )
    };
    let problems = |mode, scheme| with(&account(mode, scheme), &SECRETS).unwrap().check();
    assert_eq!(problems("test", "http"), []);
    assert_eq!(problems("live", "https"), []);
    let [problem] = &problems("live", "http")[..] else { panic!("one problem") };
    assert!(problem.key.starts_with("providers.truelayer_live.") && problem.text.contains("https"), "{problem}");
    let broken = account("test", "https").replace("-----BEGIN PRIVATE KEY-----", "-----BEGIN SOMETHING-----");
    let problems = with(&broken, &SECRETS).unwrap().check();
    assert_eq!(problems[0].key, "providers.truelayer_test.private_key_pem");
    let slow = format!("{}\nread_timeout_ms = 18000", account("test", "https"));
    assert_eq!(with(&slow, &SECRETS).unwrap().check()[0].key, "workers.handler_deadline_ms");
}

// === what processes must be told alike ===

/// What each process has of its own. A key that is new belongs here, or among what all must be told alike.
const OWN: &[&str] = &[
    "server.trust_store",
    "redis",
    "fence",
    "workers",
    "ingress",
    "portal",
    "reconciliation",
    "relay.subscriptions_cached",
    "egress",
    "retention.archive",
    "retention.interval_ms",
    "retention.page",
    "retention.pause_ms",
    "telemetry",
    "sandbox",
];

#[test]
fn every_key_is_told_alike_or_is_each_process_s_own() {
    let keys = keys::of_config();
    let is_in = |key: &str, section: &&str| key == *section || key.strip_prefix(*section).is_some_and(|rest| rest.starts_with('.'));
    for section in agreement::ALIKE.iter().chain(OWN) {
        assert!(keys.iter().any(|(route, _)| route.join(".") == *section), "`{section}` is no key");
    }
    for (route, is_section) in &keys {
        let key = route.join(".");
        let known = agreement::ALIKE.iter().chain(OWN).any(|section| is_in(&key, section));
        assert!(known || *is_section, "must all processes be told `{key}` alike?");
    }
}

#[test]
fn what_was_told_alike_has_one_hash_wherever_it_was_written() {
    let told = |file: &str, changes: &[(&str, &str)]| {
        let all: Vec<_> = SECRETS.iter().chain(changes).copied().collect();
        with(file, &all).unwrap().told
    };
    let differing = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
        assert_eq!(one.len(), agreement::ALIKE.len());
        one.iter().filter(|(section, hash)| other[*section] != **hash).map(|(section, _)| section.clone()).collect::<Vec<_>>()
    };
    let plain = told("", &[]);
    let limits = r#"[{ scope = "party", currency = "EUR", hours = 24, amount_max = 500, beyond = "reject" }]"#;
    let limits_again = r#"[{ beyond = "reject", hours = 24, amount_max = 500, currency = "EUR", scope = "party" }]"#;
    let by_file = told(&format!("[ingress]\nlimits = {limits}\napproval_hours = 5\nconcurrency = 7"), &[]);
    assert_eq!(differing(&plain, &by_file), ["ingress.approval_hours", "ingress.limits"]);
    let by_variables = told("", &[("PAYRELAY__INGRESS__LIMITS", limits_again), ("PAYRELAY__INGRESS__APPROVAL_HOURS", "5")]);
    assert_eq!(differing(&by_file, &by_variables), [""; 0]);
    let more = limits.replace("500", "501");
    assert_eq!(
        differing(&by_file, &told("", &[("PAYRELAY__INGRESS__LIMITS", &more), ("PAYRELAY__INGRESS__APPROVAL_HOURS", "5")])),
        ["ingress.limits"]
    );
    let table = "[calendars.tables.oslo]\nclosed = ['2027-05-17']";
    assert_eq!(differing(&plain, &told(table, &[])), ["calendars"]);
    assert_eq!(differing(&told(table, &[]), &told(&table.replace("closed", "open"), &[])), ["calendars"]);
    assert_eq!(differing(&plain, &told("", &[("PAYRELAY__VAULT__CURRENT", "2")])), ["vault"]);

    // Nobody who does not know the pepper can try out which limit it is.
    let peppered = with("", &[SECRETS[0], ("PAYRELAY__INGRESS__KEY_PEPPER", "another pepper of some length")]).unwrap().told;
    assert_eq!(differing(&plain, &peppered).len(), plain.len());
}
