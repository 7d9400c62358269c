//! Core: events a second while 1,000 nodes work, and how that falls with 100 times as many.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hearth_core::{Config, Coordinator, Effect, Event, ReportIn, RequestId};
use hearth_wire::message::Capacity;
use hearth_wire::record::{NodeKind, NodeProfile, ReleaseFacts};
use hearth_wire::{
    AttemptId, Body, Class, Digest, EngineId, EngineRange, InputSet, JobOptions, JobSpec, KeyId,
    Millis, NodeId, Outcome, Output, ReleaseId, SessionId, TaskId, TaskLimits, TaskType,
};

const EVENTS: u64 = 10_000;
const TASKS: u32 = 2_000_000;

/// A coordinator with `nodes` nodes of four slots and a job that keeps them all busy.
struct World {
    core: Coordinator,
    now: Millis,
    /// What nodes have finished and will report.
    finished: VecDeque<Finished>,
    /// Tasks of the job that were not reported yet.
    left: u64,
}

/// An attempt, and whose it was: what a report is made of when it is sent, as a connection does.
#[derive(Clone, Copy)]
struct Finished {
    node: NodeId,
    session: SessionId,
    attempt: AttemptId,
    task: TaskId,
}

impl Finished {
    fn report(self) -> Event {
        let report = ReportIn {
            attempt: self.attempt,
            task: self.task,
            outcome: Outcome::Returned(Output {
                media_type: String::new(),
                body: Body::Inline(vec![7; 64]),
            }),
            fuel_used: 1_000,
            run_micros: 1_000,
        };
        Event::Reported {
            node: self.node,
            session: self.session,
            reports: vec![report],
        }
    }
}

impl World {
    fn new(nodes: u64) -> Self {
        let mut world = Self {
            core: Coordinator::new(Config::default()),
            now: Millis(1),
            finished: VecDeque::new(),
            left: TASKS.into(),
        };
        world.feed(Event::Started { incarnation: 1 });
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
        world.feed(Event::ReleaseAdded {
            request: RequestId(1),
            facts,
        });
        for node in 0..nodes {
            let profile = NodeProfile {
                node: NodeId(Digest::of(&node.to_le_bytes())),
                session: SessionId(node + 1),
                kind: NodeKind::Volunteer,
                name: String::new(),
                engine: EngineId {
                    version: [48, 0, 8],
                    semantics: Digest::default(),
                },
                architecture: "x86_64".to_owned(),
                capacity: Capacity {
                    slots: 4,
                    memory_bytes: 4 << 30,
                },
                capabilities: Vec::new(),
                location: String::new(),
            };
            world.feed(Event::NodeJoined {
                profile,
                held: Vec::new(),
            });
        }
        let inputs = InputSet {
            root: Digest::default(),
            count: TASKS,
            bytes: 1,
            media_type: "text/plain".to_owned(),
        };
        let spec = JobSpec {
            release: ReleaseId::default(),
            inputs,
            owner: KeyId::default(),
            options: JobOptions::default(),
        };
        world.feed(Event::Submit {
            request: RequestId(2),
            spec,
        });
        world
    }

    /// One event in; the leases that it grants become reports of their nodes.
    fn feed(&mut self, event: Event) {
        for effect in self.core.handle(self.now, event).effects {
            let Effect::Grant {
                session,
                node,
                leases,
            } = effect
            else {
                continue;
            };
            let finished = leases.into_iter().map(|lease| Finished {
                node,
                session,
                attempt: lease.attempt,
                task: lease.task,
            });
            self.finished.extend(finished);
        }
    }

    /// `events` reports, each of which makes room for a lease.
    fn run(&mut self, events: u64) {
        self.left -= events;
        for number in 0..events {
            self.now = self.now.plus(u64::from(number % 16 == 0));
            let next = self.finished.pop_front();
            let event = next.map_or(Event::Tick, Finished::report);
            self.feed(event);
        }
    }
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    group
        .throughput(Throughput::Elements(EVENTS))
        .sample_size(10);
    for nodes in [100, 1_000, 100_000] {
        let mut world = World::new(nodes);
        group.bench_function(format!("{EVENTS} reports, {nodes} nodes"), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    if world.left < EVENTS {
                        // The job is used up: a fresh one, outside of the measurement.
                        world = World::new(nodes);
                    }
                    let begun = Instant::now();
                    world.run(EVENTS);
                    spent += begun.elapsed();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, events);
criterion_main!(benches);
