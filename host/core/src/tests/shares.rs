//! Fair shares: of owners, and of each owner's jobs.

use hearth_wire::JobId;
use hearth_wire::record::NodeKind;

use super::order::{busy, next, wait};
use super::world::{Node, World, host_fault, owner, returned};
use crate::Grant;

#[test]
fn owners_share_alike_however_much_they_submit() {
    let (mut world, release, node, mut grant) = busy();
    let many = wait(&mut world, release, 100, 1, |_| {});
    let more = wait(&mut world, release, 100, 1, |_| {});
    let few = wait(&mut world, release, 100, 2, |_| {});
    let turns: Vec<_> = (0..21)
        .map(|_| next(&mut world, &node, &mut grant, 1_000_000))
        .collect();
    let of = |job| turns.iter().filter(|turn| **turn == job).count();
    assert_eq!((of(many), of(more), of(few)), (6, 5, 10));
}

#[test]
fn a_small_job_does_not_wait_for_a_large_one_of_its_owner() {
    let (mut world, release, node, mut grant) = busy();
    let large = wait(&mut world, release, 1_000, 1, |_| {});
    for _ in 0..20 {
        assert_eq!(next(&mut world, &node, &mut grant, 1_000_000), large);
    }
    let small = wait(&mut world, release, 3, 1, |_| {});
    let turns: Vec<_> = (0..8)
        .map(|_| next(&mut world, &node, &mut grant, 1_000_000))
        .collect();
    let of = |job| turns.iter().filter(|turn| **turn == job).count();
    // Beside it, neither behind nor in front of it.
    assert_eq!((of(large), of(small)), (5, 3));
}

#[test]
fn a_small_job_does_not_wait_for_many_large_ones_of_its_owner() {
    let (mut world, release, node, mut grant) = busy();
    for _ in 0..50 {
        wait(&mut world, release, 200, 1, |_| {});
    }
    // At any time: between two rounds of turns, and amid one.
    for turns in [1, 700, 1_500, 2_300] {
        for _ in 0..turns {
            next(&mut world, &node, &mut grant, 1_000);
        }
        let small = wait(&mut world, release, 1, 1, |_| {});
        assert_eq!(next(&mut world, &node, &mut grant, 1_000), small);
    }
}

#[test]
fn small_jobs_do_not_keep_large_ones_from_going_on() {
    let (mut world, release, node, mut grant) = busy();
    let large: Vec<_> = (0..4)
        .map(|_| wait(&mut world, release, 1_000, 1, |_| {}))
        .collect();
    let mut got = [0; 4];
    for _ in 0..2_000 {
        wait(&mut world, release, 1, 1, |_| {});
        let turn = next(&mut world, &node, &mut grant, 1_000);
        if let Some(at) = large.iter().position(|job| *job == turn) {
            got[at] += 1;
        }
    }
    // A small one comes with each turn, so as many wait as turns went to the four large ones. Were all that
    // wait served at once and alike, these n would be four of n + 4: n²/2 + 4n = 4 · 2,000, and n = 122.
    assert!(got.iter().all(|got| (28..=33).contains(got)), "{got:?}");
}

#[test]
fn a_deadline_buys_a_minute_and_no_larger_share() {
    let (mut world, release, node, mut grant) = busy();
    // Another release with other needs stands in another queue: both compete all the same.
    let elsewhere = world.release_with(|facts| facts.limits.memory_bytes /= 2);
    for _ in 0..2 {
        let job = wait(&mut world, release, 1, 3, |_| {});
        assert_eq!(next(&mut world, &node, &mut grant, 10_000_000), job);
    }
    let plain = wait(&mut world, release, 100, 1, |_| {});
    let hurried = wait(&mut world, elsewhere, 100, 2, |options| {
        options.deadline_millis = Some(3_600_000);
    });
    let turns: Vec<_> = (0..30)
        .map(|_| next(&mut world, &node, &mut grant, 10_000_000))
        .collect();
    // Six or seven runs of ten seconds are the minute; then both take turns.
    assert!(turns[..6].iter().all(|job| *job == hurried), "{turns:?}");
    let of = |job| turns[10..].iter().filter(|turn| **turn == job).count();
    assert_eq!((of(plain), of(hurried)), (10, 10), "{turns:?}");
}

