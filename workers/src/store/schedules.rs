//! Schedules in the store: when each is looked at next, how far it has come, and which ones have a payout due that cannot be opened.
//!
//! What sets an account up makes its schedule due at once, and each look says when the next one is. How far a schedule has come is part of the account's
//! record, and written on the version that it was decided on: by the commit that opens the payout, or by itself where there is nothing to open.

use std::time::Duration;

use domain::account::BalanceAccount;
use domain::destination::Beneficiary;
use domain::id::{Mode, PartyId, Shard};
use domain::money::Currency;
use domain::payout::Step;

use super::commit::Beside;
use super::lanes::{Lane, Ticket, millis, readable};
use super::payouts::{Claim, Opened, answer_of, opened, unknown_answer};
use super::{Store, StoreError, from_value, to_json};
use crate::queue::{Batch, Source};

/// Schedules that one call looks over.
const LOOKED_OVER: usize = 500;
/// How far the clocks of a worker and of the server may be apart before a look is brought forward for it.
const CLOCKS_DIFFER: Duration = Duration::from_mins(10);

/// A schedule that is to be looked at.
#[derive(Clone, Debug)]
pub struct ScheduleWork {
    pub party: PartyId,
    pub mode: Mode,
    pub currency: Currency,
    /// How often it was leased since it was last looked at to an end.
    pub times_leased: u32,
}

/// Schedules to look at, of one shard.
#[derive(Clone, Debug)]
pub struct ScheduleLane(pub Lane);

/// How far a schedule comes.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The account as it is afterwards; its version is one more than the one decided on.
    pub account: BalanceAccount,
    /// How long until the next look.
    pub look_again: Duration,
    /// What was available, minor units, when it was decided: as much must be there still for a payout to be opened, and no more for a due date to pass because there was nothing.
    pub available: i64,
}

/// How the opening of a payout for a due date went.
#[derive(Debug)]
pub enum OpenedDue {
    Opened(Opened),
    /// Somebody else has written the account first. Nothing was written.
    Stale,
    /// Dispatch is frozen. Nothing was written.
    Frozen,
}

/// How an advance without a payout went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advanced {
    Done,
    /// Somebody else has written the account first, and made its schedule due.
    Stale,
    /// The balance has changed: decide again. Nothing was written.
    Moved,
    /// The store may have forgotten a payout of this due date, and money too. Nothing was written.
    Undecided,
}

/// What was found about the schedules of a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedOverSchedules {
    /// How long the oldest payout that a schedule asks for has waited to be opened, and the oldest look; 0 when none does.
    pub overdue_ms: u64,
    /// Schedules that nobody would have looked at again. The work was put back.
    pub repaired: u64,
    /// Schedules whose next look was later than any look is planned: a clock was ahead. It was brought forward.
    pub brought_forward: u64,
}

