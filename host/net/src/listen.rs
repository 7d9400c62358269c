//! Taking connections in, with a permit before each.
//!
//! A connection passes three gates, each bounded, each cheaper than what it guards: a place among all
//! connections and among those still introducing themselves (taken before `accept`, so that a flood
//! waits in the kernel and not in our memory), a token of its network prefix, and, once its whole
//! greeting has come, one of the few places for the costly part of the handshake.

mod prefix;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hearth_wire::limits::{CONNECTIONS_MAX, ESTABLISH_MILLIS, HANDSHAKES_MAX};
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

use crate::shutdown::Shutdown;
use crate::tls::{Alpn, ServerTls, tune};

pub use prefix::PrefixLimits;
use prefix::{Pending, Prefixes};
pub use stream::ServerStream;

/// What a listener allows.
#[derive(Debug, Clone)]
pub struct ListenLimits {
    /// Connections at once, from `accept` until their stream is dropped.
    pub connections: usize,
    /// Connections whose handshake has not ended. Such a one costs a socket and a few KiB.
    pub pending: usize,
    /// Handshakes that compute at once: about a millisecond of a core each.
    pub handshakes: usize,
    /// From `accept` until the end of the TLS handshake.
    pub handshake: Duration,
    /// From `accept` until the first valid message; handed on as [`Accepted::deadline`].
    pub establish: Duration,
    /// What one network prefix may take of it.
    pub prefix: PrefixLimits,
}

impl Default for ListenLimits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            pending: 1_024,
            handshakes: HANDSHAKES_MAX,
            handshake: Duration::from_millis(ESTABLISH_MILLIS / 2),
            establish: Duration::from_millis(ESTABLISH_MILLIS),
            prefix: PrefixLimits::default(),
        }
    }
}

/// A connection whose handshake has ended.
#[derive(Debug)]
pub struct Accepted {
    /// Where it comes from.
    pub peer_addr: SocketAddr,
    /// The certificate that the peer proved to own; absent only under [`Alpn::Enrol`] and without TLS.
    pub peer_cert_der: Option<CertificateDer<'static>>,
    /// What it is for.
    pub alpn: Alpn,
    /// When its first valid message must have come.
    pub deadline: Instant,
    /// The connection. Its place among all connections is free again once this is dropped.
    pub stream: ServerStream,
}

/// What a listener has seen since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenStats {
    /// Connections whose handshake ended well.
    pub accepted: u64,
    /// Connections reset because their network prefix had no token or place.
    pub refused_prefix: u64,
    /// Handshakes that took too long.
    pub timed_out: u64,
    /// Handshakes that failed: no or wrong certificate, old version, not TLS at all.
    pub failed_handshake: u64,
    /// Times that `accept` itself failed, for want of file descriptors for example.
    pub accept_errors: u64,
    /// Connections now, pending ones included.
    pub connections: u64,
    /// Connections now whose handshake has not ended.
    pub pending: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    refused_prefix: AtomicU64,
    timed_out: AtomicU64,
    failed_handshake: AtomicU64,
    accept_errors: AtomicU64,
}

/// Accepts connections in the background and yields those whose handshake ended well.
#[derive(Debug)]
pub struct Listener {
    local_addr: SocketAddr,
    ready: mpsc::Receiver<Accepted>,
    gates: Arc<Gates>,
}

/// Reads the counts of a listener.
#[derive(Debug, Clone)]
pub struct ListenWatch(Arc<Gates>);

impl ListenWatch {
    /// Counts so far.
    #[must_use]
    pub fn stats(&self) -> ListenStats {
        let Counters {
            accepted,
            refused_prefix,
            timed_out,
            failed_handshake,
            accept_errors,
        } = &self.0.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let taken =
            |all: usize, free: &Semaphore| all.saturating_sub(free.available_permits()) as u64;
        ListenStats {
            accepted: read(accepted),
            refused_prefix: read(refused_prefix),
            timed_out: read(timed_out),
            failed_handshake: read(failed_handshake),
            accept_errors: read(accept_errors),
            connections: taken(self.0.limits.connections, &self.0.connections),
            pending: taken(self.0.limits.pending, &self.0.pending),
        }
    }
}

#[derive(Debug)]
struct Gates {
    /// Absent on the loopback listener without TLS.
    tls: Option<ServerTls>,
    limits: ListenLimits,
    connections: Arc<Semaphore>,
    pending: Arc<Semaphore>,
    handshakes: Semaphore,
    prefixes: Arc<Prefixes>,
    counters: Counters,
}

impl Listener {
    /// Listens on `address` with TLS, until `shutdown` is asked for.
    ///
    /// # Errors
    ///
    /// What the system says: the address is taken, or not ours.
    pub fn bind(
        address: SocketAddr,
        tls: ServerTls,
        limits: ListenLimits,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        Self::start(address, Some(tls), limits, shutdown)
    }

