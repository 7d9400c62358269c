//! A session: one connection of one node, from its hello to its end.

mod hello;
mod inbound;
mod leases;
mod reports;

use std::sync::Arc;
use std::time::Duration;

use hearth_core::Event;
use hearth_identity::{Peer, Verified};
use hearth_net::socket::{CloseReason, PATH, Receiver, Sender, Socket, SocketError, SocketLimits};
use hearth_wire::message::{CoordinatorMessage, NodeMessage, Refusal, Welcome};
use hearth_wire::{AttemptId, Epoch, NodeId, limits};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::driver::Command;
use crate::nodes::Connected;
use crate::shell::Shell;
use inbound::Inbound;
use leases::Leases;

/// Who is at the other end of a session.
#[derive(Debug, Clone)]
pub(crate) enum Member {
    /// The holder of a certificate.
    Remote(Verified<Peer>),
    /// The local host, over its inherited socketpair.
    Local(NodeId),
}

impl Member {
    pub(crate) fn node(&self) -> NodeId {
        match self {
            Self::Remote(peer) => peer.node(),
            Self::Local(node) => *node,
        }
    }
}

/// Why a session ends.
#[derive(Debug)]
enum End {
    /// The connection ended by itself.
    Socket(SocketError),
    /// We end it, and say why.
    Refused(Refusal),
    /// The driver has ended.
    Stopped,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> Self {
        Self::Socket(error)
    }
}

impl From<crate::driver::Stopped> for End {
    fn from(_: crate::driver::Stopped) -> Self {
        Self::Stopped
    }
}

type FromNode = Receiver<NodeMessage>;
type ToNode = Sender<CoordinatorMessage>;

/// How long a last word may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves one connection of a node until it ends.
///
/// A session is a task of its own, so that nothing which one node does or sends can hold up
/// another. It owns the node's heartbeats and rates, fills leases, checks reports, and tells core of
/// changes only.
pub(crate) async fn serve<S>(
    shell: Arc<Shell>,
    stream: S,
    member: Member,
    deadline: Option<Instant>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = SocketLimits {
        silence: Some(Duration::from_millis(limits::SILENCE_MILLIS)),
        ..SocketLimits::default()
    };
    let node = member.node();
    let socket = Socket::<NodeMessage, CoordinatorMessage>::accept(stream, PATH, deadline, limits);
    let (sender, mut receiver) = match socket.await {
        Ok(ends) => ends,
        Err(error) => {
            tracing::debug!(node = %node.short(), %error, "no session");
            return;
        }
    };
    shell.metrics.sessions.inc();
    let end = Session::run(&shell, member, &sender, &mut receiver).await;
    match end {
        End::Refused(refusal) => {
            shell.metrics.refused_sessions.inc();
            tracing::info!(node = %node.short(), %refusal, "session ended by us");
            farewell(&sender, &refusal);
        }
        End::Socket(error) => {
            if matches!(error, SocketError::Silent { .. }) {
                shell.metrics.silent.inc();
            }
            tracing::info!(node = %node.short(), %error, "session ended");
        }
        End::Stopped => farewell(&sender, &Refusal::ShuttingDown),
    }
    // The sender's task flushes and closes; the receiver, whose end would cut it off, waits for it.
    let _ = tokio::time::timeout(FAREWELL, sender.ended()).await;
    drop(receiver);
}

/// Tells somebody who may have no session why, in the words that a node understands.
pub(crate) async fn turn_away<S>(
    shell: &Shell,
    stream: S,
    refusal: &Refusal,
    deadline: Option<Instant>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = SocketLimits::default();
    let socket = Socket::<NodeMessage, CoordinatorMessage>::accept(stream, PATH, deadline, limits);
    let Ok((sender, mut receiver)) = socket.await else {
        return;
    };
    shell.metrics.refused_sessions.inc();
    tracing::info!(%refusal, "no session");
    farewell(&sender, refusal);
    // What comes meanwhile is read: bytes that nobody took would cut our last word off.
    let drain = async { while receiver.recv().await.is_ok() {} };
    let _ = tokio::time::timeout(FAREWELL, drain).await;
}

fn farewell(sender: &ToNode, refusal: &Refusal) {
    // A full outbox means that nobody reads: then a last word is lost as well.
    let _ = sender.try_send(&CoordinatorMessage::Refused(refusal.clone()));
    let reason = match refusal {
        Refusal::ShuttingDown => CloseReason::ShuttingDown,
        Refusal::Protocol(_) => CloseReason::Protocol,
        Refusal::Full => CloseReason::TryLater,
        _ => CloseReason::Policy,
    };
    sender.close(reason, "");
}

