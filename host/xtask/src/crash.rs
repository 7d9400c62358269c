//! kill -9 of a real coordinator under load, judged from the client's own log.

use serde_json::Value;

use crate::report::{self, Figure};
use crate::{number, shell};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let kills = number(args, "--kills", 30)?;
    let seed = number(args, "--seed", 1)?;
    let test = "durability::kills_under_load_lose_no_acknowledged_task";
    let mut command = shell::cargo();
    command.args([
        "test",
        "--quiet",
        "--package",
        "hearth",
        "--test",
        "integration",
        test,
        "--",
        "--exact",
        "--nocapture",
    ]);
    command
        .env("HEARTH_KILLS", kills.to_string())
        .env("HEARTH_SEED", seed.to_string());
    // A campaign that lost something fails as a test and has figures all the same.
    let text = shell::output_of_either(&mut command)?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start_matches('.').trim().strip_prefix("figures "));
    let found: Value = line
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| format!("the campaign printed no figures\n{text}"))?;
    let value = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    report::publish(
        "crash",
        &[
            Figure::at_least("kills", value("kills"), "", kills as f64),
            Figure::info("of them in a recovery", value("kills in recovery"), ""),
            Figure::at_least("jobs acknowledged", value("jobs acknowledged"), "", 1.0),
            Figure::info("tasks acknowledged", value("tasks acknowledged"), ""),
            Figure::at_most("acknowledged tasks lost", value("tasks lost"), "", 0.0),
            Figure::at_most("tasks accepted twice", value("tasks twice"), "", 0.0),
            Figure::at_least("results that clients saw", value("results seen"), "", 1.0),
            Figure::at_most("of them lost or changed", value("results changed"), "", 0.0),
            Figure::info("restart p50", value("restart p50 s"), "s"),
            Figure::at_most("restart max", value("restart max s"), "s", 3.0),
        ],
    )
}
