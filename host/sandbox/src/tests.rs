//! Guests in text form, run on every profile.

mod checkpoints;
mod fitness;
mod gates;
mod guests;
mod outcomes;
mod wasi;

use std::sync::LazyLock;

use hearth_wire::runner::RunOutcome;
use hearth_wire::{Digest, TaskLimits};

use crate::*;

static NATIVE: LazyLock<Sandbox> = LazyLock::new(|| sandbox(Profile::Native, Allocation::Pooled));
static ON_DEMAND: LazyLock<Sandbox> =
    LazyLock::new(|| sandbox(Profile::Native, Allocation::OnDemand));
static PULLEY: LazyLock<Sandbox> = LazyLock::new(|| sandbox(Profile::Pulley, Allocation::Auto));

fn sandbox(profile: Profile, allocation: Allocation) -> Sandbox {
    Sandbox::new(&SandboxConfig {
        profile,
        attempts: 16,
        allocation,
    })
    .unwrap()
}

fn request(input: &[u8]) -> RunRequest {
    RunRequest {
        content: Digest::of(b"content"),
        seed: Digest::of(b"seed"),
        limits: TaskLimits {
            fuel: 50_000_000,
            memory_bytes: 4 << 20,
            table_elements: 1_000,
            output_bytes: 1 << 20,
            log_bytes: 4_096,
            checkpoint_bytes: 64 << 10,
        },
        media_type: "text/plain".to_owned(),
        input: input.to_vec(),
        resume: None,
    }
}

fn program(sandbox: &Sandbox, component: &[u8]) -> Program {
    let imports = imports_of(component).unwrap();
    let admitted = admit(component, &imports, &request(b"").limits).unwrap();
    sandbox
        .load(&Artefact::from_sealed(
            sandbox.compile(&admitted).unwrap().into_bytes(),
        ))
        .unwrap()
}

/// Runs on all profiles and checks that they agree to the byte and to the unit of fuel.
fn run(component: &[u8], request: &RunRequest) -> Ran {
    let ran = |sandbox: &Sandbox| {
        let program = program(sandbox, component);
        sandbox.run_blocking(&program, request.clone(), &Gate::new(), NoHooks)
    };
    let native = ran(&NATIVE);
    for (name, other) in [("pulley", ran(&PULLEY)), ("on demand", ran(&ON_DEMAND))] {
        assert_eq!(native.outcome, other.outcome, "native and {name}");
        if native.outcome != guests::STACK_OVERFLOW {
            assert_eq!(native.fuel_used, other.fuel_used, "native and {name}");
        }
        assert_eq!(native.log_bytes_dropped, other.log_bytes_dropped);
    }
    native
}

fn returned(bytes: &[u8]) -> RunOutcome {
    RunOutcome::Returned {
        media_type: "text/plain".to_owned(),
        bytes: bytes.to_vec(),
    }
}
