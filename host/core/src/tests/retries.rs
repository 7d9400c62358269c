//! Attempts that end without a result: where the task goes next, and when.

use hearth_wire::record::{Failure, NodeKind, Verdict};
use hearth_wire::{Inconclusive, Outcome};

use super::world::{World, host_fault, returned};
use crate::Effect;

#[test]
fn a_failed_task_waits_twice_as_long_each_time_and_fails_at_the_cap() {
    let mut world = World::new();
    let release = world.release();
    let nodes: Vec<_> = (0..4).map(|_| world.volunteer(1)).collect();
    let mut spec = world.spec(release, 1);
    spec.options.attempts_max = 4;
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    for wait in [50, 100, 200] {
        let (node, grant) = holder(&mut seen, &nodes);
        drop(seen);
        seen = world.report(&node, &grant, host_fault());
        assert_eq!(seen.told(job).leased, 0);
        drop(seen);
        drop(world.live(wait - 1));
        seen = world.live(1);
        assert_eq!(seen.told(job).leased, 1, "after {wait} ms");
    }
    let (node, grant) = holder(&mut seen, &nodes);
    drop(seen);
    let mut seen = world.report(&node, &grant, host_fault());
    let failed = Verdict::Failed(Failure::Attempts);
    assert_eq!(seen.accepted(&node, &grant), failed);
    assert_eq!(seen.closed(job).failed, 1);
}

/// Who of them got the one lease of this step.
fn holder(
    seen: &mut super::world::Seen,
    nodes: &[super::world::Node],
) -> (super::world::Node, crate::Grant) {
    let grants = nodes.iter().map(|node| (node, seen.grants(node)));
    let mut grants: Vec<_> = grants.filter(|(_, grants)| !grants.is_empty()).collect();
    assert_eq!(grants.len(), 1);
    let (node, grants) = grants.remove(0);
    assert_eq!(grants.len(), 1);
    (node.clone(), grants[0])
}

#[test]
fn no_volunteer_gets_what_it_failed() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let spec = world.spec(release, 1);
    let (job, grant) = world.lease(spec, &node);
    let mut seen = world.report(&node, &grant, host_fault());
    seen.told(job);
    drop(seen);
    // Nobody else is there: it waits, also over a reconnect of the same node.
    drop(world.live(120_000));
    drop(world.lose(&node));
    let mut node = node;
    let mut seen = world.join(&mut node, &[]);
    assert_eq!(seen.welcome(&node), []);
    drop(seen);
    drop(world.live(120_000));

    let mut other = world.stranger(NodeKind::Volunteer, 1);
    let mut seen = world.join(&mut other, &[]);
    seen.welcome(&other);
    let grant = seen.grant(&other);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&other, &grant, returned(1));
    seen.accepted(&other, &grant);
    seen.closed(job);
}

#[test]
fn a_task_that_nobody_may_have_does_not_hide_one_that_is_ready_later() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(2);
    let spec = world.spec(release, 2);
    let (job, grants) = world.leases(spec, &node);
    world.report(&node, &grants[0], host_fault()).told(job);
    drop(world.live(1_000));
    // Its owner stopped it, so the node may have it again.
    let stopped = Outcome::Inconclusive(Inconclusive::Cancelled);
    world.report(&node, &grants[1], stopped).told(job);
    drop(world.live(49));
    let mut seen = world.live(1);
    assert_eq!(seen.grant(&node).task, grants[1].task);
    seen.told(job);
}

#[test]
fn the_local_host_takes_what_volunteers_failed_and_tries_again_itself() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let home = world.node(NodeKind::Local, 1);
    let spec = world.spec(release, 1);
    let (job, grant) = world.lease(spec, &node);
    world.report(&node, &grant, host_fault()).told(job);
    let mut seen = world.live(50);
    let grant = seen.grant(&home);
    seen.told(job);
    drop(seen);
    world.report(&home, &grant, host_fault()).told(job);
    let mut seen = world.live(100);
    let grant = seen.grant(&home);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&home, &grant, returned(1));
    seen.accepted(&home, &grant);
    seen.closed(job);
}

