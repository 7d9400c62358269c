//! Single tasks without ceremony.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use hearth_wire::api::{ProcessingTask, TaskData, TaskPosted, TaskRequest};
use hearth_wire::{InputSetWriter, JobOptions, TaskId, TaskIndex, limits};
use jiff::Timestamp;
use serde_json::Value;

use super::inputs::store_small;
use super::{Caller, Problem, Shared, jobs, read_json};
use crate::clock::unix_millis;

pub(super) async fn submit(
    State(shell): Shared,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<TaskPosted<Value>>), Problem> {
    let request: TaskRequest<Value> = read_json(body).await?;
    let task_type = request.task_type;
    let release = shell.config.default_releases.get(&task_type).copied();
    let release = release.ok_or_else(|| {
        Problem::client(
            StatusCode::CONFLICT,
            "no-default-release",
            format!("this realm has no release for tasks of type {task_type:?}").to_lowercase(),
            "ask the operator to set one in the configuration, or submit a job with a release",
        )
    })?;
    let (media_type, input) = input(&request.data)?;
    let mut writer = InputSetWriter::new(Vec::new());
    let written = writer
        .push(&input)
        .and_then(|()| writer.finish(media_type))
        .map_err(|error| Problem::bad_request("bad-input", error.to_string()))?;
    let (inputs, file) = written;
    let inputs = store_small(&shell, caller.owner.0, inputs, file).await?;
    let idempotency_key = request.id.as_ref().map(|id| format!("task:{id}"));
    let mut options = JobOptions {
        name: name(request.id.as_deref()),
        priority: request.priority,
        deadline_millis: deadline_millis(request.deadline.as_deref())?,
        idempotency_key,
        ..JobOptions::default()
    };
    // A deadline is a moment here and a time from the submission in core: what is posted again gets
    // the time that it had, or it would be taken for something else.
    if let Some(key) = &options.idempotency_key
        && let Some((_, earlier)) = shell.views.read().by_key(caller.owner, key)
        && earlier.spec.options.deadline_millis.is_some() == options.deadline_millis.is_some()
    {
        options.deadline_millis = earlier.spec.options.deadline_millis;
    }
    let accepted = jobs::accept(&shell, &caller, release, inputs, options, false).await?;
    let shown = jobs::shown(&shell, &caller, accepted.job)?;
    let id = TaskId {
        job: accepted.job,
        index: TaskIndex(0),
    };
    let assigned_node = {
        let state = shell.views.read();
        let mut holders = state.holders(id);
        let holder = holders.next().and_then(|node| state.nodes.get(node));
        holder.map(|view| view.shown_id())
    };
    let task = ProcessingTask {
        id,
        task_type,
        data: request.data,
        priority: shown.priority,
        submitted_at: shown.submitted_at,
        deadline: shown.deadline,
        assigned_node,
    };
    let status = if accepted.existing {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let posted = TaskPosted {
        task,
        seq: accepted.seq,
        existing: accepted.existing,
    };
    Ok((status, Json(posted)))
}

/// What the component sees: text as it is, anything else as JSON.
fn input(data: &TaskData<Value>) -> Result<(&'static str, Vec<u8>), Problem> {
    match (&data.content, &data.context) {
        (Value::String(text), None | Some(Value::Null)) => {
            Ok(("text/plain; charset=utf-8", text.clone().into_bytes()))
        }
        _ => {
            let bytes = serde_json::to_vec(data).map_err(|error| Problem::json(&error))?;
            Ok(("application/json", bytes))
        }
    }
}

fn name(id: Option<&str>) -> String {
    let name = id.unwrap_or("task");
    let mut end = name.len().min(limits::NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

fn deadline_millis(deadline: Option<&str>) -> Result<Option<u64>, Problem> {
    let Some(deadline) = deadline else {
        return Ok(None);
    };
    let at: Timestamp = deadline.parse().map_err(|error| {
        Problem::bad_request("bad-deadline", format!("deadline {deadline:?}: {error}"))
    })?;
    let left = at.as_millisecond().saturating_sub(unix_millis() as i64);
    if left <= 0 {
        return Err(Problem::bad_request(
            "bad-deadline",
            format!("deadline {deadline} has passed"),
        ));
    }
    Ok(Some(left as u64))
}
