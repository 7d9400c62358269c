//! Runners and compilers in this process, without walls; those with walls are in `tests/processes.rs`.

#[path = "../tests/support.rs"]
#[allow(dead_code, reason = "shared with the other tests")]
mod support;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hearth_sandbox::Profile;
use hearth_wire::runner::{CompileReply, RunOutcome, ToRunner};
use hearth_wire::{AttemptId, Inconclusive};

use crate::*;
use support::{Node, compile, component, echoed, run};

fn compile_here(component: Vec<u8>) -> CompileReply {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let compiler = std::thread::spawn(move || {
        serve_compiler(
            theirs,
            &CompilerOptions {
                confine: Confine::No,
                ..CompilerOptions::default()
            },
        )
    });
    let reply = compile(ours, component);
    compiler.join().unwrap().unwrap();
    reply
}

fn artefact() -> Vec<u8> {
    match compile_here(component()) {
        CompileReply::Compiled { artefact } => artefact,
        other => panic!("{other:?}"),
    }
}

fn start(slots: u32, checkpoint_period: Duration) -> (Node, JoinHandle<Result<(), RunnerError>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let runner = std::thread::spawn(move || {
        serve_runner(
            theirs,
            &RunnerOptions {
                slots,
                confine: Confine::No,
                checkpoint_period,
                ..RunnerOptions::default()
            },
        )
    });
    (Node::new(ours), runner)
}

const SELDOM: Duration = Duration::from_secs(3_600);

#[test]
fn compiler_tells_bad_components_from_its_own_failures() {
    let CompileReply::Unfit(text) = compile_here(b"no component".to_vec()) else {
        panic!("admitted");
    };
    assert!(text.contains("not WebAssembly"));
    let CompileReply::Unfit(text) = compile_here(wat::parse_str("(module)").unwrap()) else {
        panic!("admitted");
    };
    assert!(text.contains("core module"));
}

#[test]
fn runs_batches_and_ends_after_shutdown() {
    let (mut node, runner) = start(2, SELDOM);
    assert_eq!(node.ready.engine, hearth_sandbox::engine_id());
    assert_eq!(node.ready.confinement, Default::default());
    node.load(artefact());
    node.send(&ToRunner::Run(
        (0..200).map(|n| run(n, &[0, n as u8])).collect(),
    ));
    node.send(&ToRunner::Shutdown);
    while node.hear() {}
    runner.join().unwrap().unwrap();
    assert_eq!(node.finished.len(), 200);
    for n in 0..200 {
        assert_eq!(*node.outcome(n), echoed(&[0, n as u8]));
    }
    assert_eq!(node.logs, 200);
}

#[test]
fn attempts_without_a_component_do_not_begin() {
    let (mut node, runner) = start(1, SELDOM);
    node.send(&ToRunner::Run(vec![run(1, &[0])]));
    while node.not_loaded.is_empty() {
        assert!(node.hear());
    }
    assert!(node.not_loaded[&AttemptId(1)].contains("not loaded"));
    // Nor is an artefact of somebody else's making loaded.
    node.load(b"\x7fELF nonsense".to_vec());
    node.send(&ToRunner::Run(vec![run(2, &[0])]));
    while node.not_loaded.len() < 2 {
        assert!(node.hear());
    }
    assert!(node.not_loaded[&AttemptId(2)].contains("artefact"));
    assert!(node.finished.is_empty());
    drop(node);
    runner.join().unwrap().unwrap();
}

#[test]
fn cancels_what_runs_and_what_waits() {
    let (mut node, runner) = start(1, SELDOM);
    node.load(artefact());
    node.send(&ToRunner::Run(vec![
        run(1, &[255; 9]),
        run(2, &[255; 9]),
        run(3, &[0]),
    ]));
    while !node.progress.contains_key(&AttemptId(1)) {
        assert!(node.hear());
    }
    node.send(&ToRunner::Cancel(vec![
        AttemptId(2),
        AttemptId(1),
        AttemptId(99),
    ]));
    node.wait_for([1, 2, 3]);
    for attempt in [1, 2] {
        assert_eq!(
            *node.outcome(attempt),
            RunOutcome::Inconclusive(Inconclusive::Cancelled)
        );
    }
    assert_eq!(*node.outcome(3), echoed(&[0]));
    drop(node);
    runner.join().unwrap().unwrap();
}