#[test]
fn a_lease_that_ends_is_taken_back_and_a_late_report_merges() {
    let mut world = World::new();
    let release = world.release();
    let (node, other) = (world.volunteer(1), world.volunteer(1));
    let spec = world.spec(release, 1);
    let (job, slow) = world.lease(spec, &node);
    drop(world.after(59_999));
    let mut seen = world.after(1);
    seen.cancelled(&node, &slow);
    seen.told(job);
    drop(seen);
    let mut seen = world.live(50);
    let second = seen.grant(&other);
    seen.told(job);
    drop(seen);

    // Both have it; the first report counts, whoever it comes from, and the other is called off.
    let mut seen = world.report(&node, &slow, returned(1));
    assert_eq!(seen.accepted(&node, &slow), Verdict::Settled);
    seen.cancelled(&other, &second);
    assert_eq!(seen.closed(job).settled, 1);
    drop(seen);
    assert_eq!(world.report(&other, &second, returned(1)).records, []);
}

#[test]
fn a_lost_node_gives_its_tasks_back_at_once_and_may_come_back_with_them() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let spec = world.spec(release, 1);
    let (job, first) = world.lease(spec, &node);
    world.lose(&node).told(job);
    assert_eq!(world.progress(job).leased, 0);

    // It comes back and still has it: the attempt goes on, and its lease begins anew.
    let mut seen = world.join(&mut node, &[first.attempt]);
    assert_eq!(seen.welcome(&node), []);
    seen.goes_on(&node, &first);
    assert_eq!(seen.told(job).leased, 1);
    drop(seen);
    drop(world.after(59_999));
    // Once more, but without it: the one that it had is lost, and it may have the task again.
    world.lose(&node).told(job);
    let mut seen = world.join(&mut node, &[]);
    assert_eq!(seen.welcome(&node), []);
    let second = seen.grant(&node);
    assert_ne!(second.attempt, first.attempt);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&node, &second, returned(1));
    seen.accepted(&node, &second);
    seen.closed(job);
    drop(seen);
    // What nobody wants any more, a node is told to forget when it joins.
    drop(world.lose(&node));
    let mut seen = world.join(&mut node, &[first.attempt, second.attempt]);
    assert_eq!(seen.welcome(&node), [first.attempt, second.attempt]);
}

#[test]
fn a_lost_node_costs_half_an_attempt() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let mut spec = world.spec(release, 1);
    spec.options.attempts_max = 1;
    let (job, mut seen) = world.submit(spec);
    seen.grant(&node);
    seen.told(job);
    drop(seen);
    world.lose(&node).told(job);
    let mut seen = world.join(&mut node, &[]);
    seen.welcome(&node);
    seen.grant(&node);
    seen.told(job);
    drop(seen);
    assert_eq!(world.lose(&node).closed(job).failed, 1);
}

#[test]
fn a_node_that_declines_gets_no_more_of_the_release() {
    let mut world = World::new();
    let (declined, fine) = (world.release(), world.release());
    let node = world.volunteer(1);
    let spec = world.spec(declined, 1);
    let (job, grant) = world.lease(spec, &node);
    let outcome = Outcome::Inconclusive(Inconclusive::Declined("not here".to_owned()));
    world.report(&node, &grant, outcome).told(job);
    drop(world.live(600_000));
    // However many jobs of it stand in front of others.
    for _ in 0..40 {
        let spec = world.spec(declined, 1);
        let (job, mut seen) = world.submit(spec);
        seen.told(job);
    }
    let spec = world.spec(fine, 1);
    let (second, mut seen) = world.submit(spec);
    assert_eq!(seen.grant(&node).task.job, second);
    seen.told(second);
    drop(seen);
    // Somebody else, who does not, is found.
    let mut other = world.stranger(NodeKind::Volunteer, 1);
    let mut seen = world.join(&mut other, &[]);
    seen.welcome(&other);
    let found = seen.grant(&other).task.job;
    assert_ne!(found, second);
    seen.told(found);
}

#[test]
fn a_component_that_two_nodes_cannot_run_fails_its_job() {
    let mut world = World::new();
    let release = world.release();
    let (node, other) = (world.volunteer(1), world.volunteer(1));
    let spec = world.spec(release, 2);
    let (job, mut seen) = world.submit(spec);
    let (first, second) = (seen.grant(&node), seen.grant(&other));
    seen.told(job);
    drop(seen);
    let unfit = || Outcome::Inconclusive(Inconclusive::Unfit("malformed".to_owned()));
    world.report(&node, &first, unfit()).told(job);
    let mut seen = world.report(&other, &second, unfit());
    let failed = Verdict::Failed(Failure::Unfit);
    assert_eq!(seen.accepted(&other, &second), failed);
    let progress = seen.closed(job);
    assert_eq!(progress.state.failure(), Some(Failure::Unfit));
    assert_eq!(progress.failed, 2);
}

