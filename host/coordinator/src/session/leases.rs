//! From grants, which are core's, to leases, which a node can work with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hearth_core::{Event, Grant, ReportIn};
use hearth_wire::message::{CoordinatorMessage, Input, InputSource, Lease, ReleaseRef};
use hearth_wire::record::{Fact, Record};
use hearth_wire::{
    Checkpoint, Inconclusive, JobId, NodeId, Outcome, ReleaseId, Seq, codec, limits,
};

use super::inbound::Inbound;
use super::{End, ToNode, say};
use crate::shell::{JobFacts, Shell};
use crate::troubles;

/// Bytes of inputs in one message, well below a frame.
const LEASE_MESSAGE_BYTES: usize = 256 << 10;

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
        if !filled.failed.is_empty() {
            shell
                .driver
                .tell(Event::Reported {
                    node: inbound.node(),
                    session: inbound.session(),
                    reports: filled.failed,
                })
                .await?;
        }
        Ok(())
    }

    async fn send_filled(
        &mut self,
        sender: &ToNode,
        leases: Vec<(Lease, Arc<crate::releases::KnownRelease>)>,
    ) -> Result<(), End> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for (mut lease, known) in leases {
            let ReleaseRef::Known(id) = lease.release else {
                continue;
            };
            if self.releases.len() >= RELEASES_MAX {
                self.releases.clear();
            }
            if self.releases.insert(id) {
                lease.release = ReleaseRef::Full(known.release.clone());
                bytes += known.release.manifest.len();
            }
            if let InputSource::Inline(input) = &lease.input.source {
                bytes += input.len();
            }
            bytes += 256;
            batch.push(lease);
            if bytes >= LEASE_MESSAGE_BYTES {
                bytes = 0;
                let full = std::mem::take(&mut batch);
                say(sender, &CoordinatorMessage::Lease(full)).await?;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        say(sender, &CoordinatorMessage::Lease(batch)).await
    }
}

struct Filled {
    leases: Vec<(Lease, Arc<crate::releases::KnownRelease>)>,
    /// Attempts that we cannot serve: told to core as ended without a word on the task.
    failed: Vec<ReportIn>,
}

/// What leases of a job are filled from. Core has granted them by what it knew; whether the release
/// is trusted now is asked here, at the last moment before it leaves.
async fn leasable(shell: &Shell, job: JobId, node: NodeId) -> Result<JobFacts, Inconclusive> {
    let facts = match shell.readable_facts(job).await {
        Ok(facts) => facts,
        Err(error) => {
            let trouble = troubles::unreadable(&error, &shell.dir.data_dir());
            let text = trouble.to_string();
            shell.troubles.cannot_read(job, trouble, node);
            // Our own fault: counted against nobody, and offered again when it is mended.
            return Err(Inconclusive::Declined(text));
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

fn unreadable() -> Inconclusive {
    let text = "the coordinator cannot read this task's input or release";
    Inconclusive::HostFault(text.to_owned())
}

fn fill(
    shell: &Shell,
    grants: &[Grant],
    jobs: &BTreeMap<JobId, Result<JobFacts, Inconclusive>>,
) -> Filled {
    let mut filled = Filled {
        leases: Vec::with_capacity(grants.len()),
        failed: Vec::new(),
    };
    for grant in grants {
        let facts = match jobs.get(&grant.task.job) {
            Some(facts) => facts.as_ref().map_err(Inconclusive::clone),
            None => Err(unreadable()),
        };
        let lease = facts.and_then(|facts| {
            let lease = fill_one(shell, grant, facts).ok_or_else(unreadable)?;
            Ok((lease, Arc::clone(&facts.release)))
        });
        match lease {
            Ok(lease) => filled.leases.push(lease),
            Err(why) => filled.failed.push(ReportIn {
                attempt: grant.attempt,
                task: grant.task,
                outcome: Outcome::Inconclusive(why),
                fuel_used: 0,
                run_micros: 0,
            }),
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
        InputSource::Inline(read.ok()?)
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
