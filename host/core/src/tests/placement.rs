//! Which node gets a task.

use hearth_wire::Placement;
use hearth_wire::record::{NodeKind, ReleaseFacts};

use super::world::{Node, World, returned};

/// Whether a node of this making gets a task of a release and job of that making.
fn takes(
    kind: NodeKind,
    node: impl FnOnce(&mut hearth_wire::record::NodeProfile),
    release: impl FnOnce(&mut ReleaseFacts),
    options: impl FnOnce(&mut hearth_wire::JobOptions),
) -> bool {
    let mut world = World::new();
    let release = world.release_with(release);
    let mut it = world.stranger(kind, 1);
    node(&mut it.profile);
    world.join(&mut it, &[]).welcome(&it);
    let mut spec = world.spec(release, 1);
    options(&mut spec.options);
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    let grants = seen.grants(&it);
    drop(seen);
    // Nor does it come later.
    drop(world.live(50_000));
    grants.len() == 1
}

#[test]
fn a_node_must_have_every_capability() {
    let gpu = |facts: &mut ReleaseFacts| facts.capabilities = vec!["gpu".to_owned()];
    let has = |names: &'static [&str]| {
        move |profile: &mut hearth_wire::record::NodeProfile| {
            profile.capabilities = names.iter().map(|name| (*name).to_owned()).collect();
        }
    };
    let volunteer = NodeKind::Volunteer;
    assert!(!takes(volunteer, has(&[]), gpu, |_| {}));
    assert!(!takes(volunteer, has(&["tpu"]), gpu, |_| {}));
    assert!(takes(volunteer, has(&["gpu", "tpu"]), gpu, |_| {}));
}

#[test]
fn a_node_must_be_where_the_release_and_the_job_want_it() {
    let places =
        |names: &[&str]| -> Vec<String> { names.iter().map(|n| (*n).to_owned()).collect() };
    let at = |place: &'static str| {
        move |profile: &mut hearth_wire::record::NodeProfile| profile.location = place.to_owned()
    };
    let volunteer = NodeKind::Volunteer;
    let release = |facts: &mut ReleaseFacts| facts.locations = places(&["attic", "cellar"]);
    assert!(takes(volunteer, at("attic"), release, |_| {}));
    assert!(!takes(volunteer, at("garden"), release, |_| {}));
    assert!(!takes(volunteer, at(""), release, |_| {}));
    let job = |options: &mut hearth_wire::JobOptions| options.locations = places(&["cellar"]);
    assert!(!takes(volunteer, at("attic"), release, job));
    assert!(takes(volunteer, at("cellar"), release, job));
}

#[test]
fn a_node_must_have_the_memory_and_an_engine_in_the_range() {
    let volunteer = NodeKind::Volunteer;
    let memory = |facts: &mut ReleaseFacts| facts.limits.memory_bytes = 1 << 34;
    assert!(!takes(volunteer, |_| {}, memory, |_| {}));
    assert!(takes(
        volunteer,
        |node| node.capacity.memory_bytes = 1 << 34,
        memory,
        |_| {}
    ));
    assert!(!takes(
        volunteer,
        |node| node.engine.version = [47, 9, 9],
        |_| {},
        |_| {}
    ));
    assert!(!takes(
        volunteer,
        |node| node.engine.version = [49, 0, 0],
        |_| {},
        |_| {}
    ));
}

#[test]
fn a_job_says_which_kinds_of_node_it_wants() {
    let wants =
        |placement| move |options: &mut hearth_wire::JobOptions| options.placement = placement;
    let takes = |kind, placement| takes(kind, |_| {}, |_| {}, wants(placement));
    use NodeKind::{Local, Trusted, Volunteer};
    for (placement, kinds) in [
        (Placement::Anywhere, [true, true, true]),
        (Placement::Volunteers, [true, true, false]),
        (Placement::Trusted, [false, true, true]),
    ] {
        let found = [Volunteer, Trusted, Local].map(|kind| takes(kind, placement));
        assert_eq!(found, kinds, "{placement:?}");
    }
}

