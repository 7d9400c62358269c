//! Invitations, health and metrics.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use hearth_wire::api::{Health, Invitation, InvitationRequest, Scrub};
use hearth_wire::{Role, limits};

use super::{Problem, Shared, blocking, read_json};
use crate::clock::unix_now;
use crate::metrics::Exposition;

pub(super) async fn invite(
    State(shell): Shared,
    body: Body,
) -> Result<(StatusCode, Json<Invitation>), Problem> {
    let request: InvitationRequest = read_json(body).await?;
    let role: Role = request
        .role
        .parse()
        .map_err(|error| Problem::bad_request("bad-role", format!("{error}")))?;
    if role == Role::Coordinator {
        return Err(Problem::bad_request(
            "bad-role",
            "coordinators are not invited",
        ));
    }
    if !(1..=limits::INVITATION_SECONDS_MAX).contains(&request.ttl_seconds) {
        return Err(Problem::bad_request(
            "bad-ttl",
            format!(
                "ttl_seconds must be 1 to {}",
                limits::INVITATION_SECONDS_MAX
            ),
        ));
    }
    let signer = Arc::clone(&shell);
    let token =
        blocking(move || signer.dir.invite(role, request.ttl_seconds, unix_now())).await??;
    Ok((StatusCode::CREATED, Json(Invitation { token })))
}

pub(super) async fn health(State(shell): Shared) -> Json<Health> {
    let status = if shell.shutdown.is_requested() {
        "draining"
    } else {
        "ok"
    };
    let looker = Arc::clone(&shell);
    let trouble = blocking(move || looker.room.trouble()).await.ok().flatten();
    let trouble = trouble.or_else(|| shell.troubles.of_files().into_iter().next());
    Json(Health {
        status: status.to_owned(),
        realm: shell.realm,
        epoch: shell.epoch,
        seq: shell.views.seq(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        local_node: shell.config.local_host.as_ref().map(|_| shell.local_node),
        trouble,
    })
}

pub(super) async fn scrub(State(shell): Shared) -> (StatusCode, Json<Scrub>) {
    shell.scrubs.ask();
    (StatusCode::ACCEPTED, scrubs(State(shell)).await)
}

pub(super) async fn scrubs(State(shell): Shared) -> Json<Scrub> {
    Json(shell.scrubs.shown(shell.troubles.of_files()))
}

pub(super) async fn metrics(State(shell): Shared) -> impl IntoResponse {
    let mut out = Exposition::default();
    shell.metrics.write(&mut out);
    shell.tables.write(&mut out);
    let (totals, report, live, seq, needed) = {
        let state = shell.views.read();
        (
            state.totals,
            state.mode_report(),
            state.live_count(),
            state.seq,
            state.references.count(),
        )
    };
    out.counter("jobs_total", "Jobs accepted.", totals.jobs);
    out.counter("tasks_total", "Tasks accepted.", totals.tasks);
    out.counter("leases_total", "Leases granted.", totals.leases);
    out.counter("reports_total", "Reports that counted.", totals.reports);
    out.counter("results_settled_total", "Results settled.", totals.settled);
    out.counter(
        "tasks_failed_total",
        "Tasks without a result.",
        totals.failed,
    );
    out.counter(
        "retries_total",
        "Leases beyond the first of a task.",
        totals.retries,
    );
    out.counter(
        "nodes_lost_total",
        "Times that a node was lost.",
        totals.nodes_lost,
    );
    out.gauge(
        "tasks_queued",
        "Tasks that wait for a lease.",
        report.queued,
    );
    out.gauge("attempts_live", "Attempts that are live.", live as u64);
    out.gauge(
        "nodes_connected",
        "Nodes connected.",
        shell.connections.count() as u64,
    );
    out.gauge(
        "volunteers",
        "Volunteers that take work.",
        report.volunteers.into(),
    );
    out.gauge(
        "volunteer_slots",
        "Their slots.",
        report.volunteer_slots.into(),
    );
    out.gauge(
        "trusted_slots",
        "Slots of trusted nodes.",
        report.trusted_slots.into(),
    );
    out.gauge("journal_seq", "The newest record shown.", seq.0);
    out.gauge(
        "driver_waiting",
        "Actions that wait for the driver.",
        shell.driver.waiting() as u64,
    );
    out.gauge("blob_bytes", "Bytes of blobs.", shell.blobs.used_bytes());
    out.gauge(
        "input_bytes",
        "Bytes of input sets.",
        shell.inputs.store().used_bytes(),
    );
    out.gauge(
        "files_needed",
        "Blobs and input sets that some release, job or task needs.",
        needed as u64,
    );
    shell.room.write(&mut out);
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, out.finish())
}
