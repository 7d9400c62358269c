//! A realm to tell stories about: it feeds core, keeps its journal, and lets no effect go unnoticed.

use hearth_wire::message::{Capacity, Refusal};
use hearth_wire::record::{
    Mode, ModeReason, NodeKind, NodeProfile, Record, ReleaseFacts, Standing, Verdict,
};
use hearth_wire::{
    AttemptId, Blob, Body, Checkpoint, Class, Digest, EngineId, EngineRange, Inconclusive,
    InputSet, JobId, JobOptions, JobSpec, KeyId, Millis, NodeId, Outcome, Output, ReleaseId,
    SessionId, TaskId, TaskIndex, TaskLimits, TaskType, codec,
};

use crate::fold::report::RUN_SLACK_MICROS;
use crate::{
    Answer, Config, Coordinator, Effect, Event, Grant, Holder, JobProgress, JobState, ReportIn,
    RequestId, RequestRefusal,
};

/// A coordinator, a clock, and a journal that is replayed after each step.
pub(super) struct World {
    pub(super) core: Coordinator,
    shadow: Coordinator,
    config: Config,
    journal: Vec<Record>,
    pub(super) now: u64,
    requests: u64,
    sessions: u64,
    names: u64,
    incarnations: u64,
}

/// A node as the tests know it.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) session: SessionId,
    pub(super) profile: NodeProfile,
}

/// What one step brought. Every effect must be taken before it is dropped.
#[must_use]
pub(super) struct Seen {
    pub(super) records: Vec<Record>,
    effects: Vec<Effect>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert!(self.effects.is_empty(), "not expected: {:#?}", self.effects);
        }
    }
}

pub(super) fn returned(value: u8) -> Outcome {
    Outcome::Returned(Output {
        media_type: "text/plain".to_owned(),
        body: Body::Inline(vec![value]),
    })
}

pub(super) fn host_fault() -> Outcome {
    Outcome::Inconclusive(Inconclusive::HostFault("lost a runner".to_owned()))
}

pub(super) fn owner(number: u8) -> KeyId {
    KeyId(Digest::of(&[number]))
}

pub(super) fn task(job: JobId, index: u32) -> TaskId {
    TaskId {
        job,
        index: TaskIndex(index),
    }
}

/// A checkpoint in a blob of its own.
pub(super) fn checkpoint(name: u8, fuel_used: u64) -> (Checkpoint, Digest) {
    let blob = Blob::of(&[name, 77]);
    let digest = blob.digest;
    let state = Body::Blob(blob);
    let chain = Vec::new();
    let made = Checkpoint {
        state,
        fuel_used,
        chain,
    };
    (made, digest)
}

impl World {
    /// A realm whose mode never changes, so that no test but those of modes sees it.
    pub(super) fn new() -> Self {
        Self::with(Config {
            mode_hold_millis: 1 << 50,
            ..Config::default()
        })
    }

    pub(super) fn with(config: Config) -> Self {
        let mut world = Self {
            core: Coordinator::new(config.clone()),
            shadow: Coordinator::new(config.clone()),
            config,
            journal: Vec::new(),
            now: 1_000,
            requests: 0,
            sessions: 0,
            names: 0,
            incarnations: 0,
        };
        world.start();
        world
    }

    /// What a start would make of the journal.
    pub(super) fn shadow(&self) -> &Coordinator {
        &self.shadow
    }

    fn start(&mut self) {
        self.incarnations += 1;
        let incarnation = self.incarnations;
        drop(self.step(Event::Started { incarnation }));
        assert_eq!(self.core.epoch().counter, incarnation);
    }

    /// The coordinator dies and starts again from its journal.
    pub(super) fn restart(&mut self) {
        let mut core = Coordinator::new(self.config.clone());
        for record in &self.journal {
            core.replay(record).unwrap();
        }
        let snapshot = core.snapshot();
        assert_eq!(snapshot, self.shadow.snapshot());
        self.core = Coordinator::restore(self.config.clone(), &snapshot).unwrap();
        self.core.check().unwrap();
        self.start();
    }

