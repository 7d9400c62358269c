//! Releases: a component's manifest and the signatures on it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, decode_canonical, encode};
use crate::{Blob, Digest, KeyId, RealmId, ReleaseId, UnixSeconds, limits, text};

/// The world of `hearth:task` that a component is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Comparable work: the same bytes on every machine.
    Task,
    /// Adds exact integer inference; still comparable.
    TaskInfer,
    /// Adds time and float inference; compared by its own class.
    TaskLive,
}

/// How results of a release are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Byte for byte.
    Exact,
    /// By a comparator that allows small differences (float inference).
    Tolerant,
}

/// What a release is for. A realm maps a type to a default release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// Checks a claim.
    Verification,
    /// Draws conclusions from data.
    Analysis,
    /// Turns data into other data.
    Processing,
}

/// The limits of one attempt. The same on every machine: they are part of the task's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskLimits {
    /// Compute, in wasmtime's fuel; about 2e9 a second on one core.
    pub fuel: u64,
    /// Sum of all linear memories, in bytes.
    pub memory_bytes: u64,
    /// Sum of the elements of all tables.
    pub table_elements: u32,
    /// Bytes that the guest may return.
    pub output_bytes: u64,
    /// Bytes of log that are kept. More is counted and dropped, and changes no outcome.
    pub log_bytes: u64,
    /// Bytes of one checkpoint. A larger one is dropped, and changes no outcome.
    pub checkpoint_bytes: u64,
}

impl Default for TaskLimits {
    fn default() -> Self {
        Self {
            fuel: limits::FUEL_DEFAULT,
            memory_bytes: limits::MEMORY_BYTES_DEFAULT,
            table_elements: limits::TABLE_ELEMENTS_DEFAULT,
            output_bytes: limits::OUTPUT_BYTES_DEFAULT,
            log_bytes: limits::LOG_BYTES_DEFAULT,
            checkpoint_bytes: limits::CHECKPOINT_BYTES_DEFAULT,
        }
    }
}

/// What decides the outcome of a component besides its input: wasmtime's version and our semantic
/// configuration. Results are compared within one engine id, across CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EngineId {
    /// wasmtime's version: major, minor, patch.
    pub version: [u16; 3],
    /// Digest of the settings that change what a guest can observe.
    pub semantics: Digest,
}

/// Versions of wasmtime, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EngineRange {
    /// The oldest version allowed.
    pub min: [u16; 3],
    /// The newest version allowed.
    pub max: [u16; 3],
}

impl EngineRange {
    /// Whether an engine is inside the range.
    pub fn contains(&self, engine: &EngineId) -> bool {
        (self.min..=self.max).contains(&engine.version)
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.version;
        write!(
            f,
            "wasmtime-{major}.{minor}.{patch}+{}",
            self.semantics.short()
        )
    }
}

/// What an author says about a component and signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the release, `NAME_BYTES_MAX` at most.
    pub name: String,
    /// The author's version, in any form.
    pub version: String,
    /// The realm in which it may run; `None` for any realm that trusts the author.
    pub realm: Option<RealmId>,
    /// The component's bytes.
    pub component: Blob,
    /// The world it is made for.
    pub world: World,
    /// Exactly the interfaces that it imports, sorted: `hearth:task/context@0.1.0`, …
    pub imports: Vec<String>,
    /// Limits of one attempt.
    pub limits: TaskLimits,
    /// How results are compared.
    pub class: Class,
    /// What it is for.
    pub task_type: TaskType,
    /// What a node must have (`gpu`, …), sorted.
    pub capabilities: Vec<String>,
    /// Where it may run; empty for anywhere.
    pub locations: Vec<String>,
    /// Models that it may use, by digest.
    pub models: Vec<Digest>,
    /// Engines that it may run on.
    pub engines: EngineRange,
    /// Not valid before.
    pub not_before: UnixSeconds,
    /// Not valid after.
    pub not_after: UnixSeconds,
}

/// A field of a manifest breaks its limit. The author is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("manifest field {field}: {problem}")]
pub struct ManifestError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl Manifest {
    /// Checks every field against its limit.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] for the first field that breaks one.
    pub fn check(&self) -> Result<(), ManifestError> {
        let fail = |field, problem: String| Err(ManifestError { field, problem });
        let name_ok = |text: &str| text::is_name(text, limits::NAME_BYTES_MAX);
        if !name_ok(&self.name) {
            return fail(
                "name",
                format!(
                    "must be 1 to {} bytes without control characters",
                    limits::NAME_BYTES_MAX
                ),
            );
        }
        if !name_ok(&self.version) {
            return fail(
                "version",
                format!(
                    "must be 1 to {} bytes without control characters",
                    limits::NAME_BYTES_MAX
                ),
            );
        }
        for (field, list) in [
            ("imports", &self.imports),
            ("capabilities", &self.capabilities),
            ("locations", &self.locations),
        ] {
            if list.len() > limits::MANIFEST_LIST_MAX || !list.iter().all(|item| name_ok(item)) {
                return fail(
                    field,
                    format!("at most {} names", limits::MANIFEST_LIST_MAX),
                );
            }
        }
        if self.models.len() > limits::MANIFEST_LIST_MAX {
            return fail("models", format!("at most {}", limits::MANIFEST_LIST_MAX));
        }
        let within = |field, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                fail(field, format!("{value} is not between {min} and {max}"))
            }
        };
        within(
            "component.len",
            self.component.len,
            8,
            limits::COMPONENT_BYTES_MAX,
        )?;
        within("limits.fuel", self.limits.fuel, 1, u64::MAX / 4)?;
        within(
            "limits.memory_bytes",
            self.limits.memory_bytes,
            64 << 10,
            limits::MEMORY_BYTES_MAX,
        )?;
        within(
            "limits.table_elements",
            self.limits.table_elements.into(),
            1,
            1_000_000,
        )?;
        within(
            "limits.output_bytes",
            self.limits.output_bytes,
            0,
            limits::OUTPUT_BYTES_MAX,
        )?;
        within("limits.log_bytes", self.limits.log_bytes, 0, 16 << 20)?;
        within(
            "limits.checkpoint_bytes",
            self.limits.checkpoint_bytes,
            0,
            limits::CHECKPOINT_BYTES_MAX,
        )?;
        if self.engines.min > self.engines.max {
            return fail("engines", "min is above max".to_owned());
        }
        if self.not_before >= self.not_after {
            return fail("not_after", "is not after not_before".to_owned());
        }
        Ok(())
    }
}

/// A signature and the key that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The signer.
    pub key: KeyId,
    /// The Ed25519 signature (RFC 8032), 64 bytes.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A manifest's bytes with detached signatures: nothing here has been verified.
///
/// `hearth-identity` turns it into a proof that a trusted author signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The manifest as encoded by the author: what is signed and what names the release.
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
    /// At most `SIGNATURES_MAX`.
    pub signatures: Vec<Signature>,
}

impl Release {
    /// An unsigned release of `manifest`.
    pub fn unsigned(manifest: &Manifest) -> Self {
        Self {
            manifest: encode(manifest),
            signatures: Vec::new(),
        }
    }

    /// The name of the release: the digest of its manifest's bytes. Signatures do not change it.
    pub fn id(&self) -> ReleaseId {
        ReleaseId(Digest::of(&self.manifest))
    }

    /// Reads the manifest without verifying anything.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the bytes are not a manifest.
    pub fn parse_manifest(&self) -> Result<Manifest, DecodeError> {
        decode_canonical(&self.manifest, limits::MANIFEST_BYTES_MAX)
    }
}
