//! What owners bring: taken once, for their own jobs, and nobody runs it beside or after that.

use hearth_wire::record::{Fact, NodeKind, Verdict};
use hearth_wire::{
    Blob, Body, EngineId, Inconclusive, JobId, KeyId, Outcome, Output, TaskIndex, TrustPolicy,
    limits,
};

use super::world::{Node, Seen, World, owner, returned, task};
use crate::{Answer, Effect, Event, Holder, JobState, RequestRefusal, ResultIn};

fn engine() -> EngineId {
    EngineId {
        version: [48, 0, 8],
        semantics: Default::default(),
    }
}

fn result(index: u32, outcome: Outcome) -> ResultIn {
    ResultIn {
        index: TaskIndex(index),
        outcome,
        fuel_used: 1,
        run_micros: 1,
    }
}

fn results(indexes: impl IntoIterator<Item = u32>) -> Vec<ResultIn> {
    let indexes = indexes.into_iter();
    indexes.map(|index| result(index, returned(1))).collect()
}

fn bring(world: &mut World, job: JobId, by: KeyId, results: Vec<ResultIn>, more: bool) -> Seen {
    let request = world.request();
    world.step(Event::Merge {
        request,
        job,
        owner: by,
        engine: engine(),
        results,
        more,
    })
}

impl Seen {
    /// How many results were taken, and how many changed nothing; whoever waits for them is told.
    #[track_caller]
    fn merged(&mut self) -> (u32, u32) {
        let Answer::Merged { merged, known, .. } = self.done() else {
            panic!("another answer");
        };
        let facts = self.records.iter().filter_map(|record| match &record.fact {
            Fact::Merged { owner, results, .. } => Some((*owner, results.clone())),
            _ => None,
        });
        let facts: Vec<_> = facts.collect();
        for (owner, results) in facts {
            assert_eq!(results.len() as u32, merged);
            for result in results {
                self.expect(Effect::ResultAccepted {
                    task: result.task,
                    attempt: result.attempt,
                    node: hearth_wire::NodeId(owner.0),
                    verdict: result.verdict,
                });
            }
        }
        (merged, known)
    }
}

#[test]
fn what_an_owner_brings_is_never_leased_and_what_runs_is_called_off() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(2);
    let spec = world.spec(release, 6);
    let (job, grants) = world.leases(spec, &node);
    assert_eq!(grants.len(), 2);

    // Task 1 runs, task 3 was never leased; those in front of it still wait.
    let mut seen = bring(&mut world, job, owner(1), results([1, 3]), false);
    assert_eq!(seen.merged(), (2, 0));
    seen.cancelled(&node, &grants[1]);
    let next = seen.grant(&node);
    assert_eq!(next.task, task(job, 2));
    let progress = seen.told(job);
    assert_eq!((progress.settled, progress.leased), (2, 2));
    drop(seen);
    // A report that was on its way is answered and changes nothing.
    assert_eq!(world.report(&node, &grants[1], returned(9)).records, []);

    world.restart();
    let mut node = node;
    let held = [grants[0].attempt, next.attempt];
    let mut seen = world.join(&mut node, &held);
    assert_eq!(seen.welcome(&node), []);
    assert_eq!(seen.grants(&node), []);
    seen.ignore();
    let mut leased = Vec::new();
    for grant in [&grants[0], &next] {
        let mut seen = world.report(&node, grant, returned(1));
        seen.accepted(&node, grant);
        leased.extend(seen.grants(&node));
        seen.told(job);
    }
    let mut tasks: Vec<_> = leased.iter().map(|grant| grant.task.index.0).collect();
    tasks.sort_unstable();
    assert_eq!(tasks, [4, 5]);

    let mut seen = bring(&mut world, job, owner(1), results(0..6), false);
    assert_eq!(seen.merged(), (2, 4));
    let attempts = leased.iter().map(|grant| grant.attempt).collect();
    let session = node.session;
    seen.expect(Effect::Cancel { session, attempts });
    let progress = seen.closed(job);
    assert_eq!((progress.state, progress.settled), (JobState::Complete, 6));
    drop(seen);

    // Again, of a job that has ended: nothing.
    let mut seen = bring(&mut world, job, owner(1), results(0..6), false);
    assert_eq!(seen.records, []);
    assert_eq!(seen.merged(), (0, 6));
}

