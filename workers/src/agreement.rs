//! Whether all processes of an installation were told the same: two that know other calendars, rules or limits decide differently about the same payout.
//!
//! Each process says every so often that it is there and what it was told, as hashes, and compares that with what the others say. A difference is told and stops nothing:
//! it is what every deployment of a new configuration looks like from within. Only what cannot be taken back waits for agreement, or goes by the most careful of
//! all ([decision 33](../../docs/decisions/0033-agreement.md)).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::Store;
use crate::store::processes::Process;

/// A process is taken to be gone that has said nothing for so many of its intervals.
const SILENT_INTERVALS: u32 = 3;

/// Where processes were told otherwise: for each section, the processes by what they were told, those of one mind together, the largest group first.
pub type Disagreements = BTreeMap<String, Vec<Vec<String>>>;

/// Compares what processes say that they were told. A section that one of them does not know is one that it was told otherwise.
#[must_use]
pub fn disagreements(processes: &[Process]) -> Disagreements {
    let sections: BTreeSet<&String> = processes.iter().flat_map(|process| process.told.keys()).collect();
    let groups = |section: &String| {
        let mut groups: BTreeMap<Option<&String>, Vec<String>> = BTreeMap::new();
        processes.iter().for_each(|process| groups.entry(process.told.get(section)).or_default().push(process.name.clone()));
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.iter_mut().for_each(|group| group.sort());
        groups.sort_by(|a, b| (b.len(), a).cmp(&(a.len(), b)));
        groups
    };
    sections.into_iter().map(|section| (section.clone(), groups(section))).filter(|(_, groups)| groups.len() > 1).collect()
}

/// Groups of processes, for people.
#[must_use]
pub fn shown(groups: &[Vec<String>]) -> String {
    groups.iter().map(|group| group.join(", ")).collect::<Vec<_>>().join(" | ")
}

/// Says every `interval` until `stop` that this process is there, and hands what it and the others were told otherwise to `observe`. A change of that is logged, once.
pub async fn run(store: &Store, me: &Process, interval: Duration, stop: CancellationToken, observe: impl Fn(&Disagreements)) {
    let mut known = Disagreements::new();
    loop {
        match store.say_hello(me, interval.saturating_mul(SILENT_INTERVALS)).await {
            Ok(processes) => {
                let found = disagreements(&processes);
                tell(&known, &found);
                observe(&found);
                known = found;
            }
            Err(error) => tracing::warn!(%error, "this process could not say that it is there; it goes on trying"),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(interval) => {}
        }
    }
    if let Err(error) = store.say_farewell(&me.id).await {
        tracing::warn!(%error, "this process could not say that it ends; the others will notice");
    }
}

fn tell(known: &Disagreements, found: &Disagreements) {
    for (section, groups) in found.iter().filter(|(section, _)| !known.contains_key(*section)) {
        tracing::warn!(section, processes = %shown(groups), "processes were told otherwise, and decide differently until they are told the same");
    }
    for section in known.keys().filter(|section| !found.contains_key(*section)) {
        tracing::info!(section, "all processes were told the same again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, told: &[(&str, &str)]) -> Process {
        let told = told.iter().map(|(section, hash)| ((*section).to_owned(), (*hash).to_owned())).collect();
        Process { id: name.to_owned(), name: name.to_owned(), told, lease_ms: 1_000, until: jiff::Timestamp::MAX }
    }

    #[test]
    fn those_of_one_mind_stand_together() {
        let all = [
            process("c", &[("calendars", "1"), ("ingress.limits", "7")]),
            process("a", &[("calendars", "1"), ("ingress.limits", "8")]),
            process("b", &[("calendars", "1"), ("ingress.limits", "8"), ("relay", "5")]),
        ];
        let found = disagreements(&all);
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["ingress.limits", "relay"]);
        assert_eq!(shown(&found["ingress.limits"]), "a, b | c");
        assert_eq!(shown(&found["relay"]), "a, c | b", "one that does not know a section was told otherwise");
        assert_eq!(disagreements(&all[..1]), Disagreements::new());
        assert_eq!(disagreements(&[]), Disagreements::new());
    }
}
