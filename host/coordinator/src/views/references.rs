//! Which files are needed, and for whom: a fold of what core holds and releases.

use std::collections::{BTreeMap, HashMap};

use hearth_core::{Effect, Holder};
use hearth_wire::{Digest, JobId, ReleaseId, TaskId};
use serde::{Deserialize, Serialize};

/// States of checkpoints that wait to be removed. More are found by the sweep.
const LET_GO_MAX: usize = 65_536;

/// Which files are needed, and for whom.
///
/// Core says with each record what is held for a release, a job or a task and when that may go. Whoever
/// removes files asks here and nowhere else, so nothing goes before the record that lets it go is durable.
///
/// What it costs: 32 bytes for each output that is a file, as long as its job is shown, and about 50 for
/// each different file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(from = "Holders")]
pub(crate) struct References {
    holders: Holders,
    /// How many hold each blob, and each input set.
    #[serde(skip)]
    blobs: HashMap<Digest, u32>,
    #[serde(skip)]
    sets: HashMap<Digest, u32>,
    /// States of checkpoints that nobody holds any more.
    #[serde(skip)]
    let_go: Vec<Digest>,
}

/// What each holder holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Holders {
    releases: BTreeMap<ReleaseId, Digest>,
    inputs: BTreeMap<JobId, Digest>,
    outputs: BTreeMap<JobId, Vec<Digest>>,
    checkpoints: BTreeMap<TaskId, Digest>,
}

impl From<Holders> for References {
    fn from(holders: Holders) -> Self {
        let mut counted = Self::default();
        let blobs = holders
            .releases
            .values()
            .chain(holders.checkpoints.values());
        for blob in blobs.chain(holders.outputs.values().flatten()) {
            hold(&mut counted.blobs, *blob);
        }
        for root in holders.inputs.values() {
            hold(&mut counted.sets, *root);
        }
        Self { holders, ..counted }
    }
}

impl References {
    /// Folds one effect. Those that are about no blob change nothing.
    pub(crate) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::BlobHeld { holder, blob } => self.hold(*holder, *blob),
            Effect::BlobsReleased { holder } => self.release(*holder),
            _ => {}
        }
    }

    /// Whether somebody needs a blob.
    pub(crate) fn needs_blob(&self, digest: &Digest) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Whether somebody needs an input set.
    pub(crate) fn needs_set(&self, root: &Digest) -> bool {
        self.sets.contains_key(root)
    }

    /// How many blobs and input sets are needed.
    pub(crate) fn count(&self) -> usize {
        self.blobs.len() + self.sets.len()
    }

    /// The states of checkpoints that were let go since this was asked last.
    pub(crate) fn take_let_go(&mut self) -> Vec<Digest> {
        std::mem::take(&mut self.let_go)
    }

    fn hold(&mut self, holder: Holder, blob: Digest) {
        let holders = &mut self.holders;
        let (counts, before) = match holder {
            Holder::Release(release) => (&mut self.blobs, holders.releases.insert(release, blob)),
            Holder::Inputs(job) => (&mut self.sets, holders.inputs.insert(job, blob)),
            Holder::Outputs(job) => {
                holders.outputs.entry(job).or_default().push(blob);
                (&mut self.blobs, None)
            }
            Holder::Checkpoint(task) => (&mut self.blobs, holders.checkpoints.insert(task, blob)),
        };
        // Before the one that it takes the place of goes: it may be the same.
        hold(counts, blob);
        if let Some(before) = before {
            let_go(counts, &before);
        }
    }

    fn release(&mut self, holder: Holder) {
        let holders = &mut self.holders;
        match holder {
            Holder::Release(release) => {
                let blob = holders.releases.remove(&release);
                blob.iter().for_each(|blob| {
                    let_go(&mut self.blobs, blob);
                });
            }
            Holder::Inputs(job) => {
                let root = holders.inputs.remove(&job);
                root.iter().for_each(|root| {
                    let_go(&mut self.sets, root);
                });
            }
            Holder::Outputs(job) => {
                let blobs = holders.outputs.remove(&job);
                blobs.iter().flatten().for_each(|blob| {
                    let_go(&mut self.blobs, blob);
                });
            }
            Holder::Checkpoint(task) => {
                if let Some(blob) = holders.checkpoints.remove(&task)
                    && let_go(&mut self.blobs, &blob)
                    && self.let_go.len() < LET_GO_MAX
                {
                    self.let_go.push(blob);
                }
            }
        }
    }
}

