//! The command line: what can be asked of the binary, and how a process begins and ends.
//!
//! A command reads and judges its configuration before it opens anything. SIGTERM and SIGINT end it in good order; a second one ends it at once.

pub mod bench;
pub mod chaos;
pub mod deliveries;
pub mod dev;
pub mod dispatch;
pub mod doctor;
pub mod healthcheck;
pub mod keys;
pub mod listen;
pub mod notices;
pub mod portal;
pub mod probe;
pub mod providers;
pub mod reconcile;
pub mod sandbox;
pub mod schedule;
pub mod trigger;
pub mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use workers::failpoints;

use crate::config::{BadConfig, Config, Sections};
use crate::run::{self, Role};
use crate::telemetry;

/// What a process that cannot use its configuration ends with: `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// How long the last traces, metrics and logs may take to be sent.
const TELEMETRY_END: Duration = Duration::from_secs(5);

/// How long threads that block may keep the process after everything else has ended.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// Executes payouts at providers at most once, and tells merchants every status, signed and in order.
#[derive(Debug, Parser)]
#[command(name = "payrelay", version)]
pub struct Arguments {
    /// A file with what differs from the defaults. Variables such as PAYRELAY__REDIS__URL win over it.
    #[arg(long, global = true, env = "PAYRELAY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take requests and notices; leave the work to others.
    Serve,
    /// Work through what is due: dispatch, ask, settle, deliver.
    Work,
    /// Both in one process.
    All,
    /// Speak a provider's wire and misbehave on demand.
    Sandbox(sandbox::Arguments),
    /// A complete installation on this machine, with a store, a sandbox and a subscriber of its own. Takes --config, and of variables only REDIS_URL.
    ///
    /// It sets these keys itself, and refuses a file that sets one of them: redis.url (and redis.prefix with --redis-url), key 1 of vault.keys, ingress.listen,
    /// ingress.admin_listen, ingress.key_pepper, fence.path, egress.allow, and those with which the test accounts at providers and the sandboxes know each other. It does not
    /// read telemetry from it.
    Dev(dev::Arguments),
    /// Measure this machine.
    Bench(bench::Arguments),
    /// Kill workers and the store at random under load, and count what should never happen.
    Chaos(chaos::Arguments),
    /// Make, list and revoke API keys; make secrets and signing keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Stop dispatch: from now on no call that moves money is begun.
    Freeze(dispatch::FreezeArguments),
    /// Let dispatch go on.
    Thaw(dispatch::ThawArguments),
    /// Show whether payouts go to the providers; pause one, and resume it.
    #[command(subcommand)]
    Providers(providers::Command),
    /// Compare the payouts of a day with what the provider lists. Ends with 0 if nothing differs, 3 if something does, 4 if a side could not be read whole.
    Reconcile(reconcile::Arguments),
    /// List what subscribers did not get; deliver it, or what they were told, once more.
    #[command(subcommand)]
    Deliveries(deliveries::Command),
    /// List the webhooks of providers that were put aside; settle one again.
    #[command(subcommand)]
    Notices(notices::Command),
    /// Let a party into the portal, and out.
    #[command(subcommand)]
    Portal(portal::Command),
    /// Show on which dates a payout schedule pays out.
    #[command(subcommand)]
    Schedule(schedule::Command),
    /// Pull events of a party and post them to an address of this machine, signed as webhooks are. For whoever writes a receiver.
    Listen(listen::Arguments),
    /// Tell whether a webhook that was received, or a receipt of a delivery, is genuine, and if not, why. Ends with 0 if it is, 1 if not, 2 if that cannot be told, as where a file cannot be read.
    Verify(verify::Arguments),
    /// Send samples of events, signed as real ones, to a URL or a subscription. Ends with 0 if each was acknowledged, 1 if not.
    Trigger(trigger::Arguments),
    /// Try a merchant's endpoint with webhooks that come twice, late, out of order, or are forged. Ends with 0 if it did right each time, 1 if not.
    Probe(probe::Arguments),
    /// Explain what is wrong with the configuration, the store and the way to both.
    Doctor(doctor::Arguments),
    /// Ask a URL for a 2xx, within two seconds. For containers.
    Healthcheck(healthcheck::Arguments),
}

/// Runs a command to its end.
#[must_use]
pub fn main(arguments: Arguments) -> ExitCode {
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            if error.downcast_ref::<BadConfig>().is_some() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// Says on the standard error why a command was not done.
fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr(), "payrelay: {error:#}");
}

