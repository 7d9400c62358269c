//! Connections: hello and welcome, heartbeats, what a coordinator may say when, and coming back.

use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use hearth_identity::{COORDINATOR_NAME, NodeDir};
use hearth_net::http::client::{Client, ClientLimits};
use hearth_net::mdns;
use hearth_net::socket::{CloseReason, Receiver, Sender, SocketError};
use hearth_net::tls::{Alpn, ClientTls, Endpoint, Identity, TlsError};
use hearth_wire::RealmId;
use hearth_wire::api::{Enrolled, RenewRequest};
use hearth_wire::limits::{
    ESTABLISH_MILLIS, MESSAGES_PER_FRAME_MAX, SILENCE_MILLIS, SPILLED_REPORTS_MAX,
};
use hearth_wire::message::{
    Capacity, CoordinatorMessage, Hello, Load, NodeMessage, Progress, Refusal, Welcome,
};
use rustls::pki_types::ServerName;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::work::{self, Connection, Done};
use super::{Link, Me, Node, NodeError, unix_now};
use crate::config::NodeStatus;
use crate::control::pause_file;
use crate::load::slots_beside;

/// How often the owner's wishes and the machine's load are looked at.
pub(super) const OWNER_PERIOD: Duration = Duration::from_millis(500);
/// How often the certificate's age is looked at; a refused renewal is tried again as often.
pub(super) const RENEWAL_PERIOD: Duration = Duration::from_secs(60);
/// Log lines of all guests together that are forwarded in one heartbeat.
const LOG_LINES_PER_BEAT: u32 = 50;

/// When something came from the coordinator. Measured here and not by the socket, because the loop
/// looks at many things and would begin to measure anew each time.
#[derive(Debug)]
pub(super) struct Heard {
    at: Instant,
    bytes: Option<u64>,
    /// It answers heartbeats, so that its silence means something.
    echoes: bool,
    silence: Duration,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            at: Instant::now(),
            bytes: None,
            echoes: false,
            silence: Duration::from_millis(SILENCE_MILLIS),
        }
    }
}

/// From a heartbeat until its echo.
#[derive(Debug, Default)]
pub(super) struct RoundTrip {
    asked: Option<Instant>,
    micros: u32,
}

pub(super) fn credentials(dir: &NodeDir) -> Result<(Identity, ClientTls), TlsError> {
    let own = dir.tls();
    let identity = Identity::new(own.chain, own.key)?;
    let tls = ClientTls::new(dir.ca().server_verifier(), Some(&identity))?;
    Ok((identity, tls))
}

/// Any of `addresses`, if it has the certificate of a coordinator.
pub(crate) fn endpoint(addresses: Vec<String>) -> Endpoint {
    #[allow(clippy::expect_used)]
    let server_name = ServerName::try_from(COORDINATOR_NAME).expect("a constant that is a name");
    Endpoint {
        addresses,
        server_name,
    }
}

/// The local host's two inherited streams.
pub(super) async fn local(
    messages: UnixStream,
    http: UnixStream,
) -> Result<(Sender<NodeMessage>, Receiver<CoordinatorMessage>, Client), NodeError> {
    let stream = |stream: UnixStream| {
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream)
    };
    let unusable = |error: std::io::Error| NodeError::Streams(error.to_string());
    let client = Client::over(stream(http).map_err(unusable)?, ClientLimits::default()).await?;
    let (sender, receiver) = work::open(stream(messages).map_err(unusable)?, "local")
        .await
        .map_err(NodeError::Streams)?;
    Ok((sender, receiver, client))
}

/// Listens for coordinators of this realm on the local network.
pub(super) fn discover(realm: RealmId, done: mpsc::Sender<Done>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut browser = match mdns::browse(Some(&realm)) {
            Ok(browser) => browser,
            Err(error) => {
                tracing::warn!(%error, "looking for coordinators on the local network");
                return;
            }
        };
        while let Some(found) = browser.next().await {
            let addresses = found.addresses.iter().map(ToString::to_string).collect();
            if done.send(Done::Found(addresses)).await.is_err() {
                return;
            }
        }
    })
}

