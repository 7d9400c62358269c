//! What time brings: leases and jobs that end, nodes that stay away, the mode.

use hearth_wire::record::{Fact, Mode, ModeReason, TaskEnd};

use super::Turn;
use crate::Coordinator;
use crate::time::Timer;

/// Timers handled in one step; the rest is due at once again.
const TIMERS_PER_STEP_MAX: usize = 1_024;
/// Jobs forgotten in one step.
const FORGOTTEN_PER_STEP_MAX: usize = 1_024;

impl Coordinator {
    pub(super) fn fire_timers(&mut self, turn: &mut Turn<'_>) {
        let mut due = Vec::new();
        while due.len() < TIMERS_PER_STEP_MAX
            && let Some((_, timer)) = self.timers.pop_due(turn.now)
        {
            due.push(timer);
        }
        // All leases that end now in one record, and before their jobs end.
        let mut attempts = Vec::new();
        for timer in &due {
            if let Timer::Lease(id) = timer
                && let Some((_, attempt)) = self.attempts.find(*id)
                && attempt.ends().is_some_and(|ends| ends <= turn.now)
            {
                attempts.push(*id);
            }
        }
        if !attempts.is_empty() {
            self.emit(turn, Fact::LeasesEnded { attempts });
        }
        for timer in due {
            match timer {
                Timer::Lease(_) => {}
                Timer::Deadline(job) => {
                    let how = TaskEnd::Expired;
                    if self.jobs.contains_key(&job) {
                        self.emit(turn, Fact::JobEnded { job, how });
                    }
                }
                Timer::Wake(job) => self.wake(job),
                Timer::Back(index) => {
                    let away = self.nodes.at(index);
                    let away = away.filter(|n| n.session.is_none() && !n.live.is_empty());
                    if let Some(node) = away.map(|node| node.id) {
                        self.emit(turn, Fact::NodeLost { node });
                    }
                }
                Timer::Spent(job) => {
                    if let Some(job) = self.jobs.get_mut(&job) {
                        job.spent_at = None;
                        self.out.exhausted.extend(job.spent());
                    }
                }
                Timer::Tail(job) => self.look_at_tail(turn, job),
                // The mode is looked at after every event.
                Timer::Mode => self.mode_at = None,
                Timer::Place(shape) => {
                    self.out.shapes.insert(shape);
                }
            }
        }
    }

    /// The mode follows from where work goes, when that has been so for a while.
    pub(super) fn judge_mode(&mut self, turn: &mut Turn<'_>) {
        // No life has begun: nothing is known of nodes.
        if self.epoch.counter == 0 {
            return;
        }
        let hold = self.config.mode_hold_millis;
        let recent = self
            .overflow_at
            .is_some_and(|at| turn.now.since(at) < hold * 2);
        let (fits, reason) = if self.volunteer_slots == 0 {
            (Mode::Local, ModeReason::NoVolunteers)
        } else if self.overflow_live > 0 || recent {
            (Mode::Hybrid, ModeReason::Overflow)
        } else {
            (Mode::Distributed, ModeReason::Enough)
        };
        match self.wanted {
            None if fits == self.mode => {}
            Some((wanted, since)) if wanted == fits => {
                if turn.now.since(since) >= hold {
                    self.emit(turn, Fact::ModeChanged { mode: fits, reason });
                }
            }
            _ => self.emit(turn, Fact::ModeWanted { mode: fits }),
        }
        // Time alone brings the next change: what was wanted has held, or what was recent is old.
        let held = self.wanted.map(|(_, since)| since.plus(hold));
        let old = self
            .overflow_at
            .filter(|_| recent)
            .map(|at| at.plus(hold * 2));
        let next = match (held, old) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if next != self.mode_at {
            if let Some(at) = self.mode_at {
                self.timers.clear(at, Timer::Mode);
            }
            if let Some(at) = next {
                self.timers.set(at, Timer::Mode);
            }
            self.mode_at = next;
        }
    }

    pub(super) fn forget_jobs(&mut self, turn: &mut Turn<'_>) {
        let most = self.config.closed_jobs_max;
        let over = self.closed.len().saturating_sub(most);
        if over > 0 {
            // A sixteenth at a time, so that it is one record for many jobs.
            let count = (over + most / 16).min(FORGOTTEN_PER_STEP_MAX);
            let jobs = self.closed_order.iter().copied().take(count).collect();
            self.emit(turn, Fact::JobsForgotten { jobs });
        }
    }
}
