//! Releases.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use hearth_core::Event;
use hearth_wire::api::ReleaseAdded;

use super::{Problem, Shared, blocking, read_body};
use crate::clock::unix_now;
use crate::releases::{RELEASE_BYTES_MAX, facts};

pub(super) async fn add(
    State(shell): Shared,
    body: Body,
) -> Result<(StatusCode, Json<ReleaseAdded>), Problem> {
    let bytes = read_body(body, RELEASE_BYTES_MAX).await?;
    let trust = shell.trusted().trust().clone();
    let adder = Arc::clone(&shell);
    let verified = blocking(move || adder.releases.add(&bytes, &trust, unix_now())).await??;
    let component = verified.manifest.component;
    let store = shell.blobs.clone();
    let stored = blocking(move || store.claim(&component.digest)).await??;
    if stored != Some(component.len) {
        return Err(Problem::client(
            StatusCode::CONFLICT,
            "component-missing",
            format!("the component {} is not stored here", component.digest),
            "upload it with PUT /v1/blobs first",
        ));
    }
    let facts = facts(&verified);
    let release = facts.id;
    shell
        .driver
        .ask(|request| Event::ReleaseAdded { request, facts })
        .await??;
    Ok((StatusCode::CREATED, Json(ReleaseAdded { release })))
}
