//! What a client computed while its realm was away: kept durably, handed over when it is back.
//!
//! Each job is a folder of its own with a journal ([`hearth_store::Journal`]): what is needed to submit
//! the job, the number under which the realm knows it, if it does, and each result as it came. A result
//! is on the disk before anybody sees it, so whatever ends the client, nothing that was shown is lost. A
//! folder belongs to one process at a time, and goes when the realm has everything that is in it.

mod deliver;
mod entry;
mod error;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use hearth_store::{DirLock, StoreError};
use hearth_wire::{
    Digest, EngineId, Hasher, InputSet, JobId, JobOptions, RealmId, Release, codec, limits,
};

pub use deliver::{DeliverError, Delivered, deliver};
pub use entry::{Entry, Kept};
pub use error::OutboxError;

/// Behind the name of a folder that cannot be used.
const DAMAGED: &str = "damaged";
/// Behind the name of a folder of which the realm has everything.
const DONE: &str = "done";

/// A job as its client asks for it, complete: it can be submitted from this alone.
#[derive(Debug, Clone)]
pub struct Work {
    /// The signed release.
    pub release: Release,
    /// Its component.
    pub component: Bytes,
    /// The name of its inputs.
    pub inputs: InputSet,
    /// The inputs, as a file of frames.
    pub file: Bytes,
    /// Options, with an idempotency key: however often it is submitted, it is one job.
    pub options: JobOptions,
}

/// The folder of a client for one realm.
#[derive(Debug, Clone)]
pub struct Outbox {
    dir: PathBuf,
    realm: RealmId,
    job_bytes_max: u64,
}

impl Outbox {
    /// The folder of a job.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The outbox in a realm's directory. Nothing is made before there is something to keep.
    pub fn new(realm_dir: &Path, realm: RealmId) -> Self {
        Self {
            dir: realm_dir.join("outbox"),
            realm,
            job_bytes_max: limits::OUTBOX_JOB_BYTES_MAX,
        }
    }

    /// Keeps at most this many bytes of one job, its component and inputs included.
    pub fn with_job_bytes(mut self, max: u64) -> Self {
        self.job_bytes_max = max;
        self
    }

