//! The state of a test as bytes: a version, the exponent, the squarings done and the limbs, all `u32`
//! with the little end first.

use crate::Residue;

const VERSION: u32 = 1;

pub(crate) fn write(done: u32, residue: &Residue) -> Vec<u8> {
    [VERSION, residue.exponent(), done]
        .iter()
        .chain(residue.limbs())
        .flat_map(|word| word.to_le_bytes())
        .collect()
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
