//! Whether the server keeps what it has acknowledged. Live mode refuses to start on one that does not.

use super::{Store, StoreError, from_value};

/// What is sealed and hashed to see whether the secrets are those of this store.
const SAMPLE: &str = "sample";

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

    /// Checks that this process has the secrets and the layout that the store was begun with: the first process leaves a sample of each. Another key
    /// would be noticed only when a beneficiary cannot be read; another number of shards, or another default party, would make another payout of a
    /// repeated request.
    ///
    /// # Errors
    /// As every call; [`StoreError::Vault`] for a vault that opens nothing here, [`StoreError::OtherSettings`] for the rest.
    pub async fn recognise(&self, pepper: &[u8], default_party: &str) -> Result<(), StoreError> {
        let key = format!("{}{{auth}}:sample", self.shared.names.prefix);
        let sealed = self.shared.vault.seal(SAMPLE, SAMPLE.as_bytes());
        let hash = domain::credential::token_hash(pepper, SAMPLE);
        let shards = self.shards().count().to_string();
        let samples = [("sealed", sealed.as_slice()), ("hash", hash.as_bytes()), ("shards", shards.as_bytes()), ("party", default_party.as_bytes())];
        for (field, value) in samples {
            self.query(redis::cmd("HSETNX").arg(&key).arg(field).arg(value).to_owned()).await?;
        }
        let command = redis::cmd("HMGET").arg(&key).arg("sealed").arg("hash").arg("shards").arg("party").to_owned();
        let (sealed, held_hash, held_shards, held_party): (Vec<u8>, String, String, String) = from_value(self.query(command).await?)?;
        self.shared.vault.open(SAMPLE, &sealed)?;
        for (setting, same) in [
            ("ingress.key_pepper", held_hash == hash),
            ("redis.shards", held_shards == shards),
            ("ingress.default_party", held_party == default_party),
        ] {
            if !same {
                return Err(StoreError::OtherSettings(setting));
            }
        }
        Ok(())
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        match self.query(redis::cmd("CONFIG").arg("GET").arg(name).to_owned()).await {
            Ok(value) => {
                let pairs: Vec<(String, String)> = from_value(value)?;
                Ok(pairs.into_iter().next().map(|(_, value)| value))
            }
            Err(StoreError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
