//! Real handshakes between two `rustls` connections in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use hearth_wire::Digest;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Error as TlsError, ServerConfig,
    ServerConnection,
};

use super::*;

#[derive(Debug)]
struct At(UnixSeconds);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(
            self.0.0,
        )))
    }
}

/// How a handshake ended for each side: the server then knows the peer's certificate.
struct Shaken {
    client: Result<(), TlsError>,
    server: Result<Option<rustls::pki_types::CertificateDer<'static>>, TlsError>,
}

struct Setup<'a> {
    realm: &'a Realm,
    server: TlsIdentity,
    client: Option<TlsIdentity>,
    verifier: Arc<dyn ServerCertVerifier>,
    name: &'static str,
    now: UnixSeconds,
}

impl<'a> Setup<'a> {
    fn new(realm: &'a Realm, client: Option<TlsIdentity>) -> Self {
        Self {
            realm,
            server: realm.dir.coordinator_tls(NOW).unwrap(),
            client,
            verifier: realm.authority.ca().server_verifier(),
            name: COORDINATOR_NAME,
            now: NOW,
        }
    }

    fn shake(self) -> Shaken {
        let provider = Arc::new(default_provider());
        let time = Arc::new(At(self.now));
        let server = ServerConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_client_cert_verifier(self.realm.authority.ca().client_verifier())
            .with_single_cert(self.server.chain, self.server.key)
            .unwrap();
        let client = ClientConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(self.verifier);
        let client = match self.client {
            Some(identity) => client
                .with_client_auth_cert(identity.chain, identity.key)
                .unwrap(),
            None => client.with_no_client_auth(),
        };
        let name = ServerName::try_from(self.name).unwrap();
        run(
            ClientConnection::new(Arc::new(client), name).unwrap(),
            ServerConnection::new(Arc::new(server)).unwrap(),
        )
    }
}

fn run(mut client: ClientConnection, mut server: ServerConnection) -> Shaken {
    let (mut client_end, mut server_end) = (Ok(()), Ok(()));
    // A full handshake is over in three flights; more rounds would be a loop.
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server.read_tls(&mut &wire[..]).unwrap();
        server_end = server_end.and_then(|()| server.process_new_packets().map(drop));
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client_end = client_end.and_then(|()| client.process_new_packets().map(drop));
    }
    if client_end.is_ok() && server_end.is_ok() {
        client.writer().write_all(b"hello").unwrap();
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut text = [0; 5];
        server.reader().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    }
    Shaken {
        client: client_end,
        server: server_end.map(|()| {
            let chain = server.peer_certificates();
            chain.and_then(|chain| chain.first().cloned())
        }),
    }
}

