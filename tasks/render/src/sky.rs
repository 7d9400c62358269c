//! What a ray sees that meets nothing.

use crate::scene;
use crate::vector::Vec3;

/// Cells along a side of the cube on which stars are scattered.
const CELLS: f64 = 90.0;

/// What a ray sees that meets nothing.
#[derive(Debug)]
pub(crate) struct Sky {
    zenith: Vec3,
    horizon: Vec3,
    sun: Vec3,
    sunset: Vec3,
    stars: f64,
}

impl Sky {
    pub(crate) fn new(sky: &scene::Sky) -> Self {
        Self {
            zenith: sky.zenith.into(),
            horizon: sky.horizon.into(),
            sun: Vec3::from(sky.sun).unit(),
            sunset: sky.sunset.into(),
            stars: sky.stars,
        }
    }

    /// The light from a direction, without stars: they would only be noise in diffuse light.
    pub(crate) fn glow(&self, direction: Vec3) -> Vec3 {
        let up = if direction.y > 0.0 { direction.y } else { 0.0 };
        let gradient = libm::pow(up, 0.45);
        let base = self.horizon * (1.0 - gradient) + self.zenith * gradient;
        let toward = direction.dot(self.sun);
        if toward <= 0.0 {
            return base;
        }
        // The glow clings to the horizon: it fades faster upwards than sideways.
        let low = 1.0 - up;
        let low = low * low * low;
        let low = low * low * low;
        base + self.sunset * (toward * toward * toward * toward * low)
    }

    /// The light from a direction, with stars.
    pub(crate) fn seen(&self, direction: Vec3) -> Vec3 {
        let glow = self.glow(direction);
        if self.stars <= 0.0 || direction.y <= 0.02 {
            return glow;
        }
        let cell = |x: f64| (x * CELLS).floor();
        let corner = Vec3::new(cell(direction.x), cell(direction.y), cell(direction.z));
        let hash = hash(corner);
        // One cell in 24 of those that the sphere of directions cuts has a star.
        if !hash.is_multiple_of(24) {
            return glow;
        }
        let part = |shift: u32| f64::from((hash >> shift) as u8) / 255.0;
        let star = corner + Vec3::new(part(8), part(16), part(24)) * 0.6 + Vec3::ONE * 0.2;
        let off = direction - star.unit();
        let size = 0.0011 + 0.0012 * part(40);
        let fade = 1.0 - off.dot(off) / (size * size);
        if fade <= 0.0 {
            return glow;
        }
        let bright = part(32);
        let height = if direction.y < 0.3 {
            direction.y / 0.3
        } else {
            1.0
        };
        let warm = part(48);
        let color = Vec3::new(0.75 + 0.25 * warm, 0.85, 1.0 - 0.3 * warm);
        glow + color * (self.stars * fade * height * (0.08 + bright * bright * bright))
    }
}

fn hash(corner: Vec3) -> u64 {
    let mut hash = 0x51_7cc1_b727_220a_u64;
    for part in [corner.x, corner.y, corner.z] {
        hash = (hash ^ (part as i64 as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 3
}
