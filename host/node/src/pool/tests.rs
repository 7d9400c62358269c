//! The pool against runners that behave, die, lie and flood.

pub(crate) mod fake;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hearth_wire::runner::RunOutcome;
use hearth_wire::{AttemptId, Digest, Inconclusive, Priority, TaskLimits};

use super::*;
use fake::Fake;

pub(crate) fn config(launcher: Launcher) -> PoolConfig {
    PoolConfig {
        launcher,
        runners: 2,
        idle_time: IDLE_TIME,
        slots_per_runner: 1,
        memory_bytes: 1 << 30,
        artefacts: None,
        artefact_bytes: 64 << 20,
        compile_timeout: Duration::from_secs(20),
        nice: 0,
    }
}

/// An attempt whose input tells the fake runner what to do.
fn spec(attempt: u64, component: &str, input: &str) -> RunSpec {
    let component = Bytes::copy_from_slice(component.as_bytes());
    RunSpec {
        attempt: AttemptId(attempt),
        flow: 1,
        group: Digest::of(b"author"),
        component: Digest::of(&component),
        source: ComponentSource::Bytes(component),
        imports: Vec::new(),
        limits: TaskLimits::default(),
        content: Digest::of(input.as_bytes()),
        seed: Digest::default(),
        media_type: "text/plain".to_owned(),
        input: Bytes::copy_from_slice(input.as_bytes()),
        resume: None,
        priority: Priority::Medium,
        deadline: None,
    }
}

/// Ends by attempt, and the number of other events.
async fn collect(
    events: &mut RunEvents,
    ends: usize,
) -> (BTreeMap<AttemptId, RunOutcome>, Vec<RunEvent>) {
    let (mut ended, mut others) = (BTreeMap::new(), Vec::new());
    while ended.len() < ends {
        let next = tokio::time::timeout(Duration::from_secs(30), events.next());
        match next.await.unwrap().unwrap() {
            RunEvent::Finished(finished) => {
                let twice = ended.insert(finished.attempt, finished.outcome);
                assert_eq!(twice, None, "{} ended twice", finished.attempt);
            }
            other => others.push(other),
        }
    }
    (ended, others)
}

async fn outcome(pool: &Pool, spec: RunSpec) -> RunOutcome {
    let mut events = pool.run(spec).unwrap();
    let (mut ended, _) = collect(&mut events, 1).await;
    ended.pop_first().unwrap().1
}

fn returned(text: &str) -> RunOutcome {
    RunOutcome::Returned {
        media_type: "text/plain".to_owned(),
        bytes: text.as_bytes().to_vec(),
    }
}

