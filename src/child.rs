//! Processes of payrelay beside this one, started to be broken, or to be measured from outside.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::process::{Child as Process, Command};
use workers::failpoints;

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary of payrelay.
    pub path: PathBuf,
    /// The subcommand.
    pub command: &'static str,
    pub config: PathBuf,
    /// Where its fence and its log are kept, so that a successor under the same name finds the fence again.
    pub folder: PathBuf,
}

/// A process that was started. Killed when dropped.
#[derive(Debug)]
pub struct Child {
    process: Process,
    pid: u32,
}

impl Program {
    /// Workers of an installation whose configuration is in a file.
    #[must_use]
    pub fn worker(path: PathBuf, config: &Path, folder: &Path) -> Self {
        Self { path, command: "work", config: config.to_owned(), folder: folder.to_owned() }
    }

    /// Starts it under a name, with failpoints or, by an empty text, without.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, name: &str, armed: &str) -> anyhow::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(name))?;
        let process = Command::new(&self.path)
            .args([self.command, "--config"])
            .arg(&self.config)
            .env("PAYRELAY__FENCE__PATH", self.folder.join(format!("{name}.fence")))
            .env(failpoints::VARIABLE, armed)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.path.display()))?;
        let pid = process.id().context("a process that has ended at once")?;
        Ok(Child { process, pid })
    }

    /// What the processes of that name have logged.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }
}

impl Child {
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. Without effect on one that has ended.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.process.id().is_none() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("the id of a process")?;
        kill_process(pid, signal).context("sending a signal")
    }

    /// Waits until it ends, for so long.
    ///
    /// # Errors
    /// The system does not say.
    pub async fn ended(&mut self, within: Duration) -> anyhow::Result<Option<ExitStatus>> {
        tokio::time::timeout(within, self.process.wait()).await.ok().transpose().context("waiting for a process")
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    /// The system does not let us.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("killing a process")
    }

    /// Whether it does something about a signal, and does not just end by it.
    #[must_use]
    pub fn heeds(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
    }

    /// Whether it stands still, by `STOP` or a failpoint.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The state follows the name, which may hold anything but ends with the last parenthesis.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }
}
