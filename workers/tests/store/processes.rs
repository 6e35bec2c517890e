//! The processes that run, as they say of themselves.

use jiff::Timestamp;
use workers::agreement::disagreements;
use workers::store::processes::Process;

use super::*;

const LASTS: Duration = Duration::from_secs(90);

fn process(id: &str, limits: &str, lease_ms: u64) -> Process {
    let told = BTreeMap::from([("calendars".to_owned(), "c".to_owned()), ("ingress.limits".to_owned(), limits.to_owned())]);
    Process { id: id.to_owned(), name: format!("host/{id}"), told, lease_ms, until: Timestamp::MIN }
}

fn ids(processes: &[Process]) -> Vec<&str> {
    let mut ids: Vec<_> = processes.iter().map(|process| process.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_process_is_there_until_it_says_farewell_or_nothing_more() {
    let Installation { store, server: _server, .. } = &installation().await;
    assert_eq!(store.processes().await.unwrap(), []);
    assert_eq!(ids(&store.say_hello(&process("a", "1", 0), LASTS).await.unwrap()), ["a"]);
    let both = store.say_hello(&process("b", "2", 0), LASTS).await.unwrap();
    assert_eq!(ids(&both), ["a", "b"]);
    assert_eq!(disagreements(&both).into_keys().collect::<Vec<_>>(), ["ingress.limits"]);

    // Told anew it is the same process.
    let both = store.say_hello(&process("b", "1", 0), LASTS).await.unwrap();
    assert_eq!((ids(&both), disagreements(&both).len()), (vec!["a", "b"], 0));

    store.say_farewell("b").await.unwrap();
    store.say_farewell("b").await.unwrap();
    assert_eq!(ids(&store.processes().await.unwrap()), ["a"]);

    store.move_clock(LASTS - Duration::from_secs(10)).await.unwrap();
    assert_eq!(ids(&store.say_hello(&process("c", "1", 0), LASTS).await.unwrap()), ["a", "c"]);
    store.move_clock(Duration::from_secs(10)).await.unwrap();
    assert_eq!(ids(&store.processes().await.unwrap()), ["c"], "what was killed is gone when its time is over");
    assert_eq!(ids(&store.say_hello(&process("c", "1", 0), LASTS).await.unwrap()), ["c"]);
}

/// A server that has just begun to hold the store knows of no lease that was given before. Whoever asks may have been told a shorter one than whoever sends.
#[tokio::test]
async fn a_stop_is_effective_when_the_longest_lease_of_any_process_has_ended() {
    let Installation { store, server: _server, .. } = &installation().await;
    let shard = Shard::new(0);
    store.leases_last(Duration::from_secs(10));
    store.say_hello(&process("a", "1", 35_000), 10 * LASTS).await.unwrap();
    assert!(store.draining_until(shard).await.unwrap().is_some());
    store.move_clock(Duration::from_secs(20)).await.unwrap();
    assert!(store.draining_until(shard).await.unwrap().is_some(), "another process's lease may be on its way");
    store.move_clock(Duration::from_secs(16)).await.unwrap();
    assert_eq!(store.draining_until(shard).await.unwrap(), None);
}