fn host_fault(outcome: &RunOutcome) -> &str {
    match outcome {
        RunOutcome::Inconclusive(Inconclusive::HostFault(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_attempts_run_within_the_slots_and_compile_once() {
    let fake = Fake::new();
    let pool = Pool::start(config(fake.launcher())).await.unwrap();
    let (sink, mut events) = events();
    let runs = (1..=300)
        .map(|n| spec(n, "component", &format!("echo {n}")))
        .collect();
    assert!(pool.submit(runs, &sink).is_empty());
    let (ended, _) = collect(&mut events, 300).await;
    for (attempt, outcome) in ended {
        assert_eq!(outcome, returned(&attempt.0.to_string()));
    }
    assert_eq!(fake.compiled.load(Ordering::SeqCst), 1);
    assert_eq!(pool.status().runner_deaths, 0);
    assert_eq!(pool.status().running, 0);

    // Slow ones, of unknown length: never more at once than there are slots.
    let slow = (400..410)
        .map(|n| spec(n, "slow one", "sleep 30"))
        .collect();
    fake.most_at_once.store(0, Ordering::SeqCst);
    assert!(pool.submit(slow, &sink).is_empty());
    collect(&mut events, 10).await;
    assert_eq!(fake.most_at_once.load(Ordering::SeqCst), 2);
    pool.shutdown().await;
    let late = pool.run(spec(1, "c", "echo x"));
    assert!(matches!(late, Err(PoolError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_runner_costs_one_retry_and_a_second_death_the_attempt() {
    let fake = Fake::new();
    let pool = Pool::start(config(fake.launcher())).await.unwrap();
    // The first runner that gets it dies, the second answers.
    assert_eq!(
        outcome(&pool, spec(1, "c", "die-once a")).await,
        returned("survived")
    );
    assert_eq!(pool.status().runner_deaths, 1);
    let other = outcome(&pool, spec(2, "d", "die")).await;
    assert!(host_fault(&other).contains("two runners died"));
    // Others go on meanwhile and after.
    assert_eq!(
        outcome(&pool, spec(3, "c", "echo on")).await,
        returned("on")
    );
    // Its third death poisons the component, not the others.
    outcome(&pool, spec(4, "d", "die")).await;
    let refused = outcome(&pool, spec(5, "d", "echo no")).await;
    assert!(host_fault(&refused).contains("does not run it for now"));
    assert_eq!(
        outcome(&pool, spec(6, "c", "echo on")).await,
        returned("on")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_is_believed_nothing_but_its_own_outcomes() {
    let fake = Fake::new();
    let pool = Pool::start(config(fake.launcher())).await.unwrap();
    let (sink, mut events) = events();
    // One runner works on 1; the other says that 1 has ended. 1 must not be touched by it.
    pool.submit(vec![spec(1, "c", "sleep 600")], &sink);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let liar = outcome(&pool, spec(2, "c", "claim 1")).await;
    assert!(host_fault(&liar).contains("attempt-1, which it was not given"));
    let (ended, _) = collect(&mut events, 1).await;
    assert_eq!(ended[&AttemptId(1)], returned("slept"));

    for (n, (lie, what)) in [
        ("huge-frame", "at most"),
        ("rubbish", "no message"),
        ("ready-again", "twice"),
        ("too-much-output", "bytes"),
        ("too-much-fuel", "fuel"),
    ]
    .into_iter()
    .enumerate()
    {
        let component = format!("component of {lie}");
        let liar = outcome(&pool, spec(10 + n as u64, &component, lie)).await;
        assert!(host_fault(&liar).contains(what), "{lie}: {liar:?}");
    }
    // An end that nobody asked for is a fault of the host, not a cancel.
    let liar = outcome(&pool, spec(20, "c", "claim-cancelled")).await;
    assert!(host_fault(&liar).contains("nobody cancelled"));
    assert_eq!(
        outcome(&pool, spec(21, "c", "echo on")).await,
        returned("on")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_dropped_and_the_end_still_comes() {
    let fake = Fake::new();
    let pool = Pool::start(config(fake.launcher())).await.unwrap();
    let mut events = pool.run(spec(1, "c", "flood 20000")).unwrap();
    // Nothing is received while the flood comes: it must not pile up.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        outcome(&pool, spec(2, "c", "echo on")).await,
        returned("on")
    );
    let (ended, others) = collect(&mut events, 1).await;
    assert_eq!(ended[&AttemptId(1)], returned("flooded"));
    assert!(others.len() < 20_000, "{}", others.len());
    let steered = others.iter().any(
        |event| matches!(event, RunEvent::Log { text, .. } if text.contains('\u{1b}') || text.len() > 1200),
    );
    assert!(!steered);
    // A checkpoint arrives, one beyond the limit does not, nor one for another's attempt.
    let mut events = pool.run(spec(3, "c", "checkpoints")).unwrap();
    let (_, others) = collect(&mut events, 1).await;
    assert_eq!(
        others,
        [RunEvent::Checkpoint {
            attempt: AttemptId(3),
            state: b"state".to_vec(),
            fuel_used: 7
        }]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_and_cancels_end_attempts_at_once() {
    let fake = Fake::new();
    let pool = Pool::start(config(fake.launcher())).await.unwrap();
    let mut late = spec(1, "c", "sleep 60000");
    late.deadline = Some(Duration::from_millis(100));
    let before = Instant::now();
    assert_eq!(
        outcome(&pool, late).await,
        RunOutcome::Inconclusive(Inconclusive::Deadline)
    );
    assert!(before.elapsed() < Duration::from_secs(5));

    let (sink, mut events) = events();
    let runs = (2..6).map(|n| spec(n, "c", "sleep 60000")).collect();
    pool.submit(runs, &sink);
    let twice = pool.submit(vec![spec(2, "c", "echo")], &sink);
    assert!(matches!(
        twice[..],
        [(AttemptId(2), PoolError::Duplicate(_))]
    ));
    pool.cancel(&[2, 3, 4, 5, 99].map(AttemptId));
    let (ended, _) = collect(&mut events, 4).await;
    let cancelled = RunOutcome::Inconclusive(Inconclusive::Cancelled);
    assert!(ended.values().all(|outcome| *outcome == cancelled));
    assert_eq!(pool.status().runner_deaths, 0);

    // One that does not let go costs the runner, after the grace.
    let mut deaf = spec(7, "c", "deaf");
    deaf.deadline = Some(Duration::from_millis(50));
    outcome(&pool, deaf).await;
    let killed = async {
        while pool.status().runner_deaths == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), killed)
        .await
        .unwrap();
    assert_eq!(
        outcome(&pool, spec(8, "c", "echo on")).await,
        returned("on")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_work_passes_parked_work() {
    let fake = Fake::new();
    let mut config = config(fake.launcher());
    config.runners = 1;
    let pool = Pool::start(config).await.unwrap();
    let (sink, mut low) = events();
    pool.submit(vec![spec(1, "c", "sleep 300")], &sink);
    tokio::time::sleep(Duration::from_millis(100)).await;
    pool.pause(&[AttemptId(1)]);
    let mut urgent = spec(2, "c", "echo urgent");
    urgent.priority = Priority::High;
    assert_eq!(outcome(&pool, urgent).await, returned("urgent"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(low.try_next(), None, "a parked attempt ended");
    pool.resume(&[AttemptId(1)]);
    let (ended, _) = collect(&mut low, 1).await;
    assert_eq!(ended[&AttemptId(1)], returned("slept"));

    // The owner pauses everything, and goes on.
    pool.set_slots(0);
    pool.submit(vec![spec(3, "c", "echo late")], &sink);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(low.try_next(), None);
    pool.set_slots(1);
    let (ended, _) = collect(&mut low, 1).await;
    assert_eq!(ended[&AttemptId(3)], returned("late"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_follow_the_work_that_waits() {
    let mut config = config(fake::program());
    (config.runners, config.idle_time) = (3, Duration::from_millis(300));
    let pool = Pool::start(config).await.unwrap();
    let processes = async |wanted: usize| {
        let begun = std::time::Instant::now();
        while pool.status().pids.len() != wanted {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "never {wanted} runners"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    processes(1).await;
    let (sink, mut events) = events();
    let runs = (1..=5)
        .map(|attempt| spec(attempt, "c", "sleep 400"))
        .collect();
    assert!(pool.submit(runs, &sink).is_empty());
    processes(3).await;
    collect(&mut events, 5).await;
    processes(1).await;
    assert_eq!(outcome(&pool, spec(6, "c", "echo a")).await, returned("a"));
    assert_eq!(pool.status().runner_deaths, 0, "idle runners end in peace");
    // The owner offers fewer slots: work that waits for one of them starts no process.
    pool.set_slots(2);
    let runs = (11..=15)
        .map(|attempt| spec(attempt, "c", "sleep 200"))
        .collect();
    assert!(pool.submit(runs, &sink).is_empty());
    processes(2).await;
    let mut seen = 0;
    let done = collect(&mut events, 5);
    tokio::pin!(done);
    loop {
        tokio::select! {
            _ = &mut done => break,
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                seen = seen.max(pool.status().pids.len());
            }
        }
    }
    assert_eq!(seen, 2, "as many as there are slots");
    pool.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_attempt_does_not_wait_for_the_backlog_of_another_flow() {
    let fake = Fake::new();
    let mut config = config(fake.launcher());
    (config.runners, config.slots_per_runner) = (1, 1);
    let pool = Pool::start(config).await.unwrap();
    let (sink, mut events) = events();
    let backlog = (1..=100).map(|n| spec(n, "c", "sleep 10")).collect();
    assert!(pool.submit(backlog, &sink).is_empty());
    collect(&mut events, 3).await;
    let mut single = spec(101, "c", "echo a");
    single.flow = 2;
    assert!(pool.submit(vec![single], &sink).is_empty());
    let mut before = 0;
    while !collect(&mut events, 1)
        .await
        .0
        .contains_key(&AttemptId(101))
    {
        before += 1;
    }
    assert!(before < 10, "behind {before} of 97");
    collect(&mut events, 96 - before).await;
}

/// One author's backlog takes every runner, not only the first that comes free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_runner_follows_a_change_of_author() {
    let pool = Pool::start(config(fake::program())).await.unwrap();
    let (sink, mut events) = events();
    let warm = (1..=2).map(|n| spec(n, "c", "sleep 200")).collect();
    assert!(pool.submit(warm, &sink).is_empty());
    collect(&mut events, 2).await;
    let other = |n| RunSpec {
        group: Digest::of(b"another author"),
        ..spec(n, "d", "sleep 60000")
    };
    assert!(pool.submit((3..=6).map(other).collect(), &sink).is_empty());
    let begun = Instant::now();
    while pool.status().running != 2 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "on one runner only"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // And no more than that: what runs is not disturbed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let status = pool.status();
    assert_eq!((status.running, status.pids.len()), (2, 2));
    assert_eq!(status.runner_deaths, 0);
    pool.shutdown().await;
}

/// Both wait for one compilation, so they come to their runner together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_attempt_fits_a_frame_behind_a_small_one() {
    let fake = Fake::new();
    let mut config = config(fake.launcher());
    (config.runners, config.slots_per_runner) = (1, 2);
    let pool = Pool::start(config).await.unwrap();
    let (sink, mut events) = events();
    let padded = |n, bytes: usize| {
        let mut input = b"checkpoints ".to_vec();
        input.resize(bytes, b'.');
        RunSpec {
            input: input.into(),
            ..spec(n, "c", "")
        }
    };
    let mut largest = padded(2, hearth_wire::limits::INPUT_BYTES_MAX as usize);
    largest.resume = Some(Resume {
        state: vec![0; hearth_wire::limits::CHECKPOINT_BYTES_MAX as usize],
        fuel_used: 0,
    });
    assert!(
        pool.submit(vec![padded(1, (1 << 20) - 1), largest], &sink)
            .is_empty()
    );
    let (ended, _) = collect(&mut events, 2).await;
    assert!(
        ended.values().all(|outcome| *outcome == returned("saved")),
        "{ended:?}"
    );
    assert_eq!(pool.status().runner_deaths, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_beyond_the_end_of_time_is_none() {
    let fake = Fake::new();
    let pool = Pool::start(config(fake.launcher())).await.unwrap();
    let mut patient = spec(1, "c", "echo a");
    patient.deadline = Some(Duration::MAX);
    assert_eq!(outcome(&pool, patient).await, returned("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_waits_for_no_compilation() {
    let fake = Fake::new();
    let mut config = config(fake.launcher());
    config.compile_timeout = Duration::from_secs(60);
    let pool = Pool::start(config).await.unwrap();
    let (sink, mut events) = events();
    // One runs, the other waits for its turn.
    let mut queued = spec(2, "endless", "echo b");
    queued.limits.fuel += 1;
    queued.imports = vec!["other".to_owned()];
    assert!(
        pool.submit(vec![spec(1, "endless", "echo a"), queued], &sink)
            .is_empty()
    );
    while fake.compiled.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    pool.shutdown().await;
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        fake.compiled.load(Ordering::SeqCst),
        1,
        "none begins at the end"
    );
    let (ended, _) = collect(&mut events, 2).await;
    let cancelled = RunOutcome::Inconclusive(Inconclusive::Cancelled);
    assert!(ended.values().all(|outcome| *outcome == cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_out_of_cpu_time_is_not_started_again() {
    let pool = Pool::start(config(fake::program())).await.unwrap();
    let spun = outcome(&pool, spec(1, "spin", "echo")).await;
    assert!(host_fault(&spun).contains("CPU time"), "{spun:?}");
}

/// The kernel kills what is largest when memory is short: once is not the component's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_killed_from_outside_is_started_again() {
    let fake = Fake::new();
    let pool = Pool::start(config(fake.launcher())).await.unwrap();
    let survived = outcome(&pool, spec(1, "die-once", "echo a")).await;
    assert_eq!(survived, returned("a"));
    assert_eq!(fake.compiled.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_compiled_says_why() {
    let fake = Fake::new();
    let mut config = config(fake.launcher());
    config.compile_timeout = Duration::from_millis(500);
    let pool = Pool::start(config).await.unwrap();
    let unfit = outcome(&pool, spec(1, "unfit", "echo")).await;
    assert_eq!(
        unfit,
        RunOutcome::Inconclusive(Inconclusive::Unfit("imports wasi:sockets".to_owned()))
    );
    let slow = outcome(&pool, spec(2, "slow", "echo")).await;
    assert!(host_fault(&slow).contains("longer than"));
    let died = outcome(&pool, spec(3, "die", "echo")).await;
    let death = host_fault(&died);
    assert!(death.contains("the compiler died") && death.ends_with("3 times"));
    let mut other = spec(4, "c", "echo");
    other.source = ComponentSource::Bytes(Bytes::from_static(b"other bytes"));
    assert!(host_fault(&outcome(&pool, other).await).contains("bytes are"));
    let mut large = spec(5, "c2", "echo");
    large.limits.memory_bytes = 2 << 30;
    assert!(matches!(
        outcome(&pool, large).await,
        RunOutcome::Inconclusive(Inconclusive::Declined(_))
    ));
    assert_eq!(
        outcome(&pool, spec(6, "good", "echo on")).await,
        returned("on")
    );
    let unfit = spec(7, "unfit", "");
    let verdict = pool
        .prepare(unfit.component, unfit.source, Vec::new(), unfit.limits)
        .await;
    assert!(matches!(verdict, Err(Inconclusive::Unfit(_))));
    // Verdicts are remembered.
    let before = fake.compiled.load(Ordering::SeqCst);
    outcome(&pool, spec(8, "unfit", "echo")).await;
    assert_eq!(fake.compiled.load(Ordering::SeqCst), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn artefacts_survive_a_restart_unless_somebody_touched_them() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::new();
    let mut config = config(fake.launcher());
    config.artefacts = Some(dir.path().to_owned());
    for _ in 0..2 {
        let pool = Pool::start(config.clone()).await.unwrap();
        assert_eq!(outcome(&pool, spec(1, "c", "echo x")).await, returned("x"));
        pool.shutdown().await;
        assert_eq!(fake.compiled.load(Ordering::SeqCst), 1);
    }
    for entry in std::fs::read_dir(dir.path().join("cache/artefacts")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, bytes).unwrap();
    }
    let pool = Pool::start(config).await.unwrap();
    assert_eq!(outcome(&pool, spec(1, "c", "echo x")).await, returned("x"));
    assert_eq!(fake.compiled.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_without_runners_says_so() {
    let launcher = Launcher::Program {
        path: "/nonexistent/hearth".into(),
        runner_args: Vec::new(),
        compiler_args: Vec::new(),
    };
    let error = Pool::start(config(launcher)).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/hearth"), "{error}");
    let launcher = Launcher::InProcess(Arc::new(|_, _| {}));
    assert!(matches!(
        Pool::start(config(launcher)).await,
        Err(PoolError::NotReady(_))
    ));
}

/// The real thing: children as processes, one of them killed with SIGKILL from outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_are_killed_replaced_and_never_shared_by_authors() {
    let pool = Pool::start(config(fake::program())).await.unwrap();
    let (sink, mut events) = events();
    pool.submit(
        vec![spec(1, "c", "sleep 1500"), spec(2, "c", "sleep 1500")],
        &sink,
    );
    tokio::time::sleep(Duration::from_millis(500)).await;
    let pids = pool.status().pids;
    assert_eq!(pids.len(), 2);
    let victim = rustix::process::Pid::from_raw(pids[0].cast_signed()).unwrap();
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
    let (ended, _) = collect(&mut events, 2).await;
    assert!(ended.values().all(|outcome| *outcome == returned("slept")));
    assert_eq!(pool.status().runner_deaths, 1);
    let before = pool.status().pids;

    // Nothing but the three standard descriptors, no environment, a group of its own.
    let RunOutcome::Returned { bytes, .. } = outcome(&pool, spec(3, "c", "look")).await else {
        panic!();
    };
    let seen = String::from_utf8(bytes).unwrap();
    assert_eq!(seen, "sockets=1 environment=0 leader=true");

    // Another author gets another process.
    let mut other = spec(4, "c", "pid");
    other.group = Digest::of(b"another author");
    let RunOutcome::Returned { bytes, .. } = outcome(&pool, other).await else {
        panic!();
    };
    let pid: u32 = String::from_utf8(bytes).unwrap().parse().unwrap();
    assert!(!before.contains(&pid), "{before:?} {pid}");
    pool.shutdown().await;
    for pid in before {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artefact_that_cannot_be_loaded_is_compiled_again_once() {
    let fake = Fake::new();
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(fake.launcher());
    config.artefacts = Some(dir.path().to_owned());
    let pool = Pool::start(config).await.unwrap();
    let (sink, mut events) = events();
    let runs = (1..=20)
        .map(|n| spec(n, "rotten at first", &format!("echo {n}")))
        .collect();
    assert!(pool.submit(runs, &sink).is_empty());
    let (ended, _) = collect(&mut events, 20).await;
    for (attempt, outcome) in ended {
        assert_eq!(outcome, returned(&attempt.0.to_string()));
    }
    assert_eq!(fake.compiled.load(Ordering::SeqCst), 2);

    // Where it does not help it is not tried for ever.
    for n in 30..33 {
        let lost = outcome(&pool, spec(n, "unloadable", "echo no")).await;
        assert_eq!(host_fault(&lost), "artefact: torn");
    }
    assert_eq!(fake.compiled.load(Ordering::SeqCst), 4);
    assert_eq!(pool.status().runner_deaths, 0);
    // What replaced it is in the cache.
    pool.shutdown().await;
    let mut again = super::tests::config(fake.launcher());
    again.artefacts = Some(dir.path().to_owned());
    let pool = Pool::start(again).await.unwrap();
    assert_eq!(
        outcome(&pool, spec(1, "rotten at first", "echo on")).await,
        returned("on")
    );
    assert_eq!(fake.compiled.load(Ordering::SeqCst), 4);
}
