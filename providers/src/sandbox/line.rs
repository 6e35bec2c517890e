//! Connections that the sandbox can cut in the middle of an answer, which an ordinary handler cannot do.

use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Serves until `shutdown`, and then cuts every connection, as a process that ends would.
pub(crate) async fn serve(router: Router, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
    let stopped = CancellationToken::new();
    let _cut_at_the_end = stopped.clone().drop_guard();
    let service = router.into_make_service_with_connect_info::<Cut>();
    let served = axum::serve(Lines { listener, stopped }, service).into_future();
    tokio::select! {
        served = served => served,
        () = shutdown.cancelled() => Ok(()),
    }
}

/// The address under which others reach a sandbox: the configured one, or that of its listener.
pub(crate) struct PublicUrl(OnceLock<String>);

impl PublicUrl {
    pub(crate) fn new(configured: Option<&str>) -> Self {
        Self(configured.map_or_else(OnceLock::new, |url| url.trim_end_matches('/').to_owned().into()))
    }

    /// Without a slash at its end; empty while it is not known.
    pub(crate) fn get(&self) -> &str {
        self.0.get().map_or("", String::as_str)
    }

    pub(crate) fn or_that_of(&self, listener: &TcpListener) -> io::Result<()> {
        let address = listener.local_addr()?;
        self.0.get_or_init(|| format!("http://{address}"));
        Ok(())
    }
}

/// Ends the connection of a request without an answer, if it came by [`serve`].
pub(crate) fn cut(request: &Parts) {
    if let Some(ConnectInfo(Cut(cut))) = request.extensions.get::<ConnectInfo<Cut>>() {
        cut.cancel();
    }
}

/// A listener whose connections end when `stopped` is cancelled.
struct Lines {
    listener: TcpListener,
    stopped: CancellationToken,
}

impl Listener for Lines {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let cut = self.stopped.child_token();
        (Line { stream, cancelled: Box::pin(cut.clone().cancelled_owned()), cut }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// What a handler gets to know about its connection: how to end it.
#[derive(Clone)]
struct Cut(CancellationToken);

impl Connected<IncomingStream<'_, Lines>> for Cut {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        Self(stream.io().cut.clone())
    }
}

/// A connection that fails every read and write once it has been cut.
struct Line {
    stream: TcpStream,
    cut: CancellationToken,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    fn poll_cut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.is_cancelled() || self.cancelled.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_cut(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
