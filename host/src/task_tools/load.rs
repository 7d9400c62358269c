//! What a path on the command line stands for.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hearth_wire::{Digest, Release, TaskLimits, limits};
use serde::Serialize;

use super::bundle::{self, Bundle};
use super::{ManifestDraft, ToolError, component, make};

/// A component with everything that is known about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The component.
    pub component: Bytes,
    /// What its manifest says or would say.
    pub draft: ManifestDraft,
    /// The release, if it came from one. Its signatures have not been verified.
    pub release: Option<Release>,
    file: PathBuf,
}

impl Loaded {
    /// Where a release of it goes by default: beside it, with the extension `.hearth`.
    pub fn release_path(&self) -> PathBuf {
        make::beside(&self.file, "hearth")
    }
}

/// Reads a task's folder (which is built first), a component with the `.manifest.toml` beside it if
/// there is one, or a release.
///
/// # Errors
///
/// When the path is none of these, does not build, or holds a component that no node would take.
pub fn load(path: &Path) -> Result<Loaded, ToolError> {
    let found = find(path)?;
    let (file, bytes) = match found {
        Found::Release(bundle) => return release(path, bundle),
        Found::Component(file, bytes) => (file, bytes),
    };
    let imports = component::imports(&bytes)?;
    let draft = make::draft_beside(&file, Some(Digest::of(&bytes)), imports)?;
    component::admit(&bytes, &draft.imports, &draft.limits)?;
    Ok(Loaded {
        component: bytes.into(),
        draft,
        release: None,
        file,
    })
}

enum Found {
    Release(Bundle),
    /// A component and where it lies.
    Component(PathBuf, Vec<u8>),
}

fn find(path: &Path) -> Result<Found, ToolError> {
    if path.is_dir() {
        let built = make::build(path, None, &mut |_| {})?;
        let bytes = read(&built.component)?;
        return Ok(Found::Component(built.component, bytes));
    }
    let mut magic = Vec::new();
    let file = File::open(path).map_err(ToolError::io("opening", path))?;
    file.take(8)
        .read_to_end(&mut magic)
        .map_err(ToolError::io("reading", path))?;
    if magic == bundle::MAGIC {
        return Bundle::read(path).map(Found::Release);
    }
    if !component::is_wasm(&magic) {
        let problem = "neither a task's folder, a component (.wasm) nor a release (.hearth)";
        return Err(ToolError::not_a_task(path, problem));
    }
    let bytes = component::of_module(read(path)?)?;
    Ok(Found::Component(path.to_owned(), bytes))
}

fn release(path: &Path, bundle: Bundle) -> Result<Loaded, ToolError> {
    let manifest = bundle
        .release
        .parse_manifest()
        .map_err(|error| ToolError::Bundle {
            path: path.to_owned(),
            problem: format!("the manifest: {error}"),
        })?;
    let draft = ManifestDraft {
        name: manifest.name,
        version: manifest.version,
        world: manifest.world,
        imports: manifest.imports,
        limits: manifest.limits,
        class: manifest.class,
        task_type: manifest.task_type,
        capabilities: manifest.capabilities,
        locations: manifest.locations,
        models: manifest.models,
    };
    Ok(Loaded {
        component: bundle.component,
        draft,
        release: Some(bundle.release),
        file: path.to_owned(),
    })
}

/// Reads a file that is no larger than a component may be.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ToolError> {
    let file = File::open(path).map_err(ToolError::io("opening", path))?;
    let mut bytes = Vec::new();
    let max = limits::COMPONENT_BYTES_MAX;
    file.take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(ToolError::io("reading", path))?;
    if bytes.len() as u64 > max {
        return Err(ToolError::not_a_task(
            path,
            format!("larger than a component may be, {max} bytes"),
        ));
    }
    Ok(bytes)
}

/// What can be said about a component before it is run.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// The world that it is made for, as its imports show.
    pub world: String,
    /// The interfaces that it imports, sorted, whether or not nodes have them.
    pub imports: Vec<String>,
    /// Whether it needs the locked subset of WASI.
    pub wasi: bool,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub digest: Digest,
    /// Limits of one attempt.
    pub limits: TaskLimits,
    /// Why no node would take it, if that is so.
    pub unfit: Option<String>,
}

/// Says what a component is and whether nodes would take it. A component that they would not take is
/// a report, not an error.
///
/// # Errors
///
/// When the path is not a component, a release or a task that builds.
pub fn check(path: &Path) -> Result<CheckReport, ToolError> {
    let (bytes, draft, signed) = match find(path)? {
        Found::Release(bundle) => {
            let loaded = release(path, bundle)?;
            (loaded.component, loaded.draft, true)
        }
        Found::Component(file, bytes) => {
            let digest = Some(Digest::of(&bytes));
            let draft = make::draft_beside(&file, digest, component::wanted(&bytes))?;
            (bytes.into(), draft, false)
        }
    };
    let admitted = component::imports(&bytes).and_then(|imports| {
        // A release grants what was signed; any other component would be granted what it wants.
        let granted = if signed { &draft.imports } else { &imports };
        component::admit(&bytes, granted, &draft.limits)?;
        Ok(imports)
    });
    let (imports, unfit) = match admitted {
        Ok(imports) => (imports, None),
        Err(unfit) => (component::wanted(&bytes), Some(unfit.to_string())),
    };
    let world = serde_json::to_value(draft.world).ok();
    Ok(CheckReport {
        world: world
            .as_ref()
            .and_then(|world| world.as_str())
            .unwrap_or("task")
            .to_owned(),
        wasi: imports.iter().any(|import| import.starts_with("wasi:")),
        imports,
        bytes: bytes.len() as u64,
        digest: Digest::of(&bytes),
        limits: draft.limits,
        unfit,
    })
}
