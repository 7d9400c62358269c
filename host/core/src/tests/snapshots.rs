//! The state as bytes.

use hearth_wire::record::{Mode, NodeKind, Verdict};
use hearth_wire::{Digest, TrustPolicy};

use super::world::{World, checkpoint, host_fault, returned};
use crate::snapshot::FORMAT;
use crate::{Config, Coordinator, Effect, Holder, RestoreError};

/// A bit of everything that a state may hold.
fn world() -> World {
    let mut world = World::new();
    let release = world.release();
    let (ada, bob) = (world.volunteer(2), world.volunteer(1));
    let home = world.node(NodeKind::Local, 1);
    let mut spec = world.spec(release, 6);
    spec.options.deadline_millis = Some(60_000);
    spec.options.idempotency_key = Some("once".to_owned());
    let (job, mut seen) = world.submit(spec);
    let mine = seen.grants(&ada);
    let others = seen.grants(&bob);
    seen.grants(&home);
    seen.told(job);
    drop(seen);
    let (made, blob) = checkpoint(1, 5);
    let mut seen = world.save(&ada, &mine[1], made);
    let holder = Holder::Checkpoint(mine[1].task);
    seen.expect(Effect::BlobHeld { holder, blob });
    drop(seen);
    let mut seen = world.report(&ada, &mine[0], returned(1));
    seen.accepted(&ada, &mine[0]);
    seen.grants(&ada);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&bob, &others[0], host_fault());
    seen.grants(&bob);
    seen.told(job);
    drop(seen);
    world
}

/// What the other one does not hold: a result that is still to be checked, one that differs from another,
/// whose node is suspended, and a mode that has changed and is to change again.
fn judged() -> World {
    let mut world = World::with(Config::default());
    let release = world.release();
    world.ours([48, 0, 8]);
    let ada = world.volunteer(2);
    let mut spec = world.spec(release, 2);
    spec.options.trust = TrustPolicy::Certain;
    let (job, mut seen) = world.submit(spec);
    let grants = seen.grants(&ada);
    seen.told(job);
    drop(seen);
    for (grant, value) in grants.iter().zip(1..) {
        let mut seen = world.report(&ada, grant, returned(value));
        assert_eq!(seen.accepted(&ada, grant), Verdict::Provisional);
        seen.told(job);
    }
    assert_eq!(world.live(3_000).mode().0, Mode::Distributed);
    let mut trusted = world.stranger(NodeKind::Trusted, 1);
    let mut seen = world.join(&mut trusted, &[]);
    seen.welcome(&trusted);
    let check = seen.grant(&trusted);
    seen.told(job);
    drop(seen);
    world.report(&trusted, &check, returned(9)).ignore();
    world.live(1_000).ignore();
    world
}

#[test]
fn a_snapshot_is_gone_on_from_and_nothing_else_is() {
    let world = world();
    let bytes = world.shadow().snapshot();
    let restore = |bytes: &[u8]| Coordinator::restore(Config::default(), bytes);
    let restored = restore(&bytes).unwrap();
    restored.check().unwrap();
    assert_eq!(restored.state_hash(), world.core.state_hash());
    assert_eq!(restored.snapshot(), bytes);
    for len in 0..bytes.len() {
        let error = restore(&bytes[..len]).unwrap_err();
        assert!(matches!(error, RestoreError::Malformed(_)), "{len}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(
        restore(&longer).unwrap_err(),
        RestoreError::Malformed(_)
    ));
    let mut other = bytes.clone();
    other[0] ^= 0x40;
    assert!(matches!(
        restore(&other).unwrap_err(),
        RestoreError::Format(_)
    ));
    other = bytes;
    other[4] ^= 1;
    assert!(matches!(
        restore(&other).unwrap_err(),
        RestoreError::Different(_)
    ));
}

/// Whoever changes what is in a snapshot, or what the fold makes of a record, meets this: then older
/// snapshots must not be read any more. Raise `FORMAT` in `snapshot.rs`, and put the new digests here. Who
/// changes only what core decides meets it too, since other records make another state: new digests do.
#[test]
fn what_is_in_a_snapshot_changes_only_together_with_its_format() {
    let digest = |world: World| Digest::of(&world.shadow().snapshot()).to_string();
    let known = "d5c15d6fa68081d774319ea8f196df51d7d0b8549a70e67ab64a6f9506ebb3e2";
    assert_eq!((FORMAT, digest(world()).as_str()), (5, known));
    let known = "ae65d218187b37a9d4d35507323ffc2d9c20b6f0fddb11004016023f0ef008d4";
    assert_eq!((FORMAT, digest(judged()).as_str()), (5, known));
}
