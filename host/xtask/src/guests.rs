//! Builds the example tasks into components, with the same command that a task author uses.

use std::path::PathBuf;
use std::process::Command;

use crate::shell;

/// The example tasks.
pub(crate) const TASKS: [&str; 3] = ["mersenne", "render", "keywords"];

/// Builds every example task and gives the folder with the components.
pub(crate) fn build() -> Result<PathBuf, String> {
    shell::ensure_guest_target()?;
    let hearth = shell::build_hearth()?;
    let folder = shell::target().join("guests");
    for task in TASKS {
        let source = shell::root().join("tasks").join(task);
        shell::run(
            Command::new(&hearth)
                .args(["task", "build"])
                .arg(source)
                .arg("--out")
                .arg(&folder),
        )?;
    }
    Ok(folder)
}
