//! The owner of all state.

mod join;
mod lease;
mod merge;
mod place;
mod preempt;
mod report;
mod request;
mod tail;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hearth_wire::record::{Fact, Mode, Record, ReleaseFacts};
use hearth_wire::{Digest, Epoch, JobId, KeyId, Millis, ReleaseId, Seq, SessionId};
use serde::{Deserialize, Serialize};

use crate::attempt::Attempts;
use crate::job::{ClosedJob, Job};
use crate::node::Nodes;
use crate::outbox::Outbox;
use crate::queue::Owners;
use crate::shape::Fits;
use crate::step::JobProgress;
use crate::time::Timers;
use crate::{Config, Effect, Event, Step, Violation};

/// The owner of all state: jobs, nodes, attempts, and the indices by which they find each other.
///
/// One value, one method that takes events, no callbacks. The way of every change is: `handle` looks
/// at the state and decides on a [`Fact`]; the fact is folded into the state by the same code that
/// replays the journal; the fold notes what follows for the outside (a lease to cancel, a job that
/// closed) in an outbox; at the end of `handle` the outbox becomes effects, while a replay drops it.
/// So there is no change that a replay would miss, and no effect that does not stem from a record.
/// After the event itself was dealt with, `handle` gives work to the nodes that it freed, finds nodes
/// for the work that it brought, and looks at the mode. All of that is bounded per step; what is cut
/// short goes on at the next timer.
///
/// What is kept for speed (queues, groups, idle lists, timers) is derived by the fold from the rest.
/// It is left out of the state hash where it may depend on the order of equals, and `check` compares
/// it with what it is derived from.
///
/// The price: a fact is decided once and folded once, so its fields are looked up twice; and a state
/// of millions of tasks lives in memory, at sixteen bytes for each that was never leased.
#[derive(Debug, Serialize, Deserialize)]
pub struct Coordinator {
    #[serde(skip)]
    pub(crate) config: Config,
    pub(crate) seq: Seq,
    pub(crate) now: Millis,
    pub(crate) epoch: Epoch,
    pub(crate) last_session: SessionId,
    pub(crate) next_job: JobId,
    pub(crate) releases: BTreeMap<ReleaseId, ReleaseState>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) closed: BTreeMap<JobId, ClosedJob>,
    pub(crate) closed_order: VecDeque<JobId>,
    /// Jobs by owner and idempotency key, open or closed.
    pub(crate) keys: BTreeMap<(KeyId, String), JobId>,
    pub(crate) open_tasks: u64,
    pub(crate) attempts: Attempts,
    pub(crate) nodes: Nodes,
    pub(crate) mode: Mode,
    /// The mode that fits, and since when, if it is not the present one.
    pub(crate) wanted: Option<(Mode, Millis)>,
    /// When the local host last took work that volunteers might have done.
    pub(crate) overflow_at: Option<Millis>,
    /// Live attempts of that kind.
    pub(crate) overflow_live: u32,
    /// When one of our own nodes was last disconnected.
    pub(crate) ours_left_at: Option<Millis>,
    /// Decisions on leases so far, each for one node and job: whose turn it is.
    pub(crate) turn: u64,

    pub(crate) owners: Owners,
    pub(crate) fits: Fits,
    /// Slots of volunteers and trusted nodes that may get work.
    pub(crate) volunteer_slots: u64,
    pub(crate) timers: Timers,
    /// When the mode is looked at next, if time alone can change it.
    pub(crate) mode_at: Option<Millis>,
    /// The time of the present call, which may be past that of the newest record.
    pub(crate) clock: Millis,
    #[serde(skip)]
    pub(crate) out: Outbox,
}

/// A release and what running it has shown.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReleaseState {
    pub(crate) facts: ReleaseFacts,
    pub(crate) revoked: bool,
    /// Run time over all nodes in microseconds, forgetting; zero before the first.
    pub(crate) micros: u64,
    /// Connected nodes that declined it.
    pub(crate) declined_by: BTreeSet<crate::node::NodeIndex>,
}

/// A record does not follow from those before it: the journal is another realm's, or damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} does not fit those before it ({problem}); restore the journal from a backup")]
pub struct ReplayError {
    /// The record.
    pub seq: Seq,
    /// What does not fit.
    pub problem: &'static str,
}

