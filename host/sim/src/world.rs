//! One world: a coordinator, its nodes and clients, and what happens between them.

mod client;
mod crash;
mod mishap;
mod net;
mod node;
mod offline;
mod shell;
mod storage;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use hearth_core::RequestId;
use hearth_wire::message::Capacity;
use hearth_wire::record::NodeKind;
use hearth_wire::{AttemptId, Checkpoint, Digest, NodeId};

use crate::fault::{Fault, Faults};
use crate::oracle::Oracle;
use crate::rng::Rng;
use client::Clients;
#[cfg(test)]
pub(crate) use client::Wish;
pub(crate) use client::truth;
use node::{Node, NodeTimer, Run};
use shell::Shell;
pub(crate) use shell::sim_config;

/// What a world is like.
#[derive(Debug, Clone)]
pub(crate) struct WorldConfig {
    pub(crate) seed: u64,
    /// Until faults and submissions stop.
    pub(crate) millis: u64,
    pub(crate) volunteers: u64,
    /// Open tasks at which clients wait.
    pub(crate) tasks_max: u64,
    /// Mean time between two mishaps, in milliseconds; zero for none.
    pub(crate) mishap_millis: u64,
    /// A message in this many is lost, repeated, delayed.
    pub(crate) message_luck: u64,
    /// Whether the coordinator may crash.
    pub(crate) crashes: bool,
    /// Nothing goes wrong from the beginning, and no client wants anything of its own accord.
    pub(crate) quiet: bool,
    /// Keep the hash after each step, for replays from each.
    pub(crate) keep_hashes: bool,
}

impl WorldConfig {
    /// An hour with everything that can go wrong.
    pub(crate) fn hour(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let volunteers = match rng.below(10) {
            0..=4 => rng.range(4, 20),
            5..=8 => rng.range(20, 80),
            _ => rng.range(80, 300),
        };
        Self {
            seed,
            millis: 3_600_000,
            volunteers,
            tasks_max: 2_500,
            mishap_millis: 7_000,
            message_luck: 300,
            crashes: true,
            quiet: false,
            keep_hashes: false,
        }
    }
}

/// What came of a world.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) events: u64,
    pub(crate) records: u64,
    pub(crate) settled: u64,
    pub(crate) replays: u64,
    pub(crate) faults: Faults,
    pub(crate) violations: Vec<String>,
    pub(crate) hash: Digest,
    pub(crate) journal: Vec<Vec<u8>>,
    /// Records and hash after each step, if asked for.
    pub(crate) hashes: Vec<(usize, Digest)>,
}

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A message of a node arrives at the coordinator, over a connection.
    AtCoordinator(u64, Message),
    /// A message of the coordinator arrives at a node, over a connection.
    AtNode(usize, u64, ToNode),
    /// A node's own time.
    Node(usize, NodeTimer),
    /// A node's run ends.
    RunEnds(usize, AttemptId, u64),
    /// The coordinator finds that a connection is dead.
    Silent(u64),
    /// What waits is written to the disk.
    Flush(u64),
    /// A sync has ended.
    Synced(u64),
    /// The coordinator looks whether a snapshot is due.
    Save(u64),
    /// Core asked to be called.
    Tick(u64),
    /// The coordinator starts again.
    Restart,
    /// A client does something.
    Client,
    /// Something goes wrong.
    Mishap,
    /// A client goes on without the realm, or brings what it has computed.
    Offline(offline::Offline),
    /// The oracle looks.
    Look,
}

/// What a node says.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Hello(Vec<AttemptId>),
    Reports(Vec<hearth_core::ReportIn>),
    Capacity(Capacity),
    Checkpoint(AttemptId, Checkpoint),
    Goodbye,
}

/// What the coordinator says.
#[derive(Debug, Clone)]
pub(crate) enum ToNode {
    Welcome(Vec<AttemptId>),
    Grant(Vec<hearth_core::Grant>),
    Cancel(Vec<AttemptId>),
    Pause(Vec<AttemptId>),
    Resume(Vec<AttemptId>),
    Settled(Vec<AttemptId>),
    Drain,
    Close,
}

/// One world.
pub(crate) struct World {
    pub(crate) config: WorldConfig,
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    order: u64,
    agenda: BinaryHeap<Reverse<(u64, u64, Box<Scheduled>)>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_id: BTreeMap<NodeId, usize>,
    pub(crate) shell: Shell,
    pub(crate) clients: Clients,
    pub(crate) oracle: Oracle,
    pub(crate) faults: Faults,
    /// Attempts that saved a state which leads to a wrong result.
    pub(crate) poisoned: BTreeSet<AttemptId>,
    pub(crate) events: u64,
    /// Faults and submissions have stopped.
    pub(crate) quiet: bool,
}

/// A happening, ordered by the time and number beside it alone.
pub(crate) struct Scheduled(Happening);

