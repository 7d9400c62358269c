//! Makes a component of a task crate, or takes one that another toolchain made.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hearth_wire::Digest;

use super::bundle::replace;
use super::load::read;
use super::{ManifestDraft, ToolError, cargo, component};

/// A component that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The component: `NAME.component.wasm`.
    pub component: PathBuf,
    /// What its manifest would say, for people and for `hearth task sign`: `NAME.manifest.toml`.
    pub manifest: PathBuf,
    /// The task's name.
    pub name: String,
    /// The component's size.
    pub bytes: u64,
    /// The component's digest.
    pub digest: Digest,
    /// The interfaces that it imports, sorted.
    pub imports: Vec<String>,
}

/// Makes a component of the task in `path`, a crate's folder, or of `path` itself if it is a `.wasm`
/// file of another toolchain. It goes into the folder `out`, or into `target/hearth`. `say` hears what
/// cargo has to tell meanwhile.
///
/// # Errors
///
/// When cargo or the target is missing and cannot be installed, when the crate does not build, and when
/// what it builds is nothing that nodes would take.
pub fn build(
    path: &Path,
    out: Option<&Path>,
    say: &mut dyn FnMut(&str),
) -> Result<Built, ToolError> {
    if path.is_file() {
        return wrap(path, out);
    }
    let project = cargo::inspect(path)?;
    let module = project.build(say)?;
    let bytes = component::of_module(read(&module)?)?;
    let imports = component::imports(&bytes)?;
    let (name, version) = (&project.name, &project.version);
    let draft = ManifestDraft::of_crate(
        &project.manifest,
        name,
        version,
        project.metadata.as_ref(),
        imports,
    )?;
    let target = project.target.join("hearth");
    write(out.unwrap_or(&target), name, &bytes, draft)
}

/// Takes a component as it is. What its author wrote into the `.manifest.toml` stays.
fn wrap(path: &Path, out: Option<&Path>) -> Result<Built, ToolError> {
    let bytes = read(path)?;
    if !component::is_wasm(&bytes) {
        return Err(ToolError::not_a_task(
            path,
            "neither a crate's folder nor WebAssembly",
        ));
    }
    let bytes = component::of_module(bytes)?;
    let imports = component::imports(&bytes)?;
    let draft = draft_beside(path, None, imports)?;
    let folder = out.or_else(|| path.parent()).unwrap_or(Path::new("."));
    write(folder, &stem(path), &bytes, draft)
}

fn write(
    folder: &Path,
    name: &str,
    bytes: &[u8],
    draft: ManifestDraft,
) -> Result<Built, ToolError> {
    component::admit(bytes, &draft.imports, &draft.limits)?;
    let digest = Digest::of(bytes);
    let component = folder.join(format!("{name}.component.wasm"));
    let manifest = beside(&component, "manifest.toml");
    replace(&component, bytes)?;
    replace(&manifest, draft.to_toml(digest)?.as_bytes())?;
    Ok(Built {
        component,
        manifest,
        name: draft.name,
        bytes: bytes.len() as u64,
        digest,
        imports: draft.imports,
    })
}

/// What the `.manifest.toml` beside a component says of it; a bare draft if there is none.
pub(super) fn draft_beside(
    file: &Path,
    digest: Option<Digest>,
    imports: Vec<String>,
) -> Result<ManifestDraft, ToolError> {
    let path = beside(file, "manifest.toml");
    match fs::read_to_string(&path) {
        Ok(text) => ManifestDraft::read(&path, &text, digest, imports),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(ManifestDraft::bare(&stem(file), imports))
        }
        Err(error) => Err(ToolError::io("reading", &path)(error)),
    }
}

/// The file of this task with another extension: `hello.component.wasm` and `hello.wasm` are both of
/// `hello`.
pub(super) fn beside(file: &Path, extension: &str) -> PathBuf {
    file.with_file_name(format!("{}.{extension}", stem(file)))
}

/// The name of the task that a file is of.
pub(super) fn stem(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let known = [".component.wasm", ".wasm", ".hearth"];
    known
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(&name)
        .to_owned()
}