fn certificate_error(result: Result<impl Sized, TlsError>) -> CertificateError {
    match result.err() {
        Some(TlsError::InvalidCertificate(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_and_its_coordinator_shake_hands() {
    let realm = Realm::new();
    let node = realm.join(Role::Node, "node");
    let shaken = Setup::new(&realm, Some(node.tls())).shake();
    shaken.client.unwrap();
    let certificate = shaken.server.unwrap().unwrap();
    let peer = realm.authority.ca().verify_peer(&certificate, NOW).unwrap();
    assert_eq!((peer.role(), peer.node()), (Role::Node, node.node_id()));
}

#[test]
fn the_owner_s_commands_and_browsers_reach_the_coordinator_by_its_host() {
    let realm = Realm::new();
    for name in ["hearth.example", "127.0.0.1"] {
        let mut setup = Setup::new(&realm, Some(realm.dir.admin_tls(NOW).unwrap()));
        setup.name = name;
        let shaken = setup.shake();
        shaken.client.unwrap();
        let certificate = shaken.server.unwrap().unwrap();
        let peer = realm.authority.ca().verify_peer(&certificate, NOW).unwrap();
        assert_eq!(peer.role(), Role::Admin);
    }
    let mut setup = Setup::new(&realm, Some(realm.dir.admin_tls(NOW).unwrap()));
    setup.name = "elsewhere.example";
    assert!(matches!(
        certificate_error(setup.shake().client),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
    ));
}

#[test]
fn nobody_enters_without_a_certificate() {
    let realm = Realm::new();
    let shaken = Setup::new(&realm, None).shake();
    assert_eq!(
        shaken.server.unwrap_err(),
        TlsError::NoCertificatesPresented
    );
}

#[test]
fn another_realm_s_certificates_are_refused_on_both_sides() {
    let (realm, other) = (Realm::new(), Realm::new());
    let foreign = other.join(Role::Node, "foreign");
    let shaken = Setup::new(&realm, Some(foreign.tls())).shake();
    assert_eq!(
        certificate_error(shaken.server),
        CertificateError::UnknownIssuer
    );
    assert!(matches!(
        realm
            .authority
            .ca()
            .verify_peer(&foreign.tls().chain[0], NOW),
        Err(PeerError::ForeignCa)
    ));
    let mut setup = Setup::new(&realm, Some(realm.join(Role::Node, "node").tls()));
    setup.verifier = other.authority.ca().server_verifier();
    assert_eq!(
        certificate_error(setup.shake().client),
        CertificateError::UnknownIssuer
    );
}

#[test]
fn expired_certificates_are_refused_on_both_sides() {
    let realm = Realm::new();
    let node = realm.join(Role::Node, "node");
    let mut setup = Setup::new(&realm, Some(node.tls()));
    setup.now = later(NODE_SECONDS + 1);
    assert!(matches!(
        certificate_error(setup.shake().server),
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ));
    let ca = realm.authority.ca();
    let certificate = &node.tls().chain[0];
    assert!(matches!(
        ca.verify_peer(certificate, later(NODE_SECONDS + 1)),
        Err(PeerError::Expired { not_after, .. }) if not_after == later(NODE_SECONDS)
    ));
    assert!(matches!(
        ca.verify_peer(certificate, UnixSeconds(NOW.0 - DAY)),
        Err(PeerError::NotYetValid { .. })
    ));
    assert!(
        ca.verify_peer(certificate, UnixSeconds(NOW.0 - HOUR / 2))
            .is_ok()
    );

    let mut setup = Setup::new(&realm, Some(node.tls()));
    setup.now = later(COORDINATOR_SECONDS + 1);
    assert!(matches!(
        certificate_error(setup.shake().client),
        CertificateError::Expired | CertificateError::ExpiredContext { .. }
    ));
}

#[test]
fn a_client_cannot_serve_and_a_server_is_no_client() {
    let realm = Realm::new();
    let node = realm.join(Role::Node, "node");
    // A node that plays the coordinator to another.
    let mut setup = Setup::new(&realm, Some(node.tls()));
    setup.server = node.tls();
    let error = certificate_error(setup.shake().client);
    assert!(
        matches!(
            error,
            CertificateError::InvalidPurpose
                | CertificateError::InvalidPurposeContext { .. }
                | CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. }
        ),
        "{error:?}"
    );
    let coordinator = realm.dir.coordinator_tls(NOW).unwrap();
    assert!(matches!(
        realm.authority.ca().verify_peer(&coordinator.chain[0], NOW),
        Err(PeerError::WrongPurpose { .. })
    ));
    let shaken = Setup::new(&realm, Some(coordinator)).shake();
    assert!(matches!(
        certificate_error(shaken.server),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
    ));
}

/// A certificate that says all the right things, signed by its own key.
#[test]
fn self_signed_certificates_are_refused_on_both_sides() {
    let realm = Realm::new();
    let (mut fake, key) = Authority::create(realm.dir.realm(), "Testers", NOW).unwrap();
    let forge = |authority: &mut Authority, server: bool| {
        let certificate = if server {
            authority.issue_coordinator(key.public(), "Testers", &[], &[], NOW)
        } else {
            authority.issue_client(key.public(), "node", Role::Node, NOW)
        };
        TlsIdentity {
            chain: vec![
                certificate.unwrap(),
                realm.authority.ca().certificate().clone(),
            ],
            key: key.tls_key(),
        }
    };
    let node = forge(&mut fake, false);
    assert!(matches!(
        realm.authority.ca().verify_peer(&node.chain[0], NOW),
        Err(PeerError::ForeignCa)
    ));
    let shaken = Setup::new(&realm, Some(node)).shake();
    assert!(matches!(
        certificate_error(shaken.server),
        CertificateError::UnknownIssuer | CertificateError::BadSignature
    ));
    let genuine = realm.join(Role::Node, "node");
    let pinned = pinned_server_verifier(realm.authority.ca().digest());
    for verifier in [realm.authority.ca().server_verifier(), pinned] {
        let mut setup = Setup::new(&realm, Some(genuine.tls()));
        setup.server = forge(&mut fake, true);
        setup.verifier = verifier;
        assert!(matches!(
            certificate_error(setup.shake().client),
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ));
    }
}

#[test]
fn a_joiner_trusts_the_ca_that_its_invitation_names_and_no_other() {
    let realm = Realm::new();
    let client = || Some(realm.join(Role::Node, "node").tls());
    let invitation = realm.invitation(Role::Node);
    let mut setup = Setup::new(&realm, client());
    setup.verifier = pinned_server_verifier(invitation.ca);
    setup.shake().client.unwrap();

    std::fs::remove_dir_all(realm.root.path().join("node")).unwrap();
    let mut setup = Setup::new(&realm, client());
    setup.verifier = pinned_server_verifier(Digest::default());
    assert_eq!(
        certificate_error(setup.shake().client),
        CertificateError::UnknownIssuer
    );
    std::fs::remove_dir_all(realm.root.path().join("node")).unwrap();
    let mut setup = Setup::new(&realm, client());
    setup.verifier = pinned_server_verifier(invitation.ca);
    setup.server.chain.truncate(1);
    assert_eq!(
        certificate_error(setup.shake().client),
        CertificateError::UnknownIssuer
    );
}

/// Somebody who saw a certificate has not its key.
#[test]
fn a_stolen_certificate_is_nothing_without_its_key() {
    let realm = Realm::new();
    let node = realm.join(Role::Node, "node");
    let thief: PrivateKeyDer<'static> = NodeKey::generate().unwrap().tls_key();
    let mismatched = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(node.tls().chain, thief);
    assert!(mismatched.is_err());
}
