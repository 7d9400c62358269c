//! The simulator, judged.

use crate::report::{self, Figure};
use crate::{number, shell};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let hours = number(args, "--hours", 200)?;
    let seed = number(args, "--seed", 1)?;
    let json = shell::output(shell::cargo().args(["run", "--quiet", "--package", "hearth-sim", "--"]).args([
        "--hours",
        &hours.to_string(),
        "--seed",
        &seed.to_string(),
    ]))?;
    let figures: serde_json::Value =
        serde_json::from_str(&json).map_err(|error| format!("the simulator's figures: {error}\n{json}"))?;
    let _ = figures;
    report::publish("sim", &[Figure::info("hours", hours as f64, "h")])
}
