//! Blobs by digest.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hearth_store::{PartialName, Position, Reader};
use hearth_wire::api::BlobStored;
use hearth_wire::record::Fact;
use hearth_wire::{Body as WireBody, Digest, NodeId, Role, limits};

use super::extract::Path;
use super::problem::UPLOAD_OFFSET;
use super::upload::{self, Part, Received};
use super::{Caller, Problem, Shared, blocking, content};
use crate::shell::Shell;
use crate::views::State as Shown;

pub(super) async fn put(
    State(shell): Shared,
    caller: Caller,
    Path(digest): Path<Digest>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (max, store) = match caller.role {
        Role::Node => {
            // An output or a checkpoint: only of work that it has.
            if !shell.views.read().has_lease(caller.node) {
                return Err(Problem::forbidden(
                    "a node uploads only while it has a lease",
                ));
            }
            let max = limits::OUTPUT_BYTES_MAX.max(limits::CHECKPOINT_BYTES_MAX);
            (max, shell.blobs.urgent())
        }
        _ => (limits::BLOB_BYTES_MAX, shell.blobs.clone()),
    };
    let name = PartialName {
        owner: caller.owner.0,
        blob: digest,
    };
    let part = Part::of(&headers)?;
    let received = upload::receive(store, name, part, max, body).await?;
    match received {
        Received::More(offset) => Ok(upload::progress(offset)),
        Received::All(partial) => {
            let blob = blocking(move || partial.finish()).await??;
            Ok((StatusCode::CREATED, Json(BlobStored { blob })).into_response())
        }
    }
}

/// Tells how much of an upload is there, and whether a blob is there to those who may read it or have
/// just sent it. To others it is not, as with `GET`.
pub(super) async fn head(
    State(shell): Shared,
    caller: Caller,
    Path(digest): Path<Digest>,
) -> Result<Response, Problem> {
    let name = PartialName {
        owner: caller.owner.0,
        blob: digest,
    };
    if shell.blobs.ended_lately(&name) || may_read(&shell, &caller, digest).await? {
        return upload::state(shell.blobs.clone(), name).await;
    }
    let store = shell.blobs.clone();
    let begun = blocking(move || store.partial_offset(&name)).await?;
    Ok(match begun {
        Some(offset) => (StatusCode::NOT_FOUND, [(UPLOAD_OFFSET, offset)]).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

pub(super) async fn get(
    State(shell): Shared,
    caller: Caller,
    Path(digest): Path<Digest>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let refused = || Problem::not_found(format!("blob {digest}"));
    if !may_read(&shell, &caller, digest).await? {
        return Err(refused());
    }
    let store = shell.blobs.clone();
    let file = blocking(move || store.open_blob(&digest)).await?;
    let file = file.map_err(|error| match error {
        hearth_store::StoreError::NotFound(_) => refused(),
        other => other.into(),
    })?;
    let len = file.len();
    Ok(content::of_file(
        &headers,
        file,
        0,
        len,
        "application/octet-stream",
    ))
}

/// A node reads what its live leases name; an author, the components of its jobs.
async fn may_read(shell: &Arc<Shell>, caller: &Caller, digest: Digest) -> Result<bool, Problem> {
    let checkpoints: Vec<Position> = {
        let state = shell.views.read();
        match caller.role {
            Role::Admin => return Ok(true),
            Role::Author => {
                return Ok(state.jobs.values().any(|job| {
                    let owns = job.spec.owner == caller.owner;
                    owns && component(&state, job.spec.release) == Some(digest)
                }));
            }
            Role::Node if leased_component(&state, caller.node, digest) => return Ok(true),
            Role::Node => state.leased_checkpoints(caller.node).collect(),
            _ => return Ok(false),
        }
    };
    // The journal is read without holding up the views: it may be a slow archive.
    let journal = shell.journal.clone();
    blocking(move || {
        let mut checkpoints = checkpoints.into_iter();
        checkpoints.any(|position| is_state_at(&journal, position, digest))
    })
    .await
}

fn component(state: &Shown, release: hearth_wire::ReleaseId) -> Option<Digest> {
    let view = state.releases.get(&release)?;
    Some(view.facts.component)
}

fn leased_component(state: &Shown, node: NodeId, digest: Digest) -> bool {
    state.leased_jobs(node).into_iter().any(|job| {
        let job = state.jobs.get(&job);
        job.and_then(|job| component(state, job.spec.release)) == Some(digest)
    })
}

/// Whether the checkpoint in the record at a position has this state.
fn is_state_at(journal: &Reader, position: Position, digest: Digest) -> bool {
    let read = journal.read_at(position);
    let read = read.inspect_err(|error| tracing::warn!(%error, "a checkpoint cannot be read"));
    let Ok(bytes) = read else {
        return false;
    };
    let record =
        hearth_wire::codec::decode::<hearth_wire::record::Record>(&bytes, limits::FRAME_BYTES_MAX);
    let Ok(Fact::Checkpointed { checkpoint, .. }) = record.map(|record| record.fact) else {
        return false;
    };
    matches!(checkpoint.state, WireBody::Blob(blob) if blob.digest == digest)
}
