//! The node: one session with a coordinator after another, until shutdown.
//!
//! One task owns all state and reacts to what happens; everything that takes time runs beside it
//! (`work`). Attempts and reports outlive sessions: a lost connection costs no work.

mod admit;
mod drain;
mod found;
mod leases;
mod reports;
mod session;
#[cfg(test)]
mod tests;
mod work;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hearth_identity::{DirError, NodeDir, NodeKey, RealmCa};
use hearth_net::backoff::Backoff;
use hearth_net::http::client::{Client, ClientLimits, HttpError};
use hearth_net::shutdown::Shutdown;
use hearth_net::socket::{Receiver, Sender};
use hearth_net::tls::{ClientTls, Identity, TlsError};
use hearth_wire::limits::{LEASES_PER_NODE_MAX, MANIFEST_LIST_MAX, NAME_BYTES_MAX};
use hearth_wire::message::{CoordinatorMessage, NodeMessage, Refusal};
use hearth_wire::runner::Confinement;
use hearth_wire::text::is_label;
use hearth_wire::{AttemptId, EngineId, NodeId, UnixSeconds};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use crate::blobs::Blobs;
use crate::config::{Mode, NodeConfig};
use crate::epoch::Seen;
use crate::load::Meter;
use crate::pool::{EventSink, Pool, PoolError, RunEvents, events};
use crate::spill::Spill;
use admit::Admission;
use drain::Drain;
use found::Found;
use leases::Attempt;
use reports::Unsettled;
use work::Done;

/// Ends of jobs that wait for the loop: each attempt has one job at a time.
const DONE_MAX: usize = LEASES_PER_NODE_MAX;

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Its runners cannot work.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Its directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// A file of its state cannot be used.
    #[error("{path}: {source}; check the directory's owner and free space")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process runs the node of this directory.
    #[error("another process runs the node in {0}; stop it, or use another directory")]
    Running(PathBuf),
    /// Its certificate or key cannot be used for TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The owner's configuration breaks a limit.
    #[error(
        "{0}: at most {NAME_BYTES_MAX} bytes without control characters; change the configuration"
    )]
    Name(&'static str),
    /// The inherited streams of a local host are unusable: a defect of whoever started it.
    #[error("the streams to the coordinator cannot be used: {0}")]
    Streams(String),
    /// The realm does not want this node, and trying again would not change that.
    #[error("the realm refuses this node: {0}")]
    Refused(Refusal),
}

impl From<HttpError> for NodeError {
    fn from(error: HttpError) -> Self {
        Self::Streams(error.to_string())
    }
}

/// Runs a node until `shutdown` is requested and what it holds is finished or given back, or until
/// the coordinator has drained it. A local host also ends when its coordinator is gone.
///
/// # Errors
///
/// [`NodeError`] when it cannot go on; a lost connection is no error.
pub async fn run(config: NodeConfig, shutdown: Shutdown) -> Result<(), NodeError> {
    let _lock = lock(&config)?;
    let (mut node, mut inbox) = Node::open(config).await?;
    let end = node.live(&mut inbox, shutdown).await;
    node.spill_everything();
    node.pool.shutdown().await;
    end
}

/// The owner hears what stands between guests and the machine.
fn tell_walls(walls: Confinement) {
    let missing: Vec<_> = walls.missing().collect();
    if missing.is_empty() {
        tracing::info!("the runners have every wall around them");
    } else {
        tracing::warn!(
            missing = missing.join(", "),
            "this system does not give every wall to the runners: the sandbox alone stands where \
             one is missing"
        );
    }
}

