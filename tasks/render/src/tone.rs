//! From light to a colour of the screen.

use crate::vector::Vec3;

/// Compresses bright light as film does and encodes it as sRGB with 8 bits per channel.
pub(crate) fn to_srgb(light: Vec3) -> [u8; 3] {
    [light.x, light.y, light.z].map(|channel| {
        // Not a number and negative fall to black.
        let channel = if channel > 0.0 { film(channel) } else { 0.0 };
        let encoded = if channel <= 0.003_130_8 {
            12.92 * channel
        } else {
            1.055 * libm::pow(channel, 1.0 / 2.4) - 0.055
        };
        (encoded * 255.0 + 0.5) as u8
    })
}

/// Narkowicz's fit of the ACES curve: 0 to infinity becomes 0 to 1.
fn film(x: f64) -> f64 {
    let y = (x * (2.51 * x + 0.03)) / (x * (2.43 * x + 0.59) + 0.14);
    // Infinite light gives not a number here, and white it is.
    if y < 1.0 { y } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_colour() {
        let of = |x| to_srgb(Vec3::new(x, x, x))[0];
        assert_eq!(of(f64::NAN), 0);
        assert_eq!(of(-1.0), 0);
        assert_eq!(of(0.0), 0);
        assert_eq!(of(1e300), 255);
        assert_eq!(of(f64::INFINITY), 255);
        assert!(of(0.1) < of(0.2) && of(0.2) < of(1.0));
    }
}
