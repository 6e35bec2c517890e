//! A file in which a sandbox keeps its books over a restart: one JSON value a line, appended.

use std::io::Write as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A journal that is written, or none.
pub(crate) struct Journal(Option<std::fs::File>);

impl Journal {
    /// Opens the file, if there is to be one, and reads what is in it. Lines that cannot be read, as the last one after a crash, are dropped.
    pub(crate) fn open<L: DeserializeOwned>(path: Option<&Path>) -> std::io::Result<(Self, Vec<L>)> {
        let Some(path) = path else { return Ok((Self(None), Vec::new())) };
        let lines = match std::fs::read_to_string(path) {
            Ok(text) => text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        // After a line that was cut short, begin a new one.
        file.write_all(b"\n")?;
        Ok((Self(Some(file)), lines))
    }

    pub(crate) fn write<L: Serialize>(&mut self, line: &L) {
        let Some(file) = &mut self.0 else { return };
        let Ok(mut text) = serde_json::to_string(line) else { return };
        text.push('\n');
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::error!(%error, "the sandbox's journal could not be written");
        }
    }
}
