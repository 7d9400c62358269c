//! The simulator, judged.

use std::process::{Child, Command, Stdio};

use serde_json::{Number, Value};

use crate::report::{self, Figure};
use crate::{number, shell};

/// Hours of the campaign in which each kind of fault must come up this often.
const FAULTS_EACH: f64 = 1_000.0;
const FAULTS_HOURS: f64 = 200.0;

/// Hours that are lived through twice, to show that a seed decides everything: all of an ordinary campaign.
const TWICE_HOURS: u64 = 200;

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let hours = number(args, "--hours", 200)?;
    let seed = number(args, "--seed", 1)?;
    let crash_runs = number(args, "--crash-runs", 20)?;
    build()?;
    // The same seed twice, side by side: the two must agree in everything.
    let twice = hours.min(TWICE_HOURS);
    let again = simulate(seed, twice, 0)?;
    let first = figures(simulate(seed, twice, crash_runs)?)?;
    let again = figures(again)?;
    let same = ["hash", "events", "records", "faults"]
        .iter()
        .all(|name| first[*name] == again[*name]);
    let hash = first["hash"].as_str().unwrap_or("?").to_owned();
    let mut found = first;
    // The rest from two other seeds, side by side too.
    let rest = hours - twice;
    if rest > 0 && found["violations"] == 0 {
        let half = simulate(seed.wrapping_add(1), rest / 2, 0)?;
        let other = figures(simulate(seed.wrapping_add(2), rest - rest / 2, 0)?)?;
        found = sum(&sum(&found, &figures(half)?), &other);
    }

    let value = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    println!("seed {seed}, hash of its first {twice} hours {hash}");
    show_violations(&found);
    let each = (FAULTS_EACH * hours as f64 / FAULTS_HOURS)
        .min(FAULTS_EACH)
        .floor();
    let mut table = vec![
        Figure::at_least("hours", value("hours"), "h", hours as f64),
        Figure::at_least(
            "events per simulated hour",
            value("events") / value("hours"),
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

fn simulate(seed: u64, hours: u64, crash_runs: u64) -> Result<Child, String> {
    let numbers = [hours, seed, crash_runs].map(|number| number.to_string());
    let [hours, seed, crash_runs] = &numbers;
    start(&["--hours", hours, "--seed", seed, "--crash-runs", crash_runs])
}

/// The figures of two runs together: numbers added, lists one behind the other.
fn sum(left: &Value, right: &Value) -> Value {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            let both = left.iter().map(|(name, value)| {
                let other = right.get(name).unwrap_or(&Value::Null);
                (name.clone(), sum(value, other))
            });
            Value::Object(both.collect())
        }
        (Value::Array(left), Value::Array(right)) => [&left[..], right].concat().into(),
        (Value::Number(left), Value::Number(right)) => {
            let whole = |number: &Number| number.as_u64().unwrap_or_default();
            whole(left).saturating_add(whole(right)).into()
        }
        _ => left.clone(),
    }
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