fn lock(config: &NodeConfig) -> Result<File, NodeError> {
    let path = config.state.join("lock");
    let failed = |source| NodeError::Io {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(&config.state).map_err(failed)?;
    let file = File::create(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(NodeError::Running(config.state.clone())),
        Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// As what this node speaks.
enum Me {
    Volunteer(Box<Volunteer>),
    /// The local host: known by its inherited socket.
    Local,
}

struct Volunteer {
    dir: NodeDir,
    identity: Identity,
    tls: ClientTls,
    /// Given by the owner, beyond those in its directory.
    addresses: Vec<String>,
    found: Found,
    _browser: Option<tokio::task::JoinHandle<()>>,
}

impl Me {
    fn key(&self) -> Option<&NodeKey> {
        match self {
            Self::Volunteer(volunteer) => Some(volunteer.dir.key()),
            Self::Local => None,
        }
    }

    /// The local host has no key, hence no id of its own.
    fn id(&self) -> NodeId {
        self.key().map(NodeKey::node_id).unwrap_or_default()
    }
}

/// Where the node is with its coordinator.
enum Link {
    /// Not connected; try at this time.
    Down(Instant),
    /// A job connects.
    Connecting,
    /// Connected, not yet welcome.
    Greeting(Sender<NodeMessage>),
    /// Connected and welcome.
    Up(Sender<NodeMessage>),
    /// The local host's coordinator is gone, or this node has said goodbye.
    Gone,
}

impl Link {
    /// The sender, once this node is welcome.
    fn up(&self) -> Option<&Sender<NodeMessage>> {
        match self {
            Self::Up(sender) => Some(sender),
            _ => None,
        }
    }
}

/// Times at which the loop looks again.
struct Timers {
    /// Tell the load, forward progress, see to leases that ran out.
    heartbeat: Instant,
    /// Sign and send reports that are ready.
    flush: Option<Instant>,
    /// When that was done last.
    flushed: Instant,
    /// Look at the owner's wishes and the machine.
    owner: Instant,
    /// See whether the certificate must be renewed.
    renewal: Instant,
}

struct Node {
    config: NodeConfig,
    me: Me,
    client: Client,
    pool: Pool,
    sink: EventSink,
    blobs: Arc<Blobs>,
    spill: Spill,
    seen: Seen,
    engine: EngineId,
    admission: Admission,
    budget: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    done: mpsc::Sender<Done>,
    link: Link,
    backoff: Backoff,
    trouble: Option<String>,
    attempts: HashMap<AttemptId, Attempt>,
    reports: BTreeMap<AttemptId, Unsettled>,
    /// Reports that can be sent on this connection and were not yet.
    ready: BTreeSet<AttemptId>,
    progress: BTreeMap<AttemptId, (u64, Option<u64>)>,
    log_tokens: u32,
    ended: u64,
    slots: u16,
    paused: bool,
    meter: Meter,
    measured: crate::load::Use,
    round_trip: session::RoundTrip,
    heartbeat: Duration,
    /// The same while nothing is held.
    idle_heartbeat: Duration,
    heard: session::Heard,
    timers: Timers,
    drain: Option<Drain>,
}

/// What the loop hears.
struct Inbox {
    socket: Option<Receiver<CoordinatorMessage>>,
    events: RunEvents,
    done: mpsc::Receiver<Done>,
}

impl Node {
    async fn open(mut config: NodeConfig) -> Result<(Self, Inbox), NodeError> {
        check_names(&mut config)?;
        let state = config.state.clone();
        let io_at = |path: PathBuf| move |source| NodeError::Io { path, source };
        let blobs_dir = state.join("cache").join("blobs");
        let blobs = Blobs::open(&blobs_dir, config.blob_bytes).map_err(io_at(blobs_dir))?;
        let spill_dir = state.join("spill");
        let (spill, spilled) = Spill::open(&spill_dir).map_err(io_at(spill_dir))?;
        let seen = Seen::open(&state).map_err(io_at(state.join("epoch")))?;
        if config.pool.artefacts.is_none() {
            config.pool.artefacts = Some(state.clone());
        }
        let pool = Pool::start(config.pool.clone()).await?;
        pool.throttle(config.owner.throttle);
        let engine = pool
            .status()
            .engine
            .ok_or_else(|| PoolError::NotReady("no engine".to_owned()))?;
        tell_walls(pool.status().confinement);
        let (sink, events) = events();
        let (done, dones) = mpsc::channel(DONE_MAX);

        let mode = std::mem::replace(
            &mut config.mode,
            Mode::Volunteer {
                addresses: Vec::new(),
                discover: false,
            },
        );
        let now = Instant::now();
        let mut socket = None;
        let (me, client, link, trust) = match mode {
            Mode::Volunteer {
                addresses,
                discover,
            } => {
                let dir = NodeDir::open(&state)?;
                let (identity, tls) = session::credentials(&dir)?;
                let trust = dir.policy_state().trust();
                let browser = discover.then(|| session::discover(dir.realm(), done.clone()));
                let volunteer = Volunteer {
                    dir,
                    identity,
                    tls,
                    addresses,
                    found: Found::default(),
                    _browser: browser,
                };
                let client = volunteer.client();
                let me = Me::Volunteer(Box::new(volunteer));
                (me, client, Link::Down(now), Some(trust))
            }
            Mode::Local { messages, http } => {
                let (sender, receiver, client) = session::local(messages, http).await?;
                socket = Some(receiver);
                (Me::Local, client, Link::Greeting(sender), None)
            }
        };
        let whole = pool.status().slots;
        let admission = Admission::new(
            trust,
            config.owner.clone(),
            engine,
            config.pool.memory_bytes,
            config.capabilities.clone(),
            config.location.clone(),
        );
        let mut node = Self {
            me,
            client,
            pool,
            sink,
            blobs,
            spill,
            seen,
            engine,
            admission,
            budget: Arc::new(Semaphore::new(work::BUDGET_KIB)),
            uploads: Arc::new(Semaphore::new(work::UPLOADS_MAX)),
            done,
            link,
            backoff: Backoff::reconnect(),
            trouble: None,
            attempts: HashMap::new(),
            reports: BTreeMap::new(),
            ready: BTreeSet::new(),
            progress: BTreeMap::new(),
            log_tokens: 0,
            ended: 0,
            slots: whole,
            paused: false,
            meter: Meter::default(),
            measured: crate::load::Use::default(),
            round_trip: session::RoundTrip::default(),
            heartbeat: Duration::from_millis(hearth_wire::limits::HEARTBEAT_MILLIS),
            idle_heartbeat: Duration::from_millis(hearth_wire::limits::IDLE_HEARTBEAT_MILLIS),
            heard: session::Heard::default(),
            timers: Timers {
                heartbeat: now,
                flush: None,
                flushed: now,
                owner: now,
                renewal: now,
            },
            drain: None,
            config,
        };
        node.restore(spilled);
        node.look_at_owner();
        if let Link::Greeting(sender) = &node.link {
            node.greet(&sender.clone());
        }
        let inbox = Inbox {
            socket,
            events,
            done: dones,
        };
        Ok((node, inbox))
    }

    /// Reacts to what happens until there is nothing left to do here.
    async fn live(&mut self, inbox: &mut Inbox, mut shutdown: Shutdown) -> Result<(), NodeError> {
        loop {
            let wake = self.next_wake();
            let draining = self.drain.is_some();
            let mut expiry = shutdown.clone();
            tokio::select! {
                batch = receive(&mut inbox.socket) => match batch {
                    Ok(batch) => {
                        for message in batch {
                            if let Err(breach) = self.on_message(message, &mut inbox.socket)? {
                                self.give_up(&breach, &mut inbox.socket);
                                break;
                            }
                        }
                    }
                    Err(error) => self.on_lost(&error, &mut inbox.socket),
                },
                Some(event) = inbox.events.next() => {
                    self.on_event(event);
                    while let Some(event) = inbox.events.try_next() {
                        self.on_event(event);
                    }
                    self.flush_if_due(Instant::now());
                }
                Some(done) = inbox.done.recv() => self.on_done(done, &mut inbox.socket),
                () = tokio::time::sleep_until(wake) => self.on_timer(&mut inbox.socket),
                () = shutdown.requested(), if !draining => self.start_drain(),
                () = expiry.expired(), if draining => {
                    self.give_everything_back();
                    self.leave();
                    return Ok(());
                }
            }
            if self.is_finished() {
                self.leave();
                // The goodbye must be out before the process ends.
                if let Some(socket) = &mut inbox.socket {
                    let farewell = async { while socket.recv().await.is_ok() {} };
                    let _late = tokio::time::timeout(drain::FAREWELL, farewell).await;
                }
                return Ok(());
            }
        }
    }

    fn next_wake(&self) -> Instant {
        let mut wake = self
            .timers
            .heartbeat
            .min(self.timers.owner)
            .min(self.timers.renewal);
        if let Some(flush) = self.timers.flush {
            wake = wake.min(flush);
        }
        if let Link::Down(at) = self.link {
            wake = wake.min(at);
        }
        wake
    }

    fn flush_if_due(&mut self, now: Instant) {
        if self.timers.flush.is_some_and(|at| at <= now) {
            self.timers.flush = None;
            self.flush();
        }
    }

    fn on_timer(&mut self, socket: &mut Option<Receiver<CoordinatorMessage>>) {
        let now = Instant::now();
        if matches!(self.link, Link::Down(at) if at <= now) {
            self.connect();
        }
        self.flush_if_due(now);
        if self.timers.owner <= now {
            self.timers.owner = now + session::OWNER_PERIOD;
            self.look_at_owner();
        }
        if self.timers.heartbeat <= now {
            let idle = self.attempts.is_empty() && self.reports.is_empty();
            let period = if idle {
                self.idle_heartbeat
            } else {
                self.heartbeat
            };
            self.timers.heartbeat = now + period;
            self.listen(now, socket);
            self.expire_leases(now);
            self.beat(now);
            self.tell_status();
        }
        if self.timers.renewal <= now {
            self.timers.renewal = now + session::RENEWAL_PERIOD;
            self.renew();
        }
    }

    fn on_done(&mut self, done: Done, socket: &mut Option<Receiver<CoordinatorMessage>>) {
        match done {
            Done::Gathered(attempt, result) => self.on_gathered(attempt, result),
            Done::Uploaded(attempt, result) => self.on_uploaded(attempt, result),
            Done::Saved(attempt, checkpoint, result) => self.on_saved(attempt, checkpoint, result),
            Done::Connected(result) => self.on_connected(*result, socket),
            Done::Renewed(result) => self.on_renewed(result),
            Done::Found(addresses) => self.on_found(addresses),
        }
    }
}

impl Volunteer {
    fn endpoint(&self) -> hearth_net::tls::Endpoint {
        let known = self.dir.addresses().iter().chain(&self.addresses);
        let mut addresses: Vec<String> = Vec::new();
        for address in known.chain(self.found.addresses()) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        session::endpoint(addresses)
    }

    fn client(&self) -> Client {
        Client::tls(
            self.endpoint(),
            self.tls.clone(),
            hearth_net::tls::Alpn::Http,
            ClientLimits::default(),
        )
    }

    fn ca(&self) -> &RealmCa {
        self.dir.ca()
    }
}

async fn receive(
    socket: &mut Option<Receiver<CoordinatorMessage>>,
) -> Result<Vec<CoordinatorMessage>, hearth_net::socket::SocketError> {
    match socket {
        Some(socket) => socket.recv().await,
        None => std::future::pending().await,
    }
}

/// A coordinator refuses what breaks these, so the owner hears of it here first.
fn check_names(config: &mut NodeConfig) -> Result<(), NodeError> {
    config.capabilities.sort();
    config.capabilities.dedup();
    let fits = |text: &str| is_label(text, NAME_BYTES_MAX);
    let wrong = if config.name.is_empty() || !fits(&config.name) {
        "name"
    } else if !fits(&config.location) {
        "location"
    } else if config.capabilities.len() > MANIFEST_LIST_MAX
        || !config.capabilities.iter().all(|name| fits(name))
    {
        "capabilities"
    } else {
        return Ok(());
    };
    Err(NodeError::Name(wrong))
}

/// The realm's coordinators, wherever they are.
pub(crate) use session::endpoint as enrol_endpoint;

/// The wall clock, which only certificates, releases and policies are measured by.
pub(crate) fn unix_now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixSeconds(since.map(|since| since.as_secs()).unwrap_or_default())
}
