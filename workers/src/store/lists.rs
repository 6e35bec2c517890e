//! Lists by time, newest first, in pages. A page ends behind a place, so what comes or goes in the meantime neither repeats nor hides anything else.

use std::future::Future;
use std::str::FromStr;

use domain::id::{Mode, PartyId, PayoutId};
use domain::payout::Payout;
use jiff::Timestamp;

use super::{Store, StoreError, from_value};

/// What to list.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a, I = PayoutId> {
    pub party: &'a PartyId,
    pub mode: Mode,
    /// Inclusive, by the time of the request.
    pub from: Timestamp,
    /// Exclusive.
    pub to: Timestamp,
    /// The page before ended here.
    pub after: Option<Position<I>>,
    /// Items of a page, at most.
    pub limit: usize,
}

/// A page of a list, newest first.
#[derive(Debug)]
pub struct Page<T = Payout, I = PayoutId> {
    pub items: Vec<(Position<I>, T)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Position<I>>,
}

/// A place in a list: behind this item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position<I = PayoutId> {
    pub at_ms: i64,
    pub id: I,
}

/// How many records one page of a list looks at, at most, when a filter drops most of them.
const LOOKED_AT_MAX: usize = 1_000;
/// Places that are asked for at a time.
pub(super) const CHUNK: usize = 100;

/// How many payouts of one millisecond a list steps over when it looks back.
const TIES_MAX: usize = 1_000;

impl Store {
    /// The place `count` payouts before `place` in the party's list, or the first one if there are fewer; `None` if there are none before it.
    ///
    /// # Errors
    /// As every call.
    pub async fn newer(&self, party: &PartyId, mode: Mode, place: Position, count: usize) -> Result<Option<Position>, StoreError> {
        let key = self.shared.names.party(self.shared.shards.of(party, mode), "list", party, mode);
        let mut command = redis::cmd("ZRANGEBYSCORE");
        command.arg(&key).arg(place.at_ms).arg("+inf").arg("WITHSCORES").arg("LIMIT").arg(0).arg(count + TIES_MAX);
        let listed: Vec<(String, f64)> = from_value(self.query(command).await?)?;
        let mut newer = Vec::new();
        for (id, at) in listed {
            let at = position("list", &id, at)?;
            newer.extend((at > place).then_some(at));
        }
        newer.truncate(count);
        Ok(newer.pop())
    }

    /// The page of the list `what` of a party, of what `load` finds and `keep` keeps.
    pub(super) async fn page<I, T, F>(
        &self,
        what: &str,
        range: &Range<'_, I>,
        load: impl Fn(I) -> F,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<T, I>, StoreError>
    where
        I: FromStr + Copy + Ord,
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        self.page_by(CHUNK, what, range, load, keep).await
    }

    /// The same, and no more than `chunk_size` are held in memory at a time beside what is kept.
    pub(super) async fn page_by<I, T, F>(
        &self,
        chunk_size: usize,
        what: &str,
        range: &Range<'_, I>,
        load: impl Fn(I) -> F,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Page<T, I>, StoreError>
    where
        I: FromStr + Copy + Ord,
        F: Future<Output = Result<Option<T>, StoreError>>,
    {
        let Range { party, mode, from, to, after, limit } = *range;
        let key = self.shared.names.party(self.shared.shards.of(party, mode), what, party, mode);
        let newest = after.map_or_else(|| format!("({}", to.as_millisecond()), |position| position.at_ms.min(to.as_millisecond()).to_string());
        let mut items = Vec::new();
        let (mut offset, mut looked_at, mut last) = (0, 0, after);
        while looked_at < LOOKED_AT_MAX {
            let mut command = redis::cmd("ZREVRANGEBYSCORE");
            command.arg(&key).arg(&newest).arg(from.as_millisecond()).arg("WITHSCORES").arg("LIMIT").arg(offset).arg(chunk_size);
            let chunk: Vec<(String, f64)> = from_value(self.query(command).await?)?;
            let got = chunk.len();
            offset += got;
            looked_at += got;
            let mut places = Vec::with_capacity(got);
            for (id, at) in chunk {
                let place = position(what, &id, at)?;
                if after.is_none_or(|after| place < after) {
                    places.push(place);
                }
            }
            let records = futures_util::future::try_join_all(places.iter().map(|place| load(place.id))).await?;
            for (place, record) in places.iter().zip(records) {
                if items.len() == limit {
                    return Ok(Page { items, next: last });
                }
                last = Some(*place);
                items.extend(record.filter(&keep).map(|record| (*place, record)));
            }
            if got < chunk_size {
                return Ok(Page { items, next: None });
            }
        }
        Ok(Page { items, next: last })
    }
}

/// An entry of a list, as the server tells it.
fn position<I: FromStr>(what: &str, id: &str, at: f64) -> Result<Position<I>, StoreError> {
    let id = id.parse().map_err(|_| StoreError::Corrupt(format!("an id in `{what}`")))?;
    #[expect(clippy::cast_possible_truncation, reason = "scores are whole milliseconds, far below 2^53")]
    let at_ms = at as i64;
    Ok(Position { at_ms, id })
}
