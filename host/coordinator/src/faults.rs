//! Files of ours that are damaged, and jobs that wait for them.

use std::sync::Arc;
use std::time::Instant;

use hearth_store::{BlobStore, StoreError};
use hearth_wire::api::ErrorBody;
use hearth_wire::{Digest, JobId, NodeId, TaskId, TaskIndex, limits};
use tokio::sync::Mutex as AsyncMutex;

use crate::shell::{FactsError, JobFacts, Shell};
use crate::troubles;

/// Looks at components, one at a time: however many nodes complain, one of them at most keeps the disk
/// busy. Holds the component that was found whole last, and when the look at it began.
#[derive(Debug, Default)]
pub(crate) struct Looks(AsyncMutex<Option<(Digest, Instant)>>);

impl Shell {
    /// A node that has a lease of this task could not begin. If our copy of the component or of the input is
    /// to blame, gives what the job waits for from now on, as it would for a file that is missing.
    ///
    /// A lease goes out on the word of a file's name, since to read a component for each costs more than
    /// most tasks do. So the first who sees what became of it is a node. What was looked at since `asked`
    /// is not looked at again.
    pub(crate) async fn trouble_of_files(
        self: &Arc<Self>,
        task: TaskId,
        facts: &JobFacts,
        node: NodeId,
        asked: Instant,
    ) -> Option<ErrorBody> {
        let component = facts.release.manifest.component.digest;
        let fault = match self.fault_of_component(component, asked).await {
            Some(fault) => fault,
            None => self.fault_of_input(facts, task.index).await?,
        };
        Some(self.cannot_serve(task.job, &fault, node))
    }

    /// Files of a job cannot be had: it waits for them, and this node gets no more of its release until they
    /// are there. Gives what is told.
    pub(crate) fn cannot_serve(&self, job: JobId, fault: &FactsError, node: NodeId) -> ErrorBody {
        let trouble = self.troubles.of_facts(fault, &self.dir.data_dir());
        let release = {
            let state = self.views.read();
            state.jobs.get(&job).map(|view| view.spec.release)
        };
        if let Some(release) = release {
            self.troubles
                .cannot_read(job, release, trouble.clone(), node);
        }
        trouble
    }

    async fn fault_of_component(
        self: &Arc<Self>,
        component: Digest,
        asked: Instant,
    ) -> Option<FactsError> {
        let mut whole = self.troubles.looks.0.lock().await;
        // While this waited its turn, the same was looked at for another node.
        if whole.is_some_and(|(digest, began)| digest == component && began >= asked) {
            return None;
        }
        let began = Instant::now();
        let looker = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || looker.look_at_component(&component));
        // An error of the thread means that we are shutting down.
        let error = looked.await.ok()?.err();
        if error.is_none() {
            *whole = Some((component, began));
        }
        error.map(FactsError::Component)
    }

    /// Reads a component; one that is not what its name says loses the name, so that it is missing from
    /// then on and can be uploaded again. What cannot be read at this moment may be sound. Blocks.
    fn look_at_component(&self, digest: &Digest) -> Result<(), StoreError> {
        let error = match self.blobs.verify(digest) {
            Err(error @ StoreError::Damaged { .. }) => error,
            Err(error @ StoreError::NotFound(_)) => return Err(error),
            Err(error) => {
                tracing::error!(%error, "a component that a node could not use cannot be read");
                return Ok(());
            }
            Ok(()) => return Ok(()),
        };
        if let Err(failed) = self.set_aside(&self.blobs, digest, &error, true) {
            tracing::error!(%error, %failed, "a damaged file cannot be moved aside");
            return Ok(());
        }
        Err(StoreError::NotFound(*digest))
    }

    /// Takes the name from a damaged file, so that whoever has it can upload it again, and tells it. Nothing
    /// is done if somebody else was faster. Blocks.
    pub(crate) fn set_aside(
        &self,
        store: &BlobStore,
        digest: &Digest,
        error: &StoreError,
        needed: bool,
    ) -> Result<(), StoreError> {
        let Some(aside) = store.set_aside(digest)? else {
            return Ok(());
        };
        self.inputs.forget(digest);
        self.metrics.files_damaged.inc();
        let trouble = troubles::damaged(error, &aside);
        tracing::error!(needed, "{trouble}");
        if needed {
            self.troubles.is_damaged(*digest, trouble);
        }
        Ok(())
    }

    /// The same for an input that nodes fetch. Its set was whole when it was opened; if the input is not,
    /// it is opened again and says what is wrong.
    async fn fault_of_input(&self, facts: &JobFacts, index: TaskIndex) -> Option<FactsError> {
        let (_, length) = facts.set.place(index).ok()?;
        if length as usize <= limits::INLINE_BYTES_MAX {
            return None;
        }
        let named = *facts.set.index.digests.get(index.0 as usize)?;
        let set = Arc::clone(&facts.set);
        let read = tokio::task::spawn_blocking(move || set.read(index));
        let read = read.await.ok()?;
        if read.is_ok_and(|bytes| Digest::of(&bytes) == named) {
            return None;
        }
        let root = facts.set.index.root;
        self.inputs.forget(&root);
        self.inputs.open(root).await.err().map(FactsError::Inputs)
    }
}
