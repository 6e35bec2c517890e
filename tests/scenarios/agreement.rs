//! Processes that were told otherwise, seen from outside: the real program, twice.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use payrelay::child::{Program, Signal};
use payrelay::local::{Local, Plan};
use serde_json::Value;
use workers::agreement::disagreements;
use workers::store::private_server::Fsync;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn another_configuration_is_named_by_doctor_and_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let plan = Plan {
        folder: folder.path(),
        redis_url: None,
        fsync: Fsync::Always,
        listen: "127.0.0.1:9",
        more: "workers.sweep_ms = 100\n",
        providers: &[],
        sandbox: |_| {},
        role: None,
    };
    let local = Local::start(plan).await.unwrap();
    let other = local.config_with(&[], "ingress.approval_hours = 7\nretention.payouts_days = 30\n").unwrap();
    let program = |config: &PathBuf| Program::worker(PathBuf::from(env!("CARGO_BIN_EXE_payrelay")), config, folder.path());
    let (right, wrong) = (program(&local.config_file), program(&other));
    let there = async |count: usize| local.store.processes().await.unwrap().len() == count;
    let logged = |words: &str| std::fs::read_to_string(right.log("right")).unwrap().lines().filter(|line| line.contains(words)).count();

    let mut first = right.start("right", "").unwrap();
    eventually("one runs", async || there(1).await).await;
    let mut second = wrong.start("wrong", "").unwrap();
    eventually("two run", async || there(2).await).await;
    let found = disagreements(&local.store.processes().await.unwrap());
    assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), ["ingress.approval_hours", "retention.payouts_days"]);
    eventually("the first has noticed", async || logged("processes were told otherwise") == 2).await;

    let doctor =
        tokio::process::Command::new(env!("CARGO_BIN_EXE_payrelay")).arg("--config").arg(&local.config_file).args(["doctor", "--json"]).output();
    let findings: Vec<Value> = serde_json::from_slice(&doctor.await.unwrap().stdout).unwrap();
    let of_processes: Vec<_> = findings.iter().filter(|finding| finding["area"] == "processes").collect();
    let what: Vec<_> = of_processes.iter().map(|finding| (finding["what"].as_str().unwrap(), finding["state"].as_str().unwrap())).collect();
    assert_eq!(what, [("running", "ok"), ("ingress.approval_hours", "weak"), ("retention.payouts_days", "weak")]);
    let text = of_processes[1]["found"].as_str().unwrap();
    let (alike, apart) = text.split_once(" | ").expect("two groups");
    assert!(alike.contains(&format!("/{} (work", first.pid())) && alike.contains("this command"), "{text}");
    assert!(apart.contains(&format!("/{} (work", second.pid())), "{text}");

    second.signal(Signal::TERM).unwrap();
    assert!(second.ended(PATIENCE).await.unwrap().expect("it ends when told to").success());
    assert!(there(1).await, "it has said farewell");
    eventually("the first has noticed that too", async || logged("all processes were told the same again") == 2).await;
    assert_eq!(logged("processes were told otherwise"), 2, "once for each section, however often it was compared");
    first.signal(Signal::TERM).unwrap();
    assert!(first.ended(PATIENCE).await.unwrap().expect("it ends when told to").success());
    local.stop().await.unwrap();
}
