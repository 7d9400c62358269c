//! Whether 32 bytes are an Ed25519 public key that can have been made honestly.
//!
//! `ring` looks at a key only together with a signature, and then cannot say which of both is wrong. A
//! key that nobody can hold must be refused when it is entered.

use curve25519_dalek::edwards::CompressedEdwardsY;
use hearth_wire::PublicKey;

/// Whether the key is a point of the curve in its one encoding (RFC 8032, section 5.1.3), and not one of
/// the eight points of small order: with such a key, signatures can be made that hold for many texts.
pub(crate) fn is_honest(key: &PublicKey) -> bool {
    let point = CompressedEdwardsY(*key.as_bytes()).decompress();
    point.is_some_and(|point| {
        point.compress().as_bytes() == key.as_bytes() && !point.is_small_order()
    })
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;
    use crate::SigningKey;

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
        for point in EIGHT_TORSION {
            let key = PublicKey::new(point.compress().to_bytes());
            assert!(!is_honest(&key), "{key}");
        }
        assert!(!is_honest(&PublicKey::new([0xff; 32])));
        // A small y of a point: 2^255 - 19 + y is the same number and not its encoding.
        let mut first = [0; 32];
        let small = (2..19).find(|y| {
            first[0] = *y;
            is_honest(&PublicKey::new(first))
        });
        let mut again = [0xff; 32];
        again[31] = 0x7f;
        again[0] = 0xed + small.unwrap();
        assert!(!is_honest(&PublicKey::new(again)), "{again:x?}");
    }
}
