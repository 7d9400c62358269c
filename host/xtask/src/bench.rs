//! The criterion benches, and those of the whole program with their figures.

use std::process::Command;

use serde_json::Value;

use crate::flame::Frame;
use crate::report::{self, Figure};
use crate::shell;

/// Benches of single crates; criterion keeps their history under `target/criterion`.
const PARTS: [&str; 4] = ["core", "sandbox", "store", "wire"];

/// Benches of the whole program, which print their figures.
const WHOLE: [&str; 4] = ["end_to_end", "faults", "swarm", "restart"];

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    shell::ensure_guest_target()?;
    let quick = args.iter().any(|arg| arg == "--quick");
    if args.iter().any(|arg| arg == "--profile") {
        return profile(quick);
    }
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
        for figure in &found {
            figures.push(of_whole(figure)?);
        }
    }
    let parts = parts()?;
    figures.extend(floors(&parts)?);
    figures.extend(core(&parts)?);
    figures.extend(parts);
    report::publish("bench", &figures)
}

/// Records the end-to-end bench with all its processes by `perf(1)` and draws a flame graph.
fn profile(quick: bool) -> Result<(), String> {
    let mut build = shell::cargo();
    build.args(["bench", "--package", "hearth", "--bench", "end_to_end"]);
    build.args(["--no-run", "--message-format", "json"]);
    let built = shell::output(&mut build)?;
    let program = built.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let ours = message["target"]["name"] == "end_to_end";
        ours.then(|| message["executable"].as_str().map(str::to_owned))?
    });
    let program = program.ok_or("cargo did not say where the bench is")?;
    let folder = shell::target().join("reports");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("making {}: {error}", folder.display()))?;
    let (data, graph) = (folder.join("bench.perf"), folder.join("bench.svg"));
    // The build has no frame pointers: stacks are unwound by their tables, and samples are few but long.
    let mut record = Command::new("perf");
    record.args(["record", "--freq", "199", "--call-graph", "dwarf,8192"]);
    record.arg("--output").arg(&data).arg("--").arg(program);
    record.arg("--rates");
    if quick {
        record.arg("--quick");
    }
    shell::run(&mut record)?;
    let mut script = Command::new("perf");
    script.args(["script", "--fields", "comm,ip,sym", "--input"]);
    let frames = Frame::read(&shell::output(script.arg(&data))?);
    std::fs::write(&graph, frames.svg())
        .map_err(|error| format!("writing {}: {error}", graph.display()))?;
    println!("{} samples, drawn in {}", frames.samples(), graph.display());
    Ok(())
}

/// Units that these benches use.
const UNITS: [&str; 8] = ["1/s", "us", "ms", "s", "B", "KiB", "%", ""];

fn of_whole(found: &Value) -> Result<Figure, String> {
    let bad = || format!("a figure that is none: {found}");
    let unit = UNITS.iter().find(|unit| found["unit"] == **unit);
    let (unit, name) = unit.zip(found["figure"].as_str()).ok_or_else(bad)?;
    let value = found["value"].as_f64().ok_or_else(bad)?;
    let Some((must, aim)) = found["must"].as_f64().zip(found["aim"].as_f64()) else {
        return Ok(Figure::info(name, value, unit));
    };
    let figure = match found["way"].as_str() {
        Some("at_least") => Figure::at_least(name, value, unit, must),
        Some("at_most") => Figure::at_most(name, value, unit, must),
        _ => return Err(bad()),
    };
    Ok(figure.aiming_at(aim))
}

/// The median of one of criterion's benches, in microseconds.
fn part(parts: &[Figure], name: &str) -> Result<f64, String> {
    let part = parts.iter().find(|part| part.figure == name);
    let part = part.ok_or(format!("criterion has no figure {name}"))?;
    Ok(part.value)
}

/// What each stage of a task would cost if it did nothing but what it cannot do without, in the largest
/// batches that there are.
fn floors(parts: &[Figure]) -> Result<Vec<Figure>, String> {
    let part = |name: &str| part(parts, name);
    let journal = part("store/append 1024 records of 256 B and fdatasync")? / 1_024.0;
    let encode = part("wire/encode 256 reports of 64 B")? / 256.0;
    let decode = part("wire/decode a frame of 256 reports and each of them")? / 256.0;
    let root = part("wire/Merkle root over 256 reports")? / 256.0;
    let core = part("core/10000 reports, 1000 nodes")? / 10_000.0;
    let attempt = part("sandbox/attempt of a guest that returns at once, Native")?;
    let floors = [
        ("core and journal: one event and its record", core + journal),
        (
            "wire: decode a report and its leaf, encode a lease",
            decode + root + encode,
        ),
        (
            "node: decode a lease, encode a report and its leaf",
            decode + encode + root,
        ),
        ("runner and sandbox: one attempt", attempt),
    ];
    let floor =
        |(name, micros): (&str, f64)| Figure::info(format!("floor of {name}"), micros, "us");
    Ok(floors.map(floor).into())
}

/// What is asked of core, from the medians of its bench.
fn core(parts: &[Figure]) -> Result<[Figure; 2], String> {
    const REPORTS: f64 = 10_000.0;
    let rate = |nodes: u32| {
        let median = part(parts, &format!("core/{REPORTS} reports, {nodes} nodes"))?;
        Ok::<_, String>(REPORTS * 1e6 / median)
    };
    let ratio = rate(100_000)? / rate(100)?;
    Ok([
        Figure::at_least(
            "core, events with 1,000 nodes",
            rate(1_000)?,
            "1/s",
            300_000.0,
        )
        .aiming_at(1_000_000.0),
        Figure::at_least(
            "core, events with 100,000 nodes against 100",
            ratio,
            "x",
            0.5,
        )
        .aiming_at(0.8),
    ])
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
