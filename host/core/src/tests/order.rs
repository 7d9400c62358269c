//! Whose turn it is: priorities with aging, deadlines, parking.

use hearth_wire::message::Refusal;
use hearth_wire::record::NodeKind;
use hearth_wire::{JobId, JobOptions, Priority};

use super::world::{Node, World, owner, returned};
use crate::{Effect, Grant};

/// A world with one slot, which is at work. It is the local host's, which puts nothing aside, so that
/// each lease is decided when the one before it was reported.
pub(super) fn busy() -> (World, hearth_wire::ReleaseId, Node, Grant) {
    let mut world = World::new();
    let release = world.release();
    let node = world.node(NodeKind::Local, 1);
    let spec = world.spec(release, 1);
    let (_, grant) = world.lease(spec, &node);
    (world, release, node, grant)
}

/// A job that waits.
pub(super) fn wait(
    world: &mut World,
    release: hearth_wire::ReleaseId,
    tasks: u32,
    who: u8,
    change: impl FnOnce(&mut JobOptions),
) -> JobId {
    let mut spec = world.spec(release, tasks);
    spec.owner = owner(who);
    change(&mut spec.options);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    job
}

/// The node reports; what it gets next.
pub(super) fn next(world: &mut World, node: &Node, grant: &mut Grant, micros: u64) -> JobId {
    let before = grant.task.job;
    let mut seen = world.report_after(node, grant, returned(1), micros);
    seen.accepted(node, grant);
    if world.core.job(before).is_some() {
        seen.told(before);
    } else {
        seen.closed(before);
    }
    *grant = seen.grant(node);
    if grant.task.job != before {
        seen.told(grant.task.job);
    }
    grant.task.job
}

#[test]
fn urgent_work_goes_first() {
    let (mut world, release, node, mut grant) = busy();
    let class = |priority| move |options: &mut JobOptions| options.priority = priority;
    let low = wait(&mut world, release, 1, 1, class(Priority::Low));
    let medium = wait(&mut world, release, 1, 1, class(Priority::Medium));
    let high = wait(&mut world, release, 1, 1, class(Priority::High));
    let order = [(); 3].map(|()| next(&mut world, &node, &mut grant, 1_000_000));
    assert_eq!(order, [high, medium, low]);
}

#[test]
fn what_waited_long_gets_a_share_beside_urgent_work() {
    let (mut world, release, node, mut grant) = busy();
    let class = |priority| move |options: &mut JobOptions| options.priority = priority;
    let low = wait(&mut world, release, 40, 1, class(Priority::Low));
    let high = wait(&mut world, release, 200, 1, class(Priority::High));
    for _ in 0..8 {
        assert_eq!(next(&mut world, &node, &mut grant, 1_000_000), high);
    }
    world.now += 30_000;
    let turns: Vec<_> = (0..16)
        .map(|_| next(&mut world, &node, &mut grant, 1_000_000))
        .collect();
    let of = |job| turns.iter().filter(|turn| **turn == job).count();
    assert_eq!((of(high), of(low)), (14, 2));
}

#[test]
fn the_earliest_deadline_goes_first() {
    let (mut world, release, node, mut grant) = busy();
    let until = |millis| move |options: &mut JobOptions| options.deadline_millis = Some(millis);
    let none = wait(&mut world, release, 1, 1, |_| {});
    let late = wait(&mut world, release, 1, 1, until(500_000));
    let soon = wait(&mut world, release, 1, 1, until(100_000));
    let order = [(); 3].map(|()| next(&mut world, &node, &mut grant, 1_000_000));
    assert_eq!(order, [soon, late, none]);
}

#[test]
fn low_work_is_parked_for_urgent_work_and_goes_on_after_it() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let (session, class) = (node.session, |priority| {
        move |options: &mut JobOptions| options.priority = priority
    });
    let mut spec = world.spec(release, 1);
    class(Priority::Low)(&mut spec.options);
    let (low, parked) = world.lease(spec, &node);
    world.now += 10_000;
    let mut spec = world.spec(release, 1);
    class(Priority::High)(&mut spec.options);
    let (high, mut seen) = world.submit(spec);
    let attempts = vec![parked.attempt];
    seen.expect(Effect::Pause { session, attempts });
    let urgent = seen.grant(&node);
    assert_eq!(urgent.task.job, high);
    seen.told(high);
    drop(seen);
    // Its lease stands still meanwhile.
    drop(world.after(55_000));
    let mut seen = world.report(&node, &urgent, returned(1));
    seen.accepted(&node, &urgent);
    seen.closed(high);
    let attempts = vec![parked.attempt];
    seen.expect(Effect::Resume { session, attempts });
    drop(seen);
    drop(world.after(49_999));
    let mut seen = world.after(1);
    seen.cancelled(&node, &parked);
    seen.told(low);
}

