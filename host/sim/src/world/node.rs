//! Nodes: they connect, run, report until they are told that it is durable, and misbehave.

use std::collections::BTreeMap;

use hearth_core::{Grant, ReportIn};
use hearth_wire::message::Capacity;
use hearth_wire::record::NodeKind;
use hearth_wire::{
    AttemptId, Blob, Body, Checkpoint, Digest, EngineId, Inconclusive, NodeId, Outcome, Output,
    TaskId,
};

use super::client::Clients;
use super::{Happening, Message, ToNode, World};
use crate::fault::Fault;
use crate::rng::mix;

/// Places that nodes are in and that jobs may ask for.
pub(crate) const PLACES: [&str; 3] = ["attic", "cellar", ""];
/// Reports in one message.
const REPORTS_MAX: usize = 64;

/// A node of the world.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) kind: NodeKind,
    pub(crate) engine: EngineId,
    pub(crate) capacity: Capacity,
    pub(crate) capabilities: Vec<String>,
    pub(crate) location: String,
    /// The connection that the node believes in, and whether it was welcomed on it.
    pub(crate) link: Option<u64>,
    pub(crate) welcome: bool,
    pub(crate) alive: bool,
    pub(crate) revoked: bool,
    /// Nothing passes before this time.
    pub(crate) cut_until: u64,
    /// Run time as a percentage of the usual.
    pub(crate) pace: u64,
    /// A result in this many is wrong; zero for an honest node.
    pub(crate) lies: u64,
    /// A run in this many ends without a result through the node's fault.
    pub(crate) clumsy: u64,
    pub(crate) runs: BTreeMap<AttemptId, Run>,
    generation: u64,
    reporting: bool,
    attempt_seen: Option<(AttemptId, TaskId)>,
}

/// An attempt on a node.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    grant: Grant,
    state: RunState,
    generation: u64,
    left: u64,
    since: u64,
    pub(crate) report: Option<ReportIn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RunState {
    Waiting,
    Running,
    Parked,
    Done,
}

/// A node's own time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NodeTimer {
    Connect,
    /// Whether the connection made was answered.
    Welcomed(u64),
    Report,
    /// Reports that were not answered are sent again.
    Again,
}

impl World {
    pub(crate) fn add_node(&mut self, kind: NodeKind) -> usize {
        let index = self.nodes.len();
        let id = NodeId(Digest::of(
            &[&self.config.seed.to_le_bytes()[..], &index.to_le_bytes()].concat(),
        ));
        let volunteer = kind == NodeKind::Volunteer;
        let all = !volunteer;
        let version = if volunteer && self.rng.once_in(12) {
            [47, 0, 0]
        } else {
            [48, 0, 8]
        };
        let node = Node {
            id,
            kind,
            engine: EngineId {
                version,
                semantics: Digest::default(),
            },
            capacity: Capacity {
                slots: self.rng.range(1, 8) as u16,
                memory_bytes: 1 << self.rng.range(if all { 34 } else { 28 }, 36),
            },
            capabilities: if all || self.rng.once_in(3) {
                vec!["gpu".to_owned()]
            } else {
                Vec::new()
            },
            location: self.rng.pick(&PLACES).to_owned(),
            link: None,
            welcome: false,
            alive: true,
            revoked: false,
            cut_until: 0,
            pace: if self.rng.once_in(6) {
                self.rng.range(300, 900)
            } else {
                self.rng.range(50, 200)
            },
            lies: if volunteer && !self.quiet && self.rng.once_in(8) {
                self.rng.range(2, 40)
            } else {
                0
            },
            clumsy: if self.quiet {
                0
            } else {
                self.rng.range(30, 400)
            },
            runs: BTreeMap::new(),
            generation: 0,
            reporting: false,
            attempt_seen: None,
        };
        self.by_id.insert(id, index);
        self.nodes.push(node);
        let wait = self.rng.below(2_000);
        self.after(wait, Happening::Node(index, NodeTimer::Connect));
        self.after(5_000, Happening::Node(index, NodeTimer::Again));
        index
    }

