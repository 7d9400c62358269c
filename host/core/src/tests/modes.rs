//! The mode follows from where work goes, and does not flutter.

use hearth_wire::record::{Mode, ModeReason, NodeKind};

use super::world::{Node, World, returned};
use crate::Config;

/// The mode is held for three seconds.
fn world() -> World {
    World::with(Config::default())
}

/// A realm whose one volunteer has been there for long enough.
fn distributed() -> (World, Node) {
    let mut world = world();
    let node = world.volunteer(1);
    assert_eq!(world.core.mode(), Mode::Local);
    drop(world.live(2_999));
    let mode = (Mode::Distributed, ModeReason::Enough);
    assert_eq!(world.live(1).mode(), mode);
    (world, node)
}

#[test]
fn a_volunteer_makes_it_distributed_and_its_loss_local() {
    let (mut world, node) = distributed();
    drop(world.lose(&node));
    drop(world.live(2_999));
    assert_eq!(world.core.mode(), Mode::Distributed);
    let mode = (Mode::Local, ModeReason::NoVolunteers);
    assert_eq!(world.live(1).mode(), mode);
    assert_eq!(world.core.mode(), Mode::Local);
}

#[test]
fn what_lasts_for_a_moment_changes_nothing() {
    let (mut world, mut node) = distributed();
    for _ in 0..10 {
        drop(world.lose(&node));
        drop(world.live(2_900));
        world.join(&mut node, &[]).welcome(&node);
        drop(world.live(2_900));
    }
    assert_eq!(world.core.mode(), Mode::Distributed);
}

#[test]
fn a_restart_does_not_forget_that_a_change_is_due() {
    let mut world = world();
    let mut node = world.volunteer(1);
    drop(world.live(2_000));
    world.restart();
    // Nobody is connected after a start, so what was wanted is wanted no more; it comes back.
    world.join(&mut node, &[]).welcome(&node);
    drop(world.live(2_999));
    let mode = (Mode::Distributed, ModeReason::Enough);
    assert_eq!(world.live(1).mode(), mode);
}

#[test]
fn work_at_home_beside_volunteers_makes_it_hybrid_until_some_time_after() {
    let (mut world, node) = distributed();
    let home = world.node(NodeKind::Local, 1);
    let release = world.release();
    let spec = world.spec(release, 30);
    let (job, mut seen) = world.submit(spec);
    let mut first = seen.grant(&node);
    seen.told(job);
    drop(seen);
    // Runs of a second: thirty are too many for one volunteer.
    let mut seen = world.report(&node, &first, returned(1));
    seen.accepted(&node, &first);
    let mine = seen.grants(&node);
    let at_home = seen.grant(&home);
    seen.told(job);
    drop(seen);
    first = mine[0];
    let mode = (Mode::Hybrid, ModeReason::Overflow);
    drop(world.live(2_999));
    let mut seen = world.live(1);
    assert_eq!(seen.mode(), mode);
    drop(seen);

    // The job is cancelled: nothing runs at home any more. That was not long ago; then it was.
    let mut seen = world.cancel(job, None);
    seen.done();
    seen.closed(job);
    seen.cancelled(&home, &at_home);
    let attempts = mine.iter().map(|grant| grant.attempt).collect();
    let session = node.session;
    seen.expect(crate::Effect::Cancel { session, attempts });
    drop(seen);
    assert_eq!(world.report(&node, &first, returned(1)).records, []);
    drop(world.live(5_999));
    assert_eq!(world.core.mode(), Mode::Hybrid);
    let mode = (Mode::Distributed, ModeReason::Enough);
    assert_eq!(world.live(1).mode(), mode);
}
