//! Every route, once: the router and the OpenAPI document are both made from this table.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, head, post, put};
use axum::{Router, middleware};
use hearth_wire::Role;

use super::{
    Caller, Problem, blobs, events, inputs, jobs, must_be_json, nodes, offline, openapi, outputs,
    realm, releases, results, serve, tasks,
};
use crate::shell::Shell;

/// A route.
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Who may; empty for everybody whose connection was taken.
    pub(super) roles: &'static [Role],
    /// Type of the request's body, if there is one: a name of `openapi::EXAMPLES` or a media type.
    pub(super) body: Option<&'static str>,
    /// Type of a good answer, likewise.
    pub(super) answer: &'static str,
    pub(super) status: u16,
    /// Query parameters.
    pub(super) query: &'static [&'static str],
    handler: fn() -> MethodRouter<Arc<Shell>>,
}

pub(super) const ADMIN: &[Role] = &[Role::Admin];
pub(super) const AUTHORS: &[Role] = &[Role::Admin, Role::Author];
pub(super) const READERS: &[Role] = &[Role::Admin, Role::Author, Role::Observer];
pub(super) const SENDERS: &[Role] = &[Role::Admin, Role::Author, Role::Node];
const BYTES: &str = "application/octet-stream";

macro_rules! route {
    ($method:literal $path:literal, $summary:literal, $roles:expr, $body:expr => $answer:expr, $status:literal, [$($query:literal),*], $handler:expr) => {
        Route {
            method: $method,
            path: $path,
            summary: $summary,
            roles: $roles,
            body: $body,
            answer: $answer,
            status: $status,
            query: &[$($query),*],
            handler: || $handler,
        }
    };
}

/// Every route.
pub(super) const ROUTES: &[Route] = &[
    route!("post" "/v1/releases", "Publish a signed release", AUTHORS,
        Some(BYTES) => "ReleaseAdded", 201, [], post(releases::add)),
    route!("put" "/v1/blobs/{digest}", "Upload a blob, whole or from an offset", SENDERS,
        Some(BYTES) => "BlobStored", 201, [], put(blobs::put)),
    route!("head" "/v1/blobs/{digest}", "Whether a blob is here, or how much of it", SENDERS,
        None => BYTES, 200, [], head(blobs::head)),
    route!("get" "/v1/blobs/{digest}", "Read a blob, or a range of it", SENDERS,
        None => BYTES, 200, [], get(blobs::get)),
    route!("put" "/v1/input-sets/{root}", "Upload an input set, whole or from an offset", AUTHORS,
        Some(BYTES) => "InputSetStored", 201, ["count", "media_type"], put(inputs::put)),
    route!("head" "/v1/input-sets/{root}", "Whether an input set is here, or how much of it", AUTHORS,
        None => BYTES, 200, [], head(inputs::head)),
    route!("get" "/v1/inputs/{job}/{index}", "Read the input of a task", SENDERS,
        None => BYTES, 200, [], get(inputs::get)),
    route!("post" "/v1/jobs", "Submit a job", AUTHORS,
        Some("SubmitJob") => "JobAccepted", 201, ["hold"], post(jobs::submit)),
    route!("get" "/v1/jobs", "All jobs, the newest first", READERS,
        None => "JobList", 200, ["min_seq", "limit"], get(jobs::list)),
    route!("get" "/v1/jobs/{job}", "How a job stands", READERS,
        None => "JobStatus", 200, ["min_seq"], get(jobs::status)),
    route!("delete" "/v1/jobs/{job}", "Cancel a job", AUTHORS,
        None => "JobStatus", 200, [], delete(jobs::cancel)),
    route!("get" "/v1/jobs/{job}/results", "Results in order of index, a page at a time", READERS,
        None => "ResultPage", 200, ["from", "limit", "min_seq"], get(results::page)),
    route!("post" "/v1/jobs/{job}/offline-results", "Hand over results that you computed while the realm was away", AUTHORS,
        Some(BYTES) => "ResultsMerged", 200, [], post(offline::merge)),
    route!("get" "/v1/jobs/{job}/events", "What happens to a job, as server-sent events", READERS,
        None => "text/event-stream", 200, [], get(events::stream)),
    route!("get" "/v1/jobs/{job}/tasks/{index}", "How a task stands", READERS,
        None => "TaskStatus", 200, ["min_seq"], get(results::task)),
    route!("get" "/v1/jobs/{job}/tasks/{index}/output", "The output of a task, as it is", READERS,
        None => BYTES, 200, [], get(outputs::get)),
    route!("post" "/v1/tasks", "Submit one task by its type", AUTHORS,
        Some("TaskRequest") => "TaskPosted", 201, [], post(tasks::submit)),
    route!("get" "/v1/nodes", "All nodes", READERS,
        None => "NodeList", 200, ["min_seq"], get(nodes::list)),
    route!("post" "/v1/nodes/{node}/drain", "Give a node no more work", ADMIN,
        None => "NodeStatus", 200, [], post(nodes::drain)),
    route!("post" "/v1/nodes/{node}/revoke", "Shut a node or another member out for ever", ADMIN,
        None => "Revoked", 200, [], post(nodes::revoke)),
    route!("get" "/v1/modes", "Where work goes now, and why", READERS,
        None => "ModeReport", 200, ["min_seq"], get(nodes::modes)),
    route!("post" "/v1/invitations", "Make a one-time invitation", ADMIN,
        Some("InvitationRequest") => "Invitation", 201, [], post(realm::invite)),
    route!("post" "/v1/scrub", "Look through all files for damage, soon", ADMIN,
        None => "Scrub", 202, [], post(realm::scrub)),
    route!("get" "/v1/scrub", "Whether all files were looked through, and what is damaged", READERS,
        None => "Scrub", 200, [], get(realm::scrubs)),
    route!("get" "/healthz", "Whether the coordinator lives", &[],
        None => "Health", 200, [], get(realm::health)),
    route!("get" "/metrics", "Counters in the format of Prometheus", READERS,
        None => "text/plain", 200, [], get(realm::metrics)),
    route!("get" "/v1/openapi.json", "This document", &[],
        None => "application/json", 200, [], get(openapi::get)),
];

/// In front of one route: who may, and in what type.
async fn guard(State(route): State<&'static Route>, request: Request, next: Next) -> Response {
    match admit(route, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn admit(route: &Route, request: &Request) -> Result<(), Problem> {
    if !route.roles.is_empty() {
        let caller = request.extensions().get::<Caller>();
        caller
            .ok_or_else(Problem::unauthorized)?
            .must_be(route.roles)?;
    }
    // A name without a slash is that of a type, which travels as JSON.
    match route.body {
        Some(body) if !body.contains('/') => must_be_json(request.headers()),
        _ => Ok(()),
    }
}

/// The API.
pub(crate) fn router(shell: Arc<Shell>) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |router, route| {
        let handler = (route.handler)();
        let guarded = handler.route_layer(middleware::from_fn_with_state(route, guard));
        router.route(route.path, guarded)
    });
    routes
        .fallback(|| async { Problem::not_found("such route") })
        .method_not_allowed_fallback(|| async {
            Problem::client(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this route does not take this method",
                "see /v1/openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&shell),
            serve::gate,
        ))
        .with_state(shell)
}
