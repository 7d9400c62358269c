//! Runs a component from a file over texts, in a few lines: `cargo run --example embed -- FILE TEXT…`

#![allow(clippy::print_stdout, clippy::print_stderr)]

use hearth::{Component, LocalHost};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let file = args.next().ok_or("usage: embed COMPONENT TEXT…")?;
    let host = LocalHost::in_process()?;
    let component = Component::from_path(file)?;
    let job = host.job(&component).media_type("text/plain").inputs(args);
    let job =
        job.on_progress(|progress| eprintln!("task {}: {} done", progress.index, progress.done));
    for result in job.run()?.wait() {
        match result.output() {
            Some(output) => println!("{}: {}", result.index, String::from_utf8_lossy(output)),
            None => println!("{}: {:?}", result.index, result.outcome),
        }
    }
    Ok(())
}
