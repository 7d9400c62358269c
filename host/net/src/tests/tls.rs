//! H18 and H19: old protocols, replays, certificates of every wrong kind.

use std::sync::Arc;

use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error as TlsFault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::support::*;
use crate::listen::{ListenLimits, Listener};
use crate::tls::{Alpn, ClientStream, ClientTls, ConnectError, Identity, TlsError, connect};

const LIMIT: std::time::Duration = millis(5_000);

/// Greets every connection with its protocol's name.
fn greet(mut listener: Listener) -> std::net::SocketAddr {
    let address = listener.local_addr();
    tokio::spawn(async move {
        while let Some(mut accepted) = listener.accept().await {
            tokio::spawn(async move {
                let _ = accepted
                    .stream
                    .write_all(accepted.alpn.name().as_bytes())
                    .await;
                let _ = accepted.stream.shutdown().await;
            });
        }
    });
    address
}

/// What the server says after the handshake: in TLS 1.3 a client hears only then that it is refused.
async fn greeting(stream: Result<ClientStream, ConnectError>) -> Result<String, TlsFault> {
    let mut stream = stream.map_err(|error| match error {
        ConnectError::Tls { error, .. } => error,
        other => panic!("{other}"),
    })?;
    let mut text = String::new();
    match stream.read_to_string(&mut text).await {
        Ok(_) => Ok(text),
        Err(error) => Err(crate::tls::cause(&error)
            .unwrap_or_else(|| panic!("{error}"))
            .clone()),
    }
}

async fn call(
    address: std::net::SocketAddr,
    tls: &ClientTls,
    alpn: Alpn,
) -> Result<String, TlsFault> {
    soon(greeting(
        connect(&endpoint(address), tls, alpn, LIMIT).await,
    ))
    .await
}

#[tokio::test]
async fn every_protocol_but_enrolment_demands_a_certificate() {
    let ca = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let (named, nameless) = (ca.honest(), ca.client_tls(None));
    assert_eq!(call(address, &named, Alpn::Node).await.unwrap(), "hearth/1");
    assert_eq!(call(address, &named, Alpn::Http).await.unwrap(), "http/1.1");
    assert_eq!(
        call(address, &nameless, Alpn::Enrol).await.unwrap(),
        "hearth-enrol/1"
    );
    for alpn in [Alpn::Node, Alpn::Http] {
        assert_eq!(
            call(address, &nameless, alpn).await,
            Err(TlsFault::AlertReceived(
                AlertDescription::CertificateRequired
            ))
        );
    }
}

/// Offering enrolment beside another protocol opens no way around the certificate.
#[tokio::test]
async fn h18_a_mixed_offer_gets_the_strict_configuration() {
    let ca = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let mut config = config_without_certificate(&ca, &[&rustls::version::TLS13]);
    config.alpn_protocols = vec![b"hearth-enrol/1".to_vec(), b"hearth/1".to_vec()];
    let error = raw_handshake(address, config).await.unwrap_err();
    assert_eq!(
        error,
        TlsFault::AlertReceived(AlertDescription::CertificateRequired)
    );
}

fn config_without_certificate(
    ca: &Ca,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(ring())
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(ca.server_verifier())
        .with_no_client_auth()
}

async fn raw_handshake(
    address: std::net::SocketAddr,
    config: ClientConfig,
) -> Result<ClientStream, TlsFault> {
    let tcp = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(NAME).unwrap();
    let fault = |error: std::io::Error| crate::tls::cause(&error).unwrap().clone();
    let mut stream = soon(connector.connect(name, tcp)).await.map_err(fault)?;
    stream.read_to_end(&mut Vec::new()).await.map_err(fault)?;
    Ok(stream)
}

#[tokio::test]
async fn h18_tls_1_2_is_refused() {
    let ca = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let mut config = config_without_certificate(&ca, &[&rustls::version::TLS12]);
    config.alpn_protocols = vec![b"hearth-enrol/1".to_vec()];
    assert_eq!(
        raw_handshake(address, config).await.unwrap_err(),
        TlsFault::AlertReceived(AlertDescription::ProtocolVersion)
    );
}

