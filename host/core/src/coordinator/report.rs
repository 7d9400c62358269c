//! Reports: each is answered, those of awaited attempts are judged, all others change nothing.

use std::collections::BTreeSet;

use hearth_wire::record::{Fact, Failure, ReportFact, Standing, TaskEnd, Verdict};
use hearth_wire::{Inconclusive, NodeId, Outcome, SessionId};

use super::Turn;
use crate::Coordinator;
use crate::attempt::{Attempt, AttemptState};
use crate::event::ReportIn;
use crate::node::Node;
use crate::time::Timer;
use crate::trust::{Case, Known, judge};

impl Coordinator {
    pub(super) fn report(
        &mut self,
        turn: &mut Turn<'_>,
        node: NodeId,
        session: SessionId,
        reports: Vec<ReportIn>,
    ) {
        // Reports of one frame may concern one task twice, and a verdict depends on those before it.
        // So a batch is cut into records in which each task stands once.
        let mut batch: Vec<ReportFact> = Vec::new();
        for report in reports {
            if batch
                .iter()
                .rev()
                .take(BATCH_LOOK)
                .any(|fact| fact.task == report.task)
                || batch.len() >= BATCH_LOOK
            {
                let reports = std::mem::take(&mut batch);
                self.emit(turn, Fact::Reported { node, reports });
                self.follow_up(turn);
            }
            match self.judge_report(node, &report) {
                Some(verdict) => batch.push(ReportFact {
                    attempt: report.attempt,
                    task: report.task,
                    outcome: report.outcome,
                    fuel_used: report.fuel_used,
                    run_micros: report.run_micros,
                    verdict,
                }),
                // Unknown, another's, or reported before: nobody will ever want it. The answer waits
                // for the records of this step like any other, so that it cannot overtake the
                // acceptance of the first copy.
                None => {
                    let settled = self.out.settled.entry(session).or_default();
                    settled.push(report.attempt);
                }
            }
        }
        if !batch.is_empty() {
            self.emit(
                turn,
                Fact::Reported {
                    node,
                    reports: batch,
                },
            );
        }
    }

    /// What a report does to its task; `None` for one that does nothing.
    fn judge_report(&self, id: NodeId, report: &ReportIn) -> Option<Verdict> {
        let (_, attempt) = self.attempts.find(report.attempt)?;
        let node = self.nodes.at(attempt.node)?;
        if node.id != id || attempt.task != report.task || !attempt.state.is_awaited() {
            return None;
        }
        if matches!(node.standing, Standing::Quarantined | Standing::Revoked) {
            return Some(Verdict::Noted);
        }
        match &report.outcome {
            Outcome::Inconclusive(cause) => self.judge_inconclusive(attempt, node, cause),
            outcome => {
                let digest = outcome.digest()?;
                if node.engine != attempt.engine {
                    // What ran is not what the lease was given to.
                    return Some(Verdict::Noted);
                }
                let head = self.cell(attempt.task)?.head;
                let find = |wanted: fn(&AttemptState) -> Option<hearth_wire::Digest>| {
                    let mut chain = self.attempts.chain(head);
                    chain.find_map(|(_, a)| {
                        let digest = wanted(&a.state)?;
                        let producer = self.nodes.at(a.node);
                        Some(Known {
                            attempt: a.id,
                            digest,
                            borrowed: a.borrowed,
                            trusted: producer.is_some_and(|node| node.kind.is_trusted()),
                            same_engine: a.engine == attempt.engine,
                        })
                    })
                };
                let result = find(|state| match state {
                    AttemptState::Result(digest) => Some(*digest),
                    _ => None,
                });
                let other = find(|state| match state {
                    AttemptState::Other(digest) => Some(*digest),
                    _ => None,
                });
                Some(judge(&Case {
                    policy: self.jobs.get(&attempt.task.job)?.trust,
                    purpose: attempt.purpose,
                    trusted: node.kind.is_trusted(),
                    digest,
                    result,
                    other,
                }))
            }
        }
    }

