//! Parking work of low priority for urgent work, and letting it go on.

use hearth_wire::record::Fact;
use hearth_wire::{AttemptId, Priority};

use super::Turn;
use crate::Coordinator;
use crate::attempt::AttemptState;
use crate::node::{Ahead, NodeIndex};
use crate::queue::CANDIDATES_MAX;
use crate::shape::ShapeIndex;

/// Attempts parked for one shape in one step.
const PARKED_PER_STEP_MAX: usize = 16;

impl Coordinator {
    /// If urgent work of a shape found no free slot, parks low work where that makes one.
    pub(super) fn preempt(&mut self, turn: &mut Turn<'_>, index: ShapeIndex) {
        let mut passed = std::collections::BTreeSet::new();
        for _ in 0..PARKED_PER_STEP_MAX {
            let Some(shape) = self.fits.shape(index) else {
                return;
            };
            if shape.queues[Priority::High as usize].is_empty() {
                return;
            }
            let groups = shape
                .groups
                .iter()
                .filter_map(|group| self.fits.group(*group));
            let mut nodes = groups.flat_map(|group| group.low.iter().take(PARKED_PER_STEP_MAX));
            let Some(node) = nodes.find(|node| !passed.contains(*node)).copied() else {
                return;
            };
            let Some(attempt) = self.parkable(turn, node, index) else {
                passed.insert(node);
                continue;
            };
            let Some(id) = self.nodes.at(node).map(|node| node.id) else {
                return;
            };
            self.emit(
                turn,
                Fact::Paused {
                    node: id,
                    attempts: vec![attempt],
                },
            );
            if self.fill(turn, node, Ahead::Nothing) == 0 {
                passed.insert(node);
            }
        }
    }

    /// The low attempt that a node would park for urgent work of a shape that it may have.
    fn parkable(&self, turn: &Turn<'_>, index: NodeIndex, shape: ShapeIndex) -> Option<AttemptId> {
        let node = self.nodes.at(index)?;
        if node.free_slots() > 0 || node.paused >= u32::from(node.capacity.slots) {
            return None;
        }
        let queue = &self.fits.shape(shape)?.queues[Priority::High as usize];
        let least = queue.least()?;
        let wanted = queue.candidates(&self.owners, Priority::High, least, CANDIDATES_MAX);
        let mut wanted = wanted.take(CANDIDATES_MAX);
        wanted.find(|candidate| {
            let job = self.jobs.get(&candidate.entry.job);
            job.is_some_and(|job| {
                let lane = candidate.entry.lane;
                job.shape_of(lane) == Some(shape)
                    && !self.pick(turn, index, job, lane, 1).is_empty()
            })
        })?;
        // The oldest runs; later ones may still wait on the node, where parking frees nothing.
        let live = node.live.iter().filter_map(|slot| self.attempts.at(*slot));
        let low = live.filter(|attempt| {
            let job = self.jobs.get(&attempt.task.job);
            attempt.state == AttemptState::Live
                && job.is_some_and(|job| job.priority == Priority::Low)
        });
        low.map(|attempt| attempt.id).min()
    }

    /// Lets parked attempts go on in free slots, unless urgent work waits that has a better claim.
    pub(super) fn unpark(&mut self, turn: &mut Turn<'_>, index: NodeIndex, yields: bool) {
        let Some(node) = self.nodes.at(index) else {
            return;
        };
        if node.paused == 0 || node.session.is_none() || node.free_slots() == 0 {
            return;
        }
        let urgent = node
            .group
            .and_then(|group| self.fits.group(group))
            .is_some_and(|group| {
                let mut shapes = group
                    .shapes
                    .iter()
                    .filter_map(|shape| self.fits.shape(*shape));
                shapes.any(|shape| !shape.queues[Priority::High as usize].is_empty())
            });
        let mut parked: Vec<_> = node
            .live
            .iter()
            .filter_map(|slot| self.attempts.at(*slot))
            .filter_map(|attempt| match attempt.state {
                AttemptState::Paused(since) => Some((attempt.id, since)),
                _ => None,
            })
            // What was parked for long goes on beside urgent work.
            .filter(|(_, since)| {
                !(urgent && yields) || turn.now.since(*since) >= self.config.aging_millis
            })
            .map(|(id, _)| id)
            .collect();
        parked.sort_unstable();
        parked.truncate(node.free_slots());
        if !parked.is_empty() {
            let node = node.id;
            self.emit(
                turn,
                Fact::Resumed {
                    node,
                    attempts: parked,
                },
            );
        }
    }
}
