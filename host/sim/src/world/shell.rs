//! The coordinator's shell: a journal that is durable late, and effects that wait for it.

use std::collections::{BTreeMap, VecDeque};

use hearth_core::{Config, Coordinator, Effect, Event};
use hearth_wire::record::{Fact, NodeProfile, Record, Standing, TaskEnd};
use hearth_wire::{Digest, Millis, SessionId, codec};

use super::{Happening, Message, ToNode, World, truth};
use crate::fault::Fault;

/// Largest record, generously: a batch of reports with inline bodies.
const RECORD_BYTES_MAX: usize = 4 << 20;
/// Ticks at one moment after which core counts as stuck.
const TICKS_MAX: u32 = 10_000;

/// Records between two snapshots; prime, so that they end anywhere in a step.
const SNAPSHOT_RECORDS: usize = 997;

/// The coordinator as seen from outside of core.
pub(crate) struct Shell {
    pub(crate) core: Coordinator,
    /// Replays each record when it becomes durable: what a crash would leave.
    pub(crate) shadow: Coordinator,
    pub(crate) journal: Vec<Vec<u8>>,
    pending: VecDeque<(Vec<Vec<u8>>, Vec<Effect>)>,
    pub(crate) up: bool,
    /// Counts starts, so that what was scheduled before one is ignored after it.
    pub(crate) life: u64,
    flushing: bool,
    /// Die before the next records are durable.
    pub(crate) crash_soon: bool,
    tick_at: Option<u64>,
    ticks: (u64, u32),
    /// Core's clock less the world's.
    pub(crate) offset: u64,
    /// For how long, and how far, the clock stands back.
    pub(crate) back: (u64, u64),
    /// Whether core was called while it stood back.
    pub(crate) back_seen: bool,
    last_session: SessionId,
    pub(crate) links: BTreeMap<u64, (usize, Option<SessionId>)>,
    pub(crate) by_session: BTreeMap<SessionId, u64>,
    pub(crate) next_link: u64,
    pub(crate) replays: u64,
    /// The newest snapshot, and how many records it covers.
    saved: Option<(usize, Vec<u8>)>,
    pub(crate) hashes: Vec<(usize, Digest)>,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self {
            core: Coordinator::new(sim_config()),
            shadow: Coordinator::new(sim_config()),
            journal: Vec::new(),
            pending: VecDeque::new(),
            up: false,
            life: 0,
            flushing: false,
            crash_soon: false,
            tick_at: None,
            ticks: (0, 0),
            offset: 0,
            back: (0, 0),
            back_seen: true,
            last_session: SessionId(0),
            links: BTreeMap::new(),
            by_session: BTreeMap::new(),
            next_link: 1,
            replays: 0,
            saved: None,
            hashes: Vec::new(),
        }
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Core as the simulator configures it: few closed jobs, so that forgetting happens, and a quota that
/// owners reach.
pub(crate) fn sim_config() -> Config {
    Config {
        closed_jobs_max: 64,
        owner_tasks_max: 1_200,
        ..Config::default()
    }
}

impl World {
    pub(crate) fn core_now(&self) -> Millis {
        let now = self.now + self.shell.offset;
        let (until, by) = self.shell.back;
        let now = if self.now < until {
            now.saturating_sub(by)
        } else {
            now
        };
        Millis(now)
    }

    pub(crate) fn start_coordinator(&mut self) {
        self.shell.up = true;
        self.shell.life += 1;
        self.shell.offset = self
            .shell
            .core
            .now()
            .0
            .saturating_sub(self.now)
            .max(self.shell.offset);
        let incarnation = self.rng.next();
        self.feed(Event::Started { incarnation });
    }

    /// Gives core an event, and puts what it answers before the disk.
    pub(crate) fn feed(&mut self, event: Event) {
        if !self.shell.up {
            return;
        }
        self.events += 1;
        let before = self.shell.core.seq().0;
        let now = self.core_now();
        if !self.shell.back_seen && self.now < self.shell.back.0 && now < self.shell.core.now() {
            self.shell.back_seen = true;
            self.fault(Fault::ClockBack);
        }
        let step = self.shell.core.handle(now, event);
        let count = step.records.len() as u64;
        if self.shell.core.seq().0 != before + count {
            self.oracle.violate("sequence numbers are dense", before);
        }
        let records = step.records.iter().map(codec::encode).collect();
        self.shell.pending.push_back((records, step.effects));
        if self.config.keep_hashes {
            let held: usize = self
                .shell
                .pending
                .iter()
                .map(|(records, _)| records.len())
                .sum();
            let hash = self.shell.core.state_hash();
            self.shell
                .hashes
                .push((self.shell.journal.len() + held, hash));
        }
        if !self.shell.flushing {
            self.shell.flushing = true;
            let (wait, life) = (self.rng.below(3), self.shell.life);
            self.after(wait, Happening::Flush(life));
        }
        self.plan_tick();
        if self.shell.crash_soon && count > 0 {
            self.shell.crash_soon = false;
            self.crash_coordinator();
        }
    }

