//! H2, H5: floods of connections that say nothing, or say it slowly.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;
use crate::listen::{ListenLimits, Listener, PrefixLimits};
use crate::shutdown::shutdown;
use crate::tls::{Alpn, connect};

fn limits() -> ListenLimits {
    ListenLimits {
        connections: 64,
        pending: 32,
        handshake: millis(400),
        establish: millis(800),
        prefix: PrefixLimits {
            burst: 1_000,
            per_second: 1_000,
            pending: 16,
            prefixes: 64,
        },
        ..ListenLimits::default()
    }
}

/// Resident memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn honest_handshake(ca: &Ca, listener: &mut Listener) {
    let address = listener.local_addr();
    let tls = ca.honest();
    let (client, server) =
        soon(async { tokio::join!(connect_to(address, &tls), listener.accept()) }).await;
    client.unwrap();
    assert!(server.unwrap().peer_cert_der.is_some());
}

async fn connect_to(
    address: std::net::SocketAddr,
    tls: &crate::tls::ClientTls,
) -> Result<crate::tls::ClientStream, crate::tls::ConnectError> {
    connect(&endpoint(address), tls, Alpn::Node, millis(5_000)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h02_a_slow_greeting_is_cut_and_honest_peers_come_in_meanwhile() {
    let ca = Ca::new();
    let (mut listener, _trigger) = listen(&ca, limits());
    let address = listener.local_addr();
    let mut attackers = Vec::new();
    for index in 0..16u8 {
        let mut tcp = tcp_from([127, 0, 9, index + 1], address).await.unwrap();
        attackers.push(tokio::spawn(async move {
            let start = Instant::now();
            let greeting = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
            for byte in greeting.into_iter().cycle() {
                if tcp.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(millis(40)).await;
            }
            start.elapsed()
        }));
    }
    tokio::time::sleep(millis(100)).await;
    // And the place that is taken before the next `accept`.
    assert_eq!(listener.watch().stats().pending, 17);
    honest_handshake(&ca, &mut listener).await;
    for attacker in attackers {
        assert!(soon(attacker).await.unwrap() < millis(2_000));
    }
    honest_handshake(&ca, &mut listener).await;
    assert!(listener.watch().stats().timed_out >= 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h05_ten_thousand_silent_connections_cost_no_memory() {
    let ca = Ca::new();
    let (mut listener, _trigger) = listen(&ca, limits());
    let address = listener.local_addr();
    honest_handshake(&ca, &mut listener).await;
    let before = resident_kib();
    let flood = tokio::spawn(async move {
        // From one prefix, a few hundred at a time: whatever is let in says nothing.
        for _ in 0..25 {
            let mut silent = Vec::new();
            for index in 0..400u16 {
                let source = [127, 0, 9, (index % 250) as u8 + 1];
                if let Ok(Ok(tcp)) =
                    tokio::time::timeout(millis(20), tcp_from(source, address)).await
                {
                    silent.push(tcp);
                }
            }
        }
    });
    let mut most = 0;
    let mut honest = 0;
    while !flood.is_finished() {
        let stats = listener.watch().stats();
        most = most.max(stats.pending);
        assert!(stats.pending <= 32 && stats.connections <= 64);
        honest_handshake(&ca, &mut listener).await;
        honest += 1;
    }
    soon(flood).await.unwrap();
    let stats = listener.watch().stats();
    assert!(stats.refused_prefix > 5_000, "{stats:?}");
    assert!(honest > 10, "{honest} honest connections");
    assert!(
        most >= 16,
        "the flood was let in as far as its prefix may be"
    );
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 24 << 10, "{grown} KiB more than before");
}

#[tokio::test]
async fn places_are_bounded_and_come_back_when_streams_are_dropped() {
    let ca = Ca::new();
    let (mut listener, _trigger) = listen(
        &ca,
        ListenLimits {
            connections: 2,
            ..limits()
        },
    );
    let address = listener.local_addr();
    let tls = ca.honest();
    let first = (
        connect_to(address, &tls).await.unwrap(),
        listener.accept().await.unwrap(),
    );
    let _second = (
        connect_to(address, &tls).await.unwrap(),
        listener.accept().await.unwrap(),
    );
    assert_eq!(listener.watch().stats().connections, 2);
    let third = tokio::spawn(async move { connect_to(address, &tls).await });
    tokio::time::sleep(millis(200)).await;
    assert!(!third.is_finished(), "the third waits in the kernel");
    drop(first);
    soon(listener.accept()).await.unwrap();
    soon(third).await.unwrap().unwrap();
}

#[tokio::test]
async fn garbage_is_counted_and_closed() {
    let ca = Ca::new();
    let (mut listener, _trigger) = listen(&ca, limits());
    let mut tcp = tcp_from([127, 0, 9, 1], listener.local_addr())
        .await
        .unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // An alert, then the end.
    let _ = soon(tcp.read_to_end(&mut answer)).await;
    assert!(answer.len() < 64);
    honest_handshake(&ca, &mut listener).await;
    assert_eq!(listener.watch().stats().failed_handshake, 1);
}

#[tokio::test]
async fn shutdown_stops_accepting_and_leaves_streams_alive() {
    let ca = Ca::new();
    let (mut listener, trigger) = listen(&ca, limits());
    let address = listener.local_addr();
    let tls = ca.honest();
    let mut client = connect_to(address, &tls).await.unwrap();
    let mut server = listener.accept().await.unwrap();
    trigger.request(millis(1_000));
    assert!(soon(listener.accept()).await.is_none());
    assert!(connect_to(address, &tls).await.is_err());
    server.stream.write_all(b"bye").await.unwrap();
    let mut heard = [0; 3];
    client.read_exact(&mut heard).await.unwrap();
}

#[tokio::test]
async fn without_tls_only_loopback_is_served() {
    let (_trigger, shutdown) = shutdown();
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let error = Listener::bind_plain(everywhere, limits(), shutdown.clone()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    let mut listener = Listener::bind_plain(loopback(), limits(), shutdown).unwrap();
    let _client = tcp_from([127, 0, 0, 1], listener.local_addr())
        .await
        .unwrap();
    let accepted = soon(listener.accept()).await.unwrap();
    assert_eq!(accepted.alpn, Alpn::Http);
    assert!(accepted.peer_cert_der.is_none());
}