    /// The same, but the last records had not become durable.
    pub(super) fn restart_without(&mut self, records: usize) -> Seen {
        self.journal.truncate(self.journal.len() - records);
        self.shadow = Coordinator::new(self.config.clone());
        self.core = Coordinator::new(self.config.clone());
        for record in &self.journal {
            self.shadow.replay(record).unwrap();
            self.core.replay(record).unwrap();
        }
        self.incarnations += 1;
        let incarnation = self.incarnations;
        self.step(Event::Started { incarnation })
    }

    /// Feeds core, and makes sure that its records replay to its state, and to the same blobs kept.
    pub(super) fn step(&mut self, event: Event) -> Seen {
        let before = [&self.core, &self.shadow].map(|core| core.owners.time);
        let step = self.core.handle(Millis(self.now), event);
        let mut told = Vec::new();
        for record in &step.records {
            let bytes = codec::encode(record);
            let record: Record = codec::decode(&bytes, usize::MAX).unwrap();
            let tell = |effect: &Effect| told.push(effect.clone());
            self.shadow.replay_telling(&record, tell).unwrap();
            self.journal.push(record);
        }
        assert_eq!(self.core.seq().0, self.journal.len() as u64);
        assert_eq!(self.core.state_hash(), self.shadow.state_hash());
        let kept = step.effects.iter().filter(|effect| effect.keeps_blobs());
        assert!(kept.eq(&told), "{told:?}");
        self.core.check().unwrap();
        for (core, before) in [&self.core, &self.shadow].into_iter().zip(before) {
            assert!(
                core.owners
                    .time
                    .iter()
                    .zip(before)
                    .all(|(now, before)| *now >= before)
            );
        }
        Seen {
            records: step.records,
            effects: step.effects,
        }
    }

    /// Lets time pass, without a call before its end.
    pub(super) fn after(&mut self, millis: u64) -> Seen {
        self.now += millis;
        self.step(Event::Tick)
    }

