//! Links to the portal and its sessions, by the hashes of their tokens. They expire by themselves; whether one still counts is for [`domain::portal`] to say.

use std::time::Duration;

use domain::id::{Mode, PartyId};
use domain::portal::{Grant, Session};
use jiff::Timestamp;

use super::lanes::millis;
use super::{Store, StoreError, from_json, from_value, to_json};

impl Store {
    fn portal(&self, what: &str, name: &str) -> String {
        [&self.shared.names.prefix, "{auth}:", what, ":", name].concat()
    }

    fn portal_of(&self, what: &str, party: &PartyId, mode: Mode) -> String {
        self.portal(what, &format!("{party}:{}", mode.as_str()))
    }

    /// Keeps a link, for so long. `false` if the party was given `max` links within that time already; nothing is kept then.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn put_link(&self, hash: &str, grant: &Grant, life: Duration, max: u32) -> Result<bool, StoreError> {
        let keys = [self.portal("link", hash), self.portal_of("links", &grant.party, grant.mode)];
        let answer = self
            .run(&self.shared.scripts.portal_link, &keys.each_ref().map(String::as_str), |command| {
                command.arg(to_json(grant)).arg(millis(life)).arg(max);
            })
            .await?;
        from_value(answer)
    }

    /// What a link grants that was not opened.
    ///
    /// # Errors
    /// As every call.
    pub async fn link(&self, hash: &str) -> Result<Option<Grant>, StoreError> {
        let found: Option<Vec<u8>> = from_value(self.query(redis::cmd("GET").arg(self.portal("link", hash)).to_owned()).await?)?;
        found.map(|grant| from_json("link", &grant)).transpose()
    }

    /// Turns a link into a session, which is kept for so long; of all who try, one succeeds.
    ///
    /// # Errors
    /// As every call. Repeatable with the same session.
    pub async fn enter(&self, link: &str, session: &str, now: Timestamp, life: Duration) -> Result<bool, StoreError> {
        let keys = [self.portal("link", link), self.portal("session", session)];
        let answer = self
            .run(&self.shared.scripts.portal_enter, &keys.each_ref().map(String::as_str), |command| {
                command.arg(now.as_millisecond()).arg(millis(life));
            })
            .await?;
        from_value(answer)
    }

    /// A session, if it is kept.
    ///
    /// # Errors
    /// As every call.
    pub async fn session(&self, hash: &str) -> Result<Option<Session>, StoreError> {
        let command = redis::cmd("HMGET").arg(self.portal("session", hash)).arg(&["grant", "began", "seen"]).to_owned();
        let (grant, began, seen): (Option<Vec<u8>>, Option<i64>, Option<i64>) = from_value(self.query(command).await?)?;
        let at = |ms: i64| Timestamp::from_millisecond(ms).map_err(|_| StoreError::Corrupt("the time of a session".to_owned()));
        let (Some(grant), Some(began), Some(seen)) = (grant, began, seen) else { return Ok(None) };
        Ok(Some(Session { grant: from_json("session", &grant)?, began_at: at(began)?, seen_at: at(seen)? }))
    }

    /// Notes that a session was used.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn session_seen(&self, hash: &str, now: Timestamp) -> Result<(), StoreError> {
        let key = self.portal("session", hash);
        self.run(&self.shared.scripts.portal_seen, &[&key], |command| _ = command.arg(now.as_millisecond())).await.map(drop)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn end_session(&self, hash: &str) -> Result<(), StoreError> {
        self.query(redis::cmd("DEL").arg(self.portal("session", hash)).to_owned()).await.map(drop)
    }

    /// Takes back all links and sessions of a party: those of another generation than this one, which is a new one. It stays for ever, so that what was granted since goes on.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn take_back_portal(&self, party: &PartyId, mode: Mode, generation: &str) -> Result<(), StoreError> {
        let key = self.portal_of("generation", party, mode);
        self.query(redis::cmd("SET").arg(key).arg(generation).to_owned()).await.map(drop)
    }

    /// What links and sessions of a party have to be of: empty as long as nothing was ever taken back.
    ///
    /// # Errors
    /// As every call.
    pub async fn portal_generation(&self, party: &PartyId, mode: Mode) -> Result<String, StoreError> {
        let generation: Option<String> = from_value(self.query(redis::cmd("GET").arg(self.portal_of("generation", party, mode)).to_owned()).await?)?;
        Ok(generation.unwrap_or_default())
    }
}
