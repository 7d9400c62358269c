//! A start of the coordinator on a full journal: the whole program, until it listens.
//!
//! 1,000,000 tasks in 1,000 jobs, a fifth finished in random order, a twentieth leased; and the same with all
//! of them finished, whose tasks go into an index that is not there yet. Prints one JSON array of figures;
//! `cargo xtask bench` judges it. `--quick` does a tenth.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use hearth_core::{Config, Coordinator, Effect, Event, ReportIn, RequestId};
use hearth_identity::RealmDir;
use hearth_store::{DirLock, Journal, JournalConfig};
use hearth_wire::message::Capacity;
use hearth_wire::record::{NodeKind, NodeProfile, ReleaseFacts};
use hearth_wire::{
    AttemptId, Body, Class, Digest, EngineId, EngineRange, InputSet, JobOptions, JobSpec, KeyId,
    Millis, NodeId, Outcome, Output, ReleaseId, SessionId, TaskId, TaskLimits, TaskType, codec,
};
use support::{Figures, Realm, percentile};

const JOBS: u64 = 1_000;
const NODES: u64 = 100;
/// Reports that a node sends together.
const BATCH: usize = 16;
/// Events whose records are written together.
const COMMIT: usize = 64;

/// A coordinator whose journal is on the disk.
struct Writer {
    core: Coordinator,
    journal: Journal,
    events: usize,
    /// Live leases by node.
    live: Vec<Vec<(AttemptId, TaskId)>>,
    /// Tasks with a result.
    finished: u64,
    random: u64,
}

impl Writer {
    fn feed(&mut self, now: Millis, event: Event) {
        let step = self.core.handle(now, event);
        let records: Vec<_> = step.records.iter().map(codec::encode).collect();
        self.journal.append(&records).unwrap();
        self.events += 1;
        if self.events.is_multiple_of(COMMIT) {
            self.journal.commit().unwrap();
        }
        for effect in step.effects {
            match effect {
                Effect::Grant {
                    session, leases, ..
                } => {
                    let leases = leases.iter().map(|lease| (lease.attempt, lease.task));
                    self.live[session.0 as usize - 1].extend(leases);
                }
                // Some tasks are reported twice: late ones are run again elsewhere.
                Effect::ResultAccepted { .. } => self.finished += 1,
                _ => {}
            }
        }
    }

    /// xorshift64*: the same journal each time.
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    /// A node reports some of what it holds.
    fn report(&mut self, now: Millis) {
        let node = self.random(NODES as usize);
        let mut reports = Vec::new();
        while reports.len() < BATCH && !self.live[node].is_empty() {
            let place = self.random(self.live[node].len());
            let (attempt, task) = self.live[node].swap_remove(place);
            reports.push(ReportIn {
                attempt,
                task,
                outcome: Outcome::Returned(Output {
                    media_type: String::new(),
                    body: Body::Inline(vec![7; 64]),
                }),
                fuel_used: 1_000,
                run_micros: 1_000,
            });
        }
        let event = Event::Reported {
            node: node_id(node as u64),
            session: SessionId(node as u64 + 1),
            reports,
        };
        self.feed(now, event);
    }
}

fn node_id(node: u64) -> NodeId {
    NodeId(Digest::of(&node.to_le_bytes()))
}

fn profile(node: u64, tasks: u64) -> NodeProfile {
    NodeProfile {
        node: node_id(node),
        session: SessionId(node + 1),
        kind: NodeKind::Volunteer,
        name: format!("node-{node}"),
        engine: EngineId {
            version: [48, 0, 8],
            semantics: Digest::default(),
        },
        architecture: "x86_64".to_owned(),
        capacity: Capacity {
            slots: (tasks / 20 / NODES) as u16,
            memory_bytes: 64 << 30,
        },
        capabilities: Vec::new(),
        location: String::new(),
    }
}

