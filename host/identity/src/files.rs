//! Private files: written whole or not at all, readable by their owner only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::DirError;
use crate::key::random;

/// The largest file that is read here; the largest that is written is a signed policy.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> DirError {
    move |error| DirError::Io {
        action,
        path: path.to_owned(),
        error,
    }
}

/// Makes a directory that only its owner can enter, and those above it that are missing.
pub(crate) fn create_dir(path: &Path) -> Result<(), DirError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(io_error("making", path))
}

/// Makes or replaces a file: after a crash it has the old bytes or the new ones.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), DirError> {
    let temporary = write_temporary(path, bytes)?;
    fs::rename(&temporary, path).map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_error("writing", path)(error)
    })?;
    sync_parent(path)
}

/// Makes a file that must not exist yet, and says whether it did it: of two processes one wins.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<bool, DirError> {
    let temporary = write_temporary(path, bytes)?;
    // A rename would replace the other's file; a link is refused if the name is taken.
    let linked = fs::hard_link(&temporary, path);
    let _ = fs::remove_file(&temporary);
    match linked {
        Ok(()) => sync_parent(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(io_error("making", path)(error)),
    }
}

fn write_temporary(path: &Path, bytes: &[u8]) -> Result<PathBuf, DirError> {
    let tag = u64::from_le_bytes(random()?);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{tag:016x}.tmp"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_error("writing", path)(error)
    })?;
    Ok(temporary)
}

/// What writing a file of one of these names left in a directory because the process was killed.
pub(crate) fn leftovers(directory: &Path, names: &[&str]) -> Result<Vec<PathBuf>, DirError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("reading", directory))?,
    };
    let ours = |entry: &str| {
        let inner = entry
            .strip_prefix('.')
            .and_then(|rest| rest.strip_suffix(".tmp"));
        inner
            .and_then(|inner| inner.rsplit_once('.'))
            .is_some_and(|(name, tag)| {
                names.contains(&name)
                    && tag.len() == 16
                    && tag.bytes().all(|digit| digit.is_ascii_hexdigit())
            })
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(io_error("reading", directory))?;
        if entry.file_name().to_str().is_some_and(ours) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The directory that a file is in.
pub(crate) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A new name is durable once its directory is.
fn sync_parent(path: &Path) -> Result<(), DirError> {
    let parent = folder(path);
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(io_error("syncing", parent))
}

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, DirError> {
    let open = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => DirError::Missing(path.to_owned()),
        _ => io_error("reading", path)(error),
    };
    let file = File::open(path).map_err(open)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("reading", path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(damaged(path, "too large"));
    }
    Ok(bytes)
}

/// The text of a file.
pub(crate) fn read_text(path: &Path) -> Result<String, DirError> {
    String::from_utf8(read(path)?).map_err(|_| damaged(path, "not text"))
}

/// The text of a file with a secret, which others must not be able to read.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<String>, DirError> {
    let text = Zeroizing::new(read_text(path)?);
    #[cfg(unix)]
    {
        let metadata = fs::metadata(path).map_err(io_error("reading", path))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
        if mode & 0o077 != 0 {
            return Err(DirError::Exposed(path.to_owned()));
        }
    }
    Ok(text)
}

/// Removes a file or a directory with all that is in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), DirError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("removing", path)(error))
        }
        _ => Ok(()),
    }
}

/// Waits for the directory's lock, which is held until the file is dropped: changes of signed lists read,
/// raise the version and write, and the coordinator and a command may do so at once.
pub(crate) fn lock(directory: &Path) -> Result<File, DirError> {
    let path = directory.join(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(io_error("locking", &path))?;
    file.lock().map_err(io_error("locking", &path))?;
    Ok(file)
}

pub(crate) fn damaged(path: &Path, problem: &str) -> DirError {
    DirError::Damaged {
        path: path.to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_private_whole_and_new_ones_are_never_replaced() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        create_dir(&directory).unwrap();
        assert_eq!(mode(&directory), 0o700);
        let path = directory.join("key");
        assert!(write_new(&path, b"first").unwrap());
        assert!(!write_new(&path, b"second").unwrap());
        assert_eq!(read(&path).unwrap(), b"first");
        write(&path, b"third").unwrap();
        assert_eq!(*read_secret(&path).unwrap(), "third");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no leftovers");
        let killed = write_temporary(&path, b"half").unwrap();
        write(&directory.join(".key.notes.tmp"), b"somebody's").unwrap();
        assert_eq!(leftovers(&directory, &["key"]).unwrap(), [killed]);
        assert!(leftovers(&directory, &["ke"]).unwrap().is_empty());
        assert!(
            leftovers(&root.path().join("none"), &["key"])
                .unwrap()
                .is_empty()
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_secret(&path), Err(DirError::Exposed(_))));
        assert!(matches!(
            read(&directory.join("nothing")),
            Err(DirError::Missing(_))
        ));
        remove(&directory).unwrap();
        remove(&directory).unwrap();
    }
}
