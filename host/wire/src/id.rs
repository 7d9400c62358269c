//! Newtypes for everything that is named by a number or a digest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The text was not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {got:?}")]
pub struct ParseIdError {
    /// What the text should have looked like.
    pub expected: &'static str,
    /// The text, cut to 80 characters.
    pub got: String,
}

impl ParseIdError {
    fn new(expected: &'static str, got: &str) -> Self {
        Self {
            expected,
            got: got.chars().take(80).collect(),
        }
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            /// Accepts the displayed form and the bare number.
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.strip_prefix($prefix)
                    .unwrap_or(text)
                    .parse()
                    .map(Self)
                    .map_err(|_| ParseIdError::new(concat!($prefix, "NUMBER"), text))
            }
        }
    };
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = crate::ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number_id!(
    /// A job: one release run over many inputs. Numbers are dense within a realm.
    JobId(u64), "job-"
);
number_id!(
    /// The position of a task in its job's input set.
    TaskIndex(u32), ""
);
number_id!(
    /// One lease of a task to one node. Never used twice in a realm.
    AttemptId(u64), "attempt-"
);
number_id!(
    /// The position of a record in the journal, dense from 1.
    Seq(u64), ""
);
number_id!(
    /// One connection of one node, numbered by the coordinator and never used twice in a realm.
    SessionId(u64), "session-"
);
number_id!(
    /// Milliseconds on core's clock: never goes back, survives restarts, has no meaning outside.
    Millis(u64), ""
);
number_id!(
    /// Seconds since 1970-01-01T00:00:00Z.
    UnixSeconds(u64), ""
);

digest_id!(
    /// A node: the digest of its public key's SubjectPublicKeyInfo (RFC 5280).
    NodeId
);
digest_id!(
    /// A signing key (author, policy, root): the digest of its 32-byte Ed25519 public key.
    KeyId
);
digest_id!(
    /// A realm: the key id of its root key.
    RealmId
);
digest_id!(
    /// A release: the digest of its manifest's bytes as signed.
    ReleaseId
);

/// A task: an input of a job.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct TaskId {
    /// The job.
    pub job: JobId,
    /// The position in the job's input set.
    pub index: TaskIndex,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.job, self.index)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError::new("job-NUMBER/INDEX", text);
        let (job, index) = text.split_once('/').ok_or_else(error)?;
        Ok(Self {
            job: job.parse().map_err(|_| error())?,
            index: index.parse().map_err(|_| error())?,
        })
    }
}

/// One life of a coordinator on its data directory.
///
/// The counter rises with each start; the random incarnation tells apart two directories that were
/// copied from one backup and so reached the same counter.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Epoch {
    /// Rises by one with each start.
    pub counter: u64,
    /// Drawn at each start.
    pub incarnation: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:016x}", self.counter, self.incarnation)
    }
}

impl Millis {
    /// This time plus `millis`, saturating.
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` until this time, zero if it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_what_they_print() {
        let task = TaskId {
            job: JobId(7),
            index: TaskIndex(3),
        };
        assert_eq!(task.to_string(), "job-7/3");
        assert_eq!("job-7/3".parse(), Ok(task));
        assert_eq!("7/3".parse(), Ok(task));
        assert_eq!("12".parse(), Ok(JobId(12)));
        assert!("job-".parse::<JobId>().is_err());
        assert!("job-1".parse::<TaskId>().is_err());
    }
}
