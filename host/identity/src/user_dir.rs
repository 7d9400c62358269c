//! What one person keeps on one machine, outside of any realm.

use std::path::{Path, PathBuf};

use crate::{DirError, SigningKey, files};

/// A person's directory. It holds the personal author key, which is trusted on this machine only, so
/// that one's own code runs here without a ceremony.
#[derive(Debug, Clone)]
pub struct UserDir(PathBuf);

impl UserDir {
    /// Opens the directory, and makes it if it is missing.
    ///
    /// # Errors
    ///
    /// [`DirError::Io`].
    pub fn open(path: &Path) -> Result<Self, DirError> {
        files::create_dir(path)?;
        Ok(Self(path.to_owned()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The personal author key, made at first use.
    ///
    /// # Errors
    ///
    /// [`DirError`].
    pub fn author_key(&self) -> Result<SigningKey, DirError> {
        SigningKey::load_or_create(&self.0.join("author.key"))
    }
}
