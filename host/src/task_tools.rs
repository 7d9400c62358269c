//! Author's tools: from an idea to a signed release.
//!
//! [`new`] makes a task crate that needs nothing but cargo and a registry, [`build()`] makes a component
//! of it, [`check`] says whether nodes would take it, [`sign`] makes a release. Nothing here prints or
//! asks; the command line does. None of it needs a network of its own, a realm or the repository
//! that this program was built from.

mod bundle;
mod cargo;
mod component;
mod draft;
mod error;
mod load;
mod make;
mod scaffold;
mod vendored;

#[cfg(test)]
mod tests;

pub use bundle::{Bundle, SignOptions, sign};
pub use draft::ManifestDraft;
pub use error::ToolError;
pub use load::{CheckReport, Loaded, check, load};
pub use make::{Built, build};
pub use scaffold::{NewTask, new};