    /// Lets time pass as the shell does: core is called whenever it asked for it. What comes of all
    /// these calls is seen at once.
    pub(super) fn live(&mut self, millis: u64) -> Seen {
        let end = self.now + millis;
        let mut all = Seen {
            records: Vec::new(),
            effects: Vec::new(),
        };
        while let Some(due) = self.core.next_timeout().filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            let mut seen = self.step(Event::Tick);
            all.records.append(&mut seen.records);
            all.effects.append(&mut seen.effects);
        }
        self.now = end;
        all
    }

    pub(super) fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    fn name(&mut self) -> Digest {
        self.names += 1;
        Digest::of(&self.names.to_le_bytes())
    }

    pub(super) fn release(&mut self) -> ReleaseId {
        self.release_with(|_| {})
    }

    pub(super) fn release_with(&mut self, change: impl FnOnce(&mut ReleaseFacts)) -> ReleaseId {
        let id = ReleaseId(self.name());
        let mut facts = ReleaseFacts {
            id,
            author: owner(0),
            component: Digest::of(id.0.as_bytes()),
            limits: TaskLimits::default(),
            class: Class::Exact,
            task_type: TaskType::Processing,
            capabilities: Vec::new(),
            locations: Vec::new(),
            engines: EngineRange {
                min: [48, 0, 0],
                max: [48, 9, 9],
            },
        };
        change(&mut facts);
        let (request, blob) = (self.request(), facts.component);
        let mut seen = self.step(Event::ReleaseAdded { request, facts });
        let holder = Holder::Release(id);
        seen.expect(Effect::BlobHeld { holder, blob });
        assert!(matches!(seen.done(), Answer::ReleaseAdded { .. }));
        id
    }

    pub(super) fn spec(&mut self, release: ReleaseId, count: u32) -> JobSpec {
        JobSpec {
            release,
            inputs: InputSet {
                root: self.name(),
                count,
                bytes: 10,
                media_type: "text/plain".to_owned(),
            },
            owner: owner(1),
            options: JobOptions {
                lease_millis: 60_000,
                ..JobOptions::default()
            },
        }
    }

    /// Submits a job that is taken. Leases that follow at once are the caller's.
    pub(super) fn submit(&mut self, spec: JobSpec) -> (JobId, Seen) {
        let (blob, count) = (spec.inputs.root, spec.inputs.count);
        let mut seen = self.try_submit(spec);
        let Answer::Submitted {
            job,
            tasks,
            existing,
            seq,
        } = seen.done()
        else {
            panic!("another answer");
        };
        assert_eq!((tasks, existing), (count, false));
        assert!(seq <= self.core.seq());
        let holder = Holder::Inputs(job);
        seen.expect(Effect::BlobHeld { holder, blob });
        (job, seen)
    }

    /// Submits a job of which this node gets leases at once, and nothing else happens.
    #[track_caller]
    pub(super) fn leases(&mut self, spec: JobSpec, to: &Node) -> (JobId, Vec<Grant>) {
        let (job, mut seen) = self.submit(spec);
        let grants = seen.grants(to);
        seen.told(job);
        (job, grants)
    }

    /// The same with one lease.
    #[track_caller]
    pub(super) fn lease(&mut self, spec: JobSpec, to: &Node) -> (JobId, Grant) {
        let (job, mut seen) = self.submit(spec);
        let grant = seen.grant(to);
        seen.told(job);
        (job, grant)
    }

    pub(super) fn try_submit(&mut self, spec: JobSpec) -> Seen {
        let request = self.request();
        self.step(Event::Submit { request, spec })
    }

    pub(super) fn cancel(&mut self, job: JobId, owner: Option<KeyId>) -> Seen {
        let request = self.request();
        self.step(Event::Cancel {
            request,
            job,
            owner,
        })
    }

    /// A node that has not joined yet.
    pub(super) fn stranger(&mut self, kind: NodeKind, slots: u16) -> Node {
        let id = NodeId(self.name());
        let profile = NodeProfile {
            node: id,
            session: SessionId(0),
            kind,
            name: "node".to_owned(),
            engine: EngineId {
                version: [48, 0, 8],
                semantics: Digest::default(),
            },
            architecture: "x86_64".to_owned(),
            capacity: Capacity {
                slots,
                memory_bytes: 1 << 33,
            },
            capabilities: Vec::new(),
            location: String::new(),
        };
        Node {
            id,
            session: SessionId(0),
            profile,
        }
    }

    /// Connects a node, for the first time or again, with these attempts in hand.
    pub(super) fn join(&mut self, node: &mut Node, held: &[AttemptId]) -> Seen {
        self.sessions += 1;
        node.session = SessionId(self.sessions);
        node.profile.session = node.session;
        let (profile, held) = (node.profile.clone(), held.to_vec());
        self.step(Event::NodeJoined { profile, held })
    }

    /// A node that joins a realm in which nothing waits.
    pub(super) fn node(&mut self, kind: NodeKind, slots: u16) -> Node {
        let mut node = self.stranger(kind, slots);
        let mut seen = self.join(&mut node, &[]);
        assert_eq!(seen.welcome(&node), []);
        node
    }

    /// A local host that comes and at once gets one task of a job.
    #[track_caller]
    pub(super) fn local_host_takes(&mut self, job: JobId) -> (Node, Grant) {
        let mut home = self.stranger(NodeKind::Local, 1);
        let mut seen = self.join(&mut home, &[]);
        seen.welcome(&home);
        let grant = seen.grant(&home);
        seen.told(job);
        (home, grant)
    }

    /// A trusted node that was here and has left: what it ran can be checked one day.
    pub(super) fn ours(&mut self, version: [u16; 3]) -> Node {
        let mut node = self.stranger(NodeKind::Trusted, 1);
        node.profile.engine.version = version;
        self.join(&mut node, &[]).welcome(&node);
        drop(self.lose(&node));
        node
    }

    pub(super) fn volunteer(&mut self, slots: u16) -> Node {
        self.node(NodeKind::Volunteer, slots)
    }

    pub(super) fn lose(&mut self, node: &Node) -> Seen {
        let session = node.session;
        self.step(Event::NodeLost { session })
    }

    /// A report that core answers.
    pub(super) fn report(&mut self, node: &Node, grant: &Grant, outcome: Outcome) -> Seen {
        self.report_after(node, grant, outcome, 1_000_000)
    }

    pub(super) fn report_after(
        &mut self,
        node: &Node,
        grant: &Grant,
        outcome: Outcome,
        run_micros: u64,
    ) -> Seen {
        // No run is believed to have been much longer than the time that there was for it.
        self.now += run_micros.saturating_sub(RUN_SLACK_MICROS) / 1_000;
        self.report_at_once(node, grant, outcome, run_micros)
    }

    pub(super) fn report_at_once(
        &mut self,
        node: &Node,
        grant: &Grant,
        outcome: Outcome,
        run_micros: u64,
    ) -> Seen {
        let reports = vec![ReportIn {
            attempt: grant.attempt,
            task: grant.task,
            outcome,
            fuel_used: 1,
            run_micros,
        }];
        let (node, session) = (node.id, node.session);
        let mut seen = self.step(Event::Reported {
            node,
            session,
            reports,
        });
        let attempts = vec![grant.attempt];
        seen.expect(Effect::Settled { session, attempts });
        seen
    }

    pub(super) fn save(&mut self, node: &Node, grant: &Grant, checkpoint: Checkpoint) -> Seen {
        let (node, attempt) = (node.id, grant.attempt);
        self.step(Event::CheckpointMade {
            node,
            attempt,
            checkpoint,
        })
    }

    pub(super) fn progress(&self, job: JobId) -> JobProgress {
        self.core.job(job).unwrap()
    }
}

