//! TLS 1.3 with certificates on both sides, and nothing older or looser.
//!
//! There are no session tickets, no resumption and no early data: a resumed session would outlive a
//! revocation, and early data can be replayed. A full handshake costs about a millisecond of a core
//! per connection, and connections live long.

mod connect;
mod identity;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, ServerConfig};

pub(crate) use connect::tune;
pub use connect::{ClientStream, ConnectError, Endpoint, connect};
pub use identity::Identity;

/// Why a configuration cannot be built. The operator's files are to blame.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// No certificate in the chain.
    #[error("the certificate chain is empty: enrol again, or restore the certificate file")]
    NoCertificate,
    /// The certificate and the key do not belong together, or one of them is malformed.
    #[error("certificate and key cannot be used together: {0}; enrol again, or restore both files")]
    Unusable(rustls::Error),
}

/// What a connection is for, agreed in its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// A node's WebSocket. Needs a client certificate.
    Node,
    /// The API and blobs. Needs a client certificate.
    Http,
    /// Enrolment and renewal, for which there is no valid certificate yet.
    Enrol,
}

impl Alpn {
    /// The name in the handshake.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Node => "hearth/1",
            Self::Http => "http/1.1",
            Self::Enrol => "hearth-enrol/1",
        }
    }

    /// The protocol with this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Node, Self::Http, Self::Enrol]
            .into_iter()
            .find(|alpn| alpn.name().as_bytes() == name)
    }

    /// Whether the peer must have shown a certificate.
    #[must_use]
    pub fn needs_certificate(self) -> bool {
        self != Self::Enrol
    }

    fn list(protocols: &[Self]) -> Vec<Vec<u8>> {
        protocols
            .iter()
            .map(|alpn| alpn.name().as_bytes().to_vec())
            .collect()
    }
}

/// How a server proves itself and whom it lets in.
///
/// Two configurations stand behind it. Which one serves a connection is decided by the protocols that
/// the client offers, before any of its certificates is read: a client that offers anything but
/// enrolment meets a handshake that ends without its certificate, so no later check can be forgotten.
#[derive(Debug, Clone)]
pub struct ServerTls {
    authenticated: Arc<ServerConfig>,
    enrolment: Arc<ServerConfig>,
}

impl ServerTls {
    /// A server with this identity, whose clients are judged by `verifier`.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if the provider lacks what TLS 1.3 needs.
    pub fn new(
        identity: &Identity,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, TlsError> {
        let mut authenticated = server_builder()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(identity.resolver());
        let mut enrolment = server_builder()?
            .with_no_client_auth()
            .with_cert_resolver(identity.resolver());
        authenticated.alpn_protocols = Alpn::list(&[Alpn::Node, Alpn::Http]);
        enrolment.alpn_protocols = Alpn::list(&[Alpn::Enrol]);
        for config in [&mut authenticated, &mut enrolment] {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config.max_early_data_size = 0;
        }
        Ok(Self {
            authenticated: Arc::new(authenticated),
            enrolment: Arc::new(enrolment),
        })
    }

    /// The configuration for a client that offers `protocols`.
    pub(crate) fn choose<'a>(
        &self,
        protocols: impl Iterator<Item = &'a [u8]>,
    ) -> Arc<ServerConfig> {
        let mut only_enrolment = false;
        for protocol in protocols {
            match Alpn::from_name(protocol) {
                Some(alpn) if alpn.needs_certificate() => return self.authenticated.clone(),
                Some(_) => only_enrolment = true,
                None => {}
            }
        }
        if only_enrolment {
            self.enrolment.clone()
        } else {
            self.authenticated.clone()
        }
    }
}

/// How a client proves itself and which servers it believes.
#[derive(Debug, Clone)]
pub struct ClientTls {
    node: Arc<ClientConfig>,
    http: Arc<ClientConfig>,
    enrol: Arc<ClientConfig>,
}

impl ClientTls {
    /// A client that believes what `verifier` believes and shows `identity`, if it has one.
    ///
    /// # Errors
    ///
    /// [`TlsError::Unusable`] if the provider lacks what TLS 1.3 needs.
    pub fn new(
        verifier: Arc<dyn ServerCertVerifier>,
        identity: Option<&Identity>,
    ) -> Result<Self, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Unusable)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        let with = |alpn| {
            let mut config = config.clone();
            config.alpn_protocols = Alpn::list(&[alpn]);
            Arc::new(config)
        };
        Ok(Self {
            node: with(Alpn::Node),
            http: with(Alpn::Http),
            enrol: with(Alpn::Enrol),
        })
    }

    pub(crate) fn config(&self, alpn: Alpn) -> Arc<ClientConfig> {
        match alpn {
            Alpn::Node => self.node.clone(),
            Alpn::Http => self.http.clone(),
            Alpn::Enrol => self.enrol.clone(),
        }
    }
}

fn server_builder() -> Result<rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>, TlsError>
{
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Unusable)
}

/// ring, with the suites of TLS 1.3 alone.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider
        .cipher_suites
        .retain(|suite| suite.tls13().is_some());
    Arc::new(provider)
}

/// What TLS had to say about an I/O error.
pub(crate) fn cause(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
