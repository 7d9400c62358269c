//! Cutting a picture into tiles and putting it together again.
//!
//! A tile is its width and height, each 32 bits with the little end first, and then its rows of pixels
//! from the top, each pixel red, green, blue with 8 bits. Where it belongs is told by its input.

use std::fmt;

use serde_json::value::RawValue;

use crate::{Picture, Scene, TILE_PIXELS_MAX, Tile};

/// The media type of a tile.
pub const MEDIA_TYPE: &str = "image/x-hearth-tile";
/// Pixels along a side of a tile.
pub const TILE_SIDE_MAX: u32 = 512;
const _: () = assert!(TILE_SIDE_MAX * TILE_SIDE_MAX <= TILE_PIXELS_MAX);

/// Why a picture cannot be cut or put together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TileError {
    /// The scene is not one. Its author is to blame.
    Scene(String),
    /// A size of zero or above its limit.
    Size(String),
    /// There are so many tiles, and not as many as the picture has.
    Count(usize),
    /// An output, counted from zero, that is not the tile which belongs there.
    NotTheTile(usize),
}

impl fmt::Display for TileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scene(problem) => write!(f, "not a scene: {problem}"),
            Self::Size(problem) => f.write_str(problem),
            Self::Count(count) => write!(f, "{count} tiles do not make this picture"),
            Self::NotTheTile(index) => write!(f, "output {index} is not that tile of the picture"),
        }
    }
}

impl std::error::Error for TileError {}

/// Where the tiles of a picture are, row by row from the top. `side` is the width and height of a tile;
/// those at the right and lower edge are smaller where it does not fit.
///
/// # Errors
///
/// When a size is zero or above its limit.
pub fn places(picture: Picture, side: u32) -> Result<Vec<Tile>, TileError> {
    picture.check().map_err(TileError::Size)?;
    if !(1..=TILE_SIDE_MAX).contains(&side) {
        return Err(TileError::Size(format!(
            "a tile has 1 to {TILE_SIDE_MAX} pixels along a side"
        )));
    }
    let starts = |length: u32| (0..length).step_by(side as usize);
    let places = starts(picture.height).flat_map(|y| {
        starts(picture.width).map(move |x| Tile {
            x,
            y,
            width: side.min(picture.width - x),
            height: side.min(picture.height - y),
        })
    });
    Ok(places.collect())
}

/// The inputs of all tiles of a picture, in the order of [`places`].
///
/// # Errors
///
/// When `scene` is not a scene, or a size is zero or above its limit.
pub fn inputs(scene: &str, picture: Picture, side: u32) -> Result<Vec<Vec<u8>>, TileError> {
    let broken = |error: serde_json::Error| TileError::Scene(error.to_string());
    let scene: Scene = serde_json::from_str(scene).map_err(broken)?;
    crate::world::World::new(&scene).map_err(TileError::Scene)?;
    // Written once: it is by far the largest part of an input.
    let scene = serde_json::to_string(&scene).map_err(broken)?;
    let scene = RawValue::from_string(scene).map_err(broken)?;
    let image = serde_json::to_string(&picture).map_err(broken)?;
    places(picture, side)?
        .iter()
        .map(|tile| {
            let tile = serde_json::to_string(tile).map_err(broken)?;
            let input = format!("{{\"scene\":{scene},\"image\":{image},\"tile\":{tile}}}");
            Ok(input.into_bytes())
        })
        .collect()
}

/// What a tile starts with.
pub(crate) fn header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + width as usize * height as usize * 3);
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes
}

/// Puts the outputs of all tiles, in the order of [`places`], together: rows of pixels from the top, each
/// red, green, blue.
///
/// # Errors
///
/// When there are more or fewer tiles than the picture has, or one is not the tile of its place.
pub fn assemble<T: AsRef<[u8]>>(
    picture: Picture,
    side: u32,
    tiles: &[T],
) -> Result<Vec<u8>, TileError> {
    let places = places(picture, side)?;
    if places.len() != tiles.len() {
        return Err(TileError::Count(tiles.len()));
    }
    let width = picture.width as usize;
    let mut rgb = vec![0; width * picture.height as usize * 3];
    for (index, (place, tile)) in places.iter().zip(tiles).enumerate() {
        let columns = place.width as usize;
        let pixels = tile
            .as_ref()
            .strip_prefix(header(place.width, place.height).as_slice())
            .filter(|pixels| pixels.len() == columns * place.height as usize * 3)
            .ok_or(TileError::NotTheTile(index))?;
        for (row, line) in (place.y as usize..).zip(pixels.chunks_exact(columns * 3)) {
            let start = (row * width + place.x as usize) * 3;
            rgb[start..][..columns * 3].copy_from_slice(line);
        }
    }
    Ok(rgb)
}
