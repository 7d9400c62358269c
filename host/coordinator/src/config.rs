//! What the owner of a realm may set.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hearth_wire::{ReleaseId, TaskType, limits};

/// What the owner of a realm may set. Made by [`CoordinatorConfig::new`], then changed by field.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CoordinatorConfig {
    /// The realm's directory, as `hearth init` made it.
    pub realm: PathBuf,
    /// Where nodes and clients connect. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// A listener without TLS for tools on this machine.
    pub plain: Option<PlainListener>,
    /// The local host; without it nothing runs while no volunteer is there.
    pub local_host: Option<LocalHostConfig>,
    /// Which release runs a bare processing task of a type.
    pub default_releases: BTreeMap<TaskType, ReleaseId>,
    /// Tasks of one author that may be open.
    pub open_tasks_per_author: u64,
    /// Submissions of one author a second, over a minute.
    pub submissions_per_second: u32,
    /// Bytes of blobs, and as many of input sets, that may be stored.
    pub blob_bytes_max: u64,
    /// Bytes that are left free on the disk: below, new work and its uploads are refused, so that what
    /// runs can end.
    pub disk_reserve_bytes: u64,
    /// Bytes that are kept taken beside the journal, to be given up when a write of it does not fit; zero
    /// for none.
    pub ballast_bytes: u64,
    /// How long a blob or an input set that nobody needs stays after it was last stored, looked for or
    /// named: whoever uploads one has that long to submit what it is for. A day at least, in earnest.
    pub unused_files_kept: Duration,
    /// How often it is looked for states of checkpoints that were let go; every sixtieth time also for
    /// everything else that nobody needs.
    pub collect_every: Duration,
    /// How often all files are read to find damage.
    pub scrub_every: Duration,
    /// Jobs that have ended and are still shown, with their outputs. The first to end goes first.
    pub ended_jobs_max: usize,
    /// How often it is looked whether a file of the journal has ended; then a snapshot is written.
    pub snapshot_every: Duration,
    /// How often the whole index is read and compared with what is shown, beside the first time at the start.
    pub index_scrub_every: Duration,
    /// Bytes after which the journal goes on in another file.
    pub journal_segment_bytes: u64,
    /// Where files of the journal go that the snapshots cover: from the realm's directory on, or an absolute
    /// path, which may be on another disk. They are read there, and must stay. Made if its parent is there.
    pub archive: PathBuf,
    /// How long a shutdown waits for what is under way.
    pub shutdown_grace: Duration,
    /// Whether the coordinator announces itself on the local network.
    pub announce: bool,
    /// Take the journal's end as it is found, though the mark that says where it was is missing or
    /// damaged, or though nothing of the journal is left: what had been acknowledged behind it is given up.
    pub trust_journal_end: bool,
}

/// A listener without TLS, on a loopback address. Every request must carry one of the bearer tokens
/// in the realm's `tokens.toml`.
#[derive(Debug, Clone)]
pub struct PlainListener {
    /// A loopback address; anything else is refused.
    pub addr: SocketAddr,
    /// Values of `Host` and hosts of `Origin` that are allowed besides the address itself.
    pub hosts: Vec<String>,
}

/// How to start the local host: `PROGRAM ARGS…`, with file descriptor 0 as the WebSocket stream and
/// file descriptor 1 as the HTTP stream; it logs to file descriptor 2.
#[derive(Debug, Clone)]
pub struct LocalHostConfig {
    /// The program, by an explicit path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

impl CoordinatorConfig {
    /// The defaults for the realm in `realm`, listening on `listen`.
    pub fn new(realm: impl Into<PathBuf>, listen: Vec<SocketAddr>) -> Self {
        Self {
            realm: realm.into(),
            listen,
            plain: None,
            local_host: None,
            default_releases: BTreeMap::new(),
            open_tasks_per_author: limits::OPEN_TASKS_PER_AUTHOR_MAX,
            submissions_per_second: 2_000,
            blob_bytes_max: 64 << 30,
            disk_reserve_bytes: 256 << 20,
            // A segment of the journal: hours of ends of tasks, at a thousand records a second of some
            // tens of bytes.
            ballast_bytes: 64 << 20,
            unused_files_kept: Duration::from_secs(24 * 60 * 60),
            collect_every: Duration::from_secs(60),
            scrub_every: Duration::from_secs(7 * 24 * 60 * 60),
            ended_jobs_max: limits::IDEMPOTENCY_KEYS_MAX,
            snapshot_every: Duration::from_secs(20),
            index_scrub_every: Duration::from_secs(24 * 60 * 60),
            journal_segment_bytes: 64 << 20,
            archive: "data/archive".into(),
            shutdown_grace: Duration::from_secs(5),
            announce: false,
            trust_journal_end: false,
        }
    }
}