impl Node {
    pub(super) fn connect(&mut self) {
        let Me::Volunteer(volunteer) = &self.me else {
            self.link = Link::Gone;
            return;
        };
        let (endpoint, tls) = (volunteer.endpoint(), volunteer.tls.clone());
        self.link = Link::Connecting;
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = work::connect(endpoint, tls).await;
            let _gone = done.send(Done::Connected(Box::new(result))).await;
        });
    }

    pub(super) fn on_connected(
        &mut self,
        result: Result<Connection, String>,
        socket: &mut Option<Receiver<CoordinatorMessage>>,
    ) {
        match result {
            Ok((sender, receiver)) => {
                *socket = Some(receiver);
                self.greet(&sender);
                self.link = Link::Greeting(sender);
            }
            Err(trouble) => {
                if let Me::Volunteer(volunteer) = &mut self.me {
                    volunteer.found.failed();
                }
                self.stay_down(trouble);
            }
        }
    }

    pub(super) fn greet(&mut self, sender: &Sender<NodeMessage>) {
        self.admission.forget();
        let held = self.attempts.keys().chain(self.reports.keys());
        let hello = Hello {
            name: self.config.name.clone(),
            engine: self.engine,
            architecture: std::env::consts::ARCH.to_owned(),
            capacity: self.capacity(),
            capabilities: self.config.capabilities.clone(),
            location: self.config.location.clone(),
            seen_epoch: self.seen.epoch(),
            held: held.copied().take(SPILLED_REPORTS_MAX).collect(),
            confinement: self.pool.status().confinement,
        };
        // The outbox of a fresh connection is empty; if it closed already the loop hears of it.
        let _closed = sender.try_send(&NodeMessage::Hello(hello));
    }

    /// Reacts to one message. The outer error ends the node, the inner one the connection.
    pub(super) fn on_message(
        &mut self,
        message: CoordinatorMessage,
        socket: &mut Option<Receiver<CoordinatorMessage>>,
    ) -> Result<Result<(), String>, NodeError> {
        match (&self.link, message) {
            (_, CoordinatorMessage::Refused(refusal)) => self.on_refused(refusal).map(Ok),
            (Link::Greeting(_) | Link::Up(_), CoordinatorMessage::Welcome(welcome)) => {
                Ok(self.on_welcome(welcome, socket))
            }
            (Link::Up(_), message) => {
                let echo = matches!(&message, CoordinatorMessage::Settled(s) if s.is_empty());
                // From its first echo on, a coordinator that says nothing is one that is not there.
                self.heard.echoes |= echo;
                Ok(self.on_work(message))
            }
            (_, message) => Ok(Err(format!("{} before the welcome", word(&message)))),
        }
    }

    fn on_work(&mut self, message: CoordinatorMessage) -> Result<(), String> {
        match message {
            CoordinatorMessage::Lease(leases) => {
                self.on_leases(leases)
                    .map_err(|breach| breach.to_string())?;
            }
            CoordinatorMessage::Cancel(attempts) => self.on_cancel(&attempts, true),
            CoordinatorMessage::Pause(attempts) => self.on_pause(&attempts, true),
            CoordinatorMessage::Resume(attempts) => self.on_pause(&attempts, false),
            CoordinatorMessage::Settled(attempts) => {
                if attempts.is_empty()
                    && let Some(asked) = self.round_trip.asked.take()
                {
                    let micros = asked.elapsed().as_micros();
                    self.round_trip.micros = u32::try_from(micros).unwrap_or(u32::MAX);
                }
                self.on_settled(&attempts);
            }
            CoordinatorMessage::Drain => {
                tracing::warn!(
                    "the realm's operator drains this node: it ends when its tasks have; `hearth node` \
                     goes on with the realm afterwards"
                );
                self.start_drain();
            }
            // Both were seen to before.
            CoordinatorMessage::Welcome(_) | CoordinatorMessage::Refused(_) => {}
        }
        Ok(())
    }

    /// The first welcome of a connection takes the node in; a later one brings a newer policy.
    fn on_welcome(
        &mut self,
        welcome: Welcome,
        socket: &mut Option<Receiver<CoordinatorMessage>>,
    ) -> Result<(), String> {
        let again = self.link.up().is_some();
        if again && welcome.epoch != self.seen.epoch() {
            return Err(format!(
                "epoch {} in the middle of a connection of {}",
                welcome.epoch,
                self.seen.epoch()
            ));
        }
        self.seen
            .accept(welcome.epoch)
            .map_err(|error| error.to_string())?;
        if let Me::Volunteer(volunteer) = &mut self.me {
            let now = unix_now();
            let changed = volunteer
                .dir
                .update_policy(&welcome.policy, now)
                .map_err(|error| format!("the policy is not taken: {error}"))?;
            if changed {
                let trust = volunteer.dir.policy_state().trust();
                self.trust_anew(trust);
            }
        }
        self.on_cancel(&welcome.unwanted, false);
        self.on_settled(&welcome.unwanted);
        if again {
            return Ok(());
        }
        let period = |millis: u32| Duration::from_millis(millis.clamp(100, 10_000).into());
        self.heartbeat = period(welcome.heartbeat_millis);
        self.idle_heartbeat = period(welcome.idle_heartbeat_millis).max(self.heartbeat);
        let silence = u64::from(welcome.silence_millis).clamp(SILENCE_MILLIS, 60_000);
        if let Some(socket) = socket {
            socket.set_silence(None);
        }
        self.heard.echoes = false;
        if let Link::Greeting(sender) = std::mem::replace(&mut self.link, Link::Connecting) {
            self.link = Link::Up(sender);
        }
        self.round_trip = RoundTrip::default();
        self.heard.silence = Duration::from_millis(silence);
        self.backoff.reset();
        self.trouble = None;
        self.timers.heartbeat = Instant::now();
        self.send_everything_again();
        tracing::info!(epoch = %welcome.epoch, "welcome");
        Ok(())
    }

    fn on_refused(&mut self, refusal: Refusal) -> Result<(), NodeError> {
        tracing::warn!(%refusal, "refused");
        match refusal {
            Refusal::Revoked | Refusal::EngineTooOld(_) | Refusal::WrongRole(_) => {
                Err(NodeError::Refused(refusal))
            }
            // The connection ends behind it; the next one may be luckier.
            other => {
                self.trouble = Some(other.to_string());
                Ok(())
            }
        }
    }

    /// The coordinator broke the protocol, or is not one that this node may follow.
    pub(super) fn give_up(
        &mut self,
        breach: &str,
        socket: &mut Option<Receiver<CoordinatorMessage>>,
    ) {
        if let Link::Greeting(sender) | Link::Up(sender) = &self.link {
            sender.close(CloseReason::Policy, breach);
        }
        *socket = None;
        self.stay_down(breach.to_owned());
    }

    pub(super) fn on_lost(
        &mut self,
        error: &SocketError,
        socket: &mut Option<Receiver<CoordinatorMessage>>,
    ) {
        *socket = None;
        let trouble = self.trouble.take();
        self.stay_down(trouble.unwrap_or_else(|| error.to_string()));
    }

    /// Gives up a connection on which nothing came for too long.
    pub(super) fn listen(
        &mut self,
        now: Instant,
        socket: &mut Option<Receiver<CoordinatorMessage>>,
    ) {
        let bytes = socket.as_ref().map(Receiver::received_bytes);
        if bytes != self.heard.bytes {
            self.heard.bytes = bytes;
            self.heard.at = now;
        }
        let limit = match &self.link {
            // A link may die before the first echo.
            Link::Greeting(_) => Duration::from_millis(ESTABLISH_MILLIS),
            Link::Up(_) if !self.heard.echoes => Duration::from_millis(ESTABLISH_MILLIS),
            Link::Up(_) => self.heard.silence,
            _ => return,
        };
        if now.duration_since(self.heard.at) > limit {
            let text = format!("the coordinator said nothing for {} ms", limit.as_millis());
            self.give_up(&text, socket);
        }
    }

    fn stay_down(&mut self, trouble: String) {
        if matches!(self.me, Me::Local) {
            tracing::info!(trouble, "the coordinator is gone: its local host ends");
            self.link = Link::Gone;
            return;
        }
        let delay = self.backoff.next_delay();
        tracing::warn!(trouble, ?delay, "not connected");
        self.trouble = Some(trouble);
        self.link = Link::Down(Instant::now() + delay);
        self.spill_everything();
        self.tell_status();
    }

    /// Tells the load, and the progress since the last time.
    pub(super) fn beat(&mut self, now: Instant) {
        self.log_tokens = LOG_LINES_PER_BEAT;
        let Some(link) = self.link.up().cloned() else {
            self.progress.clear();
            return;
        };
        let status = self.pool.status();
        let waiting = self.attempts.len().saturating_sub(status.running.into());
        let load = Load {
            running: status.running,
            queued: u16::try_from(waiting).unwrap_or(u16::MAX),
            cpu: (self.measured.cpu * 10_000.0) as u16,
            memory_mib: self.measured.memory_mib,
            round_trip_micros: self.round_trip.micros,
        };
        if self.round_trip.asked.is_none() {
            self.round_trip.asked = Some(now);
        }
        // A full outbox says that the network is slow: the next heartbeat will do.
        let _full = link.try_send(&NodeMessage::Heartbeat(load));
        let progress = std::mem::take(&mut self.progress);
        let progress: Vec<_> = progress
            .into_iter()
            .take(MESSAGES_PER_FRAME_MAX)
            .map(|(attempt, (done, total))| Progress {
                attempt,
                done,
                total,
            })
            .collect();
        if !progress.is_empty() {
            let _full = link.try_send(&NodeMessage::Progress(progress));
        }
    }

    fn capacity(&self) -> Capacity {
        let idle = self.paused || self.drain.is_some();
        Capacity {
            slots: if idle { 0 } else { self.slots },
            memory_bytes: self.config.pool.memory_bytes,
        }
    }

    /// What the owner wants now, and what other programs leave of the machine.
    pub(super) fn look_at_owner(&mut self) {
        let pool = self.pool.status();
        let used = self.meter.look(&pool.pids);
        // Averaged over some seconds: slots that flutter help nobody.
        let smooth = |old: f64, new: f64| old * 0.75 + new * 0.25;
        self.measured.cpu = used.cpu;
        self.measured.memory_mib = used.memory_mib;
        self.measured.others = smooth(self.measured.others, used.others);
        let whole = self.config.pool.runners.max(1) * self.config.pool.slots_per_runner.max(1);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let follow = self.config.owner.follow_load || matches!(self.me, Me::Local);
        let slots = if follow {
            slots_beside(self.measured.others, cores, whole)
        } else {
            whole
        };
        let paused = pause_file(&self.config.state).exists();
        if slots == self.slots && paused == self.paused {
            return;
        }
        (self.slots, self.paused) = (slots, paused);
        self.pool.set_slots(if paused { 0 } else { slots });
        self.tell_capacity();
    }

    pub(super) fn tell_capacity(&self) {
        if let Some(link) = self.link.up() {
            // Told again with the next change or connection; leases beyond it wait here.
            let _full = link.try_send(&NodeMessage::Capacity(self.capacity()));
        }
    }

    pub(super) fn tell_status(&self) {
        let Some(status) = &self.config.status else {
            return;
        };
        let pool = self.pool.status();
        status.send_replace(NodeStatus {
            connected: self.link.up().is_some(),
            trouble: self.trouble.clone(),
            engine: Some(self.engine),
            slots: self.capacity().slots,
            running: pool.running,
            queued: pool.queued,
            ended: self.ended,
            unsettled: self.reports.len() as u64,
            paused: self.paused,
            confinement: pool.confinement,
            runner_pids: pool.pids,
        });
    }

    /// Asks for a new certificate when half of this one's life is over.
    pub(super) fn renew(&mut self) {
        let Me::Volunteer(volunteer) = &self.me else {
            return;
        };
        if !volunteer.dir.needs_renewal(unix_now()) {
            return;
        }
        let prepared = volunteer.dir.key().csr_pem().map_err(|e| e.to_string());
        let tls = ClientTls::new(volunteer.ca().server_verifier(), None);
        let (csr_pem, tls) = match (prepared, tls) {
            (Ok(csr), Ok(tls)) => (csr, tls),
            (Err(error), _) => return tracing::error!(error, "asking for a certificate"),
            (_, Err(error)) => return tracing::error!(%error, "asking for a certificate"),
        };
        let endpoint = volunteer.endpoint();
        let client = Client::tls(endpoint, tls, Alpn::Enrol, ClientLimits::default());
        let request = RenewRequest {
            certificate_pem: volunteer.dir.certificate_pem(),
            csr_pem,
        };
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = work::renew(client, request).await;
            let _gone = done.send(Done::Renewed(result)).await;
        });
    }

    pub(super) fn on_renewed(&mut self, result: Result<Box<Enrolled>, String>) {
        let Me::Volunteer(volunteer) = &mut self.me else {
            return;
        };
        let taken = result.and_then(|enrolled| {
            let bundle = base64::engine::general_purpose::STANDARD
                .decode(&enrolled.policy)
                .map_err(|error| error.to_string())?;
            volunteer
                .dir
                .accept_renewal(&enrolled.certificate_pem, &bundle, unix_now())
                .map_err(|error| error.to_string())?;
            let own = volunteer.dir.tls();
            volunteer
                .identity
                .replace(own.chain, own.key)
                .map_err(|error| error.to_string())
        });
        match taken {
            Ok(()) => {
                let trust = volunteer.dir.policy_state().trust();
                self.trust_anew(trust);
                tracing::info!("this node's certificate was renewed");
            }
            Err(error) => tracing::warn!(error, "this node's certificate was not renewed"),
        }
    }

    /// A hint only: whoever is there must still have the realm's certificate.
    pub(super) fn on_found(&mut self, addresses: Vec<String>) {
        let Me::Volunteer(volunteer) = &mut self.me else {
            return;
        };
        if volunteer.found.add(addresses) {
            self.client = volunteer.client();
        }
    }
}

fn word(message: &CoordinatorMessage) -> &'static str {
    match message {
        CoordinatorMessage::Welcome(_) => "a welcome",
        CoordinatorMessage::Lease(_) => "a lease",
        CoordinatorMessage::Cancel(_) => "a cancel",
        CoordinatorMessage::Pause(_) => "a pause",
        CoordinatorMessage::Resume(_) => "a resume",
        CoordinatorMessage::Settled(_) => "a settlement",
        CoordinatorMessage::Drain => "a drain",
        CoordinatorMessage::Refused(_) => "a refusal",
    }
}
