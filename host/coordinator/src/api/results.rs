//! Results, a page at a time and one by one.

use axum::Json;
use axum::extract::State;
use hearth_wire::api::{ProcessingResult, ResultPage, TaskStatus};
use hearth_wire::{JobId, TaskId, TaskIndex, TrustPolicy};
use serde::Deserialize;

use super::extract::{Named, Path, Query};
use super::jobs::{MinSeq, wait};
use super::{Caller, Problem, Shared, blocking};
use crate::shell::Shell;
use crate::tables::Picked;
use crate::views::{OutcomeError, Outcomes, TaskView};

/// Results in one page.
const PAGE_MAX: usize = 1_000;
/// Results in one page that names no limit.
const PAGE_DEFAULT: usize = 100;
/// Bytes of outputs in one page; a page with more ends early.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Query of a page.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    #[serde(default)]
    from: u32,
    limit: Option<usize>,
    min_seq: Option<u64>,
}

/// A job whose tasks are on their way to being shown.
struct Shown {
    job: JobId,
    trust: TrustPolicy,
    picked: Picked,
}

pub(super) async fn page(
    State(shell): Shared,
    caller: Caller,
    Path(Named(job)): Path<Named<JobId>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ResultPage>, Problem> {
    wait(&shell, query.min_seq).await?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let (shown, tasks, complete, seq) = {
        let state = shell.views.read();
        let view = state.jobs.get(&job).filter(|view| caller.may_read(view));
        let view = view.ok_or_else(|| Problem::not_found(job))?;
        let trust = view.spec.options.trust;
        let picked = view.pick(job, query.from, limit);
        let shown = Shown { job, trust, picked };
        let complete = view.ended.is_some();
        (shown, view.spec.inputs.count, complete, state.seq)
    };
    let reader = std::sync::Arc::clone(&shell);
    let (results, cut) = blocking(move || read_page(&reader, shown)).await??;
    let last = results.last().map(|result| result.index);
    let next = match (cut, last) {
        (Some(next), _) => Some(next),
        (None, Some(last)) if results.len() == limit && last + 1 < tasks => Some(last + 1),
        _ => None,
    };
    Ok(Json(ResultPage {
        results,
        next,
        complete,
        seq,
    }))
}

/// The results, and where the next page begins if this one became too large.
fn read_page(
    shell: &Shell,
    shown: Shown,
) -> Result<(Vec<ProcessingResult>, Option<u32>), OutcomeError> {
    let Shown { job, trust, picked } = shown;
    let mut outcomes = Outcomes::new(&shell.journal);
    let tasks = shell.tasks(picked)?;
    let mut results = Vec::with_capacity(tasks.len());
    let mut bytes = 0;
    for (index, view) in tasks {
        if bytes >= PAGE_BYTES_MAX {
            return Ok((results, Some(index.0)));
        }
        let task = TaskId { job, index };
        let result = read_one(shell, &mut outcomes, task, view, trust)?;
        bytes += result.result.output.as_ref().map_or(0, String::len);
        results.push(result);
    }
    Ok((results, None))
}

fn read_one(
    shell: &Shell,
    outcomes: &mut Outcomes<'_>,
    task: TaskId,
    view: TaskView,
    trust: TrustPolicy,
) -> Result<ProcessingResult, OutcomeError> {
    let node = || shell.views.read().shown_node(view.node());
    let Some(position) = view.outcome() else {
        return Ok(view.shown(task, trust, node(), None));
    };
    let found = outcomes.report(position, task)?;
    let at = shell.views.read().wall.iso(position, found.at);
    let (node, report) = (node().on(found.engine), Some((found.report, at)));
    Ok(view.shown(task, trust, node, report))
}

pub(super) async fn task(
    State(shell): Shared,
    caller: Caller,
    Path((Named(job), Named(index))): Path<(Named<JobId>, Named<TaskIndex>)>,
    Query(query): Query<MinSeq>,
) -> Result<Json<TaskStatus>, Problem> {
    query.wait(&shell).await?;
    let task = TaskId { job, index };
    let (shown, leased_to, seq) = {
        let state = shell.views.read();
        let view = state.jobs.get(&job).filter(|view| caller.may_read(view));
        let found = view.and_then(|view| Some((view, view.pick_one(job, index)?)));
        let (view, picked) = found.ok_or_else(|| Problem::not_found(task))?;
        let leased_to = state
            .holders(task)
            .filter_map(|node| Some(state.nodes.get(node)?.shown_id()))
            .collect();
        let trust = view.spec.options.trust;
        (Shown { job, trust, picked }, leased_to, state.seq)
    };
    let reader = std::sync::Arc::clone(&shell);
    let read = move || -> Result<_, OutcomeError> {
        let found = reader.tasks(shown.picked)?;
        let (_, view) = found.first().ok_or(OutcomeError::Missing(task))?;
        let result = match view.outcome() {
            Some(_) => {
                let mut outcomes = Outcomes::new(&reader.journal);
                let result = read_one(&reader, &mut outcomes, task, *view, shown.trust)?;
                Some(result)
            }
            None => None,
        };
        Ok((view.state(), result))
    };
    let (state, result) = blocking(read).await??;
    Ok(Json(TaskStatus {
        task,
        state,
        leased_to,
        result,
        seq,
    }))
}
