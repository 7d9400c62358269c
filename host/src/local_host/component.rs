//! Components as an embedding program holds them.

use std::path::Path;

use bytes::Bytes;
use hearth_wire::{Digest, World, limits};

use super::LocalHostError;

/// A component's bytes with what it imports.
#[derive(Debug, Clone)]
pub struct Component {
    bytes: Bytes,
    digest: Digest,
    imports: Vec<String>,
}

impl Component {
    /// A component from its bytes.
    ///
    /// # Errors
    ///
    /// [`LocalHostError::Unfit`] if they are not a component.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, LocalHostError> {
        let bytes = bytes.into();
        let imports = hearth_sandbox::imports_of(&bytes)?;
        Ok(Self {
            digest: Digest::of(&bytes),
            bytes,
            imports,
        })
    }

    /// A component from a file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is too large or is not a component.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, LocalHostError> {
        let path = path.as_ref();
        let read = |source| LocalHostError::Read {
            path: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > limits::COMPONENT_BYTES_MAX {
            let problem = format!(
                "{size} bytes, a component has at most {}",
                limits::COMPONENT_BYTES_MAX
            );
            return Err(read(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                problem,
            )));
        }
        Self::from_bytes(std::fs::read(path).map_err(read)?)
    }

    /// The digest that names it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The world that it is made for: what a component imports decides it.
    pub(super) fn world(&self) -> World {
        let live = |import: &String| import.starts_with("hearth:task/deadline@");
        if self.imports.iter().any(live) {
            World::TaskLive
        } else {
            World::Task
        }
    }

    /// The interfaces that it imports, sorted.
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}
