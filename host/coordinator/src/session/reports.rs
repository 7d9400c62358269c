//! What is checked of a report before core hears of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hearth_core::ReportIn;
use hearth_identity::{accept_local_reports, verify_reports};
use hearth_wire::message::{Refusal, Report, ReportBatch};
use hearth_wire::{Body, EngineId, Inconclusive, JobId, Outcome, Overrun, TaskLimits, limits};

use super::{Member, protocol};
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
        if let Err(problem) = fits(shell, facts, engine, &report).await {
            let attempt = report.attempt;
            return Err(refuse(shell, format!("report of {attempt}: {problem}")));
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
            outcome: report.outcome,
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

/// Why a report is not about what it should be about.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("its content id is not its task's")]
    Content,
    #[error("its engine is not the one in Hello")]
    Engine,
    #[error("more bytes inline than allowed")]
    Inline,
    #[error(transparent)]
    Overrun(#[from] Overrun),
    #[error("an output that was not uploaded before")]
    NotUploaded,
    #[error("a text above its limit")]
    Text,
    #[error("more makers of checkpoints than allowed")]
    Chain,
}

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
    match &report.outcome {
        Outcome::Refused(error) => error.check()?,
        Outcome::Inconclusive(
            Inconclusive::HostFault(text)
            | Inconclusive::Declined(text)
            | Inconclusive::Unfit(text),
        ) if text.len() > limits::ERROR_TEXT_BYTES_MAX => return Err(Unfit::Text),
        _ => {}
    }
    // A job that is forgotten had some limits.
    let granted = facts.map_or(LIMITS_MAX, |facts| facts.release.manifest.limits);
    granted.check_fuel(report.fuel_used)?;
    if let Some(facts) = facts
        && facts
            .content(report.task)
            .is_some_and(|content| content != report.content)
    {
        return Err(Unfit::Content);
    }
    let Outcome::Returned(output) = &report.outcome else {
        return Ok(());
    };
    if !output.body.within_limit() {
        return Err(Unfit::Inline);
    }
    granted.check_output(&output.media_type, output.body.len())?;
    if is_stored(shell, &output.body).await {
        Ok(())
    } else {
        Err(Unfit::NotUploaded)
    }
}

/// Whether the bytes are here, wherever they were to be.
pub(super) async fn is_stored(shell: &Arc<Shell>, body: &Body) -> bool {
    let Body::Blob(blob) = body else {
        return true;
    };
    let (store, blob) = (shell.blobs.clone(), *blob);
    let found = tokio::task::spawn_blocking(move || store.len_of(&blob.digest)).await;
    matches!(found, Ok(Ok(Some(len))) if len == blob.len)
}
