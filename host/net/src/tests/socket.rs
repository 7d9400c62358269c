//! H3, H6–H13, H21, H22, H28, H34: what a WebSocket peer can do wrong, and what honest ones get.

use hearth_wire::codec::{self, DecodeError};
use hearth_wire::limits::{FRAME_BYTES_MAX, WIRE_VERSION};
use hearth_wire::message::{CoordinatorMessage, Load, NodeMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::Instant;

use super::support::*;
use crate::listen::ListenLimits;
use crate::socket::{
    CloseReason, PATH, Receiver, SUBPROTOCOL, SendError, Sender, Socket, SocketError, SocketLimits,
};
use crate::tls::{Alpn, connect};

type Server = Socket<NodeMessage, CoordinatorMessage>;
type Client = Socket<CoordinatorMessage, NodeMessage>;
type Ends = (Sender<CoordinatorMessage>, Receiver<NodeMessage>);

fn limits() -> SocketLimits {
    SocketLimits {
        write: millis(300),
        ..SocketLimits::default()
    }
}

fn upgrade() -> String {
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    )
}

/// A server and a peer that has been upgraded and may now send any bytes.
async fn hostile_with(limits: SocketLimits) -> (Ends, UnixStream) {
    let (server, mut peer) = UnixStream::pair().unwrap();
    let accept = tokio::spawn(Server::accept(server, PATH, None, limits));
    peer.write_all(upgrade().as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(peer.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"));
    (soon(accept).await.unwrap().unwrap(), peer)
}

/// How the server ends when a peer sends `bytes`.
async fn ends_with(limits: SocketLimits, bytes: Vec<u8>) -> SocketError {
    let ((_sender, mut receiver), peer) = hostile_with(limits).await;
    let (mut read, mut write) = peer.into_split();
    // The answers must be read, or the peer would itself be the one who does not read.
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut tokio::io::sink()).await });
    let writing = tokio::spawn(async move {
        // It may be cut off in the middle, that is the point.
        let _ = write.write_all(&bytes).await;
        write
    });
    let error = loop {
        match soon(receiver.recv()).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(
        receiver.recv().await.unwrap_err(),
        error,
        "an end is for ever"
    );
    drop(receiver);
    let _ = soon(writing).await;
    error
}

