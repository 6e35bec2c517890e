//! `payrelay bench`: how fast a release build is on this machine, beside what the machine could do at best.
//!
//! The server under test is a process of its own, as a user would run it; the load, the subscriber and the sandbox are in this one, and all of them share
//! the machine with the store. Absolute numbers of such a run say little, and nothing on a busy machine: what counts are the ratios to the limits,
//! which are measured in the same round. Everything is on loopback, on ports that the system picks, with a store that ends with the run.

mod figures;
mod limits;
mod load;
mod machine;
mod many;
mod report;
mod round;
mod server;

pub(crate) use self::limits::posts_per_s;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio_util::sync::CancellationToken;
use workers::store::private_server::Fsync;

use self::machine::Machine;
use self::report::Report;

/// The longest path of a socket that every system takes, less what the store puts below the folder.
const FOLDER_MAX: usize = 80;

/// What is measured, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the numbers go, as JSON.
    pub out: PathBuf,
    /// How often each is measured; the median counts.
    pub rounds: u32,
    /// One short round.
    pub quick: bool,
    /// Fail when a figure is below its floor.
    pub check: bool,
    /// Measure this part alone, with the limits that it is held against.
    pub only: Option<Part>,
}

/// A part that can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// `delivered_per_s` and `drain_per_s`.
    Delivered,
    /// `fanout_1000_s`.
    FanOut,
    /// `blackhole_p99_ratio`.
    BlackHole,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// One limit, one rate.
    rate: Duration,
    /// Before a rate is taken.
    warm_up: Duration,
    /// The requests at a steady pace.
    pace: Duration,
    /// Requests that are signed up front.
    signed: usize,
    backlog: usize,
    settled: usize,
    starts: usize,
    /// Events beside a subscriber that does not answer, and as long without.
    black_hole: Duration,
}

const THOROUGH: Effort = Effort {
    rate: Duration::from_secs(2),
    warm_up: Duration::from_millis(500),
    pace: Duration::from_secs(6),
    signed: 6_000,
    backlog: 20_000,
    settled: 1_500,
    starts: 7,
    black_hole: Duration::from_millis(2_500),
};

const QUICK: Effort = Effort {
    rate: Duration::from_millis(900),
    warm_up: Duration::from_millis(300),
    pace: Duration::from_secs(2),
    signed: 1_500,
    backlog: 5_000,
    settled: 300,
    starts: 3,
    black_hole: Duration::from_millis(1_000),
};

/// Measures, prints a table and writes `out`. Ends early with `stop`.
///
/// # Errors
/// A measurement could not be made; with `check`, a figure is below its floor.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    stop.run_until_cancelled(measure(options)).await.context("stopped before the end")?
}

async fn measure(options: Options) -> anyhow::Result<()> {
    let (effort, rounds) = if options.quick { (QUICK, 1) } else { (THOROUGH, options.rounds) };
    if cfg!(debug_assertions) {
        println!("this is not a release build: its numbers say nothing (make bench)\n");
    }
    let parent = options.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    let parent = parent.canonicalize()?;
    let folders = tempfile::Builder::new().prefix("bench-").rand_bytes(4).to_owned();
    let folder = if parent.as_os_str().len() <= FOLDER_MAX { folders.tempdir_in(parent) } else { folders.tempdir() }?;

    let mut report = Report::new(Machine::describe(folder.path()), rounds);
    for round in 1..=rounds {
        for (name, fsync) in [("always", Fsync::Always), ("everysec", Fsync::EverySecond)] {
            println!("round {round} of {rounds}, appendfsync {name}");
            let place = folder.path().join(format!("{round}{name}"));
            std::fs::create_dir(&place)?;
            let measured =
                round::measure(&place, fsync, &effort, options.only).await.with_context(|| format!("round {round}, appendfsync {name}"))?;
            report.store = measured.store;
            report.add(name, measured.figures);
            std::fs::remove_dir_all(&place)?;
        }
    }
    println!("\n{}", report.table());
    std::fs::write(&options.out, report.json()?).with_context(|| format!("writing {}", options.out.display()))?;
    println!("\n{}", options.out.display());
    let below = report.below();
    ensure!(!options.check || below.is_empty(), "below the floor: {}", below.join(", "));
    Ok(())
}
