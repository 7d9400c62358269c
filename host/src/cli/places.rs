//! Where things are: the realm's directory, the node's, the user's.

use std::path::{Path, PathBuf};

use etcetera::{AppStrategy, AppStrategyArgs};

use super::args::Global;
use super::exit::{Context, Failure, Kind};

/// The user's data directory for hearth.
pub(crate) fn user_data() -> Result<PathBuf, Failure> {
    let args = AppStrategyArgs {
        top_level_domain: String::new(),
        author: String::new(),
        app_name: "hearth".to_owned(),
    };
    let strategy =
        etcetera::choose_app_strategy(args).context(Kind::Failed, "finding your data directory")?;
    Ok(strategy.data_dir())
}

/// The realm's directory for this command.
pub(crate) fn realm(global: &Global) -> Result<PathBuf, Failure> {
    match &global.realm {
        Some(dir) => Ok(dir.clone()),
        None => Ok(user_data()?.join("realm")),
    }
}

/// What is in a folder that one may not look into is not known: nothing may be said of it.
pub(crate) fn may_look(dir: &Path) -> Result<(), Failure> {
    match dir.join(".").try_exists() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(
            Failure::rejected(format!("looking into {}: {error}", dir.display()))
                .next("do it as the user whose folder that is, or get the right to read it"),
        ),
        _ => Ok(()),
    }
}

/// The node's directory for this command.
pub(crate) fn node(dir: &Option<PathBuf>) -> Result<PathBuf, Failure> {
    match dir {
        Some(dir) => Ok(dir.clone()),
        None => Ok(user_data()?.join("node")),
    }
}

/// This machine's name, as far as the system tells it.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name
    }
}

/// The very file that runs now, for children of this process: also when another version has taken its
/// name since, whose messages this one might not understand. A child resolves it for itself, before it
/// becomes another program.
pub(crate) fn same_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

/// The path of the program that runs now, for processes that stand for themselves.
pub(crate) fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().context(Kind::Failed, "finding this program's path")
}

/// Writes `bytes` to `path`, with its folder, naming both in the error.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| unwritable("making", parent, &error))?;
    }
    std::fs::write(path, bytes).map_err(|error| unwritable("writing", path, &error))
}

/// Makes the folder into which outputs will go. Said before the work begins: hours of it would be lost
/// for a folder that does not take them.
pub(crate) fn out_folder(folder: Option<&Path>) -> Result<(), Failure> {
    use rustix::fs::{Access, access};
    let Some(folder) = folder else {
        return Ok(());
    };
    std::fs::create_dir_all(folder).map_err(|error| unwritable("making", folder, &error))?;
    access(folder, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| unwritable("writing into", folder, &error.into()))
}

/// A place that the user named and that cannot be written: the place is wrong, unless the disk is.
pub(crate) fn unwritable(doing: &str, path: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind;
    let (kind, next) = match error.kind() {
        ErrorKind::NotFound => (
            Kind::Rejected,
            "make its folder first, or name another place",
        ),
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory | ErrorKind::IsADirectory => (
            Kind::Rejected,
            "something else is there: name another place",
        ),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => (
            Kind::Rejected,
            "name a place that you may write to, or ask for the permission",
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (Kind::Failed, "make room there, or name another place")
        }
        _ => (Kind::Failed, "name another place"),
    };
    Failure::new(kind, format!("{doing} {}: {error}", path.display())).next(next)
}
