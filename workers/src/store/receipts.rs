//! The chain of a party's receipts: each link is a hash over the one before and over what was on record of a delivery. Its oldest links are trimmed; the place and the
//! hash of the last one of them stay, and the others are a chain from there on.

use std::time::Duration;

use domain::id::{DeliveryId, Mode, PartyId, Shard};

use super::lanes::millis;
use super::payouts::{answer_of, unknown_answer};
use super::{Store, StoreError, from_value};
use crate::receipt::Link;

/// How often a link is made again because others were made in the meantime.
const TRIES: u32 = 16;

/// A part of a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Links that were ever made.
    pub length: u64,
    /// The place of the last link that is not kept any more, and its hash; 0 and nothing where all are kept.
    pub anchor: (u64, String),
    /// In their order, each with what it is a receipt of.
    pub links: Vec<(Link, DeliveryId)>,
}

impl Store {
    /// The link of `of` in a party's chain, made by `make` from the number of links before it and the hash of the last one, if it is not there.
    ///
    /// # Errors
    /// As every call; [`StoreError::Unavailable`] too if others were always faster. Repeatable.
    pub async fn chain(&self, party: &PartyId, mode: Mode, of: &str, make: impl Fn(u64, &str) -> Link) -> Result<Link, StoreError> {
        let key = self.chain_key(party, mode);
        let chains = self.shared.names.of(self.shared.shards.of(party, mode), "chains");
        for _ in 0..TRIES {
            if let Some(link) = self.link_of(party, mode, of).await? {
                return Ok(link);
            }
            let Some((links, head)) = self.head(&key).await? else { continue };
            let link = make(links, &head);
            let now = self.clock().now().as_millisecond();
            let answer = self
                .run(&self.shared.scripts.receipt_append, &[&key, &chains], |command| {
                    command.arg(of).arg(links).arg(&link.hash).arg(now).arg(format!("{party}:{}", mode.as_str()));
                })
                .await?;
            match answer_of(&answer)? {
                "linked" | "stale" => {}
                other => return Err(unknown_answer(other)),
            }
        }
        Err(StoreError::Unavailable(None))
    }

    /// The link of `of` in a party's chain, if it was made and is kept.
    ///
    /// # Errors
    /// As every call.
    pub async fn link_of(&self, party: &PartyId, mode: Mode, of: &str) -> Result<Option<Link>, StoreError> {
        let place: Option<u64> = from_value(self.query(redis::cmd("HGET").arg(self.chain_key(party, mode)).arg(of).to_owned()).await?)?;
        let Some(place) = place else { return Ok(None) };
        let part = self.links(party, mode, place.saturating_sub(1), 1).await?;
        Ok(part.links.into_iter().next().map(|(link, _)| link).filter(|link| link.place == place))
    }

    /// The links of a party's chain behind the place `after`, at most `limit`; those that are kept.
    ///
    /// # Errors
    /// As every call.
    pub async fn links(&self, party: &PartyId, mode: Mode, after: u64, limit: usize) -> Result<Chain, StoreError> {
        let key = self.chain_key(party, mode);
        let (length, anchor) = self.ends(&key).await?;
        let begin = after.max(anchor.0);
        let end = length.min(begin.saturating_add(limit as u64));
        let mut chain = Chain { length, anchor, links: Vec::new() };
        if begin >= end {
            return Ok(chain);
        }
        // The one before tells what the first one follows.
        let mut command = redis::cmd("HMGET");
        command.arg(&key).arg("from");
        for place in begin..=end {
            command.arg(place);
        }
        let read: Vec<Option<String>> = from_value(self.query(command).await?)?;
        let mut links = read.into_iter();
        // Some may have been trimmed since the ends were read: then the chain begins later.
        chain.anchor = anchor_of(links.next().flatten().as_deref());
        let mut previous = None;
        for (place, link) in (begin..).zip(links) {
            if place == chain.anchor.0 {
                previous = Some(chain.anchor.1.clone());
            }
            let Some(link) = link else { continue };
            let corrupt = || StoreError::Corrupt(format!("place {place} of the chain of {party}"));
            let [_, hash, of] = link.splitn(3, ' ').collect::<Vec<_>>()[..] else { return Err(corrupt()) };
            if place > begin
                && let Some(previous) = previous.take()
            {
                let id = of.split(':').next().unwrap_or_default().parse().map_err(|_| corrupt())?;
                chain.links.push((Link { place, previous, hash: hash.to_owned() }, id));
            }
            previous = Some(hash.to_owned());
        }
        Ok(chain)
    }

    /// Forgets a page of each chain of a shard that was made longer ago than `kept`. Says how many links that were.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_receipts(&self, shard: Shard, kept: Duration, page: usize) -> Result<u64, StoreError> {
        let names = &self.shared.names;
        let chains: Vec<String> = from_value(self.query(redis::cmd("SMEMBERS").arg(names.of(shard, "chains")).to_owned()).await?)?;
        let before = self.clock().now().as_millisecond().saturating_sub_unsigned(millis(kept));
        let mut trimmed = 0;
        for party in chains {
            let chain = [names.shard(shard), "chain:", &party].concat();
            let answer = self.run(&self.shared.scripts.receipt_trim, &[&chain], |command| _ = command.arg(before).arg(page)).await?;
            trimmed += from_value::<u64>(answer)?;
        }
        Ok(trimmed)
    }

    /// How many links a chain has, and the hash of the last one; `None` where that was trimmed meanwhile.
    async fn head(&self, key: &str) -> Result<Option<(u64, String)>, StoreError> {
        let (length, anchor) = self.ends(key).await?;
        if length == anchor.0 {
            return Ok(Some(anchor));
        }
        let last: Option<String> = from_value(self.query(redis::cmd("HGET").arg(key).arg(length).to_owned()).await?)?;
        Ok(last.as_deref().and_then(|last| last.split(' ').nth(1)).map(|hash| (length, hash.to_owned())))
    }

    async fn ends(&self, key: &str) -> Result<(u64, (u64, String)), StoreError> {
        let (length, from): (Option<u64>, Option<String>) =
            from_value(self.query(redis::cmd("HMGET").arg(key).arg("n").arg("from").to_owned()).await?)?;
        Ok((length.unwrap_or(0), anchor_of(from.as_deref())))
    }

    fn chain_key(&self, party: &PartyId, mode: Mode) -> String {
        self.shared.names.party(self.shared.shards.of(party, mode), "chain", party, mode)
    }
}

/// The place and the hash of the last link that is not kept, as the scripts write them; 0 and nothing where all are kept.
fn anchor_of(from: Option<&str>) -> (u64, String) {
    let parts = from.and_then(|from| from.split_once(' '));
    parts.and_then(|(place, hash)| Some((place.parse().ok()?, hash.to_owned()))).unwrap_or_default()
}
