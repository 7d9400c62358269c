//! A release in one file.
//!
//! ```text
//! magic 8 ("HEARTHRB") | format u32 | release length u32 | release | component
//! ```
//!
//! Numbers are little-endian; the release is `wire::codec`'s encoding of [`Release`]; the component
//! goes to the end of the file. The extension is `.hearth`.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use hearth_identity::{SigningKey, sign_release};
use hearth_wire::{Blob, EngineRange, Manifest, RealmId, Release, UnixSeconds, codec, limits};

use super::{Loaded, ToolError, component};

pub(super) const MAGIC: &[u8; 8] = b"HEARTHRB";
const FORMAT: u32 = 1;
const HEADER: usize = 16;
/// A manifest and its signatures, each a key id and 64 bytes, with room for their encoding.
const RELEASE_BYTES_MAX: usize = limits::MANIFEST_BYTES_MAX + limits::SIGNATURES_MAX * 128 + 64;

/// A release and its component: all that somebody needs who trusts the author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The signed manifest. Nothing in it has been verified.
    pub release: Release,
    /// The component that the manifest names.
    pub component: Bytes,
}

/// What signing adds to a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignOptions {
    /// Not valid before.
    pub not_before: UnixSeconds,
    /// Not valid after.
    pub not_after: UnixSeconds,
    /// The only realm in which it may run; `None` for any that trusts the author.
    pub realm: Option<RealmId>,
}

/// Signs a component: makes a release that nodes take in every realm that trusts the key.
///
/// # Errors
///
/// [`ToolError::Unfit`] if no node would take the component, [`ToolError::Manifest`] if the draft breaks
/// a limit.
pub fn sign(loaded: &Loaded, key: &SigningKey, options: &SignOptions) -> Result<Bundle, ToolError> {
    let draft = &loaded.draft;
    component::admit(&loaded.component, &draft.imports, &draft.limits)?;
    // Within one major version of the engine a component may be compiled anew; results are compared
    // within one engine only.
    let [major, ..] = hearth_sandbox::engine_id().version;
    let manifest = Manifest {
        name: draft.name.clone(),
        version: draft.version.clone(),
        realm: options.realm,
        component: Blob::of(&loaded.component),
        world: draft.world,
        imports: draft.imports.clone(),
        limits: draft.limits,
        class: draft.class,
        task_type: draft.task_type,
        capabilities: draft.capabilities.clone(),
        locations: draft.locations.clone(),
        models: draft.models.clone(),
        engines: EngineRange {
            min: [major, 0, 0],
            max: [major, u16::MAX, u16::MAX],
        },
        not_before: options.not_before,
        not_after: options.not_after,
    };
    let release = sign_release(&manifest, key)?;
    Ok(Bundle {
        release,
        component: loaded.component.clone(),
    })
}

impl Bundle {
    /// Reads a bundle, and checks that its component is the one that its manifest names. Signatures
    /// are not verified: that is for whoever knows which authors to trust.
    ///
    /// # Errors
    ///
    /// When the file is not a whole bundle, or holds another component than the signed one.
    pub fn read(path: &Path) -> Result<Self, ToolError> {
        let file = File::open(path).map_err(ToolError::io("opening", path))?;
        let mut bytes = Vec::new();
        let max = (HEADER + RELEASE_BYTES_MAX) as u64 + limits::COMPONENT_BYTES_MAX;
        file.take(max + 1)
            .read_to_end(&mut bytes)
            .map_err(ToolError::io("reading", path))?;
        let wrong = |problem: String| ToolError::Bundle {
            path: path.to_owned(),
            problem,
        };
        if bytes.len() as u64 > max {
            return Err(wrong(format!(
                "larger than any release, which has at most {max} bytes"
            )));
        }
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (Some(format), Some(length), true) = (number(8), number(12), bytes.starts_with(MAGIC))
        else {
            return Err(wrong(
                "not a release: make one with `hearth task sign`".to_owned(),
            ));
        };
        if format != FORMAT {
            return Err(wrong(format!(
                "format {format}, this program reads {FORMAT}: update the older one"
            )));
        }
        let end = HEADER.saturating_add(length as usize);
        let encoded = bytes
            .get(HEADER..end)
            .ok_or_else(|| wrong("it ends early: fetch it again".to_owned()))?;
        let release: Release = codec::decode(encoded, RELEASE_BYTES_MAX)
            .map_err(|error| wrong(format!("the release: {error}")))?;
        let manifest = release
            .parse_manifest()
            .map_err(|error| wrong(format!("the manifest: {error}")))?;
        manifest.check().map_err(|error| wrong(error.to_string()))?;
        let component = Bytes::from(bytes).slice(end..);
        let found = Blob::of(&component);
        if found != manifest.component {
            let (signed, found) = (manifest.component.digest, found.digest);
            return Err(ToolError::OtherComponent {
                path: path.to_owned(),
                signed,
                found,
            });
        }
        Ok(Self { release, component })
    }

    /// Writes the bundle, in place of what was there.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn write(&self, path: &Path) -> Result<(), ToolError> {
        let release = codec::encode(&self.release);
        let mut bytes = Vec::with_capacity(HEADER + release.len() + self.component.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&(release.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&release);
        bytes.extend_from_slice(&self.component);
        replace(path, &bytes)
    }
}

/// Writes a file beside its place and puts it there whole, so that nobody ever reads half of it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ToolError> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(ToolError::io("making", folder))?;
    let mut file = tempfile::Builder::new()
        .permissions(readable())
        .tempfile_in(folder)
        .map_err(ToolError::io("writing in", folder))?;
    file.write_all(bytes)
        .map_err(ToolError::io("writing", path))?;
    file.persist(path)
        .map_err(|error| ToolError::io("writing", path)(error.error))?;
    Ok(())
}

/// What a file usually gets; a temporary one is for its owner alone otherwise.
fn readable() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    fs::Permissions::from_mode(0o644)
}