/// A session whose node has said hello.
struct Session<'a> {
    shell: &'a Arc<Shell>,
    sender: &'a ToNode,
    commands: mpsc::Receiver<Command>,
    leases: Leases,
    inbound: Inbound,
    welcomed: bool,
}

impl<'a> Session<'a> {
    async fn run(
        shell: &'a Arc<Shell>,
        member: Member,
        sender: &'a ToNode,
        receiver: &mut FromNode,
    ) -> End {
        let batch = match receiver.recv().await {
            Ok(batch) => batch,
            Err(error) => return error.into(),
        };
        let mut batch = batch.into_iter();
        let hello = match batch.next() {
            Some(NodeMessage::Hello(hello)) => hello,
            _ => return protocol("the first message must be Hello").into(),
        };
        let greeted = match hello::greet(shell, &member, hello) {
            Ok(Some(greeted)) => greeted,
            Ok(None) => return be_refused(shell, sender, receiver).await,
            Err(refusal) => return refusal.into(),
        };
        let connected = Arc::clone(&greeted.connected);
        let end = match shell.driver.send(greeted.join).await {
            Err(stopped) => stopped.into(),
            Ok(()) => {
                let session = Session {
                    shell,
                    sender,
                    commands: greeted.commands,
                    leases: Leases::default(),
                    inbound: Inbound::new(Arc::clone(&connected), member, greeted.engine),
                    welcomed: false,
                };
                session.work(batch.collect(), receiver, &connected).await
            }
        };
        shell.connections.leave(&connected);
        // Whatever ended it: its leases wait again. Core ignores a session that it has replaced. When
        // we shut down, nodes keep their leases: they come back with them after the next start.
        if !shell.shutdown.is_requested() {
            let session = connected.session;
            let _ = shell.driver.tell(Event::NodeLost { session }).await;
        }
        end
    }

    async fn work(
        mut self,
        first: Vec<NodeMessage>,
        receiver: &mut FromNode,
        connected: &Connected,
    ) -> End {
        let mut ending = connected.ending();
        let mut shutdown = self.shell.shutdown.clone();
        let mut policy = self.shell.policy_changes.subscribe();
        // From here on silence is judged by what the node holds.
        receiver.set_silence(None);
        let mut silence = Silence::new(receiver);
        if let Err(end) = self.hear(first).await {
            return end;
        }
        loop {
            let result = tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => {
                        if matches!(command, Command::Grant { .. }) {
                            silence.leased(receiver);
                        }
                        self.obey(command).await
                    }
                    // The driver dropped the outbox because it was full.
                    None => Err(Refusal::Slow.into()),
                },
                batch = receiver.recv() => match batch {
                    Ok(batch) => {
                        silence.broken(receiver);
                        self.hear(batch).await
                    }
                    Err(error) => Err(error.into()),
                },
                () = sleep_until(silence.look_at) => {
                    let holds = self.shell.views.read().has_lease(connected.node);
                    silence.look(receiver, holds)
                }
                reason = asked(&mut ending) => Err(reason.into()),
                Ok(()) = policy.changed() => self.tell_policy().await,
                () = shutdown.requested() => Err(Refusal::ShuttingDown.into()),
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn hear(&mut self, batch: Vec<NodeMessage>) -> Result<(), End> {
        self.inbound
            .hear(self.shell, self.sender, batch, self.welcomed)
            .await
    }

    /// The realm's policy changed: a node that is shut out now goes, everybody else hears of it by
    /// a second `Welcome`, which changes nothing else.
    async fn tell_policy(&mut self) -> Result<(), End> {
        let node = self.inbound.node();
        if !self.inbound.is_local() && self.shell.trusted().policy.is_revoked(node) {
            return Err(Refusal::Revoked.into());
        }
        if !self.welcomed {
            return Ok(());
        }
        let message = welcome(self.shell, self.shell.epoch, Vec::new());
        say(self.sender, &message).await?;
        // Others judge for themselves; the local host leaves it to us.
        let stopped = match self.inbound.is_local() {
            true => self.shell.held_attempts(node),
            false => Vec::new(),
        };
        if stopped.is_empty() {
            return Ok(());
        }
        say(self.sender, &CoordinatorMessage::Cancel(stopped)).await
    }

    /// Says to the node what core wants to say.
    async fn obey(&mut self, command: Command) -> Result<(), End> {
        let message = match command {
            Command::Welcome { epoch, unwanted } => {
                self.welcomed = true;
                welcome(self.shell, epoch, unwanted)
            }
            Command::Grant { leases, seq } => {
                return self
                    .leases
                    .send(self.shell, self.sender, &self.inbound, leases, seq)
                    .await;
            }
            Command::Cancel(attempts) => CoordinatorMessage::Cancel(attempts),
            Command::Pause(attempts) => CoordinatorMessage::Pause(attempts),
            Command::Resume(attempts) => CoordinatorMessage::Resume(attempts),
            Command::Settled(attempts) => CoordinatorMessage::Settled(attempts),
            Command::Drain => CoordinatorMessage::Drain,
            Command::Close(refusal) => return Err(refusal.into()),
        };
        say(self.sender, &message).await
    }
}

/// Waits until a node that has seen a newer life of this realm has refused us: the welcome tells it whom it
/// met. Core hears nothing of it, or it would lease to a node that takes no work, and each lease that is lost
/// with such a session is counted against its task.
async fn be_refused(shell: &Shell, sender: &ToNode, receiver: &mut FromNode) -> End {
    let message = welcome(shell, shell.epoch, Vec::new());
    if let Err(end) = say(sender, &message).await {
        return end;
    }
    let mut shutdown = shell.shutdown.clone();
    let limit = tokio::time::sleep(Duration::from_millis(limits::ESTABLISH_MILLIS));
    let gone = async {
        loop {
            if let Err(error) = receiver.recv().await {
                return error;
            }
        }
    };
    tokio::select! {
        error = gone => End::Socket(error),
        () = limit => End::Refused(protocol("the node has seen a newer epoch and does not leave")),
        () = shutdown.requested() => End::Refused(Refusal::ShuttingDown),
    }
}

/// How long a node has been silent. The receiver cannot tell: it is asked anew whenever something
/// else happens.
///
/// A node that holds nothing says less. It is looked at as often all the same, and is given as long as any
/// other from the moment on at which it gets a lease.
struct Silence {
    bytes: u64,
    since: Instant,
    look_at: Instant,
    suspected: bool,
    /// Whether it held a lease at the last look, or got one since.
    holds: bool,
}

impl Silence {
    const LIMIT: Duration = Duration::from_millis(limits::SILENCE_MILLIS);
    const IDLE_LIMIT: Duration = Duration::from_millis(limits::IDLE_SILENCE_MILLIS);
    /// A second look, because this task may have been busy while bytes waited to be read.
    const AGAIN: Duration = Duration::from_millis(100);