impl PartialEq for Scheduled {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// After faults have stopped, some task must end in each such time until none is open: three of the
/// longest leases.
const QUIET_MILLIS_MAX: u64 = 3 * client::LEASE_MILLIS_MAX + 120_000;

impl World {
    pub(crate) fn new(config: WorldConfig) -> Self {
        let mut rng = Rng::new(config.seed);
        let mut world = Self {
            now: 0,
            shell: Shell::new(&mut rng),
            rng,
            order: 0,
            agenda: BinaryHeap::new(),
            nodes: Vec::new(),
            by_id: BTreeMap::new(),
            clients: Clients::default(),
            oracle: Oracle::default(),
            faults: Faults::default(),
            poisoned: BTreeSet::new(),
            events: 0,
            quiet: config.quiet,
            config,
        };
        world.restart_coordinator();
        world.add_node(NodeKind::Local);
        world.add_node(NodeKind::Trusted);
        for _ in 0..world.config.volunteers {
            world.add_node(NodeKind::Volunteer);
        }
        world.after(1, Happening::Client);
        if world.config.mishap_millis > 0 {
            world.after(5_000, Happening::Mishap);
            world.after(2_000, Happening::Offline(offline::Offline::Begin));
        }
        world.after(1_000, Happening::Look);
        world
    }

    /// Lives through the hour and the quiet after it.
    pub(crate) fn run(mut self) -> End {
        let end = self.config.millis;
        self.run_until(end);
        self.make_peace();
        let (mut last, mut open) = (self.now + QUIET_MILLIS_MAX, self.oracle.open_tasks());
        while self.now < last && self.oracle.violations.is_empty() {
            let until = self.now + 1_000;
            self.run_until(until);
            let left = self.oracle.open_tasks();
            if left == 0 && self.clients.waiting.is_empty() {
                break;
            }
            if left < open {
                (last, open) = (self.now + QUIET_MILLIS_MAX, left);
            }
        }
        self.final_look();
        End {
            events: self.events,
            records: self.oracle.seq,
            settled: self.oracle.settled,
            replays: self.shell.replays,
            faults: self.faults,
            hash: self.shell.core.state_hash(),
            violations: self.oracle.violations,
            journal: self.shell.storage.written,
            hashes: self.shell.hashes,
        }
    }

    pub(crate) fn run_until(&mut self, end: u64) {
        while let Some(Reverse((at, _, _))) = self.agenda.peek() {
            if *at > end || !self.oracle.violations.is_empty() {
                break;
            }
            let Some(Reverse((at, _, scheduled))) = self.agenda.pop() else {
                break;
            };
            self.now = at;
            self.happen(scheduled.0);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::AtCoordinator(link, message) => self.at_coordinator(link, message),
            Happening::AtNode(node, link, message) => self.at_node(node, link, message),
            Happening::Node(node, timer) => self.node_timer(node, timer),
            Happening::RunEnds(node, attempt, generation) => {
                self.run_ends(node, attempt, generation);
            }
            Happening::Silent(link) => self.link_is_dead(link),
            Happening::Flush(life) => self.flush(life),
            Happening::Synced(life) => self.synced(life),
            Happening::Save(life) => self.save(life),
            Happening::Tick(life) => self.tick(life),
            Happening::Restart => self.restart_coordinator(),
            Happening::Client => self.client(),
            Happening::Mishap => self.mishap(),
            Happening::Offline(offline) => self.offline(offline),
            Happening::Look => self.look(),
        }
    }

    pub(crate) fn after(&mut self, millis: u64, happening: Happening) {
        self.order += 1;
        let scheduled = Box::new(Scheduled(happening));
        let at = self.now + millis;
        self.agenda.push(Reverse((at, self.order, scheduled)));
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    pub(crate) fn next_request(&mut self) -> RequestId {
        self.clients.requests += 1;
        RequestId(self.clients.requests)
    }

    /// Looks at what must hold at any time, and sometimes walks all of core's state.
    fn look(&mut self) {
        if self.shell.up {
            if self.shell.is_flushed() {
                let core_now = self.core_now();
                let due = self.shell.core.next_timeout();
                if due.is_none_or(|due| due.0 > core_now.0 + 5) {
                    self.oracle.sample_leases(core_now.0);
                    self.oracle.sample_idle();
                    self.oracle.sample_again(core_now.0);
                    self.oracle.sample_mode(core_now.0);
                }
                self.oracle.judge_owed();
                let (live, replayed) =
                    (self.shell.core.state_hash(), self.shell.shadow.state_hash());
                if live != replayed {
                    self.oracle.violate("state hash is replay hash", self.now);
                }
            }
            self.check_core();
        }
        let next = self.rng.range(5_000, 60_000);
        self.after(next, Happening::Look);
    }

    /// Everything has come to its end, and the journal says the same.
    fn final_look(&mut self) {
        if !self.oracle.violations.is_empty() {
            return;
        }
        self.flush_all();
        let open = self.oracle.open_tasks();
        if open > 0 {
            let detail = self.oracle.explain_open();
            self.oracle
                .violate("everything ends when faults stop", detail);
        }
        if !self.clients.waiting.is_empty() {
            let waiting = self.clients.waiting.len();
            self.oracle.violate("every request is answered", waiting);
        }
        self.oracle.judge_order();
        self.oracle.judge_choices();
        self.oracle.judge_held();
        self.oracle.judge_owed();
        self.last_start();
        self.check_core();
    }
}

impl Run {
    /// Whether the run has a report to send.
    pub(crate) fn is_done(&self) -> bool {
        self.report.is_some()
    }
}
