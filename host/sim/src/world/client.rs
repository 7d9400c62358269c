//! Clients: they publish, submit, ask again, cancel, and know what is right.

use std::collections::BTreeMap;

use hearth_core::{Answer, Event, RequestId, RequestRefusal};
use hearth_wire::record::ReleaseFacts;
use hearth_wire::{
    Blob, Body, Class, Digest, EngineRange, InputSet, JobId, JobOptions, JobSpec, KeyId, Outcome,
    Output, Placement, Priority, ReleaseId, Resource, TaskError, TaskId, TaskLimits, TaskType,
    TrapKind, TrustPolicy,
};

use super::node::PLACES;
use super::{Happening, World, sim_config};
use crate::fault::Fault;
use crate::rng::mix;

/// Longest lease that a client asks for.
pub(crate) const LEASE_MILLIS_MAX: u64 = 90_000;

/// Everything outside of the realm's machines.
#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) requests: u64,
    /// Requests that were not answered yet.
    pub(crate) waiting: BTreeMap<RequestId, Wish>,
    releases: Vec<ReleaseFacts>,
    revoked: Vec<ReleaseId>,
    /// Jobs by number, as acknowledged.
    pub(crate) jobs: BTreeMap<JobId, JobSpec>,
    /// Seeds of jobs, which decide run times and outcomes, by number.
    submissions: u64,
    pub(crate) recent: Vec<(JobId, JobSpec)>,
    /// How long tasks take, if not each job's as long as it happens to be.
    pub(crate) usual_millis: Option<u64>,
}

/// What a request wanted.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Submit(JobSpec, Option<JobId>),
    Bad,
    Offline(super::offline::Wish),
    Cancel(JobId, Option<KeyId>),
    Publish(ReleaseFacts),
    Revoke(ReleaseId),
    Drain(hearth_wire::NodeId),
    RevokeNode(hearth_wire::NodeId),
}

impl Clients {
    pub(super) fn task_seed(task: TaskId) -> u64 {
        mix(task.job.0 << 32 | u64::from(task.index.0))
    }

    /// How long a task takes on a usual machine: most are short, some are not.
    pub(crate) fn run_millis(&self, task: TaskId) -> u64 {
        let kind = mix(task.job.0) % 10;
        let usual = self.usual_millis.unwrap_or(match kind {
            0..=4 => 300,
            5..=7 => 2_000,
            _ => 9_000,
        });
        usual / 2 + Self::task_seed(task) % usual
    }

    /// The outcome that every honest node reports.
    pub(crate) fn right_outcome(task: TaskId) -> Outcome {
        let seed = Self::task_seed(task);
        let bytes = seed.to_le_bytes().to_vec();
        match seed % 40 {
            0 => Outcome::Refused(TaskError::Failed(Some("no".to_owned()))),
            1 => Outcome::Exhausted(Resource::Fuel),
            2 => Outcome::Trapped(TrapKind::Unreachable),
            other => Outcome::Returned(Output {
                media_type: "text/plain".to_owned(),
                body: if other < 8 {
                    Body::Blob(Blob::of(&bytes))
                } else {
                    Body::Inline(bytes)
                },
            }),
        }
    }

    pub(crate) fn usable(&self) -> Vec<ReleaseId> {
        let usable = self.releases.iter().map(|release| release.id);
        usable.filter(|id| !self.revoked.contains(id)).collect()
    }
}

/// The digest of the right outcome of a task.
pub(crate) fn truth(task: TaskId) -> Digest {
    Clients::right_outcome(task).digest().unwrap_or_default()
}

impl World {
    pub(crate) fn ask(&mut self, wish: Wish) {
        let request = self.next_request();
        self.clients.waiting.insert(request, wish.clone());
        self.send_wish(request, wish);
    }

