//! Parties and their payout instruments: one hash per party and mode, each record in it sealed whole and written on the version that it was decided on.

use std::collections::BTreeMap;

use domain::account::{BalanceAccount, Holder};
use domain::id::{Mode, PartyId, Shard};
use domain::instrument::{Instrument, InstrumentReference};
use domain::party::{Party, Status};

use super::accounts::{funding, planned, status as status_of};
use super::payouts::{answer_of, random_token, unknown_answer};
use super::{Store, StoreError, from_json, from_value, to_json};

/// Parties that are read at a time, and how often a page of a list does so at most when a filter drops most of them.
const PARTIES: usize = 100;
const PAGES_LOOKED_AT: usize = 10;

/// How a write of a party or of payout instruments went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Somebody else wrote first: load and decide again.
    Stale,
    /// There is no such party, or no such instrument.
    Missing,
    /// The party has as many instruments as it can have.
    Full,
    /// Who funds an account cannot change while payouts of it are under way.
    Busy,
}

impl Store {
    /// Makes a party, with payout instruments and balance accounts: all of it, or nothing. The version of an account is one more than the one decided on.
    ///
    /// # Errors
    /// As every call. A repeat answers [`Written::Stale`], as does whoever comes second: the record tells them apart by its fingerprint.
    pub async fn make_party(
        &self,
        party: &Party,
        instruments: &[Instrument],
        instruments_max: usize,
        accounts: &[(BalanceAccount, Holder)],
    ) -> Result<Written, StoreError> {
        let records = std::iter::once(self.sealed_party(party)).chain(instruments.iter().map(|instrument| self.sealed_instrument(instrument)));
        self.write_records(&party.id, party.mode, Some(party.details.status), records.collect(), instruments_max, accounts).await
    }