/// So many turns, each of so long a task.
fn turns(
    world: &mut World,
    node: &Node,
    grant: &mut Grant,
    micros: u64,
    count: usize,
) -> Vec<JobId> {
    let mut turn = || next(world, node, grant, micros);
    (0..count).map(|_| turn()).collect()
}

/// How many turns go to others before a job has one.
fn waits(world: &mut World, node: &Node, grant: &mut Grant, micros: u64, job: JobId) -> usize {
    let mut turn = || next(world, node, grant, micros);
    (0..10_000).take_while(|_| turn() != job).count()
}

fn share_of(job: JobId, turns: &[JobId]) -> usize {
    turns.iter().filter(|turn| **turn == job).count()
}

#[test]
fn a_long_task_waits_for_no_stream_of_short_ones() {
    let (mut world, release, node, mut grant) = busy();
    let slow = world.release();
    let measured = wait(&mut world, slow, 1, 1, |_| {});
    assert_eq!(next(&mut world, &node, &mut grant, 10_000), measured);
    wait(&mut world, release, 1, 1, |_| {});
    next(&mut world, &node, &mut grant, 60_000_000);
    for _ in 0..10 {
        wait(&mut world, release, 1, 1, |_| {});
    }
    let long = wait(&mut world, slow, 1, 1, |_| {});
    let mut after = 0;
    loop {
        wait(&mut world, release, 1, 1, |_| {});
        if next(&mut world, &node, &mut grant, 10_000) == long {
            break;
        }
        after += 1;
        assert!(
            after < 300,
            "a turn of 0.2 s is 20 short ones for each that waits"
        );
    }
    assert!(after > 100, "it does not go in front of all: {after}");
}

#[test]
fn a_deadline_of_a_task_of_hours_counts() {
    let (mut world, release, node, mut grant) = busy();
    let slow = world.release();
    let measured = wait(&mut world, slow, 1, 3, |_| {});
    assert_eq!(next(&mut world, &node, &mut grant, 1_000_000), measured);
    let short = wait(&mut world, release, 100, 1, |_| {});
    assert_eq!(next(&mut world, &node, &mut grant, 7_200_000_000), short);
    turns(&mut world, &node, &mut grant, 1_000_000, 5);
    let hurried = wait(&mut world, slow, 1, 2, |options| {
        options.deadline_millis = Some(36_000_000);
    });
    assert_eq!(next(&mut world, &node, &mut grant, 1_000_000), hurried);
}

#[test]
fn a_deadline_delays_no_jobs_but_those_beside_it() {
    let (mut world, release, node, mut grant) = busy();
    for _ in 0..2 {
        wait(&mut world, release, 2_000, 1, |_| {});
    }
    let hurried = wait(&mut world, release, 500, 1, |options| {
        options.deadline_millis = Some(3_600_000);
    });
    let first = turns(&mut world, &node, &mut grant, 1_000, 500);
    assert_eq!(share_of(hurried, &first), 500);
    // What came before it has a turn first, and not the 500 that it had.
    let small = wait(&mut world, release, 1, 1, |_| {});
    assert!(waits(&mut world, &node, &mut grant, 1_000, small) < 10);
}

#[test]
fn a_deadline_puts_no_newcomer_behind_all_that_it_passed() {
    let (mut world, release, node, mut grant) = busy();
    wait(&mut world, release, 1, 4, |_| {});
    next(&mut world, &node, &mut grant, 10_000_000);
    for who in [1, 2] {
        wait(&mut world, release, 100, who, |_| {});
    }
    let hurried = wait(&mut world, release, 100, 3, |options| {
        options.deadline_millis = Some(3_600_000);
    });
    let first = turns(&mut world, &node, &mut grant, 10_000_000, 6);
    assert_eq!(share_of(hurried, &first), 6);
    // The two have a claim on a third each of what they waited for, and not on as much as that, which would be 16 turns.
    let newcomer = wait(&mut world, release, 1, 4, |_| {});
    let after = waits(&mut world, &node, &mut grant, 10_000_000, newcomer);
    assert!(after <= 12, "{after} turns");
}