fn hold(counts: &mut HashMap<Digest, u32>, digest: Digest) {
    let count = counts.entry(digest).or_default();
    *count = count.saturating_add(1);
}

/// One holder less; whether it was the last.
fn let_go(counts: &mut HashMap<Digest, u32>, digest: &Digest) -> bool {
    match counts.get_mut(digest) {
        Some(1) => counts.remove(digest).is_some(),
        Some(count) => {
            *count -= 1;
            false
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use hearth_wire::{TaskIndex, codec};

    use super::*;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn held(holder: Holder, name: &str) -> Effect {
        let blob = digest(name);
        Effect::BlobHeld { holder, blob }
    }

    fn released(holder: Holder) -> Effect {
        Effect::BlobsReleased { holder }
    }

    #[test]
    fn what_two_hold_stays_until_both_let_go() {
        let mut references = References::default();
        let release = |number: u64| ReleaseId(Digest::of(&number.to_le_bytes()));
        for effect in [
            held(Holder::Release(release(1)), "component"),
            held(Holder::Release(release(2)), "component"),
            held(Holder::Inputs(JobId(1)), "set"),
            held(Holder::Inputs(JobId(2)), "set"),
            held(Holder::Outputs(JobId(1)), "output"),
            held(Holder::Outputs(JobId(1)), "output"),
            held(Holder::Outputs(JobId(2)), "output"),
            released(Holder::Release(release(1))),
            released(Holder::Inputs(JobId(1))),
            released(Holder::Outputs(JobId(1))),
            // What was never held in a file.
            released(Holder::Outputs(JobId(7))),
        ] {
            references.apply(&effect);
        }
        let needs = |references: &References| {
            let blobs = ["component", "output"].map(|name| references.needs_blob(&digest(name)));
            [blobs[0], blobs[1], references.needs_set(&digest("set"))]
        };
        assert_eq!(needs(&references), [true; 3]);
        assert!(!references.needs_blob(&digest("set")), "the stores are two");
        for effect in [
            released(Holder::Release(release(2))),
            released(Holder::Inputs(JobId(2))),
            released(Holder::Outputs(JobId(2))),
        ] {
            references.apply(&effect);
        }
        assert_eq!(needs(&references), [false; 3]);
        assert_eq!(references.count(), 0);
    }

    #[test]
    fn a_checkpoint_takes_the_place_of_the_one_before() {
        let mut references = References::default();
        let task = |index| TaskId {
            job: JobId(1),
            index: TaskIndex(index),
        };
        references.apply(&held(Holder::Checkpoint(task(0)), "first"));
        references.apply(&held(Holder::Checkpoint(task(1)), "first"));
        references.apply(&released(Holder::Checkpoint(task(0))));
        assert_eq!(references.take_let_go(), [], "another task has the same");
        references.apply(&held(Holder::Checkpoint(task(0)), "second"));
        references.apply(&released(Holder::Checkpoint(task(1))));
        assert_eq!(references.take_let_go(), [digest("first")]);
        assert!(!references.needs_blob(&digest("first")));
        assert!(references.needs_blob(&digest("second")));
        assert_eq!(references.take_let_go(), []);
    }

    #[test]
    fn a_snapshot_holds_the_same() {
        let mut references = References::default();
        for number in 0..40 {
            let job = JobId(number % 7);
            references.apply(&held(Holder::Outputs(job), &(number % 11).to_string()));
            references.apply(&held(Holder::Inputs(job), &(number % 5).to_string()));
            if number % 9 == 8 {
                references.apply(&released(Holder::Outputs(job)));
            }
        }
        let bytes = codec::encode(&references);
        let again: References = codec::decode(&bytes, usize::MAX).unwrap();
        assert_eq!(
            (&again.blobs, &again.sets),
            (&references.blobs, &references.sets)
        );
        assert_eq!(codec::encode(&again), bytes);
    }
}
