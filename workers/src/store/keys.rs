//! API keys, by the hash of their token.

use domain::credential::ApiKey;
use domain::id::ApiKeyId;

use super::{Store, StoreError, from_json, from_value, to_json};

impl Store {
    fn keys(&self) -> String {
        format!("{}{{auth}}:keys", self.shared.names.prefix)
    }

    fn key_ids(&self) -> String {
        format!("{}{{auth}}:ids", self.shared.names.prefix)
    }

    /// Writes a key under the hash of its token ([`domain::credential::token_hash`]). Repeatable.
    ///
    /// # Errors
    /// As every call.
    pub async fn put_key(&self, token_hash: &str, key: &ApiKey) -> Result<(), StoreError> {
        self.query(redis::cmd("HSET").arg(self.keys()).arg(token_hash).arg(to_json(key)).to_owned()).await?;
        self.query(redis::cmd("HSET").arg(self.key_ids()).arg(key.id.to_string()).arg(token_hash).to_owned()).await?;
        Ok(())
    }

    /// The key of a token, revoked ones too.
    ///
    /// # Errors
    /// As every call.
    pub async fn key(&self, token_hash: &str) -> Result<Option<ApiKey>, StoreError> {
        let record: Option<Vec<u8>> = from_value(self.query(redis::cmd("HGET").arg(self.keys()).arg(token_hash).to_owned()).await?)?;
        record.map(|record| from_json("api key", &record)).transpose()
    }

    /// All keys, revoked ones too, oldest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn list_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let records: Vec<Vec<u8>> = from_value(self.query(redis::cmd("HVALS").arg(self.keys()).to_owned()).await?)?;
        let mut keys = records.iter().map(|record| from_json("api key", record)).collect::<Result<Vec<ApiKey>, _>>()?;
        keys.sort_by_key(|key| (key.created_at, key.id));
        Ok(keys)
    }

    /// Marks a key as revoked; answers whether there is such a key. It ends within the time that a process keeps keys in memory.
    ///
    /// # Errors
    /// As every call.
    pub async fn revoke_key(&self, id: ApiKeyId) -> Result<bool, StoreError> {
        let hash: Option<String> = from_value(self.query(redis::cmd("HGET").arg(self.key_ids()).arg(id.to_string()).to_owned()).await?)?;
        let Some(hash) = hash else { return Ok(false) };
        let Some(mut key) = self.key(&hash).await? else { return Ok(false) };
        key.revoked_at.get_or_insert(self.clock().now());
        self.put_key(&hash, &key).await?;
        Ok(true)
    }
}
