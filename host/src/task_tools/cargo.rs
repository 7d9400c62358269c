//! Cargo and rustup, as an author has them installed.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::ToolError;

const TARGET: &str = "wasm32-unknown-unknown";
const PROFILE: &str = "guest";
/// Lines of cargo's complaints that an error repeats: the last ones say what went wrong.
const TAIL_LINES: usize = 80;

/// What the profile is in a project that does not say: small and fast code, and a panic is a trap.
const PROFILE_SETTINGS: &[&str] = &[
    "inherits=\"release\"",
    "opt-level=3",
    "lto=\"fat\"",
    "codegen-units=1",
    "panic=\"abort\"",
    "strip=\"debuginfo\"",
];

/// A crate as cargo sees it.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) manifest: PathBuf,
    pub(super) name: String,
    pub(super) version: String,
    /// `[package.metadata.hearth]`.
    pub(super) metadata: Option<Value>,
    /// Where cargo puts what it builds.
    pub(super) target: PathBuf,
    folder: PathBuf,
    workspace: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
    metadata: Option<Value>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

/// A line of `cargo build --message-format json`.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// Asks cargo about the crate in `folder`.
pub(super) fn inspect(folder: &Path) -> Result<Project, ToolError> {
    let folder = folder
        .canonicalize()
        .map_err(ToolError::io("looking at", folder))?;
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        let problem = "it has no Cargo.toml; make a task with `hearth task new NAME`";
        return Err(ToolError::not_a_task(&folder, problem));
    }
    let mut command = cargo(&folder);
    command
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(&manifest);
    let output = finished(&mut command)?;
    if !output.status.success() {
        return Err(ToolError::Cargo(tail(&output.stderr)));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .map_err(|error| ToolError::CargoAnswer(error.to_string()))?;
    let package = metadata
        .packages
        .into_iter()
        .find(|package| package.manifest_path == manifest);
    let Some(package) = package else {
        return Err(ToolError::not_a_task(
            &folder,
            "it is a workspace; name the folder of one task in it",
        ));
    };
    if !package
        .targets
        .iter()
        .any(|target| target.kind.iter().any(|kind| kind == "cdylib"))
    {
        let problem = "add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]` to its Cargo.toml";
        return Err(ToolError::not_a_task(&folder, problem));
    }
    Ok(Project {
        manifest,
        name: package.name,
        version: package.version,
        metadata: package
            .metadata
            .and_then(|mut metadata| metadata.get_mut("hearth").map(Value::take)),
        target: metadata.target_directory,
        folder,
        workspace: metadata.workspace_root,
    })
}

impl Project {
    /// Builds the crate for guests; gives back where its module is.
    pub(super) fn build(&self, say: &mut dyn FnMut(&str)) -> Result<PathBuf, ToolError> {
        ensure_target(&self.folder, say)?;
        let mut command = cargo(&self.folder);
        command
            .args(["build", "--lib", "--target", TARGET, "--profile", PROFILE])
            .args([
                "--message-format",
                "json-render-diagnostics",
                "--manifest-path",
            ])
            .arg(&self.manifest)
            .env("CARGO_ENCODED_RUSTFLAGS", flags())
            // Flags for this machine's code (`target-cpu=native`, a linker) are wrong for guests.
            .env_remove("RUSTFLAGS")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if !self.has_profile() {
            for setting in PROFILE_SETTINGS {
                command
                    .arg("--config")
                    .arg(format!("profile.{PROFILE}.{setting}"));
            }
        }
        let mut child = command.spawn().map_err(no_cargo)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(ToolError::CargoAnswer("no output".to_owned()));
        };
        // Both pipes are read at once, or cargo would wait for the fuller one for ever.
        let manifest = self.manifest.clone();
        let module = std::thread::spawn(move || find_module(stdout, &manifest));
        let mut last = VecDeque::new();
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line.map_err(ToolError::io("reading from", Path::new("cargo")))?;
            let line = String::from_utf8_lossy(&line).into_owned();
            say(&line);
            if last.len() == TAIL_LINES {
                last.pop_front();
            }
            last.push_back(line);
        }
        let status = child
            .wait()
            .map_err(ToolError::io("waiting for", Path::new("cargo")))?;
        let module = module.join().unwrap_or_default();
        if !status.success() {
            return Err(ToolError::Cargo(Vec::from(last).join("\n")));
        }
        module.ok_or_else(|| ToolError::CargoAnswer("it names no module that it made".to_owned()))
    }

    /// Whether the project says itself what the profile is. Profiles count only in the workspace's root.
    fn has_profile(&self) -> bool {
        let text = std::fs::read_to_string(self.workspace.join("Cargo.toml")).unwrap_or_default();
        let table: toml::Table = text.parse().unwrap_or_default();
        table
            .get("profile")
            .and_then(|profiles| profiles.get(PROFILE))
            .is_some()
    }
}

/// Whoever builds the same source with the same Rust should get the same component, and nobody's home
/// directory belongs into one. Cargo names a crate's own files relative to its workspace, but those of
/// its dependencies by where they were downloaded to. The flags are the same for all crates on a
/// machine, so that tasks in one workspace share what they build.
fn flags() -> OsString {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    let Some(cargo) = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home) else {
        return OsString::new();
    };
    let mut flag = OsString::from("--remap-path-prefix=");
    flag.push(cargo);
    flag.push("=/cargo");
    flag
}

/// Sees to it that Rust can compile for guests, and installs what is missing if rustup can.
fn ensure_target(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command
        .current_dir(folder)
        .args(["--print", "target-libdir", "--target", TARGET]);
    let output = finished(&mut command)?;
    let libraries = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&libraries).is_dir() {
        return Ok(());
    }
    say(&format!(
        "installing Rust's library for {TARGET}: rustup target add {TARGET}"
    ));
    let mut command = Command::new("rustup");
    command.current_dir(folder).args(["target", "add", TARGET]);
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(ToolError::NoTarget(tail(&output.stderr))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(ToolError::NoTarget("there is no rustup".to_owned()))
        }
        Err(error) => Err(ToolError::NoTarget(error.to_string())),
    }
}

/// The module in cargo's messages about the crate with this manifest.
fn find_module(stdout: impl Read, manifest: &Path) -> Option<PathBuf> {
    let mut found = None;
    // To the end, so that cargo never waits for a reader.
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        let Ok(message) = serde_json::from_slice::<Message>(&line) else {
            continue;
        };
        if message.reason == "compiler-artifact"
            && message.manifest_path.as_deref() == Some(manifest)
        {
            let module = message
                .filenames
                .into_iter()
                .find(|file| file.extension() == Some("wasm".as_ref()));
            found = module.or(found);
        }
    }
    found
}

fn cargo(folder: &Path) -> Command {
    // Set when cargo started this program: the same one then.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(folder);
    command
}

fn finished(command: &mut Command) -> Result<Output, ToolError> {
    command.stdin(Stdio::null()).output().map_err(no_cargo)
}

fn no_cargo(error: std::io::Error) -> ToolError {
    if error.kind() == ErrorKind::NotFound {
        ToolError::NoCargo
    } else {
        ToolError::io("starting", Path::new("cargo"))(error)
    }
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
