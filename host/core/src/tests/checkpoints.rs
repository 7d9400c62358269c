//! Checkpoints: a task keeps one, the one that got furthest, and the next lease goes on from it.

use hearth_wire::record::{Fact, NodeKind, Standing, Verdict};
use hearth_wire::{Seq, TrustPolicy};

use super::world::{Node, Seen, World, checkpoint, host_fault, returned};
use crate::{Effect, Grant, Holder};

/// Takes the effects of a checkpoint that was taken in; says which record holds it.
fn kept(world: &World, seen: &mut Seen, grant: &Grant, blob: hearth_wire::Digest) -> Seq {
    assert!(matches!(seen.records[0].fact, Fact::Checkpointed { .. }));
    let holder = Holder::Checkpoint(grant.task);
    seen.expect(Effect::BlobHeld { holder, blob });
    world.core.seq()
}

fn released(seen: &mut Seen, grant: &Grant) {
    let holder = Holder::Checkpoint(grant.task);
    seen.expect(Effect::BlobsReleased { holder });
}

/// One task, leased to the first of two volunteers.
fn begin(world: &mut World, trust: TrustPolicy) -> (Node, Node, Grant) {
    let release = world.release();
    world.ours([48, 0, 8]);
    let (node, other) = (world.volunteer(1), world.volunteer(1));
    let mut spec = world.spec(release, 1);
    spec.options.trust = trust;
    let (job, mut seen) = world.submit(spec);
    let grant = seen.grant(&node);
    seen.told(job);
    (node, other, grant)
}

#[test]
fn the_next_lease_goes_on_from_the_newest_checkpoint() {
    let mut world = World::new();
    let (node, other, grant) = begin(&mut world, TrustPolicy::Fast);
    let (first, blob) = checkpoint(1, 100);
    let mut seen = world.save(&node, &grant, first);
    kept(&world, &mut seen, &grant, blob);
    drop(seen);
    let (second, blob) = checkpoint(2, 200);
    let mut seen = world.save(&node, &grant, second);
    released(&mut seen, &grant);
    let newest = kept(&world, &mut seen, &grant, blob);
    drop(seen);
    let mut seen = world.lose(&node);
    let next = seen.grant(&other);
    assert_eq!(next.checkpoint, Some(newest));
    seen.told(grant.task.job);
    drop(seen);
    // Once the task has ended, nobody needs it.
    let mut seen = world.report(&other, &next, returned(1));
    seen.accepted(&other, &next);
    released(&mut seen, &grant);
    seen.closed(grant.task.job);
}

#[test]
fn a_run_that_began_anew_does_not_replace_a_checkpoint_that_is_further() {
    let mut world = World::new();
    let (mut node, other, grant) = begin(&mut world, TrustPolicy::Fast);
    let mut seen = world.lose(&node);
    let second = seen.grant(&other);
    seen.told(grant.task.job);
    drop(seen);
    let mut seen = world.join(&mut node, &[grant.attempt]);
    // The first node comes back with its attempt: two run beside each other, the second from scratch.
    assert_eq!(seen.welcome(&node), []);
    seen.goes_on(&node, &grant);
    seen.told(grant.task.job);
    drop(seen);
    let (far, blob) = checkpoint(1, 900);
    let mut seen = world.save(&node, &grant, far);
    let furthest = kept(&world, &mut seen, &grant, blob);
    drop(seen);
    let (near, _) = checkpoint(2, 100);
    assert_eq!(world.save(&other, &second, near).records, []);

    // Both are lost; whoever comes next goes on from the state that is kept.
    world.lose(&node).told_if(grant.task.job);
    world.lose(&other).told(grant.task.job);
    let mut third = world.stranger(NodeKind::Volunteer, 1);
    let mut seen = world.join(&mut third, &[]);
    seen.welcome(&third);
    let next = seen.grant(&third);
    assert_eq!(next.checkpoint, Some(furthest));
    seen.told(grant.task.job);
    drop(seen);
    // One that has caught up replaces it.
    let (further, blob) = checkpoint(3, 901);
    let mut seen = world.save(&third, &next, further);
    released(&mut seen, &grant);
    kept(&world, &mut seen, &grant, blob);
}