impl Store {
    /// Opens a payout for a schedule, as [`Store::open_payout`], and writes how far the schedule has come with it: both, or nothing.
    ///
    /// # Errors
    /// As every call. A repeat is safe.
    pub async fn open_scheduled<'a>(
        &self,
        step: &Step,
        beneficiary: &Beneficiary,
        claim: impl Into<Claim<'a>>,
        advance: &Advance,
    ) -> Result<OpenedDue, StoreError> {
        let Claim { fingerprint, question } = claim.into();
        let sealed = self.seal_beneficiary(step.payout.id, beneficiary);
        let beside = Beside { fingerprint, question, sealed: &sealed, advance: Some(advance), ..Beside::default() };
        let answer = self.commit_step(step, None, beside, &[]).await?;
        match answer_of(&answer)? {
            "stale" => Ok(OpenedDue::Stale),
            "frozen" => Ok(OpenedDue::Frozen),
            _ => opened(answer, question).map(OpenedDue::Opened),
        }
    }

    /// Writes how far a schedule has come without a payout. `certain`: only where the store cannot have forgotten one, and while the balance is as it was.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn advance_schedule(&self, advance: &Advance, certain: bool) -> Result<Advanced, StoreError> {
        let names = &self.shared.names;
        let account = &advance.account;
        let shard = account.id.shard();
        let key = names.account(shard, &account.party, account.mode, account.currency);
        let [due, overdue, clock, frozen, look_first] =
            ["due:schedule", "overdue", "clock", "frozen", "look-first"].map(|name| names.of(shard, name));
        let ledger = names.ledger(shard, &account.party, account.mode, account.currency);
        let answer = self
            .run(&self.shared.scripts.schedule_advance, &[&key, &due, &overdue, &clock, &frozen, &look_first, &ledger], |command| {
                command.arg(account.version.saturating_sub(1));
                command.arg(&advance.arguments()).arg(if certain { advance.available.to_string() } else { String::new() });
            })
            .await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(Advanced::Done),
            "stale" => Ok(Advanced::Stale),
            "moved" => Ok(Advanced::Moved),
            "undecided" => Ok(Advanced::Undecided),
            other => Err(unknown_answer(other)),
        }
    }

    /// Puts the next look at a schedule off, if the lease still holds. `overdue`: a payout is due and cannot be opened, which is counted from now on until
    /// it can.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn put_off_schedule(&self, work: &ScheduleWork, ticket: &Ticket, wait: Duration, overdue: bool) -> Result<(), StoreError> {
        let names = &self.shared.names;
        let shard = self.shared.shards.of(&work.party, work.mode);
        let key = names.account(shard, &work.party, work.mode, work.currency);
        let [due, late, clock] = ["due:schedule", "overdue", "clock"].map(|name| names.of(shard, name));
        self.run(&self.shared.scripts.schedule_put_off, &[&key, &due, &late, &clock], |command| {
            command.arg(&ticket.id).arg(ticket.token.0).arg(millis(wait)).arg(if overdue { "1" } else { "0" });
        })
        .await
        .map(drop)
    }

    /// The net below: no schedule is without a next look, and none waits longer for it than `longest`, which in a sound store with a sound clock is so.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn look_over_schedules(&self, shard: Shard, longest: Duration) -> Result<LookedOverSchedules, StoreError> {
        let [schedules, due, overdue] = ["schedules", "due:schedule", "overdue"].map(|name| self.shared.names.of(shard, name));
        let now = self.clock().now().as_millisecond();
        let mut found = LookedOverSchedules::default();
        for first in (0_usize..).step_by(LOOKED_OVER) {
            let page = redis::cmd("ZRANGE").arg(&schedules).arg(first).arg(first + LOOKED_OVER - 1).to_owned();
            let members: Vec<String> = from_value(self.query(page).await?)?;
            if members.is_empty() {
                break;
            }
            let places: Vec<Option<f64>> = from_value(self.query(redis::cmd("ZMSCORE").arg(&due).arg(&members).to_owned()).await?)?;
            for member in members.iter().zip(&places).filter_map(|(member, place)| place.is_none().then_some(member)) {
                // It may have lost its schedule between the two questions.
                let still: Option<f64> = from_value(self.query(redis::cmd("ZSCORE").arg(&schedules).arg(member).to_owned()).await?)?;
                if still.is_some() {
                    self.query(redis::cmd("ZADD").arg(&due).arg("NX").arg(now).arg(member).to_owned()).await?;
                    found.repaired += 1;
                }
            }
            if members.len() < LOOKED_OVER {
                break;
            }
        }
        let latest = now.saturating_add_unsigned(millis(longest.saturating_add(CLOCKS_DIFFER)));
        let ahead = redis::cmd("ZRANGEBYSCORE").arg(&due).arg(latest).arg("+inf").arg("LIMIT").arg(0).arg(LOOKED_OVER).to_owned();
        for member in from_value::<Vec<String>>(self.query(ahead).await?)? {
            self.query(redis::cmd("ZADD").arg(&due).arg("XX").arg("LT").arg(now).arg(&member).to_owned()).await?;
            found.brought_forward += 1;
        }
        for index in [&due, &overdue] {
            let head: Vec<(String, f64)> = from_value(self.query(redis::cmd("ZRANGE").arg(index).arg(0).arg(0).arg("WITHSCORES").to_owned()).await?)?;
            #[expect(clippy::cast_possible_truncation, reason = "scores are milliseconds, far below 2^53")]
            let age = head.first().map_or(0, |(_, at)| u64::try_from(now - *at as i64).unwrap_or(0));
            found.overdue_ms = found.overdue_ms.max(age);
        }
        Ok(found)
    }
}

impl Advance {
    /// As the commit reads it, in one value.
    pub(super) fn to_value(&self) -> String {
        let [version, record, member, wait] = self.arguments();
        format!("{} {version} {wait} {member} {} {record}", self.account.version.saturating_sub(1), self.available)
    }

    /// As the scripts take it, after the version decided on.
    fn arguments(&self) -> [String; 4] {
        let BalanceAccount { party, mode, currency, version, .. } = &self.account;
        [version.to_string(), to_json(&self.account), format!("{party}:{mode}:{}", currency.code()), millis(self.look_again).to_string()]
    }
}

impl Source for ScheduleLane {
    type Item = ScheduleWork;
    type Ticket = Ticket;
    type Error = StoreError;

    async fn lease(&self, max: usize) -> Result<Batch<Self::Item, Self::Ticket>, Self::Error> {
        let (entries, next_due_in) = self.0.lease_flat("due:schedule", "account:", &["v"], max).await?;
        let items = readable(entries, |entry| {
            let (party, mode, currency) = named(&entry.id).ok_or_else(|| StoreError::Corrupt("the name of an account".to_owned()))?;
            Ok((ScheduleWork { party, mode, currency, times_leased: entry.times_leased }, Ticket { id: entry.id, token: entry.token }))
        });
        Ok(Batch { items, next_due_in })
    }

    async fn give_back(&self, tickets: Vec<Self::Ticket>, wait: Duration) -> Result<(), Self::Error> {
        self.0.give_back_flat("due:schedule", &tickets, wait).await
    }
}

/// The account of an entry, whose name is the last part of the account's key.
fn named(member: &str) -> Option<(PartyId, Mode, Currency)> {
    let mut parts = member.split(':');
    let (party, mode, currency) = (parts.next()?, parts.next()?, parts.next()?);
    let mode = [Mode::Test, Mode::Live].into_iter().find(|known| known.as_str() == mode)?;
    Some((PartyId::parse(party).ok()?, mode, Currency::parse(currency).ok()?)).filter(|_| parts.next().is_none())
}
