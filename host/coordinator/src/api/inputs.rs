//! Input sets, and the inputs in them.

use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hearth_store::{Partial, PartialName, StoreError};
use hearth_wire::api::InputSetStored;
use hearth_wire::{
    Digest, InputIndex, InputSet, InputSetError, JobId, Role, TaskId, TaskIndex, limits, read_index,
};
use serde::Deserialize;

use super::extract::{Named, Path, Query};
use super::upload::{self, Part, Received};
use super::{Caller, Problem, Shared, blocking, content};
use crate::inputs::InputError;
use crate::shell::Shell;

/// Reading an input set in pieces of this size to check it.
const READ_BUFFER_BYTES: usize = 256 << 10;

/// What the client says about the set besides its name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stated {
    count: u32,
    #[serde(default = "bytes_type")]
    media_type: String,
}

fn bytes_type() -> String {
    "application/octet-stream".to_owned()
}

pub(super) async fn put(
    State(shell): Shared,
    caller: Caller,
    Path(root): Path<Digest>,
    Query(stated): Query<Stated>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_media_type(&stated.media_type)?;
    let name = PartialName {
        owner: caller.owner.0,
        blob: root,
    };
    let part = Part::of(&headers)?;
    let store = shell.inputs.store().clone();
    match upload::receive(store, name, part, limits::BLOB_BYTES_MAX, body).await? {
        Received::More(offset) => Ok(upload::progress(offset)),
        Received::All(partial) => {
            let inputs = finish(&shell, *partial, root, stated).await?;
            Ok((StatusCode::CREATED, Json(InputSetStored { inputs })).into_response())
        }
    }
}

/// Reads the whole set, checks that it is the one it is said to be, and keeps its index.
pub(super) async fn finish(
    shell: &Arc<Shell>,
    partial: Partial,
    root: Digest,
    stated: Stated,
) -> Result<InputSet, Problem> {
    let shell = Arc::clone(shell);
    blocking(move || -> Result<InputSet, Problem> {
        // `finish_with` lets the check see the file; the index is what else comes out of it.
        let slot = Mutex::new(None::<InputIndex>);
        partial.finish_with(|file: &mut dyn Read| -> Result<Digest, InputSetError> {
            let index = read_index(BufReader::with_capacity(READ_BUFFER_BYTES, file))?;
            let found = index.root;
            if index.lengths.len() != stated.count as usize {
                return Err(InputSetError::Mismatch {
                    expected: root,
                    found,
                });
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(index);
            Ok(found)
        })?;
        let index = slot.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = index else {
            return Err(Problem::ours("an input set without an index"));
        };
        let inputs = InputSet {
            root,
            count: stated.count,
            bytes: index.bytes,
            media_type: stated.media_type,
        };
        shell.inputs.remember(index)?;
        Ok(inputs)
    })
    .await?
}

pub(super) async fn head(
    State(shell): Shared,
    caller: Caller,
    Path(root): Path<Digest>,
) -> Result<Response, Problem> {
    let name = PartialName {
        owner: caller.owner.0,
        blob: root,
    };
    upload::state(shell.inputs.store().clone(), name).await
}

/// The input of a task, for its job's owner and for a node with a live lease of it.
pub(super) async fn get(
    State(shell): Shared,
    caller: Caller,
    Path((Named(job), Named(index))): Path<(Named<JobId>, Named<TaskIndex>)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let task = TaskId { job, index };
    let found = {
        let state = shell.views.read();
        let view = state.jobs.get(&job).filter(|view| match caller.role {
            Role::Node => state.holders(task).any(|node| node == caller.node),
            _ => caller.may_read(view),
        });
        view.map(|view| (view.spec.inputs.clone(), view.ended.is_some()))
    };
    let (inputs, ended) = found.ok_or_else(|| Problem::not_found(format!("input of {task}")))?;
    let set = match shell.inputs.open(inputs.root).await {
        Err(InputError::Store(StoreError::NotFound(_))) if ended => return Err(removed(job)),
        other => other?,
    };
    let (offset, length) = set.place(index)?;
    Ok(content::of_file(
        &headers,
        set.file().clone(),
        offset,
        length.into(),
        &inputs.media_type,
    ))
}

fn removed(job: JobId) -> Problem {
    Problem::client(
        StatusCode::GONE,
        "inputs-removed",
        format!("{job} has ended, and its inputs were removed since"),
        "its results are still here; the inputs are where they were uploaded from",
    )
}

/// Stores an input set that is in memory.
pub(super) async fn store_small(
    shell: &Arc<Shell>,
    owner: Digest,
    inputs: InputSet,
    file: Vec<u8>,
) -> Result<InputSet, Problem> {
    let store = shell.inputs.store().clone();
    let root = inputs.root;
    let known = {
        let store = store.clone();
        blocking(move || store.claim(&root)).await??
    };
    if known.is_some() {
        return Ok(inputs);
    }
    let partial = blocking(move || -> Result<Partial, StoreError> {
        let mut partial = store.begin(PartialName { owner, blob: root })?;
        partial.write(&file)?;
        Ok(partial)
    })
    .await??;
    let stated = Stated {
        count: inputs.count,
        media_type: inputs.media_type,
    };
    finish(shell, partial, root, stated).await
}

pub(super) fn check_media_type(media_type: &str) -> Result<(), Problem> {
    let fits = (1..=limits::NAME_BYTES_MAX).contains(&media_type.len())
        && !media_type.contains(char::is_control);
    if fits {
        Ok(())
    } else {
        Err(Problem::bad_request(
            "bad-media-type",
            format!(
                "a media type has 1 to {} bytes and no control characters",
                limits::NAME_BYTES_MAX
            ),
        ))
    }
}
