//! Messages between a node and its runners, over an inherited socketpair.
//!
//! Frames are a little-endian `u32` length and that many bytes of [`crate::codec`]. A runner trusts
//! its node; the node believes a runner nothing but outcomes, because guest code runs in it.

use serde::{Deserialize, Serialize};

use crate::limits::INLINE_BYTES_MAX;
use crate::message::{LogLevel, Progress};
use crate::{
    AttemptId, Blob, Body, Digest, EngineId, Inconclusive, Outcome, Output, Resource, TaskError,
    TaskLimits, TrapKind,
};

/// What a node says to a runner that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToRunner {
    /// Keep this compiled component; later runs name it by digest. Sent before the first run.
    Load {
        /// Digest of the component's bytes.
        component: Digest,
        /// What the compile process made of them, its seal already checked by the node.
        #[serde(with = "serde_bytes")]
        artefact: Vec<u8>,
    },
    /// Forget a compiled component.
    Unload(Digest),
    /// Run attempts, in this order as slots are free.
    Run(Vec<Run>),
    /// Stop attempts; each ends with `Inconclusive(Cancelled)` unless it had ended.
    Cancel(Vec<AttemptId>),
    /// Park attempts with their memory.
    Pause(Vec<AttemptId>),
    /// Go on with parked attempts.
    Resume(Vec<AttemptId>),
    /// Share of time that guests may run, in percent (100: no throttle, 0: all parked).
    Throttle(u8),
    /// End when nothing runs.
    Shutdown,
}

/// One attempt for a runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The attempt.
    pub attempt: AttemptId,
    /// Which component.
    pub component: Digest,
    /// Content id: the id that the guest sees.
    pub content: Digest,
    /// Limits of the signed manifest.
    pub limits: TaskLimits,
    /// Seed that the guest sees.
    pub seed: Digest,
    /// How to read the input.
    pub media_type: String,
    /// The input.
    #[serde(with = "serde_bytes")]
    pub input: Vec<u8>,
    /// State to go on from, and the fuel it had cost.
    pub resume: Option<Resume>,
}

/// Where a resumed attempt starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// The saved state.
    #[serde(with = "serde_bytes")]
    pub state: Vec<u8>,
    /// Fuel used until it was saved.
    pub fuel_used: u64,
}

/// What a runner says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromRunner {
    /// First message: confined and ready.
    Ready(Ready),
    /// Attempts ended.
    Finished(Vec<Finished>),
    /// The attempt did not begin: its component is not loaded here, or its artefact could not be.
    NotLoaded {
        /// The attempt.
        attempt: AttemptId,
        /// Why.
        text: String,
    },
    /// How far attempts are; merged, so that a guest cannot flood.
    Progress(Vec<Progress>),
    /// Lines that a guest logged, within its limit.
    Log {
        /// The attempt.
        attempt: AttemptId,
        /// How important.
        level: LogLevel,
        /// The text.
        text: String,
    },
    /// State that a guest saved, at most one in the host's checkpoint period.
    Checkpoint {
        /// The attempt.
        attempt: AttemptId,
        /// The state.
        #[serde(with = "serde_bytes")]
        state: Vec<u8>,
        /// Fuel used until now, over all attempts resumed.
        fuel_used: u64,
    },
}

/// A runner introduces itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// What its outcomes depend on.
    pub engine: EngineId,
    /// Names the machine code that it can load: what a compile process of another digest made, it cannot.
    pub code: Digest,
    /// Which walls the system gave.
    pub confinement: Confinement,
}

/// Which walls stand around a runner. Told to the owner and in `hearth nodes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// No new privileges can be gained.
    pub no_new_privileges: bool,
    /// Landlock: no file and no TCP port can be opened.
    pub landlock: bool,
    /// seccomp: only listed system calls.
    pub seccomp: bool,
    /// Resource limits (address space where it fits, open files, processes, core dumps).
    pub rlimits: bool,
}

impl Confinement {
    /// The walls that are not there, by name.
    pub fn missing(self) -> impl Iterator<Item = &'static str> {
        let Self {
            no_new_privileges,
            landlock,
            seccomp,
            rlimits,
        } = self;
        let all = [
            ("no-new-privileges", no_new_privileges),
            ("landlock", landlock),
            ("seccomp", seccomp),
            ("rlimits", rlimits),
        ];
        all.into_iter()
            .filter_map(|(name, there)| (!there).then_some(name))
    }
}

/// How an attempt ended in a runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The attempt.
    pub attempt: AttemptId,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Fuel used, over all attempts resumed.
    pub fuel_used: u64,
    /// Time in the sandbox, in microseconds, without pauses.
    pub run_micros: u64,
    /// Log bytes dropped because they were beyond the limit.
    pub log_bytes_dropped: u64,
}

/// [`crate::Outcome`] with the output's bytes always at hand: whether they travel inline or as a blob is
/// the node's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunOutcome {
    /// The guest returned this.
    Returned {
        /// How to read it.
        media_type: String,
        /// The bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The guest returned an error.
    Refused(TaskError),
    /// A limit was reached.
    Exhausted(Resource),
    /// A rule was broken.
    Trapped(TrapKind),
    /// Not a result.
    Inconclusive(Inconclusive),
}

impl RunOutcome {
    /// The same outcome as it travels: bytes above the inline limit become a blob, given beside it.
    pub fn into_outcome(self) -> (Outcome, Option<Vec<u8>>) {
        match self {
            Self::Returned { media_type, bytes } if bytes.len() > INLINE_BYTES_MAX => {
                let body = Body::Blob(Blob::of(&bytes));
                (Outcome::Returned(Output { media_type, body }), Some(bytes))
            }
            Self::Returned { media_type, bytes } => (
                Outcome::Returned(Output {
                    media_type,
                    body: Body::Inline(bytes),
                }),
                None,
            ),
            Self::Refused(error) => (Outcome::Refused(error), None),
            Self::Exhausted(resource) => (Outcome::Exhausted(resource), None),
            Self::Trapped(kind) => (Outcome::Trapped(kind), None),
            Self::Inconclusive(cause) => (Outcome::Inconclusive(cause), None),
        }
    }

    /// The digest of [`Outcome::digest`].
    pub fn digest(&self) -> Option<Digest> {
        self.clone().into_outcome().0.digest()
    }
}

/// What a node says to a compile process, once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompileRequest {
    /// The component, its digest checked by the node.
    #[serde(with = "serde_bytes")]
    pub component: Vec<u8>,
    /// The interfaces that the manifest grants, sorted: exactly what it may import.
    pub imports: Vec<String>,
    /// Limits of the manifest, against which static sizes are checked.
    pub limits: TaskLimits,
}

/// What a compile process answers, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompileReply {
    /// The artefact, for this machine's engine only.
    Compiled {
        /// Machine code; the node seals it and keeps it.
        #[serde(with = "serde_bytes")]
        artefact: Vec<u8>,
    },
    /// The component is not one that may run. The author is to blame; the text says why and what to do.
    Unfit(String),
    /// The compiler failed or was out of memory or time. Not the author's fault for certain.
    Failed(String),
}
