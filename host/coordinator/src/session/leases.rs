//! From grants, which are core's, to leases, which a node can work with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hearth_core::{Event, Grant, ReportIn};
use hearth_wire::message::{CoordinatorMessage, Input, InputSource, Lease, ReleaseRef};
use hearth_wire::record::{Fact, Record};
use hearth_wire::{
    Checkpoint, Digest, Inconclusive, JobId, NodeId, Outcome, ReleaseId, Seq, codec, limits,
};

use super::inbound::Inbound;
use super::{End, ToNode, say};
use crate::shell::{JobFacts, Shell};

/// Encoded leases in one message, well below a frame.
const LEASE_MESSAGE_BYTES: usize = 256 << 10;
/// What a lease counts for at least.
const LEASE_BYTES_MIN: usize = LEASE_MESSAGE_BYTES / limits::MESSAGES_PER_FRAME_MAX;

/// Until a lease that we cannot fill is given back. A disk that does not read now may read later, and a
/// task has only so many attempts.
const UNREADABLE_DELAY: Duration = Duration::from_secs(5);

/// Releases that a node is told in full at most; the names of the rest are forgotten and told again.
const RELEASES_MAX: usize = 4_096;

/// What this connection was told already.
#[derive(Debug, Default)]
pub(super) struct Leases {
    releases: BTreeSet<ReleaseId>,
}

impl Leases {
    /// Fills and sends leases. Views must show record `seq`, in which they were granted.
    pub(super) async fn send(
        &mut self,
        shell: &Arc<Shell>,
        sender: &ToNode,
        inbound: &Inbound,
        grants: Vec<Grant>,
        seq: Seq,
    ) -> Result<(), End> {
        if let Err(error) = shell.views.wait_for(seq).await {
            tracing::error!(%error, "views lag behind; leases are given back");
        }
        let node = inbound.node();
        let mut jobs: BTreeMap<JobId, Result<JobFacts, Inconclusive>> = BTreeMap::new();
        for grant in &grants {
            let job = grant.task.job;
            if let std::collections::btree_map::Entry::Vacant(place) = jobs.entry(job) {
                place.insert(leasable(shell, job, node).await);
            }
        }
        let filler = Arc::clone(shell);
        // Reading inputs may wait for the disk.
        let filled = tokio::task::spawn_blocking(move || fill(&filler, &grants, &jobs)).await;
        let Ok(filled) = filled else {
            return Err(End::Stopped);
        };
        self.send_filled(sender, filled.leases).await?;
        let given_back = |reports| Event::Reported {
            node: inbound.node(),
            session: inbound.session(),
            reports,
        };
        if !filled.declined.is_empty() {
            shell.driver.tell(given_back(filled.declined)).await?;
        }
        if !filled.unreadable.is_empty() {
            let (later, event) = (Arc::clone(shell), given_back(filled.unreadable));
            tokio::spawn(async move {
                let mut shutdown = later.shutdown.clone();
                tokio::select! {
                    () = shutdown.requested() => {}
                    () = tokio::time::sleep(UNREADABLE_DELAY) => {
                        // A driver that has ended leases nothing any more.
                        let _ended = later.driver.tell(event).await;
                    }
                }
            });
        }
        Ok(())
    }

    async fn send_filled(
        &mut self,
        sender: &ToNode,
        leases: Vec<(Lease, Arc<crate::releases::KnownRelease>)>,
    ) -> Result<(), End> {
        let mut full = Vec::with_capacity(leases.len());
        for (mut lease, known) in leases {
            let ReleaseRef::Known(id) = lease.release else {
                continue;
            };
            if self.releases.len() >= RELEASES_MAX {
                self.releases.clear();
            }
            if self.releases.insert(id) {
                lease.release = ReleaseRef::Full(known.release.clone());
            }
            full.push(lease);
        }
        for batch in batches(full) {
            say(sender, &CoordinatorMessage::Lease(batch)).await?;
        }
        Ok(())
    }
}