/// A masked frame, as clients send it.
fn frame(opcode: u8, last: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(opcode, last, payload.len() as u64);
    let mask = [1, 2, 3, 4];
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

fn header(opcode: u8, last: bool, length: u64) -> Vec<u8> {
    let mut bytes = vec![if last { 0x80 } else { 0 } | opcode];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// A header with its mask, and nothing behind it.
fn announcement(length: u64) -> Vec<u8> {
    let mut bytes = header(BINARY, true, length);
    bytes.extend([0; 4]);
    bytes
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

fn batch() -> Vec<NodeMessage> {
    vec![
        NodeMessage::Heartbeat(Load::default()),
        NodeMessage::Goodbye,
    ]
}

#[tokio::test]
async fn h03_a_slow_upgrade_is_cut() {
    let (server, mut peer) = UnixStream::pair().unwrap();
    let deadline = Some(Instant::now() + millis(200));
    let accept = tokio::spawn(Server::accept(server, PATH, deadline, limits()));
    for byte in upgrade().bytes() {
        if peer.write_all(&[byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(millis(5)).await;
    }
    assert!(matches!(
        soon(accept).await.unwrap(),
        Err(SocketError::Establish)
    ));
}

#[tokio::test]
async fn h05_silence_after_the_upgrade_is_cut() {
    let (server, client) = UnixStream::pair().unwrap();
    let deadline = Some(Instant::now() + millis(200));
    let accept = tokio::spawn(Server::accept(server, PATH, deadline, limits()));
    let _client = Client::connect(client, "here", PATH, limits())
        .await
        .unwrap();
    let (_sender, mut receiver) = accept.await.unwrap().unwrap();
    assert_eq!(soon(receiver.recv()).await, Err(SocketError::Establish));
}

#[tokio::test]
async fn h06_an_announced_length_of_2_to_the_63_is_refused_unread() {
    for length in [1 << 63, u64::MAX, 1 << 32] {
        assert_eq!(
            ends_with(limits(), announcement(length)).await,
            SocketError::TooLarge {
                bytes: length,
                max: FRAME_BYTES_MAX
            }
        );
    }
}

#[tokio::test]
async fn h07_one_byte_more_than_a_frame_is_refused_in_one_piece_and_in_two() {
    let body = vec![0; FRAME_BYTES_MAX + 1];
    assert_eq!(
        ends_with(limits(), frame(BINARY, true, &body)).await,
        SocketError::TooLarge {
            bytes: FRAME_BYTES_MAX as u64 + 1,
            max: FRAME_BYTES_MAX
        }
    );
    let mut halves = frame(BINARY, false, &body[..FRAME_BYTES_MAX]);
    halves.extend(frame(CONTINUATION, true, &[0]));
    assert!(matches!(
        ends_with(limits(), halves).await,
        SocketError::TooLarge { .. }
    ));
}

#[tokio::test]
async fn h08_a_hundred_thousand_fragments_are_refused() {
    let mut bytes = frame(BINARY, false, &[WIRE_VERSION]);
    for _ in 0..100_000 {
        bytes.extend(frame(CONTINUATION, false, &[0]));
    }
    assert_eq!(
        ends_with(limits(), bytes).await,
        SocketError::TooManyFragments { max: 64 }
    );
    let empty = frame(CONTINUATION, false, &[]);
    let mut bytes = frame(BINARY, false, &[]);
    bytes.extend(empty.repeat(100_000));
    assert_eq!(
        ends_with(limits(), bytes).await,
        SocketError::TooManyFragments { max: 64 }
    );
}

#[tokio::test]
async fn h09_a_batch_that_never_ends_is_cut() {
    let limits = SocketLimits {
        batch: millis(200),
        silence: Some(millis(1_000)),
        ..limits()
    };
    let ((_sender, mut receiver), mut peer) = hostile_with(limits.clone()).await;
    let drip = tokio::spawn(async move {
        let mut bytes = header(BINARY, true, 1_000);
        bytes.extend([0; 4]);
        let _ = peer.write_all(&bytes).await;
        while peer.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(millis(10)).await;
        }
    });
    assert_eq!(
        soon(receiver.recv()).await,
        Err(SocketError::SlowBatch {
            limit: limits.batch
        })
    );
    drop((receiver, _sender));
    soon(drip).await.unwrap();
}

#[tokio::test]
async fn h10_a_ping_flood_is_refused_and_pings_within_a_batch_are_answered() {
    let mut bytes = frame(PING, true, b"x").repeat(100_000);
    bytes.extend(frame(BINARY, true, &codec::encode(&batch())));
    assert_eq!(ends_with(limits(), bytes).await, SocketError::ControlFlood);

    let ((_sender, mut receiver), mut peer) = hostile_with(limits()).await;
    let body = codec::encode(&batch());
    let mut bytes = frame(BINARY, false, &body[..2]);
    bytes.extend(frame(PING, true, b"are you there"));
    bytes.extend(frame(CONTINUATION, true, &body[2..]));
    peer.write_all(&bytes).await.unwrap();
    assert_eq!(soon(receiver.recv()).await, Ok(batch()));
    let waiting = tokio::spawn(async move { receiver.recv().await });
    let mut pong = [0; 15];
    soon(peer.read_exact(&mut pong)).await.unwrap();
    assert_eq!(&pong[..2], &[0x8a, 13]);
    assert_eq!(&pong[2..], b"are you there");
    waiting.abort();
}

#[tokio::test]
async fn h11_unmasked_frames_of_a_client_are_refused() {
    let bytes = vec![0x82, 3, WIRE_VERSION, 1, 7];
    assert!(matches!(
        ends_with(limits(), bytes).await,
        SocketError::Protocol(text) if text.contains("unmasked")
    ));
}

#[tokio::test]
async fn h12_frames_against_the_protocol_are_refused() {
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("reserved bit", {
            let mut bytes = frame(BINARY, true, &[1]);
            bytes[0] |= 0x40;
            bytes
        }),
        ("reserved data opcode", frame(3, true, &[1])),
        ("reserved control opcode", frame(11, true, &[1])),
        ("fragmented ping", frame(PING, false, &[1])),
        ("large ping", frame(PING, true, &[1; 126])),
        ("close of one byte", frame(CLOSE, true, &[3])),
        (
            "close with bad UTF-8",
            frame(CLOSE, true, &[3, 0xe8, 0xff, 0xfe]),
        ),
        ("continuation of nothing", frame(CONTINUATION, true, &[1])),
        ("a batch within a batch", {
            let mut bytes = frame(BINARY, false, &[1]);
            bytes.extend(frame(BINARY, true, &[1]));
            bytes
        }),
    ];
    for (name, bytes) in cases {
        let error = ends_with(limits(), bytes).await;
        assert!(
            matches!(error, SocketError::Protocol(_)),
            "{name}: {error:?}"
        );
        assert!(error.is_violation());
    }
    assert_eq!(
        ends_with(limits(), frame(TEXT, true, b"hello")).await,
        SocketError::Text
    );
    // A code that may not be sent is answered with 1002.
    assert_eq!(
        ends_with(limits(), frame(CLOSE, true, &[3, 0xed])).await,
        SocketError::Closed {
            code: 1002,
            reason: "Protocol violation".to_owned()
        }
    );
}

#[tokio::test]
async fn h13_a_peer_that_never_reads_is_cut_and_costs_a_bounded_queue() {
    let ((sender, mut receiver), _peer) = hostile_with(limits()).await;
    let message = CoordinatorMessage::Cancel(vec![Default::default(); 1_000]);
    let (mut queued, mut full) = (0, false);
    let start = Instant::now();
    let error = loop {
        match sender.try_send(&message) {
            Ok(()) => queued += 1,
            Err(SendError::Full) => {
                full = true;
                tokio::time::sleep(millis(5)).await;
            }
            Err(SendError::Closed(error)) => break error,
            Err(other) => panic!("{other}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(error, SocketError::Slow { limit: millis(300) });
    assert!(full && start.elapsed() < millis(5_000));
    // The outbox, two frames in tungstenite, the system's buffers.
    assert!(queued * 1_000 < 8 << 20, "{queued} messages were taken");
    assert_eq!(receiver.recv().await, Err(error));
}

#[tokio::test]
async fn a_waiting_sender_hears_that_the_peer_does_not_read() {
    let ((sender, _receiver), _peer) = hostile_with(limits()).await;
    let message = CoordinatorMessage::Cancel(vec![Default::default(); 1_000]);
    let error = soon(async {
        loop {
            if let Err(error) = sender.send(&message).await {
                break error;
            }
        }
    })
    .await;
    assert_eq!(
        error,
        SendError::Closed(SocketError::Slow { limit: millis(300) })
    );
}

#[tokio::test]
async fn h21_a_reset_at_every_byte_of_a_frame_is_a_lost_connection() {
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let bytes = frame(BINARY, true, &codec::encode(&batch()));
    for (cut, reset) in (0..bytes.len()).flat_map(|cut| [(cut, false), (cut, true)]) {
        let mut peer = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        peer.write_all(upgrade().as_bytes()).await.unwrap();
        let (_sender, mut receiver) = Server::accept(server, PATH, None, limits()).await.unwrap();
        peer.write_all(&bytes[..cut]).await.unwrap();
        if reset {
            let linger = Some(std::time::Duration::ZERO);
            socket2::SockRef::from(&peer).set_linger(linger).unwrap();
        }
        drop(peer);
        let error = soon(receiver.recv()).await.unwrap_err();
        assert!(
            matches!(error, SocketError::Lost(_)),
            "{cut} {reset}: {error:?}"
        );
        assert!(!error.is_violation());
    }
}

#[tokio::test]
async fn h22_a_peer_that_vanished_is_silent_and_a_slow_batch_is_not() {
    let limits = SocketLimits {
        silence: Some(millis(200)),
        ..limits()
    };
    let ((_sender, mut receiver), mut peer) = hostile_with(limits).await;
    let bytes = frame(BINARY, true, &codec::encode(&batch()));
    let slow = tokio::spawn(async move {
        for byte in bytes {
            peer.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(millis(50)).await;
        }
        peer
    });
    assert_eq!(soon(receiver.recv()).await, Ok(batch()));
    let _peer = slow.await.unwrap();
    assert_eq!(
        soon(receiver.recv()).await,
        Err(SocketError::Silent { limit: millis(200) })
    );
}

#[tokio::test]
async fn h28_batches_that_are_not_exactly_one_are_refused() {
    let body = codec::encode(&batch());
    let with = |change: fn(&mut Vec<u8>)| {
        let mut body = body.clone();
        change(&mut body);
        body
    };
    let trailing = with(|body| body.push(0));
    let cut = with(|body| body.truncate(body.len() - 1));
    let version = with(|body| body[0] = WIRE_VERSION + 1);
    let variant = with(|body| body[2] = 99);
    let error = ends_with(limits(), frame(BINARY, true, &trailing)).await;
    assert_eq!(error, SocketError::Decode(DecodeError::Trailing(1)));
    let error = ends_with(limits(), frame(BINARY, true, &version)).await;
    assert_eq!(
        error,
        SocketError::Decode(DecodeError::Version(WIRE_VERSION + 1))
    );
    for body in [cut, variant, vec![WIRE_VERSION], vec![WIRE_VERSION, 0x80]] {
        let error = ends_with(limits(), frame(BINARY, true, &body)).await;
        assert!(
            matches!(error, SocketError::Decode(DecodeError::Malformed(_))),
            "{error:?}"
        );
    }
    let error = ends_with(limits(), frame(BINARY, true, &[])).await;
    assert_eq!(error, SocketError::Decode(DecodeError::Empty));
    let error = ends_with(limits(), frame(BINARY, true, &[WIRE_VERSION, 0])).await;
    assert_eq!(error, SocketError::EmptyBatch);
}

/// A small frame can hold many small messages; their count is looked at before they are made.
#[tokio::test]
async fn h25_too_many_messages_are_refused_before_they_are_parsed() {
    let many = vec![NodeMessage::Goodbye; 100_000];
    let error = ends_with(limits(), frame(BINARY, true, &codec::encode(&many))).await;
    assert_eq!(
        error,
        SocketError::TooManyMessages {
            count: 100_000,
            max: 1_024
        }
    );
    let lie = [WIRE_VERSION, 0xff, 0xff, 0xff, 0xff, 0x0f];
    assert!(matches!(
        ends_with(limits(), frame(BINARY, true, &lie)).await,
        SocketError::TooManyMessages { .. }
    ));
}

#[tokio::test]
async fn h34_each_flipped_bit_of_a_batch_is_a_batch_or_a_typed_error() {
    let body = codec::encode(&batch());
    for bit in 0..body.len() * 8 {
        let mut flipped = body.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut bytes = frame(BINARY, true, &flipped);
        bytes.extend(frame(CLOSE, true, &[3, 0xe8]));
        let error = ends_with(limits(), bytes).await;
        assert!(
            matches!(
                error,
                SocketError::Decode(_)
                    | SocketError::TooManyMessages { .. }
                    | SocketError::EmptyBatch
                    | SocketError::Closed { code: 1000, .. }
            ),
            "bit {bit}: {error:?}"
        );
    }
}

#[tokio::test]
async fn another_path_or_subprotocol_is_refused() {
    let (server, client) = UnixStream::pair().unwrap();
    let accept = tokio::spawn(Server::accept(server, PATH, None, limits()));
    let refusal = Client::connect(client, "here", "/elsewhere", limits()).await;
    assert!(matches!(refusal, Err(SocketError::Refused { status: 404 })));
    assert!(matches!(
        accept.await.unwrap(),
        Err(SocketError::Protocol(_))
    ));

    let (server, mut peer) = UnixStream::pair().unwrap();
    let accept = tokio::spawn(Server::accept(server, PATH, None, limits()));
    let browser = upgrade().replace(&format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"), "");
    peer.write_all(browser.as_bytes()).await.unwrap();
    assert!(matches!(
        accept.await.unwrap(),
        Err(SocketError::Protocol(_))
    ));
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let (server, mut peer) = UnixStream::pair().unwrap();
    let accept = tokio::spawn(Server::accept(server, PATH, None, limits()));
    tokio::spawn(async move {
        let _ = peer.write_all(b"GET /v1/connect HTTP/1.1\r\n").await;
        while peer.write_all(&[b'x'; 4_096]).await.is_ok() {}
    });
    let error = soon(accept).await.unwrap().unwrap_err();
    assert!(matches!(error, SocketError::TooLarge { .. }), "{error:?}");
}

async fn pair(limits: SocketLimits) -> (Ends, (Sender<NodeMessage>, Receiver<CoordinatorMessage>)) {
    let (server, client) = UnixStream::pair().unwrap();
    let (server, client) = tokio::join!(
        Server::accept(server, PATH, None, limits.clone()),
        Client::connect(client, "here", PATH, limits),
    );
    (server.unwrap(), client.unwrap())
}

#[tokio::test]
async fn messages_arrive_in_order_and_in_batches() {
    let ((sender, _keep), (_other, mut receiver)) = pair(limits()).await;
    const COUNT: u64 = 100_000;
    let sending = tokio::spawn(async move {
        for number in 0..COUNT {
            let attempt = hearth_wire::AttemptId(number);
            let message = CoordinatorMessage::Settled(vec![attempt]);
            sender.send(&message).await.unwrap();
        }
        sender
    });
    let (mut next, mut batches) = (0, 0);
    let start = Instant::now();
    while next < COUNT {
        for message in soon(receiver.recv()).await.unwrap() {
            let expected = hearth_wire::AttemptId(next);
            assert_eq!(message, CoordinatorMessage::Settled(vec![expected]));
            next += 1;
        }
        batches += 1;
    }
    sending.await.unwrap();
    assert!(
        batches < COUNT / 10,
        "{batches} batches for {COUNT} messages"
    );
    assert!(start.elapsed() < millis(5_000), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let (server, client) = UnixStream::pair().unwrap();
    let serving = tokio::spawn(async move {
        let (sender, receiver) = Server::accept(server, PATH, None, limits()).await.unwrap();
        sender.try_send(&CoordinatorMessage::Drain).unwrap();
        (sender, receiver)
    });
    let (_sender, mut receiver) = Client::connect(client, "here", PATH, limits())
        .await
        .unwrap();
    assert_eq!(
        soon(receiver.recv()).await,
        Ok(vec![CoordinatorMessage::Drain])
    );
    serving.await.unwrap();
}

#[tokio::test]
async fn closing_delivers_what_was_queued_and_the_reason() {
    let ((sender, mut server), (_client_sender, mut client)) = pair(limits()).await;
    sender.try_send(&CoordinatorMessage::Drain).unwrap();
    sender.close(CloseReason::ShuttingDown, "updating");
    let closed = SocketError::Closed {
        code: 1001,
        reason: "updating".to_owned(),
    };
    let reading = tokio::spawn(async move { server.recv().await });
    assert_eq!(
        soon(client.recv()).await,
        Ok(vec![CoordinatorMessage::Drain])
    );
    assert_eq!(soon(client.recv()).await, Err(closed.clone()));
    assert_eq!(soon(reading).await.unwrap(), Err(closed.clone()));
    assert_eq!(
        sender.try_send(&CoordinatorMessage::Drain),
        Err(SendError::Closed(closed))
    );
}

#[tokio::test]
async fn a_violation_is_told_to_the_peer() {
    let ((_sender, mut receiver), mut peer) = hostile_with(limits()).await;
    peer.write_all(&frame(TEXT, true, b"hello")).await.unwrap();
    assert_eq!(soon(receiver.recv()).await, Err(SocketError::Text));
    let mut answer = [0; 4];
    soon(peer.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[0], 0x88);
    assert_eq!(u16::from_be_bytes([answer[2], answer[3]]), 1002);
}

#[tokio::test]
async fn dropping_the_receiver_closes_for_the_peer_and_for_senders() {
    let ((sender, server), (_client_sender, mut client)) = pair(limits()).await;
    drop(server);
    assert!(matches!(
        soon(client.recv()).await,
        Err(SocketError::Closed { code: 1000, .. })
    ));
    assert!(matches!(
        soon(sender.ended()).await,
        SocketError::Closed { .. }
    ));
}

/// One honest pair goes on while every kind of hostile peer comes and goes on other sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn honest_traffic_goes_on_beside_hostile_peers() {
    let ((sender, _keep), (_other, mut receiver)) = pair(limits()).await;
    let attacks = tokio::spawn(async {
        let mut ended = 0;
        for _ in 0..20 {
            let floods = [
                frame(PING, true, b"x").repeat(1_000),
                frame(CONTINUATION, false, &[0]).repeat(1_000),
                announcement(1 << 63),
                frame(BINARY, true, &vec![0xff; FRAME_BYTES_MAX]),
                frame(TEXT, true, b"x"),
            ];
            for flood in floods {
                assert!(ends_with(limits(), flood).await.is_violation());
                ended += 1;
            }
        }
        ended
    });
    let mut exchanged = 0;
    while !attacks.is_finished() {
        let start = Instant::now();
        sender.send(&CoordinatorMessage::Drain).await.unwrap();
        soon(receiver.recv()).await.unwrap();
        assert!(start.elapsed() < millis(1_000));
        exchanged += 1;
    }
    assert_eq!(attacks.await.unwrap(), 100);
    assert!(exchanged > 100, "{exchanged} exchanges");
}

#[tokio::test]
async fn the_same_works_over_tls_with_a_certificate() {
    let ca = Ca::new();
    let (mut listener, _trigger) = listen(&ca, ListenLimits::default());
    let address = listener.local_addr();
    let serving = tokio::spawn(async move {
        let accepted = listener.accept().await.unwrap();
        assert_eq!(accepted.alpn, Alpn::Node);
        let deadline = Some(accepted.deadline);
        let (sender, mut receiver) = Server::accept(accepted.stream, PATH, deadline, limits())
            .await
            .unwrap();
        assert_eq!(receiver.recv().await, Ok(batch()));
        sender.send(&CoordinatorMessage::Drain).await.unwrap();
        receiver.recv().await
    });
    let stream = connect(&endpoint(address), &ca.honest(), Alpn::Node, millis(5_000))
        .await
        .unwrap();
    let (sender, mut receiver) = Client::connect(stream, NAME, PATH, limits()).await.unwrap();
    for message in batch() {
        sender.try_send(&message).unwrap();
    }
    assert_eq!(
        soon(receiver.recv()).await,
        Ok(vec![CoordinatorMessage::Drain])
    );
    drop(receiver);
    assert!(matches!(
        soon(serving).await.unwrap(),
        Err(SocketError::Closed { code: 1000, .. })
    ));
}

/// A certificate that the server does not take is heard of as such, not as a lost connection.
#[tokio::test]
async fn a_refused_certificate_is_told() {
    let ca = Ca::new();
    let (_listener, _trigger) = listen(&ca, ListenLimits::default());
    let stream = connect(
        &endpoint(_listener.local_addr()),
        &ca.client_tls(None),
        Alpn::Node,
        millis(5_000),
    )
    .await
    .unwrap();
    let error = soon(Client::connect(stream, NAME, PATH, limits()))
        .await
        .unwrap_err();
    assert_eq!(
        error,
        SocketError::Tls(rustls::Error::AlertReceived(
            rustls::AlertDescription::CertificateRequired
        ))
    );
}
