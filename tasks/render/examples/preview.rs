//! Renders a scene natively, on all cores: `cargo run --release -p render --example preview -- SCENE.json
//! OUT.png [WIDTH HEIGHT SAMPLES]`.

#![allow(clippy::print_stdout, reason = "a command for developers")]

use std::error::Error;
use std::fs::{self, File};
use std::io::BufWriter;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use hearth::Payload;
use render::{Picture, tile};

const SIDE: u32 = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [scene, output, rest @ ..] = arguments.as_slice() else {
        return Err("usage: preview SCENE.json OUT.png [WIDTH HEIGHT SAMPLES]".into());
    };
    let number = |index: usize, default| rest.get(index).map_or(Ok(default), |text| text.parse());
    let (width, height, samples) = (number(0, 640)?, number(1, 400)?, number(2, 16)?);
    let picture = Picture {
        width,
        height,
        samples,
    };
    let inputs = tile::inputs(&fs::read_to_string(scene)?, picture, SIDE)?;
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism()?.get();
    let mut tiles = vec![Vec::new(); inputs.len()];
    thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(input) = inputs.get(index) else {
                            return Ok::<_, hearth::Error>(done);
                        };
                        let input = Payload::new("application/json", input.clone());
                        done.push((index, render::run_payload(input)?.body));
                    }
                })
            })
            .collect();
        for handle in handles {
            for (index, tile) in handle.join().map_err(|_| "a worker panicked")?? {
                tiles[index] = tile;
            }
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    println!(
        "{} tiles, {:.1} s with {workers} threads, inputs of {} bytes",
        tiles.len(),
        start.elapsed().as_secs_f64(),
        inputs[0].len()
    );
    let rgb = tile::assemble(picture, SIDE, &tiles)?;
    let mut encoder = png::Encoder::new(BufWriter::new(File::create(output)?), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(())
}
