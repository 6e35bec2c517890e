//! Schedules open payouts: a look at an account finds that one is due, opens it with all that is available, and says when to look again.
//!
//! **The payout, how far the schedule has come and the next look are one commit**, decided on the version of the account that was read. So of many workers
//! one opens it, and whoever dies in between has done nothing. Its key follows from account and due date: where the store has forgotten the opening, it is
//! opened again as the same payout, and what was sent for it is found. What cannot be opened now stays due, is told by a metric, and is tried again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::account::{BalanceAccount, Funding};
use domain::calendar::Calendars;
use domain::destination::{Beneficiary, StatementReference};
use domain::fact::Reason;
use domain::id::{PayoutId, ProviderKey};
use domain::ledger::Account;
use domain::metadata::Metadata;
use domain::money::Money;
use domain::payout::rule::RuleMet;
use domain::payout::{Order, Payout, SCHEDULE};
use domain::schedule::plan::{Opening, Plan};
use jiff::{SignedDuration, Timestamp};
use providers::Unprepared;
use tracing::Instrument as _;

use crate::execute::Payouts;
use crate::queue::Job;
use crate::routing::{self, Rule};
use crate::store::StoreError;
use crate::store::accounts::Standing;
use crate::store::lanes::Ticket;
use crate::store::payouts::{Claim, Opened};
use crate::store::schedules::{Advance, Advanced, OpenedDue, ScheduleWork};

/// How often a look begins anew. Each time somebody else has taken of the money since it was counted.
const ROUNDS_MAX: u32 = 16;

/// What tells the request of a schedule from that of a caller under the same key: theirs are hashes.
const FINGERPRINT: &str = "schedule";

/// As the script that opens payouts says it.
const INSUFFICIENT_FUNDS: &str = "insufficient_funds";

/// Why a merchant pays out the own balance, in the words of seed 003.
const CONTEXT_CODE: &str = "withdrawal";

/// When schedules are looked at.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// When a payout that is due and could not be opened is tried again.
    pub retry_ms: u64,
    /// The longest time without a look: what a change of the calendars can take to be noticed.
    pub look_again_ms: u64,
}

/// What decides about the payouts of schedules. The rules are those of the ingress.
#[derive(Clone, Debug)]
pub struct Rules {
    pub settings: Settings,
    pub calendars: Calendars,
    pub routes: Vec<Rule>,
}

/// What became of a due date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its payout was opened on its day.
    OnTime,
    /// Its payout was opened later, for all that was missed.
    Late,
    /// Its payout was opened as rejected: the account is disabled, or no provider can take it.
    Rejected,
    /// There was nothing to pay.
    Empty,
}

/// Why a payout is due and is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// Somebody's wish, so nothing is overdue.
    PartyInactive,
    Frozen,
    /// The store may have forgotten money that came in, and a payout.
    Restored,
    /// This worker has no account at any provider that may have it.
    NoProvider,
    NoInstrument,
    /// The account, its holder or the instrument.
    Unreadable,
    /// What was counted was never there any more when it was to be reserved.
    Contended,
    /// It was leased again and again without a look coming to an end.
    LeasedTooOften,
}

/// What one round of a look leads to.
enum Round {
    /// The money is not what it was: look again.
    Again,
    /// A commit has said when the next look is.
    Done,
    Wait(Duration),
    Blocked(Blocked),
}

// === impl Outcome, Blocked ===

impl Outcome {
    pub const ALL: [Self; 4] = [Self::OnTime, Self::Late, Self::Rejected, Self::Empty];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnTime => "on_time",
            Self::Late => "late",
            Self::Rejected => "rejected",
            Self::Empty => "empty",
        }
    }
}

impl Blocked {
    pub const ALL: [Self; 8] = [
        Self::PartyInactive,
        Self::Frozen,
        Self::Restored,
        Self::NoProvider,
        Self::NoInstrument,
        Self::Unreadable,
        Self::Contended,
        Self::LeasedTooOften,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PartyInactive => "party_inactive",
            Self::Frozen => "frozen",
            Self::Restored => "restored",
            Self::NoProvider => "no_provider",
            Self::NoInstrument => "no_instrument",
            Self::Unreadable => "unreadable",
            Self::Contended => "contended",
            Self::LeasedTooOften => "leased_too_often",
        }
    }
}

/// Looks at one schedule.
pub async fn look(context: Arc<Payouts>, job: Job<ScheduleWork, Ticket>) {
    let (work, lease) = job.into_parts();
    let span = tracing::debug_span!("schedule.look", party.id = %work.party, mode = work.mode.as_str(), currency = work.currency.code());
    async {
        match context.look_at_schedule(&work, lease.ticket()).await {
            Ok(()) => lease.settled(),
            Err(error) => tracing::warn!(party.id = %work.party, %error, "a schedule could not be looked at; its lease will lead back to it"),
        }
    }
    .instrument(span)
    .await;
}

