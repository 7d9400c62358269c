//! The picture: cut into tiles, put together again.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::exit::{Context, Failure, Kind};

/// What the demo renders.
const SCENE: &str = include_str!("../../../../tasks/render/scenes/hearth.json");

/// A picture that is cut into square tiles.
#[derive(Debug, Clone, Copy)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) tile: u32,
    pub(super) samples: u32,
}

impl Picture {
    /// The whole one takes about half a minute of one core.
    pub(super) const FULL: Self = Self {
        width: 640,
        height: 400,
        tile: 40,
        samples: 64,
    };
    /// For tests.
    pub(super) const QUICK: Self = Self {
        width: 320,
        height: 200,
        tile: 40,
        samples: 24,
    };

    /// Tiles in a row.
    pub(super) fn columns(&self) -> usize {
        self.width.div_ceil(self.tile) as usize
    }

    /// Where each tile is: left, top, width, height.
    fn tiles(self) -> impl Iterator<Item = (u32, u32, u32, u32)> {
        let starts = move |size: u32| (0..size).step_by(self.tile as usize);
        starts(self.height).flat_map(move |y| {
            starts(self.width).map(move |x| {
                (
                    x,
                    y,
                    self.tile.min(self.width - x),
                    self.tile.min(self.height - y),
                )
            })
        })
    }

    /// The input of each tile's task.
    pub(super) fn inputs(self) -> Result<Vec<Vec<u8>>, Failure> {
        let scene: Value =
            serde_json::from_str(SCENE).context(Kind::Failed, "reading the scene")?;
        let image = json!({ "width": self.width, "height": self.height, "samples": self.samples });
        let input = |(x, y, width, height)| {
            let tile = json!({ "x": x, "y": y, "width": width, "height": height });
            json!({ "scene": scene, "image": image, "tile": tile })
                .to_string()
                .into_bytes()
        };
        Ok(self.tiles().map(input).collect())
    }

    /// Puts rendered tiles together and writes them as PNG.
    pub(super) fn write(self, tiles: &[Vec<u8>], path: &Path) -> Result<(), Failure> {
        let mut pixels = vec![0; self.width as usize * self.height as usize * 3];
        for ((x, y, width, height), tile) in self.tiles().zip(tiles) {
            let header = [width.to_le_bytes(), height.to_le_bytes()].concat();
            let rows = tile
                .strip_prefix(header.as_slice())
                .filter(|rows| rows.len() == (width * height * 3) as usize);
            let rows = rows.ok_or_else(|| {
                Failure::failed(format!(
                    "the tile at {x},{y} is not {width} by {height} pixels"
                ))
            })?;
            for (line, row) in rows.chunks_exact(width as usize * 3).enumerate() {
                let start = ((y as usize + line) * self.width as usize + x as usize) * 3;
                pixels[start..start + row.len()].copy_from_slice(row);
            }
        }
        let writing = format!("writing {}", path.display());
        let file = std::fs::File::create(path).context(Kind::Failed, &writing)?;
        let mut encoder = png::Encoder::new(std::io::BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().context(Kind::Failed, &writing)?;
        writer
            .write_image_data(&pixels)
            .and_then(|()| writer.finish())
            .context(Kind::Failed, writing)
    }
}
