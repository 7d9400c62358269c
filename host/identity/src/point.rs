//! Whether 32 bytes are an Ed25519 public key that can have been made honestly.
//!
//! `ring` looks at a key only together with a signature, and then cannot say which of both is wrong. A
//! key that nobody can hold must be refused when it is entered, so the curve's equation is checked here.
//! Everything is public, so nothing needs to run in constant time.

use hearth_wire::PublicKey;

/// An element of the field of 2^255 - 19, in four words, the lowest first; below 2^256, not reduced.
type Element = [u64; 4];

/// 2^255 - 19.
const PRIME: Element = [
    0xffff_ffff_ffff_ffed,
    u64::MAX,
    u64::MAX,
    0x7fff_ffff_ffff_ffff,
];
const ONE: Element = [1, 0, 0, 0];
/// -121665/121666, the curve's constant d (RFC 8032, section 5.1).
const D: Element = [
    0x75eb_4dca_1359_78a3,
    0x0070_0a4d_4141_d8ab,
    0x8cc7_4079_7779_e898,
    0x5203_6cee_2b6f_fe73,
];
/// The y-coordinates of the eight points whose order divides eight: with such a key, signatures can be
/// made that hold for many texts. Order 1, 2, 4, and twice 8.
const SMALL_ORDER: [Element; 5] = [
    ONE,
    [
        0xffff_ffff_ffff_ffec,
        u64::MAX,
        u64::MAX,
        0x7fff_ffff_ffff_ffff,
    ],
    [0; 4],
    [
        0xb027_b2c2_8f95_e826,
        0xf098_eff2_89f4_c345,
        0x3933_c6d3_05ac_dfd5,
        0x05fc_536d_8802_38b1,
    ],
    [
        0x4fd8_4d3d_706a_17c7,
        0x0f67_100d_760b_3cba,
        0xc6cc_392c_fa53_202a,
        0x7a03_ac92_77fd_c74e,
    ],
];

