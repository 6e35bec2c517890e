//! `payrelay dev`: the real program.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A file that is given is read, and not passed over.
#[tokio::test]
async fn what_is_wrong_in_the_file_is_told() {
    let (code, said) = refused("ingress.approval_hour = 7\n").await;
    assert!(code == Some(78) && said.contains("approval_hour` is not a key"), "{said}");
}

/// It does not end in a complaint about a file that nobody has written.
#[tokio::test]
async fn what_it_sets_itself_is_told() {
    let (_, said) = refused("[ingress]\nadmin_listen = '127.0.0.1:1'\n").await;
    assert!(said.contains("`ingress.admin_listen` is set"), "{said}");
}

/// How it ends with that file, and what it says.
async fn refused(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("more.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_payrelay"));
    command
        .env_remove("REDIS_URL")
        .arg("--config")
        .arg(&file)
        .args(["dev", "--stay"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(30), command.output()).await.expect("it ends").unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

/// URLs are asked before they are told anything, and that of its own subscriber answers.
#[tokio::test]
async fn its_subscriber_answers_a_challenge() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("more.toml");
    std::fs::write(&file, "[ingress]\nwebhooks.challenge = ['test']\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_payrelay"));
    command.env_remove("REDIS_URL").current_dir(&folder).arg("--config").arg(&file).args(["dev", "--demo"]).kill_on_drop(true);
    let ended = tokio::time::timeout(Duration::from_secs(60), command.output()).await.expect("it ends").unwrap();
    let (said, complaint) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert!(ended.status.success() && said.trim_end().ends_with(" webhooks verified, 0 double payments"), "{said}\n{complaint}");
}