    fn send_wish(&mut self, request: RequestId, wish: Wish) {
        if !self.shell.up {
            return;
        }
        let event = match wish {
            Wish::Submit(spec, _) => Event::Submit { request, spec },
            Wish::Offline(wish) => wish.event(request),
            Wish::Bad => {
                let mut spec = self.new_spec();
                match self.rng.below(6) {
                    0 => spec.inputs.count = 0,
                    1 => spec.inputs.count = u32::MAX,
                    2 => spec.options.attempts_max = 0,
                    3 => spec.release = ReleaseId::default(),
                    4 => spec.inputs.count = sim_config().owner_tasks_max as u32 + 1,
                    _ => spec.options.lease_millis = 1,
                }
                Event::Submit { request, spec }
            }
            Wish::Cancel(job, owner) => Event::Cancel {
                request,
                job,
                owner,
            },
            Wish::Publish(facts) => Event::ReleaseAdded { request, facts },
            Wish::Revoke(release) => Event::ReleaseRevoked { request, release },
            Wish::Drain(node) => Event::NodeDrain {
                request: Some(request),
                node,
            },
            Wish::RevokeNode(node) => Event::NodeRevoked { request, node },
        };
        self.feed(event);
    }

    pub(crate) fn clients_ask_again(&mut self) {
        for (request, wish) in self.clients.waiting.clone() {
            self.send_wish(request, wish);
        }
    }

    /// An answer arrived.
    pub(crate) fn answered(&mut self, request: RequestId, answer: Result<Answer, RequestRefusal>) {
        let Some(wish) = self.clients.waiting.remove(&request) else {
            return self.oracle.violate("a request is answered once", request.0);
        };
        match (wish, answer) {
            (Wish::Offline(wish), answer) => self.offline_answered(wish, answer),
            (Wish::Submit(spec, first), Ok(Answer::Submitted { job, existing, .. })) => {
                if first.is_some() && existing {
                    self.fault(Fault::RepeatedSubmission);
                }
                if first.is_some_and(|first| first != job) {
                    self.oracle.violate("an idempotency key makes one job", job);
                }
                let same = self.oracle.job(job).is_some_and(|known| known.spec == spec);
                if !same {
                    self.oracle.violate("acknowledged is in the journal", job);
                }
                if !existing && self.clients.jobs.contains_key(&job) {
                    self.oracle.violate("a job's number is used once", job);
                }
                self.clients.jobs.insert(job, spec.clone());
                self.clients.recent.push((job, spec));
                let old = self.clients.recent.len().saturating_sub(40);
                self.clients.recent.drain(..old);
            }
            (Wish::Bad, Err(_)) => self.fault(Fault::BadRequest),
            (Wish::Bad, Ok(_)) => self.oracle.violate("bad requests are refused", request.0),
            (Wish::Revoke(release), Ok(_)) => {
                let known = self.oracle.releases.get(&release);
                if known.is_none_or(|(_, revoked)| !revoked) {
                    self.oracle
                        .violate("acknowledged is in the journal", release);
                }
            }
            (Wish::RevokeNode(node), Ok(_)) => {
                let known = self.oracle.nodes.get(&node).map(|node| node.standing);
                if known != Some(hearth_wire::record::Standing::Revoked) {
                    self.oracle.violate("acknowledged is in the journal", node);
                }
            }
            (Wish::Cancel(job, _), Ok(_))
                if self.oracle.job(job).is_some_and(|job| job.open > 0) =>
            {
                self.oracle.violate("acknowledged is in the journal", job);
            }
            (Wish::Publish(_), Err(refusal)) => {
                self.oracle
                    .violate("good requests are carried out", refusal);
            }
            _ => {}
        }
    }

    /// Now and then a client wants something.
    pub(crate) fn client(&mut self) {
        if self.quiet {
            return;
        }
        let next = self.rng.range(500, 6_000);
        self.after(next, Happening::Client);
        if self.clients.usable().len() < 4 {
            self.publish();
        }
        if self.oracle.open_tasks() < self.config.tasks_max {
            let spec = self.new_spec();
            self.ask(Wish::Submit(spec, None));
        }
    }

    pub(crate) fn publish(&mut self) {
        let facts = self.new_release();
        self.offer(facts);
    }

    /// A release that clients may use.
    pub(crate) fn offer(&mut self, facts: ReleaseFacts) {
        self.clients.releases.push(facts.clone());
        self.ask(Wish::Publish(facts));
    }