    pub(crate) fn node_timer(&mut self, index: usize, timer: NodeTimer) {
        match timer {
            NodeTimer::Connect => {
                if self.nodes[index].alive && self.nodes[index].link.is_none() {
                    self.connect(index);
                }
            }
            NodeTimer::Welcomed(link) => {
                let node = &self.nodes[index];
                if node.link == Some(link) && !node.welcome {
                    self.node_hangs_up(index);
                    let wait = self.rng.range(1, 1_600);
                    self.after(wait, Happening::Silent(link));
                }
            }
            NodeTimer::Report => {
                self.nodes[index].reporting = false;
                self.send_reports(index);
            }
            NodeTimer::Again => {
                self.send_reports(index);
                if !self.nodes[index].revoked {
                    let wait = self.rng.range(4_000, 8_000);
                    self.after(wait, Happening::Node(index, NodeTimer::Again));
                }
            }
        }
    }

    /// Makes a connection. An older one stays open at the coordinator until it is found dead.
    pub(crate) fn connect(&mut self, index: usize) {
        // One that was revoked tries again until its luck is out.
        if self.nodes[index].revoked && (self.quiet || self.rng.once_in(3)) {
            return;
        }
        let link = self.shell.next_link;
        self.shell.next_link += 1;
        self.nodes[index].link = Some(link);
        self.nodes[index].welcome = false;
        if !self.shell.up || self.nodes[index].cut_until > self.now {
            self.nodes[index].link = None;
            let wait = self.rng.range(100, 3_000);
            return self.after(wait, Happening::Node(index, NodeTimer::Connect));
        }
        self.shell.links.insert(link, (index, None));
        let held = self.nodes[index].runs.keys().copied().collect();
        self.send_to_coordinator(index, Message::Hello(held));
        self.after(5_000, Happening::Node(index, NodeTimer::Welcomed(link)));
    }

    /// The node finds its connection gone and will make another.
    pub(crate) fn node_hangs_up(&mut self, index: usize) {
        self.nodes[index].link = None;
        self.nodes[index].welcome = false;
        let wait = self.rng.range(100, 3_000);
        self.after(wait, Happening::Node(index, NodeTimer::Connect));
    }

    pub(crate) fn at_node(&mut self, index: usize, link: u64, message: ToNode) {
        let node = &mut self.nodes[index];
        if node.link != Some(link) || !node.alive {
            return;
        }
        match message {
            ToNode::Welcome(unwanted) => {
                node.welcome = true;
                for attempt in unwanted {
                    node.runs.remove(&attempt);
                }
                self.start_runs(index);
                self.send_reports(index);
            }
            ToNode::Grant(leases) => {
                for grant in leases {
                    node.attempt_seen = Some((grant.attempt, grant.task));
                    node.runs.entry(grant.attempt).or_insert(Run {
                        grant,
                        state: RunState::Waiting,
                        generation: 0,
                        left: 0,
                        since: 0,
                        report: None,
                    });
                }
                self.start_runs(index);
            }
            ToNode::Cancel(attempts) => {
                for attempt in attempts {
                    // A finished run keeps its report until it is answered.
                    if node.runs.get(&attempt).is_some_and(|run| !run.is_done()) {
                        node.runs.remove(&attempt);
                    }
                }
                self.start_runs(index);
            }
            ToNode::Settled(attempts) => {
                for attempt in attempts {
                    node.runs.remove(&attempt);
                }
                self.start_runs(index);
            }
            ToNode::Pause(attempts) => {
                let now = self.now;
                for attempt in attempts {
                    if let Some(run) = node.runs.get_mut(&attempt) {
                        match run.state {
                            RunState::Running => {
                                run.left = run.left.saturating_sub(now - run.since);
                                run.state = RunState::Parked;
                            }
                            RunState::Waiting => run.state = RunState::Parked,
                            _ => {}
                        }
                    }
                }
                self.start_runs(index);
            }
            ToNode::Resume(attempts) => {
                for attempt in attempts {
                    if let Some(run) = node.runs.get_mut(&attempt)
                        && run.state == RunState::Parked
                    {
                        run.state = RunState::Waiting;
                    }
                }
                self.start_runs(index);
            }
            ToNode::Drain => {}
            ToNode::Close => self.node_hangs_up(index),
        }
    }

