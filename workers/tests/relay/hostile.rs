//! Subscribers that mean no good, or know no better: connections, certificates and names that are not what they should be. The certificates are real, of an
//! authority that the installation trusts by its configuration.

use std::path::PathBuf;

use domain::subscription::CertifiedKey;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

pub(super) const HOST: &str = "hooks.example.com";
pub(super) const THANKS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An authority, and the files that make an installation trust it and find the host.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let authority = Self { issuer: Issuer::new(params, key), certificate, folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.file("ca.pem"), authority.certificate.pem()).unwrap();
        authority.leads_to("127.0.0.1");
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// From now on the host has these addresses.
    fn leads_to(&self, addresses: &str) {
        let lines: String = addresses.split(' ').map(|address| format!("{address} {HOST}\n")).collect();
        std::fs::write(self.file("hosts"), lines).unwrap();
    }

    pub(super) fn egress(&self) -> egress::Settings {
        let allow = vec!["127.0.0.1".parse().unwrap()];
        let (ca_file, hosts_file) = (Some(self.file("ca.pem")), Some(self.file("hosts")));
        egress::Settings { allow, timeout_ms: 5_000, ca_file, hosts_file, idle_max_per_host: 0, ..egress::Settings::default() }
    }

    /// A certificate for this name, as `change` changes it.
    pub(super) fn signs(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertifiedKey {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        CertifiedKey { certificate: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// A server's side of TLS. With `asks` a client has to show a certificate of this authority.
    pub(super) fn serves(&self, shown: &CertifiedKey, asks: bool, protocols: &[&str]) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let chain = rustls::pki_types::CertificateDer::pem_slice_iter(shown.certificate.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let config = if asks {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.certificate.der().clone()).unwrap();
            config.with_client_cert_verifier(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap())
        } else {
            config.with_no_client_auth()
        };
        let mut config = config.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What reached a server within a connection: how long the request was, and the certificate that its client has shown.
pub(super) type Came = Arc<Mutex<Vec<(usize, Option<Vec<u8>>)>>>;

/// Serves each connection with these bytes, in TLS where there is some, and closes it.
pub(super) async fn answering(tls: Option<TlsAcceptor>, answer: &'static [u8]) -> (u16, Came) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, came) = (listener.local_addr().unwrap().port(), Came::default());
    let told = came.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match &tls {
                None => {
                    let read = exchange(stream, answer).await;
                    told.lock().unwrap().push((read, None));
                }
                Some(tls) => {
                    let Ok(stream) = tls.accept(stream).await else { continue };
                    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| Some(chain.first()?.to_vec()));
                    let read = exchange(stream, answer).await;
                    told.lock().unwrap().push((read, shown));
                }
            }
        }
    });
    (port, came)
}

/// Reads one request, whose body ends with two braces, and answers.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) -> usize {
    let mut request = Vec::new();
    while !request.ends_with(b"}}") {
        match stream.read_buf(&mut request).await {
            Ok(read) if read > 0 => {}
            _ => return request.len(),
        }
    }
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
    request.len()
}

impl Installation {
    pub(super) async fn leads_to(&self, url: String) {
        self.change(|subscription, _| subscription.url = url).await;
    }

    /// Its troubles are forgotten.
    pub(super) async fn wish_afresh(&self) {
        let (mut subscription, _) = self.store.subscription(self.subscription).await.unwrap().unwrap();
        subscription.version += 1;
        self.store.begin_afresh(&subscription, None).await.unwrap();
    }

    /// What becomes of one try.
    pub(super) async fn tries(&self, key: &str) -> Attempted {
        let payout = self.open(key).await;
        assert_eq!(self.crank().await, 1);
        self.results(&payout).await.remove(0)
    }
}

pub(super) fn acknowledged() -> Attempted {
    Attempted::Acknowledged { status: 200 }
}

