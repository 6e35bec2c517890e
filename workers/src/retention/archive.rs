//! Where records go before they are trimmed: lines of JSON, compressed, in files of one kind, shard, day and process. What is sealed in the store stays sealed there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use domain::id::Shard;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A directory for archived records. Each process appends to files of its own, so none is torn by another.
#[derive(Debug)]
pub struct Archive {
    directory: PathBuf,
    process: String,
    /// Counts the files that may be torn: none is written to again.
    torn: AtomicU32,
}

/// The archive cannot be written. Nothing is trimmed then.
#[derive(Debug, thiserror::Error)]
#[error("the archive in {directory} cannot be written")]
pub struct ArchiveError {
    directory: String,
    #[source]
    source: io::Error,
}

impl Archive {
    /// Makes the directory, if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: &Path) -> Result<Self, ArchiveError> {
        let archive = Self { directory: directory.to_owned(), process: format!("{:016x}", rand::random::<u64>()), torn: AtomicU32::new(0) };
        std::fs::create_dir_all(directory).map_err(|source| archive.failed(source))?;
        Ok(archive)
    }

    /// Appends lines, and returns once they are on the disk.
    ///
    /// # Errors
    /// They may not be, or not all of them. What was torn by that is the end of a file: the next lines begin another one.
    pub async fn append(&self, kind: &'static str, shard: Shard, at: Timestamp, lines: Vec<String>) -> Result<(), ArchiveError> {
        let day = at.to_zoned(TimeZone::UTC).date();
        let torn = self.torn.load(Ordering::Relaxed);
        let path = self.directory.join(format!("{kind}-{shard}-{day}-{}-{torn}.jsonl.gz", self.process));
        let directory = self.directory.clone();
        let written = tokio::task::spawn_blocking(move || write(&directory, &path, &lines)).await;
        written.unwrap_or_else(|_| Err(io::Error::other("the writer panicked"))).map_err(|source| {
            self.torn.fetch_add(1, Ordering::Relaxed);
            self.failed(source)
        })
    }

    fn failed(&self, source: io::Error) -> ArchiveError {
        ArchiveError { directory: self.directory.display().to_string(), source }
    }
}

/// One member of the file per call: whoever decompresses it reads all of them one after the other.
fn write(directory: &Path, path: &Path, lines: &[String]) -> io::Result<()> {
    let mut member = GzEncoder::new(Vec::new(), Compression::default());
    for line in lines {
        member.write_all(line.as_bytes())?;
        member.write_all(b"\n")?;
    }
    let member = member.finish()?;
    let is_new = !path.exists();
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&member)?;
    file.sync_all()?;
    if is_new { File::open(directory)?.sync_all() } else { Ok(()) }
}
