//! Balance accounts in the store: what the platform has set up, what the ledger says, and the money that came in.

use std::collections::BTreeSet;

use domain::account::{BALANCE_MAX, BalanceAccount, Funding, Holder, Status, TopUp};
use domain::fact::Provider;
use domain::id::{BalanceAccountId, Mode, PartyId, Shard, TopUpId};
use domain::ledger::{Account, Balances};
use domain::money::Currency;
use redis::Value;

use super::books::{Found, Walk, Walked};
use super::lists::{Page, Range};
use super::payouts::{answer_of, random_token, unknown_answer};
use super::vitals::LookedOver;
use super::{Store, StoreError, from_json, from_value, to_json};

/// Where claims to deposits are kept: whose they are, their notices do not say.
const OF_DEPOSITS: Shard = Shard::new(0);

/// An account, its holder, and what is in it.
///
/// `Debug` is not offered: it holds the holder.
#[derive(Clone)]
pub struct Standing {
    pub account: BalanceAccount,
    pub holder: Holder,
    pub balances: Balances,
}

/// How setting up an account went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUp {
    Done,
    /// Somebody else has changed it.
    Stale,
    /// Who funds it cannot change while payouts of it are under way.
    Busy,
}

/// How a top-up went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToppedUp {
    New,
    /// The key was used before: for this.
    Exists(Box<TopUp>),
    /// The provider funds the account, so there is nothing to top up.
    ProviderFunded,
    /// The account would hold more than [`BALANCE_MAX`].
    Full,
}

/// What an audit of the ledgers of a shard found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// What the ledgers are off by, in minor units, whatever their currency. Anything but 0 is a fault.
    pub imbalance: i64,
    /// Accounts that fund themselves and yet are below zero: money arrived after it had been given back.
    pub overdrawn: u64,
    /// What accounts have reserved beyond what their open payouts hold, or less, in minor units. Anything but 0 is a fault. It takes two walks over the open payouts to be sure.
    pub unmatched: u64,
}

/// What an audit found of one ledger.
#[derive(Clone, Copy, Debug, Default)]
struct LedgerAudited {
    off: i64,
    overdrawn: bool,
    unmatched: i64,
    found: Option<Found>,
}

/// How the mark of an account begins whose reserve is not what its payouts hold.
const UNMATCHED: &str = "open ";

/// Ledgers that an audit reads at a time, about.
const LEDGERS: usize = 200;

impl Store {
    /// An account as it stands, whether somebody has set it up or not.
    ///
    /// # Errors
    /// As every call.
    pub async fn account(&self, party: &PartyId, mode: Mode, currency: Currency) -> Result<Standing, StoreError> {
        let names = &self.shared.names;
        let shard = self.shared.shards.of(party, mode);
        let fields = redis::cmd("HMGET").arg(names.account(shard, party, mode, currency)).arg("rec").arg("sec").to_owned();
        let (record, sealed): (Option<Vec<u8>>, Option<Vec<u8>>) = from_value(self.query(fields).await?)?;
        let balances = self.balances(&names.ledger(shard, party, mode, currency)).await?;
        let (Some(record), Some(sealed)) = (record, sealed) else {
            return Ok(Standing { account: BalanceAccount::unset(party, mode, currency, self.shared.shards), holder: Holder::default(), balances });
        };
        let account: BalanceAccount = from_json("balance account", &record)?;
        let holder = from_json("holder", &self.shared.vault.open(&owner(account.id), &sealed)?)?;
        Ok(Standing { account, holder, balances })
    }

    /// All accounts of a party and mode in which anything has happened, by currency.
    ///
    /// # Errors
    /// As every call.
    pub async fn accounts(&self, party: &PartyId, mode: Mode) -> Result<Vec<Standing>, StoreError> {
        let key = self.shared.names.party(self.shared.shards.of(party, mode), "currencies", party, mode);
        let codes: BTreeSet<String> = from_value(self.query(redis::cmd("SMEMBERS").arg(key).to_owned()).await?)?;
        let currencies = codes.iter().filter_map(|code| Currency::parse(code).ok());
        futures_util::future::try_join_all(currencies.map(|currency| self.account(party, mode, currency))).await
    }

    /// Writes what the platform has set up. The version of `account` is one more than the one decided on.
    ///
    /// # Errors
    /// As every call. A repeat of the same call answers [`SetUp::Stale`] and changes nothing.
    pub async fn set_up(&self, account: &BalanceAccount, holder: &Holder) -> Result<SetUp, StoreError> {
        let names = &self.shared.names;
        let shard = account.id.shard();
        let BalanceAccount { party, mode, currency, .. } = account;
        let keys = [
            names.account(shard, party, *mode, *currency),
            names.ledger(shard, party, *mode, *currency),
            names.of(shard, "accounts"),
            names.party(shard, "currencies", party, *mode),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let sealed = self.seal_holder(account, holder);
        let answer = self
            .run(&self.shared.scripts.account, &keys, |command| {
                command.arg(account.version.saturating_sub(1)).arg(account.version).arg(random_token()).arg(to_json(account));
                command.arg(funding(account)).arg(status(account)).arg(sealed).arg(currency.code()).arg(planned(account));
            })
            .await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(SetUp::Done),
            "stale" => Ok(SetUp::Stale),
            "busy" => Ok(SetUp::Busy),
            other => Err(unknown_answer(other)),
        }
    }

