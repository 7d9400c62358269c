//! Harm to the index of ended jobs, judged: built again to an equal hash, and never anything else shown.

use serde_json::Value;

use crate::report::{self, Figure};
use crate::{number, shell};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let corruptions = number(args, "--corruptions", 100)?;
    let seed = number(args, "--seed", 1)?;
    let test = "tests::index::a_harmed_index_is_built_again_to_an_equal_hash";
    let mut command = shell::cargo();
    // The whole workspace, so that nothing is compiled that the tests do not need anyway.
    command.args(["test", "--quiet", "--workspace", "--lib", test, "--"]);
    command.args(["--exact", "--nocapture"]);
    command
        .env("HEARTH_INDEX_CORRUPTIONS", corruptions.to_string())
        .env("HEARTH_SEED", seed.to_string());
    // Whatever is shown wrongly fails as a test, and then there are no figures.
    let text = shell::output(&mut command)?;
    let line = text
        .lines()
        .find_map(|line| line.trim_start_matches('.').trim().strip_prefix("figures "));
    let found: Value = line
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| format!("the campaign printed no figures\n{text}"))?;
    let value = |name: &str| found[name].as_f64().unwrap_or(f64::NAN);
    report::publish(
        "index",
        &[
            Figure::at_least("corruptions", value("corruptions"), "", corruptions as f64),
            Figure::at_least(
                "built again to an equal hash",
                value("built again"),
                "",
                1.0,
            ),
            Figure::info("caught up to an equal hash", value("caught up"), ""),
            Figure::info("without effect, equal hash", value("harmless"), ""),
            Figure::at_most("silent", value("silent"), "", 0.0),
        ],
    )
}
