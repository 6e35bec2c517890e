//! What the machine can do at best: the product's own client without a queue, and the disk without a store.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use domain::id::Mode;
use domain::signature::{Secret, SecretError, Signer};
use futures_util::future::try_join_all;
use http::{HeaderName, HeaderValue, header};
use tokio::process::Command;
use uuid::Uuid;
use workers::clock::Clock;
use workers::egress::Egress;

use super::load;
use crate::config::Config;

/// How much longer than its work the poster may take.
const POSTER: Duration = Duration::from_secs(20);
/// One flushed write.
const BLOCK: usize = 4_096;

/// What the limit's webhooks are signed with.
pub(super) fn secret() -> Result<Secret, SecretError> {
    Secret::from_bytes(&[7; 32])
}

/// As [`posts_per_s`], by a process of its own: as the server under test is one too, whose webhooks come from another process than the one that receives them.
pub(super) async fn signed_posts_per_s(config_file: &Path, url: &str, during: Duration) -> anyhow::Result<f64> {
    let during_ms = during.as_millis().to_string();
    let arguments = ["bench", "--post-to", url, "--post-for-ms", &during_ms, "--config"];
    let output = Command::new(std::env::current_exe()?).args(arguments).arg(config_file).kill_on_drop(true).output();
    let output = tokio::time::timeout(during + POSTER, output).await.context("the poster did not end")?.context("starting the poster")?;
    ensure!(output.status.success(), "the poster: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.trim().parse().context("what the poster said")
}

/// Webhooks per second of 1 KB that the product's client, as configured, signs and posts to a receiver that verifies them, without queue and store.
///
/// # Errors
/// One of them could not be posted.
pub(crate) async fn posts_per_s(config: &Config, url: &str, during: Duration) -> anyhow::Result<f64> {
    let egress = Egress::new(&config.egress);
    let target = egress.target(url, Mode::Test)?;
    let signer = Signer::new(std::slice::from_ref(&secret()?));
    let body = Bytes::from(vec![b'x'; load::BODY]);
    let ends = Instant::now() + during;
    let post_on = || {
        let (egress, target, signer, body) = (egress.clone(), target.clone(), signer.clone(), body.clone());
        tokio::spawn(async move {
            let mut posted = 0_u32;
            while Instant::now() < ends {
                let (id, at) = (Uuid::new_v4().to_string(), Clock::of_the_machine());
                let signature = signer.header(&id, at.as_second(), &body);
                let headers = [
                    (HeaderName::from_static("webhook-id"), HeaderValue::try_from(id)?),
                    (HeaderName::from_static("webhook-timestamp"), HeaderValue::from(at.as_second())),
                    (HeaderName::from_static("webhook-signature"), HeaderValue::try_from(signature)?),
                    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                ];
                let answer = egress.post(&target, &headers, body.clone(), at).await;
                let answer = answer.map_err(|failure| anyhow::anyhow!("posting a webhook: {}", failure.why.code()))?;
                ensure!(answer.status == 200, "a webhook was answered {}", answer.status);
                posted += 1;
            }
            anyhow::Ok(posted)
        })
    };
    let began = Instant::now();
    let ended = try_join_all((0..config.relay.per_subscription).map(|_| post_on())).await.context("posting webhooks")?;
    let took = began.elapsed();
    let posted = ended.into_iter().sum::<anyhow::Result<u32>>()?;
    Ok(f64::from(posted) / took.as_secs_f64())
}

/// How long it takes to append 4 KB to a file of that folder and flush it, in ms, each time: so many of them, one every `pace`, the first after one and a
/// half. Blocks.
///
/// One after the other they would find a disk and a processor that are wide awake, and take half as long.
pub(super) fn fsyncs_ms(folder: &Path, times: u32, pace: Duration) -> anyhow::Result<Vec<f64>> {
    let path = folder.join("flushed");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path)?;
    let first = Instant::now() + pace + pace / 2;
    let mut took = Vec::new();
    for turn in 0..times {
        let wait = (first + pace * turn).saturating_duration_since(Instant::now());
        #[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
        std::thread::sleep(wait);
        let began = Instant::now();
        file.write_all_at(&[b'x'; BLOCK], u64::from(turn) * BLOCK as u64)?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    std::fs::remove_file(path)?;
    Ok(took)
}
