//! What is checked of a report before core hears of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_core::ReportIn;
use hearth_identity::{accept_local_reports, verify_reports};
use hearth_wire::message::{Refusal, Report, ReportBatch};
use hearth_wire::{EngineId, Inconclusive, JobId, Outcome, TaskLimits, limits};

use super::{Member, protocol};
use crate::outcome::{self, Unfit};
use crate::shell::{JobFacts, Shell};

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
    let mut jobs: BTreeMap<JobId, Option<JobFacts>> = BTreeMap::new();
    let mut checked = Vec::with_capacity(reports.len());
    for report in reports {
        let job = report.task.job;
        if let std::collections::btree_map::Entry::Vacant(place) = jobs.entry(job) {
            // A job that is forgotten or never was: core answers its attempts as unknown.
            place.insert(shell.job_facts(job).await.ok());
        }
        let facts = jobs.get(&job).and_then(Option::as_ref);
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
        if let Some(facts) = facts
            && matches!(
                &report.outcome,
                Outcome::Inconclusive(Inconclusive::Declined(_))
            )
        {
            shell.held.declined(facts.release_id, member.node());
        }
        checked.push(ReportIn {
            attempt: report.attempt,
            task: report.task,
            outcome: removed.unwrap_or(report.outcome),
            fuel_used: report.fuel_used,
            run_micros: report.run_micros,
        });
    }
    Ok(checked)
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