    fn judge_inconclusive(
        &self,
        attempt: &Attempt,
        node: &Node,
        cause: &Inconclusive,
    ) -> Option<Verdict> {
        let job = self.jobs.get(&attempt.task.job)?;
        let cell = self.cell(attempt.task)?;
        if let Inconclusive::Unfit(_) = cause {
            let second = !job.unfit.is_empty() && !job.unfit.contains(&node.id);
            let shape = self.fits.shape(job.shape);
            let ours = shape.is_some_and(|shape| self.ours(job, shape) > 0);
            if node.kind.is_trusted() || (second && !ours) {
                return Some(Verdict::Failed(Failure::Unfit));
            }
        }
        if !attempt.state.is_live() {
            // It was counted when its lease ended.
            return Some(match cause {
                Inconclusive::Unfit(_) => Verdict::Retry,
                _ => Verdict::Noted,
            });
        }
        let halves = match cause {
            Inconclusive::Declined(_) | Inconclusive::Unfit(_) => 0,
            Inconclusive::Cancelled => 1,
            _ => 2,
        };
        let spent = u16::from(cell.halves) + halves >= u16::from(job.attempts_max) * 2;
        let last_word = || node.kind.is_trusted() || self.is_given_up(job, cell);
        Some(if halves > 0 && spent && cell.live == 1 && last_word() {
            Verdict::Failed(Failure::Attempts)
        } else {
            Verdict::Retry
        })
    }

    /// Emits what must follow from what the fold found.
    pub(super) fn follow_up(&mut self, turn: &mut Turn<'_>) {
        while let Some(index) = self.out.standings.pop_first() {
            self.follow_standing(turn, index);
        }
        while let Some(id) = self.out.doomed.pop_first() {
            let Some(job) = self.jobs.get(&id) else {
                continue;
            };
            let failure = if job.doomed {
                Failure::Unfit
            } else {
                Failure::ReleaseRevoked
            };
            let how = TaskEnd::Failed(failure);
            self.emit(turn, Fact::JobEnded { job: id, how });
        }
        let mut tasks = std::mem::take(&mut self.out.exhausted);
        tasks.sort_unstable();
        tasks.dedup();
        let mut later = BTreeSet::new();
        tasks.retain(|task| {
            let spent = self.jobs.get(&task.job).zip(self.cell(*task));
            let spent = spent.filter(|(job, cell)| {
                cell.live == 0 && !cell.phase.is_terminal() && job.is_spent(cell)
            });
            let given_up = spent.is_some_and(|(job, cell)| self.is_given_up(job, cell));
            if spent.is_some() && !given_up {
                later.insert(task.job);
            }
            given_up
        });
        if !tasks.is_empty() {
            let failure = Failure::Attempts;
            self.emit(turn, Fact::TasksFailed { tasks, failure });
        }
        for id in later {
            if let Some(job) = self.jobs.get_mut(&id)
                && job.spent_at.is_none()
            {
                let at = turn.now.plus(self.config.reconnect_millis);
                job.spent_at = Some(at);
                self.timers.set(at, Timer::Spent(id));
            }
        }
    }

    fn follow_standing(&mut self, turn: &mut Turn<'_>, index: u32) {
        let Some(node) = self.nodes.at(index) else {
            return;
        };
        let (standing, reason) = match node.standing {
            Standing::Good | Standing::Suspended if node.blamed => (
                Standing::Quarantined,
                "two trusted runs agree that a result of this node is wrong",
            ),
            Standing::Good if node.mismatches > 0 && !node.kind.is_trusted() => (
                Standing::Suspended,
                "a trusted run differs from a result of this node",
            ),
            Standing::Suspended if node.mismatches == 0 => (
                Standing::Good,
                "no result of this node is contested any more",
            ),
            _ => return,
        };
        let node = node.id;
        let reason = reason.to_owned();
        self.emit(
            turn,
            Fact::NodeStanding {
                node,
                standing,
                reason,
            },
        );
    }
}

/// Reports in one record, and so the distance at which one task can stand twice.
const BATCH_LOOK: usize = hearth_wire::limits::REPORTS_PER_BATCH_MAX;