#[test]
fn a_task_that_had_all_its_attempts_fails_though_the_coordinator_died_in_between() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let mut spec = world.spec(release, 1);
    spec.options.attempts_max = 1;
    let (job, grant) = world.lease(spec, &node);
    let mut seen = world.after(60_000);
    seen.cancelled(&node, &grant);
    assert_eq!(seen.closed(job).failed, 1);
    let last = seen.records.len();
    drop(seen);
    // The lease's end was durable, what had to follow was not.
    assert_eq!(last, 2);
    assert_eq!(world.restart_without(1).closed(job).failed, 1);
}

#[test]
fn a_slow_last_task_gets_a_second_node() {
    let mut world = World::new();
    let release = world.release();
    let (node, other) = (world.volunteer(4), world.volunteer(1));
    let spec = world.spec(release, 5);
    let (job, mut seen) = world.submit(spec);
    let (grants, theirs) = (seen.grants(&node), seen.grant(&other));
    assert_eq!(grants.len(), 4);
    seen.told(job);
    drop(seen);
    world.now += 1_000;
    for grant in &grants[..3] {
        let mut seen = world.report(&node, grant, returned(1));
        seen.accepted(&node, grant);
        seen.told(job);
    }
    let mut seen = world.report(&other, &theirs, returned(1));
    seen.accepted(&other, &theirs);
    seen.told(job);
    drop(seen);
    // Runs take a second; after one and a half, and the way, the last one counts as slow.
    drop(world.live(400));
    let mut seen = world.live(1_000);
    let hedge = seen.grant(&other);
    assert_eq!(hedge.task, grants[3].task);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&other, &hedge, returned(1));
    seen.accepted(&other, &hedge);
    let (session, attempts) = (node.session, vec![grants[3].attempt]);
    seen.expect(Effect::Cancel { session, attempts });
    seen.closed(job);
}

#[test]
fn an_attempt_whose_node_only_reconnects_costs_nothing() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let mut spec = world.spec(release, 1);
    spec.options.attempts_max = 1;
    let (job, grant) = world.lease(spec, &node);
    for _ in 0..10 {
        world.now += 5_000;
        world.lose(&node).told(job);
        let mut seen = world.join(&mut node, &[grant.attempt]);
        assert_eq!(seen.welcome(&node), []);
        seen.goes_on(&node, &grant);
        assert_eq!(seen.told(job).leased, 1);
    }
    // But its lease ends when it would have ended.
    drop(world.live(9_999));
    let mut seen = world.live(1);
    seen.cancelled(&node, &grant);
    assert_eq!(seen.closed(job).failed, 1);
}

#[test]
fn tasks_that_a_node_may_not_have_do_not_hide_those_behind_them() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let spec = world.spec(release, 40);
    let (job, mut seen) = world.submit(spec);
    let mut grant = seen.grant(&node);
    seen.told(job);
    drop(seen);
    for _ in 0..39 {
        let mut seen = world.report(&node, &grant, host_fault());
        grant = seen.grant(&node);
        seen.told(job);
    }
    drop(world.live(1_000));
    let stopped = Outcome::Inconclusive(Inconclusive::Cancelled);
    world.report(&node, &grant, stopped).told(job);
    let mut seen = world.live(50);
    assert_eq!(seen.grant(&node).task, grant.task);
    seen.told(job);
}

#[test]
fn the_last_attempt_is_for_one_of_our_own_nodes() {
    let mut world = World::new();
    let release = world.release();
    let nodes: Vec<_> = (0..4).map(|_| world.volunteer(1)).collect();
    let home = world.node(NodeKind::Local, 1);
    let mut spec = world.spec(release, 1);
    spec.options.attempts_max = 3;
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    for wait in [50, 100] {
        let (node, grant) = holder(&mut seen, &nodes);
        drop(seen);
        world.report(&node, &grant, host_fault()).told(job);
        seen = world.live(wait);
        seen.told(job);
    }
    // Two volunteers that never had it idle.
    let grant = seen.grant(&home);
    drop(seen);
    let mut seen = world.report(&home, &grant, returned(1));
    seen.accepted(&home, &grant);
    assert_eq!(seen.closed(job).settled, 1);
}

