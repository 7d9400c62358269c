//! Jobs: one release run over many inputs with one set of options.

use serde::{Deserialize, Serialize};

use crate::{Digest, InputSet, KeyId, ReleaseId, limits};

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The release to run.
    pub release: ReleaseId,
    /// Its inputs; one task each.
    pub inputs: InputSet,
    /// Who submits: the key of the client's certificate. Quotas count by it.
    pub owner: KeyId,
    /// Everything else.
    pub options: JobOptions,
}

/// Options of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobOptions {
    /// For people, `NAME_BYTES_MAX` at most.
    pub name: String,
    /// Which queue.
    pub priority: Priority,
    /// What makes a result final.
    pub trust: TrustPolicy,
    /// Where it may run.
    pub placement: Placement,
    /// The job must end this long after submission, in milliseconds; what is open then expires.
    pub deadline_millis: Option<u64>,
    /// A node that has not reported this long after the lease loses it, in milliseconds.
    pub lease_millis: u64,
    /// Attempts at one task before it fails; an attempt that only lost its node counts half.
    pub attempts_max: u8,
    /// Seed that every task of the job sees.
    pub seed: Digest,
    /// Locations of which a node must have one; empty for any.
    pub locations: Vec<String>,
    /// Submitting again with the same key and owner gives the same job instead of a second one.
    pub idempotency_key: Option<String>,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            priority: Priority::Medium,
            trust: TrustPolicy::Fast,
            placement: Placement::Anywhere,
            deadline_millis: None,
            lease_millis: limits::LEASE_MILLIS_DEFAULT,
            attempts_max: limits::ATTEMPTS_MAX_DEFAULT,
            seed: Digest::default(),
            locations: Vec::new(),
            idempotency_key: None,
        }
    }
}

/// Which queue a job waits in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Has a reserved share.
    High,
    /// The default.
    #[default]
    Medium,
    /// May be paused for others.
    Low,
}

impl Priority {
    /// All priorities, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Medium, Self::Low];
}

/// What makes a result final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TrustPolicy {
    /// One run anywhere; nothing is checked and `verified` stays false.
    #[default]
    Fast,
    /// Every result is run again on a trusted node.
    Certain,
    /// Runs on trusted nodes only.
    Local,
}

/// Where a job may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Volunteers first, the local host when they are missing or slow.
    #[default]
    Anywhere,
    /// Volunteers only: waits for them.
    Volunteers,
    /// Trusted nodes only.
    Trusted,
}
