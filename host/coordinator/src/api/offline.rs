//! Results that a job's owner computed while the realm was away.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use hearth_core::{Answer, Event, ResultIn};
use hearth_wire::api::{JobState, ResultsMerged};
use hearth_wire::{JobId, OfflineResult, OfflineResults, TaskId, codec, limits};

use super::extract::{Named, Path};
use super::{Caller, Problem, Shared, read_body};
use crate::outcome::{self, Unfit};
use crate::shell::{JobFacts, Shell};

/// Takes results from the owner of a job, and from nobody else, an admin included: whose machine it was
/// is told with the result, and who may be believed about a job is its owner alone.
pub(super) async fn merge(
    State(shell): Shared,
    caller: Caller,
    Path(Named(job)): Path<Named<JobId>>,
    body: Body,
) -> Result<Json<ResultsMerged>, Problem> {
    let open = {
        let state = shell.views.read();
        let view = state.jobs.get(&job);
        let view = view.filter(|view| view.spec.owner == caller.owner);
        view.ok_or_else(|| Problem::not_found(job))?.state == JobState::Open
    };
    let bytes = read_body(body, limits::MERGED_BYTES_MAX).await?;
    let brought: OfflineResults = codec::decode(&bytes, limits::MERGED_BYTES_MAX)
        .map_err(|error| Problem::bad_request("bad-results", error.to_string()))?;
    if brought.results.len() > limits::MERGED_PER_REQUEST_MAX {
        let max = limits::MERGED_PER_REQUEST_MAX;
        let found = brought.results.len();
        let message = format!("{found} results in one request, at most {max} are taken");
        return Err(Problem::bad_request("too-many-results", message));
    }
    // A job that has ended takes nothing, whatever it is; its files need not be there any more.
    if open {
        let facts = shell.job_facts(job).await.map_err(Problem::ours)?;
        for result in &brought.results {
            let task = TaskId {
                job,
                index: result.index,
            };
            fits(&shell, &facts, task, result)
                .await
                .map_err(|problem| bad_result(task, &problem))?;
        }
    }
    let results = brought.results.into_iter().map(|result| ResultIn {
        index: result.index,
        outcome: result.outcome,
        fuel_used: result.fuel_used,
        run_micros: result.run_micros,
    });
    let (results, owner) = (results.collect(), caller.owner);
    let (engine, more) = (brought.engine, brought.more);
    let answer = shell
        .driver
        .ask(|request| Event::Merge {
            request,
            job,
            owner,
            engine,
            results,
            more,
        })
        .await??;
    let Answer::Merged { merged, known, seq } = answer else {
        return Err(Problem::ours(format!("{answer:?} as answer to results")));
    };
    // So that the next request of this client sees them. If the views lag, they stand all the same.
    let _ = shell.views.wait_for(seq).await;
    Ok(Json(ResultsMerged {
        job,
        merged,
        known,
        seq,
    }))
}

async fn fits(
    shell: &Arc<Shell>,
    facts: &JobFacts,
    task: TaskId,
    result: &OfflineResult,
) -> Result<(), Unfit> {
    // A task that the job has not has no content id either.
    if facts.content(task) != Some(result.content) {
        return Err(Unfit::Content);
    }
    let granted = &facts.release.manifest.limits;
    outcome::check(shell, granted, &result.outcome, result.fuel_used).await
}

fn bad_result(task: TaskId, problem: &Unfit) -> Problem {
    let next = match problem {
        Unfit::NotUploaded => "upload it with PUT /v1/blobs first",
        _ => "compute it again from the release and the inputs of the job",
    };
    Problem::client(
        StatusCode::UNPROCESSABLE_ENTITY,
        "bad-result",
        format!("result of {task}: {problem}"),
        next,
    )
}