impl Payouts {
    async fn look_at_schedule(&self, work: &ScheduleWork, ticket: &Ticket) -> Result<(), StoreError> {
        let store = &self.recorder.store;
        if work.times_leased > self.settings.leases_max {
            return self.blocked(work, ticket, Blocked::LeasedTooOften).await;
        }
        for _ in 0..ROUNDS_MAX {
            match self.round(work).await {
                Ok(Round::Again) => {}
                Ok(Round::Done) => return Ok(()),
                Ok(Round::Wait(wait)) => return store.put_off_schedule(work, ticket, wait, false).await,
                Ok(Round::Blocked(why)) => return self.blocked(work, ticket, why).await,
                Err(StoreError::Restored) => return self.blocked(work, ticket, Blocked::Restored).await,
                Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                    tracing::error!(party.id = %work.party, %error, "what a schedule pays out cannot be read and is left for a person");
                    return self.blocked(work, ticket, Blocked::Unreadable).await;
                }
                Err(error) => return Err(error),
            }
        }
        self.blocked(work, ticket, Blocked::Contended).await
    }

    /// Its payout stays due, and is tried again.
    async fn blocked(&self, work: &ScheduleWork, ticket: &Ticket, why: Blocked) -> Result<(), StoreError> {
        let overdue = why != Blocked::PartyInactive;
        // A freeze is told elsewhere, and once.
        if overdue && why != Blocked::Frozen {
            let (mode, currency) = (work.mode.as_str(), work.currency.code());
            tracing::error!(party.id = %work.party, mode, currency, why = why.as_str(), "a payout of a schedule is due and cannot be opened");
        }
        self.recorder.metrics.schedule_blocked(work.mode, why);
        let retry = Duration::from_millis(self.schedules.settings.retry_ms);
        self.recorder.store.put_off_schedule(work, ticket, retry, overdue).await
    }

    /// Reads the account, decides, and commits.
    async fn round(&self, work: &ScheduleWork) -> Result<Round, StoreError> {
        let store = &self.recorder.store;
        let Standing { account, balances, .. } = store.account(&work.party, work.mode, work.currency).await?;
        let available = balances.of(Account::Available);
        let now = store.clock().now();
        let opening = match account.plan(self.schedules.calendars.of(account.currency), now) {
            Some(Plan::Open(opening)) => opening,
            plan => return Ok(Round::Wait(self.schedules.until_next(plan, now))),
        };
        let advance = Advance { available, ..self.schedules.advance(account.come_to(opening.progress()), now) };
        // Money of the provider is nobody's to pay out by itself.
        let Some(money) = account.whole(&balances, 0).filter(|_| account.funding == Funding::Balance) else {
            return Ok(match store.advance_schedule(&advance, true).await? {
                Advanced::Done => {
                    self.recorder.metrics.schedule_came_to(account.mode, Outcome::Empty);
                    Round::Done
                }
                Advanced::Stale => Round::Done,
                Advanced::Moved => Round::Again,
                Advanced::Undecided => Round::Blocked(Blocked::Restored),
            });
        };
        let instrument = match &account.instrument {
            Some(reference) => store.instrument(&account.party, account.mode, reference).await?,
            None => None,
        };
        let Some(instrument) = instrument else { return Ok(Round::Blocked(Blocked::NoInstrument)) };
        let decided_by = &account.decided_by() | &instrument.decided_by();
        let beneficiary = Beneficiary {
            name: instrument.payee.name,
            reference: StatementReference::of_due_date(opening.due),
            destination: instrument.payee.destination,
            description: None,
            instrument: Some(instrument.reference),
        };
        let (order, takes) = self.order(&account, opening, money, &beneficiary, now);
        let order = Order { decided_by, ..order };
        let refused = match takes {
            Ok(()) => None,
            Err(Unprepared::NotConfigured) => return Ok(Round::Blocked(Blocked::NoProvider)),
            Err(Unprepared::Field(problem)) => {
                // It may have been sent before, and the store forgot that: then nobody may say that it was not.
                if store.suspect_until(account.id.shard()).await? > now {
                    return Ok(Round::Blocked(Blocked::Restored));
                }
                tracing::warn!(payout.id = %order.id, %problem, "no provider can take the payout of a schedule");
                Some(Reason::new("invalid_request"))
            }
        };
        self.open_due(&account, opening, order, refused, &beneficiary, &advance).await
    }

    /// The order for a due date, and whether the first provider of its route can take it.
    fn order(
        &self,
        account: &BalanceAccount,
        opening: Opening,
        money: Money,
        beneficiary: &Beneficiary,
        now: Timestamp,
    ) -> (Order, Result<(), Unprepared>) {
        let BalanceAccount { party, mode, .. } = account;
        let routes = &self.schedules.routes;
        let providers = &self.recorder.providers;
        let transaction_id = account.id.scheduled(opening.due).to_string();
        let id = PayoutId::derive(party, *mode, &transaction_id, self.recorder.store.shards());
        let first = providers::Order { key: ProviderKey::derive(id, 1), money, beneficiary, context_code: CONTEXT_CODE };
        let route = routing::route(providers, routes, None, (party, *mode), &first);
        let takes = match route.first() {
            Some(provider) => providers.prepare(*provider, *mode, &first).map(drop),
            None => Err(Unprepared::NotConfigured),
        };
        let order = Order {
            id,
            party: party.clone(),
            mode: *mode,
            transaction_id,
            batch_id: None,
            replaces: None,
            due_date: Some(opening.due),
            amount: money.into(),
            keeps: 0,
            context_code: CONTEXT_CODE.to_owned(),
            metadata: Metadata::default(),
            scheduled_for: None,
            route,
            maker: SCHEDULE.to_owned(),
            decided_by: BTreeSet::new(),
            approve_by: None,
            rule: None,
            trace: None,
        };
        let order = order.awaiting(self.recorder.gate.approval(party, money.into(), &beneficiary.destination, now));
        (order, takes)
    }

    async fn open_due(
        &self,
        account: &BalanceAccount,
        opening: Opening,
        order: Order,
        refused: Option<Reason>,
        beneficiary: &Beneficiary,
        advance: &Advance,
    ) -> Result<Round, StoreError> {
        let store = &self.recorder.store;
        let (id, mode) = (order.id, account.mode);
        let question = self.recorder.gate.question(&order, beneficiary, store.shards());
        let step = |refused: Option<(Reason, Option<RuleMet>)>| {
            let now = store.clock().now();
            match refused {
                None => Payout::open(order.clone(), now),
                Some((reason, rule)) => Payout::open_refused(Order { rule, ..order.clone() }, reason, now),
            }
        };
        // What is refused has nothing to pass.
        let claim = Claim { fingerprint: FINGERPRINT, question: refused.is_none().then_some(&question) };
        let mut outcome = match &refused {
            Some(_) => Outcome::Rejected,
            None if opening.due < opening.through => Outcome::Late,
            None => Outcome::OnTime,
        };
        let mut step_taken = step(refused.map(|reason| (reason, None)));
        fail::fail_point!("schedule-not-opened");
        let mut opened = store.open_scheduled(&step_taken, beneficiary, claim, advance).await?;
        if let OpenedDue::Opened(Opened::NeedsApproval(rule)) = opened {
            step_taken = Payout::open(self.recorder.to_be_approved(&order, rule), store.clock().now());
            opened = store.open_scheduled(&step_taken, beneficiary, claim, advance).await?;
        }
        if let OpenedDue::Opened(Opened::Refused(reason, rule)) = opened {
            if reason.as_str() == INSUFFICIENT_FUNDS {
                return Ok(Round::Again);
            }
            (outcome, step_taken) = (Outcome::Rejected, step(Some((reason, rule))));
            opened = store.open_scheduled(&step_taken, beneficiary, FINGERPRINT, advance).await?;
        }
        let opened = match opened {
            OpenedDue::Opened(opened) => opened,
            OpenedDue::Stale => return Ok(Round::Done),
            OpenedDue::Frozen => return Ok(Round::Blocked(Blocked::Frozen)),
        };
        Ok(match opened {
            Opened::New => {
                fail::fail_point!("schedule-opened");
                self.recorder.metrics.opened(&step_taken);
                self.recorder.metrics.schedule_came_to(mode, outcome);
                tracing::info!(payout.id = %id, due_date = %opening.due, outcome = outcome.as_str(), "a schedule has opened a payout");
                Round::Done
            }
            // Opened before, which the progress does not know: the clock was ahead then, or the schedule was another one.
            Opened::Exists(_) | Opened::Archived | Opened::Unreadable(_) => {
                self.pass_over(account, opening).await?;
                Round::Done
            }
            Opened::Conflict => {
                tracing::error!(payout.id = %id, due_date = %opening.due, "the key of a due date is used by another payout; the next due date stands for it");
                self.pass_over(account, opening).await?;
                Round::Done
            }
            Opened::Inactive => Round::Blocked(Blocked::PartyInactive),
            // Those that reserve nothing are refused by nobody, and no due date asks for an equal payout or replaces one.
            Opened::Refused(..) | Opened::NeedsApproval(_) | Opened::Twin(_) | Opened::NotReplaceable(_) => {
                return Err(StoreError::Corrupt(format!("the opening of {id} was answered with {opened:?}")));
            }
        })
    }

    /// The key of that due date is claimed: the next one has its turn, at once where it is due too.
    async fn pass_over(&self, account: &BalanceAccount, opening: Opening) -> Result<(), StoreError> {
        let now = self.recorder.store.clock().now();
        let advance = self.schedules.advance(account.come_to(opening.borne_before()), now);
        self.recorder.store.advance_schedule(&advance, false).await.map(drop)
    }
}

impl Rules {
    fn advance(&self, account: BalanceAccount, now: Timestamp) -> Advance {
        let look_again = self.until_next(account.plan(self.calendars.of(account.currency), now), now);
        Advance { account, look_again, available: 0 }
    }

    /// How long until the next look.
    fn until_next(&self, plan: Option<Plan>, now: Timestamp) -> Duration {
        let longest = Duration::from_millis(self.settings.look_again_ms);
        match plan {
            Some(Plan::Open(_)) => Duration::ZERO,
            Some(Plan::Wait { until, .. }) => until.duration_since(now).max(SignedDuration::ZERO).unsigned_abs().min(longest),
            None => longest,
        }
    }
}
