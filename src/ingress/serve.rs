//! The listener: connections with limits, and an end within a deadline.
//!
//! `axum::serve` has no limit on the time for headers, and its graceful shutdown waits for idle connections for ever; hence a loop of our own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Settings;
use super::quotes::Unquoted;

/// What goes wrong with accepting is mostly a lack of file descriptors, which passes when connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets what is under way finish, up to `drain_ms`.
///
/// # Errors
/// None at present: trouble with single connections is theirs.
pub(super) async fn serve(listener: TcpListener, router: Router, settings: &Settings, shutdown: CancellationToken) -> anyhow::Result<()> {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(settings.header_timeout_ms))
        .max_headers(settings.headers_max)
        // The least that hyper takes.
        .max_buf_size(settings.header_max_bytes.max(8_192));
    let server = Arc::new(server);
    let service = TowerToHyperService::new(router);
    let room = Arc::new(Semaphore::new(settings.connections_max));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    while let Some(accepted) = shutdown.run_until_cancelled(accept(&listener, &room)).await {
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                let _ = shutdown.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
                continue;
            }
        };
        let (server, service, shutdown, cut) = (Arc::clone(&server), service.clone(), shutdown.clone(), cut.clone());
        connections.spawn(async move {
            let _place = place;
            let _ = stream.set_nodelay(true);
            let (read, write) = stream.into_split();
            let stream = tokio::io::join(Unquoted::new(read), write);
            let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = cut.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(Duration::from_millis(settings.drain_ms), connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "the time to drain is over; the connections that are left are cut");
        cut.cancel();
        connections.wait().await;
    }
    Ok(())
}

/// The next connection, once there is room for it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}
