//! The straight way of a task, and what nodes say that they have no right to say.

use hearth_wire::record::Verdict;

use super::world::{World, returned, task};
use crate::{Effect, Event, JobState, ReportIn};

#[test]
fn a_task_is_leased_reported_and_settled() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(4);
    let spec = world.spec(release, 1);
    let (job, mut seen) = world.submit(spec);
    let grant = seen.grant(&node);
    assert_eq!((grant.task, grant.release), (task(job, 0), release));
    assert_eq!((grant.millis, grant.checkpoint), (60_000, None));
    assert_eq!(seen.told(job).leased, 1);
    drop(seen);

    let mut seen = world.report(&node, &grant, returned(7));
    assert_eq!(seen.accepted(&node, &grant), Verdict::Settled);
    let progress = seen.closed(job);
    assert_eq!((progress.state, progress.settled), (JobState::Complete, 1));
    drop(seen);
    // The answer was lost on the way: the same report again is answered again, and no more.
    assert_eq!(world.report(&node, &grant, returned(7)).records, []);
}

#[test]
fn a_report_that_is_not_of_this_node_and_task_changes_nothing() {
    let mut world = World::new();
    let release = world.release();
    let (node, other) = (world.volunteer(1), world.volunteer(1));
    let spec = world.spec(release, 2);
    let (job, mut seen) = world.submit(spec);
    let (first, second) = (seen.grant(&node), seen.grant(&other));
    seen.told(job);
    drop(seen);

    let foreign = world.report(&other, &first, returned(1));
    assert_eq!(foreign.records, []);
    drop(foreign);
    let misbound = crate::Grant {
        task: second.task,
        ..first
    };
    let misbound = world.report(&node, &misbound, returned(1));
    assert_eq!(misbound.records, []);
    drop(misbound);
    let unknown = crate::Grant {
        attempt: hearth_wire::AttemptId(u64::MAX),
        ..first
    };
    assert_eq!(world.report(&node, &unknown, returned(1)).records, []);
    assert_eq!(world.progress(job).settled, 0);
    let mut seen = world.report(&node, &first, returned(1));
    assert_eq!(seen.accepted(&node, &first), Verdict::Settled);
    seen.told(job);
}

#[test]
fn one_frame_may_report_many_tasks_and_one_task_twice() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(2);
    let spec = world.spec(release, 2);
    let (job, grants) = world.leases(spec, &node);
    let report = |grant: &crate::Grant| ReportIn {
        attempt: grant.attempt,
        task: grant.task,
        outcome: returned(1),
        fuel_used: 1,
        run_micros: 1_000,
    };
    let reports = [&grants[0], &grants[1], &grants[0]].map(report).to_vec();
    let (id, session) = (node.id, node.session);
    let mut seen = world.step(Event::Reported {
        node: id,
        session,
        reports,
    });
    seen.accepted(&node, &grants[0]);
    seen.accepted(&node, &grants[1]);
    let attempts = [&grants[0], &grants[1], &grants[0]].map(|grant| grant.attempt);
    let attempts = attempts.to_vec();
    seen.expect(Effect::Settled { session, attempts });
    assert_eq!(seen.closed(job).settled, 2);
}

#[test]
fn outputs_are_kept_until_the_job_is_forgotten() {
    let mut world = World::with(crate::Config {
        closed_jobs_max: 1,
        mode_hold_millis: 1 << 50,
        ..crate::Config::default()
    });
    let release = world.release();
    let node = world.volunteer(1);
    let mut run = |value: &[u8]| {
        let spec = world.spec(release, 1);
        let (job, grant) = world.lease(spec, &node);
        let blob = hearth_wire::Blob::of(value);
        let output = hearth_wire::Output {
            media_type: "text/plain".to_owned(),
            body: hearth_wire::Body::Blob(blob),
        };
        let outcome = hearth_wire::Outcome::Returned(output);
        let mut seen = world.report(&node, &grant, outcome);
        seen.accepted(&node, &grant);
        seen.closed(job);
        let (holder, blob) = (crate::Holder::Outputs(job), blob.digest);
        seen.expect(Effect::BlobHeld { holder, blob });
        (job, seen)
    };
    let (first, seen) = run(b"one");
    drop(seen);
    let (_, mut seen) = run(b"two");
    let holder = crate::Holder::Outputs(first);
    seen.expect(Effect::BlobsReleased { holder });
}

#[test]
fn a_lease_that_ended_while_no_coordinator_ran_costs_nothing() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let mut spec = world.spec(release, 1);
    spec.options.attempts_max = 1;
    let (_, grant) = world.lease(spec, &node);
    world.now += 10 * grant.millis;
    world.restart();
    let mut seen = world.join(&mut node, &[grant.attempt]);
    assert_eq!(seen.welcome(&node), []);
    seen.goes_on(&node, &grant);
    drop(seen);
    let mut seen = world.report(&node, &grant, returned(7));
    assert_eq!(seen.accepted(&node, &grant), Verdict::Settled);
    seen.closed(grant.task.job);
}
