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

/// The program that runs now: what children are started from, given explicitly from here on.
pub(crate) fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().context(Kind::Failed, "finding this program's path")
}

/// Writes `bytes` to `path`, with its folder, naming both in the error.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .context(Kind::Failed, format!("making {}", folder.display()))?;
    }
    std::fs::write(path, bytes).context(Kind::Failed, format!("writing {}", path.display()))
}
