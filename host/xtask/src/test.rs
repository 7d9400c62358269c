//! All tests, with everything that they need.

use crate::{guests, shell};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    guests::build()?;
    // The pure floors build for a target that has no operating system: that is what pure means.
    shell::run(shell::cargo().args([
        "build",
        "--target",
        "wasm32-unknown-unknown",
        "--package",
        "hearth-wire",
        "--package",
        "hearth-core",
    ]))?;
    shell::run(
        shell::cargo()
            .args(["test", "--workspace", "--no-fail-fast", "--"])
            .args(args),
    )
}
