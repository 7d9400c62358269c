//! Processing: one tile of a picture, path traced.
//!
//! Input: JSON, see [`Input`]: a [`Scene`], the picture and the tile of it. Output: the tile's pixels,
//! see [`tile`]; media type `image/x-hearth-tile`.
//!
//! A pixel depends on the scene, its place in the picture, the samples and the seed, and on nothing
//! else: however a picture is cut into tiles, it is the same picture. All arithmetic is addition,
//! multiplication, division and square root of IEEE 754 and functions of `libm`, so that a native
//! build gives the same bytes as the component.

mod bvh;
mod light;
mod material;
mod sampler;
mod shape;
mod sky;
mod tone;
mod trace;
mod vector;
mod world;

pub mod scene;
pub mod tile;

use hearth::{Error, Payload};
use serde::{Deserialize, Serialize};

pub use scene::Scene;
pub use tile::TileError;

use sampler::Sampler;
use trace::Tracer;
use vector::Vec3;

/// Pixels along one side of a picture.
pub const SIDE_MAX: u32 = 16_384;
/// Pixels of one tile: what a guest can return with the limits of the manifest.
pub const TILE_PIXELS_MAX: u32 = 256 * 1024;
/// Samples of one pixel.
pub const SAMPLES_MAX: u32 = 65_536;

/// One tile to render.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// What is to be seen.
    pub scene: Scene,
    /// The whole picture.
    pub image: Picture,
    /// The part of it that is wanted.
    pub tile: Tile,
}

/// The whole picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Paths traced for each pixel.
    pub samples: u32,
}

/// A part of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tile {
    /// Its first column, from the left.
    pub x: u32,
    /// Its first row, from the top.
    pub y: u32,
    /// Pixels in a row of it.
    pub width: u32,
    /// Rows of it.
    pub height: u32,
}

impl Input {
    fn check(&self) -> Result<(), String> {
        let Self { image, tile, .. } = self;
        image.check()?;
        let inside = |start: u32, length: u32, whole: u32| {
            length > 0 && start < whole && length <= whole - start
        };
        if !inside(tile.x, tile.width, image.width) || !inside(tile.y, tile.height, image.height) {
            return Err("the tile is not inside the picture".to_owned());
        }
        if tile.width * tile.height > TILE_PIXELS_MAX {
            return Err(format!("a tile has at most {TILE_PIXELS_MAX} pixels"));
        }
        Ok(())
    }
}

impl Picture {
    pub(crate) fn check(&self) -> Result<(), String> {
        let side = 1..=SIDE_MAX;
        if !side.contains(&self.width) || !side.contains(&self.height) {
            return Err(format!("a picture has 1 to {SIDE_MAX} pixels along a side"));
        }
        if !(1..=SAMPLES_MAX).contains(&self.samples) {
            return Err(format!("a pixel takes 1 to {SAMPLES_MAX} samples"));
        }
        Ok(())
    }
}

/// Renders one tile.
///
/// # Errors
///
/// [`Error::InvalidInput`] for a tile outside of its picture, a number above its limit, or a scene
/// that names a material which it lacks or has numbers that are not finite.
#[hearth::task]
pub fn run(input: Input) -> Result<Payload, Error> {
    input.check().map_err(Error::InvalidInput)?;
    let tracer = Tracer::new(&input.scene).map_err(Error::InvalidInput)?;
    let seed = hearth::context().seed;
    let Tile {
        x,
        y,
        width,
        height,
    } = input.tile;
    let mut output = tile::header(width, height);
    for row in y..y + height {
        for column in x..x + width {
            output.extend(pixel(&tracer, &input, &seed, column, row));
        }
        hearth::progress(u64::from(row - y) + 1, u64::from(height));
    }
    Ok(Payload::new(tile::MEDIA_TYPE, output))
}

fn pixel(tracer: &Tracer, input: &Input, seed: &[u8; 32], column: u32, row: u32) -> [u8; 3] {
    let Picture {
        width,
        height,
        samples,
    } = input.image;
    let place = u64::from(row) << 32 | u64::from(column);
    let mut sum = Vec3::ZERO;
    for sample in 0..samples {
        let mut sampler = Sampler::new(seed, place, sample, samples);
        let across = f64::from(column) + sampler.next();
        let down = f64::from(row) + sampler.next();
        sum = sum + tracer.camera_sample(width, height, across, down, &mut sampler);
    }
    tone::to_srgb(sum * (input.scene.exposure / f64::from(samples)))
}

#[cfg(test)]
mod tests;