#[test]
fn a_job_that_is_brought_with_its_results_is_never_leased() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(4);
    let mut spec = world.spec(release, 4);
    spec.options.idempotency_key = Some("offline".to_owned());
    let submit = |world: &mut World| {
        let (request, spec) = (world.request(), spec.clone());
        world.step(Event::SubmitHeld { request, spec })
    };
    let mut seen = submit(&mut world);
    let Answer::Submitted { job, existing, .. } = seen.done() else {
        panic!("another answer");
    };
    assert!(!existing);
    let blob = spec.inputs.root;
    let holder = Holder::Inputs(job);
    seen.expect(Effect::BlobHeld { holder, blob });
    assert_eq!(seen.told(job).leased, 0);
    drop(seen);

    // Every piece lets the job wait anew, also over a start; so does asking for it again.
    for piece in 0..3 {
        drop(world.live(limits::HOLD_MILLIS - 1));
        let mut seen = bring(&mut world, job, owner(1), results([piece]), true);
        assert_eq!(seen.merged(), (1, 0));
        assert_eq!(seen.told(job).leased, 0);
        drop(seen);
        world.restart();
        let mut node = node.clone();
        let mut seen = world.join(&mut node, &[]);
        seen.welcome(&node);
        drop(seen);
        let mut seen = submit(&mut world);
        assert!(matches!(
            seen.done(),
            Answer::Submitted { existing: true, .. }
        ));
        seen.told_if(job);
    }
    let mut seen = bring(&mut world, job, owner(1), results([3]), false);
    assert_eq!(seen.merged(), (1, 0));
    assert_eq!(seen.closed(job).settled, 4);
}

#[test]
fn a_job_waits_for_its_owner_and_then_goes_on() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let (request, spec) = (world.request(), world.spec(release, 3));
    let blob = spec.inputs.root;
    let mut seen = world.step(Event::SubmitHeld { request, spec });
    let Answer::Submitted { job, .. } = seen.done() else {
        panic!("another answer");
    };
    let holder = Holder::Inputs(job);
    seen.expect(Effect::BlobHeld { holder, blob });
    seen.told(job);
    drop(seen);
    drop(world.live(limits::HOLD_MILLIS - 1));
    let mut seen = world.live(1);
    let grant = seen.grant(&node);
    seen.told(job);
    drop(seen);

    // What runs goes on while the job waits; nothing new is leased.
    bring(&mut world, job, owner(1), Vec::new(), true).merged_none(job);
    let mut seen = world.report(&node, &grant, returned(1));
    seen.accepted(&node, &grant);
    seen.told(job);
    drop(seen);
    // Whoever has nothing more says so.
    let mut seen = bring(&mut world, job, owner(1), Vec::new(), false);
    assert_eq!(seen.merged(), (0, 0));
    let granted = seen.grants(&node);
    let granted: Vec<_> = granted.iter().map(|grant| grant.task).collect();
    assert_eq!(granted, [task(job, 1), task(job, 2)]);
    seen.told(job);
}

impl Seen {
    #[track_caller]
    fn merged_none(mut self, job: JobId) {
        assert_eq!(self.merged(), (0, 0));
        self.told_if(job);
    }
}

#[test]
fn a_certain_job_checks_what_its_owner_brings_and_blames_nobody() {
    let mut world = World::new();
    let release = world.release();
    world.ours([48, 0, 8]);
    let mut spec = world.spec(release, 2);
    spec.options.trust = TrustPolicy::Certain;
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    let wrong = vec![result(0, returned(1)), result(1, returned(7))];
    let mut seen = bring(&mut world, job, owner(1), wrong, false);
    assert_eq!(seen.merged(), (2, 0));
    assert_eq!(seen.told(job).provisional, 2);
    let Fact::Merged { results, .. } = &seen.records[0].fact else {
        panic!("{:?}", seen.records);
    };
    let brought: Vec<_> = results.iter().map(|result| result.attempt).collect();
    drop(seen);

    let mut trusted = world.stranger(NodeKind::Trusted, 2);
    let mut seen = world.join(&mut trusted, &[]);
    seen.welcome(&trusted);
    let checks = seen.grants(&trusted);
    assert_eq!(checks.len(), 2);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&trusted, &checks[0], returned(1));
    let confirmed = seen.accepted(&trusted, &checks[0]);
    assert_eq!(confirmed, Verdict::Confirmed { result: brought[0] });
    seen.told(job);
    drop(seen);

    // The other differs; a second trusted run decides, and the owner is no node to be shut out.
    let mut seen = world.report(&trusted, &checks[1], returned(1));
    let arbiter = seen.grant(&trusted);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&trusted, &arbiter, returned(1));
    let decided = seen.accepted(&trusted, &arbiter);
    assert_eq!(
        decided,
        Verdict::Confirmed {
            result: checks[1].attempt
        }
    );
    let (task, attempt) = (task(job, 1), brought[1]);
    seen.expect(Effect::ResultAmended { task, attempt });
    assert_eq!(seen.closed(job).settled, 2);
    let blamed = seen
        .records
        .iter()
        .any(|record| matches!(record.fact, Fact::NodeStanding { .. }));
    assert!(!blamed);
}

