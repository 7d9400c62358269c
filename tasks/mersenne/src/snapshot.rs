//! The state of a test as bytes: a version, the exponent, the squarings done and the limbs, all `u32`
//! with the little end first.

use crate::Residue;

const VERSION: u32 = 1;

/// Room for every snapshot of a test of `exponent`: filled again each time, so that saving does not
/// allocate and costs the same fuel before and after an interruption.
pub(crate) fn buffer(exponent: u32) -> Vec<u8> {
    let words = 3 + Residue::four(exponent).limbs().len();
    Vec::with_capacity(4 * words)
}

pub(crate) fn write(state: &mut Vec<u8>, done: u32, residue: &Residue) {
    state.clear();
    let head = [VERSION, residue.exponent(), done];
    for word in head.iter().chain(residue.limbs()) {
        state.extend_from_slice(&word.to_le_bytes());
    }
}

/// The squarings done and the number, `None` if it is not a snapshot of this exponent's test.
pub(crate) fn read(state: &[u8], exponent: u32) -> Option<(u32, Residue)> {
    let (words, []) = state.as_chunks::<4>() else {
        return None;
    };
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    match words.as_slice() {
        [VERSION, of, done, limbs @ ..] if *of == exponent && *done <= exponent - 2 => {
            Some((*done, Residue::from_limbs(exponent, limbs.to_vec())?))
        }
        _ => None,
    }
}
