//! Power losses of the store, judged.

use crate::report::{self, Figure};
use crate::{number, sim};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let points = number(args, "--points", 20_000)?;
    let seed = number(args, "--seed", 1)?;
    sim::build()?;
    let (points_text, seed_text) = (points.to_string(), seed.to_string());
    let args = ["--power-points", &points_text, "--seed", &seed_text];
    let found = sim::figures(sim::start(&args)?)?;
    sim::show_violations(&found);
    let value = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    let info = |text: &str, name: &str| Figure::info(text, value(name), "");
    let none = |text: &str, name: &str| Figure::at_most(text, value(name), "", 0.0);
    report::publish(
        "power",
        &[
            Figure::at_least("power-loss points", value("points"), "", points as f64),
            none("acknowledged records lost", "lost-records"),
            none("snapshots lost", "lost-snapshots"),
            none("blobs lost", "lost-blobs"),
            none("refusals that were not justified", "refused"),
            none("violations, those of kept seeds included", "violations"),
            info("chains of lives, each struck elsewhere first", "chains"),
            info("processes killed", "killed"),
            info("disks failed", "failed-disks"),
            info("losses that cost records nobody was told of", "torn"),
            info("starts from a snapshot", "restored"),
            info("acknowledged records found again", "records"),
            info("snapshots found again", "snapshots"),
            info("blobs found again", "blobs"),
        ],
    )
}
