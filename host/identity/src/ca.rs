//! The realm's certificate authority as everyone sees it: what both ends of a connection trust.

use std::fmt;
use std::sync::Arc;

use hearth_wire::{Digest, RealmId, UnixSeconds};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use crate::peer::{self, Peer, PeerError};
use crate::{Verified, pem};

/// A DNS name in every coordinator's certificate. Clients always connect with it as the server's
/// name, whatever address they dial: the realm's CA decides who a coordinator is, not the host.
pub const COORDINATOR_NAME: &str = "hearth-coordinator";

/// A certificate with its chain, the CA's last, and its key: what one end of a connection shows.
#[derive(Debug)]
pub struct TlsIdentity {
    /// The own certificate, then the CA's (which a joiner looks for).
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first.
    pub key: PrivateKeyDer<'static>,
}

/// The CA certificate of a realm, without its key.
///
/// Verifiers are made once and shared. They know nothing of revocation: that is looked up in the
/// realm's list right after the handshake, where the answer can be a readable refusal.
#[derive(Clone)]
pub struct RealmCa {
    certificate: CertificateDer<'static>,
    realm: RealmId,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

impl RealmCa {
    /// The CA in a PEM document.
    ///
    /// # Errors
    ///
    /// [`PeerError::Malformed`] if the document is not a certificate that Hearth made for a CA.
    pub fn from_pem(text: &str) -> Result<Self, PeerError> {
        let der = pem::decode(text, pem::CERTIFICATE)
            .ok_or_else(|| PeerError::Malformed("not one certificate in PEM".to_owned()))?;
        Self::from_der(der.into())
    }

    /// The CA in DER.
    ///
    /// # Errors
    ///
    /// As [`RealmCa::from_pem`].
    pub fn from_der(certificate: CertificateDer<'static>) -> Result<Self, PeerError> {
        let realm = peer::ca_realm(&certificate)?;
        let malformed = |error: &dyn fmt::Display| PeerError::Malformed(error.to_string());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate.clone())
            .map_err(|error| malformed(&error))?;
        let (roots, provider) = (Arc::new(roots), provider());
        Ok(Self {
            clients: WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(|error| malformed(&error))?,
            servers: WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| malformed(&error))?,
            certificate,
            realm,
        })
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.certificate)
    }

    /// The certificate in DER.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The realm that the certificate names. Only a policy that names the CA's digest proves it.
    pub const fn realm(&self) -> RealmId {
        self.realm
    }

    /// The digest by which policies and invitations name the CA.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.certificate)
    }

    /// For servers: demands a client certificate of this CA.
    pub fn client_verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.clients.clone()
    }

    /// For clients: demands a coordinator's certificate of this CA. To be used with
    /// [`COORDINATOR_NAME`] as the server's name.
    pub fn server_verifier(&self) -> Arc<dyn ServerCertVerifier> {
        self.servers.clone()
    }

    /// Who holds `certificate`, if this CA gave it to a client and it is valid now.
    ///
    /// # Errors
    ///
    /// [`PeerError`], saying what is wrong with the certificate.
    pub fn verify_peer(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixSeconds,
    ) -> Result<Verified<Peer>, PeerError> {
        let peer = peer::parse(certificate, self.realm)?;
        self.clients
            .verify_client_cert(certificate, &[], unix_time(now))
            .map_err(|error| peer::refusal(&error, &peer, now))?;
        Ok(Verified::new(peer))
    }

    /// As [`RealmCa::verify_peer`], but a certificate that has ended is looked at as of its last
    /// second: for renewals.
    pub(crate) fn verify_ended_peer(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixSeconds,
    ) -> Result<Verified<Peer>, PeerError> {
        let not_after = peer::parse(certificate, self.realm)?.not_after();
        self.verify_peer(certificate, now.min(not_after))
    }
}

impl fmt::Debug for RealmCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealmCa")
            .field("realm", &self.realm)
            .field("digest", &self.digest())
            .finish()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unix_time(now: UnixSeconds) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.0))
}

/// For a joiner, who knows of the CA only its digest (from the invitation): trusts the certificate
/// with that digest in the chain that the server shows, and nothing without it.
pub fn pinned_server_verifier(ca: Digest) -> Arc<dyn ServerCertVerifier> {
    Arc::new(Pinned {
        ca,
        provider: provider(),
    })
}

#[derive(Debug)]
struct Pinned {
    ca: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let ca = intermediates
            .iter()
            .find(|certificate| Digest::of(certificate) == self.ca)
            .ok_or(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer,
            ))?;
        let bad = |_| TlsError::InvalidCertificate(CertificateError::BadEncoding);
        let ca = RealmCa::from_der(ca.clone().into_owned()).map_err(bad)?;
        ca.servers
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
