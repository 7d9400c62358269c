//! Cutting a picture into tiles and putting it together again.
//!
//! A tile is a binary PPM, so that any viewer shows it, whose first comment says where it belongs:
//!
//! ```text
//! P6
//! # hearth tile 64 32 of 640 400        first column, first row, width and height of the picture
//! 32 32
//! 255
//! …                                     rows of pixels, each red, green, blue
//! ```

use std::fmt;

use serde_json::value::RawValue;

use crate::{Input, SIDE_MAX, Scene, TILE_PIXELS_MAX};

/// The media type of a tile.
pub const MEDIA_TYPE: &str = "image/x-portable-pixmap";

/// A picture of 8 bits per channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Rows of pixels from the top, each red, green, blue.
    pub rgb: Vec<u8>,
}

/// Why a picture cannot be cut or put together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TileError {
    /// The scene is not one. Its author is to blame.
    Scene(String),
    /// A size of zero or above its limit.
    Size(String),
    /// Bytes that are no tile, counted from zero.
    NotATile(usize),
    /// A tile of another picture, counted from zero.
    Foreign(usize),
    /// No tiles, or some are missing: so many pixels have no colour.
    Missing(u64),
}

impl fmt::Display for TileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scene(problem) => write!(f, "not a scene: {problem}"),
            Self::Size(problem) => f.write_str(problem),
            Self::NotATile(index) => write!(f, "output {index} is not a tile"),
            Self::Foreign(index) => write!(f, "output {index} is a tile of another picture"),
            Self::Missing(pixels) => write!(f, "tiles are missing: {pixels} pixels have no colour"),
        }
    }
}

impl std::error::Error for TileError {}

/// The inputs of all tiles of a picture, row by row from the top. `side` is the width and height of a
/// tile; those at the right and lower edge are smaller where it does not fit.
///
/// # Errors
///
/// When `scene` is not a scene or a size is zero or above its limit.
pub fn tiles(
    scene: &str,
    width: u32,
    height: u32,
    side: u32,
    samples: u32,
) -> Result<Vec<Vec<u8>>, TileError> {
    let limit = 1..=SIDE_MAX;
    if !limit.contains(&width) || !limit.contains(&height) {
        return Err(TileError::Size(format!(
            "a picture has 1 to {SIDE_MAX} pixels along a side"
        )));
    }
    if side == 0 || side > 512 {
        return Err(TileError::Size(
            "a tile has 1 to 512 pixels along a side".to_owned(),
        ));
    }
    const { assert!(512 * 512 <= TILE_PIXELS_MAX) };
    let scene: Scene =
        serde_json::from_str(scene).map_err(|error| TileError::Scene(error.to_string()))?;
    crate::world::World::new(&scene).map_err(TileError::Scene)?;
    // Written once: it is by far the largest part of an input.
    let scene = serde_json::to_string(&scene).and_then(RawValue::from_string);
    let scene = scene.map_err(|error| TileError::Scene(error.to_string()))?;
    let mut inputs = Vec::new();
    for y in (0..height).step_by(side as usize) {
        for x in (0..width).step_by(side as usize) {
            let columns = side.min(width - x);
            let rows = side.min(height - y);
            inputs.push(
                format!(
                    "{{\"width\":{width},\"height\":{height},\"x\":{x},\"y\":{y},\
                     \"columns\":{columns},\"rows\":{rows},\"samples\":{samples},\"scene\":{scene}}}"
                )
                .into_bytes(),
            );
        }
    }
    Ok(inputs)
}

/// The bytes of a tile.
pub(crate) fn encode(input: &Input, pixels: &[u8]) -> Vec<u8> {
    let Input {
        width,
        height,
        x,
        y,
        columns,
        rows,
        ..
    } = input;
    let mut bytes =
        format!("P6\n# hearth tile {x} {y} of {width} {height}\n{columns} {rows}\n255\n")
            .into_bytes();
    bytes.extend(pixels);
    bytes
}

struct Tile<'a> {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
    columns: u32,
    pixels: &'a [u8],
}

fn decode(bytes: &[u8]) -> Option<Tile<'_>> {
    let mut lines = bytes.splitn(5, |byte| *byte == b'\n');
    let mut line = || std::str::from_utf8(lines.next()?).ok();
    let magic = line()?;
    let place = line()?.strip_prefix("# hearth tile ")?;
    let size = line()?;
    let depth = line()?;
    let pixels = lines.next()?;
    let (at, of) = place.split_once(" of ")?;
    let pair = |text: &str| {
        let (a, b) = text.split_once(' ')?;
        Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?))
    };
    let ((x, y), (width, height), (columns, rows)) = (pair(at)?, pair(of)?, pair(size)?);
    let fits = magic == "P6"
        && depth == "255"
        && (1..=SIDE_MAX).contains(&width)
        && (1..=SIDE_MAX).contains(&height)
        && columns <= width
        && rows <= height
        && x <= width - columns
        && y <= height - rows
        && pixels.len() == columns as usize * rows as usize * 3;
    fits.then_some(Tile {
        x,
        y,
        width,
        height,
        columns,
        pixels,
    })
}

/// Puts a picture together from its tiles, in any order.
///
/// # Errors
///
/// When one is not a tile or belongs to another picture, or when some are missing.
pub fn assemble<T: AsRef<[u8]>>(tiles: impl IntoIterator<Item = T>) -> Result<Image, TileError> {
    let mut image: Option<(Image, Vec<bool>)> = None;
    for (index, bytes) in tiles.into_iter().enumerate() {
        let tile = decode(bytes.as_ref()).ok_or(TileError::NotATile(index))?;
        let area = tile.width as usize * tile.height as usize;
        let (image, known) = image.get_or_insert_with(|| {
            let empty = Image {
                width: tile.width,
                height: tile.height,
                rgb: vec![0; area * 3],
            };
            (empty, vec![false; area])
        });
        if (image.width, image.height) != (tile.width, tile.height) {
            return Err(TileError::Foreign(index));
        }
        let columns = tile.columns as usize;
        for (row, pixels) in (tile.y as usize..).zip(tile.pixels.chunks_exact((columns * 3).max(1)))
        {
            let start = row * tile.width as usize + tile.x as usize;
            known[start..][..columns].fill(true);
            image.rgb[start * 3..][..columns * 3].copy_from_slice(pixels);
        }
    }
    let (image, known) = image.ok_or(TileError::Missing(0))?;
    match known.iter().filter(|known| !**known).count() {
        0 => Ok(image),
        missing => Err(TileError::Missing(missing as u64)),
    }
}
