//! Checkpoints: a task keeps one, the one that got furthest, and a grant names it.

use std::collections::BTreeSet;

use hearth_core::{Grant, Holder};
use hearth_wire::record::{NodeKind, Purpose, Standing};
use hearth_wire::{AttemptId, Body, Checkpoint, Digest, NodeId, Seq, TaskId};

use super::{AttemptState, Oracle};

/// The checkpoint that a task keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kept {
    pub(crate) seq: Seq,
    attempt: AttemptId,
    fuel: u64,
    blob: Option<Digest>,
}

impl Oracle {
    pub(super) fn checkpointed(&mut self, id: AttemptId, task: TaskId, made: &Checkpoint) {
        let found = self.attempts.get(&id).cloned();
        let found = found.filter(|a| a.task == task && a.state == AttemptState::Live);
        let Some(attempt) = found else {
            return self.violate("checkpoints are of live attempts", id);
        };
        let maker = self.nodes.get(&attempt.node).map(|node| node.standing);
        let good = maker == Some(Standing::Good);
        self.want(good, "only nodes in good standing save", id);
        let release = self.job(task.job).map(|job| job.spec.release);
        let release = release.and_then(|release| self.releases.get(&release));
        let fuel = release.map_or(0, |(facts, _)| facts.limits.fuel);
        let within = made.fuel_used <= fuel;
        self.want(within, "a checkpoint has not used more than all fuel", id);
        let kept = self.furthest(task, attempt.purpose);
        let further = kept.is_none_or(|kept| kept.fuel < made.fuel_used);
        self.want(further, "a checkpoint gets further", (kept, made.fuel_used));
        let seq = Seq(self.seq);
        self.savers.insert(seq, id);
        if let Some(task) = self.task_mut(task) {
            task.checkpoint = Some(Kept {
                seq,
                attempt: id,
                fuel: made.fuel_used,
                blob: match &made.state {
                    Body::Blob(blob) => Some(blob.digest),
                    Body::Inline(_) => None,
                },
            });
        }
    }

    /// The checkpoint from which an attempt for this purpose may go on.
    pub(super) fn furthest(&self, task: TaskId, purpose: Purpose) -> Option<Kept> {
        let kept = self.task(task)?.checkpoint?;
        let made = self.attempts.get(&kept.attempt)?;
        let usable = match purpose {
            Purpose::Run | Purpose::Hedge => {
                let node = self.nodes.get(&made.node);
                node.is_some_and(|node| node.standing == Standing::Good)
            }
            // What a volunteer saved must not decide about a volunteer.
            Purpose::Check | Purpose::Arbitrate => made.purpose == purpose,
        };
        usable.then_some(kept)
    }

    /// Whether a lease to this node goes on from what another volunteer saved.
    pub(super) fn borrows(&self, task: TaskId, purpose: Purpose, by: NodeId) -> bool {
        let kept = self.furthest(task, purpose);
        let maker = kept.and_then(|kept| self.attempts.get(&kept.attempt));
        maker.is_some_and(|maker| {
            let node = self.nodes.get(&maker.node);
            let volunteer = node.is_some_and(|node| node.kind == NodeKind::Volunteer);
            maker.borrowed || (maker.node != by && volunteer)
        })
    }

    pub(super) fn forget_checkpoint(&mut self, task: TaskId, attempt: AttemptId) {
        if let Some(task) = self.task_mut(task)
            && task.checkpoint.is_some_and(|kept| kept.attempt == attempt)
        {
            task.checkpoint = None;
        }
    }

    /// What a grant names must be there when it leaves.
    pub(super) fn resumes(&mut self, grant: &Grant) {
        let right = self.attempts.get(&grant.attempt).map(|a| a.resumes);
        let fits = right.is_none_or(|right| right == grant.checkpoint);
        self.want(
            fits,
            "a grant names the checkpoint that got furthest",
            grant,
        );
        let Some((release, _)) = self.releases.get(&grant.release) else {
            return;
        };
        let Some(root) = self.job(grant.task.job).map(|job| job.spec.inputs.root) else {
            return;
        };
        let mut needed = vec![
            (Holder::Release(grant.release), release.component),
            (Holder::Inputs(grant.task.job), root),
        ];
        let kept = self.task(grant.task).and_then(|task| task.checkpoint);
        let kept = kept.filter(|kept| Some(kept.seq) == grant.checkpoint);
        let saved = kept.and_then(|kept| kept.blob);
        needed.extend(saved.map(|blob| (Holder::Checkpoint(grant.task), blob)));
        for (holder, blob) in needed {
            let held = self.held.get(&holder);
            let held = held.is_some_and(|blobs| blobs.contains(&blob));
            self.want(held, "what a grant names is kept", (holder, grant));
        }
    }

    /// A coordinator that starts again keeps what the records say.
    pub(crate) fn hold_anew(&mut self) {
        self.held.clear();
        let releases = self.releases.values().filter(|(_, revoked)| !revoked);
        let releases = releases.map(|(facts, _)| (Holder::Release(facts.id), facts.component));
        let open = self.open_jobs.iter().map(|job| &self.jobs[*job]);
        let inputs = open.clone();
        let inputs = inputs.map(|job| (Holder::Inputs(job.id), job.spec.inputs.root));
        let saved = open.flat_map(|job| {
            let tasks = (0..).map(hearth_wire::TaskIndex).zip(&job.tasks);
            tasks.filter_map(|(index, task)| {
                let id = TaskId { job: job.id, index };
                Some((Holder::Checkpoint(id), task.checkpoint?.blob?))
            })
        });
        let held: Vec<_> = releases.chain(inputs).chain(saved).collect();
        for (holder, blob) in held {
            self.held.entry(holder).or_default().insert(blob);
        }
    }

    /// When everything has ended, nothing but releases and outputs is kept.
    pub(crate) fn judge_held(&mut self) {
        let open = |holder: &&Holder| matches!(holder, Holder::Inputs(_) | Holder::Checkpoint(_));
        let left: BTreeSet<_> = self.held.keys().filter(open).copied().collect();
        self.want(left.is_empty(), "what nobody needs is released", left);
    }
}