impl Seen {
    /// Takes an effect that must be there.
    #[track_caller]
    pub(super) fn expect(&mut self, effect: Effect) {
        let found = self.effects.iter().position(|other| *other == effect);
        let found = found.unwrap_or_else(|| panic!("no {effect:?} in {:#?}", self.effects));
        self.effects.remove(found);
    }

    #[track_caller]
    fn take<T>(&mut self, wanted: impl Fn(&Effect) -> Option<T>) -> T {
        let found = self
            .effects
            .iter()
            .position(|effect| wanted(effect).is_some());
        let found = found.unwrap_or_else(|| panic!("not in {:#?}", self.effects));
        wanted(&self.effects.remove(found)).unwrap()
    }

    /// What else came is told of elsewhere.
    pub(super) fn ignore(mut self) {
        self.effects.clear();
    }

    /// What was leased to a node, in order; nothing if nothing was.
    pub(super) fn grants(&mut self, to: &Node) -> Vec<Grant> {
        let mut all = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Grant {
                session,
                node,
                leases,
            } if *session == to.session => {
                assert_eq!(*node, to.id);
                all.extend(leases.iter().copied());
                false
            }
            _ => true,
        });
        all
    }

    /// In which order a node is told what to run and what to park.
    pub(super) fn order(&self, to: &Node) -> Vec<&'static str> {
        let words = self.effects.iter().filter_map(|effect| match effect {
            Effect::Grant { session, .. } => Some((session, "grant")),
            Effect::Pause { session, .. } => Some((session, "pause")),
            Effect::Resume { session, .. } => Some((session, "resume")),
            _ => None,
        });
        let words = words.filter(|(session, _)| **session == to.session);
        words.map(|(_, word)| word).collect()
    }

    /// The one lease that a node got.
    #[track_caller]
    pub(super) fn grant(&mut self, to: &Node) -> Grant {
        let grants = self.grants(to);
        assert_eq!(grants.len(), 1, "{grants:?}, and {:#?}", self.effects);
        grants[0]
    }

    #[track_caller]
    pub(super) fn done(&mut self) -> Answer {
        self.take(|effect| match effect {
            Effect::Done { answer, .. } => Some(answer.clone()),
            _ => None,
        })
    }

    /// A refusal, which leaves no trace.
    #[track_caller]
    pub(super) fn refused(&mut self) -> RequestRefusal {
        assert_eq!(self.records, []);
        self.take(|effect| match effect {
            Effect::Refused { refusal, .. } => Some(refusal.clone()),
            _ => None,
        })
    }

    /// Attempts that a node which was taken in shall forget.
    #[track_caller]
    pub(super) fn welcome(&mut self, node: &Node) -> Vec<AttemptId> {
        self.take(|effect| match effect {
            Effect::Welcome {
                session, unwanted, ..
            } if *session == node.session => Some(unwanted.clone()),
            _ => None,
        })
    }

    /// What was decided about a report.
    #[track_caller]
    pub(super) fn accepted(&mut self, node: &Node, grant: &Grant) -> Verdict {
        self.take(|effect| match effect {
            Effect::ResultAccepted {
                task,
                attempt,
                node: producer,
                verdict,
            } if *task == grant.task && *attempt == grant.attempt => {
                assert_eq!(*producer, node.id);
                Some(*verdict)
            }
            _ => None,
        })
    }

    #[track_caller]
    pub(super) fn amended(&mut self, grant: &Grant) {
        let (task, attempt) = (grant.task, grant.attempt);
        self.expect(Effect::ResultAmended { task, attempt });
    }

    /// A node is told that an attempt is not wanted.
    #[track_caller]
    pub(super) fn cancelled(&mut self, node: &Node, grant: &Grant) {
        let (session, attempts) = (node.session, vec![grant.attempt]);
        self.expect(Effect::Cancel { session, attempts });
    }

    /// A node that came back is told that an attempt goes on.
    #[track_caller]
    pub(super) fn goes_on(&mut self, node: &Node, grant: &Grant) {
        let (session, attempts) = (node.session, vec![grant.attempt]);
        self.expect(Effect::Resume { session, attempts });
    }

    #[track_caller]
    pub(super) fn closed_session(&mut self, node: &Node, reason: Refusal) {
        self.closed_session_of(node.session, reason);
    }

    #[track_caller]
    pub(super) fn closed_session_of(&mut self, session: SessionId, reason: Refusal) {
        self.expect(Effect::CloseSession { session, reason });
    }

    /// How a job stands that changed and is open.
    #[track_caller]
    pub(super) fn told(&mut self, job: JobId) -> JobProgress {
        let progress = self.last_told(job);
        assert_eq!(progress.state, JobState::Open);
        progress
    }

    /// Takes what is told of a job whose counts may be as before.
    pub(super) fn told_if(&mut self, job: JobId) {
        let told = |effect: &Effect| matches!(effect, Effect::JobChanged { progress } if progress.job == job);
        self.effects.retain(|effect| !told(effect));
    }

    /// How a job ended, whose inputs are not needed any more.
    #[track_caller]
    pub(super) fn closed(&mut self, job: JobId) -> JobProgress {
        let progress = self.last_told(job);
        assert_ne!(progress.state, JobState::Open);
        let holder = Holder::Inputs(job);
        self.expect(Effect::BlobsReleased { holder });
        progress
    }

    /// A step tells of a job at most once; several steps may.
    #[track_caller]
    fn last_told(&mut self, job: JobId) -> JobProgress {
        let mut last = None;
        self.effects.retain(|effect| match effect {
            Effect::JobChanged { progress } if progress.job == job => {
                last = Some(*progress);
                false
            }
            _ => true,
        });
        last.unwrap_or_else(|| panic!("{job} is not told of in {:#?}", self.effects))
    }

    #[track_caller]
    pub(super) fn mode(&mut self) -> (Mode, ModeReason) {
        self.take(|effect| match effect {
            Effect::ModeChanged { mode, reason } => Some((*mode, *reason)),
            _ => None,
        })
    }

    /// The standing that a record gave a node, if one did.
    pub(super) fn standing(&self, of: &Node) -> Option<Standing> {
        self.records.iter().find_map(|record| match &record.fact {
            hearth_wire::record::Fact::NodeStanding { node, standing, .. } => {
                (*node == of.id).then_some(*standing)
            }
            _ => None,
        })
    }
}
