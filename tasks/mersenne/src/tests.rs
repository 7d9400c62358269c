#![allow(clippy::unwrap_used)]

use hearth::testing::Host;
use hearth::{Error, Payload};

use super::*;

/// The exponents of all Mersenne primes up to 9689 (OEIS A000043).
const KNOWN: [u32; 21] = [
    2, 3, 5, 7, 13, 17, 19, 31, 61, 89, 107, 127, 521, 607, 1279, 2203, 2281, 3217, 4253, 4423,
    9689,
];

fn test(exponent: u32) -> Output {
    Host::new().run(|| run(Input { exponent })).unwrap()
}

/// The test on numbers of bits, by school methods that share nothing with the fast ones.
mod slow {
    type Bits = Vec<bool>;

    fn add(a: &Bits, b: &Bits, modulus: &Bits) -> Bits {
        let mut sum = Vec::new();
        let mut carry = false;
        for index in 0..=modulus.len() {
            let a = a.get(index).copied().unwrap_or(false);
            let b = b.get(index).copied().unwrap_or(false);
            sum.push(a ^ b ^ carry);
            carry = (a && b) || (carry && (a || b));
        }
        if less(&sum, modulus) {
            sum
        } else {
            subtract(&sum, modulus)
        }
    }

    fn less(a: &Bits, b: &Bits) -> bool {
        let bit = |bits: &Bits, index: usize| bits.get(index).copied().unwrap_or(false);
        (0..a.len().max(b.len()))
            .rev()
            .find(|index| bit(a, *index) != bit(b, *index))
            .is_some_and(|index| bit(b, index))
    }

    fn subtract(a: &Bits, b: &Bits) -> Bits {
        let mut borrow = false;
        a.iter()
            .enumerate()
            .map(|(index, &a)| {
                let b = b.get(index).copied().unwrap_or(false);
                let difference = a ^ b ^ borrow;
                borrow = (!a && (b || borrow)) || (b && borrow);
                difference
            })
            .collect()
    }

    pub(super) fn residue(exponent: u32) -> u64 {
        let modulus: Bits = vec![true; exponent as usize];
        let two: Bits = vec![false, true];
        let mut s: Bits = add(&two, &two, &modulus);
        for _ in 0..exponent - 2 {
            // Double and add.
            let mut product: Bits = vec![];
            for bit in s.iter().rev() {
                product = add(&product, &product, &modulus);
                if *bit {
                    product = add(&product, &s, &modulus);
                }
            }
            let minus_two = subtract(&modulus, &two);
            s = add(&product, &minus_two, &modulus);
        }
        s.iter()
            .take(64)
            .rev()
            .fold(0, |low, bit| low << 1 | u64::from(*bit))
    }
}

#[test]
fn finds_exactly_the_known_primes() {
    for exponent in (2..1300).filter(|exponent| is_prime(*exponent)) {
        let output = test(exponent);
        assert_eq!(output.prime, KNOWN.contains(&exponent), "{exponent}");
        assert_eq!(output.prime, output.residue == "0000000000000000");
    }
    for exponent in [2203, 2281, 3217, 4253, 4423, 9689] {
        assert!(test(exponent).prime, "{exponent}");
    }
    for exponent in [2207, 3221, 4421, 9679] {
        assert!(!test(exponent).prime, "{exponent}");
    }
}

#[test]
fn residues_are_those_of_a_slow_test() {
    // Around a limb, two limbs, 64 and 128 bits, and a multiple of nothing.
    for exponent in [
        3, 5, 11, 23, 29, 53, 59, 61, 67, 79, 83, 109, 127, 131, 137, 163, 257, 263,
    ] {
        let residue = format!("{:016X}", slow::residue(exponent));
        assert_eq!(test(exponent).residue, residue, "{exponent}");
    }
    // S(9) modulo 2047 is 1736 in every textbook.
    assert_eq!(test(11).residue, "00000000000006C8");
}

#[test]
fn resuming_changes_nothing() {
    let exponent = 1283;
    let mut host = Host::new();
    let expected = host.run(|| run(Input { exponent })).unwrap();
    assert!(host.checkpoints().len() > 60);
    assert_eq!(host.progress().last(), Some(&(1281, Some(1281))));
    for (done, state) in host.checkpoints().iter().enumerate() {
        let mut resumed = Host::new().with_checkpoint(state.clone());
        assert_eq!(resumed.run(|| run(Input { exponent })).unwrap(), expected);
        assert_eq!(resumed.progress().len() + done, host.progress().len());
    }
}

#[test]
fn snapshots_of_something_else_are_told_and_ignored() {
    let mut other = Host::new();
    other.run(|| run(Input { exponent: 89 })).unwrap();
    let good = other.checkpoints()[0].clone();
    let mut too_far = good.clone();
    too_far[8..12].copy_from_slice(&88u32.to_le_bytes());
    let mut all_ones = good[..12].to_vec();
    for limb in [(1 << 27) - 1, (1 << 27) - 1, (1 << 27) - 1, (1 << 8) - 1] {
        all_ones.extend(u32::to_le_bytes(limb));
    }
    let mut large_limb = good.clone();
    large_limb[12..16].fill(0xff);
    let cut = good[..good.len() - 1].to_vec();
    for (exponent, state) in [
        (89, too_far),
        (89, all_ones),
        (89, large_limb),
        (89, cut),
        (61, good),
    ] {
        let mut host = Host::new().with_checkpoint(state);
        assert!(host.run(|| run(Input { exponent })).unwrap().prime);
        assert_eq!(host.logs().len(), 1, "{exponent}");
    }
}

#[test]
fn exponents_that_are_not_prime_or_too_large_are_refused() {
    for exponent in [0, 1, 4, 9, 9688, EXPONENT_MAX + 1, u32::MAX] {
        let refused = run(Input { exponent });
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{exponent}");
    }
    for body in [
        "",
        "7",
        r#"{"exponent": -3}"#,
        r#"{"exponent": 3, "base": 2}"#,
    ] {
        let refused = run_payload(Payload::bytes(body));
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{body}");
    }
}

#[test]
fn the_input_file_holds_the_known_primes_and_composites_between() {
    let exponents: Vec<u32> = include_str!("../inputs.jsonl")
        .lines()
        .map(|line| Payload::bytes(line).to_json::<Input>().unwrap().exponent)
        .collect();
    assert!(exponents.is_sorted());
    assert!(exponents.iter().all(|exponent| is_prime(*exponent)));
    assert!(KNOWN.iter().all(|known| exponents.contains(known)));
    assert!(exponents.len() >= 2 * KNOWN.len());
}