    /// The clock was set: what was planned by the old one is wrong.
    pub(crate) fn plan_tick_anew(&mut self) {
        self.shell.tick_at = None;
        self.plan_tick();
    }

    fn plan_tick(&mut self) {
        let Some(due) = self.shell.core.next_timeout() else {
            return;
        };
        let at = due.0.saturating_sub(self.core_now().0) + self.now;
        if self.shell.tick_at.is_none_or(|planned| at < planned) {
            self.shell.tick_at = Some(at);
            let life = self.shell.life;
            self.after(at - self.now, Happening::Tick(life));
        }
    }

    pub(crate) fn tick(&mut self, life: u64) {
        if life != self.shell.life || self.shell.tick_at.is_none_or(|at| at > self.now) {
            return;
        }
        self.shell.tick_at = None;
        let (at, count) = self.shell.ticks;
        self.shell.ticks = if at == self.now {
            (at, count + 1)
        } else {
            (self.now, 1)
        };
        if self.shell.ticks.1 > TICKS_MAX {
            return self.oracle.violate("timers are in the future", self.now);
        }
        self.feed(Event::Tick);
    }

    pub(crate) fn flush(&mut self, life: u64) {
        if life == self.shell.life {
            self.shell.flushing = false;
            self.flush_all();
        }
    }

    /// Everything that waits becomes durable; then effects leave, each after its own step's records.
    pub(crate) fn flush_all(&mut self) {
        while let Some((records, effects)) = self.shell.pending.pop_front() {
            for bytes in records {
                self.make_durable(bytes);
            }
            for effect in effects {
                self.oracle.effect(&effect);
                self.release(effect);
            }
            self.oracle.step_left();
        }
    }

    fn make_durable(&mut self, bytes: Vec<u8>) {
        match codec::decode::<Record>(&bytes, RECORD_BYTES_MAX) {
            Ok(record) => {
                self.count(&record.fact);
                self.oracle.record(&record, &truth);
                if let Err(error) = self.shell.shadow.replay(&record) {
                    self.oracle.violate("every record can be replayed", error);
                }
            }
            Err(error) => self.oracle.violate("every record can be read", error),
        }
        self.shell.journal.push(bytes);
        let records = self.shell.journal.len();
        if records.is_multiple_of(SNAPSHOT_RECORDS) {
            self.shell.saved = Some((records, self.shell.shadow.snapshot()));
        }
    }

    /// Faults that have happened once they are in the journal.
    fn count(&mut self, fact: &Fact) {
        match fact {
            Fact::JobEnded {
                how: TaskEnd::Cancelled,
                ..
            } => self.fault(Fault::Cancellation),
            Fact::NodeStanding {
                standing: Standing::Revoked,
                ..
            } => self.fault(Fault::NodeRevoked),
            Fact::ReleaseRevoked { .. } => self.fault(Fault::ReleaseRevoked),
            Fact::NodeCapacity { capacity, .. } if capacity.slots == 0 => {
                self.fault(Fault::OwnerPause);
            }
            _ => {}
        }
    }

    /// The coordinator dies. Of what was not durable, a part may have reached the disk.
    pub(crate) fn crash_coordinator(&mut self) {
        if !self.shell.up {
            return;
        }
        self.fault(Fault::CoordinatorCrash);
        let pending = std::mem::take(&mut self.shell.pending);
        let records: Vec<_> = pending
            .into_iter()
            .flat_map(|(records, _)| records)
            .collect();
        if !records.is_empty() {
            // Now and then all of it has, and only what should have left after it is lost.
            let kept = if self.rng.once_in(4) {
                records.len()
            } else {
                self.fault(Fault::TornJournal);
                self.rng.below(records.len() as u64) as usize
            };
            for bytes in records.into_iter().take(kept) {
                self.make_durable(bytes);
            }
        }
        self.shell.up = false;
        self.shell.life += 1;
        self.shell.flushing = false;
        self.shell.tick_at = None;
        self.shell.links.clear();
        self.shell.by_session.clear();
        for index in 0..self.nodes.len() {
            self.node_hangs_up(index);
        }
        let down = self.rng.range(50, 8_000);
        self.after(down, Happening::Restart);
    }

    pub(crate) fn restart_coordinator(&mut self) {
        if self.shell.up {
            return;
        }
        self.compare_replay();
        // Of a step that was torn, what its end would have put right is put right by the next one.
        self.start_coordinator();
        self.check_core();
        self.clients_ask_again();
    }

    pub(crate) fn check_core(&mut self) {
        if let Err(violation) = self.shell.core.check() {
            self.oracle.violate(violation.invariant, violation.detail);
        }
    }