/// Neither with a single attempt allowed, nor while a hedge runs beside the last but one.
#[test]
fn volunteers_alone_do_not_spend_a_task_while_one_of_ours_can_try() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let mut spec = world.spec(release, 1);
    spec.options.attempts_max = 1;
    let (job, grant) = world.lease(spec, &node);
    let home = world.node(NodeKind::Local, 1);
    world.report(&node, &grant, host_fault()).told(job);
    let mut seen = world.live(50);
    seen.told(job);
    let grant = seen.grant(&home);
    drop(seen);
    // Ours has the last word, also when it is a bad one.
    let mut seen = world.report(&home, &grant, host_fault());
    let failed = Verdict::Failed(Failure::Attempts);
    assert_eq!(seen.accepted(&home, &grant), failed);
    assert_eq!(seen.closed(job).failed, 1);
}

/// One of ours that left lately may be back at once; after that the task is given up.
#[test]
fn a_spent_task_outlasts_a_restart_and_does_not_wait_for_ours_for_ever() {
    for comes_back in [true, false] {
        let mut world = World::new();
        let release = world.release();
        let mut home = world.node(NodeKind::Local, 1);
        let node = world.volunteer(1);
        let mut spec = world.spec(release, 1);
        spec.options.attempts_max = 1;
        let (job, grant) = world.lease(spec, &node);
        world.report(&node, &grant, host_fault()).told(job);
        world.restart();
        assert_eq!(world.progress(job).failed, 0);
        if comes_back {
            world.join(&mut home, &[]).welcome(&home);
            let mut seen = world.live(60);
            let grant = seen.grant(&home);
            seen.told(job);
            drop(seen);
            let mut seen = world.report(&home, &grant, returned(1));
            seen.accepted(&home, &grant);
            assert_eq!(seen.closed(job).settled, 1);
        } else {
            assert_eq!(world.live(20_000).closed(job).failed, 1);
        }
    }
}

#[test]
fn volunteers_alone_do_not_fail_a_job_as_unfit_while_one_of_ours_can_try() {
    let mut world = World::new();
    let release = world.release();
    let (node, other, third) = (world.volunteer(1), world.volunteer(1), world.volunteer(1));
    let mut home = world.stranger(NodeKind::Local, 1);
    home.profile.capacity.slots = 0;
    world.join(&mut home, &[]).welcome(&home);
    let spec = world.spec(release, 5);
    let (job, mut seen) = world.submit(spec);
    let (first, second) = (seen.grant(&node), seen.grant(&other));
    let theirs = seen.grant(&third);
    seen.told(job);
    drop(seen);
    let session = home.session;
    let capacity = hearth_wire::message::Capacity {
        slots: 1,
        ..home.profile.capacity
    };
    drop(world.step(crate::Event::CapacityChanged { session, capacity }));
    let unfit = || Outcome::Inconclusive(Inconclusive::Unfit("malformed".to_owned()));
    world.report(&node, &first, unfit()).told(job);
    let mut seen = world.report(&other, &second, unfit());
    // Nothing has failed: one of ours has the last word, and volunteers wait for it.
    let grant = seen.grant(&home);
    assert_eq!(seen.told(job).failed, 0);
    drop(seen);
    let mut seen = world.report(&third, &theirs, returned(1));
    seen.accepted(&third, &theirs);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&home, &grant, returned(1));
    seen.accepted(&home, &grant);
    seen.grant(&third);
    seen.told(job);
}

#[test]
fn a_component_that_one_of_ours_cannot_run_fails_its_job() {
    let mut world = World::new();
    let release = world.release();
    let home = world.node(NodeKind::Local, 1);
    let spec = world.spec(release, 2);
    let (job, grant) = world.lease(spec, &home);
    let unfit = Outcome::Inconclusive(Inconclusive::Unfit("malformed".to_owned()));
    let mut seen = world.report(&home, &grant, unfit);
    let failed = Verdict::Failed(Failure::Unfit);
    assert_eq!(seen.accepted(&home, &grant), failed);
    assert_eq!(seen.closed(job).failed, 2);
}
