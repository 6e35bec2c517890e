#![allow(clippy::all, clippy::unwrap_used, clippy::disallowed_methods)]
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use domain::destination::*;
use domain::fact::Provider;
use domain::id::*;
use domain::money::*;
use domain::payout::{Order, Payout};
use domain::signature::Secret;
use domain::subscription::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use workers::egress::{self, Egress};
use workers::queue::{self, Queue};
use workers::relay::{RelayContext, RelaySettings, relay};
use workers::store::lanes::{Lane, RelayLanes};
use workers::store::private_server::{Fsync, PrivateServer};
use workers::store::vault::Vault;
use workers::store::{Settings, Store};

fn env(name: &str, default: usize) -> usize { std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default) }

async fn sink() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:18999").await.unwrap();
    loop {
        let (mut s, _) = listener.accept().await.unwrap();
        s.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let mut buf = Vec::with_capacity(16384);
            loop {
                let n = s.read_buf(&mut buf).await.unwrap_or(0);
                if n == 0 { return }
                while let Some(p) = buf.windows(4).position(|w| w == b"\r\n\r\n") {
                    let head = std::str::from_utf8(&buf[..p]).unwrap().to_ascii_lowercase();
                    let len: usize = head.split("content-length: ").nth(1).and_then(|r| r.split("\r\n").next()).and_then(|v| v.parse().ok()).unwrap_or(0);
                    if buf.len() < p + 4 + len { break }
                    buf.drain(..p + 4 + len);
                    if s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_err() { return }
                }
            }
        });
    }
}

fn cpu(pid: u32) -> f64 {
    let t = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let f: Vec<&str> = t.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}

#[tokio::main]
async fn main() {
    if std::env::args().nth(1).as_deref() == Some("sink") { return sink().await }
    let n = env("N", 50_000); let subs = env("SUBS", 16);
    let folder = tempfile::tempdir().unwrap();
    let server = PrivateServer::start(folder.path(), if env("EVERYSEC", 0) == 1 { Fsync::EverySecond } else { Fsync::Always }).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap()).arg("sink").env("TOKIO_WORKER_THREADS", "1").spawn().unwrap();
    let settings = Settings { url: server.url(), prefix: "t:".into(), shards: 1, connections: env("CONNS", 4), deadline_ms: 5_000 };
    let keys = BTreeMap::from([(1, "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".into())]);
    let store = Store::open(&settings, Vault::new(&keys, 1).unwrap()).await.unwrap();
    for i in 0..subs {
        let party = PartyId::parse(&format!("p{i}")).unwrap();
        let id = SubscriptionId::new(Shard::new(0), [i as u8; 11]);
        let record = Subscription { id, party, mode: Mode::Test, name: None, url: format!("http://127.0.0.1:18999/h{i}"), event_types: EventTypes::All, created_at: store.clock().now(), status: Status::Enabled, version: 1 };
        store.subscribe(&record, Some(&Secrets::new(Secret::from_bytes(&[7; 32]).unwrap()))).await.unwrap();
    }
    let t = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = vec![];
    for _ in 0..128 {
        let (store, next) = (store.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            let beneficiary = Beneficiary { name: BeneficiaryName::parse("John Smith", 18).unwrap(), reference: StatementReference::parse("Withdrawal 204", 18).unwrap(), destination: Destination::Iban(Iban::parse("GB33BUKB20201555555555").unwrap()) };
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= n { return }
                let party = PartyId::parse(&format!("p{}", i % subs)).unwrap();
                let key = format!("k{i}");
                let order = Order { id: PayoutId::derive(&party, Mode::Test, &key, store.shards()), party, mode: Mode::Test, transaction_id: key, money: Money::new(10_000, Currency::GBP).unwrap(), context_code: "withdrawal".into(), metadata: BTreeMap::new(), scheduled_for: None, route: vec![Provider::Truelayer], maker: "ops".into(), needs_approval: false, trace: None };
                let step = Payout::open(order, store.clock().now());
                store.open_payout(&step, &beneficiary, "f").await.unwrap();
            }
        }));
    }
    for t in tasks { t.await.unwrap(); }
    println!("filled {n} in {:?}: {:.0}/s", t.elapsed(), n as f64 / t.elapsed().as_secs_f64());
    let es = egress::Settings { allow: vec!["127.0.0.1".parse().unwrap()], ..Default::default() };
    let rs = RelaySettings { per_subscription: env("CAP", 32), ..Default::default() };
    let context = Arc::new(RelayContext::new(store.clone(), Egress::new(&es), &rs));
    let lanes = RelayLanes { lane: Lane { store: store.clone(), shard: Shard::new(0), lease: Duration::from_secs(30) }, per_subscription: rs.per_subscription };
    let qs = queue::Settings { name: "relay", concurrency: env("CONC", 256), batch: env("BATCH", 64), tick: Duration::from_secs(1), handler_deadline: Duration::from_secs(20), panic_backoff: Duration::from_secs(1), drain: Duration::from_secs(1) };
    let queue = Queue::new(lanes, qs, store.wakes().relay.clone());
    let stop = tokio_util::sync::CancellationToken::new();
    let done = Arc::new(AtomicUsize::new(0));
    let d = done.clone();
    let (me0, redis0, sink0) = (cpu(std::process::id()), cpu(server.pid().unwrap()), cpu(child.id()));
    let t = Instant::now();
    let s = stop.clone();
    let running = tokio::spawn(queue::run(queue, context, move |c, j| { let d = d.clone(); async move { relay(c, j).await; d.fetch_add(1, Ordering::Relaxed); } }, s));
    while done.load(Ordering::Relaxed) < n { tokio::time::sleep(Duration::from_millis(5)).await; }
    let e = t.elapsed().as_secs_f64();
    println!("drained {n} in {e:.2} s: {:.0}/s; cpu µs per delivery: worker {:.1} redis {:.1} sink {:.1}", n as f64 / e,
        (cpu(std::process::id()) - me0) / n as f64 * 1e6, (cpu(server.pid().unwrap()) - redis0) / n as f64 * 1e6, (cpu(child.id()) - sink0) / n as f64 * 1e6);
    stop.cancel();
    let _ = running.await;
    child.kill().unwrap(); let _ = child.wait();
}
