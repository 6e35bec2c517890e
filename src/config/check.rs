//! What must hold between the values. Nothing is opened for it: no port, no connection, no file.

use url::Url;
use workers::failpoints;
use workers::lanes::LaneSettings;

use super::{Config, MAKE_ONE, Problem};
use crate::telemetry;

/// Between a deadline and what it has to contain, for everything that is not waiting.
const MARGIN_MS: u64 = 1_000;

/// The shortest look: nobody answers a question in less, and then nothing that has to be looked for first is ever sent.
const LOOK_MIN_MS: u64 = 100;

/// The shortest pepper, in bytes.
const PEPPER_MIN: usize = 16;

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    /// Notes `text` about `key` unless it is `fine`.
    fn unless(&mut self, fine: bool, key: &str, text: impl FnOnce() -> String) {
        if !fine {
            self.0.push(Problem::new(key, text()));
        }
    }

    fn between(&mut self, key: &str, value: u64, least: u64, most: u64) {
        self.unless((least..=most).contains(&value), key, || format!("is {value} and must be from {least} to {most}"));
    }

    /// `long` must be longer than `short`, with the store's deadline and a margin between them.
    fn contains(&mut self, (long_key, long): (&str, u64), (short_key, short): (&str, u64), between: u64) {
        let least = short.saturating_add(between);
        let why = if between < MARGIN_MS { String::new() } else { format!(" with {between} ms to record the outcome") };
        self.unless(long >= least, long_key, || format!("is {long} and must be at least {least}: longer than `{short_key}` ({short}){why}"));
    }
}

