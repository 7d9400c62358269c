//! From listeners to whoever serves a connection.

use std::sync::Arc;

use axum::Router;
use hearth_identity::{Peer, Verified};
use hearth_net::http::guard::HostPolicy;
use hearth_net::listen::{Accepted, Listener};
use hearth_net::tls::Alpn;
use hearth_wire::Role;
use hearth_wire::message::Refusal;
use tokio::task::JoinSet;

use crate::api::{self, Caller, Origin, PlainGate};
use crate::clock::unix_now;
use crate::session::{self, Member};
use crate::shell::Shell;

/// What serves connections.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) shell: Arc<Shell>,
    pub(crate) api: Router,
    pub(crate) enrol: Router,
    /// What requests of members may name.
    pub(crate) hosts: Arc<HostPolicy>,
}

/// Serves the TLS listener until shutdown; gives back when every connection has ended.
pub(crate) async fn serve_tls(doors: Doors, mut listener: Listener) {
    let mut connections = JoinSet::new();
    while let Some(accepted) = next(&mut listener, &mut connections).await {
        let doors = doors.clone();
        connections.spawn(async move { doors.serve(accepted).await });
    }
    drain(connections).await;
}

/// Serves the loopback listener, likewise.
pub(crate) async fn serve_plain(doors: Doors, mut listener: Listener, gate: PlainGate) {
    let mut connections = JoinSet::new();
    while let Some(accepted) = next(&mut listener, &mut connections).await {
        let (doors, gate) = (doors.clone(), gate.clone());
        connections.spawn(async move {
            let origin = Origin::Plain(gate);
            doors.http(accepted, doors.api.clone(), origin).await;
        });
    }
    drain(connections).await;
}

/// The next connection. Those that have ended are forgotten meanwhile.
async fn next(listener: &mut Listener, connections: &mut JoinSet<()>) -> Option<Accepted> {
    loop {
        tokio::select! {
            accepted = listener.accept() => return accepted,
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn drain(mut connections: JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

impl Doors {
    async fn serve(&self, accepted: Accepted) {
        match accepted.alpn {
            Alpn::Enrol => {
                self.http(accepted, self.enrol.clone(), Origin::Stranger)
                    .await;
            }
            Alpn::Node => {
                if let Some(peer) = self.identify(&accepted) {
                    let shell = Arc::clone(&self.shell);
                    let deadline = Some(accepted.deadline);
                    if peer.role() != Role::Node {
                        let refusal = Refusal::WrongRole(peer.role());
                        session::turn_away(&shell, accepted.stream, &refusal, deadline).await;
                        return;
                    }
                    let member = Member::Remote(peer);
                    session::serve(shell, accepted.stream, member, deadline).await;
                }
            }
            Alpn::Http => {
                if let Some(peer) = self.identify(&accepted) {
                    let hosts = Arc::clone(&self.hosts);
                    let origin = Origin::Member(Caller::member(&peer), hosts);
                    self.http(accepted, self.api.clone(), origin).await;
                }
            }
        }
    }

    async fn http(&self, accepted: Accepted, router: Router, origin: Origin) {
        let deadline = Some(accepted.deadline);
        let shutdown = self.shell.shutdown.clone();
        let served = api::serve(accepted.stream, router, origin, deadline, shutdown).await;
        if let Err(error) = served {
            tracing::debug!(peer = %accepted.peer_addr, %error, "connection ended");
        }
    }

    /// Who is at the other end. The handshake has proved the certificate to be of this realm; what
    /// it allows is read here.
    fn identify(&self, accepted: &Accepted) -> Option<Verified<Peer>> {
        let certificate = accepted.peer_cert_der.as_ref()?;
        let peer = self
            .shell
            .authority
            .ca()
            .verify_peer(certificate, unix_now());
        peer.inspect_err(|error| {
            tracing::debug!(peer = %accepted.peer_addr, %error, "certificate refused");
        })
        .ok()
    }
}
