//! A new task crate that builds anywhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::{ToolError, vendored};

/// A task crate that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Its folder.
    pub folder: PathBuf,
    /// The files in it that are the author's, relative to it.
    pub files: Vec<PathBuf>,
}

/// Names that cargo or Rust keep for themselves, or that the SDK needs.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "hearth",
    "hearth-guest",
    "hearth-guest-macros",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "wit-bindgen",
    "yield",
];

/// Makes a task crate in `folder`, whose last part is its name.
///
/// # Errors
///
/// When the name cannot be a crate's, the folder is there already and not empty, or the system refuses.
pub fn new(folder: &Path) -> Result<NewTask, ToolError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    check_name(&name)?;
    let occupied = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(ToolError::io("looking at", folder)(error)),
    };
    if occupied {
        return Err(ToolError::Exists(folder.to_owned()));
    }
    fs::create_dir_all(folder).map_err(ToolError::io("making", folder))?;
    let folder = folder
        .canonicalize()
        .map_err(ToolError::io("looking at", folder))?;

    let manifest = include_str!("template/Cargo.toml.in")
        .replace("NAME", &name)
        .replace(
            "WORKSPACE\n",
            if in_workspace(&folder) {
                OWN_WORKSPACE
            } else {
                ""
            },
        );
    let files = [
        ("Cargo.toml", manifest.as_str()),
        ("src/lib.rs", include_str!("template/lib.rs.in")),
        (
            "sample-input.json",
            include_str!("template/sample-input.json"),
        ),
        (".gitignore", include_str!("template/gitignore.in")),
    ];
    for (path, text) in files {
        write(&folder.join(path), text)?;
    }
    let sdk = folder.join(".hearth/sdk");
    write(
        &folder.join(".hearth/README"),
        include_str!("template/sdk-readme.in"),
    )?;
    for (path, text) in vendored::FILES {
        write(&sdk.join(path), text)?;
    }
    if let Some(lock) = vendored::lock() {
        write(&folder.join("Cargo.lock"), &lock)?;
    }
    Ok(NewTask {
        folder,
        files: files.map(|(path, _)| PathBuf::from(path)).into(),
    })
}

/// Without this, cargo would take a crate below somebody's workspace for a forgotten member of it.
const OWN_WORKSPACE: &str = "
# This folder lies below another cargo workspace and does not belong to it.
[workspace]
exclude = [\".hearth\"]
";

fn in_workspace(folder: &Path) -> bool {
    folder.ancestors().skip(1).any(|parent| {
        let manifest = fs::read_to_string(parent.join("Cargo.toml")).unwrap_or_default();
        manifest
            .lines()
            .any(|line| line.trim_start().starts_with("[workspace"))
    })
}

fn check_name(name: &str) -> Result<(), ToolError> {
    let problem = if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        "a name begins with a lower-case letter"
    } else if !name
        .chars()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
    {
        "a name has lower-case letters, digits, `-` and `_`"
    } else if name.len() > 64 {
        "a name has at most 64 letters"
    } else if TAKEN.contains(&name) {
        "this name is taken by Rust or by the SDK"
    } else {
        return Ok(());
    };
    Err(ToolError::Name {
        name: name.chars().take(80).collect(),
        problem,
    })
}

fn write(path: &Path, text: &str) -> Result<(), ToolError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ToolError::io("making", parent))?;
    }
    fs::write(path, text).map_err(ToolError::io("writing", path))
}
