//! Numbers that look random and are the same everywhere.

/// A small fast generator (xoshiro256\*\*). For simulation, never for secrets: its seed is public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// The generator number `stream` of `seed`.
    pub fn new(seed: &[u8; 32], stream: u64) -> Self {
        // Each word of the seed is mixed into what came before, so that all of it reaches all of the state.
        let mut start = stream;
        let mut mixed = split_mix(&mut start);
        for word in seed.as_chunks::<8>().0 {
            let mut next = mixed ^ u64::from_le_bytes(*word);
            mixed = split_mix(&mut next);
        }
        let state = std::array::from_fn(|_| split_mix(&mut mixed));
        Self { state }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = &mut self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = *s1 << 17;
        *s2 ^= *s0;
        *s3 ^= *s1;
        *s1 ^= *s2;
        *s0 ^= *s3;
        *s2 ^= shifted;
        *s3 = s3.rotate_left(45);
        result
    }

    /// A number from 0 to below `bound`, without bias. Zero if `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Lemire's method: the high half of a product, redrawn in the few cases that would bias it.
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            if product as u64 >= bound.wrapping_neg().checked_rem(bound).unwrap_or(0) {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number from 0 to below 1, with 53 bits.
    pub fn next_f64(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
