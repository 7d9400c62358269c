//! Why work stands still though nobody outside is to blame: told with the jobs that wait.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hearth_store::StoreError;
use hearth_wire::api::{Blame, ErrorBody};
use hearth_wire::{Digest, Epoch, JobId, NodeId, ReleaseId};

use crate::faults::Looks;
use crate::inputs::InputError;
use crate::releases::ReleaseProblem;
use crate::shell::FactsError;

/// Jobs of which the trouble is remembered: each is found again at its next lease.
const JOBS_MAX: usize = 1_024;

/// Damaged files that are remembered: with more the disk is to be replaced, and the log names them all.
const DAMAGED_MAX: usize = 256;

/// Troubles of our own disk and of the local host. Nothing here is journaled: a new start finds them
/// again.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// Jobs whose release, component or inputs could not be read.
    unreadable: Mutex<BTreeMap<JobId, Unreadable>>,
    /// Why the local host takes no work.
    local: Mutex<Option<ErrorBody>>,
    /// Files that were found damaged and are needed. The journal stands under no digest.
    damaged: Mutex<BTreeMap<Digest, ErrorBody>>,
    /// Looks at components that nodes could not use.
    pub(crate) looks: Looks,
}

#[derive(Debug)]
struct Unreadable {
    release: ReleaseId,
    trouble: ErrorBody,
    /// Nodes that core gives no more of its release while they are connected.
    declined: BTreeSet<NodeId>,
}

impl Troubles {
    /// A lease of a job could not be filled, for this node.
    pub(crate) fn cannot_read(
        &self,
        job: JobId,
        release: ReleaseId,
        trouble: ErrorBody,
        node: NodeId,
    ) {
        let mut unreadable = lock(&self.unreadable);
        let mut declined = BTreeSet::new();
        if !unreadable.contains_key(&job) {
            tracing::error!(%job, code = trouble.code, "{trouble}");
            if unreadable.len() >= JOBS_MAX
                && let Some((_, forgotten)) = unreadable.pop_first()
            {
                // They come again with this one.
                declined = forgotten.declined;
            }
        }
        let one = unreadable.entry(job).or_insert_with(|| Unreadable {
            release,
            trouble: trouble.clone(),
            declined,
        });
        one.trouble = trouble;
        one.declined.insert(node);
    }

    /// The files of a job are there again, or wanted no longer; gives the nodes that may have it now.
    pub(crate) fn can_read(&self, job: JobId) -> BTreeSet<NodeId> {
        let one = lock(&self.unreadable).remove(&job);
        one.map(|one| one.declined).unwrap_or_default()
    }

    /// What a job waits for, if that is known; the node waits as well then. To read all of its files again
    /// for each lease would hold up what else goes through the node's session.
    pub(crate) fn waits(&self, job: JobId, node: NodeId) -> Option<ErrorBody> {
        let mut unreadable = lock(&self.unreadable);
        let one = unreadable.get_mut(&job)?;
        one.declined.insert(node);
        Some(one.trouble.clone())
    }

    /// Jobs whose files were not there.
    pub(crate) fn unreadable(&self) -> Vec<JobId> {
        lock(&self.unreadable).keys().copied().collect()
    }

    /// Why a job cannot be worked on: its files are not there, or those of another job of its release,
    /// for which nodes were refused the release.
    pub(crate) fn of_job(&self, job: JobId, release: ReleaseId) -> Option<ErrorBody> {
        let unreadable = lock(&self.unreadable);
        if let Some(own) = unreadable.get(&job) {
            return Some(own.trouble.clone());
        }
        let (other, found) = unreadable.iter().find(|(_, one)| one.release == release)?;
        Some(operator(
            "release-waits",
            format!(
                "nodes that met {other} get nothing of its release, which is this job's as well: {}",
                found.trouble.message
            ),
            format!("put the file back from a backup, or cancel {other}: then this job goes on"),
        ))
    }

    /// Why a job's facts cannot be had. A file that is gone because it was damaged is told as such.
    pub(crate) fn of_facts(&self, error: &FactsError, data: &Path) -> ErrorBody {
        let gone = match error {
            FactsError::Release(ReleaseProblem::Store(StoreError::NotFound(digest)))
            | FactsError::Inputs(InputError::Store(StoreError::NotFound(digest)))
            | FactsError::Component(StoreError::NotFound(digest)) => Some(digest),
            _ => None,
        };
        let damaged = gone.and_then(|digest| lock(&self.damaged).get(digest).cloned());
        damaged.unwrap_or_else(|| unreadable(error, data))
    }

    /// A file that is needed was found damaged.
    pub(crate) fn is_damaged(&self, digest: Digest, trouble: ErrorBody) {
        let mut damaged = lock(&self.damaged);
        if damaged.len() < DAMAGED_MAX {
            damaged.insert(digest, trouble);
        }
    }

    /// All of the journal was read, and is what it was.
    pub(crate) fn journal_is_whole(&self) {
        lock(&self.damaged).remove(&Digest::default());
    }

    /// Forgets damaged files of which `lasts` says that they are no trouble any more.
    pub(crate) fn forget_damaged(&self, lasts: impl Fn(&Digest) -> bool) {
        let known: Vec<_> = lock(&self.damaged).keys().copied().collect();
        for digest in known {
            if digest != Digest::default() && !lasts(&digest) {
                lock(&self.damaged).remove(&digest);
            }
        }
    }

    /// Files that are damaged, are needed and were not replaced.
    pub(crate) fn of_files(&self) -> Vec<ErrorBody> {
        lock(&self.damaged).values().cloned().collect()
    }

    /// The local host takes no work, or does again. True if that is news.
    pub(crate) fn set_local(&self, trouble: Option<ErrorBody>) -> bool {
        let mut local = lock(&self.local);
        let news = *local != trouble;
        *local = trouble;
        news
    }