    /// The names of all jobs that are kept, in order.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>, OutboxError> {
        let (mut names, done) = self.list()?;
        for name in done {
            // The client ended while it removed what the realm has.
            self.remove(&self.dir.join(name))?;
        }
        names.retain(|name| !name.contains('.'));
        Ok(names)
    }

    /// Opens a job that is kept; `None` if it is gone, or was never kept in full: nothing of it was shown.
    ///
    /// # Errors
    ///
    /// [`OutboxError::Busy`] while another process works on it, [`OutboxError::Damaged`] for one that was
    /// set aside now, and what the system refuses.
    pub fn open(&self, name: &str) -> Result<Option<Entry>, OutboxError> {
        let dir = self.dir.join(name);
        if !dir.is_dir() {
            return Ok(None);
        }
        let lock = lock(&dir)?;
        match Entry::open(&lock, name, self.realm) {
            Ok(Some(entry)) => Ok(Some(entry.within(self.job_bytes_max))),
            Ok(None) => {
                self.retire(name)?;
                Ok(None)
            }
            Err(error) if is_damage(&error) => Err(self.set_aside(name, error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with what is kept of a job, or begins to keep it.
    ///
    /// # Errors
    ///
    /// As [`Outbox::open`], and [`OutboxError::TooMany`] or [`OutboxError::TooLarge`] beyond the limits.
    pub fn begin(&self, work: &Work, job: Option<JobId>) -> Result<Entry, OutboxError> {
        let name = work.name();
        let mut entry = match self.open(&name)? {
            Some(entry) => entry,
            None => {
                // Also those that were set aside: nothing here grows without a number.
                let (names, _) = self.list()?;
                if names.len() >= limits::OUTBOX_JOBS_MAX {
                    return Err(OutboxError::TooMany {
                        path: self.dir.clone(),
                        max: limits::OUTBOX_JOBS_MAX,
                    });
                }
                let dir = self.dir.join(&name);
                make(&self.dir)?;
                let made = Entry::create(&lock(&dir)?, &name, self.realm, work, self.job_bytes_max);
                if made.is_err() {
                    // Nothing of it was shown: there is nothing to be found again.
                    self.retire(&name)?;
                }
                made?
            }
        };
        if let Some(job) = job {
            entry.accepted(job)?;
        }
        Ok(entry)
    }

    /// The idempotency key under which results of the very same work are kept: whoever asks for it again
    /// means that job. Jobs that another process works on are passed over.
    ///
    /// # Errors
    ///
    /// As [`Outbox::open`]; what is damaged was set aside, so it can be asked again.
    pub fn key_of(&self, work: &Work) -> Result<Option<String>, OutboxError> {
        let prefix = format!("{}-", work.spec_name());
        let names = self.names()?.into_iter();
        for name in names.filter(|name| name.starts_with(&prefix)) {
            if let Some(entry) = self.open_if_free(&name)? {
                return Ok(entry.key().map(str::to_owned));
            }
        }
        Ok(None)
    }

    fn open_if_free(&self, name: &str) -> Result<Option<Entry>, OutboxError> {
        match self.open(name) {
            Err(OutboxError::Busy { .. }) => Ok(None),
            other => other,
        }
    }

    /// Shows `each` what other jobs keep of these content ids, and ran on this engine. Jobs that another
    /// process works on are passed over.
    ///
    /// # Errors
    ///
    /// As [`Outbox::key_of`], and what `each` gives.
    pub fn known(
        &self,
        engine: EngineId,
        wanted: &BTreeSet<Digest>,
        except: &str,
        mut each: impl FnMut(Kept) -> Result<(), OutboxError>,
    ) -> Result<(), OutboxError> {
        let mut wanted = wanted.clone();
        for name in self.names()?.into_iter().filter(|name| name != except) {
            let Some(entry) = self.open_if_free(&name)? else {
                continue;
            };
            for (content, index) in entry.by_content(engine) {
                if wanted.remove(&content)
                    && let Some(kept) = entry.get(index, engine)?
                {
                    each(kept)?;
                }
            }
        }
        Ok(())
    }

    /// Removes a job of which the realm has everything.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub fn finish(&self, entry: Entry) -> Result<(), OutboxError> {
        let name = entry.name().to_owned();
        drop(entry);
        self.retire(&name)
    }

    /// By another name first: a folder that is half removed must not be taken for a damaged one.
    fn retire(&self, name: &str) -> Result<(), OutboxError> {
        let done = self.dir.join(format!("{name}.{DONE}"));
        fs::rename(self.dir.join(name), &done)
            .map_err(|source| OutboxError::io("renaming", &done, source))?;
        self.remove(&done)
    }

    fn remove(&self, path: &Path) -> Result<(), OutboxError> {
        fs::remove_dir_all(path).map_err(|source| OutboxError::io("removing", path, source))
    }

    fn set_aside(&self, name: &str, source: StoreError) -> OutboxError {
        let mut path = self.dir.join(format!("{name}.{DAMAGED}"));
        let mut number = 1;
        while path.exists() {
            number += 1;
            path = self.dir.join(format!("{name}.{DAMAGED}-{number}"));
        }
        match fs::rename(self.dir.join(name), &path) {
            Ok(()) => OutboxError::Damaged { path, source },
            Err(source) => OutboxError::io("setting aside", &path, source),
        }
    }

    /// Folders of jobs (those set aside too), and those that are to be removed.
    fn list(&self) -> Result<(Vec<String>, Vec<String>), OutboxError> {
        let failed = |source| OutboxError::io("reading", &self.dir, source);
        let found = match fs::read_dir(&self.dir) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Default::default());
            }
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in found {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        let done = format!(".{DONE}");
        let done = names.extract_if(.., |name| name.ends_with(&done)).collect();
        Ok((names, done))
    }
}

impl Work {
    /// The name of its folder.
    fn name(&self) -> String {
        let key = self.options.idempotency_key.as_deref().unwrap_or_default();
        let key = Digest::of(key.as_bytes()).to_string();
        format!("{}-{}", self.spec_name(), &key[..16])
    }

    /// The part of it that says what is asked for.
    fn spec_name(&self) -> String {
        let options = JobOptions {
            idempotency_key: None,
            ..self.options.clone()
        };
        let digest = Hasher::with_domain("hearth.outbox.v1")
            .raw(self.release.id().0.as_bytes())
            .field(&codec::encode(&self.inputs))
            .field(&codec::encode(&options))
            .finish();
        digest.to_string()[..16].to_owned()
    }
}

/// For its user alone: inputs and outputs are in there.
fn make(dir: &Path) -> Result<(), OutboxError> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(dir);
    made.map_err(|source| OutboxError::io("making", dir, source))
}

fn lock(dir: &Path) -> Result<DirLock, OutboxError> {
    DirLock::acquire(dir).map_err(|error| match error {
        StoreError::Locked { pid, .. } => OutboxError::Busy {
            path: dir.to_owned(),
            pid,
        },
        other => other.into(),
    })
}

/// Whether what is in a folder is not what was put there: it never will be again.
fn is_damage(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Damaged { .. }
            | StoreError::Missing { .. }
            | StoreError::Mark { .. }
            | StoreError::Gap { .. }
            | StoreError::WrongRealm { .. }
            | StoreError::Visitor { .. }
            | StoreError::Position(_)
            | StoreError::Away { .. }
    )
}
