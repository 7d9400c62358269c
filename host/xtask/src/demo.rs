//! The demo: everything is built, then the product shows itself.

use std::process::Command;

use crate::{guests, shell};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let folder = guests::build()?;
    let out = shell::target().join("demo");
    shell::run(
        Command::new(shell::hearth())
            .arg("demo")
            .arg("--tasks")
            .arg(folder)
            .arg("--out")
            .arg(out)
            .args(args),
    )
}
