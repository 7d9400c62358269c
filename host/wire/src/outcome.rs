//! How an attempt ended.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Body, Digest, Hasher, TaskLimits, limits};

/// How an attempt ended.
///
/// All but [`Outcome::Inconclusive`] follow from component, input, seed and limits alone, on every
/// machine, and so can be compared. An inconclusive attempt says nothing about the task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The guest returned this.
    Returned(Output),
    /// The guest returned an error of its contract.
    Refused(TaskError),
    /// A limit of the manifest was reached.
    Exhausted(Resource),
    /// The guest broke a rule of WebAssembly or of its world.
    Trapped(TrapKind),
    /// Not a result: the task must be run again elsewhere.
    Inconclusive(Inconclusive),
}

/// What a guest returned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// How to read the bytes.
    pub media_type: String,
    /// The bytes.
    pub body: Body,
}

/// The error that a guest returned: `error-code` of the WIT contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskError {
    /// The input is not one that this task accepts.
    InvalidInput(Option<String>),
    /// A capability that the task needs was not granted.
    NotGranted(Option<String>),
    /// The task ran and failed.
    Failed(Option<String>),
    /// Any other cause.
    Other(Option<String>),
}

/// A limit of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Resource {
    /// Compute.
    Fuel,
    /// The sum of all linear memories, or the elements of all tables.
    Memory,
    /// Bytes returned.
    Output,
}

/// The rule that a guest broke. Only kinds that every engine and CPU reports alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TrapKind {
    /// `unreachable` was executed: how a Rust panic ends.
    Unreachable,
    /// A memory access outside of the memory.
    MemoryOutOfBounds,
    /// A table access outside of the table.
    TableOutOfBounds,
    /// A call through a null or empty table element.
    IndirectCallToNull,
    /// A call through a table element of another type.
    BadSignature,
    /// Integer overflow.
    IntegerOverflow,
    /// Integer division by zero.
    DivisionByZero,
    /// A float that does not fit the integer.
    BadConversionToInteger,
    /// A rule of the component model was broken (bad pointer, invalid text, re-entrance, handles).
    Contract,
    /// A host function that this world forbids was called (real randomness, for example).
    Forbidden,
}

/// Why an attempt says nothing about its task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inconclusive {
    /// The native stack ended; its size differs between machines.
    StackOverflow,
    /// The host failed: no memory, a lost runner, a full disk. The text is for the operator.
    HostFault(String),
    /// The lease ended first.
    Deadline,
    /// Somebody asked to stop.
    Cancelled,
    /// The node did not start: its owner's policy declines, or it lacks something. Not an error of the task.
    Declined(String),
    /// The component is not one that can be run here: malformed, too large, wrong world. The author is to blame.
    Unfit(String),
}

impl Outcome {
    /// Whether the outcome can be compared with another machine's.
    pub fn is_conclusive(&self) -> bool {
        !matches!(self, Self::Inconclusive(_))
    }

    /// The digest by which outcomes are compared, equal for inline and stored bodies.
    /// `None` for an inconclusive outcome.
    pub fn digest(&self) -> Option<Digest> {
        let hasher = Hasher::with_domain("hearth.outcome.v1");
        let hasher = match self {
            Self::Returned(output) => {
                let blob = output.body.blob();
                hasher
                    .number(0)
                    .field(output.media_type.as_bytes())
                    .number(blob.len)
                    .raw(blob.digest.as_bytes())
            }
            Self::Refused(error) => {
                let (case, text) = error.parts();
                let hasher = hasher
                    .number(1)
                    .number(case)
                    .number(u64::from(text.is_some()));
                hasher.field(text.unwrap_or_default().as_bytes())
            }
            Self::Exhausted(resource) => hasher.number(2).number(*resource as u64),
            Self::Trapped(kind) => hasher.number(3).number(*kind as u64),
            Self::Inconclusive(_) => return None,
        };
        Some(hasher.finish())
    }

    /// Why there is no output, for people; texts in it come from the guest or its node.
    pub fn detail(&self) -> Option<String> {
        Some(match self {
            Self::Returned(_) => return None,
            Self::Refused(error) => error.to_string(),
            Self::Exhausted(resource) => format!("out of {resource}"),
            Self::Trapped(kind) => kind.to_string(),
            Self::Inconclusive(why) => why.to_string(),
        })
    }