    pub(crate) fn new_release(&mut self) -> ReleaseFacts {
        let number = self.clients.releases.len() as u64;
        let id = Digest::of(&[self.config.seed.to_le_bytes(), number.to_le_bytes()].concat());
        ReleaseFacts {
            id: ReleaseId(id),
            author: KeyId(Digest::of(b"author")),
            component: Digest::of(id.as_bytes()),
            limits: TaskLimits {
                memory_bytes: 1 << self.rng.range(24, 29),
                ..TaskLimits::default()
            },
            class: Class::Exact,
            task_type: TaskType::Processing,
            capabilities: if self.rng.once_in(5) {
                vec!["gpu".to_owned()]
            } else {
                Vec::new()
            },
            locations: if self.rng.once_in(8) {
                vec![PLACES[0].to_owned(), PLACES[1].to_owned()]
            } else {
                Vec::new()
            },
            engines: EngineRange {
                min: if self.rng.once_in(3) {
                    [48, 0, 0]
                } else {
                    [40, 0, 0]
                },
                max: [48, 9, 9],
            },
        }
    }

    pub(crate) fn new_spec(&mut self) -> JobSpec {
        self.clients.submissions += 1;
        let number = self.clients.submissions;
        let usable = self.clients.usable();
        let release = self.rng.pick(&usable);
        let count = match self.rng.below(10) {
            0..=3 => self.rng.range(1, 6),
            4..=8 => self.rng.range(6, 60),
            _ => self.rng.range(60, 600),
        };
        let trust = match self.rng.below(10) {
            0..=4 => TrustPolicy::Fast,
            5..=8 => TrustPolicy::Certain,
            _ => TrustPolicy::Local,
        };
        let placement = match self.rng.below(12) {
            0 if trust != TrustPolicy::Local => Placement::Volunteers,
            1 => Placement::Trusted,
            _ => Placement::Anywhere,
        };
        let keyed = self.rng.below(10) > 0;
        JobSpec {
            release,
            inputs: InputSet {
                root: Digest::of(&number.to_le_bytes()),
                count: count as u32,
                bytes: count * 10,
                media_type: "text/plain".to_owned(),
            },
            owner: KeyId(Digest::of(&[self.rng.below(5) as u8])),
            options: JobOptions {
                name: format!("job {number}"),
                priority: self.rng.pick(&[
                    Priority::High,
                    Priority::Medium,
                    Priority::Medium,
                    Priority::Low,
                    Priority::Low,
                ]),
                trust,
                placement,
                deadline_millis: self.rng.once_in(6).then(|| self.rng.range(5_000, 400_000)),
                lease_millis: self.rng.range(8_000, LEASE_MILLIS_MAX),
                attempts_max: self.rng.range(1, 6) as u8,
                seed: Digest::default(),
                locations: if self.rng.once_in(12) {
                    vec![self.rng.pick(&PLACES[..2]).to_owned()]
                } else {
                    Vec::new()
                },
                idempotency_key: keyed.then(|| format!("key {number}")),
            },
        }
    }

    pub(crate) fn submit_again(&mut self) {
        let keyed = self.clients.recent.iter();
        let keyed: Vec<_> = keyed
            .filter(|(_, spec)| spec.options.idempotency_key.is_some())
            .cloned()
            .collect();
        if keyed.is_empty() {
            return;
        }
        let (job, spec) = keyed[self.rng.below(keyed.len() as u64) as usize].clone();
        // A job that was forgotten with its key is another one when it is submitted again.
        if self.oracle.job(job).is_some_and(|job| job.open > 0) {
            self.ask(Wish::Submit(spec, Some(job)));
        }
    }

    pub(crate) fn cancel_something(&mut self) {
        let open: Vec<_> = self.oracle.open_jobs.iter().copied().collect();
        if open.is_empty() {
            return;
        }
        let job = self.rng.pick(&open);
        let (id, owner) = (self.oracle.jobs[job].id, self.oracle.jobs[job].spec.owner);
        let owner = self.rng.once_in(2).then_some(owner);
        self.ask(Wish::Cancel(id, owner));
    }

    pub(crate) fn revoke_a_release(&mut self) {
        let usable = self.clients.usable();
        if usable.len() > 3 {
            let release = self.rng.pick(&usable);
            self.clients.revoked.push(release);
            self.ask(Wish::Revoke(release));
        }
    }
}
