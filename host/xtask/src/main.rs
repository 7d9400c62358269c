//! Developer commands. `cargo xtask` without arguments lists them.
//!
//! It starts other programs and judges their figures; it never links the product, so that it builds
//! in seconds on a machine that has nothing yet.

mod aarch64;
mod bench;
mod campaign;
mod crash;
mod demo;
mod flame;
mod guests;
mod index;
mod power;
mod report;
mod shell;
mod sim;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  demo [ARGS]            build everything, then `hearth demo ARGS`: a realm, three volunteers, a picture
  test [FILTER]          all tests, with everything that they need
  guests                 build the example tasks into target/guests
  sim [--hours N] [--seed N]
                         the simulator over the real core, judged (default 200 hours)
  power [--points N] [--seed N]
                         power losses of the store at every operation, judged (default 20,000 points)
  crash [--kills N]      kill -9 a real coordinator under load, judged (default 30 kills)
  index [--corruptions N] [--seed N]
                         harm to the index of ended jobs, judged (default 100 corruptions)
  bench [--quick]        criterion benches and those of the whole program, judged
  bench --profile        a flame graph of the end-to-end bench, by perf
  aarch64                outcomes on this processor, on Pulley and on aarch64 under qemu, judged
  help                   this text

Measuring commands print a table, write target/reports/NAME.json and fail when a must is missed.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_else(|| "help".to_owned());
    let args: Vec<String> = args.collect();
    let result = match command.as_str() {
        "demo" => demo::run(&args),
        "test" => test::run(&args),
        "guests" => guests::build().map(|_| ()),
        "sim" => sim::run(&args),
        "power" => power::run(&args),
        "crash" => crash::run(&args),
        "index" => index::run(&args),
        "bench" => bench::run(&args),
        "aarch64" => aarch64::run(&args),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => Err(format!("there is no command {other:?}\n\n{USAGE}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The value behind `--name` in `args`, or `default`.
fn number(args: &[String], name: &str, default: u64) -> Result<u64, String> {
    match args.iter().position(|arg| arg == name) {
        None => Ok(default),
        Some(at) => args
            .get(at + 1)
            .and_then(|value| value.parse().ok())
            .ok_or_else(|| format!("{name} wants a number")),
    }
}
