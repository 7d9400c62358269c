//! One attempt in the sandbox: a fresh instance of a tiny guest, its run, its end.

#![allow(clippy::unwrap_used, missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use hearth_sandbox::{
    Gate, NoHooks, Profile, RunRequest, Sandbox, SandboxConfig, admit, imports_of,
};
use hearth_wire::runner::RunOutcome;
use hearth_wire::{Digest, TaskLimits};

fn attempt(criterion: &mut Criterion) {
    let guest = hostile::GUESTS
        .iter()
        .find(|guest| guest.name == "log-flood")
        .unwrap();
    let component = guest.component().unwrap();
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
            format!("attempt that floods its log, {profile:?}"),
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
