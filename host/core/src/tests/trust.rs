//! Trust policies: what is checked, what a mismatch means, what blame takes back.

use hearth_wire::record::{Fact, Failure, NodeKind, Purpose, Standing, Verdict};
use hearth_wire::{JobId, TrustPolicy};

use super::world::{Node, Seen, World, returned};
use crate::{Event, Grant};

/// A job under `certain`, whose one task a volunteer has just reported.
fn reported(world: &mut World, node: &Node, tasks: u32) -> (JobId, Vec<Grant>) {
    let release = world.release();
    world.ours([48, 0, 8]);
    let mut spec = world.spec(release, tasks);
    spec.options.trust = TrustPolicy::Certain;
    let (job, mut seen) = world.submit(spec);
    let grants = seen.grants(node);
    assert_eq!(grants.len(), tasks as usize);
    seen.told(job);
    drop(seen);
    for grant in &grants {
        let mut seen = world.report(node, grant, returned(1));
        assert_eq!(seen.accepted(node, grant), Verdict::Provisional);
        seen.told(job);
    }
    (job, grants)
}

/// A trusted node joins and gets one check.
fn join_trusted(world: &mut World, job: JobId) -> (Node, Grant) {
    let mut node = world.stranger(NodeKind::Trusted, 1);
    let mut seen = world.join(&mut node, &[]);
    seen.welcome(&node);
    let check = seen.grant(&node);
    assert_eq!(purpose(&seen), Purpose::Check);
    seen.told(job);
    (node, check)
}

fn purpose(seen: &Seen) -> Purpose {
    let mut leases = seen.records.iter().filter_map(|record| match &record.fact {
        Fact::Leased { leases, .. } => Some(leases[0].purpose),
        _ => None,
    });
    leases.next().unwrap()
}

#[test]
fn a_certain_result_is_run_again_on_a_trusted_node() {
    let mut world = World::new();
    let (node, other) = (world.volunteer(1), world.volunteer(1));
    let (job, grants) = reported(&mut world, &node, 1);
    // No volunteer checks a volunteer, however long it idles.
    drop(world.live(60_000));
    let progress = world.progress(job);
    assert_eq!((progress.provisional, progress.settled), (1, 0));
    let (trusted, check) = join_trusted(&mut world, job);
    let mut seen = world.report(&trusted, &check, returned(1));
    let result = grants[0].attempt;
    assert_eq!(
        seen.accepted(&trusted, &check),
        Verdict::Confirmed { result }
    );
    assert_eq!(seen.closed(job).settled, 1);
    drop(seen);
    drop(other);
}

#[test]
fn a_mismatch_suspends_and_the_third_run_blames() {
    let mut world = World::new();
    let mut node = world.stranger(NodeKind::Volunteer, 2);
    node.profile.location = "nowhere".to_owned();
    world.join(&mut node, &[]).welcome(&node);
    let (job, grants) = reported(&mut world, &node, 2);
    let (trusted, check) = join_trusted(&mut world, job);
    assert_eq!(check.task, grants[0].task);
    let mut seen = world.report(&trusted, &check, returned(9));
    assert_eq!(seen.standing(&node), Some(Standing::Suspended));
    // Decided at once, and behind it the check of the other task.
    assert_eq!(purpose(&seen), Purpose::Arbitrate);
    let [third, second] = seen.grants(&trusted)[..] else {
        panic!("other leases");
    };
    assert_eq!((third.task, second.task), (grants[0].task, grants[1].task));
    seen.told(job);
    drop(seen);
    // A suspended node gets nothing, though it has free slots and only it would fit.
    let release = world.release();
    let mut spec = world.spec(release, 1);
    spec.options.locations = vec!["nowhere".to_owned()];
    let (waiting, mut seen) = world.submit(spec);
    seen.told(waiting);
    drop(seen);

    let mut seen = world.report(&trusted, &second, returned(1));
    let result = grants[1].attempt;
    assert_eq!(
        seen.accepted(&trusted, &second),
        Verdict::Confirmed { result }
    );
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&trusted, &third, returned(9));
    let result = check.attempt;
    assert_eq!(
        seen.accepted(&trusted, &third),
        Verdict::Confirmed { result }
    );
    seen.amended(&grants[0]);
    assert_eq!(seen.standing(&node), Some(Standing::Quarantined));
    assert_eq!(seen.closed(job).settled, 2);
}

