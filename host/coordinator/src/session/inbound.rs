//! What a node says, in every state that it can be in.

use std::sync::Arc;
use std::time::Instant;

use hearth_core::Event;
use hearth_identity::verify_checkpoint;
use hearth_wire::api::JobEvent;
use hearth_wire::message::{
    Capacity, CheckpointReport, CoordinatorMessage, LogLine, NodeMessage, Progress,
};
use hearth_wire::{EngineId, NodeId, SessionId, limits};

use super::{End, Member, ToNode, protocol, reports, say};
use crate::bucket::Bucket;
use crate::nodes::Connected;
use crate::shell::Shell;

/// Progress that a session may tell clients, a second. More is dropped, which is allowed.
const PROGRESS_PER_SECOND: u32 = 200;
/// Log lines of guests, likewise.
const LOGS_PER_SECOND: u32 = 100;
/// Checkpoints, likewise: each is a record.
const CHECKPOINTS_PER_SECOND: u32 = 50;
/// Changes of capacity, likewise.
const CAPACITIES_PER_SECOND: u32 = 10;

/// The state of the node's side of a session.
#[derive(Debug)]
pub(super) struct Inbound {
    connected: Arc<Connected>,
    member: Member,
    engine: EngineId,
    /// The node said goodbye: it ends what it has and takes nothing new.
    leaving: bool,
    capacity: Option<Capacity>,
    progress: Bucket,
    logs: Bucket,
    checkpoints: Bucket,
    capacities: Bucket,
}

