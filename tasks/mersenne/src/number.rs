//! Arithmetic modulo 2^p − 1.

/// Bits in a limb. Products have 54 bits, and a column of a square has at most 1,000 of them (each pair
/// counted twice), so that a whole column and its carry fit 64 bits and need no carry in the inner loop.
const LIMB_BITS: u32 = 27;
const LIMB_MASK: u64 = (1 << LIMB_BITS) - 1;

/// The largest exponent: 1,000 limbs.
pub const EXPONENT_MAX: u32 = 1_000 * LIMB_BITS;

/// A number from 0 to below 2^p − 1, and room to square it.
#[derive(Debug, Clone)]
pub struct Residue {
    exponent: u32,
    /// Little end first.
    limbs: Vec<u32>,
    /// The same, big end first: a column of the square is then a walk forward through both.
    reversed: Vec<u32>,
    square: Vec<u32>,
}

impl Residue {
    /// The first number of the test. `exponent` is at least 3 and at most [`EXPONENT_MAX`].
    pub fn four(exponent: u32) -> Self {
        let mut limbs = vec![0; exponent.div_ceil(LIMB_BITS) as usize];
        limbs[0] = 4;
        Self::with_limbs(exponent, limbs)
    }

    /// A number from its limbs, `None` if they are not of one below 2^p − 1.
    pub fn from_limbs(exponent: u32, limbs: Vec<u32>) -> Option<Self> {
        let count = exponent.div_ceil(LIMB_BITS) as usize;
        let (top, rest) = limbs.split_last()?;
        let fits = limbs.len() == count
            && u64::from(*top) <= top_mask(exponent)
            && rest.iter().all(|limb| u64::from(*limb) <= LIMB_MASK);
        let number = Self::with_limbs(exponent, limbs);
        (fits && !number.is_modulus()).then_some(number)
    }

    fn with_limbs(exponent: u32, limbs: Vec<u32>) -> Self {
        Self {
            exponent,
            reversed: vec![0; limbs.len()],
            // One limb more, so that a shift may look at the next limb everywhere.
            square: vec![0; 2 * limbs.len() + 1],
            limbs,
        }
    }

    /// The exponent p.
    pub fn exponent(&self) -> u32 {
        self.exponent
    }

    /// The limbs, little end first.
    pub fn limbs(&self) -> &[u32] {
        &self.limbs
    }

    /// Whether the number is zero.
    pub fn is_zero(&self) -> bool {
        self.limbs.iter().all(|limb| *limb == 0)
    }

    /// The low 64 bits.
    pub fn low_64(&self) -> u64 {
        let bits = self
            .limbs
            .iter()
            .take(3)
            .rev()
            .fold(0u128, |bits, limb| bits << LIMB_BITS | u128::from(*limb));
        bits as u64
    }

    /// x² − 2.
    pub fn square_minus_two(&mut self) {
        self.multiply();
        self.fold();
        self.subtract_two();
    }

    /// Squares the limbs into `square`, column by column.
    fn multiply(&mut self) {
        let count = self.limbs.len();
        for (to, from) in self.reversed.iter_mut().rev().zip(&self.limbs) {
            *to = *from;
        }
        let mut carry = 0;
        for column in 0..2 * count {
            // The pairs (i, column − i) with i < column − i; limb j is at `count − 1 − j` in `reversed`.
            let first = (column + 1).saturating_sub(count);
            let pairs = column.div_ceil(2).saturating_sub(first);
            let ahead = &self.limbs[first.min(count)..][..pairs];
            let behind = &self.reversed[(count - 1 + first).saturating_sub(column)..][..pairs];
            let products: u64 = ahead
                .iter()
                .zip(behind)
                .map(|(a, b)| u64::from(*a) * u64::from(*b))
                .sum();
            let mut sum = 2 * products + carry;
            if column % 2 == 0 {
                let middle = u64::from(self.limbs[column / 2]);
                sum += middle * middle;
            }
            self.square[column] = (sum & LIMB_MASK) as u32;
            carry = sum >> LIMB_BITS;
        }
    }

    /// Reduces `square` into the limbs: 2^p is 1, so the bits from p upwards are added to those below.
    fn fold(&mut self) {
        let whole = (self.exponent / LIMB_BITS) as usize;
        let part = self.exponent % LIMB_BITS;
        let last = self.limbs.len() - 1;
        let mut carry = 0;
        for (index, limb) in self.limbs.iter_mut().enumerate() {
            let mut low = u64::from(self.square[index]);
            if index == last {
                low &= top_mask(self.exponent);
            }
            let at = |index: usize| u64::from(self.square.get(index).copied().unwrap_or(0));
            let high = (at(index + whole) >> part)
                | ((at(index + whole + 1) << (LIMB_BITS - part)) & LIMB_MASK);
            let sum = low + high + carry;
            *limb = (sum & LIMB_MASK) as u32;
            carry = sum >> LIMB_BITS;
        }
        // At most one more bit above p.
        let top = u64::from(self.limbs[last]) | carry << LIMB_BITS;
        let above = top >> bits_in_top(self.exponent);
        self.limbs[last] = (top & top_mask(self.exponent)) as u32;
        if above != 0 {
            for limb in &mut self.limbs {
                *limb += 1;
                if u64::from(*limb) <= LIMB_MASK {
                    break;
                }
                *limb = 0;
            }
        }
        if self.is_modulus() {
            self.limbs.fill(0);
        }
    }

    fn subtract_two(&mut self) {
        if self.limbs[0] < 2 && self.limbs[1..].iter().all(|limb| *limb == 0) {
            // 0 − 2 and 1 − 2, plus the modulus, which is all ones.
            let missing = 2 - self.limbs[0];
            let last = self.limbs.len() - 1;
            self.limbs.fill(LIMB_MASK as u32);
            self.limbs[last] = top_mask(self.exponent) as u32;
            self.limbs[0] -= missing;
            return;
        }
        let mut borrow = 2;
        for limb in &mut self.limbs {
            let (difference, below) = limb.overflowing_sub(borrow);
            *limb = difference & LIMB_MASK as u32;
            if !below {
                break;
            }
            borrow = 1;
        }
    }

    fn is_modulus(&self) -> bool {
        let Some((top, rest)) = self.limbs.split_last() else {
            return false;
        };
        u64::from(*top) == top_mask(self.exponent)
            && rest.iter().all(|limb| u64::from(*limb) == LIMB_MASK)
    }
}

/// Bits of the number in its highest limb: 1 to `LIMB_BITS`.
fn bits_in_top(exponent: u32) -> u32 {
    (exponent - 1) % LIMB_BITS + 1
}

fn top_mask(exponent: u32) -> u64 {
    (1 << bits_in_top(exponent)) - 1
}