#[test]
fn a_check_that_was_wrong_itself_is_outvoted_and_the_node_is_good_again() {
    let mut world = World::new();
    let node = world.volunteer(1);
    let (job, grants) = reported(&mut world, &node, 1);
    let (trusted, check) = join_trusted(&mut world, job);
    let mut seen = world.report(&trusted, &check, returned(9));
    assert_eq!(seen.standing(&node), Some(Standing::Suspended));
    let third = seen.grant(&trusted);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&trusted, &third, returned(1));
    let result = grants[0].attempt;
    assert_eq!(
        seen.accepted(&trusted, &third),
        Verdict::Confirmed { result }
    );
    assert_eq!(seen.standing(&node), Some(Standing::Good));
    seen.closed(job);
}

#[test]
fn three_results_that_differ_blame_the_component() {
    let mut world = World::new();
    let node = world.volunteer(1);
    let (job, _) = reported(&mut world, &node, 1);
    let (trusted, check) = join_trusted(&mut world, job);
    let mut seen = world.report(&trusted, &check, returned(2));
    let third = seen.grant(&trusted);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&trusted, &third, returned(3));
    let failed = Verdict::Failed(Failure::Nondeterministic);
    assert_eq!(seen.accepted(&trusted, &third), failed);
    assert_eq!(seen.standing(&node), Some(Standing::Good));
    assert_eq!(seen.closed(job).failed, 1);
}

#[test]
fn blame_takes_back_what_is_not_settled_and_runs_it_again() {
    let mut world = World::new();
    let node = world.volunteer(2);
    let (job, grants) = reported(&mut world, &node, 2);
    let other = world.volunteer(1);
    let (request, id) = (world.request(), node.id);
    let mut seen = world.step(Event::NodeRevoked { request, node: id });
    seen.done();
    seen.closed_session(&node, hearth_wire::message::Refusal::Revoked);
    seen.amended(&grants[0]);
    seen.amended(&grants[1]);
    let again = seen.grant(&other);
    assert_eq!((again.task, purpose(&seen)), (grants[0].task, Purpose::Run));
    let progress = seen.told(job);
    assert_eq!((progress.provisional, progress.leased), (0, 1));
    drop(seen);
    let mut seen = world.report(&other, &again, returned(1));
    assert_eq!(seen.accepted(&other, &again), Verdict::Provisional);
    seen.grant(&other);
    seen.told(job);
}

/// A volunteer that runs the engine before.
fn behind(world: &mut World) -> Node {
    let mut node = world.stranger(NodeKind::Volunteer, 1);
    node.profile.engine.version = [48, 0, 7];
    world.join(&mut node, &[]).welcome(&node);
    node
}

#[test]
fn a_differing_engine_is_nobodys_blame() {
    let mut world = World::new();
    world.ours([48, 0, 7]);
    let node = behind(&mut world);
    let (job, grants) = reported(&mut world, &node, 1);
    // Ours with the volunteer's engine may never come again: the check does not wait for it.
    let mut trusted = world.stranger(NodeKind::Trusted, 1);
    let mut seen = world.join(&mut trusted, &[]);
    seen.welcome(&trusted);
    let check = seen.grant(&trusted);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&trusted, &check, returned(9));
    assert_eq!(seen.accepted(&trusted, &check), Verdict::Provisional);
    seen.amended(&grants[0]);
    assert_eq!(seen.standing(&node), None);
    // The trusted result is checked in turn, by its like.
    let again = seen.grant(&trusted);
    assert_eq!(seen.told(job).provisional, 1);
    drop(seen);
    let mut seen = world.report(&trusted, &again, returned(9));
    let result = check.attempt;
    let confirmed = Verdict::Confirmed { result };
    assert_eq!(seen.accepted(&trusted, &again), confirmed);
    assert_eq!(seen.closed(job).settled, 1);
}

#[test]
fn a_result_is_checked_on_its_own_engine_while_one_of_ours_there_runs_it() {
    let mut world = World::new();
    let mut older = world.ours([48, 0, 7]);
    let node = behind(&mut world);
    let release = world.release();
    let mut spec = world.spec(release, 1);
    spec.options.trust = TrustPolicy::Certain;
    let (job, grant) = world.lease(spec, &node);
    let newer = world.node(NodeKind::Trusted, 1);
    world.join(&mut older, &[]).welcome(&older);
    let mut seen = world.report(&node, &grant, returned(1));
    assert_eq!(seen.accepted(&node, &grant), Verdict::Provisional);
    assert_eq!(seen.grants(&newer), []);
    let check = seen.grant(&older);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&older, &check, returned(1));
    let result = grant.attempt;
    assert_eq!(seen.accepted(&older, &check), Verdict::Confirmed { result });
    seen.closed(job);
}

