//! What can go wrong with files, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use hearth_wire::{Digest, RealmId, Seq};

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process works on the directory.
    #[error(
        "{} is in use{}: stop that process, or give this one another directory",
        path.display(),
        pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, if it could be read.
        pid: Option<u32>,
    },
    /// The system failed to do something with a file.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The disk is full. Nothing was acknowledged and nothing is lost; make room and try again.
    #[error(
        "{action} {}: {source}; the operator has to free space on that disk or raise the quota, \
         then start again: nothing that was acknowledged is lost",
        path.display()
    )]
    NoSpace {
        /// What was tried.
        action: &'static str,
        /// The file that could not grow.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// An earlier write or sync failed, so what is on the disk is not known. Only a new start, which
    /// reads it again, can tell.
    #[error("the journal failed earlier ({cause}): restart to recover from what is on the disk")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// A file holds something that was never written to it.
    #[error(
        "{} is damaged at byte {offset}: {problem}; restore this directory from a backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage was noticed.
        offset: u64,
        /// What was noticed.
        problem: String,
    },
    /// Records that were acknowledged are not there: files were removed, cut or put back from an
    /// older copy.
    #[error(
        "{}: records up to {acknowledged} were acknowledged, but the journal ends at {found}: \
         put the missing files back",
        path.display()
    )]
    Missing {
        /// The journal's directory.
        path: PathBuf,
        /// The newest record known to have been acknowledged.
        acknowledged: Seq,
        /// The newest record found.
        found: Seq,
    },
    /// The file that says up to where the journal was acknowledged is not what it was, so a cut of the
    /// journal's end would go unnoticed.
    #[error(
        "{} {problem}, and only it can tell whether the journal beside it is whole: put it back \
         together with the journal, or start once with --trust-journal-end, which takes the journal \
         as it is and gives up whatever was acknowledged behind its end",
        path.display()
    )]
    Mark {
        /// The mark.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The journal begins after the record from which it is needed.
    #[error(
        "record {needed} is needed, but what is in {} begins at record {found}: put the older segments back",
        both(path, archive)
    )]
    Gap {
        /// The journal's directory.
        path: PathBuf,
        /// Its archive.
        archive: Option<PathBuf>,
        /// The first record needed.
        needed: Seq,
        /// The first record found.
        found: Seq,
    },
    /// What a reader asks for was in a file of the journal that is not there, or was cut.
    #[error(
        "what was at position {position} of the journal is not in {}: put the missing file back, or \
         mount the disk that it is on",
        both(path, archive)
    )]
    Away {
        /// The journal's directory.
        path: PathBuf,
        /// Its archive.
        archive: Option<PathBuf>,
        /// What was asked for.
        position: u64,
    },
    /// What was moved to the archive cannot be had, and nothing more is moved there.
    #[error(
        "the archive of the journal, {}, cannot be used: {problem}; what is in it cannot be read and nothing \
         is moved there: mend that, and start again",
        path.display()
    )]
    ArchiveAway {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The archive is to be where something else is. The operator is to blame.
    #[error("{} is used for something else: give the archive a directory of its own", path.display())]
    ArchiveTaken {
        /// The directory.
        path: PathBuf,
    },
    /// A file in the archive has the name of a segment, and is not the same.
    #[error(
        "{} and {} are not the same, though they have one name: remove the one that is wrong",
        ours.display(), theirs.display()
    )]
    Twins {
        /// The segment in the journal's directory.
        ours: PathBuf,
        /// The file in the archive.
        theirs: PathBuf,
    },
    /// The file belongs to another realm.
    #[error("{} belongs to realm {found}, not to {expected}: is this the right directory?", path.display())]
    WrongRealm {
        /// The file.
        path: PathBuf,
        /// The realm of this directory.
        expected: RealmId,
        /// The realm in the file.
        found: RealmId,
    },
    /// The file was written by a newer version.
    #[error("{} has format {found}, this version reads up to {supported}: update hearth", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// The file is encrypted, and this version has no keys for journals.
    #[error("{} is encrypted with key {key:?}: update hearth", path.display())]
    Encrypted {
        /// The file.
        path: PathBuf,
        /// The key's id.
        key: Digest,
    },
    /// A record is larger than any may be. The caller is to blame.
    #[error("a record of {bytes} bytes, at most {max} are allowed")]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Nothing durable begins at this position.
    #[error("no durable record begins at position {0}")]
    Position(u64),
    /// The caller refused a record while it was read back.
    #[error("record {seq} was refused while reading the journal: {source}")]
    Visitor {
        /// The record.
        seq: Seq,
        /// The caller's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The blobs would take more than the owner allows.
    #[error(
        "{used} of {quota} bytes are used, {wanted} more do not fit: remove jobs or raise the quota"
    )]
    Quota {
        /// Bytes in use.
        used: u64,
        /// The owner's limit.
        quota: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// Less space would be left on the disk than is kept in reserve for running work.
    #[error("{free} bytes are free at {}, {reserve} are kept in reserve: make room", path.display())]
    Reserve {
        /// The directory.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes to be kept.
        reserve: u64,
    },
    /// The bytes are not those that were named. The sender is to blame.
    #[error("the bytes are {found}, not {expected} as named: send them again from the start")]
    Mismatch {
        /// The name.
        expected: Digest,
        /// What the bytes are.
        found: Digest,
    },
    /// The check that names the bytes refused them. The sender is to blame.
    #[error("the bytes were refused: {0}")]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// There is no such blob.
    #[error("there is no blob {0}")]
    NotFound(Digest),
    /// The blob is larger than the caller wants to hold in memory.
    #[error("blob {digest} has {bytes} bytes, at most {max} were expected")]
    TooLarge {
        /// Which.
        digest: Digest,
        /// Its size.
        bytes: u64,
        /// The caller's limit.
        max: u64,
    },
    /// Another upload of the same blob by the same owner is going on.
    #[error("this upload is open on another connection: wait for it or close it")]
    Busy,
    /// An upload goes on somewhere else than where it stopped.
    #[error("the upload has {have} bytes, so it goes on at {have}, not at {asked}")]
    Offset {
        /// Bytes that are there.
        have: u64,
        /// Where the sender wanted to go on.
        asked: u64,
    },
    /// Too many unfinished uploads.
    #[error(
        "{0} uploads are unfinished, which is the limit: finish one, or wait for one to expire"
    )]
    TooManyPartials(usize),
}

/// Where a journal is.
fn both(path: &Path, archive: &Option<PathBuf>) -> String {
    match archive {
        Some(archive) => format!("{} and {}", path.display(), archive.display()),
        None => path.display().to_string(),
    }
}

impl StoreError {
    /// Wraps a system error; a full disk gets its own variant, because it can be retried.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace {
                action,
                path,
                source,
            },
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, problem: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            problem: problem.into(),
        }
    }
}
