//! The state hash: everything that the fold makes, in a fixed order, and nothing that it only keeps
//! for speed.

use hearth_wire::{Digest, Hasher, codec};

use crate::Coordinator;
use crate::attempt::AttemptState;
use crate::job::Job;
use crate::node::Node;

pub(crate) fn state_hash(core: &Coordinator) -> Digest {
    let mut hasher = Bytes(Vec::with_capacity(1 << 16))
        .number(core.seq.0)
        .number(core.now.0)
        .number(core.epoch.counter)
        .number(core.epoch.incarnation)
        .number(core.last_session.0)
        .number(core.next_job.0)
        .number(core.open_tasks)
        .number(core.mode as u64)
        .number(core.wanted.map_or(u64::MAX, |(mode, _)| mode as u64))
        .number(core.wanted.map_or(0, |(_, since)| since.0))
        .number(core.overflow_at.map_or(u64::MAX, |at| at.0))
        .number(core.overflow_live.into())
        .number(core.ours_left_at.map_or(u64::MAX, |at| at.0))
        .number(core.turn);
    for (id, release) in &core.releases {
        hasher = hasher
            .raw(id.0.as_bytes())
            .field(&codec::encode(&release.facts))
            .number(u64::from(release.revoked))
            .number(release.micros)
            .number(release.declined_by.len() as u64);
        for node in &release.declined_by {
            hasher = hasher.number((*node).into());
        }
    }
    for (id, job) in &core.jobs {
        hasher = hash_job(hasher.number(id.0), core, job);
    }
    for id in &core.closed_order {
        hasher = hasher.number(id.0);
    }
    for (id, closed) in &core.closed {
        hasher = hasher
            .number(id.0)
            .raw(closed.owner.0.as_bytes())
            .raw(closed.spec.as_bytes())
            .number(closed.tasks.into())
            .field(
                closed
                    .idempotency_key
                    .as_deref()
                    .unwrap_or_default()
                    .as_bytes(),
            );
    }
    for ((owner, key), job) in &core.keys {
        hasher = hasher
            .raw(owner.0.as_bytes())
            .field(key.as_bytes())
            .number(job.0);
    }
    for (_, owner) in core.owners.iter() {
        hasher = hasher
            .raw(owner.key.0.as_bytes())
            .number(owner.open_tasks)
            .number(owner.open_jobs.into());
    }
    for (index, node) in core.nodes.iter() {
        hasher = hash_node(hasher.number(index.into()), node);
    }
    let bytes = hash_attempts(hasher, core).0;
    Hasher::with_domain("hearth.state.v1").raw(&bytes).finish()
}

fn hash_job(mut hasher: Bytes, core: &Coordinator, job: &Job) -> Bytes {
    let owner = core.owners.at(job.owner).map(|owner| owner.key);
    hasher = hasher
        .raw(job.release.0.as_bytes())
        .raw(owner.unwrap_or_default().0.as_bytes())
        .raw(job.spec.as_bytes())
        .number(job.submitted_at.0)
        .number(job.deadline.map_or(u64::MAX, |at| at.0))
        .number(job.held_until.0)
        .number(job.fresh.into())
        .number(job.hedged.into())
        .number(u64::from(job.doomed))
        .number(job.live.len() as u64);
    for node in &job.unfit {
        hasher = hasher.raw(node.0.as_bytes());
    }
    let counts = [
        job.leased,
        job.provisional,
        job.settled,
        job.failed,
        job.cancelled,
        job.expired,
    ];
    let mut bytes = Vec::with_capacity(job.cells.len() * 16);
    counts
        .iter()
        .for_each(|count| bytes.extend_from_slice(&count.to_le_bytes()));
    for (bucket, count) in job.run_times.entries() {
        bytes.push(bucket as u8);
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    // Tasks that were never leased are all alike.
    for cell in &job.cells[..job.fresh as usize] {
        bytes.extend_from_slice(&[cell.phase as u8, cell.wait as u8, cell.halves, cell.live]);
        bytes.extend_from_slice(&cell.head.to_le_bytes());
        bytes.extend_from_slice(&cell.ready_at.0.to_le_bytes());
    }
    for (at, index) in job.runs.iter().chain(&job.checks) {
        bytes.extend_from_slice(&at.0.to_le_bytes());
        bytes.extend_from_slice(&index.to_le_bytes());
    }
    hasher.field(&bytes)
}

fn hash_node(mut hasher: Bytes, node: &Node) -> Bytes {
    hasher = hasher
        .raw(node.id.0.as_bytes())
        .number(node.kind as u64)
        .field(&codec::encode(&node.engine))
        .number(node.session.map_or(0, |session| session.0))
        .number(node.capacity.slots.into())
        .number(node.capacity.memory_bytes)
        .number(node.standing as u64)
        .number(u64::from(node.draining))
        .number(node.paused.into())
        .number(node.low.into())
        .number(node.attempts.into())
        .number(node.mismatches.into())
        .number(u64::from(node.blamed))
        .number(node.left_at.0)
        .number(node.record.speed)
        .number(node.record.errors)
        .number(node.record.reports)
        .number(node.live.len() as u64);
    for slot in &node.live {
        hasher = hasher.number((*slot).into());
    }
    for task in &node.unsettled {
        hasher = hasher.number(task.job.0).number(task.index.0.into());
    }
    for release in &node.declined {
        hasher = hasher.raw(release.0.as_bytes());
    }
    for (release, (micros, at)) in &node.record.rates {
        hasher = hasher.raw(release.0.as_bytes()).number(*micros).number(*at);
    }
    hasher
}

fn hash_attempts(mut hasher: Bytes, core: &Coordinator) -> Bytes {
    hasher = hasher.number(core.attempts.counter());
    for slot in core.attempts.free() {
        hasher = hasher.number((*slot).into());
    }
    for (slot, attempt) in core.attempts.iter() {
        let (state, value, digest) = match attempt.state {
            AttemptState::Live => (0, 0, Digest::default()),
            AttemptState::Paused(since) => (1, since.0, Digest::default()),
            AttemptState::Lost => (2, 0, Digest::default()),
            AttemptState::Failed => (3, 0, Digest::default()),
            AttemptState::Result(digest) => (4, 0, digest),
            AttemptState::Other(digest) => (5, 0, digest),
            AttemptState::Void => (6, 0, Digest::default()),
        };
        let (seq, fuel) = attempt.checkpoint.unwrap_or_default();
        hasher = hasher
            .number(slot.into())
            .number(attempt.id.0)
            .number(attempt.task.job.0)
            .number(attempt.task.index.0.into())
            .number(attempt.node.into())
            .field(&codec::encode(&attempt.engine))
            .number(attempt.purpose as u64)
            .number(state)
            .number(value)
            .raw(digest.as_bytes())
            .number(attempt.granted_at.0)
            .number(attempt.deadline.0)
            .number(attempt.ahead.into())
            .number(seq.0)
            .number(fuel)
            .number(attempt.borrowed.into())
            .number(attempt.next.into());
    }
    hasher
}

/// The state as bytes: one hash over all is several times as fast as one call for each field.
struct Bytes(Vec<u8>);

impl Bytes {
    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn field(self, bytes: &[u8]) -> Self {
        self.number(bytes.len() as u64).raw(bytes)
    }
}
