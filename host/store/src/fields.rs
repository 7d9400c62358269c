//! Fixed fields of file headers, and what they must say in every file.

use std::path::Path;

use hearth_wire::{Digest, RealmId};

use crate::StoreError;

/// Fills an array front to back.
pub(crate) struct Fields<'a>(pub(crate) &'a mut [u8]);

impl Fields<'_> {
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let (head, rest) = std::mem::take(&mut self.0).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.0 = rest;
    }
}

/// Reads fixed fields front to back.
pub(crate) struct Reading<'a>(pub(crate) &'a [u8]);

impl Reading<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
}

/// Refuses a file that a newer version wrote.
pub(crate) fn check_format(path: &Path, found: u32, supported: u32) -> Result<(), StoreError> {
    if found <= supported {
        return Ok(());
    }
    Err(StoreError::Format {
        path: path.to_owned(),
        found,
        supported,
    })
}

/// Refuses a file of another realm, and one that is encrypted.
pub(crate) fn check_ours(
    path: &Path,
    expected: RealmId,
    found: RealmId,
    key: Digest,
) -> Result<(), StoreError> {
    let path = path.to_owned();
    if found != expected {
        return Err(StoreError::WrongRealm {
            path,
            expected,
            found,
        });
    }
    if key != Digest::default() {
        return Err(StoreError::Encrypted { path, key });
    }
    Ok(())
}
