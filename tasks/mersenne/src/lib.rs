//! Verification: is 2^p − 1 a prime? The Lucas–Lehmer test of one exponent.
//!
//! Input: `{"exponent": 9689}`. Output: `{"exponent": 9689, "prime": true, "residue":
//! "0000000000000000"}`. The residue is GIMPS's: with S(0) = 4 and S(i+1) = S(i)² − 2, the low 64 bits
//! of S(p−2) modulo 2^p − 1, in 16 upper-case hex digits; zero means prime.

mod number;
mod snapshot;

use hearth::{Error, checkpoint};
use serde::{Deserialize, Serialize};

pub use number::{EXPONENT_MAX, Residue};

/// Snapshots and reports in one test; each costs a copy of the number.
const STEPS: u32 = 64;

/// What to test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The exponent p, a prime from 2 to [`EXPONENT_MAX`].
    pub exponent: u32,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The exponent p.
    pub exponent: u32,
    /// Whether 2^p − 1 is prime.
    pub prime: bool,
    /// The low 64 bits of S(p−2), in 16 upper-case hex digits.
    pub residue: String,
}

/// Tests one exponent.
///
/// # Errors
///
/// [`Error::InvalidInput`] for an exponent that is not a prime or is too large: 2^p − 1 of a composite
/// p is composite, and the test says nothing about it.
#[hearth::task]
pub fn run(input: Input) -> Result<Output, Error> {
    let exponent = input.exponent;
    if exponent > EXPONENT_MAX {
        return Err(Error::invalid_input(format_args!(
            "exponent {exponent} is above {EXPONENT_MAX}"
        )));
    }
    if !is_prime(exponent) {
        return Err(Error::invalid_input(format_args!(
            "exponent {exponent} is not a prime"
        )));
    }
    if exponent == 2 {
        // 2² − 1 = 3 is prime, and the only Mersenne number that the test does not cover.
        return Ok(output(exponent, 0, true));
    }

    let total = exponent - 2;
    let (mut done, mut residue) = match checkpoint::load_bytes() {
        Some(state) => snapshot::read(&state, exponent).unwrap_or_else(|| {
            hearth::warn!("starting again: the checkpoint is not one of this test");
            (0, Residue::four(exponent))
        }),
        None => (0, Residue::four(exponent)),
    };
    let step = (total / STEPS).max(1);
    let mut state = snapshot::buffer(exponent);
    while done < total {
        // At the top, so that a resumed test saves first what it loaded: from there on it costs what it
        // would have cost without the interruption.
        snapshot::write(&mut state, done, &residue);
        checkpoint::save_bytes(&state);
        let until = (done + step).min(total);
        for _ in done..until {
            residue.square_minus_two();
        }
        done = until;
        hearth::progress(done.into(), u64::from(total));
    }
    Ok(output(exponent, residue.low_64(), residue.is_zero()))
}

fn output(exponent: u32, residue: u64, prime: bool) -> Output {
    Output {
        exponent,
        prime,
        residue: format!("{residue:016X}"),
    }
}

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests;
