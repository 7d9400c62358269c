//! The fold: how each fact changes the state. Nothing else does.
//!
//! A fact that does not fit the state is refused, so that a damaged journal ends in an error and not in
//! a panic or a wrong state. What it had changed by then is of no use.

mod attempt;
mod index;
mod merge;
mod node;
pub(crate) mod report;
mod task;

pub(crate) use task::task_of;

use hearth_wire::record::{Fact, Record};
use hearth_wire::{JobId, JobSpec, Seq, TaskId};

use crate::Coordinator;
use crate::coordinator::ReleaseState;
use crate::job::{Cell, Job, Phase};
use crate::median::Histogram;
use crate::shape::Needs;
use crate::step::{Effect, Holder};
use crate::time::Timer;

/// What is wrong with a fact.
pub(crate) type Folded = Result<(), &'static str>;

impl Coordinator {
    /// Folds one record: the only way in which state changes.
    pub(crate) fn fold(&mut self, record: &Record) -> Folded {
        if record.at < self.now {
            return Err("time goes back");
        }
        self.now = record.at;
        match &record.fact {
            Fact::Started { epoch } => self.fold_started(*epoch)?,
            Fact::ReleaseAdded(facts) => {
                let state = ReleaseState {
                    facts: facts.clone(),
                    revoked: false,
                    micros: 0,
                    declined_by: Default::default(),
                };
                let before = self.releases.insert(facts.id, state);
                if before.is_some() {
                    return Err("a release is added twice");
                }
                self.out.effects.push(Effect::BlobHeld {
                    holder: Holder::Release(facts.id),
                    blob: facts.component,
                });
            }
            Fact::ReleaseRevoked { release } => {
                let state = self.releases.get_mut(release).ok_or("unknown release")?;
                state.revoked = true;
                let holder = Holder::Release(*release);
                self.out.effects.push(Effect::BlobsReleased { holder });
                let jobs = self.jobs.values().filter(|job| job.release == *release);
                self.out.doomed.extend(jobs.map(|job| job.id));
            }
            Fact::Submitted { job, spec } => self.fold_submitted(*job, spec)?,
            Fact::JobEnded { job, how } => self.fold_job_ended(*job, *how)?,
            Fact::JobsForgotten { jobs } => {
                jobs.iter().try_for_each(|job| self.fold_forgotten(*job))?
            }
            Fact::NodeJoined { profile, resumed } => self.fold_joined(profile, resumed)?,
            Fact::NodeCapacity { node, capacity } => {
                let index = self.nodes.index(node).ok_or("unknown node")?;
                self.fold_capacity(index, *capacity);
            }
            Fact::NodeLost { node } => {
                let index = self.nodes.index(node).ok_or("unknown node")?;
                self.fold_lost(index);
            }
            Fact::NodeDraining { node } => {
                let index = self.nodes.index(node).ok_or("unknown node")?;
                self.fold_draining(index);
            }
            Fact::NodeStanding { node, standing, .. } => self.fold_standing(*node, *standing)?,
            Fact::Leased {
                node,
                session,
                leases,
            } => self.fold_leased(node, *session, leases)?,
            Fact::LeasesEnded { attempts } => {
                for attempt in attempts {
                    self.fold_lease_ended(*attempt)?;
                }
            }
            Fact::TasksFailed { tasks, .. } => {
                for task in tasks {
                    self.finish(*task, Phase::Failed, None)?;
                }
            }
            Fact::Paused { attempts, .. } => {
                for attempt in attempts {
                    self.fold_paused(*attempt)?;
                }
            }
            Fact::Resumed { attempts, .. } => {
                for attempt in attempts {
                    self.fold_resumed(*attempt)?;
                }
            }
            Fact::Reported { node, reports } => {
                let index = self.nodes.index(node).ok_or("unknown node")?;
                for report in reports {
                    self.fold_report(index, report)?;
                }
            }
            Fact::Checkpointed {
                attempt,
                task,
                checkpoint,
            } => self.fold_checkpoint(*attempt, *task, checkpoint)?,
            Fact::ModeWanted { mode } => {
                self.wanted = (*mode != self.mode).then_some((*mode, self.now));
            }
            Fact::ModeChanged { mode, reason } => {
                self.mode = *mode;
                self.wanted = None;
                self.out.effects.push(Effect::ModeChanged {
                    mode: *mode,
                    reason: *reason,
                });
            }
            // A seam: policies with audits will fold it into the node's rate.
            Fact::Suspicion { .. } => {}
            Fact::Shell(_) => {}
            Fact::Held { job, until } => self.fold_held(*job, *until)?,
            Fact::Merged {
                job,
                owner,
                engine,
                results,
            } => self.fold_merged(*job, *owner, *engine, results)?,
        }
        self.refresh();
        self.seq = Seq(self.seq.0 + 1);
        Ok(())
    }