#[test]
fn large_outputs_are_kept_and_one_task_counts_once() {
    let mut world = World::new();
    let release = world.release();
    let spec = world.spec(release, 2);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    let blob = Blob::of(b"large");
    let large = Outcome::Returned(Output {
        media_type: "text/plain".to_owned(),
        body: Body::Blob(blob),
    });
    let twice = vec![result(1, large), result(1, returned(2))];
    let mut seen = bring(&mut world, job, owner(1), twice, false);
    assert_eq!(seen.merged(), (1, 1));
    let (holder, blob) = (Holder::Outputs(job), blob.digest);
    seen.expect(Effect::BlobHeld { holder, blob });
    seen.told(job);
}

#[test]
fn what_cannot_be_a_result_is_refused_as_a_whole() {
    let mut world = World::new();
    let release = world.release();
    let spec = world.spec(release, 2);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    let problem = |world: &mut World, bad: ResultIn| {
        let both = vec![result(0, returned(1)), bad];
        match bring(world, job, owner(1), both, true).refused() {
            RequestRefusal::BadResult { problem, .. } => problem,
            other => panic!("{other}"),
        }
    };
    let cancelled = Outcome::Inconclusive(Inconclusive::Cancelled);
    let said = [
        problem(&mut world, result(2, returned(1))),
        problem(&mut world, result(1, cancelled)),
        problem(
            &mut world,
            ResultIn {
                fuel_used: u64::MAX,
                ..result(1, returned(1))
            },
        ),
    ];
    assert!(said[0].contains("no such task"), "{said:?}");
    assert!(said[1].contains("inconclusive"), "{said:?}");
    assert!(said[2].contains("fuel"), "{said:?}");

    // Another's job and no job are answered alike.
    for (job, by) in [(job, owner(2)), (JobId(77), owner(1))] {
        let refusal = bring(&mut world, job, by, results([0]), false).refused();
        assert_eq!(refusal, RequestRefusal::UnknownJob(job));
    }
    let (request, results) = (world.request(), results([0]));
    let mut other = world.step(Event::Merge {
        request,
        job,
        owner: owner(1),
        engine: EngineId {
            version: [1, 0, 0],
            ..engine()
        },
        results,
        more: false,
    });
    let RequestRefusal::BadResult { problem, .. } = other.refused() else {
        panic!("another refusal");
    };
    assert!(problem.contains("engine"), "{problem}");
    drop(other);
    let node = world.volunteer_that_takes(job, 2);
    assert_eq!(world.progress(job).leased, 2);
    world.lose(&node).ignore();
}

impl World {
    /// A volunteer that comes and at once gets this many tasks.
    #[track_caller]
    fn volunteer_that_takes(&mut self, job: JobId, tasks: usize) -> Node {
        let mut node = self.stranger(NodeKind::Volunteer, tasks as u16);
        let mut seen = self.join(&mut node, &[]);
        seen.welcome(&node);
        assert_eq!(seen.grants(&node).len(), tasks);
        seen.told(job);
        node
    }
}

#[test]
fn a_class_whose_runs_may_differ_is_not_merged() {
    let mut world = World::new();
    let release = world.release_with(|facts| facts.class = hearth_wire::Class::Tolerant);
    let spec = world.spec(release, 1);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    let refusal = bring(&mut world, job, owner(1), results([0]), false).refused();
    assert!(refusal.to_string().contains("differ"), "{refusal}");
}
