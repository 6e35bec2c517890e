//! What a payout has to pass when it is opened, beside its account: whether a second person must agree, how much may go within a time, and that no equal
//! payout is unresolved.
//!
//! What can be seen in the order alone is decided here. The rest is a [`Question`] to the script that opens it, which answers and counts in one write: so
//! nobody slips through between the look and the opening. Accounts are in the store as keyed hashes only.

use std::collections::BTreeMap;

use domain::amount::Amount;
use domain::destination::{Beneficiary, Destination};
use domain::fingerprint::fingerprint;
use domain::id::{Mode, PartyId, PayoutId, Shards};
use domain::money::{Currency, Money};
use domain::payout::Order;
use domain::payout::rule::{Approval, RuleKind, RuleMet};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::routing::{NOT_A_NAME, Rule, is_name};

/// The longest window of a limit, in hours.
pub const HOURS_MAX: u16 = 24 * 90;
/// Into how many parts a window is cut: so much later than it could, at most, what has left comes back.
const PARTS: u64 = 24;
/// Letters of a hash: 128 bits.
const HASH: usize = 32;

/// A limit of velocity: how much may go within a window that ends now.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// What payouts that meet it call it. Without one: `limits[0]` and so on.
    #[serde(default)]
    pub name: Option<String>,
    pub scope: Scope,
    /// The code of the currency that it counts. Payouts in others are none of its.
    pub currency: String,
    /// The length of the window, 1 to [`HOURS_MAX`].
    pub hours: u16,
    /// The most minor units that may go. Without it: any.
    #[serde(default)]
    pub amount_max: Option<i64>,
    /// The most payouts that may go. Without it: any.
    #[serde(default)]
    pub count_max: Option<u32>,
    /// Empty: all.
    #[serde(default)]
    pub parties: Vec<String>,
    pub beyond: Beyond,
}

/// What a limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All payouts of a party.
    Party,
    /// Those of a party to one account.
    Beneficiary,
}

/// What becomes of a payout that goes beyond a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beyond {
    /// It is rejected: `limit_exceeded`.
    Reject,
    /// A second person must approve it.
    Approve,
}

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub approvals: Vec<Rule>,
    pub approval_hours: u16,
    pub limits: Vec<Limit>,
    /// How long an account is known after the last send to it, and how many of them a party can have that are.
    pub known_days: u16,
    pub known_max: u32,
    /// Whether an equal payout is refused while one is unresolved.
    pub refuse_twins: bool,
}

/// Asks what a payout has to pass.
#[derive(Clone)]
pub struct Gate {
    pepper: Vec<u8>,
    rules: Rules,
}

/// What the script that opens a payout, or fixes its amount, is to find out, and to remember. Holds no account.
#[derive(Clone, Debug, Serialize)]
pub struct Question {
    /// The account, hashed.
    #[serde(skip)]
    account: String,
    /// What makes another payout equal; `None` where nobody asks for an equal payout.
    #[serde(skip)]
    twin: Option<Twin>,
    /// The payout that it stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<PayoutId>,
    /// Whether somebody must approve it if nothing was sent to the account before.
    approve_new: bool,
    /// The rule that says so.
    #[serde(skip)]
    new_rule: Option<RuleMet>,
    /// Whether there is such a rule that does not ask about this one, because it is too small, say: then it makes no account known that is not, unless a
    /// person has approved it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    proves_nothing: bool,
    known_ms: i64,
    known_max: u32,
    /// When it is to be sent, ms, if later than at once and something counts it: it counts in the window of that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ms: Option<i64>,
    /// Not an empty list, which JSON and Lua write differently.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    counters: Vec<Counter>,
}

/// Who gets it with which words, hashed, and how much: two payouts are equal where that is the same or one of them is a whole balance.
#[derive(Clone, Debug)]
struct Twin {
    of: String,
    /// Minor units, or `whole`.
    amount: String,
}

/// The narrowest of each kind, and whose it is.
type Bounds = BTreeMap<&'static str, (i64, RuleMet)>;

/// A counter of limits, and the bounds of those that read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Counter {
    key: String,
    part_ms: u64,
    parts: u64,
    /// What this payout adds.
    minor: i64,
    count: u32,
    #[serde(flatten)]
    most: BTreeMap<&'static str, i64>,
    /// Whose bounds they are.
    #[serde(skip)]
    rules: BTreeMap<&'static str, RuleMet>,
}

// === impl Limit ===