    /// Writes a party that was decided on the version before `party.version`.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn write_party(&self, party: &Party) -> Result<Written, StoreError> {
        self.write_records(&party.id, party.mode, Some(party.details.status), vec![self.sealed_party(party)], 0, &[]).await
    }

    /// Writes a payout instrument that was decided on the version before `instrument.version`; version 1 makes it.
    ///
    /// # Errors
    /// As every call. Repeatable.
    pub async fn write_instrument(&self, instrument: &Instrument, instruments_max: usize) -> Result<Written, StoreError> {
        self.write_records(&instrument.party, instrument.mode, None, vec![self.sealed_instrument(instrument)], instruments_max, &[]).await
    }

    async fn write_records(
        &self,
        party: &PartyId,
        mode: Mode,
        status: Option<Status>,
        records: Vec<Sealed<'_>>,
        instruments_max: usize,
        accounts: &[(BalanceAccount, Holder)],
    ) -> Result<Written, StoreError> {
        let token = random_token();
        let names = &self.shared.names;
        let shard = self.shared.shards.of(party, mode);
        let mut keys = vec![
            self.party_key(party, mode),
            names.of(shard, "accounts"),
            names.party(shard, "currencies", party, mode),
            self.parties_key(shard, mode),
        ];
        for (account, _) in accounts {
            keys.push(names.account(shard, party, mode, account.currency));
            keys.push(names.ledger(shard, party, mode, account.currency));
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let answer = self
            .run(&self.shared.scripts.party_write, &keys, |command| {
                command.arg(token).arg(instruments_max).arg(match status {
                    Some(Status::Inactive) => "1",
                    Some(Status::Active) => "0",
                    None => "",
                });
                command.arg(accounts.len());
                for (account, holder) in accounts {
                    command.arg(account.version.saturating_sub(1)).arg(account.version).arg(to_json(account)).arg(funding(account));
                    command.arg(status_of(account)).arg(self.seal_holder(account, holder)).arg(account.currency.code());
                    command.arg(planned(account));
                }
                for Sealed { name, version, record } in records {
                    let decided_on = if version == 1 { String::new() } else { version.saturating_sub(1).to_string() };
                    command.arg(name).arg(decided_on).arg(version).arg(record);
                }
            })
            .await?;
        match answer_of(&answer)? {
            "committed" | "done" => Ok(Written::Done),
            "stale" => Ok(Written::Stale),
            "missing" => Ok(Written::Missing),
            "full" => Ok(Written::Full),
            "busy" => Ok(Written::Busy),
            other => Err(unknown_answer(other)),
        }
    }

    /// The record of a party, if it has one.
    ///
    /// # Errors
    /// As every call; [`StoreError::Corrupt`] or [`StoreError::Vault`] for one that cannot be read.
    pub async fn party(&self, id: &PartyId, mode: Mode) -> Result<Option<Party>, StoreError> {
        let command = redis::cmd("HGET").arg(self.party_key(id, mode)).arg("rec").to_owned();
        let sealed: Option<Vec<u8>> = from_value(self.query(command).await?)?;
        sealed.map(|sealed| from_json("party", &self.shared.vault.open(&party_owner(id, mode), &sealed)?)).transpose()
    }

    /// A page of the parties that have records, by name, of those that `keep` keeps; and behind which one the next page begins, if there is one. A record that cannot
    /// be read is left out, and an error in the log.
    ///
    /// # Errors
    /// As every call.
    pub async fn parties(
        &self,
        mode: Mode,
        after: Option<&PartyId>,
        limit: usize,
        keep: impl Fn(&Party) -> bool,
    ) -> Result<(Vec<Party>, Option<PartyId>), StoreError> {
        let (mut found, mut place) = (Vec::new(), after.cloned());
        for _ in 0..PAGES_LOOKED_AT {
            let from = place.as_ref().map_or_else(|| "-".to_owned(), |place| format!("({place}"));
            let in_shard = async |shard| {
                let command =
                    redis::cmd("ZRANGEBYLEX").arg(self.parties_key(shard, mode)).arg(&from).arg("+").arg("LIMIT").arg(0).arg(PARTIES).to_owned();
                from_value::<Vec<String>>(self.query(command).await?)
            };
            let names = futures_util::future::try_join_all(self.shared.shards.all().map(in_shard)).await?;
            let mut ids: Vec<PartyId> = names.into_iter().flatten().filter_map(|name| name.parse().ok()).collect();
            ids.sort();
            ids.truncate(PARTIES);
            let parties = futures_util::future::try_join_all(ids.iter().map(|id| self.readable_party(id, mode))).await?;
            let last = ids.len() < PARTIES;
            for (id, party) in ids.into_iter().zip(parties) {
                if found.len() == limit {
                    return Ok((found, place));
                }
                found.extend(party.filter(&keep));
                place = Some(id);
            }
            if last {
                return Ok((found, None));
            }
        }
        Ok((found, place))
    }

    async fn readable_party(&self, id: &PartyId, mode: Mode) -> Result<Option<Party>, StoreError> {
        match self.party(id, mode).await {
            Err(error @ (StoreError::Corrupt(_) | StoreError::Vault(_))) => {
                tracing::error!(party.id = %id, %error, "the record of a party cannot be read and is left for a person");
                Ok(None)
            }
            read => read,
        }
    }

    /// A payout instrument, if there is one.
    ///
    /// # Errors
    /// As [`Store::party`].
    pub async fn instrument(&self, party: &PartyId, mode: Mode, reference: &InstrumentReference) -> Result<Option<Instrument>, StoreError> {
        let command = redis::cmd("HGET").arg(self.party_key(party, mode)).arg(format!("i:{reference}")).to_owned();
        let sealed: Option<Vec<u8>> = from_value(self.query(command).await?)?;
        sealed.map(|sealed| self.open_instrument(party, mode, reference.as_str(), &sealed)).transpose()
    }

    /// All payout instruments of a party, by their references; `None` if there is no such party.
    ///
    /// # Errors
    /// As [`Store::party`].
    pub async fn instruments(&self, party: &PartyId, mode: Mode) -> Result<Option<Vec<Instrument>>, StoreError> {
        let fields: BTreeMap<String, Vec<u8>> = from_value(self.query(redis::cmd("HGETALL").arg(self.party_key(party, mode)).to_owned()).await?)?;
        if fields.is_empty() {
            return Ok(None);
        }
        let sealed = fields.iter().filter_map(|(name, sealed)| Some((name.strip_prefix("i:")?, sealed)));
        sealed.map(|(reference, sealed)| self.open_instrument(party, mode, reference, sealed)).collect::<Result<_, _>>().map(Some)
    }

    /// Whether payouts of the party are opened: not while it is inactive. The commit that opens one looks for itself.
    ///
    /// # Errors
    /// As every call.
    pub async fn is_active(&self, party: &PartyId, mode: Mode) -> Result<bool, StoreError> {
        let off: bool = from_value(self.query(redis::cmd("HEXISTS").arg(self.party_key(party, mode)).arg("off").to_owned()).await?)?;
        Ok(!off)
    }

    fn open_instrument(&self, party: &PartyId, mode: Mode, reference: &str, sealed: &[u8]) -> Result<Instrument, StoreError> {
        from_json("payout instrument", &self.shared.vault.open(&instrument_owner(party, mode, reference), sealed)?)
    }

    fn sealed_party<'a>(&self, party: &Party) -> Sealed<'a> {
        let record = self.shared.vault.seal(&party_owner(&party.id, party.mode), to_json(party).as_bytes());
        Sealed { name: "", version: party.version, record }
    }

    fn sealed_instrument<'a>(&self, instrument: &'a Instrument) -> Sealed<'a> {
        let name = instrument.reference.as_str();
        let record = self.shared.vault.seal(&instrument_owner(&instrument.party, instrument.mode, name), to_json(instrument).as_bytes());
        Sealed { name, version: instrument.version, record }
    }

    /// The names of the parties of a shard.
    fn parties_key(&self, shard: Shard, mode: Mode) -> String {
        self.shared.names.of(shard, &format!("parties:{mode}"))
    }

    /// The hash of a party.
    pub(super) fn party_key(&self, party: &PartyId, mode: Mode) -> String {
        self.shared.names.party(self.shared.shards.of(party, mode), "pa", party, mode)
    }
}

/// A record of a party as it is stored.
struct Sealed<'a> {
    /// Of an instrument its reference; empty for the party itself.
    name: &'a str,
    version: u64,
    record: Vec<u8>,
}

fn party_owner(party: &PartyId, mode: Mode) -> String {
    format!("party/{party}/{mode}")
}

fn instrument_owner(party: &PartyId, mode: Mode, reference: &str) -> String {
    format!("party/{party}/{mode}/instrument/{reference}")
}