#[test]
fn a_node_that_comes_back_is_told_what_stays_parked_and_what_goes_on() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let class = |priority| move |options: &mut JobOptions| options.priority = priority;
    let mut spec = world.spec(release, 1);
    class(Priority::Low)(&mut spec.options);
    let (low, parked) = world.lease(spec, &node);
    let mut spec = world.spec(release, 1);
    class(Priority::High)(&mut spec.options);
    let (job, mut seen) = world.submit(spec);
    let high = seen.grant(&node);
    let (session, attempts) = (node.session, vec![parked.attempt]);
    seen.expect(Effect::Pause { session, attempts });
    seen.told(job);
    drop(seen);
    // By a second connection, while the first is thought to be there: nothing has changed.
    let mut seen = world.join(&mut node, &[parked.attempt, high.attempt]);
    seen.closed_session_of(session, Refusal::Duplicate);
    assert_eq!(seen.welcome(&node), []);
    let (session, attempts) = (node.session, vec![parked.attempt]);
    seen.expect(Effect::Pause { session, attempts });
    seen.goes_on(&node, &high);
    drop(seen);
    // Given up meanwhile, both go on: the node still holds one as parked.
    world.lose(&node).ignore();
    let mut seen = world.join(&mut node, &[parked.attempt, high.attempt]);
    assert_eq!(seen.welcome(&node), []);
    let (session, attempts) = (node.session, vec![parked.attempt, high.attempt]);
    seen.expect(Effect::Resume { session, attempts });
    seen.told(low);
    seen.told(job);
}

#[test]
fn what_is_granted_and_parked_at_once_is_told_in_this_order() {
    let mut world = World::new();
    let release = world.release();
    let class = |priority| move |options: &mut JobOptions| options.priority = priority;
    // Three decisions on leases; the fourth is for low work that waited long.
    let first = world.volunteer(3);
    for _ in 0..3 {
        let spec = world.spec(release, 1);
        world.lease(spec, &first);
    }
    let second = world.volunteer(0);
    let low = wait(&mut world, release, 1, 1, class(Priority::Low));
    world.now += 30_000;
    let high = wait(&mut world, release, 1, 1, class(Priority::High));
    let (session, capacity) = (
        second.session,
        hearth_wire::message::Capacity {
            slots: 1,
            ..second.profile.capacity
        },
    );
    let mut seen = world.step(crate::Event::CapacityChanged { session, capacity });
    let order = seen.order(&second);
    let grants = seen.grants(&second);
    let jobs: Vec<_> = grants.iter().map(|grant| grant.task.job).collect();
    assert_eq!(jobs, [low, high]);
    let attempts = vec![grants[0].attempt];
    seen.expect(Effect::Pause { session, attempts });
    assert_eq!(order, ["grant", "pause"]);
    seen.told(low);
    seen.told(high);
}

#[test]
fn what_waited_long_gets_its_share_on_a_node_that_takes_many_at_once() {
    let mut world = World::new();
    let release = world.release();
    let node = world.node(NodeKind::Local, 64);
    let class = |priority| move |options: &mut JobOptions| options.priority = priority;
    let spec = world.spec(release, 64);
    let (first, mut seen) = world.submit(spec);
    let mut grants = seen.grants(&node);
    seen.told(first);
    drop(seen);
    let low = wait(&mut world, release, 640, 1, class(Priority::Low));
    let high = wait(&mut world, release, 3_200, 1, class(Priority::High));
    world.now += 30_000;
    let mut turns = Vec::new();
    for _ in 0..16 {
        let reports = grants.iter().map(|grant| crate::ReportIn {
            attempt: grant.attempt,
            task: grant.task,
            outcome: returned(1),
            fuel_used: 1,
            run_micros: 1_000_000,
        });
        let reports = reports.collect();
        let (id, session) = (node.id, node.session);
        let mut seen = world.step(crate::Event::Reported {
            node: id,
            session,
            reports,
        });
        grants = seen.grants(&node);
        assert_eq!(grants.len(), 64);
        turns.push(grants[0].task.job);
        seen.ignore();
    }
    let of = |job| turns.iter().filter(|turn| **turn == job).count();
    assert_eq!((of(high), of(low)), (14, 2), "{turns:?}");
}

#[test]
fn parked_work_whose_owner_took_the_slots_away_goes_elsewhere() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let mut spec = world.spec(release, 1);
    spec.options.priority = Priority::Low;
    spec.options.attempts_max = 1;
    let (low, parked) = world.lease(spec, &node);
    let mut spec = world.spec(release, 1);
    spec.options.priority = Priority::High;
    let (high, mut seen) = world.submit(spec);
    let urgent = seen.grant(&node);
    seen.ignore();
    let session = node.session;
    let capacity = hearth_wire::message::Capacity {
        slots: 0,
        ..node.profile.capacity
    };
    drop(world.step(crate::Event::CapacityChanged { session, capacity }));
    let mut seen = world.report(&node, &urgent, returned(1));
    seen.accepted(&node, &urgent);
    seen.closed(high);
    drop(seen);
    let mut other = world.stranger(NodeKind::Volunteer, 1);
    world.join(&mut other, &[]).welcome(&other);
    drop(world.live(599_999));
    // It cost half an attempt, and says nothing against the node.
    let mut seen = world.live(1);
    seen.cancelled(&node, &parked);
    seen.told(low);
    drop(seen);
    let mut seen = world.live(50);
    assert_eq!(seen.grant(&other).task, parked.task);
    seen.told(low);
}