#[test]
fn a_newcomer_among_deadlines_goes_in_front_of_nobody_for_long() {
    let (mut world, release, node, mut grant) = busy();
    wait(&mut world, release, 1, 9, |_| {});
    next(&mut world, &node, &mut grant, 10_000_000);
    // Some who have nothing that could be served.
    let special = world.release_with(|facts| facts.capabilities = vec!["gpu".into()]);
    for who in 11..15 {
        wait(&mut world, special, 1, who, |_| {});
    }
    let hurried = [1, 2].map(|who| {
        wait(&mut world, release, 200, who, |options| {
            options.deadline_millis = Some(86_400_000);
        })
    });
    turns(&mut world, &node, &mut grant, 10_000_000, 200);
    wait(&mut world, release, 200, 3, |_| {});
    let all = turns(&mut world, &node, &mut grant, 10_000_000, 30);
    let theirs = hurried.map(|job| share_of(job, &all));
    assert!(theirs.iter().sum::<usize>() >= 15, "{theirs:?} of 30");
}

#[test]
fn what_was_leased_and_cancelled_is_not_owed_for_long() {
    let (mut world, release, node, mut grant) = busy();
    let slow = world.release();
    wait(&mut world, release, 100, 2, |_| {});
    wait(&mut world, slow, 1, 1, |_| {});
    next(&mut world, &node, &mut grant, 1_000_000);
    next(&mut world, &node, &mut grant, 7_200_000_000);
    let long = wait(&mut world, slow, 1, 1, |_| {});
    assert!(waits(&mut world, &node, &mut grant, 1_000_000, long) < 5);
    let mut seen = world.cancel(long, None);
    grant = seen.grant(&node);
    seen.ignore();
    let short = wait(&mut world, release, 1, 1, |_| {});
    let after = waits(&mut world, &node, &mut grant, 1_000_000, short);
    assert!(after <= 62, "{after} turns of a second");
}

#[test]
fn a_made_up_run_time_costs_its_owner_little() {
    let (mut world, release, node, mut grant) = busy();
    let elsewhere = world.release();
    wait(&mut world, elsewhere, 10_000, 2, |_| {});
    turns(&mut world, &node, &mut grant, 1_000, 10);
    let victim = wait(&mut world, release, 100, 1, |_| {});
    // Its turn is one of 64 tasks of a millisecond.
    assert!(waits(&mut world, &node, &mut grant, 1_000, victim) < 65);
    // A day, in no time.
    let made_up = 86_400_000_000;
    let mut seen = world.report_at_once(&node, &grant, returned(1), made_up);
    grant = seen.grant(&node);
    seen.ignore();
    let all = turns(&mut world, &node, &mut grant, 1_000, 2_000);
    assert!(share_of(victim, &all) > 50);
}

#[test]
fn who_comes_back_for_each_result_gets_no_larger_share() {
    for (others, batch) in [(1, 1), (1, 100), (4, 20), (9, 1), (9, 20)] {
        let (mut world, release, node, mut grant) = busy();
        wait(&mut world, release, 1, 8, |_| {});
        next(&mut world, &node, &mut grant, 1_000);
        for who in 0..others {
            wait(&mut world, release, 3_000, 10 + who, |_| {});
        }
        turns(&mut world, &node, &mut grant, 1_000, 10);
        let mut open = Vec::new();
        let mut got = 0;
        for _ in 0..2_000 {
            open.retain(|job| world.core.job(*job).is_some());
            if open.is_empty() {
                let mut small = || wait(&mut world, release, 1, 9, |_| {});
                open = (0..batch).map(|_| small()).collect();
            }
            let turn = next(&mut world, &node, &mut grant, 1_000);
            got += usize::from(open.contains(&turn));
        }
        let fair = 2_000 / (usize::from(others) + 1);
        assert!(
            got * 2 <= fair * 3,
            "{got} of {fair} beside {others}, {batch} at once"
        );
    }
}

