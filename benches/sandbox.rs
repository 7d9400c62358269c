//! One attempt in the sandbox: a fresh instance of a tiny guest, its run, its end.

#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use hearth_sandbox::{
    Gate, NoHooks, Profile, RunRequest, Sandbox, SandboxConfig, admit, imports_of,
};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Digest, TaskLimits};

/// Returns at once: what is left is what an attempt costs by itself, fuel and epoch on as always.
const TINY: hostile::Guest = hostile::Guest {
    name: "tiny",
    wat: r#"(module
      (memory (export "memory") 2)
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
      (data (i32.const 16) "\00\00\00\00" "\40\00\00\00\0a\00\00\00" "\50\00\00\00\02\00\00\00")
      (data (i32.const 64) "text/plain")
      (data (i32.const 80) "ok")
      (func (export "hearth:task/runner@0.1.0#run") (param i32 i32 i32 i32) (result i32)
        (i32.const 16)))"#,
    shape: hostile::Shape::World("task"),
    expected: hostile::Expected::Returned(b"ok"),
};

fn attempt(criterion: &mut Criterion) {
    let component = TINY.component().unwrap();
    let request = RunRequest {
        content: Digest::default(),
        seed: Digest::default(),
        limits: TaskLimits::default(),
        media_type: "text/plain".to_owned(),
        input: vec![b'.'; 64],
        resume: None,
    };
    let mut group = criterion.benchmark_group("sandbox");
    for profile in [Profile::Native, Profile::Pulley] {
        let sandbox = Sandbox::new(&SandboxConfig {
            profile,
            ..SandboxConfig::default()
        })
        .unwrap();
        let imports = imports_of(&component).unwrap();
        let admitted = admit(&component, &imports, &request.limits).unwrap();
        let artefact = sandbox.compile(&admitted).unwrap();
        let program = sandbox.load(&artefact).unwrap();
        group.bench_function(
            format!("attempt of a guest that returns at once, {profile:?}"),
            |bencher| {
                bencher.iter(|| {
                    let ran =
                        sandbox.run_blocking(&program, request.clone(), &Gate::new(), NoHooks);
                    assert!(matches!(ran.outcome, RunOutcome::Returned { .. }));
                });
            },
        );
        group.bench_function(format!("compile, {profile:?}"), |bencher| {
            bencher.iter(|| {
                sandbox
                    .compile(&admit(&component, &imports, &request.limits).unwrap())
                    .unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, attempt);
criterion_main!(benches);
