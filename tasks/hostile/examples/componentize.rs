//! Wraps what cargo built of a guest as a component and tells its imports and size:
//! `cargo run -p hostile --example componentize -- IN.wasm OUT.wasm`. `-` as input and a name
//! writes a hostile guest instead: `… -- - endless-loop OUT.wasm`.

#![allow(clippy::print_stdout, reason = "a command for developers")]

use std::env;
use std::fs;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (component, output) = match words.as_slice() {
        ["-", name, output] => (hostile::component(name)?, output),
        [input, output] => (hostile::componentize(&fs::read(input)?)?, output),
        _ => bail!("usage: componentize IN.wasm OUT.wasm | componentize - NAME OUT.wasm"),
    };
    fs::write(output, &component)?;
    println!("{output}: {} bytes", component.len());
    for import in hostile::imports(&component).unwrap_or_default() {
        println!("  imports {import}");
    }
    Ok(())
}
