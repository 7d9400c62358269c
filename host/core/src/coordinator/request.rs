//! Requests: releases, jobs, cancellation. Each is answered exactly once.

use hearth_wire::codec::encode;
use hearth_wire::record::{Fact, ReleaseFacts, Standing, TaskEnd};
use hearth_wire::{
    Digest, Epoch, JobId, JobSpec, KeyId, NodeId, Placement, ReleaseId, TrustPolicy, limits, text,
};

use super::Turn;
use crate::Coordinator;
use crate::attempt::SLOTS_MAX;
use crate::event::RequestId;
use crate::shape::Needs;
use crate::step::{Answer, Effect, RequestRefusal};

/// Releases that a realm knows, revoked ones included: a few kilobytes each.
const RELEASES_MAX: usize = 10_000;
/// Shortest and longest lease that a job may ask for: shorter ones would end on the way, longer ones
/// would keep a task from everybody else for more than a month.
const LEASE_MILLIS_RANGE: std::ops::RangeInclusive<u64> = 100..=40 * 24 * 3_600 * 1_000;

impl Coordinator {
    pub(super) fn start(&mut self, turn: &mut Turn<'_>, incarnation: u64) {
        let epoch = Epoch {
            counter: self.epoch.counter + 1,
            incarnation,
        };
        self.emit(turn, Fact::Started { epoch });
        // A crash may have come between a record and those that had to follow.
        let doubtful = self.nodes.iter();
        let doubtful = doubtful.filter(|(_, node)| node.blamed || node.mismatches > 0);
        self.out.standings = doubtful.map(|(index, _)| index).collect();
        let doomed = self.jobs.values().filter(|job| {
            let release = self.releases.get(&job.release);
            job.doomed || release.is_none_or(|release| release.revoked)
        });
        self.out.doomed = doomed.map(|job| job.id).collect();
        let late = self
            .nodes
            .iter()
            .filter(|(_, node)| node.standing == Standing::Suspended && node.mismatches == 0);
        self.out.standings.extend(late.map(|(index, _)| index));
        for job in self.jobs.values() {
            self.out.exhausted.extend(job.spent());
        }
    }

    pub(super) fn add_release(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        facts: ReleaseFacts,
    ) {
        match self.releases.get(&facts.id) {
            Some(state) if state.revoked => {
                return self.refuse(turn, request, RequestRefusal::ReleaseRevoked(facts.id));
            }
            Some(_) => {}
            None if self.releases.len() >= RELEASES_MAX => {
                return self.refuse(turn, request, RequestRefusal::TooManyReleases);
            }
            None => self.emit(turn, Fact::ReleaseAdded(facts)),
        }
        let seq = self.seq;
        self.answer(turn, request, Answer::ReleaseAdded { seq });
    }

    pub(super) fn revoke_release(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        release: ReleaseId,
    ) {
        match self.releases.get(&release) {
            None => {
                return self.refuse(turn, request, RequestRefusal::UnknownRelease(release));
            }
            Some(state) if state.revoked => {}
            Some(_) => self.emit(turn, Fact::ReleaseRevoked { release }),
        }
        self.follow_up(turn);
        let seq = self.seq;
        self.answer(turn, request, Answer::ReleaseRevoked { seq });
    }

    /// The job that the request made or had made before; `None` if it was refused.
    pub(super) fn submit(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        spec: JobSpec,
    ) -> Option<JobId> {
        let refusal = match self.existing(&spec) {
            Some(Ok((job, tasks))) => {
                let seq = self.seq;
                self.answer(
                    turn,
                    request,
                    Answer::Submitted {
                        job,
                        seq,
                        tasks,
                        existing: true,
                    },
                );
                return Some(job);
            }
            Some(Err(refusal)) => Some(refusal),
            None => self.admit(&spec).err(),
        };
        if let Some(refusal) = refusal {
            self.refuse(turn, request, refusal);
            return None;
        }
        let (job, tasks) = (self.next_job, spec.inputs.count);
        self.emit(turn, Fact::Submitted { job, spec });
        let seq = self.seq;
        self.answer(
            turn,
            request,
            Answer::Submitted {
                job,
                seq,
                tasks,
                existing: false,
            },
        );
        Some(job)
    }