fn run(Arguments { config, command }: Arguments) -> anyhow::Result<ExitCode> {
    let file = config.as_deref();
    match command {
        Command::Serve => process(file, Role::Serve),
        Command::Work => process(file, Role::Work),
        Command::All => process(file, Role::All),
        Command::Sandbox(arguments) => attended(|stop| sandbox::run(file, arguments, stop)),
        Command::Dev(arguments) => dev::run(file, arguments),
        Command::Bench(arguments) => attended(|stop| bench::run(file, arguments, stop)),
        Command::Chaos(chaos::Arguments { at: Some(chaos::At::Endpoint(arguments)), .. }) => brief(probe::run(arguments)),
        Command::Chaos(arguments) => attended(|stop| chaos::run(arguments, stop)),
        Command::Keys(command) => brief(keys::run(file, command)),
        Command::Freeze(arguments) => brief(dispatch::freeze(file, arguments)),
        Command::Thaw(arguments) => brief(dispatch::thaw(file, arguments)),
        Command::Providers(command) => brief(providers::run(file, command)),
        Command::Reconcile(arguments) => brief(reconcile::run(file, arguments)),
        Command::Deliveries(command) => brief(deliveries::run(file, command)),
        Command::Notices(command) => brief(notices::run(file, command)),
        Command::Portal(command) => brief(portal::run(file, command)),
        Command::Schedule(command) => schedule::run(file, command),
        Command::Listen(arguments) => {
            telemetry::lines_only("warn");
            attended(|stop| listen::run(arguments, stop))
        }
        Command::Verify(arguments) => Ok(verify::run(&arguments)),
        Command::Trigger(arguments) => brief(trigger::run(file, arguments)),
        Command::Probe(arguments) => brief(probe::run(arguments)),
        Command::Doctor(arguments) => brief(doctor::run(file, arguments)),
        Command::Healthcheck(arguments) => brief(healthcheck::run(arguments)),
    }
}

/// A process that serves or works until it is told to stop.
fn process(file: Option<&Path>, role: Role) -> anyhow::Result<ExitCode> {
    let config = Config::load(file)?;
    config.demand(Sections::All)?;
    let telemetry = telemetry::start(&config.telemetry)?;
    failpoints::arm(&std::env::var(failpoints::VARIABLE).unwrap_or_default())?;
    let watch = telemetry.watch();
    let ended = attended(|stop| async move { run::run(&config, role, Some(watch), stop, None).await });
    telemetry.shutdown(TELEMETRY_END);
    ended
}

/// Runs something that goes on until a signal ends it.
fn attended<F: Future<Output = anyhow::Result<()>>>(command: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<ExitCode> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().worker_threads(threads()).thread_name("payrelay").build();
    let runtime = runtime.context("starting the runtime")?;
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let signals = [(SignalKind::terminate(), 143), (SignalKind::interrupt(), 130)];
        for (kind, code) in signals {
            tokio::spawn(obey(signal(kind).context("listening for signals")?, code, stop.clone()));
        }
        command(stop).await
    });
    runtime.shutdown_timeout(RUNTIME_END);
    ended.map(|()| ExitCode::SUCCESS)
}

/// Threads that run everything that does not block: one less than the processors, because signatures are checked on threads of their own, and because on a
/// small machine the store, which has but one, has to get its processor at once. `TOKIO_WORKER_THREADS` wins.
fn threads() -> usize {
    let told = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|told| told.parse().ok());
    told.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get) - 1).max(1)
}

/// The first signal asks, the second one does not.
async fn obey(mut signal: Signal, code: i32, stop: CancellationToken) {
    while signal.recv().await.is_some() {
        if stop.is_cancelled() {
            tracing::warn!("told to stop a second time; leases that are held end by themselves");
            std::process::exit(code);
        }
        tracing::info!("told to stop; what is under way is finished first");
        stop.cancel();
    }
}

/// Runs something that does one thing and ends.
fn brief(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    telemetry::lines_only("warn");
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(command);
    runtime.shutdown_timeout(RUNTIME_END);
    ended
}

/// Writes a command's result. Whoever has closed the other end has seen enough.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("writing the result"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself() {
        for command in Arguments::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }

    /// A configuration that cannot be used is told apart from everything else that goes wrong, and nothing is opened for it.
    #[test]
    fn a_bad_configuration_has_an_exit_code_of_its_own() {
        let arguments = Arguments::try_parse_from(["payrelay", "--config", "no-such-file.toml", "all"]).unwrap();
        assert_eq!(main(arguments), ExitCode::from(EXIT_CONFIG));
        let arguments = Arguments::try_parse_from(["payrelay", "healthcheck", "ftp://127.0.0.1/"]).unwrap();
        assert_eq!(main(arguments), ExitCode::FAILURE);
    }
}
