//! Where indexes are: `index/N`, of which the lowest counts, and beside it what was set aside.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_wire::RealmId;

use super::{Index, IndexError, IndexStep};
use crate::DirLock;

const DIR: &str = "index";
/// Followed by a number, the newest being the highest.
const BAD: &str = "index.bad-";
/// Indexes that were set aside and are kept for whoever wants to know why. More would fill the disk.
const BAD_MAX: usize = 2;
/// Bytes of rows that are copied in one step.
const STEP_BYTES: usize = 1 << 20;

/// The place of a realm's index.
///
/// Each index has a directory of its own, with a number that this process has not used before: an engine
/// that hangs may still write to where it was opened.
#[derive(Debug)]
pub struct Indexes {
    data: PathBuf,
    realm: RealmId,
    /// The number after the highest that was used.
    next: AtomicU64,
    _lock: DirLock,
}

impl Indexes {
    /// The index of `realm` in the directory that `lock` holds. Touches nothing yet.
    pub fn new(lock: &DirLock, realm: RealmId) -> Self {
        Self {
            data: lock.path().to_owned(),
            realm,
            next: AtomicU64::new(1),
            _lock: lock.clone(),
        }
    }

    /// Where the index is.
    pub fn path(&self) -> PathBuf {
        self.data.join(DIR)
    }

    /// Opens the index that is there, or begins one, which follows nothing yet.
    ///
    /// # Errors
    ///
    /// Every [`IndexError`] but those of writing; the next thing to do is [`Indexes::set_aside`].
    pub fn open(&self) -> Result<Index, IndexError> {
        let dir = self.path();
        make_dir(&dir)?;
        let numbers = self.numbers()?;
        let highest = numbers.last().copied().unwrap_or(0);
        self.next.fetch_max(highest + 1, Ordering::Relaxed);
        let Some((own, unfinished)) = numbers.split_first() else {
            return self.begin();
        };
        // Those behind the first were to take its place, and the first is whole until they have.
        for number in unfinished {
            remove(&dir.join(number.to_string()))?;
        }
        Index::open(&dir.join(own.to_string()), self.realm)
    }

    /// Puts whatever is where the index should be out of the way. The two newest such are kept. Gives
    /// where it is now; `None` if there was nothing.
    ///
    /// # Errors
    ///
    /// [`IndexError::Io`], which names what stays in the way.
    pub fn set_aside(&self) -> Result<Option<PathBuf>, IndexError> {
        let mut bad = self.bad()?;
        let number = bad.last().map_or(1, |(number, _)| number.saturating_add(1));
        let aside = format!("{BAD}{number}");
        let (from, to) = (self.path(), self.data.join(aside));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IndexError::io("moving aside", &from, error)),
            Ok(()) => sync_dir(&self.data)?,
        }
        bad.truncate((bad.len() + 1).saturating_sub(BAD_MAX));
        for (_, old) in bad {
            remove(&old)?;
        }
        Ok(Some(to))
    }

    /// Copies the rows of `old` into a new index, which takes its place when both are closed and the
    /// directory of `old` is removed; a start before that goes on with `old`.
    ///
    /// # Errors
    ///
    /// Those of [`Index::walk`] for `old`, and of a new index.
    pub fn rewrite(&self, old: &Index) -> Result<Index, IndexError> {
        let new = self.begin()?;
        let copied = self.copy(old, &new);
        if let Err(error) = copied {
            let dir = new.path().to_owned();
            drop(new);
            let _ = remove(&dir);
            return Err(error);
        }
        Ok(new)
    }

    /// Removes an index that another has taken the place of.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn remove(&self, old: Index) -> Result<(), IndexError> {
        let dir = old.path().to_owned();
        let closed = old.close();
        remove(&dir)?;
        sync_dir(&self.path())?;
        closed
    }

    fn copy(&self, old: &Index, new: &Index) -> Result<(), IndexError> {
        let mut step = IndexStep::default();
        old.walk(|key, row| {
            step.put(key.to_vec(), row.to_vec());
            if step.bytes() >= STEP_BYTES {
                // Whole only with the last step: it follows nothing before.
                new.apply(std::mem::take(&mut step), new.point())?;
            }
            Ok::<_, IndexError>(())
        })?;
        new.apply(step, old.point())?;
        new.sync()
    }

    fn begin(&self) -> Result<Index, IndexError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let dir = self.path().join(number.to_string());
        make_dir(&dir)?;
        Index::open(&dir, self.realm)
    }

    /// The numbers of the indexes that are there, the lowest first.
    fn numbers(&self) -> Result<Vec<u64>, IndexError> {
        let names = names(&self.path())?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// What was set aside, the oldest first.
    fn bad(&self) -> Result<Vec<(u64, PathBuf)>, IndexError> {
        let names = names(&self.data)?;
        let parse = |name: &String| {
            let number = name.strip_prefix(BAD)?.parse().ok()?;
            Some((number, self.data.join(name)))
        };
        let mut bad: Vec<(u64, PathBuf)> = names.iter().filter_map(parse).collect();
        bad.sort_unstable();
        Ok(bad)
    }
}

fn names(dir: &Path) -> Result<Vec<String>, IndexError> {
    let listed = fs::read_dir(dir).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap_or_default()));
        names.collect()
    });
    listed.map_err(|error| IndexError::io("listing", dir, error))
}

fn make_dir(dir: &Path) -> Result<(), IndexError> {
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(IndexError::io("making", dir, error)),
    }
    dir.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(dir: &Path) -> Result<(), IndexError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| IndexError::io("syncing", dir, error))
}

/// Whatever it is.
fn remove(path: &Path) -> Result<(), IndexError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(IndexError::io("removing", path, error))
        }
        _ => Ok(()),
    }
}