    /// The job that an earlier submission with the same key made.
    fn existing(&self, spec: &JobSpec) -> Option<Result<(JobId, u32), RequestRefusal>> {
        let key = spec.options.idempotency_key.as_ref()?;
        let job = *self.keys.get(&(spec.owner, key.clone()))?;
        let (digest, tasks) = match (self.jobs.get(&job), self.closed.get(&job)) {
            (Some(open), _) => (open.spec, open.count()),
            (None, Some(closed)) => (closed.spec, closed.tasks),
            (None, None) => return None,
        };
        Some(if digest == Digest::of(&encode(spec)) {
            Ok((job, tasks))
        } else {
            Err(RequestRefusal::KeyReused(job))
        })
    }

    fn admit(&self, spec: &JobSpec) -> Result<(), RequestRefusal> {
        let release = self.releases.get(&spec.release);
        let release = release.ok_or(RequestRefusal::UnknownRelease(spec.release))?;
        if release.revoked {
            return Err(RequestRefusal::ReleaseRevoked(spec.release));
        }
        let tasks = spec.inputs.count;
        if tasks == 0 {
            return Err(RequestRefusal::EmptyJob);
        }
        if tasks > limits::TASKS_PER_JOB_MAX {
            return Err(RequestRefusal::TooManyTasks {
                tasks,
                max: limits::TASKS_PER_JOB_MAX,
            });
        }
        check_options(spec)?;
        let open = self.owners.find(&spec.owner).map_or(0, |o| o.open_tasks) + u64::from(tasks);
        if open > self.config.owner_tasks_max {
            return Err(RequestRefusal::OwnerQuota {
                open,
                max: self.config.owner_tasks_max,
            });
        }
        let needs = Needs::new(&release.facts, &spec.options);
        let check_needs = needs.of_checks();
        let full = self.jobs.len() >= limits::OPEN_JOBS_MAX
            || self.open_tasks + u64::from(tasks) > limits::OPEN_TASKS_MAX
            || self.attempts.len() + self.jobs.len() >= SLOTS_MAX
            || !self.fits.has_room_for(&[&needs, &check_needs]);
        if full {
            return Err(RequestRefusal::Full);
        }
        Ok(())
    }

    pub(super) fn cancel(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        id: JobId,
        owner: Option<KeyId>,
    ) {
        let open = self.jobs.get(&id);
        let key = self.owner_of(id);
        // Another's job and no job are answered alike.
        if key.is_none() || owner.is_some_and(|owner| Some(owner) != key) {
            return self.refuse(turn, request, RequestRefusal::UnknownJob(id));
        }
        if open.is_some() {
            let how = TaskEnd::Cancelled;
            self.emit(turn, Fact::JobEnded { job: id, how });
        }
        let seq = self.seq;
        self.answer(turn, request, Answer::Cancelled { seq });
    }

    /// Whose an open or closed job is.
    pub(crate) fn owner_of(&self, id: JobId) -> Option<KeyId> {
        match (self.jobs.get(&id), self.closed.get(&id)) {
            (Some(job), _) => self.owners.at(job.owner).map(|owner| owner.key),
            (None, Some(closed)) => Some(closed.owner),
            (None, None) => None,
        }
    }

    pub(super) fn drain(&mut self, turn: &mut Turn<'_>, request: Option<RequestId>, node: NodeId) {
        let known = self
            .nodes
            .index(&node)
            .and_then(|index| self.nodes.at(index));
        match known {
            None => {
                if let Some(request) = request {
                    self.refuse(turn, request, RequestRefusal::UnknownNode(node));
                }
                return;
            }
            Some(known) if known.draining => {}
            Some(_) => self.emit(turn, Fact::NodeDraining { node }),
        }
        if let Some(request) = request {
            let seq = self.seq;
            self.answer(turn, request, Answer::Draining { seq });
        }
    }