    /// Replays the journal into a new core, which from now on is the core: all of it, and by turns what
    /// follows the newest snapshot. The two must agree in everything, also in what is kept for speed.
    pub(crate) fn compare_replay(&mut self) {
        self.shell.replays += 1;
        let whole = self.replay_from(Coordinator::new(sim_config()), 0);
        let Some(mut core) = whole else {
            return;
        };
        if core.state_hash() != self.shell.shadow.state_hash() {
            self.oracle.violate("state hash is replay hash", core.seq());
        }
        if let Some((records, bytes)) = self.shell.saved.take() {
            match Coordinator::restore(sim_config(), &bytes) {
                Err(error) => self.oracle.violate("every snapshot can be restored", error),
                Ok(restored) => {
                    let Some(restored) = self.replay_from(restored, records) else {
                        return;
                    };
                    if restored.snapshot() != core.snapshot() {
                        let at = format!("{records} to {}", core.seq());
                        let law = "a snapshot and what follows it make the same state";
                        self.oracle.violate(law, at);
                    }
                    if self.shell.replays.is_multiple_of(2) {
                        core = restored;
                    }
                }
            }
            self.shell.saved = Some((records, bytes));
        }
        self.shell.core = core;
        self.oracle.hold_anew();
    }

    fn replay_from(&mut self, mut core: Coordinator, from: usize) -> Option<Coordinator> {
        for bytes in &self.shell.journal[from..] {
            let record = codec::decode::<Record>(bytes, RECORD_BYTES_MAX);
            let replayed = record.map(|record| core.replay(&record).is_ok());
            if replayed != Ok(true) {
                self.oracle
                    .violate("every record can be replayed", core.seq());
                return None;
            }
        }
        Some(core)
    }

    /// A message of a node arrives.
    pub(crate) fn at_coordinator(&mut self, link: u64, message: Message) {
        if !self.shell.up {
            return;
        }
        if let Message::Hello(held) = message {
            return self.hello(link, held);
        }
        let Some((index, Some(session))) = self.shell.links.get(&link).copied() else {
            return;
        };
        let node = self.nodes[index].id;
        let event = match message {
            Message::Hello(_) => return,
            Message::Reports(reports) => Event::Reported {
                node,
                session,
                reports,
            },
            Message::Capacity(capacity) => Event::CapacityChanged { session, capacity },
            Message::Checkpoint(attempt, checkpoint) => Event::CheckpointMade {
                node,
                attempt,
                checkpoint,
            },
            Message::Goodbye => Event::NodeDrain {
                request: None,
                node,
            },
        };
        self.feed(event);
    }

    fn hello(&mut self, link: u64, held: Vec<hearth_wire::AttemptId>) {
        let Some(index) = self.nodes.iter().position(|node| node.link == Some(link)) else {
            return;
        };
        if self
            .shell
            .links
            .get(&link)
            .is_some_and(|(_, session)| session.is_some())
        {
            return;
        }
        let last = self.shell.last_session.max(self.shell.core.last_session());
        let session = SessionId(last.0 + 1);
        self.shell.last_session = session;
        self.shell.links.insert(link, (index, Some(session)));
        self.shell.by_session.insert(session, link);
        let known = self.oracle.nodes.get(&self.nodes[index].id);
        if known.is_some_and(|node| node.standing == Standing::Revoked) {
            self.fault(Fault::RevokedReturn);
        }
        let node = &self.nodes[index];
        let profile = NodeProfile {
            node: node.id,
            session,
            kind: node.kind,
            name: format!("node {index}"),
            engine: node.engine,
            architecture: "x86_64".to_owned(),
            capacity: node.capacity,
            capabilities: node.capabilities.clone(),
            location: node.location.clone(),
        };
        self.feed(Event::NodeJoined { profile, held });
    }

    /// The coordinator gives a connection up.
    pub(crate) fn link_is_dead(&mut self, link: u64) {
        let Some((_, session)) = self.shell.links.remove(&link) else {
            return;
        };
        if let Some(session) = session {
            self.shell.by_session.remove(&session);
            self.feed(Event::NodeLost { session });
        }
    }

    /// An effect leaves.
    fn release(&mut self, effect: Effect) {
        let (session, message) = match effect {
            Effect::Done { request, answer } => return self.answered(request, Ok(answer)),
            Effect::Refused { request, refusal } => return self.answered(request, Err(refusal)),
            Effect::Welcome {
                session, unwanted, ..
            } => (session, ToNode::Welcome(unwanted)),
            Effect::Grant {
                session, leases, ..
            } => (session, ToNode::Grant(leases)),
            Effect::Cancel { session, attempts } => (session, ToNode::Cancel(attempts)),
            Effect::Pause { session, attempts } => (session, ToNode::Pause(attempts)),
            Effect::Resume { session, attempts } => (session, ToNode::Resume(attempts)),
            Effect::Settled { session, attempts } => (session, ToNode::Settled(attempts)),
            Effect::Drain { session } => {
                self.fault(Fault::Drain);
                (session, ToNode::Drain)
            }
            Effect::CloseSession { session, .. } => {
                self.send_to_node(session, ToNode::Close);
                if let Some(link) = self.shell.by_session.remove(&session) {
                    self.shell.links.remove(&link);
                }
                return;
            }
            _ => return,
        };
        self.send_to_node(session, message);
    }
}
