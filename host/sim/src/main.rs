//! `hearth-sim --hours H --seed S` simulates, `hearth-sim --power-points N --seed S` cuts the power of the
//! store alone; both write figures as JSON to standard output. Seeds that once failed are gone through
//! again; what fails now is printed as a line to be kept with them.

use std::io::Write;
use std::process::ExitCode;

use hearth_sim::{Fault, Kept, SimConfig, crash_everywhere, kept_seeds, power, run};

/// One chain of power losses in so many is lived through, so that a campaign comes to many kinds of work.
const POWER_EVERY: u64 = 16;

const USAGE: &str = "usage: hearth-sim [--hours H] [--seed S] [--crash-runs N]
       hearth-sim --power-points N [--seed S]";

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            let mut err = std::io::stderr();
            let _ = writeln!(err, "hearth-sim: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if options.power_points > 0 {
        cut_power(&options)
    } else {
        simulate(&options)
    }
}

/// Hours, and crashes at every step.
fn simulate(options: &Options) -> ExitCode {
    let report = run(&SimConfig {
        seed: options.seed,
        hours: options.hours,
        stop_at_violation: true,
    });
    let (mut violations, mut failed) = (report.violations, report.failed);
    let kept = kept(|seed| !matches!(seed, Kept::Power(_)));
    for seed in &kept {
        violations.extend(seed.violations());
    }
    let mut crashes = 0;
    for n in 0..options.crash_runs {
        let seed = options.seed.wrapping_add(u64::from(n));
        let crash = crash_everywhere(seed);
        crashes += crash.steps;
        let wrong = !crash.violations.is_empty();
        failed.extend(wrong.then_some(Kept::Crash(seed)));
        violations.extend(crash.violations);
    }
    tell(&failed, &kept);
    let figures = [
        ("hours", u64::from(report.hours)),
        ("events", report.events),
        ("records", report.records),
        ("tasks-settled", report.settled),
        ("replays", report.replays),
        ("kept-seeds", kept.len() as u64),
        ("crash-runs", u64::from(options.crash_runs)),
        ("crash-points", crashes),
        ("violations", violations.len() as u64),
    ];
    let faults = Fault::ALL.iter();
    let counts: Vec<_> = faults.map(|fault| report.faults.count(*fault)).collect();
    let head = format!("  \"hash\": \"{}\",\n", report.hash);
    let faults = Fault::ALL.iter().zip(&counts);
    let faults: Vec<_> = faults
        .map(|(fault, count)| format!("    \"{}\": {count}", fault.word()))
        .collect();
    let faults = format!("  \"faults\": {{\n{}\n  }},\n", faults.join(",\n"));
    publish(options.seed, &(head + &faults), &figures, &violations)
}

/// Power losses of the store.
fn cut_power(options: &Options) -> ExitCode {
    let report = power(options.seed, options.power_points, POWER_EVERY);
    let mut violations = report.violations;
    let kept = kept(|seed| matches!(seed, Kept::Power(_)));
    for seed in &kept {
        violations.extend(seed.violations());
    }
    tell(&report.failed, &kept);
    let figures = [
        ("points", report.points),
        ("chains", report.chains),
        ("killed", report.killed),
        ("failed-disks", report.failed_disks),
        ("torn", report.torn),
        ("restored", report.restored),
        ("records", report.records),
        ("snapshots", report.snapshots),
        ("blobs", report.blobs),
        ("lost-records", report.lost_records),
        ("lost-snapshots", report.lost_snapshots),
        ("lost-blobs", report.lost_blobs),
        ("refused", report.refused),
        ("kept-seeds", kept.len() as u64),
        ("violations", violations.len() as u64),
    ];
    publish(options.seed, "", &figures, &violations)
}

fn kept(which: impl Fn(&Kept) -> bool) -> Vec<Kept> {
    kept_seeds().into_iter().filter(which).collect()
}

/// Says what has to be kept.
fn tell(failed: &[Kept], kept: &[Kept]) {
    for seed in failed.iter().filter(|seed| !kept.contains(seed)) {
        let _ = writeln!(std::io::stderr(), "add to host/sim/seeds.txt: {seed}");
    }
}

/// Writes everything as one JSON object.
fn publish(seed: u64, more: &str, figures: &[(&str, u64)], violations: &[String]) -> ExitCode {
    let mut json = format!("{{\n  \"seed\": {seed},\n{more}");
    for (name, value) in figures {
        json += &format!("  \"{name}\": {value},\n");
    }
    let texts: Vec<_> = violations
        .iter()
        .map(|text| format!("    {text:?}"))
        .collect();
    json += &format!("  \"violation-texts\": [\n{}\n  ]\n}}\n", texts.join(",\n"));
    let written = std::io::stdout().write_all(json.as_bytes());
    if written.is_ok() && violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

struct Options {
    hours: u32,
    seed: u64,
    crash_runs: u32,
    power_points: u64,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            hours: 1,
            seed: 1,
            crash_runs: 0,
            power_points: 0,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or(format!("{name} needs a value"))?;
            let number: u64 = value
                .parse()
                .map_err(|_| format!("{name} needs a number, got {value:?}"))?;
            let small = u32::try_from(number).map_err(|_| format!("{name}: {number} is too large"));
            match name.as_str() {
                "--hours" => options.hours = small?,
                "--seed" => options.seed = number,
                "--crash-runs" => options.crash_runs = small?,
                "--power-points" => options.power_points = number,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }
}