impl Config {
    /// Everything that is wrong with the values, alone and together.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut found = Findings::default();
        self.check_store(&mut found);
        self.check_ingress(&mut found);
        self.check_deadlines(&mut found);
        self.check_routes(&mut found);
        self.check_workers(&mut found);
        self.check_providers(&mut found);
        self.check_reconciliation(&mut found);
        self.check_retention(&mut found);
        let deposits = self.deposits.problems().into_iter();
        found.0.extend(deposits.map(|(place, key, why)| Problem::new(format!("deposits.accounts[{place}].{key}"), why)));
        found.0.extend(self.calendars.read().err().unwrap_or_default());
        self.check_telemetry(&mut found);
        if self.server.live {
            self.check_live(&mut found);
        }
        found.0
    }

    fn check_reconciliation(&self, found: &mut Findings) {
        let of = &self.reconciliation;
        // Worldpay searches in at most 31 days (H), both margins, a send that was repeated days later, and the day itself.
        found.between("reconciliation.margin_ms", of.margin_ms, 0, 12 * 3_600_000);
        found.between("reconciliation.requested_days", of.requested_days.into(), 1, 400);
        found.between("reconciliation.payouts_max", of.payouts_max as u64, 1, 10_000_000);
        found.between("reconciliation.lines_max", of.lines_max as u64, 1, 10_000_000);
        found.between("reconciliation.kept_days", of.kept_days.into(), 1, 400);
    }

    fn check_retention(&self, found: &mut Findings) {
        let of = &self.retention;
        let days = [
            ("payouts", of.payouts_days),
            ("abandoned", of.abandoned_days),
            ("feed", of.feed_days),
            ("replays", of.replays_days),
            ("receipts", of.receipts_days),
        ];
        for (what, days) in days {
            found.between(&format!("retention.{what}_days"), days.into(), 0, 3_650);
        }
        found.between("retention.excerpts_days", of.excerpts_days.into(), 1, 3_650);
        // A provider may repeat a notice for days.
        found.unless(of.orphans_days == 0 || (8..=3_650).contains(&of.orphans_days), "retention.orphans_days", || {
            format!("is {} and must be from 8 to 3650, or 0", of.orphans_days)
        });
        found.unless(of.payouts_days == 0 || (1..=of.payouts_days).contains(&of.feed_days), "retention.feed_days", || {
            format!(
                "is {} and must be from 1 to `retention.payouts_days` ({}): the bodies of events go with their payouts",
                of.feed_days, of.payouts_days
            )
        });
        found.unless(of.archive.is_none() || of.payouts_days > 0, "retention.archive", || {
            "needs `retention.payouts_days`: without it nothing is ever trimmed, and so nothing archived".to_owned()
        });
        found.between("retention.interval_ms", of.interval_ms, 1_000, 86_400_000);
        found.between("retention.page", of.page as u64, 1, 100);
        found.between("retention.pause_ms", of.pause_ms, 0, 60_000);
    }

    fn check_store(&self, found: &mut Findings) {
        let redis = &self.redis;
        let usable = Url::parse(&redis.url).is_ok_and(|url| match url.scheme() {
            "redis" | "rediss" => url.has_host(),
            "redis+unix" => !url.has_host() && url.path().len() > 1,
            _ => false,
        });
        found.unless(usable, "redis.url", || "must be redis://HOST:PORT, rediss:// for TLS, or redis+unix:///PATH".to_owned());
        found.between("redis.shards", redis.shards.into(), 1, 100);
        found.between("redis.connections", redis.connections as u64, 1, 256);
        found.between("redis.deadline_ms", redis.deadline_ms, 100, 30_000);
        let tags = redis.prefix.contains(['{', '}']);
        found.unless(!tags, "redis.prefix", || "must not contain braces: what stands between them decides the node of a cluster".to_owned());
        if let Err(error) = self.vault() {
            found.0.extend(error.problems);
        }
    }

    fn check_ingress(&self, found: &mut Findings) {
        let ingress = &self.ingress;
        let pepper = self.pepper().len();
        found.unless(pepper >= PEPPER_MIN, "ingress.key_pepper", || {
            let what = if pepper == 0 { "is needed to recognise API keys by".to_owned() } else { format!("is shorter than {PEPPER_MIN} bytes") };
            format!("{what}: {MAKE_ONE}, and set it as `ingress.key_pepper` or PAYRELAY__INGRESS__KEY_PEPPER")
        });
        for (key, address) in [("ingress.listen", &ingress.listen), ("ingress.admin_listen", &ingress.admin_listen)] {
            found.unless(is_address(address), key, || "must be HOST:PORT, such as 127.0.0.1:8080 or [::]:8080".to_owned());
        }
        let apart = ingress.listen != ingress.admin_listen || ingress.listen.ends_with(":0");
        found.unless(apart, "ingress.admin_listen", || "must differ from `ingress.listen`".to_owned());
        found.contains(("ingress.timeout_ms", ingress.timeout_ms), ("ingress.body_timeout_ms", ingress.body_timeout_ms), 1);
        // A request is one read of the key and one or two calls more; it should end by its own deadline with the store's answer, not with its own.
        found.contains(("ingress.timeout_ms", ingress.timeout_ms), ("redis.deadline_ms", self.redis.deadline_ms), 1);
        for (key, value) in [
            ("ingress.concurrency", ingress.concurrency),
            ("ingress.connections_max", ingress.connections_max),
            ("ingress.headers_max", ingress.headers_max),
            ("ingress.key_cache_max", ingress.key_cache_max),
        ] {
            found.between(key, value as u64, 1, 1_000_000);
        }
        found.between("ingress.key_cache_ms", ingress.key_cache_ms, 0, 300_000);
        for (key, value) in [("ingress.body_max_bytes", ingress.body_max_bytes), ("ingress.notice_max_bytes", ingress.notice_max_bytes)] {
            found.between(key, value as u64, 1_024, 16 << 20);
        }
        found.between("ingress.instruments_max", ingress.instruments_max as u64, 1, 500);
        let batches = &ingress.batches;
        found.between("ingress.batches.items_max", batches.items_max as u64, 1, 10_000);
        found.between("ingress.batches.body_max_bytes", batches.body_max_bytes as u64, ingress.body_max_bytes as u64, 64 << 20);
        found.between("ingress.batches.concurrency", batches.concurrency as u64, 1, 100);
        found.between("ingress.webhooks.ping_timeout_ms", ingress.webhooks.ping_timeout_ms, 100, ingress.timeout_ms.saturating_sub(500));
        found.between("ingress.webhooks.pings", ingress.webhooks.pings as u64, 1, 1_000);
        found.between("ingress.webhooks.subscriptions_max", ingress.webhooks.subscriptions_max as u64, 1, 10_000);
        self.check_portal(found);
        found.between("ingress.feed.wait_max_ms", ingress.feed.wait_max_ms, 0, ingress.timeout_ms.saturating_sub(500));
        found.between("ingress.feed.look_every_ms", ingress.feed.look_every_ms, 10, 10_000);
        found.between("ingress.feed.waiting_max", ingress.feed.waiting_max as u64, 1, ingress.concurrency as u64);
        found.between("ingress.replays.rate_per_s", ingress.replays.rate_per_s.into(), 1, ingress.replays.rate_max_per_s.into());
        found.between("ingress.replays.rate_max_per_s", ingress.replays.rate_max_per_s.into(), 1, 10_000);
        found.between("ingress.replays.dry_run_payouts_max", ingress.replays.dry_run_payouts_max, 1, 100_000);
        found.between("ingress.replays.dry_runs", ingress.replays.dry_runs as u64, 1, 1_000);
        found.between("ingress.rate.per_s", ingress.rate.per_s.into(), 0, 1_000_000);
        found.unless(ingress.rate.burst == 0 || (ingress.rate.per_s..=10_000_000).contains(&ingress.rate.burst), "ingress.rate.burst", || {
            format!("is {} and must be from `ingress.rate.per_s` ({}) to 10000000, or 0", ingress.rate.burst, ingress.rate.per_s)
        });
        found.between("ingress.batches.waiting_max", batches.waiting_max as u64, 1, 10_000);
        found.between("ingress.header_max_bytes", ingress.header_max_bytes as u64, 8_192, 1 << 20);
    }

    fn check_portal(&self, found: &mut Findings) {
        let portal = &self.portal;
        if let Some(wrong) = portal.wrong_url(&self.ingress.listen, self.server.live).filter(|_| portal.enabled) {
            found.unless(false, "portal.url", || wrong.to_owned());
        }
        found.between("portal.link_minutes", portal.link_minutes.into(), 1, 24 * 60);
        found.between("portal.session_minutes", portal.session_minutes.into(), 1, 24 * 60);
        found.between("portal.idle_minutes", portal.idle_minutes.into(), 2, portal.session_minutes.max(2).into());
        found.between("portal.links_max", portal.links_max.into(), 1, 10_000);
        found.between("portal.concurrency", portal.concurrency as u64, 1, 10_000);
    }

    /// A lease outlives its handler, a handler every call that it makes, and a stop every payout that is on the wire.
    fn check_deadlines(&self, found: &mut Findings) {
        let record = self.redis.deadline_ms.saturating_add(MARGIN_MS);
        let handler = ("workers.handler_deadline_ms", self.workers.handler_deadline_ms);
        found.contains(("workers.lease_ms", self.workers.lease_ms), handler, record);
        found.contains(handler, ("execute.call_ms", self.execute.call_ms), record);
        for (key, ms) in [("execute.look_ms", self.execute.look_ms), ("execute.group_look_ms", self.execute.group_look_ms)] {
            found.between(key, ms, LOOK_MIN_MS, 60_000);
            found.contains(handler, (&format!("{key} + execute.call_ms"), ms.saturating_add(self.execute.call_ms)), record);
        }
        // After a look the send needs time too; not that of a new connection, because the look leaves one open.
        let with_send = self.execute.look_ms.saturating_add(self.execute.look_ms / 4);
        found.contains(("execute.send_window_ms", self.execute.send_window_ms), ("execute.look_ms and a fourth of it", with_send), 0);
        found.contains(handler, ("egress.timeout_ms", self.egress.timeout_ms), record);
        for providers::Deadlines { section, read_ms, parts } in self.providers.deadlines() {
            // A question, and after "not found" the same request once more.
            let read = (format!("providers.{section}.read_timeout_ms"), read_ms);
            let asked = (format!("{} + execute.call_ms", read.0), read_ms.saturating_add(self.execute.call_ms));
            found.contains(handler, (&asked.0, asked.1), record);
            // What is only the way to an answer leaves time for the answer, when the provider is asked and when it is sent to.
            for (part, ms) in parts {
                let part = format!("providers.{section}.{part}");
                found.contains(("execute.call_ms", self.execute.call_ms), (&part, ms), 1);
                found.contains((&read.0, read.1), (&part, ms), 0);
            }
        }
        found.contains(("execute.call_ms", self.execute.call_ms), ("execute.send_window_ms", self.execute.send_window_ms), 1);
        found.contains(("workers.drain_ms", self.workers.drain_ms), ("execute.call_ms", self.execute.call_ms), record);
        found.contains(("egress.timeout_ms", self.egress.timeout_ms), ("egress.connect_timeout_ms", self.egress.connect_timeout_ms), 0);
        found.contains(("rules.redispatch_cap_ms", self.rules.redispatch_cap_ms), ("rules.redispatch_first_ms", self.rules.redispatch_first_ms), 0);
        found.contains(("rules.dispatch_bound_ms", self.rules.dispatch_bound_ms), ("rules.redispatch_cap_ms", self.rules.redispatch_cap_ms), 0);
    }

    fn check_workers(&self, found: &mut Findings) {
        let workers = &self.workers;
        for (lane, LaneSettings { concurrency, batch }) in [
            ("execute", workers.execute),
            ("poll", workers.poll),
            ("settle", workers.settle),
            ("expand", workers.expand),
            ("group", workers.group),
            ("relay", workers.relay),
            ("schedule", workers.schedule),
        ] {
            found.between(&format!("workers.{lane}.concurrency"), concurrency as u64, 1, 10_000);
            // Lua cannot unpack much more in one script.
            found.between(&format!("workers.{lane}.batch"), batch as u64, 1, 1_000.min(concurrency.max(1) as u64));
        }
        found.between("workers.tick_ms", workers.tick_ms, 10, 60_000);
        found.between("workers.failure_wait_ms", workers.failure_wait_ms, 1, 3_600_000);
        found.between("workers.sweep_ms", workers.sweep_ms, 100, 3_600_000);
        found.between("execute.send_window_ms", self.execute.send_window_ms, 1, 60_000);
        found.between("execute.group_hold_ms", self.execute.group_hold_ms, 0, 60_000);
        found.between("execute.suspect_looks_per_s", self.execute.suspect_looks_per_s.into(), 1, 10_000);
        found.between("execute.leases_max", self.execute.leases_max.into(), 1, 1_000);
        found.between("circuit.failures", self.circuit.failures.into(), 1, 10_000);
        found.between("circuit.wait_first_ms", self.circuit.wait_first_ms, 1, 3_600_000);
        found.between("circuit.wait_cap_ms", self.circuit.wait_cap_ms, 1, 86_400_000);
        found.contains(("circuit.wait_cap_ms", self.circuit.wait_cap_ms), ("circuit.wait_first_ms", self.circuit.wait_first_ms), 0);
        found.between("rules.redispatch_first_ms", self.rules.redispatch_first_ms, 1, 3_600_000);
        found.between("rules.check_every_ms", self.rules.check_every_ms, 100, 3_600_000);
        found.between("rules.references_kept_days", self.rules.references_kept_days.into(), 1, 3_650);
        found.between("rules.batches_kept_days", self.rules.batches_kept_days.into(), 1, 3_650);
        found.between("rules.history_days", self.rules.history_days.into(), 1, 3_650);
        found.between("schedules.retry_ms", self.schedules.retry_ms, 1_000, 86_400_000);
        found.between("schedules.look_again_ms", self.schedules.look_again_ms, 60_000, 7 * 86_400_000);
        let relay = &self.relay;
        found.unless(relay.waits_s.as_ref().is_none_or(|waits| !waits.is_empty()), "relay.waits_s", || "must name at least one wait".to_owned());
        found.between("relay.per_subscription", relay.per_subscription as u64, 1, workers.relay.concurrency.max(1) as u64);
        found.between("relay.circuit_failures", relay.circuit_failures.into(), 1, 1_000);
        found.between("relay.circuit_wait_first_ms", relay.circuit_wait_first_ms, 1, relay.circuit_wait_cap_ms);
        found.between("relay.circuit_wait_cap_ms", relay.circuit_wait_cap_ms, 1, 86_400_000);
        found.between("relay.throttle_ms", relay.throttle_ms, 1, relay.throttle_cap_ms);
        found.between("relay.throttle_cap_ms", relay.throttle_cap_ms, 1, 86_400_000);
        found.between("relay.disable_after_hours", relay.disable_after_hours.into(), 1, 8_760);
        found.between("relay.leases_max", relay.leases_max.into(), 1, 1_000);
        found.between("relay.subscriptions_cached", relay.subscriptions_cached as u64, 1, 1_000_000);
        found.between("egress.timeout_ms", self.egress.timeout_ms, 100, 60_000);
        found.between("egress.response_body_max_bytes", self.egress.response_body_max_bytes as u64, 1, 16 << 20);
        found.between("egress.certificates_cached", self.egress.certificates_cached as u64, 1, 10_000);
        found.between("egress.certificate_warn_days", self.egress.certificate_warn_days.into(), 1, 365);
        found.between("egress.excerpt_max_bytes", self.egress.excerpt_max_bytes as u64, 0, 1_024);
        found.between("egress.url_max_bytes", self.egress.url_max_bytes as u64, 16, 8_192);
    }

    fn check_routes(&self, found: &mut Findings) {
        for (index, rule) in self.ingress.routes.iter().enumerate() {
            found.0.extend(rule.problems_of_route().into_iter().map(|(key, why)| Problem::new(format!("ingress.routes[{index}].{key}"), why)));
        }
        for (index, rule) in self.ingress.approvals.iter().enumerate() {
            found.0.extend(rule.problems_of_approval().into_iter().map(|(key, why)| Problem::new(format!("ingress.approvals[{index}].{key}"), why)));
        }
        for (index, limit) in self.ingress.limits.iter().enumerate() {
            found.0.extend(limit.problems().into_iter().map(|(key, why)| Problem::new(format!("ingress.limits[{index}].{key}"), why)));
        }
        found.between("ingress.known_days", self.ingress.known_days.into(), 1, 3_650);
        found.between("ingress.known_max", self.ingress.known_max.into(), 1, 1_000_000);
        found.between("ingress.approval_hours", self.ingress.approval_hours.into(), 1, 24 * 30);
    }

    fn check_providers(&self, found: &mut Findings) {
        // Parses keys and addresses; makes no request.
        if let Err(error) = providers::Providers::new(&self.providers) {
            let section = providers::Settings::section(error.provider, error.mode);
            let setting = error.source.to_string();
            let why = std::error::Error::source(&*error.source).map_or_else(|| "is missing".to_owned(), |why| format!("cannot be used: {why}"));
            found.0.push(Problem::new(format!("providers.{section}.{setting}"), why));
        }
        for (section, settings) in self.accounts() {
            found.unless(!settings.refusal_codes.is_empty(), &format!("{section}.refusal_codes"), || "must name at least one code".to_owned());
        }
        for (section, profile) in self.providers.overrides() {
            let polls = profile.polls_ms.as_ref();
            found.unless(polls.is_none_or(|polls| !polls.is_empty()), &format!("providers.{section}.profile.polls_ms"), || {
                "must name at least one wait".to_owned()
            });
            let currencies = profile.currencies.as_ref();
            found.unless(currencies.is_none_or(|currencies| !currencies.is_empty()), &format!("providers.{section}.profile.currencies"), || {
                "must name at least one currency; without the key it pays in any".to_owned()
            });
        }
    }

    fn check_telemetry(&self, found: &mut Findings) {
        for (key, text) in telemetry::problems(&self.telemetry) {
            found.0.push(Problem::new(key, text));
        }
    }

    fn check_live(&self, found: &mut Findings) {
        let live = "live mode";
        found.unless(self.fence.path.is_some(), "fence.path", || {
            format!("is needed in {live}: a file that outlives the process and is not part of the store")
        });
        found.unless(self.egress.https_only_in_live, "egress.https_only_in_live", || format!("must be true in {live}"));
        let account = self.providers.overrides().iter().any(|(section, _)| section.ends_with("_live"));
        found.unless(account, "providers", || {
            format!("has no account for {live} (`providers.truelayer_live`, say): nothing can pay what live keys ask for")
        });
        let armed = std::env::var_os(failpoints::VARIABLE).is_some_and(|points| !points.is_empty());
        found.unless(!armed, "server.live", || format!("refuses to run with failpoints: unset {}", failpoints::VARIABLE));
    }

    /// Where the configured accounts are called, by the keys that say so.
    pub(crate) fn endpoints(&self) -> Vec<(String, &str)> {
        let of = &self.providers;
        let mut found = Vec::new();
        let mut add = |section: &str, key: &str, url| found.push((format!("providers.{section}.{key}"), url));
        for (section, account) in [("truelayer_test", &of.truelayer_test), ("truelayer_live", &of.truelayer_live)] {
            let Some(account) = account else { continue };
            add(section, "base_url", account.base_url.as_str());
            add(section, "auth_url", &account.auth_url);
        }
        for (section, account) in [("truelayer_v3_test", &of.truelayer_v3_test), ("truelayer_v3_live", &of.truelayer_v3_live)] {
            let Some(account) = account else { continue };
            add(section, "base_url", &account.base_url);
            add(section, "auth_url", &account.auth_url);
        }
        for (section, account) in [("worldpay_account_test", &of.worldpay_account_test), ("worldpay_account_live", &of.worldpay_account_live)] {
            account.iter().for_each(|account| add(section, "access.base_url", &account.access.base_url));
        }
        for (section, account) in [("worldpay_card_test", &of.worldpay_card_test), ("worldpay_card_live", &of.worldpay_card_live)] {
            account.iter().for_each(|account| add(section, "access.base_url", &account.access.base_url));
        }
        for (section, account) in [("mollie_test", &of.mollie_test), ("mollie_live", &of.mollie_live)] {
            account.iter().for_each(|account| add(section, "base_url", &account.base_url));
        }
        found
    }

    /// The configured accounts at TrueLayer's version 1, by their section.
    fn accounts(&self) -> impl Iterator<Item = (&'static str, &providers::truelayer::Settings)> {
        let test = self.providers.truelayer_test.as_ref().map(|settings| ("providers.truelayer_test", settings));
        let live = self.providers.truelayer_live.as_ref().map(|settings| ("providers.truelayer_live", settings));
        test.into_iter().chain(live)
    }
}

/// `HOST:PORT`. Names are not looked up: that may wait for a resolver, and the answer may change until the port is bound.
fn is_address(address: &str) -> bool {
    let named = address.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))
    });
    named || address.parse::<std::net::SocketAddr>().is_ok()
}