    fn new(receiver: &FromNode) -> Self {
        let now = Instant::now();
        Self {
            bytes: receiver.received_bytes(),
            since: now,
            look_at: now + Self::LIMIT,
            suspected: false,
            holds: true,
        }
    }

    /// Bytes came just now, or nothing was to be expected before.
    fn broken(&mut self, receiver: &FromNode) {
        let holds = self.holds;
        *self = Self::new(receiver);
        self.holds = holds;
    }

    /// The node gets a lease.
    fn leased(&mut self, receiver: &FromNode) {
        if !std::mem::replace(&mut self.holds, true) {
            self.broken(receiver);
        }
    }

    fn look(&mut self, receiver: &FromNode, holds: bool) -> Result<(), End> {
        self.holds = holds;
        if receiver.received_bytes() != self.bytes {
            self.broken(receiver);
            return Ok(());
        }
        let limit = if holds { Self::LIMIT } else { Self::IDLE_LIMIT };
        let left = limit.saturating_sub(self.since.elapsed());
        if left > Duration::ZERO {
            self.look_at = Instant::now() + left.min(Self::LIMIT);
            return Ok(());
        }
        if self.suspected {
            return Err(SocketError::Silent { limit }.into());
        }
        self.suspected = true;
        self.look_at = Instant::now() + Self::AGAIN;
        Ok(())
    }
}

/// Waits until the session is asked to end.
async fn asked(ending: &mut watch::Receiver<Option<Refusal>>) -> Refusal {
    let reason = match ending.wait_for(Option::is_some).await {
        Ok(reason) => reason.clone(),
        Err(_) => None,
    };
    reason.unwrap_or(Refusal::ShuttingDown)
}

fn welcome(shell: &Shell, epoch: Epoch, unwanted: Vec<AttemptId>) -> CoordinatorMessage {
    CoordinatorMessage::Welcome(Welcome {
        epoch,
        heartbeat_millis: limits::HEARTBEAT_MILLIS as u32,
        idle_heartbeat_millis: limits::IDLE_HEARTBEAT_MILLIS as u32,
        silence_millis: limits::SILENCE_MILLIS as u32,
        policy: shell.trusted().policy.bundle_bytes(),
        unwanted,
    })
}

/// Sends, waiting while the node reads; one that does not read ends the session.
async fn say(sender: &ToNode, message: &CoordinatorMessage) -> Result<(), End> {
    match sender.send(message).await {
        Ok(()) => Ok(()),
        Err(hearth_net::socket::SendError::Closed(error)) => Err(error.into()),
        Err(error) => Err(SocketError::Lost(error.to_string()).into()),
    }
}

fn protocol(problem: impl Into<String>) -> Refusal {
    Refusal::Protocol(problem.into())
}
