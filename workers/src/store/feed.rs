//! The feed of a party, for those who rather pull: its events in the order of their commits. The script that commits an event notes it there, so nothing becomes
//! visible behind a place that was told before. What is in the party's bulletin is there too, for those who ask for it by name. Only of parties that have opened a feed; what is noted is the event's id, its body stands in its payout.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use domain::id::{EventId, Mode, PartyId, Shard};
use domain::subscription::EventTypes;

use super::deliveries::event_of;
use super::lanes::millis;
use super::payouts::StoredEvent;
use super::{Store, StoreError, from_value};

/// What the commit script matches a feed with: everything, and that it is a feed.
const FILTER: &str = r#"{"kinds":"*","metadata":{},"feed":true}"#;

/// Entries that are read at a time: one that wants few kinds must not make a call for each.
const CHUNK: usize = 200;
/// Entries that one page looks at, at most, when a filter drops most of them.
const LOOKED_AT_MAX: usize = 1_000;

/// A place in a feed: behind this entry. The server makes them, growing, even when its clock goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedPlace {
    ms: u64,
    number: u64,
}

/// Where a page of a feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// With the oldest event that is kept.
    Beginning,
    /// Behind the newest one.
    Now,
    Place(FeedPlace),
}

/// What a feed answers.
#[derive(Debug)]
pub enum Fed {
    /// The events behind a place, and the place behind them.
    Page { events: Vec<StoredEvent>, next: FeedPlace },
    /// The party has no feed.
    Closed,
    /// Some of what came behind the place is not kept any more.
    Expired,
}

type Entries = Vec<(String, Vec<(String, String)>)>;

