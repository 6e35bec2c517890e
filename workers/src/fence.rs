//! The rollback fence: every worker keeps, outside the store, how far the store's dispatch counter had come before it sent anything.
//!
//! A store that was restored from a backup, or that lost the tail of its log, counts from an older number. The first dispatch that notices this
//! is not made, and dispatch freezes: the forgotten payouts may be with the provider already, and nobody here knows of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use domain::id::Shard;
use tokio::sync::{Mutex, oneshot};

/// The length of an entry on file: twenty digits and a line end, so that each entry is overwritten in place.
const ENTRY: u64 = 21;

/// A worker's memory of dispatch counters.
#[derive(Clone)]
pub struct Fence {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None`: kept in memory only.
    file: Mutex<Option<File>>,
    highest: std::sync::Mutex<Highest>,
}

#[derive(Default)]
struct Highest {
    passed: BTreeMap<u8, u64>,
    waiting: Vec<(u8, u64, oneshot::Sender<bool>)>,
    writing: bool,
}

/// The store's counter has gone back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has forgotten writes: its dispatch counter is {found}, and {on_file} had been reached")]
pub struct RolledBack {
    pub found: u64,
    pub on_file: u64,
}

/// Why a dispatch does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    #[error(transparent)]
    RolledBack(#[from] RolledBack),
    /// A trouble of this worker's disk. It says nothing about the store.
    #[error("the fence file cannot be written")]
    NotNoted,
}

impl Fence {
    /// A fence that is kept in `path`, which survives this process and is not part of the store. `None` keeps it in memory, for tests.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let mut passed = BTreeMap::new();
        let file = path
            .map(|path| {
                let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                for (shard, entry) in (0_u8..).zip(text.split_inclusive('\n')) {
                    let number = number(entry).ok_or_else(|| std::io::Error::other("it is damaged: not a number of twenty digits in each line"))?;
                    passed.insert(shard, number);
                }
                std::io::Result::Ok(file)
            })
            .transpose()
            .with_context(|| format!("opening the fence file {}", path.unwrap_or(Path::new("")).display()))?;
        Ok(Self { inner: Arc::new(Inner { file: Mutex::new(file), highest: std::sync::Mutex::new(Highest { passed, ..Highest::default() }) }) })
    }

    /// The highest counter that was passed for a shard.
    #[must_use]
    pub fn passed(&self, shard: Shard) -> u64 {
        self.highest().passed.get(&shard.index()).copied().unwrap_or(0)
    }

    /// Notes the counter that a dispatch was given, and returns once it is on disk. Dispatches that wait at the same time share one write.
    /// `before` is what [`Fence::passed`] said before the counter was asked for: dispatches run side by side, so only that is sure to be older.
    ///
    /// # Errors
    /// [`Held::RolledBack`] when the counter is not beyond `before`, [`Held::NotNoted`] when it cannot be noted. Nothing may be sent then.
    pub async fn pass(&self, shard: Shard, before: u64, epoch: u64) -> Result<(), Held> {
        if epoch <= before {
            return Err(RolledBack { found: epoch, on_file: self.passed(shard) }.into());
        }
        let (noted, waits) = oneshot::channel();
        let lead = {
            let mut highest = self.highest();
            highest.waiting.push((shard.index(), epoch, noted));
            !std::mem::replace(&mut highest.writing, true)
        };
        if lead {
            let fence = self.clone();
            tokio::task::spawn_blocking(move || fence.write_all_waiting());
        }
        if waits.await == Ok(true) { Ok(()) } else { Err(Held::NotNoted) }
    }

    fn write_all_waiting(&self) {
        loop {
            let batch = {
                let mut highest = self.highest();
                if highest.waiting.is_empty() {
                    highest.writing = false;
                    return;
                }
                std::mem::take(&mut highest.waiting)
            };
            let mut reached = BTreeMap::new();
            for (shard, epoch, _) in &batch {
                let entry = reached.entry(*shard).or_insert(0);
                *entry = (*entry).max(*epoch);
            }
            let written =
                self.write(&reached).inspect_err(|error| tracing::error!(%error, "the fence file cannot be written; nothing is sent")).is_ok();
            if written {
                let mut highest = self.highest();
                for (shard, epoch) in reached {
                    let passed = highest.passed.entry(shard).or_insert(0);
                    *passed = (*passed).max(epoch);
                }
            }
            for (_, _, noted) in batch {
                let _ = noted.send(written);
            }
        }
    }

    fn write(&self, reached: &BTreeMap<u8, u64>) -> std::io::Result<()> {
        let mut file = self.inner.file.blocking_lock();
        let Some(file) = file.as_mut() else { return Ok(()) };
        for (shard, epoch) in reached {
            let epoch = self.highest().passed.get(shard).copied().unwrap_or(0).max(*epoch);
            let length = file.metadata()?.len();
            let whole = length / ENTRY;
            if length != whole * ENTRY {
                // A disk that was full has taken a part of an entry.
                file.set_len(whole * ENTRY)?;
            }
            file.seek(SeekFrom::Start(whole * ENTRY))?;
            for _ in whole..u64::from(*shard) {
                file.write_all(format!("{:020}\n", 0).as_bytes())?;
            }
            file.seek(SeekFrom::Start(u64::from(*shard) * ENTRY))?;
            file.write_all(format!("{epoch:020}\n").as_bytes())?;
        }
        file.sync_data()
    }

    fn highest(&self) -> std::sync::MutexGuard<'_, Highest> {
        self.inner.highest.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A whole entry only: what is left of one that was cut off is a smaller number, by which a rollback would not be noticed.
fn number(entry: &str) -> Option<u64> {
    let digits = entry.strip_suffix('\n')?;
    let whole = entry.len() as u64 == ENTRY && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: Shard = Shard::new(2);

    #[tokio::test]
    async fn a_counter_that_goes_back_is_noticed_by_the_next_process_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fence");
        let fence = Fence::open(Some(&path)).unwrap();
        let passes = (1..=50).map(|epoch| fence.pass(SHARD, 0, epoch));
        futures_util::future::try_join_all(passes).await.unwrap();
        assert_eq!(fence.passed(SHARD), 50);

        let restarted = Fence::open(Some(&path)).unwrap();
        let before = restarted.passed(SHARD);
        assert_eq!(before, 50);
        assert_eq!(restarted.pass(SHARD, before, 50).await, Err(Held::RolledBack(RolledBack { found: 50, on_file: 50 })));
        assert_eq!(restarted.pass(SHARD, before, 51).await, Ok(()));
        assert_eq!(restarted.passed(Shard::new(0)), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_noted_is_no_rollback_and_does_not_pass() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fence");
        let fence = Fence::open(Some(&path)).unwrap();
        fence.pass(SHARD, 0, 1).await.unwrap();
        let writable = fence.inner.file.lock().await.replace(File::open(&path).unwrap());
        assert_eq!(fence.pass(SHARD, 1, 2).await, Err(Held::NotNoted));
        assert_eq!(fence.passed(SHARD), 1, "what is not on file was not passed");
        assert_eq!(fence.pass(SHARD, 1, 1).await, Err(Held::RolledBack(RolledBack { found: 1, on_file: 1 })));
        *fence.inner.file.lock().await = writable;
        assert_eq!(fence.pass(SHARD, 1, 3).await, Ok(()));
        assert_eq!(Fence::open(Some(&path)).unwrap().passed(SHARD), 3);
    }

    #[tokio::test]
    async fn what_a_failed_write_has_left_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fence");
        let fence = Fence::open(Some(&path)).unwrap();
        fence.pass(Shard::new(0), 0, 7).await.unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"0000000000").unwrap();
        fence.pass(SHARD, 0, 8).await.unwrap();
        let restarted = Fence::open(Some(&path)).unwrap();
        assert_eq!([0, 1, 2].map(|shard| restarted.passed(Shard::new(shard))), [7, 0, 8]);
    }

    /// A number that cannot be read is not 0: then nothing would be noticed any more. Nor is what is left of one.
    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fence");
        let sound = format!("{:020}\n{:020}\n", 7, 8);
        for damaged in [
            sound.replace('7', "x"),
            sound.replace('8', "\0"),
            sound.replace('\n', " "),
            sound[..36].to_owned(),
            sound[..41].to_owned(),
            sound[5..].to_owned(),
            format!("{sound}\n"),
        ] {
            std::fs::write(&path, &damaged).unwrap();
            let refused = Fence::open(Some(&path)).err().unwrap_or_else(|| panic!("{damaged:?}"));
            assert!(format!("{refused:#}").contains("fence: it is damaged"), "{refused:#}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
        std::fs::write(&path, &sound).unwrap();
        let fence = Fence::open(Some(&path)).unwrap();
        assert_eq!([0, 1, 2].map(|shard| fence.passed(Shard::new(shard))), [7, 8, 0]);
    }

    #[tokio::test]
    async fn a_slower_dispatch_of_the_same_moment_is_no_rollback() {
        let fence = Fence::open(None).unwrap();
        let before = fence.passed(SHARD);
        fence.pass(SHARD, before, 2).await.unwrap();
        fence.pass(SHARD, before, 1).await.unwrap();
        assert_eq!(fence.passed(SHARD), 2);
    }
}
