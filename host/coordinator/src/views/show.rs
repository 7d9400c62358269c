//! From what is kept to what is shown.

use base64::Engine as _;
use hearth_store::{Position, Reader, StoreError};
use hearth_wire::api::CLIENT;
use hearth_wire::api::{
    Blame, ErrorBody, JobStatus, ModeReport, ModeSwitch, NodeShare, OutputEncoding,
    ProcessingResult, ResultBody, ResultMetadata, TaskState,
};
use hearth_wire::codec::{self, DecodeError};
use hearth_wire::record::{Fact, Failure, Record, ReportFact, Verdict};
use hearth_wire::{Body, EngineId, JobId, Millis, Outcome, Output, TaskId, TrustPolicy};

use super::task::OWNER;
use super::{JobView, State, TaskView};
use crate::clock::iso;
use crate::tables::TablesError;

/// Outputs beyond this are not put into JSON: they are fetched by themselves.
const SHOWN_OUTPUT_BYTES_MAX: usize = 64 << 10;

/// Largest record that is read back. The store has its own, smaller limit.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// A record could not be read back. The operator's disk, or us, to blame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutcomeError {
    #[error("reading the journal: {0}")]
    Store(#[from] StoreError),
    #[error("a record of the journal: {0}")]
    Decode(#[from] DecodeError),
    #[error("the journal holds no outcome of {0} where it should")]
    Missing(TaskId),
    #[error(transparent)]
    Tables(#[from] TablesError),
}

/// Reads outcomes back from the journal, which is the only place where they are.
///
/// Neighbouring tasks often share a record (a batch of reports), so the last one is kept.
pub(crate) struct Outcomes<'a> {
    reader: &'a Reader,
    last: Option<(Position, Record)>,
}

impl<'a> Outcomes<'a> {
    pub(crate) fn new(reader: &'a Reader) -> Self {
        Self { reader, last: None }
    }

    /// The report about `task` in the record at `position` that decided.
    pub(crate) fn report(
        &mut self,
        position: Position,
        task: TaskId,
    ) -> Result<Found<'_>, OutcomeError> {
        if self.last.as_ref().is_none_or(|(at, _)| *at != position) {
            let bytes = self.reader.read_at(position)?;
            let record = codec::decode(&bytes, RECORD_BYTES_MAX)?;
            self.last = Some((position, record));
        }
        let Some((_, record)) = &self.last else {
            return Err(OutcomeError::Missing(task));
        };
        let (reports, engine) = reports(&record.fact).ok_or(OutcomeError::Missing(task))?;
        let mut reports = reports.iter().rev();
        let report = reports.find(|report| report.task == task && decides(report.verdict));
        let (report, at) = (report.ok_or(OutcomeError::Missing(task))?, record.at);
        Ok(Found { report, at, engine })
    }
}

/// An outcome in the journal.
pub(crate) struct Found<'a> {
    pub(crate) report: &'a ReportFact,
    /// When it was journaled.
    pub(crate) at: Millis,
    /// What it ran on, if that was no node's.
    pub(crate) engine: Option<EngineId>,
}

/// What a record says of the ends of runs, and on what they ran if that was no node.
pub(crate) fn reports(fact: &Fact) -> Option<(&[ReportFact], Option<EngineId>)> {
    match fact {
        Fact::Reported { reports, .. } => Some((reports, None)),
        Fact::Merged {
            results, engine, ..
        } => Some((results, Some(*engine))),
        _ => None,
    }
}

fn decides(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Settled | Verdict::Provisional | Verdict::Differs | Verdict::Failed(_)
    )
}

/// The producer of a result, as shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShownNode {
    pub(crate) id: Option<String>,
    pub(crate) name: String,
    pub(crate) engine: String,
}

impl ShownNode {
    /// The same, which ran on this engine.
    pub(crate) fn on(mut self, engine: Option<EngineId>) -> Self {
        if let Some(engine) = engine {
            self.engine = engine.to_string();
        }
        self
    }
}

impl State {
    /// How a job stands.
    pub(crate) fn job_status(&self, id: JobId, job: &JobView) -> JobStatus {
        let options = &job.spec.options;
        JobStatus {
            job: id,
            name: options.name.clone(),
            release: job.spec.release,
            state: job.state,
            priority: options.priority,
            trust: options.trust,
            tasks: job.spec.inputs.count,
            counts: job.counts,
            retries: job.retries,
            nodes: job
                .shares
                .iter()
                .filter(|(_, results)| **results > 0)
                .filter_map(|(place, results)| {
                    let shown = self.shown_node(Some(*place));
                    Some(NodeShare {
                        node: shown.id?,
                        name: shown.name,
                        results: *results,
                    })
                })
                .collect(),
            submitted_at: iso(job.submitted_wall),
            deadline: options
                .deadline_millis
                .map(|millis| iso(job.submitted_wall.saturating_add(millis))),
            ended_at: job.ended.map(iso),
            trouble: job.failure.map(failed),
            seq: self.seq,
        }
    }

    /// A node by its position, as shown with results.
    pub(crate) fn shown_node(&self, place: Option<u32>) -> ShownNode {
        if place == Some(OWNER) {
            return ShownNode {
                id: Some(CLIENT.to_owned()),
                name: "the job's owner, while the realm was away".to_owned(),
                engine: String::new(),
            };
        }
        match place.and_then(|place| self.nodes.at(place)) {
            None => ShownNode::default(),
            Some(view) => ShownNode {
                id: Some(view.shown_id()),
                name: view.profile.name.clone(),
                engine: view.profile.engine.to_string(),
            },
        }
    }