/// Cuts leases into messages. What a lease carries (a release, an input, a checkpoint with its makers) is at
/// most a few ten KiB, so that one alone always fits.
fn batches(leases: Vec<Lease>) -> Vec<Vec<Lease>> {
    let (mut all, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for lease in leases {
        // A floor bounds how many come in one message.
        let size = codec::encode(&lease).len().max(LEASE_BYTES_MIN);
        if bytes + size > LEASE_MESSAGE_BYTES && !batch.is_empty() {
            all.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(lease);
    }
    if !batch.is_empty() {
        all.push(batch);
    }
    all
}

struct Filled {
    leases: Vec<(Lease, Arc<crate::releases::KnownRelease>)>,
    /// Attempts of releases that may not run now: told to core as ended without a word on the task.
    declined: Vec<ReportIn>,
    /// Attempts that we cannot serve: told as stopped, after a while.
    unreadable: Vec<ReportIn>,
}

/// What leases of a job are filled from. Core has granted them by what it knew; whether the release
/// is trusted now is asked here, at the last moment before it leaves.
async fn leasable(shell: &Shell, job: JobId, node: NodeId) -> Result<JobFacts, Inconclusive> {
    if let Some(trouble) = shell.troubles.waits(job, node) {
        return Err(Inconclusive::Declined(trouble.to_string()));
    }
    let facts = match shell.readable_facts(job).await {
        Ok(facts) => facts,
        Err(error) => {
            let trouble = shell.cannot_serve(job, &error, node);
            // Our own fault: counted against nobody, and offered again when it is mended.
            return Err(Inconclusive::Declined(trouble.to_string()));
        }
    };
    match shell.may_run(facts.release_id, &facts.release.release) {
        Ok(()) => Ok(facts),
        Err(error) => {
            shell.held.declined(facts.release_id, node);
            // Core gives the node no more of this release, and counts it against nobody.
            Err(Inconclusive::Declined(error.to_string()))
        }
    }
}

/// What we cannot read is no fault of the node: the attempt counts as stopped, and the log tells the operator.
fn unreadable() -> Inconclusive {
    Inconclusive::Cancelled
}

fn fill(
    shell: &Shell,
    grants: &[Grant],
    jobs: &BTreeMap<JobId, Result<JobFacts, Inconclusive>>,
) -> Filled {
    let mut filled = Filled {
        leases: Vec::with_capacity(grants.len()),
        declined: Vec::new(),
        unreadable: Vec::new(),
    };
    for grant in grants {
        let facts = match jobs.get(&grant.task.job) {
            Some(facts) => facts.as_ref().map_err(Inconclusive::clone),
            None => Err(unreadable()),
        };
        let lease = facts.and_then(|facts| {
            let Some(lease) = fill_one(shell, grant, facts) else {
                tracing::error!(task = %grant.task, "a lease cannot be filled; the task waits");
                return Err(unreadable());
            };
            Ok((lease, Arc::clone(&facts.release)))
        });
        match lease {
            Ok(lease) => filled.leases.push(lease),
            Err(why) => {
                let back = match why {
                    Inconclusive::Declined(_) => &mut filled.declined,
                    _ => &mut filled.unreadable,
                };
                back.push(ReportIn {
                    attempt: grant.attempt,
                    task: grant.task,
                    outcome: Outcome::Inconclusive(why),
                    fuel_used: 0,
                    run_micros: 0,
                });
            }
        }
    }
    filled
}

fn fill_one(shell: &Shell, grant: &Grant, facts: &JobFacts) -> Option<Lease> {
    let index = grant.task.index;
    let (_, length) = facts.set.place(index).ok()?;
    let digest = *facts.set.index.digests.get(index.0 as usize)?;
    let source = if length as usize <= limits::INLINE_BYTES_MAX {
        let read = facts.set.read(index);
        let read = read.inspect_err(
            |error| tracing::error!(task = %grant.task, %error, "cannot read an input"),
        );
        // A file that has become shorter reads without an error; the node would be blamed for it.
        let sound = read.ok().filter(|bytes| Digest::of(bytes) == digest);
        if sound.is_none() {
            tracing::error!(task = %grant.task, "an input is damaged");
            // It was whole when it was opened. Opened again it is not, and its job waits for it.
            shell.inputs.forget(&facts.set.index.root);
        }
        InputSource::Inline(sound?)
    } else {
        InputSource::Stored { len: length.into() }
    };
    Some(Lease {
        attempt: grant.attempt,
        task: grant.task,
        epoch: shell.epoch,
        release: ReleaseRef::Known(facts.release_id),
        input: Input {
            media_type: facts.inputs.media_type.clone(),
            digest,
            source,
        },
        seed: facts.seed,
        priority: grant.priority,
        millis: grant.millis,
        // Without its checkpoint a task starts again, which costs time and changes no outcome.
        checkpoint: grant
            .checkpoint
            .and_then(|seq| checkpoint(shell, grant, seq)),
    })
}

fn checkpoint(shell: &Shell, grant: &Grant, seq: Seq) -> Option<Checkpoint> {
    let position = shell.views.read().checkpoint(grant.task, seq)?;
    let bytes = shell.journal.read_at(position).ok()?;
    let record: Record = codec::decode(&bytes, limits::FRAME_BYTES_MAX).ok()?;
    match record.fact {
        Fact::Checkpointed {
            task, checkpoint, ..
        } if task == grant.task => Some(checkpoint),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hearth_wire::{
        AttemptId, Body, CheckpointLink, Epoch, NodeId, Priority, TaskId, TaskIndex,
    };

    use super::*;

    fn lease(number: u32, state: usize, makers: usize) -> Lease {
        let link = CheckpointLink {
            node: NodeId(Digest::of(b"maker")),
            fuel_used: u64::MAX,
            state: Digest::default(),
            signature: vec![1; 72],
        };
        Lease {
            attempt: AttemptId(number.into()),
            task: TaskId {
                job: JobId(1),
                index: TaskIndex(number),
            },
            epoch: Epoch::default(),
            release: ReleaseRef::Known(ReleaseId(Digest::default())),
            input: Input {
                media_type: "text/plain".to_owned(),
                digest: Digest::default(),
                source: InputSource::Inline(vec![0; state]),
            },
            seed: Digest::default(),
            priority: Priority::Medium,
            millis: 60_000,
            checkpoint: Some(Checkpoint {
                state: Body::Inline(vec![0; state]),
                fuel_used: 1,
                chain: vec![link; makers],
            }),
        }
    }

    #[test]
    fn leases_with_all_that_they_carry_fit_their_frames() {
        for (state, makers) in [
            (limits::INLINE_BYTES_MAX, limits::CHECKPOINT_CHAIN_MAX),
            (0, 0),
        ] {
            let leases: Vec<_> = (0..3_000).map(|n| lease(n, state, makers)).collect();
            let batches = batches(leases.clone());
            for batch in &batches {
                assert!(batch.len() <= limits::MESSAGES_PER_FRAME_MAX);
                let message = CoordinatorMessage::Lease(batch.clone());
                assert!(codec::encode(&message).len() <= limits::FRAME_BYTES_MAX / 2);
            }
            assert_eq!(batches.concat(), leases, "none is lost, none is twice");
        }
    }
}
