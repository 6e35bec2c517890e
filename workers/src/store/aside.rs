//! Payouts that are set aside because nobody is allowed to send them, and that no circuit holds: their party is frozen, or their account's ledger is at fault. They cost
//! nobody's turn, and come back when that has ended: those of a party by its thaw, those of an account by the sweep after the audit that finds it sound.

use domain::id::Shard;
use domain::payout::Payout;

use super::lanes::Ticket;
use super::party_freeze;
use super::{Store, StoreError, from_value};

/// Payouts that one call makes due again, at most.
const PAGE: usize = 500;

/// Why a payout was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    PartyFrozen,
    AccountFault,
}

impl Aside {
    /// As it is told with the payout.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::PartyFrozen => super::payouts::PARTY_FROZEN,
            Self::AccountFault => "account_frozen",
        }
    }
}

impl Store {
    /// Nobody is allowed to send a leased payout at present: until now that was not time in which it was tried. Where its party or its account is why, it leaves its
    /// lane until that has ended; `None`, where it stays.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn set_aside(&self, payout: &Payout, lease: &Ticket) -> Result<Option<Aside>, StoreError> {
        let names = &self.shared.names;
        let (shard, currency) = (payout.id.shard(), payout.amount.currency());
        let party = party_freeze::name(&payout.party, payout.mode);
        let [execute, frozen, accounts, clock] = ["due:execute", "frozen", FAULTY, "clock"].map(|what| names.of(shard, what));
        let (record, stop) = (names.payout(payout.id), self.stop_key(shard, &party));
        let account = names.account(shard, &payout.party, payout.mode, currency);
        let keys = [&record, &execute, &stop, &account, &frozen, &accounts, &clock].map(String::as_str);
        let answer = self.run(&self.shared.scripts.set_aside, &keys, |command| {
            command.arg(payout.id.to_string()).arg(lease.token.0).arg(&party).arg(format!("{party}:{}", currency.code())).arg(names.shard(shard));
        });
        Ok(match from_value::<String>(answer.await?)?.as_str() {
            "party" => Some(Aside::PartyFrozen),
            "account" => Some(Aside::AccountFault),
            _ => None,
        })
    }

    /// Makes the payouts of accounts due again whose ledgers are sound by now. Answers how many wait for one that is not.
    ///
    /// # Errors
    /// As every call. Repeatable: what an error has left waiting is made due by the next call.
    pub async fn release_accounts(&self, shard: Shard) -> Result<u64, StoreError> {
        let names = &self.shared.names;
        let [execute, accounts, clock] = ["due:execute", FAULTY, "clock"].map(|what| names.of(shard, what));
        let faulty: Vec<String> = from_value(self.query(redis::cmd("ZRANGE").arg(&accounts).arg(0).arg(-1).to_owned()).await?)?;
        let mut waiting = 0;
        for name in faulty {
            let [account, held] = ["account:", "held:account:"].map(|what| names.of(shard, &format!("{what}{name}")));
            let keys = [&account, &held, &execute, &accounts, &clock].map(String::as_str);
            loop {
                let page = self.run(&self.shared.scripts.account_release, &keys, |command| _ = command.arg(&name).arg(PAGE).arg(names.shard(shard)));
                let (fault, left): (u8, u64) = from_value(page.await?)?;
                if fault == 1 || left == 0 {
                    waiting += left;
                    break;
                }
            }
        }
        Ok(waiting)
    }
}

/// The accounts of a shard that payouts were set aside for.
const FAULTY: &str = "faulty";
