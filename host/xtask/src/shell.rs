//! Starting other programs, and what a machine must have first.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// The target of guest components.
const GUEST_TARGET: &str = "wasm32-unknown-unknown";

/// The repository's root, from where this program was built.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The target folder that cargo uses here.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The `hearth` program of the one profile that demo and tests share.
pub(crate) fn hearth() -> PathBuf {
    target().join("debug").join("hearth")
}

/// The cargo that started us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo tells us about ourselves is nothing to those below: some build scripts run again when it
    // is there in one call and not in the next, and half of the workspace is compiled again with them.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a command to its end with our own output, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = show(command);
    eprintln!("xtask: {shown}");
    let status = command
        .status()
        .map_err(|error| format!("starting {shown}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}

/// Runs a command to its end and gives its standard output; its errors go to ours.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let (status, text) = finish(command)?;
    if status.success() {
        Ok(text)
    } else {
        Err(format!("{}: {status}\n{text}", show(command)))
    }
}

/// The same for a command whose failure says something too: how it failed, if it did, and what it printed.
pub(crate) fn output_of_either(command: &mut Command) -> Result<(Option<String>, String), String> {
    let (status, text) = finish(command)?;
    let failure = (!status.success()).then(|| format!("{}: {status}", show(command)));
    Ok((failure, text))
}

fn finish(command: &mut Command) -> Result<(ExitStatus, String), String> {
    let shown = show(command);
    eprintln!("xtask: {shown}");
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("starting {shown}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status, text))
}

fn show(command: &Command) -> String {
    let mut shown = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    for arg in command.get_args() {
        shown.push(' ');
        shown.push_str(&arg.to_string_lossy());
    }
    shown
}

/// Adds the guest target when the toolchain lacks it.
pub(crate) fn ensure_guest_target() -> Result<(), String> {
    ensure_target(GUEST_TARGET)
}

/// Adds a target when the toolchain lacks it.
pub(crate) fn ensure_target(target: &str) -> Result<(), String> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    if Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(target)
        .exists()
    {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", target])).map_err(|error| {
        format!(
            "{error}\nthe target {target} is missing: install it with `rustup target add {target}`"
        )
    })
}

/// Builds the `hearth` program.
pub(crate) fn build_hearth() -> Result<PathBuf, String> {
    run(cargo().args(["build", "--package", "hearth", "--bin", "hearth"]))?;
    Ok(hearth())
}