    /// One word for tables and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Returned(_) => "returned",
            Self::Refused(_) => "refused",
            Self::Exhausted(_) => "exhausted",
            Self::Trapped(_) => "trapped",
            Self::Inconclusive(_) => "inconclusive",
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = match self {
            Self::InvalidInput(_) => "invalid input",
            Self::NotGranted(_) => "not granted",
            Self::Failed(_) => "failed",
            Self::Other(_) => "other",
        };
        match self.parts().1 {
            Some(text) => write!(f, "{case}: {text}"),
            None => f.write_str(case),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fuel => "fuel",
            Self::Memory => "memory",
            Self::Output => "output",
        })
    }
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "unreachable (how a Rust panic ends)",
            Self::MemoryOutOfBounds => "memory out of bounds",
            Self::TableOutOfBounds => "table out of bounds",
            Self::IndirectCallToNull => "indirect call to null",
            Self::BadSignature => "bad signature of an indirect call",
            Self::IntegerOverflow => "integer overflow",
            Self::DivisionByZero => "division by zero",
            Self::BadConversionToInteger => "bad conversion to integer",
            Self::Contract => "contract of the component model broken",
            Self::Forbidden => "forbidden host function called",
        })
    }
}

impl fmt::Display for Inconclusive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StackOverflow => f.write_str("the native stack ended"),
            Self::HostFault(why) => write!(f, "host fault: {why}"),
            Self::Deadline => f.write_str("the time was up"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Declined(why) => write!(f, "declined: {why}"),
            Self::Unfit(why) => write!(f, "unfit component: {why}"),
        }
    }
}

impl TaskError {
    fn parts(&self) -> (u64, Option<&str>) {
        match self {
            Self::InvalidInput(text) => (0, text.as_deref()),
            Self::NotGranted(text) => (1, text.as_deref()),
            Self::Failed(text) => (2, text.as_deref()),
            Self::Other(text) => (3, text.as_deref()),
        }
    }
}

/// What no honest host says of the end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Overrun {
    /// More compute than was granted.
    #[error("fuel {used} used of {granted}")]
    Fuel {
        /// Used.
        used: u64,
        /// Granted.
        granted: u64,
    },
    /// More output than was granted.
    #[error("an output of {bytes} bytes, {granted} are granted")]
    Output {
        /// Returned.
        bytes: u64,
        /// Granted.
        granted: u64,
    },
    /// A media type that says nothing, too much, or steers a terminal.
    #[error("a media type that is none")]
    MediaType,
    /// A text beyond its limit.
    #[error("an error text beyond its limit")]
    Text,
}

impl TaskLimits {
    /// Checks the compute of an attempt, all its predecessors' included.
    ///
    /// # Errors
    ///
    /// [`Overrun::Fuel`].
    pub fn check_fuel(&self, used: u64) -> Result<(), Overrun> {
        let granted = self.fuel;
        if used > granted {
            return Err(Overrun::Fuel { used, granted });
        }
        Ok(())
    }

    /// Checks what a guest returned: how to read it, and how many bytes.
    ///
    /// # Errors
    ///
    /// The first [`Overrun`].
    pub fn check_output(&self, media_type: &str, bytes: u64) -> Result<(), Overrun> {
        let granted = self.output_bytes;
        if bytes > granted {
            return Err(Overrun::Output { bytes, granted });
        }
        let fits = (1..=limits::NAME_BYTES_MAX).contains(&media_type.len());
        if !fits || media_type.contains(char::is_control) {
            return Err(Overrun::MediaType);
        }
        Ok(())
    }
}

impl TaskError {
    /// Checks the text of an error.
    ///
    /// # Errors
    ///
    /// [`Overrun::Text`].
    pub fn check(&self) -> Result<(), Overrun> {
        match self.parts() {
            (_, Some(text)) if text.len() > limits::ERROR_TEXT_BYTES_MAX => Err(Overrun::Text),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Blob;

    #[test]
    fn details_are_sentences_of_people() {
        let detail = |outcome: Outcome| outcome.detail().unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            detail(Outcome::Refused(TaskError::InvalidInput(text(
                "not a prime"
            )))),
            "invalid input: not a prime"
        );
        assert_eq!(detail(Outcome::Refused(TaskError::Failed(None))), "failed");
        assert_eq!(detail(Outcome::Exhausted(Resource::Fuel)), "out of fuel");
        assert_eq!(
            detail(Outcome::Trapped(TrapKind::DivisionByZero)),
            "division by zero"
        );
        assert_eq!(
            detail(Outcome::Inconclusive(Inconclusive::Cancelled)),
            "cancelled"
        );
    }

    #[test]
    fn digest_does_not_depend_on_where_the_body_is() {
        let output = |body| {
            Outcome::Returned(Output {
                media_type: "text/plain".into(),
                body,
            })
        };
        let inline = output(Body::Inline(b"hello".to_vec()));
        let stored = output(Body::Blob(Blob::of(b"hello")));
        assert_eq!(inline.digest(), stored.digest());
        assert_ne!(
            inline.digest(),
            output(Body::Inline(b"hullo".to_vec())).digest()
        );
        assert_ne!(
            Outcome::Refused(TaskError::Failed(None)).digest(),
            Outcome::Refused(TaskError::Failed(Some(String::new()))).digest()
        );
        assert_eq!(Outcome::Inconclusive(Inconclusive::Deadline).digest(), None);
    }
}
