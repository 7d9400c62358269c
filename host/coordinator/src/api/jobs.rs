//! Jobs.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use hearth_core::{Answer, Event};
use hearth_wire::api::{JobAccepted, JobList, JobStatus, SubmitJob};
use hearth_wire::{InputSet, JobId, JobOptions, JobSpec, ReleaseId, Role, Seq};
use serde::Deserialize;

use super::extract::{Named, Path, Query};
use super::inputs::check_media_type;
use super::{Caller, Problem, Shared, read_json};
use crate::clock::unix_now;
use crate::releases::ReleaseProblem;
use crate::shell::Shell;

/// Jobs in one list.
const LIST_MAX: usize = 1_000;
/// Jobs in one list that names no limit.
const LIST_DEFAULT: usize = 100;

/// Query of a read.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MinSeq {
    min_seq: Option<u64>,
}

/// Query of a submission.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmitQuery {
    /// No run of the job is leased for `HOLD_MILLIS`: its client brings results that it has computed
    /// itself. Holds a job that an earlier submission made as well.
    #[serde(default)]
    hold: bool,
}

/// Query of a list of jobs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    min_seq: Option<u64>,
    limit: Option<usize>,
}

/// Waits until what is shown is new enough.
pub(super) async fn wait(shell: &Shell, min_seq: Option<u64>) -> Result<(), Problem> {
    match min_seq {
        Some(seq) => Ok(shell.views.wait_for(Seq(seq)).await?),
        None => Ok(()),
    }
}

impl MinSeq {
    pub(super) async fn wait(&self, shell: &Shell) -> Result<(), Problem> {
        wait(shell, self.min_seq).await
    }
}

pub(super) async fn submit(
    State(shell): Shared,
    caller: Caller,
    Query(query): Query<SubmitQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<JobAccepted>), Problem> {
    let mut request: SubmitJob = read_json(body).await?;
    if let Some(key) = headers.get("idempotency-key") {
        let key = key.to_str().map_err(|_| {
            Problem::bad_request("bad-idempotency-key", "Idempotency-Key must be ASCII")
        })?;
        request
            .options
            .idempotency_key
            .get_or_insert_with(|| key.to_owned());
    }
    let accepted = accept(
        &shell,
        &caller,
        request.release,
        request.inputs,
        request.options,
        query.hold,
    )
    .await?;
    let status = if accepted.existing {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok((status, Json(accepted)))
}

/// Checks what core takes on trust, and asks core.
pub(super) async fn accept(
    shell: &Arc<Shell>,
    caller: &Caller,
    release: ReleaseId,
    inputs: InputSet,
    options: JobOptions,
    hold: bool,
) -> Result<JobAccepted, Problem> {
    check_media_type(&inputs.media_type)?;
    if inputs.count == 0 {
        return Err(hearth_core::RequestRefusal::EmptyJob.into());
    }
    if !shell.submissions.take(caller.owner.0, Instant::now()) {
        return Err(Problem::client(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-submissions",
            "you submit more often than this realm allows",
            "wait a second, or put more inputs into one job",
        ));
    }
    let spec = JobSpec {
        release,
        inputs,
        owner: caller.owner,
        options,
    };
    let earlier = earlier(shell, &spec);
    let is_new = earlier.is_none();
    let root = spec.inputs.root;
    let known = {
        let shell = Arc::clone(shell);
        super::blocking(move || {
            // What was accepted before is only told again, which takes no room.
            if is_new {
                shell.room.for_new_work()?;
            }
            let known = shell.releases.get(release)?;
            let judged = shell.trusted().judge(release, &known.release, unix_now());
            judged.map_err(ReleaseProblem::from)?;
            Ok::<_, Problem>(())
        })
        .await?
    };
    known?;
    let claimer = Arc::clone(shell);
    match super::blocking(move || claimer.inputs.claim(&root)).await? {
        Ok(()) => {}
        // The inputs of a job that has ended were removed since.
        Err(error) => return earlier.flatten().ok_or_else(|| error.into()),
    }
    let set = shell.inputs.open(root).await?;
    set.index
        .matches(&spec.inputs)
        .map_err(|error| Problem::bad_request("inputs-mismatch", error.to_string()))?;
    let answer = shell
        .driver
        .ask(|request| match hold {
            true => Event::SubmitHeld { request, spec },
            false => Event::Submit { request, spec },
        })
        .await??;
    match answer {
        Answer::Submitted {
            job,
            seq,
            tasks,
            existing,
        } => {
            // So that the next request of this client sees its job, with or without `min_seq`. If the
            // views lag, the job stands all the same.
            let _ = shell.views.wait_for(seq).await;
            Ok(JobAccepted {
                job,
                seq,
                tasks,
                existing,
            })
        }
        other => Err(Problem::ours(format!(
            "{other:?} as answer to a submission"
        ))),
    }
}

/// Whether a job was made with this key before, and the answer to that if it asked for the same.
fn earlier(shell: &Shell, spec: &JobSpec) -> Option<Option<JobAccepted>> {
    let key = spec.options.idempotency_key.as_deref()?;
    let state = shell.views.read();
    let (job, view) = state.by_key(spec.owner, key)?;
    let same = view.spec == *spec;
    Some(same.then(|| JobAccepted {
        job,
        seq: state.seq,
        tasks: view.spec.inputs.count,
        existing: true,
    }))
}

pub(super) async fn list(
    State(shell): Shared,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Json<JobList>, Problem> {
    wait(&shell, query.min_seq).await?;
    let limit = query.limit.unwrap_or(LIST_DEFAULT).min(LIST_MAX);
    let state = shell.views.read();
    let jobs = state
        .jobs
        .iter()
        .rev()
        .filter(|(_, job)| caller.may_read(job))
        .take(limit)
        .map(|(id, job)| shell.job_status(&state, *id, job))
        .collect();
    let seq = state.seq;
    Ok(Json(JobList { jobs, seq }))
}

pub(super) async fn status(
    State(shell): Shared,
    caller: Caller,
    Path(Named(job)): Path<Named<JobId>>,
    Query(query): Query<MinSeq>,
) -> Result<Json<JobStatus>, Problem> {
    query.wait(&shell).await?;
    Ok(Json(shown(&shell, &caller, job)?))
}

/// How a job stands, if the caller may know.
pub(super) fn shown(shell: &Shell, caller: &Caller, job: JobId) -> Result<JobStatus, Problem> {
    let state = shell.views.read();
    let view = state.jobs.get(&job).filter(|view| caller.may_read(view));
    view.map(|view| shell.job_status(&state, job, view))
        .ok_or_else(|| Problem::not_found(job))
}

pub(super) async fn cancel(
    State(shell): Shared,
    caller: Caller,
    Path(Named(job)): Path<Named<JobId>>,
) -> Result<Json<JobStatus>, Problem> {
    let owner = (caller.role != Role::Admin).then_some(caller.owner);
    let answer = shell
        .driver
        .ask(|request| Event::Cancel {
            request,
            job,
            owner,
        })
        .await??;
    if let Answer::Cancelled { seq } = answer {
        shell.views.wait_for(seq).await?;
    }
    Ok(Json(shown(&shell, &caller, job)?))
}