#[test]
fn work_that_is_checked_goes_to_engines_that_our_own_nodes_run() {
    let mut world = World::new();
    world.ours([48, 0, 8]);
    let mut liar = world.stranger(NodeKind::Volunteer, 1);
    liar.profile.engine.semantics = hearth_wire::Digest::of(b"nobody else's");
    world.join(&mut liar, &[]).welcome(&liar);
    let release = world.release();
    let mut spec = world.spec(release, 1);
    spec.options.trust = TrustPolicy::Certain;
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    // What is not compared, it may have.
    let spec = world.spec(release, 1);
    let (free, mut seen) = world.submit(spec);
    let grant = seen.grant(&liar);
    assert_eq!(grant.task.job, free);
    seen.told(free);
    drop(seen);
    let mut seen = world.report(&liar, &grant, returned(1));
    seen.accepted(&liar, &grant);
    seen.closed(free);
    drop(seen);
    // As soon as one of ours runs the same, its results can be compared.
    let mut ours = world.stranger(NodeKind::Trusted, 1);
    ours.profile.engine = liar.profile.engine;
    ours.profile.capacity.slots = 0;
    let mut seen = world.join(&mut ours, &[]);
    seen.welcome(&ours);
    assert_eq!(seen.grant(&liar).task.job, job);
    seen.told(job);
}

#[test]
fn a_node_that_was_upgraded_answers_for_what_its_old_engine_said() {
    let mut world = World::new();
    world.ours([48, 0, 7]);
    let mut node = behind(&mut world);
    let (job, _) = reported(&mut world, &node, 1);
    drop(world.lose(&node));
    node.profile.engine.version = [48, 0, 8];
    world.join(&mut node, &[]).welcome(&node);
    let mut older = world.stranger(NodeKind::Trusted, 1);
    older.profile.engine.version = [48, 0, 7];
    let mut seen = world.join(&mut older, &[]);
    seen.welcome(&older);
    let check = seen.grant(&older);
    seen.told(job);
    drop(seen);
    let mut seen = world.report(&older, &check, returned(9));
    assert_eq!(seen.standing(&node), Some(Standing::Suspended));
    seen.grant(&older);
    seen.told(job);
}

#[test]
fn what_another_engine_began_is_not_finished_by_the_new_one() {
    let mut world = World::new();
    let release = world.release();
    let mut node = world.volunteer(1);
    let spec = world.spec(release, 1);
    let (job, grant) = world.lease(spec, &node);
    world.lose(&node).told(job);
    node.profile.engine.version = [48, 0, 7];
    let mut seen = world.join(&mut node, &[grant.attempt]);
    assert_eq!(seen.welcome(&node), [grant.attempt]);
    assert_ne!(seen.grant(&node).attempt, grant.attempt);
    seen.told(job);
    drop(seen);
    // It says all the same what came out: that is not taken for what the lease asked for.
    let mut seen = world.report(&node, &grant, returned(1));
    seen.told_if(job);
    assert_eq!(world.progress(job).settled, 0);
}

#[test]
fn local_trust_asks_trusted_nodes_only() {
    let mut world = World::new();
    let volunteer = world.volunteer(1);
    let release = world.release();
    let mut spec = world.spec(release, 1);
    spec.options.trust = TrustPolicy::Local;
    let (job, mut seen) = world.submit(spec);
    seen.told(job);
    drop(seen);
    let (home, grant) = world.local_host_takes(job);
    let mut seen = world.report(&home, &grant, returned(1));
    assert_eq!(seen.accepted(&home, &grant), Verdict::Settled);
    seen.closed(job);
    drop(volunteer);
}

#[test]
fn a_node_found_wrong_gets_no_slow_task_in_the_same_step() {
    let mut world = World::new();
    let wrong = world.volunteer(1);
    let (checked, _) = reported(&mut world, &wrong, 1);
    let slow = world.volunteer(4);
    let release = world.release();
    let spec = world.spec(release, 5);
    let (job, mut seen) = world.submit(spec);
    let mut grants = seen.grants(&slow);
    let theirs = seen.grant(&wrong);
    seen.told(job);
    drop(seen);
    world.now += 1_000;
    grants.truncate(3);
    let done = grants.iter().map(|grant| (&slow, grant));
    for (node, grant) in done.chain([(&wrong, &theirs)]) {
        let mut seen = world.report(node, grant, returned(1));
        seen.accepted(node, grant);
        seen.told(job);
    }
    let (trusted, check) = join_trusted(&mut world, checked);
    // By now the last task counts as slow, and only one node idles.
    world.now += 1_400;
    let mut seen = world.report(&trusted, &check, returned(9));
    assert_eq!(seen.standing(&wrong), Some(Standing::Suspended));
    assert_eq!(seen.grants(&wrong), []);
    seen.ignore();
}
