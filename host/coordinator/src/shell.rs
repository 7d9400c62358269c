//! What all parts of the coordinator share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use hearth_identity::{Authority, RealmDir, Redemptions};
use hearth_net::shutdown::Shutdown;
use hearth_store::{BlobStore, Reader, Snapshots, StoreError};
use hearth_wire::message::Refusal;
use hearth_wire::{
    Digest, Epoch, InputSet, JobId, Manifest, NodeId, RealmId, ReleaseId, SessionId, TaskId,
    TaskIndex, content_id,
};

use tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};

use crate::bucket::Buckets;
use crate::clock::Clock;
use crate::config::CoordinatorConfig;
use crate::driver::DriverHandle;
use crate::inputs::{InputError, InputSets, OpenSet};
use crate::metrics::Metrics;
use crate::nodes::Connections;
use crate::releases::{KnownRelease, ReleaseProblem, Releases};
use crate::room::Room;
use crate::scrubs::Scrubs;
use crate::tables::{Picked, Tables, TablesError};
use crate::troubles::Troubles;
use crate::trust::{Held, Trusted};
use crate::views::{TaskView, Views};

/// What all parts of the coordinator share. Everything in it can be used from any task.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) config: CoordinatorConfig,
    pub(crate) realm: RealmId,
    pub(crate) dir: RealmDir,
    pub(crate) authority: Authority,
    pub(crate) epoch: Epoch,
    pub(crate) clock: Clock,
    pub(crate) local_node: NodeId,
    pub(crate) driver: DriverHandle,
    pub(crate) views: Arc<Views>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) journal: Reader,
    pub(crate) snapshots: Snapshots,
    pub(crate) room: Arc<Room>,
    pub(crate) scrubs: Scrubs,
    pub(crate) blobs: BlobStore,
    pub(crate) inputs: InputSets,
    pub(crate) releases: Releases,
    pub(crate) connections: Connections,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) submissions: Buckets<Digest>,
    pub(crate) shutdown: Shutdown,
    pub(crate) trusted: RwLock<Trusted>,
    /// Counts changes of `trusted`, so that sessions hear of them.
    pub(crate) policy_changes: watch::Sender<u64>,
    /// What is trusted no longer, of that which jobs wait for.
    pub(crate) held: Held,
    /// Why work stands still, for those who wait for it.
    pub(crate) troubles: Troubles,
    /// Which invitations were used. Locked until a use is durable.
    pub(crate) redemptions: AsyncMutex<Redemptions>,
    pub(crate) sessions: AtomicU64,
    /// Places for event streams.
    pub(crate) followers: Arc<Semaphore>,
}

/// What is needed to fill a lease or to check a report.
#[derive(Debug, Clone)]
pub(crate) struct JobFacts {
    pub(crate) release: Arc<KnownRelease>,
    pub(crate) release_id: ReleaseId,
    pub(crate) seed: Digest,
    pub(crate) inputs: InputSet,
    pub(crate) set: Arc<OpenSet>,
}

/// Why the facts of a job cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactsError {
    #[error("{0} is not known")]
    UnknownJob(JobId),
    #[error(transparent)]
    Release(#[from] ReleaseProblem),
    #[error(transparent)]
    Inputs(#[from] InputError),
    #[error(transparent)]
    Component(StoreError),
}

impl Shell {
    /// Whom the realm trusts now. Not to be held over an `await`.
    pub(crate) fn trusted(&self) -> std::sync::RwLockReadGuard<'_, Trusted> {
        self.trusted.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tasks that were picked. Blocks if their job has ended.
    pub(crate) fn tasks(&self, picked: Picked) -> Result<Vec<(TaskIndex, TaskView)>, TablesError> {
        let is_known = |job| self.views.read().jobs.contains_key(&job);
        self.tables.tasks(picked, is_known)
    }

    /// A number for a new session.
    pub(crate) fn next_session(&self) -> SessionId {
        SessionId(self.sessions.fetch_add(1, Ordering::Relaxed))
    }

    /// What is needed to fill a lease of `job` or to check a report about it.
    pub(crate) async fn job_facts(&self, job: JobId) -> Result<JobFacts, FactsError> {
        let (release_id, seed, inputs) = {
            let state = self.views.read();
            let view = state.jobs.get(&job).ok_or(FactsError::UnknownJob(job))?;
            let spec = &view.spec;
            (spec.release, spec.options.seed, spec.inputs.clone())
        };
        let set = self.inputs.open(inputs.root).await?;
        Ok(JobFacts {
            release: self.releases.get(release_id)?,
            release_id,
            seed,
            inputs,
            set,
        })
    }
}

impl Shell {
    /// The facts of a job whose component is there too: nodes fetch it from us.
    pub(crate) async fn readable_facts(&self, job: JobId) -> Result<JobFacts, FactsError> {
        let facts = self.job_facts(job).await?;
        let component = facts.release.manifest.component.digest;
        match self.blobs.len_of(&component) {
            Ok(Some(_)) => Ok(facts),
            Ok(None) => Err(FactsError::Component(StoreError::NotFound(component))),
            Err(error) => Err(FactsError::Component(error)),
        }
    }

    /// Looks again at files that were damaged: one that is there again, or that nobody needs, is no trouble.
    pub(crate) fn look_at_damaged(&self) {
        self.troubles.forget_damaged(|digest| {
            let (blob, set) = {
                let state = self.views.read();
                let references = &state.references;
                (references.needs_blob(digest), references.needs_set(digest))
            };
            let there = |store: &BlobStore| matches!(store.len_of(digest), Ok(Some(_)));
            (blob && !there(&self.blobs)) || (set && !there(self.inputs.store()))
        });
    }

    /// Looks again at jobs whose files were not there, and offers them again once they are.
    pub(crate) async fn look_at_unreadable(&self) {
        for job in self.troubles.unreadable() {
            let open = {
                let state = self.views.read();
                state
                    .jobs
                    .get(&job)
                    .is_some_and(|view| view.ended.is_none())
            };
            if open && self.readable_facts(job).await.is_err() {
                continue;
            }
            tracing::info!(%job, "the files of this job are there again, or wanted no longer");
            for node in self.troubles.can_read(job) {
                if let Some(connected) = self.connections.get(node) {
                    connected.end(Refusal::Rejoin);
                }
            }
        }
    }
}

impl JobFacts {
    /// The content id of a task of this job; `None` if it has no such task.
    pub(crate) fn content(&self, task: TaskId) -> Option<Digest> {
        let digest = self.set.index.digests.get(task.index.0 as usize)?;
        let manifest: &Manifest = &self.release.manifest;
        Some(content_id(
            manifest,
            digest,
            &self.inputs.media_type,
            &self.seed,
        ))
    }
}