#[test]
fn parked_attempt_gives_its_slot_to_another() {
    let (mut node, runner) = start(1, SELDOM);
    node.load(artefact());
    node.send(&ToRunner::Run(vec![run(1, &[255; 9])]));
    while node.progress.is_empty() {
        assert!(node.hear());
    }
    node.send(&ToRunner::Pause(vec![AttemptId(1)]));
    node.send(&ToRunner::Run(vec![run(2, &[1])]));
    node.wait_for([2]);
    assert_eq!(*node.outcome(2), echoed(&[1]));
    assert!(!node.finished.contains_key(&AttemptId(1)), "it is parked");
    // Paused before it starts: it does not start.
    node.send(&ToRunner::Throttle(0));
    node.send(&ToRunner::Run(vec![run(3, &[1]), run(4, &[1])]));
    node.send(&ToRunner::Pause(vec![AttemptId(4)]));
    node.send(&ToRunner::Throttle(100));
    node.wait_for([3]);
    node.send(&ToRunner::Resume(vec![AttemptId(4)]));
    node.wait_for([4]);
    node.send(&ToRunner::Resume(vec![AttemptId(1)]));
    let at = node.progress[&AttemptId(1)].done;
    while node.progress[&AttemptId(1)].done == at {
        assert!(node.hear(), "a resumed attempt goes on");
    }
    node.send(&ToRunner::Cancel(vec![AttemptId(1)]));
    node.wait_for([1]);
    drop(node);
    runner.join().unwrap().unwrap();
}

#[test]
fn progress_is_merged_and_states_are_kept_seldom() {
    let (mut node, runner) = start(1, Duration::ZERO);
    node.load(artefact());
    let begun = Instant::now();
    node.send(&ToRunner::Run(vec![run(1, &[200])]));
    node.wait_for([1]);
    let periods = begun.elapsed().as_millis() / 100;
    let whole = node.finished[&AttemptId(1)].clone();
    assert_eq!(
        node.progress[&AttemptId(1)].done,
        20_000_000,
        "the last one is told"
    );
    // It goes along with every state, and by itself only now and then.
    let (frames, states) = (node.progress_frames, node.states.len());
    assert!(
        frames as u128 <= states as u128 + periods + 2,
        "{frames} beside {states} states in {periods} periods"
    );
    assert!(states > 0);

    // Resuming from a state of one runner in another one.
    let state = node.states.last().cloned();
    drop(node);
    runner.join().unwrap().unwrap();
    let (mut node, runner) = start(1, SELDOM);
    node.load(artefact());
    let mut resumed = run(2, &[200]);
    resumed.resume = state;
    node.send(&ToRunner::Run(vec![resumed]));
    node.wait_for([2]);
    assert_eq!(*node.outcome(2), whole.outcome);
    assert!(node.states.is_empty(), "none is due within the hour");
    drop(node);
    runner.join().unwrap().unwrap();
}

#[test]
fn hanging_up_ends_a_runner_whatever_it_does() {
    for pause in [false, true] {
        let (mut node, runner) = start(2, SELDOM);
        node.load(artefact());
        node.send(&ToRunner::Run((0..20).map(|n| run(n, &[255; 9])).collect()));
        while node.progress.is_empty() {
            assert!(node.hear());
        }
        if pause {
            node.send(&ToRunner::Pause((0..20).map(AttemptId).collect()));
        }
        let began = Instant::now();
        drop(node);
        runner.join().unwrap().unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn bytes_that_are_no_frame_end_it_with_the_reason() {
    for (bytes, oversize) in [
        (&[5, 0, 0, 0, 9, 9, 9, 9, 9][..], false),
        (&u32::MAX.to_le_bytes()[..], true),
        (&[1, 0, 0, 0][..], false),
    ] {
        let (mut node, runner) = start(1, SELDOM);
        node.stream.write_all(bytes).unwrap();
        drop(node);
        let error = runner.join().unwrap().unwrap_err();
        assert_eq!(error.to_string().contains("at most"), oversize, "{error}");
    }
}

#[test]
fn pulley_gives_the_same_through_a_runner() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let compiler = std::thread::spawn(move || {
        serve_compiler(
            theirs,
            &CompilerOptions {
                confine: Confine::No,
                profile: Profile::Pulley,
                ..CompilerOptions::default()
            },
        )
    });
    let CompileReply::Compiled { artefact: pulley } = compile(ours, component()) else {
        panic!("not compiled");
    };
    compiler.join().unwrap().unwrap();
    let fuel =
        [(Profile::Native, artefact()), (Profile::Pulley, pulley)].map(|(profile, artefact)| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let runner = std::thread::spawn(move || {
                serve_runner(
                    theirs,
                    &RunnerOptions {
                        confine: Confine::No,
                        profile,
                        ..RunnerOptions::default()
                    },
                )
            });
            let mut node = Node::new(ours);
            node.load(artefact);
            node.send(&ToRunner::Run(vec![run(1, &[3, 1, 4])]));
            node.wait_for([1]);
            assert_eq!(*node.outcome(1), echoed(&[3, 1, 4]));
            let fuel = node.finished[&AttemptId(1)].fuel_used;
            drop(node);
            runner.join().unwrap().unwrap();
            fuel
        });
    assert_eq!(fuel[0], fuel[1]);
}
