//! Lists whose end is all alike, written as what differs and a count: `#[serde(with = "sparse")]`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An element to which nothing has happened yet.
pub trait Blank: Copy + PartialEq {
    /// What all of them are.
    const BLANK: Self;
}

#[derive(Serialize, Deserialize)]
struct Sparse<T> {
    count: u32,
    used: T,
}

/// Writes the elements up to the last one that is not blank.
///
/// # Errors
///
/// What `to` refuses.
pub fn serialize<T: Blank + Serialize, S: Serializer>(
    list: &[T],
    to: S,
) -> Result<S::Ok, S::Error> {
    let blank = list.iter().rev().take_while(|one| **one == T::BLANK);
    let used = &list[..list.len() - blank.count()];
    let count = list.len() as u32;
    Sparse { count, used }.serialize(to)
}

/// Reads them back, with the blank ones behind.
///
/// # Errors
///
/// What `from` refuses.
pub fn deserialize<'de, T, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: Blank + Deserialize<'de>,
    D: Deserializer<'de>,
{
    let Sparse { count, mut used } = Sparse::<Vec<T>>::deserialize(from)?;
    used.resize(count as usize, T::BLANK);
    Ok(used)
}
