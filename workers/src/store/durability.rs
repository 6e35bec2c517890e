//! Whether the server keeps what it has acknowledged. Live mode refuses to start on one that does not.

use super::{Store, StoreError, from_value};

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    /// What was found, and what to do about it.
    pub found: String,
}

impl Store {
    /// Checks that an acknowledged write survives a crash of the server, that no record can be evicted, and that time was not moved.
    ///
    /// # Errors
    /// As every call. A server that does not allow `CONFIG GET` gives failed checks, not an error.
    pub async fn durability(&self) -> Result<Vec<Check>, StoreError> {
        let aof = self.setting("appendonly").await?;
        let fsync = self.setting("appendfsync").await?;
        let eviction = self.setting("maxmemory-policy").await?;
        let expect = |name, found: Option<String>, wanted: &str, why: &str| {
            let ok = found.as_deref() == Some(wanted);
            let shown = found.unwrap_or_else(|| "not readable (CONFIG GET is refused)".to_owned());
            let found = if ok { shown } else { format!("{shown}; must be `{wanted}`: {why}") };
            Check { name, ok, found }
        };
        let mut moved = 0;
        for shard in self.shards().all() {
            let offset: Option<i64> = from_value(self.query(redis::cmd("GET").arg(self.shared.names.of(shard, "clock")).to_owned()).await?)?;
            moved += offset.unwrap_or(0).abs();
        }
        let clock = if moved == 0 { "the server's own".to_owned() } else { format!("moved by {moved} ms; use another prefix or a fresh store") };
        Ok(vec![
            expect("appendonly", aof, "yes", "without the append-only file a restart forgets payouts"),
            expect("appendfsync", fsync, "always", "otherwise a crash forgets payouts that were acknowledged"),
            expect("maxmemory-policy", eviction, "noeviction", "otherwise payouts are evicted under memory pressure"),
            Check { name: "clock", ok: moved == 0, found: clock },
        ])
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        match self.query(redis::cmd("CONFIG").arg("GET").arg(name).to_owned()).await {
            Ok(value) => {
                let pairs: Vec<(String, String)> = from_value(value)?;
                Ok(pairs.into_iter().next().map(|(_, value)| value))
            }
            Err(StoreError::Unavailable(Some(error))) if error.code().is_some() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
