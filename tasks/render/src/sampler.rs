//! The random numbers of one path: a function of seed, pixel, sample and how many were drawn.

/// Dimensions that are stratified over the samples of a pixel: place in the pixel and lens, and what
/// the first surface draws. Later ones gain nothing from it.
const STRATIFIED: u32 = 16;

/// The random numbers of one path.
#[derive(Debug)]
pub(crate) struct Sampler {
    pixel: u64,
    sample: u32,
    samples: u32,
    drawn: u32,
}

impl Sampler {
    pub(crate) fn new(seed: &[u8; 32], place: u64, sample: u32, samples: u32) -> Self {
        let mut pixel = mix(place);
        for word in seed.as_chunks::<8>().0 {
            pixel = mix(pixel ^ u64::from_le_bytes(*word));
        }
        Self {
            pixel,
            sample,
            samples,
            drawn: 0,
        }
    }

    /// From 0 to below 1. In the first dimensions the samples of a pixel fall into equal strata, in an
    /// order of their own for each dimension (Latin hypercube sampling).
    pub(crate) fn next(&mut self) -> f64 {
        let dimension = mix(self.pixel ^ u64::from(self.drawn).wrapping_mul(0xd134_2543_de82_ef95));
        let noise = mix(dimension ^ u64::from(self.sample).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let fraction = (noise >> 11) as f64 / (1u64 << 53) as f64;
        let stratified = self.drawn < STRATIFIED;
        self.drawn += 1;
        if stratified {
            let stratum = permute(self.sample, self.samples, dimension as u32);
            (f64::from(stratum) + fraction) / f64::from(self.samples)
        } else {
            fraction
        }
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The place of `index` in permutation number `key` of `0..count` (Kensler, Correlated Multi-Jittered
/// Sampling, 2013): a bijection on the next power of two, walked until it lands inside.
fn permute(index: u32, count: u32, key: u32) -> u32 {
    let mask = count.next_power_of_two() - 1;
    let mut i = index;
    loop {
        i ^= key;
        i = i.wrapping_mul(0xe170_893d);
        i ^= key >> 16;
        i ^= (i & mask) >> 4;
        i ^= key >> 8;
        i = i.wrapping_mul(0x0929_eb3f);
        i ^= key >> 23;
        i ^= (i & mask) >> 1;
        i = i.wrapping_mul(1 | key >> 27);
        i = i.wrapping_mul(0x6935_fa69);
        i ^= (i & mask) >> 11;
        i = i.wrapping_mul(0x74dc_b303);
        i ^= (i & mask) >> 2;
        i = i.wrapping_mul(0x9e50_1cc3);
        i ^= (i & mask) >> 2;
        i = i.wrapping_mul(0xc860_a3df);
        i &= mask;
        i ^= i >> 5;
        if i < count {
            return (i + key % count) % count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_are_visited_once_each() {
        for samples in [1, 7, 16, 33] {
            for dimension in 0..3 {
                let mut strata: Vec<u32> = (0..samples)
                    .map(|sample| {
                        let mut sampler = Sampler::new(&[5; 32], 77, sample, samples);
                        let drawn = (0..=dimension).map(|_| sampler.next()).last();
                        (drawn.unwrap_or(0.0) * f64::from(samples)) as u32
                    })
                    .collect();
                strata.sort_unstable();
                assert_eq!(strata, (0..samples).collect::<Vec<_>>());
            }
        }
    }
}
