//! Linux: no new privileges, resource limits, landlock, seccomp, in that order, since each of the later
//! ones takes away what an earlier one would need.

use hearth_wire::runner::Confinement;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::set_no_new_privs;

use super::{ConfineError, Limits, syscalls};

/// Open files: standard streams, the stream to the node and its copy, and a few to spare.
const OPEN_FILES: u64 = 32;

pub(super) fn confine(limits: Limits) -> Result<Confinement, ConfineError> {
    set_no_new_privs(true).map_err(|error| ConfineError(format!("no new privileges: {error}")))?;
    let rlimits = set_limits(limits)?;
    let landlock = landlock()?;
    let seccomp = syscalls::filter()?;
    Ok(Confinement {
        no_new_privileges: true,
        landlock,
        seccomp,
        rlimits,
    })
}

/// The number of processes is not limited here: that limit counts all processes of the user, and seccomp
/// allows threads only.
fn set_limits(limits: Limits) -> Result<bool, ConfineError> {
    let mut rows = vec![(Resource::Core, 0), (Resource::Nofile, OPEN_FILES)];
    rows.extend(limits.memory_bytes.map(|bytes| (Resource::As, bytes)));
    rows.extend(limits.cpu_seconds.map(|seconds| (Resource::Cpu, seconds)));
    for (resource, value) in rows {
        // Never above what the parent allows.
        let maximum = rustix::process::getrlimit(resource).maximum;
        let value = maximum.map_or(value, |maximum| value.min(maximum));
        // At the maximum of CPU time the system kills as it kills for want of memory; a second before
        // it, by a signal that tells the node why.
        let above = u64::from(resource == Resource::Cpu);
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(maximum.map_or(value + above, |maximum| maximum.min(value + above))),
        };
        setrlimit(resource, limit)
            .map_err(|error| ConfineError(format!("limit {resource:?}: {error}")))?;
    }
    Ok(true)
}

/// Every right that landlock knows is handled and none is granted: no file, no TCP port, no signal or
/// abstract socket out of the process. Older kernels know fewer rights; `false` if they know none.
pub(super) fn landlock() -> Result<bool, ConfineError> {
    let abi = ABI::V6;
    let fail = |error: landlock::RulesetError| ConfineError(format!("landlock: {error}"));
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .map_err(fail)?
        .handle_access(AccessNet::from_all(abi))
        .map_err(fail)?
        .scope(Scope::from_all(abi))
        .map_err(fail)?
        .create()
        .map_err(fail)?
        .restrict_self()
        .map_err(fail)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}