impl Limit {
    /// What is wrong with it: the key, and why.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut unless = |fine: bool, key, why: String| {
            if !fine {
                found.push((key, why));
            }
        };
        unless(self.name.as_deref().is_none_or(is_name), "name", NOT_A_NAME.to_owned());
        unless(Currency::parse(&self.currency).is_ok(), "currency", "must be a code of ISO 4217 in capitals, such as EUR".to_owned());
        unless((1..=HOURS_MAX).contains(&self.hours), "hours", format!("must be from 1 to {HOURS_MAX}"));
        unless(self.amount_max.is_some() || self.count_max.is_some(), "amount_max", "or `count_max` is needed: it limits nothing".to_owned());
        unless(
            self.amount_max.is_none_or(|most| (0..=Money::MAX_MINOR).contains(&most)),
            "amount_max",
            format!("must be from 0 to {}", Money::MAX_MINOR),
        );
        unless(self.parties.iter().all(|party| PartyId::parse(party).is_ok()), "parties", "must hold ids of parties".to_owned());
        found
    }

    /// It, as it is told; `index` is its place in the configuration.
    fn as_met(&self, index: usize) -> RuleMet {
        let kind = match self.scope {
            Scope::Party => RuleKind::PartyLimit,
            Scope::Beneficiary => RuleKind::BeneficiaryLimit,
        };
        RuleMet { name: self.name.clone().unwrap_or_else(|| format!("limits[{index}]")), kind }
    }

    fn is_of(&self, party: &PartyId, currency: Currency) -> bool {
        self.currency == currency.code() && (self.parties.is_empty() || self.parties.iter().any(|one| one == party.as_str()))
    }
}

// === impl Question ===

impl Question {
    /// Who gets it, and what makes another payout equal, as the script reads it. All else is the same for most payouts, which spares the script to read it anew.
    pub(crate) fn whom(&self) -> String {
        match &self.twin {
            Some(Twin { of, amount }) => [self.account.as_str(), of, amount].join(" "),
            None => self.account.clone(),
        }
    }

    /// The rule that the script says was met: nothing where the account is new, else the place of a counter, from 1, a space and the bound.
    pub(crate) fn met(&self, said: &str) -> Option<RuleMet> {
        let Some((place, bound)) = said.split_once(' ') else { return self.new_rule.clone() };
        self.counters.get(place.parse::<usize>().ok()?.checked_sub(1)?)?.rules.get(bound).cloned()
    }
}

// === impl Gate ===

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("limits", &self.rules.limits).finish_non_exhaustive()
    }
}

impl Gate {
    /// Hashes are keyed with `pepper`: with another one every account is new, and what was counted for a beneficiary is forgotten.
    #[must_use]
    pub fn new(pepper: &[u8], rules: Rules) -> Self {
        Self { pepper: pepper.to_vec(), rules }
    }

    /// Whether a second person must approve a payout that is opened now, by what can be seen in the order alone.
    #[must_use]
    pub fn approval(&self, party: &PartyId, amount: Amount, destination: &Destination, now: Timestamp) -> Option<Approval> {
        let rule = self.rule(|rule| !rule.new_beneficiary && fits(rule, party, amount, destination))?;
        Some(self.approval_by(rule, now))
    }

    /// That somebody must approve what the script says needs it, by that rule.
    #[must_use]
    pub fn approval_by(&self, rule: RuleMet, now: Timestamp) -> Approval {
        Approval { by: self.time_to_approve(now), rule }
    }

    /// Until when somebody must have approved what is opened now.
    #[must_use]
    pub fn time_to_approve(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(SignedDuration::from_hours(self.rules.approval_hours.into())).unwrap_or(Timestamp::MAX)
    }

    /// The first rule of approval that fits, as it is told.
    fn rule(&self, fits: impl Fn(&Rule) -> bool) -> Option<RuleMet> {
        let (index, rule) = self.rules.approvals.iter().enumerate().find(|(_, rule)| fits(rule))?;
        let kind = if rule.new_beneficiary { RuleKind::NewBeneficiary } else { RuleKind::Approval };
        Some(RuleMet { name: rule.name.clone().unwrap_or_else(|| format!("approvals[{index}]")), kind })
    }