impl Coordinator {
    /// An empty realm.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            seq: Seq(0),
            now: Millis(0),
            epoch: Epoch::default(),
            last_session: SessionId(0),
            next_job: JobId(1),
            releases: BTreeMap::new(),
            jobs: BTreeMap::new(),
            closed: BTreeMap::new(),
            closed_order: VecDeque::new(),
            keys: BTreeMap::new(),
            open_tasks: 0,
            attempts: Attempts::default(),
            nodes: Nodes::default(),
            mode: Mode::default(),
            wanted: None,
            overflow_at: None,
            overflow_live: 0,
            ours_left_at: None,
            turn: 0,
            owners: Owners::default(),
            fits: Fits::default(),
            volunteer_slots: 0,
            timers: Timers::default(),
            mode_at: None,
            clock: Millis(0),
            out: Outbox::default(),
        }
    }

    /// Folds one journaled record. All records are replayed, in order, before the first event.
    ///
    /// # Errors
    ///
    /// [`ReplayError`] if the record does not follow from those before it. The state is then of no
    /// further use.
    pub fn replay(&mut self, record: &Record) -> Result<(), ReplayError> {
        self.replay_telling(record, |_| {})
    }

    /// As [`Coordinator::replay`], and `told` hears for whom the record holds blobs or lets them go: of
    /// all effects those that whoever keeps files needs of the past too.
    ///
    /// # Errors
    ///
    /// As [`Coordinator::replay`].
    pub fn replay_telling(
        &mut self,
        record: &Record,
        told: impl FnMut(&Effect),
    ) -> Result<(), ReplayError> {
        self.fold(record).map_err(|problem| ReplayError {
            seq: Seq(self.seq.0 + 1),
            problem,
        })?;
        let effects = self.out.effects.iter();
        effects.filter(|effect| effect.keeps_blobs()).for_each(told);
        self.out.clear();
        Ok(())
    }

    /// Decides what an event means, changes the state accordingly, and says what to do.
    ///
    /// Time is the largest of `now`, that of the newest record and that of the step before, so a clock
    /// that goes back does no harm (what became ready stays so), and one that leaps ahead ends leases
    /// early, whose reports are still accepted.
    ///
    /// # Panics
    ///
    /// If core decided on something that its own records do not allow: a defect of core. The step must
    /// be dropped and the coordinator with it, so that the journal stays one that replays.
    pub fn handle(&mut self, now: Millis, event: Event) -> Step {
        let mut step = Step::default();
        self.clock = now.max(self.now).max(self.clock);
        let turn = &mut Turn {
            now: self.clock,
            step: &mut step,
        };
        self.decide(turn, event);
        // Before anything is leased, also by a timer: whoever was just found wrong gets nothing more.
        self.follow_up(turn);
        self.fire_timers(turn);
        self.follow_up(turn);
        self.place(turn);
        self.watch_tails(turn);
        self.judge_mode(turn);
        self.forget_jobs(turn);
        self.out.drain_into(&self.jobs, &mut step.effects);
        step
    }

    /// When [`Event::Tick`] is wanted next, if no other event comes first.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.timers.next()
    }

    /// The sequence number of the newest record.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// The time of the newest record: the shell's clock starts here.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The present epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The newest session that was ever taken in: new ones are numbered above it.
    pub fn last_session(&self) -> SessionId {
        self.last_session
    }

    /// The present mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How an open job stands; `None` for one that closed or never was.
    pub fn job(&self, job: JobId) -> Option<JobProgress> {
        self.jobs.get(&job).map(Job::progress)
    }

    /// Tasks that are not terminal.
    pub fn open_tasks(&self) -> u64 {
        self.open_tasks
    }

    /// A digest of the whole state. Equal for a coordinator and one that replayed its records.
    pub fn state_hash(&self) -> Digest {
        crate::hash::state_hash(self)
    }

    /// Walks the whole state and checks every invariant that one state can show.
    ///
    /// # Errors
    ///
    /// The first [`Violation`] found: a defect of core.
    pub fn check(&self) -> Result<(), Violation> {
        crate::check::check(self)
    }

    fn decide(&mut self, turn: &mut Turn<'_>, event: Event) {
        match event {
            Event::Started { incarnation } => self.start(turn, incarnation),
            Event::ReleaseAdded { request, facts } => self.add_release(turn, request, facts),
            Event::ReleaseRevoked { request, release } => {
                self.revoke_release(turn, request, release);
            }
            Event::Submit { request, spec } => _ = self.submit(turn, request, spec),
            Event::SubmitHeld { request, spec } => {
                if let Some(job) = self.submit(turn, request, spec) {
                    self.hold(turn, job);
                }
            }
            Event::Merge {
                request,
                job,
                owner,
                engine,
                results,
                more,
            } => {
                let brought = merge::Brought {
                    owner,
                    engine,
                    results,
                    more,
                };
                self.merge(turn, request, job, brought);
            }
            Event::Cancel {
                request,
                job,
                owner,
            } => self.cancel(turn, request, job, owner),
            Event::NodeJoined { profile, held } => self.join(turn, profile, &held),
            Event::CapacityChanged { session, capacity } => {
                if let Some(node) = self.node_of(session) {
                    self.emit(turn, Fact::NodeCapacity { node, capacity });
                }
            }
            Event::NodeLost { session } => {
                if let Some(node) = self.node_of(session) {
                    self.emit(turn, Fact::NodeLost { node });
                }
            }
            Event::NodeDrain { request, node } => self.drain(turn, request, node),
            Event::NodeRevoked { request, node } => self.revoke_node(turn, request, node),
            Event::Reported {
                node,
                session,
                reports,
            } => self.report(turn, node, session, reports),
            Event::CheckpointMade {
                node,
                attempt,
                checkpoint,
            } => self.checkpoint(turn, node, attempt, checkpoint),
            Event::Suspicion {
                node,
                level,
                reason,
            } => self.suspect(turn, node, level, reason),
            Event::Shell { request, bytes } => self.note(turn, request, bytes),
            Event::Tick => {}
        }
    }

    /// Folds a fact and hands it over to be journaled.
    ///
    /// A fact that its own fold refuses must not get into the journal: no later start could replay it,
    /// and everything acknowledged behind it would be out of reach. The state is half changed by then,
    /// so nothing of this step leaves, and the process ends; the journal holds what was before.
    pub(crate) fn emit(&mut self, turn: &mut Turn<'_>, fact: Fact) {
        let record = Record { at: turn.now, fact };
        if let Err(problem) = self.fold(&record) {
            let seq = Seq(self.seq.0 + 1);
            panic!("record {seq} would not replay ({problem}); this is a defect, please report it");
        }
        turn.step.records.push(record);
    }
}

/// One call of `handle`: its time, and what it has brought about so far.
pub(crate) struct Turn<'a> {
    pub(crate) now: Millis,
    pub(crate) step: &'a mut Step,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "record 1 would not replay (unknown node)")]
    fn a_fact_that_does_not_fold_is_never_handed_over() {
        let mut core = Coordinator::new(Config::default());
        let (now, node) = (Millis(1), hearth_wire::NodeId::default());
        let step = &mut Step::default();
        core.emit(&mut Turn { now, step }, Fact::NodeLost { node });
    }
}