#[test]
fn nothing_goes_on_from_a_node_that_is_not_in_good_standing() {
    let mut world = World::new();
    let (node, other, grant) = begin(&mut world, TrustPolicy::Fast);
    let (made, blob) = checkpoint(1, hearth_wire::limits::FUEL_DEFAULT);
    let mut seen = world.save(&node, &grant, made);
    kept(&world, &mut seen, &grant, blob);
    drop(seen);
    let (id, request) = (node.id, world.request());
    let mut seen = world.step(crate::Event::NodeRevoked { request, node: id });
    seen.done();
    seen.closed_session(&node, hearth_wire::message::Refusal::Revoked);
    let next = seen.grant(&other);
    assert_eq!(next.checkpoint, None);
    seen.told_if(grant.task.job);
    drop(seen);
    // However far it said it was, it is in nobody's way.
    let (honest, blob) = checkpoint(2, 10);
    let mut seen = world.save(&other, &next, honest);
    released(&mut seen, &grant);
    kept(&world, &mut seen, &grant, blob);
}

#[test]
fn a_check_starts_from_scratch_and_goes_on_only_from_a_check() {
    let mut world = World::new();
    let (node, other, grant) = begin(&mut world, TrustPolicy::Certain);
    drop(world.lose(&other));
    let (made, blob) = checkpoint(1, 500);
    let mut seen = world.save(&node, &grant, made);
    kept(&world, &mut seen, &grant, blob);
    drop(seen);
    let mut seen = world.report(&node, &grant, returned(1));
    assert_eq!(seen.accepted(&node, &grant), Verdict::Provisional);
    seen.told(grant.task.job);
    drop(seen);
    let mut home = world.stranger(NodeKind::Local, 1);
    let mut seen = world.join(&mut home, &[]);
    seen.welcome(&home);
    let check = seen.grant(&home);
    assert_eq!(check.checkpoint, None);
    seen.told(grant.task.job);
    drop(seen);
    let (made, blob) = checkpoint(2, 30);
    let mut seen = world.save(&home, &check, made);
    released(&mut seen, &grant);
    let saved = kept(&world, &mut seen, &grant, blob);
    drop(seen);
    world
        .report(&home, &check, host_fault())
        .told(grant.task.job);
    let mut seen = world.live(50);
    let again = seen.grant(&home);
    assert_eq!(again.checkpoint, Some(saved));
    seen.told(grant.task.job);
}

#[test]
fn a_checkpoint_that_is_not_this_nodes_changes_nothing() {
    let mut world = World::new();
    let (node, other, grant) = begin(&mut world, TrustPolicy::Fast);
    let (made, _) = checkpoint(1, 100);
    assert_eq!(world.save(&other, &grant, made.clone()).records, []);
    let unknown = Grant {
        attempt: hearth_wire::AttemptId(1),
        ..grant
    };
    assert_eq!(world.save(&node, &unknown, made.clone()).records, []);
    let mut long = made;
    let link = hearth_wire::CheckpointLink {
        node: node.id,
        fuel_used: 1,
        state: hearth_wire::Digest::default(),
        signature: Vec::new(),
    };
    long.chain = vec![link; hearth_wire::limits::CHECKPOINT_CHAIN_MAX + 1];
    assert_eq!(world.save(&node, &grant, long).records, []);
}