    fn fold_submitted(&mut self, id: JobId, spec: &JobSpec) -> Folded {
        if id != self.next_job {
            return Err("a job's number is not the next one");
        }
        let release = self.releases.get(&spec.release).ok_or("unknown release")?;
        let options = &spec.options;
        let needs = Needs::new(&release.facts, options);
        let shape = self.fits.join_shape(&needs);
        let checked = Self::is_checked(options.trust);
        let check_shape = checked.then(|| self.fits.join_shape(&needs.of_checks()));
        let tasks = spec.inputs.count;
        let owner = self.owners.join(spec.owner, u64::from(tasks));
        let deadline = options.deadline_millis.map(|millis| self.now.plus(millis));
        if let Some(at) = deadline {
            self.timers.set(at, Timer::Deadline(id));
        }
        if let Some(key) = &options.idempotency_key {
            self.keys.insert((spec.owner, key.clone()), id);
        }
        let job = Job {
            id,
            release: spec.release,
            owner,
            priority: options.priority,
            trust: options.trust,
            submitted_at: self.now,
            lease_millis: options.lease_millis,
            attempts_max: options.attempts_max,
            deadline,
            finish: 0,
            held_until: hearth_wire::Millis(0),
            spec: hearth_wire::Digest::of(&hearth_wire::codec::encode(spec)),
            idempotency_key: options.idempotency_key.clone(),
            shape,
            check_shape,
            cells: vec![Cell::FRESH; tasks as usize],
            fresh: 0,
            runs: Default::default(),
            checks: Default::default(),
            live: Vec::new(),
            leased: 0,
            provisional: 0,
            settled: 0,
            failed: 0,
            cancelled: 0,
            expired: 0,
            hedged: 0,
            doomed: false,
            unfit: Default::default(),
            ended: None,
            run_times: Histogram::default(),
            queued: [false; 2],
            wake_at: None,
            tail_at: None,
            spent_at: None,
        };
        self.jobs.insert(id, job);
        self.next_job = JobId(id.0 + 1);
        self.open_tasks += u64::from(tasks);
        self.out.effects.push(Effect::BlobHeld {
            holder: Holder::Inputs(id),
            blob: spec.inputs.root,
        });
        self.out.changed.insert(id);
        Ok(())
    }

    fn fold_job_ended(&mut self, id: JobId, how: hearth_wire::record::TaskEnd) -> Folded {
        use hearth_wire::record::TaskEnd;
        let job = self.jobs.get_mut(&id).ok_or("unknown job")?;
        job.ended = Some(how);
        let phase = match how {
            TaskEnd::Cancelled => Phase::Cancelled,
            TaskEnd::Expired => Phase::Expired,
            TaskEnd::Failed(_) => Phase::Failed,
        };
        // The last one closes the job and takes it out of the map.
        for index in 0..job.count() {
            let open = self
                .jobs
                .get(&id)
                .map(|job| job.cells[index as usize].phase);
            if open.is_some_and(|phase| !phase.is_terminal()) {
                let task = TaskId {
                    job: id,
                    index: hearth_wire::TaskIndex(index),
                };
                self.finish(task, phase, None)?;
            }
        }
        Ok(())
    }

    fn fold_forgotten(&mut self, id: JobId) -> Folded {
        let closed = self.closed.remove(&id).ok_or("unknown closed job")?;
        if self.closed_order.pop_front() != Some(id) {
            return Err("jobs are forgotten out of order");
        }
        if let Some(key) = closed.idempotency_key {
            self.keys.remove(&(closed.owner, key));
        }
        let holder = Holder::Outputs(id);
        self.out.effects.push(Effect::BlobsReleased { holder });
        Ok(())
    }
}
