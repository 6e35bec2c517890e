//! A Redis or Valkey server of one's own, as a child process: for trying the product out, for measurements and for tests.
//!
//! It listens on a socket file in its own folder and nowhere else, and ends with its parent, even when that is killed: a small shell between the
//! two holds the other end of a pipe.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Runs the server given as arguments, says its process id, and ends it when standard input ends.
const KEEPER: &str = r#""$@" >server.log 2>&1 & pid=$!; echo "$pid"; cat >/dev/null; kill -TERM "$pid" 2>/dev/null; wait "$pid""#;

/// How long a server may take until it answers.
const START: Duration = Duration::from_secs(20);

/// When the append-only file is flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before every answer. What live mode demands.
    Always,
    EverySecond,
}

/// A running server, ended when dropped. Its data stay in its folder.
#[derive(Debug)]
pub struct PrivateServer {
    program: PathBuf,
    folder: PathBuf,
    fsync: Fsync,
    running: Option<(Child, ChildStdin, u32)>,
}

impl PrivateServer {
    /// Starts a server on the data in `folder`, which must exist, and waits until it answers.
    ///
    /// # Errors
    /// No server program is installed, or it does not start.
    pub fn start(folder: &Path, fsync: Fsync) -> anyhow::Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("the folder {}", folder.display()))?;
        let mut server = Self { program: program()?, folder, fsync, running: None };
        server.resume()?;
        Ok(server)
    }

    /// Starts the server again on the same data, if it does not run.
    ///
    /// # Errors
    /// It does not start.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let _ = std::fs::remove_file(self.socket());
        let fsync = match self.fsync {
            Fsync::Always => "always",
            Fsync::EverySecond => "everysec",
        };
        let mut child = Command::new("sh")
            .args(["-c", KEEPER, "sh"])
            .arg(&self.program)
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes", "--appendfsync", fsync])
            .args(["--maxmemory-policy", "noeviction", "--daemonize", "no"])
            // A young file doubles every few seconds, and would be rewritten each time, in the midst of a measurement.
            .args(["--auto-aof-rewrite-min-size", "1gb"])
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting a shell for the server")?;
        let input = child.stdin.take().context("the shell's input")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the shell's output")?).read_line(&mut line)?;
        let pid = line.trim().parse().with_context(|| format!("the server's process id, not `{}`", line.trim()))?;
        self.running = Some((child, input, pid));
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&self) -> anyhow::Result<()> {
        let client = redis::Client::open(self.url())?;
        let ends = Instant::now() + START;
        loop {
            let answer = client.get_connection().and_then(|mut connection| redis::cmd("PING").query::<String>(&mut connection));
            match answer {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= ends => {
                    let log = std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
                    bail!("{} does not answer: {error}\n{log}", self.program.display());
                }
                #[expect(clippy::disallowed_methods, reason = "nothing else runs while a server is being started")]
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Kills the server as a power cut would, without letting it finish anything.
    pub fn kill(&mut self) {
        if let Some((mut child, input, pid)) = self.running.take() {
            send(pid, Signal::KILL);
            drop(input);
            let _ = child.wait();
        }
    }

    /// Stops the server in mid-air (`STOP`), or lets it go on (`CONT`).
    pub fn signal(&self, signal: Signal) {
        if let Some((_, _, pid)) = &self.running {
            send(*pid, signal);
        }
    }

    /// The length of the append-only log.
    ///
    /// # Errors
    /// There is none.
    pub fn log_bytes(&self) -> anyhow::Result<u64> {
        self.log().map(|files| files.iter().map(|(_, bytes)| bytes).sum())
    }

    /// Kills the server and starts it again without whatever it has written since its log had that length, as a crash that outran the disk does.
    ///
    /// # Errors
    /// There is no such log, or the server does not start.
    pub fn forget_since(&mut self, bytes: u64) -> anyhow::Result<()> {
        self.kill();
        let cut = self.log_bytes()?.saturating_sub(bytes);
        let (newest, length) = self.log()?.pop().context("an append-only file")?;
        std::fs::OpenOptions::new().write(true).open(newest)?.set_len(length.saturating_sub(cut))?;
        self.resume()
    }

    /// The files of the log and their lengths, the newest last.
    fn log(&self) -> anyhow::Result<Vec<(PathBuf, u64)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.folder.join("appendonlydir")).context("the append-only folder")? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().contains(".incr.") {
                files.push((entry.path(), entry.metadata()?.len()));
            }
        }
        files.sort();
        Ok(files)
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|(_, _, pid)| *pid)
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if let Some((mut child, input, _)) = self.running.take() {
            drop(input);
            let _ = child.wait();
        }
    }
}

/// Without effect on a process that has ended.
fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The server program: `PAYRELAY_REDIS_SERVER`, else one in the search path, else the one that `make setup` installs under `target/tools`.
///
/// # Errors
/// There is none; says what to do.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(program) = std::env::var_os("PAYRELAY_REDIS_SERVER").filter(|program| !program.is_empty()) {
        return Ok(program.into());
    }
    let names = ["redis-server", "valkey-server"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let folders = std::env::split_paths(&path).chain([installed, PathBuf::from("target/tools")]);
    let found = folders.flat_map(|folder| names.map(|name| folder.join(name))).find(|program| program.is_file());
    found.context("no redis-server or valkey-server is installed: run `make setup`, or install the package redis-server or valkey")
}