    /// The mode and what it follows from.
    pub(crate) fn mode_report(&self) -> ModeReport {
        let working = || self.nodes.iter().filter(|node| node.may_work());
        let slots = |trusted: bool| {
            working()
                .filter(|node| node.profile.kind.is_trusted() == trusted)
                .map(|node| u32::from(node.profile.capacity.slots))
                .sum()
        };
        let counts = self.jobs.values().map(|job| job.counts);
        let switches: Vec<_> = self
            .switches
            .iter()
            .map(|(mode, reason, at)| ModeSwitch {
                mode: *mode,
                at: iso(*at),
                reason: reason.to_string(),
            })
            .collect();
        let newest = switches.first();
        ModeReport {
            mode: self.mode,
            since: newest.map_or_else(
                || self.wall.iso(Position(0), hearth_wire::Millis(0)),
                |switch| switch.at.clone(),
            ),
            reason: newest.map_or_else(
                || "no volunteer has joined yet".to_owned(),
                |switch| switch.reason.clone(),
            ),
            volunteers: working()
                .filter(|node| !node.profile.kind.is_trusted())
                .count() as u32,
            volunteer_slots: slots(false),
            trusted_slots: slots(true),
            queued: counts.clone().map(|counts| u64::from(counts.queued)).sum(),
            leased: counts.map(|counts| u64::from(counts.leased)).sum(),
            switches,
            seq: self.seq,
        }
    }
}

impl TaskView {
    /// Probability that a result is right, as far as is known: certain when a trusted node made or
    /// checked it. Without checks there is no evidence, and a coin's worth is not claimed either.
    pub(crate) fn confidence(&self, trust: TrustPolicy) -> f64 {
        match (self.state(), trust) {
            (TaskState::Settled, _) if self.verified => 1.0,
            (TaskState::Settled | TaskState::Provisional | TaskState::Final, _) => 0.5,
            _ => 0.0,
        }
    }

    /// The result of a task in the shape of the API.
    pub(crate) fn shown(
        &self,
        task: TaskId,
        trust: TrustPolicy,
        node: ShownNode,
        report: Option<(&ReportFact, String)>,
    ) -> ProcessingResult {
        let (outcome, fuel_used, run_micros, at) = match report {
            Some((report, at)) => (
                Some(&report.outcome),
                report.fuel_used,
                report.run_micros,
                Some(at),
            ),
            None => (None, 0, 0, None),
        };
        let output = match outcome {
            Some(Outcome::Returned(output)) => Some(output),
            _ => None,
        };
        let (text, encoding) = output.map_or((None, OutputEncoding::Utf8), shown_output);
        ProcessingResult {
            task_id: task,
            result: ResultBody {
                output: text,
                confidence: self.confidence(trust),
                metadata: ResultMetadata {
                    outcome: outcome.map_or("", Outcome::word).to_owned(),
                    detail: outcome.and_then(Outcome::detail),
                    media_type: output.map(|output| output.media_type.clone()),
                    encoding,
                    bytes: output.map_or(0, |output| output.body.len()),
                    output_digest: output.map(|output| output.body.blob().digest),
                    fuel_used,
                    engine: node.engine,
                    node_name: node.name,
                },
            },
            processed_by: outcome.and(node.id),
            processed_at: at,
            processing_time: run_micros as f64 / 1e6,
            verified: self.verified,
            index: task.index.0,
            state: self.state(),
            attempts: u32::from(self.attempts),
            digest: outcome.and_then(Outcome::digest),
        }
    }
}

/// Why a whole job failed.
fn failed(failure: Failure) -> ErrorBody {
    let (code, blame) = match failure {
        Failure::Attempts => ("attempts-spent", Blame::Author),
        Failure::Unfit => ("component-unfit", Blame::Author),
        Failure::Nondeterministic => ("component-nondeterministic", Blame::Author),
        Failure::ReleaseRevoked => ("release-revoked", Blame::Operator),
    };
    let text = failure.to_string();
    let (message, next) = text.split_once("; ").unwrap_or((&text, ""));
    ErrorBody {
        code: code.to_owned(),
        message: message.to_owned(),
        blame,
        next: next.to_owned(),
    }
}

/// The result that a report made, for those who listen: its record is at hand.
pub(crate) fn result_of_report(
    state: &State,
    task: TaskId,
    view: TaskView,
    (report, engine): (&ReportFact, Option<EngineId>),
    wall: u64,
) -> Option<ProcessingResult> {
    let job = state.jobs.get(&task.job)?;
    let trust = job.spec.options.trust;
    let node = state.shown_node(view.node()).on(engine);
    // A confirming report is not the result, but it equals it.
    Some(view.shown(task, trust, node, Some((report, iso(wall)))))
}

fn shown_output(output: &Output) -> (Option<String>, OutputEncoding) {
    match &output.body {
        Body::Inline(bytes) if bytes.len() <= SHOWN_OUTPUT_BYTES_MAX => {
            match std::str::from_utf8(bytes) {
                Ok(text) => (Some(text.to_owned()), OutputEncoding::Utf8),
                Err(_) => (Some(base64(bytes)), OutputEncoding::Base64),
            }
        }
        Body::Inline(_) | Body::Blob(_) => (None, OutputEncoding::Utf8),
    }
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