/// Whoever hangs up before the end of an answer has acknowledged nothing, and neither has one who speaks something else.
#[tokio::test]
async fn an_answer_that_breaks_off_is_none() {
    let at = installation().await;
    for (number, (answer, why)) in [
        (&b""[..], "closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", "closed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", "closed"),
        // The settings that a server of HTTP/2 begins with.
        (b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64", "not_http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not_http"),
    ]
    .into_iter()
    .enumerate()
    {
        let (port, came) = answering(None, answer).await;
        at.leads_to(format!("http://127.0.0.1:{port}/")).await;
        at.wish_afresh().await;
        assert_eq!(at.tries(&number.to_string()).await, unreachable(why), "{:?}", String::from_utf8_lossy(answer));
        assert!(came.lock().unwrap()[0].0 > 0, "it was asked");
    }
}

/// Only a certificate that is valid, for this name, of an authority that is trusted; and before that not a byte of a request is sent.
#[tokio::test]
async fn a_bad_certificate_is_told_nothing() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let at = installation_of(RelaySettings::default(), &authority.egress()).await;
    let expired = |params: &mut CertificateParams| (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let early = |params: &mut CertificateParams| (params.not_before, params.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
    for (name, certificate, expected) in [
        ("good", authority.signs(HOST, |_| ()), acknowledged()),
        ("unknown authority", stranger.signs(HOST, |_| ()), unreachable("tls")),
        ("expired", authority.signs(HOST, expired), unreachable("tls")),
        ("not yet", authority.signs(HOST, early), unreachable("tls")),
        ("other name", authority.signs("elsewhere.example.com", |_| ()), unreachable("tls")),
    ] {
        let (port, came) = answering(Some(authority.serves(&certificate, false, &[])), THANKS).await;
        at.leads_to(format!("https://{HOST}:{port}/")).await;
        at.wish_afresh().await;
        assert_eq!(at.tries(name).await, expected, "{name}");
        assert_eq!(came.lock().unwrap().len(), usize::from(name == "good"), "{name}");
    }
}

/// A name is looked up at each connection, all of its addresses must be allowed, and what led outside yesterday may lead inside today.
#[tokio::test]
async fn a_name_that_moves_inside_is_refused() {
    let authority = Authority::new();
    let at = installation_of(RelaySettings::default(), &authority.egress()).await;
    let (port, came) = answering(None, THANKS).await;
    at.leads_to(format!("http://{HOST}:{port}/")).await;
    for (number, (addresses, expected)) in [
        ("127.0.0.1", acknowledged()),
        ("169.254.169.254", unreachable("address_refused")),
        ("127.0.0.1 10.0.0.1", unreachable("address_refused")),
        ("::ffff:10.0.0.1", unreachable("address_refused")),
        ("127.0.0.1", acknowledged()),
    ]
    .into_iter()
    .enumerate()
    {
        authority.leads_to(addresses);
        at.wish_afresh().await;
        assert_eq!(at.tries(&number.to_string()).await, expected, "{addresses}");
    }
    assert_eq!(came.lock().unwrap().len(), 2);
}

/// A subscriber that asks for a certificate is shown that of its own subscription; one without any is turned away by it.
#[tokio::test]
async fn each_subscription_shows_its_own_certificate() {
    let authority = Authority::new();
    let at = installation_of(RelaySettings::default(), &authority.egress()).await;
    let server = authority.signs(HOST, |_| ());
    let (port, came) = answering(Some(authority.serves(&server, true, &[])), THANKS).await;
    at.leads_to(format!("https://{HOST}:{port}/")).await;
    let Attempted::Unreachable { .. } = at.tries("without").await else { panic!("nobody without a certificate gets in") };
    assert!(came.lock().unwrap().iter().all(|(read, _)| *read == 0));

    let der = |pem: &CertifiedKey| rustls::pki_types::CertificateDer::from_pem_slice(pem.certificate.as_bytes()).unwrap().to_vec();
    let clients = [authority.signs("first client", |_| ()), authority.signs("second client", |_| ())];
    for (number, client) in [0, 1, 0].into_iter().enumerate() {
        came.lock().unwrap().clear();
        let client = &clients[client];
        at.change(|_, secrets| secrets.as_mut().unwrap().client_certificate = Some(client.clone())).await;
        at.wish_afresh().await;
        assert_eq!(at.tries(&number.to_string()).await, acknowledged());
        assert_eq!(came.lock().unwrap().iter().map(|(_, shown)| shown.clone()).collect::<Vec<_>>(), [Some(der(client))]);
    }
    // Of somebody whom the subscriber does not trust.
    let stranger = Authority::new().signs("stranger", |_| ());
    at.change(|_, secrets| secrets.as_mut().unwrap().client_certificate = Some(stranger)).await;
    at.wish_afresh().await;
    let Attempted::Unreachable { .. } = at.tries("stranger").await else { panic!("a stranger does not get in") };
}

/// The waits of a subscription's own, and the age after which a try that fails is the last one.
#[tokio::test]
async fn a_subscription_has_its_own_schedule() {
    let at = installation().await;
    at.receiver.mood(Mood::Status(500));
    let tries = async |seconds: u64| {
        at.later(seconds).await;
        at.wish_afresh().await;
        at.crank().await
    };
    at.change(|subscription, _| subscription.retry_waits_s = vec![100, 200]).await;
    at.open("a").await;
    assert_eq!([tries(0).await, tries(95).await, tries(20).await, tries(195).await, tries(30).await, tries(100_000).await], [1, 0, 1, 0, 1, 0]);
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 1);

    at.change(|subscription, _| subscription.retry_max_age_s = Some(50)).await;
    at.open("b").await;
    assert_eq!([tries(0).await, tries(115).await, tries(100_000).await], [1, 1, 0], "the second one came when it was too old");
    assert_eq!(at.store.abandoned(10).await.unwrap().len(), 2);
}
