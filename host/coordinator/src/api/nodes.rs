//! Nodes and modes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use hearth_core::{Event, RequestRefusal};
use hearth_wire::api::{ModeReport, NodeList, NodeState, NodeStatus, PerformanceMetrics, Revoked};
use hearth_wire::message::Refusal;
use hearth_wire::record::{NodeKind, Standing};
use hearth_wire::{NodeId, Seq};

use super::extract::{Path, Query};
use super::jobs::MinSeq;
use super::{Caller, Problem, Shared, blocking};
use crate::clock::{iso_of_uptime, unix_now};
use crate::shell::Shell;
use crate::views::NodeView;

pub(super) async fn list(
    State(shell): Shared,
    Query(query): Query<MinSeq>,
) -> Result<Json<NodeList>, Problem> {
    query.wait(&shell).await?;
    let state = shell.views.read();
    let nodes = state
        .nodes
        .iter()
        .map(|view| node_status(&shell, view))
        .collect();
    let seq = state.seq;
    Ok(Json(NodeList { nodes, seq }))
}

fn node_status(shell: &Shell, view: &NodeView) -> NodeStatus {
    let node = view.profile.node;
    let connected = shell.connections.get(node).filter(|_| view.connected);
    let load = connected
        .as_ref()
        .map(|connected| connected.load())
        .unwrap_or_default();
    let ended = view.results + view.failures;
    let status = match view.standing {
        Standing::Good if view.may_work() => NodeState::Active,
        Standing::Good => NodeState::Inactive,
        _ => NodeState::Compromised,
    };
    NodeStatus {
        node_id: view.shown_id(),
        name: view.profile.name.clone(),
        status,
        last_heartbeat: shell.connections.last_heard(node).map(iso_of_uptime),
        performance_metrics: PerformanceMetrics {
            cpu_usage: f64::from(load.cpu) / 100.0,
            memory_usage: f64::from(load.memory_mib),
            network_latency: f64::from(load.round_trip_micros) / 1_000.0,
            task_completion_rate: if ended == 0 {
                1.0
            } else {
                view.results as f64 / ended as f64
            },
        },
        capabilities: view.profile.capabilities.clone(),
        location: view.profile.location.clone(),
        kind: match view.profile.kind {
            NodeKind::Local => "local",
            NodeKind::Trusted => "trusted",
            NodeKind::Volunteer => "volunteer",
        }
        .to_owned(),
        connected: view.connected,
        draining: view.draining,
        slots: view.profile.capacity.slots,
        leases: view.attempts.len() as u32,
        results: view.results,
        failures: view.failures,
        engine: view.profile.engine.to_string(),
        architecture: view.profile.architecture.clone(),
        confinement: connected.map(|connected| connected.confinement),
    }
}

pub(super) async fn modes(
    State(shell): Shared,
    Query(query): Query<MinSeq>,
) -> Result<Json<ModeReport>, Problem> {
    query.wait(&shell).await?;
    Ok(Json(shell.views.read().mode_report()))
}

pub(super) async fn drain(
    State(shell): Shared,
    Path(node): Path<String>,
) -> Result<Json<NodeStatus>, Problem> {
    let node = parse(&shell, &node)?;
    let request = |request| Event::NodeDrain {
        request: Some(request),
        node,
    };
    let answer = shell.driver.ask(request).await??;
    if let hearth_core::Answer::Draining { seq } = answer {
        shell.views.wait_for(seq).await?;
    }
    let state = shell.views.read();
    let view = state.nodes.get(node);
    let view = view.ok_or_else(|| Problem::not_found("such node"))?;
    Ok(Json(node_status(&shell, view)))
}

/// Shuts a member out: first in the signed list, then in core, then on the wire.
pub(super) async fn revoke(
    State(shell): Shared,
    caller: Caller,
    Path(node): Path<String>,
) -> Result<Json<Revoked>, Problem> {
    let node = parse(&shell, &node)?;
    if node == shell.local_node || node == caller.node {
        return Err(Problem::bad_request(
            "cannot-revoke",
            "neither the local host nor yourself can be revoked",
        ));
    }
    let signer = Arc::clone(&shell);
    let policy = blocking(move || {
        signer.dir.revoke(unix_now(), |list| {
            if !list.nodes.contains(&node) {
                list.nodes.push(node);
            }
        })
    })
    .await??;
    shell.replace_policy(policy).await;
    let answer = shell
        .driver
        .ask(|request| Event::NodeRevoked { request, node })
        .await?;
    let seq = match answer {
        Ok(hearth_core::Answer::NodeRevoked { seq }) => Some(seq),
        // An author, or a node that never joined: core never knew it.
        Ok(_) | Err(RequestRefusal::UnknownNode(_)) => None,
        Err(refusal) => return Err(refusal.into()),
    };
    if let Some(connected) = shell.connections.get(node) {
        connected.end(Refusal::Revoked);
    }
    let seq = seq.unwrap_or(Seq(0));
    Ok(Json(Revoked { node, seq }))
}

/// A node by its id, by the first digits of it, or `local`.
fn parse(shell: &Shell, text: &str) -> Result<NodeId, Problem> {
    if text == "local" {
        return Ok(shell.local_node);
    }
    if let Ok(node) = text.parse() {
        return Ok(node);
    }
    let state = shell.views.read();
    let mut matching = state
        .nodes
        .iter()
        .map(|view| view.profile.node)
        .filter(|node| text.len() >= 8 && node.to_string().starts_with(text));
    match (matching.next(), matching.next()) {
        (Some(node), None) => Ok(node),
        _ => Err(Problem::bad_request(
            "bad-node",
            "a node is named by 64 hexadecimal digits, or the first eight or more of them",
        )),
    }
}