/// Writes the journal of a realm with so many tasks, of which so many are finished.
fn write(realm: &RealmDir, tasks: u64, done: u64) {
    let lock = DirLock::acquire(&realm.data_dir()).unwrap();
    let visit = |_, _: &[u8]| Ok::<_, std::io::Error>(());
    let (journal, _) = Journal::open(&lock, JournalConfig::new(realm.realm()), visit).unwrap();
    let mut writer = Writer {
        core: Coordinator::new(Config::default()),
        journal,
        events: 0,
        live: vec![Vec::new(); NODES as usize],
        finished: 0,
        random: 0x9e37_79b9_7f4a_7c15,
    };
    let mut now = Millis(1);
    writer.feed(now, Event::Started { incarnation: 1 });
    let facts = ReleaseFacts {
        id: ReleaseId::default(),
        author: KeyId::default(),
        component: Digest::default(),
        limits: TaskLimits::default(),
        class: Class::Exact,
        task_type: TaskType::Processing,
        capabilities: Vec::new(),
        locations: Vec::new(),
        engines: EngineRange {
            min: [0; 3],
            max: [u16::MAX; 3],
        },
    };
    let request = RequestId(1);
    writer.feed(now, Event::ReleaseAdded { request, facts });
    for job in 0..JOBS {
        let spec = JobSpec {
            release: ReleaseId::default(),
            inputs: InputSet {
                root: Digest::of(&job.to_le_bytes()),
                count: (tasks / JOBS) as u32,
                bytes: 64_000,
                media_type: "text/plain".to_owned(),
            },
            owner: KeyId(Digest::of(&(job % 10).to_le_bytes())),
            options: JobOptions {
                name: format!("job {job}"),
                ..JobOptions::default()
            },
        };
        writer.feed(now, Event::Submit { request, spec });
    }
    for node in 0..NODES {
        let (profile, held) = (profile(node, tasks), Vec::new());
        writer.feed(now, Event::NodeJoined { profile, held });
    }
    while writer.finished < done {
        now = now.plus(1);
        writer.report(now);
    }
    writer.journal.commit().unwrap();
}

/// After so long without growing an index is filled: its engine writes what it has each half second.
const SETTLED: Duration = Duration::from_millis(1_500);

/// Starts the coordinator, waits until it listens and until `done`, and kills it. Gives the seconds of both.
fn start(realm: &mut Realm, done: impl FnMut() -> bool) -> (f64, f64) {
    let begun = Instant::now();
    realm.start_coordinator();
    let listens = begun.elapsed().as_secs_f64();
    support::wait("the index", done);
    let both = begun.elapsed().as_secs_f64();
    realm.end_processes();
    (listens, both)
}

/// A realm whose journal has so many tasks, of which so many are finished.
fn make(tasks: u64, done: u64) -> Realm {
    let realm = Realm::new();
    write(&RealmDir::open(&realm.dir()).unwrap(), tasks, done);
    realm
}

/// Bytes under a directory.
fn bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn main() {
    let tasks = if support::quick() { 100_000 } else { 1_000_000 };
    let mut figures = Figures::default();
    let mut realm = make(tasks, tasks / 5);
    let mut seconds: Vec<_> = (0..3).map(|_| start(&mut realm, || true).0).collect();
    let name = format!("restart, {tasks} tasks in {JOBS} jobs, 1/5 finished, 1/20 leased");
    figures.at_most(&name, percentile(&mut seconds, 0.5), "s", 3.0, 1.0);

    let mut realm = make(tasks, tasks);
    let index = realm.dir().join("data/index");
    let both = (0..3).map(|_| {
        let _ = std::fs::remove_dir_all(&index);
        let (mut seen, mut since) = (0, Instant::now());
        let (listens, both) = start(&mut realm, || {
            let now = bytes(&index);
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            // Empty files are there at once.
            seen > tasks && since.elapsed() > SETTLED
        });
        (listens, both - SETTLED.as_secs_f64())
    });
    let (mut listens, mut filled): (Vec<_>, Vec<_>) = both.unzip();
    let name = format!("restart, {tasks} tasks in {JOBS} jobs, all finished, no index");
    figures.info(&name, percentile(&mut listens, 0.5), "s");
    let name = "the same until the index is filled";
    figures.info(name, percentile(&mut filled, 0.5), "s");
    figures.print();
}
