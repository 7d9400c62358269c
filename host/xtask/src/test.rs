//! All tests, with everything that they need.

use crate::{guests, shell};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    guests::build()?;
    // The pure floors build for a target that has no operating system: that is what pure means.
    shell::run(shell::cargo().args([
        "build",
        "--locked",
        "--target",
        "wasm32-unknown-unknown",
        "--package",
        "hearth-wire",
        "--package",
        "hearth-core",
    ]))?;
    // Without coordinator and network: `LocalHost` alone, as programs embed it.
    shell::run(shell::cargo().args([
        "check",
        "--locked",
        "--package",
        "hearth",
        "--no-default-features",
        "--lib",
        "--example",
        "embed",
    ]))?;
    shell::run(
        shell::cargo()
            .args(["test", "--locked", "--workspace", "--no-fail-fast", "--"])
            .args(args),
    )
}
