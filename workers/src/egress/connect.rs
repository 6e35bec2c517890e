//! The connection: resolve, check every address, connect to one of those that were checked.

use std::error::Error;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;

use super::address::Policy;
use super::{Identity, NoRoots, Refusal};

/// Turns a name into addresses.
pub(super) trait Resolve: Send + Sync + 'static {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// What the operating system says, where a file of ours does not.
pub(super) struct SystemResolver {
    pub(super) hosts: Option<PathBuf>,
}

impl Resolve for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let (name, hosts) = (name.to_owned(), self.hosts.clone());
        Box::pin(async move {
            if let Some(hosts) = hosts {
                let listed = listed(&tokio::fs::read_to_string(hosts).await?, &name);
                if !listed.is_empty() {
                    return Ok(listed);
                }
            }
            Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
        })
    }
}

/// The addresses of a name in a text of lines such as `10.1.2.3 hooks.example.internal # by hand`.
fn listed(hosts: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    hosts.lines().filter_map(line).collect()
}

/// Why there is no connection. No byte of a request was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("an address of the host is refused: {0}")]
    Refused(#[from] Refusal),
    #[error("the host cannot be resolved")]
    Dns(#[source] io::Error),
    #[error("the host has no address")]
    NoAddress,
    #[error("no connection")]
    Tcp(#[source] io::Error),
    #[error("no TLS session")]
    Tls(#[source] Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    NoRoots(#[from] NoRoots),
    #[error("no connection in time")]
    Timeout,
}

/// Opens checked connections, with TLS where the URL says so.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: Tcp,
    tls: Arc<OnceLock<HttpsConnector<Tcp>>>,
    /// What a server is shown that asks for it.
    identity: Option<Identity>,
}

impl Connector {
    pub(super) fn new(policy: Policy, resolver: impl Resolve, timeout: Duration, ca_file: Option<PathBuf>, http2: bool) -> Self {
        let shared = Shared { policy, resolver: Box::new(resolver), timeout, ca_file, http2, verifier: OnceLock::new() };
        Self { tcp: Tcp { shared: Arc::new(shared) }, tls: Arc::default(), identity: None }
    }

    /// The same, with a certificate to show.
    pub(super) fn showing(self, identity: Identity) -> Self {
        Self { tcp: self.tcp, tls: Arc::default(), identity: Some(identity) }
    }

    /// For DNS, TCP and TLS together.
    pub(super) fn timeout(&self) -> Duration {
        self.tcp.shared.timeout
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.tcp.shared.policy
    }

    /// The part that speaks TLS. Root certificates are read from the system once, when they are first needed: it takes several milliseconds.
    pub(super) async fn tls(&self) -> Result<HttpsConnector<Tcp>, NoRoots> {
        if let Some(tls) = self.tls.get() {
            return Ok(tls.clone());
        }
        let (shared, identity) = (self.tcp.shared.clone(), self.identity.clone());
        let loaded = tokio::task::spawn_blocking(move || {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
            // It is the system's, with roots of the installation's own: nothing is left unverified.
            let config = config.dangerous().with_custom_certificate_verifier(shared.verifier(provider)?);
            let mut config = match identity {
                None => config.with_no_client_auth(),
                Some(identity) => config.with_client_cert_resolver(identity.resolver()),
            };
            let best = shared.http2.then(|| b"h2".to_vec());
            config.alpn_protocols = best.into_iter().chain([b"http/1.1".to_vec()]).collect();
            Ok(config)
        });
        let loaded = loaded.await.unwrap_or_else(|error| Err(rustls::Error::General(error.to_string())));
        let config = loaded.map_err(NoRoots)?;
        Ok(self.tls.get_or_init(|| HttpsConnector::from((self.tcp.clone(), config))).clone())
    }

    async fn connect(self, uri: Uri) -> Result<MaybeHttpsStream<TokioIo<Stream>>, ConnectError> {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(MaybeHttpsStream::Http(self.tcp.connect(uri).await?));
        }
        let connected = self.tls().await?.call(uri).await;
        connected.map_err(|error| error.downcast::<ConnectError>().map_or_else(ConnectError::Tls, |error| *error))
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<Stream>>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let timeout = connector.tcp.shared.timeout;
            tokio::time::timeout(timeout, connector.connect(uri)).await.unwrap_or(Err(ConnectError::Timeout))
        })
    }
}

/// Opens checked TCP connections.
#[derive(Clone)]
pub(super) struct Tcp {
    shared: Arc<Shared>,
}

struct Shared {
    policy: Policy,
    resolver: Box<dyn Resolve>,
    timeout: Duration,
    ca_file: Option<PathBuf>,
    http2: bool,
    /// Read once for all clients.
    verifier: OnceLock<Arc<Verifier>>,
}

impl Shared {
    fn verifier(&self, provider: Arc<rustls::crypto::CryptoProvider>) -> Result<Arc<Verifier>, rustls::Error> {
        if let Some(verifier) = self.verifier.get() {
            return Ok(verifier.clone());
        }
        let roots = self.ca_file.as_deref().map_or_else(|| Ok(Vec::new()), roots)?;
        let verifier = Arc::new(Verifier::new_with_extra_roots(roots, provider)?);
        Ok(self.verifier.get_or_init(|| verifier).clone())
    }
}

fn roots(file: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
    let unreadable = |error: rustls::pki_types::pem::Error| rustls::Error::General(format!("egress.ca_file: {error}"));
    let roots = CertificateDer::pem_file_iter(file).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if roots.is_empty() { Err(rustls::Error::General("egress.ca_file holds no certificate".to_owned())) } else { Ok(roots) }
}

impl Tcp {
    async fn connect(self, uri: Uri) -> Result<TokioIo<Stream>, ConnectError> {
        let Shared { policy, resolver, timeout, .. } = &*self.shared;
        let host = uri.host().ok_or(ConnectError::NoAddress)?;
        let default_port = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let ends = Instant::now() + *timeout;

        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let (name, addresses) = match literal {
            Ok(address) => (None, vec![address]),
            Err(_) => (Some(host), resolver.resolve(host).await.map_err(ConnectError::Dns)?),
        };
        // One bad address among good ones is no accident, or a name that is about to be moved.
        for address in &addresses {
            policy.check(name, *address)?;
        }

        let mut last = ConnectError::NoAddress;
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            // Each address gets its share of the time, so that a dead one leaves some for the next.
            let share = ends.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            match tokio::time::timeout(share, TcpStream::connect(SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
                    return Ok(TokioIo::new(Stream { stream, reused: Reused::default() }));
                }
                Ok(Err(error)) => last = ConnectError::Tcp(error),
                Err(_) => last = ConnectError::Timeout,
            }
        }
        Err(last)
    }
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Whether a connection has answered a request before.
#[derive(Clone, Debug, Default)]
pub(super) struct Reused(Arc<AtomicBool>);

impl Reused {
    pub(super) fn mark(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_marked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A TCP connection that knows whether it was used before.
pub(super) struct Stream {
    stream: TcpStream,
    reused: Reused,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.reused.clone())
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
