//! Static checks before anything is compiled.

use hearth_wire::TaskLimits;

/// A component that passed [`admit`]. Only these are compiled.
#[derive(Debug)]
pub struct Admitted<'a> {
    pub(crate) bytes: &'a [u8],
}

/// One interface of a component that does not fit this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldSkew {
    /// The interface as the component names it: `wasi:http/types@0.2.0`.
    pub interface: String,
    /// Why it cannot be had.
    pub problem: String,
    /// Functions of it that the component wanted and that are not there.
    pub functions: Vec<String>,
}

/// The component may not run here. Its author is to blame; the text says why and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Not WebAssembly, or a module where a component is wanted, or broken.
    #[error("{0}")]
    Malformed(String),
    /// Something in it is larger or more than is allowed.
    #[error("{what}: {got}, at most {max} is allowed")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How much there is.
        got: u64,
        /// How much is allowed.
        max: u64,
    },
    /// It imports what it was not granted or what this host does not have, or exports too little.
    #[error("{}", skew_text(.0))]
    World(Vec<WorldSkew>),
}

fn skew_text(_skews: &[WorldSkew]) -> String {
    todo!()
}

/// Checks size, static counts, imports and exports of `component`, without compiling it.
///
/// # Errors
///
/// [`Unfit`], with every function that it wanted in vain.
pub fn admit<'a>(
    component: &'a [u8],
    imports: &[String],
    limits: &TaskLimits,
) -> Result<Admitted<'a>, Unfit> {
    let _ = (imports, limits);
    let _ = component;
    todo!()
}

/// The interfaces that a component imports, sorted: what an author's manifest has to list.
///
/// # Errors
///
/// [`Unfit`] if it is not a component.
pub fn imports_of(component: &[u8]) -> Result<Vec<String>, Unfit> {
    let _ = component;
    todo!()
}
