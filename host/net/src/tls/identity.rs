//! A certificate that can be renewed while connections live.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

/// A certificate chain and its key. Clones share one: a renewal reaches them all.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Current>);

impl Identity {
    /// Certificates from leaf to root, and the leaf's key.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if the chain is empty, or the key is malformed or another's.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Current(RwLock::new(certified(chain, key)?)))))
    }

    /// Shows another certificate from the next handshake on. Connections that live keep theirs.
    ///
    /// # Errors
    ///
    /// Those of [`Identity::new`]; the present certificate then stays.
    pub fn replace(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let renewed = certified(chain, key)?;
        *self.0.0.write().unwrap_or_else(PoisonError::into_inner) = renewed;
        Ok(())
    }

    /// The leaf that is shown now.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        // A chain has a leaf: `certified` refuses an empty one.
        self.0.get().cert[0].clone()
    }

    pub(super) fn resolver(&self) -> Arc<Current> {
        self.0.clone()
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, TlsError> {
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    CertifiedKey::from_der(chain, key, &provider())
        .map(Arc::new)
        .map_err(TlsError::Unusable)
}

/// What rustls asks for the certificate of the moment.
pub(super) struct Current(RwLock<Arc<CertifiedKey>>);

impl Current {
    fn get(&self) -> Arc<CertifiedKey> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Current(..)")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
