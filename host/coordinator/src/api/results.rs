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
use crate::views::{OutcomeError, Outcomes, ShownNode, TaskView};

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

/// A task on its way to being shown: everything that is needed without the lock.
struct Picked {
    task: TaskId,
    view: TaskView,
    trust: TrustPolicy,
    node: ShownNode,
}

pub(super) async fn page(
    State(shell): Shared,
    caller: Caller,
    Path(Named(job)): Path<Named<JobId>>,
    Query(query): Query<PageQuery>,
) -> Result<Json<ResultPage>, Problem> {
    wait(&shell, query.min_seq).await?;
    let limit = query.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let (picked, tasks, complete, seq) = {
        let state = shell.views.read();
        let view = state.jobs.get(&job).filter(|view| caller.may_read(view));
        let view = view.ok_or_else(|| Problem::not_found(job))?;
        let trust = view.spec.options.trust;
        let picked: Vec<_> = view
            .with_outcome(query.from)
            .take(limit)
            .map(|(index, task)| Picked {
                task: TaskId { job, index },
                view: task,
                trust,
                node: state.shown_node(task.node()),
            })
            .collect();
        let complete = view.ended.is_some();
        (picked, view.spec.inputs.count, complete, state.seq)
    };
    let full = picked.len() == limit;
    let last = picked.last().map(|picked| picked.task.index.0);
    let reader = std::sync::Arc::clone(&shell);
    let (results, cut) = blocking(move || read_page(&reader, picked)).await??;
    let next = match (cut, last) {
        (Some(next), _) => Some(next),
        (None, Some(last)) if full && last + 1 < tasks => Some(last + 1),
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
    picked: Vec<Picked>,
) -> Result<(Vec<ProcessingResult>, Option<u32>), OutcomeError> {
    let mut outcomes = Outcomes::new(&shell.journal);
    let mut results = Vec::with_capacity(picked.len());
    let mut bytes = 0;
    for one in picked {
        if bytes >= PAGE_BYTES_MAX {
            return Ok((results, Some(one.task.index.0)));
        }
        let result = read_one(shell, &mut outcomes, one)?;
        bytes += result.result.output.as_ref().map_or(0, String::len);
        results.push(result);
    }
    Ok((results, None))
}

fn read_one(
    shell: &Shell,
    outcomes: &mut Outcomes<'_>,
    one: Picked,
) -> Result<ProcessingResult, OutcomeError> {
    let Some(position) = one.view.outcome() else {
        return Ok(one.view.shown(one.task, one.trust, one.node, None));
    };
    let (report, at) = outcomes.report(position, one.task)?;
    let at = shell.views.read().wall.iso(position, at);
    let report = Some((report, at));
    Ok(one.view.shown(one.task, one.trust, one.node, report))
}

pub(super) async fn task(
    State(shell): Shared,
    caller: Caller,
    Path((Named(job), Named(index))): Path<(Named<JobId>, Named<TaskIndex>)>,
    Query(query): Query<MinSeq>,
) -> Result<Json<TaskStatus>, Problem> {
    query.wait(&shell).await?;
    let task = TaskId { job, index };
    let (picked, leased_to, seq) = {
        let state = shell.views.read();
        let view = state.jobs.get(&job).filter(|view| caller.may_read(view));
        let found = view.and_then(|view| Some((view, view.task(index)?)));
        let (view, found) = found.ok_or_else(|| Problem::not_found(task))?;
        let leased_to = state
            .holders(task)
            .filter_map(|node| Some(state.nodes.get(node)?.shown_id()))
            .collect();
        let picked = Picked {
            task,
            view: *found,
            trust: view.spec.options.trust,
            node: state.shown_node(found.node()),
        };
        (picked, leased_to, state.seq)
    };
    let state = picked.view.state();
    let result = if picked.view.outcome().is_some() {
        let reader = std::sync::Arc::clone(&shell);
        let read = blocking(move || {
            let mut outcomes = Outcomes::new(&reader.journal);
            read_one(&reader, &mut outcomes, picked)
        });
        Some(read.await??)
    } else {
        None
    };
    Ok(Json(TaskStatus {
        task,
        state,
        leased_to,
        result,
        seq,
    }))
}
