//! The engine under an index: sled 0.34.7, used in the one way that is known to hold.
//!
//! Nothing else names sled. What it is not trusted with: to be there after a loss of power, to say so
//! when it is not, to end, and not to panic over a damaged file. So whatever may take long runs on a
//! thread of its own with a deadline, and every call stops a panic.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::IndexError;

/// Much longer than opening takes with gigabytes on a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a lock may outlive whoever held it: a child has a copy of every descriptor between its fork and
/// its exec. Nobody else opens our directory.
const LOCK_LINGERS: Duration = Duration::from_secs(5);
/// A soft bound on pages in memory; the default is a gigabyte.
const CACHE_BYTES: u64 = 64 << 20;
/// Never `None`: only the thread that flushes also collects what is no longer needed.
const FLUSH_MILLIS: Option<u64> = Some(500);

/// One sled in one directory.
#[derive(Debug)]
pub(super) struct Engine {
    /// `None` once it is closed.
    db: Option<sled::Db>,
    /// Shares with the engine what went wrong in its own threads.
    config: sled::Config,
    dir: PathBuf,
}

impl Engine {
    pub(super) fn open(dir: &Path) -> Result<Self, IndexError> {
        remove_unfinished_snapshots(dir)?;
        let config = sled::Config::new()
            .path(dir)
            .mode(sled::Mode::LowSpace)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(FLUSH_MILLIS)
            .use_compression(false)
            .temporary(false);
        let own = config.clone();
        let db = with_deadline(dir, "opening", move || open_unlocked(&own))?;
        Ok(Self {
            db: Some(db),
            config,
            dir: dir.to_owned(),
        })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        let found = self.try_to("reading", |db| db.get(key))?;
        Ok(found.map(|stored| stored.to_vec()))
    }

    pub(super) fn is_empty(&self) -> Result<bool, IndexError> {
        let first = self.try_to("reading", |db| db.iter().next().transpose())?;
        Ok(first.is_none())
    }

    /// All rows in the order of their keys.
    pub(super) fn scan<E: From<IndexError>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows = self.try_to("reading", |db| Ok(db.iter()))?;
        while let Some((key, stored)) = self.try_to("reading", |_| rows.next().transpose())? {
            visit(&key, &stored)?;
        }
        Ok(())
    }

    /// Writes and removes rows: all or none.
    pub(super) fn write(
        &self,
        rows: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>,
    ) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (key, row) in rows {
            match row {
                Some(row) => batch.insert(key, row),
                None => batch.remove(key),
            }
        }
        self.try_to("writing", |db| db.apply_batch(batch))
    }

    /// Whether its own threads could write so far. They tell nobody by themselves.
    pub(super) fn check(&self) -> Result<(), IndexError> {
        self.try_to("writing behind", |_| self.config.global_error())
    }

    pub(super) fn disk_bytes(&self) -> Result<u64, IndexError> {
        self.try_to("measuring", sled::Db::size_on_disk)
    }

    /// Hands everything to the system, and then does the `fsync` that the engine leaves out on Linux.
    pub(super) fn sync(&self) -> Result<(), IndexError> {
        let db = self.db.clone();
        with_deadline(&self.dir, "flushing", move || {
            db.map_or(Ok(0), |db| db.flush())
        })?;
        let file = self.dir.join("db");
        let failed = |path: &Path, error| IndexError::io("syncing", path, error);
        File::open(&file)
            .and_then(|file| file.sync_all())
            .map_err(|error| failed(&file, error))?;
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| failed(&self.dir, error))
    }

    pub(super) fn close(mut self) -> Result<(), IndexError> {
        let synced = self.sync();
        let ended = self.end();
        synced.and(ended)
    }

    /// Ending waits for the thread that flushes, which may have died, and then it waits for ever.
    fn end(&mut self) -> Result<(), IndexError> {
        let Some(db) = self.db.take() else {
            return Ok(());
        };
        with_deadline(&self.dir, "closing", move || {
            drop(db);
            Ok(())
        })
    }

    fn try_to<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&sled::Db) -> sled::Result<T>,
    ) -> Result<T, IndexError> {
        let Some(db) = &self.db else {
            return Err(failed(&self.dir, action, "it is closed".to_owned()));
        };
        caught(&self.dir, action, || work(db))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Whoever wants to know closes it.
        let _ = self.end();
    }
}

fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    let until = Instant::now() + LOCK_LINGERS;
    loop {
        match config.open() {
            // It has no kind of its own for this.
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < until =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}

/// A snapshot that was being written when the process was killed makes the engine refuse to open. The one
/// before is removed only after the new one has its name, so it is always there.
fn remove_unfinished_snapshots(dir: &Path) -> Result<(), IndexError> {
    let entries = fs::read_dir(dir).map_err(|error| IndexError::io("listing", dir, error))?;
    for entry in entries {
        let path = entry
            .map_err(|error| IndexError::io("listing", dir, error))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path).map_err(|error| IndexError::io("removing", &path, error))?;
        }
    }
    Ok(())
}

/// Runs `work` on a thread of its own. One that does not end is left behind.
fn with_deadline<T: Send + 'static>(
    dir: &Path,
    action: &'static str,
    work: impl FnOnce() -> sled::Result<T> + Send + 'static,
) -> Result<T, IndexError> {
    let (done, answer) = mpsc::sync_channel(1);
    let place = dir.to_owned();
    let thread = thread::Builder::new().name("hearth-index-engine".to_owned());
    thread
        .spawn(move || {
            // Nobody listens any more when it took too long.
            let _ = done.send(caught(&place, action, work));
        })
        .map_err(|error| IndexError::io("starting a thread for", dir, error))?;
    match answer.recv_timeout(PATIENCE) {
        Ok(answer) => answer,
        Err(_) => Err(IndexError::Hangs {
            action,
            path: dir.to_owned(),
            seconds: PATIENCE.as_secs(),
        }),
    }
}

fn caught<T>(
    dir: &Path,
    action: &'static str,
    work: impl FnOnce() -> sled::Result<T>,
) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(dir, action, error.to_string())),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            let problem = format!("the engine broke down: {}", text.unwrap_or("no reason"));
            Err(failed(dir, action, problem))
        }
    }
}

fn failed(dir: &Path, action: &'static str, problem: String) -> IndexError {
    IndexError::Engine {
        action,
        path: dir.to_owned(),
        problem,
    }
}