    /// Why the local host takes no work, if it takes none.
    pub(crate) fn of_local(&self) -> Option<ErrorBody> {
        lock(&self.local).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn operator(code: &str, message: String, next: String) -> ErrorBody {
    ErrorBody {
        code: code.to_owned(),
        message,
        blame: Blame::Operator,
        next,
    }
}

const RESTORE: &str = "put the file back from a backup, and the job goes on by itself; or cancel the \
                       job and submit it again";

/// What a job's facts could not be had for.
fn unreadable(error: &FactsError, data: &Path) -> ErrorBody {
    let missing = |what: &str, folder: &str, digest: &Digest| {
        let code = format!("{what}-missing");
        let file = data.join(folder);
        let message = format!(
            "the {what} {digest} of this job is not in {}",
            file.display()
        );
        operator(&code, message, RESTORE.to_owned())
    };
    match error {
        FactsError::Release(ReleaseProblem::Store(StoreError::NotFound(digest))) => {
            missing("release", "releases", digest)
        }
        FactsError::Inputs(InputError::Store(StoreError::NotFound(digest))) => {
            missing("inputs", "inputs", digest)
        }
        FactsError::Component(StoreError::NotFound(digest)) => {
            missing("component", "blobs", digest)
        }
        other => {
            let message = format!(
                "the files of this job in {} cannot be read: {other}",
                data.display()
            );
            operator("work-unreadable", message, RESTORE.to_owned())
        }
    }
}

/// A file is not what its name says; it was set aside.
pub(crate) fn damaged(error: &StoreError, aside: &Path) -> ErrorBody {
    operator(
        "file-damaged",
        format!("{error}; it is {} now", aside.display()),
        "put the file back from a backup under its old name, or upload it again; and look at the disk"
            .to_owned(),
    )
}

/// The journal is not what it was, or a part of it is away.
pub(crate) fn of_journal(error: &StoreError) -> ErrorBody {
    if !matches!(error, StoreError::Damaged { .. }) {
        return operator(
            "journal-unreadable",
            error.to_string(),
            "put the missing files back, or mount the disk that they are on, and start the coordinator \
             again; until then results that are there cannot be read"
                .to_owned(),
        );
    }
    operator(
        "journal-damaged",
        error.to_string(),
        "stop the coordinator, put this file of the journal back from a backup, and start it again; \
         until then it goes on from what is in memory"
            .to_owned(),
    )
}

/// The local host has seen a newer life of this realm than ours.
pub(crate) fn older_than_seen(seen: Epoch, ours: Epoch, realm: &Path) -> ErrorBody {
    let message = format!(
        "the local host refuses this coordinator: it has seen epoch {seen} of the realm, and this is \
         {ours}, so {} was deleted or put back from an older copy",
        realm.join("data").display()
    );
    let next = format!(
        "put the newest copy back; if what came after it is lost for good, remove {} and start the \
         coordinator again (volunteers leave and join anew)",
        realm.join("local/epoch").display()
    );
    operator("coordinator-older-than-seen", message, next)
}

/// The operator drained the local host.
pub(crate) fn drained() -> ErrorBody {
    operator(
        "local-host-drained",
        "the local host was drained, and no volunteer may work".to_owned(),
        "let a volunteer join, or start the coordinator again, which starts the local host too"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_wait_for_another_of_their_release_say_so() {
        let troubles = Troubles::default();
        let (release, other) = (ReleaseId(Digest::of(b"one")), ReleaseId(Digest::of(b"two")));
        let node = NodeId::default();
        let trouble = operator("inputs-missing", "gone".to_owned(), RESTORE.to_owned());
        troubles.cannot_read(JobId(1), release, trouble, node);
        let code = |job, release| troubles.of_job(JobId(job), release).map(|found| found.code);
        assert_eq!(code(1, release).as_deref(), Some("inputs-missing"));
        assert_eq!(code(2, release).as_deref(), Some("release-waits"));
        assert_eq!(code(3, other), None);
        assert_eq!(troubles.can_read(JobId(1)), BTreeSet::from([node]));
        assert_eq!(code(2, release), None);
    }

    #[test]
    fn a_file_that_is_gone_because_it_was_damaged_is_told_as_such() {
        let troubles = Troubles::default();
        let digest = Digest::of(b"a component");
        let error = FactsError::Component(StoreError::NotFound(digest));
        let told = |troubles: &Troubles| troubles.of_facts(&error, Path::new("data")).code;
        assert_eq!(told(&troubles), "component-missing");
        let trouble = operator("file-damaged", "bad".to_owned(), RESTORE.to_owned());
        troubles.is_damaged(digest, trouble);
        assert_eq!(told(&troubles), "file-damaged");
        troubles.forget_damaged(|_| false);
        assert_eq!(told(&troubles), "component-missing");
    }

    #[test]
    fn nodes_of_a_forgotten_job_are_not_forgotten() {
        let troubles = Troubles::default();
        let release = ReleaseId(Digest::of(b"one"));
        let trouble = || operator("inputs-missing", "gone".to_owned(), RESTORE.to_owned());
        let node = |number: u64| NodeId(Digest::of(&number.to_le_bytes()));
        for job in 0..=JOBS_MAX as u64 {
            troubles.cannot_read(JobId(job), release, trouble(), node(job));
        }
        let kept = troubles.unreadable();
        assert_eq!(kept.len(), JOBS_MAX);
        let nodes: BTreeSet<_> = kept
            .iter()
            .flat_map(|job| troubles.can_read(*job))
            .collect();
        assert_eq!(nodes.len(), JOBS_MAX + 1);
    }
}
