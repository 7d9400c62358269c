//! Harm to the index of ended jobs, judged: built again to an equal hash, and never anything else shown.

use crate::campaign::Found;
use crate::number;
use crate::report::{self, Figure};

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let corruptions = number(args, "--corruptions", 100)?;
    let seed = number(args, "--seed", 1)?;
    let found = Found::by(
        &["--lib"],
        "tests::index::a_harmed_index_is_built_again_to_an_equal_hash",
        &[
            ("HEARTH_INDEX_CORRUPTIONS", corruptions),
            ("HEARTH_SEED", seed),
        ],
    )?;
    let value = |name: &str| found.value(name);
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
    )?;
    found.passed()
}