impl Inbound {
    pub(super) fn new(connected: Arc<Connected>, member: Member, engine: EngineId) -> Self {
        let now = Instant::now();
        let bucket = |rate| Bucket::new(rate, 2 * rate, now);
        Self {
            connected,
            member,
            engine,
            leaving: false,
            capacity: None,
            progress: bucket(PROGRESS_PER_SECOND),
            logs: bucket(LOGS_PER_SECOND),
            checkpoints: bucket(CHECKPOINTS_PER_SECOND),
            capacities: bucket(CAPACITIES_PER_SECOND),
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.connected.node
    }

    pub(super) fn is_local(&self) -> bool {
        matches!(self.member, Member::Local(_))
    }

    pub(super) fn session(&self) -> SessionId {
        self.connected.session
    }

    /// Hears one batch. A message that does not fit the state ends the session.
    pub(super) async fn hear(
        &mut self,
        shell: &Arc<Shell>,
        sender: &ToNode,
        batch: Vec<NodeMessage>,
        welcomed: bool,
    ) -> Result<(), End> {
        self.connected.heard();
        for message in batch {
            let fits = match &message {
                NodeMessage::Hello(_) => false,
                NodeMessage::Heartbeat(_) => true,
                NodeMessage::Goodbye | NodeMessage::Capacity(_) => welcomed && !self.leaving,
                NodeMessage::Reports(_)
                | NodeMessage::Progress(_)
                | NodeMessage::Log(_)
                | NodeMessage::Checkpoint(_) => welcomed,
            };
            if !fits {
                let state = match (welcomed, self.leaving) {
                    (false, _) => "before Welcome",
                    (true, false) => "after Hello",
                    (true, true) => "after Goodbye",
                };
                return Err(protocol(format!("{} {state}", word(&message))).into());
            }
            self.hear_one(shell, sender, message).await?;
        }
        Ok(())
    }

    async fn hear_one(
        &mut self,
        shell: &Arc<Shell>,
        sender: &ToNode,
        message: NodeMessage,
    ) -> Result<(), End> {
        match message {
            NodeMessage::Hello(_) => Ok(()),
            NodeMessage::Heartbeat(load) => {
                shell.metrics.heartbeats.inc();
                self.connected.beat(load);
                // An empty answer: the node sees that we live, and how long the way is.
                say(sender, &CoordinatorMessage::Settled(Vec::new())).await
            }
            NodeMessage::Reports(batch) => {
                let reports = reports::check(shell, &self.member, self.engine, &batch).await?;
                let event = Event::Reported {
                    node: self.node(),
                    session: self.session(),
                    reports,
                };
                Ok(shell.driver.tell(event).await?)
            }
            NodeMessage::Progress(all) => {
                self.hear_progress(shell, &all);
                Ok(())
            }
            NodeMessage::Log(line) => self.hear_log(shell, line),
            NodeMessage::Checkpoint(report) => self.hear_checkpoint(shell, report).await,
            NodeMessage::Capacity(capacity) => {
                // Core hears of changes only, and not of a flood of them.
                if self.capacity == Some(capacity) || !self.capacities.take(Instant::now()) {
                    return Ok(());
                }
                self.capacity = Some(capacity);
                let session = self.session();
                let event = Event::CapacityChanged { session, capacity };
                Ok(shell.driver.tell(event).await?)
            }
            NodeMessage::Goodbye => {
                self.leaving = true;
                let event = Event::NodeDrain {
                    request: None,
                    node: self.node(),
                };
                Ok(shell.driver.tell(event).await?)
            }
        }
    }

    fn hear_progress(&mut self, shell: &Shell, all: &[Progress]) {
        if !shell.views.has_listeners() {
            return;
        }
        for progress in all {
            if !self.progress.take(Instant::now()) {
                return;
            }
            let state = shell.views.read();
            let Some(live) = state.live(progress.attempt) else {
                continue;
            };
            let Some(view) = state.nodes.get(live.node) else {
                continue;
            };
            if live.node != self.node() {
                continue;
            }
            let event = JobEvent::Progress {
                task: live.task,
                node: view.shown_id(),
                done: progress.done,
                total: progress.total,
            };
            drop(state);
            shell.views.tell(event);
        }
    }

    fn hear_log(&mut self, shell: &Shell, line: LogLine) -> Result<(), End> {
        if line.text.len() > limits::LOG_LINE_BYTES_MAX {
            return Err(protocol("a log line above the limit").into());
        }
        if !shell.views.has_listeners() || !self.logs.take(Instant::now()) {
            return Ok(());
        }
        let live = shell.views.read().live(line.attempt);
        if let Some(live) = live.filter(|live| live.node == self.node()) {
            shell.views.tell(JobEvent::Log {
                task: live.task,
                level: line.level,
                text: line.text,
            });
        }
        Ok(())
    }

    async fn hear_checkpoint(
        &mut self,
        shell: &Arc<Shell>,
        report: CheckpointReport,
    ) -> Result<(), End> {
        if !report.checkpoint.state.within_limit() {
            return Err(protocol("an inline checkpoint above the limit").into());
        }
        let live = shell.views.read().live(report.attempt);
        // Not (or no longer) its own: it may just have been cancelled, so this is no violation.
        let Some(live) = live.filter(|live| live.node == self.node()) else {
            return Ok(());
        };
        if !self.checkpoints.take(Instant::now()) {
            return Ok(());
        }
        let Ok(facts) = shell.job_facts(live.task.job).await else {
            return Ok(());
        };
        let Some(content) = facts.content(live.task) else {
            return Ok(());
        };
        let blob = report.checkpoint.state.blob();
        if blob.len > facts.release.manifest.limits.checkpoint_bytes {
            return Err(protocol("a checkpoint above the manifest's limit").into());
        }
        if !crate::outcome::is_stored(shell, &report.checkpoint.state).await {
            return Err(protocol("a checkpoint whose body was not uploaded before").into());
        }
        let made_here = report.checkpoint.chain.last().map(|link| link.node);
        if made_here != Some(self.node()) {
            return Err(protocol("a checkpoint that another node made").into());
        }
        let maker = |node| shell.connections.maker(node);
        match verify_checkpoint(report.checkpoint, (content, live.task), maker) {
            Ok(checkpoint) => {
                let event = Event::CheckpointMade {
                    node: self.node(),
                    attempt: report.attempt,
                    checkpoint: checkpoint.into_inner(),
                };
                Ok(shell.driver.tell(event).await?)
            }
            Err(error) => {
                // A checkpoint that is not kept costs time and nothing else.
                tracing::info!(task = %live.task, %error, "checkpoint dropped");
                Ok(())
            }
        }
    }
}

fn word(message: &NodeMessage) -> &'static str {
    match message {
        NodeMessage::Hello(_) => "Hello",
        NodeMessage::Heartbeat(_) => "Heartbeat",
        NodeMessage::Reports(_) => "Reports",
        NodeMessage::Progress(_) => "Progress",
        NodeMessage::Log(_) => "Log",
        NodeMessage::Checkpoint(_) => "Checkpoint",
        NodeMessage::Capacity(_) => "Capacity",
        NodeMessage::Goodbye => "Goodbye",
    }
}
