//! The server under test: a process of the same binary, seen from outside.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::load::Connection;
use crate::child::{Child, Program, Signal};

/// How long a start or an end may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at the log: what a start can be measured to.
const LOOK: Duration = Duration::from_micros(250);

/// A running process of payrelay.
pub(super) struct Server {
    child: Child,
    /// From the start of the process until it said that it was ready.
    pub(super) started_ms: f64,
}

impl Server {
    /// Starts `command` (`all`, `serve`) with the configuration of an installation, whose ingress listens on `address`, and waits until it is ready.
    pub(super) async fn start(command: &'static str, config: &Path, folder: &Path, address: SocketAddr) -> anyhow::Result<Self> {
        let program = Program { path: std::env::current_exe()?, command, config: config.to_owned(), folder: folder.to_owned() };
        let log = program.log("server");
        let _ = std::fs::remove_file(&log);
        let began = Instant::now();
        let mut child = program.start("server", "")?;
        // First its own word: to try and connect to a port of one's own range before somebody listens there can end in a connection with oneself.
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        while !said().contains(" started ") {
            if began.elapsed() >= PATIENCE || child.ended(LOOK).await?.is_some() {
                bail!("`payrelay {command}` did not start:\n{}", said());
            }
        }
        let request = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\n\r\n");
        let status = Connection::open(address).await?.call(request.as_bytes()).await?;
        ensure!(status == 200, "`payrelay {command}` is not ready: {status}\n{}", said());
        Ok(Self { child, started_ms: began.elapsed().as_secs_f64() * 1_000.0 })
    }

    /// Memory in use, and the most that ever was, in MB; where the system tells.
    pub(super) fn memory_mb(&self) -> Option<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.pid())).ok()?;
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(f64::from(line.trim_start_matches(':').split_whitespace().next()?.parse::<u32>().ok()?) / 1_024.0)
        };
        Some((of("VmRSS")?, of("VmHWM")?))
    }

    /// Ends it in good order.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.child.signal(Signal::TERM)?;
        self.child.ended(PATIENCE).await?.context("the server did not end")?;
        Ok(())
    }
}
