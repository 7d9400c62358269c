//! What a manifest will say, before it is signed.

use std::path::Path;

use hearth_wire::{Class, Digest, TaskLimits, TaskType, World};
use serde::{Deserialize, Serialize};

use super::ToolError;

/// The interface that makes a component one of [`World::TaskLive`].
const DEADLINE: &str = "hearth:task/deadline@";

/// A manifest without what only signing adds: the component's digest, the realm, the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestDraft {
    /// Name of the release.
    pub name: String,
    /// The author's version.
    pub version: String,
    /// The world that the component is made for.
    pub world: World,
    /// The interfaces that it imports, sorted.
    pub imports: Vec<String>,
    /// Limits of one attempt.
    pub limits: TaskLimits,
    /// How results are compared.
    pub class: Class,
    /// What it is for.
    pub task_type: TaskType,
    /// What a node must have, sorted.
    pub capabilities: Vec<String>,
    /// Where it may run; empty for anywhere.
    pub locations: Vec<String>,
    /// Models that it may use.
    pub models: Vec<Digest>,
}

/// `[package.metadata.hearth]`: what an author may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Metadata {
    task_type: Option<TaskType>,
    limits: Limits,
    capabilities: Vec<String>,
    locations: Vec<String>,
    models: Vec<Digest>,
    // For people and other tools; nothing here depends on them.
    #[serde(rename = "input-media-type")]
    _input_media_type: Option<String>,
    #[serde(rename = "inputs")]
    _inputs: Option<String>,
}

/// The limits, with the names of the contract. What is left out is the default.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Limits {
    fuel: u64,
    memory_bytes: u64,
    table_elements: u32,
    output_bytes: u64,
    log_bytes: u64,
    checkpoint_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(TaskLimits::default())
    }
}

impl From<TaskLimits> for Limits {
    fn from(limits: TaskLimits) -> Self {
        let TaskLimits {
            fuel,
            memory_bytes,
            table_elements,
            output_bytes,
            log_bytes,
            checkpoint_bytes,
        } = limits;
        Self {
            fuel,
            memory_bytes,
            table_elements,
            output_bytes,
            log_bytes,
            checkpoint_bytes,
        }
    }
}

impl From<Limits> for TaskLimits {
    fn from(limits: Limits) -> Self {
        let Limits {
            fuel,
            memory_bytes,
            table_elements,
            output_bytes,
            log_bytes,
            checkpoint_bytes,
        } = limits;
        Self {
            fuel,
            memory_bytes,
            table_elements,
            output_bytes,
            log_bytes,
            checkpoint_bytes,
        }
    }
}

/// The `.manifest.toml` beside a component.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    name: String,
    version: String,
    component: Digest,
    task_type: TaskType,
    #[serde(default)]
    capabilities: Vec<String>,
    #[serde(default)]
    locations: Vec<String>,
    #[serde(default)]
    models: Vec<Digest>,
    #[serde(default)]
    limits: Limits,
}

impl ManifestDraft {
    /// The draft of a component that nothing else is known about.
    pub(super) fn bare(name: &str, imports: Vec<String>) -> Self {
        let metadata = Metadata::default();
        Self::new(name.to_owned(), "0.0.0".to_owned(), imports, metadata)
    }

    /// The draft of a crate with this `[package.metadata.hearth]`.
    pub(super) fn of_crate(
        manifest: &Path,
        name: &str,
        version: &str,
        metadata: Option<&serde_json::Value>,
        imports: Vec<String>,
    ) -> Result<Self, ToolError> {
        let metadata = match metadata {
            Some(metadata) => {
                Metadata::deserialize(metadata).map_err(|error| ToolError::Metadata {
                    path: manifest.to_owned(),
                    problem: error.to_string(),
                })?
            }
            None => Metadata::default(),
        };
        Ok(Self::new(
            name.to_owned(),
            version.to_owned(),
            imports,
            metadata,
        ))
    }

    fn new(name: String, version: String, imports: Vec<String>, metadata: Metadata) -> Self {
        let live = imports.iter().any(|import| import.starts_with(DEADLINE));
        let sorted = |mut list: Vec<String>| {
            list.sort();
            list.dedup();
            list
        };
        Self {
            name,
            version,
            // What a component imports decides its class: see `world task` in the contract.
            world: if live { World::TaskLive } else { World::Task },
            class: if live { Class::Tolerant } else { Class::Exact },
            imports,
            limits: metadata.limits.into(),
            task_type: metadata.task_type.unwrap_or(TaskType::Processing),
            capabilities: sorted(metadata.capabilities),
            locations: sorted(metadata.locations),
            models: metadata.models,
        }
    }

    /// The text of the `.manifest.toml` for a component with this digest.
    pub(super) fn to_toml(&self, component: Digest) -> Result<String, ToolError> {
        let file = File {
            name: self.name.clone(),
            version: self.version.clone(),
            component,
            task_type: self.task_type,
            capabilities: self.capabilities.clone(),
            locations: self.locations.clone(),
            models: self.models.clone(),
            limits: self.limits.into(),
        };
        let text = toml::to_string(&file).map_err(|error| {
            // A number beyond TOML's is the only thing that does not fit.
            ToolError::Encode(format!("[package.metadata.hearth]: {error}"))
        })?;
        let mut imports = String::new();
        for import in &self.imports {
            imports.push_str("#   ");
            imports.push_str(import);
            imports.push('\n');
        }
        Ok(format!(
            "# Written by `hearth task build`, read by `hearth task sign` and `hearth run`.\n\
             # The component imports:\n{imports}\n{text}"
        ))
    }

    /// Reads the `.manifest.toml` at `path`, which must be of the component with this digest if one is
    /// given.
    pub(super) fn read(
        path: &Path,
        text: &str,
        component: Option<Digest>,
        imports: Vec<String>,
    ) -> Result<Self, ToolError> {
        let wrong = |problem: String| ToolError::Draft {
            path: path.to_owned(),
            problem,
        };
        let file: File = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if let Some(component) = component
            && file.component != component
        {
            return Err(wrong(format!(
                "it is of component {}, but the file beside it is {}: build again, or remove the .manifest.toml",
                file.component.short(),
                component.short()
            )));
        }
        let metadata = Metadata {
            task_type: Some(file.task_type),
            limits: file.limits,
            capabilities: file.capabilities,
            locations: file.locations,
            models: file.models,
            ..Metadata::default()
        };
        Ok(Self::new(file.name, file.version, imports, metadata))
    }
}