    /// Runs as many waiting attempts as there are slots.
    fn start_runs(&mut self, index: usize) {
        let node = &self.nodes[index];
        let running = node
            .runs
            .values()
            .filter(|run| run.state == RunState::Running)
            .count();
        let free = usize::from(node.capacity.slots).saturating_sub(running);
        let waiting = node
            .runs
            .iter()
            .filter(|(_, run)| run.state == RunState::Waiting);
        let mut next: Vec<_> = waiting.map(|(id, run)| (run.grant.priority, *id)).collect();
        next.sort_unstable();
        for (_, attempt) in next.into_iter().take(free) {
            self.start_run(index, attempt);
        }
    }

    fn start_run(&mut self, index: usize, attempt: AttemptId) {
        let Some(grant) = self.nodes[index].runs.get(&attempt).map(|run| run.grant) else {
            return;
        };
        let fresh = self.nodes[index].runs[&attempt].left == 0;
        let mut millis = self.clients.run_millis(grant.task) * self.nodes[index].pace / 100 + 1;
        if fresh && !self.quiet {
            if self.rng.once_in(200) {
                self.fault(Fault::SlowRun);
                millis *= self.rng.range(5, 40);
            } else if self.rng.once_in(1_000) {
                self.fault(Fault::StuckRun);
                // The node gives it up itself, long after its lease has ended.
                millis = grant.millis * 2;
            }
            if self.rng.once_in(40) && millis > 500 {
                self.make_checkpoint(index, attempt);
            }
        }
        let now = self.now;
        let node = &mut self.nodes[index];
        node.generation += 1;
        let generation = node.generation;
        if let Some(run) = node.runs.get_mut(&attempt) {
            if fresh {
                run.left = millis;
            }
            run.state = RunState::Running;
            run.since = now;
            run.generation = generation;
            let left = run.left;
            self.after(left, Happening::RunEnds(index, attempt, generation));
        }
    }

    fn make_checkpoint(&mut self, index: usize, attempt: AttemptId) {
        let bytes = attempt.0.to_le_bytes().to_vec();
        let state = if self.rng.once_in(2) {
            Body::Blob(Blob::of(&bytes))
        } else {
            Body::Inline(bytes)
        };
        let checkpoint = Checkpoint {
            state,
            fuel_used: self.rng.range(1, 1_000),
            chain: Vec::new(),
        };
        let mut poisoned = self.resumes_poisoned(index, attempt);
        if self.nodes[index].lies > 0 && self.rng.once_in(2) {
            self.fault(Fault::PoisonedCheckpoint);
            poisoned = true;
        }
        if poisoned {
            self.poisoned.insert(attempt);
        }
        self.send_to_coordinator(index, Message::Checkpoint(attempt, checkpoint));
    }

    /// Whether a run went on from a state that leads to a wrong result.
    fn resumes_poisoned(&self, index: usize, attempt: AttemptId) -> bool {
        let run = self.nodes[index].runs.get(&attempt);
        let from = run.and_then(|run| run.grant.checkpoint);
        let maker = from.and_then(|seq| self.oracle.savers.get(&seq));
        maker.is_some_and(|maker| self.poisoned.contains(maker))
    }

    pub(crate) fn run_ends(&mut self, index: usize, attempt: AttemptId, generation: u64) {
        let node = &self.nodes[index];
        let Some(run) = node.runs.get(&attempt) else {
            return;
        };
        if run.state != RunState::Running || run.generation != generation || !node.alive {
            return;
        }
        let (task, took) = (run.grant.task, run.left);
        let outcome = if took == run.grant.millis * 2 {
            Outcome::Inconclusive(Inconclusive::Deadline)
        } else {
            self.outcome(index, attempt, task)
        };
        let report = ReportIn {
            attempt,
            task,
            outcome,
            fuel_used: took * 1_000,
            run_micros: took * 1_000,
        };
        if let Some(run) = self.nodes[index].runs.get_mut(&attempt) {
            run.state = RunState::Done;
            run.report = Some(report);
        }
        self.start_runs(index);
        if !self.nodes[index].reporting {
            self.nodes[index].reporting = true;
            let wait = self.rng.range(1, 30);
            self.after(wait, Happening::Node(index, NodeTimer::Report));
        }
    }

