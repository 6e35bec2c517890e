//! The processes of an installation that run: each says every so often that it is there, and what it was told of what all must be told alike.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, from_value, to_json};

/// A process, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Of this start of it, never used again.
    pub id: String,
    /// For people: its host, its number there, and what it does.
    #[serde(default)]
    pub name: String,
    /// What it was told, by section of the configuration: a keyed hash each.
    #[serde(default)]
    pub told: BTreeMap<String, String>,
    /// How long its leases last.
    #[serde(default)]
    pub lease_ms: u64,
    /// By the store's clock: without another word by then it is gone.
    pub until: Timestamp,
}

impl Store {
    /// Says that a process is there, for `lasts` from now on, and answers with all that are, this one included. What says nothing any more is forgotten.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn say_hello(&self, process: &Process, lasts: Duration) -> Result<Vec<Process>, StoreError> {
        let key = self.processes_key();
        let until = self.clock().now().saturating_add(SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX);
        let record = to_json(&Process { until, ..process.clone() });
        self.query(redis::cmd("HSET").arg(&key).arg(&process.id).arg(record).to_owned()).await?;
        let (here, gone): (Vec<_>, Vec<_>) = self.all_processes().await?.into_iter().partition(|(_, process)| self.is_here(process));
        if !gone.is_empty() {
            let mut command = redis::cmd("HDEL");
            command.arg(&key);
            gone.iter().for_each(|(id, _)| _ = command.arg(id));
            self.query(command).await?;
        }
        Ok(here.into_iter().filter_map(|(_, process)| process).collect())
    }

    /// Says that a process ends.
    ///
    /// # Errors
    /// As every call. Repeatable; without it the process is forgotten when its time is over.
    pub async fn say_farewell(&self, id: &str) -> Result<(), StoreError> {
        self.query(redis::cmd("HDEL").arg(self.processes_key()).arg(id).to_owned()).await.map(drop)
    }

    /// The processes that are there.
    ///
    /// # Errors
    /// As every call.
    pub async fn processes(&self) -> Result<Vec<Process>, StoreError> {
        let all = self.all_processes().await?.into_iter();
        Ok(all.filter(|(_, process)| self.is_here(process)).filter_map(|(_, process)| process).collect())
    }

    /// By id. `None`: the word of a process of another version, which cannot be read.
    async fn all_processes(&self) -> Result<Vec<(String, Option<Process>)>, StoreError> {
        let all: Vec<(String, Vec<u8>)> = from_value(self.query(redis::cmd("HGETALL").arg(self.processes_key()).to_owned()).await?)?;
        Ok(all.into_iter().map(|(id, record)| (id, serde_json::from_slice(&record).ok())).collect())
    }

    fn is_here(&self, process: &Option<Process>) -> bool {
        process.as_ref().is_some_and(|process| process.until > self.clock().now())
    }

    fn processes_key(&self) -> String {
        format!("{}{{processes}}:here", self.shared.names.prefix)
    }
}
