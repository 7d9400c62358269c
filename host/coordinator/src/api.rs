//! The HTTP API: one file per subject.

mod auth;
mod blobs;
mod content;
mod events;
mod extract;
mod inputs;
mod jobs;
mod nodes;
mod offline;
mod openapi;
mod outputs;
mod problem;
mod realm;
mod refusals;
mod releases;
mod results;
mod routes;
mod serve;
mod tasks;
mod upload;

pub(crate) use auth::{Caller, PlainGate};
pub(crate) use problem::Problem;
pub(crate) use routes::router;
pub(crate) use serve::{Origin, serve};

pub(crate) use crate::views::base64;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use hearth_net::http::body::read_all;
use hearth_wire::limits;
use serde::de::DeserializeOwned;

use crate::shell::Shell;

/// What handlers share.
pub(crate) type Shared = axum::extract::State<Arc<Shell>>;

/// JSON says that it is JSON: a web page can send a form to anybody, but not this type without asking
/// first.
pub(crate) fn must_be_json(headers: &HeaderMap) -> Result<(), Problem> {
    let stated = headers.get(CONTENT_TYPE);
    let stated = stated.and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = stated.split(';').next().unwrap_or("").trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::client(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "content-type",
        format!("the body is said to be {media_type:?}, not JSON"),
        "send Content-Type: application/json",
    ))
}

/// The JSON of a request's body.
pub(crate) async fn read_json<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let bytes = read_body(body, limits::API_BODY_BYTES_MAX).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::json(&error))
}

async fn read_body(body: Body, max: usize) -> Result<bytes::Bytes, Problem> {
    let limit = Duration::from_millis(limits::API_BODY_MILLIS);
    Ok(read_all(body, max, limit).await?)
}

/// Runs what may wait for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::stopping())
}
