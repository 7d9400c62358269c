//! Why a task gives no output.

use std::fmt;

/// What a task's function returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task gives no output.
///
/// An error is a result: it is compared between machines and never retried, so its text must follow
/// from the input alone. Hosts keep the first 4 KiB of it. A panic is not an error: it is reported as
/// a trap, with its message in the task's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The input is not one that this task accepts.
    InvalidInput(String),
    /// Something that the task needs was not granted.
    NotGranted(String),
    /// The task understood its input and failed.
    Failed(String),
    /// Any other cause.
    Other(String),
}

impl Error {
    /// The input is not one that this task accepts.
    pub fn invalid_input(why: impl fmt::Display) -> Self {
        Self::InvalidInput(why.to_string())
    }

    /// Something that the task needs was not granted.
    pub fn not_granted(what: impl fmt::Display) -> Self {
        Self::NotGranted(what.to_string())
    }

    /// The task understood its input and failed.
    pub fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }

    /// Any other cause.
    pub fn other(why: impl fmt::Display) -> Self {
        Self::Other(why.to_string())
    }

    /// The text alone, empty if there is none.
    pub fn text(&self) -> &str {
        match self {
            Self::InvalidInput(text)
            | Self::NotGranted(text)
            | Self::Failed(text)
            | Self::Other(text) => text,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::InvalidInput(_) => "invalid input",
            Self::NotGranted(_) => "not granted",
            Self::Failed(_) => "failed",
            Self::Other(_) => "error",
        };
        match self.text() {
            "" => f.write_str(kind),
            text => write!(f, "{kind}: {text}"),
        }
    }
}

impl std::error::Error for Error {}

/// Turns the errors of other crates into this one, saying who is to blame.
pub trait ResultExt<T> {
    /// The input is to blame.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidInput`] with the text of the error.
    fn or_invalid_input(self) -> Result<T>;

    /// The task failed.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with the text of the error.
    fn or_failed(self) -> Result<T>;
}

impl<T, E: fmt::Display> ResultExt<T> for std::result::Result<T, E> {
    fn or_invalid_input(self) -> Result<T> {
        self.map_err(Error::invalid_input)
    }

    fn or_failed(self) -> Result<T> {
        self.map_err(Error::failed)
    }
}
