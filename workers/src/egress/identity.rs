//! Client certificates: what a subscriber that asks for one is shown, and the clients that show it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use domain::subscription::{CertifiedKey, ClientCertificate};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign;

use super::Client;

/// Certificates of a chain, at most.
const CHAIN_MAX: usize = 8;

/// A certificate with its chain and key, ready to be shown. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    certified: Arc<sign::SingleCertAndKey>,
    fingerprint: [u8; 32],
}

/// Why a certificate and a key are not taken. Never repeats them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error("must be 1 to {CHAIN_MAX} certificates in PEM, that of the client first")]
    Certificate,
    #[error("must be a private key in PEM, not encrypted")]
    Key,
    #[error("is not the key of the certificate")]
    Mismatch,
    #[error("has expired")]
    Expired,
}

impl Identity {
    /// Reads a certificate with its key, and tells what everybody may know of it.
    ///
    /// # Errors
    /// [`IdentityError`]: the first thing that is wrong. An expired one is read all the same, where `now` is `None`.
    pub fn read(pem: &CertifiedKey, now: Option<Timestamp>) -> Result<(Self, ClientCertificate), IdentityError> {
        let chain =
            CertificateDer::pem_slice_iter(pem.certificate.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(|_| IdentityError::Certificate)?;
        let Some(first) = chain.first().filter(|_| chain.len() <= CHAIN_MAX) else { return Err(IdentityError::Certificate) };
        let (_, read) = x509_parser::parse_x509_certificate(first).map_err(|_| IdentityError::Certificate)?;
        let expires_at = Timestamp::from_second(read.validity().not_after.timestamp()).map_err(|_| IdentityError::Certificate)?;
        let fingerprint: [u8; 32] =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, first).as_ref().try_into().map_err(|_| IdentityError::Certificate)?;
        let described = ClientCertificate { subject: read.subject().to_string(), fingerprint: const_hex::encode(fingerprint), expires_at };
        let key = PrivateKeyDer::from_pem_slice(pem.key.as_bytes()).map_err(|_| IdentityError::Key)?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let certified = sign::CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => IdentityError::Mismatch,
            _ => IdentityError::Key,
        })?;
        if now.is_some_and(|now| expires_at <= now) {
            return Err(IdentityError::Expired);
        }
        Ok((Self { certified: Arc::new(certified.into()), fingerprint }, described))
    }

    pub(super) fn resolver(&self) -> Arc<sign::SingleCertAndKey> {
        self.certified.clone()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(redacted)")
    }
}

/// The clients of the identities used lately, at most a fixed number. One that gives way is finished by those who hold it.
pub(super) struct Clients {
    /// Latest use last.
    known: Mutex<Vec<([u8; 32], Client)>>,
    most: usize,
}

impl Clients {
    pub(super) fn new(most: usize) -> Self {
        Self { known: Mutex::default(), most: most.max(1) }
    }

    /// The client of an identity: connections that show one certificate are never used for another.
    pub(super) fn of(&self, identity: &Identity, make: impl FnOnce() -> Client) -> Client {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let place = known.iter().position(|(fingerprint, _)| *fingerprint == identity.fingerprint);
        let client = place.map_or_else(make, |place| known.remove(place).1);
        if known.len() >= self.most {
            known.remove(0);
        }
        known.push((identity.fingerprint, client.clone()));
        client
    }
}
