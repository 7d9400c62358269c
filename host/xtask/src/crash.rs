//! kill -9 of a real coordinator under load, judged from the client's own log.

use crate::campaign::Found;
use crate::number;
use crate::report::{self, Figure};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let kills = number(args, "--kills", 30)?;
    let seed = number(args, "--seed", 1)?;
    let found = Found::by(
        &["--test", "integration"],
        "durability::kills_under_load_lose_no_acknowledged_task",
        &[("HEARTH_KILLS", kills), ("HEARTH_SEED", seed)],
    )?;
    let value = |name: &str| found.value(name);
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
    )?;
    found.passed()
}
