//! Start, life and end of a coordinator.

mod archive;
mod collect;
mod folded;
mod housekeeping;
mod lost;
mod open;
mod scrub;
mod snapshots;

pub(crate) use folded::views_of;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::Duration;

use hearth_identity::{COORDINATOR_NAME, DirError, PolicyState, RealmDir};
use hearth_net::http::guard::HostPolicy;
use hearth_net::listen::{ListenLimits, Listener};
use hearth_net::shutdown::{Shutdown, ShutdownTrigger, shutdown};
use hearth_net::tls::{Identity, ServerTls};
use hearth_wire::NodeId;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::accept::{self, Doors};
use crate::api::{self, PlainGate};
use crate::bucket::Buckets;
use crate::clock::unix_now;
use crate::config::{CoordinatorConfig, PlainListener};
use crate::driver::{self, Action, Driver, DriverParts, FOLLOWER_BATCHES_MAX};
use crate::error::CoordinatorError;
use crate::metrics::Metrics;
use crate::nodes::Connections;
use crate::scrubs::Scrubs;
use crate::shell::Shell;
use crate::tables::{Keeper, Source};
use crate::troubles::Troubles;
use crate::trust::{self, Held, Scope, Trusted};
use crate::views::Views;
use crate::{enrol, local};

/// Event streams at once: each costs a task and a connection.
const FOLLOWERS_MAX: usize = 1_024;

/// Submissions that may come at once, in seconds of the allowed rate.
const SUBMISSION_BURST_SECONDS: u32 = 10;

/// How long a driver that has ended may take to say why: it only has to let go of what it holds.
const LAST_WORD: Duration = Duration::from_secs(10);

/// Where a coordinator listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bound {
    /// With TLS, in the order of the configuration.
    pub listen: Vec<SocketAddr>,
    /// Without TLS, on a loopback address.
    pub plain: Option<SocketAddr>,
}

/// Runs a coordinator until `stop` is ready, then lets what is under way end within the configured
/// grace. `on_bound` hears where it listens, once everything is ready.
///
/// # Errors
///
/// [`CoordinatorError`]: it could not start, or had to end because its disk failed. Whatever it had
/// acknowledged is in the journal in every case.
pub async fn run(
    config: CoordinatorConfig,
    stop: impl Future<Output = ()>,
    on_bound: impl FnOnce(&Bound),
) -> Result<(), CoordinatorError> {
    let (trigger, listener) = shutdown();
    let grace = config.shutdown_grace;
    let mut running = start(config, listener).await?;
    on_bound(&running.bound);
    tracing::info!(
        listen = ?running.bound.listen,
        realm = %running.shell.realm.short(),
        epoch = %running.shell.epoch,
        "the coordinator is ready"
    );
    let ended = tokio::select! {
        () = stop => None,
        ended = &mut running.driver => Some(("driver", ended.ok())),
        ended = running.follower.join_next() => {
            let driver = match ended {
                // It hears no more records once the driver has ended, whose reason is the one to tell.
                Some(Ok(())) => tokio::time::timeout(LAST_WORD, &mut running.driver).await,
                _ => Ok(Ok(Ok(()))),
            };
            Some(("follower", driver.ok().and_then(Result::ok)))
        }
    };
    let result = match ended {
        Some((_, Some(Err(error)))) => Err(error),
        Some((part, _)) => Err(CoordinatorError::Ended(part)),
        None => running.stop(&trigger, grace).await,
    };
    let index = running.index;
    // Behind everything that could read in it.
    let _ = tokio::task::spawn_blocking(move || index.stop()).await;
    result
}

/// A coordinator that lives.
struct Running {
    shell: Arc<Shell>,
    bound: Bound,
    /// Everything that ends by itself once shutdown is asked for.
    parts: JoinSet<()>,
    follower: JoinSet<()>,
    driver: oneshot::Receiver<Result<(), CoordinatorError>>,
    index: Keeper,
    _announcements: Vec<hearth_net::mdns::Announcement>,
}

impl Running {
    /// Takes no more connections, tells everybody, and closes the journal last.
    async fn stop(
        &mut self,
        trigger: &ShutdownTrigger,
        grace: Duration,
    ) -> Result<(), CoordinatorError> {
        tracing::info!("the coordinator shuts down");
        trigger.request(grace);
        let parts = async { while self.parts.join_next().await.is_some() {} };
        // A little beyond the grace, which connections keep themselves.
        if tokio::time::timeout(grace.saturating_add(Duration::from_secs(1)), parts)
            .await
            .is_err()
        {
            tracing::warn!("some connections did not end in time and are cut");
            self.parts.shutdown().await;
        }
        let (done, finished) = oneshot::channel();
        if self.shell.driver.send(Action::Stop(done)).await.is_ok() {
            let _ = finished.await;
        }
        let ended = match (&mut self.driver).await {
            Ok(result) => result,
            Err(_) => Err(CoordinatorError::Ended("driver")),
        };
        // The last records, so that the index holds them when it is closed.
        let _ = tokio::time::timeout(LAST_WORD, self.follower.join_next()).await;
        ended
    }
}