    pub(super) fn seal_holder(&self, account: &BalanceAccount, holder: &Holder) -> Vec<u8> {
        self.shared.vault.seal(&owner(account.id), to_json(holder).as_bytes())
    }

    /// The party that a deposit is given to, by the provider's id of the movement, if one has claimed it: `claimant`, where that is given, unless another one was before it. A claim is for good.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn owner_of_deposit(
        &self,
        provider: Provider,
        mode: Mode,
        movement: &str,
        claimant: Option<&PartyId>,
    ) -> Result<Option<PartyId>, StoreError> {
        let key = format!("{}deposit:{}:{mode}:{movement}", self.shared.names.shard(OF_DEPOSITS), provider.name());
        let command = match claimant {
            Some(party) => redis::cmd("SET").arg(key).arg(party.as_str()).arg("NX").arg("GET").to_owned(),
            None => redis::cmd("GET").arg(key).to_owned(),
        };
        let before: Option<String> = from_value(self.query(command).await?)?;
        let before = before.map(|before| PartyId::parse(&before)).transpose().map_err(|_| unknown_answer("a party"))?;
        Ok(before.or_else(|| claimant.cloned()))
    }

    /// Records money that came in, once per key.
    ///
    /// # Errors
    /// As every call. A repeat is safe.
    pub async fn top_up(&self, top_up: &TopUp) -> Result<ToppedUp, StoreError> {
        let names = &self.shared.names;
        let shard = top_up.id.shard();
        let TopUp { party, mode, money, .. } = top_up;
        let keys = [
            names.top_up(top_up.id),
            names.ledger(shard, party, *mode, money.currency()),
            names.account(shard, party, *mode, money.currency()),
            names.party(shard, "top-ups", party, *mode),
        ];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.top_up, &keys, |command| {
                command.arg(random_token()).arg(to_json(top_up)).arg(money.minor()).arg(top_up.id.to_string());
                command.arg(top_up.recorded_at.as_millisecond()).arg(BALANCE_MAX);
            })
            .await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(ToppedUp::New),
            "exists" => {
                let (_, record): (String, Vec<u8>) = from_value(answer)?;
                Ok(ToppedUp::Exists(Box::new(from_json("top-up", &record)?)))
            }
            "provider-funded" => Ok(ToppedUp::ProviderFunded),
            "full" => Ok(ToppedUp::Full),
            other => Err(unknown_answer(other)),
        }
    }

    /// The top-ups of a range that `keep` keeps, newest first.
    ///
    /// # Errors
    /// As every call.
    pub async fn top_ups(&self, range: &Range<'_, TopUpId>, keep: impl Fn(&TopUp) -> bool) -> Result<Page<TopUp, TopUpId>, StoreError> {
        self.page("top-ups", range, |id| self.read_top_up(id), keep).await
    }

    async fn read_top_up(&self, id: TopUpId) -> Result<Option<TopUp>, StoreError> {
        let command = redis::cmd("HGET").arg(self.shared.names.top_up(id)).arg("rec").to_owned();
        let record: Option<Vec<u8>> = from_value(self.query(command).await?)?;
        record.map(|record| from_json("top-up", &record)).transpose()
    }

    /// Adds up every ledger of a shard, page by page. One that is off is marked, and from then on its payouts are not dispatched; the mark goes when it adds up
    /// again. A ledger that is new in the meantime may have to wait for the next audit.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn audit(&self, shard: Shard) -> Result<Audited, StoreError> {
        self.audit_after(shard, &LookedOver::default(), &mut Walk::default()).await
    }

    /// As [`Store::audit`]; and where a walk over open payouts has come to its end, each reserve is held against what it found.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn audit_after(&self, shard: Shard, looked_over: &LookedOver, walk: &mut Walk) -> Result<Audited, StoreError> {
        let walked = looked_over.walked.as_ref();
        let (mut audited, mut told) = (Audited::default(), BTreeSet::new());
        let mut cursor = 0_u64;
        loop {
            let command = redis::cmd("SSCAN").arg(self.shared.names.of(shard, "accounts")).arg(cursor).arg("COUNT").arg(LEDGERS).to_owned();
            let (next, ledgers): (u64, BTreeSet<String>) = from_value(self.query(command).await?)?;
            let page = futures_util::future::try_join_all(ledgers.iter().map(|ledger| self.audit_ledger(shard, ledger, walked))).await?;
            for (ledger, LedgerAudited { off, overdrawn, unmatched, found }) in ledgers.into_iter().zip(page) {
                if let Some(found) = found {
                    walk.suspect(ledger.clone(), found);
                }
                // A scan may name one twice.
                if (off != 0 || overdrawn || unmatched != 0) && told.insert(ledger) {
                    audited.unmatched = audited.unmatched.saturating_add(unmatched.unsigned_abs());
                    audited.imbalance = audited.imbalance.saturating_add(off.saturating_abs());
                    audited.overdrawn = audited.overdrawn.saturating_add(u64::from(overdrawn));
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(audited);
            }
        }
    }

    /// How many accounts of a shard have a ledger that was found at fault, so that their payouts are not dispatched.
    ///
    /// # Errors
    /// As every call.
    pub async fn accounts_at_fault(&self, shard: Shard) -> Result<u64, StoreError> {
        let (prefix, mut cursor, mut faulty) = (self.shared.names.of(shard, ""), 0_u64, BTreeSet::new());
        loop {
            let command = redis::cmd("SSCAN").arg(self.shared.names.of(shard, "accounts")).arg(cursor).arg("COUNT").arg(LEDGERS).to_owned();
            let (next, ledgers): (u64, Vec<String>) = from_value(self.query(command).await?)?;
            let named = ledgers.iter().filter_map(|ledger| ledger.strip_prefix(&prefix)?.strip_prefix("acct:"));
            let each = named.map(|of| async move {
                let command = redis::cmd("HEXISTS").arg(self.shared.names.of(shard, &format!("account:{of}"))).arg("fault").to_owned();
                Ok::<_, StoreError>(from_value::<bool>(self.query(command).await?)?.then(|| of.to_owned()))
            });
            faulty.extend(futures_util::future::try_join_all(each).await?.into_iter().flatten());
            cursor = next;
            if cursor == 0 {
                return Ok(faulty.len() as u64);
            }
        }
    }

    async fn audit_ledger(&self, shard: Shard, ledger: &str, walked: Option<&Walked>) -> Result<LedgerAudited, StoreError> {
        let prefix = self.shared.names.of(shard, "");
        let Some(of) = ledger.strip_prefix(&prefix).and_then(|name| name.strip_prefix("acct:")) else { return Ok(LedgerAudited::default()) };
        let account = self.shared.names.of(shard, &format!("account:{of}"));
        let balances = self.balances(ledger).await?;
        let (funding, fault): (Option<String>, Option<String>) =
            from_value(self.query(redis::cmd("HMGET").arg(&account).arg("funding").arg("fault").to_owned()).await?)?;
        let off = balances.imbalance();
        let found = walked.map(|walked| walked.of(ledger, balances.of(Account::Reserved)));
        // What was found stands until a walk finds that it is no more.
        let held = fault.as_deref().and_then(|fault| fault.strip_prefix(UNMATCHED)?.parse().ok()).unwrap_or(0);
        let unmatched = match found {
            Some(found) if found.is_sure || found.off() == 0 => found.off(),
            Some(_) | None => held,
        };
        let is = match (off, unmatched) {
            (0, 0) => None,
            (_, 0) => Some(off.to_string()),
            (_, unmatched) => Some(format!("{UNMATCHED}{unmatched}")),
        };
        match (is, fault) {
            (None, None) => {}
            (None, Some(_)) => _ = self.query(redis::cmd("HDEL").arg(&account).arg("fault").to_owned()).await?,
            (Some(is), fault) => {
                if fault.is_none() {
                    tracing::error!(account = of, off, unmatched, "a ledger does not add up; the account's payouts are not dispatched");
                }
                self.query(redis::cmd("HSET").arg(&account).arg("fault").arg(is).to_owned()).await?;
            }
        }
        Ok(LedgerAudited { off, overdrawn: funding.as_deref() == Some("balance") && balances.of(Account::Available) < 0, unmatched, found })
    }

    async fn balances(&self, ledger: &str) -> Result<Balances, StoreError> {
        let value: Value = self.query(redis::cmd("HMGET").arg(ledger).arg(&Account::ALL.map(Account::name)).to_owned()).await?;
        let minor: Vec<Option<i64>> = from_value(value)?;
        Ok(Account::ALL.into_iter().zip(minor.into_iter().map(Option::unwrap_or_default)).collect())
    }
}

/// As the scripts know it.
pub(super) const fn funding(account: &BalanceAccount) -> &'static str {
    match account.funding {
        Funding::Provider => "provider",
        Funding::Balance => "balance",
    }
}

/// As the scripts know it.
pub(super) const fn status(account: &BalanceAccount) -> &'static str {
    match account.status {
        Status::Enabled => "enabled",
        Status::Disabled => "disabled",
    }
}

/// As the scripts know it.
pub(super) const fn planned(account: &BalanceAccount) -> &'static str {
    if account.planned.is_some() { "1" } else { "0" }
}

fn owner(id: BalanceAccountId) -> String {
    format!("{id}/holder")
}
