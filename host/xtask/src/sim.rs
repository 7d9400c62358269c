//! The simulator, judged.

use std::process::Stdio;

use serde_json::Value;

use crate::report::{self, Figure};
use crate::{number, shell};

/// Hours of the campaign in which each kind of fault must come up this often.
const FAULTS_EACH: f64 = 1_000.0;
const FAULTS_HOURS: f64 = 200.0;

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let hours = number(args, "--hours", 200)?;
    let seed = number(args, "--seed", 1)?;
    let crash_runs = number(args, "--crash-runs", 20)?;
    shell::run(shell::cargo().args(["build", "--package", "hearth-sim"]))?;
    // The same seed twice, side by side: the two must agree in everything.
    let again = simulate(hours, seed, 0)?;
    let found = figures(simulate(hours, seed, crash_runs)?)?;
    let again = figures(again)?;
    let same = ["hash", "events", "records", "faults"]
        .iter()
        .all(|name| found[*name] == again[*name]);

    let value = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    println!(
        "seed {seed}, hash {}",
        found["hash"].as_str().unwrap_or("?")
    );
    for text in found["violation-texts"].as_array().into_iter().flatten() {
        println!("violation: {}", text.as_str().unwrap_or("?"));
    }
    let each = (FAULTS_EACH * hours as f64 / FAULTS_HOURS)
        .min(FAULTS_EACH)
        .floor();
    let mut table = vec![
        Figure::at_least("hours", value("hours"), "h", hours as f64),
        Figure::at_least(
            "events per simulated hour",
            value("events-per-hour"),
            "",
            40_000.0,
        ),
        Figure::at_most("violations", value("violations"), "", 0.0),
        Figure::at_least(
            "same seed twice, same hash",
            f64::from(u8::from(same)),
            "",
            1.0,
        ),
        Figure::at_least(
            "runs with a crash after every step",
            value("crash-runs"),
            "",
            crash_runs as f64,
        ),
        Figure::info(
            "crash points replayed to the same hash",
            value("crash-points"),
            "",
        ),
        Figure::info("events", value("events"), ""),
        Figure::info("records", value("records"), ""),
        Figure::info("tasks settled", value("tasks-settled"), ""),
        Figure::info("whole journals replayed", value("replays"), ""),
    ];
    let faults = found["faults"].as_object().into_iter().flatten();
    table.extend(faults.map(|(kind, count)| {
        Figure::at_least(
            format!("fault: {kind}"),
            count.as_f64().unwrap_or(f64::NAN),
            "",
            each,
        )
    }));
    report::publish("sim", &table)
}

/// Starts the simulator, which writes its figures to a pipe.
fn simulate(hours: u64, seed: u64, crash_runs: u64) -> Result<std::process::Child, String> {
    let program = shell::target().join("debug").join("hearth-sim");
    std::process::Command::new(&program)
        .args(["--hours", &hours.to_string(), "--seed", &seed.to_string()])
        .args(["--crash-runs", &crash_runs.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("starting {}: {error}", program.display()))
}

/// Waits for the simulator. A run with violations exits with a failure and prints its figures too.
fn figures(child: std::process::Child) -> Result<Value, String> {
    let output = child
        .wait_with_output()
        .map_err(|error| format!("the simulator: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).map_err(|error| format!("the simulator's figures: {error}\n{text}"))
}