/// Runs one task on each node so that core knows how long it takes there.
fn train(world: &mut World, release: hearth_wire::ReleaseId, nodes: &[(&Node, u64)]) {
    for _ in 0..30 {
        let spec = world.spec(release, nodes.len() as u32);
        let (job, mut seen) = world.submit(spec);
        seen.told(job);
        let grants: Vec<_> = nodes.iter().map(|(node, _)| seen.grants(node)).collect();
        drop(seen);
        let mut left = nodes.len();
        for ((node, micros), grants) in nodes.iter().zip(grants) {
            for grant in grants {
                let mut seen = world.report_after(node, &grant, returned(1), *micros);
                seen.accepted(node, &grant);
                left -= 1;
                if left == 0 {
                    seen.closed(job);
                } else {
                    seen.told(job);
                }
            }
        }
    }
}

#[test]
fn of_idle_nodes_the_one_with_the_highest_measured_rate_goes_first() {
    let mut world = World::new();
    let release = world.release();
    let (slow, fast) = (world.volunteer(1), world.volunteer(1));
    train(&mut world, release, &[(&slow, 4_000_000), (&fast, 500_000)]);
    let spec = world.spec(release, 1);
    let (job, mut seen) = world.submit(spec);
    seen.grant(&fast);
    seen.told(job);
    drop(seen);
    // It is busy now, so the other one is better.
    let spec = world.spec(release, 1);
    let (job, mut seen) = world.submit(spec);
    seen.grant(&slow);
    seen.told(job);
}

#[test]
fn free_slots_count_as_much_as_speed() {
    let mut world = World::new();
    let release = world.release();
    let (_small, large) = (world.volunteer(1), world.volunteer(4));
    let spec = world.spec(release, 2);
    let (job, mut seen) = world.submit(spec);
    assert_eq!(seen.grants(&large).len(), 2);
    seen.told(job);
}

#[test]
fn a_measured_node_gets_work_to_put_aside_and_less_near_the_end() {
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(2);
    let spec = world.spec(release, 1_000);
    let (job, mut seen) = world.submit(spec);
    let grants = seen.grants(&node);
    assert_eq!(
        grants.len(),
        2,
        "nothing is put aside before a run was measured"
    );
    seen.told(job);
    drop(seen);
    let mut seen = world.report_after(&node, &grants[0], returned(1), 10_000);
    seen.accepted(&node, &grants[0]);
    // 200 ms of runs of 10 ms on two slots wait behind the two that run.
    assert_eq!(seen.grants(&node).len(), 41);
    assert_eq!(seen.told(job).leased, 42);
    drop(seen);

    // With few left, all slots share them.
    let mut world = World::new();
    let release = world.release();
    let node = world.volunteer(2);
    let spec = world.spec(release, 10);
    let (job, grants) = world.leases(spec, &node);
    let mut seen = world.report_after(&node, &grants[0], returned(1), 10_000);
    seen.accepted(&node, &grants[0]);
    // One for the slot that is free and half of an even share of what waits, as long as that is one.
    assert_eq!(seen.grants(&node).len(), 5);
    seen.told(job);
}

#[test]
fn the_local_host_helps_only_when_volunteers_would_take_too_long() {
    let mut world = World::new();
    let release = world.release();
    let (node, home) = (world.volunteer(1), world.node(NodeKind::Local, 2));
    let spec = world.spec(release, 4);
    let (job, first) = world.lease(spec, &node);
    // Three more of one second each: the volunteer does them in time, with one put aside.
    let mut seen = world.report(&node, &first, returned(1));
    seen.accepted(&node, &first);
    let second = seen.grants(&node);
    assert!(!second.is_empty());
    seen.told(job);
    drop(seen);
    // Twenty more would take it too long.
    let spec = world.spec(release, 20);
    let (more, mut seen) = world.submit(spec);
    assert_eq!(seen.grants(&home).len(), 2);
    assert_eq!(seen.told(more).leased, 2);
}

#[test]
fn without_volunteers_the_local_host_does_everything_and_gives_it_back() {
    let mut world = World::new();
    let release = world.release();
    let home = world.node(NodeKind::Local, 2);
    let spec = world.spec(release, 6);
    let (job, mut seen) = world.submit(spec);
    let grants = seen.grants(&home);
    assert_eq!(grants.len(), 2);
    seen.told(job);
    drop(seen);
    // A volunteer comes: what waits is its.
    let mut node = world.stranger(NodeKind::Volunteer, 2);
    let mut seen = world.join(&mut node, &[]);
    seen.welcome(&node);
    assert_eq!(seen.grants(&node).len(), 2);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&home, &grants[0], returned(1));
    seen.accepted(&home, &grants[0]);
    assert_eq!(seen.grants(&home), []);
    seen.told(job);
}
