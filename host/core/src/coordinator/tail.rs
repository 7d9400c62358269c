//! The tail of a job: its last tasks get a second node when they take too long.

use hearth_wire::record::Purpose;
use hearth_wire::{JobId, Millis};

use super::Turn;
use super::place::IdleLook;
use crate::Coordinator;
use crate::attempt::AttemptState;
use crate::job::{Job, Phase};
use crate::node::NodeIndex;
use crate::time::Timer;

/// A job is in its tail when nothing of it waits and at most this many attempts are live.
const TAIL_MAX: usize = 256;
/// Runs that must have been measured before anything counts as slow.
const MEASURED_MIN: u32 = 3;
/// Added to what a run may take: the way there and back.
const WAY_MICROS: u64 = 250_000;
/// Second runs in one job: a few, and one for every so many tasks, so that hedging stays below 7 %.
const HEDGES_MIN: u32 = 4;
const TASKS_PER_HEDGE: u32 = 16;
/// Hedges of one job in one step, and nodes looked at for each.
const HEDGES_PER_STEP_MAX: usize = 16;
const NODES_LOOK_MAX: usize = 16;

impl Coordinator {
    /// Sets the timer of jobs that have come to their tail.
    pub(super) fn watch_tails(&mut self, turn: &Turn<'_>) {
        let jobs: Vec<_> = self.out.told.iter().copied().collect();
        for id in jobs {
            let Some(job) = self.jobs.get_mut(&id) else {
                continue;
            };
            if job.tail_at.is_none() && in_tail(job) {
                let at = next_look(job, turn.now);
                job.tail_at = Some(at);
                self.timers.set(at, Timer::Tail(id));
            }
        }
    }

    pub(super) fn look_at_tail(&mut self, turn: &mut Turn<'_>, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.tail_at = None;
        if !in_tail(job) {
            return;
        }
        let held = job.is_held(turn.now);
        let at = next_look(job, turn.now);
        job.tail_at = Some(at);
        self.timers.set(at, Timer::Tail(id));
        if held {
            return;
        }
        let slow = self.slow(turn.now, id);
        for task in slow {
            let Some(index) = self.second_node(id, task) else {
                return;
            };
            self.lease(turn, index, vec![(task, Purpose::Hedge)]);
        }
    }

    /// Tasks whose only run takes longer than it should, the oldest first.
    fn slow(&self, now: Millis, id: JobId) -> Vec<hearth_wire::TaskId> {
        let Some(job) = self.jobs.get(&id) else {
            return Vec::new();
        };
        let Some(median) = job.run_times.median() else {
            return Vec::new();
        };
        let allowed = HEDGES_MIN + job.count() / TASKS_PER_HEDGE;
        let room = allowed.saturating_sub(job.hedged) as usize;
        let live = job.live.iter().filter_map(|slot| self.attempts.at(*slot));
        let mut slow: Vec<_> = live
            .filter(|attempt| {
                let cell = job.cells[attempt.task.index.0 as usize];
                // Behind others on its node, it has waited for as many runs before its own.
                let runs = 1 + u64::from(attempt.ahead);
                let usual = median.saturating_mul(runs).saturating_mul(3) / 2;
                attempt.state == AttemptState::Live
                    && attempt.purpose == Purpose::Run
                    && cell.phase == Phase::Open
                    && cell.live == 1
                    && now.since(attempt.granted_at) * 1_000 > usual.saturating_add(WAY_MICROS)
            })
            .map(|attempt| (attempt.id, attempt.task))
            .collect();
        slow.sort_unstable();
        slow.truncate(room.min(HEDGES_PER_STEP_MAX));
        slow.into_iter().map(|(_, task)| task).collect()
    }

    /// An idle node that never had the task.
    fn second_node(&self, id: JobId, task: hearth_wire::TaskId) -> Option<NodeIndex> {
        let job = self.jobs.get(&id)?;
        let head = self.cell(task)?.head;
        let had = |index| {
            self.attempts
                .chain(head)
                .any(|(_, attempt)| attempt.node == index)
        };
        let mut look = IdleLook::new(self, job.shape, None);
        let mut idle = std::iter::from_fn(|| look.next(self)).take(NODES_LOOK_MAX);
        idle.find_map(|(_, (_, index))| {
            let node = self.nodes.at(index)?;
            (!had(index) && !node.declined.contains(&job.release)).then_some(index)
        })
    }
}

fn in_tail(job: &Job) -> bool {
    let waits = job.fresh < job.count() || !job.runs.is_empty();
    !waits
        && (1..=TAIL_MAX).contains(&job.live.len())
        && job.run_times.total() >= MEASURED_MIN
        && job.hedged < HEDGES_MIN + job.count() / TASKS_PER_HEDGE
}

/// Half a usual run from now, between a tenth of a second and ten seconds.
fn next_look(job: &Job, now: Millis) -> Millis {
    let median = job.run_times.median().unwrap_or_default();
    now.plus((median / 2_000).clamp(100, 10_000))
}
