//! What is checked of a report before core hears of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Instant;

use hearth_core::ReportIn;
use hearth_identity::{accept_local_reports, verify_reports};
use hearth_wire::api::ErrorBody;
use hearth_wire::message::{Refusal, Report, ReportBatch};
use hearth_wire::{
    AttemptId, EngineId, Inconclusive, JobId, NodeId, Outcome, TaskId, TaskLimits, limits,
};

use super::{Member, protocol};
use crate::outcome::{self, Unfit};
use crate::shell::{FactsError, JobFacts, Shell};

/// Checks a batch: the signature over it, and of each report the sizes, the engine and that it is
/// about the very input, component, seed and limits of its task. Whether the attempt is the node's,
/// and still wanted, is for core.
///
/// A batch that fails is not half believed: the node signed all of it, so the session ends.
pub(super) async fn check(
    shell: &Arc<Shell>,
    member: &Member,
    engine: EngineId,
    batch: &ReportBatch,
) -> Result<Vec<ReportIn>, Refusal> {
    let verified = match member {
        Member::Remote(peer) => verify_reports(batch, peer.public_key()),
        Member::Local(_) => accept_local_reports(batch),
    };
    let reports = match verified {
        Ok(reports) => reports.into_inner(),
        Err(error) => return Err(refuse(shell, error)),
    };
    let node = member.node();
    let asked = Instant::now();
    let mut jobs: BTreeMap<JobId, Result<JobFacts, FactsError>> = BTreeMap::new();
    let mut troubles: BTreeMap<JobId, Option<ErrorBody>> = BTreeMap::new();
    let mut checked = Vec::with_capacity(reports.len());
    for report in reports {
        let job = report.task.job;
        if let Entry::Vacant(place) = jobs.entry(job) {
            // A job that is forgotten or never was: core answers its attempts as unknown.
            place.insert(shell.job_facts(job).await);
        }
        let had = &jobs[&job];
        let facts = had.as_ref().ok();
        let mut removed = None;
        match fits(shell, facts, engine, &report).await {
            Ok(()) => {}
            // Nobody waits for it any more, and it was uploaded so long ago that it was removed.
            Err(Unfit::NotUploaded) if shell.views.read().live(report.attempt).is_none() => {
                let text = "the output came so long before the report that it was removed";
                removed = Some(Outcome::Inconclusive(Inconclusive::HostFault(
                    text.to_owned(),
                )));
            }
            Err(problem) => {
                let attempt = report.attempt;
                return Err(refuse(shell, format!("report of {attempt}: {problem}")));
            }
        }
        let (attempt, task) = (report.attempt, report.task);
        let mut outcome = removed.unwrap_or(report.outcome);
        if did_not_begin(&outcome, report.fuel_used) && has(shell, node, attempt, task) {
            // Once for each job: what it costs us to look must not grow with what a node says.
            if let Entry::Vacant(place) = troubles.entry(job) {
                place.insert(match had {
                    Ok(facts) => shell.trouble_of_files(task, facts, node, asked).await,
                    Err(FactsError::UnknownJob(_)) => None,
                    Err(fault) => Some(shell.cannot_serve(job, fault, node)),
                });
            }
            if let Some(trouble) = troubles.get(&job).and_then(Option::as_ref) {
                // Our own fault: counted against nobody, as where it is met before a lease leaves.
                let text = trouble.to_string();
                outcome = Outcome::Inconclusive(Inconclusive::Declined(text));
            }
        }
        if let Some(facts) = facts
            && matches!(&outcome, Outcome::Inconclusive(Inconclusive::Declined(_)))
        {
            shell.held.declined(facts.release_id, node);
        }
        checked.push(ReportIn {
            attempt,
            task,
            outcome,
            fuel_used: report.fuel_used,
            run_micros: report.run_micros,
        });
    }
    Ok(checked)
}

/// Whether a node says that its own machine, or ours, kept it from running anything: so it reports a
/// component that it could not have.
fn did_not_begin(outcome: &Outcome, fuel_used: u64) -> bool {
    let fault = matches!(outcome, Outcome::Inconclusive(Inconclusive::HostFault(_)));
    fault && fuel_used == 0
}

/// Whether a node has this lease: nobody else makes us read a file.
fn has(shell: &Shell, node: NodeId, attempt: AttemptId, task: TaskId) -> bool {
    let live = shell.views.read().live(attempt);
    live.is_some_and(|live| live.node == node && live.task == task)
}

fn refuse(shell: &Shell, problem: impl ToString) -> Refusal {
    shell.metrics.refused_reports.inc();
    protocol(problem.to_string())
}

/// More than any manifest grants.
const LIMITS_MAX: TaskLimits = TaskLimits {
    fuel: u64::MAX,
    memory_bytes: limits::MEMORY_BYTES_MAX,
    table_elements: u32::MAX,
    output_bytes: limits::OUTPUT_BYTES_MAX,
    log_bytes: u64::MAX,
    checkpoint_bytes: limits::CHECKPOINT_BYTES_MAX,
};

async fn fits(
    shell: &Arc<Shell>,
    facts: Option<&JobFacts>,
    engine: EngineId,
    report: &Report,
) -> Result<(), Unfit> {
    if report.engine != engine {
        return Err(Unfit::Engine);
    }
    if report.chain.len() > limits::CHECKPOINT_CHAIN_MAX {
        return Err(Unfit::Chain);
    }
    // A job that is forgotten had some limits.
    let granted = facts.map_or(LIMITS_MAX, |facts| facts.release.manifest.limits);
    if let Some(facts) = facts
        && facts
            .content(report.task)
            .is_some_and(|content| content != report.content)
    {
        return Err(Unfit::Content);
    }
    outcome::check(shell, &granted, &report.outcome, report.fuel_used).await
}