/// Whether the key is a point of the curve in its one encoding, and not one of the eight points of
/// small order.
pub(crate) fn is_honest(key: &PublicKey) -> bool {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(key.as_bytes().chunks_exact(8)) {
        *word = bytes
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    // The highest bit is the sign of x.
    words[3] &= u64::MAX >> 1;
    let y = words;
    if reduce(y) != y || SMALL_ORDER.contains(&y) {
        return false;
    }
    // -x² + y² = 1 + d·x²·y²: x² is a fraction with numerator y² - 1 and denominator d·y² + 1. It has a
    // root if and only if the product of both is a square. It is not zero: then y were 1 or -1.
    let square = multiply(y, y);
    let fraction = multiply(subtract(square, ONE), add(multiply(D, square), ONE));
    is_square(fraction)
}

/// Euler's criterion: a number that is not zero is a square if its power to (p - 1)/2 = 2^254 - 10 is 1.
fn is_square(number: Element) -> bool {
    const EXPONENT: Element = [
        0xffff_ffff_ffff_fff6,
        u64::MAX,
        u64::MAX,
        0x3fff_ffff_ffff_ffff,
    ];
    let mut power = ONE;
    for bit in (0..254).rev() {
        power = multiply(power, power);
        if EXPONENT[bit / 64] >> (bit % 64) & 1 == 1 {
            power = multiply(power, number);
        }
    }
    reduce(power) == ONE
}

fn add(a: Element, b: Element) -> Element {
    let mut sum = [0; 5];
    let mut carry = 0;
    for (word, (a, b)) in sum.iter_mut().zip(a.into_iter().zip(b)) {
        carry += u128::from(a) + u128::from(b);
        *word = carry as u64;
        carry >>= 64;
    }
    sum[4] = carry as u64;
    fold([sum[0], sum[1], sum[2], sum[3], sum[4], 0, 0, 0])
}

/// `a - b` as `a + (p - b)`.
fn subtract(a: Element, b: Element) -> Element {
    add(a, difference(PRIME, reduce(b)).0)
}

fn multiply(a: Element, b: Element) -> Element {
    let mut product = [0; 8];
    for (at, a) in a.into_iter().enumerate() {
        let mut carry = 0;
        for (behind, b) in b.into_iter().enumerate() {
            carry += u128::from(a) * u128::from(b) + u128::from(product[at + behind]);
            product[at + behind] = carry as u64;
            carry >>= 64;
        }
        product[at + 4] = carry as u64;
    }
    fold(product)
}

/// 2^256 is 38 in this field, so the upper half counts 38 times. What that carries over is folded again;
/// the second fold carries at most once more.
fn fold(wide: [u64; 8]) -> Element {
    let mut low = [wide[0], wide[1], wide[2], wide[3]];
    let mut carry = 0;
    for (word, high) in low.iter_mut().zip(&wide[4..]) {
        carry += u128::from(*word) + u128::from(*high) * 38;
        *word = carry as u64;
        carry >>= 64;
    }
    while carry > 0 {
        let mut more = carry * 38;
        for word in &mut low {
            more += u128::from(*word);
            *word = more as u64;
            more >>= 64;
        }
        carry = more;
    }
    low
}

/// The one number below the prime that is the same in the field.
fn reduce(mut number: Element) -> Element {
    // Below 2^256, which is less than small times the prime.
    for _ in 0..2 {
        let (less, borrowed) = difference(number, PRIME);
        if !borrowed {
            number = less;
        }
    }
    number
}

fn difference(a: Element, b: Element) -> (Element, bool) {
    let mut result = [0; 4];
    let mut borrow = false;
    for (word, (a, b)) in result.iter_mut().zip(a.into_iter().zip(b)) {
        let (less, first) = a.overflowing_sub(b);
        let (less, second) = less.overflowing_sub(u64::from(borrow));
        *word = less;
        borrow = first || second;
    }
    (result, borrow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SigningKey;

    fn of(element: Element) -> PublicKey {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(element) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        PublicKey::new(bytes)
    }

    #[test]
    fn keys_that_were_made_are_honest_and_half_of_all_other_bytes_are_not() {
        for _ in 0..64 {
            assert!(is_honest(&SigningKey::generate().unwrap().public()));
        }
        // Half of all numbers are the y of a point. Digests are as good as random ones.
        let points = (0..400u32)
            .filter(|number| {
                let digest = hearth_wire::Digest::of(&number.to_le_bytes());
                is_honest(&PublicKey::new(*digest.as_bytes()))
            })
            .count();
        assert!((140..=260).contains(&points), "{points} of 400");
    }

    #[test]
    fn points_of_small_order_and_second_encodings_are_refused() {
        for y in SMALL_ORDER {
            assert!(!is_honest(&of(y)), "{y:x?}");
            let mut negative = y;
            negative[3] |= 1 << 63;
            assert!(!is_honest(&of(negative)), "{y:x?}");
        }
        assert!(!is_honest(&PublicKey::new([0; 32])));
        assert!(!is_honest(&PublicKey::new([0xff; 32])));
        // A small y of a point: p + y is the same number and not its encoding.
        let small = (2..20)
            .map(|y| [y, 0, 0, 0])
            .find(|y| is_honest(&of(*y)))
            .unwrap();
        assert!(small[0] < 19);
        let mut again = PRIME;
        again[0] += small[0];
        assert!(!is_honest(&of(again)), "{again:x?}");
    }

    /// On the curve, the y of a point of order eight satisfies d·y⁴ + 2·y² = 1, up to the sign of d.
    #[test]
    fn the_points_of_order_eight_are_those() {
        for y in &SMALL_ORDER[3..] {
            let square = multiply(*y, *y);
            // Doubling gives a point with y = 0, so x² = -y² there: y² + y² = 1 - d·y⁴.
            let left = add(square, square);
            let right = subtract(ONE, multiply(D, multiply(square, square)));
            assert_eq!(reduce(left), reduce(right));
        }
    }
}