    /// What is to be asked when a payout is opened.
    #[must_use]
    pub fn question(&self, order: &Order, beneficiary: &Beneficiary, shards: Shards) -> Question {
        let Order { party, mode, amount, .. } = order;
        let destination = &beneficiary.destination;
        let account = self.account(party, *mode, destination);
        // A due date is paid once by its key.
        let asks_for_twins = self.rules.refuse_twins && order.due_date.is_none();
        let twin = asks_for_twins.then(|| {
            let of = self.hash("twin 2", &[&account, amount.currency().code(), &plain(beneficiary.reference.as_str())]);
            Twin { of, amount: amount.exact().map_or_else(|| "whole".to_owned(), |money| money.minor().to_string()) }
        });
        let new_rule = self.rule(|rule| rule.new_beneficiary && fits(rule, party, *amount, destination));
        let asks_about_others = |rule: &Rule| rule.new_beneficiary && rule.speaks_of(party, destination) && !fits(rule, party, *amount, destination);
        let counters = self.counters((party, *mode), &account, *amount, 1);
        Question {
            twin,
            replaces: order.replaces.as_ref().map(|key| PayoutId::derive(party, *mode, key, shards)),
            approve_new: new_rule.is_some(),
            new_rule,
            proves_nothing: self.rules.approvals.iter().any(asks_about_others),
            known_ms: SignedDuration::from_hours(24 * i64::from(self.rules.known_days)).as_secs().saturating_mul(1_000),
            known_max: self.rules.known_max,
            at_ms: order.scheduled_for.filter(|_| !counters.is_empty()).map(Timestamp::as_millisecond),
            counters,
            account,
        }
    }

    /// What is to be asked when the amount of a whole balance is fixed: only now it can be counted. Nothing, where no limit counts it.
    #[must_use]
    pub fn question_of_amount(&self, (party, mode): (&PartyId, Mode), beneficiary: &Beneficiary, money: Money) -> Option<Question> {
        let account = self.account(party, mode, &beneficiary.destination);
        let counters = self.counters((party, mode), &account, money.into(), 0);
        let question = |counters| Question {
            account,
            twin: None,
            replaces: None,
            approve_new: false,
            new_rule: None,
            proves_nothing: false,
            known_ms: 0,
            known_max: 0,
            at_ms: None,
            counters,
        };
        (!counters.is_empty()).then(|| question(counters))
    }

    fn account(&self, party: &PartyId, mode: Mode, destination: &Destination) -> String {
        self.hash("account 1", &[party.as_str(), mode.as_str(), &destination.account()])
    }

    fn hash(&self, kind: &str, parts: &[&str]) -> String {
        let mut hash = fingerprint(&self.pepper, kind, parts.iter().flat_map(|part| [part.as_bytes(), b"\n"]));
        hash.truncate(HASH);
        hash
    }

    /// The counters that a payout adds to. Limits of the same scope and window read the same one, the narrowest of them counts.
    fn counters(&self, (party, mode): (&PartyId, Mode), account: &str, amount: Amount, count: u32) -> Vec<Counter> {
        let mut found: BTreeMap<(Scope, u16), Bounds> = BTreeMap::new();
        for (index, limit) in self.rules.limits.iter().enumerate().filter(|(_, limit)| limit.is_of(party, amount.currency())) {
            let most = found.entry((limit.scope, limit.hours)).or_default();
            let (amounts, counts) = match limit.beyond {
                Beyond::Reject => ("reject_minor", "reject_count"),
                Beyond::Approve => ("approve_minor", "approve_count"),
            };
            // How much a whole balance will be, nobody knows yet: it may be more.
            let amount_max =
                if amount.exact().is_none() && limit.beyond == Beyond::Approve { limit.amount_max.map(|_| -1) } else { limit.amount_max };
            for (bound, max) in [(amounts, amount_max), (counts, limit.count_max.map(i64::from))] {
                if let Some(max) = max {
                    let narrower = most.get(bound).is_none_or(|(held, _)| max < *held);
                    if narrower {
                        most.insert(bound, (max, limit.as_met(index)));
                    }
                }
            }
        }
        let counter = |((scope, hours), bounds): (_, Bounds)| {
            let (most, rules) = bounds.into_iter().map(|(bound, (max, rule))| ((bound, max), (bound, rule))).unzip();
            let of = match scope {
                Scope::Party => "",
                Scope::Beneficiary => account,
            };
            Counter {
                key: format!("{party}:{mode}:{}:{hours}:{of}", amount.currency().code()),
                part_ms: u64::from(hours) * 3_600_000 / PARTS,
                parts: PARTS,
                minor: amount.exact().map_or(0, Money::minor),
                count,
                most,
                rules,
            }
        };
        found.into_iter().map(counter).collect()
    }
}

/// A reference as the guard against twins reads it: `INV 7` and `inv7` are one.
fn plain(reference: &str) -> String {
    reference.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

/// How much a whole balance will be, nobody knows yet.
fn fits(rule: &Rule, party: &PartyId, amount: Amount, destination: &Destination) -> bool {
    match amount {
        Amount::Exact(money) => rule.fits(party, money, destination),
        Amount::Whole(currency) => rule.fits_some_amount(party, currency, destination),
    }
}

#[cfg(test)]
mod tests;
