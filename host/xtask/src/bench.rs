//! The criterion benches, and the end-to-end bench with its figures.

use serde_json::Value;

use crate::report::{self, Figure};
use crate::shell;

/// Benches of single crates; criterion keeps their history under `target/criterion`.
const PARTS: [&str; 4] = ["core", "sandbox", "store", "wire"];

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    shell::ensure_guest_target()?;
    let quick = args.iter().any(|arg| arg == "--quick");
    for part in PARTS {
        let mut command = shell::cargo();
        command.args(["bench", "--package", "hearth", "--bench", part, "--"]);
        if quick {
            command.args(["--warm-up-time", "0.5", "--measurement-time", "1"]);
        }
        shell::run(&mut command)?;
    }
    let mut command = shell::cargo();
    command.args([
        "bench",
        "--package",
        "hearth",
        "--bench",
        "end_to_end",
        "--",
    ]);
    if quick {
        command.arg("--quick");
    }
    let text = shell::output(&mut command)?;
    let line = text
        .lines()
        .find(|line| line.starts_with('{'))
        .ok_or("the end-to-end bench printed no figures")?;
    let found: Value =
        serde_json::from_str(line).map_err(|error| format!("the figures: {error}"))?;
    let figures: Vec<_> = found
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| Figure::info(name.as_str(), value.as_f64().unwrap_or(f64::NAN), ""))
        .collect();
    report::publish("bench", &figures)
}