#[test]
fn whoever_goes_on_from_a_poisoned_checkpoint_is_not_blamed_for_it() {
    let mut world = World::new();
    let (liar, honest, grant) = begin(&mut world, TrustPolicy::Certain);
    let (poisoned, blob) = checkpoint(1, 500);
    let mut seen = world.save(&liar, &grant, poisoned);
    let saved = kept(&world, &mut seen, &grant, blob);
    drop(seen);
    let mut seen = world.lose(&liar);
    let next = seen.grant(&honest);
    assert_eq!(next.checkpoint, Some(saved));
    seen.told(grant.task.job);
    drop(seen);
    let mut seen = world.report(&honest, &next, returned(66));
    assert_eq!(seen.accepted(&honest, &next), Verdict::Provisional);
    seen.told(grant.task.job);
    drop(seen);
    let (home, check) = world.local_host_takes(grant.task.job);
    // The trusted run, from scratch, is the better start; nobody goes on from that state any more.
    let mut seen = world.report(&home, &check, returned(1));
    assert_eq!(seen.accepted(&home, &check), Verdict::Provisional);
    seen.amended(&next);
    released(&mut seen, &grant);
    assert_eq!(seen.standing(&honest), None);
    let again = seen.grant(&home);
    assert_eq!(again.checkpoint, None);
    seen.told_if(grant.task.job);
    drop(seen);
    let mut seen = world.report(&home, &again, returned(1));
    let result = check.attempt;
    let confirmed = Verdict::Confirmed { result };
    assert_eq!(seen.accepted(&home, &again), confirmed);
    assert_eq!(seen.standing(&honest), None);
    assert_eq!(seen.closed(grant.task.job).settled, 1);
}

#[test]
fn whoever_goes_on_from_its_own_checkpoint_answers_for_it() {
    let mut world = World::new();
    let (mut node, other, grant) = begin(&mut world, TrustPolicy::Certain);
    drop(world.lose(&other));
    let (made, blob) = checkpoint(1, 500);
    let mut seen = world.save(&node, &grant, made);
    let saved = kept(&world, &mut seen, &grant, blob);
    drop(seen);
    world.lose(&node).told(grant.task.job);
    let mut seen = world.join(&mut node, &[]);
    seen.welcome(&node);
    let next = seen.grant(&node);
    assert_eq!(next.checkpoint, Some(saved));
    seen.told(grant.task.job);
    drop(seen);
    let mut seen = world.report(&node, &next, returned(66));
    assert_eq!(seen.accepted(&node, &next), Verdict::Provisional);
    seen.told(grant.task.job);
    drop(seen);
    let (home, check) = world.local_host_takes(grant.task.job);
    let mut seen = world.report(&home, &check, returned(1));
    assert_eq!(seen.standing(&node), Some(Standing::Suspended));
    seen.grant(&home);
    seen.told(grant.task.job);
}

#[test]
fn a_checkpoint_beyond_the_fuel_or_of_a_node_in_doubt_replaces_nothing() {
    let mut world = World::new();
    let (node, _, grant) = begin(&mut world, TrustPolicy::Fast);
    let (beyond, _) = checkpoint(1, hearth_wire::limits::FUEL_DEFAULT + 1);
    assert_eq!(world.save(&node, &grant, beyond).records, []);
    let (made, blob) = checkpoint(2, 10);
    let mut seen = world.save(&node, &grant, made);
    kept(&world, &mut seen, &grant, blob);
}

#[test]
fn a_suspended_node_saves_nothing() {
    let mut world = World::new();
    let release = world.release();
    world.ours([48, 0, 8]);
    let node = world.volunteer(2);
    let mut spec = world.spec(release, 2);
    spec.options.trust = TrustPolicy::Certain;
    let (job, grants) = world.leases(spec, &node);
    let mut seen = world.report(&node, &grants[0], returned(66));
    seen.accepted(&node, &grants[0]);
    seen.told(job);
    drop(seen);
    let (home, check) = world.local_host_takes(job);
    let mut seen = world.report(&home, &check, returned(1));
    assert_eq!(seen.standing(&node), Some(Standing::Suspended));
    seen.grant(&home);
    seen.told(job);
    drop(seen);
    let (made, _) = checkpoint(1, 100);
    assert_eq!(world.save(&node, &grants[1], made).records, []);
}