async fn start(config: CoordinatorConfig, shutdown: Shutdown) -> Result<Running, CoordinatorError> {
    let realm = RealmDir::open(&config.realm)?;
    // Else it would be missed only when somebody is invited or shut out.
    realm.check_online_key()?;
    let opening = config.clone();
    let data = realm.data_dir();
    let realm_id = realm.realm();
    let opened = tokio::task::spawn_blocking(move || open::open(&opening, &data, realm_id)).await;
    let opened = opened.map_err(|_| CoordinatorError::Ended("start"))??;
    let metrics = Arc::new(Metrics::default());
    let (handle, actions) = driver::channel();
    let (to_follower, durable) = mpsc::channel(FOLLOWER_BATCHES_MAX);
    let tables = Arc::new(opened.tables);
    let views = Arc::new(Views::new(opened.state, Arc::clone(&tables)));
    let epoch = opened.core.epoch();
    let sessions = AtomicU64::new(opened.core.last_session().0 + 1);
    let journal = opened.journal.reader();
    let driver = start_driver(DriverParts {
        core: opened.core,
        clock: opened.clock,
        journal: opened.journal,
        actions,
        follower: to_follower,
        metrics: Arc::clone(&metrics),
        room: Arc::clone(&opened.room),
    })?;
    let mut follower = JoinSet::new();
    follower.spawn(Arc::clone(&views).follow(durable));
    let index = Keeper::start(
        Arc::clone(&tables),
        Source {
            views: Arc::clone(&views),
            journal: journal.clone(),
            snapshots: opened.snapshots.clone(),
            scrub_every: config.index_scrub_every,
        },
    )
    .map_err(CoordinatorError::Thread)?;
    let policy = policy_of(&realm)?;
    trust::warn_of_end(&policy, unix_now());
    let submissions = config.submissions_per_second;
    let shell = Arc::new(Shell {
        realm: realm_id,
        authority: realm.authority()?,
        trusted: RwLock::new(Trusted::new(policy)),
        policy_changes: watch::Sender::new(0),
        dir: realm,
        epoch,
        clock: opened.clock,
        local_node: NodeId::default(),
        driver: handle,
        views,
        tables,
        journal,
        snapshots: opened.snapshots,
        room: opened.room,
        scrubs: Scrubs::default(),
        blobs: opened.blobs,
        inputs: opened.inputs,
        releases: opened.releases,
        connections: Connections::new(opened.members.keys),
        metrics,
        submissions: Buckets::new(submissions, submissions * SUBMISSION_BURST_SECONDS),
        shutdown,
        held: Held::default(),
        troubles: Troubles::default(),
        redemptions: AsyncMutex::new(opened.members.redemptions),
        sessions,
        followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
        config,
    });
    // Before anybody can connect: what was revoked while we were away gets no lease.
    shell.judge(Scope::OpenJobs).await;
    let mut parts = JoinSet::new();
    let (bound, identity) = listen(&shell, &mut parts)?;
    parts.spawn(housekeeping::keep(Arc::clone(&shell), identity));
    parts.spawn(snapshots::keep(Arc::clone(&shell)));
    parts.spawn(archive::keep(Arc::clone(&shell), opened.archiver));
    parts.spawn(collect::keep(Arc::clone(&shell)));
    parts.spawn(scrub::keep(Arc::clone(&shell)));
    if let Some(local_host) = shell.config.local_host.clone() {
        let router = api::router(Arc::clone(&shell));
        parts.spawn(local::supervise(Arc::clone(&shell), local_host, router));
    }
    let announcements = announce(&shell, &bound);
    Ok(Running {
        shell,
        bound,
        parts,
        follower,
        driver,
        index,
        _announcements: announcements,
    })
}

/// What the realm says. Its list of revocations is renewed if it is time, because one that ended while we
/// were away would stop every volunteer. If that cannot be written, the one that is there stays, which shuts
/// out the same, and it is tried again hourly: a full disk must not keep us from what can go on without.
fn policy_of(realm: &RealmDir) -> Result<PolicyState, DirError> {
    match realm.refresh(unix_now()) {
        Err(error @ DirError::Io { .. }) => {
            tracing::error!(
                %error,
                "the list of revocations cannot be renewed, and the one that is there stays: volunteers stop \
                 when it ends"
            );
            realm.policy_state()
        }
        refreshed => refreshed,
    }
}