impl Store {
    /// Begins the feed of a party with the next event.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn open_feed(&self, party: &PartyId, mode: Mode) -> Result<(), StoreError> {
        let keys = self.feed_keys(party, mode);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.run(&self.shared.scripts.feed_open, &keys, |command| _ = command.arg(feed_name(party, mode)).arg(FILTER)).await.map(drop)
    }

    /// Ends the feed of a party, and forgets what is in it.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn close_feed(&self, party: &PartyId, mode: Mode) -> Result<(), StoreError> {
        let keys = self.feed_keys(party, mode);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.run(&self.shared.scripts.feed_close, &keys, |command| _ = command.arg(feed_name(party, mode))).await.map(drop)
    }

    /// How many events the feed of a party holds; `None` if it has none.
    ///
    /// # Errors
    /// As every call.
    pub async fn feed_length(&self, party: &PartyId, mode: Mode) -> Result<Option<u64>, StoreError> {
        let [_, _, feed] = self.feed_keys(party, mode);
        if self.feed_begin(party, mode).await?.is_none() {
            return Ok(None);
        }
        from_value(self.query(redis::cmd("XLEN").arg(feed).to_owned()).await?).map(Some)
    }

    /// The events of a party behind a place, in the order of their commits, at most `limit`, of these types. Events of payouts that were trimmed, and those that their bulletin has let
    /// go of, are left out.
    ///
    /// # Errors
    /// As every call.
    pub async fn feed(&self, party: &PartyId, mode: Mode, after: After, types: &EventTypes, limit: usize) -> Result<Fed, StoreError> {
        let [_, _, feed] = self.feed_keys(party, mode);
        let Some(begin) = self.feed_begin(party, mode).await? else { return Ok(Fed::Closed) };
        let mut place = match after {
            After::Beginning => begin,
            After::Place(place) => place,
            After::Now => {
                let newest: Entries =
                    from_value(self.query(redis::cmd("XREVRANGE").arg(&feed).arg("+").arg("-").arg("COUNT").arg(1).to_owned()).await?)?;
                let next = newest.first().map_or(Ok(begin), |(place, _)| read(place))?;
                return Ok(Fed::Page { events: Vec::new(), next });
            }
        };
        let (mut events, mut looked_at) = (Vec::new(), 0);
        while events.len() < limit && looked_at < LOOKED_AT_MAX {
            let command = redis::cmd("XRANGE").arg(&feed).arg(format!("({place}")).arg("+").arg("COUNT").arg(CHUNK).to_owned();
            let entries: Entries = from_value(self.query(command).await?)?;
            // Asked afterwards: what was trimmed before these were read is known by now.
            match self.feed_begin(party, mode).await? {
                None => return Ok(Fed::Closed),
                Some(begin) if place < begin => return Ok(Fed::Expired),
                Some(_) => {}
            }
            let got = entries.len();
            looked_at += got;
            let mut wanted = Vec::new();
            for (at, fields) in &entries {
                if events.len() + wanted.len() >= limit {
                    break;
                }
                place = read(at)?;
                let Some((kind, member)) = fields.first() else { continue };
                if types.asks_for(kind) {
                    wanted.extend(event_of(member));
                }
            }
            let told = futures_util::future::try_join_all(wanted.into_iter().map(|id| self.stored_event(id))).await?;
            events.extend(told.into_iter().flatten());
            if got < CHUNK {
                break;
            }
        }
        Ok(Fed::Page { events, next: place })
    }

    /// Forgets a page of what the feeds of a shard hold from longer ago than `kept`. Says how many events that were.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn trim_feeds(&self, shard: Shard, kept: Duration, page: usize) -> Result<u64, StoreError> {
        let names = &self.shared.names;
        let feeds = names.of(shard, "feeds");
        let open: Vec<String> = from_value(self.query(redis::cmd("HKEYS").arg(&feeds).to_owned()).await?)?;
        let before = self.clock().now().as_millisecond().saturating_sub_unsigned(millis(kept)).max(0);
        let mut trimmed = 0;
        for party in open {
            let feed = [names.shard(shard), "feed:", &party].concat();
            let answer = self.run(&self.shared.scripts.feed_trim, &[&feeds, &feed], |command| _ = command.arg(&party).arg(before).arg(page)).await?;
            trimmed += from_value::<u64>(answer)?;
        }
        Ok(trimmed)
    }

    /// The place before which nothing is kept; `None`: there is no feed.
    async fn feed_begin(&self, party: &PartyId, mode: Mode) -> Result<Option<FeedPlace>, StoreError> {
        let [_, feeds, _] = self.feed_keys(party, mode);
        let begin: Option<String> = from_value(self.query(redis::cmd("HGET").arg(feeds).arg(feed_name(party, mode)).to_owned()).await?)?;
        begin.as_deref().map(read).transpose()
    }

    pub(super) async fn stored_event(&self, id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        let command = redis::cmd("HMGET").arg(self.shared.names.payout(id.payout())).arg(format!("e:{}", id.sequence())).arg("meta").to_owned();
        let (event, metadata): (Option<Vec<u8>>, Option<String>) = from_value(self.query(command).await?)?;
        event.map(|event| StoredEvent::read(id, &event, &metadata.unwrap_or_default())).transpose()
    }

    fn feed_keys(&self, party: &PartyId, mode: Mode) -> [String; 3] {
        let (names, shard) = (&self.shared.names, self.shared.shards.of(party, mode));
        [names.party(shard, "subs", party, mode), names.of(shard, "feeds"), names.party(shard, "feed", party, mode)]
    }
}

fn feed_name(party: &PartyId, mode: Mode) -> String {
    format!("{party}:{}", mode.as_str())
}

fn read(place: &str) -> Result<FeedPlace, StoreError> {
    place.parse().map_err(|NoPlace| StoreError::Corrupt("a place in a feed".to_owned()))
}

/// A text that is no place in a feed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("is no place in a feed")]
pub struct NoPlace;

impl fmt::Display for FeedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

impl FromStr for FeedPlace {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (ms, number) = text.split_once('-').ok_or(NoPlace)?;
        Ok(Self { ms: ms.parse().map_err(|_| NoPlace)?, number: number.parse().map_err(|_| NoPlace)? })
    }
}
