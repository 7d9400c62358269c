//! A node's side of the stream, and guests to run.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use hearth_wire::message::Progress;
use hearth_wire::runner::{
    CompileReply, CompileRequest, Finished, FromRunner, Ready, Resume, Run, RunOutcome, ToRunner,
};
use hearth_wire::{AttemptId, Digest, TaskLimits};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Echoes its input; before that it counts to 100,000 times the input's first byte, for ever if that is 255,
/// and saves and reports at every 10,000.
pub(crate) fn component() -> Vec<u8> {
    component_with("")
}

/// The same with more fields in its module.
pub(crate) fn component_with(items: &str) -> Vec<u8> {
    let mut module = wat::parse_str(format!(
        r#"(module
      (import "hearth:task/progress@0.1.0" "report" (func $report (param i64 i32 i64)))
      (import "hearth:task/progress@0.1.0" "log" (func $log (param i32 i32 i32)))
      (import "hearth:task/checkpoint@0.1.0" "save" (func $save (param i32 i32)))
      (memory (export "memory") 40)
      (data (i32.const 16) "text/plain")
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
      (func (export "hearth:task/runner@0.1.0#run") (param i32 i32) (param $body i32) (param $len i32) (result i32)
        (local $n i64) (local $rounds i64)
        (local.set $rounds (i64.mul (i64.const 100000) (i64.load8_u (local.get $body))))
        (if (i32.eq (i32.load8_u (local.get $body)) (i32.const 255)) (then
          (local.set $rounds (i64.const -1))))
        (call $log (i32.const 1) (i32.const 16) (i32.const 10))
        (block $done (loop $l
          (br_if $done (i64.eq (local.get $n) (local.get $rounds)))
          (local.set $n (i64.add (local.get $n) (i64.const 1)))
          (if (i64.eqz (i64.rem_u (local.get $n) (i64.const 10000))) (then
            (i64.store (i32.const 4096) (local.get $n))
            (call $save (i32.const 4096) (i32.const 8))
            (call $report (local.get $n) (i32.const 1) (local.get $rounds))))
          (br $l)))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store (i32.const 1028) (i32.const 16))
        (i32.store (i32.const 1032) (i32.const 10))
        (i32.store (i32.const 1036) (local.get $body))
        (i32.store (i32.const 1040) (local.get $len))
        (i32.const 1024)) {items})"#,
    ))
    .unwrap();
    let mut resolve = Resolve::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_dir(folder).unwrap();
    let world = resolve.select_world(&[package], Some("task")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

pub(crate) fn limits() -> TaskLimits {
    TaskLimits {
        fuel: 1 << 40,
        ..TaskLimits::default()
    }
}

pub(crate) fn compile_request(component: Vec<u8>) -> CompileRequest {
    CompileRequest {
        component,
        imports: ["checkpoint", "progress"]
            .map(|name| format!("hearth:task/{name}@0.1.0"))
            .to_vec(),
        limits: limits(),
    }
}

/// The node's end of a stream to a compile process.
pub(crate) fn compile(mut stream: UnixStream, component: Vec<u8>) -> CompileReply {
    hearth_runner::write_frame(&mut stream, &compile_request(component)).unwrap();
    hearth_runner::read_frame(&mut stream).unwrap().unwrap()
}

pub(crate) fn run(attempt: u64, input: &[u8]) -> Run {
    Run {
        attempt: AttemptId(attempt),
        component: Digest::of(b"component"),
        content: Digest::of(b"content"),
        limits: limits(),
        seed: Digest::default(),
        media_type: "text/plain".to_owned(),
        input: input.to_vec(),
        resume: None,
    }
}

/// The node's end of a stream to a runner.
pub(crate) struct Node {
    pub(crate) stream: UnixStream,
    pub(crate) ready: Ready,
    pub(crate) finished: BTreeMap<AttemptId, Finished>,
    pub(crate) not_loaded: BTreeMap<AttemptId, String>,
    pub(crate) progress: BTreeMap<AttemptId, Progress>,
    pub(crate) states: Vec<Resume>,
    pub(crate) logs: usize,
    /// Frames with progress, to see that they are merged.
    pub(crate) progress_frames: usize,
}

impl Node {
    pub(crate) fn new(mut stream: UnixStream) -> Self {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let Some(FromRunner::Ready(ready)) = hearth_runner::read_frame(&mut stream).unwrap() else {
            panic!("a runner introduces itself first");
        };
        Self {
            stream,
            ready,
            finished: BTreeMap::new(),
            not_loaded: BTreeMap::new(),
            progress: BTreeMap::new(),
            states: Vec::new(),
            logs: 0,
            progress_frames: 0,
        }
    }

    pub(crate) fn send(&mut self, message: &ToRunner) {
        hearth_runner::write_frame(&mut self.stream, message).unwrap();
    }

    pub(crate) fn load(&mut self, artefact: Vec<u8>) {
        self.send(&ToRunner::Load {
            component: Digest::of(b"component"),
            artefact,
        });
    }

    /// Reads one frame; false at the end of the stream.
    pub(crate) fn hear(&mut self) -> bool {
        let Some(message) = hearth_runner::read_frame(&mut self.stream).unwrap() else {
            return false;
        };
        match message {
            FromRunner::Ready(_) => panic!("introduced twice"),
            FromRunner::Finished(list) => {
                for finished in list {
                    let attempt = finished.attempt;
                    assert!(
                        self.finished.insert(attempt, finished).is_none(),
                        "{attempt} ended twice"
                    );
                }
            }
            FromRunner::NotLoaded { attempt, text } => {
                self.not_loaded.insert(attempt, text);
            }
            FromRunner::Progress(list) => {
                self.progress_frames += 1;
                self.progress.extend(
                    list.into_iter()
                        .map(|progress| (progress.attempt, progress)),
                );
            }
            FromRunner::Log { .. } => self.logs += 1,
            FromRunner::Checkpoint {
                state, fuel_used, ..
            } => self.states.push(Resume { state, fuel_used }),
        }
        true
    }

    pub(crate) fn wait_for(&mut self, attempts: impl IntoIterator<Item = u64>) {
        for attempt in attempts {
            while !self.finished.contains_key(&AttemptId(attempt)) {
                assert!(
                    self.hear(),
                    "the runner hung up before attempt {attempt} ended"
                );
            }
        }
    }

    pub(crate) fn outcome(&self, attempt: u64) -> &RunOutcome {
        &self.finished[&AttemptId(attempt)].outcome
    }
}

pub(crate) fn echoed(input: &[u8]) -> RunOutcome {
    RunOutcome::Returned {
        media_type: "text/plain".to_owned(),
        bytes: input.to_vec(),
    }
}
