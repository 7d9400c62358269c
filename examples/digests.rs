//! Prints digest and fuel of a component on each input as JSON lines, to be compared between machines:
//! `cargo run --example digests -- [--pulley] COMPONENT MEDIA-TYPE INPUT-FILE…`

#![allow(clippy::print_stdout)]

use hearth::{Component, LocalHost};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).peekable();
    let mut host = LocalHost::builder().slots(1);
    if args.next_if_eq("--pulley").is_some() {
        host = host.pulley();
    }
    let usage = "usage: digests [--pulley] COMPONENT MEDIA-TYPE INPUT-FILE…";
    let (component, media_type) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?);
    let inputs = args.map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let host = host.start()?;
    let component = Component::from_path(component)?;
    let job = host.job(&component).media_type(media_type).inputs(inputs);
    for result in job.run()?.wait() {
        let digest = result
            .digest()
            .ok_or_else(|| format!("input {}: {:?}", result.index, result.outcome))?;
        let line = json!({
            "index": result.index, "digest": digest.to_string(), "fuel": result.fuel_used,
            "seconds": result.run_time.as_secs_f64(),
        });
        println!("{line}");
    }
    Ok(())
}
