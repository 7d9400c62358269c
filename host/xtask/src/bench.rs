//! The criterion benches, and those of the whole program with their figures.

use serde_json::Value;

use crate::report::{self, Figure};
use crate::shell;

/// Benches of single crates; criterion keeps their history under `target/criterion`.
const PARTS: [&str; 4] = ["core", "sandbox", "store", "wire"];

/// Benches of the whole program, which print their figures.
const WHOLE: [&str; 2] = ["end_to_end", "restart"];

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
    let mut figures = Vec::new();
    for whole in WHOLE {
        let mut command = shell::cargo();
        command.args(["bench", "--package", "hearth", "--bench", whole, "--"]);
        if quick {
            command.arg("--quick");
        }
        let text = shell::output(&mut command)?;
        let line = text.lines().find(|line| line.starts_with('['));
        let line = line.ok_or(format!("the bench {whole} printed no figures"))?;
        let found: Vec<Value> =
            serde_json::from_str(line).map_err(|error| format!("the figures: {error}"))?;
        figures.extend(found.iter().filter_map(of_whole));
    }
    figures.extend(parts()?);
    report::publish("bench", &figures)
}

/// Units that these benches use.
const UNITS: [&str; 3] = ["1/s", "ms", "s"];

fn of_whole(found: &Value) -> Option<Figure> {
    let unit = UNITS.iter().find(|unit| found["unit"] == **unit)?;
    let figure = Figure::info(found["figure"].as_str()?, found["value"].as_f64()?, unit);
    Some(match found["aim"].as_f64() {
        Some(aim) => figure.aiming_at(aim),
        None => figure,
    })
}

/// The medians that criterion has just found.
fn parts() -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let mut open = vec![shell::target().join("criterion")];
    while let Some(folder) = open.pop() {
        let entries = std::fs::read_dir(&folder)
            .map_err(|error| format!("reading {}: {error}", folder.display()))?;
        let entries = entries.flatten().map(|entry| entry.path());
        open.extend(entries.filter(|path| path.is_dir()));
        if !folder.ends_with("new") {
            continue;
        }
        let read = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        };
        let (Some(about), Some(found)) = (read("benchmark.json"), read("estimates.json")) else {
            continue;
        };
        let nanos = found["median"]["point_estimate"].as_f64();
        let name = about["full_id"].as_str().unwrap_or("?");
        figures.push(Figure::info(
            name,
            nanos.unwrap_or(f64::NAN) / 1_000.0,
            "us",
        ));
    }
    figures.sort_by(|a, b| a.figure.cmp(&b.figure));
    Ok(figures)
}
