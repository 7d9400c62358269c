//! A realm of throwaway certificates, and peers that speak raw bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpSocket, TcpStream};

use crate::listen::{ListenLimits, Listener};
use crate::shutdown::{ShutdownTrigger, shutdown};
use crate::tls::{ClientTls, Endpoint, Identity, ServerTls};

pub(super) const NAME: &str = "coordinator.hearth.internal";

pub(super) type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(super) fn ring() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate authority.
pub(super) struct Ca {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        // Two authorities of one name would be told apart by signatures only.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let params = Self::params(&format!("test authority {number}"));
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// An authority below this one.
    pub(super) fn below(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    pub(super) fn issue(
        &self,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Chain {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], key_der(&key))
    }

    pub(super) fn server(&self) -> Chain {
        self.issue(NAME, ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }

    pub(super) fn client(&self) -> Chain {
        self.issue("node-1", ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    pub(super) fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        WebPkiClientVerifier::builder_with_provider(self.roots(), ring())
            .build()
            .unwrap()
    }

    pub(super) fn server_verifier(&self) -> Arc<dyn ServerCertVerifier> {
        WebPkiServerVerifier::builder_with_provider(self.roots(), ring())
            .build()
            .unwrap()
    }

    pub(super) fn server_tls(&self) -> ServerTls {
        ServerTls::new(&identity(self.server()), self.client_verifier()).unwrap()
    }

    /// A client that believes this authority and shows `chain`.
    pub(super) fn client_tls(&self, chain: Option<Chain>) -> ClientTls {
        let identity = chain.map(identity);
        ClientTls::new(self.server_verifier(), identity.as_ref()).unwrap()
    }

    /// A client as it should be.
    pub(super) fn honest(&self) -> ClientTls {
        self.client_tls(Some(self.client()))
    }
}

pub(super) fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

pub(super) fn identity((chain, key): Chain) -> Identity {
    Identity::new(chain, key).unwrap()
}

pub(super) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        addresses: vec![address.to_string()],
        server_name: ServerName::try_from(NAME).unwrap(),
    }
}

pub(super) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(super) fn listen(ca: &Ca, limits: ListenLimits) -> (Listener, ShutdownTrigger) {
    let (trigger, shutdown) = shutdown();
    let listener = Listener::bind(loopback(), ca.server_tls(), limits, shutdown).unwrap();
    (listener, trigger)
}

/// A TCP connection from another network of this machine: all of 127.0.0.0/8 is loopback.
pub(super) async fn tcp_from(source: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((source, 0)))?;
    socket.connect(to).await
}

/// Fails the test instead of hanging it.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("nothing happened for 20 s")
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