/// A world in which a job waited for a node that was not there, while another owner had 500 seconds of
/// what was there: that job and the other one.
fn unservable() -> (World, hearth_wire::ReleaseId, Node, Grant, [JobId; 2]) {
    let (mut world, release, node, mut grant) = busy();
    let special = world.release_with(|facts| facts.capabilities = vec!["gpu".into()]);
    let stuck = wait(&mut world, special, 50, 3, |_| {});
    let plain = wait(&mut world, release, 5_000, 2, |_| {});
    let all = turns(&mut world, &node, &mut grant, 1_000_000, 500);
    assert_eq!(share_of(plain, &all), 500);
    (world, release, node, grant, [stuck, plain])
}

#[test]
fn what_no_node_could_serve_puts_no_newcomer_in_front() {
    let (mut world, release, node, mut grant, [stuck, plain]) = unservable();
    let mut other = world.stranger(NodeKind::Local, 1);
    other.profile.capabilities = vec!["gpu".into()];
    let mut seen = world.join(&mut other, &[]);
    assert_eq!(seen.grant(&other).task.job, stuck);
    seen.ignore();
    let newcomer = wait(&mut world, release, 1_000, 4, |_| {});
    let all = turns(&mut world, &node, &mut grant, 1_000_000, 100);
    assert!((45..=55).contains(&share_of(newcomer, &all)), "{all:?}");
    assert!((45..=55).contains(&share_of(plain, &all)), "{all:?}");
}

#[test]
fn what_no_node_could_serve_is_a_claim_on_a_minute() {
    let (mut world, release, node, mut grant, [_, plain]) = unservable();
    wait(&mut world, release, 1_000, 3, |_| {});
    let after = waits(&mut world, &node, &mut grant, 1_000_000, plain);
    assert!((55..=65).contains(&after), "{after} turns of a second");
}

#[test]
fn a_newcomer_after_a_restart_goes_in_front_of_nobody() {
    let mut world = World::new();
    let release = world.release();
    let one = world.node(NodeKind::Local, 1);
    let two = world.node(NodeKind::Local, 1);
    let mut spec = world.spec(release, 1);
    spec.owner = owner(3);
    let (failing, mut seen) = world.submit(spec);
    let (mut there, mut here, first) = match seen.grants(&one).pop() {
        Some(grant) => (one, two, grant),
        None => (two.clone(), one, seen.grant(&two)),
    };
    seen.ignore();
    let spec = world.spec(release, 5_000);
    let (many, mut seen) = world.submit(spec);
    let mut grant = seen.grant(&here);
    seen.ignore();
    turns(&mut world, &here, &mut grant, 1_000_000, 300);
    // The task fails, and waits for its next run by a timer, which no record tells of.
    let mut seen = world.report(&there, &first, host_fault());
    let mut beside = seen.grant(&there);
    seen.ignore();
    let leased_again = (0..1_000).any(|_| {
        world.live(50).ignore();
        next(&mut world, &here, &mut grant, 1_000_000) == failing
            || next(&mut world, &there, &mut beside, 1_000_000) == failing
    });
    assert!(leased_again);
    world.restart();
    world.join(&mut here, &[grant.attempt]).ignore();
    world.join(&mut there, &[beside.attempt]).ignore();
    wait(&mut world, release, 1_000, 7, |_| {});
    let (node, grant) = match grant.task.job == many {
        true => (&here, &mut grant),
        false => (&there, &mut beside),
    };
    assert!(waits(&mut world, node, grant, 1_000_000, many) < 5);
}