    /// Listens without TLS on a loopback `address`, for clients on this machine with a bearer token.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if the address is not a loopback one, and what the system says.
    pub fn bind_plain(
        address: SocketAddr,
        limits: ListenLimits,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        if !address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{address} is not a loopback address: without TLS only this machine is served"
                ),
            ));
        }
        Self::start(address, None, limits, shutdown)
    }

    fn start(
        address: SocketAddr,
        tls: Option<ServerTls>,
        limits: ListenLimits,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1_024)?;
        let local_addr = listener.local_addr()?;
        let (sender, ready) = mpsc::channel(16);
        let gates = Arc::new(Gates {
            tls,
            connections: Arc::new(Semaphore::new(limits.connections)),
            pending: Arc::new(Semaphore::new(limits.pending)),
            handshakes: Semaphore::new(limits.handshakes),
            prefixes: Prefixes::new(limits.prefix.clone()),
            counters: Counters::default(),
            limits,
        });
        tokio::spawn(gates.clone().run(listener, sender, shutdown));
        Ok(Self {
            local_addr,
            ready,
            gates,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The next connection; none once shutdown was asked for.
    pub async fn accept(&mut self) -> Option<Accepted> {
        self.ready.recv().await
    }

    /// Counts, to be read wherever the listener itself has gone.
    #[must_use]
    pub fn watch(&self) -> ListenWatch {
        ListenWatch(Arc::clone(&self.gates))
    }
}

/// How a handshake failed; only counted, for nobody trustworthy is listening.
enum Failure {
    TimedOut,
    Refused,
}

impl Gates {
    async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        ready: mpsc::Sender<Accepted>,
        mut shutdown: Shutdown,
    ) {
        loop {
            let next = tokio::select! {
                () = shutdown.requested() => return,
                () = ready.closed() => return,
                next = self.next(&listener) => next,
            };
            let Some((tcp, peer, place, pending)) = next else {
                continue;
            };
            let Some(share) = self.prefixes.admit(peer.ip(), Instant::now()) else {
                count(&self.counters.refused_prefix);
                reset(tcp);
                continue;
            };
            let (gates, ready) = (self.clone(), ready.clone());
            let mut shutdown = shutdown.clone();
            tokio::spawn(async move {
                let result = tokio::select! {
                    () = shutdown.requested() => return,
                    result = gates.establish(tcp, peer, place, share) => result,
                };
                match result {
                    Ok(accepted) => {
                        count(&gates.counters.accepted);
                        // The place among the pending is kept until somebody takes the connection:
                        // a consumer that lags slows `accept` down.
                        let _ = ready.send(accepted).await;
                    }
                    Err(Failure::TimedOut) => count(&gates.counters.timed_out),
                    Err(Failure::Refused) => count(&gates.counters.failed_handshake),
                }
                drop(pending);
            });
        }
    }

    /// One accepted socket with its permits, which were taken first.
    async fn next(
        &self,
        listener: &TcpListener,
    ) -> Option<(
        TcpStream,
        SocketAddr,
        OwnedSemaphorePermit,
        OwnedSemaphorePermit,
    )> {
        let place = self.connections.clone().acquire_owned().await.ok()?;
        let pending = self.pending.clone().acquire_owned().await.ok()?;
        match listener.accept().await {
            Ok((tcp, peer)) => Some((tcp, peer, place, pending)),
            Err(error) => {
                count(&self.counters.accept_errors);
                tracing::warn!(%error, "cannot accept connections; trying again");
                // Out of file descriptors, mostly: trying at once would only burn a core.
                tokio::time::sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }

    async fn establish(
        &self,
        tcp: TcpStream,
        peer_addr: SocketAddr,
        place: OwnedSemaphorePermit,
        share: Pending,
    ) -> Result<Accepted, Failure> {
        let start = Instant::now();
        let deadline = start + self.limits.establish;
        tune(&tcp).map_err(|_| Failure::Refused)?;
        let Some(tls) = &self.tls else {
            return Ok(Accepted {
                peer_addr,
                peer_cert_der: None,
                alpn: Alpn::Http,
                deadline,
                stream: ServerStream::plain(tcp, place),
            });
        };
        let handshake = async {
            let greeting = LazyConfigAcceptor::new(Acceptor::default(), tcp)
                .await
                .map_err(refused)?;
            // Only now, with the whole greeting read, does a connection cost more than a socket:
            // slow senders of greetings cannot take these places.
            let _computing = self.handshakes.acquire().await;
            let config = tls.choose(greeting.client_hello().alpn().into_iter().flatten());
            greeting.into_stream(config).await.map_err(refused)
        };
        let stream = timeout_at(start + self.limits.handshake, handshake)
            .await
            .map_err(|_| Failure::TimedOut)??;
        let session = stream.get_ref().1;
        let alpn = session
            .alpn_protocol()
            .and_then(Alpn::from_name)
            .ok_or(Failure::Refused)?;
        let peer_cert_der = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|leaf| leaf.clone().into_owned());
        if alpn.needs_certificate() && peer_cert_der.is_none() {
            return Err(Failure::Refused);
        }
        if peer_cert_der.is_some() {
            share.ended_well();
        }
        Ok(Accepted {
            peer_addr,
            peer_cert_der,
            alpn,
            deadline,
            stream: ServerStream::tls(stream, place),
        })
    }
}

fn refused(error: io::Error) -> Failure {
    tracing::debug!(%error, "handshake failed");
    Failure::Refused
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Closes without a word: neither a state to linger in nor bytes to send for a flooder.
fn reset(tcp: TcpStream) {
    let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
}
