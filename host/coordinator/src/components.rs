//! Components of ours that a node could not use.

use std::sync::Arc;
use std::time::Instant;

use hearth_store::StoreError;
use hearth_wire::api::ErrorBody;
use hearth_wire::{Digest, JobId, NodeId};
use tokio::sync::Mutex as AsyncMutex;

use crate::shell::{FactsError, JobFacts, Shell};
use crate::troubles;

/// Looks at components, one at a time: however many nodes complain, one of them at most keeps the disk
/// busy. Holds the component that was found whole last, and when the look at it began.
#[derive(Debug, Default)]
pub(crate) struct Looks(AsyncMutex<Option<(Digest, Instant)>>);

impl Shell {
    /// A node that has a lease of a job could not begin. If our copy of the component is to blame, gives
    /// what the job waits for from now on, as it would for a component that is missing.
    ///
    /// A lease goes out on the word of the file's name, since to read a component for each costs more than
    /// most tasks do. So the first who sees what became of it is a node.
    pub(crate) async fn trouble_of_component(
        self: &Arc<Self>,
        job: JobId,
        facts: &JobFacts,
        node: NodeId,
    ) -> Option<ErrorBody> {
        let asked = Instant::now();
        let component = facts.release.manifest.component.digest;
        let error = {
            let mut whole = self.troubles.looks.0.lock().await;
            // While this waited its turn, the same was looked at for another node.
            if whole.is_some_and(|(digest, began)| digest == component && began >= asked) {
                return None;
            }
            let began = Instant::now();
            let looker = Arc::clone(self);
            let looked =
                tokio::task::spawn_blocking(move || looker.look_at_component(&component)).await;
            match looked {
                Ok(Ok(())) => {
                    *whole = Some((component, began));
                    return None;
                }
                Ok(Err(error)) => FactsError::Component(error),
                // We are shutting down.
                Err(_) => return None,
            }
        };
        let trouble = self.troubles.of_facts(&error, &self.dir.data_dir());
        self.troubles
            .cannot_read(job, facts.release_id, trouble.clone(), node);
        Some(trouble)
    }

    /// Reads a component; one that is not what its name says loses the name, so that it is missing from
    /// then on and can be uploaded again. Blocks.
    fn look_at_component(&self, digest: &Digest) -> Result<(), StoreError> {
        let error = match self.blobs.verify(digest) {
            Err(error @ StoreError::Damaged { .. }) => error,
            // What cannot be read at this moment may be sound.
            other => return other,
        };
        // Nothing comes back if a scrub was faster, which has told it then.
        if let Some(aside) = self.blobs.set_aside(digest)? {
            self.metrics.files_damaged.inc();
            let trouble = troubles::damaged(&error, &aside);
            tracing::error!("{trouble}");
            self.troubles.is_damaged(*digest, trouble);
        }
        Err(StoreError::NotFound(*digest))
    }
}