/// Nothing that could be resumed or replayed is ever given out.
#[tokio::test]
async fn h18_no_tickets_and_no_early_data() {
    let ca = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let mut config = config_without_certificate(&ca, &[&rustls::version::TLS13]);
    config.alpn_protocols = vec![b"hearth-enrol/1".to_vec()];
    config.enable_early_data = true;
    for _ in 0..2 {
        let stream = raw_handshake(address, config.clone()).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.tls13_tickets_received(), 0);
        assert!(!session.is_early_data_accepted());
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn h18_a_protocol_that_is_not_ours_is_refused() {
    let ca = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let mut config = config_without_certificate(&ca, &[&rustls::version::TLS13]);
    config.alpn_protocols = vec![b"h2".to_vec()];
    assert_eq!(
        raw_handshake(address, config).await.unwrap_err(),
        TlsFault::AlertReceived(AlertDescription::NoApplicationProtocol)
    );
}

#[tokio::test]
async fn h19_wrong_client_certificates_are_refused_and_right_ones_go_on() {
    let ca = Ca::new();
    let stranger = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let expired = ca.issue("node", client.clone(), |params| {
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let not_yet = ca.issue("node", client.clone(), |params| {
        params.not_before = date_time_ymd(2999, 1, 1);
    });
    let wrong_usage = ca.issue("node", ExtendedKeyUsagePurpose::ServerAuth, |_| {});
    let unknown = stranger.client();
    let own_key = KeyPair::generate().unwrap();
    let self_signed = (
        vec![
            rcgen::CertificateParams::new(vec!["node".to_owned()])
                .unwrap()
                .self_signed(&own_key)
                .unwrap()
                .der()
                .clone(),
        ],
        key_der(&own_key),
    );
    let cases = [
        (expired, AlertDescription::CertificateExpired),
        (not_yet, AlertDescription::CertificateExpired),
        (wrong_usage, AlertDescription::UnsupportedCertificate),
        (unknown, AlertDescription::UnknownCA),
        (self_signed, AlertDescription::UnknownCA),
    ];
    for (index, (chain, alert)) in cases.into_iter().enumerate() {
        let refusal = call(address, &ca.client_tls(Some(chain)), Alpn::Node).await;
        assert_eq!(refusal, Err(TlsFault::AlertReceived(alert)), "case {index}");
        assert_eq!(
            call(address, &ca.honest(), Alpn::Node).await.as_deref(),
            Ok("hearth/1")
        );
    }
}

/// A chain that is long, or whose names are, costs no more than a refusal.
#[tokio::test]
async fn h19_a_chain_of_fifty_and_a_name_of_sixteen_kilobytes_are_refused() {
    let ca = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let mut authorities = vec![ca.below("authority 0")];
    for index in 1..50 {
        let next = authorities[index - 1].below(&format!("authority {index}"));
        authorities.push(next);
    }
    let (mut chain, key) = authorities[49].client();
    chain.extend(authorities.iter().rev().map(|ca| ca.certificate.clone()));
    let refusal = call(address, &ca.client_tls(Some((chain, key))), Alpn::Node).await;
    assert!(
        matches!(refusal, Err(TlsFault::AlertReceived(_))),
        "{refusal:?}"
    );

    let (mut chain, key) = ca.issue("node", ExtendedKeyUsagePurpose::ClientAuth, |params| {
        params
            .distinguished_name
            .push(DnType::OrganizationName, "x".repeat(16 << 10));
    });
    // Four of them exceed what a handshake may hold.
    chain = vec![chain[0].clone(); 5];
    let refusal = connect(
        &endpoint(address),
        &ca.client_tls(Some((chain, key))),
        Alpn::Node,
        LIMIT,
    )
    .await;
    if let Ok(mut stream) = refusal {
        let mut text = String::new();
        assert!(stream.read_to_string(&mut text).await.is_err() || text.is_empty());
    }
    assert_eq!(
        call(address, &ca.honest(), Alpn::Node).await.as_deref(),
        Ok("hearth/1")
    );
}

#[tokio::test]
async fn h19_a_client_refuses_a_server_of_another_name_or_authority() {
    let ca = Ca::new();
    let (listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = greet(listener);
    let mut elsewhere = endpoint(address);
    elsewhere.server_name = ServerName::try_from("somebody.else").unwrap();
    let refusal = connect(&elsewhere, &ca.honest(), Alpn::Node, LIMIT).await;
    assert!(matches!(
        refusal,
        Err(ConnectError::Tls {
            error: TlsFault::InvalidCertificate(CertificateError::NotValidForNameContext { .. }),
            ..
        })
    ));
    let stranger = Ca::new().honest();
    let refusal = connect(&endpoint(address), &stranger, Alpn::Node, LIMIT).await;
    assert!(matches!(
        refusal,
        Err(ConnectError::Tls {
            error: TlsFault::InvalidCertificate(CertificateError::UnknownIssuer),
            ..
        })
    ));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_live_connections_stay() {
    let ca = Ca::new();
    let identity = identity(ca.server());
    let (_trigger, shutdown) = crate::shutdown::shutdown();
    let tls = crate::tls::ServerTls::new(&identity, ca.client_verifier()).unwrap();
    let mut listener = Listener::bind(loopback(), tls, ListenLimits::default(), shutdown).unwrap();
    let address = listener.local_addr();
    let client = ca.honest();
    let shown = |stream: &ClientStream| {
        stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    let before = identity.certificate();
    let mut old = connect(&endpoint(address), &client, Alpn::Node, LIMIT)
        .await
        .unwrap();
    let mut old_server = listener.accept().await.unwrap();
    assert_eq!(shown(&old), before);

    let (chain, key) = ca.server();
    identity.replace(chain.clone(), key).unwrap();
    let new = connect(&endpoint(address), &client, Alpn::Node, LIMIT)
        .await
        .unwrap();
    assert_eq!(shown(&new), chain[0]);
    assert_ne!(shown(&new), before);
    old_server.stream.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    old.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"still here");
}

#[test]
fn an_identity_that_cannot_work_is_refused_and_leaves_the_old_one() {
    let ca = Ca::new();
    let (chain, _) = ca.server();
    let (_, other_key) = ca.server();
    assert!(matches!(
        Identity::new(chain.clone(), other_key.clone_key()),
        Err(TlsError::Unusable(_))
    ));
    assert!(matches!(
        Identity::new(Vec::new(), other_key.clone_key()),
        Err(TlsError::NoCertificate)
    ));
    let working = identity(ca.server());
    let shown = working.certificate();
    assert!(working.replace(chain, other_key).is_err());
    assert_eq!(working.certificate(), shown);
}

#[tokio::test]
async fn nobody_there_and_nobody_talking_are_told_apart() {
    let ca = Ca::new();
    let closed = {
        let socket = std::net::TcpListener::bind(loopback()).unwrap();
        socket.local_addr().unwrap()
    };
    let error = connect(&endpoint(closed), &ca.honest(), Alpn::Node, LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }));
    let silent = std::net::TcpListener::bind(loopback()).unwrap();
    let address = silent.local_addr().unwrap();
    let error = connect(&endpoint(address), &ca.honest(), Alpn::Node, millis(200))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }));
    let mut nowhere = endpoint(address);
    nowhere.addresses.clear();
    let error = connect(&nowhere, &ca.honest(), Alpn::Node, LIMIT)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Unresolved(_)));
}
