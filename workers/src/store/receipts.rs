//! The chain of a party's receipts: each link is a hash over the one before and over what was on record of a delivery.

use domain::id::{Mode, PartyId};

use super::payouts::{answer_of, unknown_answer};
use super::{Store, StoreError, from_json, from_value, to_json};
use crate::receipt::Link;

/// How often a link is made again because others were made in the meantime.
const TRIES: u32 = 16;

impl Store {
    /// The link of `of` in a party's chain, made by `make` from the number of links before it and the hash of the last one, if it is not there.
    ///
    /// # Errors
    /// As every call; [`StoreError::Unavailable`] too if others were always faster. Repeatable.
    pub async fn chain(&self, party: &PartyId, mode: Mode, of: &str, make: impl Fn(u64, &str) -> Link) -> Result<Link, StoreError> {
        let key = self.shared.names.party(self.shared.shards.of(party, mode), "chain", party, mode);
        for _ in 0..TRIES {
            let (links, head): (Option<u64>, Option<String>) =
                from_value(self.query(redis::cmd("HMGET").arg(&key).arg("n").arg("head").to_owned()).await?)?;
            let links = links.unwrap_or(0);
            let link = make(links, &head.unwrap_or_default());
            let answer = self
                .run(&self.shared.scripts.receipt_append, &[&key], |command| {
                    command.arg(of).arg(links).arg(&link.hash).arg(to_json(&link));
                })
                .await?;
            match answer_of(&answer)? {
                "linked" => {
                    let (_, link): (String, Vec<u8>) = from_value(answer)?;
                    return from_json("link", &link);
                }
                "stale" => {}
                other => return Err(unknown_answer(other)),
            }
        }
        Err(StoreError::Unavailable(None))
    }
}
