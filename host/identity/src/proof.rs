//! The mark of what was checked.

use std::ops::Deref;

/// A value that the function which returned it has checked.
///
/// Only this crate can make one, and each function that does says in its name and errors what it
/// checked. A proof is about the moment when it was made: what may end later (a policy, a release) is
/// looked at again where it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value without its proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
