//! The coordinator's shell: its driver over a journal that is durable late, and effects that wait for it.

use std::collections::{BTreeMap, VecDeque};

use hearth_core::{Config, Coordinator, Effect, Event};
use hearth_store::StoreError;
use hearth_wire::record::{Fact, NodeProfile, Record, Standing, TaskEnd};
use hearth_wire::{Digest, Millis, Seq, SessionId, codec};

use super::storage::{RECORD_BYTES_MAX, Storage};
use super::{Happening, Message, ToNode, World, truth};
use crate::fault::Fault;
use crate::rng::Rng;

/// Ticks at one moment after which core counts as stuck.
const TICKS_MAX: u32 = 10_000;

/// The coordinator as seen from outside of core.
pub(crate) struct Shell {
    pub(crate) core: Coordinator,
    /// Replays each record when it becomes durable: what a crash would leave.
    pub(crate) shadow: Coordinator,
    pub(crate) storage: Storage,
    /// Steps whose effects wait, each for the newest record at its emission.
    pub(super) pending: VecDeque<(Seq, Vec<Effect>)>,
    pub(crate) up: bool,
    /// Counts starts, so that what was scheduled before one is ignored after it.
    pub(crate) life: u64,
    pub(super) flushing: bool,
    /// Whether a sync goes on, and up to where it has already come, if nobody knows yet.
    pub(super) syncing: bool,
    pub(super) synced: Option<Seq>,
    /// Die before the next records are durable.
    pub(crate) crash_soon: bool,
    pub(super) tick_at: Option<u64>,
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
    pub(crate) hashes: Vec<(usize, Digest)>,
}

impl Shell {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        Self {
            core: Coordinator::new(sim_config()),
            shadow: Coordinator::new(sim_config()),
            storage: Storage::new(rng),
            pending: VecDeque::new(),
            up: false,
            life: 0,
            flushing: false,
            syncing: false,
            synced: None,
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

    pub(super) fn start_coordinator(&mut self) {
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
        let records: Vec<_> = step.records.iter().map(codec::encode).collect();
        let apart = count > 1 && self.rng.once_in(8);
        let life = self.shell.life;
        if let Err(error) = self.append(records, apart) {
            return self.disk_failed(&error);
        }
        let seq = self.shell.core.seq();
        self.shell.pending.push_back((seq, step.effects));
        if self.config.keep_hashes {
            let hash = self.shell.core.state_hash();
            let written = self.shell.storage.written.len();
            self.shell.hashes.push((written, hash));
        }
        if !self.shell.flushing {
            self.shell.flushing = true;
            let wait = self.rng.below(3);
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

    /// What was appended is written, and a sync is asked for.
    pub(crate) fn flush(&mut self, life: u64) {
        if life != self.shell.life {
            return;
        }
        self.shell.flushing = false;
        match self.with_room(Storage::flush) {
            Ok(_) => self.begin_sync(),
            Err(error) => self.disk_failed(&error),
        }
    }

    /// One sync at a time: what is written meanwhile waits for the next.
    fn begin_sync(&mut self) {
        if self.shell.syncing {
            return;
        }
        // By turns the disk does it at once and tells late, or does it late.
        if self.rng.once_in(2) {
            match self.shell.storage.sync() {
                Ok(seq) => self.shell.synced = Some(seq),
                Err(error) => return self.disk_failed(&error),
            }
        }
        self.shell.syncing = true;
        let (wait, life) = (self.rng.below(3), self.shell.life);
        self.after(wait, Happening::Synced(life));
    }

    /// A sync has ended: what waited for it leaves.
    pub(crate) fn synced(&mut self, life: u64) {
        if life != self.shell.life {
            return;
        }
        self.shell.syncing = false;
        let synced = match self.shell.synced.take() {
            Some(seq) => Ok(seq),
            None => self.shell.storage.sync(),
        };
        match synced {
            Ok(seq) => self.release_through(seq),
            Err(error) => return self.disk_failed(&error),
        }
        // Steps that were flushed behind it wait for the next one.
        if life == self.shell.life && !self.shell.flushing && !self.shell.pending.is_empty() {
            self.begin_sync();
        }
    }

    /// The effects of each step leave behind its own records, if these are durable.
    fn release_through(&mut self, durable: Seq) {
        while let Some((seq, effects)) = self.shell.pending.pop_front_if(|step| step.0 <= durable) {
            self.make_durable(seq.0 as usize);
            for effect in effects {
                self.oracle.effect(&effect);
                self.release(effect);
            }
            self.oracle.step_left();
        }
    }

    /// Everything that waits becomes durable, and leaves.
    pub(crate) fn flush_all(&mut self) {
        while !self.shell.pending.is_empty() {
            let synced = self.shell.storage.flush();
            match synced.and_then(|_| self.shell.storage.sync()) {
                Ok(seq) => self.release_through(seq),
                Err(error) => return self.disk_failed(&error),
            }
        }
    }

    fn append(&mut self, mut records: Vec<Vec<u8>>, apart: bool) -> Result<(), StoreError> {
        self.with_room(|storage| storage.append(&mut records, apart))
    }

    /// The records up to this one are durable: whoever looks from outside may count on them.
    pub(super) fn make_durable(&mut self, upto: usize) {
        while self.shell.storage.durable < upto {
            let bytes = &self.shell.storage.written[self.shell.storage.durable];
            let record = codec::decode::<Record>(bytes, RECORD_BYTES_MAX);
            self.shell.storage.durable += 1;
            match record {
                Ok(record) => {
                    self.count(&record.fact);
                    self.oracle.record(&record, &truth);
                    if let Err(error) = self.shell.shadow.replay(&record) {
                        self.oracle.violate("every record can be replayed", error);
                    }
                }
                Err(error) => self.oracle.violate("every record can be read", error),
            }
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

    pub(crate) fn check_core(&mut self) {
        if let Err(violation) = self.shell.core.check() {
            self.oracle.violate(violation.invariant, violation.detail);
        }
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
