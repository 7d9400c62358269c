//! What can go wrong for an author, and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use hearth_sandbox::Unfit;
use hearth_wire::{Digest, ManifestError};

/// Why a tool did not do its work. The text ends with what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolError {
    /// A new task would overwrite something.
    #[error("{} is there already and not empty: choose another name", .0.display())]
    Exists(PathBuf),
    /// The name cannot be the name of a crate.
    #[error("{name:?} cannot name a task: {problem}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong, and what is allowed.
        problem: &'static str,
    },
    /// The system refused something.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no cargo.
    #[error("cargo was not found: install Rust from https://rustup.rs, then try again")]
    NoCargo,
    /// Rust cannot compile for guests.
    #[error(
        "Rust's library for wasm32-unknown-unknown is missing ({0}): \
         run `rustup target add wasm32-unknown-unknown`; with Debian's Rust, \
         `apt install libstd-rust-dev-wasm32`"
    )]
    NoTarget(String),
    /// Cargo said no.
    #[error("cargo could not build the task:\n{0}")]
    Cargo(String),
    /// Cargo's answer was not understood.
    #[error("cargo's answer was not understood: {0}; is it older than Rust 1.95?")]
    CargoAnswer(String),
    /// The folder holds no task.
    #[error("{} is not a task: {problem}", path.display())]
    NotATask {
        /// The folder or file.
        path: PathBuf,
        /// What is missing, and what to do.
        problem: String,
    },
    /// `[package.metadata.hearth]` is wrong.
    #[error("[package.metadata.hearth] of {}: {problem}", path.display())]
    Metadata {
        /// The crate's `Cargo.toml`.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The `.manifest.toml` beside a component is wrong.
    #[error("{}: {problem}", path.display())]
    Draft {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The module that cargo built is not a task's.
    #[error("{0}")]
    Encode(String),
    /// No node would take the component.
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// The manifest breaks a limit.
    #[error(
        "{0}: change it in [package.metadata.hearth] or in the .manifest.toml, and build again"
    )]
    Manifest(#[from] ManifestError),
    /// The file is not a release, or a damaged one.
    #[error("{}: {problem}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A release's component is another one than was signed.
    #[error("{}: the component is {found}, but {signed} was signed: fetch the release again", path.display())]
    OtherComponent {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        signed: Digest,
        /// What is there.
        found: Digest,
    },
}

impl ToolError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    pub(super) fn not_a_task(path: &Path, problem: impl Into<String>) -> Self {
        Self::NotATask {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
