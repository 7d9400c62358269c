//! Nodes that come, go, are drained, paused, revoked.

use hearth_wire::message::{Capacity, Refusal};
use hearth_wire::record::{NodeKind, Verdict};

use super::world::{World, returned};
use crate::{Answer, Effect, Event, RequestRefusal};

#[test]
fn a_drained_node_finishes_what_it_has_and_gets_no_more() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let spec = world.spec(release, 2);
    let (job, grant) = world.lease(spec, &node);
    let (request, id, session) = (world.request(), node.id, node.session);
    let event = Event::NodeDrain {
        request: Some(request),
        node: id,
    };
    let mut seen = world.step(event.clone());
    assert!(matches!(seen.done(), Answer::Draining { .. }));
    seen.expect(Effect::Drain { session });
    drop(seen);
    // Asked again, it is answered again and not told again.
    let mut seen = world.step(event);
    assert_eq!(seen.records, []);
    seen.done();
    drop(seen);
    let mut seen = world.report(&node, &grant, returned(1));
    assert_eq!(seen.accepted(&node, &grant), Verdict::Settled);
    seen.told(job);
    drop(seen);
    drop(world.live(60_000));

    // By a new connection it is one like any other.
    let mut seen = world.join(&mut node, &[]);
    seen.closed_session_of(session, Refusal::Duplicate);
    seen.welcome(&node);
    seen.grant(&node);
    seen.told(job);
    drop(seen);
    let request = Some(world.request());
    let node = hearth_wire::NodeId::default();
    let refusal = world.step(Event::NodeDrain { request, node }).refused();
    assert_eq!(refusal, RequestRefusal::UnknownNode(node));
}

#[test]
fn a_node_that_says_goodbye_is_drained() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let (id, session) = (node.id, node.session);
    let event = Event::NodeDrain {
        request: None,
        node: id,
    };
    world.step(event).expect(Effect::Drain { session });
    let spec = world.spec(release, 1);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
}

#[test]
fn a_revoked_node_loses_everything_and_stays_out() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let spec = world.spec(release, 1);
    let (job, grant) = world.lease(spec, &node);
    let (request, id) = (world.request(), node.id);
    let mut seen = world.step(Event::NodeRevoked { request, node: id });
    assert!(matches!(seen.done(), Answer::NodeRevoked { .. }));
    seen.closed_session(&node, Refusal::Revoked);
    seen.told_if(job);
    drop(seen);
    assert_eq!(world.progress(job).leased, 0);
    let mut seen = world.join(&mut node, &[grant.attempt]);
    assert_eq!(seen.records, []);
    seen.closed_session(&node, Refusal::Revoked);
    drop(seen);
    assert_eq!(world.report(&node, &grant, returned(1)).records, []);
    assert_eq!(world.progress(job).settled, 0);
}

#[test]
fn a_node_that_is_revoked_before_it_ever_came_stays_out() {
    let mut world = World::new();
    let mut node = world.stranger(NodeKind::Volunteer, 1);
    let (request, id) = (world.request(), node.id);
    world.step(Event::NodeRevoked { request, node: id }).done();
    let mut seen = world.join(&mut node, &[]);
    seen.closed_session(&node, Refusal::Revoked);
}

#[test]
fn the_newer_connection_of_a_node_counts() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let before = node.session;
    let mut seen = world.join(&mut node, &[]);
    seen.closed_session_of(before, Refusal::Duplicate);
    seen.welcome(&node);
    drop(seen);
    // That the older one has ended is old news.
    assert_eq!(world.step(Event::NodeLost { session: before }).records, []);
    let spec = world.spec(release, 1);
    let (job, mut seen) = world.submit(spec);
    seen.grant(&node);
    seen.told(job);
}

#[test]
fn an_owner_pauses_its_node_and_lets_it_go_on() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(1);
    let session = node.session;
    let set = |world: &mut World, slots| {
        let capacity = Capacity {
            slots,
            ..node.profile.capacity
        };
        world.step(Event::CapacityChanged { session, capacity })
    };
    drop(set(&mut world, 0));
    let spec = world.spec(release, 3);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    let mut seen = set(&mut world, 2);
    assert_eq!(seen.grants(&node).len(), 2);
    seen.told(job);
}

#[test]
fn after_a_restart_nodes_have_some_seconds_to_come_back() {
    let mut world = World::new();
    let release = world.release();
    let (mut node, mut other) = (world.volunteer(1), world.volunteer(1));
    let spec = world.spec(release, 2);
    let (job, mut seen) = world.submit(spec);
    let (first, second) = (seen.grant(&node), seen.grant(&other));
    seen.told(job);
    drop(seen);
    world.restart();
    assert_eq!(world.progress(job).leased, 2);
    let mut seen = world.join(&mut node, &[first.attempt]);
    assert_eq!(seen.welcome(&node), []);
    seen.goes_on(&node, &first);
    drop(seen);
    drop(world.live(4_999));
    let mut seen = world.live(1);
    assert_eq!(seen.told(job).leased, 1);
    drop(seen);
    // The other one is late; its task was not leased again yet, so it goes on.
    let mut seen = world.join(&mut other, &[second.attempt]);
    assert_eq!(seen.welcome(&other), []);
    seen.goes_on(&other, &second);
    assert_eq!(seen.told(job).leased, 2);
}