/// The driver's thread: it writes files, which may block.
fn start_driver(
    parts: DriverParts,
) -> Result<oneshot::Receiver<Result<(), CoordinatorError>>, CoordinatorError> {
    let driver = Driver::new(parts)?;
    let runtime = tokio::runtime::Handle::current();
    let (sender, ended) = oneshot::channel();
    thread::Builder::new()
        .name("hearth-driver".to_owned())
        .spawn(move || {
            // Nobody listens any more when `run` was dropped.
            let _ = sender.send(runtime.block_on(driver.run()));
        })
        .map_err(CoordinatorError::Thread)?;
    Ok(ended)
}

fn listen(
    shell: &Arc<Shell>,
    parts: &mut JoinSet<()>,
) -> Result<(Bound, Identity), CoordinatorError> {
    let tls_error = |error: hearth_net::tls::TlsError| CoordinatorError::Tls(error.to_string());
    let own = shell.dir.coordinator_tls(unix_now())?;
    let identity = Identity::new(own.chain, own.key).map_err(tls_error)?;
    let verifier = shell.authority.ca().client_verifier();
    let tls = ServerTls::new(&identity, verifier).map_err(tls_error)?;
    let bind = |addr| {
        let limits = ListenLimits::default();
        Listener::bind(addr, tls.clone(), limits, shell.shutdown.clone())
            .map_err(|source| CoordinatorError::Listen { addr, source })
    };
    let listeners = shell.config.listen.iter().copied().map(bind);
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let mut bound = Bound {
        listen: listeners.iter().map(Listener::local_addr).collect(),
        plain: None,
    };
    let doors = Doors {
        shell: Arc::clone(shell),
        api: api::router(Arc::clone(shell)),
        enrol: enrol::router(Arc::clone(shell)),
        hosts: Arc::new(member_hosts(shell, &bound.listen)),
    };
    for listener in listeners {
        shell.metrics.watch(listener.watch());
        parts.spawn(accept::serve_tls(doors.clone(), listener));
    }
    if let Some(plain) = &shell.config.plain {
        let addr = plain.addr;
        if !addr.ip().is_loopback() {
            return Err(CoordinatorError::NotLoopback(addr));
        }
        let limits = ListenLimits::default();
        let listener = Listener::bind_plain(addr, limits, shell.shutdown.clone())
            .map_err(|source| CoordinatorError::Listen { addr, source })?;
        shell.metrics.watch(listener.watch());
        let local = listener.local_addr();
        bound.plain = Some(local);
        let gate = plain_gate(shell, plain, local);
        parts.spawn(accept::serve_plain(doors, listener, gate));
    }
    Ok((bound, identity))
}

/// What members may name us by: whatever our certificate says, and the realm's addresses. Pages from
/// elsewhere may send nothing, whoever's certificate their browser holds.
fn member_hosts(shell: &Shell, bound: &[SocketAddr]) -> HostPolicy {
    let addresses = shell.dir.addresses();
    let named = addresses
        .iter()
        .filter_map(|address| Some(address.rsplit_once(':')?.0.to_owned()));
    let own = [COORDINATOR_NAME.to_owned()].into_iter();
    let bare: Vec<_> = own.chain(shell.dir.hosts()).chain(named).collect();
    let with_port = bound.iter().flat_map(|addr| {
        let port = addr.port();
        bare.iter().map(move |host| format!("{host}:{port}"))
    });
    let hosts: Vec<_> = with_port
        .chain(addresses.iter().cloned())
        .chain(bound.iter().map(SocketAddr::to_string))
        .chain(bare.iter().cloned())
        .collect();
    let origins: Vec<_> = hosts.iter().map(|host| format!("https://{host}")).collect();
    HostPolicy::new(hosts, origins)
}

/// Only requests for this very address pass, and no web page's: a page of somebody else could reach
/// a loopback address by a name of its own.
fn plain_gate(shell: &Shell, plain: &PlainListener, local: SocketAddr) -> PlainGate {
    let port = local.port();
    let own = [local.to_string(), format!("localhost:{port}")];
    let hosts = own.into_iter().chain(plain.hosts.iter().cloned());
    let origins = plain
        .hosts
        .iter()
        .flat_map(|host| [format!("http://{host}"), format!("https://{host}")]);
    PlainGate {
        hosts: Arc::new(HostPolicy::new(hosts, origins)),
        tokens: shell.dir.tokens_file(),
    }
}

fn announce(shell: &Shell, bound: &Bound) -> Vec<hearth_net::mdns::Announcement> {
    if !shell.config.announce {
        return Vec::new();
    }
    bound
        .listen
        .iter()
        .filter(|addr| !addr.ip().is_loopback())
        .filter_map(|addr| {
            let name = shell.dir.name();
            let announced = hearth_net::mdns::announce(&shell.realm, name, addr.port());
            announced
                .inspect_err(|error| tracing::warn!(%error, "not announced on the local network"))
                .ok()
        })
        .collect()
}
