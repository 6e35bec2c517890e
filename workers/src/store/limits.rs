//! What a server can do at best, with nothing of ours in between: for measurements, which mean little without it.

use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{InfoDict, RedisError};
use tokio::time::Instant;

use super::StoreError;
use crate::clock::Clock;

/// A small write, as small as one that stores a message and its place in a queue can be.
const SCRIPT: &str = "redis.call('HSET', KEYS[1], 'body', ARGV[1]) redis.call('ZADD', KEYS[2], ARGV[2], KEYS[1]) return 1";

/// The size of the message.
const BODY: usize = 1_024;

/// Messages of one connection, at most; then they are overwritten, so that the memory of the server does not grow with its speed.
const KEPT: u64 = 500;

/// Calls of a small script per second, each storing a message of 1 KB and a place in a queue, on so many connections, one at a time on each.
///
/// Writes keys of its own: for a server that nobody needs afterwards.
///
/// # Errors
/// A server that does not answer.
pub async fn scripts_per_s(url: &str, connections: usize, during: Duration) -> Result<f64, StoreError> {
    let client = redis::Client::open(url).map_err(unavailable)?;
    let hash: String = {
        let mut connection = client.get_multiplexed_async_connection().await.map_err(unavailable)?;
        redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPT).query_async(&mut connection).await.map_err(unavailable)?
    };
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(client.get_multiplexed_async_connection().await.map_err(unavailable)?);
    }
    let began = Instant::now();
    let ends = began + during;
    let running = open.into_iter().enumerate().map(|(number, connection)| tokio::spawn(one_after_another(connection, hash.clone(), number, ends)));
    let ended = try_join_all(running).await.map_err(|error| StoreError::Corrupt(format!("a measurement panicked: {error}")))?;
    let mut calls = 0;
    for done in ended {
        calls += done.map_err(unavailable)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
    Ok(calls as f64 / began.elapsed().as_secs_f64())
}

async fn one_after_another(mut connection: MultiplexedConnection, hash: String, number: usize, ends: Instant) -> Result<u64, RedisError> {
    let (body, mut calls) = ("x".repeat(BODY), 0);
    while Instant::now() < ends {
        let key = format!("limit:{number}:{}", calls % KEPT);
        let mut command = redis::cmd("EVALSHA");
        command.arg(&hash).arg(2).arg(key).arg("limit:queue").arg(&body).arg(calls);
        command.query_async::<u8>(&mut connection).await?;
        calls += 1;
    }
    Ok(calls)
}

/// What the server calls itself: `redis 7.0.15`, `valkey 9.1.2`.
///
/// # Errors
/// A server that does not answer.
pub async fn version(url: &str) -> Result<String, StoreError> {
    let client = redis::Client::open(url).map_err(unavailable)?;
    let mut connection = client.get_multiplexed_async_connection().await.map_err(unavailable)?;
    let info: InfoDict = redis::cmd("INFO").arg("server").query_async(&mut connection).await.map_err(unavailable)?;
    // Valkey also gives a `redis_version`, for clients that would refuse it otherwise.
    let named = ["valkey", "redis"].into_iter().find_map(|name| Some(format!("{name} {}", info.get::<String>(&format!("{name}_version"))?)));
    Ok(named.unwrap_or_else(|| "unknown".to_owned()))
}

/// How far the clock of this machine is ahead of the server's, in ms; negative when it is behind. Exact to about half of the time that the question takes.
///
/// # Errors
/// The server does not answer.
pub async fn clock_ahead_ms(url: &str) -> Result<i64, StoreError> {
    let client = redis::Client::open(url).map_err(unavailable)?;
    let mut connection = client.get_multiplexed_async_connection().await.map_err(unavailable)?;
    let asked = Clock::of_the_machine();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await.map_err(unavailable)?;
    let ours = i64::midpoint(asked.as_millisecond(), Clock::of_the_machine().as_millisecond());
    Ok(ours - (seconds * 1_000 + micros / 1_000))
}

fn unavailable(error: RedisError) -> StoreError {
    StoreError::Unavailable(Some(error))
}