    /// What the node says came out.
    fn outcome(&mut self, index: usize, attempt: AttemptId, task: TaskId) -> Outcome {
        let (clumsy, lies) = (self.nodes[index].clumsy, self.nodes[index].lies);
        if clumsy > 0 && self.rng.once_in(clumsy) {
            let cause = match self.rng.below(12) {
                0..=3 => {
                    self.fault(Fault::Declined);
                    Inconclusive::Declined("not here".to_owned())
                }
                4..=5 if self.nodes[index].kind == NodeKind::Volunteer => {
                    self.fault(Fault::Unfit);
                    Inconclusive::Unfit("malformed".to_owned())
                }
                6..=7 => Inconclusive::Cancelled,
                8 => Inconclusive::StackOverflow,
                9 => Inconclusive::Deadline,
                _ => {
                    self.fault(Fault::HostFault);
                    Inconclusive::HostFault("lost a runner".to_owned())
                }
            };
            return Outcome::Inconclusive(cause);
        }
        if lies > 0 && self.rng.once_in(lies) {
            self.fault(Fault::WrongResult);
            let lie = mix(self.rng.next());
            return Outcome::Returned(Output {
                media_type: "text/plain".to_owned(),
                body: Body::Inline(lie.to_le_bytes().to_vec()),
            });
        }
        if self.resumes_poisoned(index, attempt) {
            // Whoever goes on from it gets the same wrong bytes, in all honesty.
            return Outcome::Returned(Output {
                media_type: "text/plain".to_owned(),
                body: Body::Inline(b"poisoned".to_vec()),
            });
        }
        Clients::right_outcome(task)
    }

    fn send_reports(&mut self, index: usize) {
        let node = &self.nodes[index];
        if !node.alive || !node.welcome {
            return;
        }
        let mut reports: Vec<_> = node
            .runs
            .values()
            .filter_map(|run| run.report.clone())
            .collect();
        reports.truncate(REPORTS_MAX);
        if !self.quiet {
            self.spoil(index, &mut reports);
        }
        if !reports.is_empty() {
            self.send_to_coordinator(index, Message::Reports(reports));
        }
    }

    /// Sometimes a node says what it has no right to say.
    fn spoil(&mut self, index: usize, reports: &mut Vec<ReportIn>) {
        if self.nodes[index].kind != NodeKind::Volunteer {
            return;
        }
        if self.rng.once_in(400) {
            let other = self.rng.below(self.nodes.len() as u64) as usize;
            let theirs = self.nodes[other].runs.values().next().map(|run| run.grant);
            if other != index
                && let Some(grant) = theirs
            {
                self.fault(Fault::ForeignReport);
                reports.push(self.made_up(grant.attempt, grant.task));
            }
        }
        if self.rng.once_in(400) {
            self.fault(Fault::StaleReport);
            let seen = self.nodes[index].attempt_seen;
            let gone = seen.filter(|(attempt, _)| !self.nodes[index].runs.contains_key(attempt));
            let made_up = (AttemptId(self.rng.next() >> 8), TaskId::default());
            let (attempt, task) = gone.unwrap_or(made_up);
            reports.push(self.made_up(attempt, task));
        }
        if self.rng.once_in(400) {
            let mine = self.nodes[index].runs.values().next().map(|run| run.grant);
            if let Some(grant) = mine {
                self.fault(Fault::MisboundReport);
                self.oracle.misbound.insert(grant.attempt);
                let mut task = grant.task;
                task.index.0 ^= 1;
                reports.push(self.made_up(grant.attempt, task));
            }
        }
    }

    fn made_up(&mut self, attempt: AttemptId, task: TaskId) -> ReportIn {
        let bytes = self.rng.next().to_le_bytes().to_vec();
        ReportIn {
            attempt,
            task,
            outcome: Outcome::Returned(Output {
                media_type: "text/plain".to_owned(),
                body: Body::Inline(bytes),
            }),
            fuel_used: 1,
            run_micros: self.rng.next(),
        }
    }

    /// The node dies. What it had written down, it still has when it comes back.
    pub(crate) fn crash_node(&mut self, index: usize) {
        let keeps = self.rng.once_in(2);
        let node = &mut self.nodes[index];
        let link = node.link.take();
        node.alive = false;
        node.welcome = false;
        node.runs.retain(|_, run| keeps && run.is_done());
        if let Some(link) = link {
            let wait = self.rng.range(1, 1_700);
            self.after(wait, Happening::Silent(link));
        }
    }

    pub(crate) fn wake_node(&mut self, index: usize) {
        if !self.nodes[index].alive && !self.nodes[index].revoked {
            self.nodes[index].alive = true;
            self.connect(index);
        }
    }
}