    pub(super) fn revoke_node(&mut self, turn: &mut Turn<'_>, request: RequestId, node: NodeId) {
        let known = self
            .nodes
            .index(&node)
            .and_then(|index| self.nodes.at(index));
        let full = self.nodes.len() >= limits::NODES_MAX && self.nodes.gone.is_empty();
        match known {
            None if full => return self.refuse(turn, request, RequestRefusal::Full),
            Some(known) if known.standing == Standing::Revoked => {}
            _ => {
                let (standing, reason) = (Standing::Revoked, "certificate revoked".to_owned());
                self.emit(
                    turn,
                    Fact::NodeStanding {
                        node,
                        standing,
                        reason,
                    },
                );
            }
        }
        let seq = self.seq;
        self.answer(turn, request, Answer::NodeRevoked { seq });
    }

    pub(super) fn note(&mut self, turn: &mut Turn<'_>, request: Option<RequestId>, bytes: Vec<u8>) {
        if bytes.len() > limits::SHELL_FACT_BYTES_MAX {
            let refusal = RequestRefusal::FactTooLarge { bytes: bytes.len() };
            if let Some(request) = request {
                self.refuse(turn, request, refusal);
            }
            return;
        }
        self.emit(turn, Fact::Shell(bytes));
        if let Some(request) = request {
            let seq = self.seq;
            self.answer(turn, request, Answer::Noted { seq });
        }
    }

    pub(super) fn answer(&mut self, turn: &mut Turn<'_>, request: RequestId, answer: Answer) {
        turn.step.effects.push(Effect::Done { request, answer });
    }

    pub(super) fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        refusal: RequestRefusal,
    ) {
        turn.step.effects.push(Effect::Refused { request, refusal });
    }
}

fn check_options(spec: &JobSpec) -> Result<(), RequestRefusal> {
    let options = &spec.options;
    let bad = |field, problem: String| Err(RequestRefusal::BadOption { field, problem });
    let named = |text: &String| text::is_name(text, limits::NAME_BYTES_MAX);
    if !text::is_label(&options.name, limits::NAME_BYTES_MAX) {
        let max = limits::NAME_BYTES_MAX;
        return bad(
            "name",
            format!("at most {max} bytes, no control characters"),
        );
    }
    if spec.inputs.media_type.len() > limits::NAME_BYTES_MAX {
        let problem = format!("at most {} bytes", limits::NAME_BYTES_MAX);
        return bad("media_type", problem);
    }
    if options.locations.len() > limits::MANIFEST_LIST_MAX || !options.locations.iter().all(named) {
        let (list, name) = (limits::MANIFEST_LIST_MAX, limits::NAME_BYTES_MAX);
        return bad(
            "locations",
            format!("at most {list} names of 1 to {name} bytes, no control characters"),
        );
    }
    if options
        .idempotency_key
        .as_ref()
        .is_some_and(|key| !named(key))
    {
        let max = limits::NAME_BYTES_MAX;
        let problem = format!("1 to {max} bytes, no control characters");
        return bad("idempotency_key", problem);
    }
    if options.attempts_max == 0 || options.attempts_max > limits::ATTEMPTS_MAX {
        return bad("attempts_max", format!("1 to {}", limits::ATTEMPTS_MAX));
    }
    if !LEASE_MILLIS_RANGE.contains(&options.lease_millis) {
        let (min, max) = LEASE_MILLIS_RANGE.into_inner();
        return bad("lease_millis", format!("{min} to {max}"));
    }
    if options.deadline_millis == Some(0) {
        return bad("deadline_millis", "at least 1".to_owned());
    }
    if options.trust == TrustPolicy::Local && options.placement == Placement::Volunteers {
        let problem = "volunteers only, but trust \"local\" wants trusted nodes only".to_owned();
        return bad("placement", problem);
    }
    Ok(())
}
