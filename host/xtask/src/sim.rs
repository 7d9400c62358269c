//! The simulator, judged.

use std::process::{Child, Command, Stdio};

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
    build()?;
    // The same seed twice, side by side: the two must agree in everything.
    let (hours_text, seed_text) = (hours.to_string(), seed.to_string());
    let args = ["--hours", &hours_text, "--seed", &seed_text];
    let again = start(&args)?;
    let crash_runs_text = crash_runs.to_string();
    let more = ["--crash-runs", &crash_runs_text];
    let found = figures(start(&[&args[..], &more].concat())?)?;
    let again = figures(again)?;
    let same = ["hash", "events", "records", "faults"]
        .iter()
        .all(|name| found[*name] == again[*name]);

    let value = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    println!(
        "seed {seed}, hash {}",
        found["hash"].as_str().unwrap_or("?")
    );
    show_violations(&found);
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

/// Builds the simulator.
pub(crate) fn build() -> Result<(), String> {
    shell::run(shell::cargo().args(["build", "--package", "hearth-sim"]))
}

/// Says what must not be.
pub(crate) fn show_violations(found: &Value) {
    for text in found["violation-texts"].as_array().into_iter().flatten() {
        println!("violation: {}", text.as_str().unwrap_or("?"));
    }
}

/// Starts the simulator, which writes its figures to a pipe.
pub(crate) fn start(args: &[&str]) -> Result<Child, String> {
    let program = shell::target().join("debug").join("hearth-sim");
    Command::new(&program)
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("starting {}: {error}", program.display()))
}

/// Waits for the simulator. A run with violations exits with a failure and prints its figures too.
pub(crate) fn figures(child: Child) -> Result<Value, String> {
    let output = child
        .wait_with_output()
        .map_err(|error| format!("the simulator: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).map_err(|error| format!("the simulator's figures: {error}\n{text}"))
}
