//! Outputs as they are.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hearth_store::{BlobFile, StoreError};
use hearth_wire::{Body, JobId, Outcome, Output, TaskId, TaskIndex};

use super::extract::{Named, Path};
use super::{Caller, Problem, Shared, blocking, content};
use crate::views::{OutcomeError, Outcomes};

pub(super) async fn get(
    State(shell): Shared,
    caller: Caller,
    Path((Named(job), Named(index))): Path<(Named<JobId>, Named<TaskIndex>)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = TaskId { job, index };
    let picked = {
        let state = shell.views.read();
        let view = state.jobs.get(&job).filter(|view| caller.may_read(view));
        let picked = view.and_then(|view| view.pick_one(job, index));
        picked.ok_or_else(|| Problem::not_found(task))?
    };
    let reader = Arc::clone(&shell);
    let output = blocking(move || -> Result<Option<Output>, OutcomeError> {
        let found = reader.tasks(picked)?;
        let Some(position) = found.first().and_then(|(_, task)| task.outcome()) else {
            return Ok(None);
        };
        let mut outcomes = Outcomes::new(&reader.journal);
        Ok(match &outcomes.report(position, task)?.report.outcome {
            Outcome::Returned(output) => Some(output.clone()),
            _ => None,
        })
    })
    .await??;
    let output = output.ok_or_else(|| no_output(task))?;
    match output.body {
        Body::Inline(bytes) => Ok(content::of_bytes(&headers, bytes, &output.media_type)),
        Body::Blob(blob) => {
            let store = shell.blobs.clone();
            let whole = content::asks_for_all(&headers, blob.len);
            let file = blocking(move || -> Result<BlobFile, StoreError> {
                if whole {
                    // Whoever asks for a part has to check the whole of what they put together.
                    store.verify(&blob.digest)?;
                }
                store.open_blob(&blob.digest)
            });
            let file = file.await?.map_err(|error| unreadable(task, &error))?;
            Ok(content::of_file(
                &headers,
                file,
                0,
                blob.len,
                &output.media_type,
            ))
        }
    }
}

/// The result stands, and its bytes are not what they were.
fn unreadable(task: TaskId, error: &StoreError) -> Problem {
    Problem::operator(
        StatusCode::INTERNAL_SERVER_ERROR,
        "output-unreadable",
        format!("the output of {task} cannot be read: {error}"),
        "the operator has to put that file back from a backup, or its owner submits the task again",
    )
}

fn no_output(task: TaskId) -> Problem {
    Problem::client(
        StatusCode::NOT_FOUND,
        "no-output",
        format!("{task} has no output (yet)"),
        "look at its state and result first",
    )
}
